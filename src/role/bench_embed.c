/* Measuring the encoder as a user of the command line would.
 *
 * Two clocks: processor time for throughput, which is what a core can do however busy the machine
 * is, and wall time for latency, which is what a caller waits. Times of batches are kept whole and
 * sorted, so the percentiles are exact; the last batch counts only when it is full or the only one.
 * All memory is taken before the clock starts; the loop itself allocates nothing.
 */
#include "role/bench_embed.h"
#include "os/clock.h"

#include <stdlib.h>

typedef struct texts {
    str *items;
    size_t count, cap;
} texts;

typedef struct measured {
    uint64_t *batch_ns; /* wall, one a full batch */
    size_t batches;
    uint64_t cpu_ns;
    encode_stats stats;
} measured;

static err texts_split(str lines, texts *t) {
    str rest = lines, line;
    while (rest.len && str_split(&rest, '\n', &line)) {
        if (str_ends(line, STR("\r"))) line.len--;
        TRY(mem_grow((void **)&t->items, &t->cap, t->count + 1, sizeof line,
                     BENCH_EMBED_TEXTS_MAX));
        t->items[t->count++] = line;
    }
    return t->count ? OK : err_set_field(ERR_INVALID, "texts", "expected at least one line");
}

static int ns_order(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static err batches_run(const encode_model *m, const texts *t, size_t batch, float *vectors,
                       measured *out) {
    encode_scratch *s;
    encode_stats warm = {0};
    TRY(encode_scratch_open(m, &s));
    err rc = encode_batch(m, s, t->items, MIN(batch, t->count), vectors, &warm);
    uint64_t cpu = clock_thread_cpu_ns();
    for (size_t at = 0; rc == OK && at < t->count; at += batch) {
        size_t n = MIN(batch, t->count - at);
        uint64_t from = clock_mono_ns();
        rc = encode_batch(m, s, t->items + at, n, vectors, &out->stats);
        if (n == batch || at == 0) out->batch_ns[out->batches++] = clock_mono_ns() - from;
    }
    out->cpu_ns = clock_thread_cpu_ns() - cpu;
    encode_scratch_close(s);
    return rc;
}

static void report(const encode_model *m, size_t batch, measured *r, strbuf *out) {
    qsort(r->batch_ns, r->batches, sizeof *r->batch_ns, ns_order);
    double seconds = (double)MAX(r->cpu_ns, 1) / 1e9;
    strbuf_addf(out, "{\"texts\":%llu,\"tokens\":%llu,\"batch\":%zu,",
                (unsigned long long)r->stats.texts, (unsigned long long)r->stats.tokens, batch);
    strbuf_addf(out, "\"precision\":\"%s\",\"kernels\":\"%s\",\"tokens_per_s\":%.1f,",
                encode_precision_name(encode_precision_of(m)), encode_kernels(m),
                (double)r->stats.tokens / seconds);
    strbuf_addf(out, "\"p50_ms\":%.4f,\"p99_ms\":%.4f}",
                (double)r->batch_ns[(r->batches - 1) / 2] / 1e6,
                (double)r->batch_ns[(r->batches - 1) * 99 / 100] / 1e6);
}

err bench_embed_run(const encode_model *m, str lines, size_t batch, strbuf *out) {
    texts t = {0};
    measured r = {0};
    float *vectors = NULL;
    err rc = OK;
    if (batch < 1 || batch > BENCH_EMBED_BATCH_MAX)
        return err_set_field(ERR_INVALID, "batch", "expected 1 to %d", BENCH_EMBED_BATCH_MAX);
    TRY_GOTO(texts_split(lines, &t));
    vectors = mem_alloc(MIN(batch, t.count) * encode_dim(m) * sizeof *vectors);
    r.batch_ns = mem_alloc((t.count / batch + 1) * sizeof *r.batch_ns);
    rc = vectors && r.batch_ns ? OK : ERR_NO_MEMORY;
    if (rc == OK) rc = batches_run(m, &t, batch, vectors, &r);
    if (rc == OK) {
        report(m, batch, &r, out);
        rc = out->rc;
    }
done:
    mem_free(vectors);
    mem_free(r.batch_ns);
    mem_free(t.items);
    return rc;
}
