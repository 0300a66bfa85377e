/* Cells and their owners.
 *
 * One block of cells holds all counters and histograms of the catalogue; a thread takes a block at its
 * first count and gives it back at its end, with the counts in it. A value is the sum over all blocks,
 * so blocks are never emptied and a reader needs no lock: cells are relaxed atomics, written by one
 * thread each. Blocks are large (METRIC_HIST_CELLS words a series of a histogram) but zero pages that
 * nobody writes cost nothing.
 *
 * Invariants: (1) blocks[i] is set once and lives as long as the process; (2) a block has at most one
 * owner (`taken`, acquire and release); (3) an open label's text is written before its count is raised
 * (release, paired with the acquire of readers); (4) series 0 of a metric with open labels is "other".
 *
 * This is the one module with process-wide state, like the log: what counts is everywhere, and to
 * carry a registry through every call would cost more than it tells.
 */
#include "obs/metrics.h"

#include "obs/metrics_int.h"
#include "os/os.h"

#include <sched.h>

_Thread_local metric_cell *metric_cells;
uint32_t metric_base[METRIC_COUNT];

static metrics_state state;

metrics_state *metrics_state_get(void) {
    return &state;
}

void metrics_lock(atomic_bool *lock) {
    while (atomic_exchange_explicit(lock, true, memory_order_acquire)) sched_yield();
}
void metrics_unlock(atomic_bool *lock) {
    atomic_store_explicit(lock, false, memory_order_release);
}

/* ---- the table --------------------------------------------------------------------------------- */

bool metric_is_open(metric_id m) {
    const metric_info *i = &metric_catalog[m];
    return i->labels[0].name && i->open_max;
}

unsigned metric_words(const metric_label *l) {
    unsigned n = 0;
    while (n < METRIC_WORDS_MAX && l->words[n]) n++;
    return n;
}

unsigned metric_series_count(metric_id m) {
    const metric_info *i = &metric_catalog[m];
    if (metric_is_open(m))
        return 1 + atomic_load_explicit(&state.open[m].count, memory_order_acquire);
    unsigned n = 1;
    for (unsigned l = 0; l < METRIC_LABELS_MAX && i->labels[l].name; l++)
        n *= metric_words(&i->labels[l]);
    return n;
}

static void lay_out(void) {
    uint32_t at = 0;
    for (metric_id m = 0; m < METRIC_COUNT; m++) {
        uint32_t series =
            metric_is_open(m) ? metric_catalog[m].open_max + 1u : metric_series_count(m);
        metric_base[m] = at;
        state.exemplar_base[m] = state.exemplar_count;
        if (m < METRIC_FIRST_COUNTER) {
            at += series * METRIC_HIST_CELLS;
            state.exemplar_count += series * METRIC_EXEMPLARS;
        } else if (m < METRIC_FIRST_GIVEN) {
            at += series;
        }
    }
    state.cells = at;
}

/* ---- blocks ------------------------------------------------------------------------------------ */

static _Thread_local unsigned my_block;

static void give_back(void) {
    metric_cells = NULL;
    atomic_store_explicit(&state.blocks[my_block].taken, false, memory_order_release);
}

metric_cell *metric_cells_take(void) {
    metrics_lock(&state.lock);
    if (!state.cells) lay_out();
    unsigned i = 0;
    while (i < METRIC_BLOCKS_MAX &&
           atomic_load_explicit(&state.blocks[i].taken, memory_order_acquire))
        i++;
    metric_cell *c = NULL;
    if (i < METRIC_BLOCKS_MAX) {
        metric_block *b = &state.blocks[i];
        c = atomic_load_explicit(&b->cells, memory_order_relaxed);
        if (!c) c = mem_zalloc(state.cells, sizeof *c);
        if (c) {
            atomic_store_explicit(&b->cells, c, memory_order_release);
            atomic_store_explicit(&b->taken, true, memory_order_relaxed);
        }
    }
    metrics_unlock(&state.lock);
    if (!c) return NULL;
    my_block = i;
    metric_cells = c;
    thread_on_exit(give_back);
    return c;
}

