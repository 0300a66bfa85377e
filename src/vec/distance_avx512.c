/* distance_avx512: the kernels for AVX-512 (F, BW, VL, DQ) with VNNI (Ice Lake, Zen 4 and later).
 *
 * A 32-lane sum is two registers of sixteen, reduced by the same tree as the scalar code. Tails are
 * masked loads: lanes past the end read as zero. Codes: dpbusd multiplies four nibbles by four int8
 * of the query and adds into int32, so nothing can overflow; four records share one reduction.
 * Where AVX-512 comes without VNNI (Skylake) the AVX2 tier is used: it is about as fast there, for
 * wide registers lower that processor's clock.
 */
#include "vec/codes.h"
#include "vec/distance_int.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512 \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")))
#define AVX512_INLINE static inline __attribute__((always_inline)) AVX512

AVX512_INLINE float lanes_sum(__m512 s0, __m512 s1) {
    __m512 s = _mm512_add_ps(s0, s1);
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* Masks of the first `left` of 32 lanes, as two registers. */
AVX512_INLINE __mmask16 mask_first(size_t left) {
    return left >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);
}

AVX512 static float avx512_dot_f32(const float *a, const float *b, size_t n) {
    __m512 s0 = _mm512_setzero_ps(), s1 = s0;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
    }
    if (i < n) {
        size_t left = n - i;
        __mmask16 m0 = mask_first(left), m1 = left > 16 ? mask_first(left - 16) : 0;
        s0 =
            _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m0, a + i), _mm512_maskz_loadu_ps(m0, b + i), s0);
        s1 = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m1, a + i + 16),
                             _mm512_maskz_loadu_ps(m1, b + i + 16), s1);
    }
    return lanes_sum(s0, s1);
}

AVX512_INLINE __m512 load_f16(const f16 *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

AVX512_INLINE __m512 load_f16_masked(__mmask16 m, const f16 *p) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
}

AVX512 static float avx512_dot_f16(const f16 *a, const float *b, size_t n) {
    __m512 s0 = _mm512_setzero_ps(), s1 = s0;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        s0 = _mm512_fmadd_ps(load_f16(a + i), _mm512_loadu_ps(b + i), s0);
        s1 = _mm512_fmadd_ps(load_f16(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
    }
    if (i < n) {
        size_t left = n - i;
        __mmask16 m0 = mask_first(left), m1 = left > 16 ? mask_first(left - 16) : 0;
        s0 = _mm512_fmadd_ps(load_f16_masked(m0, a + i), _mm512_maskz_loadu_ps(m0, b + i), s0);
        s1 = _mm512_fmadd_ps(load_f16_masked(m1, a + i + 16), _mm512_maskz_loadu_ps(m1, b + i + 16),
                             s1);
    }
    return lanes_sum(s0, s1);
}

AVX512_INLINE int32_t sum_epi32(__m512i v) {
    __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    __m128i a = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
}

AVX512_INLINE __m512i load_i8(const int8_t *p) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)p));
}

AVX512 static int32_t avx512_dot_i8(const int8_t *a, const int8_t *b, size_t n) {
    __m512i s = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + 32 <= n; i += 32) s = _mm512_dpwssd_epi32(s, load_i8(a + i), load_i8(b + i));
    if (i < n) {
        __mmask32 m = (__mmask32)((1u << (n - i)) - 1);
        __m512i x = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(m, a + i));
        __m512i y = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(m, b + i));
        s = _mm512_dpwssd_epi32(s, x, y);
    }
    return sum_epi32(s);
}

AVX512 static void avx512_axpy(float *y, float a, const float *x, size_t n) {
    __m512 f = _mm512_set1_ps(a);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512 r = _mm512_fmadd_ps(f, _mm512_loadu_ps(x + i), _mm512_loadu_ps(y + i));
        _mm512_storeu_ps(y + i, r);
    }
    if (i < n) {
        __mmask16 m = mask_first(n - i);
        __m512 r =
            _mm512_fmadd_ps(f, _mm512_maskz_loadu_ps(m, x + i), _mm512_maskz_loadu_ps(m, y + i));
        _mm512_mask_storeu_ps(y + i, m, r);
    }
}

