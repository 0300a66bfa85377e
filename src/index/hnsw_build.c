/* hnsw_build: inserting a node, pruning, links, and training the code model.
 *
 * An insert walks for ef_build candidates, prunes them to the new node's links, and for each chosen
 * neighbour whose own list is full decides what that keeps. All of this is the plan: it reads only.
 * Applying it writes links and nothing is searched, so the owner's write lock is held briefly.
 *
 * Pruning (Vamana's rule): go through candidates from near to far; take one, and drop those later that
 * are much nearer to it than to the node itself: ALPHA * d(taken, c) <= d(node, c), d = 1 - cosine. What
 * is dropped is reached through the one taken. ALPHA over 1 keeps longer links, which shortens walks.
 * All similarities here come from codes: a record taken acts as the query against the others.
 *
 * Links, see invariant 1: every link is known at both ends. Adding u -> v costs a place in back(v) unless
 * v links u; when there is none the link is refused. Cutting u -> v while v -> u stays costs a place in
 * back(u); when there is none, v -> u is cut as well, or, when v is u's parent, some other
 * link to u is.
 *
 * Drafts may be old: several are planned side by side, and posts are deleted meanwhile. What changed since is
 * known (RECENT), and a draft is renewed when it is applied: decided again are the lists of those
 * neighbours whose links changed; the whole is planned again when a neighbour is gone, its parent is
 * full, or a node came that is among the nearest (a burst of near-duplicates, which should know each other).
 *
 * Parents, invariant 2: the nearest chosen neighbour with fewer than CHILDREN_MAX children. A new node has
 * no children, so no circle can arise.
 */
#include "index/hnsw_int.h"

#define ALPHA           1.1f
#define CHILDREN_MAX(h) ((h)->o.degree / 2)
#define BATCH           64u
#define CLOSE           4u  /* a newer node as near as that many are has to be weighed */
#define TOGETHER_MAX    32u /* inserts planned side by side, */
#define TOGETHER_PART   64u /* and as many as one in so many of the nodes */

/* ---- links ---- */

static bool list_has(const uint32_t *list, uint32_t n, uint32_t x) {
    for (uint32_t i = 0; i < n; i++)
        if (list[i] == x) return true;
    return false;
}

bool hnsw_link_has(const hnsw *h, uint32_t from, uint32_t to) {
    const uint32_t *links = node_links(h, from);
    return list_has(links + 1, links[0], to);
}

/* It and hnsw_back_remove do nothing when there is nothing: that happens only after loading a snapshot that
 * was made by hand, whose quick check cannot see two nodes that each claim a link of the other. */
void hnsw_out_remove(hnsw *h, uint32_t from, uint32_t to) {
    uint32_t *links = node_links(h, from), n = links[0];
    for (uint32_t i = 1; i <= n; i++) {
        if (links[i] != to) continue;
        links[i] = links[n];
        links[n] = 0;
        links[0] = n - 1;
        return;
    }
}

static void back_add(hnsw *h, uint32_t id, uint32_t from) {
    node_cold *c = node_cold_of(h, id);
    KITH_ASSERT(c->back_count < BACK_MAX);
    c->back[c->back_count++] = from;
}

void hnsw_back_remove(hnsw *h, uint32_t id, uint32_t from) {
    node_cold *c = node_cold_of(h, id);
    for (uint32_t i = 0; i < c->back_count; i++) {
        if (c->back[i] != from) continue;
        c->back[i] = c->back[--c->back_count];
        c->back[c->back_count] = 0;
        return;
    }
}

bool hnsw_link_add(hnsw *h, uint32_t from, uint32_t to) {
    uint32_t *links = node_links(h, from);
    if (links[0] == h->o.degree) return false;
    if (hnsw_link_has(h, to, from))
        hnsw_back_remove(h, from, to);
    else if (node_cold_of(h, to)->back_count == BACK_MAX)
        return false;
    else
        back_add(h, to, from);
    links[++links[0]] = to;
    return true;
}