uint64_t metrics_cell_sum(size_t cell) {
    uint64_t n = 0;
    for (unsigned i = 0; i < METRIC_BLOCKS_MAX; i++) {
        metric_cell *c = atomic_load_explicit(&state.blocks[i].cells, memory_order_acquire);
        if (!c) break;
        n += atomic_load_explicit(c + cell, memory_order_relaxed);
    }
    return n;
}

/* ---- open labels ------------------------------------------------------------------------------- */

static void add_label(strbuf *b, const char *name, const char *value) {
    strbuf_addf(b, "%s%s=\"", b->len ? "," : "", name);
    size_t len = strlen(value);
    if (len > METRIC_LABEL_MAX) len = METRIC_LABEL_MAX;
    size_t bad;
    if (!utf8_valid(str_from(value, len), &bad)) len = bad;
    for (size_t i = 0; i < len; i++) {
        char c = value[i];
        if (c == '\\' || c == '"')
            strbuf_addf(b, "\\%c", c);
        else if (c == '\n')
            strbuf_addz(b, "\\n");
        else
            strbuf_addc(b, c);
    }
    strbuf_addc(b, '"');
}

void metrics_labels(strbuf *b, metric_id m, const char *const *values) {
    const metric_label *l = metric_catalog[m].labels;
    for (unsigned i = 0; i < METRIC_LABELS_MAX && l[i].name; i++)
        add_label(b, l[i].name, values[i] ? values[i] : "");
}

static uint64_t hash_values(metric_id m, const char *const *values) {
    const metric_label *l = metric_catalog[m].labels;
    uint64_t h = 1;
    for (unsigned i = 0; i < METRIC_LABELS_MAX && l[i].name; i++)
        h = hash64(values[i] ? values[i] : "", values[i] ? strlen(values[i]) : 0, h);
    return h;
}

static unsigned find_series(const metric_open *o, uint64_t hash, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (o->items[i].hash == hash) return i + 1;
    return 0;
}

static unsigned add_series(metric_id m, metric_open *o, uint64_t hash, const char *const *values) {
    unsigned n = atomic_load_explicit(&o->count, memory_order_relaxed);
    unsigned at = find_series(o, hash, n); /* another thread may have been first */
    if (at) return at;
    strbuf b;
    if (n == metric_catalog[m].open_max) return 0;
    strbuf_init(&b, KIB);
    metrics_labels(&b, m, values);
    char *text = strbuf_take(&b);
    if (!text) return 0;
    o->items[n] = (metric_open_item){hash, text};
    atomic_store_explicit(&o->count, n + 1, memory_order_release);
    return n + 1;
}

unsigned metric_series(metric_id m, const char *const *values) {
    metric_open *o = &state.open[m];
    uint64_t hash = hash_values(m, values);
    unsigned at = find_series(o, hash, atomic_load_explicit(&o->count, memory_order_acquire));
    if (at) return at;
    metrics_lock(&state.open_lock);
    at = add_series(m, o, hash, values);
    metrics_unlock(&state.open_lock);
    if (!at) atomic_fetch_add_explicit(&state.others, 1, memory_order_relaxed);
    return at;
}

/* ---- exemplars --------------------------------------------------------------------------------- */

void metric_exemplar(metric_id m, unsigned series, uint64_t value) {
    metric_exemplar_slot *all = atomic_load_explicit(&state.exemplars, memory_order_acquire);
    if (!all) {
        metrics_lock(&state.lock);
        all = atomic_load_explicit(&state.exemplars, memory_order_relaxed);
        if (!all) all = mem_zalloc(state.exemplar_count, sizeof *all);
        atomic_store_explicit(&state.exemplars, all, memory_order_release);
        metrics_unlock(&state.lock);
    }
    if (!all) return;
    uint64_t v = m < METRIC_FIRST_PLAIN_HISTOGRAM ? metric_ticks(value) : value;
    metric_exemplar_slot *s =
        &all[state.exemplar_base[m] + series * METRIC_EXEMPLARS + metrics_bound_of(m, v)];
    if (atomic_exchange_explicit(&s->busy, true, memory_order_acquire)) return; /* one is enough */
    s->trace = trace_here.trace;
    s->value = value;
    s->at_ms = clock_wall_ms();
    atomic_store_explicit(&s->busy, false, memory_order_release);
}

