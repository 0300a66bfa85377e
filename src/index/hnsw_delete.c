/* hnsw_delete: taking a node out and mending the graph around it, at once: no tombstones, no later pass.
 *
 * All links to the node are known (invariant 1), so they are cut exactly. Then
 *  - its children get new parents. First choice is a node that links to the child already, so that nothing
 *    but the parent changes; else the child is hung under any node with room. To
 *    keep parents free of circles a candidate is accepted only when the way up from it reaches the
 *    root and meets neither the child nor the node that goes. The way is about the logarithm of the
 *    number of nodes long when documents come in no special order.
 *  - each node that linked to it gets up to MEND new links, to the nearest of its former neighbours
 *    (IP-DiskANN finds three enough), so that paths through the hole are closed.
 * It allocates nothing: lists of links have a ceiling, and so have these arrays.
 */
#include "index/hnsw_int.h"

#define MEND     3u
#define IN_MAX   (HNSW_DEGREE_MAX + BACK_MAX)
#define HOOD_MAX (2 * HNSW_DEGREE_MAX + BACK_MAX)

typedef struct hood {              /* the surroundings of the node that goes */
    uint32_t in[IN_MAX];           /* linked to it */
    uint32_t out[HNSW_DEGREE_MAX]; /* it linked to */
    uint32_t child[HNSW_DEGREE_MAX];
    uint32_t in_count, out_count, child_count;
    uint32_t parent;
} hood;

/* Cuts every link from and to `id`, and its tie to its parent. */
static void node_cut(hnsw *h, uint32_t id, hood *a) {
    node_cold *c = node_cold_of(h, id);
    uint32_t *links = node_links(h, id);
    *a = (hood){.parent = c->parent};
    for (uint32_t i = 1; i <= links[0]; i++) {
        uint32_t to = links[i];
        a->out[a->out_count++] = to;
        if (node_cold_of(h, to)->parent == id) a->child[a->child_count++] = to;
        if (hnsw_link_has(h, to, id))
            a->in[a->in_count++] = to;
        else
            hnsw_back_remove(h, to, id);
    }
    for (uint32_t i = 0; i < c->back_count; i++) a->in[a->in_count++] = c->back[i];
    links[0] = 0;
    c->back_count = 0;
    for (uint32_t i = 0; i < a->in_count; i++) hnsw_out_remove(h, a->in[i], id);
    if (c->parent != NONE) node_cold_of(h, c->parent)->children--;
    c->parent = NONE;
}

/* True when the way up from `id` reaches the root without meeting `child` or the node `gone`. */
static bool under_root(const hnsw *h, uint32_t id, uint32_t child, uint32_t gone) {
    for (uint32_t steps = 0; steps <= h->live; steps++) {
        if (id == child || id == gone) return false;
        if (id == h->root) return true;
        id = node_cold_of(h, id)->parent;
        if (id == NONE) return false;
    }
    return false;
}

static void adopt(hnsw *h, uint32_t parent, uint32_t child) {
    node_cold_of(h, child)->parent = parent;
    node_cold_of(h, parent)->children++;
}

static bool may_adopt(const hnsw *h, uint32_t parent, uint32_t child, uint32_t gone) {
    return node_cold_of(h, parent)->children < h->o.degree / 2 &&
           under_root(h, parent, child, gone);
}

/* A parent among the nodes that link to the child already. */
static bool adopt_by_link(hnsw *h, uint32_t child, uint32_t gone) {
    const uint32_t *links = node_links(h, child);
    const node_cold *c = node_cold_of(h, child);
    for (uint32_t i = 1; i <= links[0]; i++) {
        if (!hnsw_link_has(h, links[i], child) || !may_adopt(h, links[i], child, gone)) continue;
        adopt(h, links[i], child);
        return true;
    }
    for (uint32_t i = 0; i < c->back_count; i++) {
        if (!may_adopt(h, c->back[i], child, gone)) continue;
        adopt(h, c->back[i], child);
        return true;
    }
    return false;
}

/* Makes sure parent -> child stands: room is made by cutting links that hold no child. */
static void link_force(hnsw *h, uint32_t parent, uint32_t child) {
    if (hnsw_link_has(h, parent, child)) return;
    uint32_t *links = node_links(h, parent);
    for (uint32_t i = links[0]; i >= 1 && links[0] == h->o.degree; i--)
        if (node_cold_of(h, links[i])->parent != parent) hnsw_link_remove(h, parent, links[i]);
    node_cold *c = node_cold_of(h, child);
    if (c->back_count == BACK_MAX && !hnsw_link_has(h, child, parent))
        hnsw_link_remove(h, c->back[0], child); /* it has no parent now: any may go */
    bool linked = hnsw_link_add(h, parent, child);
    KITH_ASSERT(linked);
}

