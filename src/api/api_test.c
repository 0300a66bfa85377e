/* Routes, access, problem documents and operations, over the fakes of fake_test.c. */
#include "api/fake_test.h"

#include "base/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct bed {
    shard *s;
    api *a;
    keys *k;
    char dir[64];
    char admin[KEY_TOKEN_MAX], reader[KEY_TOKEN_MAX];
    char logged[1024];
} bed;

static const unsigned char page[] = "<!doctype html>";
static const api_file files[] = {{STR_INIT("/index.html"), STR_INIT("text/html; charset=utf-8"),
                                  STR_INIT("\"abc\""), page, sizeof page - 1}};

static void keep_log(void *ctx, const char *text) {
    bed *b = ctx;
    size_t n = MIN(strlen(text), sizeof b->logged - 1);
    memcpy(b->logged, text, n);
    b->logged[n] = 0;
}

static int setup_with(void **state, bool always, bool attach) {
    bed *b = mem_zalloc(1, sizeof *b);
    memcpy(b->dir, "/tmp/kith-api-XXXXXX", sizeof "/tmp/kith-api-XXXXXX");
    if (!mkdtemp(b->dir)) return 1;
    b->s = fake_shard_new();
    if (keys_birth(fs_real(), b->dir, b->admin) != OK) return 1;
    if (keys_open(fs_real(), b->dir, &b->k) != OK) return 1;
    if (keys_new(b->k, STR("r"), SCOPE_SEARCH, b->reader) != OK) return 1;
    api_options o = {.keys = b->k,
                     .keys_always = always,
                     .version = "9.9",
                     .files = files,
                     .file_count = COUNT_OF(files),
                     .log = keep_log,
                     .ctx = b};
    if (api_open(&o, &b->a) != OK) return 1;
    if (attach) api_attach(b->a, b->s, fake_searcher(b->s), fake_provider(b->s));
    *state = b;
    return 0;
}
static int setup(void **state) {
    return setup_with(state, false, true);
}
static int setup_always(void **state) {
    return setup_with(state, true, true);
}
static int setup_starting(void **state) {
    return setup_with(state, false, false);
}

static int teardown(void **state) {
    bed *b = *state;
    static const char *const names[] = {"keys.json", "keys.lock"};
    api_close(b->a);
    keys_close(b->k);
    fake_shard_free(b->s);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        strbuf p;
        strbuf_init(&p, 200);
        strbuf_addf(&p, "%s/%s", b->dir, names[i]);
        (void)unlink(p.ptr);
        strbuf_deinit(&p);
    }
    int rc = rmdir(b->dir);
    mem_free(b);
    return rc;
}

/* Sends and checks the status; gives the parsed body. */
static yyjson_doc *call(bed *b, const char *method, const char *target, const char *headers,
                        const char *body, int status) {
    fake_http *x = fake_send(b->a, method, target, headers, str_of(body));
    if (x->status != status)
        fail_msg("%s %s: %d %s", method, target, x->status, x->body.ptr ? x->body.ptr : "");
    assert_true(strlen(fake_header(x, "kith-request-id")) > 0);
    assert_string_equal(fake_header(x, "x-content-type-options"), "nosniff");
    yyjson_doc *doc = NULL;
    if (json_parse(strbuf_str(&x->body), &doc) != OK) fail_msg("%s", x->body.ptr);
    if (status >= 400) {
        yyjson_val *r = yyjson_doc_get_root(doc);
        assert_string_equal(fake_header(x, "content-type"), "application/problem+json");
        assert_int_equal(yyjson_get_int(yyjson_obj_get(r, "status")), status);
        assert_true(yyjson_is_str(yyjson_obj_get(r, "title")));
        assert_true(yyjson_is_str(yyjson_obj_get(r, "code")));
    }
    fake_done(x);
    return doc;
}

static const char *text_of(yyjson_doc *d, const char *pointer) {
    const char *s = yyjson_get_str(yyjson_doc_ptr_get(d, pointer));
    return s ? s : "";
}

static void put(bed *b, const char *json) {
    yyjson_doc_free(call(b, "POST", "/v1/posts", "", json, 200));
}

