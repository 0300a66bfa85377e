/* What a scraper gets: the catalogue in its order, each metric with HELP and TYPE, then its series.
 *
 * Prometheus' text (0.0.4) and OpenMetrics (1.0.0) differ in little: OpenMetrics names a counter's
 * family without _total, gives _created, carries exemplars on buckets and ends with # EOF. Collectors
 * are asked first and their values kept, so that each family stands together whoever gave it.
 *
 * Series that never counted are shown when their labels are few and fixed (a rate from 0 to 1 is only
 * seen when the 0 was), histograms only when they counted: 19 lines each.
 */
#include "obs/metrics.h"
#include "obs/metrics_int.h"
#include "os/os.h"

#include <math.h>
#include <stdio.h>

enum { SAMPLES_MAX = 512, BOUND_BYTES = 24 };

typedef struct sample {
    metric_id m;
    char *labels; /* owned; NULL: none */
    double value;
} sample;

struct metric_out {
    sample items[SAMPLES_MAX];
    size_t count;
};

void metric_give(metric_out *out, metric_id m, const char *const *values, double value) {
    KITH_ASSERT(m >= METRIC_FIRST_GIVEN && m < METRIC_COUNT);
    if (out->count == SAMPLES_MAX) return;
    sample *s = &out->items[out->count];
    *s = (sample){m, NULL, value};
    if (metric_catalog[m].labels[0].name) {
        strbuf b;
        KITH_ASSERT(values);
        strbuf_init(&b, KIB);
        metrics_labels(&b, m, values);
        s->labels = strbuf_take(&b);
        if (!s->labels) return;
    }
    out->count++;
}

/* ---- text -------------------------------------------------------------------------------------- */

typedef struct text {
    strbuf *b;
    strbuf head; /* scratch */
    char bounds[2][METRIC_BOUNDS][BOUND_BYTES];
    bool open;        /* OpenMetrics */
    double created_s; /* of all: the process began to count then */
    metric_exemplar_slot *exemplars;
} text;

static double started_s(void) {
    static _Atomic int64_t at_ms;
    int64_t ms = atomic_load_explicit(&at_ms, memory_order_relaxed), now = clock_wall_ms();
    if (!ms && atomic_compare_exchange_strong(&at_ms, &ms, now)) ms = now;
    return (double)ms / 1000;
}

static void add_u64(strbuf *b, uint64_t v) {
    char digits[20];
    size_t n = sizeof digits;
    do digits[--n] = (char)('0' + v % 10);
    while ((v /= 10) != 0);
    strbuf_add(b, str_from(digits + n, sizeof digits - n));
}

static void add_number(strbuf *b, double v) {
    if (isinf(v))
        strbuf_addz(b, v > 0 ? "+Inf" : "-Inf");
    else if (isnan(v))
        strbuf_addz(b, "NaN");
    else if (v >= 0 && v == floor(v) && v < 1e15)
        add_u64(b, (uint64_t)v);
    else
        strbuf_addf(b, "%.12g", v);
}

/* The family's name: without _total in OpenMetrics. */
static str family(const text *t, metric_id m, bool counter) {
    str name = str_of(metric_catalog[m].name);
    if (t->open && counter && str_ends(name, STR("_total"))) name.len -= sizeof "_total" - 1;
    return name;
}

static void add_head(text *t, metric_id m, const char *type) {
    str name = family(t, m, strcmp(type, "counter") == 0);
    strbuf_addf(t->b, "# HELP " STR_FMT " ", STR_ARG(name));
    for (const char *p = metric_catalog[m].help; *p; p++) {
        if (t->open && *p == '"') strbuf_addc(t->b, '\\');
        strbuf_addc(t->b, *p);
    }
    strbuf_addf(t->b, "\n# TYPE " STR_FMT " %s\n", STR_ARG(name), type);
}

/* NAME{labels,extra} VALUE */
static void add_line(text *t, const char *name, const char *tail, const char *labels, double v) {
    strbuf_addz(t->b, name);
    strbuf_addz(t->b, tail);
    if (labels && labels[0]) {
        strbuf_addc(t->b, '{');
        strbuf_addz(t->b, labels);
        strbuf_addc(t->b, '}');
    }
    strbuf_addc(t->b, ' ');
    add_number(t->b, v);
    strbuf_addc(t->b, '\n');
}

static void add_created(text *t, metric_id m, const char *labels, bool counter) {
    if (!t->open) return;
    strbuf_add(t->b, family(t, m, counter));
    strbuf_addz(t->b, "_created");
    if (labels[0]) strbuf_addf(t->b, "{%s}", labels);
    strbuf_addf(t->b, " %.3f\n", t->created_s);
}

