/* Distances: the number kernels that the nearest-neighbour index stands on.
 *
 *     float s = vec_dot_f32(a, b, 384);
 *     vec_f16_from_f32(row, a, 384);          // half precision, to nearest even
 *     s = vec_dot_f16(row, b, 384);
 *
 * Every tier gives the same bits: floating sums run in 32 lanes (element i into lane i mod 32, fused
 * multiply-add) and are reduced by halves, 32 to 16 to 8 to 4 to 2 to 1. So a replica on another
 * processor makes the same graph. Pointers need no alignment and any n is fine, but for the
 * matrix kernel. No state, any thread, no errors: arguments are trusted.
 *
 * Callers use the vec_… functions below; tests reach each tier through vec_kernels_tier.
 */
#ifndef KITH_VEC_DISTANCE_H
#define KITH_VEC_DISTANCE_H

#include "base/base.h"

typedef uint16_t f16; /* IEEE 754 binary16 */

struct codes_query; /* codes.h */

typedef struct vec_kernels {
    float (*dot_f32)(const float *a, const float *b, size_t n);
    float (*dot_f16)(const f16 *a, const float *b, size_t n);
    int32_t (*dot_i8)(const int8_t *a, const int8_t *b, size_t n);
    void (*axpy)(float *y, float a, const float *x, size_t n); /* y += a * x */
    void (*f16_from_f32)(f16 *to, const float *from, size_t n);
    void (*f32_from_f16)(float *to, const f16 *from, size_t n);
    /* y[r] = f * scale[r] * <row r of m, x>; m has `rows` rows of `cols` int8, cols a multiple of 32.
     * The caller keeps every partial sum within int32. */
    void (*matvec_i8)(const int8_t *m, size_t rows, size_t cols, const int16_t *x,
                      const float *scale, float f, float *y);
    float (*max_abs)(const float *x, size_t n); /* 0 when n is 0; x has no NaN */
    /* to[i] = x[i] * scale to the nearest, ties to even; the caller keeps it in range. round_i8
     * returns the sum. */
    void (*round_i16)(int16_t *to, const float *x, float scale, size_t n);
    int32_t (*round_i8)(int8_t *to, const float *x, float scale, size_t n);
    /* Indexes i with scores[i] > threshold, rising; at most n. */
    size_t (*above)(const float *scores, size_t n, float threshold, uint16_t *index);
    /* Inserts into scores[0, n), which fall, and ids beside it, behind equal scores; returns the
     * place. Both arrays have room for n + 16. */
    size_t (*insert)(float *scores, uint32_t *ids, size_t n, float score, uint32_t id);
    /* low[i] and high[i] = 2 * nibble - 15 of a record's `stride` bytes (a multiple of 32); returns
     * the sum of all codes. */
    uint32_t (*codes_expand)(const uint8_t *record, size_t stride, int8_t *low, int8_t *high);
    void (*codes_score)(const struct codes_query *q, const uint8_t *const *codes, size_t n,
                        float *out);
} vec_kernels;

enum { VEC_SCALAR, VEC_AVX2, VEC_AVX512, VEC_NEON, VEC_NEON_DOT, VEC_WASM, VEC_TIERS };
/* The kernels of a tier; NULL when this processor (as capped by KITH_CPU) lacks it. */
const vec_kernels *vec_kernels_tier(int tier);

extern const vec_kernels *vec_best; /* the kernel table: chosen before main */

static inline float vec_dot_f32(const float *a, const float *b, size_t n) {
    return vec_best->dot_f32(a, b, n);
}
static inline float vec_dot_f16(const f16 *a, const float *b, size_t n) {
    return vec_best->dot_f16(a, b, n);
}
static inline int32_t vec_dot_i8(const int8_t *a, const int8_t *b, size_t n) {
    return vec_best->dot_i8(a, b, n);
}
static inline void vec_axpy(float *y, float a, const float *x, size_t n) {
    vec_best->axpy(y, a, x, n);
}
static inline void vec_f16_from_f32(f16 *to, const float *from, size_t n) {
    vec_best->f16_from_f32(to, from, n);
}
static inline void vec_f32_from_f16(float *to, const f16 *from, size_t n) {
    vec_best->f32_from_f16(to, from, n);
}
static inline size_t vec_above(const float *scores, size_t n, float threshold, uint16_t *index) {
    return vec_best->above(scores, n, threshold, index);
}

#endif
