/* json_map: what is read, what is refused and how it is named, what is written. */
#include "api/json_map.h"

#include "api/api.h"
#include <google/protobuf/timestamp.pb-c.h>
#include <kith/v1/admin.pb-c.h>
#include <kith/v1/posts.pb-c.h>
#include <kith/v1/search.pb-c.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static arena mem;

static int setup(void **state) {
    (void)state;
    arena_init(&mem, 16 * MIB);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    arena_deinit(&mem);
    return 0;
}

static err read_as(const ProtobufCMessageDescriptor *d, const char *text, void *out) {
    return json_map_parse(&mem, d, str_of(text), out);
}

static void assert_writes(const void *msg, const char *want) {
    strbuf b;
    strbuf_init(&b, MIB);
    json_map_write(&b, msg);
    assert_int_equal(b.rc, OK);
    assert_string_equal(b.ptr, want);
    strbuf_deinit(&b);
}

/* Reads, writes, and wants the same text. */
static void assert_round(const ProtobufCMessageDescriptor *d, const char *text, const char *want) {
    void *m;
    err rc = read_as(d, text, &m);
    if (rc != OK) fail_msg("%s: %s: %s", text, err_field(), err_detail());
    assert_writes(m, want ? want : text);
}

static void reads_all_kinds(void **state) {
    (void)state;
    Kith__V1__SearchRequest *r;
    const char *text =
        "{\"q\":\"x\",\"limit\":\"20\",\"filter\":{\"author\":[\"a\",\"b\"],\"notAuthor\":[],"
        "\"after\":\"1969-12-31T23:59:59.5Z\",\"kind\":null},\"notMe\":true,\"recency\":1e-1,"
        "\"min_lsn\":18446744073709551615,\"meaning_weight\":0.25,\"maxPerAuthor\":3.0}";
    assert_int_equal(read_as(&kith__v1__search_request__descriptor, text, &r), OK);
    assert_string_equal(r->q, "x");
    assert_int_equal(r->limit, 20);
    assert_int_equal(r->filter->n_author, 2);
    assert_string_equal(r->filter->author[1], "b");
    assert_int_equal(r->filter->n_not_author, 0);
    assert_int_equal(r->filter->after->seconds, -1);
    assert_int_equal(r->filter->after->nanos, 500000000);
    assert_string_equal(r->filter->kind, "");
    assert_true(r->not_me && !r->explain);
    assert_true(r->recency == 0.1 && r->meaning_weight->value == 0.25);
    assert_true(r->min_lsn == UINT64_MAX);
    assert_int_equal(r->max_per_author, 3);
    assert_null(r->filter->before);
}

static void reads_vectors(void **state) {
    (void)state;
    Kith__V1__PutPostRequest *r;
    assert_int_equal(api_parse_post(&mem, STR("{\"id\":\"1\",\"vector\":[1,-2.5]}"), &r), OK);
    assert_int_equal(r->n_vector, 2);
    assert_true(r->vector[1] == -2.5f);
    /* 1.0f and -2.5f, little-endian */
    assert_int_equal(api_parse_post(&mem, STR("{\"vector\":\"AACAPwAAIMA=\",\"id\":\"1\"}"), &r),
                     OK);
    assert_int_equal(r->n_vector, 2);
    assert_true(r->vector[0] == 1.0f && r->vector[1] == -2.5f);
    assert_string_equal(r->post->extra, "");
    assert_int_equal(api_parse_post(&mem, STR("{\"id\":\"1\",\"vector\":null}"), &r), OK);
    assert_int_equal(r->n_vector, 0);
}

