/* For net's tests only: a client of raw sockets on 127.0.0.1, and a server whose handlers do
 * what tests need. Every read has a deadline of 20 s, so a server that hangs fails a test and
 * does not stop it.
 *
 * Paths served by test_handler and friends:
 *   /inline          on the loop thread              /worker    on a worker
 *   /echo            the body                        /big       300,000 bytes of a pattern
 *   /status/204      that status with a short body   /bad       headers that must not be sent
 *   /wait            answers when gate_open          /stream    10 lines, streamed
 *   /lines (streamed) sends back each line as it comes
 *   /count (streamed) the number of bytes            /flood     64 MiB, streamed
 *   /hold (streamed) reads nothing until gate_open   /abort     a stream cut off in the middle
 *   /ignore (streamed) answers without reading the body
 *   /refuse          401 by route, before the body   /small     a route with a body limit of 10
 */
#ifndef KITH_NET_TESTING_H
#define KITH_NET_TESTING_H

#include "net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define BIG_BYTES 300000

/* ---- the server ---- */

typedef struct fixture {
    net_server *server;
    pool *workers;
    uint16_t port;
    mutex mu;
    cond cv;
    bool gate;
    int waiting;          /* handlers at the gate */
    atomic_int cancelled; /* streams that ended with ERR_CANCELLED */
    atomic_int timed_out;
    atomic_int invalid;
    atomic_int too_large;
    atomic_int done, done_complete;
} fixture;

static char big_body[BIG_BYTES];

static UNUSED void gate_wait(fixture *f) {
    mutex_lock(&f->mu);
    f->waiting++;
    cond_broadcast(&f->cv);
    while (!f->gate) cond_wait(&f->cv, &f->mu);
    f->waiting--;
    mutex_unlock(&f->mu);
}

static UNUSED void gate_set(fixture *f, bool open) {
    mutex_lock(&f->mu);
    f->gate = open;
    cond_broadcast(&f->cv);
    mutex_unlock(&f->mu);
}

/* Until n handlers wait at the gate. */
static UNUSED void gate_reached(fixture *f, int n) {
    mutex_lock(&f->mu);
    while (f->waiting < n) cond_wait(&f->cv, &f->mu);
    mutex_unlock(&f->mu);
}

static void note(fixture *f, err rc) {
    if (rc == ERR_CANCELLED) atomic_fetch_add(&f->cancelled, 1);
    if (rc == ERR_TIMEOUT) atomic_fetch_add(&f->timed_out, 1);
    if (rc == ERR_INVALID) atomic_fetch_add(&f->invalid, 1);
    if (rc == ERR_TOO_LARGE) atomic_fetch_add(&f->too_large, 1);
}

static const net_header TEXT[] = {{STR_INIT("Content-Type"), STR_INIT("text/plain")}};

static void serve_lines(fixture *f, net_request *rq) {
    char part[4096];
    size_t got;
    err rc = net_respond_begin(rq, 200, TEXT, 1);
    while (rc == OK) {
        rc = net_body_read(rq, part, sizeof(part), &got);
        if (rc != OK || got == 0) break;
        rc = net_respond_write(rq, str_from(part, got));
    }
    note(f, rc);
    net_header trailer = {STR("X-End"), STR("yes")};
    net_respond_end(rq, &trailer, 1);
}

static void serve_count(fixture *f, net_request *rq) {
    char part[4096];
    size_t got = 0, all = 0;
    err rc;
    while ((rc = net_body_read(rq, part, sizeof(part), &got)) == OK && got) all += got;
    note(f, rc);
    net_respond(rq, rc == OK ? 200 : 400, TEXT, 1, arena_printf(rq->arena, "%zu", all), NET_BORROW);
}

static void serve_flood(fixture *f, net_request *rq) {
    err rc = net_respond_begin(rq, 200, TEXT, 1);
    for (int i = 0; i < 64 * 16 && rc == OK; i++) {
        rc = net_respond_write(rq, str_from(big_body, 64 * KIB));
    }
    note(f, rc);
    net_respond_end(rq, NULL, 0);
}

static void serve_stream(net_request *rq, bool whole) {
    err rc = net_respond_begin(rq, 200, TEXT, 1);
    for (int i = 0; i < 10 && rc == OK; i++) {
        rc = net_respond_write(rq, arena_printf(rq->arena, "line %d\n", i));
    }
    if (whole) {
        net_respond_end(rq, NULL, 0);
    } else {
        net_respond_abort(rq);
    }
}

static void serve_status(net_request *rq) {
    int64_t status = 500;
    if (!str_to_i64(str_skip(rq->path, 8), &status)) status = 500;
    net_respond(rq, (int)status, TEXT, 1, STR("body"), NET_COPY);
}

