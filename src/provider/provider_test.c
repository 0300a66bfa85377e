/* provider: the mock's geometry, the query cache, and what bad calls get. */
#include "provider/provider.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { DIM = 128 };

static float dot(const float *a, const float *b) {
    float s = 0;
    for (int i = 0; i < DIM; i++) s += a[i] * b[i];
    return s;
}

static void mock_geometry(void **state) {
    (void)state;
    provider *p;
    float v[4 * DIM];
    str t[] = {STR("The cat sat on the mat"), STR("a cat on a mat"), STR("quantum field theory"),
               STR("")};
    assert_int_equal(provider_mock_open(DIM, &p), OK);
    assert_int_equal(provider_embed(p, t, 4, EMBED_DOCUMENT, v, NULL), OK);
    for (int i = 0; i < 4; i++) assert_true(fabsf(dot(v + i * DIM, v + i * DIM) - 1) < 1e-4f);
    assert_true(dot(v, v + DIM) > 0.3f);
    assert_true(dot(v, v + DIM) > dot(v, v + 2 * DIM) + 0.2f);
    assert_int_equal(provider_dim(p), DIM);
    assert_string_equal(provider_space(p), "mock/words/128/cosine");
    provider_close(p);
}

static void queries_are_cached(void **state) {
    (void)state;
    provider *p;
    float a[DIM], b[DIM];
    bool hit;
    assert_int_equal(provider_mock_open(DIM, &p), OK);
    assert_int_equal(provider_embed_query(p, STR("hello world"), a, &hit), OK);
    assert_false(hit);
    assert_int_equal(provider_embed_query(p, STR("hello world"), b, &hit), OK);
    assert_true(hit);
    assert_memory_equal(a, b, sizeof a);
    /* More queries than slots: the cache stays right, and bounded. */
    for (int i = 0; i < 20000; i++) {
        char z[32];
        str q = {z, (size_t)snprintf(z, sizeof z, "query %d", i % 9000)};
        assert_int_equal(provider_embed_query(p, q, a, &hit), OK);
        assert_int_equal(provider_embed(p, &q, 1, EMBED_QUERY, b, NULL), OK);
        assert_memory_equal(a, b, sizeof a);
    }
    provider_close(p);
}

static void bad_calls(void **state) {
    (void)state;
    provider *p;
    static float v[300 * DIM];
    static str t[300];
    assert_int_equal(provider_mock_open(4, &p), ERR_INVALID);
    assert_int_equal(provider_mock_open(DIM, &p), OK);
    assert_int_equal(provider_embed(p, t, 300, EMBED_DOCUMENT, v, NULL), ERR_INVALID);
    provider_close(p);
    for (long n = 1; n < 6; n++) {
        mem_fail_after(n);
        err rc = provider_mock_open(DIM, &p);
        mem_fail_after(0);
        if (rc == OK)
            provider_close(p);
        else
            assert_int_equal(rc, ERR_NO_MEMORY);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mock_geometry),
        cmocka_unit_test(queries_are_cached),
        cmocka_unit_test(bad_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