/* The labels of one series into `out`. */
static void labels_of(metric_id m, unsigned series, strbuf *out) {
    const metric_info *info = &metric_catalog[m];
    const char *values[METRIC_LABELS_MAX] = {"other", "other", "other"};
    strbuf_reset(out);
    if (metric_is_open(m)) {
        if (series)
            strbuf_addz(out, metrics_state_get()->open[m].items[series - 1].labels);
        else
            metrics_labels(out, m, values);
        return;
    }
    for (unsigned l = METRIC_LABELS_MAX; l-- > 0;) {
        if (!info->labels[l].name) continue;
        unsigned n = metric_words(&info->labels[l]);
        values[l] = info->labels[l].words[series % n];
        series /= n;
    }
    metrics_labels(out, m, values);
}

static void add_exemplar(text *t, metric_id m, unsigned series, unsigned bound) {
    if (!t->open || !t->exemplars) return;
    size_t at = metrics_state_get()->exemplar_base[m] + series * METRIC_EXEMPLARS + bound;
    metric_exemplar_slot *s = &t->exemplars[at];
    if (atomic_exchange_explicit(&s->busy, true, memory_order_acquire)) return;
    trace_id id = s->trace;
    double v = m < METRIC_FIRST_PLAIN_HISTOGRAM ? (double)s->value / 1e9 : (double)s->value;
    int64_t ms = s->at_ms;
    atomic_store_explicit(&s->busy, false, memory_order_release);
    if (!trace_id_is(id)) return;
    char hex[33];
    trace_id_format(id, hex);
    strbuf_addf(t->b, " # {trace_id=\"%s\"} %.9g %lld.%03d", hex, v, (long long)(ms / 1000),
                (int)(ms % 1000));
}

/* Bounds as text: the same 2 x METRIC_BOUNDS in every scrape, and printing doubles is what costs most. */
static void make_bounds(text *t) {
    for (unsigned i = 0; i < METRIC_BOUNDS; i++) {
        snprintf(t->bounds[0][i], BOUND_BYTES, "%.15g",
                 ldexp(METRIC_TICK_S, (int)(METRIC_FIRST_BOUND + i)));
        snprintf(t->bounds[1][i], BOUND_BYTES, "%.0f", ldexp(1, (int)i + 1) - 1);
    }
}

static void add_bucket(text *t, str head, const char *le, uint64_t seen) {
    strbuf_add(t->b, head);
    strbuf_addz(t->b, le);
    strbuf_add(t->b, STR("\"} "));
    add_u64(t->b, seen);
}

static void add_buckets(text *t, metric_id m, unsigned series, const metric_view *v,
                        const char *labels) {
    bool time = m < METRIC_FIRST_PLAIN_HISTOGRAM;
    size_t b = 0;
    uint64_t seen = 0;
    strbuf_reset(&t->head);
    strbuf_addf(&t->head, "%s_bucket{%s%sle=\"", metric_catalog[m].name, labels,
                labels[0] ? "," : "");
    str head = strbuf_str(&t->head);
    for (unsigned i = 0; i < METRIC_BOUNDS; i++) {
        unsigned power = (time ? METRIC_FIRST_BOUND : 1) + i;
        size_t end = power < 3 ? (size_t)1 << power : (size_t)(power - 2) * 8;
        for (; b < end; b++) seen += v->buckets[b];
        add_bucket(t, head, t->bounds[!time][i], seen);
        add_exemplar(t, m, series, i);
        strbuf_addc(t->b, '\n');
    }
    add_bucket(t, head, "+Inf", v->count);
    add_exemplar(t, m, series, METRIC_BOUNDS);
    strbuf_addc(t->b, '\n');
}

static void add_histogram(text *t, metric_id m, strbuf *labels) {
    const char *name = metric_catalog[m].name;
    unsigned n = metric_series_count(m);
    bool plain = !metric_catalog[m].labels[0].name;
    metric_view v;
    add_head(t, m, "histogram");
    for (unsigned s = 0; s < n; s++) {
        metric_look(m, s, 1, &v);
        if (!v.count && !plain) continue;
        labels_of(m, s, labels);
        const char *l = labels->ptr ? labels->ptr : "";
        if (!labels->len) l = "";
        add_buckets(t, m, s, &v, l);
        add_line(t, name, "_sum", l,
                 m < METRIC_FIRST_PLAIN_HISTOGRAM ? (double)v.sum / 1e9 : (double)v.sum);
        add_line(t, name, "_count", l, (double)v.count);
        add_created(t, m, l, false);
    }
}

