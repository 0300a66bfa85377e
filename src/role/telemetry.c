/* Gauges, and the window over the last minutes.
 *
 * A thread wakes every second, asks the parts how they are and keeps one row; kith top and the status
 * page draw from these rows, so looking costs the server nothing that it would not do anyway. Speeds
 * and quantiles of a row are of the last WINDOW seconds: histograms are looked at twice and the
 * difference counts.
 *
 * The collectors run in a scrape, on its thread. mu guards which parts there are: they come one by one
 * and go before the telemetry does.
 */
#include "role/telemetry.h"

#include "journal/journal.h"
#include "obs/metrics.h"
#include "obs/obs.h"
#include "role/instance.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SPACE_FOLD_MAX = 192,
    WINDOW = 10,
    CHECK_S = 6 * 3600,
    FIRST_CHECK_S = 300,
    SPARE = 50,
    RECALL_SAMPLES = 100
};

typedef struct row {
    double qps, p50_ms, p95_ms, p99_ms, errors_s, lag_s, rss, cpu;
} row;

typedef struct look {
    metric_view search, stages[STAGE_COUNT];
    uint64_t errors, searches;
    uint64_t at_ns;
    process_stats process;
} look;

struct telemetry {
    char dir[INSTANCE_PATH_MAX];
    /* guarded by mu */
    mutex mu;
    cond wake;
    bool stop;
    net_server *server;
    pool *workers;
    shard *shard;
    searcher *searcher;
    provider *provider;
    embedder *embedder;
    archive *archive;       /* may be NULL */
    shard_stats last;       /* of the last second */
    uint64_t pending_since; /* when texts began to wait; 0: none do */
    look looks[WINDOW + 1]; /* a ring; [count % (WINDOW + 1)] is next */
    row rows[TELEMETRY_SECONDS];
    uint64_t count; /* seconds so far */
    double stage_p50_ms[STAGE_COUNT], stage_p99_ms[STAGE_COUNT], stage_share[STAGE_COUNT];
    double recall[RECALL_SAMPLES];
    uint64_t recall_count;
    int64_t journal_problems; /* of the last check; negative: none yet */
    thread sampler, checker;
    bool sampling, checking;
};

/* ---- gauges ------------------------------------------------------------------------------------ */

#define ONE(v)    ((const char *const[]){v})
#define TWO(a, b) ((const char *const[]){a, b})

/* What the indexes may grow to. */
static uint64_t memory_limit(void) {
    uint64_t v;
    const char *set = getenv("KITH_INDEX_MEMORY_MAX");
    return set && str_to_u64(str_of(set), &v) ? v : process_memory_limit();
}

static void give_memory(metric_out *out, const shard_stats *s, const char *space) {
    const struct {
        const char *part;
        uint64_t memory, disk;
    } rows[] = {{"journal", 0, s->journal_disk},   {"store", 0, s->store_disk},
                {"words", s->words_memory, 0},     {"attrs", s->attrs_memory, 0},
                {"vectors", s->vectors_memory, 0}, {"snapshot", 0, s->snapshot_disk},
                {"other", s->other_memory, 0}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (rows[i].memory)
            metric_give(out, M_INDEX_MEMORY, TWO(space, rows[i].part), (double)rows[i].memory);
        if (rows[i].disk) metric_give(out, M_DISK_BYTES, ONE(rows[i].part), (double)rows[i].disk);
    }
    metric_give(out, M_FAISS_MEMORY, NULL, (double)s->vectors_memory);
    metric_give(out, M_INDEX_MEMORY_LIMIT, NULL, (double)memory_limit());
}

static void give_folds(telemetry *t, metric_out *out, const shard_stats *s) {
    uint64_t h = s->head_lsn;
    const struct {
        const char *fold;
        uint64_t lag;
        double seconds;
    } rows[] = {{"store", h - MIN(h, s->store_lsn), s->store_lag_s},
                {"words", h - MIN(h, s->words_lsn), s->store_lag_s},
                {"vectors", h - MIN(h, s->vectors_lsn), s->vectors_lag_s}};
    double waited = t->pending_since ? (double)(clock_mono_ns() - t->pending_since) / 1e9 : 0;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        metric_give(out, M_FOLD_LAG_RECORDS, ONE(rows[i].fold), (double)rows[i].lag);
        metric_give(out, M_FOLD_LAG_SECONDS, ONE(rows[i].fold), rows[i].seconds);
    }
    metric_give(out, M_FOLD_LAG_RECORDS, ONE("embed"), (double)s->pending);
    metric_give(out, M_FOLD_LAG_SECONDS, ONE("embed"), waited);
    metric_give(out, M_EMBED_OLDEST, NULL, waited);
}

