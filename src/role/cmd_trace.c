/* kith trace last: recent traces as trees, newest first: those that were slow or failed, and those that
 * were sampled. What a span did on its own thread and what folds did later with a put stand in one tree.
 *
 * A tree is printed without recursion: a stack of spans, each pushing those whose parent it is, later
 * ones first.
 */
#include "role/args.h"
#include "role/command.h"
#include "role/remote.h"
#include "role/term.h"

#include <stdio.h>

enum { SPANS_MAX = 128, TARGET_BYTES = 64, BAR = 24, NAME_WIDTH = 34 };

typedef struct line {
    const char *name, *id, *parent;
    uint64_t start, took;
    bool failed, used;
    yyjson_val *attrs;
    unsigned depth;
} line;

static size_t read_lines(yyjson_val *trace, line *out) {
    size_t i, n, count = 0;
    yyjson_val *v;
    yyjson_arr_foreach(yyjson_obj_get(trace, "spans"), i, n, v) {
        if (count == SPANS_MAX) break;
        out[count++] = (line){.name = remote_text(v, "name"),
                              .id = remote_text(v, "span_id"),
                              .parent = remote_text(v, "parent_id"),
                              .start = yyjson_get_uint(yyjson_obj_get(v, "start_ns")),
                              .took = yyjson_get_uint(yyjson_obj_get(v, "duration_ns")),
                              .failed = yyjson_get_bool(yyjson_obj_get(v, "failed")),
                              .attrs = yyjson_obj_get(v, "attributes")};
    }
    return count;
}

/* Where the span lies in the whole, as a bar. */
static void bar_of(const line *l, uint64_t from, uint64_t to, char out[BAR + 1]) {
    double whole = to > from ? (double)(to - from) : 1;
    int a = (int)((double)(l->start - from) / whole * BAR);
    int b = (int)((double)(l->start + l->took - from) / whole * BAR);
    for (int i = 0; i < BAR; i++) out[i] = i == a || (i >= a && i < b) ? '#' : '.';
    out[BAR] = 0;
}

static void print_line(const line *l, uint64_t from, uint64_t to) {
    char bar[BAR + 1];
    bar_of(l, from, to, bar);
    int indent = (int)MIN(2 * l->depth, 20u);
    term_out("  %s %9.3f ms  %*s%-*s%s", bar, (double)l->took / 1e6, indent, "",
             NAME_WIDTH - indent, l->name, l->failed ? " FAILED" : "");
    size_t i, n;
    yyjson_val *k, *v;
    yyjson_obj_foreach(l->attrs, i, n, k, v) {
        if (yyjson_is_str(v))
            term_out(" %s=%s", yyjson_get_str(k), yyjson_get_str(v));
        else
            term_out(" %s=%.0f", yyjson_get_str(k), yyjson_get_num(v));
    }
    term_out("\n");
}

/* The latest of the unused spans with this parent ("": without one here); SIZE_MAX: none. */
static size_t last_child(const line *l, size_t n, const char *parent) {
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        bool inside = false;
        for (size_t k = 0; k < n && !inside; k++) inside = strcmp(l[k].id, l[i].parent) == 0;
        bool mine = parent[0] ? strcmp(l[i].parent, parent) == 0 : !inside;
        if (mine && !l[i].used && (best == SIZE_MAX || l[i].start > l[best].start)) best = i;
    }
    return best;
}

static size_t push_children(line *l, size_t n, const char *parent, unsigned depth, size_t *stack,
                            size_t top) {
    for (size_t i; (i = last_child(l, n, parent)) != SIZE_MAX;) {
        l[i].used = true;
        l[i].depth = depth;
        stack[top++] = i;
    }
    return top;
}

static void print_trace(yyjson_val *trace) {
    line l[SPANS_MAX];
    size_t stack[SPANS_MAX], n = read_lines(trace, l);
    uint64_t from = UINT64_MAX, to = 0;
    for (size_t i = 0; i < n; i++) {
        from = MIN(from, l[i].start);
        to = MAX(to, l[i].start + l[i].took);
    }
    char at[32];
    time_format((int64_t)(from / 1000000), at);
    term_out("%s  %s%s\n", remote_text(trace, "trace_id"), n ? at : "",
             yyjson_get_bool(yyjson_obj_get(trace, "slow")) ? "  slow or failed" : "");
    for (size_t top = push_children(l, n, "", 0, stack, 0); top;) {
        const line *one = &l[stack[--top]];
        print_line(one, from, to);
        top = push_children(l, n, one->id, one->depth + 1, stack, top);
    }
    term_out("\n");
}

static err show(remote_flags *f, int64_t limit) {
    remote r;
    http_reply reply;
    yyjson_doc *doc = NULL;
    char target[TARGET_BYTES];
    snprintf(target, sizeof target, "/v1/traces?limit=%lld", (long long)limit);
    TRY(remote_open(f, false, &r));
    err rc = remote_json(&r, &(http_ask){.method = "GET", .target = target}, &reply, &doc);
    if (rc == OK && f->json) term_out(STR_FMT, STR_ARG(reply.body));
    size_t i, n = 0;
    yyjson_val *v;
    if (rc == OK && !f->json)
        yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(doc), "traces"), i, n, v)
            print_trace(v);
    if (rc == OK && !f->json && !n) term_out("no trace was kept yet\n");
    yyjson_doc_free(doc);
    remote_close(&r);
    return rc;
}

int command_trace(int argc, char **argv) {
    remote_flags f = REMOTE_FLAGS_INIT;
    int64_t limit = 5;
    const arg args[] = {REMOTE_ARGS(f), {"limit", ARG_INT, &limit, "N", "how many (5)", NULL}};
    args_spec spec = {.command = "trace",
                      .usage = "kith trace [flags] last",
                      .about = "Shows recent traces as trees: slow or failed ones (over "
                               "KITH_TRACE_SLOW_MS, 100) and sampled ones.",
                      .examples = "  kith trace last --data DIR\n"
                                  "  kith trace last --server http://127.0.0.1:8080 --limit 20\n",
                      .args = args,
                      .count = COUNT_OF(args),
                      .positional_min = 1,
                      .positional_max = 1};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK && strcmp(spec.positional[0], "last") != 0)
        rc = err_set(ERR_INVALID, "expected last; usage: %s", spec.usage);
    if (rc == OK) rc = show(&f, limit);
    return rc == OK ? 0 : term_fail(rc);
}
