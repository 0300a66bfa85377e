/* Matrix tiles for processors with AVX2 and FMA.
 *
 * Single precision: 6 x 16, two loads and six broadcasts for twelve FMAs. Bfloat16 has no
 * instruction here: weights are widened as they are loaded, which halves their memory and costs two
 * shuffles a row of the panel.
 *
 * Integers: products of int8 pairs by vpmaddwd on values widened to 16 bits. The byte form,
 * vpmaddubsw, saturates its 16-bit sums unless one side keeps to 7 bits, and it then needs a second
 * multiply to widen: no fewer multiplier cycles for worse numbers. So activations are kept as
 * int16; weights stay int8 in memory, the panel's two halves interleaved so that three shifts widen
 * both (vpmovsxbw crosses lanes and made the whole kernel no faster than single precision on Zen
 * 3).
 *
 * Everything here is compared with the scalar kernels by gemm_test.c.
 */
#if defined(__x86_64__)
#include "vec/simd_avx2.h"

#define TILE_ROWS    6
#define TILE_VECTORS 2
#include "vec/gemm_simd.h"

V_TARGET static void avx2_f32(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_6(tile_f32_rows, 2) }
}

V_TARGET static void avx2_bf16(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_6(tile_bf16_rows, 2) }
}

V_INLINE int32_t pair_at(const int16_t *a) {
    int32_t pair;
    memcpy(&pair, a, sizeof pair);
    return pair;
}

V_INLINE void tile_i8_rows(const gemm_tile *t, const size_t rows, const size_t vectors) {
    __m256i s[TILE_ROWS][2];
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++) s[i][j] = _mm256_setzero_si256();
    }
    const int16_t *a = t->a;
    const int8_t *b = t->b;
    for (size_t p = 0; p < t->k; p += 2, b += t->ldb, a += 2) {
        __m256i w[2];
        __m256i both = _mm256_loadu_si256((const __m256i *)b);
        w[0] = _mm256_srai_epi16(_mm256_slli_epi16(both, 8), 8);
        w[1] = _mm256_srai_epi16(both, 8);
        UNROLLED for (size_t i = 0; i < rows; i++) {
            __m256i x = _mm256_set1_epi32(pair_at(a + i * t->lda));
            UNROLLED for (size_t j = 0; j < vectors; j++) s[i][j] =
                _mm256_add_epi32(s[i][j], _mm256_madd_epi16(x, w[j]));
            ROW_DONE(s[i][0], s[i][1], a);
        }
    }
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++)
            tile_scale_store(t, i, j, _mm256_cvtepi32_ps(s[i][j]));
    }
}

V_TARGET static void avx2_i8(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_6(tile_i8_rows, 2) }
}

V_TARGET static void avx2_prepare_bf16(const float *x, size_t k, size_t k_padded, void *out,
                                       gemm_range *range) {
    float *o = out;
    size_t i = 0;
    const __m256i half = _mm256_set1_epi32(0x7fff), one = _mm256_set1_epi32(1);
    for (; i + 8 <= k; i += 8) {
        __m256i u = _mm256_castps_si256(_mm256_loadu_ps(x + i));
        __m256i even = _mm256_and_si256(_mm256_srli_epi32(u, 16), one);
        u = _mm256_add_epi32(u, _mm256_add_epi32(half, even));
        u = _mm256_and_si256(u, _mm256_set1_epi32((int32_t)0xffff0000u));
        _mm256_storeu_ps(o + i, _mm256_castsi256_ps(u));
    }
    for (; i < k; i++) o[i] = gemm_bf16_to(gemm_bf16_of(x[i]));
    for (; i < k_padded; i++) o[i] = 0;
    *range = (gemm_range){1, 0};
}

V_TARGET static void avx2_prepare_i8(const float *x, size_t k, size_t k_padded, void *out,
                                     gemm_range *range) {
    int16_t *o = out;
    float inverse = simd_range(x, k, range);
    V inverses = V_SET1(inverse), lows = V_SET1(range->low);
    size_t i = 0;
    for (; i + 16 <= k; i += 16) {
        __m256i lo = _mm256_cvtps_epi32(V_MUL(V_SUB(V_LOAD(x + i), lows), inverses));
        __m256i hi = _mm256_cvtps_epi32(V_MUL(V_SUB(V_LOAD(x + i + 8), lows), inverses));
        __m256i q = _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);
        _mm256_storeu_si256((__m256i *)(o + i), q);
    }
    for (; i < k; i++) o[i] = (int16_t)_mm_cvtss_si32(_mm_set_ss((x[i] - range->low) * inverse));
    for (; i < k_padded; i++) o[i] = 0;
}

const gemm_table gemm_table_avx2 = {
    .name = "avx2",
    .columns = 16,
    .kernel =
        {
            [GEMM_F32] = {6, 1, 384, sizeof(float), 0, false, avx2_f32, NULL},
            [GEMM_BF16] = {6, 1, 512, 2, sizeof(float), false, avx2_bf16, avx2_prepare_bf16},
            [GEMM_I8] = {6, 2, GEMM_DIM_MAX, 1, 2, true, avx2_i8, avx2_prepare_i8},
        },
    .small_rows_max = 6,
    .small = avx2_f32,
};
#else
typedef int gemm_avx2_is_empty; /* a translation unit must not be empty */
#endif
