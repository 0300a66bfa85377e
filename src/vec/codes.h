/* Codes: a vector as 4 bits a dimension, small enough that a graph walk touches one or two cache
 * lines a neighbour.
 *
 *     codes_model *m;
 *     TRY(codes_model_train(samples, 4096, 384, seed, &m));   // samples: unit f32 rows, overwritten
 *     codes_encode(m, unit, record, tmp);                     // codes_stride(384) = 128 bytes
 *     codes_query q;
 *     codes_query_set(m, unit_query, &q, tmp);
 *     codes_score(&q, &record, 1, &cosine);                   // an estimate
 *
 * The model centres vectors, projects them on the subspace that holds most of their variance (when
 * they have more dimensions than a record has room) and rotates them at random inside it, so that all
 * dimensions of a code carry about equal weight. A record holds, for H = stride - 4: byte i the
 * dimensions i (low nibble) and H + i (high nibble), then two half floats, factor and bias:
 *     cosine(q, x) ~ base_q + bias_x + factor_x * sum_i q_i * (code_i - 7.5)
 * where base_q = <q, mean>, bias_x = <mean, x - mean>, and factor_x makes the estimate unbiased
 * (RaBitQ, Gao and Long 2024). The query's own dimensions are int8.
 *
 * Scores have the same bits on every tier. A model is immutable: any thread may use it.
 */
#ifndef KITH_VEC_CODES_H
#define KITH_VEC_CODES_H

#include "vec/distance.h"

#define CODES_STRIDE_MAX 128u
#define CODES_DIMS_MAX   (2u * (CODES_STRIDE_MAX - 4u))
#define CODES_DIM_MAX    4096u /* of the vectors */

typedef struct codes_model codes_model;

typedef struct codes_query {
    int8_t low[CODES_STRIDE_MAX];  /* for the low nibbles; zero from H on */
    int8_t high[CODES_STRIDE_MAX]; /* for the high nibbles */
    float scale;                   /* of low and high */
    float offset;                  /* -7.5 * scale * their sum */
    float base;                    /* added to every score */
    uint32_t stride;
} codes_query;

/* Bytes of a record for vectors of `dim` dimensions: 64 or 128. */
uint32_t codes_stride(uint32_t dim);

/* Trains on n unit vectors (a row-major array, overwritten). ERR_NO_MEMORY. */
MUST_USE err codes_model_train(float *samples, size_t n, uint32_t dim, uint64_t seed,
                               codes_model **out);
void codes_model_free(codes_model *m); /* NULL is fine */
size_t codes_model_bytes(const codes_model *m);

/* tmp: CODES_TMP(dim) floats of scratch. */
#define CODES_TMP(dim) ((size_t)(dim) + 2 * CODES_DIMS_MAX + 64 + (dim) / 2)
void codes_encode(const codes_model *m, const float *unit, uint8_t *record, float *tmp);
void codes_query_set(const codes_model *m, const float *unit, codes_query *q, float *tmp);
/* A query that stands for the vector of a record: for comparing records with each other. */
void codes_query_from_record(const codes_model *m, const uint8_t *record, codes_query *q);

static inline void codes_score(const codes_query *q, const uint8_t *const *records, size_t n,
                               float *out) {
    vec_best->codes_score(q, records, n, out);
}

/* Snapshot of a model; loading refuses bytes that are not finite or out of range. */
MUST_USE err codes_model_save(const codes_model *m, const writer *w);
MUST_USE err codes_model_load(reader *r, uint32_t dim, codes_model **out);

#endif