/* ---- posts ---- */

static void put_get_delete(void **state) {
    bed *b = *state;
    yyjson_doc *d =
        call(b, "POST", "/v1/posts", "", "{\"id\":\"a/1\",\"text\":\"hello\",\"likes\":2}", 200);
    assert_string_equal(text_of(d, "/outcome"), "created");
    assert_int_equal(yyjson_get_uint(yyjson_doc_ptr_get(d, "/lsn")), 1);
    yyjson_doc_free(d);
    d = call(b, "POST", "/v1/posts", "", "{\"likes\": 2, \"id\":\"a/1\",\"text\":\"hello\"}", 200);
    assert_string_equal(text_of(d, "/outcome"), "unchanged");
    yyjson_doc_free(d);
    assert_int_equal(b->s->puts, 1);
    d = call(b, "PUT", "/v1/posts/a%2F1", "", "{\"text\":\"hi\"}", 200);
    assert_string_equal(text_of(d, "/outcome"), "replaced");
    assert_string_equal(text_of(d, "/id"), "a/1");
    yyjson_doc_free(d);
    d = call(b, "GET", "/v1/posts/a%2F1", "", "", 200);
    assert_string_equal(text_of(d, "/text"), "hi");
    yyjson_doc_free(d);
    d = call(b, "PUT", "/v1/posts/x", "", "{\"id\":\"y\",\"text\":\"hi\"}", 400);
    assert_string_equal(text_of(d, "/field"), "id");
    yyjson_doc_free(d);
    yyjson_doc_free(call(b, "DELETE", "/v1/posts/a%2F1", "", "", 200));
    yyjson_doc_free(call(b, "DELETE", "/v1/posts/a%2F1", "", "", 404));
    yyjson_doc_free(call(b, "GET", "/v1/posts/a%2F1", "", "", 404));
}

static void put_with_a_vector(void **state) {
    bed *b = *state;
    put(b, "{\"id\":\"1\",\"text\":\"t\",\"vector\":[1,2,3,4]}");
    assert_true(b->s->posts[0].vector);
    put(b, "{\"id\":\"1\",\"text\":\"t\",\"vector\":[1,2,3,4]}"); /* cannot be compared: again */
    assert_int_equal(b->s->puts, 2);
    yyjson_doc *d =
        call(b, "POST", "/v1/posts", "", "{\"id\":\"1\",\"text\":\"t\",\"vector\":[1,2]}", 400);
    assert_string_equal(text_of(d, "/field"), "vector");
    assert_string_equal(text_of(d, "/expected"), "4 numbers");
    assert_string_equal(text_of(d, "/detail"), "expected 4 numbers, got 2");
    yyjson_doc_free(d);
}

static void waits(void **state) {
    bed *b = *state;
    yyjson_doc_free(
        call(b, "POST", "/v1/posts?wait=searchable", "", "{\"id\":\"1\",\"text\":\"t\"}", 200));
    yyjson_doc *d =
        call(b, "POST", "/v1/posts?wait=soon", "", "{\"id\":\"1\",\"text\":\"t\"}", 400);
    assert_string_equal(text_of(d, "/field"), "wait");
    yyjson_doc_free(d);
    b->s->wait_rc = ERR_TIMEOUT;
    fake_http *x =
        fake_send(b->a, "POST", "/v1/posts?wait=applied", "", STR("{\"id\":\"2\",\"text\":\"t\"}"));
    assert_int_equal(x->status, 504);
    assert_non_null(strstr(x->body.ptr, "durable at position 2"));
    assert_string_equal(fake_header(x, "retry-after"), "1");
    fake_done(x);
}

