/* hnsw_file: snapshots.
 *
 * Layout, little-endian, no padding between parts:
 *     0    8  magic "KITHANN" and the version, 1
 *     8    4  dim            12  4  degree         16  4  ef_build       20  4  ef_default
 *    24    8  seed           32  4  max_docs       36  4  top            40  4  live
 *    44    4  docs           48  4  doc slots      52  4  root           56  4  free_head
 *    60    4  entries        64  4  train_at       68  4  1 when there is a model
 *    72   32  random state  104  8  version counter
 *   112       the model (vec/codes.h), when there is one
 *             entries u32[], doc_node u32[], doc_next u32[]
 *             for each chunk of 16,384 slots: first docs u32[], cold records, links, codes, vectors
 * The table of equal vectors is not stored: it is made anew, which checks its hashes on the way.
 *
 * Loading trusts nothing: the size that the header implies is compared with the size there is before
 * anything is allocated, numbers must be finite, and hnsw_check_quick then checks every id and
 * every list. What passes may be a strange graph, but not one that a later call can trip over.
 */
#include "index/hnsw_int.h"

#define HEADER_SIZE 112u
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "arrays are stored as they lie in memory");

static const uint8_t MAGIC[8] = {'K', 'I', 'T', 'H', 'A', 'N', 'N', 1};

typedef struct header {
    hnsw_options o;
    uint32_t top, live, docs, doc_slots, root, free_head, entries, train_at;
    bool model;
    rng random;
    uint64_t version;
} header;

/* ---- save ---- */

static size_t doc_slots_used(const hnsw *h) {
    size_t n = h->doc_cap;
    while (n > 0 && h->doc_node[n - 1] == NONE) n--;
    return n;
}

static err save_header(const hnsw *h, const writer *w) {
    uint8_t b[HEADER_SIZE] = {0};
    const uint32_t words[] = {h->o.dim,
                              h->o.degree,
                              h->o.ef_build,
                              h->o.ef_default,
                              (uint32_t)h->o.seed,
                              (uint32_t)(h->o.seed >> 32),
                              h->o.max_docs,
                              h->top,
                              h->live,
                              (uint32_t)h->docs,
                              (uint32_t)doc_slots_used(h),
                              h->root,
                              h->free_head,
                              h->entry_count,
                              h->train_at,
                              h->model != NULL};
    memcpy(b, MAGIC, sizeof MAGIC);
    for (size_t i = 0; i < COUNT_OF(words); i++) le32_put(b + 8 + 4 * i, words[i]);
    for (size_t i = 0; i < 4; i++) le64_put(b + 72 + 8 * i, h->random.s[i]);
    le64_put(b + 104, h->version);
    return writer_put(w, b, sizeof b);
}

err hnsw_save(const hnsw *h, const writer *w) {
    size_t docs = doc_slots_used(h);
    TRY(save_header(h, w));
    if (h->model) TRY(codes_model_save(h->model, w));
    TRY(writer_put(w, h->entries, h->entry_count * sizeof(uint32_t)));
    TRY(writer_put(w, h->doc_node, docs * sizeof(uint32_t)));
    TRY(writer_put(w, h->doc_next, docs * sizeof(uint32_t)));
    for (uint32_t at = 0; at < h->top; at += NODE_CHUNK) {
        const node_chunk *c = chunk_of(h, at);
        size_t n = MIN(NODE_CHUNK, h->top - at);
        TRY(writer_put(w, c->doc, n * sizeof(uint32_t)));
        TRY(writer_put(w, c->cold, n * sizeof(node_cold)));
        TRY(writer_put(w, c->links, n * h->link_stride * sizeof(uint32_t)));
        TRY(writer_put(w, c->codes, n * h->code_stride));
        TRY(writer_put(w, c->vectors, n * h->vector_stride * sizeof(f16)));
    }
    return OK;
}

/* ---- load ---- */

static err read_header(reader *r, header *out) {
    const uint8_t *magic = reader_bytes(r, sizeof MAGIC);
    if (!magic || memcmp(magic, MAGIC, sizeof MAGIC - 1) != 0)
        return err_set(ERR_CORRUPT, "index snapshot: wrong magic");
    if (magic[7] != MAGIC[7])
        return err_set(ERR_UNSUPPORTED, "index snapshot: version %u, expected 1", magic[7]);
    out->o.dim = reader_u32(r);
    out->o.degree = reader_u32(r);
    out->o.ef_build = reader_u32(r);
    out->o.ef_default = reader_u32(r);
    out->o.seed = reader_u64(r);
    out->o.max_docs = reader_u32(r);
    out->top = reader_u32(r);
    out->live = reader_u32(r);
    out->docs = reader_u32(r);
    out->doc_slots = reader_u32(r);
    out->root = reader_u32(r);
    out->free_head = reader_u32(r);
    out->entries = reader_u32(r);
    out->train_at = reader_u32(r);
    uint32_t model = reader_u32(r);
    out->model = model == 1;
    for (int i = 0; i < 4; i++) out->random.s[i] = reader_u64(r);
    out->version = reader_u64(r);
    bool bad = r->failed || model > 1 || out->live > out->top || out->entries > ENTRY_MAX ||
               out->top > HNSW_DOCS_MAX || out->doc_slots > out->o.max_docs ||
               out->docs > out->doc_slots || !out->o.degree || !out->o.ef_build ||
               !out->o.ef_default || !out->o.max_docs ||
               !(out->random.s[0] | out->random.s[1] | out->random.s[2] | out->random.s[3]);
    return bad ? err_set(ERR_CORRUPT, "index snapshot: impossible header") : OK;
}

