/* flat: exact search by scoring every row.
 *
 * The oracle must be simple enough to be right by reading: one loop, one dot product, one insertion into
 * a sorted list of k. Ties go to the smaller row or doc, so results are one definite list. Rows are
 * read in order, which is the fastest way memory can be read; at 384 dimensions a core scores about
 * ten million half-precision rows a second while they come from cache and half of that from memory.
 */
#include "index/flat.h"
#include "index/hnsw_int.h"

static bool before(float score_a, uint32_t a, float score_b, uint32_t b) {
    return score_a > score_b || (score_a == score_b && a < b);
}

static void hit_add(flat_hit *out, size_t *n, size_t k, flat_hit hit) {
    if (*n == k && !before(hit.score, hit.row, out[k - 1].score, out[k - 1].row)) return;
    size_t at = *n < k ? (*n)++ : k - 1;
    for (; at > 0 && before(hit.score, hit.row, out[at - 1].score, out[at - 1].row); at--)
        out[at] = out[at - 1];
    out[at] = hit;
}

err flat_search(const flat_rows *r, const float *query, size_t k, flat_hit *out, size_t *n) {
    *n = 0;
    if (k == 0) return err_set(ERR_INVALID, "search: k is 0");
    for (size_t i = 0; i < r->count; i++) {
        float score = vec_dot_f32(r->rows + i * r->dim, query, r->dim);
        hit_add(out, n, k, (flat_hit){(uint32_t)i, score});
    }
    return OK;
}

static void add_docs(const hnsw *h, const hnsw_query *q, uint32_t id, float score, hnsw_hit *out,
                     size_t *n) {
    for (uint32_t at_doc = *node_doc(h, id); at_doc != NONE; at_doc = doc_after(h, at_doc)) {
        uint32_t doc = doc_at(at_doc);
        if (q->filter && (doc >= q->filter_docs || !bits_get(q->filter, doc))) continue;
        hnsw_hit hit = {doc, score};
        if (*n == q->k && !before(score, doc, out[q->k - 1].score, out[q->k - 1].doc)) continue;
        size_t at = *n < q->k ? (*n)++ : q->k - 1;
        for (; at > 0 && before(score, doc, out[at - 1].score, out[at - 1].doc); at--)
            out[at] = out[at - 1];
        out[at] = hit;
    }
}

err flat_search_index(const hnsw *h, const float *query, const hnsw_query *q, hnsw_hit *out,
                      size_t *n) {
    *n = 0;
    TRY(hnsw_query_check(h, q));
    float small[512];
    float *unit = h->o.dim <= COUNT_OF(small) ? small : mem_alloc(h->o.dim * sizeof *unit);
    if (!unit) return ERR_NO_MEMORY;
    err rc = hnsw_unit(h->o.dim, query, unit);
    for (uint32_t id = 0; rc == OK && id < h->top; id++) {
        if (*node_doc(h, id) == NONE) continue;
        add_docs(h, q, id, vec_dot_f16(node_vector(h, id), unit, h->o.dim), out, n);
    }
    if (unit != small) mem_free(unit);
    return rc;
}