static void threads_are_paged(void **state) {
    bed *b = *state;
    put(b, "{\"id\":\"r\",\"text\":\"root\",\"created_at\":\"2024-01-01\"}");
    for (int i = 0; i < 7; i++) {
        char json[] =
            "{\"id\":\"0\",\"text\":\"t\",\"reply_to\":\"r\",\"created_at\":\"2024-01-02\"}";
        json[7] = (char)('0' + i);
        put(b, json);
    }
    put(b, "{\"id\":\"other\",\"text\":\"t\"}");
    size_t seen = 0;
    strbuf target;
    strbuf_init(&target, 300);
    for (const char *cursor = "";; seen++) {
        strbuf_reset(&target);
        strbuf_addf(&target, "/v1/posts/3/thread?limit=3&cursor=%s", cursor);
        yyjson_doc *d = call(b, "GET", target.ptr, "", "", 200);
        assert_string_equal(text_of(d, "/thread"), "r");
        assert_int_equal(yyjson_get_int(yyjson_doc_ptr_get(d, "/total")), 8);
        static char next[100];
        memcpy(next, text_of(d, "/next_cursor"), strlen(text_of(d, "/next_cursor")) + 1);
        cursor = next;
        assert_int_equal(yyjson_arr_size(yyjson_doc_ptr_get(d, "/posts")), seen == 2 ? 2 : 3);
        yyjson_doc_free(d);
        if (!*cursor) break;
    }
    assert_int_equal(seen, 2);
    strbuf_reset(&target); /* a cursor of another thread */
    yyjson_doc *d = call(b, "GET", "/v1/posts/r/thread?limit=1", "", "", 200);
    strbuf_addf(&target, "/v1/posts/other/thread?cursor=%s", text_of(d, "/next_cursor"));
    yyjson_doc_free(d);
    d = call(b, "GET", target.ptr, "", "", 400);
    assert_string_equal(text_of(d, "/field"), "cursor");
    yyjson_doc_free(d);
    yyjson_doc_free(call(b, "GET", "/v1/posts/none/thread", "", "", 404));
    yyjson_doc_free(call(b, "GET", "/v1/posts/r/thread?limit=1001", "", "", 400));
    yyjson_doc_free(call(b, "GET", "/v1/posts/r/thread?limit=-1", "", "", 400));
    strbuf_deinit(&target);
}

static void a_thread_of_a_missing_root(void **state) {
    bed *b = *state;
    put(b, "{\"id\":\"1\",\"text\":\"t\",\"reply_to\":\"gone\"}");
    yyjson_doc *d = call(b, "GET", "/v1/posts/gone/thread", "", "", 200);
    assert_string_equal(text_of(d, "/posts/0/id"), "1");
    yyjson_doc_free(d);
}

/* ---- search ---- */

static void search_by_get_and_post(void **state) {
    bed *b = *state;
    put(b, "{\"id\":\"1\",\"text\":\"a red fox\"}");
    yyjson_doc *d = call(b, "GET", "/v1/search?q=red&limit=5&author=x&recency=0.3", "", "", 200);
    assert_string_equal(text_of(d, "/hits/0/post/id"), "1");
    yyjson_doc_free(d);
    d = call(b, "POST", "/v1/search", "", "{\"q\":\"red\",\"filter\":{\"tag\":[\"x\"]}}", 200);
    assert_string_equal(text_of(d, "/hits/0/post/id"), "1");
    yyjson_doc_free(d);
    yyjson_doc_free(call(b, "POST", "/v1/search", "", "", 200));
    d = call(b, "GET", "/v1/search?lim=5", "", "", 400);
    assert_string_equal(text_of(d, "/field"), "lim");
    assert_string_equal(text_of(d, "/detail"), "unknown parameter");
    yyjson_doc_free(d);
    d = call(b, "POST", "/v1/search?limit=3", "", "{}", 400);
    assert_string_equal(text_of(d, "/field"), "query");
    yyjson_doc_free(d);
    d = call(b, "GET", "/v1/posts/1/similar?author=x", "", "", 200);
    yyjson_doc_free(d);
    yyjson_doc_free(call(b, "POST", "/v1/posts/1/similar", "", "{\"limit\":3}", 200));
    yyjson_doc_free(call(b, "POST", "/v1/posts/1/similar", "", "", 200));
    yyjson_doc_free(call(b, "GET", "/v1/posts/2/similar", "", "", 404));
    yyjson_doc_free(call(b, "GET", "/v1/posts/1/similar?id=2", "", "", 400));
    yyjson_doc_free(call(b, "GET", "/v1/suggest?q=r", "", "", 200));
}