static void give_breaker(metric_out *out, const char *kind, const char *side,
                         const breaker_stats *b) {
    static const double states[] = {
        [BREAKER_CLOSED] = 0, [BREAKER_HALF_OPEN] = 1, [BREAKER_OPEN] = 2};
    const char *opened[] = {kind, side, "open"}, *closed[] = {kind, side, "closed"};
    metric_give(out, M_BREAKER_STATE, TWO(kind, side), states[b->state]);
    metric_give(out, M_BREAKER_TRANSITIONS, opened, (double)b->opened);
    metric_give(out, M_BREAKER_TRANSITIONS, closed, (double)b->closed);
}

static void give_provider(telemetry *t, metric_out *out) {
    provider_stats s;
    if (!t->provider) return;
    const provider_info *info = provider_about(t->provider);
    const char *kind = info->kind;
    provider_stats_get(t->provider, &s);
    const struct {
        const char *outcome;
        uint64_t n;
    } rows[] = {{"ok", s.ok},
                {"throttled", s.throttled},
                {"server_error", s.server_errors},
                {"timeout", s.timeouts},
                {"network", s.network_errors},
                {"bad_answer", s.bad_answers},
                {"denied", s.denied},
                {"refused", s.refused}};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        metric_give(out, M_PROVIDER_REQUESTS, TWO(kind, rows[i].outcome), (double)rows[i].n);
    give_breaker(out, kind, "query", &s.query);
    give_breaker(out, kind, "document", &s.document);
    metric_give(out, M_EMBED_COST, ONE(kind), (double)s.tokens * MAX(info->cost, 0) / 1e6);
    metric_give(out, M_RATE_LIMITED, TWO(kind, "refused"), (double)s.limit.refused);
    metric_give(out, M_RATE_LIMITED, TWO(kind, "throttled"), (double)s.limit.throttled);
    metric_give(out, M_PROVIDER_RETRIES, TWO(kind, "made"), (double)s.retries);
    metric_give(out, M_PROVIDER_RETRIES, TWO(kind, "refused"), (double)s.retries_refused);
    metric_give(out, M_PROVIDER_SPEND, ONE(kind), s.spent.share);
    metric_give(out, M_EMBED_CACHE, TWO(kind, "memory"), (double)s.cache_hits);
    metric_give(out, M_EMBED_CACHE, TWO(kind, "disk"), (double)s.cache_disk_hits);
    metric_give(out, M_EMBED_CACHE, TWO(kind, "miss"), (double)s.cache_misses);
}

