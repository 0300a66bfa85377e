/* kith bench index: build, then ask every query at settings of ef from fast to thorough. Base rows go in
 * one after the other, as posts come in. One thread counts its own processor time, so that a shared machine
 * does not colour the figure; several share the queries and count wall time.
 */
#include "role/bench_index.h"

#include "index/flat.h"
#include "index/hnsw.h"
#include "os/os.h"

enum { K = 10, PASSES = 3 };
static const uint32_t settings[] = {10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384};

typedef struct rows {
    uint8_t *bytes;
    size_t count, dim;
} rows;

static const uint8_t *row_at(const rows *r, size_t i) {
    return r->bytes + i * 4 * (r->dim + 1) + 4;
}

static err read_rows(const char *path, rows *r) {
    size_t n;
    TRY(file_read_all(fs_real(), path, BENCH_INDEX_FILE_MAX, &r->bytes, &n));
    r->dim = n >= 4 ? le32_get(r->bytes) : 0;
    size_t row = 4 * (r->dim + 1);
    if (r->dim == 0 || r->dim > HNSW_DIM_MAX * 4 || n % row != 0)
        return err_set(ERR_INVALID, "%s: expected rows of a u32 dimension and that many numbers",
                       path);
    r->count = n / row;
    for (size_t i = 0; i < r->count; i++)
        if (le32_get(r->bytes + i * row) != r->dim)
            return err_set(ERR_INVALID, "%s: row %zu has another dimension", path, i);
    return OK;
}

typedef struct bench {
    rows base, queries, truth;
    hnsw *h;
    double build_s;
    hnsw_stats stats;
} bench;

/* The rows' bytes are floats of this machine's order on every machine that kith runs on. */
static const float *floats_at(const rows *r, size_t i) {
    return (const float *)(const void *)row_at(r, i);
}

static err build(bench *b) {
    TRY(hnsw_new(&(hnsw_options){.dim = (uint32_t)b->base.dim}, &b->h));
    uint64_t t0 = clock_thread_cpu_ns();
    for (size_t i = 0; i < b->base.count; i++)
        TRY(hnsw_insert(b->h, (uint32_t)i, floats_at(&b->base, i)));
    b->build_s = (double)(clock_thread_cpu_ns() - t0) / 1e9;
    b->stats = hnsw_stats_get(b->h);
    return OK;
}

/* Ten exact neighbours a query, in the form of an ivecs file. */
static err make_truth(bench *b) {
    b->truth = (rows){.count = b->queries.count, .dim = K};
    b->truth.bytes = mem_zalloc(b->queries.count, 4 * (K + 1));
    if (!b->truth.bytes) return ERR_NO_MEMORY;
    for (size_t i = 0; i < b->queries.count; i++) {
        hnsw_hit hits[K];
        size_t n;
        hnsw_query q = {.k = K};
        TRY(flat_search_index(b->h, floats_at(&b->queries, i), &q, hits, &n));
        for (size_t k = 0; k < n; k++)
            le32_put(b->truth.bytes + i * 4 * (K + 1) + 4 + 4 * k, hits[k].doc);
    }
    return OK;
}

/* ---- asking ---- */

typedef struct worker {
    const bench *b;
    hnsw_scratch *s;
    uint32_t ef;
    size_t from, step, hits;
    err rc;
} worker;

static size_t count_hits(const rows *truth, size_t query, const hnsw_hit *hits, size_t n) {
    size_t found = 0;
    for (size_t k = 0; k < MIN((size_t)K, truth->dim); k++)
        for (size_t i = 0; i < n; i++)
            found += le32_get(row_at(truth, query) + 4 * k) == hits[i].doc;
    return found;
}

static void ask(void *arg) {
    worker *w = arg;
    const bench *b = w->b;
    hnsw_query q = {.k = K, .ef = w->ef};
    for (size_t i = w->from; i < b->queries.count && w->rc == OK; i += w->step) {
        hnsw_hit hits[K];
        size_t n = 0;
        w->rc = hnsw_search(b->h, floats_at(&b->queries, i), &q, w->s, hits, &n);
        w->hits += count_hits(&b->truth, i, hits, n);
    }
}

