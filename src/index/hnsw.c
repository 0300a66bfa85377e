/* hnsw: the structure itself: creation, memory, docs, equal vectors. (Building is in hnsw_build.c, walks in
 * hnsw_search.c, deletes in hnsw_delete.c, snapshots in hnsw_file.c, invariants in hnsw_int.h and
 * hnsw_check.c.)
 *
 * The name is kept from the family, yet there are no layers: instead of upper layers a search scores
 * the codes of up to 256 entry nodes, a uniform sample of all nodes that lies in one 32 KB block, and
 * starts from the best few. That costs about a microsecond, where the upper layers of HNSW cost
 * ten or more dependent misses.
 *
 * Bytes of a node at 384 dimensions, degree 63: vector 768, code 128, links 256, cold 128, doc 4, doc
 * tables 12, equality table 8 to 16: about 1,310; of them a walk touches 384.
 *
 * Memory is reserved before anything changes (hnsw_reserve), so an allocation that fails leaves the
 * index as it was. Deletes allocate nothing.
 *
 * Equal vectors: the table maps the hash of the half-precision bytes to a node. Reposts, and texts
 * that differ in nothing the encoder sees, take twelve bytes of doc tables each instead of a node, and
 * cannot fill each other's neighbour lists, which is how duplicates disconnect a graph.
 */
#include "index/hnsw_int.h"
#include <math.h>

#define DEGREE_DEFAULT   63u /* with its count: four cache lines */
#define EF_BUILD_DEFAULT 128u
#define EF_DEFAULT       64u
#define DOCS_MIN         1024u
#define TABLE_MIN        64u

/* ---- creation ---- */

static err options_fill(const hnsw_options *o, hnsw_options *out) {
    if (o->dim == 0 || o->dim > HNSW_DIM_MAX)
        return err_set(ERR_INVALID, "index: %u dimensions, expected 1 to %u", o->dim, HNSW_DIM_MAX);
    *out = *o;
    if (!out->degree) out->degree = DEGREE_DEFAULT;
    if (!out->ef_build) out->ef_build = EF_BUILD_DEFAULT;
    if (!out->ef_default) out->ef_default = EF_DEFAULT;
    if (!out->max_docs) out->max_docs = HNSW_DOCS_MAX;
    if (out->degree < HNSW_DEGREE_MIN || out->degree > HNSW_DEGREE_MAX)
        return err_set(ERR_INVALID, "index: degree %u, expected %u to %u", out->degree,
                       HNSW_DEGREE_MIN, HNSW_DEGREE_MAX);
    if (out->ef_build > HNSW_EF_MAX || out->ef_default > HNSW_EF_MAX)
        return err_set(ERR_INVALID, "index: ef over %u", HNSW_EF_MAX);
    if (out->max_docs > HNSW_DOCS_MAX)
        return err_set(ERR_INVALID, "index: max_docs over %u", HNSW_DOCS_MAX);
    return OK;
}

err hnsw_new(const hnsw_options *o, hnsw **out) {
    hnsw_options full;
    TRY(options_fill(o, &full));
    hnsw *h = mem_zalloc(1, sizeof *h);
    if (!h) return ERR_NO_MEMORY;
    h->o = full;
    h->link_stride = (full.degree + 1 + 15) / 16 * 16;
    h->vector_stride = (full.dim + 31) / 32 * 32;
    h->code_stride = codes_stride(full.dim);
    h->code_shift = (uint32_t)__builtin_ctz(h->code_stride);
    h->free_head = h->root = NONE;
    h->train_at = TRAIN_FIRST;
    rng_seed(&h->random, full.seed);
    h->entry_codes = mem_aligned(64, (size_t)ENTRY_MAX * h->code_stride);
    err rc = h->entry_codes ? OK : ERR_NO_MEMORY;
    if (rc == OK) rc = hnsw_scratch_new(&h->scratch);
    if (rc == OK) rc = hnsw_draft_new(&h->draft);
    if (rc != OK) {
        hnsw_free(h);
        return rc;
    }
    *out = h;
    return OK;
}

static void chunk_free(node_chunk *c) {
    mem_free(c->codes);
    mem_free(c->links);
    mem_free(c->vectors);
    mem_free(c->cold);
    mem_free(c->doc);
}

