/* guard: what stands between kith and services of others: a breaker, a limiter, retries with a budget, and
 * a spending cap. Pure logic over a clock that the caller passes in: no sockets, no threads of its own.
 * Every outside call goes through these (embeddings, object storage, vector databases, webhooks).
 *
 *     breaker_ticket t;
 *     if (!breaker_enter(&b, clock_mono_ns(), true, &t)) return err_set(ERR_AGAIN, "it is away");
 *     uint64_t t0 = clock_mono_ns();
 *     err rc = call();
 *     breaker_leave(&b, &t, clock_mono_ns(), rc == OK ? GUARD_OK : GUARD_FAILED);
 *
 * Threads: all calls of one object may come from any thread; each has a lock held for a few
 * instructions. Memory: the caller's; init and deinit. Times: `now` is monotonic nanoseconds and must
 * not go back by more than threads' disorder; `wall_ms` is milliseconds since 1970.
 * Sources: breaker, Nygard, Release It! (2nd ed.), and the half-open state as in resilience4j; full jitter,
 * Brooker, "Exponential Backoff and Jitter" (2015); retry budget, Google SRE book, ch. 21.
 */
#ifndef KITH_GUARD_H
#define KITH_GUARD_H

#include "base/base.h"
#include "os/os.h"

/* ---- breaker ---- */

typedef enum guard_outcome {
    GUARD_OK,
    GUARD_FAILED,
    GUARD_IGNORED /* says nothing of the service: cancelled, our own mistake, throttled */
} guard_outcome;

typedef enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN } breaker_state;

/* 0 stands for the default of each. */
typedef struct breaker_options {
    uint32_t row_max;      /* failures in a row that open it: 5 */
    uint32_t window_ms;    /* of the error rate: 30,000 */
    uint32_t window_calls; /* fewer calls in the window have no rate: 20 */
    double rate_max;       /* this share of failures in the window opens it: 0.5 */
    uint32_t open_ms;      /* how long it stays open: 60,000 */
    uint32_t probes;       /* good probes in a row that close it: 2 */
    uint32_t slow_ms;      /* a call of this time or more has failed: none */
    uint32_t probe_ms;     /* a probe that nobody reports is lost after: 30,000 */
} breaker_options;

typedef struct breaker_stats {
    breaker_state state;
    uint64_t calls, failures, slow; /* reported; slow ones are failures too */
    uint64_t refused;               /* not let through */
    uint64_t probes, opened, closed;
} breaker_stats;

#define BREAKER_BUCKETS 10

typedef struct breaker {
    breaker_options o; /* immutable */
    mutex mu;          /* guards the rest */
    breaker_state state;
    uint32_t epoch; /* moves with each change of state: reports of an older one are not counted */
    uint32_t row;   /* failures in a row */
    uint32_t good;  /* good probes in a row */
    uint64_t until; /* open until */
    bool probing;
    uint64_t probe_lost; /* the probe on its way is lost then */
    struct {
        uint64_t slice; /* number of the slice of time that it counts */
        uint32_t calls, failures;
    } bucket[BREAKER_BUCKETS];
    breaker_stats stats;
} breaker;

typedef struct breaker_ticket {
    uint64_t start;
    uint32_t epoch;
    bool probe;
} breaker_ticket;

MUST_USE err breaker_init(breaker *b, const breaker_options *o);
void breaker_deinit(breaker *b);
/* May a call be made now? Then it must be reported by breaker_leave. While it is open: no. When its time is
 * over, one caller at a time that `may_probe` gets through. */
MUST_USE bool breaker_enter(breaker *b, uint64_t now, bool may_probe, breaker_ticket *out);
void breaker_leave(breaker *b, const breaker_ticket *t, uint64_t now, guard_outcome what);
/* True when a caller that may not probe would be refused; takes no ticket. */
bool breaker_shut(breaker *b, uint64_t now);
/* 0: a probe may be made now; else nanoseconds until one may; UINT64_MAX: closed. */
uint64_t breaker_probe_in(breaker *b, uint64_t now);
void breaker_stats_get(breaker *b, uint64_t now, breaker_stats *out);
const char *breaker_state_name(breaker_state s);

