/* The functions of nn.c in vectors, over the words of simd_avx2.h or simd_avx512.h, included
 * before. The including file makes its nn_table of them. Tails shorter than a vector are masked. */
#ifndef KITH_VEC_NN_SIMD_H
#define KITH_VEC_NN_SIMD_H

#include "vec/nn_int.h"
#include "vec/simd_math.h"

V_TARGET static void simd_add_layernorm(float *x, const float *y, const nn_norm *norm) {
    size_t n = norm->n, whole = n / V_LANES * V_LANES, rest = n - whole;
    V sum = V_ZERO();
    for (size_t i = 0; i < whole; i += V_LANES) {
        V v = V_LOAD(x + i);
        if (y) v = V_ADD(v, V_LOAD(y + i));
        V_STORE(x + i, v);
        sum = V_ADD(sum, v);
    }
    if (rest) {
        V v = v_load_part(x + whole, rest);
        if (y) v = V_ADD(v, v_load_part(y + whole, rest));
        v_store_part(x + whole, v, rest);
        sum = V_ADD(sum, v);
    }
    float mean = v_sum(sum) / (float)n, tail = 0;
    V means = V_SET1(mean), squares = V_ZERO();
    for (size_t i = 0; i < whole; i += V_LANES) {
        V d = V_SUB(V_LOAD(x + i), means);
        squares = V_FMA(d, d, squares);
    }
    for (size_t i = whole; i < n; i++) tail += (x[i] - mean) * (x[i] - mean);
    float scale = 1 / sqrtf((v_sum(squares) + tail) / (float)n + norm->epsilon);
    V scales = V_SET1(scale);
    for (size_t i = 0; i < whole; i += V_LANES) {
        V d = V_MUL(V_SUB(V_LOAD(x + i), means), scales);
        V_STORE(x + i, V_FMA(d, V_LOAD(norm->gamma + i), V_LOAD(norm->beta + i)));
    }
    for (size_t i = whole; i < n; i++)
        x[i] = (x[i] - mean) * scale * norm->gamma[i] + norm->beta[i];
}

V_TARGET static float simd_top(const float *x, size_t n) {
    size_t whole = n / V_LANES * V_LANES;
    float top = x[0];
    if (whole) {
        V tops = V_LOAD(x);
        for (size_t i = V_LANES; i < whole; i += V_LANES) tops = V_MAX(tops, V_LOAD(x + i));
        top = v_top(tops);
    }
    for (size_t i = whole; i < n; i++) top = MAX(top, x[i]);
    return top;
}

V_TARGET static void simd_softmax(float *row, size_t n, size_t stride) {
    size_t whole = n / V_LANES * V_LANES, rest = n - whole;
    V top = V_SET1(simd_top(row, n)), sums = V_ZERO();
    for (size_t i = 0; i < whole; i += V_LANES) {
        V e = v_exp(V_SUB(V_LOAD(row + i), top));
        V_STORE(row + i, e);
        sums = V_ADD(sums, e);
    }
    float sum = v_sum(sums);
    if (rest) {
        v_store_part(row + whole, v_exp(V_SUB(v_load_part(row + whole, rest), top)), rest);
        for (size_t i = whole; i < n; i++) sum += row[i];
    }
    V scale = V_SET1(1 / sum);
    for (size_t i = 0; i < whole; i += V_LANES) V_STORE(row + i, V_MUL(V_LOAD(row + i), scale));
    for (size_t i = whole; i < n; i++) row[i] *= 1 / sum;
    for (size_t i = n; i < stride; i++) row[i] = 0;
}

V_TARGET static void simd_gelu(float *x, size_t n) {
    size_t whole = n / V_LANES * V_LANES, rest = n - whole;
    for (size_t i = 0; i < whole; i += V_LANES) V_STORE(x + i, v_gelu(V_LOAD(x + i)));
    if (rest) v_store_part(x + whole, v_gelu(v_load_part(x + whole, rest)), rest);
}

V_TARGET static void simd_mean(const float *x, size_t m, size_t n, float *out) {
    size_t whole = n / V_LANES * V_LANES;
    V scale = V_SET1(1 / (float)m);
    for (size_t j = 0; j < whole; j += V_LANES) {
        V sum = V_ZERO();
        for (size_t i = 0; i < m; i++) sum = V_ADD(sum, V_LOAD(x + i * n + j));
        V_STORE(out + j, V_MUL(sum, scale));
    }
    for (size_t j = whole; j < n; j++) {
        float sum = 0;
        for (size_t i = 0; i < m; i++) sum += x[i * n + j];
        out[j] = sum / (float)m;
    }
}

V_TARGET static float simd_square_sum(const float *x, size_t n) {
    size_t whole = n / V_LANES * V_LANES;
    V sums = V_ZERO();
    for (size_t i = 0; i < whole; i += V_LANES) sums = V_FMA(V_LOAD(x + i), V_LOAD(x + i), sums);
    float sum = v_sum(sums);
    for (size_t i = whole; i < n; i++) sum += x[i] * x[i];
    return sum;
}

#endif
