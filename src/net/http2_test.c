/* HTTP/2 over real sockets: requests, streams, flow control, and the floods.
 *
 * The honest client is nghttp2's own; hostile ones write frames by hand, because a library would
 * not send them. What a flood must get: GOAWAY with ENHANCE_YOUR_CALM and a closed connection,
 * while other connections are served.
 *
 */
#include "net/net_testing.h"

#include <nghttp2/nghttp2.h>

/* ---- an honest client ---- */

typedef struct exchange {
    int32_t id;
    int status;
    char *body;
    size_t length, cap;
    const char *send; /* request body */
    size_t send_left;
    bool endless; /* more of it for ever */
    bool closed;
    uint32_t code; /* of the close */
    char trailer[64], length_header[32];
    int headers_seen; /* HEADERS frames of the answer */
} exchange;

typedef struct client {
    nghttp2_session *session;
    int fd;
    bool goaway, eof;
    uint32_t goaway_code;
    size_t unread_max; /* stop reading bodies by not giving credit: 0 off */
} client;

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg) {
    exchange *x = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
    (void)flags, (void)arg;
    if (!x) return 0;
    str k = str_from(name, name_len), v = str_from(value, value_len);
    if (str_eq(k, STR(":status"))) x->status = (int)strtol(v.ptr, NULL, 10);
    if (str_eq(k, STR("x-end"))) snprintf(x->trailer, sizeof(x->trailer), STR_FMT, STR_ARG(v));
    if (str_eq(k, STR("content-length"))) {
        snprintf(x->length_header, sizeof(x->length_header), STR_FMT, STR_ARG(v));
    }
    return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *arg) {
    exchange *x = nghttp2_session_get_stream_user_data(s, id);
    (void)flags, (void)arg;
    if (!x) return 0;
    if (x->length + n + 1 > x->cap) {
        x->cap = (x->length + n + 1) * 2;
        x->body = realloc(x->body, x->cap);
    }
    memcpy(x->body + x->length, p, n);
    x->length += n;
    x->body[x->length] = 0;
    return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t code, void *arg) {
    exchange *x = nghttp2_session_get_stream_user_data(s, id);
    (void)arg;
    if (!x) return 0;
    x->closed = true;
    x->code = code;
    return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *frame, void *arg) {
    client *c = arg;
    exchange *x = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        c->goaway = true;
        c->goaway_code = frame->goaway.error_code;
    }
    if (x && frame->hd.type == NGHTTP2_HEADERS) x->headers_seen++;
    return 0;
}

static ssize_t on_read(nghttp2_session *s, int32_t id, uint8_t *p, size_t max, uint32_t *flags,
                       nghttp2_data_source *source, void *arg) {
    exchange *x = source->ptr;
    (void)s, (void)id, (void)arg;
    if (x->endless) {
        memset(p, 'e', max);
        return (ssize_t)max;
    }
    size_t n = MIN(max, x->send_left);
    memcpy(p, x->send, n);
    x->send += n;
    x->send_left -= n;
    if (x->send_left == 0) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static void client_open(client *c, fixture *f) {
    nghttp2_session_callbacks *calls;
    memset(c, 0, sizeof(*c));
    c->fd = dial(f);
    assert_int_equal(nghttp2_session_callbacks_new(&calls), 0);
    nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
    assert_int_equal(nghttp2_session_client_new(&c->session, calls, c), 0);
    nghttp2_session_callbacks_del(calls);
    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, NULL, 0);
}

static void client_close(client *c) {
    nghttp2_session_del(c->session);
    close(c->fd);
}

static void client_send(client *c) {
    const uint8_t *p;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(c->session, &p)) > 0) {
        if (!send_all(c->fd, p, (size_t)n)) c->eof = true;
    }
}

/* One read; false at the end of the connection. */
static bool client_step(client *c) {
    uint8_t buf[16384];
    client_send(c);
    if (c->eof) return false;
    ssize_t n = recv(c->fd, buf, sizeof(buf), 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) fail_msg("the server hangs");
    if (n <= 0 || nghttp2_session_mem_recv(c->session, buf, (size_t)n) < 0) {
        c->eof = true;
        return false;
    }
    return true;
}

