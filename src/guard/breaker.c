/* The breaker: closed, open, half-open.
 *
 *   closed     every call goes through. row_max failures in a row, or rate_max of at least window_calls in
 *              the last window_ms, open it.
 *   open       nothing goes through for open_ms; then, with the next question, half-open.
 *   half-open  one caller at a time goes through, as a probe. A failed probe opens it again for open_ms,
 *              `probes` good ones in a row close it.
 *
 * The window is BREAKER_BUCKETS slices of time; a slice that fell out of it is seen by its number and
 * emptied when it is used again. Each change of state moves the epoch, so a call that was under way
 * when the breaker opened cannot close, open or fill anything that came after it; that is what
 * makes the states safe with many threads. A probe whose thread died is replaced after probe_ms.
 */
#include "guard/guard.h"

#define NS_PER_MS 1000000u

err breaker_init(breaker *b, const breaker_options *o) {
    memset(b, 0, sizeof *b);
    breaker_options d = {.row_max = 5,
                         .window_ms = 30000,
                         .window_calls = 20,
                         .rate_max = 0.5,
                         .open_ms = 60000,
                         .probes = 2,
                         .probe_ms = 30000};
    if (o) {
        if (o->row_max) d.row_max = o->row_max;
        if (o->window_ms) d.window_ms = MAX(o->window_ms, BREAKER_BUCKETS);
        if (o->window_calls) d.window_calls = o->window_calls;
        if (o->rate_max > 0) d.rate_max = o->rate_max;
        if (o->open_ms) d.open_ms = o->open_ms;
        if (o->probes) d.probes = o->probes;
        if (o->probe_ms) d.probe_ms = o->probe_ms;
        d.slow_ms = o->slow_ms;
    }
    b->o = d;
    return mutex_init(&b->mu);
}

void breaker_deinit(breaker *b) {
    mutex_deinit(&b->mu);
}

const char *breaker_state_name(breaker_state s) {
    static const char *const names[] = {"closed", "open", "half_open"};
    return names[s];
}

static void become(breaker *b, breaker_state s) {
    b->state = s;
    b->epoch++;
    b->row = b->good = 0;
    b->probing = false;
    if (s == BREAKER_CLOSED) {
        memset(b->bucket, 0, sizeof b->bucket);
        b->stats.closed++;
    }
}

static void open_it(breaker *b, uint64_t now) {
    become(b, BREAKER_OPEN);
    b->until = now + (uint64_t)b->o.open_ms * NS_PER_MS;
    b->stats.opened++;
}

/* What time alone changes. */
static void advance(breaker *b, uint64_t now) {
    if (b->state == BREAKER_OPEN && now >= b->until) become(b, BREAKER_HALF_OPEN);
    if (b->probing && now >= b->probe_lost) {
        b->probing = false;
        b->epoch++; /* its late report counts no more */
    }
}

bool breaker_enter(breaker *b, uint64_t now, bool may_probe, breaker_ticket *out) {
    mutex_lock(&b->mu);
    advance(b, now);
    bool probe = b->state == BREAKER_HALF_OPEN && may_probe && !b->probing;
    bool in = b->state == BREAKER_CLOSED || probe;
    if (probe) {
        b->probing = true;
        b->probe_lost = now + (uint64_t)b->o.probe_ms * NS_PER_MS;
        b->stats.probes++;
    }
    if (!in) b->stats.refused++;
    *out = (breaker_ticket){now, b->epoch, probe};
    mutex_unlock(&b->mu);
    return in;
}

static uint64_t slice_of(const breaker *b, uint64_t now) {
    return now / ((uint64_t)b->o.window_ms * NS_PER_MS / BREAKER_BUCKETS) + 1;
}

/* Counts into the window; true when its rate is too high. */
static bool window_add(breaker *b, uint64_t now, bool failed) {
    uint64_t slice = slice_of(b, now), calls = 0, failures = 0;
    size_t at = slice % BREAKER_BUCKETS;
    if (b->bucket[at].slice < slice) {
        b->bucket[at].slice = slice;
        b->bucket[at].calls = b->bucket[at].failures = 0;
    }
    b->bucket[at].calls++;
    b->bucket[at].failures += failed;
    for (size_t i = 0; i < BREAKER_BUCKETS; i++) {
        if (b->bucket[i].slice + BREAKER_BUCKETS <= slice) continue;
        calls += b->bucket[i].calls;
        failures += b->bucket[i].failures;
    }
    return calls >= b->o.window_calls && (double)failures >= b->o.rate_max * (double)calls;
}

static void leave_closed(breaker *b, uint64_t now, bool failed) {
    bool rate = window_add(b, now, failed);
    b->row = failed ? b->row + 1 : 0;
    if (failed && (rate || b->row >= b->o.row_max)) open_it(b, now);
}

static void leave_probe(breaker *b, uint64_t now, guard_outcome what) {
    b->probing = false;
    if (what == GUARD_IGNORED) return;
    if (what == GUARD_FAILED)
        open_it(b, now);
    else if (++b->good >= b->o.probes)
        become(b, BREAKER_CLOSED);
}

void breaker_leave(breaker *b, const breaker_ticket *t, uint64_t now, guard_outcome what) {
    mutex_lock(&b->mu);
    advance(b, now);
    uint64_t slow = (uint64_t)b->o.slow_ms * NS_PER_MS;
    if (what == GUARD_OK && slow && now - t->start >= slow) {
        what = GUARD_FAILED;
        b->stats.slow++;
    }
    if (what != GUARD_IGNORED) b->stats.calls++;
    if (what == GUARD_FAILED) b->stats.failures++;
    if (t->epoch == b->epoch) {
        if (t->probe)
            leave_probe(b, now, what);
        else if (what != GUARD_IGNORED)
            leave_closed(b, now, what == GUARD_FAILED);
    }
    mutex_unlock(&b->mu);
}

bool breaker_shut(breaker *b, uint64_t now) {
    mutex_lock(&b->mu);
    advance(b, now);
    bool shut = b->state != BREAKER_CLOSED;
    mutex_unlock(&b->mu);
    return shut;
}

uint64_t breaker_probe_in(breaker *b, uint64_t now) {
    mutex_lock(&b->mu);
    advance(b, now);
    uint64_t in = 0;
    if (b->state == BREAKER_CLOSED) in = UINT64_MAX;
    if (b->state == BREAKER_OPEN) in = b->until - now;
    if (b->probing) in = b->probe_lost - now;
    mutex_unlock(&b->mu);
    return in;
}

void breaker_stats_get(breaker *b, uint64_t now, breaker_stats *out) {
    mutex_lock(&b->mu);
    advance(b, now);
    *out = b->stats;
    out->state = b->state;
    mutex_unlock(&b->mu);
}