/* ---- positions ---- */

static void min_lsn(void **state) {
    bed *b = *state;
    put(b, "{\"id\":\"1\",\"text\":\"t\"}");
    yyjson_doc_free(call(b, "GET", "/v1/posts/1", "kith-min-lsn: 1\n", "", 200));
    yyjson_doc_free(call(b, "GET", "/v1/posts/1", "kith-min-lsn: 2\n", "", 504)); /* not there */
    yyjson_doc *d = call(b, "GET", "/v1/posts/1", "kith-min-lsn: -2\n", "", 400);
    assert_string_equal(text_of(d, "/field"), "Kith-Min-LSN");
    yyjson_doc_free(d);
    b->s->stuck = true;
    fake_http *x = fake_send(b->a, "POST", "/v1/posts", "", STR("{\"id\":\"2\",\"text\":\"t\"}"));
    assert_string_equal(fake_header(x, "kith-lsn"), "2");
    fake_done(x);
    yyjson_doc_free(call(b, "GET", "/v1/posts/1", "kith-min-lsn: 2\n", "", 504)); /* too slow */
    x = fake_send(b->a, "GET", "/v1/posts/none", "", STR(""));
    assert_string_equal(fake_header(x, "kith-lsn"), "1"); /* errors say it too */
    fake_done(x);
}

static void request_ids(void **state) {
    bed *b = *state;
    fake_http *x = fake_send(b->a, "GET", "/healthz", "kith-request-id: Ab.1_-\n", STR(""));
    assert_string_equal(fake_header(x, "kith-request-id"), "Ab.1_-");
    fake_done(x);
    char last[64] = "";
    static const char *const bad[] = {"", "kith-request-id: a b\n", "kith-request-id: \xc3\xa9\n"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        x = fake_send(b->a, "GET", "/healthz", bad[i], STR(""));
        const char *id = fake_header(x, "kith-request-id");
        assert_int_equal(strlen(id), 16);
        assert_string_not_equal(id, last);
        memcpy(last, id, 17);
        fake_done(x);
    }
}

/* ---- routes ---- */

static void paths_and_methods(void **state) {
    bed *b = *state;
    static const char *const missing[] = {
        "/v1",           "/v1/posts/", "/v1/posts/a/b", "/v1/posts/a/thread/", "/v1/post",
        "/v1/posts%2Fa", "*",          "/V1/search",    "/v1/search/"};
    for (size_t i = 0; i < COUNT_OF(missing); i++)
        yyjson_doc_free(call(b, "GET", missing[i], "", "", 404));
    fake_http *x = fake_send(b->a, "PATCH", "/v1/posts/a", "", STR(""));
    assert_int_equal(x->status, 405);
    assert_string_equal(fake_header(x, "allow"), "PUT, GET, HEAD, DELETE, OPTIONS");
    fake_done(x);
    x = fake_send(b->a, "OPTIONS", "/v1/search", "", STR(""));
    assert_int_equal(x->status, 204);
    assert_string_equal(fake_header(x, "allow"), "GET, HEAD, POST, OPTIONS");
    fake_done(x);
    x = fake_send(b->a, "get", "/v1/search", "", STR("")); /* methods are case-sensitive */
    assert_int_equal(x->status, 405);
    fake_done(x);
    x = fake_send(b->a, "HEAD", "/v1/search?q=x", "", STR(""));
    assert_int_equal(x->status, 200);
    fake_done(x);
    x = fake_send(b->a, "POST", "/v1/posts%3Abatch", "", STR(""));
    assert_int_equal(x->status, 200);
    fake_done(x);
    yyjson_doc *d = call(b, "GET", "/v1/posts/%ff", "", "", 400);
    assert_string_equal(text_of(d, "/field"), "id");
    yyjson_doc_free(d);
    yyjson_doc_free(call(b, "GET", "/v1/posts/%00", "", "", 400));
}