void hnsw_free(hnsw *h) {
    if (!h) return;
    for (size_t i = 0; i < h->chunk_count; i++) chunk_free(&h->chunks[i]);
    mem_free(h->chunks);
    mem_free(h->codes);
    mem_free(h->doc_node);
    mem_free(h->doc_next);
    mem_free(h->doc_prev);
    mem_free(h->table);
    mem_free(h->entry_codes);
    codes_model_free(h->model);
    hnsw_scratch_free(h->scratch);
    hnsw_draft_free(h->draft);
    mem_free(h);
}

/* ---- scratch and drafts ---- */

err hnsw_scratch_new(hnsw_scratch **out) {
    hnsw_scratch *s = mem_zalloc(1, sizeof *s);
    if (!s) return ERR_NO_MEMORY;
    *out = s;
    return OK;
}

void hnsw_scratch_free(hnsw_scratch *s) {
    if (!s) return;
    mem_free(s->seen);
    mem_free(s->pool.score);
    mem_free(s->pool.id);
    mem_free(s->found.score);
    mem_free(s->found.id);
    mem_free(s->unit);
    mem_free(s->tmp);
    mem_free(s);
}

/* Replaces *p by a fresh block of at least `size` bytes; its content is not kept. */
static err refit(void *p, size_t size) {
    void *fresh = mem_aligned(64, size), *old;
    if (!fresh) return ERR_NO_MEMORY;
    memcpy(&old, p, sizeof old);
    mem_free(old);
    memcpy(p, &fresh, sizeof fresh);
    return OK;
}

static err pool_fit(hnsw_pool *p, size_t cap) {
    if (cap <= p->cap) return OK;
    p->cap = 0;
    TRY(refit(&p->score, (cap + 16) * sizeof *p->score));
    TRY(refit(&p->id, (cap + 16) * sizeof *p->id));
    p->cap = cap;
    return OK;
}

err hnsw_scratch_fit(const hnsw *h, hnsw_scratch *s, size_t pool) {
    size_t words = bits_words((size_t)h->top + 1);
    if (words > s->seen_words) {
        size_t want = words + words / 4 + 64;
        s->seen_words = 0;
        TRY(refit(&s->seen, want * sizeof *s->seen));
        s->seen_words = want;
    }
    TRY(pool_fit(&s->pool, pool));
    TRY(pool_fit(&s->found, pool));
    if (s->dim < h->o.dim) {
        s->dim = 0;
        TRY(refit(&s->unit, (h->o.dim + 32) * sizeof *s->unit));
        TRY(refit(&s->tmp, CODES_TMP(h->o.dim) * sizeof *s->tmp));
        s->dim = h->o.dim;
    }
    return OK;
}

err hnsw_draft_new(hnsw_draft **out) {
    hnsw_draft *d = mem_zalloc(1, sizeof *d);
    if (!d) return ERR_NO_MEMORY;
    *out = d;
    return OK;
}

void hnsw_draft_free(hnsw_draft *d) {
    if (!d) return;
    mem_free(d->unit);
    mem_free(d->tmp);
    mem_free(d->half);
    mem_free(d->keep);
    mem_free(d->near);
    hnsw_free(d->next);
    mem_free(d);
}

err hnsw_draft_fit(const hnsw *h, hnsw_draft *d) {
    if (d->dim < h->o.dim) {
        d->dim = 0;
        TRY(refit(&d->unit, (h->o.dim + 32) * sizeof *d->unit));
        TRY(refit(&d->tmp, CODES_TMP(h->o.dim) * sizeof *d->tmp));
        TRY(refit(&d->half, h->vector_stride * sizeof *d->half));
        TRY(refit(&d->keep, (size_t)HNSW_DEGREE_MAX * NEAR_MAX * sizeof *d->keep));
        d->dim = h->o.dim;
    }
    size_t near = MAX(h->o.ef_build, NEAR_MAX);
    if (d->near_cap < near) {
        d->near_cap = 0;
        TRY(refit(&d->near, near * sizeof *d->near));
        d->near_cap = near;
    }
    return OK;
}

/* Numbers so large or small that their squares leave the range of float: rare, done in double. */
static err unit_slowly(uint32_t dim, const float *vec, float *unit) {
    double norm2 = 0;
    for (uint32_t i = 0; i < dim; i++) norm2 += (double)vec[i] * (double)vec[i];
    if (!(norm2 > 0) || norm2 > 1e300)
        return err_set(ERR_INVALID, "vector: expected finite numbers that are not all zero");
    double scale = 1.0 / sqrt(norm2);
    for (uint32_t i = 0; i < dim; i++) unit[i] = (float)((double)vec[i] * scale);
    return OK;
}