AVX512 static void avx512_f16_from_f32(f16 *to, const float *from, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i h = _mm512_cvtps_ph(_mm512_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
        _mm256_storeu_si256((void *)(to + i), h);
    }
    if (i < n) {
        __mmask16 m = mask_first(n - i);
        __m512 x = _mm512_maskz_loadu_ps(m, from + i);
        _mm256_mask_storeu_epi16(to + i, m, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
}

AVX512 static void avx512_f32_from_f16(float *to, const f16 *from, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) _mm512_storeu_ps(to + i, load_f16(from + i));
    if (i < n) {
        __mmask16 m = mask_first(n - i);
        _mm512_mask_storeu_ps(to + i, m, load_f16_masked(m, from + i));
    }
}

AVX512_INLINE __m128i sum_four(__m512i a, __m512i b, __m512i c, __m512i d) {
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    __m512i s = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}

/* Sums of four rows, which share the loads of x. */
AVX512_INLINE __m128i matvec_four(const int8_t *m, size_t cols, const int16_t *x) {
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    for (size_t c = 0; c < cols; c += 32) {
        __m512i v = _mm512_loadu_si512(x + c);
        s0 = _mm512_dpwssd_epi32(s0, load_i8(m + c), v);
        s1 = _mm512_dpwssd_epi32(s1, load_i8(m + cols + c), v);
        s2 = _mm512_dpwssd_epi32(s2, load_i8(m + 2 * cols + c), v);
        s3 = _mm512_dpwssd_epi32(s3, load_i8(m + 3 * cols + c), v);
    }
    return sum_four(s0, s1, s2, s3);
}

AVX512 static void avx512_matvec_i8(const int8_t *m, size_t rows, size_t cols, const int16_t *x,
                                    const float *scale, float f, float *y) {
    size_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        __m128 sums = _mm_cvtepi32_ps(matvec_four(m + r * cols, cols, x));
        __m128 factor = _mm_mul_ps(_mm_loadu_ps(scale + r), _mm_set1_ps(f));
        _mm_storeu_ps(y + r, _mm_mul_ps(sums, factor));
    }
    for (; r < rows; r++) {
        __m512i s = _mm512_setzero_si512();
        for (size_t c = 0; c < cols; c += 32)
            s = _mm512_dpwssd_epi32(s, load_i8(m + r * cols + c), _mm512_loadu_si512(x + c));
        y[r] = (float)sum_epi32(s) * (scale[r] * f);
    }
}

AVX512 static float avx512_max_abs(const float *x, size_t n) {
    __m512 most = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(mask_first(n - i), x + i);
        most = _mm512_max_ps(most, _mm512_abs_ps(v));
    }
    return _mm512_reduce_max_ps(most);
}

AVX512 static void avx512_round_i16(int16_t *to, const float *x, float scale, size_t n) {
    __m512 f = _mm512_set1_ps(scale);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = mask_first(n - i);
        __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), f));
        _mm256_mask_storeu_epi16(to + i, m, _mm512_cvtsepi32_epi16(v));
    }
}

AVX512 static int32_t avx512_round_i8(int8_t *to, const float *x, float scale, size_t n) {
    __m512 f = _mm512_set1_ps(scale);
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = mask_first(n - i);
        __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), f));
        sum = _mm512_add_epi32(sum, v);
        _mm_mask_storeu_epi8(to + i, m, _mm512_cvtsepi32_epi8(v));
    }
    return sum_epi32(sum);
}

AVX512 static size_t avx512_above(const float *scores, size_t n, float threshold, uint16_t *index) {
    size_t count = 0;
    __m512 t = _mm512_set1_ps(threshold);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 in = mask_first(n - i);
        __m512 s = _mm512_maskz_loadu_ps(in, scores + i);
        unsigned mask = _mm512_mask_cmp_ps_mask(in, s, t, _CMP_GT_OQ);
        for (; mask; mask &= mask - 1) index[count++] = (uint16_t)(i + (size_t)__builtin_ctz(mask));
    }
    return count;
}

AVX512_INLINE size_t place_of(const float *scores, size_t n, float score) {
    __m512 s = _mm512_set1_ps(score);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 in = mask_first(n - i);
        __m512 v = _mm512_maskz_loadu_ps(in, scores + i);
        unsigned less = _mm512_mask_cmp_ps_mask(in, v, s, _CMP_NGE_UQ);
        if (less) return i + (size_t)__builtin_ctz(less);
    }
    return n;
}