#define NV(n, v) \
    { (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), strlen(v), 0 }

static void ask(client *c, exchange *x, const char *method, const char *path) {
    nghttp2_nv nv[] = {NV(":method", method), NV(":path", path), NV(":scheme", "http"),
                       NV(":authority", "a")};
    nghttp2_data_provider body = {.source.ptr = x, .read_callback = on_read};
    bool has_body = x->send || x->endless;
    x->id = nghttp2_submit_request(c->session, NULL, nv, 4, has_body ? &body : NULL, x);
    assert_true(x->id > 0);
}

static void await_close(client *c, exchange *x) {
    while (!x->closed && client_step(c)) {}
    assert_true(x->closed);
}

static void exchange_free(exchange *x) {
    free(x->body);
    memset(x, 0, sizeof(*x));
}

static void expect_get(client *c, const char *path, int status, const char *body) {
    exchange x = {0};
    ask(c, &x, "GET", path);
    await_close(c, &x);
    assert_int_equal(x.code, NGHTTP2_NO_ERROR);
    assert_int_equal(x.status, status);
    if (body) assert_string_equal(x.body ? x.body : "", body);
    exchange_free(&x);
}

/* ---- requests ---- */

static void test_requests(void **state) {
    fixture f;
    client c;
    exchange x = {0};
    (void)state;
    fixture_open(&f);
    client_open(&c, &f);
    expect_get(&c, "/inline", 200, "inline");
    expect_get(&c, "/w?a=b", 200, "GET /w?a=b");
    expect_get(&c, "/status/204", 204, "");
    expect_get(&c, "/status/404", 404, "body");
    expect_get(&c, "/bad", 500, "");
    expect_get(&c, "/stream", 200, NULL);
    ask(&c, &x, "HEAD", "/big");
    await_close(&c, &x);
    assert_string_equal(x.length_header, "300000");
    assert_int_equal(x.length, 0);
    exchange_free(&x);
    ask(&c, &x, "GET", "/big");
    await_close(&c, &x);
    assert_int_equal(x.length, BIG_BYTES);
    assert_memory_equal(x.body, big_body, BIG_BYTES);
    exchange_free(&x);
    x.send = "hello", x.send_left = 5;
    ask(&c, &x, "POST", "/echo");
    await_close(&c, &x);
    assert_string_equal(x.body, "hello");
    exchange_free(&x);
    x.send = big_body, x.send_left = BIG_BYTES;
    ask(&c, &x, "POST", "/echo");
    await_close(&c, &x);
    assert_int_equal(x.length, BIG_BYTES);
    assert_memory_equal(x.body, big_body, BIG_BYTES);
    exchange_free(&x);
    assert_int_equal(stats_of(&f).buffered_bytes, 0);
    client_close(&c);
    fixture_close(&f);
}

static void test_refused_heads(void **state) {
    static const struct {
        const char *method, *path, *extra, *value;
        int status; /* 0: the stream is reset */
    } table[] = {
        {"GET", "/#a", "x", "y", 400},
        {"GET", "/a b", "x", "y", 0},
        {"GET", "/", "host", "other", 400},
        {"GET", "/", "connection", "close", 0},
        {"GET", "/", "transfer-encoding", "chunked", 0},
        {"GET", "/", "te", "gzip", 0},
        {"POST", "/refuse", "x", "y", 401},
        {"GET", "/", "x", "a\nb", 0},
        {"GET", "/", "content-length", "5", 0},
    };
    fixture f;
    (void)state;
    fixture_open(&f);
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        client c;
        exchange x = {0};
        client_open(&c, &f);
        nghttp2_nv nv[] = {NV(":method", table[i].method), NV(":path", table[i].path),
                           NV(":scheme", "http"), NV(":authority", "a"),
                           NV(table[i].extra, table[i].value)};
        x.id = nghttp2_submit_request(c.session, NULL, nv, 5, NULL, &x);
        await_close(&c, &x);
        if (x.status != table[i].status) print_message("line %zu\n", i);
        assert_int_equal(x.status, table[i].status);
        assert_true(table[i].status || x.code != NGHTTP2_NO_ERROR);
        exchange_free(&x);
        expect_get(&c, "/inline", 200, "inline"); /* the connection goes on */
        client_close(&c);
    }
    fixture_close(&f);
}

