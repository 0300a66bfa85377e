/* Traces of a thread, and what is kept of them.
 *
 * Every span is written, whether its trace is sampled or not, because only the end tells whether it
 * failed or was slow: two clock reads and about 60 bytes. Keeping one is a copy of its spans under a
 * lock that is only tried: the ring is for people and may miss one, a request never waits for it.
 *
 * Identifiers come from a generator of each thread, seeded by the system: unique, not secret.
 * Invariants: (1) spans[0] is the root; (2) trace_here.span is the innermost open span; (3) a span
 * belongs to the thread that began it.
 */
#include "obs/trace.h"

#include "os/os.h"

#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

enum { REMEMBERED = 2048, RING_KINDS = 2 };

_Thread_local trace_context trace_here;

typedef struct buffer {
    rng ids;
    int64_t wall; /* wall minus monotonic, of this trace */
    uint32_t count;
    uint64_t lost;
    span_data spans[TRACE_SPANS_MAX];
} buffer;
static _Thread_local buffer *mine;

typedef struct ring_item {
    uint32_t count;
    uint64_t order;
    span_data spans[TRACE_SPANS_MAX];
} ring_item;

typedef struct remembered {
    atomic_bool busy;
    uint64_t key;
    trace_context at;
} remembered;

#define RATIO_DEFAULT   0.01
#define SLOW_NS_DEFAULT 100000000u

static struct {
    _Atomic double ratio;
    atomic_bool parent, off;
    _Atomic uint64_t slow_ns;
    _Atomic uint64_t traces, kept, lost;
    void (*sink)(void *ctx, const span_data *spans, size_t n); /* set before threads start */
    void *sink_ctx;
    atomic_bool ring_busy;        /* guards the rings */
    ring_item *rings[RING_KINDS]; /* slow or failed; sampled */
    uint64_t order;
    remembered keys[REMEMBERED];
} state = {.ratio = RATIO_DEFAULT, .parent = true, .slow_ns = SLOW_NS_DEFAULT};

/* ---- settings ---------------------------------------------------------------------------------- */

trace_options trace_options_default(void) {
    return (trace_options){.ratio = RATIO_DEFAULT, .parent = true, .slow_ns = SLOW_NS_DEFAULT};
}

void trace_options_set(const trace_options *o) {
    atomic_store_explicit(&state.ratio, o->ratio, memory_order_relaxed);
    atomic_store_explicit(&state.parent, o->parent, memory_order_relaxed);
    atomic_store_explicit(&state.off, o->off, memory_order_relaxed);
    atomic_store_explicit(&state.slow_ns, o->slow_ns, memory_order_relaxed);
}

void trace_sink_set(void (*fn)(void *ctx, const span_data *spans, size_t n), void *ctx) {
    state.sink = fn;
    state.sink_ctx = ctx;
}

void trace_stats_get(trace_stats *out) {
    out->traces = atomic_load_explicit(&state.traces, memory_order_relaxed);
    out->kept = atomic_load_explicit(&state.kept, memory_order_relaxed);
    out->spans_lost = atomic_load_explicit(&state.lost, memory_order_relaxed);
}

/* ---- the ring ---------------------------------------------------------------------------------- */

static bool same_trace(trace_id a, trace_id b) {
    return a.hi == b.hi && a.lo == b.lo;
}

/* Where the spans of this trace go: beside those that are there, else over the oldest. */
static ring_item *ring_place(unsigned kind, trace_id id) {
    ring_item *oldest = NULL;
    for (unsigned k = 0; k < RING_KINDS; k++)
        for (unsigned i = 0; state.rings[k] && i < TRACE_RING; i++) {
            ring_item *r = &state.rings[k][i];
            if (r->count && same_trace(r->spans[0].trace, id)) return r;
            if (k == kind && (!oldest || r->order < oldest->order)) oldest = r;
        }
    oldest->count = 0;
    return oldest;
}

static void ring_keep(unsigned kind, const span_data *spans, size_t n) {
    if (atomic_exchange_explicit(&state.ring_busy, true, memory_order_acquire)) return;
    if (!state.rings[kind]) state.rings[kind] = mem_zalloc(TRACE_RING, sizeof *state.rings[kind]);
    if (state.rings[kind]) {
        ring_item *r = ring_place(kind, spans[0].trace);
        r->order = ++state.order;
        for (size_t i = 0; i < n && r->count < TRACE_SPANS_MAX; i++)
            r->spans[r->count++] = spans[i];
    }
    atomic_store_explicit(&state.ring_busy, false, memory_order_release);
}