static void long_ids(void **state) {
    bed *b = *state;
    strbuf t;
    strbuf_init(&t, 20000);
    strbuf_addz(&t, "/v1/posts/");
    for (int i = 0; i < 10000; i++) strbuf_addc(&t, 'x');
    yyjson_doc *d = call(b, "GET", t.ptr, "", "", 400);
    assert_string_equal(text_of(d, "/field"), "id");
    assert_string_equal(text_of(d, "/expected"), "1 to 256 bytes");
    assert_string_equal(text_of(d, "/code"), "invalid");
    assert_string_equal(text_of(d, "/type"), "about:blank");
    assert_string_equal(text_of(d, "/title"), "Bad Request");
    yyjson_doc_free(d);
    strbuf_deinit(&t);
}

static void pages_and_health(void **state) {
    bed *b = *state;
    static const char *const paths[] = {"/", "/index.html"};
    for (size_t i = 0; i < 2; i++) {
        fake_http *x = fake_send(b->a, "GET", paths[i], "x-test-peer: far\n", STR(""));
        assert_int_equal(x->status, 200);
        assert_string_equal(x->body.ptr, (const char *)page);
        assert_string_equal(fake_header(x, "etag"), "\"abc\"");
        assert_non_null(strstr(fake_header(x, "content-security-policy"), "default-src 'none'"));
        assert_string_equal(fake_header(x, "cache-control"), "no-cache");
        fake_done(x);
    }
    fake_http *x = fake_send(b->a, "GET", "/", "if-none-match: \"x\", W/\"abc\"\n", STR(""));
    assert_int_equal(x->status, 304);
    assert_int_equal(x->body.len, 0);
    fake_done(x);
    x = fake_send(b->a, "POST", "/", "", STR(""));
    assert_int_equal(x->status, 404);
    fake_done(x);
    yyjson_doc *d = call(b, "GET", "/openapi.json", "x-test-peer: far\n", "", 200);
    assert_string_equal(text_of(d, "/openapi"), "3.1.0");
    assert_non_null(yyjson_doc_ptr_get(d, "/paths/~1v1~1search/get"));
    yyjson_doc_free(d);
}

static void starting_up(void **state) {
    bed *b = *state;
    fake_http *x = fake_send(b->a, "GET", "/healthz", "", STR(""));
    assert_int_equal(x->status, 200);
    fake_done(x);
    api_starting(b->a, "folding", 3, 10);
    yyjson_doc *d = call(b, "GET", "/readyz", "", "", 503);
    assert_string_equal(text_of(d, "/detail"), "starting: folding, 3 of 10");
    yyjson_doc_free(d);
    d = call(b, "GET", "/v1/search?q=x", "", "", 503);
    assert_string_equal(text_of(d, "/code"), "busy");
    yyjson_doc_free(d);
    api_attach(b->a, b->s, fake_searcher(b->s), NULL);
    yyjson_doc_free(call(b, "GET", "/readyz", "", "", 200));
    yyjson_doc_free(call(b, "POST", "/v1/embed", "", "{\"texts\":[\"a\"]}", 501));
    b->s->head = 150000; /* a bulk load: still ready */
    yyjson_doc_free(call(b, "GET", "/readyz", "", "", 200));
    b->s->head = 500000;
    yyjson_doc_free(call(b, "GET", "/readyz", "", "", 503));
    b->s->applied = 400000; /* not again until it has caught up */
    yyjson_doc_free(call(b, "GET", "/readyz", "", "", 503));
    b->s->applied = 499500;
    yyjson_doc_free(call(b, "GET", "/readyz", "", "", 200));
}

/* ---- access ---- */