void hnsw_link_remove(hnsw *h, uint32_t from, uint32_t to) {
    hnsw_out_remove(h, from, to);
    if (!hnsw_link_has(h, to, from)) {
        hnsw_back_remove(h, to, from);
        return;
    }
    node_cold *c = node_cold_of(h, from);
    if (c->back_count == BACK_MAX) {
        if (c->parent != to) {
            hnsw_out_remove(h, to, from);
            return;
        }
        hnsw_out_remove(h, c->back[BACK_MAX - 1], from); /* not the parent: that links both ways */
        c->back_count--;
    }
    back_add(h, from, to);
}

/* ---- pruning ---- */

/* Drops from near[from, n) what `taken` stands for; the first `forced` of near stay. Returns the new n. */
static size_t prune_by(const hnsw *h, const hnsw_near *taken, hnsw_near *near, size_t from,
                       size_t n, size_t forced) {
    codes_query q;
    const uint8_t *codes[BATCH];
    float score[BATCH];
    size_t to = from;
    codes_query_from_record(h->model, taken->code, &q);
    for (size_t start = from; start < n; start += BATCH) {
        size_t count = MIN(BATCH, n - start);
        for (size_t i = 0; i < count; i++) codes[i] = near[start + i].code;
        codes_score(&q, codes, count, score);
        for (size_t i = 0; i < count; i++) {
            const hnsw_near *c = &near[start + i];
            bool drop = ALPHA * (1.0f - score[i]) <= 1.0f - c->score;
            if (!drop || start + i < forced) near[to++] = *c;
        }
    }
    return to;
}

size_t hnsw_prune(const hnsw *h, hnsw_near *near, size_t n, size_t forced, size_t limit) {
    size_t kept = 0;
    while (kept < n && kept < limit) {
        hnsw_near taken = near[kept++];
        n = prune_by(h, &taken, near, kept, n, forced);
    }
    return kept;
}

static void near_sort(hnsw_near *near, size_t n) {
    for (size_t i = 1; i < n; i++) {
        hnsw_near x = near[i];
        size_t at = i;
        for (; at > 0 && near[at - 1].score < x.score; at--) near[at] = near[at - 1];
        near[at] = x;
    }
}

/* ---- plan ---- */

/* What the full list of `id` keeps when the new node of `d` wants in. */
static uint32_t plan_keep(const hnsw *h, uint32_t id, hnsw_draft *d, uint32_t *keep) {
    const uint32_t *links = node_links(h, id);
    const uint8_t *codes[NEAR_MAX];
    float score[NEAR_MAX];
    codes_query q;
    size_t n = 0, forced = 0, count = links[0];
    for (size_t i = 0; i < count; i++) codes[i] = node_code(h, links[i + 1]);
    codes[count] = d->code;
    codes_query_from_record(h->model, node_code(h, id), &q);
    codes_score(&q, codes, count + 1, score);
    if (d->parent == id) d->near[n++] = (hnsw_near){NONE, score[count], d->code};
    for (size_t i = 0; i < count; i++)
        if (node_cold_of(h, links[i + 1])->parent == id)
            d->near[n++] = (hnsw_near){links[i + 1], score[i], codes[i]};
    forced = n;
    if (d->parent != id) d->near[n++] = (hnsw_near){NONE, score[count], d->code};
    for (size_t i = 0; i < count; i++)
        if (node_cold_of(h, links[i + 1])->parent != id)
            d->near[n++] = (hnsw_near){links[i + 1], score[i], codes[i]};
    near_sort(d->near + forced, n - forced);
    n = hnsw_prune(h, d->near, n, forced, h->o.degree);
    for (size_t i = 0; i < n; i++) keep[i] = d->near[i].id;
    return (uint32_t)n;
}

/* The nearest chosen neighbour that may have one more child; failing that, going down from the nearest
 * along children: a leaf has none, so this ends. */
static uint32_t plan_parent(const hnsw *h, const hnsw_draft *d) {
    uint32_t most = CHILDREN_MAX(h);
    for (uint32_t i = 0; i < d->count; i++)
        if (node_cold_of(h, d->chosen[i])->children < most) return d->chosen[i];
    uint32_t id = d->chosen[0];
    while (node_cold_of(h, id)->children >= most) {
        const uint32_t *links = node_links(h, id);
        uint32_t i = 1;
        while (node_cold_of(h, links[i])->parent != id) i++;
        id = links[i];
    }
    return id;
}

