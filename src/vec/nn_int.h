/* nn, inside: what a processor tier gives. See nn.c. */
#ifndef KITH_VEC_NN_INT_H
#define KITH_VEC_NN_INT_H

#include "vec/nn.h"
#include <math.h>

struct nn_table {
    const char *name;
    void (*add_layernorm)(float *x, const float *y, const nn_norm *norm);
    void (*softmax)(float *row, size_t n, size_t stride);
    void (*gelu)(float *x, size_t n);
    void (*mean)(const float *x, size_t m, size_t n, float *out);
    float (*square_sum)(const float *x, size_t n);
};

extern const nn_table nn_table_scalar;
#if defined(__x86_64__)
extern const nn_table nn_table_avx2;
extern const nn_table nn_table_avx512;
#elif defined(__aarch64__)
extern const nn_table nn_table_neon;
#elif defined(__wasm_simd128__)
extern const nn_table nn_table_wasm;
#endif

static inline float nn_gelu_scalar(float y) {
    return 0.5f * y * (1 + erff(y * 0.70710678118654752440f));
}

#endif