err hnsw_unit(uint32_t dim, const float *vec, float *unit) {
    float norm2 = vec_dot_f32(vec, vec, dim);
    if (!(norm2 > 1e-20f && norm2 < 1e20f)) return unit_slowly(dim, vec, unit); /* NaN too */
    memset(unit, 0, dim * sizeof *unit);
    vec_axpy(unit, 1.0f / sqrtf(norm2), vec, dim);
    return OK;
}

/* ---- nodes ---- */

err hnsw_chunk_add(hnsw *h) {
    void *p = h->chunks;
    TRY(mem_grow(&p, &h->chunk_cap, h->chunk_count + 1, sizeof *h->chunks, SIZE_MAX));
    h->chunks = p;
    p = h->codes;
    TRY(mem_grow(&p, &h->codes_cap, h->chunk_count + 1, sizeof *h->codes, SIZE_MAX));
    h->codes = p;
    node_chunk c = {0};
    c.codes = mem_aligned(HUGE_PAGE, (size_t)NODE_CHUNK * h->code_stride);
    c.links = mem_aligned(HUGE_PAGE, (size_t)NODE_CHUNK * h->link_stride * sizeof *c.links);
    c.vectors = mem_aligned(HUGE_PAGE, (size_t)NODE_CHUNK * h->vector_stride * sizeof *c.vectors);
    c.cold = mem_aligned(64, (size_t)NODE_CHUNK * sizeof *c.cold);
    c.doc = mem_alloc((size_t)NODE_CHUNK * sizeof *c.doc);
    if (!c.codes || !c.links || !c.vectors || !c.cold || !c.doc) {
        chunk_free(&c);
        return ERR_NO_MEMORY;
    }
    h->codes[h->chunk_count] = c.codes;
    h->chunks[h->chunk_count++] = c;
    return OK;
}

static size_t table_slot(const hnsw *h, uint32_t hash) {
    return (size_t)hash64_u64(hash) & (h->table_size - 1);
}

static void table_put(hnsw *h, uint32_t id) {
    size_t i = table_slot(h, node_cold_of(h, id)->hash);
    while (h->table[i] != NONE) i = (i + 1) & (h->table_size - 1);
    h->table[i] = id;
}

/* Room for `nodes` nodes; the table holds those it held. */
err hnsw_table_reserve(hnsw *h, uint32_t nodes) {
    size_t size = h->table_size ? h->table_size : TABLE_MIN;
    while (size < (size_t)nodes * 2) size *= 2;
    if (size == h->table_size) return OK;
    uint32_t *fresh = mem_alloc(size * sizeof *fresh), *old = h->table;
    if (!fresh) return ERR_NO_MEMORY;
    memset(fresh, 0xff, size * sizeof *fresh);
    size_t old_size = h->table_size;
    h->table = fresh;
    h->table_size = size;
    for (size_t i = 0; i < old_size; i++)
        if (old[i] != NONE) table_put(h, old[i]);
    mem_free(old);
    return OK;
}

err hnsw_docs_reserve(hnsw *h, uint32_t doc) {
    if (doc < h->doc_cap) return OK;
    size_t cap = MAX((size_t)doc + 1, MAX(h->doc_cap * 2, DOCS_MIN));
    uint32_t **lists[] = {&h->doc_node, &h->doc_next, &h->doc_prev};
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        uint32_t *p = mem_realloc(*lists[i], cap * sizeof *p);
        if (!p) return ERR_NO_MEMORY; /* what has grown stays grown; doc_cap tells the least */
        memset(p + h->doc_cap, 0xff, (cap - h->doc_cap) * sizeof *p);
        *lists[i] = p;
    }
    h->doc_cap = cap;
    return OK;
}

err hnsw_reserve(hnsw *h, uint32_t doc) {
    if (doc >= h->o.max_docs)
        return err_set(ERR_NO_SPACE, "index: doc %u, limit is %u", doc, h->o.max_docs);
    TRY(hnsw_docs_reserve(h, doc));
    TRY(hnsw_table_reserve(h, h->live + 1));
    if (h->free_head == NONE && h->top == h->chunk_count << NODE_CHUNK_BITS) TRY(hnsw_chunk_add(h));
    return OK;
}

