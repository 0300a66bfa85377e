/* The vector words of gemm_simd.h and nn_simd.h for WebAssembly: four floats. Included once, by a .c
 * file that then includes those. Multiplication and addition are two roundings here: there is no fused
 * one. */
#ifndef KITH_VEC_SIMD_WASM_H
#define KITH_VEC_SIMD_WASM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <wasm_simd128.h>

#define V       v128_t
#define V_LANES 4
#define V_TARGET
#define V_INLINE static inline __attribute__((always_inline, unused))

#define V_ZERO()        wasm_f32x4_splat(0)
#define V_SET1(f)       wasm_f32x4_splat(f)
#define V_LOAD(p)       wasm_v128_load(p)
#define V_STORE(p, v)   wasm_v128_store(p, v)
#define V_ADD(a, b)     wasm_f32x4_add(a, b)
#define V_SUB(a, b)     wasm_f32x4_sub(a, b)
#define V_MUL(a, b)     wasm_f32x4_mul(a, b)
#define V_DIV(a, b)     wasm_f32x4_div(a, b)
#define V_MAX(a, b)     wasm_f32x4_max(a, b)
#define V_MIN(a, b)     wasm_f32x4_min(a, b)
#define V_FMA(a, b, c)  wasm_f32x4_add(wasm_f32x4_mul(a, b), c)
#define V_FNMA(a, b, c) wasm_f32x4_sub(c, wasm_f32x4_mul(a, b))
#define V_ROUND(a)      wasm_f32x4_nearest(a)
#define V_OF_BF16(p)    wasm_i32x4_shl(wasm_u32x4_load16x4(p), 16)

/* The first n of four lanes, n below 4: the rest are read as zero and not written. */
V_INLINE V v_load_part(const float *p, size_t n) {
    float all[4] = {0};
    memcpy(all, p, n * sizeof *p);
    return wasm_v128_load(all);
}
V_INLINE void v_store_part(float *p, V v, size_t n) {
    float all[4];
    wasm_v128_store(all, v);
    memcpy(p, all, n * sizeof *p);
}

V_INLINE V v_swap(V v) {
    return wasm_i32x4_shuffle(v, v, 2, 3, 0, 1);
}
V_INLINE float v_sum(V v) {
    v = V_ADD(v, v_swap(v));
    return wasm_f32x4_extract_lane(v, 0) + wasm_f32x4_extract_lane(v, 1);
}
V_INLINE float v_top(V v) {
    v = V_MAX(v, v_swap(v));
    v = V_MAX(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2));
    return wasm_f32x4_extract_lane(v, 0);
}
/* 2 to the power of whole numbers in [-126, 127]. */
V_INLINE V v_power_of_two(V n) {
    V e = wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(n), wasm_i32x4_splat(127));
    return wasm_i32x4_shl(e, 23);
}

#endif
