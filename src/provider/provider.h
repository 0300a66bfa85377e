/* provider: where vectors come from. One interface, `provider`, and for now two makers: local (a
 * sentence-transformers model in this process) and mock (deterministic, for tests and dry runs).
 *
 *     provider *p;
 *     TRY(provider_local_open(fs_real(), "model/all-minilm-l6-v2", "f32", &p));
 *     TRY(provider_embed(p, texts, n, EMBED_DOCUMENT, out, NULL));   // out: n x provider_dim floats
 *
 * A provider may be used from many threads at once. Vectors are finite and of unit length.
 * Errors: ERR_INVALID (a text that this model cannot take), ERR_NO_MEMORY, ERR_CORRUPT and
 * ERR_NOT_FOUND when opening a bad model; the detail names file and tensor.
 */
#ifndef KITH_PROVIDER_H
#define KITH_PROVIDER_H

#include "base/base.h"
#include "os/os.h"

typedef enum embed_task { EMBED_DOCUMENT, EMBED_QUERY, EMBED_SIMILARITY } embed_task;

typedef struct embed_usage {
    uint64_t tokens;
} embed_usage;

typedef struct provider provider;

/* precision: "f32", "bf16" or "int8"; part of the space. */
MUST_USE err provider_local_open(fs *fs, const char *model_dir, const char *precision,
                                 provider **out);
/* Only the model, for benchmarks: close it by encode_model_close. */
struct encode_model;
MUST_USE err provider_model_open(fs *fs, const char *model_dir, const char *precision,
                                 struct encode_model **out);
/* Unit vectors from hashed words and character trigrams: texts that share words are near. */
MUST_USE err provider_mock_open(uint32_t dim, provider **out);
void provider_close(provider *p);

/* "local/all-minilm-l6-v2/f32/384/cosine": two vectors may be compared only when this is equal. */
const char *provider_space(const provider *p);
uint32_t provider_dim(const provider *p);
size_t provider_texts_max(const provider *p); /* the most texts of one call */

MUST_USE err provider_embed(provider *p, const str *texts, size_t n, embed_task task, float *out,
                            embed_usage *usage);
/* One query's vector, from a bounded cache when it was asked for before; *cached may be NULL. */
MUST_USE err provider_embed_query(provider *p, str text, float *out, bool *cached);

#endif
