/* kith post, delete, status and verify.
 */
#include "role/args.h"
#include "role/command.h"
#include "role/remote.h"
#include "role/term.h"

#include <stdio.h>

enum { BODY_MAX = 1 << 20, TARGET_MAX = 4096 };

static void add_field(strbuf *b, const char *key, const char *value) {
    if (!value || !value[0]) return;
    strbuf_addf(b, "%s\"%s\":", b->len > 1 ? "," : "", key);
    strbuf_add_json(b, str_of(value));
}

/* Sends, and prints the server's JSON or the line that `say` makes of it. */
static int send(const remote_flags *f, bool may_create, const http_ask *ask,
                void (*say)(yyjson_val *root)) {
    remote r;
    http_reply reply;
    yyjson_doc *doc = NULL;
    err rc = remote_open(f, may_create, &r);
    if (rc != OK) return term_fail(rc);
    rc = remote_json(&r, ask, &reply, &doc);
    if (rc == OK && f->json) term_out(STR_FMT "\n", STR_ARG(reply.body));
    if (rc == OK && !f->json) say(yyjson_doc_get_root(doc));
    int code = rc == OK ? 0 : term_fail(rc);
    yyjson_doc_free(doc);
    remote_close(&r);
    return code;
}

static void say_put(yyjson_val *root) {
    term_out("%s %s (LSN %llu)\n", remote_text(root, "outcome"), remote_text(root, "id"),
             (unsigned long long)yyjson_get_uint(yyjson_obj_get(root, "lsn")));
}

int command_post(int argc, char **argv) {
    remote_flags f = REMOTE_FLAGS_INIT;
    const char *author = NULL, *reply_to = NULL, *channel = NULL, *lang = NULL, *created_at = NULL;
    const arg args[] = {
        REMOTE_ARGS(f),
        {"author", ARG_STR, &author, "NAME", "who wrote it", NULL},
        {"reply-to", ARG_STR, &reply_to, "ID", "the post that it answers", NULL},
        {"channel", ARG_STR, &channel, "NAME", "where", NULL},
        {"lang", ARG_STR, &lang, "CODE", "language, as en or pt-BR", NULL},
        {"created-at", ARG_STR, &created_at, "TIME", "when, RFC 3339 (default now)", NULL},
    };
    args_spec spec = {.command = "post",
                      .usage = "kith post [flags] ID TEXT",
                      .about = "Puts one post; the same id again replaces it.",
                      .examples =
                          "  kith post p1 'Anyone else seeing spam from that list?' --author ann\n",
                      .args = args,
                      .count = COUNT_OF(args),
                      .positional_min = 2,
                      .positional_max = 2};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    for (size_t i = 0; rc == OK && i < spec.positional_count; i++)
        if (!utf8_valid(str_of(spec.positional[i]), NULL))
            rc = err_set(ERR_INVALID, "expected UTF-8 text");
    if (rc != OK) return term_fail(rc);
    strbuf body;
    strbuf_init(&body, BODY_MAX);
    strbuf_addc(&body, '{');
    add_field(&body, "id", spec.positional[0]);
    add_field(&body, "text", spec.positional[1]);
    add_field(&body, "author", author);
    add_field(&body, "reply_to", reply_to);
    add_field(&body, "channel", channel);
    add_field(&body, "lang", lang);
    add_field(&body, "created_at", created_at);
    strbuf_addc(&body, '}');
    http_ask ask = {.method = "POST",
                    .target = "/v1/posts?wait=searchable",
                    .content_type = "application/json",
                    .body = strbuf_str(&body)};
    int code = body.rc == OK ? send(&f, true, &ask, say_put) : term_fail(body.rc);
    strbuf_deinit(&body);
    return code;
}

static void say_deleted(yyjson_val *root) {
    term_out("deleted %s\n", remote_text(root, "id"));
}

int command_delete(int argc, char **argv) {
    remote_flags f = REMOTE_FLAGS_INIT;
    const arg args[] = {REMOTE_ARGS(f)};
    args_spec spec = {.command = "delete",
                      .usage = "kith delete [flags] ID",
                      .about = "Deletes a post from the store and every index.",
                      .examples = "  kith delete p1\n",
                      .args = args,
                      .count = COUNT_OF(args),
                      .positional_min = 1,
                      .positional_max = 1};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc != OK) return term_fail(rc);
    strbuf target;
    strbuf_init(&target, TARGET_MAX);
    strbuf_addz(&target, "/v1/posts/");
    http_encode(&target, str_of(spec.positional[0]));
    http_ask ask = {.method = "DELETE", .target = target.ptr};
    int code = target.rc == OK ? send(&f, false, &ask, say_deleted) : term_fail(target.rc);
    strbuf_deinit(&target);
    return code;
}

