/* Crashes. On a simulated disk: power cuts at any call, any mixture of the unsynced sectors,
 * sizes and names. On the machine's disk: a child that appends is killed with SIGKILL, again and
 * again on the same directory.
 *
 * Each append call carries its own number; what the journal acknowledged is known outside it (in
 * memory, or in a pipe from the child). After each crash every acknowledged call is there, at its
 * place, and every other one is whole or absent.
 */
#include "journal/journal_test_util.h"

#include <signal.h>
#include <sys/wait.h>

/* --- power cuts ------------------------------------------------------------------------------ */

#define CALL_RECORDS(i) (1 + (uint64_t)(i) % 4)

/* Entry numbers: call i has entries 10 i, 10 i + 1, ...; so a record tells its call. */
static err append_call(journal *j, uint64_t i, uint64_t *last) {
    return test_append(j, 10 * i, CALL_RECORDS(i), last);
}

static uint64_t record_number(const journal_record *rec) {
    uint64_t n;
    assert_true(str_to_u64(str_skip(rec->key, 1), &n));
    test_record_is(rec, n);
    return n;
}

typedef struct seen {
    uint64_t calls;     /* found, whole */
    uint64_t last_call; /* the highest */
} seen;

/* Reads all; calls grow, are whole; every one up to `acknowledged` that was made must be there. */
static void read_calls(journal *j, const uint8_t *acknowledged, uint64_t count, seen *out) {
    *out = (seen){0};
    journal_reader *rd;
    journal_record rec;
    assert_ok(journal_reader_open(j, 1, &rd));
    err rc;
    uint64_t next = 1;
    while ((rc = journal_read(rd, &rec)) == OK) {
        uint64_t n = record_number(&rec), call = n / 10;
        assert_int_equal(n % 10, 0);
        assert_true(call >= next);
        for (; next < call; next++)
            if (next <= count && acknowledged[next])
                fail_msg("call %llu was acknowledged and is lost", (unsigned long long)next);
        next = call + 1;
        for (uint64_t i = 1; i < CALL_RECORDS(call); i++) {
            assert_ok(journal_read(rd, &rec));
            assert_int_equal(record_number(&rec), n + i);
        }
        assert_true(rec.last);
        out->calls++;
        out->last_call = call;
    }
    assert_int_equal(rc, ERR_NOT_FOUND);
    for (; next <= count; next++)
        if (acknowledged[next])
            fail_msg("call %llu was acknowledged and is lost", (unsigned long long)next);
    journal_reader_close(rd);
}

enum { POWER_CALLS = 60, POWER_MORE = 5, POWER_ALL = POWER_CALLS + POWER_MORE };

/* Works until the fault plan kills the disk; tells what was acknowledged. */
static void power_work(fs *disk, const journal_options *o, uint8_t *acknowledged) {
    journal *j;
    if (journal_open(disk, "j", o, &j) != OK) return;
    uint64_t last, dropped = 0;
    for (uint64_t i = 1; i <= POWER_CALLS; i++) {
        if (append_call(j, i, &last) == OK) acknowledged[i] = 1;
        if (i % 25 == 0 && !dropped) {
            err rc = journal_drop_before(j, 0); /* writes nothing, takes the lead */
            (void)rc;
        }
    }
    journal_close(j);
}

static void print_problem(void *ctx, const journal_problem *p) {
    (void)ctx;
    if (p->code != OK)
        print_message("%s: offset %llu, record %llu: %s\n", p->file, (unsigned long long)p->offset,
                      (unsigned long long)p->lsn, p->text);
}

