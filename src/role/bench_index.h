/* bench_index: what `kith bench index` measures: recall and speed of the graph on fvecs files.
 *
 *     strbuf out;
 *     strbuf_init(&out, MIB);
 *     TRY(bench_index_run("b.fvecs", "q.fvecs", NULL, 1, true, &out));
 *
 * Files: fvecs rows are a u32 dimension and that many floats, ivecs the same with u32, little-endian.
 * Vectors are compared by cosine. truth NULL: computed exactly, which takes base x queries products.
 * JSON: an array with a row a setting of ef: ef, recall@10, qps, and in each row build_s (processor
 * time of the inserts, one thread) and bytes_per_vector. qps: queries by processor time with one
 * thread, by wall time with more; the best of three passes.
 * Errors: ERR_NOT_FOUND, ERR_INVALID (a file that is not of this form, dimensions that differ, a base
 * row that is no vector), ERR_NO_MEMORY.
 */
#ifndef KITH_ROLE_BENCH_INDEX_H
#define KITH_ROLE_BENCH_INDEX_H

#include "base/base.h"

#define BENCH_INDEX_FILE_MAX    (16 * GIB)
#define BENCH_INDEX_THREADS_MAX 256

MUST_USE err bench_index_run(const char *base, const char *queries, const char *truth,
                             unsigned threads, bool json, strbuf *out);

#endif
