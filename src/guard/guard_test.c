/* guard: the breaker against a reference written another way, over random events; the limiter, the retry
 * budget and the caps by what they promise.
 */
#include "guard/guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS 1000000u

/* ---- the reference: every report is kept, and each question is answered from the whole list ---- */

enum { EVENTS_MAX = 4096 };
typedef struct ref {
    breaker_options o;
    char state; /* 'c', 'o', 'h' */
    uint64_t since, probe_at;
    int probe; /* number of the probe on its way, 0 none */
    int good, epoch, probes;
    struct {
        uint64_t at;
        bool failed;
    } e[EVENTS_MAX];
    int n; /* reports of this closed period */
} ref;
typedef struct ref_ticket {
    int epoch, probe;
    uint64_t start;
} ref_ticket;

static void ref_to(ref *r, char state, uint64_t now) {
    r->state = state, r->since = now, r->epoch++, r->n = r->good = r->probe = 0;
}
static void ref_time(ref *r, uint64_t now) {
    if (r->state == 'o' && now - r->since >= r->o.open_ms * (uint64_t)MS) ref_to(r, 'h', now);
    if (r->probe && now - r->probe_at >= r->o.probe_ms * (uint64_t)MS) r->probe = 0;
}
static bool ref_enter(ref *r, uint64_t now, bool may_probe, ref_ticket *t) {
    ref_time(r, now);
    *t = (ref_ticket){r->epoch, 0, now};
    if (r->state == 'c') return true;
    if (r->state == 'o' || !may_probe || r->probe) return false;
    t->probe = r->probe = ++r->probes;
    r->probe_at = now;
    return true;
}
static bool ref_too_many(const ref *r, uint64_t now) {
    uint64_t slice = r->o.window_ms * (uint64_t)MS / BREAKER_BUCKETS;
    int calls = 0, bad = 0, row = 0;
    for (int i = r->n - 1; i >= 0 && r->e[i].at / slice + BREAKER_BUCKETS > now / slice; i--)
        calls++, bad += r->e[i].failed;
    for (int i = r->n - 1; i >= 0 && r->e[i].failed; i--) row++;
    return row >= (int)r->o.row_max ||
           (calls >= (int)r->o.window_calls && bad >= r->o.rate_max * calls);
}
static void ref_leave(ref *r, const ref_ticket *t, uint64_t now, guard_outcome what) {
    ref_time(r, now);
    if (what == GUARD_OK && now - t->start >= r->o.slow_ms * (uint64_t)MS) what = GUARD_FAILED;
    if (t->epoch != r->epoch || (r->state == 'h' && t->probe != r->probe)) return;
    if (r->state == 'h') r->probe = 0;
    if (what == GUARD_IGNORED) return;
    if (r->state == 'c') r->e[r->n].at = now, r->e[r->n++].failed = what == GUARD_FAILED;
    if (what == GUARD_FAILED && (r->state == 'h' || ref_too_many(r, now))) ref_to(r, 'o', now);
    if (what == GUARD_OK && r->state == 'h' && ++r->good >= (int)r->o.probes) ref_to(r, 'c', now);
}

/* ---- random events to both ---- */

enum { OPEN_CALLS = 8, STEPS = 3000 };

typedef struct pair {
    bool on;
    breaker_ticket t;
    ref_ticket rt;
} pair;

static void random_options(rng *r, breaker_options *o) {
    *o = (breaker_options){.row_max = 2 + rng_below(r, 6),
                           .window_ms = 100 * (1 + rng_below(r, 50)),
                           .window_calls = 3 + rng_below(r, 20),
                           .rate_max = 0.2 + 0.7 * rng_unit(r),
                           .open_ms = 50 + rng_below(r, 3000),
                           .probes = 1 + rng_below(r, 3),
                           .slow_ms = 200 + rng_below(r, 500),
                           .probe_ms = 100 + rng_below(r, 2000)};
}

static char letter(breaker_state s) {
    return "coh"[s];
}