static void test_header_limits(void **state) {
    fixture f;
    client c;
    exchange x = {0};
    char *value = malloc(40000);
    (void)state;
    memset(value, 'v', 39999);
    value[39999] = 0;
    fixture_open(&f);
    client_open(&c, &f);
    nghttp2_nv nv[120] = {NV(":method", "GET"), NV(":path", "/"), NV(":scheme", "http"),
                          NV(":authority", "a"), NV("x", value)};
    x.id = nghttp2_submit_request(c.session, NULL, nv, 5, NULL, &x);
    await_close(&c, &x);
    assert_int_equal(x.status, 431);
    exchange_free(&x);
    for (size_t i = 4; i < 120; i++) nv[i] = (nghttp2_nv)NV("x", "y");
    x.id = nghttp2_submit_request(c.session, NULL, nv, 120, NULL, &x);
    await_close(&c, &x);
    assert_int_equal(x.status, 431);
    exchange_free(&x);
    value[9000] = 0;
    value[0] = '/';
    nv[1] = (nghttp2_nv)NV(":path", value);
    x.id = nghttp2_submit_request(c.session, NULL, nv, 5, NULL, &x);
    await_close(&c, &x);
    assert_int_equal(x.status, 414);
    exchange_free(&x);
    expect_get(&c, "/inline", 200, "inline");
    client_close(&c);
    free(value);
    fixture_close(&f);
}

static void test_many_streams(void **state) {
    enum { COUNT = 90 };
    fixture f;
    client c;
    exchange x[COUNT];
    (void)state;
    fixture_open(&f);
    client_open(&c, &f);
    expect_get(&c, "/inline", 200, "inline"); /* SETTINGS are exchanged now */
    memset(x, 0, sizeof(x));
    for (int i = 0; i < COUNT; i++) ask(&c, &x[i], "GET", i % 2 ? "/big" : "/w?1");
    for (int i = 0; i < COUNT; i++) {
        await_close(&c, &x[i]);
        assert_int_equal(x[i].status, 200);
        assert_int_equal(x[i].length, i % 2 ? BIG_BYTES : 8);
        exchange_free(&x[i]);
    }
    client_close(&c);
    fixture_close(&f);
}

/* ---- streams ---- */

static void test_streamed(void **state) {
    fixture f;
    client c;
    exchange x = {0}, y = {0};
    char *data = malloc(4 << 20);
    (void)state;
    memset(data, 's', 4 << 20);
    fixture_open(&f);
    client_open(&c, &f);
    x.send = data, x.send_left = 4 << 20;
    ask(&c, &x, "POST", "/count");
    await_close(&c, &x);
    assert_string_equal(x.body, "4194304");
    exchange_free(&x);
    x.send = data, x.send_left = 4 << 20; /* duplex, more than all windows and rings together */
    ask(&c, &x, "POST", "/lines");
    await_close(&c, &x);
    assert_int_equal(x.length, 4 << 20);
    assert_string_equal(x.trailer, "yes");
    exchange_free(&x);
    x.send = data, x.send_left = 4 << 20; /* one that rests does not stop another */
    ask(&c, &x, "POST", "/hold");
    client_send(&c);
    gate_reached(&f, 1);
    ask(&c, &y, "GET", "/inline");
    await_close(&c, &y);
    assert_string_equal(y.body, "inline");
    assert_false(x.closed);
    gate_set(&f, true);
    await_close(&c, &x);
    assert_string_equal(x.body, "4194304");
    exchange_free(&x), exchange_free(&y);
    x.send = data, x.send_left = 4 << 20; /* a handler that does not read */
    ask(&c, &x, "POST", "/ignore");
    await_close(&c, &x);
    assert_string_equal(x.body, "ignored");
    exchange_free(&x);
    ask(&c, &x, "GET", "/abort");
    await_close(&c, &x);
    assert_int_not_equal(x.code, NGHTTP2_NO_ERROR);
    exchange_free(&x);
    client_close(&c);
    free(data);
    fixture_close(&f);
}

