/* The single precision and bfloat16 tiles of gemm.c in vectors, over the words of simd_avx2.h and
 * its like, included before. The including file defines TILE_ROWS, the height of a full tile, and
 * TILE_VECTORS, its width: the sums fill the registers but for the operands (AVX2: 6 x 2 of 16;
 * AVX-512: 12 x 2 of 32; NEON: 6 x 4 of 32).
 *
 * A tile is written once with its height as a constant parameter and inlined for every height, so
 * that the compiler keeps all sums in registers. */
#ifndef KITH_VEC_GEMM_SIMD_H
#define KITH_VEC_GEMM_SIMD_H

#include "vec/gemm_int.h"
#include "vec/simd_math.h"
#include "vec/unroll.h"

/* Finishes a row's sums before the next row's load through p. Left alone, gcc computes all products
 * first and spills the sums that they are added to: half the speed. */
#define ROW_DONE(sum0, sum1, p) __asm__ volatile("" : V_ASM(sum0), V_ASM(sum1), "+r"(p))

/* Calls body(t, height, vectors) with a constant height. */
#define TILE_CASE(body, h, vectors) \
    case h:                         \
        body(t, h, vectors);        \
        break;
#define TILE_CASES_2(body, vectors) \
    TILE_CASE(body, 1, vectors)     \
    TILE_CASE(body, 2, vectors)
#define TILE_CASES_6(body, vectors) \
    TILE_CASES_2(body, vectors)     \
    TILE_CASE(body, 3, vectors)     \
    TILE_CASE(body, 4, vectors)     \
    TILE_CASE(body, 5, vectors)     \
    TILE_CASE(body, 6, vectors)
#define TILE_CASES_8(body, vectors) \
    TILE_CASES_6(body, vectors)     \
    TILE_CASE(body, 7, vectors)     \
    TILE_CASE(body, 8, vectors)
#define TILE_CASES_12(body, vectors) \
    TILE_CASES_8(body, vectors)      \
    TILE_CASE(body, 9, vectors)      \
    TILE_CASE(body, 10, vectors)     \
    TILE_CASE(body, 11, vectors)     \
    TILE_CASE(body, 12, vectors)

typedef struct tile_sums {
    V v[TILE_ROWS][TILE_VECTORS];
} tile_sums;

/* Bias, activation, store. */
V_INLINE void tile_finish(const gemm_tile *t, tile_sums *s, const size_t rows,
                          const size_t vectors) {
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++) {
            V y = s->v[i][j];
            if (t->bias) y = V_ADD(y, V_LOAD(t->bias + j * V_LANES));
            V_STORE(t->c + i * t->ldc + j * V_LANES, y);
        }
    }
    if (t->act != GEMM_GELU) return;
    for (size_t i = 0; i < rows; i++) {
        float *c = t->c + i * t->ldc;
        UNROLLED for (size_t j = 0; j < vectors; j++)
            V_STORE(c + j * V_LANES, v_gelu(V_LOAD(c + j * V_LANES)));
    }
}

V_INLINE void tile_start(const gemm_tile *t, tile_sums *s, const size_t rows,
                         const size_t vectors) {
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++) s->v[i][j] =
            t->add ? V_LOAD(t->c + i * t->ldc + j * V_LANES) : V_ZERO();
    }
}

V_INLINE void tile_f32_rows(const gemm_tile *t, const size_t rows, const size_t vectors) {
    tile_sums s;
    tile_start(t, &s, rows, vectors);
    const float *a = t->a, *b = t->b;
    for (size_t p = 0; p < t->k; p++, b += t->ldb, a++) {
        V w[TILE_VECTORS];
        UNROLLED for (size_t j = 0; j < vectors; j++) w[j] = V_LOAD(b + j * V_LANES);
        UNROLLED for (size_t i = 0; i < rows; i++) {
            V x = V_SET1(a[i * t->lda]);
            UNROLLED for (size_t j = 0; j < vectors; j++) s.v[i][j] = V_FMA(x, w[j], s.v[i][j]);
        }
    }
    tile_finish(t, &s, rows, vectors);
}

/* Weights are bfloat16; activations are floats already rounded to it. */
V_INLINE void tile_bf16_rows(const gemm_tile *t, const size_t rows, const size_t vectors) {
    tile_sums s;
    tile_start(t, &s, rows, vectors);
    const float *a = t->a;
    const uint16_t *b = t->b;
    for (size_t p = 0; p < t->k; p++, b += t->ldb, a++) {
        V w[TILE_VECTORS];
        UNROLLED for (size_t j = 0; j < vectors; j++) w[j] = V_OF_BF16(b + j * V_LANES);
        UNROLLED for (size_t i = 0; i < rows; i++) {
            V x = V_SET1(a[i * t->lda]);
            UNROLLED for (size_t j = 0; j < vectors; j++) s.v[i][j] = V_FMA(x, w[j], s.v[i][j]);
        }
    }
    tile_finish(t, &s, rows, vectors);
}

/* Scales integer sums, adds the bias, applies the activation, stores one vector of one row. */
V_INLINE void tile_scale_store(const gemm_tile *t, size_t row, size_t vector, V sum) {
    size_t at = vector * V_LANES;
    gemm_range r = t->rows_range[row];
    V y = V_ADD(V_MUL(sum, V_SET1(r.scale)), V_MUL(V_SET1(r.low), V_LOAD(t->col_sum + at)));
    y = V_ADD(V_MUL(y, V_LOAD(t->col_scale + at)), V_LOAD(t->bias + at));
    if (t->act == GEMM_GELU) y = v_gelu(y);
    V_STORE(t->c + row * t->ldc + at, y);
}

/* The range of k floats; returns what (x - low) is multiplied with. */
V_TARGET static inline float simd_range(const float *x, size_t k, gemm_range *range) {
    size_t whole = k / V_LANES * V_LANES;
    float low = x[0], high = x[0];
    if (whole) {
        V lows = V_LOAD(x), highs = lows;
        for (size_t i = V_LANES; i < whole; i += V_LANES) {
            lows = V_MIN(lows, V_LOAD(x + i));
            highs = V_MAX(highs, V_LOAD(x + i));
        }
        low = -v_top(V_SUB(V_ZERO(), lows));
        high = v_top(highs);
    }
    for (size_t i = whole; i < k; i++) {
        low = MIN(low, x[i]);
        high = MAX(high, x[i]);
    }
    return gemm_range_make(low, high, range);
}

#endif
