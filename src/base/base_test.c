/* base: each small tool against its definition, a brute-force twin, or a published check value. */
#include "base/base.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void hash_known(void **state) {
    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u); /* RFC 3720 */
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
    uint8_t z[32] = {0};
    assert_int_equal(crc32c(0, z, 32), 0x8a9136aau); /* RFC 3720 appendix B.4 */
    assert_true(hash64("a", 1, 0) != hash64("a\0", 2, 0));
    assert_true(hash64("", 0, 1) != hash64("", 0, 2));
}

static void errors_quote_and_keep(void **state) {
    (void)state;
    assert_int_equal(err_set_field(ERR_INVALID, "limit", "expected %d", 7), ERR_INVALID);
    err_text kept = err_keep();
    assert_int_equal(err_set(ERR_IO, "part 3: %s (%s)", err_detail(), err_field()), ERR_IO);
    assert_string_equal(err_detail(), "part 3: expected 7 (limit)");
    assert_string_equal(err_field(), "");
    assert_int_equal(err_restore(ERR_TIMEOUT, &kept), ERR_TIMEOUT);
    assert_string_equal(err_detail(), "expected 7");
    assert_string_equal(err_field(), "limit");
    char most[2 * ERR_DETAIL_MAX];
    memset(most, 'x', sizeof most);
    most[sizeof most - 1] = 0;
    (void)err_set_field(ERR_IO, most, "%s", most);
    assert_int_equal(strlen(err_detail()), ERR_DETAIL_MAX - 1);
    assert_int_equal(strlen(err_field()), ERR_FIELD_MAX - 1);
}

