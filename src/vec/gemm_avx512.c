/* Matrix tiles for processors with AVX-512, and its int8 (VNNI) and bfloat16 dot products.
 *
 * Single precision: 12 x 32, 24 sums of 32 registers. Integers and bfloat16: 8 x 32, as gcc 12
 * spills a 12 x 32 tile of dot products and halves its speed, and 16 sums already cover the
 * latency.
 *
 * vpdpbusd multiplies unsigned by signed bytes, which is what activations in [0, 255] and weights
 * are. Without VNNI the bytes are widened to pairs of 16 bits, as for AVX2.
 *
 * vdpbf16ps rounds differently from fused multiply-adds (it flushes denormals and adds two products
 * before the sum): within the tolerance of gemm_test.c, not bit for bit.
 */
#if defined(__x86_64__)
#include "vec/simd_avx512.h"

#define TILE_ROWS    12
#define TILE_VECTORS 2
#include "vec/gemm_simd.h"

#define VNNI_TARGET \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")))
#define BF16_TARGET \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")))
#define ALWAYS static inline __attribute__((always_inline))

V_TARGET static void avx512_f32(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_12(tile_f32_rows, 2) }
}

V_TARGET static void avx512_small(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_12(tile_f32_rows, 1) }
}

V_TARGET static void avx512_bf16(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_12(tile_bf16_rows, 2) }
}

V_INLINE int32_t word_at(const void *a) {
    int32_t word;
    memcpy(&word, a, sizeof word);
    return word;
}

/* ---- int8 by pairs of 16 bits ---- */

V_INLINE void tile_i8_rows(const gemm_tile *t, const size_t rows, const size_t vectors) {
    __m512i s[8][2];
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++) s[i][j] = _mm512_setzero_si512();
    }
    const int16_t *a = t->a;
    const int8_t *b = t->b;
    for (size_t p = 0; p < t->k; p += 2, b += t->ldb, a += 2) {
        __m512i w[2];
        __m512i both = _mm512_loadu_si512(b);
        w[0] = _mm512_srai_epi16(_mm512_slli_epi16(both, 8), 8);
        w[1] = _mm512_srai_epi16(both, 8);
        UNROLLED for (size_t i = 0; i < rows; i++) {
            __m512i x = _mm512_set1_epi32(word_at(a + i * t->lda));
            UNROLLED for (size_t j = 0; j < vectors; j++) s[i][j] =
                _mm512_add_epi32(s[i][j], _mm512_madd_epi16(x, w[j]));
            ROW_DONE(s[i][0], s[i][1], a);
        }
    }
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++)
            tile_scale_store(t, i, j, _mm512_cvtepi32_ps(s[i][j]));
    }
}

V_TARGET static void avx512_i8(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_8(tile_i8_rows, 2) }
}

/* Sixteen activations as int32 in [0, 255], rounded to nearest. */
V_INLINE __m512i quantized(const float *x, V low, V inverse) {
    return _mm512_cvtps_epi32(V_MUL(V_SUB(V_LOAD(x), low), inverse));
}
V_INLINE int quantized_one(float x, float low, float inverse) {
    return _mm_cvtss_si32(_mm_set_ss((x - low) * inverse));
}

V_TARGET static void avx512_prepare_i8(const float *x, size_t k, size_t k_padded, void *out,
                                       gemm_range *range) {
    int16_t *o = out;
    float inverse = simd_range(x, k, range);
    V inverses = V_SET1(inverse), lows = V_SET1(range->low);
    size_t i = 0;
    for (; i + 16 <= k; i += 16)
        _mm256_storeu_si256((__m256i *)(o + i),
                            _mm512_cvtepi32_epi16(quantized(x + i, lows, inverses)));
    for (; i < k; i++) o[i] = (int16_t)quantized_one(x[i], range->low, inverse);
    for (; i < k_padded; i++) o[i] = 0;
}

/* ---- int8 by VNNI ---- */

VNNI_TARGET ALWAYS void tile_vnni_rows(const gemm_tile *t, const size_t rows,
                                       const size_t vectors) {
    __m512i s[8][2];
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++) s[i][j] = _mm512_setzero_si512();
    }
    const uint8_t *a = t->a;
    const int8_t *b = t->b;
    for (size_t p = 0; p < t->k; p += 4, b += t->ldb, a += 4) {
        __m512i w[2];
        UNROLLED for (size_t j = 0; j < vectors; j++) w[j] = _mm512_loadu_si512(b + 64 * j);
        UNROLLED for (size_t i = 0; i < rows; i++) {
            __m512i x = _mm512_set1_epi32(word_at(a + i * t->lda));
            UNROLLED for (size_t j = 0; j < vectors; j++) s[i][j] =
                _mm512_dpbusd_epi32(s[i][j], x, w[j]);
            ROW_DONE(s[i][0], s[i][1], a);
        }
    }
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++)
            tile_scale_store(t, i, j, _mm512_cvtepi32_ps(s[i][j]));
    }
}