/* ---- limiter: requests and tokens a minute ---- */

/* Two buckets that hold a tenth of a minute. Without limits given it lets all through until the service says 429;
 * then the rate becomes seven tenths of what was let through lately, and grows by a twentieth of
 * itself each second. Retry-After stops everything until then. */
typedef struct limiter_options {
    double requests_per_min, tokens_per_min; /* 0: not known */
} limiter_options;

typedef struct limiter_stats {
    double requests_per_min, tokens_per_min; /* in force; 0: none */
    uint64_t granted, refused, throttled;    /* throttled: 429s reported */
    uint64_t paused_ms;                      /* from now on */
} limiter_stats;

typedef struct limiter {
    limiter_options o;
    mutex mu;
    double rate[2];  /* requests and tokens a second in force; 0: none */
    double level[2]; /* what the buckets hold */
    uint64_t at;     /* when level was right */
    uint64_t paused; /* until then */
    uint64_t cut_at; /* of the last cut */
    unsigned row;    /* refusals without an answer between */
    uint64_t slice;  /* the second being counted, and what was let through in it and in the last */
    double seen[2][2];
    limiter_stats stats;
} limiter;

MUST_USE err limiter_init(limiter *l, const limiter_options *o);
void limiter_deinit(limiter *l);
/* 0: granted and taken. Else nanoseconds after which it is worth asking again. A bulk caller leaves a fifth of
 * each bucket to those that are not. */
uint64_t limiter_take(limiter *l, uint64_t now, double tokens, bool bulk);
/* The service said 429; retry_after_ms 0: it did not say for how long. */
void limiter_throttled(limiter *l, uint64_t now, uint64_t retry_after_ms);
/* A call was answered: the pauses are short again. */
void limiter_fine(limiter *l);
void limiter_stats_get(limiter *l, uint64_t now, limiter_stats *out);

/* ---- retries ---- */

/* Random in [0, min(cap, base x 2^attempt)]: full jitter. attempt from 0. */
/* The milliseconds that a Retry-After header asks for: seconds, or an HTTP date (IMF-fixdate, RFC 9110) seen from
 * now_ms of the wall clock. 0: none, one that is past, or more than a day, which nobody means. */
uint64_t retry_after_ms(str header, int64_t now_ms);
uint64_t retry_delay_ms(rng *r, unsigned attempt, uint64_t base_ms, uint64_t cap_ms);

/* At most `share` retries a call over time, and a burst of RETRY_BURST. */
#define RETRY_BURST 10.0
typedef struct retry_budget {
    mutex mu;
    double share, level;
    uint64_t retries, refused;
} retry_budget;
MUST_USE err retry_budget_init(retry_budget *b, double share);
void retry_budget_deinit(retry_budget *b);
void retry_budget_call(retry_budget *b);          /* a first try was made */
MUST_USE bool retry_budget_take(retry_budget *b); /* may one retry be made? */

/* ---- spending ---- */

/* What was spent today and this month (UTC), against caps; any unit. */
typedef struct spend_options {
    double day_max, month_max; /* 0: no cap */
} spend_options;
typedef struct spend_stats {
    double day, month, share; /* share: the larger of both used shares; 0 without caps */
    int64_t day_number, month_number;
} spend_stats;
typedef struct spend {
    spend_options o;
    mutex mu;
    spend_stats now;
    int alerted; /* 0, 80 or 100: the highest that was told in this period */
} spend;
MUST_USE err spend_init(spend *s, const spend_options *o);
void spend_deinit(spend *s);
/* Returns 80 or 100 when this amount went over that share for the first time in its period, else 0. */
int spend_add(spend *s, int64_t wall_ms, double amount);
bool spend_closed(spend *s, int64_t wall_ms); /* a cap is reached */
void spend_stats_get(spend *s, int64_t wall_ms, spend_stats *out);
/* For keeping it over a restart: what spend_stats_get gave. Of another day or month: dropped by itself. */
void spend_restore(spend *s, const spend_stats *kept);

#endif