static void str_numbers(void **state) {
    (void)state;
    int64_t i;
    uint64_t u;
    double d;
    assert_true(str_to_i64(STR("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_true(str_to_u64(STR("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(str_to_u64(STR("18446744073709551616"), &u));
    assert_false(str_to_i64(STR("9223372036854775808"), &i));
    assert_false(str_to_i64(STR(" 1"), &i));
    assert_false(str_to_i64(STR(""), &i));
    assert_false(str_to_i64(STR("-"), &i));
    assert_true(str_to_f64(STR("1e-3"), &d) && d == 1e-3);
    assert_false(str_to_f64(STR("nan"), &d));
    assert_false(str_to_f64(STR("1e999"), &d));
    assert_false(str_to_f64(STR("0x10"), &d));
}

static void str_pieces(void **state) {
    (void)state;
    str rest = STR("a,,b"), part;
    int n = 0;
    while (str_split(&rest, ',', &part)) n++;
    assert_int_equal(n, 3);
    assert_true(str_eq(str_trim(STR(" \tx\n")), STR("x")));
    assert_true(str_cmp(STR("a"), STR("ab")) < 0 && str_cmp(STR("b"), STR("ab")) > 0);
    assert_true(str_eq_nocase(STR("Content-TYPE"), STR("content-type")));
    assert_int_equal(str_find(STR("hello"), STR("lo")), 3);
    strbuf b;
    strbuf_init(&b, 64);
    strbuf_add_json(&b, STR("a\"\\\n\x01z"));
    assert_string_equal(b.ptr, "\"a\\\"\\\\\\n\\u0001z\"");
    strbuf_deinit(&b);
    strbuf_init(&b, 4);
    strbuf_addz(&b, "12345");
    assert_int_equal(b.rc, ERR_TOO_LARGE);
    assert_null(strbuf_take(&b));
}

static void base64_by_rfc_4648(void **state) {
    (void)state;
    static const char *const url[] = {"", "-w", "-_8", "-_-_", "-_-_-w"}, *const standard[] = {
                                                                              "", "+w==", "+/8=",
                                                                              "+/+/", "+/+/+w=="};
    const uint8_t bytes[] = {0xfb, 0xff, 0xbf, 0xfb};
    uint8_t long_one[1000], back[1000];
    uint32_t rest;
    for (size_t n = 0; n < 5; n++) {
        strbuf b;
        strbuf_init(&b, 64);
        base64_add(&b, bytes, n, BASE64_URL);
        assert_true(str_eq(strbuf_str(&b), str_of(url[n])));
        assert_true(base64_decode(str_of(url[n]), BASE64_URL, back, &rest));
        assert_true(rest == 0 && memcmp(back, bytes, n) == 0);
        assert_true(n == 0 || !base64_decode(str_of(url[n]), BASE64_STANDARD, back, NULL));
        assert_true(base64_decode(str_of(url[n]), BASE64_EITHER, back, NULL));
        strbuf_reset(&b);
        base64_add(&b, bytes, n, BASE64_STANDARD);
        assert_true(str_eq(strbuf_str(&b), str_of(standard[n])));
        strbuf_deinit(&b);
    }
    assert_false(base64_decode(STR("abcde"), BASE64_EITHER, back, NULL));
    assert_false(base64_decode(STR("ab="), BASE64_EITHER, back, NULL));
    assert_true(base64_decode(STR("-x"), BASE64_URL, back, &rest) && rest == 1);
    for (size_t n = 0; n <= sizeof long_one; n += 37) {
        strbuf b;
        for (size_t i = 0; i < n; i++) long_one[i] = (uint8_t)(i * 167 + n);
        strbuf_init(&b, 2000);
        base64_add(&b, long_one, n, BASE64_URL);
        assert_true(base64_decode(strbuf_str(&b), BASE64_URL, back, &rest));
        assert_true(b.len == (n * 4 + 2) / 3 && memcmp(back, long_one, n) == 0);
        strbuf_deinit(&b);
    }
}

static void utf8_edges(void **state) {
    (void)state;
    const char *bad[] = {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                         "\xe2\x82", "\x80",         "\xf8\x88\x80\x80\x80",
                         "\xc3("};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        size_t at = 99;
        assert_false(utf8_valid(str_of(bad[i]), &at));
        assert_int_equal(at, 0);
    }
    for (uint32_t cp = 0; cp < 0x110000; cp += cp < 0x3000 ? 1 : 37) {
        if (cp >= 0xd800 && cp < 0xe000) continue;
        char out[4];
        str s = {out, utf8_put(cp, out)};
        size_t pos = 0;
        assert_true(utf8_valid(s, NULL));
        assert_int_equal(utf8_next(s, &pos), cp);
        assert_int_equal(pos, s.len);
    }
    assert_int_equal(utf8_cut(STR("a\xc3\xa9"), 2).len, 1);
}

static void times(void **state) {
    (void)state;
    int64_t t;
    char out[32];
    assert_true(time_parse(STR("2024-02-29T12:34:56.789Z"), &t) && t == 1709210096789);
    time_format(t, out);
    assert_string_equal(out, "2024-02-29T12:34:56.789Z");
    assert_true(time_parse(STR("1970-01-01T01:00:00+01:00"), &t) && t == 0);
    assert_true(time_parse(STR("1890-05-06"), &t) && t < 0);
    time_format(t, out);
    assert_string_equal(out, "1890-05-06T00:00:00Z");
    const char *bad[] = {"2023-02-29",
                         "2024-13-01",
                         "x",
                         "2024-01-01T25:00:00Z",
                         "2024-01-01T00:00:00",
                         "2024-1-1",
                         "2024-01-01T00:00:00.Z",
                         "0000-01-01"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) assert_false(time_parse(str_of(bad[i]), &t));
    for (int64_t ms = TIME_MS_MIN; ms < TIME_MS_MAX; ms += 987654321987) {
        size_t n = time_format(ms, out);
        assert_true(time_parse((str){out, n}, &t));
        assert_int_equal(t, ms);
    }
}

/* Both maps against a plain array, through growth, replacement and deletion. */
static void maps_like_arrays(void **state) {
    (void)state;
    enum { KEYS = 4096 };
    static uint32_t want[KEYS];
    memset(want, 0xff, sizeof want);
    strmap *m = strmap_new();
    u64map *u = u64map_new();
    rng r;
    rng_seed(&r, 7);
    for (int step = 0; step < 200000; step++) {
        uint32_t k = rng_below(&r, KEYS), v = rng_below(&r, 1000000);
        char z[32];
        str key = {z, (size_t)snprintf(z, sizeof z, "key-%u", k)};
        if (rng_below(&r, 3) == 0) {
            bool had = want[k] != MAP_NONE;
            assert_int_equal(strmap_del(m, key), had);
            assert_int_equal(u64map_del(u, k * 64u), had);
            want[k] = MAP_NONE;
        } else {
            assert_int_equal(strmap_put(m, key, v), OK);
            assert_int_equal(u64map_put(u, k * 64u, v), OK);
            want[k] = v;
        }
        assert_int_equal(strmap_get(m, key), want[k]);
        assert_int_equal(u64map_get(u, k * 64u), want[k]);
    }
    size_t live = 0, cursor = 0, seen = 0;
    for (uint32_t k = 0; k < KEYS; k++) live += want[k] != MAP_NONE;
    str key;
    uint32_t v;
    while (strmap_next(m, &cursor, &key, &v)) {
        uint64_t k;
        assert_true(str_to_u64(str_skip(key, 4), &k));
        assert_int_equal(want[k], v);
        seen++;
    }
    assert_int_equal(seen, live);
    assert_int_equal(strmap_count(m), live);
    assert_int_equal(u64map_count(u), live);
    strmap_free(m);
    u64map_free(u);
}

static void memory_fails_cleanly(void **state) {
    (void)state;
    for (long n = 1; n < 40; n++) {
        mem_fail_after(n);
        strmap *m = strmap_new();
        err rc = m ? OK : ERR_NO_MEMORY;
        for (uint32_t i = 0; rc == OK && i < 200; i++) {
            char z[16];
            rc = strmap_put(m, (str){z, (size_t)snprintf(z, sizeof z, "%u", i)}, i);
        }
        mem_fail_after(0);
        for (uint32_t i = 0; m && i < strmap_count(m); i++) {
            char z[16];
            assert_int_equal(strmap_get(m, (str){z, (size_t)snprintf(z, sizeof z, "%u", i)}), i);
        }
        strmap_free(m);
    }
    arena a;
    arena_init(&a, 1000);
    assert_non_null(arena_alloc(&a, 900));
    assert_null(arena_alloc(&a, 900));
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, 900));
    assert_null(arena_zalloc(&a, SIZE_MAX / 2, 4));
    arena_deinit(&a);
}

