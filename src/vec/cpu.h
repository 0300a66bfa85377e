/* What this processor can do, found once. Kernels are chosen from it when the process starts, never
 * per call.
 *
 *     if (cpu_features_get()->avx2) table = &avx2_table;
 *
 * The environment KITH_CPU=scalar|avx2|avx512|neon caps what is reported (tests run every kernel
 * through it; neon leaves out the dot products); it never adds what the processor lacks. Safe from any thread at any time.
 */
#ifndef KITH_VEC_CPU_H
#define KITH_VEC_CPU_H

#include "base/base.h"

typedef struct cpu_features {
    bool avx2;        /* AVX2, FMA and F16C: one tier, they always came together */
    bool avx512;      /* F, BW, VL and DQ */
    bool avx512_vnni; /* int8 dot products; only with avx512 */
    bool avx512_bf16; /* bfloat16 dot products; only with avx512 */
    bool neon;        /* Arm, 64 bits: always there */
    bool neon_dot;    /* int8 dot products (Armv8.2 and later); only with neon */
    bool wasm;        /* WebAssembly's 128 bits: what the module was compiled for */
} cpu_features;

const cpu_features *cpu_features_get(void);

/* "scalar", "avx2", "avx512", "neon", "neon-dot" or "wasm": the tier in use, for status pages and benchmarks. */
const char *cpu_tier_name(void);

#endif
