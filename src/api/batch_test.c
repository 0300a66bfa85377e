/* The batch stream: results in order, bad lines passed over, groups, pieces, failures. */
#include "api/fake_test.h"

#include "base/json.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

typedef struct bed {
    shard *s;
    api *a;
} bed;

static int setup(void **state) {
    bed *b = mem_zalloc(1, sizeof *b);
    b->s = fake_shard_new();
    api_options o = {.version = "1"};
    if (api_open(&o, &b->a) != OK) return 1;
    api_attach(b->a, b->s, fake_searcher(b->s), fake_provider(b->s));
    *state = b;
    return 0;
}

static int teardown(void **state) {
    bed *b = *state;
    api_close(b->a);
    fake_shard_free(b->s);
    mem_free(b);
    return 0;
}

static fake_http *send_batch(bed *b, const char *query, str body, size_t piece) {
    strbuf t;
    strbuf_init(&t, 200);
    strbuf_addf(&t, "/v1/posts:batch%s", query);
    fake_http *x = fake_send_pieces(b->a, "POST", t.ptr, "", body, piece);
    strbuf_deinit(&t);
    return x;
}

static void lines_in_any_pieces(void **state) {
    bed *b = *state;
    str body = STR("{\"id\":\"1\",\"text\":\"a\"}\n"
                   "\r\n"
                   "not json\n"
                   "{\"id\":\"2\",\"text\":\"b\",\"vector\":[1,2,3,4]}\r\n"
                   "{\"id\":\"3\",\"text\":7}\n"
                   "{\"id\":\"3\",\"text\":\"\"}\n"
                   "{\"id\":\"1\",\"text\":\"c\"}");
    const char *want = "{\"line\":1,\"id\":\"1\",\"outcome\":\"created\",\"lsn\":L}\n"
                       "{\"line\":3,\"error\":{\"status\":400,\"code\":\"invalid\",\"detail\":"
                       "\"not JSON at byte 0: "
                       "invalid literal, expected 'null'\",\"field\":\"body\"}}\n"
                       "{\"line\":4,\"id\":\"2\",\"outcome\":\"created\",\"lsn\":L}\n"
                       "{\"line\":5,\"error\":{\"status\":400,\"code\":\"invalid\",\"detail\":"
                       "\"expected a string, got "
                       "7\",\"field\":\"text\",\"expected\":\"a string\"}}\n"
                       "{\"line\":6,\"error\":{\"status\":400,\"code\":\"invalid\",\"detail\":"
                       "\"expected 1 to 65536 "
                       "bytes, got 0\",\"field\":\"text\",\"expected\":\"1 to 65536 bytes\"}}\n"
                       "{\"line\":7,\"id\":\"1\",\"outcome\":\"replaced\",\"lsn\":L}\n";
    static const size_t pieces[] = {1, 7, 64, 100000};
    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        bed fresh = {.s = fake_shard_new()};
        api_options o = {.version = "1"};
        assert_int_equal(api_open(&o, &fresh.a), OK);
        api_attach(fresh.a, fresh.s, fake_searcher(fresh.s), fake_provider(fresh.s));
        fake_http *x = send_batch(&fresh, "", body, pieces[i]);
        assert_int_equal(x->status, 200);
        assert_true(x->is_streamed);
        assert_string_equal(fake_header(x, "content-type"), "application/x-ndjson");
        for (char *p = x->body.ptr; (p = strstr(p, "\"lsn\":"));) { /* numbers depend on groups */
            p += 6;
            assert_true(*p >= '1' && *p <= '3');
            *p = 'L';
        }
        const char *at = strstr(x->body.ptr, "byte 0: ");
        assert_non_null(at);
        /* the parser's own words are not ours to fix */
        assert_memory_equal(x->body.ptr, want, (size_t)(at - x->body.ptr));
        assert_string_equal(strstr(x->body.ptr, "{\"line\":4"), strstr(want, "{\"line\":4"));
        fake_done(x);
        assert_int_equal(fresh.s->count, 2);
        teardown((void *[]){mem_dup(&fresh, sizeof fresh)});
    }
    (void)b;
}