/* ---- spans ------------------------------------------------------------------------------------- */

static void forget_thread(void) {
    mem_free(mine);
    mine = NULL;
}

static buffer *my_buffer(void) {
    if (mine) return mine;
    buffer *b = mem_zalloc(1, sizeof *b);
    if (!b) return NULL;
    uint64_t seed = clock_mono_ns() ^ (uint64_t)(uintptr_t)b;
    (void)!getentropy(&seed, sizeof seed);
    rng_seed(&b->ids, seed);
    mine = b;
    thread_on_exit(forget_thread);
    return b;
}

static void set_name(span_data *d, const char *name) {
    size_t n = strlen(name);
    if (n >= TRACE_NAME_MAX) n = TRACE_NAME_MAX - 1;
    memcpy(d->name, name, n);
    d->name[n] = 0;
}

span span_begin(const char *name) {
    span s = {NULL, trace_here.span};
    buffer *b = mine;
    if (!b || !trace_id_is(trace_here.trace)) return s;
    if (b->count == TRACE_SPANS_MAX) {
        b->lost++;
        return s;
    }
    span_data *d = s.data = &b->spans[b->count++];
    d->trace = trace_here.trace;
    d->id = rng_u64(&b->ids) | 1;
    d->parent = trace_here.span;
    d->link.trace = (trace_id){0, 0};
    d->kind = SPAN_INTERNAL;
    d->failed = false;
    d->attr_count = 0;
    set_name(d, name);
    d->end_ns = 0;
    d->start_ns = clock_mono_ns() + (uint64_t)b->wall;
    trace_here.span = d->id;
    return s;
}

void span_end(span *s) {
    if (!s->data) return;
    s->data->end_ns = clock_mono_ns() + (uint64_t)mine->wall;
    trace_here.span = s->above;
}

span span_closed(const char *name, uint64_t start_ns, uint64_t end_ns) {
    span s = span_begin(name);
    if (!s.data) return s;
    s.data->start_ns = start_ns + (uint64_t)mine->wall;
    s.data->end_ns = end_ns + (uint64_t)mine->wall;
    trace_here.span = s.above;
    return s;
}

void span_kind_set(span *s, span_kind kind) {
    if (s->data) s->data->kind = kind;
}
void span_rename(span *s, const char *name) {
    if (s->data) set_name(s->data, name);
}

static span_attr *new_attr(span *s, const char *key) {
    if (!s->data || s->data->attr_count == TRACE_ATTRS_MAX) return NULL;
    span_attr *a = &s->data->attrs[s->data->attr_count++];
    a->key = key;
    return a;
}

void span_text(span *s, const char *key, str value) {
    span_attr *a = new_attr(s, key);
    if (!a) return;
    size_t n = MIN(value.len, (size_t)TRACE_TEXT_MAX - 1), bad;
    if (!utf8_valid(str_from(value.ptr, n), &bad)) n = bad;
    a->is_text = true;
    if (n) memcpy(a->text, value.ptr, n);
    a->text[n] = 0;
}

void span_number(span *s, const char *key, int64_t value) {
    span_attr *a = new_attr(s, key);
    if (!a) return;
    a->is_text = false;
    a->number = value;
}

void span_fail(span *s, const char *type) {
    if (s->data) s->data->failed = true;
    span_text(s, "error.type", str_of(type));
}

static bool root_of(span *s) {
    *s = (span){NULL, 0};
    if (mine && mine->count && trace_id_is(trace_here.trace)) s->data = &mine->spans[0];
    return s->data != NULL;
}

void trace_root_number(const char *key, int64_t value) {
    span s;
    if (root_of(&s)) span_number(&s, key, value);
}
void trace_root_fail(const char *type) {
    span s;
    if (root_of(&s)) span_fail(&s, type);
}

/* ---- traces ------------------------------------------------------------------------------------ */