static const struct {
    const char *method, *target, *headers;
    bool key;
    int status, status_always;
} access_rows[] = {
    {"GET", "/v1/search", "", false, 200, 401},
    {"GET", "/v1/status", "", false, 200, 401},
    {"DELETE", "/v1/posts/x", "", false, 404, 401},
    {"GET", "/v1/search", "host: 127.0.0.1:80\n", false, 200, 401},
    {"GET", "/v1/search", "host: [::1]:80\n", false, 200, 401},
    {"GET", "/v1/search", "host: kith.example\n", false, 401, 401}, /* proxy, or rebinding */
    {"GET", "/v1/search", "host: \n", false, 401, 401},
    {"GET", "/v1/search", "x-forwarded-for: 9.9.9.9\n", false, 401, 401},
    {"GET", "/v1/search", "x-test-peer: far\n", false, 401, 401},
    {"GET", "/v1/search", "x-test-peer: far\nx-forwarded-for: 127.0.0.1\n", false, 401, 401},
    {"DELETE", "/v1/posts/x", "origin: http://localhost:8080\n", false, 404, 401},
    {"DELETE", "/v1/posts/x", "origin: http://evil.example\n", false, 403, 401},
    {"DELETE", "/v1/posts/x", "origin: null\n", false, 403, 401},
    {"GET", "/v1/search", "sec-fetch-site: cross-site\n", false, 403, 401},
    {"GET", "/v1/search", "authorization: Bearer nonsense\n", false, 401, 401},
    {"GET", "/v1/search", "authorization: Basic eDp5\n", false, 401, 401},
    {"GET", "/v1/search", "x-test-peer: far\n", true, 200, 200}, /* a reader's key */
    {"GET", "/v1/search", "host: kith.example\n", true, 200, 200},
    {"DELETE", "/v1/posts/x", "x-test-peer: far\n", true, 403, 403},
    {"DELETE", "/v1/posts/x", "", true, 403, 403},
    {"GET", "/healthz", "x-test-peer: far\n", false, 200, 200},
};

static void run_access(bed *b, bool always) {
    for (size_t i = 0; i < COUNT_OF(access_rows); i++) {
        strbuf h;
        strbuf_init(&h, KIB);
        strbuf_addz(&h, access_rows[i].headers);
        if (access_rows[i].key) strbuf_addf(&h, "authorization: bearer %s\n", b->reader);
        fake_http *x =
            fake_send(b->a, access_rows[i].method, access_rows[i].target, h.ptr, STR(""));
        int want = always ? access_rows[i].status_always : access_rows[i].status;
        if (x->status != want) fail_msg("row %zu: %d, not %d: %s", i, x->status, want, x->body.ptr);
        if (want == 401)
            assert_string_equal(fake_header(x, "www-authenticate"), "Bearer realm=\"kith\"");
        fake_done(x);
        strbuf_deinit(&h);
    }
}

static void access_by_default(void **state) {
    run_access(*state, false);
}
static void access_with_keys_always(void **state) {
    run_access(*state, true);
}

static void access_with_the_admin_key(void **state) {
    bed *b = *state;
    strbuf h;
    strbuf_init(&h, KIB);
    strbuf_addf(&h, "x-test-peer: far\nauthorization: Bearer %s\n", b->admin);
    yyjson_doc_free(call(b, "POST", "/v1/posts", h.ptr, "{\"id\":\"1\",\"text\":\"t\"}", 200));
    strbuf_deinit(&h);
}

static void strangers_get_no_details_of_failures(void **state) {
    bed *b = *state;
    strbuf h;
    strbuf_init(&h, KIB);
    strbuf_addf(&h, "x-test-peer: far\nauthorization: Bearer %s\n", b->admin);
    b->s->put_rc = ERR_IO;
    b->s->put_rc_times = 2;
    yyjson_doc *d = call(b, "POST", "/v1/posts", h.ptr, "{\"id\":\"1\",\"text\":\"t\"}", 500);
    assert_null(strstr(text_of(d, "/detail"), "test wants"));
    yyjson_doc_free(d);
    assert_non_null(strstr(b->logged, "test wants"));
    d = call(b, "POST", "/v1/posts", "", "{\"id\":\"1\",\"text\":\"t\"}", 500);
    assert_non_null(strstr(text_of(d, "/detail"), "test wants"));
    yyjson_doc_free(d);
    strbuf_deinit(&h);
}