/* ---- looking ----------------------------------------------------------------------------------- */

/* Adds one thread's counts. Most threads have none of most series, which two cells tell: a value above 0
 * is in the sum, and a 0 is in the first bucket. */
static void look_block(const metric_cell *h, metric_view *out) {
    uint64_t sum = atomic_load_explicit(h + METRIC_BUCKETS, memory_order_relaxed);
    if (!sum && !atomic_load_explicit(h, memory_order_relaxed)) return;
    out->sum += sum;
    for (size_t b = 0; b < METRIC_BUCKETS; b++) {
        uint64_t c = atomic_load_explicit(h + b, memory_order_relaxed);
        out->buckets[b] += c;
        out->count += c;
    }
}

void metric_look(metric_id m, unsigned first, unsigned n, metric_view *out) {
    *out = (metric_view){.count = 0};
    if (!metric_cells && !metric_cells_take()) return; /* lays the cells out */
    for (unsigned i = 0; i < METRIC_BLOCKS_MAX; i++) {
        metric_cell *c = atomic_load_explicit(&state.blocks[i].cells, memory_order_acquire);
        if (!c) break;
        for (unsigned s = first; s < first + n; s++)
            look_block(c + metric_base[m] + (size_t)s * METRIC_HIST_CELLS, out);
    }
}

/* The first value that is above a bucket. */
static double bucket_end(size_t b) {
    if (b < 8) return (double)b + 1;
    unsigned power = (unsigned)(b / 8) + 2;
    return (double)((8 + b % 8 + 1) << (power - 3));
}

double metric_quantile(metric_id m, const metric_view *v, const metric_view *before, double q) {
    uint64_t total = v->count - (before ? before->count : 0), seen = 0;
    if (!total) return 0;
    double want = q * (double)total, end = 0;
    for (size_t b = 0; b < METRIC_BUCKETS; b++) {
        uint64_t c = v->buckets[b] - (before ? before->buckets[b] : 0);
        seen += c;
        end = bucket_end(b);
        if (c && (double)seen >= want) break;
    }
    return m < METRIC_FIRST_PLAIN_HISTOGRAM ? end * METRIC_TICK_S : end - 1;
}

uint64_t metric_total(metric_id m, unsigned first, unsigned n) {
    uint64_t sum = 0;
    if (!metric_cells && !metric_cells_take()) return 0;
    for (unsigned s = first; s < first + n; s++) sum += metrics_cell_sum(metric_base[m] + s);
    return sum;
}

/* ---- collectors -------------------------------------------------------------------------------- */

err metrics_collector_add(metric_collector fn, void *ctx) {
    metrics_lock(&state.collect_lock);
    bool room = state.collector_count < METRIC_COLLECTORS_MAX;
    if (room) state.collectors[state.collector_count++] = (collector){fn, ctx};
    metrics_unlock(&state.collect_lock);
    return room ? OK : err_set(ERR_TOO_LARGE, "more than %d collectors", METRIC_COLLECTORS_MAX);
}

void metrics_collector_remove(metric_collector fn, void *ctx) {
    metrics_lock(&state.collect_lock);
    for (size_t i = 0; i < state.collector_count; i++)
        if (state.collectors[i].fn == fn && state.collectors[i].ctx == ctx) {
            state.collectors[i] = state.collectors[--state.collector_count];
            break;
        }
    metrics_unlock(&state.collect_lock);
}
