/* Every tier's functions against plain doubles, on every length from 1 to several vectors. */
#include "vec/nn_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define LENGTH_MAX 80

static size_t tables(const nn_table **out) {
    size_t n = 0;
    const cpu_features *f = cpu_features_get();
    out[n++] = &nn_table_scalar;
#if defined(__x86_64__)
    if (f->avx2) out[n++] = &nn_table_avx2;
    if (f->avx512) out[n++] = &nn_table_avx512;
#elif defined(__aarch64__)
    if (f->neon) out[n++] = &nn_table_neon;
#elif defined(__wasm_simd128__)
    if (f->wasm) out[n++] = &nn_table_wasm;
#else
    (void)f;
#endif
    return n;
}

static void fill(float *x, size_t n, uint64_t seed, double scale) {
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++) x[i] = (float)((rng_unit(&r) * 2 - 1) * scale);
}

static void near(double got, double expected, double tolerance) {
    if (!(fabs(got - expected) <= tolerance))
        fail_msg("%.9g, expected %.9g within %g", got, expected, tolerance);
}

static void check_softmax(const nn_table *t, size_t n, double scale) {
    size_t stride = n + n % 5;
    float x[3 * (LENGTH_MAX + 5) + 1], y[3 * (LENGTH_MAX + 5) + 1];
    fill(x, 3 * stride + 1, n, scale);
    memcpy(y, x, sizeof y);
    nn_softmax(t, y, 3, n, stride);
    for (size_t r = 0; r < 3; r++) {
        double top = -1e30, sum = 0;
        for (size_t i = 0; i < n; i++) top = fmax(top, x[r * stride + i]);
        for (size_t i = 0; i < n; i++) sum += exp(x[r * stride + i] - top);
        for (size_t i = 0; i < n; i++)
            near(y[r * stride + i], exp(x[r * stride + i] - top) / sum, 1e-6);
        for (size_t i = n; i < stride; i++) assert_true(y[r * stride + i] == 0);
    }
    assert_true(x[3 * stride] == y[3 * stride]); /* nothing beyond is written */
}

static void test_softmax(void **state) {
    (void)state;
    const nn_table *t[4];
    size_t tiers = tables(t);
    for (size_t i = 0; i < tiers; i++)
        for (size_t n = 1; n <= LENGTH_MAX; n++) {
            check_softmax(t[i], n, 5);
            check_softmax(t[i], n, 2000); /* exponents far below what a float holds */
        }
}

static void check_layernorm(const nn_table *t, size_t n, bool with_y) {
    float x[2 * LENGTH_MAX + 1], was[2 * LENGTH_MAX + 1], y[2 * LENGTH_MAX];
    float gamma[LENGTH_MAX], beta[LENGTH_MAX];
    fill(x, 2 * n + 1, n, 3);
    fill(y, 2 * n, n + 1, 2);
    fill(gamma, n, n + 2, 1);
    fill(beta, n, n + 3, 1);
    memcpy(was, x, sizeof was);
    nn_add_layernorm(t, x, with_y ? y : NULL, &(nn_norm){gamma, beta, 1e-3f, n}, 2);
    for (size_t r = 0; r < 2; r++) {
        double v[LENGTH_MAX], mean = 0, var = 0;
        for (size_t i = 0; i < n; i++) {
            v[i] = was[r * n + i] + (with_y ? (double)y[r * n + i] : 0);
            mean += v[i] / (double)n;
        }
        for (size_t i = 0; i < n; i++) var += (v[i] - mean) * (v[i] - mean) / (double)n;
        for (size_t i = 0; i < n; i++)
            near(x[r * n + i], (v[i] - mean) / sqrt(var + (double)1e-3f) * gamma[i] + beta[i],
                 1e-5);
    }
    assert_true(x[2 * n] == was[2 * n]);
}

static void test_layernorm(void **state) {
    (void)state;
    const nn_table *t[4];
    size_t tiers = tables(t);
    for (size_t i = 0; i < tiers; i++)
        for (size_t n = 1; n <= LENGTH_MAX; n++) {
            check_layernorm(t[i], n, true);
            check_layernorm(t[i], n, false);
        }
}

static void test_gelu(void **state) {
    (void)state;
    const nn_table *t[4];
    size_t tiers = tables(t);
    float x[LENGTH_MAX + 1];
    for (size_t i = 0; i < tiers; i++) {
        for (size_t n = 1; n <= LENGTH_MAX; n++) {
            for (size_t j = 0; j <= n; j++) x[j] = ((float)j - 40) / 5;
            nn_gelu(t[i], x, n);
            for (size_t j = 0; j < n; j++) {
                double v = ((float)j - 40) / 5;
                near(x[j], 0.5 * v * (1 + erf(v * sqrt(0.5))), 1e-6);
            }
            assert_true(x[n] == ((float)n - 40) / 5);
        }
        float far[8] = {-1e30f, -100, -10, 10, 100, 1e30f, 0, -0.0f};
        nn_gelu(t[i], far, 8);
        for (size_t j = 0; j < 3; j++) near(far[j], 0, 1e24);
        assert_true(far[3] == 10 && far[4] == 100 && far[5] == 1e30f && far[6] == 0);
    }
}

static void test_mean_and_unit(void **state) {
    (void)state;
    const nn_table *t[4];
    size_t tiers = tables(t);
    float x[5 * LENGTH_MAX], out[LENGTH_MAX];
    for (size_t i = 0; i < tiers; i++)
        for (size_t n = 1; n <= LENGTH_MAX; n++) {
            fill(x, 5 * n, n, 1);
            nn_mean(t[i], x, 5, n, out);
            double squares = 0;
            for (size_t j = 0; j < n; j++) {
                double mean = 0;
                for (size_t r = 0; r < 5; r++) mean += (double)x[r * n + j] / 5;
                near(out[j], mean, 1e-6);
                squares += mean * mean;
            }
            float was = out[n - 1];
            assert_true(nn_unit(t[i], out, n));
            near(out[n - 1], was / sqrt(squares), 1e-5);
        }
}

static void test_unit_refuses(void **state) {
    (void)state;
    const nn_table *t[4];
    size_t tiers = tables(t);
    for (size_t i = 0; i < tiers; i++)
        for (size_t n = 1; n < 40; n++) {
            float x[40] = {0};
            assert_false(nn_unit(t[i], x, n));
            x[n / 2] = NAN;
            assert_false(nn_unit(t[i], x, n));
            x[n / 2] = INFINITY;
            assert_false(nn_unit(t[i], x, n));
            x[n / 2] = 1e30f; /* its square is not finite */
            assert_false(nn_unit(t[i], x, n));
        }
}

static void test_transpose(void **state) {
    (void)state;
    float src[7 * 9], dst[5 * 8];
    fill(src, COUNT_OF(src), 1, 1);
    nn_transpose(src, 9, 7, 5, dst, 8);
    for (size_t j = 0; j < 5; j++)
        for (size_t i = 0; i < 8; i++) assert_true(dst[j * 8 + i] == (i < 7 ? src[i * 9 + j] : 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_softmax),      cmocka_unit_test(test_layernorm),
        cmocka_unit_test(test_gelu),         cmocka_unit_test(test_mean_and_unit),
        cmocka_unit_test(test_unit_refuses), cmocka_unit_test(test_transpose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
