/* What a transformer needs beside matrix products: softmax, layer normalisation, GELU, pooling.
 *
 *     const nn_table *nn = nn_table_for(NULL);
 *     nn_add_layernorm(nn, x, y, &(nn_norm){gamma, beta, 1e-12f, 384}, rows);  // x = LN(x + y)
 *     nn_softmax(nn, scores, rows, length, stride);
 *
 * All work in place on rows of single precision, any length, no alignment asked for. The scalar
 * versions (by libm's expf and erff) are the definition; the others are within 1e-6 of them for
 * values that do not overflow. No state; safe from any thread.
 * Sources: layer normalisation, Ba, Kiros and Hinton 2016; GELU, Hendrycks and Gimpel 2016.
 */
#ifndef KITH_VEC_NN_H
#define KITH_VEC_NN_H

#include "vec/cpu.h"

/* The functions of one processor tier. */
typedef struct nn_table nn_table;

/* The best that `f` allows; NULL asks for this processor's features. Never NULL. */
const nn_table *nn_table_for(const cpu_features *f);

typedef struct nn_norm {
    const float *gamma, *beta; /* n each */
    float epsilon;             /* added to the variance */
    size_t n;
} nn_norm;

/* Each of m rows of n: x = gamma (x + y - mean) / sqrt(variance + epsilon) + beta. y may be NULL.
 * */
void nn_add_layernorm(const nn_table *t, float *x, const float *y, const nn_norm *norm, size_t m);

/* Each of m rows, `stride` apart: the first n values become exp(v - max) / sum; values from n to
 * the stride become 0. n is at least 1. */
void nn_softmax(const nn_table *t, float *rows, size_t m, size_t n, size_t stride);

void nn_gelu(const nn_table *t, float *x, size_t n);

/* out[j] = mean over m rows of x[.][j]. m is at least 1. */
void nn_mean(const nn_table *t, const float *x, size_t m, size_t n, float *out);

/* Scales x to unit length. False, and x is not touched, when its length is 0 or not finite. */
bool nn_unit(const nn_table *t, float *x, size_t n);

/* dst[j][i] = src[i][j] for i < rows, j < columns; dst[j][i] = 0 for i in [rows, rows_padded). */
void nn_transpose(const float *src, size_t ld, size_t rows, size_t columns, float *dst,
                  size_t rows_padded);

#endif
