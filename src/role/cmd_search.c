/* kith search and kith similar: ask, and print for people (or the server's JSON as it is).
 */
#include "role/args.h"
#include "role/command.h"
#include "role/remote.h"
#include "role/term.h"

#include <stdio.h>

enum { TARGET_MAX = 16384, LINE_MAX_BYTES = 65536 };

/* The snippet on one line, matches bold on a terminal. Ranges rise and do not overlap. */
static void print_snippet(yyjson_val *hit) {
    str s = json_str(yyjson_obj_get(hit, "snippet"));
    bool bold = term_is_out();
    strbuf b;
    strbuf_init(&b, LINE_MAX_BYTES);
    size_t at = 0, i, n;
    yyjson_val *range;
    yyjson_arr_foreach(yyjson_obj_get(hit, "highlights"), i, n, range) {
        size_t from = yyjson_get_uint(yyjson_obj_get(range, "start"));
        size_t to = yyjson_get_uint(yyjson_obj_get(range, "end"));
        if (!bold || from < at || to < from || to > s.len) continue;
        strbuf_add(&b, (str){s.ptr + at, from - at});
        strbuf_addf(&b, "\033[1m%.*s\033[0m", (int)(to - from), s.ptr + from);
        at = to;
    }
    if (s.ptr) strbuf_add(&b, str_skip(s, at));
    for (size_t k = 0; k < b.len; k++)
        if ((unsigned char)b.ptr[k] < 0x20 && b.ptr[k] != '\033') b.ptr[k] = ' ';
    term_out("   " STR_FMT "\n", STR_ARG(strbuf_str(&b)));
    strbuf_deinit(&b);
}

static void print_part(const char *name, yyjson_val *part) {
    if (!part) return;
    term_out("     %-8s rank %-4lld raw %-9.4f x weight %.3f -> %.4f\n", name,
             (long long)yyjson_get_sint(yyjson_obj_get(part, "rank")),
             yyjson_get_num(yyjson_obj_get(part, "raw")),
             yyjson_get_num(yyjson_obj_get(part, "weight")),
             yyjson_get_num(yyjson_obj_get(part, "contribution")));
}

static void print_hit(yyjson_val *hit, size_t number) {
    yyjson_val *post = yyjson_obj_get(hit, "post"), *e = yyjson_obj_get(hit, "explain");
    const char *channel = remote_text(post, "channel"), *parent = remote_text(post, "reply_to");
    term_out("%2zu. %.3f  %s  %.10s%s%s%s  [%s]\n", number,
             yyjson_get_num(yyjson_obj_get(hit, "score")), remote_text(post, "author"),
             remote_text(post, "created_at"), channel[0] ? "  #" : "", channel,
             parent[0] ? "  reply" : "", remote_text(post, "id"));
    print_snippet(hit);
    print_part("words", yyjson_obj_get(e, "words"));
    print_part("meaning", yyjson_obj_get(e, "meaning"));
    print_part("recency", yyjson_obj_get(e, "recency"));
}

static void print_answer(yyjson_val *root) {
    size_t i, n = 0;
    yyjson_val *hit, *d;
    yyjson_arr_foreach(yyjson_obj_get(root, "hits"), i, n, hit) print_hit(hit, i + 1);
    if (n == 0) term_out("nothing found\n");
    yyjson_arr_foreach(yyjson_obj_get(root, "degraded"), i, n, d) term_note(
        "degraded: %s was not available", yyjson_get_str(d) ? yyjson_get_str(d) : "something");
    const char *next = remote_text(root, "next_cursor");
    if (next[0] && !term_is_out()) return;
    if (next[0]) term_out("more: --cursor %s\n", next);
}

static int ask_and_print(const remote_flags *f, strbuf *target) {
    remote r;
    http_reply reply;
    yyjson_doc *doc = NULL;
    err rc = target->rc != OK ? target->rc : remote_open(f, false, &r);
    if (rc != OK) return term_fail(rc);
    http_ask ask = {.method = "GET", .target = target->ptr};
    rc = remote_json(&r, &ask, &reply, &doc);
    if (rc == OK && f->json) term_out(STR_FMT "\n", STR_ARG(reply.body));
    if (rc == OK && !f->json) print_answer(yyjson_doc_get_root(doc));
    int code = rc == OK ? 0 : term_fail(rc);
    yyjson_doc_free(doc);
    remote_close(&r);
    return code;
}

static void add_param(strbuf *b, const char *key, const char *value) {
    if (!value || !value[0]) return;
    strbuf_addf(b, "%s%s=", strchr(b->ptr, '?') ? "&" : "?", key);
    http_encode(b, str_of(value));
}

