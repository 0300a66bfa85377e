/* Threads: many append (waiting and asynchronously), many read, one drops, one verifies, at once.
 * LSNs come out dense, each thread's calls in its order, groups really are groups. Run under TSan
 * too.
 */
#include "journal/journal_test_util.h"

enum { WRITERS = 8, READERS = 3, CALLS = 250 };

typedef struct shared {
    fs *disk;
    journal *j;
    mutex mu;
    uint8_t *told; /* by LSN - 1: how often a call was told this number */
    uint64_t told_calls;
    uint64_t total; /* records that will come */
    bool stop;
} shared;

typedef struct writer_arg {
    shared *s;
    uint64_t id;
} writer_arg;

static void tell(shared *s, uint64_t first, uint64_t last) {
    mutex_lock(&s->mu);
    for (uint64_t i = first; i <= last; i++) s->told[i - 1]++;
    s->told_calls++;
    mutex_unlock(&s->mu);
}

static void write_waiting(void *arg) {
    writer_arg *w = arg;
    for (uint64_t i = 0; i < CALLS; i++) {
        uint64_t last, n = 1 + i % 3;
        /* Entry numbers of one thread grow, and tell the thread. */
        assert_ok(test_append(w->s->j, w->id * 1000000 + i * 10, n, &last));
        tell(w->s, last - n + 1, last);
    }
}

static void on_done(void *ctx, err rc, uint64_t first, uint64_t last) {
    assert_int_equal(rc, OK);
    tell(ctx, first, last);
}

static void write_async(void *arg) {
    writer_arg *w = arg;
    for (uint64_t i = 0; i < CALLS; i++) {
        test_entry t[3];
        journal_entry e[3];
        uint64_t n = 1 + i % 3;
        for (uint64_t k = 0; k < n; k++) {
            test_entry_fill(&t[k], w->id * 1000000 + i * 10 + k);
            e[k] = t[k].e;
        }
        assert_ok(journal_append_async(w->s->j, e, n, on_done, w->s));
    }
}

static void read_following(void *arg) {
    shared *s = arg;
    journal_reader *rd;
    journal_record rec;
    uint64_t before[WRITERS] = {0};
    assert_ok(journal_reader_open(s->j, 1, &rd));
    while (journal_reader_lsn(rd) <= s->total) {
        err rc = journal_read(rd, &rec);
        if (rc == ERR_NOT_FOUND) {
            assert_ok(journal_wait(s->j, journal_reader_lsn(rd), 60000));
            continue;
        }
        assert_int_equal(rc, OK);
        uint64_t n;
        assert_true(str_to_u64(str_skip(rec.key, 1), &n));
        test_record_is(&rec, n);
        assert_true(n >= before[n / 1000000]); /* a thread's own order */
        before[n / 1000000] = n;
    }
    journal_reader_close(rd);
}

static void verify_and_drop(void *arg) {
    shared *s = arg;
    for (bool stop = false; !stop;) {
        assert_ok(journal_verify(s->disk, "j", NULL, NULL, NULL));
        assert_ok(journal_drop_before(s->j, journal_head_lsn(s->j) / 2));
        journal_stats st;
        journal_stats_get(s->j, &st);
        journal_position p;
        journal_head(s->j, &p);
        mutex_lock(&s->mu);
        stop = s->stop;
        mutex_unlock(&s->mu);
    }
}

static void all_at_once(void **state) {
    (void)state;
    shared s = {.total = 0};
    for (uint64_t i = 0; i < CALLS; i++) s.total += WRITERS * (1 + i % 3);
    s.told = calloc(s.total, 1);
    assert_ok(mutex_init(&s.mu));
    assert_ok(fs_sim_open(&s.disk));
    assert_ok(journal_open(s.disk, "j", &(journal_options){.segment_bytes = 32768}, &s.j));
    thread writers[WRITERS], readers[READERS], other;
    writer_arg args[WRITERS];
    for (int i = 0; i < READERS; i++)
        assert_ok(thread_start(&readers[i], "read", read_following, &s));
    assert_ok(thread_start(&other, "verify", verify_and_drop, &s));
    for (uint64_t i = 0; i < WRITERS; i++) {
        args[i] = (writer_arg){&s, i};
        assert_ok(
            thread_start(&writers[i], "write", i % 3 == 2 ? write_async : write_waiting, &args[i]));
    }
    for (int i = 0; i < WRITERS; i++) thread_join(&writers[i]);
    assert_ok(journal_wait(s.j, s.total, 60000));
    for (int i = 0; i < READERS; i++) thread_join(&readers[i]);
    mutex_lock(&s.mu);
    s.stop = true;
    mutex_unlock(&s.mu);
    thread_join(&other);
    journal_stats st;
    journal_stats_get(s.j, &st);
    journal_close(s.j); /* after it all callbacks ran */
    assert_int_equal(st.appends, WRITERS * CALLS);
    assert_int_equal(st.records, s.total);
    assert_int_equal(s.told_calls, WRITERS * CALLS);
    for (uint64_t i = 0; i < s.total; i++) assert_int_equal(s.told[i], 1);
    assert_ok(journal_verify(s.disk, "j", NULL, NULL, NULL));
    free(s.told);
    mutex_deinit(&s.mu);
    fs_sim_close(s.disk);
}

/* On a real disk a sync takes long enough for others to arrive: they share the next one. */
static void groups_share_a_sync(void **state) {
    (void)state;
    char dir[64];
    test_dir_make(dir);
    shared s = {.total = 0};
    for (uint64_t i = 0; i < CALLS; i++) s.total += WRITERS * (1 + i % 3);
    s.told = calloc(s.total, 1);
    assert_ok(mutex_init(&s.mu));
    assert_ok(journal_open(fs_real(), dir, NULL, &s.j));
    thread writers[WRITERS];
    writer_arg args[WRITERS];
    for (uint64_t i = 0; i < WRITERS; i++) {
        args[i] = (writer_arg){&s, i};
        assert_ok(thread_start(&writers[i], "write", write_waiting, &args[i]));
    }
    for (int i = 0; i < WRITERS; i++) thread_join(&writers[i]);
    journal_stats st;
    journal_stats_get(s.j, &st);
    print_message("%llu appends, %llu groups, the largest of %llu calls\n",
                  (unsigned long long)st.appends, (unsigned long long)st.groups,
                  (unsigned long long)st.group_calls_max);
    assert_int_equal(st.appends, WRITERS * CALLS);
    assert_int_equal(st.fsyncs, st.groups);
    assert_true(st.groups < st.appends);
    assert_true(st.group_calls_max > 1 && st.group_calls_max <= WRITERS);
    for (uint64_t i = 0; i < s.total; i++) assert_int_equal(s.told[i], 1);
    journal_close(s.j);
    free(s.told);
    mutex_deinit(&s.mu);
    test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_at_once),
        cmocka_unit_test(groups_share_a_sync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
