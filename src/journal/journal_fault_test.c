/* Every call fails: the nth open, read, write, sync, rename, removal, reservation, once or for
 * ever after, with a broken and with a full disk, writes torn; and the nth allocation.
 *
 * The oracle knows every append call that was made and which were acknowledged. Afterwards, on a
 * good disk: each acknowledged call stands at the numbers it was told; each other is there once
 * and whole, or not at all; nothing else is there.
 */
#include "journal/journal_test_util.h"

#define CALLS_MAX 128

typedef struct call {
    uint64_t entry; /* number of its first entry */
    size_t n;
    uint64_t lsn; /* 0: not acknowledged */
} call;

typedef struct oracle {
    call calls[CALLS_MAX];
    size_t count;
    uint64_t entries;
    size_t acknowledged;
} oracle;

static err oracle_append(oracle *o, journal *j, size_t n) {
    assert_true(o->count < CALLS_MAX);
    call *c = &o->calls[o->count++];
    *c = (call){.entry = o->entries + 1, .n = n};
    o->entries += n;
    uint64_t last;
    err rc = test_append(j, c->entry, n, &last);
    if (rc == OK) {
        c->lsn = last - n + 1;
        o->acknowledged++;
    }
    return rc;
}

static uint64_t entry_number(const journal_record *rec) {
    uint64_t n;
    assert_true(str_to_u64(str_skip(rec->key, 1), &n));
    return n;
}

/* Reads the journal and holds it against the oracle. */
static void oracle_check(const oracle *o, journal *j) {
    journal_reader *rd;
    journal_record rec;
    uint64_t lsn = 0;
    size_t at = 0; /* calls come in order */
    assert_ok(journal_reader_open(j, 1, &rd));
    err rc;
    while ((rc = journal_read(rd, &rec)) == OK) {
        uint64_t n = entry_number(&rec);
        while (at < o->count && o->calls[at].entry < n) {
            if (o->calls[at].lsn)
                fail_msg("acknowledged record %llu is lost", (unsigned long long)o->calls[at].lsn);
            at++;
        }
        assert_true(at < o->count && o->calls[at].entry == n); /* a call begins here */
        const call *c = &o->calls[at++];
        if (c->lsn) assert_int_equal(rec.lsn, c->lsn);
        for (size_t i = 0;; i++) {
            assert_int_equal(rec.lsn, ++lsn);
            test_record_is(&rec, c->entry + i);
            if (i + 1 == c->n) break;
            assert_false(rec.last);
            assert_ok(journal_read(rd, &rec));
        }
        assert_true(rec.last);
    }
    assert_int_equal(rc, ERR_NOT_FOUND);
    for (; at < o->count; at++) assert_int_equal(o->calls[at].lsn, 0);
    journal_reader_close(rd);
}

static const journal_options small = {.segment_bytes = 4096};

/* Opens, appends over several segments, reads a little, closes. */
static void work(fs *disk, oracle *o) {
    journal *j;
    if (journal_open(disk, "j", &small, &j) != OK) {
        assert_null(j);
        return;
    }
    for (int i = 0; i < 40; i++) {
        err rc = oracle_append(o, j, 1 + (size_t)i % 4);
        assert_true(rc == OK || err_detail()[0]);
        if (i % 16 != 15) continue;
        journal_reader *rd;
        journal_record rec;
        if (journal_reader_open(j, 1, &rd) == OK) {
            uint64_t lsn = 1;
            for (err r; (r = journal_read(rd, &rec)) == OK; lsn++) assert_int_equal(rec.lsn, lsn);
            journal_reader_close(rd);
        }
    }
    journal_close(j);
}

static void check_afterwards(fs *disk, oracle *o) {
    journal *j;
    assert_ok(journal_verify(disk, "j", NULL, NULL, NULL));
    assert_ok(journal_open(disk, "j", &small, &j));
    oracle_check(o, j);
    assert_ok(oracle_append(o, j, 3)); /* and it goes on */
    oracle_check(o, j);
    journal_close(j);
    assert_ok(journal_open(disk, "j", &small, &j));
    oracle_check(o, j);
    journal_close(j);
    journal_summary sum;
    assert_ok(journal_verify(disk, "j", NULL, NULL, &sum));
    assert_int_equal(sum.notes, 0);
}