static void sent_again_is_unchanged(void **state) {
    bed *b = *state;
    str body = STR("{\"id\":\"1\",\"text\":\"a\"}\n{\"id\":\"2\",\"text\":\"b\"}\n");
    fake_done(send_batch(b, "", body, SIZE_MAX));
    assert_int_equal(b->s->puts, 1);
    assert_int_equal(b->s->items_most, 2);
    fake_http *x = send_batch(b, "?wait=applied", body, SIZE_MAX);
    assert_string_equal(x->body.ptr,
                        "{\"line\":1,\"id\":\"1\",\"outcome\":\"unchanged\",\"lsn\":1}\n"
                        "{\"line\":2,\"id\":\"2\",\"outcome\":\"unchanged\",\"lsn\":2}\n");
    fake_done(x);
    assert_int_equal(b->s->puts, 1);
}

static void many_lines_make_groups(void **state) {
    bed *b = *state;
    strbuf body;
    strbuf_init(&body, 8 * MIB);
    for (int i = 0; i < 3000; i++) strbuf_addf(&body, "{\"id\":\"%d\",\"text\":\"t\"}\n", i);
    fake_http *x = send_batch(b, "", strbuf_str(&body), SIZE_MAX);
    str rest = strbuf_str(&x->body), line;
    uint64_t n = 0;
    while (str_split(&rest, '\n', &line) && line.len) {
        yyjson_doc *d;
        assert_int_equal(json_parse(line, &d), OK);
        assert_int_equal(yyjson_get_uint(yyjson_doc_ptr_get(d, "/line")), ++n);
        yyjson_doc_free(d);
    }
    assert_int_equal(n, 3000);
    assert_int_equal(b->s->puts, 3); /* of at most 1024 */
    assert_int_equal(b->s->count, 3000);
    fake_done(x);
    strbuf_deinit(&body);
}

static void long_lines_are_passed_over(void **state) {
    bed *b = *state;
    strbuf body;
    strbuf_init(&body, 8 * MIB);
    strbuf_addz(&body, "{\"id\":\"1\",\"text\":\"a\"}\n{\"id\":\"2\",\"text\":\"");
    for (size_t i = 0; i < 3 * MIB; i++) strbuf_addc(&body, 'x');
    strbuf_addz(&body, "\"}\n{\"id\":\"3\",\"text\":\"c\"}\n{\"id\":\"4\",\"text\":\"");
    for (size_t i = 0; i < API_LINE_MAX; i++) strbuf_addc(&body, 'x'); /* and no end */
    static const size_t pieces[] = {SIZE_MAX, 65536, 1000};
    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        fake_http *x = send_batch(b, "", strbuf_str(&body), pieces[i]);
        assert_non_null(strstr(x->body.ptr, "{\"line\":2,\"error\":{\"status\":413,"));
        assert_non_null(strstr(x->body.ptr, "{\"line\":3,\"id\":\"3\""));
        assert_non_null(strstr(x->body.ptr, "{\"line\":4,\"error\":{\"status\":413,"));
        assert_null(strstr(x->body.ptr, "{\"line\":5"));
        fake_done(x);
    }
    strbuf_deinit(&body);
}

static void one_bad_vector_spares_the_others(void **state) {
    bed *b = *state;
    fake_http *x = send_batch(b, "",
                              STR("{\"id\":\"1\",\"text\":\"a\"}\n"
                                  "{\"id\":\"2\",\"text\":\"b\",\"vector\":[0,0,0,0]}\n"
                                  "{\"id\":\"3\",\"text\":\"c\"}\n"),
                              SIZE_MAX);
    assert_non_null(strstr(x->body.ptr, "{\"line\":1,\"id\":\"1\",\"outcome\":\"created\""));
    assert_non_null(strstr(x->body.ptr, "{\"line\":2,\"id\":\"2\",\"error\":{\"status\":400"));
    assert_non_null(strstr(x->body.ptr, "{\"line\":3,\"id\":\"3\",\"outcome\":\"created\""));
    assert_int_equal(b->s->count, 2);
    fake_done(x);
}

