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
#include "role/spaces.h"
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
    spaces *spaces;
    provider *providers[SHARD_SPACES_MAX]; /* by space of the shard */
    unsigned space_count;
    shard *shard;
    archive *archive;
    searcher *searcher;
    embedder *embedders[SHARD_SPACES_MAX];
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
    return k->providers[0];
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
    for (unsigned i = 0; i < k->space_count; i++) provider_forget(k->providers[i], text);
}

static double embed_rate(void *ctx) {
    instance *k = ctx;
    embedder_stats st;
    if (!k->embedders[0]) return 0;
    embedder_stats_get(k->embedders[0], &st);
    return st.texts_per_s;
}

static void embed_retry(void *ctx) {
    instance *k = ctx;
    for (unsigned i = 0; i < k->space_count; i++)
        if (k->embedders[i]) embedder_retry(k->embedders[i]);
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

/* ---- spaces ---- */

/* One more provider, which keeps what it keeps on disk in a folder of its own beside the first. */
static err open_provider(instance *k, const embed_flags *f, const char *name) {
    char dir[PATH_BYTES];
    const char *where = k->dir;
    if (k->space_count > 0 && embed_flags_remote(f)) {
        snprintf(dir, sizeof dir, "%s/embed-%016llx", k->dir,
                 (unsigned long long)hash64(name, strlen(name), 0));
        TRY(fs_mkdir(fs_real(), dir));
        where = dir;
    }
    TRY(embed_flags_open(f, where, on_notice, NULL, &k->providers[k->space_count]));
    k->space_count++;
    return OK;
}

/* An entry's words and the command line's numbers. */
static embed_flags flags_of(const instance *k, const kept_space *s) {
    embed_flags f = k->o.embed;
    f.model_dir = s->flags.model_dir, f.precision = s->flags.precision, f.kind = s->flags.kind;
    f.url = s->flags.url, f.model = s->flags.model, f.key_file = s->flags.key_file;
    f.ca_file = s->flags.ca_file, f.project = s->flags.project, f.location = s->flags.location;
    f.credentials = s->flags.credentials, f.dim = s->flags.dim;
    return f;
}

static err open_kept(instance *k, const kept_space *s) {
    embed_flags f = flags_of(k, s);
    TRY(open_provider(k, &f, s->name));
    const provider *p = k->providers[k->space_count - 1];
    if (strcmp(provider_space(p), s->name) == 0) return OK;
    return err_set(ERR_INVALID, "spaces.json: the provider of '%s' gives '%s'", s->name,
                   provider_space(p));
}

/* A space beside the first that cannot be opened is left out, and told. */
static err open_beside(instance *k) {
    for (unsigned i = 0; i < k->spaces->count; i++) {
        const kept_space *s = &k->spaces->items[i];
        if (strcmp(s->name, provider_space(k->providers[0])) == 0) continue;
        unsigned before = k->space_count;
        if (open_kept(k, s) == OK) continue;
        char text[SPACE_BYTES];
        snprintf(text, sizeof text, "space %s is left out: %s", s->name, err_detail());
        on_notice(k, text);
        if (k->space_count > before) provider_close(k->providers[--k->space_count]);
    }
    return OK;
}

static err open_providers(instance *k) {
    TRY(spaces_load(k->dir, &k->spaces));
    const char *use = k->spaces->use;
    const kept_space *first = use ? spaces_find(k->spaces, use) : NULL;
    if (use && !first)
        return err_set(ERR_INVALID, "%s/spaces.json: its use '%s' is not among its spaces", k->dir,
                       use);
    if (!k->o.embed.precision) k->o.embed.precision = instance_precision(k->dir);
    TRY(first ? open_kept(k, first) : open_provider(k, &k->o.embed, ""));
    return open_beside(k);
}

/* From the first start after 'kith space add' on, the file says it all: also what the flags said. */
static err adopt_flags(instance *k) {
    if (k->spaces->count == 0 || k->spaces->use) return OK;
    const char *name = provider_space(k->providers[0]);
    embed_flags f = k->o.embed;
    if (!f.kind || !f.kind[0]) f.kind = "local";
    if (!spaces_find(k->spaces, name)) TRY(spaces_add(k->spaces, name, &f));
    k->spaces->use = name;
    return spaces_save(k->dir, k->spaces);
}

/* A space beside the first rests while the first one's own model works. */
static err start_embedder(instance *k, unsigned i) {
    bool local = !provider_about(k->providers[0])->remote;
    embedder_options o = {.shard = k->shard,
                          .space = i,
                          .provider = k->providers[i],
                          .first = i && local ? k->embedders[0] : NULL,
                          .notice = on_notice};
    if (i) TRY(searcher_beside(k->searcher, i, k->providers[i]));
    return embedder_start(&o, &k->embedders[i]);
}

static err open_folds(instance *k) {
    TRY(open_providers(k));
    shard_options so = {.fs = fs_real(),
                        .dir = k->dir,
                        .space = provider_space(k->providers[0]),
                        .dim = provider_dim(k->providers[0]),
                        .change_space = k->spaces->use != NULL,
                        .more_count = k->space_count - 1,
                        .readers = thread_cores() * 2 + 2,
                        .progress = on_progress,
                        .progress_ctx = k,
                        .notice = on_notice,
                        .forget = on_forget,
                        .forget_ctx = k};
    for (unsigned i = 1; i < k->space_count; i++)
        so.more[i - 1] =
            (shard_space_options){provider_space(k->providers[i]), provider_dim(k->providers[i])};
    seal_master master;
    TRY(seal_master_load(k->o.master_key, &master));
    so.master = &master;
    TRY(shard_open(&so, &k->shard));
    progress_end(&k->progress);
    TRY(open_archive(k, &master));
    TRY(searcher_open(k->shard, k->providers[0], &k->searcher));
    for (unsigned i = 0; i < k->space_count; i++) TRY(start_embedder(k, i));
    TRY(adopt_flags(k));
    api_attach(k->api, k->shard, k->searcher, k->providers[0]);
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
    telemetry_parts(k->telemetry, k->shard, k->searcher, k->providers[0], k->embedders[0]);
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
    for (unsigned i = 0; i < k->space_count; i++)
        provider_cancel(k->providers[i]); /* nobody waits for a service any more */
    net_server_close(k->server, GRACE_MS);
    pool_close(k->workers);
    telemetry_close(k->telemetry);
    for (unsigned i = k->space_count; i-- > 0;) embedder_stop(k->embedders[i]);
    searcher_close(k->searcher);
    archive_stop(k->archive);
    shard_close(k->shard);
    otlp_http_close(k->otlp); /* no thread makes traces any more */
    for (unsigned i = 0; i < k->space_count; i++) provider_close(k->providers[i]);
    spaces_free(k->spaces);
    api_close(k->api);
    diary_close(k->diary);
    keys_close(k->keys);
    mem_free(k->dir);
    mem_free(k);
}