/* One run with one fault; false when the run did not reach it. */
static bool one_fault(fault_plan plan) {
    fs *sim, *disk;
    oracle o = {0};
    assert_ok(fs_sim_open(&sim));
    assert_ok(fs_fault_open(sim, &disk));
    fs_fault_plan(disk, plan);
    work(disk, &o);
    bool met = fs_fault_calls(disk) >= plan.nth;
    fs_fault_plan(disk, (fault_plan){0});
    /* Only a journal whose making failed has no mark, and then no records. */
    if (fs_exists(sim, "j/MARK") || o.acknowledged) {
        check_afterwards(disk, &o);
    }
    fs_fault_close(disk);
    fs_sim_close(sim);
    return met;
}

static void fault_kind(unsigned kinds, err code, bool torn) {
    for (int forever = 0; forever < 2; forever++) {
        uint64_t nth = 1;
        while (one_fault((fault_plan){
            .kinds = kinds, .nth = nth, .code = code, .forever = forever, .torn = torn}))
            nth += test_is_long() ? 1 : 1 + nth / 24;
        assert_true(nth > 1);
    }
}

static void fail_open(void **state) {
    (void)state;
    fault_kind(FAULT_OPEN, ERR_IO, false);
    fault_kind(FAULT_OPEN, ERR_AGAIN, false);
}
static void fail_read(void **state) {
    (void)state;
    fault_kind(FAULT_READ, ERR_IO, false);
}
static void fail_write(void **state) {
    (void)state;
    fault_kind(FAULT_WRITE, ERR_IO, false);
    fault_kind(FAULT_WRITE, ERR_IO, true);
}
static void fail_write_full(void **state) {
    (void)state;
    fault_kind(FAULT_WRITE, ERR_NO_SPACE, false);
    fault_kind(FAULT_WRITE, ERR_NO_SPACE, true);
}
static void fail_sync(void **state) {
    (void)state;
    fault_kind(FAULT_SYNC, ERR_IO, false);
    fault_kind(FAULT_SYNC, ERR_NO_SPACE, false);
}
static void fail_names(void **state) {
    (void)state;
    fault_kind(FAULT_RENAME, ERR_IO, false);
    fault_kind(FAULT_RENAME, ERR_NO_SPACE, false);
}
static void fail_reserve(void **state) {
    (void)state;
    fault_kind(FAULT_RESERVE, ERR_NO_SPACE, false);
    fault_kind(FAULT_RESERVE, ERR_IO, false);
}
static void fail_all(void **state) {
    (void)state;
    fault_kind(FAULT_ALL, ERR_IO, true);
}

/* A failed sync: this call fails, all later ones do, waiters are told, readers go on. */
static void a_failed_sync_is_final(void **state) {
    (void)state;
    fs *sim, *disk;
    journal *j;
    oracle o = {0};
    assert_ok(fs_sim_open(&sim));
    assert_ok(fs_fault_open(sim, &disk));
    assert_ok(journal_open(disk, "j", NULL, &j));
    assert_ok(oracle_append(&o, j, 2));
    fs_fault_plan(disk, (fault_plan){.kinds = FAULT_SYNC, .nth = 1, .code = ERR_IO});
    assert_err(oracle_append(&o, j, 1), ERR_IO);
    for (int i = 0; i < 3; i++) assert_err(oracle_append(&o, j, 1), ERR_IO);
    assert_int_equal(fs_fault_calls(disk), 1); /* never tried again */
    assert_err(journal_wait(j, 3, 60000), ERR_IO);
    journal_stats st;
    journal_stats_get(j, &st);
    assert_int_equal(st.stopped, ERR_IO);
    assert_int_equal(st.failures, 4 - 3); /* later ones were refused at the door */
    assert_int_equal(journal_head_lsn(j), 2);
    journal_reader *rd;
    journal_record rec;
    assert_ok(journal_reader_open(j, 1, &rd));
    assert_ok(journal_read(rd, &rec));
    assert_ok(journal_read(rd, &rec));
    assert_err(journal_read(rd, &rec), ERR_NOT_FOUND);
    journal_reader_close(rd);
    journal_close(j);
    check_afterwards(disk, &o);
    fs_fault_close(disk);
    fs_sim_close(sim);
}