/* A parent somewhere: the first of the hood that may, else down from the root to one with room. */
static void adopt_anyhow(hnsw *h, const hood *a, uint32_t child, uint32_t gone) {
    uint32_t parent = NONE;
    for (uint32_t i = 0; i < a->out_count && parent == NONE; i++)
        if (may_adopt(h, a->out[i], child, gone)) parent = a->out[i];
    if (parent == NONE) {
        parent = h->root;
        while (node_cold_of(h, parent)->children >= h->o.degree / 2) {
            const uint32_t *links = node_links(h, parent);
            uint32_t i = 1;
            while (node_cold_of(h, links[i])->parent != parent) i++;
            parent = links[i];
        }
    }
    link_force(h, parent, child);
    adopt(h, parent, child);
}

/* New parents for the children of `gone`. */
static void children_adopt(hnsw *h, hood *a, uint32_t gone) {
    uint32_t n = a->child_count;
    if (h->root == gone) {
        h->root = n ? a->child[--n] : NONE;
        if (n < a->child_count) node_cold_of(h, h->root)->parent = NONE;
    }
    for (bool progress = true; n > 0 && progress;) { /* one adopted may make way for another */
        progress = false;
        for (uint32_t i = 0; i < n;) {
            if (adopt_by_link(h, a->child[i], gone)) {
                a->child[i] = a->child[--n];
                progress = true;
            } else {
                i++;
            }
        }
    }
    while (n > 0) adopt_anyhow(h, a, a->child[--n], gone);
}

/* Links `id` to the nearest MEND of the nodes that `gone` linked to. */
static void node_mend(hnsw *h, uint32_t id, const hood *a) {
    const uint8_t *codes[HNSW_DEGREE_MAX];
    float score[HNSW_DEGREE_MAX];
    codes_query q;
    float scores[MEND + 16];
    uint32_t ids[MEND + 16];
    hnsw_pool best = {scores, ids, 0, MEND, MEND};
    for (uint32_t i = 0; i < a->out_count; i++) codes[i] = node_code(h, a->out[i]);
    codes_query_from_record(h->model, node_code(h, id), &q);
    codes_score(&q, codes, a->out_count, score);
    for (uint32_t i = 0; i < a->out_count; i++)
        if (a->out[i] != id && !hnsw_link_has(h, id, a->out[i]))
            hnsw_pool_add(&best, score[i], a->out[i]);
    for (size_t i = 0; i < best.count; i++)
        if (!hnsw_link_add(h, id, best.id[i])) return;
}

/* Entry 0 is the root; others are replaced by a former neighbour that is no entry yet. */
static void entries_mend(hnsw *h, const hood *a, uint32_t gone) {
    if (h->root == NONE) {
        h->entry_count = 0;
        return;
    }
    uint32_t i = 0, at_root = NONE;
    for (uint32_t j = 0; j < h->entry_count; j++)
        if (h->entries[j] == h->root) at_root = j;
    for (; i < h->entry_count && h->entries[i] != gone;) i++;
    if (i == 0 && at_root != NONE) i = at_root; /* the new root moves to 0, its old place is free */
    bool was_entry = i < h->entry_count;
    if (h->entries[0] != h->root) hnsw_entry_set(h, 0, h->root);
    if (!was_entry || i == 0) return;
    for (uint32_t j = 0; j < a->out_count; j++) {
        bool taken = false;
        for (uint32_t k = 0; k < h->entry_count; k++) taken |= h->entries[k] == a->out[j];
        if (taken) continue;
        hnsw_entry_set(h, i, a->out[j]);
        return;
    }
    uint32_t last = --h->entry_count;
    if (i != last) hnsw_entry_set(h, i, h->entries[last]);
}

void hnsw_node_delete(hnsw *h, uint32_t id) {
    h->removed_ids[h->removed++ % RECENT] = id;
    hnsw_table_remove(h, id);
    if (h->model) {
        hood a;
        node_cut(h, id, &a);
        children_adopt(h, &a, id);
        for (uint32_t i = 0; i < a.in_count; i++) node_mend(h, a.in[i], &a);
        entries_mend(h, &a, id);
    }
    hnsw_node_give(h, id);
}