/* KITH_BACKUP_STAMP names a file that the backup job writes when it is done. */
static void give_files(telemetry *t, metric_out *out, const shard_stats *s, double up_s) {
    char path[INSTANCE_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/index.snap", t->dir);
    if (s->snapshot_lsn) metric_give(out, M_SNAPSHOT_PRESENT, NULL, fs_exists(fs_real(), path));
    const char *stamp = getenv("KITH_BACKUP_STAMP");
    double age = stamp ? process_file_age_s(stamp) : -1;
    archive_stats as;
    if (t->archive) {
        archive_stats_get(t->archive, &as);
        metric_give(out, M_FOLD_LAG_SECONDS, ONE("archive"), as.lag_s);
        metric_give(out, M_FOLD_LAG_RECORDS, ONE("archive"),
                    (double)(s->head_lsn - MIN(s->head_lsn, as.lsn)));
    }
    if (t->archive && !stamp) /* records go within seconds: the age is that of what is not there */
        metric_give(out, M_BACKUP_AGE, NULL, as.lag_s);
    if (stamp) metric_give(out, M_BACKUP_AGE, NULL, age >= 0 ? age : up_s);
    uint64_t n = MIN(t->recall_count, (uint64_t)RECALL_SAMPLES);
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += t->recall[i];
    if (n) metric_give(out, M_RECALL, NULL, sum / (double)n);
    int64_t problems = t->journal_problems;
    if (problems >= 0) metric_give(out, M_JOURNAL_PROBLEMS, NULL, (double)problems);
}

/* Those beside the first. */
static void give_spaces(shard *s, metric_out *out) {
    char fold[SPACE_FOLD_MAX];
    for (unsigned i = 1; i < shard_space_count(s); i++) {
        shard_space_stats x;
        const char *name = shard_space_name(s, i);
        shard_space_stat(s, i, &x);
        snprintf(fold, sizeof fold, "embed %s", name);
        metric_give(out, M_INDEX_VECTORS, ONE(name), (double)x.vectors);
        metric_give(out, M_INDEX_MEMORY, TWO(name, "vectors"), (double)x.memory);
        metric_give(out, M_FOLD_LAG_RECORDS, ONE(fold), (double)x.pending);
    }
}

/* up_s: the process' age, for what has never been. */
static void give_shard(telemetry *t, metric_out *out, double up_s) {
    shard_stats s = t->last; /* of the last second: many scrapes cost no more than one */
    if (!t->shard) return;
    const char *space = provider_space(t->provider);
    give_memory(out, &s, space);
    give_folds(t, out, &s);
    metric_give(out, M_INDEX_VECTORS, ONE(space), (double)s.vectors);
    give_spaces(t->shard, out);
    metric_give(out, M_POSTS, NULL, (double)s.posts);
    metric_give(out, M_THREADS, NULL, (double)s.threads);
    metric_give(out, M_EMBED_PENDING, NULL, (double)s.pending);
    metric_give(out, M_EMBED_FAILED, NULL, (double)s.failed);
    metric_give(out, M_JOURNAL_HEAD, NULL, (double)s.head_lsn);
    metric_give(out, M_SNAPSHOT_LSN, NULL, (double)s.snapshot_lsn);
    metric_give(out, M_JOURNAL_STOPPED, NULL, s.journal_stopped);
    give_files(t, out, &s, up_s);
    metric_give(out, M_SNAPSHOT_AGE, NULL, s.snapshot_age_s >= 0 ? s.snapshot_age_s : up_s);
    embedder_stats e;
    embedder_stats_get(t->embedder, &e);
    metric_give(out, M_EMBED_RATE, NULL, e.texts_per_s);
}

static void give_server(telemetry *t, metric_out *out) {
    net_stats n;
    if (!t->server) return;
    net_server_stats(t->server, &n);
    metric_give(out, M_HTTP_CONNECTIONS, ONE("open"), (double)n.connections_open);
    metric_give(out, M_HTTP_CONNECTIONS, ONE("idle"), (double)n.connections_idle);
    metric_give(out, M_HTTP_OPEN_REQUESTS, NULL, (double)n.requests_open);
    metric_give(out, M_HTTP_SHED, NULL, (double)n.shed_total);
    metric_give(out, M_HTTP_BAD, ONE("malformed"), (double)n.bad_requests_total);
    metric_give(out, M_HTTP_BAD, ONE("too_large"), (double)n.too_large_total);
    metric_give(out, M_HTTP_BAD, ONE("timeout"), (double)n.timeouts_total);
    metric_give(out, M_HTTP_BAD, ONE("flood"), (double)n.floods_total);
    metric_give(out, M_HTTP_BAD, ONE("rejected"), (double)n.connections_rejected);
    metric_give(out, M_HTTP_BYTES, ONE("in"), (double)n.bytes_in_total);
    metric_give(out, M_HTTP_BYTES, ONE("out"), (double)n.bytes_out_total);
    metric_give(out, M_HTTP_BUFFERED, NULL, (double)n.buffered_bytes);
    metric_give(out, M_POOL_QUEUE, NULL, (double)pool_queued(t->workers));
}

static void give_process(telemetry *t, metric_out *out, const process_stats *p) {
    metric_give(out, M_PROCESS_CPU, NULL, p->cpu_s);
    metric_give(out, M_PROCESS_RSS, NULL, (double)p->rss);
    metric_give(out, M_PROCESS_VIRTUAL, NULL, (double)p->virtual_bytes);
    metric_give(out, M_PROCESS_FDS, NULL, (double)process_fds());
    metric_give(out, M_PROCESS_FDS_MAX, NULL, (double)process_fds_max());
    metric_give(out, M_PROCESS_START, NULL, p->start_s);
    metric_give(out, M_PROCESS_THREADS, NULL, (double)p->threads);
    const char *space = t->provider ? provider_space(t->provider) : "";
    metric_give(out, M_BUILD_INFO, (const char *const[]){KITH_VERSION, __VERSION__, space}, 1);
}

static void collect(void *ctx, metric_out *out) {
    telemetry *t = ctx;
    process_stats p;
    process_stats_get(&p);
    mutex_lock(&t->mu);
    give_process(t, out, &p);
    give_server(t, out);
    give_shard(t, out, process_age_s(&p));
    give_provider(t, out);
    mutex_unlock(&t->mu);
}

/* ---- the window -------------------------------------------------------------------------------- */

static void take_look(look *l) {
    process_stats_get(&l->process);
    metric_look(M_SEARCH_SECONDS, 0, metric_series_count(M_SEARCH_SECONDS), &l->search);
    for (unsigned i = 0; i < STAGE_COUNT; i++)
        metric_look(M_SEARCH_STAGE_SECONDS, i, 1, &l->stages[i]);
    l->errors = 0;
    for (unsigned type = 0; type < SEARCH_TYPES; type++)
        l->errors += metric_total(M_SEARCHES, type * OUTCOME_COUNT + OUTCOME_ERROR, 1);
    l->searches = metric_total(M_SEARCHES, 0, metric_series_count(M_SEARCHES));
    l->at_ns = clock_mono_ns();
}

static void sample_stages(telemetry *t, const look *now, const look *then) {
    uint64_t all = 0;
    for (unsigned i = 0; i < STAGE_COUNT; i++) all += now->stages[i].sum - then->stages[i].sum;
    for (unsigned i = 0; i < STAGE_COUNT; i++) {
        const metric_view *a = &now->stages[i], *b = &then->stages[i];
        t->stage_p50_ms[i] = 1e3 * metric_quantile(M_SEARCH_STAGE_SECONDS, a, b, 0.5);
        t->stage_p99_ms[i] = 1e3 * metric_quantile(M_SEARCH_STAGE_SECONDS, a, b, 0.99);
        t->stage_share[i] = all ? (double)(a->sum - b->sum) / (double)all : 0;
    }
}

static double worst_lag(const shard_stats *s) {
    double a = MAX(s->store_lag_s, s->vectors_lag_s);
    return MAX(a, s->embed_lag_s);
}

/* mu is held. */
static void sample(telemetry *t) {
    look *now = &t->looks[t->count % (WINDOW + 1)];
    take_look(now);
    if (t->shard && shard_stat(t->shard, &t->last) == OK) {
        if (!t->last.pending)
            t->pending_since = 0;
        else if (!t->pending_since)
            t->pending_since = now->at_ns;
    }
    if (t->count) {
        const look *then = &t->looks[t->count < WINDOW ? 0 : (t->count + 1) % (WINDOW + 1)];
        double s = (double)(now->at_ns - then->at_ns) / 1e9;
        const metric_view *a = &now->search, *b = &then->search;
        t->rows[t->count % TELEMETRY_SECONDS] =
            (row){.qps = (double)(now->searches - then->searches) / s,
                  .p50_ms = 1e3 * metric_quantile(M_SEARCH_SECONDS, a, b, 0.5),
                  .p95_ms = 1e3 * metric_quantile(M_SEARCH_SECONDS, a, b, 0.95),
                  .p99_ms = 1e3 * metric_quantile(M_SEARCH_SECONDS, a, b, 0.99),
                  .errors_s = (double)(now->errors - then->errors) / s,
                  .lag_s = worst_lag(&t->last),
                  .rss = (double)now->process.rss,
                  .cpu = (now->process.cpu_s - then->process.cpu_s) / s};
        sample_stages(t, now, then);
    }
    t->count++;
}

static void sampler_main(void *arg) {
    telemetry *t = arg;
    uint64_t next = clock_mono_ns();
    mutex_lock(&t->mu);
    while (!t->stop) {
        sample(t);
        next += 1000000000u;
        uint64_t now = clock_mono_ns();
        while (!t->stop && now < next) {
            (void)cond_wait_ms(&t->wake, &t->mu, (next - now) / 1000000u + 1);
            now = clock_mono_ns();
        }
        if (now > next + 5000000000u) next = now; /* the machine slept */
    }
    mutex_unlock(&t->mu);
}

/* One sample when nothing waits for a worker; sleeps SPARE times what it took, so that it costs at most
 * a SPAREth of a core. */
static void recall_step(telemetry *t, uint64_t *next_ns) {
    uint32_t found, of;
    uint64_t start = clock_mono_ns();
    if (!t->searcher || start < *next_ns || (t->workers && pool_queued(t->workers))) return;
    searcher *x = t->searcher;
    mutex_unlock(&t->mu);
    err rc = searcher_recall(x, &found, &of);
    mutex_lock(&t->mu);
    if (rc != OK || !of) return;
    *next_ns = start + SPARE * (clock_mono_ns() - start);
    t->recall[t->recall_count++ % RECALL_SAMPLES] = (double)found / of;
}

/* The journal is read through and its chain checked every CHECK_S (KITH_JOURNAL_CHECK_SECONDS), for
 * the first time after FIRST_CHECK_S: damage of what is at rest is found before a restore needs it. */
static void checker_main(void *arg) {
    telemetry *t = arg;
    char path[INSTANCE_PATH_MAX + 16];
    const char *set = getenv("KITH_JOURNAL_CHECK_SECONDS");
    uint64_t every = CHECK_S, first = FIRST_CHECK_S;
    if (set && str_to_u64(str_of(set), &every)) first = MIN(every, first);
    snprintf(path, sizeof path, "%s/journal", t->dir);
    thread_lower_priority();
    mutex_lock(&t->mu);
    uint64_t next_recall = 0;
    for (uint64_t wait = first; !t->stop; wait = every) {
        uint64_t until = clock_mono_ns() + wait * 1000000000u;
        while (!t->stop && (!every || clock_mono_ns() < until)) {
            recall_step(t, &next_recall);
            (void)cond_wait_ms(&t->wake, &t->mu, 1000);
        }
        if (t->stop) break;
        mutex_unlock(&t->mu);
        journal_summary sum = {0};
        err rc = journal_verify(fs_real(), path, NULL, NULL, &sum);
        bool looked = rc == OK || rc == ERR_CORRUPT;
        if (rc == ERR_CORRUPT)
            log_line(LOG_ERROR, "journal damaged", "problems=%llu last_lsn=%llu",
                     (unsigned long long)sum.problems, (unsigned long long)sum.last_lsn);
        mutex_lock(&t->mu);
        if (looked) t->journal_problems = (int64_t)sum.problems;
    }
    mutex_unlock(&t->mu);
}

/* ---- JSON -------------------------------------------------------------------------------------- */

static void add_series(strbuf *b, const telemetry *t, const char *name, size_t offset) {
    uint64_t n = MIN(t->count ? t->count - 1 : 0, (uint64_t)TELEMETRY_SECONDS);
    strbuf_addf(b, "\"%s\":[", name);
    for (uint64_t i = t->count - n; i < t->count; i++) {
        const char *at = (const char *)&t->rows[i % TELEMETRY_SECONDS] + offset;
        double v;
        memcpy(&v, at, sizeof v);
        strbuf_addf(b, "%s%.6g", i == t->count - n ? "" : ",", v);
    }
    strbuf_addz(b, "],");
}

static void add_now(strbuf *b, const telemetry *t) {
    const shard_stats *s = &t->last;
    strbuf_addf(b,
                "\"posts\":%llu,\"vectors\":%llu,\"embed_pending\":%llu,\"embed_failed\":%llu,"
                "\"head_lsn\":%llu,\"store_lsn\":%llu,\"snapshot_age_seconds\":%.0f,",
                (unsigned long long)s->posts, (unsigned long long)s->vectors,
                (unsigned long long)s->pending, (unsigned long long)s->failed,
                (unsigned long long)s->head_lsn, (unsigned long long)s->store_lsn,
                s->snapshot_age_s);
    strbuf_addf(b,
                "\"memory\":{\"words\":%llu,\"attrs\":%llu,\"vectors\":%llu,\"other\":%llu,"
                "\"limit\":%llu},",
                (unsigned long long)s->words_memory, (unsigned long long)s->attrs_memory,
                (unsigned long long)s->vectors_memory, (unsigned long long)s->other_memory,
                (unsigned long long)memory_limit());
    strbuf_addf(b, "\"lag\":{\"store\":%.3f,\"vectors\":%.3f,\"embed\":%.3f},", s->store_lag_s,
                s->vectors_lag_s,
                t->pending_since ? (double)(clock_mono_ns() - t->pending_since) / 1e9 : 0);
}

static void add_server(strbuf *b, telemetry *t) {
    net_stats n = {0};
    if (t->server) net_server_stats(t->server, &n);
    strbuf_addf(b,
                "\"connections\":%llu,\"requests_open\":%llu,\"shed\":%llu,\"queue\":%zu,"
                "\"status_5xx\":%llu,",
                (unsigned long long)n.connections_open, (unsigned long long)n.requests_open,
                (unsigned long long)n.shed_total, t->workers ? pool_queued(t->workers) : 0,
                (unsigned long long)n.status_total[5]);
}

err telemetry_json(telemetry *t, strbuf *b) {
    mutex_lock(&t->mu);
    strbuf_addf(b, "{\"version\":\"%s\",\"now_ms\":%lld,\"window_seconds\":%d,\"searches\":%llu,",
                KITH_VERSION, (long long)clock_wall_ms(), WINDOW,
                (unsigned long long)metric_total(M_SEARCHES, 0, metric_series_count(M_SEARCHES)));
    add_series(b, t, "qps", offsetof(row, qps));
    add_series(b, t, "p50_ms", offsetof(row, p50_ms));
    add_series(b, t, "p95_ms", offsetof(row, p95_ms));
    add_series(b, t, "p99_ms", offsetof(row, p99_ms));
    add_series(b, t, "errors_per_second", offsetof(row, errors_s));
    add_series(b, t, "lag_seconds", offsetof(row, lag_s));
    add_series(b, t, "rss_bytes", offsetof(row, rss));
    add_series(b, t, "cpu_cores", offsetof(row, cpu));
    add_now(b, t);
    add_server(b, t);
    const char *const *names = metric_catalog[M_SEARCH_STAGE_SECONDS].labels[0].words;
    strbuf_addz(b, "\"stages\":[");
    for (unsigned i = 0; i < STAGE_COUNT; i++)
        strbuf_addf(b, "%s{\"name\":\"%s\",\"p50_ms\":%.6g,\"p99_ms\":%.6g,\"share\":%.4f}",
                    i ? "," : "", names[i], t->stage_p50_ms[i], t->stage_p99_ms[i],
                    t->stage_share[i]);
    strbuf_addz(b, "]}");
    mutex_unlock(&t->mu);
    return b->rc;
}

/* ---- life -------------------------------------------------------------------------------------- */

err telemetry_open(const char *dir, telemetry **out) {
    *out = NULL;
    telemetry *t = mem_zalloc(1, sizeof *t);
    if (!t) return ERR_NO_MEMORY;
    t->journal_problems = -1;
    memcpy(t->dir, dir, MIN(strlen(dir), sizeof t->dir - 1));
    err rc = mutex_init(&t->mu);
    if (rc == OK) rc = cond_init(&t->wake);
    if (rc == OK) rc = metrics_collector_add(collect, t);
    if (rc == OK) rc = thread_start(&t->sampler, "kith-observe", sampler_main, t);
    t->sampling = rc == OK;
    if (rc == OK) rc = thread_start(&t->checker, "kith-check", checker_main, t);
    t->checking = rc == OK;
    if (rc != OK) {
        telemetry_close(t);
        return rc;
    }
    *out = t;
    return OK;
}

void telemetry_server(telemetry *t, net_server *server, pool *workers) {
    mutex_lock(&t->mu);
    t->server = server;
    t->workers = workers;
    mutex_unlock(&t->mu);
}

void telemetry_parts(telemetry *t, shard *s, searcher *x, provider *p, embedder *e) {
    mutex_lock(&t->mu);
    t->shard = s;
    t->searcher = x;
    t->provider = p;
    t->embedder = e;
    if (shard_stat(s, &t->last) != OK) t->last = (shard_stats){0};
    mutex_unlock(&t->mu);
}

void telemetry_archive(telemetry *t, archive *a) {
    mutex_lock(&t->mu);
    t->archive = a;
    mutex_unlock(&t->mu);
}

void telemetry_stop(telemetry *t) {
    if (!t) return;
    mutex_lock(&t->mu);
    t->stop = true;
    t->server = NULL;
    t->workers = NULL;
    t->shard = NULL;
    t->archive = NULL;
    t->provider = NULL;
    cond_broadcast(&t->wake);
    mutex_unlock(&t->mu);
    if (t->sampling) thread_join(&t->sampler);
    if (t->checking) thread_join(&t->checker);
    t->sampling = t->checking = false;
}

void telemetry_close(telemetry *t) {
    if (!t) return;
    telemetry_stop(t);
    metrics_collector_remove(collect, t);
    cond_deinit(&t->wake);
    mutex_deinit(&t->mu);
    mem_free(t);
}
