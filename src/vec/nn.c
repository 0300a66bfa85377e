/* Softmax, layer normalisation, GELU and pooling: the scalar definitions, and the choice of a tier.
 *
 * These pass over each activation a few times; the matrix products pass over it hundreds of times.
 * What matters here is that they are not slow: with libm's scalar expf and erff they would take a
 * third of the encoder's time, in vectors they take under a tenth.
 *
 * Layer normalisation finds the mean first and then the variance about it: the one-pass formula
 * loses digits when the mean is large beside the deviation. Softmax subtracts the row's maximum, so
 * that no exponent overflows. Sums run in single precision, as the reference's do: rows are at most
 * a few thousand values.
 *
 * The vector versions are written once, in nn_simd.h, over the width of a vector.
 */
#include "vec/nn_int.h"

#include <string.h>

static void scalar_add_layernorm(float *x, const float *y, const nn_norm *norm) {
    size_t n = norm->n;
    float sum = 0, squares = 0;
    for (size_t i = 0; y && i < n; i++) x[i] += y[i];
    for (size_t i = 0; i < n; i++) sum += x[i];
    float mean = sum / (float)n;
    for (size_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    float scale = 1 / sqrtf(squares / (float)n + norm->epsilon);
    for (size_t i = 0; i < n; i++) x[i] = (x[i] - mean) * scale * norm->gamma[i] + norm->beta[i];
}

static void scalar_softmax(float *row, size_t n, size_t stride) {
    float top = row[0], sum = 0;
    for (size_t i = 1; i < n; i++) top = fmaxf(top, row[i]);
    for (size_t i = 0; i < n; i++) sum += row[i] = expf(row[i] - top);
    for (size_t i = 0; i < n; i++) row[i] /= sum;
    for (size_t i = n; i < stride; i++) row[i] = 0;
}

static void scalar_gelu(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = nn_gelu_scalar(x[i]);
}

static void scalar_mean(const float *x, size_t m, size_t n, float *out) {
    for (size_t j = 0; j < n; j++) out[j] = 0;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) out[j] += x[i * n + j];
    for (size_t j = 0; j < n; j++) out[j] /= (float)m;
}

static float scalar_square_sum(const float *x, size_t n) {
    float sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

const nn_table nn_table_scalar = {"scalar",    scalar_add_layernorm, scalar_softmax,
                                  scalar_gelu, scalar_mean,          scalar_square_sum};

const nn_table *nn_table_for(const cpu_features *f) {
    if (!f) f = cpu_features_get();
#if defined(__x86_64__)
    if (f->avx512) return &nn_table_avx512;
    if (f->avx2) return &nn_table_avx2;
#elif defined(__aarch64__)
    if (f->neon) return &nn_table_neon;
#elif defined(__wasm_simd128__)
    if (f->wasm) return &nn_table_wasm;
#endif
    return &nn_table_scalar;
}

void nn_add_layernorm(const nn_table *t, float *x, const float *y, const nn_norm *norm, size_t m) {
    for (size_t i = 0; i < m; i++)
        t->add_layernorm(x + i * norm->n, y ? y + i * norm->n : NULL, norm);
}

void nn_softmax(const nn_table *t, float *rows, size_t m, size_t n, size_t stride) {
    KITH_ASSERT(n >= 1 && n <= stride);
    for (size_t i = 0; i < m; i++) t->softmax(rows + i * stride, n, stride);
}

void nn_gelu(const nn_table *t, float *x, size_t n) {
    t->gelu(x, n);
}

void nn_mean(const nn_table *t, const float *x, size_t m, size_t n, float *out) {
    KITH_ASSERT(m >= 1);
    t->mean(x, m, n, out);
}

bool nn_unit(const nn_table *t, float *x, size_t n) {
    float squares = t->square_sum(x, n);
    if (!(squares > 0 && squares <= 3.0e38f)) return false; /* 0, NaN and infinity */
    float scale = 1 / sqrtf(squares);
    for (size_t i = 0; i < n; i++) x[i] *= scale;
    return true;
}

void nn_transpose(const float *src, size_t ld, size_t rows, size_t columns, float *dst,
                  size_t rows_padded) {
    for (size_t j = 0; j < columns; j++) {
        float *to = dst + j * rows_padded;
        for (size_t i = 0; i < rows; i++) to[i] = src[i * ld + j];
        for (size_t i = rows; i < rows_padded; i++) to[i] = 0;
    }
}