static void statuses(void **state) {
    bed *b = *state;
    static const struct {
        err rc;
        int status;
        const char *code;
    } rows[] = {{ERR_AGAIN, 503, "busy"},
                {ERR_NO_SPACE, 507, "no_space"},
                {ERR_IO, 500, "io"},
                {ERR_NO_MEMORY, 503, "no_memory"},
                {ERR_CORRUPT, 500, "corrupt"},
                {ERR_EXISTS, 409, "exists"},
                {ERR_TOO_LARGE, 413, "too_large"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        b->s->put_rc = rows[i].rc;
        b->s->put_rc_times = 1;
        yyjson_doc *d =
            call(b, "POST", "/v1/posts", "", "{\"id\":\"1\",\"text\":\"t\"}", rows[i].status);
        assert_string_equal(text_of(d, "/code"), rows[i].code);
        yyjson_doc_free(d);
    }
}

/* ---- embeddings, status ---- */

static void embed(void **state) {
    bed *b = *state;
    yyjson_doc *d = call(b, "POST", "/v1/embed", "",
                         "{\"texts\":[\"a\",\"b\",\"c\",\"d\",\"e\"],\"task\":\"query\"}", 200);
    assert_int_equal(yyjson_arr_size(yyjson_doc_ptr_get(d, "/vectors")), 5);
    assert_int_equal(yyjson_arr_size(yyjson_doc_ptr_get(d, "/vectors/4/values")), FAKE_DIM);
    assert_int_equal(yyjson_get_int(yyjson_doc_ptr_get(d, "/tokens")), 10);
    assert_int_equal(yyjson_get_int(yyjson_doc_ptr_get(d, "/dimensions")), FAKE_DIM);
    yyjson_doc_free(d);
    static const char *const bad[][2] = {{"{}", "texts"},
                                         {"{\"texts\":[]}", "texts"},
                                         {"{\"texts\":[\"a\",\"\"]}", "texts[1]"},
                                         {"{\"texts\":[\"a\"],\"task\":\"x\"}", "task"},
                                         {"{\"text\":[\"a\"]}", "text"}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        d = call(b, "POST", "/v1/embed", "", bad[i][0], 400);
        assert_string_equal(text_of(d, "/field"), bad[i][1]);
        yyjson_doc_free(d);
    }
}

static void openai(void **state) {
    bed *b = *state;
    static const struct {
        const char *body, *param;
        int status;
    } rows[] = {
        {"{\"input\":\"a\"}", NULL, 200},
        {"{\"input\":[\"a\",\"b\",\"c\",\"d\"],\"model\":\"all-MiniLM\",\"user\":\"u\"}", NULL,
         200},
        {"{\"input\":\"a\",\"model\":\"sentence-transformers/all-MiniLM\"}", NULL, 200},
        {"{\"input\":\"a\",\"dimensions\":4,\"encoding_format\":\"float\"}", NULL, 200},
        {"{\"input\":\"a\",\"dimensions\":3}", "dimensions", 400},
        {"{\"input\":\"a\",\"encoding_format\":\"hex\"}", "encoding_format", 400},
        {"{\"input\":\"a\",\"model\":\"text-embedding-3-small\"}", "model", 404},
        {"{\"input\":[1,2]}", "input", 400},
        {"{\"input\":[[1,2]]}", "input", 400},
        {"{\"input\":[]}", "input", 400},
        {"{\"input\":[\"a\",\"\"]}", "input[1]", 400},
        {"{\"input\":{}}", "input", 400},
        {"{}", "input", 400},
        {"[]", "body", 400},
        {"{\"input\":\"a\",\"x\":1}", "x", 400},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        fake_http *x = fake_send(b->a, "POST", "/v1/embeddings", "", str_of(rows[i].body));
        if (x->status != rows[i].status) fail_msg("%s: %s", rows[i].body, x->body.ptr);
        yyjson_doc *d;
        assert_int_equal(json_parse(strbuf_str(&x->body), &d), OK);
        if (rows[i].param) assert_string_equal(text_of(d, "/error/param"), rows[i].param);
        if (x->status == 200) assert_string_equal(text_of(d, "/model"), "all-minilm");
        yyjson_doc_free(d);
        fake_done(x);
    }
    fake_http *x = fake_send(b->a, "POST", "/v1/embeddings", "x-test-peer: far\n", STR(""));
    assert_int_equal(x->status, 401);
    assert_non_null(strstr(x->body.ptr, "{\"error\":{\"message\":"));
    fake_done(x);
    yyjson_doc *d = call(b, "GET", "/v1/models", "", "", 200);
    assert_string_equal(text_of(d, "/data/0/id"), "all-minilm");
    yyjson_doc_free(d);
}

static void openai_base64_is_the_same_vector(void **state) {
    bed *b = *state;
    yyjson_doc *f = call(b, "POST", "/v1/embeddings", "", "{\"input\":\"a\"}", 200);
    yyjson_doc *s = call(b, "POST", "/v1/embeddings", "",
                         "{\"input\":\"a\",\"encoding_format\":\"base64\"}", 200);
    Kith__V1__PutPostRequest r;
    kith__v1__put_post_request__init(&r);
    arena a;
    arena_init(&a, MIB);
    yyjson_val *text = yyjson_doc_ptr_get(s, "/data/0/embedding");
    assert_int_equal(json_map_read_list(&a, &r, "vector", text), OK);
    assert_int_equal(r.n_vector, FAKE_DIM);
    for (size_t i = 0; i < FAKE_DIM; i++) {
        yyjson_val *v = yyjson_arr_get(yyjson_doc_ptr_get(f, "/data/0/embedding"), i);
        assert_true((float)yyjson_get_num(v) == r.vector[i]);
    }
    arena_deinit(&a);
    yyjson_doc_free(f);
    yyjson_doc_free(s);
}

static void status(void **state) {
    bed *b = *state;
    put(b, "{\"id\":\"1\",\"text\":\"t\"}");
    yyjson_doc *d = call(b, "GET", "/v1/status", "", "", 200);
    assert_string_equal(text_of(d, "/version"), "9.9");
    assert_string_equal(text_of(d, "/state"), "ready");
    assert_string_equal(text_of(d, "/space"), "mock/all-minilm/4/cosine");
    assert_int_equal(yyjson_get_int(yyjson_doc_ptr_get(d, "/posts")), 1);
    assert_int_equal(yyjson_arr_size(yyjson_doc_ptr_get(d, "/folds")), 4);
    assert_true(yyjson_get_uint(yyjson_doc_ptr_get(d, "/rss_bytes")) > 100000);
    yyjson_doc_free(d);
}

/* ---- in process ---- */

static void invoke(void **state) {
    bed *b = *state;
    arena a;
    arena_init(&a, MIB);
    Kith__V1__PutPostRequest *r;
    Kith__V1__PutPostResponse *out;
    uint64_t lsn;
    assert_int_equal(api_parse_post(&a, STR("{\"id\":\"1\",\"text\":\"t\"}"), &r), OK);
    assert_int_equal(api_invoke(b->a, API_OP_PUT_POST, r, &a, (void **)&out, &lsn), OK);
    assert_string_equal(out->outcome, "created");
    assert_int_equal(lsn, 1);
    Kith__V1__GetPostRequest g;
    kith__v1__get_post_request__init(&g);
    void *got;
    assert_int_equal(api_invoke(b->a, API_OP_GET_POST, &g, &a, &got, NULL), ERR_INVALID);
    assert_string_equal(err_field(), "id");
    arena_deinit(&a);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(put_get_delete),
        T(put_with_a_vector),
        T(waits),
        T(threads_are_paged),
        T(a_thread_of_a_missing_root),
        T(search_by_get_and_post),
        T(min_lsn),
        T(request_ids),
        T(paths_and_methods),
        T(long_ids),
        T(pages_and_health),
        cmocka_unit_test_setup_teardown(starting_up, setup_starting, teardown),
        T(access_by_default),
        cmocka_unit_test_setup_teardown(access_with_keys_always, setup_always, teardown),
        T(access_with_the_admin_key),
        T(strangers_get_no_details_of_failures),
        T(statuses),
        T(embed),
        T(openai),
        T(openai_base64_is_the_same_vector),
        T(status),
        T(invoke),
    };
    return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
