/* codes_test: codes estimate cosines, all tiers give the same bits, models survive a snapshot and refuse a
 * damaged one.
 */
#include "vec/codes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Unit rows whose variance falls off along random directions, around a common mean: like embeddings. */
static float *rows_new(size_t n, uint32_t dim, uint64_t seed) {
    float *rows = mem_alloc(n * dim * sizeof *rows);
    rng r;
    rng_seed(&r, seed);
    assert_non_null(rows);
    for (size_t i = 0; i < n; i++) {
        float *x = rows + i * dim, norm2 = 0;
        for (uint32_t d = 0; d < dim; d++)
            x[d] = rng_normal(&r) / sqrtf(1.0f + (float)((d * 7919u) % dim) * 0.05f) + 0.2f;
        for (uint32_t d = 0; d < dim; d++) norm2 += x[d] * x[d];
        for (uint32_t d = 0; d < dim; d++) x[d] /= sqrtf(norm2);
    }
    return rows;
}

static codes_model *model_new(uint32_t dim) {
    codes_model *m;
    float *rows = rows_new(1500, dim, 1);
    assert_int_equal(codes_model_train(rows, 1500, dim, 7, &m), OK);
    mem_free(rows);
    return m;
}

static void estimates_are_near(uint32_t dim, double limit) {
    codes_model *m = model_new(dim);
    float *rows = rows_new(400, dim, 2), *tmp = mem_alloc(CODES_TMP(dim) * sizeof *tmp);
    uint32_t stride = codes_stride(dim);
    uint8_t *codes = mem_aligned(64, 400 * stride);
    const uint8_t *at[400];
    float score[400];
    double error2 = 0, bias = 0, pair2 = 0;
    for (size_t i = 0; i < 400; i++) {
        at[i] = codes + i * stride;
        codes_encode(m, rows + i * dim, codes + i * stride, tmp);
    }
    for (size_t i = 0; i < 40; i++) {
        codes_query q;
        codes_query_set(m, rows + i * dim, &q, tmp);
        codes_score(&q, at, 400, score);
        for (size_t j = 0; j < 400; j++) {
            double e = score[j] - vec_dot_f32(rows + i * dim, rows + j * dim, dim);
            error2 += e * e;
            bias += e;
        }
        codes_query_from_record(m, at[i], &q);
        codes_score(&q, at, 400, score);
        for (size_t j = 0; j < 400; j++) {
            double e = score[j] - vec_dot_f32(rows + i * dim, rows + j * dim, dim);
            pair2 += e * e;
        }
    }
    double rms = sqrt(error2 / 16000), pair = sqrt(pair2 / 16000);
    print_message("dim %u: rms error %.4f, of pairs %.4f, bias %.5f\n", dim, rms, pair,
                  bias / 16000);
    assert_true(rms < limit && pair < 2 * limit && fabs(bias / 16000) < limit / 2);
    mem_free(rows);
    mem_free(tmp);
    mem_free(codes);
    codes_model_free(m);
}

static void cosines_are_estimated(void **state) {
    (void)state;
    estimates_are_near(3, 0.03);
    estimates_are_near(100, 0.012);
    estimates_are_near(248, 0.010);
    estimates_are_near(384, 0.025);
    estimates_are_near(768, 0.03);
}