/* The answer comes before the body is over; the stream ends without an error of the client's. */
static void test_early_answer(void **state) {
    fixture f;
    client c;
    exchange x = {0};
    (void)state;
    fixture_open(&f);
    client_open(&c, &f);
    x.endless = true;
    ask(&c, &x, "POST", "/echo");
    await_close(&c, &x);
    assert_int_equal(x.status, 413);
    assert_int_equal(x.code, NGHTTP2_NO_ERROR);
    assert_true(stats_of(&f).bytes_in_total < 4 * MIB);
    exchange_free(&x);
    expect_get(&c, "/inline", 200, "inline");
    client_close(&c);
    fixture_close(&f);
}

static void test_stuck_window(void **state) {
    fixture f;
    net_options o;
    client c;
    exchange x = {0};
    (void)state;
    options_for_tests(&o);
    o.write_ms_max = 200;
    fixture_open_with(&f, &o, 2, 16);
    client_open(&c, &f);
    nghttp2_session_set_local_window_size(c.session, NGHTTP2_FLAG_NONE, 0, 1 << 20);
    ask(&c, &x, "GET", "/flood");
    client_send(&c);
    nghttp2_session_set_local_window_size(c.session, NGHTTP2_FLAG_NONE, x.id, 0);
    while (!x.closed && !c.eof) { /* reads, but gives no more credit */
        uint8_t buf[4096];
        ssize_t n = recv(c.fd, buf, sizeof(buf), 0);
        if (n <= 0 || nghttp2_session_mem_recv(c.session, buf, (size_t)n) < 0) c.eof = true;
    }
    assert_true(x.closed);
    assert_int_equal(x.code, NGHTTP2_CANCEL);
    await(&f.cancelled, 1);
    assert_true(stats_of(&f).timeouts_total >= 1);
    exchange_free(&x);
    client_close(&c);
    fixture_close(&f);
}

static void test_slow_body(void **state) {
    fixture f;
    net_options o;
    (void)state;
    options_for_tests(&o);
    o.body_ms_max = 200;
    fixture_open_with(&f, &o, 2, 16);
    for (int i = 0; i < 2; i++) {
        client c;
        exchange x = {0};
        client_open(&c, &f);
        nghttp2_nv nv[] = {NV(":method", "POST"), NV(":path", i ? "/count" : "/echo"),
                           NV(":scheme", "http"), NV(":authority", "a")};
        x.id = nghttp2_submit_headers(c.session, NGHTTP2_FLAG_NONE, -1, NULL, nv, 4, &x);
        await_close(&c, &x);
        assert_int_equal(x.status, i ? 400 : 408);
        exchange_free(&x);
        client_close(&c);
    }
    assert_int_equal(atomic_load(&f.timed_out), 1);
    fixture_close(&f);
}

static void test_reset_while_running(void **state) {
    fixture f;
    client c;
    exchange x = {0}, y = {0};
    (void)state;
    fixture_open(&f);
    client_open(&c, &f);
    ask(&c, &x, "GET", "/wait");
    y.endless = true;
    ask(&c, &y, "POST", "/lines");
    while (!y.status && client_step(&c)) {}
    gate_reached(&f, 1);
    nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, x.id, NGHTTP2_CANCEL);
    nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, y.id, NGHTTP2_CANCEL);
    expect_get(&c, "/inline", 200, "inline");
    await(&f.cancelled, 1); /* the stream's handler hears of it while it blocks */
    gate_set(&f, true);
    await(&f.cancelled, 2);
    expect_get(&c, "/w?1", 200, "GET /w?1");
    client_close(&c);
    fixture_close(&f);
    assert_int_equal(atomic_load(&f.done), 4);
    assert_int_equal(atomic_load(&f.done_complete), 2);
    exchange_free(&x), exchange_free(&y);
}

