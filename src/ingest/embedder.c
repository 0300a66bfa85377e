/* The embed fold: texts without a vector, in batches, to the provider, and their vectors to the
 * journal.
 *
 * The queue is the store itself (rows that wait), so it survives restarts and has no size of its
 * own. A batch that fails as a whole is tried text by text; a text that the provider refuses is put
 * aside with the reason (a record of its own), so that one poison text cannot stop the others. When the
 * provider itself is out of order the thread waits, longer each time, up to BACKOFF_MAX_MS.
 */
#include "ingest/ingest.h"

#include "obs/metrics.h"

enum {
    BATCH_TEXTS = 32, /* bigger batches are no faster on one core and hold the thread for longer */
    WAIT_MS = 1000,
    BACKOFF_MIN_MS = 500,
    BACKOFF_MAX_MS = 30000
};

struct embedder {
    /* immutable */
    shard *s;
    provider *p;
    void (*notice)(void *ctx, const char *text);
    void *ctx;
    float *vectors; /* the thread's own: BATCH_TEXTS x dim */
    thread t;
    /* guarded by mu */
    mutex mu;
    cond wake;
    bool stop;
    embedder_stats stats;
    uint64_t window_ns, window_texts; /* work since the speed was last computed */
};

static bool stopping(embedder *e) {
    mutex_lock(&e->mu);
    bool stop = e->stop;
    mutex_unlock(&e->mu);
    return stop;
}

static void wait_ms(embedder *e, uint64_t ms) {
    mutex_lock(&e->mu);
    if (!e->stop) (void)cond_wait_ms(&e->wake, &e->mu, ms);
    mutex_unlock(&e->mu);
}

static void count(embedder *e, size_t texts, size_t failed, uint64_t tokens, uint64_t ns) {
    mutex_lock(&e->mu);
    e->stats.texts += texts;
    e->stats.failed += failed;
    e->stats.tokens += tokens;
    e->window_texts += texts;
    e->window_ns += ns;
    if (e->window_ns > 2000000000u || e->stats.texts_per_s == 0) {
        e->stats.texts_per_s =
            e->window_ns ? 1e9 * (double)e->window_texts / (double)e->window_ns : 0;
        e->window_texts = e->window_ns = 0;
    }
    mutex_unlock(&e->mu);
}

/* True when the text is at fault, not the provider. */
static bool poison(err rc) {
    return rc == ERR_INVALID || rc == ERR_TOO_LARGE || rc == ERR_INTERNAL;
}

typedef struct outcome {
    shard_vector out[BATCH_TEXTS];
    uint64_t tokens;
    size_t failed;
} outcome;

/* Fills o->out for one batch; the provider's own failure is returned. */
static err embed_rows(embedder *e, const store_row *rows, size_t n, arena *a, outcome *o) {
    shard_vector *out = o->out;
    str texts[BATCH_TEXTS];
    uint32_t dim = provider_dim(e->p);
    embed_usage use = {0};
    for (size_t i = 0; i < n; i++) {
        texts[i] = str_of(rows[i].post->text);
        out[i] = (shard_vector){.id = str_of(rows[i].post->id),
                                .text_hash = rows[i].text_hash,
                                .vector = e->vectors + i * dim};
    }
    err rc = provider_embed(e->p, texts, n, EMBED_DOCUMENT, e->vectors, &use);
    o->tokens = use.tokens;
    if (!poison(rc)) return rc;
    for (size_t i = 0; i < n; i++) {
        rc = provider_embed(e->p, &texts[i], 1, EMBED_DOCUMENT, e->vectors + i * dim, &use);
        if (rc != OK && !poison(rc)) return rc;
        o->tokens += use.tokens;
        if (rc == OK) continue;
        char *why = arena_dup(a, str_of(err_detail()));
        if (!why) return ERR_NO_MEMORY;
        out[i].vector = NULL;
        out[i].reason = str_of(why);
        o->failed++;
    }
    return OK;
}

static void tell(const store_row *rows, size_t n, uint64_t start) {
    trace_context c;
    metric_record(M_FOLD_SECONDS, FOLD_EMBED, clock_mono_ns() - start);
    metric_add(M_FOLD_RECORDS, FOLD_EMBED, n);
    for (size_t i = 0; i < n; i++)
        if (trace_recall(rows[i].text_hash, &c)) trace_follow(&c, "fold.embed", start);
}

static err one_batch(embedder *e, arena *a) {
    store_row *rows;
    size_t n;
    outcome o = {.tokens = 0};
    TRY(shard_pending(e->s, BATCH_TEXTS, WAIT_MS, a, &rows, &n));
    if (n == 0) return OK;
    uint64_t t0 = clock_mono_ns();
    trace_root r;
    trace_root_begin(&r, "fold.embed batch", SPAN_CONSUMER, (str){"", 0});
    err rc = embed_rows(e, rows, n, a, &o);
    if (rc == OK) rc = shard_put_vectors(e->s, o.out, n);
    if (rc == OK) tell(rows, n, t0);
    trace_root_end(&r, rc == OK);
    TRY(rc);
    count(e, n, o.failed, o.tokens, clock_mono_ns() - t0);
    return OK;
}

static void embedder_main(void *arg) {
    embedder *e = arg;
    arena a;
    arena_init(&a, 64 * MIB);
    thread_lower_priority();
    uint64_t backoff = BACKOFF_MIN_MS;
    while (!stopping(e)) {
        arena_reset(&a);
        err rc = one_batch(e, &a);
        if (rc == OK || rc == ERR_CANCELLED) {
            backoff = BACKOFF_MIN_MS;
            continue;
        }
        if (e->notice) e->notice(e->ctx, err_detail());
        wait_ms(e, backoff);
        backoff = MIN(backoff * 2, BACKOFF_MAX_MS);
    }
    arena_deinit(&a);
}

err embedder_start(shard *s, provider *p, void (*notice)(void *ctx, const char *text), void *ctx,
                   embedder **out) {
    *out = NULL;
    embedder *e = mem_zalloc(1, sizeof *e);
    if (!e) return ERR_NO_MEMORY;
    e->s = s;
    e->p = p;
    e->notice = notice;
    e->ctx = ctx;
    e->vectors = mem_alloc((size_t)BATCH_TEXTS * provider_dim(p) * sizeof *e->vectors);
    err rc = e->vectors ? mutex_init(&e->mu) : ERR_NO_MEMORY;
    if (rc == OK) {
        rc = cond_init(&e->wake);
        if (rc == OK) rc = thread_start(&e->t, "kith-embed", embedder_main, e);
        if (rc == OK) {
            *out = e;
            return OK;
        }
        mutex_deinit(&e->mu);
    }
    mem_free(e->vectors);
    mem_free(e);
    return rc;
}

void embedder_stop(embedder *e) {
    if (!e) return;
    mutex_lock(&e->mu);
    e->stop = true;
    cond_broadcast(&e->wake);
    mutex_unlock(&e->mu);
    thread_join(&e->t);
    cond_deinit(&e->wake);
    mutex_deinit(&e->mu);
    mem_free(e->vectors);
    mem_free(e);
}

void embedder_stats_get(embedder *e, embedder_stats *out) {
    mutex_lock(&e->mu);
    *out = e->stats;
    mutex_unlock(&e->mu);
}