typedef struct search_flags {
    const char *mode, *cursor, *author, *channel, *after, *before, *kind, *viewer;
    int64_t limit;
    double recency;
    bool explain;
} search_flags;

static void add_flags(strbuf *b, const search_flags *s) {
    char number[32];
    add_param(b, "mode", s->mode);
    add_param(b, "cursor", s->cursor);
    add_param(b, "author", s->author);
    add_param(b, "channel", s->channel);
    add_param(b, "after", s->after);
    add_param(b, "before", s->before);
    add_param(b, "kind", s->kind);
    add_param(b, "viewer", s->viewer);
    snprintf(number, sizeof number, "%lld", (long long)s->limit);
    add_param(b, "limit", number);
    snprintf(number, sizeof number, "%g", s->recency);
    if (s->recency != 0) add_param(b, "recency", number);
    if (s->explain) add_param(b, "explain", "true");
}

#define SEARCH_ARGS(s)                                                               \
    {"limit", ARG_INT, &(s).limit, "N", "hits, 1 to 100 (default 10)", NULL},        \
        {"cursor", ARG_STR, &(s).cursor, "C", "next page", NULL},                    \
        {"author", ARG_STR, &(s).author, "NAME", "only this author's", NULL},        \
        {"channel", ARG_STR, &(s).channel, "NAME", "only in this channel", NULL},    \
        {"after", ARG_STR, &(s).after, "TIME", "written at or after", NULL},         \
        {"before", ARG_STR, &(s).before, "TIME", "written before", NULL},            \
        {"kind", ARG_STR, &(s).kind, "KIND", "post or reply", NULL}, {               \
        "explain", ARG_BOOL, &(s).explain, NULL, "why each hit is where it is", NULL \
    }

static err join_words(const args_spec *spec, strbuf *out) {
    for (size_t i = 0; i < spec->positional_count; i++)
        strbuf_addf(out, "%s%s", i ? " " : "", spec->positional[i]);
    return out->rc;
}

int command_search(int argc, char **argv) {
    remote_flags f = REMOTE_FLAGS_INIT;
    search_flags s = {.limit = 10};
    const arg args[] = {REMOTE_ARGS(f),
                        SEARCH_ARGS(s),
                        {"mode", ARG_STR, &s.mode, "M", "hybrid (default), words or meaning", NULL},
                        {"viewer", ARG_STR, &s.viewer, "NAME", "who from:me is", NULL},
                        {"recency", ARG_F64, &s.recency, "R", "weight of freshness, 0 to 1", NULL}};
    args_spec spec = {
        .command = "search",
        .usage = "kith search [flags] QUERY",
        .about = "Searches by words and meaning. Operators in the query: from:NAME "
                 "in:CHANNEL tag:T lang:de\nbefore:2024-05 after: during: is:reply has:link "
                 "\"a phrase\" -word",
        .examples = "  kith search how do I stop spam\n"
                    "  kith search --mode words '\"apt update\" from:mark' --explain\n"
                    "  kith search --json --limit 3 broken laptop | jq .hits[].post.id\n",
        .args = args,
        .count = COUNT_OF(args),
        .positional_min = 1,
        .positional_max = ARGS_POSITIONAL_MAX};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc != OK) return term_fail(rc);
    strbuf q, target;
    strbuf_init(&q, TARGET_MAX);
    strbuf_init(&target, TARGET_MAX * 3);
    rc = join_words(&spec, &q);
    strbuf_addz(&target, "/v1/search");
    add_param(&target, "q", q.ptr);
    add_flags(&target, &s);
    int code = rc == OK ? ask_and_print(&f, &target) : term_fail(rc);
    strbuf_deinit(&q);
    strbuf_deinit(&target);
    return code;
}

int command_similar(int argc, char **argv) {
    remote_flags f = REMOTE_FLAGS_INIT;
    search_flags s = {.limit = 10};
    const arg args[] = {REMOTE_ARGS(f), SEARCH_ARGS(s)};
    args_spec spec = {.command = "similar",
                      .usage = "kith similar [flags] ID",
                      .about = "Posts like a post.",
                      .examples = "  kith similar tweet:586278524748750848 --limit 5\n",
                      .args = args,
                      .count = COUNT_OF(args),
                      .positional_min = 1,
                      .positional_max = 1};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc != OK) return term_fail(rc);
    strbuf target;
    strbuf_init(&target, TARGET_MAX * 3);
    strbuf_addz(&target, "/v1/posts/");
    http_encode(&target, str_of(spec.positional[0]));
    strbuf_addz(&target, "/similar");
    add_flags(&target, &s);
    int code = ask_and_print(&f, &target);
    strbuf_deinit(&target);
    return code;
}