static const struct {
    const char *text, *field, *detail;
} bad_posts[] = {
    {"", "body", NULL},
    {"[]", "", "expected an object, got an array"},
    {"3", "", "expected an object, got 3"},
    {"{\"id\":1}", "id", "expected a string, got 1"},
    {"{\"id\":\"a\\u0000b\"}", "id", "expected text without NUL bytes"},
    {"{\"id\":\"a\",\"id\":\"b\"}", "id", "given twice"},
    {"{\"reply_to\":\"a\",\"replyTo\":\"b\"}", "reply_to", "given twice"},
    {"{\"mood\":1,\"mood\":2}", "mood", "given twice"},
    {"{\"tags\":\"x\"}", "tags", "expected an array, got a string of 1 bytes"},
    {"{\"tags\":[\"x\",7]}", "tags[1]", "expected a string, got 7"},
    {"{\"tags\":[null]}", "tags[0]", "expected a string, got null"},
    {"{\"created_at\":7}", "created_at",
     "expected a time as in RFC 3339 (2024-05-06T07:08:09Z), got 7"},
    {"{\"created_at\":\"yesterday\"}", "created_at",
     "expected a time as in RFC 3339 (2024-05-06T07:08:09Z), got a string of 9 bytes"},
    {"{\"created_at\":\"2024-02-30T00:00:00Z\"}", "created_at", NULL},
    {"{\"created_at\":\"10000-01-01T00:00:00Z\"}", "created_at", NULL},
    {"{\"text\":{}}", "text", "expected a string, got an object"},
    {"{\"text\":NaN}", "body", NULL},
    {"{\"text\":\"\xff\"}", "body", NULL},
    {"{\"text\":\"\\ud800\"}", "body", NULL},
    {"{\"text\":\"a\"} x", "body", NULL},
    {"{\"text\":\"a\",}", "body", NULL},
    {"{\"vector\":{}}", "vector", "expected an array, got an object"},
    {"{\"vector\":[1,\"a\"]}", "vector[1]",
     "expected a number of single precision, got a string of 1 bytes"},
    {"{\"vector\":[1,null]}", "vector[1]", "expected a number of single precision, got null"},
    {"{\"vector\":[1e39]}", "vector[0]", "expected a number of single precision, got 1e+39"},
    {"{\"vector\":[1e999]}", "body", NULL},
    {"{\"vector\":[]}", "vector", "expected numbers, got an empty list"},
    {"{\"vector\":\"AACAPwAA\"}", "vector", "expected base64 of 4-byte floats, got 6 bytes"},
    {"{\"vector\":\"AACA*w==\"}", "vector", "expected a base64 string, got a string of 6 bytes"},
    {"{\"vector\":\"AADAfw==\"}", "vector", "expected finite numbers, got none at index 0"},
    {"{\"vector\":[1],\"vector\":[2]}", "vector", "given twice"},
};

static void refuses_bad_posts(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad_posts); i++) {
        Kith__V1__PutPostRequest *r;
        err rc = api_parse_post(&mem, str_of(bad_posts[i].text), &r);
        if (rc != ERR_INVALID) fail_msg("taken: %s", bad_posts[i].text);
        if (strcmp(err_field(), bad_posts[i].field) != 0)
            fail_msg("%s: field %s", bad_posts[i].text, err_field());
        if (bad_posts[i].detail && strcmp(err_detail(), bad_posts[i].detail) != 0)
            fail_msg("%s: detail %s", bad_posts[i].text, err_detail());
    }
}

static const struct {
    const char *text, *field, *detail;
} bad_searches[] = {
    {"{\"limit\":2147483648}", "limit",
     "expected an integer from -2147483648 to 2147483647, got 2147483648"},
    {"{\"limit\":-2147483649}", "limit",
     "expected an integer from -2147483648 to 2147483647, got -2147483649"},
    {"{\"limit\":1.5}", "limit", "expected an integer from -2147483648 to 2147483647, got 1.5"},
    {"{\"limit\":1e300}", "limit",
     "expected an integer from -2147483648 to 2147483647, got 1e+300"},
    {"{\"limit\":\"ten\"}", "limit",
     "expected an integer from -2147483648 to 2147483647, got a string of 3 bytes"},
    {"{\"min_lsn\":-1}", "min_lsn", "expected an integer from 0 to 18446744073709551615, got -1"},
    {"{\"min_lsn\":true}", "min_lsn",
     "expected an integer from 0 to 18446744073709551615, got a boolean"},
    {"{\"explain\":1}", "explain", "expected true or false, got 1"},
    {"{\"explain\":\"true\"}", "explain", "expected true or false, got a string of 4 bytes"},
    {"{\"recency\":\"NaN\"}", "recency", "expected a number, got a string of 3 bytes"},
    {"{\"meaning_weight\":{\"value\":1}}", "meaning_weight", "expected a number, got an object"},
    {"{\"filter\":[]}", "filter", "expected an object, got an array"},
    {"{\"filter\":{\"athor\":[]}}", "filter.athor", "unknown field"},
    {"{\"filter\":{\"author\":[\"a\",{}]}}", "filter.author[1]",
     "expected a string, got an object"},
    {"{\"Q\":\"x\"}", "Q", "unknown field"},
    {"{\"\":1}", "", "unknown field"},
    {"{\"q\\u0000\":1}", NULL, "unknown field"},
};

