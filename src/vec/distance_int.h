/* Between distance.c and its SIMD tiers: each gives its table, NULL where it is not compiled in. */
#ifndef KITH_VEC_DISTANCE_INT_H
#define KITH_VEC_DISTANCE_INT_H

#include "vec/distance.h"

const vec_kernels *distance_avx2_table(void);
const vec_kernels *distance_avx512_table(void);
const vec_kernels *distance_neon_table(void);
const vec_kernels *distance_neon_dot_table(void);
const vec_kernels *distance_wasm_table(void);

#endif