static void tiers_equal_scalar(void **state) {
    (void)state;
    const vec_kernels *s = vec_kernels_tier(VEC_SCALAR);
    rng r;
    rng_seed(&r, 5);
    static uint8_t records[67 * 128 + 1];
    const uint8_t *at[67];
    float want[67], got[67];
    for (int t = VEC_AVX2; t < VEC_TIERS; t++) {
        const vec_kernels *k = vec_kernels_tier(t);
        if (!k) continue;
        for (int round = 0; round < 2000; round++) {
            codes_query q = {.stride = round & 1 ? 64 : 128};
            bool extreme = round % 7 == 0; /* the largest sums there are */
            for (size_t i = 0; i < sizeof records; i++)
                records[i] = extreme ? 0xff : (uint8_t)rng_u64(&r);
            for (size_t i = 0; i < q.stride - 4; i++) {
                q.low[i] = extreme ? -127 : (int8_t)((int)rng_below(&r, 255) - 127);
                q.high[i] = extreme ? -127 : (int8_t)((int)rng_below(&r, 255) - 127);
            }
            q.scale = rng_normal(&r);
            q.offset = rng_normal(&r);
            q.base = rng_normal(&r);
            size_t n = (size_t)round % 67 + 1;
            for (size_t i = 0; i < n; i++) {
                uint8_t *record = records + (round & 1) + i * q.stride;
                le16_put(record + q.stride - 4, (uint16_t)rng_below(&r, 0x7c00)); /* finite */
                le16_put(record + q.stride - 2, (uint16_t)rng_below(&r, 0x7c00));
                at[i] = record;
            }
            int8_t l1[128], h1[128], l2[128], h2[128];
            assert_int_equal(s->codes_expand(at[0], q.stride, l1, h1),
                             k->codes_expand(at[0], q.stride, l2, h2));
            assert_memory_equal(l1, l2, q.stride);
            assert_memory_equal(h1, h2, q.stride);
            s->codes_score(&q, at, n, want);
            k->codes_score(&q, at, n, got);
            assert_memory_equal(want, got, n * sizeof *want);
        }
    }
}

static void models_are_saved(void **state) {
    (void)state;
    enum { DIM = 70 };
    codes_model *m = model_new(DIM), *again;
    strbuf b, b2;
    strbuf_init(&b, MIB);
    strbuf_init(&b2, MIB);
    writer w = writer_to_strbuf(&b), w2 = writer_to_strbuf(&b2);
    assert_int_equal(codes_model_save(m, &w), OK);
    reader r = reader_of(b.ptr, b.len);
    assert_int_equal(codes_model_load(&r, DIM, &again), OK);
    assert_int_equal(r.left, 0);
    assert_int_equal(codes_model_save(again, &w2), OK);
    assert_true(str_eq(strbuf_str(&b), strbuf_str(&b2)));
    codes_model_free(again);
    r = reader_of(b.ptr, b.len);
    assert_int_equal(codes_model_load(&r, DIM + 1, &again), ERR_CORRUPT);
    for (size_t n = 0; n < b.len; n += 13) {
        r = reader_of(b.ptr, n);
        assert_int_equal(codes_model_load(&r, DIM, &again), ERR_CORRUPT);
    }
    le32_put(b.ptr + 16, 0x7fc00000); /* a NaN in the mean */
    r = reader_of(b.ptr, b.len);
    assert_int_equal(codes_model_load(&r, DIM, &again), ERR_CORRUPT);
    codes_model_free(m);
    strbuf_deinit(&b);
    strbuf_deinit(&b2);
}

static void degenerate_samples_train(void **state) {
    (void)state;
    enum { DIM = 300, N = 50 };
    float *rows = mem_zalloc(N * DIM, sizeof *rows), tmp[CODES_TMP(DIM)], x[DIM] = {1};
    for (size_t i = 0; i < N; i++) rows[i * DIM] = 1; /* all the same: no variance at all */
    codes_model *m;
    codes_query q;
    uint8_t record[128];
    const uint8_t *at = record;
    float score;
    assert_int_equal(codes_model_train(rows, N, DIM, 1, &m), OK);
    codes_encode(m, x, record, tmp);
    codes_query_set(m, x, &q, tmp);
    codes_score(&q, &at, 1, &score);
    assert_true(fabsf(score - 1.0f) < 0.01f);
    codes_model_free(m);
    mem_free(rows);
}

static void memory_may_fail(void **state) {
    (void)state;
    float *rows = rows_new(64, 300, 3);
    for (long n = 1; n <= 9; n++) {
        codes_model *m = NULL;
        mem_fail_after(n);
        err rc = codes_model_train(rows, 64, 300, 7, &m);
        mem_fail_after(0);
        assert_true(rc == ERR_NO_MEMORY || (rc == OK && n > 8));
        codes_model_free(m);
    }
    mem_free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cosines_are_estimated), cmocka_unit_test(tiers_equal_scalar),
        cmocka_unit_test(models_are_saved),      cmocka_unit_test(degenerate_samples_train),
        cmocka_unit_test(memory_may_fail),
    };
    return cmocka_run_group_tests_name("vec_codes", tests, NULL, NULL);
}