static uint64_t links_hash(const hnsw *h, uint32_t id) {
    const uint32_t *links = node_links(h, id);
    return hash64(links, (links[0] + 1) * sizeof *links, 0);
}

static void plan_list(const hnsw *h, hnsw_draft *d, uint32_t i) {
    bool full = node_links(h, d->chosen[i])[0] == h->o.degree;
    d->keep_count[i] = full ? plan_keep(h, d->chosen[i], d, d->keep + i * NEAR_MAX) : KEEP_ALL;
    d->links_hash[i] = links_hash(h, d->chosen[i]);
}

static void draft_mark(const hnsw *h, hnsw_draft *d) {
    d->version = h->version;
    d->taken = h->taken;
    d->removed = h->removed;
    d->recoded = h->recoded;
}

/* Plans the links of d's vector (unit, half and hash are set). Scratch and draft are big enough. */
static void plan_links(const hnsw *h, hnsw_scratch *s, hnsw_draft *d) {
    draft_mark(h, d);
    d->count = 0;
    d->parent = NONE;
    d->twin = hnsw_twin(h, d->half, d->hash);
    if (d->twin != NONE || !h->model) return;
    codes_encode(h->model, d->unit, d->code, d->tmp);
    if (h->root == NONE) return;
    codes_query_set(h->model, d->unit, &s->query, d->tmp);
    hnsw_walk(h, &s->query, h->o.ef_build, s);
    size_t n = 0;
    for (; n < s->pool.count; n++) {
        uint32_t id = s->pool.id[n];
        d->near[n] = (hnsw_near){id, s->pool.score[n], node_code(h, id)};
    }
    d->close = d->near[MIN(n, CLOSE) - 1].score;
    d->count = (uint32_t)hnsw_prune(h, d->near, n, 0, h->o.degree / 2 + 1);
    for (uint32_t i = 0; i < d->count; i++) d->chosen[i] = d->near[i].id;
    d->parent = plan_parent(h, d);
    if (!list_has(d->chosen, d->count, d->parent)) d->chosen[d->count++] = d->parent;
    for (uint32_t i = 0; i < d->count; i++) plan_list(h, d, i);
}

static err plan_fit(const hnsw *h, hnsw_scratch *s, hnsw_draft *d) {
    TRY(hnsw_draft_fit(h, d));
    return hnsw_scratch_fit(h, s, h->o.ef_build);
}

/* ---- old drafts ---- */

/* A node that d rests on was removed; its slot may hold another by now. */
static bool draft_lost_one(const hnsw *h, const hnsw_draft *d) {
    for (uint64_t i = d->removed; i < h->removed; i++) {
        uint32_t id = h->removed_ids[i % RECENT];
        if (id == d->twin || list_has(d->chosen, d->count, id)) return true;
    }
    return false;
}

/* A node that came since is among the nearest. */
static bool draft_misses_one(const hnsw *h, const hnsw_draft *d) {
    const uint8_t *codes[RECENT];
    float score[RECENT];
    codes_query q;
    size_t n = 0;
    for (uint64_t i = d->taken; i < h->taken; i++)
        codes[n++] = node_code(h, h->taken_ids[i % RECENT]);
    if (n == 0) return false;
    codes_query_from_record(h->model, d->code, &q);
    codes_score(&q, codes, n, score);
    for (size_t i = 0; i < n; i++)
        if (score[i] > d->close) return true;
    return false;
}

/* Brings a draft of an earlier graph up to date; false when it has to be planned again. */
static bool draft_renew(const hnsw *h, hnsw_draft *d) {
    if (d->recoded != h->recoded || h->taken - d->taken > RECENT ||
        h->removed - d->removed > RECENT || draft_lost_one(h, d))
        return false;
    if (d->twin == NONE) d->twin = hnsw_twin(h, d->half, d->hash);
    if (d->twin != NONE || !h->model) return true;
    if (d->parent == NONE) return h->root == NONE;
    if (node_cold_of(h, d->parent)->children >= CHILDREN_MAX(h) || draft_misses_one(h, d))
        return false;
    bool all = h->removed != d->removed; /* children change parents then, which links do not show */
    for (uint32_t i = 0; i < d->count; i++)
        if (all || d->links_hash[i] != links_hash(h, d->chosen[i])) plan_list(h, d, i);
    return true;
}