static void one_run(uint64_t seed, uint64_t *seen) {
    rng r;
    breaker b;
    static ref f;
    pair p[OPEN_CALLS] = {0};
    breaker_options o;
    rng_seed(&r, seed);
    random_options(&r, &o);
    memset(&f, 0, sizeof f);
    f.o = o, f.state = 'c';
    assert_int_equal(breaker_init(&b, &o), OK);
    uint64_t now = 1000 * MS;
    double bad = rng_unit(&r);
    for (int i = 0; i < STEPS; i++) {
        now += rng_below(&r, 10) ? rng_below(&r, 60 * MS) : (uint64_t)rng_below(&r, 4000) * MS;
        if (rng_below(&r, 100) == 0) bad = rng_unit(&r);
        pair *c = &p[rng_below(&r, OPEN_CALLS)];
        if (!c->on) {
            bool may = rng_below(&r, 2), a = breaker_enter(&b, now, may, &c->t),
                 e = ref_enter(&f, now, may, &c->rt);
            if (a != e)
                fail_msg("seed %llu step %d: enter %d, reference %d", (unsigned long long)seed, i,
                         a, e);
            c->on = a;
        } else {
            guard_outcome w = rng_unit(&r) < bad       ? GUARD_FAILED
                              : rng_below(&r, 10) == 0 ? GUARD_IGNORED
                                                       : GUARD_OK;
            breaker_leave(&b, &c->t, now, w);
            ref_leave(&f, &c->rt, now, w);
            c->on = false;
        }
        breaker_stats s;
        breaker_stats_get(&b, now, &s);
        ref_time(&f, now);
        if (letter(s.state) != f.state)
            fail_msg("seed %llu step %d: state %s, reference %c", (unsigned long long)seed, i,
                     breaker_state_name(s.state), f.state);
        assert_int_equal(breaker_shut(&b, now), f.state != 'c');
        seen[s.state]++;
    }
    breaker_deinit(&b);
}

static void breaker_as_its_reference(void **state) {
    (void)state;
    uint64_t seen[3] = {0};
    int runs = getenv("KITH_LONG") ? 20000 : 400;
    for (int i = 1; i <= runs; i++) one_run((uint64_t)i, seen);
    for (int i = 0; i < 3; i++)
        assert_true(seen[i] > (uint64_t)runs * 20); /* all states were met */
}

static void five_in_a_row_then_one_probe(void **state) {
    (void)state;
    breaker b;
    breaker_ticket t, u;
    uint64_t now = 5 * MS;
    assert_int_equal(breaker_init(&b, NULL), OK);
    for (int i = 0; i < 5; i++) {
        assert_true(breaker_enter(&b, now, false, &t));
        breaker_leave(&b, &t, now, GUARD_FAILED);
    }
    assert_false(breaker_enter(&b, now + 59999ull * MS, true, &t));
    assert_int_equal(breaker_probe_in(&b, now + 59999ull * MS), MS);
    now += 60000ull * MS;
    assert_int_equal(breaker_probe_in(&b, now), 0);
    assert_false(
        breaker_enter(&b, now, false, &t)); /* who may not probe never waits for a dead one */
    assert_true(breaker_enter(&b, now, true, &t));
    assert_false(breaker_enter(&b, now, true, &u)); /* one at a time */
    breaker_leave(&b, &t, now, GUARD_OK);
    assert_true(breaker_enter(&b, now, true, &t));
    breaker_leave(&b, &t, now, GUARD_OK);
    assert_true(breaker_enter(&b, now, false, &t));
    assert_int_equal(breaker_probe_in(&b, now), UINT64_MAX);
    breaker_stats s;
    breaker_stats_get(&b, now, &s);
    assert_true(s.opened == 1 && s.closed == 1 && s.probes == 2 && s.failures == 5);
    breaker_deinit(&b);
}

/* ---- limiter ---- */

