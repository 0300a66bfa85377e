/* trace: what one request or one batch of a fold did, and when; W3C trace context in and out.
 *
 *     trace_root_begin(&r, "GET /v1/search", traceparent);        // on the thread that works
 *     span s = span_begin("search.embed");
 *     ...
 *     span_text(&s, "gen_ai.request.model", model);
 *     span_end(&s);
 *     trace_root_end(&r, ok);                                     // kept or dropped as a whole
 *
 * A trace is written into a buffer of its thread, TRACE_SPANS_MAX spans of at most TRACE_ATTRS_MAX
 * attributes; what is over that is counted and lost. At the end it is kept when it was sampled (by
 * the caller's flag, else by the ratio), when it failed, or when it is a request's and was slow. What is kept goes to a
 * ring of slow ones for people (trace_slow) and to the queue of the exporter (export.h).
 * Spans of a thread nest strictly. Text of attributes is copied, at most TRACE_TEXT_MAX bytes: never
 * a user's text, a vector or a key. Names are constants.
 *
 * A put's trace goes on behind the journal: trace_remember keeps (key, context) for a while, and
 * trace_follow adds a span to that trace from another thread.
 *
 * Threads: any; all state of a running trace is its thread's own. Nothing here blocks or allocates
 * but for a thread's first trace.
 */
#ifndef KITH_OBS_TRACE_H
#define KITH_OBS_TRACE_H

#include "base/base.h"

enum { TRACE_SPANS_MAX = 48, TRACE_ATTRS_MAX = 8, TRACE_TEXT_MAX = 48, TRACE_NAME_MAX = 48 };

typedef struct trace_id {
    uint64_t hi, lo; /* both 0: none */
} trace_id;
static inline bool trace_id_is(trace_id t) {
    return (t.hi | t.lo) != 0;
}

typedef struct trace_context {
    trace_id trace;
    uint64_t span;
    bool sampled;
} trace_context;

/* Of this thread now; trace.hi and lo are 0 outside of a trace. */
extern _Thread_local trace_context trace_here;

typedef enum span_kind {
    SPAN_INTERNAL = 1,
    SPAN_SERVER,
    SPAN_CLIENT,
    SPAN_PRODUCER,
    SPAN_CONSUMER
} span_kind;

typedef struct span_attr {
    const char *key; /* a constant */
    bool is_text;
    int64_t number;
    char text[TRACE_TEXT_MAX];
} span_attr;

typedef struct span_data {
    trace_id trace;
    uint64_t id, parent;
    trace_context link;        /* another trace that this goes on from; trace 0: none */
    uint64_t start_ns, end_ns; /* since 1970 */
    span_kind kind;
    bool failed;
    uint8_t attr_count;
    char name[TRACE_NAME_MAX];
    span_attr attrs[TRACE_ATTRS_MAX];
} span_data;

typedef struct span {
    span_data *data; /* NULL: not kept */
    uint64_t above;  /* the span around it */
} span;

/* ---- settings ---- */

typedef struct trace_options {
    double ratio;     /* of traces without a caller's decision; 0 to 1 */
    bool parent;      /* the caller's sampled flag decides */
    uint64_t slow_ns; /* kept when it took as long */
    bool off;         /* no spans at all */
} trace_options;
trace_options trace_options_default(void); /* 1 in 100, 100 ms */
void trace_options_set(const trace_options *o);
/* Where kept traces go (spans of one trace, root last); NULL: nowhere. Called on the thread of the
 * trace; must not block. */
void trace_sink_set(void (*fn)(void *ctx, const span_data *spans, size_t n), void *ctx);

/* ---- a trace ---- */

typedef struct trace_root {
    span span;
    bool nested; /* another trace was open: this is a span of it */
} trace_root;

/* `parent`: a traceparent header, empty or malformed: a new trace. */
void trace_root_begin(trace_root *r, const char *name, span_kind kind, str parent);
/* The same, and this trace goes on from another one. */
void trace_root_link(trace_root *r, const trace_context *from);
void trace_root_end(trace_root *r, bool ok);

span span_begin(const char *name);
void span_end(span *s);
void span_kind_set(span *s, span_kind kind);
void span_rename(span *s, const char *name);
void span_fail(span *s, const char *type); /* error.type */
void span_text(span *s, const char *key, str value);
void span_number(span *s, const char *key, int64_t value);
/* A span that is over: between two monotonic times. */
span span_closed(const char *name, uint64_t start_ns, uint64_t end_ns);
/* For the open trace's first span, from anywhere below it on this thread. */
void trace_root_number(const char *key, int64_t value);
void trace_root_fail(const char *type);

/* ---- context on the wire ---- */

enum { TRACEPARENT_LEN = 55 };
/* "00-<32 hex>-<16 hex>-<2 hex>"; false when it is none (version ff, zeros, wrong length). */
MUST_USE bool traceparent_parse(str s, trace_context *out);
void traceparent_format(const trace_context *c, char out[TRACEPARENT_LEN + 1]);
void trace_id_format(trace_id t, char out[33]);

/* ---- across the journal ---- */

void trace_remember(uint64_t key, const trace_context *c);
/* The context under `key`; false when none is known (any more). */
MUST_USE bool trace_recall(uint64_t key, trace_context *out);
/* One span in another trace, from start_ns (monotonic) until now, linked to this thread's trace. */
void trace_follow(const trace_context *c, const char *name, uint64_t start_ns);

/* ---- for people ---- */

enum { TRACE_RING = 32 };
/* The last traces that were slow or failed, newest first, as JSON: [{"trace_id", "spans": [...]}]. */
MUST_USE err trace_ring_json(strbuf *b, size_t limit);

typedef struct trace_stats {
    uint64_t traces, kept, spans_lost;
} trace_stats;
void trace_stats_get(trace_stats *out);

#endif
