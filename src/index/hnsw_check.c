/* hnsw_check: the validator. Every invariant of hnsw_int.h, each with the words that name it.
 *
 * It trusts nothing but the arrays' lengths: every id is compared with `top` before it is followed, and every
 * list has a ceiling. A snapshot just loaded goes through the quick part, which is linear: all that
 * later calls rest on. The whole looks up each link at its other end, about 64 * 64 comparisons a
 * node, so ~1 s for 100,000 nodes.
 *
 * Reachability needs no search of the graph: the parent of each node links to it (2), so it is enough that
 * every way up ends at the root. Marks make that linear: a node whose way is known is not
 * walked again.
 */
#include "index/hnsw_int.h"
#include <math.h>

#define BROKEN(...) err_set(ERR_INTERNAL, "index broken: " __VA_ARGS__)

static err check_free(const hnsw *h) {
    uint32_t spare = 0;
    for (uint32_t id = h->free_head; id != NONE; id = node_cold_of(h, id)->parent)
        if (id >= h->top || node_live(h, id) || ++spare > h->top)
            return BROKEN("the list of free slots");
    if (spare != h->top - h->live) return BROKEN("%u free slots listed", spare);
    return OK;
}

static err check_docs(const hnsw *h) {
    size_t docs = 0;
    uint32_t live = 0;
    for (uint32_t id = 0; id < h->top; id++) {
        uint32_t first = *node_doc(h, id), doc = first == NONE ? NONE : doc_at(first);
        live += first != NONE;
        for (uint32_t next; doc != NONE; doc = next) {
            if (doc >= h->doc_cap || h->doc_node[doc] != id)
                return BROKEN("node %u lists a doc of another node", id);
            if (++docs > h->doc_cap) return BROKEN("a list of docs has a circle");
            next = h->doc_next[doc];
            if (doc == doc_at(first) && (next != NONE) != !!(first & MORE_DOCS))
                return BROKEN("the mark of more docs at node %u", id);
        }
    }
    size_t placed = 0;
    for (size_t doc = 0; doc < h->doc_cap; doc++) placed += h->doc_node[doc] != NONE;
    if (docs != h->docs || placed != docs)
        return BROKEN("%zu docs listed, %zu placed", docs, placed);
    if (live != h->live) return BROKEN("%u live nodes, counted as %u", live, h->live);
    return check_free(h);
}

/* The lists are checked: docs are in range. */
static err check_docs_back(const hnsw *h) {
    for (size_t doc = 0; doc < h->doc_cap; doc++) {
        uint32_t next = h->doc_next[doc], prev = h->doc_prev[doc];
        if (next != NONE && h->doc_prev[next] != doc)
            return BROKEN("the way back from doc %u", next);
        if (prev != NONE && (prev >= h->doc_cap || h->doc_next[prev] != doc))
            return BROKEN("the way to doc %zu", doc);
    }
    return OK;
}

static err check_twins(const hnsw *h) {
    size_t used = 0;
    for (size_t i = 0; i < h->table_size; i++) {
        used += h->table[i] != NONE;
        if (h->table[i] != NONE && !node_live(h, h->table[i]))
            return BROKEN("the table of vectors names a free slot");
    }
    if (used != h->live) return BROKEN("the table of vectors has %zu of %u nodes", used, h->live);
    for (uint32_t id = 0; id < h->top; id++) {
        if (!node_live(h, id)) continue;
        uint32_t hash = node_cold_of(h, id)->hash;
        if (hash != hnsw_hash(h, node_vector(h, id))) return BROKEN("hash of node %u", id);
        if (hnsw_twin(h, node_vector(h, id), hash) != id)
            return BROKEN("node %u has a twin, or cannot be found", id);
    }
    return OK;
}

static err check_counts(const hnsw *h) {
    for (uint32_t id = 0; id < h->top; id++)
        if (node_links(h, id)[0] > h->o.degree || node_cold_of(h, id)->back_count > BACK_MAX)
            return BROKEN("counts of node %u", id);
    return OK;
}

static uint64_t pair_hash(uint32_t from, uint32_t to) {
    return hash64_u64(((uint64_t)from << 32 | to) + 0x9e3779b97f4a7c15u);
}

/* The node's own lists name nobody twice. */
static bool lists_disjoint(const uint32_t *links, const node_cold *c) {
    for (uint32_t i = 1; i <= links[0]; i++)
        for (uint32_t j = 1; j < i; j++)
            if (links[i] == links[j]) return false;
    for (uint32_t i = 0; i < c->back_count; i++) {
        for (uint32_t j = 0; j < i; j++)
            if (c->back[i] == c->back[j]) return false;
        for (uint32_t j = 1; j <= links[0]; j++)
            if (c->back[i] == links[j]) return false;
    }
    return true;
}

/* Every id in lists, and that both ends of links agree: a link u -> v adds hash(u, v) - hash(v, u), which is
 * nothing in sum when v -> u stands too; what is left must be what the lists of unreturned links
 * give. Linear, for snapshots; check_links looks each link up. */