static void refuses_bad_searches(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad_searches); i++) {
        void *r;
        err rc = read_as(&kith__v1__search_request__descriptor, bad_searches[i].text, &r);
        if (rc != ERR_INVALID) fail_msg("taken: %s", bad_searches[i].text);
        if (bad_searches[i].field && strcmp(err_field(), bad_searches[i].field) != 0)
            fail_msg("%s: field %s", bad_searches[i].text, err_field());
        if (strcmp(err_detail(), bad_searches[i].detail) != 0)
            fail_msg("%s: detail %s", bad_searches[i].text, err_detail());
    }
}

/* Lists of messages, three deep, by an answer read as if it were a request. */
static void names_deep_paths(void **state) {
    (void)state;
    void *r;
    const ProtobufCMessageDescriptor *d = &kith__v1__search_response__descriptor;
    assert_int_equal(
        read_as(d, "{\"hits\":[{},{\"explain\":{\"terms\":[{\"tf\":1},{\"tf\":\"x\"}]}}]}", &r),
        ERR_INVALID);
    assert_string_equal(err_field(), "hits[1].explain.terms[1].tf");
    assert_int_equal(read_as(d, "{\"hits\":[{},3]}", &r), ERR_INVALID);
    assert_string_equal(err_field(), "hits[1]");
    assert_int_equal(read_as(d, "{\"hits\":[{\"post\":{\"tags\":[1]}}]}", &r), ERR_INVALID);
    assert_string_equal(err_field(), "hits[0].post.tags[0]");
    assert_int_equal(read_as(d, "{\"hits\":[{},{},{\"x\":1}]}", &r), ERR_INVALID);
    assert_string_equal(err_field(), "hits[2].x");
    assert_int_equal(read_as(d, "{\"hits\":[{\"post\":{\"a\":1,\"a\":2}}]}", &r), ERR_INVALID);
    assert_string_equal(err_field(), "hits[0].post.a");
}

static void keeps_what_a_post_has_more(void **state) {
    (void)state;
    const ProtobufCMessageDescriptor *d = &kith__v1__post__descriptor;
    assert_round(d, "{\"id\":\"1\",\"text\":\"t\",\"likes\":3,\"media\":[{\"url\":\"u\"}]}", NULL);
    assert_round(d, "{ \"likes\" : 3 , \"id\":\"1\", \"x y\":null}",
                 "{\"id\":\"1\",\"likes\":3,\"x y\":null}");
    /* a member that is called like our own store of members is one of them */
    assert_round(d, "{\"id\":\"1\",\"extra\":{\"a\":1}}", NULL);
    assert_round(d, "{\"extra\":\"x\"}", NULL);
    /* output only: not read, whatever they hold */
    assert_round(d, "{\"id\":\"1\",\"thread\":{},\"lsn\":\"x\"}", "{\"id\":\"1\"}");
    assert_round(d, "{\"id\":\"1\",\"q\\\"\\u0007\":\"\\u0000\"}", NULL);
    Kith__V1__Post p;
    kith__v1__post__init(&p);
    char broken[] = "no object";
    p.extra = broken;
    assert_writes(&p, "{}");
}