static void limits_that_were_given_hold(void **state) {
    (void)state;
    limiter l;
    assert_int_equal(limiter_init(&l, &(limiter_options){600, 60000}), OK);
    uint64_t requests = 0, now = 1;
    double tokens = 0;
    for (int ms = 0; ms < 120000; ms++, now += MS) {
        if (limiter_take(&l, now, 50, true)) continue;
        requests++;
        tokens += 50;
    }
    assert_in_range(requests, 1190, 1260); /* two minutes and a burst of 6 s */
    assert_true(tokens < 2.1 * 60000);
    limiter_deinit(&l);
    assert_int_equal(limiter_init(&l, &(limiter_options){600, 60000}), OK);
    tokens = 0;
    for (int ms = 0; ms < 60000; ms++, now += MS)
        if (!limiter_take(&l, now, 2000, true)) tokens += 2000;
    assert_true(tokens > 55000 && tokens < 70000); /* here tokens are what is short */
    limiter_deinit(&l);
}

static void bulk_leaves_room_for_queries(void **state) {
    (void)state;
    limiter l;
    assert_int_equal(limiter_init(&l, &(limiter_options){600, 0}), OK);
    uint64_t now = 1, late = 0;
    for (int ms = 0; ms < 60000; ms++, now += MS) {
        while (limiter_take(&l, now, 1, true) == 0) {}
        if (ms % 1000 == 500) late += limiter_take(&l, now, 1, false) != 0;
    }
    assert_int_equal(late, 0);
    limiter_deinit(&l);
}

static void a_limit_is_learned_from_refusals(void **state) {
    (void)state;
    limiter l;
    assert_int_equal(limiter_init(&l, NULL), OK);
    /* A service of 10 requests a second, asked 100 times a second. */
    double bucket = 10;
    uint64_t now = 1, ok = 0, refused = 0, late_ok = 0, late_refused = 0;
    for (int ms = 0; ms < 120000; ms += 10, now += 10 * MS) {
        bucket = MIN(bucket + 0.1, 10.0);
        if (limiter_take(&l, now, 10, false)) continue;
        bool good = bucket >= 1;
        if (good) bucket -= 1;
        if (good)
            limiter_fine(&l);
        else
            limiter_throttled(&l, now, 0);
        *(good ? &ok : &refused) += 1;
        if (ms > 60000) *(good ? &late_ok : &late_refused) += 1;
    }
    assert_true(late_ok > 60 * 10 * 0.7);          /* most of what there is */
    assert_true(late_refused < late_ok * 5 / 100); /* and hardly a refusal */
    limiter_stats s;
    limiter_stats_get(&l, now, &s);
    assert_int_equal(s.throttled, refused);
    limiter_throttled(&l, now, 7000);
    assert_true(limiter_take(&l, now + 6900ull * MS, 1, false) > 0);
    limiter_stats_get(&l, now, &s);
    assert_int_equal(s.paused_ms, 7000);
    assert_int_equal(limiter_take(&l, now + 7100ull * MS, 1, false), 0);
    limiter_deinit(&l);
    /* One refusal of a quiet service does not stop it for long; many in a row do. */
    assert_int_equal(limiter_init(&l, NULL), OK);
    now = 1;
    for (int i = 0; i < 6; i++) {
        limiter_throttled(&l, now, 0);
        uint64_t wait = limiter_take(&l, now, 10, true);
        assert_in_range(wait, MS * 200, i == 0 ? 2500ull * MS : 20000ull * MS);
        now += 20000ull * MS;
        assert_int_equal(limiter_take(&l, now, 10, true), 0);
    }
    limiter_throttled(&l, now, 0);
    assert_true(limiter_take(&l, now + 10000ull * MS, 10, true) > 0);
    now += 60000ull * MS; /* answers between refusals of the same moment: found by the storm test */
    for (int i = 0; i < 4; i++) {
        limiter_fine(&l);
        limiter_throttled(&l, now, 0);
    }
    assert_int_equal(limiter_take(&l, now + 10000ull * MS, 10, true), 0);
    limiter_deinit(&l);
}

/* ---- retries and spending ---- */