/* ---- status ---- */

static double num(yyjson_val *o, const char *key) {
    return yyjson_get_num(yyjson_obj_get(o, key));
}

static void say_status(yyjson_val *root) {
    size_t i, n;
    yyjson_val *v;
    term_out("kith %s, up %.0f s, %s\n", remote_text(root, "version"), num(root, "uptime_seconds"),
             remote_text(root, "state"));
    term_out("  posts      %.0f in %.0f threads; %.0f with a vector of %s\n", num(root, "posts"),
             num(root, "threads"), num(root, "vectors"), remote_text(root, "space"));
    if (num(root, "embed_pending") > 0)
        term_out("  embedding  %.0f to go, %.0f/s, %.0f s left\n", num(root, "embed_pending"),
                 num(root, "embed_posts_per_second"), num(root, "embed_eta_seconds"));
    if (num(root, "embed_failed") > 0)
        term_out("  failed     %.0f texts\n", num(root, "embed_failed"));
    term_out("  searches   %.0f, p50 %.2f ms, p99 %.2f ms\n", num(root, "searches"),
             num(root, "search_p50_ms"), num(root, "search_p99_ms"));
    yyjson_arr_foreach(yyjson_obj_get(root, "folds"), i, n, v) term_out(
        "  fold       %-8s at LSN %.0f, behind %.0f records, %.1f s\n", remote_text(v, "name"),
        num(v, "lsn"), num(v, "lag_records"), num(v, "lag_seconds"));
    yyjson_arr_foreach(yyjson_obj_get(root, "bytes"), i, n, v)
        term_out("  bytes      %-8s %8.1f MB in memory, %8.1f MB on disk\n", remote_text(v, "part"),
                 num(v, "memory_bytes") / 1e6, num(v, "disk_bytes") / 1e6);
    term_out("  resident   %.1f MB\n", num(root, "rss_bytes") / 1e6);
}

int command_status(int argc, char **argv) {
    remote_flags f = REMOTE_FLAGS_INIT;
    const arg args[] = {REMOTE_ARGS(f)};
    args_spec spec = {.command = "status",
                      .usage = "kith status [flags]",
                      .about = "Counts, positions, sizes and speeds.",
                      .examples = "  kith status --data DIR\n  kith status --json | jq .posts\n",
                      .args = args,
                      .count = COUNT_OF(args)};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc != OK) return term_fail(rc);
    http_ask ask = {.method = "GET", .target = "/v1/status"};
    return send(&f, false, &ask, say_status);
}

/* ---- verify ---- */

typedef struct verify_out {
    bool json;
    uint64_t problems;
    strbuf list;
} verify_out;

static void on_problem(void *ctx, const char *name, const char *problem) {
    verify_out *v = ctx;
    if (!v->json) term_out("%s: %s\n", name, problem);
    strbuf_addz(&v->list, v->problems++ ? ",{\"file\":" : "{\"file\":");
    strbuf_add_json(&v->list, str_of(name));
    strbuf_addz(&v->list, ",\"problem\":");
    strbuf_add_json(&v->list, str_of(problem));
    strbuf_addc(&v->list, '}');
}

int command_verify(int argc, char **argv) {
    const char *dir = "kith-data", *master_key = NULL;
    verify_out v = {0};
    seal_master master;
    const arg args[] = {
        {"data", ARG_STR, &dir, "DIR", "data directory (default kith-data)", "KITH_DIR"},
        {"master-key", ARG_STR, &master_key, "FILE", "64 hex digits", "KITH_MASTER_KEY_FILE"},
        {"json", ARG_BOOL, &v.json, NULL, "print JSON, for scripts", NULL},
    };
    args_spec spec = {.command = "verify",
                      .usage = "kith verify [flags]",
                      .about =
                          "Reads every file of a data directory and says what is wrong. Changes "
                          "nothing; exit code 1 when anything is.",
                      .examples = "  kith verify --data DIR\n",
                      .args = args,
                      .count = COUNT_OF(args)};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK) rc = seal_master_load(master_key, &master);
    if (rc != OK) return term_fail(rc);
    uint64_t files = 0;
    strbuf_init(&v.list, 16 * MIB);
    rc = shard_verify(fs_real(), dir, &master, on_problem, &v, &files);
    bool told = rc == OK || rc == ERR_CORRUPT;
    if (told && v.json)
        term_out("{\"files\":%llu,\"problems\":[" STR_FMT "]}\n", (unsigned long long)files,
                 STR_ARG(strbuf_str(&v.list)));
    else if (rc == OK)
        term_out("%s: %llu files, nothing wrong\n", dir, (unsigned long long)files);
    strbuf_deinit(&v.list);
    if (rc == OK) return 0;
    return v.problems ? 1 : term_fail(rc);
}
