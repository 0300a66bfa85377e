/* The vector words of gemm_simd.h and nn_simd.h as AVX-512: sixteen floats. Included once, by a .c
 * file that then includes those. */
#ifndef KITH_VEC_SIMD_AVX512_H
#define KITH_VEC_SIMD_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define V        __m512
#define V_LANES  16
#define V_ASM(v) "+v"(v) /* a vector register, for __asm__ */
#define V_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))
#define V_INLINE static inline __attribute__((always_inline, unused)) V_TARGET

#define V_ZERO()        _mm512_setzero_ps()
#define V_SET1(f)       _mm512_set1_ps(f)
#define V_LOAD(p)       _mm512_loadu_ps(p)
#define V_STORE(p, v)   _mm512_storeu_ps(p, v)
#define V_ADD(a, b)     _mm512_add_ps(a, b)
#define V_SUB(a, b)     _mm512_sub_ps(a, b)
#define V_MUL(a, b)     _mm512_mul_ps(a, b)
#define V_DIV(a, b)     _mm512_div_ps(a, b)
#define V_MAX(a, b)     _mm512_max_ps(a, b)
#define V_MIN(a, b)     _mm512_min_ps(a, b)
#define V_FMA(a, b, c)  _mm512_fmadd_ps(a, b, c)
#define V_FNMA(a, b, c) _mm512_fnmadd_ps(a, b, c)
#define V_ROUND(a)      _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define V_OF_BF16(p)     \
    _mm512_castsi512_ps( \
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p))), 16))

/* The first n of sixteen lanes, n below 16: the rest are read as zero and not written. */
V_INLINE __mmask16 v_mask(size_t n) {
    return (__mmask16)((1u << n) - 1);
}
V_INLINE V v_load_part(const float *p, size_t n) {
    return _mm512_maskz_loadu_ps(v_mask(n), p);
}
V_INLINE void v_store_part(float *p, V v, size_t n) {
    _mm512_mask_storeu_ps(p, v_mask(n), v);
}

V_INLINE float v_sum(V v) {
    return _mm512_reduce_add_ps(v);
}
V_INLINE float v_top(V v) {
    return _mm512_reduce_max_ps(v);
}
/* 2 to the power of whole numbers in [-126, 127]. */
V_INLINE V v_power_of_two(V n) {
    __m512i e = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(e, 23));
}

#endif
