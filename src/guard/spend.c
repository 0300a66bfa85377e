/* Spending caps by day and month, in UTC, whose number of days since 1970 and of months since year 0 name
 * the period; a new period starts at nothing. An alert is told once at 80 % and once at 100 %, again in the
 * next period.
 */
#include "guard/guard.h"

#define MS_PER_DAY 86400000

static int64_t month_of(int64_t day) {
    int y, m, d;
    time_civil(day, &y, &m, &d);
    return (int64_t)y * 12 + m - 1;
}

err spend_init(spend *s, const spend_options *o) {
    memset(s, 0, sizeof *s);
    if (o) s->o = *o;
    return mutex_init(&s->mu);
}

void spend_deinit(spend *s) {
    mutex_deinit(&s->mu);
}

static void advance(spend *s, int64_t wall_ms) {
    int64_t day = wall_ms >= 0 ? wall_ms / MS_PER_DAY : 0, month = month_of(day);
    spend_stats *n = &s->now;
    if (n->day_number != day) n->day = 0, s->alerted = 0;
    if (n->month_number != month) n->month = 0, s->alerted = 0;
    n->day_number = day;
    n->month_number = month;
    double d = s->o.day_max > 0 ? n->day / s->o.day_max : 0;
    double m = s->o.month_max > 0 ? n->month / s->o.month_max : 0;
    n->share = MAX(d, m);
}

int spend_add(spend *s, int64_t wall_ms, double amount) {
    mutex_lock(&s->mu);
    advance(s, wall_ms);
    s->now.day += amount;
    s->now.month += amount;
    advance(s, wall_ms);
    int level = s->now.share >= 1 ? 100 : s->now.share >= 0.8 ? 80 : 0, tell = 0;
    if (level > s->alerted) tell = s->alerted = level;
    mutex_unlock(&s->mu);
    return tell;
}

bool spend_closed(spend *s, int64_t wall_ms) {
    mutex_lock(&s->mu);
    advance(s, wall_ms);
    bool closed = s->now.share >= 1;
    mutex_unlock(&s->mu);
    return closed;
}

void spend_stats_get(spend *s, int64_t wall_ms, spend_stats *out) {
    mutex_lock(&s->mu);
    advance(s, wall_ms);
    *out = s->now;
    mutex_unlock(&s->mu);
}

void spend_restore(spend *s, const spend_stats *kept) {
    mutex_lock(&s->mu);
    if (kept->day >= 0 && kept->month >= 0) s->now = *kept;
    mutex_unlock(&s->mu);
}