static void test_handler(void *ctx, net_request *rq) {
    fixture *f = ctx;
    str p = rq->path;
    if (str_eq(p, STR("/echo"))) {
        net_respond(rq, 200, TEXT, 1, rq->body, NET_COPY);
    } else if (str_eq(p, STR("/big"))) {
        net_respond(rq, 200, TEXT, 1, str_from(big_body, BIG_BYTES), NET_BORROW);
    } else if (str_starts(p, STR("/status/"))) {
        serve_status(rq);
    } else if (str_eq(p, STR("/bad"))) {
        net_header h = {STR("X-Bad"), STR("a\r\nSet-Cookie: b")};
        net_respond(rq, 200, &h, 1, STR("secret"), NET_COPY);
    } else if (str_eq(p, STR("/wait"))) {
        gate_wait(f);
        note(f, net_cancelled(rq) ? ERR_CANCELLED : OK);
        net_respond(rq, 200, TEXT, 1, STR("waited"), NET_COPY);
    } else if (str_eq(p, STR("/lines"))) {
        serve_lines(f, rq);
    } else if (str_eq(p, STR("/count"))) {
        serve_count(f, rq);
    } else if (str_eq(p, STR("/ignore"))) {
        net_respond(rq, 409, TEXT, 1, STR("ignored"), NET_COPY);
    } else if (str_eq(p, STR("/hold"))) {
        gate_wait(f);
        serve_count(f, rq);
    } else if (str_eq(p, STR("/flood"))) {
        serve_flood(f, rq);
    } else if (str_eq(p, STR("/stream")) || str_eq(p, STR("/abort"))) {
        serve_stream(rq, str_eq(p, STR("/stream")));
    } else {
        str text = arena_printf(rq->arena, STR_FMT " " STR_FMT "?" STR_FMT, STR_ARG(rq->method),
                                STR_ARG(p), STR_ARG(rq->query));
        net_respond(rq, 200, TEXT, 1, text, NET_BORROW);
    }
}

static bool test_inline(void *ctx, net_request *rq) {
    (void)ctx;
    if (!str_starts(rq->path, STR("/inline"))) return false;
    net_respond(rq, 200, TEXT, 1, rq->query.len ? rq->query : STR("inline"), NET_BORROW);
    return true;
}

static void test_route(void *ctx, net_request *rq, net_route *out) {
    (void)ctx;
    str p = rq->path;
    out->streamed = str_eq(p, STR("/lines")) || str_eq(p, STR("/count")) ||
                    str_eq(p, STR("/hold")) || str_eq(p, STR("/ignore"));
    if (str_eq(p, STR("/small"))) out->body_bytes_max = 10;
    if (str_eq(p, STR("/refuse"))) net_respond(rq, 401, TEXT, 1, STR("no"), NET_BORROW);
}

static void test_done(void *ctx, const net_request *rq, const net_outcome *outcome) {
    fixture *f = ctx;
    (void)rq;
    atomic_fetch_add(&f->done, 1);
    if (outcome->complete) atomic_fetch_add(&f->done_complete, 1);
}

static UNUSED void options_for_tests(net_options *o) {
    net_options_init(o);
    o->handler = test_handler;
    o->inline_handler = test_inline;
    o->route = test_route;
    o->done = test_done;
}

/* `o` NULL: the defaults. */
static UNUSED void fixture_open_with(fixture *f, const net_options *o, unsigned threads,
                                     size_t queue) {
    net_options own;
    memset(f, 0, sizeof(*f));
    for (size_t i = 0; i < BIG_BYTES; i++) big_body[i] = (char)('a' + i % 23);
    options_for_tests(&own);
    if (o) own = *o;
    assert_int_equal(mutex_init(&f->mu), OK);
    assert_int_equal(cond_init(&f->cv), OK);
    assert_int_equal(pool_open("test", threads, queue, &f->workers), OK);
    own.workers = f->workers;
    own.ctx = f;
    assert_int_equal(net_server_open(&own, &f->server), OK);
    f->port = net_server_port(f->server);
    assert_true(f->port > 0);
}

static UNUSED void fixture_open(fixture *f) {
    fixture_open_with(f, NULL, 4, 256);
}

static UNUSED void fixture_close(fixture *f) {
    gate_set(f, true);
    net_server_close(f->server, 5000);
    pool_close(f->workers);
    cond_deinit(&f->cv);
    mutex_deinit(&f->mu);
}

static UNUSED net_stats stats_of(fixture *f) {
    net_stats s;
    net_server_stats(f->server, &s);
    return s;
}

/* ---- the client ---- */

static UNUSED int dial(fixture *f) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(f->port)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct timeval t = {20, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
    return fd;
}