static err check_ends(const hnsw *h) {
    uint64_t sum = 0;
    for (uint32_t id = 0; id < h->top; id++) {
        const uint32_t *links = node_links(h, id);
        const node_cold *c = node_cold_of(h, id);
        bool live = node_live(h, id);
        if (!live && (links[0] || c->back_count)) return BROKEN("a free slot with links");
        if (!lists_disjoint(links, c)) return BROKEN("node %u lists a node twice", id);
        for (uint32_t i = 1; i <= links[0]; i++) {
            if (links[i] == id || !node_live(h, links[i])) return BROKEN("a link of node %u", id);
            sum += pair_hash(id, links[i]) - pair_hash(links[i], id);
        }
        for (uint32_t i = 0; i < c->back_count; i++) {
            if (c->back[i] == id || !node_live(h, c->back[i]))
                return BROKEN("a link to node %u", id);
            sum -= pair_hash(c->back[i], id) - pair_hash(id, c->back[i]);
        }
    }
    return sum ? BROKEN("links and what their ends know differ") : OK;
}

/* The quick checks have passed: ids are in range and no list names anyone twice. */
static err check_links(const hnsw *h, uint32_t id) {
    const uint32_t *links = node_links(h, id);
    const node_cold *c = node_cold_of(h, id);
    for (uint32_t i = 1; i <= links[0]; i++) {
        uint32_t to = links[i];
        const node_cold *t = node_cold_of(h, to);
        bool known = false;
        for (uint32_t j = 0; j < t->back_count; j++) known |= t->back[j] == id;
        if (known == hnsw_link_has(h, to, id)) return BROKEN("link %u -> %u at its end", id, to);
    }
    for (uint32_t i = 0; i < c->back_count; i++) {
        if (!hnsw_link_has(h, c->back[i], id))
            return BROKEN("node %u knows of a link that is not there", id);
    }
    return OK;
}

/* Every way up ends at the root. `good` has a bit for each node. */
static err check_ways(const hnsw *h, uint64_t *good) {
    bits_set(good, h->root);
    for (uint32_t id = 0; id < h->top; id++) {
        if (!node_live(h, id)) continue;
        uint32_t steps = 0, at = id;
        for (; !bits_get(good, at); at = node_cold_of(h, at)->parent)
            if (++steps > h->live) return BROKEN("parents of node %u go in a circle", id);
        for (at = id; !bits_get(good, at); at = node_cold_of(h, at)->parent) bits_set(good, at);
    }
    return OK;
}

/* Parents link to their children and know how many they are. `count` is zeroed, one for each node. */
static err check_children(const hnsw *h, uint16_t *count) {
    for (uint32_t id = 0; id < h->top; id++) {
        if (!node_live(h, id) || id == h->root) continue;
        uint32_t parent = node_cold_of(h, id)->parent;
        if (!node_live(h, parent) || !hnsw_link_has(h, parent, id))
            return BROKEN("parent of node %u", id);
        count[parent]++;
    }
    for (uint32_t id = 0; id < h->top; id++)
        if (node_live(h, id) && count[id] != node_cold_of(h, id)->children)
            return BROKEN("children of node %u", id);
    return OK;
}

static err check_parents(const hnsw *h) {
    if (h->root >= h->top || !node_live(h, h->root) || node_cold_of(h, h->root)->parent != NONE)
        return BROKEN("the root");
    uint64_t *good = mem_zalloc(bits_words(h->top), sizeof *good);
    uint16_t *count = mem_zalloc(h->top, sizeof *count);
    err rc = good && count ? check_children(h, count) : ERR_NO_MEMORY;
    if (rc == OK) rc = check_ways(h, good);
    mem_free(good);
    mem_free(count);
    return rc;
}

static err check_entries(const hnsw *h) {
    if (h->entry_count == 0 || h->entry_count > ENTRY_MAX || h->entries[0] != h->root)
        return BROKEN("the entries");
    for (uint32_t i = 0; i < h->entry_count; i++) {
        if (!node_live(h, h->entries[i])) return BROKEN("entry %u is a free slot", i);
        for (uint32_t j = 0; j < i; j++)
            if (h->entries[j] == h->entries[i]) return BROKEN("entries %u and %u are one", j, i);
        const uint8_t *code = h->entry_codes + (size_t)i * h->code_stride;
        if (memcmp(code, node_code(h, h->entries[i]), h->code_stride) != 0)
            return BROKEN("the code of entry %u", i);
    }
    return OK;
}

static err check_bare(const hnsw *h) {
    bool bare = h->root == NONE && h->entry_count == 0;
    for (uint32_t id = 0; id < h->top; id++)
        bare = bare && node_links(h, id)[0] == 0 && node_cold_of(h, id)->back_count == 0;
    return bare ? OK : BROKEN("links without codes");
}

err hnsw_check_quick(const hnsw *h) {
    TRY(check_docs(h));
    if (!h->model) return check_bare(h);
    TRY(check_counts(h));
    TRY(check_ends(h));
    if (h->live == 0)
        return h->root == NONE && h->entry_count == 0 ? OK : BROKEN("a root of nothing");
    TRY(check_parents(h));
    return check_entries(h);
}

err hnsw_validate(const hnsw *h) {
    TRY(hnsw_check_quick(h));
    TRY(check_docs_back(h));
    TRY(check_twins(h));
    for (uint32_t id = 0; id < h->top && h->model; id++)
        if (node_live(h, id)) TRY(check_links(h, id));
    return OK;
}
