/* Between distance.c and its SIMD tiers: each gives its table, NULL where it is not compiled in. */
#ifndef KITH_VEC_DISTANCE_INT_H
#define KITH_VEC_DISTANCE_INT_H

#include "vec/distance.h"

const vec_kernels *distance_avx2_table(void);
const vec_kernels *distance_avx512_table(void);
const vec_kernels *distance_neon_table(void);
const vec_kernels *distance_neon_dot_table(void);
const vec_kernels *distance_wasm_table(void);

/* The scalar kernel: what tiers take that have no instruction for it. */
void distance_f16_from_f32(f16 *to, const float *from, size_t n);

#endif
