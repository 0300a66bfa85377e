/* The vector words of gemm_simd.h and nn_simd.h for 64-bit Arm: four floats. Included once, by a .c
 * file that then includes those. */
#ifndef KITH_VEC_SIMD_NEON_H
#define KITH_VEC_SIMD_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define V        float32x4_t
#define V_LANES  4
#define V_ASM(v) "+w"(v) /* a vector register, for __asm__ */
#define V_TARGET
#define V_INLINE static inline __attribute__((always_inline, unused))

#define V_ZERO()        vdupq_n_f32(0)
#define V_SET1(f)       vdupq_n_f32(f)
#define V_LOAD(p)       vld1q_f32(p)
#define V_STORE(p, v)   vst1q_f32(p, v)
#define V_ADD(a, b)     vaddq_f32(a, b)
#define V_SUB(a, b)     vsubq_f32(a, b)
#define V_MUL(a, b)     vmulq_f32(a, b)
#define V_DIV(a, b)     vdivq_f32(a, b)
#define V_MAX(a, b)     vmaxq_f32(a, b)
#define V_MIN(a, b)     vminq_f32(a, b)
#define V_FMA(a, b, c)  vfmaq_f32(c, a, b)
#define V_FNMA(a, b, c) vfmsq_f32(c, a, b)
#define V_ROUND(a)      vrndnq_f32(a)
#define V_OF_BF16(p)    vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16))

/* The first n of four lanes, n below 4: the rest are read as zero and not written. */
V_INLINE V v_load_part(const float *p, size_t n) {
    float all[4] = {0};
    memcpy(all, p, n * sizeof *p);
    return vld1q_f32(all);
}
V_INLINE void v_store_part(float *p, V v, size_t n) {
    float all[4];
    vst1q_f32(all, v);
    memcpy(p, all, n * sizeof *p);
}

V_INLINE float v_sum(V v) {
    return vaddvq_f32(v);
}
V_INLINE float v_top(V v) {
    return vmaxvq_f32(v);
}
/* 2 to the power of whole numbers in [-126, 127]. */
V_INLINE V v_power_of_two(V n) {
    int32x4_t e = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(e, 23));
}

#endif
