/* The client against this module's own server: bodies, headers, errors, a closed port. */
#include "net/client.h"
#include "net/net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* Gives back "METHOD path?query auth body", with a position, and 404 for /none. */
static void echo(void *ctx, net_request *rq) {
    (void)ctx;
    strbuf b;
    strbuf_init(&b, MIB);
    str auth = net_header_get(rq, STR("authorization"));
    strbuf_addf(&b, STR_FMT " " STR_FMT "?" STR_FMT " " STR_FMT " " STR_FMT, STR_ARG(rq->method),
                STR_ARG(rq->path), STR_ARG(rq->query), auth.ptr ? (int)auth.len : 1,
                auth.ptr ? auth.ptr : "-", STR_ARG(rq->body));
    net_header h[] = {{STR("Kith-LSN"), STR("42")}};
    bool none = str_eq(rq->path, STR("/none"));
    net_respond(rq, none ? 404 : 200, h, 1, strbuf_str(&b), NET_COPY);
    strbuf_deinit(&b);
}

static void round_trips(void **state) {
    (void)state;
    pool *workers;
    net_server *s;
    net_options o;
    net_options_init(&o);
    assert_int_equal(pool_open("t", 2, 16, &workers), OK);
    o.workers = workers;
    o.handler = echo;
    assert_int_equal(net_server_open(&o, &s), OK);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", net_server_port(s));
    http_client *c;
    http_reply r;
    assert_int_equal(http_client_open(url, "secret", &c), OK);
    assert_int_equal(http_call(c, &(http_ask){.method = "GET", .target = "/a?b=c"}, &r), OK);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.lsn, 42);
    assert_true(str_eq(r.body, STR("GET /a?b=c Bearer secret ")));
    http_ask post = {
        .method = "POST", .target = "/p", .content_type = "text/plain", .body = STR("hello")};
    assert_int_equal(http_call(c, &post, &r), OK);
    assert_true(str_ends(r.body, STR(" hello")));
    assert_int_equal(http_call(c, &(http_ask){.method = "DELETE", .target = "/none"}, &r), OK);
    assert_int_equal(r.status, 404);
    http_client_close(c);
    assert_int_equal(http_client_open(url, NULL, &c), OK);
    const char *own[] = {"Authorization: mine", "X-Other: 1"};
    http_ask more = {.method = "GET", .target = "/h", .headers = own, .header_count = 2};
    assert_int_equal(http_call(c, &more, &r), OK);
    assert_true(str_eq(r.body, STR("GET /h? mine ")));
    assert_true(str_eq(http_reply_header(&r, STR("kith-lsn")), STR("42")));
    assert_null(http_reply_header(&r, STR("kith")).ptr);
    assert_int_equal(http_call(c, &(http_ask){.method = "HEAD", .target = "/h"}, &r), OK);
    assert_int_equal(r.body.len, 0);
    http_client_close(c);
    net_server_close(s, 1000);
    pool_close(workers);
    assert_int_equal(http_client_open(url, NULL, &c), OK);
    assert_int_equal(http_call(c, &(http_ask){.method = "GET", .target = "/"}, &r), ERR_AGAIN);
    http_client_close(c);
    assert_int_equal(http_client_open("ftp://x", NULL, &c), ERR_INVALID);
}

static void encoding(void **state) {
    (void)state;
    strbuf b;
    strbuf_init(&b, 64);
    http_encode(&b, STR("a b/\xc3\xa9?~"));
    assert_string_equal(b.ptr, "a%20b%2F%C3%A9%3F~");
    strbuf_deinit(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(encoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