static void power_check(fs *after, const journal_options *o, const uint8_t *acknowledged) {
    bool any = false;
    for (int i = 1; i <= POWER_ALL; i++) any |= acknowledged[i];
    journal *j;
    err rc = journal_verify(after, "j", print_problem, NULL, NULL);
    if (rc != OK && (rc != ERR_NOT_FOUND || any)) fail_msg("verify: %s", err_detail());
    assert_ok(journal_open(after, "j", o, &j));
    seen s;
    read_calls(j, acknowledged, POWER_ALL, &s);
    uint64_t last;
    assert_ok(append_call(j, POWER_ALL + 1, &last));
    assert_int_equal(last, journal_head_lsn(j));
    journal_close(j);
    assert_ok(journal_open(after, "j", o, &j));
    assert_int_equal(journal_recovered(j)->cut_bytes, 0);
    read_calls(j, acknowledged, POWER_ALL, &s);
    assert_int_equal(s.last_call, POWER_ALL + 1);
    journal_close(j);
}

/* The process died but not the machine: it is started again, and what its readers see then is as
 * good as acknowledged, and it goes on. (The disk's handles are closed, what was not synced is in
 * its cache still.) */
static void power_seen(fs *disk, const journal_options *o, uint8_t *acknowledged) {
    journal *j;
    journal_reader *rd;
    journal_record rec;
    fs_fault_plan(disk, (fault_plan){0});
    assert_ok(journal_open(disk, "j", o, &j));
    assert_ok(journal_reader_open(j, 1, &rd));
    while (journal_read(rd, &rec) == OK) acknowledged[record_number(&rec) / 10] = 1;
    journal_reader_close(rd);
    uint64_t last;
    for (uint64_t i = POWER_CALLS + 1; i <= POWER_ALL; i++) {
        assert_ok(append_call(j, i, &last));
        acknowledged[i] = 1;
    }
    fs_fault_plan(disk,
                  (fault_plan){.kinds = FAULT_ALL, .nth = 1, .code = ERR_IO, .forever = true});
    journal_close(j);
}

static void power_seed(uint64_t seed) {
    rng r;
    rng_seed(&r, seed);
    fs *sim, *disk, *after, *again;
    uint8_t acknowledged[POWER_ALL + 2] = {0};
    journal_options o = {.segment_bytes = rng_below(&r, 2) ? 4096 : 16384,
                         .mark_sync_always = rng_below(&r, 4) == 0};
    assert_ok(fs_sim_open(&sim));
    assert_ok(fs_fault_open(sim, &disk));
    fs_fault_plan(disk, (fault_plan){.kinds = FAULT_WRITE | FAULT_SYNC | FAULT_RENAME |
                                              FAULT_UNLINK | FAULT_RESERVE,
                                     .nth = 1 + rng_below(&r, 260),
                                     .code = ERR_IO,
                                     .forever = true,
                                     .torn = rng_below(&r, 2)});
    power_work(disk, &o, acknowledged);
    if (rng_below(&r, 2)) power_seen(disk, &o, acknowledged);
    for (int i = 0; i < 4; i++) {
        assert_ok(fs_sim_crash(sim, &r, &after));
        /* Half the time recovery itself is cut off and has to be done again. */
        if (rng_below(&r, 2)) {
            fs *weak;
            assert_ok(fs_fault_open(after, &weak));
            fs_fault_plan(weak, (fault_plan){.kinds = FAULT_WRITE | FAULT_SYNC | FAULT_RENAME |
                                                      FAULT_UNLINK | FAULT_RESERVE,
                                             .nth = 1 + rng_below(&r, 8),
                                             .code = ERR_IO,
                                             .forever = true});
            journal *j;
            if (journal_open(weak, "j", &o, &j) == OK) journal_close(j);
            fs_fault_close(weak);
            assert_ok(fs_sim_crash(after, &r, &again));
            fs_sim_close(after);
            after = again;
        }
        power_check(after, &o, acknowledged);
        fs_sim_close(after);
    }
    fs_fault_close(disk);
    fs_sim_close(sim);
}

static uint64_t seed_now; /* of the run in hand: a failure leaves the test by a jump */

static int tell_seed(void **state) {
    (void)state;
    print_message("last seed %llu (KITH_SEED=... repeats one)\n", (unsigned long long)seed_now);
    return 0;
}

static void power_cuts(void **state) {
    (void)state;
    const char *one = getenv("KITH_SEED");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    uint64_t count = one ? 1 : test_is_long() ? 25000 : 500;
    for (seed_now = first; seed_now < first + count; seed_now++) power_seed(seed_now);
    seed_now--;
}

