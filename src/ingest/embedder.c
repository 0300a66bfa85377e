/* The embed fold: texts without a vector, in batches, to the provider, and their vectors to the
 * journal.
 *
 * The queue is the store itself (rows that wait), so it survives restarts and has no size of its
 * own. A batch is what waits; for a service, which is paid and limited by the call, a batch that is not
 * full waits FILL_MS for more.
 *
 * A batch that fails as a whole is tried text by text; a text that the provider refuses is put
 * aside with the reason (a record of its own), so that one poison text cannot stop the others. A text may also
 * break a service (500, no answer): after STRIKES such failures the batch is tried text by text too,
 * and a text that fails SUSPECT_MAX times, each time while a harmless one succeeds,
 * is put aside. (Once was not enough: of a service with 30 % errors four good texts of 23,500 were put aside in the
 * long storm. Eight times in a row by chance is 4 in a million texts that are tried alone.) When the provider itself is
 * out of order the thread waits, longer each time, up to BACKOFF_MAX_MS.
 *
 * A model in this process embeds a large batch in two halves, one in a helper, when there is a second core: half the
 * time for a load that is alone on the machine. A helper that is late by more than the time of its half shows that the
 * cores have other work; then this thread goes on alone for a while. Both run at a lower priority, and a
 * query's embedding has a thread and a scratch of its own, so it waits behind neither.
 *
 * A deleted post's text must leave the provider's cache: the shard's apply thread asks for that, and a batch under
 * way looks once more after its vectors went into the cache, so that no order of the two leaves any.
 */
#include "ingest/ingest.h"

#include "obs/metrics.h"

enum {
    HALVES_MIN = 8,   /* texts that are worth two threads */
    LOCAL_TEXTS = 32, /* bigger batches are no faster on one core and hold the thread for longer */
    WAIT_MS = 1000,
    FILL_MS = 50,
    YIELD_MS = 500,
    ALONE = 16, /* batches without the helper after waiting long for it */
    STRIKES = 3,
    SUSPECT_MAX = 8,
    FAILED_MAX = 100000, /* texts of one retry */
    TELL_AGAIN_MS = 60000,
    BACKOFF_MIN_MS = 500,
    BACKOFF_MAX_MS = 5000
};

struct embedder {
    /* immutable */
    shard *s;
    unsigned space;
    provider *p;
    embedder *first; /* whose work goes before this one's; NULL: none */
    void (*notice)(void *ctx, const char *text);
    void *ctx;
    size_t batch_max;
    thread t;
    /* the thread's own */
    float *vectors;   /* batch_max x dim */
    pool *helper;     /* NULL: none */
    unsigned alone;   /* batches still to be done without it */
    unsigned strikes; /* batches in a row that broke the provider */
    uint64_t suspect; /* hash of a text that fails alone, */
    unsigned fails;   /* so often while a harmless one succeeded */
    uint64_t told_hash, told_ns;
    /* guarded by mu */
    mutex mu;
    cond wake;
    bool stop, retry;
    embedder_stats stats;
    uint64_t worked_ns;               /* when the last batch was done */
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
    e->worked_ns = clock_mono_ns();
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

/* True when the provider broke and it may be a text's doing. */
static bool broke(err rc) {
    return rc == ERR_IO || rc == ERR_TIMEOUT || rc == ERR_CORRUPT;
}

typedef struct outcome {
    const store_row *rows;
    size_t n;
    shard_vector *out;
    str *texts;
    uint64_t tokens;
    size_t failed;
} outcome;

static err outcome_init(embedder *e, const store_row *rows, size_t n, arena *a, outcome *o) {
    uint32_t dim = provider_dim(e->p);
    *o = (outcome){.rows = rows, .n = n};
    o->out = arena_zalloc(a, n, sizeof *o->out);
    o->texts = arena_zalloc(a, n, sizeof *o->texts);
    if (!o->out || !o->texts) return ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        o->texts[i] = str_of(rows[i].post->text);
        o->out[i] = (shard_vector){.id = str_of(rows[i].post->id),
                                   .text_hash = rows[i].text_hash,
                                   .vector = e->vectors + i * dim};
    }
    return OK;
}