static void bounds_what_a_post_has_more(void **state) {
    (void)state;
    Kith__V1__PutPostRequest *r;
    for (int over = 0; over < 2; over++) {
        strbuf b;
        strbuf_init(&b, MIB);
        strbuf_addz(&b, "{\"id\":\"1\",\"x\":\"");
        size_t n = POST_EXTRA_MAX - sizeof "{\"x\":\"\"}" + 1 + (size_t)over;
        for (size_t i = 0; i < n; i++) strbuf_addc(&b, 'y');
        strbuf_addz(&b, "\"}");
        err rc = api_parse_post(&mem, strbuf_str(&b), &r);
        assert_int_equal(rc, over ? ERR_INVALID : OK);
        if (over)
            assert_string_equal(err_field(), "x");
        else
            assert_int_equal(strlen(r->post->extra), POST_EXTRA_MAX);
        strbuf_deinit(&b);
    }
}

static void refuses_depth(void **state) {
    (void)state;
    strbuf b;
    strbuf_init(&b, MIB);
    strbuf_addz(&b, "{\"id\":\"1\",\"x\":");
    for (int i = 0; i < 10000; i++) strbuf_addc(&b, '[');
    Kith__V1__PutPostRequest *r;
    assert_int_equal(api_parse_post(&mem, strbuf_str(&b), &r), ERR_INVALID);
    assert_string_equal(err_field(), "body");
    strbuf_deinit(&b);
}

static void writes_defaults_and_limits(void **state) {
    (void)state;
    Kith__V1__SearchResponse r;
    kith__v1__search_response__init(&r);
    assert_writes(&r, "{\"hits\":[],\"lsn\":0,\"matching\":0,\"degraded\":[],\"took_ms\":0}");
    Kith__V1__StatusResponse s;
    kith__v1__status_response__init(&s);
    s.lsn = (uint64_t)1 << 53;
    s.rss_bytes = ((uint64_t)1 << 53) + 1;
    s.posts = -((int64_t)1 << 53) - 1;
    s.threads = -5;
    s.uptime_seconds = 0.1;
    strbuf b;
    strbuf_init(&b, MIB);
    json_map_write(&b, &s);
    str out = strbuf_str(&b);
    assert_true(str_find(out, STR("\"lsn\":9007199254740992,")) > 0);
    assert_true(str_find(out, STR("\"rss_bytes\":\"9007199254740993\"")) > 0);
    assert_true(str_find(out, STR("\"posts\":\"-9007199254740993\"")) > 0);
    assert_true(str_find(out, STR("\"threads\":-5,")) > 0);
    assert_true(str_find(out, STR("\"uptime_seconds\":0.1,")) > 0);
    strbuf_deinit(&b);
}

static void writes_numbers_that_read_back(void **state) {
    (void)state;
    rng g;
    rng_seed(&g, 7);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = rng_u64(&g);
        double v, back;
        memcpy(&v, &bits, sizeof v);
        if (!(v == v) || v - v != 0) continue;
        strbuf b;
        strbuf_init(&b, 64);
        json_map_write_real(&b, v, false);
        assert_true(str_to_f64(strbuf_str(&b), &back) && back == v);
        strbuf_reset(&b);
        float f = (float)rng_normal(&g);
        json_map_write_real(&b, (double)f, true);
        assert_true(str_to_f64(strbuf_str(&b), &back) && (float)back == f);
        assert_true(b.len <= 16);
        strbuf_deinit(&b);
    }
}

static void writes_times(void **state) {
    (void)state;
    const ProtobufCMessageDescriptor *d = &kith__v1__post__descriptor;
    assert_round(d, "{\"created_at\":\"1890-01-01\"}", "{\"created_at\":\"1890-01-01T00:00:00Z\"}");
    assert_round(d, "{\"created_at\":\"2024-05-06T09:08:09.1239+02:00\"}",
                 "{\"created_at\":\"2024-05-06T07:08:09.123Z\"}");
    assert_round(d, "{\"created_at\":\"0001-01-01T00:00:00.001Z\"}", NULL);
    assert_round(d, "{\"created_at\":\"9999-12-31T23:59:59.999Z\"}", NULL);
}

