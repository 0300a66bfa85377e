/* flat: exact nearest neighbours, by scoring everything.
 *
 *     flat_hit hits[10];
 *     size_t n;
 *     TRY(flat_search(&(flat_rows){rows, count, dim}, query, 10, hits, &n));
 *
 * Two forms: over a caller's own array of f32 rows (the oracle of tests and benchmarks), and over
 * the vectors inside an hnsw with its filter (the engine when an exact answer is asked for).
 * No state; any thread.
 */
#ifndef KITH_INDEX_FLAT_H
#define KITH_INDEX_FLAT_H

#include "index/hnsw.h"

typedef struct flat_rows {
    const float *rows; /* count * dim, borrowed */
    size_t count;
    size_t dim;
} flat_rows;

typedef struct flat_hit {
    uint32_t row;
    float score; /* dot product */
} flat_hit;

/* Best k rows by dot product, best first, equal scores by row. out holds k. */
MUST_USE err flat_search(const flat_rows *r, const float *query, size_t k, flat_hit *out,
                         size_t *n);
/* The same over an index: cosine to the stored vectors, exact, q->ef unused. */
MUST_USE err flat_search_index(const hnsw *h, const float *query, const hnsw_query *q,
                               hnsw_hit *out, size_t *n);

#endif