uint32_t hnsw_node_take(hnsw *h) {
    uint32_t id = h->free_head;
    if (id != NONE)
        h->free_head = node_cold_of(h, id)->parent;
    else
        id = h->top++;
    KITH_ASSERT(id >> NODE_CHUNK_BITS < h->chunk_count);
    *node_cold_of(h, id) = (node_cold){.parent = NONE};
    *node_doc(h, id) = NONE;
    memset(node_links(h, id), 0, h->link_stride * sizeof(uint32_t));
    memset(node_code(h, id), 0, h->code_stride);
    h->live++;
    return id;
}

/* The slot is wiped: what was deleted is in no snapshot. */
void hnsw_node_give(hnsw *h, uint32_t id) {
    *node_cold_of(h, id) = (node_cold){.parent = h->free_head};
    *node_doc(h, id) = NONE;
    memset(node_links(h, id), 0, h->link_stride * sizeof(uint32_t));
    memset(node_code(h, id), 0, h->code_stride);
    memset(node_vector(h, id), 0, h->vector_stride * sizeof(f16));
    h->free_head = id;
    h->live--;
}

void hnsw_entry_set(hnsw *h, uint32_t index, uint32_t id) {
    KITH_ASSERT(index < ENTRY_MAX);
    h->entries[index] = id;
    memcpy(h->entry_codes + (size_t)index * h->code_stride, node_code(h, id), h->code_stride);
}

/* ---- equal vectors ---- */

uint32_t hnsw_hash(const hnsw *h, const f16 *half) {
    return (uint32_t)hash64(half, h->o.dim * sizeof *half, 0);
}

uint32_t hnsw_twin(const hnsw *h, const f16 *half, uint32_t hash) {
    if (!h->table_size) return NONE;
    for (size_t i = table_slot(h, hash); h->table[i] != NONE; i = (i + 1) & (h->table_size - 1)) {
        uint32_t id = h->table[i];
        if (node_cold_of(h, id)->hash != hash) continue;
        if (memcmp(node_vector(h, id), half, h->o.dim * sizeof *half) == 0) return id;
    }
    return NONE;
}

void hnsw_table_add(hnsw *h, uint32_t id) {
    table_put(h, id);
}

/* Linear probing without tombstones: later entries of the run move up into the hole. */
void hnsw_table_remove(hnsw *h, uint32_t id) {
    size_t mask = h->table_size - 1, hole = table_slot(h, node_cold_of(h, id)->hash);
    while (h->table[hole] != id) hole = (hole + 1) & mask;
    for (size_t i = (hole + 1) & mask; h->table[i] != NONE; i = (i + 1) & mask) {
        size_t home = table_slot(h, node_cold_of(h, h->table[i])->hash);
        if (((i - home) & mask) < ((i - hole) & mask)) continue; /* its home is behind the hole */
        h->table[hole] = h->table[i];
        hole = i;
    }
    h->table[hole] = NONE;
}

/* ---- copies ---- */

static void chunk_copy(const hnsw *h, const node_chunk *from, node_chunk *to, size_t n) {
    memcpy(to->codes, from->codes, n * h->code_stride);
    memcpy(to->links, from->links, n * h->link_stride * sizeof *to->links);
    memcpy(to->vectors, from->vectors, n * h->vector_stride * sizeof *to->vectors);
    memcpy(to->cold, from->cold, n * sizeof *to->cold);
    memcpy(to->doc, from->doc, n * sizeof *to->doc);
}

/* All but the model: the copy is made to get another. */
err hnsw_copy(const hnsw *h, hnsw **out) {
    hnsw *c;
    TRY(hnsw_new(&h->o, &c));
    err rc = h->doc_cap ? hnsw_docs_reserve(c, (uint32_t)h->doc_cap - 1) : OK;
    while (rc == OK && c->chunk_count < h->chunk_count) rc = hnsw_chunk_add(c);
    c->live = h->live;
    if (rc == OK) rc = hnsw_table_reserve(c, (uint32_t)(h->table_size / 2));
    if (rc != OK) {
        hnsw_free(c);
        return rc;
    }
    c->top = h->top;
    c->free_head = h->free_head;
    c->root = h->root;
    c->docs = h->docs;
    c->train_at = h->train_at;
    c->random = h->random;
    c->version = h->version;
    c->taken = h->taken;
    c->removed = h->removed;
    c->recoded = h->recoded + 1;
    memcpy(c->taken_ids, h->taken_ids, sizeof c->taken_ids);
    memcpy(c->removed_ids, h->removed_ids, sizeof c->removed_ids);
    c->entry_count = h->entry_count;
    memcpy(c->entries, h->entries, sizeof c->entries);
    memcpy(c->doc_node, h->doc_node, h->doc_cap * sizeof *c->doc_node);
    memcpy(c->doc_next, h->doc_next, h->doc_cap * sizeof *c->doc_next);
    memcpy(c->doc_prev, h->doc_prev, h->doc_cap * sizeof *c->doc_prev);
    memcpy(c->table, h->table, h->table_size * sizeof *c->table);
    for (uint32_t at = 0; at < h->top; at += NODE_CHUNK)
        chunk_copy(h, chunk_of(h, at), &c->chunks[at >> NODE_CHUNK_BITS],
                   MIN(NODE_CHUNK, h->top - at));
    *out = c;
    return OK;
}

