/* kith serve and kith key. The main thread only waits for a signal: SIGINT and SIGTERM stop in
 * order, a second one at once. SIGPIPE is ignored, since a client may go away at any write.
 */
#include "obs/obs.h"
#include "role/args.h"
#include "role/command.h"
#include "role/instance.h"
#include "role/term.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { HOST_BYTES = 128 };

/* "HOST:PORT", "[V6]:PORT" */
static err parse_listen(const char *text, char host[HOST_BYTES], uint16_t *port) {
    str s = str_of(text);
    size_t colon = s.len;
    while (colon && s.ptr[colon - 1] != ':') colon--;
    uint64_t p = 0;
    if (colon < 2 || !str_to_u64(str_skip(s, colon), &p) || p > 65535)
        return err_set(ERR_INVALID, "--listen: expected HOST:PORT, got '%s'", text);
    str h = {s.ptr, colon - 1};
    if (h.len > 2 && h.ptr[0] == '[' && h.ptr[h.len - 1] == ']') h = (str){h.ptr + 1, h.len - 2};
    snprintf(host, HOST_BYTES, "%.*s", STR_ARG(h));
    *port = (uint16_t)p;
    return OK;
}

static void block_signals(sigset_t *stop) {
    sigemptyset(stop);
    sigaddset(stop, SIGINT);
    sigaddset(stop, SIGTERM);
    pthread_sigmask(SIG_BLOCK, stop, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void greet(const instance *k, const instance_options *o) {
    if (instance_new_key(k)[0])
        term_note("kith: new directory %s. Its admin key, shown only now:\n\n    %s\n", o->dir,
                  instance_new_key(k));
    log_line(LOG_INFO, "ready", "url=%s data=%s space=%s", instance_url(k), o->dir,
             provider_space(instance_provider((instance *)(uintptr_t)k)));
    term_out("kith: %s/ is ready (stop with Ctrl-C)\n", instance_url(k));
    fflush(stdout);
}

int command_serve(int argc, char **argv) {
    instance_options o = {.dir = "kith-data", .announce = true, .embed = EMBED_FLAGS_INIT};
    const char *listen = "127.0.0.1:8080";
    int64_t workers = 0;
    const arg args[] = {
        {"data", ARG_STR, &o.dir, "DIR", "data directory, made when missing (default kith-data)",
         "KITH_DIR"},
        {"listen", ARG_STR, &listen, "HOST:PORT", "address (default 127.0.0.1:8080)",
         "KITH_LISTEN"},
        EMBED_ARGS(o.embed),
        EMBED_MORE_ARGS(o.embed),
        {"workers", ARG_INT, &workers, "N", "request threads (default by cores)", "KITH_WORKERS"},
        {"archive", ARG_STR, &o.archive, "URL", "keep a copy at dir:PATH, s3://… or gs://…",
         "KITH_ARCHIVE"},
        {"master-key", ARG_STR, &o.master_key, "FILE", "wraps the keys of users and archive",
         "KITH_MASTER_KEY_FILE"},
        {"require-keys", ARG_BOOL, &o.keys_always, NULL, "also loopback callers need a key",
         "KITH_REQUIRE_KEYS"},
    };
    args_spec spec = {
        .command = "serve",
        .usage = "kith serve [flags]",
        .about = "Serves the API and the page.",
        .examples = "  kith serve --data DIR --listen 127.0.0.1:8080\n"
                    "  kith serve --archive s3://bucket/kith --master-key /etc/kith/master.key\n"
                    "  kith serve --listen 0.0.0.0:8080   (every caller needs a key)\n",
        .args = args,
        .count = COUNT_OF(args)};
    char host[HOST_BYTES];
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK && (workers < 0 || workers > 256))
        rc = err_set(ERR_INVALID, "--workers: expected 0 to 256");
    if (rc == OK) rc = embed_flags_check(&o.embed);
    if (rc == OK) rc = parse_listen(listen, host, &o.port);
    if (rc != OK) return term_fail(rc);
    sigset_t stop;
    block_signals(&stop);
    o.host = host;
    o.workers = (unsigned)workers;
    instance *k;
    rc = instance_open(&o, &k);
    if (rc != OK) return term_fail(rc);
    greet(k, &o);
    int sig;
    sigwait(&stop, &sig);
    log_line(LOG_INFO, "stopping", "signal=%d", sig);
    pthread_sigmask(SIG_UNBLOCK, &stop, NULL); /* a second signal ends it at once */
    instance_close(k);
    log_line(LOG_INFO, "stopped", "%s", "");
    return 0;
}

/* ---- key ---- */

static err key_new(keys *k, const char *name, const char *scopes, bool json) {
    unsigned bits;
    char made[KEY_TOKEN_MAX];
    TRY(keys_scopes_parse(str_of(scopes), &bits));
    TRY(keys_new(k, str_of(name), bits, made));
    if (json)
        term_out("{\"token\":\"%s\"}\n", made);
    else
        term_out("%s\n", made);
    return OK;
}

static void print_key(const key_info *i, bool json, bool first) {
    char at[32];
    time_format(i->created_ms, at);
    strbuf scopes;
    strbuf_init(&scopes, 64);
    for (unsigned bit = 1; bit <= SCOPE_METRICS; bit <<= 1)
        if (i->scopes & bit)
            strbuf_addf(&scopes, "%s%s", scopes.len ? "," : "", keys_scope_name(bit));
    str s = strbuf_str(&scopes);
    if (json)
        term_out("%s{\"id\":\"%s\",\"name\":\"%s\",\"scopes\":\"%.*s\",\"created_at\":\"%s\","
                 "\"revoked\":%s}",
                 first ? "" : ",", i->id, i->name, STR_ARG(s), at, i->revoked ? "true" : "false");
    else
        term_out("%s  %-20s %-20.*s %s%s\n", i->id, i->name, STR_ARG(s), at,
                 i->revoked ? "  revoked" : "");
    strbuf_deinit(&scopes);
}

static err key_list(keys *k, bool json) {
    arena a;
    arena_init(&a, MIB);
    key_info *list;
    size_t n;
    err rc = keys_list(k, &a, &list, &n);
    if (rc == OK) {
        if (json) term_out("[");
        for (size_t i = 0; i < n; i++) print_key(&list[i], json, i == 0);
        if (json) term_out("]\n");
    }
    arena_deinit(&a);
    return rc;
}

static err key_run(const args_spec *spec, keys *k, const char *name, const char *scopes,
                   bool json) {
    const char *what = spec->positional[0];
    if (strcmp(what, "new") == 0) return key_new(k, name, scopes, json);
    if (strcmp(what, "list") == 0) return key_list(k, json);
    if (strcmp(what, "revoke") == 0 && spec->positional_count == 2)
        return keys_revoke(k, str_of(spec->positional[1]));
    return err_set(ERR_INVALID, "expected new, list or revoke ID; usage: %s", spec->usage);
}

int command_key(int argc, char **argv) {
    const char *dir = "kith-data", *name = "", *scopes = "search";
    bool json = false;
    const arg args[] = {
        {"data", ARG_STR, &dir, "DIR", "data directory (default kith-data)", "KITH_DIR"},
        {"name", ARG_STR, &name, "NAME", "whom or what the key is for", NULL},
        {"scopes", ARG_STR, &scopes, "LIST", "search, write, admin, metrics (default search)",
         NULL},
        {"json", ARG_BOOL, &json, NULL, "print JSON, for scripts", NULL},
    };
    args_spec spec = {.command = "key",
                      .usage = "kith key [flags] new | list | revoke ID",
                      .about =
                          "Makes, lists and revokes keys. A running server sees the change within "
                          "5 seconds.",
                      .examples = "  kith key new --data DIR --name app --scopes search,write\n"
                                  "  kith key list --data DIR\n",
                      .args = args,
                      .count = COUNT_OF(args),
                      .positional_min = 1,
                      .positional_max = 2};
    keys *k = NULL;
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK && !fs_exists(fs_real(), dir))
        rc = err_set(ERR_NOT_FOUND, "%s: no such data directory", dir);
    if (rc == OK) rc = keys_open(fs_real(), dir, &k);
    if (rc == OK) rc = key_run(&spec, k, name, scopes, json);
    keys_close(k);
    return rc == OK ? 0 : term_fail(rc);
}
