/* The exporter's queue and thread.
 *
 * The queue is a ring under a mutex that is held for copies only, of at most CHUNK spans by the thread,
 * so a request waits for microseconds at worst. A batch that is being tried is out of the ring:
 * EXPORT_BATCH spans beside EXPORT_QUEUE, and no more, whatever the collector does.
 *
 * On closing what waits is sent in one try each; a pause between tries ends at once.
 */
#include "obs/export.h"

#include "obs/metrics.h"
#include "os/os.h"

enum { CHUNK = 32, DELAY_MS = 1000, BACKOFF_MS = 1000, BACKOFF_MS_MAX = 30000 };

struct exporter {
    export_options o;
    thread thread;
    rng jitter;
    span_data *batch; /* the thread's own */
    strbuf body;
    /* guarded by mu */
    mutex mu;
    cond wake;
    span_data *ring;
    size_t head, count;
    bool stop;
};

void exporter_sink(void *ctx, const span_data *spans, size_t n) {
    exporter *x = ctx;
    mutex_lock(&x->mu);
    size_t fit = MIN(n, (size_t)EXPORT_QUEUE - x->count);
    for (size_t i = 0; i < fit; i++) x->ring[(x->head + x->count++) % EXPORT_QUEUE] = spans[i];
    if (x->count >= EXPORT_BATCH) cond_signal(&x->wake);
    mutex_unlock(&x->mu);
    if (fit < n) metric_add(M_OTLP_SPANS, SPANS_DROPPED, n - fit);
}

static size_t take_batch(exporter *x) {
    size_t n = 0;
    for (;;) {
        mutex_lock(&x->mu);
        size_t k = MIN(MIN(x->count, (size_t)CHUNK), EXPORT_BATCH - n);
        for (size_t i = 0; i < k; i++) x->batch[n + i] = x->ring[(x->head + i) % EXPORT_QUEUE];
        x->head = (x->head + k) % EXPORT_QUEUE;
        x->count -= k;
        mutex_unlock(&x->mu);
        n += k;
        if (k == 0) return n;
    }
}

/* Waits; true when it is time to stop. */
static bool pause_ms(exporter *x, uint64_t ms, bool full_ends) {
    uint64_t until = clock_mono_ns() + ms * 1000000u;
    mutex_lock(&x->mu);
    for (;;) {
        uint64_t now = clock_mono_ns();
        if (x->stop || now >= until || (full_ends && x->count >= EXPORT_BATCH)) break;
        (void)cond_wait_ms(&x->wake, &x->mu, (until - now) / 1000000u + 1);
    }
    bool stop = x->stop;
    mutex_unlock(&x->mu);
    return stop;
}

static void send_batch(exporter *x, size_t n) {
    strbuf_reset(&x->body);
    if (otlp_traces(&x->body, &x->o, x->batch, n) != OK) {
        metric_add(M_OTLP_SPANS, SPANS_DROPPED, n);
        return;
    }
    uint64_t wait = x->o.backoff_ms ? x->o.backoff_ms : BACKOFF_MS;
    for (unsigned attempt = 1;; attempt++) {
        export_answer a = x->o.send(x->o.ctx, strbuf_str(&x->body));
        if (a.sent) {
            metric_add(M_OTLP_EXPORTS, EXPORT_OK, 1);
            metric_add(M_OTLP_SPANS, SPANS_REJECTED, MIN(a.rejected, n));
            metric_add(M_OTLP_SPANS, SPANS_EXPORTED, n - MIN(a.rejected, n));
            return;
        }
        if (!a.again || attempt == EXPORT_TRIES) break;
        metric_add(M_OTLP_EXPORTS, EXPORT_RETRIED, 1);
        uint64_t ms = a.retry_ms ? a.retry_ms : wait / 2 + rng_below(&x->jitter, (uint32_t)wait);
        if (pause_ms(x, MIN(ms, (uint64_t)BACKOFF_MS_MAX), false)) break;
        wait = MIN(wait * 2, (uint64_t)BACKOFF_MS_MAX);
    }
    metric_add(M_OTLP_EXPORTS, EXPORT_FAILED, 1);
    metric_add(M_OTLP_SPANS, SPANS_DROPPED, n);
}

static void exporter_main(void *arg) {
    exporter *x = arg;
    thread_lower_priority();
    for (bool stop = false; !stop;) {
        stop = pause_ms(x, x->o.delay_ms ? x->o.delay_ms : DELAY_MS, true);
        for (size_t n; (n = take_batch(x)) > 0;) send_batch(x, n);
    }
}

err exporter_open(const export_options *o, exporter **out) {
    *out = NULL;
    exporter *x = mem_zalloc(1, sizeof *x);
    if (!x) return ERR_NO_MEMORY;
    x->o = *o;
    rng_seed(&x->jitter, clock_mono_ns());
    strbuf_init(&x->body, EXPORT_BODY_MAX);
    x->ring = mem_zalloc(EXPORT_QUEUE, sizeof *x->ring);
    x->batch = mem_zalloc(EXPORT_BATCH, sizeof *x->batch);
    err rc = x->ring && x->batch ? mutex_init(&x->mu) : ERR_NO_MEMORY;
    if (rc == OK) {
        rc = cond_init(&x->wake);
        if (rc == OK) rc = thread_start(&x->thread, "kith-export", exporter_main, x);
        if (rc == OK) {
            *out = x;
            return OK;
        }
        mutex_deinit(&x->mu);
    }
    mem_free(x->ring);
    mem_free(x->batch);
    mem_free(x);
    return rc;
}

void exporter_close(exporter *x) {
    if (!x) return;
    mutex_lock(&x->mu);
    x->stop = true;
    cond_broadcast(&x->wake);
    mutex_unlock(&x->mu);
    thread_join(&x->thread);
    cond_deinit(&x->wake);
    mutex_deinit(&x->mu);
    strbuf_deinit(&x->body);
    mem_free(x->ring);
    mem_free(x->batch);
    mem_free(x);
}
