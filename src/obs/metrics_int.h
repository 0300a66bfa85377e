/* Inside of obs/: the cells, and what the text of a scrape is made from. */
#ifndef KITH_OBS_METRICS_INT_H
#define KITH_OBS_METRICS_INT_H

#include "obs/metrics.h"

#define METRIC_TICK_S (0.05 / 67108864.0)

enum {
    METRIC_BLOCKS_MAX = 512, /* threads at one time */
    METRIC_BOUNDS = 19,      /* buckets that a scraper sees, without +Inf */
    METRIC_EXEMPLARS = METRIC_BOUNDS + 1,
    METRIC_FIRST_BOUND = 16 /* durations: 2^16 ticks, 0.05 s / 2^10, about 49 microseconds */
};

typedef struct metric_block {
    _Atomic(metric_cell *) cells;
    atomic_bool taken;
} metric_block;

typedef struct metric_open_item {
    uint64_t hash;
    char *labels; /* a="x",b="y" */
} metric_open_item;

typedef struct metric_open {
    atomic_uint count;
    metric_open_item items[METRIC_SERIES_MAX];
} metric_open;

typedef struct metric_exemplar_slot {
    atomic_bool busy;
    trace_id trace;
    uint64_t value;
    int64_t at_ms;
} metric_exemplar_slot;

typedef struct collector {
    metric_collector fn;
    void *ctx;
} collector;

typedef struct metrics_state {
    atomic_bool lock; /* guards taking a block and laying out */
    size_t cells;
    metric_block blocks[METRIC_BLOCKS_MAX];
    uint32_t exemplar_base[METRIC_COUNT], exemplar_count;
    _Atomic(metric_exemplar_slot *) exemplars;
    atomic_bool open_lock; /* guards adding to `open` */
    metric_open open[METRIC_COUNT];
    _Atomic uint64_t others;
    atomic_bool collect_lock; /* guards collectors; held during a scrape */
    collector collectors[METRIC_COLLECTORS_MAX];
    size_t collector_count;
} metrics_state;

metrics_state *metrics_state_get(void);
void metrics_lock(atomic_bool *lock);
void metrics_unlock(atomic_bool *lock);
bool metric_is_open(metric_id m);
unsigned metric_words(const metric_label *l); /* how many it may be; 0: open */
uint64_t metrics_cell_sum(size_t cell);
void metrics_labels(strbuf *b, metric_id m, const char *const *values);

/* The exposed bucket that a value (in ticks, for durations) falls in; METRIC_BOUNDS: +Inf.
 * Durations: value < 2^(16 + i) ticks; others: value <= 2^(i + 1) - 1. */
static inline unsigned metrics_bound_of(metric_id m, uint64_t v) {
    unsigned power = v ? 64u - (unsigned)__builtin_clzll(v) : 0; /* v < 2^power */
    unsigned first = m < METRIC_FIRST_PLAIN_HISTOGRAM ? METRIC_FIRST_BOUND : 1;
    if (power <= first) return 0;
    return MIN(power - first, (unsigned)METRIC_BOUNDS);
}

#endif
