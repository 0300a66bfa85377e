/* Every tier's matrix products against the definition: a plain double loop over the rounded inputs,
 * for all three kinds, on shapes around every tile edge; int8 exactly, GELU against libm. */
#include "vec/gemm_int.h"
#include "vec/nn_int.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define ROWS_MAX 200
#define DIM_MAX  1000

typedef struct fixture {
    float *x, *w, *bias, *out, *again;
    rng r;
} fixture;

static float small_number(rng *r) {
    return (float)(rng_unit(r) * 2 - 1);
}

static int set_up(void **state) {
    fixture *f = mem_zalloc(1, sizeof *f);
    f->x = mem_aligned(64, ROWS_MAX * DIM_MAX * sizeof(float));
    f->w = mem_aligned(64, (size_t)DIM_MAX * DIM_MAX * sizeof(float));
    f->bias = mem_aligned(64, DIM_MAX * sizeof(float));
    f->out = mem_aligned(64, ROWS_MAX * DIM_MAX * sizeof(float));
    f->again = mem_aligned(64, ROWS_MAX * DIM_MAX * sizeof(float));
    assert_true(f->x && f->w && f->bias && f->out && f->again);
    rng_seed(&f->r, 7);
    for (size_t i = 0; i < ROWS_MAX * DIM_MAX; i++) f->x[i] = small_number(&f->r);
    for (size_t i = 0; i < (size_t)DIM_MAX * DIM_MAX; i++) f->w[i] = small_number(&f->r);
    for (size_t i = 0; i < DIM_MAX; i++) f->bias[i] = small_number(&f->r);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    mem_free(f->x), mem_free(f->w), mem_free(f->bias), mem_free(f->out), mem_free(f->again);
    mem_free(f);
    return 0;
}

/* The tables that this processor can run. */
static size_t tables(const gemm_table **out) {
    size_t n = 0;
    const cpu_features *f = cpu_features_get();
    out[n++] = &gemm_table_scalar;
#if defined(__x86_64__)
    if (f->avx2) out[n++] = &gemm_table_avx2;
    if (f->avx512) out[n++] = &gemm_table_avx512;
    if (f->avx512_vnni) out[n++] = &gemm_table_avx512_vnni;
    if (f->avx512_vnni && f->avx512_bf16) out[n++] = &gemm_table_avx512_full;
#elif defined(__aarch64__)
    if (f->neon) out[n++] = &gemm_table_neon;
    if (f->neon_dot) out[n++] = &gemm_table_neon_dot;
#elif defined(__wasm_simd128__)
    if (f->wasm) out[n++] = &gemm_table_wasm;
#else
    (void)f;
#endif
    return n;
}

typedef struct shape {
    size_t m, n, k;
} shape;

static void product(fixture *f, const gemm_table *t, gemm_kind kind, shape s, gemm_act act,
                    float *out) {
    gemm_matrix w;
    gemm_source src = {
        .kind = kind, .table = t, .weights = f->w, .bias = f->bias, .n = s.n, .k = s.k};
    assert_int_equal(gemm_matrix_init(&w, &src), OK);
    size_t bytes = gemm_work_bytes(&w);
    void *work = bytes ? mem_aligned(64, bytes) : NULL;
    if (bytes) memset(work, 0xff, bytes); /* NaN where nothing was prepared */
    for (size_t i = 0; i < s.m * s.n; i++) out[i] = NAN;
    gemm_run(
        &w, &(gemm_call){
                .x = f->x, .ldx = s.k, .m = s.m, .out = out, .ldo = s.n, .act = act, .work = work});
    mem_free(work);
    gemm_matrix_deinit(&w);
}

static double rounded(gemm_kind kind, float v) {
    return kind == GEMM_BF16 ? gemm_bf16_to(gemm_bf16_of(v)) : v;
}

static double magnitude(const float *v, size_t n) {
    double top = 0;
    for (size_t i = 0; i < n; i++) top = fmax(top, fabs(v[i]));
    return top;
}

/* A dot product of the values that rounding to 8 bits leaves. */
static double dot_i8(const float *x, const float *w, size_t k) {
    float low = x[0], high = x[0], ws = 127 / (float)magnitude(w, k);
    double sum = 0;
    for (size_t p = 0; p < k; p++) {
        low = MIN(low, x[p]);
        high = MAX(high, x[p]);
    }
    float xs = high > low ? 255 / (high - low) : 0;
    for (size_t p = 0; p < k; p++) {
        double q = (double)lrintf((x[p] - low) * xs), scale = ((double)high - low) / 255;
        sum += (low + q * scale) * (double)lrintf(w[p] * ws) / ws;
    }
    return sum;
}

static double expected(const fixture *f, gemm_kind kind, shape s, size_t i, size_t j) {
    const float *x = f->x + i * s.k, *w = f->w + j * s.k;
    if (kind == GEMM_I8) return dot_i8(x, w, s.k) + f->bias[j];
    double sum = 0;
    for (size_t p = 0; p < s.k; p++) sum += rounded(kind, x[p]) * rounded(kind, w[p]);
    return sum + f->bias[j];
}