static void test_vanishing(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f);
    for (int i = 0; i < 30; i++) {
        client c;
        exchange x[6];
        memset(x, 0, sizeof(x));
        client_open(&c, &f);
        ask(&c, &x[0], "GET", "/flood");
        ask(&c, &x[1], "GET", "/big");
        ask(&c, &x[2], "GET", "/stream");
        x[3].send = big_body, x[3].send_left = 20000;
        ask(&c, &x[3], "POST", "/lines");
        x[4].send = big_body, x[4].send_left = 20000;
        ask(&c, &x[4], "POST", "/echo");
        ask(&c, &x[5], "GET", "/inline");
        client_send(&c);
        for (int k = 0; k < i % 4; k++) client_step(&c);
        vanish(dup(c.fd));
        shutdown(c.fd, SHUT_RDWR);
        for (int k = 0; k < 6; k++) exchange_free(&x[k]);
        client_close(&c);
    }
    while (stats_of(&f).connections_open > 0) clock_sleep_ms(1);
    fixture_close(&f);
}

static void close_server(void *arg) {
    fixture *f = arg;
    net_server_close(f->server, 10000);
}

static void test_graceful_close(void **state) {
    fixture f;
    client c;
    exchange x = {0};
    thread t;
    (void)state;
    fixture_open(&f);
    client_open(&c, &f);
    ask(&c, &x, "GET", "/wait");
    client_send(&c);
    gate_reached(&f, 1);
    assert_int_equal(thread_start(&t, "closer", close_server, &f), OK);
    while (!c.goaway && client_step(&c)) {}
    assert_int_equal(c.goaway_code, NGHTTP2_NO_ERROR);
    gate_set(&f, true);
    await_close(&c, &x);
    assert_string_equal(x.body, "waited");
    while (client_step(&c)) {}
    client_close(&c);
    thread_join(&t);
    exchange_free(&x);
    f.server = NULL;
    fixture_close(&f);
}

static void test_idle(void **state) {
    fixture f;
    net_options o;
    client c;
    (void)state;
    options_for_tests(&o);
    o.idle_ms_max = 200;
    fixture_open_with(&f, &o, 2, 16);
    client_open(&c, &f);
    expect_get(&c, "/inline", 200, "inline");
    while (client_step(&c)) {}
    assert_true(c.goaway);
    assert_int_equal(c.goaway_code, NGHTTP2_NO_ERROR);
    client_close(&c);
    fixture_close(&f);
}

/* ---- hostile clients, by hand ---- */

static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static bool frame(int fd, uint8_t type, uint8_t flags, uint32_t id, str payload) {
    uint8_t b[9 + 16384];
    KITH_ASSERT(payload.len <= 16384);
    b[0] = (uint8_t)(payload.len >> 16), b[1] = (uint8_t)(payload.len >> 8);
    b[2] = (uint8_t)payload.len, b[3] = type, b[4] = flags;
    b[5] = (uint8_t)(id >> 24), b[6] = (uint8_t)(id >> 16), b[7] = (uint8_t)(id >> 8);
    b[8] = (uint8_t)id;
    if (payload.len) memcpy(b + 9, payload.ptr, payload.len);
    return send_all(fd, b, 9 + payload.len);
}

/* :method GET, :scheme http, :path /, :authority a */
static const str GET_HEAD = STR_INIT("\x82\x86\x84\x41\x01"
                                     "a");
static const str GET_WAIT = STR_INIT("\x82\x86\x04\x05/wait\x41\x01"
                                     "a");

static int dial_h2(fixture *f) {
    int fd = dial(f);
    assert_true(send_all(fd, PREFACE, sizeof(PREFACE) - 1));
    assert_true(frame(fd, NGHTTP2_SETTINGS, 0, 0, STR("")));
    return fd;
}

