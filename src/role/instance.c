/* Starting and stopping, in order.
 *
 * The server listens first, so that a load balancer sees /healthz while a long journal is folded;
 * /readyz says "starting" and how far. Then the model, the shard and the folds; api_attach opens the
 * doors. Stopping is the reverse: no new requests, finish what runs, stop the embed fold, close the
 * shard (which writes a snapshot), then the model.
 */
#include "role/instance.h"

#include "api/diary.h"

#include "api/json_map.h"
#include "ingest/ingest.h"
#include "obs/obs.h"
#include "role/otlp_http.h"
#include "role/telemetry.h"
#include "role/term.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    PATH_BYTES = INSTANCE_PATH_MAX,
    URL_BYTES = 160,
    SPACE_BYTES = 512,
    QUEUE_MAX = 1024,
    GRACE_MS = 10000,
    REQUEST_ARENA_MAX = 64 * MIB, /* 100 hits of POST_TEXT_MAX, each with its context */
    LOOPS_MAX = 2,
    REMOTE_WORKERS = 64 /* each may wait for a service: 64 / 0.1 s are 640 searches a second */
};

struct instance {
    instance_options o;
    char *dir;
    char url[URL_BYTES];
    char new_key[KEY_TOKEN_MAX];
    keys *keys;
    api *api;
    diary *diary;
    pool *workers;
    net_server *server;
    provider *provider;
    shard *shard;
    archive *archive;
    searcher *searcher;
    embedder *embedder;
    telemetry *telemetry;
    otlp_http *otlp;
    progress progress;
    bool announced;
};

const char *instance_url(const instance *k) {
    return k->url;
}
const char *instance_new_key(const instance *k) {
    return k->new_key;
}
provider *instance_provider(instance *k) {
    return k->provider;
}
shard *instance_shard(instance *k) {
    return k->shard;
}
archive *instance_archive(instance *k) {
    return k->archive;
}

err instance_invoke(instance *k, api_op op, const void *request, strbuf *json) {
    arena a;
    void *response;
    arena_init(&a, API_ANSWER_MAX);
    err rc = api_invoke(k->api, op, request, &a, &response, NULL);
    if (rc == OK) {
        json_map_write(json, response);
        rc = json->rc;
    }
    arena_deinit(&a);
    return rc;
}

/* ---- the model ---- */

static bool has_model(const char *dir) {
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/model.safetensors", dir);
    return n < (int)sizeof path && fs_exists(fs_real(), path);
}

