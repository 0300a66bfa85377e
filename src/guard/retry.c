/* Retries: how long to wait, and whether at all.
 *
 * Full jitter spreads the retries of many callers over the whole interval; without it they come
 * back together and fail together. The budget bounds what retries add to a service that is failing
 * already: each first try earns `share` of a retry, up to RETRY_BURST saved. So retries are at
 * most `share` of all calls over any long time, whatever fails.
 */
#include "guard/guard.h"

#include <stdio.h>

enum { AFTER_MS_MAX = 86400000 };

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static bool date_parse(str s, int64_t *ms) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char iso[32];
    if (s.len != 29 || s.ptr[3] != ',' || !str_ends(s, STR(" GMT"))) return false;
    for (int m = 0; m < 12; m++) {
        if (memcmp(months + (size_t)m * 3, s.ptr + 8, 3) != 0) continue;
        int n = snprintf(iso, sizeof iso, "%.4s-%02d-%.2sT%.8sZ", s.ptr + 12, m + 1, s.ptr + 5,
                         s.ptr + 17);
        return n == 20 && time_parse(str_of(iso), ms);
    }
    return false;
}

uint64_t retry_after_ms(str header, int64_t now_ms) {
    double seconds;
    int64_t at;
    if (!header.ptr) return 0;
    if (str_to_f64(header, &seconds))
        return seconds > 0 && seconds <= AFTER_MS_MAX / 1000 ? (uint64_t)(seconds * 1000) : 0;
    if (!date_parse(header, &at) || at <= now_ms || at - now_ms > AFTER_MS_MAX) return 0;
    return (uint64_t)(at - now_ms);
}

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