static err ask(embedder *e, outcome *o, size_t from, size_t n) {
    embed_usage use = {0};
    embed_ask a = {.texts = o->texts + from, .count = n, .task = EMBED_DOCUMENT, .bulk = true};
    err rc = provider_embed_ask(e->p, &a, e->vectors + from * provider_dim(e->p), &use);
    o->tokens += use.tokens;
    return rc;
}

/* ---- two halves ---- */

typedef struct half {
    embedder *e;
    outcome o; /* of the whole batch; its tokens are the half's own */
    size_t from, n;
    err rc;
    err_text why;
    bool done; /* guarded by e->mu */
} half;

static void help(void *arg) {
    half *h = arg;
    embedder *e = h->e;
    thread_lower_priority();
    h->rc = ask(e, &h->o, h->from, h->n);
    if (h->rc != OK) h->why = err_keep();
    mutex_lock(&e->mu);
    h->done = true;
    cond_broadcast(&e->wake);
    mutex_unlock(&e->mu);
}

static err ask_both(embedder *e, outcome *o) {
    half h = {.e = e, .o = *o, .from = o->n / 2, .n = o->n - o->n / 2};
    h.o.tokens = 0;
    uint64_t start = clock_mono_ns();
    bool helped = pool_submit(e->helper, help, &h) == OK;
    err rc = ask(e, o, 0, helped ? h.from : o->n);
    if (!helped) return rc;
    err_text kept = err_keep();
    uint64_t mine = clock_mono_ns();
    mutex_lock(&e->mu);
    while (!h.done) cond_wait(&e->wake, &e->mu);
    mutex_unlock(&e->mu);
    if (clock_mono_ns() - mine > mine - start) e->alone = ALONE;
    o->tokens += h.o.tokens;
    return rc != OK ? err_restore(rc, &kept) : h.rc != OK ? err_restore(h.rc, &h.why) : OK;
}

static err ask_all(embedder *e, outcome *o) {
    if (e->helper && !e->alone && o->n >= HALVES_MIN) return ask_both(e, o);
    if (e->alone) e->alone--;
    return ask(e, o, 0, o->n);
}

/* One text alone. ERR_INVALID: it is at fault; anything else is the provider's own failure. The count of its
 * failures outlives the call, since a breaker may open in between. */
static err ask_alone(embedder *e, outcome *o, size_t i) {
    uint64_t hash = o->rows[i].text_hash;
    for (;;) {
        err rc = ask(e, o, i, 1);
        if (rc == OK && e->suspect == hash) e->fails = 0;
        if (!broke(rc) || e->strikes < STRIKES) return rc;
        err_text why = err_keep();
        if (e->suspect != hash) e->fails = 0;
        e->suspect = hash;
        if (stopping(e) || provider_check(e->p) != OK) return err_restore(rc, &why);
        if (++e->fails >= SUSPECT_MAX) return err_restore(ERR_INVALID, &why);
    }
}

/* Text by text. The provider's own failure is returned. */
static err embed_singly(embedder *e, arena *a, outcome *o) {
    for (size_t i = 0; i < o->n; i++) {
        err rc = ask_alone(e, o, i);
        if (rc == OK) continue;
        char *why = arena_dup(a, str_of(err_detail()));
        if (!why) return ERR_NO_MEMORY;
        if (!poison(rc)) return err_set(rc, "%s", why);
        o->out[i].vector = NULL;
        o->out[i].reason = str_of(why);
        o->failed++;
    }
    return OK;
}

/* Fills o->out for one batch; the provider's own failure is returned. */
static err embed_rows(embedder *e, arena *a, outcome *o) {
    bool singly = e->strikes >= STRIKES;
    err rc = singly ? OK : ask_all(e, o);
    if (singly || poison(rc)) rc = embed_singly(e, a, o);
    if (broke(rc)) e->strikes++;
    if (rc == OK) e->strikes = 0;
    return rc;
}

