/* Matrix tiles for 64-bit Arm.
 *
 * Single precision and bfloat16 weights: gemm_simd.h's tiles, 6 rows of four vectors: 24 of 32 registers
 * hold sums. Integers, plain: activations are widened to int16 as they are prepared and weights as they
 * are loaded, then smlal. Integers with Armv8.2's dot products: sdot multiplies four int8 by four and adds
 * them into int32. Activations are 0 to 255 and sdot is signed, so they are kept as q - 128, and 128
 * times the column's sum of weights is added at the end: all of it exact, so that results have the scalar
 * kernel's bits.
 *
 * gemm_test.c compares everything with the scalar kernels, under an emulator (tests/portable).
 */
#if defined(__aarch64__)
#include "vec/simd_neon.h"

#define TILE_ROWS    6
#define TILE_VECTORS 4
#include "vec/gemm_simd.h"

#define DOT        __attribute__((target("arch=armv8.2-a+dotprod")))
#define DOT_INLINE static inline __attribute__((always_inline)) DOT

static void neon_f32(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_6(tile_f32_rows, 4) }
}

static void neon_bf16(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_6(tile_bf16_rows, 4) }
}

V_INLINE void tile_i8_rows(const gemm_tile *t, const size_t rows, const size_t vectors) {
    int32x4_t s[TILE_ROWS][TILE_VECTORS];
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++) s[i][j] = vdupq_n_s32(0);
    }
    const int16_t *a = t->a;
    const int8_t *b = t->b;
    for (size_t p = 0; p < t->k; p++, b += t->ldb, a++) {
        int8x16_t w = vld1q_s8(b);
        int16x8_t low = vmovl_s8(vget_low_s8(w)), high = vmovl_high_s8(w);
        UNROLLED for (size_t i = 0; i < rows; i++) {
            int16x8_t x = vdupq_n_s16(a[i * t->lda]);
            s[i][0] = vmlal_s16(s[i][0], vget_low_s16(low), vget_low_s16(x));
            s[i][1] = vmlal_high_s16(s[i][1], low, x);
            s[i][2] = vmlal_s16(s[i][2], vget_low_s16(high), vget_low_s16(x));
            s[i][3] = vmlal_high_s16(s[i][3], high, x);
        }
    }
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++)
            tile_scale_store(t, i, j, vcvtq_f32_s32(s[i][j]));
    }
}

static void neon_i8(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_6(tile_i8_rows, 4) }
}

V_INLINE int32_t four_at(const int8_t *a) {
    int32_t four;
    memcpy(&four, a, sizeof four);
    return four;
}

DOT_INLINE void tile_dot_rows(const gemm_tile *t, const size_t rows, const size_t vectors) {
    int32x4_t s[TILE_ROWS][TILE_VECTORS];
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++) s[i][j] = vdupq_n_s32(0);
    }
    const int8_t *a = t->a, *b = t->b;
    for (size_t p = 0; p < t->k; p += 4, b += t->ldb, a += 4) {
        int8x16_t w[TILE_VECTORS];
        UNROLLED for (size_t j = 0; j < vectors; j++) w[j] = vld1q_s8(b + j * 16);
        UNROLLED for (size_t i = 0; i < rows; i++) {
            int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four_at(a + i * t->lda)));
            UNROLLED for (size_t j = 0; j < vectors; j++) s[i][j] = vdotq_s32(s[i][j], w[j], x);
        }
    }
    UNROLLED for (size_t j = 0; j < vectors; j++) {
        int32x4_t sums = vcvtq_s32_f32(vld1q_f32(t->col_sum + 4 * j)); /* whole numbers: exact */
        sums = vshlq_n_s32(sums, 7);
        UNROLLED for (size_t i = 0; i < rows; i++)
            tile_scale_store(t, i, j, vcvtq_f32_s32(vaddq_s32(s[i][j], sums)));
    }
}

DOT static void neon_dot_i8(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_6(tile_dot_rows, 4) }
}

static void neon_prepare_i8(const float *x, size_t k, size_t k_padded, void *out,
                            gemm_range *range) {
    int16_t *o = out;
    float inverse = simd_range(x, k, range);
    V lows = V_SET1(range->low);
    size_t i = 0;
    for (; i + 4 <= k; i += 4) {
        V q = vmulq_n_f32(V_SUB(V_LOAD(x + i), lows), inverse);
        vst1_s16(o + i, vmovn_s32(vcvtnq_s32_f32(q)));
    }
    for (; i < k; i++) o[i] = (int16_t)vcvtns_s32_f32((x[i] - range->low) * inverse);
    for (; i < k_padded; i++) o[i] = 0;
}

static void neon_prepare_dot(const float *x, size_t k, size_t k_padded, void *out,
                             gemm_range *range) {
    int8_t *o = out;
    float inverse = simd_range(x, k, range);
    V lows = V_SET1(range->low);
    size_t i = 0;
    for (; i + 8 <= k; i += 8) {
        V q0 = vmulq_n_f32(V_SUB(V_LOAD(x + i), lows), inverse);
        V q1 = vmulq_n_f32(V_SUB(V_LOAD(x + i + 4), lows), inverse);
        int16x4_t h0 = vmovn_s32(vcvtnq_s32_f32(q0)), h1 = vmovn_s32(vcvtnq_s32_f32(q1));
        vst1_s8(o + i, vmovn_s16(vsubq_s16(vcombine_s16(h0, h1), vdupq_n_s16(128))));
    }
    for (; i < k; i++) o[i] = (int8_t)(vcvtns_s32_f32((x[i] - range->low) * inverse) - 128);
    for (; i < k_padded; i++) o[i] = 0;
}

#define KERNEL_F32 \
    { 6, 1, 384, sizeof(float), 0, false, neon_f32, NULL }
#define KERNEL_BF16 \
    { 6, 1, 512, 2, sizeof(float), false, neon_bf16, gemm_prepare_bf16 }
#define KERNEL_I8 \
    { 6, 1, GEMM_DIM_MAX, 1, 2, false, neon_i8, neon_prepare_i8 }
#define KERNEL_DOT \
    { 6, 4, GEMM_DIM_MAX, 1, 1, false, neon_dot_i8, neon_prepare_dot }

const gemm_table gemm_table_neon = {"neon", 16, {KERNEL_F32, KERNEL_BF16, KERNEL_I8}, 6, neon_f32};
const gemm_table gemm_table_neon_dot = {
    "neon-dot", 16, {KERNEL_F32, KERNEL_BF16, KERNEL_DOT}, 6, neon_f32};
#else
typedef int gemm_neon_is_empty; /* a translation unit must not be empty */
#endif