static void retries_stay_within_their_share(void **state) {
    (void)state;
    retry_budget b;
    rng r;
    rng_seed(&r, 1);
    assert_int_equal(retry_budget_init(&b, 0.1), OK);
    int made = 0;
    for (int i = 0; i < 10000; i++) {
        retry_budget_call(&b);
        for (int k = 0; k < 3; k++) made += retry_budget_take(&b);
    }
    assert_in_range(made, 1000, 1000 + (int)RETRY_BURST);
    retry_budget_deinit(&b);
    uint64_t sum = 0;
    for (int i = 0; i < 10000; i++) {
        uint64_t d = retry_delay_ms(&r, 3, 100, 5000);
        assert_true(d <= 800);
        sum += d;
    }
    assert_in_range(sum / 10000, 370, 430); /* the whole interval, evenly */
    assert_true(retry_delay_ms(&r, 60, 100, 5000) <= 5000);
}

static void caps_by_day_and_month(void **state) {
    (void)state;
    spend s;
    spend_stats st;
    const int64_t day = 86400000, t = 20000 * day; /* 4 October 2024 */
    assert_int_equal(spend_init(&s, &(spend_options){10, 50}), OK);
    assert_int_equal(spend_add(&s, t, 7), 0);
    assert_int_equal(spend_add(&s, t, 1.5), 80);
    assert_int_equal(spend_add(&s, t, 0.5), 0);
    assert_false(spend_closed(&s, t));
    assert_int_equal(spend_add(&s, t, 1), 100);
    assert_true(spend_closed(&s, t));
    assert_false(spend_closed(&s, t + day));
    for (int i = 1; i < 6; i++) (void)spend_add(&s, t + i * day, 9);
    assert_true(spend_closed(&s, t + 6 * day));   /* the month's: 10 + 5 x 9 */
    assert_false(spend_closed(&s, t + 30 * day)); /* November */
    spend_stats_get(&s, t + 30 * day, &st);
    assert_true(st.day <= 0 && st.month <= 0);
    st = (spend_stats){.day = 10, .month = 10, .day_number = 20001, .month_number = 2024 * 12 + 9};
    spend_restore(&s, &st);
    assert_true(spend_closed(&s, t + day));
    spend_deinit(&s);
    assert_int_equal(spend_init(&s, NULL), OK);
    assert_int_equal(spend_add(&s, t, 1e12), 0); /* no caps */
    assert_false(spend_closed(&s, t));
    spend_deinit(&s);
}

static void retry_after_in_seconds_and_as_a_date(void **state) {
    (void)state;
    static const struct {
        const char *header;
        uint64_t ms;
    } rows[] = {{"2", 2000},
                {"0.5", 500},
                {"0", 0},
                {"-3", 0},
                {"86400", 86400000},
                {"86401", 0},
                {"nan", 0},
                {"Sun, 06 Nov 1994 08:49:37 GMT", 7000},
                {"Sun, 06 Nov 1994 08:49:30 GMT", 0}, /* now */
                {"Sun, 06 Nov 1994 08:49:29 GMT", 0},
                {"Mon, 07 Nov 1994 08:49:30 GMT", 86400000},
                {"Mon, 07 Nov 1994 08:49:31 GMT", 0},
                {"Sun, 06 Nov 1994 08:49:37 CET", 0},
                {"Sun, 06 Nox 1994 08:49:37 GMT", 0},
                {"Sun, 36 Nov 1994 08:49:37 GMT", 0},
                {"Sunday, 06-Nov-94 08:49:37 GMT", 0},
                {"", 0}};
    int64_t now;
    assert_true(time_parse(STR("1994-11-06T08:49:30Z"), &now));
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_int_equal(retry_after_ms(str_of(rows[i].header), now), rows[i].ms);
    assert_int_equal(retry_after_ms((str){NULL, 0}, now), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(breaker_as_its_reference),
        cmocka_unit_test(five_in_a_row_then_one_probe),
        cmocka_unit_test(limits_that_were_given_hold),
        cmocka_unit_test(bulk_leaves_room_for_queries),
        cmocka_unit_test(a_limit_is_learned_from_refusals),
        cmocka_unit_test(retries_stay_within_their_share),
        cmocka_unit_test(caps_by_day_and_month),
        cmocka_unit_test(retry_after_in_seconds_and_as_a_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