/* Reads all frames; the code of the GOAWAY, or -1 without one. */
static int64_t goaway_code(int fd) {
    uint8_t head[9], payload[65536];
    int64_t code = -1;
    while (read_exact(fd, (char *)head, 9)) {
        size_t n = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (n > sizeof(payload) || !read_exact(fd, (char *)payload, n)) break;
        if (head[3] == NGHTTP2_GOAWAY && n >= 8) {
            code = (int64_t)payload[4] << 24 | payload[5] << 16 | payload[6] << 8 | payload[7];
        }
    }
    return code;
}

static void check_calm(fixture *f, int fd, uint64_t floods) {
    int64_t code = goaway_code(fd);
    /* A flood may be cut by RST before the GOAWAY is read; the count tells in any case. */
    if (code >= 0) assert_int_equal(code, NGHTTP2_ENHANCE_YOUR_CALM);
    close(fd);
    assert_int_equal(stats_of(f).floods_total, floods);
    client c;
    client_open(&c, f);
    expect_get(&c, "/inline", 200, "inline");
    client_close(&c);
}

static void test_rapid_reset(void **state) {
    fixture f;
    (void)state;
    fixture_open_with(&f, NULL, 1, 1024);
    int fd = dial_h2(&f);
    uint32_t i;
    for (i = 0; i < 100000; i++) {
        if (!frame(fd, NGHTTP2_HEADERS, 5, 2 * i + 1, GET_WAIT)) break;
        if (!frame(fd, NGHTTP2_RST_STREAM, 0, 2 * i + 1, STR("\0\0\0\x08"))) break;
    }
    assert_true(i < 100000);
    gate_set(&f, true);
    check_calm(&f, fd, 1);
    assert_true(stats_of(&f).requests_h2_total <= NET_RESETS_MAX + 100);
    fixture_close(&f);
}

/* The client's errors make the server reset: counted the same. */
static void test_made_you_reset(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f);
    int fd = dial_h2(&f);
    uint32_t i;
    for (i = 0; i < 100000; i++) {
        if (!frame(fd, NGHTTP2_HEADERS, 4, 2 * i + 1, GET_HEAD)) break;
        if (!frame(fd, NGHTTP2_WINDOW_UPDATE, 0, 2 * i + 1, STR("\0\0\0\0"))) break;
    }
    assert_true(i < 100000);
    close(fd);
    assert_true(stats_of(&f).requests_h2_total <= NET_RESETS_MAX + 300);
    fixture_close(&f);
}

static void flood_with(fixture *f, uint8_t type, uint8_t flags, uint32_t id, str payload) {
    int fd = dial_h2(f);
    uint64_t before = stats_of(f).floods_total;
    if (type == NGHTTP2_DATA) assert_true(frame(fd, NGHTTP2_HEADERS, 4, 1, GET_HEAD));
    int i;
    for (i = 0; i < 1000000 && frame(fd, type, flags, id, payload); i++) {}
    assert_true(i < 1000000);
    check_calm(f, fd, before + 1);
}

static void test_floods(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f);
    flood_with(&f, NGHTTP2_PING, 0, 0, STR("12345678"));
    flood_with(&f, NGHTTP2_PING, 1, 0, STR("12345678"));
    flood_with(&f, NGHTTP2_SETTINGS, 0, 0, STR(""));
    flood_with(&f, NGHTTP2_PRIORITY, 0, 3, STR("\0\0\0\0\x10"));
    flood_with(&f, NGHTTP2_DATA, 0, 1, STR(""));
    fixture_close(&f);
}

static void test_continuation_flood(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f);
    int fd = dial_h2(&f), i;
    assert_true(frame(fd, NGHTTP2_HEADERS, 1, 1, GET_HEAD));
    for (i = 0; i < 1000000 && frame(fd, NGHTTP2_CONTINUATION, 0, 1, STR("")); i++) {}
    assert_true(i < 1000000);
    check_calm(&f, fd, 1);
    fixture_close(&f);
}