/* What was deleted or changed while it was embedded leaves the cache again. */
static void forget_deleted(embedder *e, const outcome *o, arena *a) {
    store_reader *r = store_reader_get(shard_store(e->s));
    for (size_t i = 0; i < o->n; i++) {
        store_row row;
        err rc = store_get(r, o->out[i].id, a, &row);
        bool gone = rc == ERR_NOT_FOUND || (rc == OK && row.text_hash != o->out[i].text_hash);
        if (gone) provider_forget(e->p, o->texts[i]);
    }
    store_reader_put(shard_store(e->s), r);
}

static void tell(const store_row *rows, size_t n, uint64_t start) {
    trace_context c;
    metric_record(M_FOLD_SECONDS, FOLD_EMBED, clock_mono_ns() - start);
    metric_add(M_FOLD_RECORDS, FOLD_EMBED, n);
    for (size_t i = 0; i < n; i++)
        if (trace_recall(rows[i].text_hash, &c)) trace_follow(&c, "fold.embed", start);
}

static err embed_and_put(embedder *e, const store_row *rows, size_t n, arena *a) {
    outcome o;
    uint64_t t0 = clock_mono_ns();
    trace_root r;
    TRY(outcome_init(e, rows, n, a, &o));
    trace_root_begin(&r, "fold.embed batch", SPAN_CONSUMER, (str){"", 0});
    err rc = embed_rows(e, a, &o);
    if (rc == OK) rc = shard_put_vectors(e->s, e->space, o.out, n);
    if (rc == OK) tell(rows, n, t0);
    trace_root_end(&r, rc == OK);
    if (provider_about(e->p)->remote) forget_deleted(e, &o, a);
    TRY(rc);
    count(e, n, o.failed, o.tokens, clock_mono_ns() - t0);
    return OK;
}

static err pending(embedder *e, uint64_t ms, arena *a, store_row **rows, size_t *n) {
    if (e->space == 0) return shard_pending(e->s, e->batch_max, ms, a, rows, n);
    shard_rows found;
    TRY(shard_space_pending(e->s, e->space, e->batch_max, ms, a, &found));
    *rows = found.items;
    *n = found.count;
    return OK;
}

/* A space beside the first takes the processor when the first one's own model leaves it. */
static bool must_yield(embedder *e) {
    if (!e->first) return false;
    mutex_lock(&e->first->mu);
    uint64_t at = e->first->worked_ns;
    mutex_unlock(&e->first->mu);
    return at && clock_mono_ns() - at < YIELD_MS * (uint64_t)1000000;
}

static err one_batch(embedder *e, arena *a) {
    store_row *rows;
    size_t n;
    if (must_yield(e)) {
        wait_ms(e, YIELD_MS);
        return OK;
    }
    TRY(pending(e, WAIT_MS, a, &rows, &n));
    if (n == 0) return OK;
    if (n < e->batch_max && provider_about(e->p)->remote) {
        wait_ms(e, FILL_MS);
        TRY(pending(e, 0, a, &rows, &n));
        if (n == 0) return OK;
    }
    return embed_and_put(e, rows, n, a);
}

/* ---- trying again what was put aside ---- */

static err failed_rows(embedder *e, const store_failure *list, size_t n, arena *a, store_row **rows,
                       size_t *count_out) {
    *count_out = 0;
    *rows = arena_zalloc(a, n, sizeof **rows);
    if (!*rows) return ERR_NO_MEMORY;
    store_reader *r = store_reader_get(shard_store(e->s));
    err rc = OK;
    for (size_t i = 0; i < n && rc == OK; i++) {
        rc = store_get(r, list[i].id, a, &(*rows)[*count_out]);
        if (rc == OK) ++*count_out;
        if (rc == ERR_NOT_FOUND) rc = OK;
    }
    store_reader_put(shard_store(e->s), r);
    return rc;
}