/* --- SIGKILL --------------------------------------------------------------------------------- */

typedef struct kill_child {
    journal *j;
    int pipe;
    uint64_t first, step; /* calls first, first + step, ... are this thread's */
} kill_child;

static void child_append(void *arg) {
    kill_child *c = arg;
    uint64_t last;
    for (uint64_t i = c->first;; i += c->step) {
        if (append_call(c->j, i, &last) != OK) _exit(3);
        if (write(c->pipe, &i, sizeof i) != sizeof i) _exit(4);
    }
}

/* Appends from three threads until killed. Calls of different threads come in any order, so the
 * parent checks them as a set. */
static void child_main(const char *dir, int pipe, uint64_t first) {
    journal *j;
    if (journal_open(fs_real(), dir, &(journal_options){.segment_bytes = 65536}, &j) != OK)
        _exit(2);
    thread t[3];
    kill_child c[3];
    for (uint64_t i = 0; i < 3; i++) {
        c[i] = (kill_child){j, pipe, first + i, 3};
        if (thread_start(&t[i], "append", child_append, &c[i]) != OK) _exit(5);
    }
    thread_join(&t[0]);
    _exit(6);
}

/* Reads all records: marks which calls are there, each whole, none twice. */
static uint64_t kill_check(const char *dir, uint8_t *there, uint64_t max) {
    journal *j;
    journal_reader *rd;
    journal_record rec;
    memset(there, 0, max);
    assert_ok(journal_verify(fs_real(), dir, NULL, NULL, NULL));
    assert_ok(journal_open(fs_real(), dir, &(journal_options){.segment_bytes = 65536}, &j));
    assert_ok(journal_reader_open(j, 1, &rd));
    err rc;
    uint64_t top = 0;
    while ((rc = journal_read(rd, &rec)) == OK) {
        uint64_t n = record_number(&rec), call = n / 10;
        assert_true(n % 10 == 0 && call < max);
        assert_int_equal(there[call], 0);
        there[call] = 1;
        top = MAX(top, call);
        for (uint64_t i = 1; i < CALL_RECORDS(call); i++) {
            assert_ok(journal_read(rd, &rec));
            assert_int_equal(record_number(&rec), n + i);
        }
        assert_true(rec.last);
    }
    assert_int_equal(rc, ERR_NOT_FOUND);
    journal_reader_close(rd);
    journal_close(j);
    return top;
}

static void kill_nine(void **state) {
    (void)state;
    enum { CALLS = 1 << 20 };
    char dir[64];
    test_dir_make(dir);
    uint8_t *acknowledged = calloc(CALLS, 1), *there = calloc(CALLS, 1);
    rng r;
    rng_seed(&r, 99);
    uint64_t next = 1, total = 0;
    for (int round = 0; round < (test_is_long() ? 1000 : 20); round++) {
        int p[2];
        assert_int_equal(pipe(p), 0);
        pid_t child = fork();
        if (child == 0) {
            close(p[0]);
            child_main(dir, p[1], next);
        }
        close(p[1]);
        uint64_t i, want = rng_below(&r, 120); /* acknowledged calls before the kill */
        for (uint64_t got = 0; got < want && read(p[0], &i, sizeof i) == sizeof i; got++)
            acknowledged[i] = 1, total++;
        assert_int_equal(kill(child, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        while (read(p[0], &i, sizeof i) == sizeof i) acknowledged[i] = 1, total++;
        close(p[0]);
        uint64_t top = kill_check(dir, there, CALLS);
        for (i = 1; i < CALLS; i++)
            if (acknowledged[i] && !there[i])
                fail_msg("round %d: call %llu is lost", round, (unsigned long long)i);
        next = MAX(next, top + 1);
        assert_true(next + 100000 < CALLS);
    }
    print_message("%llu calls acknowledged over the kills\n", (unsigned long long)total);
    free(acknowledged);
    free(there);
    test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(power_cuts, tell_seed),
        cmocka_unit_test(kill_nine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