static void reads_queries(void **state) {
    (void)state;
    Kith__V1__SearchRequest r;
    kith__v1__search_request__init(&r);
    str q = STR("q=a+b%26c&limit=3&filter.author=x&author=y&filter.author=z&author=u&author=v&tag=t"
                "&after=2024-05-06&explain&not_me=1&context=false&recency=0.3&minLsn=7&cursor="
                "&meaning_weight=0.5");
    assert_int_equal(json_map_query(&mem, &r, q, NULL), OK);
    assert_string_equal(r.q, "a b&c");
    assert_int_equal(r.limit, 3);
    assert_int_equal(r.filter->n_author, 5);
    const char *want[] = {"x", "y", "z", "u", "v"};
    for (int i = 0; i < 5; i++) assert_string_equal(r.filter->author[i], want[i]);
    assert_string_equal(r.filter->tag[0], "t");
    assert_true(r.explain && r.not_me && !r.context);
    assert_true(r.recency == 0.3 && r.meaning_weight->value == 0.5 && r.min_lsn == 7);
    assert_int_equal(r.filter->after->seconds, 1714953600);
}

static const struct {
    const char *query, *field, *detail;
} bad_queries[] = {
    {"limit=x", "limit",
     "expected an integer from -2147483648 to 2147483647, got a string of 1 bytes"},
    {"limit=3000000000", "limit",
     "expected an integer from -2147483648 to 2147483647, got 3000000000"},
    {"limit=1&limit=2", "limit", "given twice"},
    {"kind=post&filter.kind=reply", "filter.kind", "given twice"},
    {"explain=yes", "explain", "expected true or false, got a string of 3 bytes"},
    {"nope=1", "nope", "unknown parameter"},
    {"filter=1", "filter", "unknown parameter"},
    {"filter.nope=1", "filter.nope", "unknown parameter"},
    {"filter.author.x=1", "filter.author.x", "unknown parameter"},
    {"q.x=1", "q.x", "unknown parameter"},
    {".q=1", ".q", "unknown parameter"},
    {"viewer=me", "viewer", "unknown parameter"}, /* skipped */
    {"recency=inf", "recency", "expected a number, got a string of 3 bytes"},
    {"after=tomorrow", "after",
     "expected a time as in RFC 3339 (2024-05-06T07:08:09Z), got a string of 8 bytes"},
    {"q=%ff", "query", NULL},
    {"q=%00", "query", NULL},
    {"q=%2", "query", NULL},
};

static void refuses_bad_queries(void **state) {
    (void)state;
    const char *const skip[2] = {NULL, "viewer"};
    for (size_t i = 0; i < COUNT_OF(bad_queries); i++) {
        Kith__V1__SearchRequest r;
        kith__v1__search_request__init(&r);
        err rc = json_map_query(&mem, &r, str_of(bad_queries[i].query), skip);
        if (rc != ERR_INVALID) fail_msg("taken: %s", bad_queries[i].query);
        if (strcmp(err_field(), bad_queries[i].field) != 0)
            fail_msg("%s: field %s", bad_queries[i].query, err_field());
        if (bad_queries[i].detail && strcmp(err_detail(), bad_queries[i].detail) != 0)
            fail_msg("%s: detail %s", bad_queries[i].query, err_detail());
    }
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    const char *text =
        "{\"id\":\"1\",\"tags\":[\"a\"],\"created_at\":\"2024-05-06\",\"k\":1,\"l\":[2],"
        "\"vector\":[1,2]}";
    for (long n = 1;; n++) {
        arena a;
        arena_init(&a, MIB);
        Kith__V1__PutPostRequest *r;
        mem_fail_after(n);
        err rc = api_parse_post(&a, str_of(text), &r);
        mem_fail_after(0);
        arena_deinit(&a);
        if (rc == OK) {
            assert_true(n > 3);
            break;
        }
        assert_int_equal(rc, ERR_NO_MEMORY);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_all_kinds),
        cmocka_unit_test(reads_vectors),
        cmocka_unit_test(refuses_bad_posts),
        cmocka_unit_test(refuses_bad_searches),
        cmocka_unit_test(names_deep_paths),
        cmocka_unit_test(keeps_what_a_post_has_more),
        cmocka_unit_test(bounds_what_a_post_has_more),
        cmocka_unit_test(refuses_depth),
        cmocka_unit_test(writes_defaults_and_limits),
        cmocka_unit_test(writes_numbers_that_read_back),
        cmocka_unit_test(writes_times),
        cmocka_unit_test(reads_queries),
        cmocka_unit_test(refuses_bad_queries),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("json_map", tests, setup, teardown);
}
