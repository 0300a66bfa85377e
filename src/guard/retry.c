/* Retries: how long to wait, and whether at all.
 *
 * Full jitter spreads the retries of many callers over the whole interval; without it they come
 * back together and fail together. The budget bounds what retries add to a service that is failing
 * already: each first try earns `share` of a retry, up to RETRY_BURST saved. So retries are at
 * most `share` of all calls over any long time, whatever fails.
 */
#include "guard/guard.h"

uint64_t retry_delay_ms(rng *r, unsigned attempt, uint64_t base_ms, uint64_t cap_ms) {
    uint64_t most = attempt >= 32 ? cap_ms : MIN(base_ms << attempt, cap_ms);
    return (uint64_t)(rng_unit(r) * (double)(most + 1));
}

err retry_budget_init(retry_budget *b, double share) {
    memset(b, 0, sizeof *b);
    b->share = share;
    b->level = share > 0 ? RETRY_BURST : 0;
    return mutex_init(&b->mu);
}

void retry_budget_deinit(retry_budget *b) {
    mutex_deinit(&b->mu);
}

void retry_budget_call(retry_budget *b) {
    mutex_lock(&b->mu);
    b->level = MIN(b->level + b->share, RETRY_BURST);
    mutex_unlock(&b->mu);
}

bool retry_budget_take(retry_budget *b) {
    mutex_lock(&b->mu);
    bool yes = b->level >= 1;
    if (yes) {
        b->level -= 1;
        b->retries++;
    } else {
        b->refused++;
    }
    mutex_unlock(&b->mu);
    return yes;
}
