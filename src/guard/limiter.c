/* The limiter: token buckets for requests and for tokens, whose rates are given or learned.
 *
 * A bucket holds at most BURST_S seconds of its rate, so that a quiet minute does not become a burst that the
 * service refuses. Learning is the rule of TCP (Chiu and Jain 1989): cut by a factor on refusal, grow
 * slowly otherwise. The rate to cut from is what was really let through in the last second or two, since a
 * limit that was never met says nothing. Refusals that come within a second are one: they are answers
 * to calls that were on their way already. A rate is never cut below a floor, for a quiet service was not
 * asked enough to know; a limit below the floor is met by pauses that double while nothing is let
 * through. Rates that were given are the ceiling of growing.
 *
 * A bulk caller must leave BULK_LEAVES of the bucket, so a query finds room although an import takes
 * all there is.
 */
#include "guard/guard.h"

#define BURST_S      6.0
#define CUT          0.7
#define GROW_PER_S   0.05
#define BULK_LEAVES  0.2
#define REQUESTS_MIN 1.0   /* a second: what one refusal alone cuts to; the pauses go below */
#define TOKENS_MIN   500.0 /* the same */
#define NS           1e9
#define WAIT_FIRST   250u /* ms, after a 429 without Retry-After; doubled with each more in a row */
#define WAIT_DOUBLE  8
#define WAIT_MAX     (10u * 60 * 1000)

err limiter_init(limiter *l, const limiter_options *o) {
    memset(l, 0, sizeof *l);
    if (o) l->o = *o;
    l->rate[0] = l->o.requests_per_min / 60;
    l->rate[1] = l->o.tokens_per_min / 60;
    for (int i = 0; i < 2; i++) l->level[i] = l->rate[i] * BURST_S;
    return mutex_init(&l->mu);
}

void limiter_deinit(limiter *l) {
    mutex_deinit(&l->mu);
}

static double room(const limiter *l, int i) {
    return MAX(l->rate[i] * BURST_S, 1.0);
}

/* Fills the buckets and grows the rates up to `now`. */
static void advance(limiter *l, uint64_t now) {
    if (l->at == 0 || now <= l->at) {
        if (l->at == 0) l->at = now;
        return;
    }
    double s = (double)(now - l->at) / NS;
    l->at = now;
    const double given[2] = {l->o.requests_per_min / 60, l->o.tokens_per_min / 60};
    for (int i = 0; i < 2; i++) {
        if (l->rate[i] <= 0) continue;
        l->level[i] = MIN(l->level[i] + l->rate[i] * s, room(l, i));
        l->rate[i] *= 1 + GROW_PER_S * MIN(s, 60.0);
        if (given[i] > 0) l->rate[i] = MIN(l->rate[i], given[i]);
    }
    uint64_t slice = now / 1000000000u;
    if (slice == l->slice) return;
    bool next = slice == l->slice + 1;
    for (int i = 0; i < 2; i++) {
        l->seen[1][i] = next ? l->seen[0][i] : 0;
        l->seen[0][i] = 0;
    }
    l->slice = slice;
}

uint64_t limiter_take(limiter *l, uint64_t now, double tokens, bool bulk) {
    const double want[2] = {1, tokens};
    double wait_s = 0;
    mutex_lock(&l->mu);
    advance(l, now);
    if (now < l->paused) wait_s = (double)(l->paused - now) / NS;
    for (int i = 0; i < 2; i++) {
        if (l->rate[i] <= 0) continue;
        /* A call larger than the bucket goes when the bucket is full. */
        double leave = bulk ? room(l, i) * BULK_LEAVES : 0;
        double need = MIN(want[i] + leave, room(l, i)) - l->level[i];
        if (need > 1e-9) wait_s = MAX(wait_s, need / l->rate[i]);
    }
    if (wait_s <= 0) {
        for (int i = 0; i < 2; i++) {
            if (l->rate[i] > 0) l->level[i] -= want[i];
            l->seen[0][i] += want[i];
        }
        l->stats.granted++;
    } else {
        l->stats.refused++;
    }
    mutex_unlock(&l->mu);
    return wait_s <= 0 ? 0 : (uint64_t)(MIN(wait_s, 600.0) * NS) + 1;
}

void limiter_throttled(limiter *l, uint64_t now, uint64_t retry_after_ms) {
    mutex_lock(&l->mu);
    advance(l, now);
    l->stats.throttled++;
    bool again = l->cut_at && now - l->cut_at < 1000000000u;
    uint64_t ms = MIN(retry_after_ms, WAIT_MAX);
    if (!again || l->row == 0) l->row++;
    if (!ms) ms = WAIT_FIRST << MIN(l->row - 1, WAIT_DOUBLE);
    l->paused = MAX(l->paused, now + ms * 1000000u);
    if (!again) {
        const double least[2] = {REQUESTS_MIN, TOKENS_MIN};
        l->cut_at = now;
        for (int i = 0; i < 2; i++) {
            double seen = MAX(l->seen[0][i], l->seen[1][i]);
            double from = l->rate[i] > 0 ? MIN(l->rate[i], MAX(seen, least[i])) : seen;
            l->rate[i] = MAX(from * CUT, least[i]);
            l->level[i] = MIN(l->level[i], 0);
        }
    }
    mutex_unlock(&l->mu);
}

void limiter_fine(limiter *l) {
    mutex_lock(&l->mu);
    l->row = 0;
    mutex_unlock(&l->mu);
}

void limiter_stats_get(limiter *l, uint64_t now, limiter_stats *out) {
    mutex_lock(&l->mu);
    advance(l, now);
    *out = l->stats;
    out->requests_per_min = l->rate[0] * 60;
    out->tokens_per_min = l->rate[1] * 60;
    out->paused_ms = now < l->paused ? (l->paused - now) / 1000000u : 0;
    mutex_unlock(&l->mu);
}