static void a_busy_shard_is_waited_for(void **state) {
    bed *b = *state;
    b->s->put_rc = ERR_AGAIN;
    b->s->put_rc_times = 2;
    fake_http *x = send_batch(b, "", STR("{\"id\":\"1\",\"text\":\"a\"}\n"), SIZE_MAX);
    assert_non_null(strstr(x->body.ptr, "created"));
    assert_int_equal(b->s->puts, 3);
    fake_done(x);
}

static void a_full_disk_ends_it(void **state) {
    bed *b = *state;
    b->s->put_rc = ERR_NO_SPACE;
    b->s->put_rc_times = 1000;
    strbuf body;
    strbuf_init(&body, MIB);
    for (int i = 0; i < 100; i++) strbuf_addf(&body, "{\"id\":\"%d\",\"text\":\"t\"}\n", i);
    fake_http *x = send_batch(b, "", strbuf_str(&body), 200);
    assert_non_null(strstr(x->body.ptr, "\"status\":507,\"code\":\"no_space\""));
    assert_int_equal(b->s->puts, 1);
    assert_null(strstr(x->body.ptr, "\"line\":50"));
    assert_true(x->is_streamed);
    fake_done(x);
    strbuf_deinit(&body);
}

static void parameters(void **state) {
    bed *b = *state;
    static const char *const bad[] = {"?wait=searchable", "?wait=x", "?x=1"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        fake_http *x = send_batch(b, bad[i], STR("{\"id\":\"1\",\"text\":\"a\"}\n"), SIZE_MAX);
        assert_int_equal(x->status, 400);
        assert_false(x->is_streamed);
        fake_done(x);
    }
    assert_int_equal(b->s->count, 0);
    b->s->wait_rc = ERR_TIMEOUT;
    fake_http *x = send_batch(b, "?wait=applied", STR("{\"id\":\"1\",\"text\":\"a\"}\n"), SIZE_MAX);
    assert_non_null(strstr(x->body.ptr, "{\"line\":0,\"error\":{\"status\":504,"));
    fake_done(x);
}

/* Bytes that are anything: answered, never a crash, and every good line put. */
static void noise(void **state) {
    bed *b = *state;
    rng g;
    rng_seed(&g, 3);
    for (int round = 0; round < 300; round++) {
        strbuf body;
        strbuf_init(&body, MIB);
        for (int i = 0; i < 400; i++) {
            static const char set[] = "{}[]\":,\\\n\n0a\xc3\xa9\xff\x01 ";
            strbuf_addc(&body, set[rng_below(&g, sizeof set - 1)]);
        }
        strbuf_addf(&body, "\n{\"id\":\"%d\",\"text\":\"t\"}", round);
        fake_http *x = send_batch(b, "", strbuf_str(&body), 1 + rng_below(&g, 200));
        str rest = strbuf_str(&x->body), line;
        while (str_split(&rest, '\n', &line) && line.len) {
            yyjson_doc *d;
            assert_int_equal(json_parse(line, &d), OK);
            yyjson_doc_free(d);
        }
        fake_done(x);
        assert_int_equal(b->s->count, round + 1);
        strbuf_deinit(&body);
    }
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(lines_in_any_pieces),
        T(sent_again_is_unchanged),
        T(many_lines_make_groups),
        T(long_lines_are_passed_over),
        T(one_bad_vector_spares_the_others),
        T(a_busy_shard_is_waited_for),
        T(a_full_disk_ends_it),
        T(parameters),
        T(noise),
    };
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