static bool by_ratio(trace_id t) {
    double ratio = atomic_load_explicit(&state.ratio, memory_order_relaxed);
    return (double)(t.lo >> 11) < ratio * 9007199254740992.0; /* 2^53 */
}

void trace_root_begin(trace_root *r, const char *name, span_kind kind, str parent) {
    trace_context from = {.span = 0};
    r->nested = trace_id_is(trace_here.trace);
    r->span = (span){NULL, 0};
    if (!r->nested) {
        buffer *b = my_buffer();
        if (!b || atomic_load_explicit(&state.off, memory_order_relaxed)) return;
        b->count = 0;
        b->wall = (int64_t)(clock_wall_ns() - clock_mono_ns());
        bool told = parent.len && traceparent_parse(parent, &from);
        if (!told) from = (trace_context){{rng_u64(&b->ids), rng_u64(&b->ids) | 1}, 0, false};
        if (!told || !atomic_load_explicit(&state.parent, memory_order_relaxed))
            from.sampled = by_ratio(from.trace);
        trace_here = from;
        atomic_fetch_add_explicit(&state.traces, 1, memory_order_relaxed);
    }
    r->span = span_begin(name);
    span_kind_set(&r->span, kind);
}

void trace_root_link(trace_root *r, const trace_context *from) {
    if (r->span.data) r->span.data->link = *from;
}

static void keep(const buffer *b, bool slow) {
    atomic_fetch_add_explicit(&state.kept, 1, memory_order_relaxed);
    ring_keep(slow ? 0 : 1, b->spans, b->count);
    if (state.sink) state.sink(state.sink_ctx, b->spans, b->count);
}

void trace_root_end(trace_root *r, bool ok) {
    if (r->span.data && !ok) r->span.data->failed = true;
    if (r->span.data) ok = !r->span.data->failed;
    span_end(&r->span);
    if (r->nested || !r->span.data) return;
    buffer *b = mine;
    const span_data *root = r->span.data;
    bool slow =
        root->kind == SPAN_SERVER &&
        root->end_ns - root->start_ns >= atomic_load_explicit(&state.slow_ns, memory_order_relaxed);
    slow |= !ok;
    if (slow || trace_here.sampled) keep(b, slow);
    if (b->lost) atomic_fetch_add_explicit(&state.lost, b->lost, memory_order_relaxed);
    b->lost = 0;
    trace_here = (trace_context){.span = 0};
}

/* ---- the wire ---------------------------------------------------------------------------------- */

static bool read_hex(const char *p, size_t n, uint64_t *out) {
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (v < 0) return false;
        *out = *out << 4 | (uint64_t)v;
    }
    return true;
}

bool traceparent_parse(str s, trace_context *out) {
    uint64_t version, flags;
    s = str_trim(s);
    if (s.len < TRACEPARENT_LEN || s.ptr[2] != '-' || s.ptr[35] != '-' || s.ptr[52] != '-')
        return false;
    if (!read_hex(s.ptr, 2, &version) || version == 0xff) return false;
    /* Version 00 is exactly so long; a later one may go on behind a dash. */
    if (s.len > TRACEPARENT_LEN && (version == 0 || s.ptr[TRACEPARENT_LEN] != '-')) return false;
    if (!read_hex(s.ptr + 3, 16, &out->trace.hi) || !read_hex(s.ptr + 19, 16, &out->trace.lo) ||
        !read_hex(s.ptr + 36, 16, &out->span) || !read_hex(s.ptr + 53, 2, &flags))
        return false;
    out->sampled = flags & 1;
    return trace_id_is(out->trace) && out->span != 0;
}

static char *put_hex(char *p, uint64_t v, int digits) {
    for (int i = digits - 1; i >= 0; i--) *p++ = "0123456789abcdef"[v >> (4 * i) & 15];
    return p;
}

void trace_id_format(trace_id t, char out[33]) {
    *put_hex(put_hex(out, t.hi, 16), t.lo, 16) = 0;
}

void traceparent_format(const trace_context *c, char out[TRACEPARENT_LEN + 1]) {
    memcpy(out, "00-", 3);
    trace_id_format(c->trace, out + 3);
    out[35] = '-';
    put_hex(out + 36, c->span, 16);
    memcpy(out + 52, c->sampled ? "-01" : "-00", 4);
}