static err ask_all(worker *w, unsigned threads, double *seconds, size_t *hits) {
    thread t[BENCH_INDEX_THREADS_MAX];
    uint64_t t0 = threads == 1 ? clock_thread_cpu_ns() : clock_mono_ns();
    if (threads == 1) {
        ask(&w[0]);
    } else {
        unsigned started = 0;
        err rc = OK;
        for (; started < threads && rc == OK; started += rc == OK)
            rc = thread_start(&t[started], "kith-bench", ask, &w[started]);
        for (unsigned i = 0; i < started; i++) thread_join(&t[i]);
        TRY(rc);
    }
    *seconds = (double)((threads == 1 ? clock_thread_cpu_ns() : clock_mono_ns()) - t0) / 1e9;
    *hits = 0;
    for (unsigned i = 0; i < threads; i++) {
        TRY(w[i].rc);
        *hits += w[i].hits;
    }
    return OK;
}

static err one_setting(const bench *b, worker *w, unsigned threads, uint32_t ef, double *recall,
                       double *qps) {
    double best = 0;
    size_t hits = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        double s;
        for (unsigned i = 0; i < threads; i++)
            w[i] = (worker){.b = b, .s = w[i].s, .ef = ef, .from = i, .step = threads};
        TRY(ask_all(w, threads, &s, &hits));
        best = MAX(best, (double)b->queries.count / s);
    }
    *recall = (double)hits / (double)(b->queries.count * MIN((size_t)K, b->truth.dim));
    *qps = best;
    return OK;
}

static void add_row(const bench *b, bool json, size_t i, double recall, double qps, strbuf *out) {
    double bytes = (double)b->stats.bytes / (double)b->base.count;
    if (json)
        strbuf_addf(out,
                    "%s{\"ef\":%u,\"recall@10\":%.4f,\"qps\":%.0f,\"build_s\":%.2f,\"bytes_per_"
                    "vector\":%.0f}",
                    i ? "," : "[", settings[i], recall, qps, b->build_s, bytes);
    else
        strbuf_addf(out, "%s  ef %3u  recall@10 %.4f  %8.0f queries/s", i ? "\n" : "", settings[i],
                    recall, qps);
}

static err run(bench *b, worker *w, unsigned threads, bool json, strbuf *out) {
    for (unsigned i = 0; i < threads; i++) TRY(hnsw_scratch_new(&w[i].s));
    if (!json)
        strbuf_addf(out, "%zu vectors of %zu, built in %.1f s, %.0f bytes a vector\n",
                    b->base.count, b->base.dim, b->build_s,
                    (double)b->stats.bytes / (double)b->base.count);
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        double recall, qps;
        TRY(one_setting(b, w, threads, settings[i], &recall, &qps));
        add_row(b, json, i, recall, qps, out);
    }
    if (json) strbuf_addc(out, ']');
    return out->rc;
}

static err load(bench *b, const char *base, const char *queries, const char *truth) {
    TRY(read_rows(base, &b->base));
    TRY(read_rows(queries, &b->queries));
    if (b->base.dim != b->queries.dim || b->base.dim > HNSW_DIM_MAX)
        return err_set(ERR_INVALID, "base has %zu dimensions, queries have %zu", b->base.dim,
                       b->queries.dim);
    TRY(build(b));
    if (!truth) return make_truth(b);
    TRY(read_rows(truth, &b->truth));
    if (b->truth.count < b->queries.count)
        return err_set(ERR_INVALID, "%s: %zu rows for %zu queries", truth, b->truth.count,
                       b->queries.count);
    return OK;
}

err bench_index_run(const char *base, const char *queries, const char *truth, unsigned threads,
                    bool json, strbuf *out) {
    KITH_ASSERT(threads > 0 && threads <= BENCH_INDEX_THREADS_MAX);
    bench b = {.build_s = 0};
    worker w[BENCH_INDEX_THREADS_MAX];
    memset(w, 0, sizeof w);
    err rc = load(&b, base, queries, truth);
    if (rc == OK) rc = run(&b, w, threads, json, out);
    for (unsigned i = 0; i < threads; i++) hnsw_scratch_free(w[i].s);
    hnsw_free(b.h);
    mem_free(b.base.bytes);
    mem_free(b.queries.bytes);
    mem_free(b.truth.bytes);
    return rc;
}
