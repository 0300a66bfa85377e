/* A directory as a store, targets and keys that are refused, the worked example of Signature Version 4,
 * and the same contract on a real server when KITH_TEST_OBJECT names one (tests/backup_test.py does,
 * also behind a proxy that fails). */
#include "object/object_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct seen {
    char text[1024];
} seen;

static err collect(void *ctx, const object_info *o) {
    seen *s = ctx;
    size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof s->text - n, "%s:%llu ", o->key, (unsigned long long)o->size);
    return OK;
}

static void must(err rc) {
    if (rc != OK) print_error("%s: %s\n", err_name(rc), err_detail());
    assert_int_equal(rc, OK);
}

static void get_is(object_store *s, const char *key, str want) {
    uint8_t *p;
    size_t n;
    must(object_get(s, key, OBJECT_MAX, &p, &n));
    assert_true(str_eq(str_from(p, n), want));
    mem_free(p);
}

static void contract(object_store *s, const char *tag) {
    char key[64], other[64], prefix[64];
    snprintf(prefix, sizeof prefix, "t%s/", tag);
    snprintf(key, sizeof key, "t%s/a/1.bin", tag);
    snprintf(other, sizeof other, "t%s/b", tag);
    uint8_t *p;
    size_t n;
    assert_int_equal(object_get(s, key, 10, &p, &n), ERR_NOT_FOUND);
    must(object_put(s, key, STR("first"), OBJECT_NEW));
    assert_int_equal(object_put(s, key, STR("second"), OBJECT_NEW), ERR_EXISTS);
    get_is(s, key, STR("first"));
    must(object_put(s, key, STR("second"), OBJECT_REPLACE));
    get_is(s, key, STR("second"));
    assert_int_equal(object_get(s, key, 3, &p, &n), ERR_TOO_LARGE);
    must(object_put(s, other, STR(""), OBJECT_NEW));
    get_is(s, other, STR(""));
    seen all = {{0}};
    char want[256];
    must(object_list(s, prefix, collect, &all));
    snprintf(want, sizeof want, "%s:6 %s:0 ", key, other);
    assert_string_equal(all.text, want);
    must(object_delete(s, key));
    must(object_delete(s, key));
    must(object_delete(s, other));
    assert_int_equal(object_get(s, key, 10, &p, &n), ERR_NOT_FOUND);
}

/* 17 MiB: three parts. */
static void large(object_store *s, const char *tag) {
    char key[64];
    size_t n = 17 * MIB + 5;
    uint8_t *p = mem_alloc(n);
    assert_non_null(p);
    rng r;
    rng_seed(&r, 7);
    for (size_t i = 0; i + 8 <= n; i += 8) le64_put(p + i, rng_u64(&r));
    memset(p + n - 8, 9, 8);
    snprintf(key, sizeof key, "t%s/large", tag);
    must(object_put(s, key, str_from(p, n), OBJECT_NEW));
    get_is(s, key, str_from(p, n));
    assert_int_equal(object_put(s, key, str_from(p, n - 1), OBJECT_NEW), ERR_EXISTS);
    must(object_delete(s, key));
    mem_free(p);
}

static void directory(void **state) {
    (void)state;
    char dir[] = "/tmp/kith-object-XXXXXX", url[64];
    assert_non_null(mkdtemp(dir));
    snprintf(url, sizeof url, "dir:%s", dir);
    object_store *s;
    must(object_open(url, NULL, &s));
    contract(s, "x");
    large(s, "y");
    object_close(s);
}

static void refused(void **state) {
    (void)state;
    static const char *const urls[] = {"",
                                       "dir:",
                                       "/tmp/x",
                                       "s3://",
                                       "gs:///x",
                                       "s3://b?other=1",
                                       "ftp://b/x",
                                       "s3://b?endpoint=%2",
                                       "s3://b?endpoint=nohost"};
    object_store *s;
    setenv("AWS_ACCESS_KEY_ID", "a", 0);
    setenv("AWS_SECRET_ACCESS_KEY", "b", 0);
    for (size_t i = 0; i < COUNT_OF(urls); i++)
        assert_int_equal(object_open(urls[i], NULL, &s), ERR_INVALID);
    char dir[] = "/tmp/kith-object-XXXXXX", url[64];
    assert_non_null(mkdtemp(dir));
    snprintf(url, sizeof url, "dir:%s", dir);
    must(object_open(url, NULL, &s));
    static const char *const keys[] = {"",       "/a", "a/",  "a//b", "../a",
                                       "a/../b", ".x", "a b", "a\n"};
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        assert_int_equal(object_put(s, keys[i], STR("x"), OBJECT_NEW), ERR_INVALID);
    object_close(s);
}

/* "Authenticating Requests: Using the Authorization Header", AWS's GET Object example. */
static void signature(void **state) {
    (void)state;
    const char *empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    object_ask ask = {.method = "GET",
                      .path = "/test.txt",
                      .headers = {{"host", "examplebucket.s3.amazonaws.com"},
                                  {"range", "bytes=0-9"},
                                  {"x-amz-content-sha256", empty},
                                  {"x-amz-date", "20130524T000000Z"}},
                      .header_count = 4};
    sigv4 k = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1",
               false};
    strbuf b;
    strbuf_init(&b, 1024);
    must(sigv4_header(&k, &ask, empty, "20130524T000000Z", &b));
    assert_true(str_ends(strbuf_str(&b), STR("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170"
                                             "aba48dd91039c6036bdb41")));
    char at[17], hex[65];
    sigv4_time(1369353600123, at);
    assert_string_equal(at, "20130524T000000Z");
    sigv4_hash(STR(""), hex);
    assert_string_equal(hex, empty);
    strbuf_deinit(&b);
}

static void real_server(void **state) {
    (void)state;
    const char *url = getenv("KITH_TEST_OBJECT");
    if (!url) skip();
    object_store *s;
    char tag[32];
    snprintf(tag, sizeof tag, "%llu", (unsigned long long)clock_mono_ns());
    must(object_open(url, &(object_options){.tries = 8, .timeout_ms = 4000}, &s));
    contract(s, tag);
    large(s, tag);
    object_close(s);
}

int main(void) {
    if (getenv("KITH_TEST_OBJECT")) {
        const struct CMUnitTest real[] = {cmocka_unit_test(real_server)};
        return cmocka_run_group_tests(real, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directory),
        cmocka_unit_test(refused),
        cmocka_unit_test(signature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