/* A large field is put into the HPACK table once and then named by one byte again and again. */
static void test_hpack_bomb(void **state) {
    fixture f;
    char block[16384];
    (void)state;
    fixture_open(&f);
    int fd = dial_h2(&f);
    size_t n = GET_HEAD.len;
    memcpy(block, GET_HEAD.ptr, n);
    block[n++] = 0x40, block[n++] = 1, block[n++] = 'x';           /* literal, indexed */
    block[n++] = 0x7f, block[n++] = (char)0x81, block[n++] = 0x1f; /* length 4,096 - 32 - … */
    size_t length = 127 + 1 + 31 * 128;
    for (size_t i = 0; i < length; i++) block[n++] = 'v';
    while (n < sizeof(block)) block[n++] = (char)0xbe; /* index 62 */
    assert_true(frame(fd, NGHTTP2_HEADERS, 5, 1, str_from(block, n)));
    int64_t code = goaway_code(fd);
    assert_true(code == NGHTTP2_ENHANCE_YOUR_CALM || code == NGHTTP2_COMPRESSION_ERROR);
    close(fd);
    fixture_close(&f);
}

static void test_broken_frames(void **state) {
    static const str table[] = {
        STR_INIT("\0\0\x04\x08\0\0\0\0\0\0\0\0\0"), /* WINDOW_UPDATE by 0 */
        STR_INIT("\0\0\x05\0\0\0\0\0\0hello"),      /* DATA on stream 0 */
        STR_INIT("\0\0\x01\x01\x05\0\0\0\x02\x82"), /* an even stream */
        STR_INIT("\0\0\x01\x01\x05\0\0\0\x01\xff"), /* broken HPACK */
        STR_INIT("\xff\xff\xff\0\0\0\0\0\x01"),     /* 16 MiB frame */
        STR_INIT("\0\0\x03\x06\0\0\0\0\0abc"),      /* short PING */
        STR_INIT("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    };
    fixture f;
    (void)state;
    fixture_open(&f);
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        int fd = dial_h2(&f);
        assert_true(send_all(fd, table[i].ptr, table[i].len));
        assert_true(goaway_code(fd) > 0);
        close(fd);
    }
    int fd = dial(&f); /* a preface without SETTINGS */
    assert_true(send_all(fd, PREFACE, sizeof(PREFACE) - 1));
    assert_true(frame(fd, NGHTTP2_HEADERS, 5, 1, GET_HEAD));
    assert_true(goaway_code(fd) > 0);
    close(fd);
    fixture_close(&f);
}

/* The preface and frames byte by byte. */
static void test_cut_anywhere(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    for (size_t i = 0; i < sizeof(PREFACE) - 1; i++) assert_true(send_all(fd, PREFACE + i, 1));
    static const char frames[] =
        "\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01"
        "a\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0";
    for (size_t i = 0; i < sizeof(frames); i++) assert_true(send_all(fd, frames + i, 1));
    goaway_code(fd);
    assert_int_equal(stats_of(&f).requests_h2_total, 1);
    assert_int_equal(stats_of(&f).status_total[2], 1);
    close(fd);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_refused_heads),
        cmocka_unit_test(test_header_limits),
        cmocka_unit_test(test_many_streams),
        cmocka_unit_test(test_streamed),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_stuck_window),
        cmocka_unit_test(test_slow_body),
        cmocka_unit_test(test_reset_while_running),
        cmocka_unit_test(test_vanishing),
        cmocka_unit_test(test_graceful_close),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_rapid_reset),
        cmocka_unit_test(test_made_you_reset),
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_continuation_flood),
        cmocka_unit_test(test_hpack_bomb),
        cmocka_unit_test(test_broken_frames),
        cmocka_unit_test(test_cut_anywhere),
    };
    if (getenv("KITH_TEST")) cmocka_set_test_filter(getenv("KITH_TEST")); /* one by name */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