AVX512 static size_t avx512_insert(float *scores, uint32_t *ids, size_t n, float score,
                                   uint32_t id) {
    size_t at = place_of(scores, n, score), end = n;
    while (end > at) { /* from the end, up to sixteen at a time, one place up */
        size_t count = MIN(end - at, (size_t)16);
        __mmask16 m = mask_first(count);
        end -= count;
        __m512 s = _mm512_maskz_loadu_ps(m, scores + end);
        __m512i d = _mm512_maskz_loadu_epi32(m, ids + end);
        _mm512_mask_storeu_ps(scores + end + 1, m, s);
        _mm512_mask_storeu_epi32(ids + end + 1, m, d);
    }
    scores[at] = score;
    ids[at] = id;
    return at;
}

AVX512 static uint32_t avx512_codes_expand(const uint8_t *record, size_t stride, int8_t *low,
                                           int8_t *high) {
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < stride; i += 64) {
        __mmask64 m = stride - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (stride - i)) - 1;
        __m512i c = _mm512_maskz_loadu_epi8(m, record + i);
        __m512i l = _mm512_and_si512(c, nibble);
        __m512i h = _mm512_and_si512(_mm512_srli_epi16(c, 4), nibble);
        __m512i both = _mm512_add_epi8(l, h);
        sum = _mm512_add_epi32(sum, _mm512_sad_epu8(both, _mm512_setzero_si512()));
        _mm512_mask_storeu_epi8(low + i, m, _mm512_sub_epi8(_mm512_add_epi8(l, l), nibble));
        _mm512_mask_storeu_epi8(high + i, m, _mm512_sub_epi8(_mm512_add_epi8(h, h), nibble));
    }
    return (uint32_t)sum_epi32(sum);
}

/* Sums of products of one record as sixteen int32 lanes; blocks is stride / 64. */
AVX512_INLINE __m512i record_sums(const codes_query *q, const uint8_t *code, int blocks) {
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i s0 = _mm512_setzero_si512(), s1 = s0;
    for (int b = 0; b < blocks; b++) {
        __m512i c = _mm512_loadu_si512(code + 64 * b);
        __m512i high = _mm512_and_si512(_mm512_srli_epi16(c, 4), nibble);
        s0 = _mm512_dpbusd_epi32(s0, _mm512_and_si512(c, nibble),
                                 _mm512_loadu_si512(q->low + 64 * b));
        s1 = _mm512_dpbusd_epi32(s1, high, _mm512_loadu_si512(q->high + 64 * b));
    }
    return _mm512_add_epi32(s0, s1);
}

AVX512_INLINE int load_tail(const uint8_t *code, size_t stride) {
    int v;
    memcpy(&v, code + stride - 4, 4);
    return v;
}

AVX512_INLINE void score_four(const codes_query *q, const uint8_t *const *codes, int blocks,
                              float *out) {
    size_t stride = (size_t)blocks * 64;
    __m128i sums = sum_four(record_sums(q, codes[0], blocks), record_sums(q, codes[1], blocks),
                            record_sums(q, codes[2], blocks), record_sums(q, codes[3], blocks));
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

AVX512_INLINE void score_all(const codes_query *q, const uint8_t *const *codes, size_t n,
                             int blocks, float *out) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) score_four(q, codes + i, blocks, out + i);
    if (i == n) return;
    const uint8_t *last[4];
    float tmp[4];
    for (size_t j = 0; j < 4; j++) last[j] = codes[MIN(i + j, n - 1)];
    score_four(q, last, blocks, tmp);
    memcpy(out + i, tmp, (n - i) * sizeof *out);
}

AVX512 static void avx512_codes_score(const codes_query *q, const uint8_t *const *codes, size_t n,
                                      float *out) {
    if (q->stride == 128)
        score_all(q, codes, n, 2, out);
    else
        score_all(q, codes, n, 1, out);
}

static const vec_kernels table = {
    .dot_f32 = avx512_dot_f32,
    .dot_f16 = avx512_dot_f16,
    .dot_i8 = avx512_dot_i8,
    .axpy = avx512_axpy,
    .f16_from_f32 = avx512_f16_from_f32,
    .f32_from_f16 = avx512_f32_from_f16,
    .matvec_i8 = avx512_matvec_i8,
    .max_abs = avx512_max_abs,
    .round_i16 = avx512_round_i16,
    .round_i8 = avx512_round_i8,
    .insert = avx512_insert,
    .above = avx512_above,
    .codes_expand = avx512_codes_expand,
    .codes_score = avx512_codes_score,
};

const vec_kernels *distance_avx512_table(void) {
    return &table;
}
#else
const vec_kernels *distance_avx512_table(void) {
    return NULL;
}
#endif