/* ---- across the journal ------------------------------------------------------------------------ */

static remembered *slot_of(uint64_t key) {
    remembered *r = &state.keys[hash64_u64(key) % REMEMBERED];
    return atomic_exchange_explicit(&r->busy, true, memory_order_acquire) ? NULL : r;
}

void trace_remember(uint64_t key, const trace_context *c) {
    remembered *r = slot_of(key);
    if (!r) return;
    r->key = key;
    r->at = *c;
    atomic_store_explicit(&r->busy, false, memory_order_release);
}

bool trace_recall(uint64_t key, trace_context *out) {
    remembered *r = slot_of(key);
    if (!r) return false;
    bool there = r->key == key && trace_id_is(r->at.trace);
    if (there) *out = r->at;
    atomic_store_explicit(&r->busy, false, memory_order_release);
    return there;
}

void trace_follow(const trace_context *c, const char *name, uint64_t start_ns) {
    buffer *b = my_buffer();
    if (!b || atomic_load_explicit(&state.off, memory_order_relaxed)) return;
    span_data d = {.trace = c->trace, .parent = c->span, .link = trace_here, .kind = SPAN_CONSUMER};
    uint64_t now = clock_mono_ns(), wall = clock_wall_ns();
    d.id = rng_u64(&b->ids) | 1;
    d.end_ns = wall;
    d.start_ns = wall - (now - start_ns);
    set_name(&d, name);
    ring_keep(1, &d, 1);
    if (state.sink) state.sink(state.sink_ctx, &d, 1);
}

/* ---- for people -------------------------------------------------------------------------------- */

static void span_json(strbuf *b, const span_data *d) {
    strbuf_addf(b, "{\"span_id\":\"%016llx\",\"parent_id\":\"%016llx\",\"name\":",
                (unsigned long long)d->id, (unsigned long long)d->parent);
    strbuf_add_json(b, str_of(d->name));
    strbuf_addf(b, ",\"start_ns\":%llu,\"duration_ns\":%llu,\"failed\":%s,\"attributes\":{",
                (unsigned long long)d->start_ns,
                (unsigned long long)(d->end_ns ? d->end_ns - d->start_ns : 0),
                d->failed ? "true" : "false");
    for (unsigned i = 0; i < d->attr_count; i++) {
        const span_attr *a = &d->attrs[i];
        strbuf_addf(b, "%s\"%s\":", i ? "," : "", a->key);
        if (a->is_text)
            strbuf_add_json(b, str_of(a->text));
        else
            strbuf_addf(b, "%lld", (long long)a->number);
    }
    strbuf_addz(b, "}}");
}

static void item_json(strbuf *b, const ring_item *r, bool slow) {
    char hex[33];
    trace_id_format(r->spans[0].trace, hex);
    strbuf_addf(b, "{\"trace_id\":\"%s\",\"slow\":%s,\"spans\":[", hex, slow ? "true" : "false");
    for (uint32_t i = 0; i < r->count; i++) {
        if (i) strbuf_addc(b, ',');
        span_json(b, &r->spans[i]);
    }
    strbuf_addz(b, "]}");
}

/* The newest item that is older than `below`. */
static const ring_item *ring_next(uint64_t below, bool *slow) {
    const ring_item *best = NULL;
    for (unsigned k = 0; k < RING_KINDS; k++)
        for (unsigned i = 0; state.rings[k] && i < TRACE_RING; i++) {
            const ring_item *r = &state.rings[k][i];
            if (!r->count || r->order >= below || (best && r->order <= best->order)) continue;
            best = r;
            *slow = k == 0;
        }
    return best;
}

err trace_ring_json(strbuf *b, size_t limit) {
    while (atomic_exchange_explicit(&state.ring_busy, true, memory_order_acquire)) sched_yield();
    strbuf_addc(b, '[');
    uint64_t below = UINT64_MAX;
    for (size_t i = 0; i < limit; i++) {
        bool slow = false;
        const ring_item *r = ring_next(below, &slow);
        if (!r) break;
        below = r->order;
        if (i) strbuf_addc(b, ',');
        item_json(b, r, slow);
    }
    strbuf_addc(b, ']');
    atomic_store_explicit(&state.ring_busy, false, memory_order_release);
    return b->rc;
}
