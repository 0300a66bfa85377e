/* kith top: what a server does now, once a second, from /v1/observe: the same numbers as the page
 * /status, in a terminal. Interrupted by Ctrl-C. With --once it prints one picture and ends.
 */
#include "role/args.h"
#include "role/command.h"
#include "role/remote.h"
#include "role/term.h"

#include <math.h>
#include <stdio.h>

enum { SPARK = 60, BAR = 30 };

static double num(yyjson_val *o, const char *key) {
    return yyjson_get_num(yyjson_obj_get(o, key));
}

static double last_of(yyjson_val *o, const char *key) {
    return yyjson_get_num(yyjson_arr_get_last(yyjson_obj_get(o, key)));
}

/* The last SPARK values as eight heights. */
static void spark(yyjson_val *o, const char *key, strbuf *out) {
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    yyjson_val *list = yyjson_obj_get(o, key);
    size_t n = yyjson_arr_size(list), from = n > SPARK ? n - SPARK : 0;
    double top = 0;
    for (size_t i = from; i < n; i++) top = MAX(top, yyjson_get_num(yyjson_arr_get(list, i)));
    for (size_t i = from; i < n; i++) {
        double v = yyjson_get_num(yyjson_arr_get(list, i));
        int h = top > 0 ? (int)(v / top * 7.99) : 0;
        strbuf_addz(out, bars[h < 0 ? 0 : h > 7 ? 7 : h]);
    }
}

static void row(yyjson_val *o, const char *name, const char *key, const char *fmt, double factor) {
    strbuf b;
    char text[32];
    strbuf_init(&b, KIB);
    spark(o, key, &b);
    snprintf(text, sizeof text, fmt, last_of(o, key) * factor);
    term_out("  %-10s %12s  " STR_FMT "\n", name, text, STR_ARG(strbuf_str(&b)));
    strbuf_deinit(&b);
}

static void stages(yyjson_val *o) {
    size_t i, n;
    yyjson_val *v;
    term_out("\n  stage         share        p50        p99\n");
    yyjson_arr_foreach(yyjson_obj_get(o, "stages"), i, n, v) {
        char bar[BAR + 1];
        int fill = (int)lround(num(v, "share") * BAR);
        for (int k = 0; k < BAR; k++) bar[k] = k < fill ? '#' : ' ';
        bar[BAR] = 0;
        term_out("  %-10s %7.1f %% %7.3f ms %7.3f ms  %s\n", remote_text(v, "name"),
                 100 * num(v, "share"), num(v, "p50_ms"), num(v, "p99_ms"), bar);
    }
}

static void picture(yyjson_val *o) {
    yyjson_val *mem = yyjson_obj_get(o, "memory"), *lag = yyjson_obj_get(o, "lag");
    double index = num(mem, "words") + num(mem, "attrs") + num(mem, "vectors") + num(mem, "other");
    term_out("kith %s   %.0f posts, %.0f vectors, %.0f wait for one   (means of %.0f s)\n\n",
             remote_text(o, "version"), num(o, "posts"), num(o, "vectors"), num(o, "embed_pending"),
             num(o, "window_seconds"));
    row(o, "searches", "qps", "%.1f/s", 1);
    row(o, "p50", "p50_ms", "%.3f ms", 1);
    row(o, "p95", "p95_ms", "%.3f ms", 1);
    row(o, "p99", "p99_ms", "%.3f ms", 1);
    row(o, "errors", "errors_per_second", "%.1f/s", 1);
    row(o, "cpu", "cpu_cores", "%.2f cores", 1);
    row(o, "memory", "rss_bytes", "%.1f MB", 1e-6);
    stages(o);
    term_out("\n  lag        store %.1f s, vectors %.1f s, embed %.1f s\n", num(lag, "store"),
             num(lag, "vectors"), num(lag, "embed"));
    term_out("  index      %.1f MB, %.1f %% of what it may use\n", index / 1e6,
             num(mem, "limit") > 0 ? 100 * index / num(mem, "limit") : 0);
    term_out("  requests   %.0f running, %.0f waiting, %.0f turned away, %.0f failed (5xx)\n",
             num(o, "requests_open"), num(o, "queue"), num(o, "shed"), num(o, "status_5xx"));
    term_out("  journal    head %.0f, applied %.0f\n", num(o, "head_lsn"), num(o, "store_lsn"));
}

static err watch(remote_flags *f, bool once) {
    remote r;
    TRY(remote_open(f, false, &r));
    err rc = OK;
    for (bool more = true; rc == OK && more; more = !once) {
        http_reply reply;
        yyjson_doc *doc = NULL;
        rc = remote_json(&r, &(http_ask){.method = "GET", .target = "/v1/observe"}, &reply, &doc);
        if (rc == OK && f->json) term_out(STR_FMT "\n", STR_ARG(reply.body));
        if (rc == OK && !f->json) {
            if (!once) term_out("\033[H\033[J");
            picture(yyjson_doc_get_root(doc));
        }
        yyjson_doc_free(doc);
        fflush(stdout);
        if (!once && rc == OK) clock_sleep_ms(1000);
    }
    remote_close(&r);
    return rc;
}

int command_top(int argc, char **argv) {
    remote_flags f = REMOTE_FLAGS_INIT;
    bool once = false;
    const arg args[] = {REMOTE_ARGS(f),
                        {"once", ARG_BOOL, &once, NULL, "one picture, then end", NULL}};
    args_spec spec = {.command = "top",
                      .usage = "kith top [flags]",
                      .about =
                          "Shows what a server does now: searches, times, stages, lag, memory.",
                      .examples = "  kith top --data DIR\n"
                                  "  kith top --server http://127.0.0.1:8080 --once\n",
                      .args = args,
                      .count = COUNT_OF(args)};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK) rc = watch(&f, once);
    return rc == OK ? 0 : term_fail(rc);
}
