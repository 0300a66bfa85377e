/* bench_embed: what `kith bench embed` measures.
 *
 *     strbuf out;
 *     strbuf_init(&out, 4 * KIB);
 *     TRY(bench_embed_run(model, file_text, 32, &out));   // {"tokens_per_s": …, "p50_ms": …, …}
 *
 * Every line of `lines` is a text. They are encoded in their order on the calling thread, `batch`
 * at a time, with tokenizing; one batch runs before the clock starts. tokens_per_s counts processor
 * time of the thread, so that neighbours on a shared machine do not slow it down; p50_ms and p99_ms
 * are wall times of whole batches. Errors: ERR_INVALID when there is no text or batch is out of
 * range.
 */
#ifndef KITH_ROLE_BENCH_EMBED_H
#define KITH_ROLE_BENCH_EMBED_H

#include "encode/encode.h"

#define BENCH_EMBED_BATCH_MAX 65536
#define BENCH_EMBED_TEXTS_MAX 16777216

/* Appends one JSON object: texts, tokens, batch, precision, kernels, tokens_per_s, p50_ms, p99_ms.
 * */
MUST_USE err bench_embed_run(const encode_model *m, str lines, size_t batch, strbuf *out);

#endif