static void reader_stays_failed(void **state) {
    (void)state;
    uint8_t b[10];
    for (uint64_t v = 1; v; v <<= 1) {
        reader r = reader_of(b, varint_put(b, v));
        assert_true(reader_varint(&r) == v && !r.failed && r.left == 0);
    }
    memset(b, 0xff, sizeof b);
    reader r = reader_of(b, sizeof b);
    assert_int_equal(reader_varint(&r), 0);
    assert_true(r.failed);
    r = reader_of(b, 3);
    assert_int_equal(reader_u32(&r), 0);
    assert_int_equal(reader_u8(&r), 0);
    assert_null(reader_array(&r, SIZE_MAX, 8));
}

static void json_limits(void **state) {
    (void)state;
    yyjson_doc *d;
    char deep[2 * JSON_DEPTH_MAX + 2];
    memset(deep, '[', sizeof deep);
    assert_int_equal(json_parse(str_from(deep, sizeof deep), &d), ERR_INVALID);
    assert_int_equal(json_parse(STR("{\"a\":"), &d), ERR_INVALID);
    assert_int_equal(json_parse(STR("{\"a\":\"\xff\"}"), &d), ERR_INVALID);
    assert_int_equal(json_parse(STR("{\"a\":\"[[[\\\"\"}"), &d), OK);
    yyjson_doc_free(d);
    /* Brackets in a string do not count, whatever escapes stand before its end; those behind it do. */
    char text[4 * JSON_DEPTH_MAX];
    const char *heads[] = {"[\"\\\\\",", "[\"[[\\\"[[\\\\\","};
    for (size_t h = 0; h < COUNT_OF(heads); h++) {
        size_t n = strlen(heads[h]);
        memcpy(text, heads[h], n);
        memset(text + n, '[', JSON_DEPTH_MAX);
        assert_int_equal(json_parse(str_from(text, n + JSON_DEPTH_MAX), &d), ERR_INVALID);
        assert_non_null(strstr(err_detail(), "deeper"));
    }
}

static void rng_is_uniform(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 1);
    int hist[7] = {0};
    for (int i = 0; i < 70000; i++) hist[rng_below(&r, 7)]++;
    for (int i = 0; i < 7; i++) assert_in_range(hist[i], 9500, 10500);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_known),
        cmocka_unit_test(errors_quote_and_keep),
        cmocka_unit_test(str_numbers),
        cmocka_unit_test(str_pieces),
        cmocka_unit_test(utf8_edges),
        cmocka_unit_test(base64_by_rfc_4648),
        cmocka_unit_test(times),
        cmocka_unit_test(maps_like_arrays),
        cmocka_unit_test(memory_fails_cleanly),
        cmocka_unit_test(reader_stays_failed),
        cmocka_unit_test(json_limits),
        cmocka_unit_test(rng_is_uniform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
