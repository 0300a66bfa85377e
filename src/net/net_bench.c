/* A trivial server to be driven by wrk and h2load (docs/net.md has the commands and figures).
 *
 *     bench_net [port] [loops] [workers]      serves until its standard input ends
 *
 * /inline is answered on the loop thread, /worker on a worker, /big with 1 MiB, /stream as a stream
 * of 1,000 lines; POST /echo returns the body, POST /count streams the body and counts it.
 * When input ends it prints the process's CPU time for each request served.
 */
#include "net/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static char big[MIB];

static bool on_loop(void *ctx, net_request *rq) {
    static const net_header h[] = {{STR_INIT("Content-Type"), STR_INIT("text/plain")}};
    (void)ctx;
    if (!str_eq(rq->path, STR("/inline"))) return false;
    net_respond(rq, 200, h, 1, STR("hello\n"), NET_BORROW);
    return true;
}

static void count_body(net_request *rq) {
    char part[16384];
    size_t got, all = 0;
    while (net_body_read(rq, part, sizeof(part), &got) == OK && got) all += got;
    str text = arena_printf(rq->arena, "%zu\n", all);
    net_respond(rq, 200, NULL, 0, text, NET_BORROW);
}

static void stream(net_request *rq) {
    err rc = net_respond_begin(rq, 200, NULL, 0);
    for (int i = 0; i < 1000 && rc == OK; i++) {
        str line = arena_printf(rq->arena, "{\"line\":%d}\n", i);
        rc = net_respond_write(rq, line);
    }
    net_respond_end(rq, NULL, 0);
}

static void on_worker(void *ctx, net_request *rq) {
    static const net_header h[] = {{STR_INIT("Content-Type"), STR_INIT("text/plain")}};
    (void)ctx;
    if (str_eq(rq->path, STR("/echo"))) {
        net_respond(rq, 200, h, 1, rq->body, NET_BORROW);
    } else if (str_eq(rq->path, STR("/count"))) {
        count_body(rq);
    } else if (str_eq(rq->path, STR("/stream"))) {
        stream(rq);
    } else if (str_eq(rq->path, STR("/big"))) {
        net_respond(rq, 200, h, 1, str_from(big, sizeof(big)), NET_BORROW);
    } else {
        net_respond(rq, 200, h, 1, STR("hello\n"), NET_BORROW);
    }
}

static void route(void *ctx, net_request *rq, net_route *out) {
    (void)ctx;
    out->streamed = str_eq(rq->path, STR("/count"));
}

static double cpu_us(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return 1e6 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static unsigned argument(int argc, char **argv, int i, unsigned otherwise) {
    return argc > i ? (unsigned)strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv) {
    net_options o;
    net_server *s;
    net_stats stats;
    net_options_init(&o);
    o.port = (uint16_t)argument(argc, argv, 1, 0);
    o.loops = argument(argc, argv, 2, 1);
    o.handler = on_worker, o.inline_handler = on_loop, o.route = route;
    for (size_t i = 0; i < sizeof(big); i++) big[i] = (char)('a' + i % 26);
    if (pool_open("bench", argument(argc, argv, 3, 2), 1024, &o.workers) != OK ||
        net_server_open(&o, &s) != OK) {
        fprintf(stderr, "%s\n", err_detail());
        return 1;
    }
    printf("%u\n", net_server_port(s));
    fflush(stdout);
    double before = cpu_us();
    while (getchar() != EOF) {}
    double used = cpu_us() - before;
    net_server_stats(s, &stats);
    net_server_close(s, 1000);
    pool_close(o.workers);
    printf("requests %llu, CPU %.2f us a request, live %llu bytes\n",
           (unsigned long long)stats.requests_total,
           stats.requests_total ? used / (double)stats.requests_total : 0.0,
           (unsigned long long)mem_live_bytes());
    return 0;
}
