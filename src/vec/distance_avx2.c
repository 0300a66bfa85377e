/* distance_avx2: the kernels for AVX2, FMA and F16C (Haswell, Zen and later).
 *
 * Floating sums, comparisons and widening are distance_simd.h's.
 *
 * Codes: four 32-byte blocks a record at most, so the int16 sums of maddubs cannot overflow: a lane
 * takes 2 * 4 products pairs of at most 2 * 15 * 127 = 3,810, together 30,480. Widening is thus once
 * a record. Four records share one reduction, and their factors one conversion.
 */
#include "vec/codes.h"
#include "vec/distance_int.h"

#if defined(__x86_64__)
#include "vec/simd_avx2.h"

#define lane_fma V_FMA
#define lane_sum v_sum
V_INLINE V lane_load_f16(const f16 *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}
V_INLINE V lane_abs(V v) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}
V_INLINE unsigned lane_above(V a, V b) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
V_INLINE unsigned lane_not_least(V a, V b) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NGE_UQ));
}
#include "vec/distance_simd.h"

V_INLINE int32_t sum_epi32(__m256i v) {
    __m128i a = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
}

V_INLINE __m256i load_i8(const int8_t *p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)p));
}

V_TARGET static int32_t avx2_dot_i8(const int8_t *a, const int8_t *b, size_t n) {
    __m256i s = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        s = _mm256_add_epi32(s, _mm256_madd_epi16(load_i8(a + i), load_i8(b + i)));
    int32_t sum = sum_epi32(s);
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

V_TARGET static void avx2_f16_from_f32(f16 *to, const float *from, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((void *)(to + i), h);
    }
    for (; i < n; i++) to[i] = _cvtss_sh(from[i], _MM_FROUND_TO_NEAREST_INT);
}

/* Sums of four rows, which share the loads of x. */
V_INLINE __m128i matvec_four(const int8_t *m, size_t cols, const int16_t *x) {
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    for (size_t c = 0; c < cols; c += 16) {
        __m256i v = _mm256_loadu_si256((const void *)(x + c));
        s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(load_i8(m + c), v));
        s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(load_i8(m + cols + c), v));
        s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(load_i8(m + 2 * cols + c), v));
        s3 = _mm256_add_epi32(s3, _mm256_madd_epi16(load_i8(m + 3 * cols + c), v));
    }
    __m256i s = _mm256_hadd_epi32(_mm256_hadd_epi32(s0, s1), _mm256_hadd_epi32(s2, s3));
    return _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}

V_TARGET static void avx2_matvec_i8(const int8_t *m, size_t rows, size_t cols, const int16_t *x,
                                    const float *scale, float f, float *y) {
    size_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        __m128 sums = _mm_cvtepi32_ps(matvec_four(m + r * cols, cols, x));
        __m128 factor = _mm_mul_ps(_mm_loadu_ps(scale + r), _mm_set1_ps(f));
        _mm_storeu_ps(y + r, _mm_mul_ps(sums, factor));
    }
    for (; r < rows; r++) {
        __m256i s = _mm256_setzero_si256();
        for (size_t c = 0; c < cols; c += 16) {
            __m256i v = _mm256_loadu_si256((const void *)(x + c));
            s = _mm256_add_epi32(s, _mm256_madd_epi16(load_i8(m + r * cols + c), v));
        }
        y[r] = (float)sum_epi32(s) * (scale[r] * f);
    }
}

V_TARGET static void avx2_round_i16(int16_t *to, const float *x, float scale, size_t n) {
    __m256 f = _mm256_set1_ps(scale);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), f));
        __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        _mm_storeu_si128((void *)(to + i), h);
    }
    for (; i < n; i++) to[i] = (int16_t)_mm_cvtss_si32(_mm_set_ss(x[i] * scale));
}

V_TARGET static int32_t avx2_round_i8(int8_t *to, const float *x, float scale, size_t n) {
    __m256 f = _mm256_set1_ps(scale);
    __m256i sum = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), f));
        sum = _mm256_add_epi32(sum, v);
        __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        _mm_storel_epi64((void *)(to + i), _mm_packs_epi16(h, h));
    }
    int32_t total = sum_epi32(sum);
    for (; i < n; i++) {
        to[i] = (int8_t)_mm_cvtss_si32(_mm_set_ss(x[i] * scale));
        total += to[i];
    }
    return total;
}

V_TARGET static size_t avx2_insert(float *scores, uint32_t *ids, size_t n, float score,
                                   uint32_t id) {
    size_t at = place_of(scores, n, score), end = n;
    while (end >= at + 8) { /* from the end, eight at a time, one place up */
        end -= 8;
        __m256 s = _mm256_loadu_ps(scores + end);
        __m256i d = _mm256_loadu_si256((const void *)(ids + end));
        _mm256_storeu_ps(scores + end + 1, s);
        _mm256_storeu_si256((void *)(ids + end + 1), d);
    }
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i rest = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(end - at)), lane);
    __m256 s = _mm256_loadu_ps(scores + at);
    __m256i d = _mm256_loadu_si256((const void *)(ids + at));
    _mm256_maskstore_ps(scores + at + 1, rest, s);
    _mm256_maskstore_epi32((int *)ids + at + 1, rest, d);
    scores[at] = score;
    ids[at] = id;
    return at;
}