static void check_shape(fixture *f, const gemm_table *t, gemm_kind kind, shape s) {
    product(f, t, kind, s, GEMM_LINEAR, f->out);
    product(f, t, kind, s, GEMM_GELU, f->again);
    for (size_t i = 0; i < s.m; i++)
        for (size_t j = 0; j < s.n; j++) {
            double y = expected(f, kind, s, i, j), got = f->out[i * s.n + j];
            if (!(fabs(got - y) <= 2e-5 + 1e-5 * fabs(y)))
                fail_msg("%s kind %d %zux%zux%zu at %zu,%zu: %.9g, expected %.9g", t->name,
                         (int)kind, s.m, s.n, s.k, i, j, got, y);
            double g = 0.5 * got * (1 + erf(got * sqrt(0.5)));
            if (!(fabs(f->again[i * s.n + j] - g) <= 2e-6 * fmax(1, fabs(got))))
                fail_msg("%s gelu(%.9g) = %.9g, expected %.9g", t->name, got, f->again[i * s.n + j],
                         g);
        }
}

static void test_shapes(void **state) {
    fixture *f = *state;
    static const size_t rows[] = {1, 2, 3, 5, 6, 7, 8, 9, 11, 12, 13, 17, 25, 193};
    static const shape others[] = {{0, 1, 1},   {0, 16, 3},  {0, 17, 5},   {0, 32, 64},
                                   {0, 33, 31}, {0, 48, 40}, {0, 100, 97}, {0, 40, 900}};
    const gemm_table *t[8];
    size_t n = tables(t);
    for (size_t i = 0; i < n; i++)
        for (size_t a = 0; a < COUNT_OF(rows); a++)
            for (size_t b = 0; b < COUNT_OF(others); b++)
                for (int kind = 0; kind < GEMM_KINDS; kind++)
                    check_shape(f, t[i], (gemm_kind)kind,
                                (shape){rows[a], others[b].n, others[b].k});
}

/* Integer sums are exact, so tiers differ by the rounding of the final scale at most. */
static void test_i8_tiers_agree(void **state) {
    fixture *f = *state;
    const gemm_table *t[8];
    size_t n = tables(t);
    shape s = {37, 70, 999};
    product(f, t[0], GEMM_I8, s, GEMM_LINEAR, f->out);
    for (size_t i = 1; i < n; i++) {
        product(f, t[i], GEMM_I8, s, GEMM_LINEAR, f->again);
        assert_memory_equal(f->out, f->again, s.m * s.n * sizeof(float));
    }
}

/* Rows of zeros, and rows with one huge value: scales of 0 and no NaN. */
static void test_i8_extremes(void **state) {
    fixture *f = *state;
    const gemm_table *t[8];
    size_t n = tables(t);
    shape s = {3, 33, 50};
    float keep[150], weights[50];
    memcpy(keep, f->x, sizeof keep);
    memcpy(weights, f->w, sizeof weights);
    memset(f->x, 0, 50 * sizeof *f->x);
    memset(f->w, 0, 50 * sizeof *f->w);
    f->x[60] = 1e30f;
    for (size_t i = 0; i < n; i++) {
        product(f, t[i], GEMM_I8, s, GEMM_LINEAR, f->out);
        for (size_t j = 0; j < 33; j++) assert_true(f->out[j] == f->bias[j]);
        for (size_t j = 0; j < 3; j++) assert_true(f->out[j * 33] == f->bias[0]);
        for (size_t j = 33; j < 66; j++) assert_true(isfinite(f->out[j]));
    }
    memcpy(f->x, keep, sizeof keep);
    memcpy(f->w, weights, sizeof weights);
}

static void test_small(void **state) {
    fixture *f = *state;
    const gemm_table *t[8];
    size_t tiers = tables(t);
    for (size_t i = 0; i < tiers; i++)
        for (size_t m = 1; m < 30; m++) {
            gemm_small s = {f->x, f->w, f->out, 60, 64, 50, m, 48, 33};
            gemm_small_run(t[i], &s);
            for (size_t r = 0; r < m; r++)
                for (size_t j = 0; j < 48; j++) {
                    double y = 0;
                    for (size_t p = 0; p < 33; p++)
                        y += (double)f->x[r * 60 + p] * f->w[p * 64 + j];
                    assert_true(fabs(f->out[r * 50 + j] - y) < 1e-5);
                }
        }
}

static void test_bf16_rounding(void **state) {
    (void)state;
    assert_int_equal(gemm_bf16_of(1.0f), 0x3f80);
    assert_int_equal(gemm_bf16_of(1.00390625f), 0x3f80); /* half way: to even */
    assert_int_equal(gemm_bf16_of(1.01171875f), 0x3f82);
    assert_int_equal(gemm_bf16_of(-2.5f), 0xc020);
    assert_true(gemm_bf16_to(0x4049) == 3.140625f);
}

static void test_no_memory(void **state) {
    fixture *f = *state;
    gemm_source src = {.kind = GEMM_I8, .weights = f->w, .bias = f->bias, .n = 20, .k = 30};
    long n = 1;
    for (;; n++) {
        gemm_matrix w;
        mem_fail_after(n);
        err rc = gemm_matrix_init(&w, &src);
        mem_fail_after(0);
        if (rc == OK) {
            gemm_matrix_deinit(&w);
            break;
        }
        assert_int_equal(rc, ERR_NO_MEMORY);
    }
    assert_int_equal(n, 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),        cmocka_unit_test(test_i8_tiers_agree),
        cmocka_unit_test(test_i8_extremes),   cmocka_unit_test(test_small),
        cmocka_unit_test(test_bf16_rounding), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