/* A full disk: told, nothing half-written left, and the journal works again when there is space. */
static void a_full_disk_is_survived(void **state) {
    (void)state;
    for (int torn = 0; torn < 2; torn++) {
        for (unsigned kinds = FAULT_WRITE; kinds <= FAULT_RESERVE; kinds = kinds * 16) {
            fs *sim, *disk;
            journal *j;
            oracle o = {0};
            assert_ok(fs_sim_open(&sim));
            assert_ok(fs_fault_open(sim, &disk));
            assert_ok(journal_open(disk, "j", &small, &j));
            assert_ok(oracle_append(&o, j, 2));
            fs_fault_plan(
                disk,
                (fault_plan){
                    .kinds = kinds, .nth = 1, .code = ERR_NO_SPACE, .forever = true, .torn = torn});
            size_t refused = 0;
            for (int i = 0; i < 40; i++) {
                err rc = oracle_append(&o, j, 3);
                assert_true(rc == ERR_NO_SPACE || (rc == OK && kinds == FAULT_RESERVE));
                refused += rc != OK;
            }
            assert_true(refused > 0);
            oracle_check(&o, j);
            fs_fault_plan(disk, (fault_plan){0});
            for (int i = 0; i < 40; i++) assert_ok(oracle_append(&o, j, 2));
            oracle_check(&o, j);
            journal_close(j);
            check_afterwards(disk, &o);
            fs_fault_close(disk);
            fs_sim_close(sim);
        }
    }
}

/* What a full disk cut off is gone before the next write, not only when it is written over. */
static void nothing_half_written_stays(void **state) {
    (void)state;
    fs *sim, *disk;
    journal *j;
    oracle o = {0};
    journal_summary sum;
    assert_ok(fs_sim_open(&sim));
    assert_ok(fs_fault_open(sim, &disk));
    assert_ok(journal_open(disk, "j", NULL, &j));
    fs_fault_plan(disk,
                  (fault_plan){.kinds = FAULT_WRITE, .nth = 1, .code = ERR_NO_SPACE, .torn = true});
    assert_err(oracle_append(&o, j, 100), ERR_NO_SPACE);
    assert_ok(journal_verify(sim, "j", NULL, NULL, &sum));
    assert_true(sum.notes > 0); /* half of it is there, as a torn tail */
    assert_ok(oracle_append(&o, j, 1));
    journal_close(j);
    assert_ok(journal_verify(sim, "j", NULL, NULL, &sum));
    assert_int_equal(sum.notes, 0);
    check_afterwards(disk, &o);
    fs_fault_close(disk);
    fs_sim_close(sim);
}

static void every_allocation_fails(void **state) {
    (void)state;
    for (long nth = 1, done = 0; !done; nth += test_is_long() ? 1 : 1 + nth / 16) {
        fs *sim;
        oracle o = {0};
        assert_ok(fs_sim_open(&sim));
        mem_fail_after(nth);
        work(sim, &o);
        mem_fail_after(0);
        done = o.acknowledged == 40 && nth > 400; /* far behind the last */
        if (fs_exists(sim, "j/MARK")) check_afterwards(sim, &o);
        fs_sim_close(sim);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fail_open),
        cmocka_unit_test(fail_read),
        cmocka_unit_test(fail_write),
        cmocka_unit_test(fail_write_full),
        cmocka_unit_test(fail_sync),
        cmocka_unit_test(fail_names),
        cmocka_unit_test(fail_reserve),
        cmocka_unit_test(fail_all),
        cmocka_unit_test(a_failed_sync_is_final),
        cmocka_unit_test(a_full_disk_is_survived),
        cmocka_unit_test(nothing_half_written_stays),
        cmocka_unit_test(every_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
