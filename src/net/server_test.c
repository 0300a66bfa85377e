/* The server over real sockets with HTTP/1: framing attacks, order, slow, idle, half-closed and
 * vanishing clients, limits, streams, overload, and how it ends.
 *
 * Tests never assert a duration. Where a deadline of the server is tested its option is set to a
 * few hundred milliseconds and the client waits for the outcome, for at most 20 s.
 *
 */
#include "net/net_testing.h"

#include <sys/resource.h>

#define HOST "Host: a\r\n"

/* ---- plain requests ---- */

static void test_basics(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    reply r;
    assert_true(send_text(fd, "GET /x?y=1 HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(read_reply(fd, &r, false));
    assert_string_equal(r.body, "GET /x?y=1");
    assert_non_null(strstr(r.head, "\r\nDate: "));
    assert_non_null(strstr(r.head, " GMT\r\n"));
    assert_null(strstr(r.head, "Connection:"));
    free(r.body);
    expect_reply(fd, "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline");
    expect_reply(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", 200, "hello");
    expect_reply(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 200, "");
    expect_reply(fd, "HEAD /echo HTTP/1.1\r\n" HOST "\r\n", 200, "");
    expect_reply(fd, "GET /status/204 HTTP/1.1\r\n" HOST "\r\n", 204, "");
    expect_reply(fd, "GET /status/304 HTTP/1.1\r\n" HOST "\r\n", 304, "");
    expect_reply(fd, "GET /status/404 HTTP/1.1\r\n" HOST "\r\n", 404, "body");
    expect_reply(fd, "GET /status/999 HTTP/1.1\r\n" HOST "\r\n", 500, "");
    assert_true(send_text(fd, "GET /big HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(read_reply(fd, &r, false));
    assert_int_equal(r.length, BIG_BYTES);
    assert_memory_equal(r.body, big_body, BIG_BYTES);
    free(r.body);
    expect_reply(fd, "GET /inline HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", 200, "inline");
    assert_true(is_closed(fd));
    close(fd);
    fixture_close(&f);
}

static void test_head_keeps_length(void **state) {
    fixture f;
    reply r;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    assert_true(send_text(fd, "HEAD /big HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(read_reply(fd, &r, true));
    assert_non_null(strstr(r.head, "Content-Length: 300000\r\n"));
    free(r.body);
    expect_reply(fd, "HEAD /stream HTTP/1.1\r\n" HOST "\r\n", 200, "");
    expect_reply(fd, "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline");
    close(fd);
    fixture_close(&f);
}

static void test_http10(void **state) {
    fixture f;
    reply r;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    expect_reply(fd, "GET /inline HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, "inline");
    expect_reply(fd, "GET /inline HTTP/1.0\r\n\r\n", 200, "inline");
    assert_true(is_closed(fd));
    close(fd);
    fd = dial(&f);
    assert_true(send_text(fd, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    assert_true(read_reply(fd, &r, false));
    assert_null(strstr(r.head, "chunked"));
    assert_non_null(strstr(r.body, "line 9\n"));
    free(r.body);
    close(fd);
    fixture_close(&f);
}

/* A handler may not split a response. */
static void test_bad_response_headers(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    expect_reply(fd, "GET /bad HTTP/1.1\r\n" HOST "\r\n", 500, "");
    close(fd);
    fixture_close(&f);
}

/* ---- framing ---- */

/* Each is refused and nothing behind it is served: the smuggled request never gets an answer. */
static void test_smuggling(void **state) {
    static const struct {
        const char *text;
        int status;
    } table[] = {
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
         "0\r\n\r\nGET /smuggled HTTP/1.1\r\n" HOST "\r\n",
         400},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 0\r\n\r\n"
         "GET /smuggled HTTP/1.1\r\n" HOST "\r\n",
         400},
        {"POST /echo HTTP/1.1\r\n" HOST
         "Transfer-Encoding:  chunked\r\nTransfer-Encoding: x\r\n\r\n"
         "0\r\n\r\nGET /smuggled HTTP/1.1\r\n" HOST "\r\n",
         400},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: , chunked\r\n\r\n"
         "0\r\n\r\nGET /smuggled HTTP/1.1\r\n" HOST "\r\n",
         501},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding\t: chunked\r\n\r\n"
         "0\r\n\r\nGET /smuggled HTTP/1.1\r\n" HOST "\r\n",
         400},
        {"POST /echo HTTP/1.1\n" HOST "Content-Length: 0\r\n\r\nGET /smuggled HTTP/1.1\r\n" HOST
         "\r\n",
         400},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
         "0;\n\r\n\r\nGET /smuggled HTTP/1.1\r\n" HOST "\r\n",
         400},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
         "5\r\nhelloX0\r\n\r\nGET /smuggled HTTP/1.1\r\n" HOST "\r\n",
         400},
        {"GET /a HTTP/1.1\r\n" HOST "X: y\r\n folded\r\n\r\nGET /smuggled HTTP/1.1\r\n" HOST "\r\n",
         400},
    };
    fixture f;
    char text[8192];
    (void)state;
    fixture_open(&f);
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        int fd = dial(&f);
        char want[32];
        assert_true(send_text(fd, table[i].text));
        read_to_end(fd, text, sizeof(text));
        snprintf(want, sizeof(want), "HTTP/1.1 %d ", table[i].status);
        assert_memory_equal(text, want, strlen(want));
        assert_null(strstr(text, "smuggled"));
        assert_non_null(strstr(text, "Connection: close\r\n"));
        assert_non_null(strstr(text, "application/problem+json"));
        close(fd);
    }
    fixture_close(&f);
}

static void test_pipelining(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    char *text = malloc(1 << 16);
    size_t n = 0;
    for (int i = 0; i < 300; i++) { /* loop and worker mixed: the order must hold */
        n += (size_t)sprintf(text + n, "GET /%s?%d HTTP/1.1\r\n" HOST "\r\n",
                             i % 3 ? "inline" : "w", i);
    }
    assert_true(send_all(fd, text, n));
    for (int i = 0; i < 300; i++) {
        reply r;
        char want[32];
        assert_true(read_reply(fd, &r, false));
        snprintf(want, sizeof(want), i % 3 ? "%d" : "GET /w?%d", i);
        assert_string_equal(r.body, want);
        free(r.body);
    }
    free(text);
    close(fd);
    fixture_close(&f);
}

/* A client that sends without end and does not read stops our production, not our memory. */
static void test_pipelining_without_reading(void **state) {
    static const char one[] = "GET /big HTTP/1.1\r\n" HOST "\r\n";
    fixture f;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    struct timeval t = {0, 300000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
    size_t sent = 0;
    while (sent < 64 * MIB && send_text(fd, one)) sent += sizeof(one) - 1;
    assert_true(sent < 64 * MIB);
    assert_true(stats_of(&f).requests_total < 100);
    close(fd);
    fixture_close(&f);
}

static const char chunked_post[] =
    "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
    "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: v\r\n\r\n";

static void test_chunked_cut_anywhere(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    size_t n = sizeof(chunked_post) - 1;
    for (size_t cut = 1; cut < n; cut++) {
        uint64_t before = stats_of(&f).bytes_in_total;
        assert_true(send_all(fd, chunked_post, cut));
        while (stats_of(&f).bytes_in_total < before + cut) clock_sleep_ms(0); /* read on its own */
        assert_true(send_all(fd, chunked_post + cut, n - cut));
        expect_reply(fd, "", 200, "hello world");
    }
    for (size_t i = 0; i < n; i++) assert_true(send_all(fd, chunked_post + i, 1));
    expect_reply(fd, "", 200, "hello world");
    close(fd);
    fixture_close(&f);
}

static void test_bodies_by_bytes(void **state) {
    static const char post[] = "POST /count HTTP/1.1\r\n" HOST "Content-Length: 26\r\n\r\n"
                               "abcdefghijklmnopqrstuvwxyzGET /inline HTTP/1.1\r\n" HOST "\r\n";
    fixture f;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    for (size_t i = 0; i < sizeof(post) - 1; i++) assert_true(send_all(fd, post + i, 1));
    expect_reply(fd, "", 200, "26");
    expect_reply(fd, "", 200, "inline");
    close(fd);
    fixture_close(&f);
}

static void test_expect_continue(void **state) {
    fixture f;
    reply r;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    expect_reply(fd,
                 "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n",
                 100, NULL);
    expect_reply(fd, "ok", 200, "ok");
    /* not asked to go on: refused at once, and the connection ends */
    assert_true(send_text(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 9000000\r\n"
                              "Expect: 100-continue\r\n\r\n"));
    assert_true(read_reply(fd, &r, false));
    assert_int_equal(r.status, 413);
    free(r.body);
    assert_true(is_closed(fd));
    close(fd);
    fd = dial(&f);
    expect_reply(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\nExpect: more\r\n\r\n",
                 417, NULL);
    close(fd);
    fixture_close(&f);
}

/* ---- limits ---- */

static void test_over_limit(void **state) {
    fixture f;
    reply r;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f); /* a promise is refused before the body */
    expect_reply(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1048577\r\n\r\n", 413, NULL);
    assert_true(is_closed(fd));
    close(fd);
    fd = dial(&f); /* without a promise: when it is over */
    assert_true(send_text(fd, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"));
    bool taken = true;
    for (int i = 0; i < 64 * 16 && taken; i++) {
        taken =
            send_text(fd, "10000\r\n") && send_all(fd, big_body, 65536) && send_text(fd, "\r\n");
    }
    assert_false(taken);
    assert_true(stats_of(&f).bytes_in_total < 4 * MIB);
    close(fd);
    fd = dial(&f); /* a route's own limit, and the connection goes on when the body is short */
    expect_reply(fd, "POST /small HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\n12345678901", 413,
                 NULL);
    expect_reply(fd, "POST /small HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n1234567890", 200,
                 NULL);
    expect_reply(fd, "POST /refuse HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nbody", 401, "no");
    expect_reply(fd, "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline");
    assert_true(
        send_text(fd, "POST /refuse HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"));
    assert_true(read_reply(fd, &r, false)); /* of unknown length: not waited for */
    assert_int_equal(r.status, 401);
    free(r.body);
    close(fd);
    assert_int_equal(stats_of(&f).too_large_total, 3);
    assert_int_equal(stats_of(&f).buffered_bytes, 0);
    fixture_close(&f);
}

static void test_memory_budget(void **state) {
    fixture f;
    net_options o;
    (void)state;
    options_for_tests(&o);
    o.buffered_bytes_max = 100000;
    fixture_open_with(&f, &o, 2, 16);
    int a = dial(&f), b = dial(&f);
    assert_true(send_text(a, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 90001\r\n\r\n"));
    assert_true(send_all(a, big_body, 90000));
    while (stats_of(&f).buffered_bytes < 90000) clock_sleep_ms(1);
    assert_true(send_text(b, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 90001\r\n\r\n"));
    assert_true(send_all(b, big_body, 90000));
    expect_reply(b, "", 503, NULL);
    reply r;
    assert_true(send_text(a, "x"));
    assert_true(read_reply(a, &r, false));
    assert_int_equal(r.status, 200);
    assert_int_equal(r.length, 90001);
    free(r.body);
    close(a), close(b);
    fixture_close(&f);
}

static void test_connections_max(void **state) {
    fixture f;
    net_options o;
    (void)state;
    options_for_tests(&o);
    o.connections_max = 3;
    fixture_open_with(&f, &o, 4, 16);
    int fd[4];
    for (int i = 0; i < 3; i++) {
        fd[i] = dial(&f);
        expect_reply(fd[i], "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline");
    }
    fd[3] = dial(&f); /* the longest idle makes room */
    expect_reply(fd[3], "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline");
    assert_true(is_closed(fd[0]));
    close(fd[0]);
    for (int i = 1; i < 4; i++) assert_true(send_text(fd[i], "GET /wait HTTP/1.1\r\n" HOST "\r\n"));
    gate_reached(&f, 3);
    fd[0] = dial(&f); /* none is idle */
    char text[512];
    read_to_end(fd[0], text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 503 "));
    assert_non_null(strstr(text, "Retry-After: "));
    gate_set(&f, true);
    for (int i = 1; i < 4; i++) expect_reply(fd[i], "", 200, "waited");
    for (int i = 0; i < 4; i++) close(fd[i]);
    assert_int_equal(stats_of(&f).connections_rejected, 1);
    fixture_close(&f);
}

static void test_queue_full(void **state) {
    fixture f;
    (void)state;
    fixture_open_with(&f, NULL, 1, 1);
    int fd[3], shed = 0;
    for (int i = 0; i < 3; i++) { /* one runs, one waits, one is too many */
        fd[i] = dial(&f);
        assert_true(send_text(fd[i], "GET /wait HTTP/1.1\r\n" HOST "\r\n"));
        if (i == 0) gate_reached(&f, 1);
        while (stats_of(&f).requests_total < (uint64_t)i + 1) clock_sleep_ms(1);
    }
    reply r;
    assert_true(read_reply(fd[2], &r, false));
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(r.head, "\r\nRetry-After: 1\r\n"));
    free(r.body);
    expect_reply(fd[2], "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline"); /* still serves */
    gate_set(&f, true);
    for (int i = 0; i < 2; i++) expect_reply(fd[i], "", 200, "waited");
    for (int i = 0; i < 3; i++) close(fd[i]);
    shed = (int)stats_of(&f).shed_total;
    assert_int_equal(shed, 1);
    fixture_close(&f);
}

/* A long body is not read when nobody could take it. */
static void test_queue_full_before_body(void **state) {
    fixture f;
    net_options o;
    (void)state;
    options_for_tests(&o);
    o.queue_max = 1;
    fixture_open_with(&f, &o, 1, 16);
    int a = dial(&f), b = dial(&f), c = dial(&f);
    assert_true(send_text(a, "GET /wait HTTP/1.1\r\n" HOST "\r\n"));
    gate_reached(&f, 1);
    assert_true(send_text(b, "GET /wait HTTP/1.1\r\n" HOST "\r\n"));
    while (pool_queued(f.workers) < 1) clock_sleep_ms(1);
    expect_reply(c, "POST /count HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\n", 503, NULL);
    assert_true(is_closed(c));
    gate_set(&f, true);
    expect_reply(a, "", 200, "waited");
    expect_reply(b, "", 200, "waited");
    close(a), close(b), close(c);
    fixture_close(&f);
}

static void test_no_descriptors(void **state) {
    fixture f;
    struct rlimit before, low;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f), probe = dup(fd);
    expect_reply(fd, "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline");
    int late = socket(AF_INET, SOCK_STREAM, 0);
    getrlimit(RLIMIT_NOFILE, &before);
    low = before;
    low.rlim_cur = (rlim_t)late + 1; /* all below are taken, or will be */
    int filler[64], count = 0;
    setrlimit(RLIMIT_NOFILE, &low);
    while (count < 64 && (filler[count] = dup(fd)) >= 0) count++;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(f.port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(late, (struct sockaddr *)&a, sizeof(a)), 0);
    while (stats_of(&f).accept_errors_total < 2) clock_sleep_ms(1);
    assert_true(stats_of(&f).accept_errors_total < 50); /* it rests: no spin */
    expect_reply(fd, "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline");
    for (int i = 0; i < count; i++) close(filler[i]);
    setrlimit(RLIMIT_NOFILE, &before);
    struct timeval t = {20, 0};
    setsockopt(late, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    expect_reply(late, "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline");
    close(late), close(fd), close(probe);
    fixture_close(&f);
}

/* ---- slow, idle, half-closed, gone ---- */

static void test_slow_head(void **state) {
    fixture f;
    net_options o;
    char text[1024];
    (void)state;
    options_for_tests(&o);
    o.header_ms_max = 200;
    fixture_open_with(&f, &o, 2, 16);
    int fd = dial(&f);
    assert_true(send_text(fd, "GET / HTTP/1.1\r\nHost: a\r\nX: "));
    bool open = true; /* drips: each byte counts for nothing, the head has one deadline */
    for (int i = 0; i < 2000 && open; i++) {
        clock_sleep_ms(10);
        char c;
        open = send(fd, "y", 1, MSG_NOSIGNAL) == 1 && recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) < 0;
    }
    assert_false(open);
    read_to_end(fd, text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 408 "));
    close(fd);
    fd = dial(&f); /* also of something that may become HTTP/2 */
    assert_true(send_text(fd, "PRI * HT"));
    read_to_end(fd, text, sizeof(text));
    close(fd);
    assert_int_equal(stats_of(&f).timeouts_total, 2);
    fixture_close(&f);
}

static void test_slow_body(void **state) {
    fixture f;
    net_options o;
    char text[1024];
    (void)state;
    options_for_tests(&o);
    o.body_ms_max = 200;
    fixture_open_with(&f, &o, 2, 16);
    int fd = dial(&f);
    assert_true(send_text(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n12345"));
    read_to_end(fd, text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 408 "));
    close(fd);
    fd = dial(&f); /* a stream's handler hears of it */
    assert_true(send_text(fd, "POST /count HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n12345"));
    read_to_end(fd, text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 400 "));
    assert_int_equal(atomic_load(&f.timed_out), 1);
    close(fd);
    fixture_close(&f);
}

static void test_dripping_body(void **state) {
    fixture f;
    net_options o;
    char text[1024];
    (void)state;
    options_for_tests(&o);
    o.rate_bytes_s_min = 10000;
    o.rate_window_ms = 200;
    fixture_open_with(&f, &o, 2, 16);
    int fd = dial(&f);
    assert_true(send_text(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n"));
    bool open = true; /* never idle for long, but under the minimum rate */
    for (int i = 0; i < 2000 && open; i++) {
        char c;
        clock_sleep_ms(10);
        open = send(fd, "y", 1, MSG_NOSIGNAL) == 1 && recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) < 0;
    }
    assert_false(open);
    read_to_end(fd, text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 408 "));
    close(fd);
    fixture_close(&f);
}

static void test_idle_closed(void **state) {
    fixture f;
    net_options o;
    (void)state;
    options_for_tests(&o);
    o.idle_ms_max = 100;
    fixture_open_with(&f, &o, 2, 16);
    int a = dial(&f), b = dial(&f);
    expect_reply(b, "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline");
    assert_true(is_closed(a)); /* without a word */
    assert_true(is_closed(b));
    close(a), close(b);
    fixture_close(&f);
}

/* A client that takes nothing: the handler is freed and the connection cut. */
static void test_slow_reader(void **state) {
    fixture f;
    net_options o;
    (void)state;
    options_for_tests(&o);
    o.write_ms_max = 300;
    fixture_open_with(&f, &o, 2, 16);
    int fd = dial(&f), size = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    assert_true(send_text(fd, "GET /flood HTTP/1.1\r\n" HOST "\r\n"));
    await(&f.cancelled, 1);
    assert_int_equal(stats_of(&f).timeouts_total, 1);
    close(fd);
    fd = dial(&f); /* the same with whole answers, one after the other */
    for (int i = 0; i < 40; i++) assert_true(send_text(fd, "GET /big HTTP/1.1\r\n" HOST "\r\n"));
    while (stats_of(&f).connections_open > 0) clock_sleep_ms(5);
    close(fd);
    fixture_close(&f);
}

static void test_half_closed(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f); /* all sent, then end of file: still answered, all of it */
    assert_true(send_text(fd,
                          "GET /w?1 HTTP/1.1\r\n" HOST "\r\nGET /inline HTTP/1.1\r\n" HOST "\r\n"
                          "GET /wait HTTP/1.1\r\n" HOST "\r\n"));
    shutdown(fd, SHUT_WR);
    gate_reached(&f, 1);
    gate_set(&f, true);
    expect_reply(fd, "", 200, "GET /w?1");
    expect_reply(fd, "", 200, "inline");
    expect_reply(fd, "", 200, "waited");
    assert_true(is_closed(fd));
    close(fd);
    fd = dial(&f); /* end of file inside a body: no answer */
    assert_true(send_text(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n12345"));
    shutdown(fd, SHUT_WR);
    assert_true(is_closed(fd));
    close(fd);
    fd = dial(&f); /* and inside a streamed one */
    assert_true(send_text(fd, "POST /count HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n12345"));
    shutdown(fd, SHUT_WR);
    assert_true(is_closed(fd));
    close(fd);
    fixture_close(&f);
}

static void test_vanishing(void **state) {
    static const char *const texts[] = {
        "GET / HT",
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n12345",
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\n12",
        "POST /count HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n12345",
        "POST /lines HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        "GET /flood HTTP/1.1\r\n" HOST "\r\n",
        "GET /big HTTP/1.1\r\n" HOST "\r\n",
        "GET /w HTTP/1.1\r\n" HOST "\r\nGET /big HTTP/1.1\r\n" HOST "\r\n",
        "GET /stream HTTP/1.1\r\n" HOST "\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    };
    fixture f;
    (void)state;
    fixture_open(&f);
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < COUNT_OF(texts); i++) {
            int fd = dial(&f);
            assert_true(send_text(fd, texts[i]));
            if (round % 2) clock_sleep_ms((uint64_t)round);
            vanish(fd);
        }
    }
    int fd = dial(&f);
    assert_true(send_text(fd, "GET /wait HTTP/1.1\r\n" HOST "\r\n"));
    gate_reached(&f, 1);
    vanish(fd);
    while (stats_of(&f).connections_open > 0) clock_sleep_ms(1);
    gate_set(&f, true); /* its answer goes nowhere */
    fd = dial(&f);
    expect_reply(fd, "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline");
    close(fd);
    fixture_close(&f);
    assert_true(atomic_load(&f.cancelled) >= 1);
}

static void test_idle_connections(void **state) {
    enum { COUNT = 2000 };
    fixture f;
    struct rlimit limit;
    (void)state;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 2 * COUNT + 100) {
        print_message("only %lu descriptors: skipped\n", (unsigned long)limit.rlim_cur);
        skip();
    }
    fixture_open(&f);
    int *fd = malloc(COUNT * sizeof(*fd));
    uint64_t before = mem_live_bytes();
    for (int i = 0; i < COUNT; i++) {
        fd[i] = dial(&f);
        if (i % 2 == 0) expect_reply(fd[i], "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline");
    }
    while (stats_of(&f).connections_idle < COUNT) clock_sleep_ms(1);
    uint64_t each = (mem_live_bytes() - before) / COUNT;
    print_message("an idle connection holds %llu bytes\n", (unsigned long long)each);
    assert_true(each < 2048);
    for (int i = 0; i < COUNT; i += 37) {
        expect_reply(fd[i], "GET /w?1 HTTP/1.1\r\n" HOST "\r\n", 200, "GET /w?1");
    }
    for (int i = 0; i < COUNT; i++) close(fd[i]);
    while (stats_of(&f).connections_open > 0) clock_sleep_ms(1);
    free(fd);
    fixture_close(&f);
}

/* ---- streams ---- */

static void test_stream_out(void **state) {
    fixture f;
    reply r;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    for (int i = 0; i < 3; i++) {
        assert_true(send_text(fd, "GET /stream HTTP/1.1\r\n" HOST "\r\n"));
        assert_true(read_reply(fd, &r, false));
        assert_true(r.framed);
        assert_non_null(strstr(r.body, "line 0\nline 1\n"));
        assert_non_null(strstr(r.body, "line 9\n"));
        free(r.body);
    }
    assert_true(send_text(fd, "GET /abort HTTP/1.1\r\n" HOST "\r\n")); /* seen to be not whole */
    assert_true(read_reply(fd, &r, false));
    assert_false(r.framed);
    free(r.body);
    close(fd);
    fixture_close(&f);
}

/* Line for line in both directions: each answer comes before the next line is sent. */
static void test_duplex(void **state) {
    fixture f;
    char text[4096];
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    assert_true(
        send_text(fd, "POST /lines HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"));
    read_until(fd, text, sizeof(text), "\r\n\r\n");
    assert_non_null(strstr(text, "HTTP/1.1 200 "));
    for (int i = 0; i < 50; i++) {
        char line[32], chunk[64], want[64];
        snprintf(line, sizeof(line), "{\"n\":%d}\n", i);
        snprintf(chunk, sizeof(chunk), "%zx\r\n%s\r\n", strlen(line), line);
        snprintf(want, sizeof(want), "%s\r\n", line);
        assert_true(send_text(fd, chunk));
        read_until(fd, text, sizeof(text), want);
        assert_string_equal(text, chunk);
    }
    assert_true(send_text(fd, "0\r\n\r\n"));
    read_until(fd, text, sizeof(text), "\r\n\r\n");
    assert_string_equal(text, "0\r\nx-end: yes\r\n\r\n");
    expect_reply(fd, "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline"); /* goes on */
    close(fd);
    fixture_close(&f);
}

/* A handler that does not read stops the client; memory stays bounded; then all arrives. */
static void test_backpressure(void **state) {
    enum { MEGABYTES = 32 };
    fixture f;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    char head[128], want[32];
    snprintf(head, sizeof(head), "POST /hold HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n",
             MEGABYTES << 20);
    assert_true(send_text(fd, head));
    gate_reached(&f, 1);
    char *data = calloc(1, 1 << 20);
    size_t sent = 0, all = (size_t)MEGABYTES << 20;
    int stuck = 0;
    while (sent < all && stuck < 50) { /* until the socket takes no more */
        ssize_t n = send(fd, data, MIN((size_t)1 << 20, all - sent), MSG_DONTWAIT | MSG_NOSIGNAL);
        stuck = n > 0 ? 0 : stuck + 1;
        if (n > 0) sent += (size_t)n;
        if (n <= 0) clock_sleep_ms(2);
    }
    assert_true(sent < all);
    assert_true(stats_of(&f).bytes_in_total < MIB);
    gate_set(&f, true);
    while (sent < all) {
        size_t n = MIN((size_t)1 << 20, all - sent);
        assert_true(send_all(fd, data, n));
        sent += n;
    }
    snprintf(want, sizeof(want), "%d", MEGABYTES << 20);
    expect_reply(fd, "", 200, want);
    free(data);
    close(fd);
    fixture_close(&f);
}

static void test_stream_errors(void **state) {
    fixture f;
    net_options o;
    (void)state;
    options_for_tests(&o);
    o.stream_bytes_max = 1000;
    fixture_open_with(&f, &o, 2, 16);
    int fd = dial(&f);
    expect_reply(fd,
                 "POST /count HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
                 400, NULL);
    assert_true(is_closed(fd));
    close(fd);
    assert_int_equal(atomic_load(&f.invalid), 1);
    fd = dial(&f);
    assert_true(
        send_text(fd, "POST /count HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n4e9\r\n"));
    assert_true(send_all(fd, big_body, 0x4e9));
    expect_reply(fd, "\r\n0\r\n\r\n", 400, NULL);
    close(fd);
    assert_int_equal(atomic_load(&f.too_large), 1);
    fixture_close(&f);
}

/* A handler that does not read its stream: a short rest is dropped and the connection goes on. */
static void test_ignored_stream(void **state) {
    fixture f;
    reply r;
    (void)state;
    fixture_open(&f);
    int fd = dial(&f);
    for (int i = 0; i < 20; i++) {
        assert_true(
            send_text(fd, "POST /ignore HTTP/1.1\r\n" HOST "Content-Length: 60000\r\n\r\n"));
        assert_true(send_all(fd, big_body, 60000));
        expect_reply(fd, "", 409, "ignored");
    }
    assert_true(send_text(fd, "POST /ignore HTTP/1.1\r\n" HOST "Content-Length: 60000000\r\n\r\n"));
    assert_true(read_reply(fd, &r, false));
    assert_int_equal(r.status, 409);
    free(r.body);
    assert_true(is_closed(fd));
    close(fd);
    fixture_close(&f);
}

/* With no budget for bodies streams go on in small steps. */
static void test_streams_without_budget(void **state) {
    fixture f;
    net_options o;
    (void)state;
    options_for_tests(&o);
    o.buffered_bytes_max = 1;
    fixture_open_with(&f, &o, 2, 16);
    int fd = dial(&f);
    assert_true(send_text(fd, "POST /count HTTP/1.1\r\n" HOST "Content-Length: 300000\r\n\r\n"));
    assert_true(send_all(fd, big_body, BIG_BYTES));
    expect_reply(fd, "", 200, "300000");
    assert_true(send_text(fd, "GET /flood HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"));
    char *part = malloc(MIB);
    size_t all = 0, n;
    while ((n = read_to_end(fd, part, MIB)) > 0) all += n;
    assert_true(all > 64 * MIB);
    free(part);
    close(fd);
    assert_int_equal(stats_of(&f).buffered_bytes, 0);
    fixture_close(&f);
}

/* ---- many at once, and the end ---- */

typedef struct crowd {
    fixture *f;
    int requests;
    atomic_int failed;
} crowd;

static void one_of_crowd(void *arg) {
    crowd *c = arg;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(c->f->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) atomic_fetch_add(&c->failed, 1);
    for (int i = 0; i < c->requests; i++) {
        char text[256], want[64];
        reply r;
        snprintf(want, sizeof(want), "hello-%d", i);
        snprintf(text, sizeof(text),
                 "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n%s", strlen(want),
                 want);
        if (!send_text(fd, text) || !read_reply(fd, &r, false) || strcmp(r.body, want) != 0) {
            atomic_fetch_add(&c->failed, 1);
        } else {
            free(r.body);
        }
    }
    close(fd);
}

static void run_crowd(fixture *f, int clients, int requests) {
    thread t[16];
    crowd c = {.f = f, .requests = requests};
    atomic_init(&c.failed, 0);
    for (int i = 0; i < clients; i++) {
        assert_int_equal(thread_start(&t[i], "client", one_of_crowd, &c), OK);
    }
    for (int i = 0; i < clients; i++) thread_join(&t[i]);
    assert_int_equal(atomic_load(&c.failed), 0);
}

static void test_crowd(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f);
    run_crowd(&f, 8, 300);
    net_stats s = stats_of(&f);
    assert_int_equal(s.requests_total, 2400);
    assert_int_equal(s.status_total[2], 2400);
    fixture_close(&f);
    assert_int_equal(atomic_load(&f.done), 2400);
    assert_int_equal(atomic_load(&f.done_complete), 2400);
}

static void test_many_loops(void **state) {
    fixture f;
    net_options o;
    net_server *second;
    (void)state;
    options_for_tests(&o);
    o.loops = 3;
    fixture_open_with(&f, &o, 4, 256);
    run_crowd(&f, 8, 100);
    o.port = f.port,
    o.workers = f.workers; /* a second server is refused although ports are shared */
    assert_int_equal(net_server_open(&o, &second), ERR_EXISTS);
    fixture_close(&f);
}

static void test_open_errors(void **state) {
    fixture f;
    net_options o;
    net_server *s;
    (void)state;
    fixture_open(&f);
    options_for_tests(&o);
    o.workers = f.workers;
    o.port = f.port;
    assert_int_equal(net_server_open(&o, &s), ERR_EXISTS);
    assert_null(s);
    o.port = 0, o.host = "example.org";
    assert_int_equal(net_server_open(&o, &s), ERR_INVALID);
    o.host = "192.0.2.1";
    assert_int_equal(net_server_open(&o, &s), ERR_INVALID);
    o.host = "127.0.0.1", o.workers = NULL;
    assert_int_equal(net_server_open(&o, &s), ERR_INVALID);
    assert_true(net_host_loopback("127.8.8.8") && net_host_loopback("localhost"));
    assert_true(net_host_loopback("::1") && !net_host_loopback("0.0.0.0"));
    assert_true(!net_host_loopback("::") && !net_host_loopback("nonsense"));
    fixture_close(&f);
}

static void close_later(void *arg) {
    fixture *f = arg;
    net_server_close(f->server, 10000);
}

/* What is in flight is answered; nothing new is taken. */
static void test_graceful_close(void **state) {
    fixture f;
    reply r;
    thread t;
    (void)state;
    fixture_open(&f);
    int busy = dial(&f), waiting = dial(&f);
    expect_reply(waiting, "GET /inline HTTP/1.1\r\n" HOST "\r\n", 200, "inline");
    assert_true(send_text(busy, "GET /wait HTTP/1.1\r\n" HOST "\r\n"));
    gate_reached(&f, 1);
    assert_int_equal(thread_start(&t, "closer", close_later, &f), OK);
    assert_true(is_closed(waiting));
    gate_set(&f, true);
    assert_true(read_reply(busy, &r, false));
    assert_string_equal(r.body, "waited");
    assert_non_null(strstr(r.head, "\r\nConnection: close\r\n"));
    free(r.body);
    assert_true(is_closed(busy));
    thread_join(&t);
    close(busy), close(waiting);
    f.server = NULL;
    fixture_close(&f);
}

static void open_gate_later(void *arg) {
    fixture *f = arg;
    clock_sleep_ms(200);
    gate_set(f, true);
}

/* The grace period over: connections are cut, handlers are still waited for. */
static void test_close_cuts(void **state) {
    fixture f;
    thread t;
    (void)state;
    fixture_open(&f);
    int a = dial(&f), b = dial(&f), c = dial(&f);
    assert_true(send_text(a, "GET /wait HTTP/1.1\r\n" HOST "\r\n"));
    gate_reached(&f, 1);
    assert_true(send_text(b, "POST /lines HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n12345"));
    assert_true(send_text(c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n12345"));
    while (stats_of(&f).requests_total < 3) clock_sleep_ms(1);
    assert_int_equal(thread_start(&t, "gate", open_gate_later, &f), OK);
    net_server_close(f.server, 50);
    thread_join(&t);
    assert_true(is_closed(a));
    assert_int_equal(atomic_load(&f.cancelled), 2);
    close(a), close(b), close(c);
    f.server = NULL;
    fixture_close(&f);
}

/* Every allocation fails once: a client gets an answer or a closed connection, and the next one is
 * served. */
static void test_no_memory(void **state) {
    static const char *const texts[] = {
        "GET /w?1 HTTP/1.1\r\n" HOST "\r\n",
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "POST /lines HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello",
        "GET /stream HTTP/1.1\r\n" HOST "\r\n",
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        for (long nth = 1; nth <= 24; nth++) {
            fixture f;
            char text[2048];
            fixture_open(&f);
            mem_fail_after(nth);
            int fd = dial(&f);
            if (send_text(fd, texts[i])) {
                shutdown(fd, SHUT_WR);
                read_to_end(fd, text, sizeof(text));
                if (text[0]) assert_memory_equal(text, "HTTP/1.1 ", 9);
            }
            mem_fail_after(0);
            close(fd);
            fd = dial(&f);
            expect_reply(fd, texts[0], 200, "GET /w?1");
            close(fd);
            fixture_close(&f);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basics),
        cmocka_unit_test(test_head_keeps_length),
        cmocka_unit_test(test_http10),
        cmocka_unit_test(test_bad_response_headers),
        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_pipelining),
        cmocka_unit_test(test_pipelining_without_reading),
        cmocka_unit_test(test_chunked_cut_anywhere),
        cmocka_unit_test(test_bodies_by_bytes),
        cmocka_unit_test(test_expect_continue),
        cmocka_unit_test(test_over_limit),
        cmocka_unit_test(test_memory_budget),
        cmocka_unit_test(test_connections_max),
        cmocka_unit_test(test_queue_full),
        cmocka_unit_test(test_queue_full_before_body),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_slow_head),
        cmocka_unit_test(test_slow_body),
        cmocka_unit_test(test_dripping_body),
        cmocka_unit_test(test_idle_closed),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_half_closed),
        cmocka_unit_test(test_vanishing),
        cmocka_unit_test(test_idle_connections),
        cmocka_unit_test(test_stream_out),
        cmocka_unit_test(test_duplex),
        cmocka_unit_test(test_backpressure),
        cmocka_unit_test(test_stream_errors),
        cmocka_unit_test(test_ignored_stream),
        cmocka_unit_test(test_streams_without_budget),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_many_loops),
        cmocka_unit_test(test_open_errors),
        cmocka_unit_test(test_graceful_close),
        cmocka_unit_test(test_close_cuts),
        cmocka_unit_test(test_no_memory),
    };
    if (getenv("KITH_TEST")) cmocka_set_test_filter(getenv("KITH_TEST")); /* one by name */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