/* ---- apply ---- */

/* Cuts the links of `id` that are not in keep. */
static void links_keep(hnsw *h, uint32_t id, const uint32_t *keep, uint32_t n) {
    uint32_t *links = node_links(h, id);
    for (uint32_t i = links[0]; i >= 1; i--) /* removing moves the last one, already seen, to i */
        if (!list_has(keep, n, links[i])) hnsw_link_remove(h, id, links[i]);
}

/* A node enters the sample of entries: always while it is small, later by reservoir sampling. */
static void entry_offer(hnsw *h, uint32_t id) {
    uint32_t want = MIN(ENTRY_MAX, 16 + h->live / 64);
    if (h->entry_count < want) {
        hnsw_entry_set(h, h->entry_count++, id);
        return;
    }
    uint32_t i = rng_below(&h->random, h->live);
    if (i > 0 && i < h->entry_count) hnsw_entry_set(h, i, id); /* entry 0 is the root */
}

/* Links node `id`, whose vector is d's, as planned. */
static void node_link(hnsw *h, uint32_t id, const hnsw_draft *d) {
    memcpy(node_code(h, id), d->code, h->code_stride);
    if (d->parent == NONE) {
        h->root = id;
        h->entry_count = 0;
    }
    for (uint32_t i = 0; i < d->count; i++) {
        uint32_t to = d->chosen[i], n = d->keep_count[i];
        const uint32_t *keep = d->keep + i * NEAR_MAX;
        if (n != KEEP_ALL) links_keep(h, to, keep, n);
        if (n == KEEP_ALL || list_has(keep, n, NONE)) {
            bool linked = hnsw_link_add(h, to, id);
            KITH_ASSERT(linked || to != d->parent);
        }
        (void)!hnsw_link_add(h, id, to);
    }
    if (d->parent != NONE) {
        node_cold_of(h, id)->parent = d->parent;
        node_cold_of(h, d->parent)->children++;
    }
    entry_offer(h, id);
    h->taken_ids[h->taken++ % RECENT] = id;
}

/* ---- training ---- */

static err sample(const hnsw *h, float **out, size_t *count) {
    size_t n = MIN(h->live, TRAIN_SAMPLES), taken = 0, seen = 0;
    float *rows = mem_alloc(n * h->o.dim * sizeof *rows);
    if (!rows) return ERR_NO_MEMORY;
    for (uint32_t id = 0; id < h->top && taken < n; id++) {
        if (*node_doc(h, id) == NONE || seen++ * n / h->live < taken) continue;
        vec_f32_from_f16(rows + taken++ * h->o.dim, node_vector(h, id), h->o.dim);
    }
    *out = rows;
    *count = taken;
    return OK;
}

static void draft_from_node(const hnsw *h, uint32_t id, hnsw_draft *d) {
    memcpy(d->half, node_vector(h, id), h->vector_stride * sizeof *d->half);
    vec_f32_from_f16(d->unit, d->half, h->o.dim);
    d->hash = node_cold_of(h, id)->hash;
}

static void encode_all(hnsw *h, hnsw_draft *d) {
    for (uint32_t id = 0; id < h->top; id++) {
        if (*node_doc(h, id) == NONE) continue;
        draft_from_node(h, id, d);
        codes_encode(h->model, d->unit, node_code(h, id), d->tmp);
    }
    for (uint32_t i = 0; i < h->entry_count; i++) hnsw_entry_set(h, i, h->entries[i]);
}

/* The first graph, over all nodes there are. */
static void link_all(hnsw *h, hnsw_scratch *s, hnsw_draft *d) {
    for (uint32_t id = 0; id < h->top; id++) {
        if (*node_doc(h, id) == NONE) continue;
        hnsw_table_remove(h, id); /* or it would find itself as its twin */
        draft_from_node(h, id, d);
        plan_links(h, s, d);
        hnsw_table_add(h, id);
        node_link(h, id, d);
    }
}