err instance_model_dir(char path[INSTANCE_PATH_MAX]) {
    const char *cache = getenv("KITH_CACHE"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    if (cache && cache[0])
        snprintf(path, PATH_BYTES, "%s/model/all-minilm-l6-v2", cache);
    else if (xdg && xdg[0])
        snprintf(path, PATH_BYTES, "%s/kith/model/all-minilm-l6-v2", xdg);
    else
        snprintf(path, PATH_BYTES, "%s/.cache/kith/model/all-minilm-l6-v2", home ? home : "");
    if (has_model(path)) return OK;
    snprintf(path, PATH_BYTES, "/usr/share/kith/model/all-minilm-l6-v2");
    if (has_model(path)) return OK;
    return err_set(ERR_NOT_FOUND,
                   "no model found: run tools/setup, or name a sentence-transformers folder with "
                   "--model DIR");
}

err instance_model(const char *model, const char *precision, provider **out) {
    char path[PATH_BYTES];
    if (!precision) precision = "int8";
    if (model && strncmp(model, "mock:", 5) == 0) {
        uint64_t dim;
        if (!str_to_u64(str_of(model + 5), &dim) || dim > UINT32_MAX)
            return err_set(ERR_INVALID, "--model: expected mock:DIMENSIONS, got '%s'", model);
        return provider_mock_open((uint32_t)dim, out);
    }
    if (!model || !model[0]) {
        TRY(instance_model_dir(path));
        model = path;
    }
    return provider_local_open(fs_real(), model, precision, out);
}

const char *instance_precision(const char *dir) {
    static const char *const names[] = {"f32", "bf16", "int8"};
    char path[PATH_BYTES];
    uint8_t *text = NULL;
    size_t n = 0;
    const char *found = NULL;
    int len = snprintf(path, sizeof path, "%s/space", dir);
    if (len >= (int)sizeof path || file_read_all(fs_real(), path, SPACE_BYTES, &text, &n) != OK)
        return NULL;
    for (size_t i = 0; i < COUNT_OF(names); i++) { /* "local/NAME/PRECISION/DIM/cosine" */
        char part[16];
        snprintf(part, sizeof part, "/%s/", names[i]);
        if (str_find(str_from(text, n), str_of(part)) >= 0) found = names[i];
    }
    mem_free(text);
    return found;
}

/* ---- telling ---- */

static void on_notice(void *ctx, const char *text) {
    (void)ctx;
    log_line(LOG_WARN, "notice", "detail=\"%s\"", text);
}

static void on_progress(void *ctx, const char *what, uint64_t done, uint64_t total) {
    instance *k = ctx;
    api_starting(k->api, what, done, total);
    if (!k->progress.started || k->progress.what != what) progress_start(&k->progress, what);
    progress_show(&k->progress, done, total, -1);
}

static void on_forget(void *ctx, str text) {
    instance *k = ctx;
    provider_forget(k->provider, text);
}

static double embed_rate(void *ctx) {
    instance *k = ctx;
    embedder_stats st;
    if (!k->embedder) return 0;
    embedder_stats_get(k->embedder, &st);
    return st.texts_per_s;
}

static void embed_retry(void *ctx) {
    instance *k = ctx;
    if (k->embedder) embedder_retry(k->embedder);
}

static err observe(void *ctx, strbuf *b) {
    instance *k = ctx;
    return telemetry_json(k->telemetry, b);
}

/* ---- opening ---- */

static err check_dir(const instance *k) {
    if (!k->o.must_exist) return fs_mkdir(fs_real(), k->dir);
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/journal", k->dir);
    if (fs_exists(fs_real(), path)) return OK;
    return err_set(ERR_NOT_FOUND,
                   "%s: no kith data here; 'kith serve --data DIR' or 'kith import' makes it",
                   k->dir);
}

static err open_server(instance *k) {
    const char *host = k->o.host ? k->o.host : "127.0.0.1";
    if (!net_host_loopback(host) && keys_live(k->keys) == 0)
        return err_set(ERR_INVALID,
                       "--listen %s: an address that others reach needs a key: 'kith key new'",
                       host);
    unsigned cores = thread_cores();
    /* Searches of one core each, and a few more that wait for disks and embeddings. */
    unsigned usual = embed_flags_remote(&k->o.embed) ? REMOTE_WORKERS : cores * 2 + 2;
    unsigned workers = k->o.workers ? k->o.workers : usual;
    TRY(pool_open("kith-worker", workers, QUEUE_MAX, &k->workers));
    net_options n;
    net_options_init(&n);
    n.host = host;
    n.port = k->o.port;
    n.loops = MIN(cores, LOOPS_MAX);
    n.workers = k->workers;
    n.queue_max = QUEUE_MAX;
    n.arena_bytes_max = REQUEST_ARENA_MAX;
    n.ctx = k->api;
    n.handler = api_handle;
    n.inline_handler = api_inline;
    n.route = api_route_request;
    n.done = api_done;
    TRY(net_server_open(&n, &k->server));
    bool v6 = strchr(host, ':') != NULL;
    snprintf(k->url, sizeof k->url, "http://%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "",
             net_server_port(k->server));
    return OK;
}

static err open_archive(instance *k, const seal_master *master) {
    if (!k->o.archive || !k->o.archive[0]) return OK;
    if (!master->given)
        on_notice(k,
                  "archive: there is no master key, so who has the archive can read it; make one "
                  "with 'kith backup key' and give it with --master-key");
    archive_options ao = {.url = k->o.archive,
                          .master = master,
                          .dir = k->dir,
                          .version = KITH_VERSION,
                          .shard = k->shard,
                          .notice = on_notice,
                          .ctx = k};
    return archive_start(&ao, &k->archive);
}

static err open_folds(instance *k) {
    if (!k->o.embed.precision) k->o.embed.precision = instance_precision(k->dir);
    TRY(embed_flags_open(&k->o.embed, k->dir, on_notice, NULL, &k->provider));
    shard_options so = {.fs = fs_real(),
                        .dir = k->dir,
                        .space = provider_space(k->provider),
                        .dim = provider_dim(k->provider),
                        .readers = thread_cores() * 2 + 2,
                        .progress = on_progress,
                        .progress_ctx = k,
                        .notice = on_notice,
                        .forget = on_forget,
                        .forget_ctx = k};
    seal_master master;
    TRY(seal_master_load(k->o.master_key, &master));
    so.master = &master;
    TRY(shard_open(&so, &k->shard));
    progress_end(&k->progress);
    TRY(open_archive(k, &master));
    TRY(searcher_open(k->shard, k->provider, &k->searcher));
    TRY(embedder_start(k->shard, k->provider, on_notice, NULL, &k->embedder));
    api_attach(k->api, k->shard, k->searcher, k->provider);
    return OK;
}

static err announce(instance *k) {
    char path[PATH_BYTES], text[URL_BYTES + 64];
    snprintf(path, sizeof path, "%s/serve.json", k->dir);
    int n = snprintf(text, sizeof text, "{\"pid\":%ld,\"url\":\"%s\"}\n", (long)getpid(), k->url);
    TRY(file_write_atomic(fs_real(), path, text, (size_t)n));
    k->announced = true;
    return OK;
}

/* Of interactions: KITH_INTERACTIONS_DAYS, else 90. */
static uint32_t days_kept(void) {
    const char *set = getenv("KITH_INTERACTIONS_DAYS");
    uint64_t days;
    return set && str_to_u64(str_of(set), &days) && days <= UINT32_MAX ? (uint32_t)days : 90;
}

static err open_all(instance *k) {
    TRY(check_dir(k));
    TRY(keys_birth(fs_real(), k->dir, k->new_key));
    TRY(keys_open(fs_real(), k->dir, &k->keys));
    TRY(diary_open(fs_real(), k->dir, days_kept(), &k->diary));
    api_options ao = {.keys = k->keys,
                      .keys_always = k->o.keys_always,
                      .diary = k->diary,
                      .version = KITH_VERSION,
                      .files = ui_files,
                      .file_count = ui_files_count,
                      .embed_rate = embed_rate,
                      .embed_retry = embed_retry,
                      .observe = observe,
                      .log = on_notice,
                      .ctx = k};
    if (k->o.announce) TRY(otlp_http_open(&k->otlp)); /* not for commands of a moment */
    TRY(telemetry_open(k->dir, &k->telemetry));
    TRY(api_open(&ao, &k->api));
    TRY(open_server(k));
    telemetry_server(k->telemetry, k->server, k->workers);
    TRY(open_folds(k));
    telemetry_archive(k->telemetry, k->archive);
    telemetry_parts(k->telemetry, k->shard, k->searcher, k->provider, k->embedder);
    return k->o.announce ? announce(k) : OK;
}

err instance_open(const instance_options *o, instance **out) {
    *out = NULL;
    instance *k = mem_zalloc(1, sizeof *k);
    if (!k) return ERR_NO_MEMORY;
    k->o = *o;
    k->dir = mem_dup(o->dir, strlen(o->dir) + 1);
    err rc = k->dir ? open_all(k) : ERR_NO_MEMORY;
    if (rc != OK) {
        err_text kept = err_keep(); /* closing sets details of its own */
        instance_close(k);
        return err_restore(rc, &kept);
    }
    *out = k;
    return OK;
}

void instance_close(instance *k) {
    if (!k) return;
    if (k->announced) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/serve.json", k->dir);
        err rc = fs_unlink(fs_real(), path); /* a stale one is seen as such by its readers */
        (void)rc;
    }
    telemetry_stop(k->telemetry);
    provider_cancel(k->provider); /* nobody waits for a service any more */
    net_server_close(k->server, GRACE_MS);
    pool_close(k->workers);
    telemetry_close(k->telemetry);
    embedder_stop(k->embedder);
    searcher_close(k->searcher);
    archive_stop(k->archive);
    shard_close(k->shard);
    otlp_http_close(k->otlp); /* no thread makes traces any more */
    provider_close(k->provider);
    api_close(k->api);
    diary_close(k->diary);
    keys_close(k->keys);
    mem_free(k->dir);
    mem_free(k);
}
