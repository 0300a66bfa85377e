/* The HTTP/1 parser alone: what it takes, what it refuses and with which status, and that neither
 * depends on how the bytes were cut.
 *
 * The refusal table is the smuggling table: each line is something that two parsers could read
 * differently. server_test.c sends the worst of them over a socket.
 *
 */
#include "net/http1_parse.h"
#include "net/net_testing.h"

#define H "Host: a\r\n"

static int parse(str in, http1_head *h) {
    size_t used;
    return http1_head_parse(in, 0, h, &used);
}

static const struct {
    str text;
    int status;
} REFUSED[] = {
    {STR_INIT("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
     400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
     400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Content-Length: -5\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Content-Length: 5 5\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Content-Length : 5\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n"), 501},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n"), 501},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\x0b"
              "chunked\r\n\r\n"),
     400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n"), 501},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n"
              "Transfer-Encoding: chunked\r\n\r\n"),
     400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n"
              "transfer-encoding: identity\r\n\r\n"),
     400},
    {STR_INIT("POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "X: a\r\n Transfer-Encoding: chunked\r\n\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "X: a\r\n\tb\r\n\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\n\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\n" H H "\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\n" H "\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\nHost: a\n\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\nHost: a\r\n\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\nHost: a\r\nX\0: a\r\n\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1\r\nHost: a\r\nX\x80: a\r\n\r\n"), 400},
    {STR_INIT("GET  / HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("GET /  HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("GET\t/ HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("GET / HTTP/1.1 \r\n" H "\r\n"), 400},
    {STR_INIT(" GET / HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("G{T / HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("GET / HTTP/1.2\r\n" H "\r\n"), 505},
    {STR_INIT("GET / HTTP/1.11\r\n" H "\r\n"), 505},
    {STR_INIT("GET / HTTP/1.01\r\n" H "\r\n"), 505},
    {STR_INIT("GET / HTTP/2.0\r\n" H "\r\n"), 505},
    {STR_INIT("GET / HTTP/9.9\r\n" H "\r\n"), 505},
    {STR_INIT("GET / http/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("GET /\r\n" H "\r\n"), 400},
    {STR_INIT("GET * HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("GET a HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("GET /#f HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("GET /\x80 HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("GET http:///x HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("GET http://u@a/x HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("GET ftp://a/x HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("CONNECT a:80 HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("PRI * HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("POST / HTTP/1.1\r\n" H "Expect: 200-maybe\r\n\r\n"), 417},
    {STR_INIT("\n\nGET / HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"), 400},
    {STR_INIT("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400}, /* a TLS client */
};

static void test_refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(REFUSED); i++) {
        http1_head h;
        int status = parse(REFUSED[i].text, &h);
        if (status != REFUSED[i].status) {
            print_message("line %zu: %d, %s\n" STR_FMT "\n", i, status, h.detail,
                          STR_ARG(REFUSED[i].text));
        }
        assert_int_equal(status, REFUSED[i].status);
        assert_true(h.detail[0] != 0);
    }
}

static void test_accepted(void **state) {
    http1_head h;
    size_t used;
    (void)state;
    str in = STR("\r\nPOST /a/b?c=d&e HTTP/1.1\r\nHOST: ex.org:80\r\ncontent-LENGTH:  42 \t\r\n"
                 "Connection: foo, Close\r\nX-Empty:\r\nX-Obs: \xe4\r\nExpect: 100-Continue\r\n"
                 "\r\nrest");
    assert_int_equal(http1_head_parse(in, 0, &h, &used), 0);
    assert_int_equal(used, in.len - 4);
    assert_true(str_eq(h.method, STR("POST")));
    assert_true(str_eq(h.path, STR("/a/b")));
    assert_true(str_eq(h.query, STR("c=d&e")));
    assert_true(str_eq(h.host, STR("ex.org:80")));
    assert_int_equal(h.length, 42);
    assert_true(h.has_length && !h.chunked && !h.keep_alive && h.expect_continue);
    assert_int_equal(h.header_count, 6);
    assert_true(str_eq(h.headers[1].value, STR("42")));

    assert_int_equal(parse(STR("GET http://b:1?q HTTP/1.1\r\n" H "\r\n"), &h), 400);
    assert_int_equal(parse(STR("GET HTTP://b:1/?q HTTP/1.1\r\n" H "\r\n"), &h), 0);
    assert_true(str_eq(h.host, STR("b:1")) && str_eq(h.path, STR("/")));
    assert_true(str_eq(h.query, STR("q")) && h.keep_alive);
    assert_int_equal(parse(STR("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n"), &h), 0);
    assert_true(str_eq(h.path, STR("*")) && h.host.len == 0);
    assert_int_equal(parse(STR("GET / HTTP/1.0\r\n\r\n"), &h), 0);
    assert_false(h.keep_alive);
    assert_int_equal(parse(STR("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), &h), 0);
    assert_true(h.keep_alive);
    assert_int_equal(parse(STR("GET / HTTP/1.1\r\n" H "Transfer-Encoding: CHUNKED\r\n\r\n"), &h),
                     0);
    assert_true(h.chunked && !h.has_length);
}

/* Cut anywhere, the head waits for more, and then parses the same. */
static void test_cut_anywhere(void **state) {
    str in = STR("\r\nPUT /path?query HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX: y\r\n\r\n");
    (void)state;
    for (size_t n = 0; n < in.len; n++) {
        http1_head h;
        size_t used;
        assert_int_equal(http1_head_parse(str_from(in.ptr, n), 0, &h, &used), HTTP1_MORE);
        assert_int_equal(http1_head_parse(in, n, &h, &used), 0);
        assert_int_equal(used, in.len);
        assert_int_equal(h.header_count, 3);
    }
}

static char *filled(const char *head, char c, size_t n, const char *tail, size_t *len) {
    size_t a = strlen(head), b = strlen(tail);
    char *p = malloc(a + n + b + 1);
    memcpy(p, head, a);
    memset(p + a, c, n);
    memcpy(p + a + n, tail, b + 1);
    *len = a + n + b;
    return p;
}

static void check_filled(const char *head, size_t n, const char *tail, int status) {
    size_t len;
    http1_head h;
    char *p = filled(head, 'x', n, tail, &len);
    assert_int_equal(parse(str_from(p, len), &h), status);
    free(p);
}

static void test_sizes(void **state) {
    http1_head h;
    (void)state;
    check_filled("GET /", NET_TARGET_BYTES_MAX - 1, " HTTP/1.1\r\n" H "\r\n", 0);
    check_filled("GET /", NET_TARGET_BYTES_MAX, " HTTP/1.1\r\n" H "\r\n", 414);
    check_filled("GET /", 9000, "", 414);
    check_filled("GET / HTTP/1.1\r\n" H "X-", 10000, ": v\r\n\r\n", 0);
    check_filled("GET / HTTP/1.1\r\n" H "X: ", 31000, "\r\n\r\n", 0);
    check_filled("GET / HTTP/1.1\r\n" H "X: ", 33000, "\r\n\r\n", 431);
    check_filled("GET / HTTP/1.1\r\n" H "X: ", 33000, "", 431);
    check_filled("GET / HTTP/1.1\r\n" H, 40000, "", 431);
    for (int count = 99; count <= 102; count++) {
        char text[8192] = "GET / HTTP/1.1\r\n" H;
        size_t n = strlen(text);
        for (int i = 1; i < count; i++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "a: b\r\n");
        n += (size_t)snprintf(text + n, sizeof(text) - n, "\r\n");
        assert_int_equal(parse(str_from(text, n), &h), count <= NET_HEADERS_MAX ? 0 : 431);
    }
}

/* ---- chunks ---- */

/* Decodes `in` given in two parts; returns the last result, the body in out. */
static http1_chunk decode(str in, size_t cut, char *out, size_t *len, size_t *left) {
    http1_chunks d = {0};
    http1_chunk got = CHUNK_MORE;
    *len = 0;
    for (int part = 0; part < 2; part++) {
        str s = part ? str_skip(in, cut) : str_from(in.ptr, cut), data;
        do {
            got = http1_chunks_next(&d, &s, &data);
            memcpy(out + *len, data.ptr, data.len);
            *len += data.len;
        } while (got == CHUNK_DATA);
        *left = s.len + (part ? 0 : in.len - cut);
        if (got != CHUNK_MORE) return got;
    }
    return got;
}

static void test_chunks(void **state) {
    str in =
        STR("5\r\nhello\r\n1;ext=\"v\"\r\n \r\n00A\r\n0123456789\r\n000\r\nX: y\r\nZ:\r\n\r\nnext");
    (void)state;
    for (size_t cut = 0; cut <= in.len; cut++) {
        char out[64];
        size_t len, left;
        assert_int_equal(decode(in, cut, out, &len, &left), CHUNK_END);
        assert_int_equal(left, 4);
        assert_int_equal(len, 16);
        assert_memory_equal(out, "hello 0123456789", 16);
    }
}

static void test_bad_chunks(void **state) {
    static const str table[] = {
        STR_INIT("\r\n"),
        STR_INIT("g\r\n"),
        STR_INIT(" 5\r\nhello\r\n"),
        STR_INIT("+5\r\n"),
        STR_INIT("-1\r\n"),
        STR_INIT("0x5\r\n"),
        STR_INIT("5 \r\nhello"),
        STR_INIT("5\nhello"),
        STR_INIT("5\r\nhello6"),
        STR_INIT("5\r\nhello\n"),
        STR_INIT("5\r\nhello\r0"),
        STR_INIT("5\r5"),
        STR_INIT("fffffffffffffffff\r\n"),
        STR_INIT("ffffffffffffffff\r\n"),
        STR_INIT("5;a\nb\r\n"),
        STR_INIT("5;a\0b\r\n"),
        STR_INIT("0\r\n\n"),
        STR_INIT("0\r\nX y: z\r\n"),
        STR_INIT("0\r\n: z\r\n"),
        STR_INIT("0\r\n a: z\r\n"),
        STR_INIT("0\r\nX: \0\r\n"),
        STR_INIT("0\r\nX: y\n"),
        STR_INIT(";\r\n"),
        STR_INIT("5\r\r\nhello"),
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        char out[64];
        size_t len, left;
        http1_chunk got = decode(table[i], table[i].len / 2, out, &len, &left);
        if (got != CHUNK_BAD) print_message("line %zu: %d\n", i, got);
        assert_int_equal(got, CHUNK_BAD);
    }
}

static void test_chunk_limits(void **state) {
    char *out = malloc(1 << 20);
    size_t len, left, n;
    (void)state;
    char *p = filled("1;", 'x', 300, "\r\n", &n);
    assert_int_equal(decode(str_from(p, n), 0, out, &len, &left), CHUNK_BAD);
    free(p);
    p = filled("0\r\nX: ", 'x', HTTP1_TRAILER_BYTES_MAX, "\r\n\r\n", &n);
    assert_int_equal(decode(str_from(p, n), 0, out, &len, &left), CHUNK_BAD);
    free(p);
    /* many chunks, each with an allowed extension: bounded in sum */
    static const char chunk[] =
        "1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\na\r\n";
    http1_chunks d = {0};
    http1_chunk got = CHUNK_MORE;
    int i = 0;
    for (; i < 100000 && got != CHUNK_BAD; i++) {
        str s = str_from(chunk, sizeof(chunk) - 1), data;
        do {
            got = http1_chunks_next(&d, &s, &data);
        } while (got == CHUNK_DATA);
    }
    assert_true(i > 100 && i < 2000);
    free(out);
}

static void test_unread(void **state) {
    http1_chunks d = {0};
    str in = STR("5\r\nhello\r\n0\r\n\r\n"), data;
    (void)state;
    assert_int_equal(http1_chunks_next(&d, &in, &data), CHUNK_DATA);
    http1_chunks_unread(&d, &in, 3);
    assert_int_equal(http1_chunks_next(&d, &in, &data), CHUNK_DATA);
    assert_true(str_eq(data, STR("llo")));
    assert_int_equal(http1_chunks_next(&d, &in, &data), CHUNK_END);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),     cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_chunks),       cmocka_unit_test(test_bad_chunks),
        cmocka_unit_test(test_chunk_limits), cmocka_unit_test(test_unread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
