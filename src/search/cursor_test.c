/* Tests of cursors: what goes in comes out, every damaged byte is seen, and a cursor of another
 * request is told apart from a damaged one. The histogram, another small file, is tested here too.
 */
#include "search/cursor.h"

#include "search/histogram.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void round_trip(void **state) {
    (void)state;
    arena a;
    arena_init(&a, 64 * MIB);
    rng r;
    rng_seed(&r, 7);
    for (size_t round = 0; round < 200; round++) {
        size_t n = round < 3 ? round : rng_below(&r, SEARCH_DEPTH_MAX + 1);
        uint32_t docs[SEARCH_DEPTH_MAX], step = 1 + rng_below(&r, 200000), d = rng_below(&r, 2);
        for (size_t i = 0; i < n; i++) {
            docs[i] = d;
            d += 1 + rng_below(&r, step);
        }
        for (size_t i = 1; i < n; i++) { /* given in rank order, not in order of number */
            size_t j = rng_below(&r, (uint32_t)i + 1);
            uint32_t t = docs[i];
            docs[i] = docs[j];
            docs[j] = t;
        }
        search_cursor in = {rng_u64(&r), rng_u64(&r) >> 1, 1700000000000, docs, n}, out;
        str text;
        assert_int_equal(cursor_encode(&in, &a, &text), OK);
        assert_int_equal(cursor_decode(text, in.request, &a, &out), OK);
        assert_true(out.as_of == in.as_of && out.now_ms == in.now_ms && out.count == n);
        assert_int_equal(n ? memcmp(out.docs, in.docs, n * sizeof *docs) : 0, 0);
        for (size_t i = 1; i < n; i++) assert_true(out.docs[i - 1] < out.docs[i]);
        assert_int_equal(cursor_decode(text, in.request + 1, &a, &out), ERR_INVALID);
        assert_non_null(strstr(err_detail(), "another query"));
        assert_string_equal(err_field(), "cursor");
        arena_reset(&a);
    }
    arena_deinit(&a);
}

static void damage(void **state) {
    (void)state;
    arena a;
    arena_init(&a, 64 * MIB);
    uint32_t docs[] = {5, 1, 900, 70000};
    search_cursor c = {42, 1000, 1700000000000, docs, 4}, out;
    str text;
    assert_int_equal(cursor_encode(&c, &a, &text), OK);
    char copy[256];
    for (size_t i = 0; i < text.len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(copy, text.ptr, text.len);
            copy[i] = (char)(copy[i] ^ (1 << bit));
            assert_int_equal(cursor_decode(str_from(copy, text.len), 42, &a, &out), ERR_INVALID);
            assert_string_equal(err_field(), "cursor");
        }
        assert_int_equal(cursor_decode(str_from(text.ptr, i), 42, &a, &out), ERR_INVALID);
    }
    memset(copy, 'A', sizeof copy);
    for (size_t n = 0; n < sizeof copy; n++)
        assert_int_equal(cursor_decode(str_from(copy, n), 0, &a, &out), ERR_INVALID);
    arena_deinit(&a);
}

static void quantiles(void **state) {
    (void)state;
    static histogram h;
    assert_int_equal(histogram_quantile(&h, 0.5), 0);
    for (uint64_t us = 1; us <= 1000; us++) histogram_add(&h, us);
    assert_int_equal(histogram_count(&h), 1000);
    uint64_t p50 = histogram_quantile(&h, 0.5), p99 = histogram_quantile(&h, 0.99);
    assert_true(p50 >= 500 && p50 <= 563);
    assert_true(p99 >= 990 && p99 <= 1114);
    histogram_add(&h, UINT64_MAX);
    assert_true(histogram_quantile(&h, 1) > 1000000000u);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(damage),
                                       cmocka_unit_test(quantiles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