/* Trains h, which no one else sees yet, and codes its nodes. */
static err train(hnsw *h) {
    float *rows = NULL;
    size_t n = 0;
    bool first = h->root == NONE;
    TRY(plan_fit(h, h->scratch, h->draft));
    err rc = sample(h, &rows, &n);
    if (rc == OK) rc = codes_model_train(rows, n, h->o.dim, h->o.seed, &h->model);
    mem_free(rows);
    TRY(rc);
    h->train_at = first ? TRAIN_AGAIN : UINT32_MAX;
    if (first)
        link_all(h, h->scratch, h->draft);
    else
        encode_all(h, h->draft);
    return OK;
}

/* When there are enough nodes, codes begin, or are made anew from more samples: in a copy of the index,
 * which takes its place when the draft is applied. Out of memory means later: without it the
 * index answers too. */
static void plan_next(const hnsw *h, hnsw_draft *d) {
    hnsw_free(d->next);
    d->next = NULL;
    if (h->live < h->train_at || d->twin != NONE) return;
    hnsw *next;
    if (hnsw_copy(h, &next) != OK) return;
    if (train(next) == OK)
        d->next = next;
    else
        hnsw_free(next);
}

/* ---- insert ---- */

err hnsw_plan(const hnsw *h, const float *vec, size_t dim, hnsw_scratch *s, hnsw_draft *d) {
    if (dim != h->o.dim)
        return err_set(ERR_INVALID, "vector: %zu dimensions, expected %u", dim, h->o.dim);
    TRY(plan_fit(h, s, d));
    TRY(hnsw_unit(h->o.dim, vec, d->unit));
    vec_f16_from_f32(d->half, d->unit, h->o.dim);
    memset(d->half + h->o.dim, 0, (h->vector_stride - h->o.dim) * sizeof *d->half);
    vec_f32_from_f16(d->unit, d->half, h->o.dim);
    d->hash = hnsw_hash(h, d->half);
    d->twin = hnsw_twin(h, d->half, d->hash);
    plan_next(h, d);
    plan_links(d->next ? d->next : h, s, d);
    return OK;
}

/* Takes the doc off the node it had; the node when it is now empty, else NONE. */
static uint32_t doc_move_away(hnsw *h, uint32_t doc) {
    if (!hnsw_has(h, doc)) return NONE;
    uint32_t id = h->doc_node[doc];
    hnsw_doc_detach(h, doc);
    return *node_doc(h, id) == NONE ? id : NONE;
}

err hnsw_apply(hnsw *h, uint32_t doc, hnsw_draft *d) {
    if (d->dim < h->o.dim) return err_set(ERR_INVALID, "insert: the draft was not planned");
    if (d->version == h->version && d->next) {
        hnsw_become(h, d->next);
        d->next = NULL;
    } else if (d->version != h->version && !draft_renew(h, d)) {
        TRY(plan_fit(h, h->scratch, d));
        plan_links(h, h->scratch, d);
    }
    if (hnsw_has(h, doc) && d->twin != NONE && h->doc_node[doc] == d->twin) return OK;
    TRY(hnsw_reserve(h, doc));
    h->version++;
    uint32_t empty = doc_move_away(h, doc), id = d->twin;
    if (id == NONE) {
        id = hnsw_node_take(h);
        memcpy(node_vector(h, id), d->half, h->vector_stride * sizeof *d->half);
        node_cold_of(h, id)->hash = d->hash;
        hnsw_table_add(h, id);
        if (h->model) node_link(h, id, d);
    }
    hnsw_doc_attach(h, doc, id);
    if (empty != NONE) hnsw_node_delete(h, empty);
    return OK;
}

uint32_t hnsw_plan_together(const hnsw *h) {
    if (!h->model || h->live + TOGETHER_MAX >= h->train_at) return 1; /* one of them will train */
    return MAX(1, MIN(TOGETHER_MAX, h->live / TOGETHER_PART));
}

err hnsw_insert(hnsw *h, uint32_t doc, const float *vec) {
    TRY(hnsw_plan(h, vec, h->o.dim, h->scratch, h->draft));
    return hnsw_apply(h, doc, h->draft);
}
