/* metrics: counters, gauges and histograms of this process.
 *
 *     metric_add(M_SEARCHES, 0, 1);                        // one more, about a nanosecond
 *     metric_record(M_SEARCH_SECONDS, series, ns);         // one duration
 *     strbuf_init(&b, METRICS_TEXT_MAX);
 *     TRY(metrics_write(&b, METRICS_OPENMETRICS));         // what a scraper gets
 *
 * What there is stands in one table (catalog.c): name, help, kind, labels. A label is either a list
 * of words known there, or open; open ones are told by metric_series, up to the bound of the table,
 * and what comes later counts as "other". So no caller can make more series than the table allows:
 * never put an id, a query or an error's text into a label.
 *
 * Counters and histograms live in a block of cells that belongs to one thread; adding is a plain
 * load and store, without a lock and without sharing a cache line. A scrape sums the blocks. When a
 * thread ends, the next one takes over its block with the counts in it, so nothing is lost.
 * Gauges are asked for when scraped: metrics_collector_add.
 *
 * A histogram is log-linear: eight buckets to each power of two, so a quantile is at most 12.5 % too
 * high. Durations are counted in ticks of 0.05 s / 2^26, so that bounds of 50 ms and its halves and
 * doubles are exact: those are the buckets that a scraper sees.
 *
 * Threads: every call from any thread. Errors: adding never fails; without memory for a thread's
 * block its counts are lost.
 */
#ifndef KITH_OBS_METRICS_H
#define KITH_OBS_METRICS_H

#include "base/base.h"
#include "obs/catalog.h"
#include "obs/trace.h"
#include <stdatomic.h>

#define METRICS_TEXT_MAX (16 * MIB)
#define METRIC_LABEL_MAX 64 /* bytes of a label's value; longer is cut */

enum { METRIC_BUCKETS = 288, METRIC_HIST_CELLS = METRIC_BUCKETS + 1 /* and the sum */ };

typedef _Atomic uint64_t metric_cell;
extern _Thread_local metric_cell *metric_cells; /* NULL: none yet */
extern uint32_t metric_base[METRIC_COUNT];      /* first cell of each */
metric_cell *metric_cells_take(void);           /* NULL without memory */
void metric_exemplar(metric_id m, unsigned series, uint64_t value);

/* Only the owner writes its cells, so load and store need not be one step. */
static inline void metric_cell_add(metric_cell *c, uint64_t n) {
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void metric_add(metric_id m, unsigned series, uint64_t n) {
    metric_cell *c = metric_cells;
    if (UNLIKELY(!c) && !(c = metric_cells_take())) return;
    metric_cell_add(c + metric_base[m] + series, n);
}

static inline size_t metric_bucket(uint64_t v) {
    if (v < 8) return (size_t)v;
    unsigned power = 63u - (unsigned)__builtin_clzll(v);
    size_t b = (size_t)(power - 2) * 8 + (size_t)((v >> (power - 3)) & 7);
    return MIN(b, (size_t)METRIC_BUCKETS - 1);
}

/* Nanoseconds to ticks: times 2^26 / 5e7. */
static inline uint64_t metric_ticks(uint64_t ns) {
    __extension__ typedef unsigned __int128 wide;
    return ns + (uint64_t)(((wide)ns * 6312056711998053881u) >> 64);
}

/* A value: nanoseconds where the table says seconds, else as it is. */
static inline void metric_record(metric_id m, unsigned series, uint64_t value) {
    metric_cell *c = metric_cells;
    if (UNLIKELY(!c) && !(c = metric_cells_take())) return;
    c += metric_base[m] + (size_t)series * METRIC_HIST_CELLS;
    uint64_t v = m < METRIC_FIRST_PLAIN_HISTOGRAM ? metric_ticks(value) : value;
    metric_cell_add(c + metric_bucket(v), 1);
    metric_cell_add(c + METRIC_BUCKETS, value);
    if (UNLIKELY(trace_here.sampled)) metric_exemplar(m, series, value);
}

/* The number of a series with open labels; `values` are as many as the table names. */
unsigned metric_series(metric_id m, const char *const *values);

/* ---- gauges, and counters that others keep ---- */

typedef struct metric_out metric_out;
/* Gives one value during a collector's call; `values` as in metric_series, NULL without labels. */
void metric_give(metric_out *out, metric_id m, const char *const *values, double value);
typedef void (*metric_collector)(void *ctx, metric_out *out);
/* At most METRIC_COLLECTORS_MAX, else ERR_TOO_LARGE. Removing waits for a scrape that runs. */
#define METRIC_COLLECTORS_MAX 16
MUST_USE err metrics_collector_add(metric_collector fn, void *ctx);
void metrics_collector_remove(metric_collector fn, void *ctx);

/* ---- reading ---- */

typedef enum metrics_format { METRICS_PROMETHEUS, METRICS_OPENMETRICS } metrics_format;
/* What an Accept header asks for; Prometheus' text when it says nothing of it. */
metrics_format metrics_format_of(str accept);
const char *metrics_media_type(metrics_format f);
MUST_USE err metrics_write(strbuf *b, metrics_format f);

/* Sums of a histogram's series `first` to `first + n - 1`. */
typedef struct metric_view {
    uint64_t buckets[METRIC_BUCKETS];
    uint64_t count, sum;
} metric_view;
void metric_look(metric_id m, unsigned first, unsigned n, metric_view *out);
/* The upper bound of the bucket in which the share q is reached, in the unit of the table (seconds
 * for durations); 0 when empty. `before` (may be NULL) is an older look: only what came since. */
double metric_quantile(metric_id m, const metric_view *v, const metric_view *before, double q);
uint64_t metric_total(metric_id m, unsigned first, unsigned n); /* of a counter */
unsigned metric_series_count(metric_id m);                      /* that may be used */

#endif
