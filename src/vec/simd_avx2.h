/* The vector words of gemm_simd.h and nn_simd.h as AVX2: eight floats. Included once, by a .c file
 * that then includes those. */
#ifndef KITH_VEC_SIMD_AVX2_H
#define KITH_VEC_SIMD_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define V        __m256
#define V_LANES  8
#define V_ASM(v) "+x"(v) /* a vector register, for __asm__ */
#define V_TARGET __attribute__((target("avx2,fma,f16c")))
#define V_INLINE static inline __attribute__((always_inline, unused)) V_TARGET

#define V_ZERO()        _mm256_setzero_ps()
#define V_SET1(f)       _mm256_set1_ps(f)
#define V_LOAD(p)       _mm256_loadu_ps(p)
#define V_STORE(p, v)   _mm256_storeu_ps(p, v)
#define V_ADD(a, b)     _mm256_add_ps(a, b)
#define V_SUB(a, b)     _mm256_sub_ps(a, b)
#define V_MUL(a, b)     _mm256_mul_ps(a, b)
#define V_DIV(a, b)     _mm256_div_ps(a, b)
#define V_MAX(a, b)     _mm256_max_ps(a, b)
#define V_MIN(a, b)     _mm256_min_ps(a, b)
#define V_FMA(a, b, c)  _mm256_fmadd_ps(a, b, c)
#define V_FNMA(a, b, c) _mm256_fnmadd_ps(a, b, c)
#define V_ROUND(a)      _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define V_OF_BF16(p)     \
    _mm256_castsi256_ps( \
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p))), 16))

/* The first n of eight lanes, n below 8: the rest are read as zero and not written. */
V_INLINE __m256i v_mask(size_t n) {
    static const int32_t ones_then_zeros[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(ones_then_zeros + 8 - n));
}
V_INLINE V v_load_part(const float *p, size_t n) {
    return _mm256_maskload_ps(p, v_mask(n));
}
V_INLINE void v_store_part(float *p, V v, size_t n) {
    _mm256_maskstore_ps(p, v_mask(n), v);
}

V_INLINE float v_sum(V v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}
V_INLINE float v_top(V v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    s = _mm_max_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}
/* 2 to the power of whole numbers in [-126, 127]. */
V_INLINE V v_power_of_two(V n) {
    __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}

#endif