void hnsw_become(hnsw *h, hnsw *next) {
    hnsw old = *h;
    hnsw_scratch *scratch = next->scratch;
    hnsw_draft *draft = next->draft;
    *h = *next;
    h->scratch = old.scratch; /* these may be in use by the caller */
    h->draft = old.draft;
    *next = old;
    next->scratch = scratch;
    next->draft = draft;
    hnsw_free(next);
}

/* ---- docs ---- */

void hnsw_doc_attach(hnsw *h, uint32_t doc, uint32_t id) {
    uint32_t *first = node_doc(h, id), old = *first == NONE ? NONE : doc_at(*first);
    h->doc_next[doc] = old;
    h->doc_prev[doc] = NONE;
    if (old != NONE) h->doc_prev[old] = doc;
    *first = old == NONE ? doc : doc | MORE_DOCS;
    h->doc_node[doc] = id;
    h->docs++;
}

void hnsw_doc_detach(hnsw *h, uint32_t doc) {
    uint32_t *first = node_doc(h, h->doc_node[doc]);
    uint32_t next = h->doc_next[doc], prev = h->doc_prev[doc];
    if (next != NONE) h->doc_prev[next] = prev;
    if (prev != NONE)
        h->doc_next[prev] = next;
    else
        *first = next;
    if (*first != NONE) {
        *first = doc_at(*first);
        if (h->doc_next[*first] != NONE) *first |= MORE_DOCS;
    }
    h->doc_node[doc] = h->doc_next[doc] = h->doc_prev[doc] = NONE;
    h->docs--;
}

void hnsw_docs_chain(hnsw *h) {
    for (size_t doc = 0; doc < h->doc_cap; doc++)
        if (h->doc_next[doc] != NONE) h->doc_prev[h->doc_next[doc]] = (uint32_t)doc;
}

err hnsw_delete(hnsw *h, uint32_t doc) {
    if (!hnsw_has(h, doc)) return err_set(ERR_NOT_FOUND, "index: doc %u is not there", doc);
    uint32_t id = h->doc_node[doc];
    hnsw_doc_detach(h, doc);
    h->version++;
    if (*node_doc(h, id) == NONE) hnsw_node_delete(h, id);
    return OK;
}

bool hnsw_has(const hnsw *h, uint32_t doc) {
    return doc < h->doc_cap && h->doc_node[doc] != NONE;
}

size_t hnsw_count(const hnsw *h) {
    return h->docs;
}

uint32_t hnsw_dim(const hnsw *h) {
    return h->o.dim;
}

err hnsw_get(const hnsw *h, uint32_t doc, float *out) {
    if (!hnsw_has(h, doc)) return err_set(ERR_NOT_FOUND, "index: doc %u is not there", doc);
    vec_f32_from_f16(out, node_vector(h, h->doc_node[doc]), h->o.dim);
    return OK;
}

hnsw_stats hnsw_stats_get(const hnsw *h) {
    hnsw_stats s = {.docs = h->docs, .nodes = h->live};
    size_t slots = h->chunk_count << NODE_CHUNK_BITS;
    s.bytes_vectors = slots * h->vector_stride * sizeof(f16);
    s.bytes_codes = slots * h->code_stride;
    s.bytes_links = slots * (h->link_stride * sizeof(uint32_t) + sizeof(node_cold));
    s.bytes_other = slots * sizeof(uint32_t) + h->doc_cap * 12 + h->table_size * 4 +
                    codes_model_bytes(h->model) + sizeof *h;
    s.bytes = s.bytes_vectors + s.bytes_codes + s.bytes_links + s.bytes_other;
    return s;
}

size_t hnsw_links(const hnsw *h) {
    size_t links = 0;
    for (uint32_t id = 0; id < h->top; id++) links += *node_links(h, id);
    return links;
}
