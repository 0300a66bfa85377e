/* os/thread and os/clock: the pool runs every job once, a full queue says so, waits time out, and
 * the hybrid clock never goes back.
 */
#include "os/thread.h"
#include "os/clock.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void add_one(void *arg) {
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED);
}

static void pool_runs_all(void **state) {
    (void)state;
    pool *p;
    int n = 0;
    assert_int_equal(pool_open("t", 4, 1000, &p), OK);
    for (int i = 0; i < 1000; i++)
        while (pool_submit(p, add_one, &n) != OK) clock_sleep_ms(1);
    pool_close(p);
    assert_int_equal(n, 1000);
}

typedef struct gate {
    mutex mu;
    cond c;
    bool open;
} gate;

static void wait_gate(void *arg) {
    gate *g = arg;
    mutex_lock(&g->mu);
    while (!g->open) cond_wait(&g->c, &g->mu);
    mutex_unlock(&g->mu);
}

static void pool_full_says_again(void **state) {
    (void)state;
    pool *p;
    gate g = {.open = false};
    assert_int_equal(mutex_init(&g.mu), OK);
    assert_int_equal(cond_init(&g.c), OK);
    assert_int_equal(pool_open("t", 1, 2, &p), OK);
    err rc = OK;
    for (int i = 0; i < 4 && rc == OK; i++) rc = pool_submit(p, wait_gate, &g);
    assert_int_equal(rc, ERR_AGAIN);
    mutex_lock(&g.mu);
    g.open = true;
    cond_broadcast(&g.c);
    mutex_unlock(&g.mu);
    pool_close(p);
    cond_deinit(&g.c);
    mutex_deinit(&g.mu);
}

static void wait_times_out(void **state) {
    (void)state;
    gate g = {.open = false};
    assert_int_equal(mutex_init(&g.mu), OK);
    assert_int_equal(cond_init(&g.c), OK);
    mutex_lock(&g.mu);
    assert_false(cond_wait_ms(&g.c, &g.mu, 1));
    mutex_unlock(&g.mu);
    cond_deinit(&g.c);
    mutex_deinit(&g.mu);
}

static void hlc_is_monotonic(void **state) {
    (void)state;
    hlc t = hlc_next(0, 1000);
    assert_int_equal(HLC_MS(t), 1000);
    hlc back = hlc_next(t, 500); /* the wall clock jumped back */
    assert_true(back > t);
    assert_int_equal(HLC_MS(back), 1000);
    hlc fwd = hlc_next(back, 2000);
    assert_int_equal(HLC_MS(fwd), 2000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_runs_all),
        cmocka_unit_test(pool_full_says_again),
        cmocka_unit_test(wait_times_out),
        cmocka_unit_test(hlc_is_monotonic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