static void add_counter(text *t, metric_id m, strbuf *labels) {
    unsigned n = metric_series_count(m);
    add_head(t, m, "counter");
    for (unsigned s = 0; s < n; s++) {
        uint64_t v = metric_total(m, s, 1);
        if (s == 0 && !v && metric_is_open(m)) continue;
        labels_of(m, s, labels);
        const char *l = labels->len ? labels->ptr : "";
        add_line(t, metric_catalog[m].name, "", l, (double)v);
        add_created(t, m, l, true);
    }
}

static void add_given(text *t, metric_id m, const metric_out *out) {
    bool first = true, counter = metric_catalog[m].counter;
    for (size_t i = 0; i < out->count; i++) {
        const sample *s = &out->items[i];
        if (s->m != m) continue;
        if (first) add_head(t, m, counter ? "counter" : "gauge");
        first = false;
        add_line(t, metric_catalog[m].name, "", s->labels, s->value);
    }
}

static void collect_all(metric_out *out) {
    metrics_state *st = metrics_state_get();
    metrics_lock(&st->collect_lock);
    for (size_t i = 0; i < st->collector_count; i++)
        st->collectors[i].fn(st->collectors[i].ctx, out);
    metrics_unlock(&st->collect_lock);
    trace_stats ts;
    trace_stats_get(&ts);
    metric_give(out, M_TRACES, (const char *const[]){"kept"}, (double)ts.kept);
    metric_give(out, M_TRACES, (const char *const[]){"dropped"}, (double)(ts.traces - ts.kept));
    metric_give(out, M_TRACE_SPANS_LOST, NULL, (double)ts.spans_lost);
    metric_give(out, M_SERIES_OTHER, NULL,
                (double)atomic_load_explicit(&st->others, memory_order_relaxed));
    metric_give(out, M_HEAP_BYTES, NULL, (double)mem_live_bytes());
}

err metrics_write(strbuf *b, metrics_format f) {
    metric_out *out = mem_zalloc(1, sizeof *out);
    strbuf labels;
    if (!out) return ERR_NO_MEMORY;
    if (!metric_cells && !metric_cells_take()) { /* lays the cells out */
        mem_free(out);
        return ERR_NO_MEMORY;
    }
    strbuf_init(&labels, 4 * KIB);
    collect_all(out);
    text t = {.b = b, .open = f == METRICS_OPENMETRICS, .created_s = started_s()};
    strbuf_init(&t.head, 4 * KIB);
    make_bounds(&t);
    t.exemplars = atomic_load_explicit(&metrics_state_get()->exemplars, memory_order_acquire);
    for (metric_id m = 0; m < METRIC_COUNT; m++) {
        if (m < METRIC_FIRST_COUNTER)
            add_histogram(&t, m, &labels);
        else if (m < METRIC_FIRST_GIVEN)
            add_counter(&t, m, &labels);
        else
            add_given(&t, m, out);
    }
    if (t.open) strbuf_addz(b, "# EOF\n");
    for (size_t i = 0; i < out->count; i++) mem_free(out->items[i].labels);
    mem_free(out);
    err rc = labels.rc != OK ? labels.rc : t.head.rc != OK ? t.head.rc : b->rc;
    strbuf_deinit(&labels);
    strbuf_deinit(&t.head);
    return rc;
}

/* ---- which form -------------------------------------------------------------------------------- */

/* The weight of a media type in an Accept header, 0 to 1. */
static double weight_of(str accept, str type) {
    str part;
    while (str_split(&accept, ',', &part)) {
        str item = part, field;
        if (!str_split(&item, ';', &field) || !str_eq_nocase(str_trim(field), type)) continue;
        double q = 1;
        while (str_split(&item, ';', &field)) {
            field = str_trim(field);
            if (str_starts(field, STR("q=")) && !str_to_f64(str_skip(field, 2), &q)) q = 0;
        }
        return q;
    }
    return 0;
}

metrics_format metrics_format_of(str accept) {
    double open = weight_of(accept, STR("application/openmetrics-text"));
    return open > 0 && open >= weight_of(accept, STR("text/plain")) ? METRICS_OPENMETRICS
                                                                    : METRICS_PROMETHEUS;
}

const char *metrics_media_type(metrics_format f) {
    return f == METRICS_OPENMETRICS ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                    : "text/plain; version=0.0.4; charset=utf-8";
}