VNNI_TARGET static void avx512_vnni(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_8(tile_vnni_rows, 2) }
}

V_TARGET static void avx512_prepare_vnni(const float *x, size_t k, size_t k_padded, void *out,
                                         gemm_range *range) {
    uint8_t *o = out;
    float inverse = simd_range(x, k, range);
    V inverses = V_SET1(inverse), lows = V_SET1(range->low);
    size_t i = 0;
    for (; i + 16 <= k; i += 16)
        _mm_storeu_si128((__m128i *)(o + i),
                         _mm512_cvtepi32_epi8(quantized(x + i, lows, inverses)));
    for (; i < k; i++) o[i] = (uint8_t)quantized_one(x[i], range->low, inverse);
    for (; i < k_padded; i++) o[i] = 0;
}

/* ---- bfloat16 ---- */

/* Sixteen floats rounded to bfloat16, as 32-bit lanes. */
V_INLINE __m512i rounded_bf16(const float *x) {
    __m512i u = _mm512_castps_si512(V_LOAD(x));
    __m512i even = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    u = _mm512_add_epi32(u, _mm512_add_epi32(_mm512_set1_epi32(0x7fff), even));
    return _mm512_srli_epi32(u, 16);
}

/* For widened weights: floats that hold bfloat16 values. */
V_TARGET static void avx512_prepare_wide(const float *x, size_t k, size_t k_padded, void *out,
                                         gemm_range *range) {
    float *o = out;
    size_t i = 0;
    for (; i + 16 <= k; i += 16)
        V_STORE(o + i, _mm512_castsi512_ps(_mm512_slli_epi32(rounded_bf16(x + i), 16)));
    for (; i < k; i++) o[i] = gemm_bf16_to(gemm_bf16_of(x[i]));
    for (; i < k_padded; i++) o[i] = 0;
    *range = (gemm_range){1, 0};
}

V_TARGET static void avx512_prepare_bf16(const float *x, size_t k, size_t k_padded, void *out,
                                         gemm_range *range) {
    uint16_t *o = out;
    size_t i = 0;
    for (; i + 16 <= k; i += 16)
        _mm256_storeu_si256((__m256i *)(o + i), _mm512_cvtepi32_epi16(rounded_bf16(x + i)));
    for (; i < k; i++) o[i] = gemm_bf16_of(x[i]);
    for (; i < k_padded; i++) o[i] = 0;
    *range = (gemm_range){1, 0};
}

BF16_TARGET ALWAYS void tile_dot_rows(const gemm_tile *t, const size_t rows, const size_t vectors) {
    tile_sums s;
    tile_start(t, &s, rows, vectors);
    const uint16_t *a = t->a, *b = t->b;
    for (size_t p = 0; p < t->k; p += 2, b += t->ldb, a += 2) {
        __m512bh w[2];
        UNROLLED for (size_t j = 0; j < vectors; j++) w[j] =
            (__m512bh)_mm512_loadu_si512(b + 32 * j);
        UNROLLED for (size_t i = 0; i < rows; i++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32(word_at(a + i * t->lda));
            UNROLLED for (size_t j = 0; j < vectors; j++) s.v[i][j] =
                _mm512_dpbf16_ps(s.v[i][j], x, w[j]);
            ROW_DONE(s.v[i][0], s.v[i][1], a);
        }
    }
    tile_finish(t, &s, rows, vectors);
}

BF16_TARGET static void avx512_dot(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_8(tile_dot_rows, 2) }
}

#define KERNEL_F32 \
    { 12, 1, 384, sizeof(float), 0, false, avx512_f32, NULL }
#define KERNEL_BF16 \
    { 12, 1, 512, 2, sizeof(float), false, avx512_bf16, avx512_prepare_wide }
#define KERNEL_DOT \
    { 8, 2, 512, 2, 2, false, avx512_dot, avx512_prepare_bf16 }
#define KERNEL_I8 \
    { 8, 2, GEMM_DIM_MAX, 1, 2, true, avx512_i8, avx512_prepare_i8 }
#define KERNEL_VNNI \
    { 8, 4, GEMM_DIM_MAX, 1, 1, false, avx512_vnni, avx512_prepare_vnni }

const gemm_table gemm_table_avx512 = {
    "avx512", 32, {KERNEL_F32, KERNEL_BF16, KERNEL_I8}, 12, avx512_small};
const gemm_table gemm_table_avx512_vnni = {
    "avx512-vnni", 32, {KERNEL_F32, KERNEL_BF16, KERNEL_VNNI}, 12, avx512_small};
const gemm_table gemm_table_avx512_full = {
    "avx512-vnni-bf16", 32, {KERNEL_F32, KERNEL_DOT, KERNEL_VNNI}, 12, avx512_small};
#else
typedef int gemm_avx512_is_empty; /* a translation unit must not be empty */
#endif