static err retry_list(embedder *e, const store_failure *list, size_t n) {
    arena a;
    arena_init(&a, 64 * MIB);
    err rc = OK;
    for (size_t i = 0; i < n && rc == OK && !stopping(e); i += e->batch_max) {
        store_row *rows;
        size_t count_rows;
        arena_reset(&a);
        rc = failed_rows(e, list + i, MIN(e->batch_max, n - i), &a, &rows, &count_rows);
        if (rc == OK && count_rows) rc = embed_and_put(e, rows, count_rows, &a);
    }
    arena_deinit(&a);
    return rc;
}

/* The rows that failed are embedded again, by vectors that come late; those that fail again get a new reason. */
static err retry_first(embedder *e, arena *a) {
    store_failure *list;
    size_t n;
    store_reader *r = store_reader_get(shard_store(e->s));
    err rc = store_failed(r, FAILED_MAX, a, &list, &n);
    store_reader_put(shard_store(e->s), r);
    return rc == OK ? retry_list(e, list, n) : rc;
}

static err retry_failed(embedder *e, arena *a) {
    mutex_lock(&e->mu);
    bool wanted = e->retry;
    mutex_unlock(&e->mu);
    if (!wanted) return OK;
    if (e->space == 0)
        TRY(retry_first(e, a));
    else
        shard_space_retry(e->s, e->space);
    mutex_lock(&e->mu);
    e->retry = false;
    mutex_unlock(&e->mu);
    return OK;
}

void embedder_retry(embedder *e) {
    mutex_lock(&e->mu);
    e->retry = true;
    cond_broadcast(&e->wake);
    mutex_unlock(&e->mu);
}

/* A failure that goes on is told once a minute. */
static void tell_failure(embedder *e) {
    str why = str_of(err_detail());
    uint64_t hash = hash64(why.ptr, why.len, 0), now = clock_mono_ns();
    bool again = hash == e->told_hash && now - e->told_ns < TELL_AGAIN_MS * (uint64_t)1000000;
    if (!e->notice || again) return;
    e->told_hash = hash;
    e->told_ns = now;
    e->notice(e->ctx, why.ptr);
}

static void embedder_main(void *arg) {
    embedder *e = arg;
    arena a;
    arena_init(&a, 64 * MIB);
    thread_lower_priority();
    uint64_t backoff = BACKOFF_MIN_MS;
    while (!stopping(e)) {
        arena_reset(&a);
        err rc = retry_failed(e, &a);
        if (rc == OK) rc = one_batch(e, &a);
        if (rc == OK || rc == ERR_CANCELLED) {
            backoff = BACKOFF_MIN_MS;
            continue;
        }
        tell_failure(e);
        wait_ms(e, backoff);
        backoff = MIN(backoff * 2, BACKOFF_MAX_MS);
    }
    arena_deinit(&a);
}

err embedder_start(const embedder_options *o, embedder **out) {
    provider *p = o->provider;
    *out = NULL;
    embedder *e = mem_zalloc(1, sizeof *e);
    if (!e) return ERR_NO_MEMORY;
    e->s = o->shard;
    e->p = p;
    e->space = o->space;
    e->first = o->first;
    e->notice = o->notice;
    e->ctx = o->ctx;
    bool remote = provider_about(p)->remote, two = !remote && o->space == 0 && thread_cores() > 1;
    e->batch_max = remote ? provider_texts_max(p) : two ? 2 * LOCAL_TEXTS : LOCAL_TEXTS;
    e->vectors = mem_alloc(e->batch_max * provider_dim(p) * sizeof *e->vectors);
    err rc = e->vectors ? mutex_init(&e->mu) : ERR_NO_MEMORY;
    if (rc == OK) {
        rc = cond_init(&e->wake);
        if (rc == OK && two) rc = pool_open("kith-embed-2", 1, 1, &e->helper);
        if (rc == OK) rc = thread_start(&e->t, "kith-embed", embedder_main, e);
        if (rc == OK) {
            *out = e;
            return OK;
        }
        pool_close(e->helper);
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
    pool_close(e->helper);
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