/* Bytes that follow the model. */
static uint64_t body_size(const hnsw *h, const header *a) {
    uint64_t node = sizeof(uint32_t) + sizeof(node_cold) + h->link_stride * sizeof(uint32_t) +
                    h->code_stride + h->vector_stride * sizeof(f16);
    return (uint64_t)a->entries * 4 + (uint64_t)a->doc_slots * 8 + a->top * node;
}

static err corrupt(const char *what) {
    return err_set(ERR_CORRUPT, "index snapshot: %s", what);
}

static err load_arrays(hnsw *h, const header *a, reader *r) {
    if (a->doc_slots) TRY(hnsw_docs_reserve(h, a->doc_slots - 1));
    while (h->chunk_count << NODE_CHUNK_BITS < a->top) TRY(hnsw_chunk_add(h));
    memcpy(h->entries, reader_array(r, a->entries, 4), a->entries * sizeof(uint32_t));
    if (a->doc_slots) {
        memcpy(h->doc_node, reader_array(r, a->doc_slots, 4), a->doc_slots * sizeof(uint32_t));
        memcpy(h->doc_next, reader_array(r, a->doc_slots, 4), a->doc_slots * sizeof(uint32_t));
    }
    for (uint32_t at = 0; at < a->top; at += NODE_CHUNK) {
        const node_chunk *c = &h->chunks[at >> NODE_CHUNK_BITS];
        size_t n = MIN(NODE_CHUNK, a->top - at), links = h->link_stride * sizeof(uint32_t);
        size_t vector = h->vector_stride * sizeof(f16);
        memcpy(c->doc, reader_array(r, n, 4), n * 4);
        memcpy(c->cold, reader_array(r, n, sizeof(node_cold)), n * sizeof(node_cold));
        memcpy(c->links, reader_array(r, n, links), n * links);
        memcpy(c->codes, reader_array(r, n, h->code_stride), n * h->code_stride);
        memcpy(c->vectors, reader_array(r, n, vector), n * vector);
    }
    return r->failed || r->left ? corrupt("its size") : OK;
}

/* Numbers of every live node: unit vectors with zero padding, finite factors. */
static err check_numbers(const hnsw *h, float *row) {
    for (uint32_t id = 0; id < h->top; id++) {
        if (!node_live(h, id)) continue;
        vec_f32_from_f16(row, node_vector(h, id), h->vector_stride);
        float norm2 = vec_dot_f32(row, row, h->vector_stride);
        if (!(norm2 > 0.98f && norm2 < 1.02f))
            return corrupt("a vector that is not of unit length");
        const uint8_t *tail = node_code(h, id) + h->code_stride - 4;
        for (int i = 0; i < 4; i += 2)
            if ((le16_get(tail + i) & 0x7c00u) == 0x7c00u)
                return corrupt("a code that is no number");
    }
    return OK;
}

/* The arrays are checked: the table of vectors, the way back through docs, the entries' codes. */
static err load_derived(hnsw *h) {
    hnsw_docs_chain(h);
    TRY(hnsw_table_reserve(h, h->live));
    for (uint32_t id = 0; id < h->top; id++)
        if (node_live(h, id)) hnsw_table_add(h, id);
    return OK;
}

/* What would be our bug elsewhere is the file's here. */
static err as_corrupt(err rc) {
    return rc == ERR_INTERNAL ? corrupt(err_detail()) : rc;
}

static err load_into(hnsw *h, const header *a, reader *r) {
    if (a->model) TRY(codes_model_load(r, h->o.dim, &h->model));
    if (body_size(h, a) != r->left) return corrupt("its size does not fit its header");
    TRY(load_arrays(h, a, r));
    h->top = a->top;
    h->live = a->live;
    h->docs = a->docs;
    h->root = a->root;
    h->free_head = a->free_head;
    h->entry_count = a->entries;
    h->train_at = a->train_at;
    h->random = a->random;
    h->version = a->version;
    for (uint32_t i = 0; i < h->entry_count; i++) {
        if (!node_live(h, h->entries[i])) return corrupt("an entry");
        hnsw_entry_set(h, i, h->entries[i]);
    }
    float *row = mem_alloc((size_t)h->vector_stride * sizeof *row);
    if (!row) return ERR_NO_MEMORY;
    err rc = check_numbers(h, row);
    mem_free(row);
    if (rc == OK) rc = as_corrupt(hnsw_check_quick(h));
    return rc == OK ? load_derived(h) : rc;
}

err hnsw_load(const void *bytes, size_t size, const hnsw_options *o, hnsw **out) {
    reader r = reader_of(bytes, size);
    header a;
    TRY(read_header(&r, &a));
    if (o && o->dim && o->dim != a.o.dim)
        return err_set(ERR_INVALID, "index snapshot: %u dimensions, expected %u", a.o.dim, o->dim);
    if (o && o->ef_default) a.o.ef_default = o->ef_default;
    if (o && o->max_docs) a.o.max_docs = MAX(o->max_docs, a.doc_slots);
    hnsw *h;
    err rc = hnsw_new(&a.o, &h);
    if (rc == ERR_INVALID) return corrupt("options out of range");
    TRY(rc);
    rc = load_into(h, &a, &r);
    if (rc != OK) {
        hnsw_free(h);
        return rc;
    }
    *out = h;
    return OK;
}