V_TARGET static uint32_t avx2_codes_expand(const uint8_t *record, size_t stride, int8_t *low,
                                           int8_t *high) {
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i sum = _mm256_setzero_si256();
    for (size_t i = 0; i < stride; i += 32) {
        __m256i c = _mm256_loadu_si256((const void *)(record + i));
        __m256i l = _mm256_and_si256(c, nibble);
        __m256i h = _mm256_and_si256(_mm256_srli_epi16(c, 4), nibble);
        __m256i both = _mm256_add_epi8(l, h);
        sum = _mm256_add_epi32(sum, _mm256_sad_epu8(both, _mm256_setzero_si256()));
        _mm256_storeu_si256((void *)(low + i), _mm256_sub_epi8(_mm256_add_epi8(l, l), nibble));
        _mm256_storeu_si256((void *)(high + i), _mm256_sub_epi8(_mm256_add_epi8(h, h), nibble));
    }
    return (uint32_t)sum_epi32(sum);
}

/* Adds the products of 32 code bytes, as sixteen int16. */
V_INLINE __m256i block_sums(const codes_query *q, const uint8_t *code, int at, __m256i sum) {
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i c = _mm256_loadu_si256((const void *)(code + at));
    __m256i low = _mm256_and_si256(c, nibble);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(c, 4), nibble);
    __m256i ql = _mm256_loadu_si256((const void *)(q->low + at));
    __m256i qh = _mm256_loadu_si256((const void *)(q->high + at));
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(low, ql));
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(high, qh));
}

/* Sums of products of one record as eight int32; blocks is stride / 32: 2 or 4. */
V_INLINE __m256i record_sums(const codes_query *q, const uint8_t *code, int blocks) {
    __m256i a = block_sums(q, code, 0, _mm256_setzero_si256());
    a = block_sums(q, code, 32, a);
    if (blocks == 4) {
        __m256i b = block_sums(q, code, 64, _mm256_setzero_si256());
        a = _mm256_add_epi16(a, block_sums(q, code, 96, b));
    }
    return _mm256_madd_epi16(a, _mm256_set1_epi16(1));
}

V_INLINE int load_tail(const uint8_t *code, size_t stride) {
    int v;
    memcpy(&v, code + stride - 4, 4);
    return v;
}

V_INLINE void score_four(const codes_query *q, const uint8_t *const *codes, int blocks,
                         float *out) {
    size_t stride = (size_t)blocks * 32;
    __m256i a =
        _mm256_hadd_epi32(record_sums(q, codes[0], blocks), record_sums(q, codes[1], blocks));
    __m256i b =
        _mm256_hadd_epi32(record_sums(q, codes[2], blocks), record_sums(q, codes[3], blocks));
    __m256i c = _mm256_hadd_epi32(a, b);
    __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1));
    __m128i tails = _mm_setr_epi32(load_tail(codes[0], stride), load_tail(codes[1], stride),
                                   load_tail(codes[2], stride), load_tail(codes[3], stride));
    __m256 both = _mm256_cvtph_ps(tails); /* factor, bias of each record in turn */
    __m128 x = _mm256_castps256_ps128(both), y = _mm256_extractf128_ps(both, 1);
    __m128 factor = _mm_shuffle_ps(x, y, 0x88), bias = _mm_shuffle_ps(x, y, 0xdd);
    __m128 inner = _mm_mul_ps(_mm_cvtepi32_ps(sums), _mm_set1_ps(q->scale));
    inner = _mm_add_ps(inner, _mm_set1_ps(q->offset));
    bias = _mm_add_ps(bias, _mm_set1_ps(q->base));
    _mm_storeu_ps(out, _mm_add_ps(_mm_mul_ps(factor, inner), bias));
}

V_INLINE void score_all(const codes_query *q, const uint8_t *const *codes, size_t n, int blocks,
                        float *out) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) score_four(q, codes + i, blocks, out + i);
    if (i == n) return;
    const uint8_t *last[4];
    float tmp[4];
    for (size_t j = 0; j < 4; j++) last[j] = codes[MIN(i + j, n - 1)];
    score_four(q, last, blocks, tmp);
    memcpy(out + i, tmp, (n - i) * sizeof *out);
}

V_TARGET static void avx2_codes_score(const codes_query *q, const uint8_t *const *codes, size_t n,
                                      float *out) {
    if (q->stride == 128)
        score_all(q, codes, n, 4, out);
    else
        score_all(q, codes, n, 2, out);
}

static const vec_kernels table = {
    .dot_f32 = simd_dot_f32,
    .dot_f16 = simd_dot_f16,
    .dot_i8 = avx2_dot_i8,
    .axpy = simd_axpy,
    .f16_from_f32 = avx2_f16_from_f32,
    .f32_from_f16 = simd_f32_from_f16,
    .matvec_i8 = avx2_matvec_i8,
    .max_abs = simd_max_abs,
    .round_i16 = avx2_round_i16,
    .round_i8 = avx2_round_i8,
    .insert = avx2_insert,
    .above = simd_above,
    .codes_expand = avx2_codes_expand,
    .codes_score = avx2_codes_score,
};

const vec_kernels *distance_avx2_table(void) {
    return &table;
}
#else
const vec_kernels *distance_avx2_table(void) {
    return NULL;
}
#endif