/* Sends all; false when the server does not take it. */
static UNUSED bool send_all(int fd, const void *p, size_t n) {
    const char *at = p;
    while (n) {
        ssize_t put = send(fd, at, n, MSG_NOSIGNAL);
        if (put <= 0) return false;
        at += put;
        n -= (size_t)put;
    }
    return true;
}

static UNUSED bool send_text(int fd, const char *text) {
    return send_all(fd, text, strlen(text));
}

/* Reads until the peer closes, or `cap` bytes; returns the length, NUL-terminated. */
static UNUSED size_t read_to_end(int fd, char *p, size_t cap) {
    size_t n = 0;
    while (n < cap - 1) {
        ssize_t got = recv(fd, p + n, cap - 1 - n, 0);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) fail_msg("the server hangs");
        if (got <= 0) break;
        n += (size_t)got;
    }
    p[n] = 0;
    return n;
}

/* Reads until `needle` was seen. */
static UNUSED size_t read_until(int fd, char *p, size_t cap, const char *needle) {
    size_t n = 0;
    p[0] = 0;
    while (n < cap - 1 && !strstr(p, needle)) {
        ssize_t got = recv(fd, p + n, 1, 0);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) fail_msg("the server hangs");
        if (got <= 0) break;
        p[++n - 1 + 1] = 0;
    }
    return n;
}

typedef struct reply {
    int status;
    char head[4096];
    char *body; /* free() */
    size_t length;
    bool framed; /* Content-Length or chunked was there and complete */
} reply;

static UNUSED bool read_exact(int fd, char *p, size_t n) {
    while (n) {
        ssize_t got = recv(fd, p, n, 0);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) fail_msg("the server hangs");
        if (got <= 0) return false;
        p += got;
        n -= (size_t)got;
    }
    return true;
}

static void read_chunks(int fd, reply *r) {
    for (;;) {
        char line[64];
        if (!read_until(fd, line, sizeof(line), "\r\n")) return;
        size_t n = strtoul(line, NULL, 16);
        r->body = realloc(r->body, r->length + n + 3);
        if (n == 0) break;
        if (!read_exact(fd, r->body + r->length, n + 2)) return;
        r->length += n;
        r->body[r->length] = 0;
    }
    char trailers[1024];
    size_t at = 0;
    do {
        size_t n = read_until(fd, trailers + at, sizeof(trailers) - at, "\r\n");
        if (n <= 2) {
            r->framed = n == 2;
            return;
        }
        at += n;
    } while (at < sizeof(trailers) - 8);
}

/* One HTTP/1 answer. `head_only`: HEAD was asked. */
static UNUSED bool read_reply(int fd, reply *r, bool head_only) {
    memset(r, 0, sizeof(*r));
    read_until(fd, r->head, sizeof(r->head), "\r\n\r\n");
    if (strncmp(r->head, "HTTP/1.1 ", 9) != 0) return false;
    r->status = (int)strtol(r->head + 9, NULL, 10);
    r->body = calloc(1, 1);
    if (head_only || r->status == 204 || r->status == 304 || r->status < 200) return true;
    const char *length = strstr(r->head, "\r\nContent-Length: ");
    if (length) {
        size_t n = strtoul(length + 18, NULL, 10);
        r->body = realloc(r->body, n + 1);
        r->framed = read_exact(fd, r->body, n);
        r->length = n;
        r->body[n] = 0;
    } else if (strstr(r->head, "\r\nTransfer-Encoding: chunked\r\n")) {
        read_chunks(fd, r);
    } else {
        r->body = realloc(r->body, 1 << 20);
        r->length = read_to_end(fd, r->body, 1 << 20);
    }
    return true;
}

/* Sends `text`, reads one answer, and checks its status. The body is freed unless taken. */
static UNUSED void expect_reply(int fd, const char *text, int status, const char *body) {
    reply r;
    assert_true(send_text(fd, text));
    assert_true(read_reply(fd, &r, strncmp(text, "HEAD", 4) == 0));
    assert_int_equal(r.status, status);
    if (body) assert_string_equal(r.body, body);
    free(r.body);
}

static UNUSED bool is_closed(int fd) {
    char c;
    ssize_t n = recv(fd, &c, 1, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) fail_msg("the server keeps it open");
    return n <= 0;
}

/* Closes with RST. */
static UNUSED void vanish(int fd) {
    struct linger l = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    close(fd);
}

/* Waits (at most 20 s) until *n is at least `want`. */
static UNUSED void await(atomic_int *n, int want) {
    for (int i = 0; i < 4000 && atomic_load(n) < want; i++) clock_sleep_ms(5);
    assert_true(atomic_load(n) >= want);
}

#endif
