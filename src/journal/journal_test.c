/* The journal against an oracle: what was appended is what is read, across reopening, segments and
 * readers; limits; the lock; dropping; finding by time; verify. Damage, faults, crashes and
 * threads have files of their own.
 */
#include "journal/journal_test_util.h"

#include <sys/stat.h>
#include <sys/wait.h>

/* Reads all from `lsn` on; entry numbers are LSNs. Returns how many records came. */
static uint64_t read_all(journal *j, uint64_t lsn) {
    journal_reader *rd;
    assert_ok(journal_reader_open(j, lsn, &rd));
    journal_record rec;
    hlc time = 0;
    uint64_t n = 0, next = lsn ? lsn : journal_first_lsn(j);
    err rc;
    while ((rc = journal_read(rd, &rec)) == OK) {
        assert_int_equal(rec.lsn, next);
        test_record_is(&rec, next++);
        assert_true(rec.time > time);
        time = rec.time;
        n++;
    }
    assert_int_equal(rc, ERR_NOT_FOUND);
    assert_int_equal(journal_reader_lsn(rd), next);
    journal_reader_close(rd);
    return n;
}

static void append_read_reopen(void **state) {
    (void)state;
    char dir[64];
    test_dir_make(dir);
    journal *j;
    assert_ok(journal_open(fs_real(), dir, &(journal_options){.segment_bytes = 8192}, &j));
    assert_true(journal_recovered(j)->created);
    uint64_t next = 1, last;
    rng r;
    rng_seed(&r, 7);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 30; i++) {
            size_t n = 1 + rng_below(&r, 5);
            assert_ok(test_append(j, next, n, &last));
            assert_int_equal(last, next + n - 1);
            next += n;
        }
        journal_close(j);
        assert_ok(journal_open(fs_real(), dir, &(journal_options){.segment_bytes = 8192}, &j));
        assert_false(journal_recovered(j)->created);
        assert_int_equal(journal_recovered(j)->cut_bytes, 0);
        assert_int_equal(journal_head_lsn(j), next - 1);
        assert_int_equal(read_all(j, 0), next - 1);
        journal_summary sum;
        assert_ok(journal_verify(fs_real(), dir, NULL, NULL, &sum)); /* while it is open */
        assert_int_equal(sum.records, next - 1);
        assert_int_equal(sum.first_lsn, 1);
        assert_int_equal(sum.last_lsn, next - 1);
        assert_int_equal(sum.notes, 0);
        assert_true(sum.segments > 1);
    }
    journal_close(j);
    test_dir_remove(dir);
}

typedef struct sim_journal {
    fs *disk;
    journal *j;
    int64_t now_ms;
} sim_journal;

static int64_t sim_wall(void *ctx) {
    return ((sim_journal *)ctx)->now_ms;
}

static void sim_journal_open(sim_journal *s, size_t segment_bytes) {
    *s = (sim_journal){.now_ms = 1000};
    assert_ok(fs_sim_open(&s->disk));
    journal_options o = {
        .segment_bytes = segment_bytes, .wall_ms = sim_wall, .wall_ctx = s, .region = 5};
    assert_ok(journal_open(s->disk, "j", &o, &s->j));
}

static void sim_journal_close(sim_journal *s) {
    journal_close(s->j);
    fs_sim_close(s->disk);
}

static void readers_from_everywhere(void **state) {
    (void)state;
    sim_journal s;
    sim_journal_open(&s, 4096);
    uint64_t last;
    for (uint64_t n = 1; n <= 100; n++) assert_ok(test_append(s.j, n, 1, &last));
    for (uint64_t from = 1; from <= 101; from++) assert_int_equal(read_all(s.j, from), 101 - from);
    journal_reader *rd;
    assert_err(journal_reader_open(s.j, 102, &rd), ERR_INVALID);
    assert_null(rd);

    /* A reader at the head goes on over new records and new segments. */
    assert_ok(journal_reader_open(s.j, 101, &rd));
    journal_record rec;
    for (uint64_t n = 101; n <= 200; n++) {
        assert_err(journal_read(rd, &rec), ERR_NOT_FOUND);
        assert_ok(test_append(s.j, n, 1, &last));
        assert_ok(journal_read(rd, &rec));
        assert_int_equal(rec.lsn, n);
        test_record_is(&rec, n);
        assert_int_equal(rec.region, n % 3 ? n % 3 : 5);
    }
    journal_reader_close(rd);
    sim_journal_close(&s);
}

static void limits(void **state) {
    (void)state;
    sim_journal s;
    sim_journal_open(&s, 4096);
    uint64_t first, last;
    size_t big = JOURNAL_BODY_MAX + 1;
    char *p = calloc(1, big);
    journal_entry e[5] = {{.kind = 1, .key = STR("k")}};
    assert_err(journal_append(s.j, e, 0, &first, &last), ERR_INVALID);
    e[0].kind = 0;
    assert_err(journal_append(s.j, e, 1, &first, &last), ERR_INVALID);
    e[0].kind = 1;
    e[0].key = str_from(p, JOURNAL_KEY_MAX + 1);
    assert_err(journal_append(s.j, e, 1, &first, &last), ERR_TOO_LARGE);
    e[0].key.len--;
    e[0].body = str_from(p, big);
    assert_err(journal_append(s.j, e, 1, &first, &last), ERR_TOO_LARGE);
    e[0].body.len--;
    for (int i = 1; i < 5; i++) e[i] = e[0];
    assert_err(journal_append(s.j, e, 5, &first, &last), ERR_TOO_LARGE);
    assert_int_equal(journal_head_lsn(s.j), 0);
    journal_entry *many = calloc(JOURNAL_ENTRIES_MAX + 1, sizeof *many);
    for (int i = 0; i <= JOURNAL_ENTRIES_MAX; i++) many[i].kind = 1;
    assert_err(journal_append(s.j, many, JOURNAL_ENTRIES_MAX + 1, &first, &last), ERR_TOO_LARGE);
    assert_ok(journal_append(s.j, many, JOURNAL_ENTRIES_MAX, &first, &last));
    assert_int_equal(last, JOURNAL_ENTRIES_MAX);
    free(many);

    /* The largest, which needs a segment of its own, is read back whole. */
    for (size_t i = 0; i < big; i++) p[i] = (char)(i * 31 + (i >> 9));
    assert_ok(journal_append(s.j, e, 3, &first, &last));
    journal_reader *rd;
    assert_ok(journal_reader_open(s.j, first, &rd));
    journal_record rec;
    for (int i = 0; i < 3; i++) {
        assert_ok(journal_read(rd, &rec));
        assert_true(str_eq(rec.body, e[0].body));
        assert_true(str_eq(rec.key, e[0].key));
        assert_int_equal(rec.last, i == 2);
    }
    journal_reader_close(rd);
    free(p);
    sim_journal_close(&s);

    journal *j;
    fs *disk;
    assert_ok(fs_sim_open(&disk));
    assert_err(journal_open(disk, "j", &(journal_options){.segment_bytes = 100}, &j), ERR_INVALID);
    assert_null(j);
    fs_sim_close(disk);
}

static void drops_whole_segments_only(void **state) {
    (void)state;
    sim_journal s;
    sim_journal_open(&s, 4096);
    uint64_t last;
    for (uint64_t n = 1; n <= 300; n++) assert_ok(test_append(s.j, n, 1, &last));
    journal_stats st;
    journal_stats_get(s.j, &st);
    assert_true(st.segments > 6);
    uint64_t before = st.segments;
    assert_ok(journal_drop_before(s.j, 1));
    journal_stats_get(s.j, &st);
    assert_int_equal(st.segments, before);

    journal_reader *rd;
    assert_ok(journal_reader_open(s.j, 0, &rd));
    assert_ok(journal_drop_before(s.j, 200)); /* the reader holds them */
    assert_int_equal(journal_first_lsn(s.j), 1);
    journal_record rec;
    for (uint64_t n = 1; n < 150; n++) assert_ok(journal_read(rd, &rec));
    assert_ok(journal_drop_before(s.j, 200));
    uint64_t first = journal_first_lsn(s.j);
    assert_true(first > 1 && first <= 150);
    for (uint64_t n = 150; n <= 300; n++) {
        assert_ok(journal_read(rd, &rec));
        test_record_is(&rec, n);
    }
    journal_reader_close(rd);

    assert_ok(journal_drop_before(s.j, 200));
    first = journal_first_lsn(s.j);
    assert_true(first > 150 && first <= 200);
    assert_err(journal_reader_open(s.j, first - 1, &rd), ERR_NOT_FOUND);
    assert_int_equal(read_all(s.j, 0), 301 - first);
    assert_ok(journal_verify(s.disk, "j", NULL, NULL, NULL));
    journal_close(s.j);
    assert_ok(journal_open(s.disk, "j", &(journal_options){.segment_bytes = 4096}, &s.j));
    assert_int_equal(journal_first_lsn(s.j), first);
    assert_int_equal(read_all(s.j, first), 301 - first);
    assert_ok(journal_drop_before(s.j, UINT64_MAX));
    assert_int_equal(journal_head_lsn(s.j), 300);
    assert_ok(test_append(s.j, 301, 1, &last));
    assert_int_equal(last, 301);
    sim_journal_close(&s);
}

static void finds_by_time(void **state) {
    (void)state;
    sim_journal s;
    sim_journal_open(&s, 4096);
    uint64_t lsn, last;
    assert_ok(journal_find_time(s.j, 0, &lsn));
    assert_int_equal(lsn, 1);
    for (uint64_t n = 1; n <= 200; n++) {
        s.now_ms = n == 100 ? 5 : 1000 * (int64_t)n; /* the clock jumps back once */
        assert_ok(test_append(s.j, n, 1, &last));
    }
    for (uint64_t n = 1; n <= 200; n++) {
        if (n == 100) continue;
        assert_ok(journal_find_time(s.j, (hlc)(1000 * n) << 16, &lsn));
        assert_int_equal(lsn, n);
        assert_ok(journal_find_time(s.j, (hlc)(1000 * n - 1) << 16, &lsn));
        assert_int_equal(lsn, n);
    }
    assert_ok(journal_find_time(s.j, UINT64_MAX, &lsn));
    assert_int_equal(lsn, 201);
    sim_journal_close(&s);
}

static void one_process_owns_it(void **state) {
    (void)state;
    char dir[64];
    test_dir_make(dir);
    journal *j, *second;
    assert_ok(journal_open(fs_real(), dir, NULL, &j));
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_err(journal_open(fs_real(), dir, NULL, &second), ERR_AGAIN);
    assert_non_null(strstr(err_detail(), pid));
    assert_null(second);
    pid_t child = fork();
    if (child == 0) {
        err rc = journal_open(fs_real(), dir, NULL, &second);
        _exit(rc == ERR_AGAIN && strstr(err_detail(), pid) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    journal_close(j);
    assert_ok(journal_open(fs_real(), dir, NULL, &second));
    journal_close(second);
    test_dir_remove(dir);
}

static void unusable_directories(void **state) {
    (void)state;
    char dir[64], path[128];
    test_dir_make(dir);
    journal *j;
    snprintf(path, sizeof path, "%s/no/such", dir);
    assert_err(journal_open(fs_real(), path, NULL, &j), ERR_NOT_FOUND);
    snprintf(path, sizeof path, "%s/file", dir);
    assert_ok(file_write_atomic(fs_real(), path, "x", 1));
    assert_err(journal_open(fs_real(), path, NULL, &j), ERR_NOT_FOUND);
    assert_err(journal_verify(fs_real(), dir, NULL, NULL, NULL), ERR_NOT_FOUND);
    if (getuid() != 0) { /* root may write everywhere */
        assert_int_equal(chmod(dir, 0500), 0);
        assert_err(journal_open(fs_real(), dir, NULL, &j), ERR_DENIED);
        assert_int_equal(chmod(dir, 0700), 0);
    }
    test_dir_remove(dir);
}

typedef struct async_log {
    mutex mu;
    uint64_t calls, last;
    bool in_order;
} async_log;

static void async_done(void *ctx, err rc, uint64_t first, uint64_t last) {
    async_log *l = ctx;
    mutex_lock(&l->mu);
    if (rc != OK || first != l->last + 1) l->in_order = false;
    l->last = last;
    l->calls++;
    mutex_unlock(&l->mu);
}

static void async_in_order_and_drained(void **state) {
    (void)state;
    sim_journal s;
    sim_journal_open(&s, 65536);
    async_log log = {.in_order = true};
    assert_ok(mutex_init(&log.mu));
    uint64_t n = 1, last;
    for (int i = 0; i < 2000; i++) {
        test_entry t[2];
        test_entry_fill(&t[0], n++);
        test_entry_fill(&t[1], n++);
        journal_entry e[2] = {t[0].e, t[1].e};
        assert_ok(journal_append_async(s.j, e, 2, async_done, &log));
        memset(t, 0xee, sizeof t); /* the journal took a copy */
        if (i == 1000) {           /* and a thread that waits goes in between */
            assert_ok(test_append(s.j, n, 1, &last));
            assert_int_equal(last, n);
            mutex_lock(&log.mu);
            assert_int_equal(log.calls, 1001);
            log.last = last;
            mutex_unlock(&log.mu);
            n++;
        }
    }
    assert_ok(journal_wait(s.j, n - 1, 60000));
    assert_int_equal(read_all(s.j, 1), n - 1);
    journal_close(s.j);
    assert_int_equal(log.calls, 2000);
    assert_true(log.in_order);
    mutex_deinit(&log.mu);
    fs_sim_close(s.disk);
}

static void wake_soon(void *arg) {
    clock_sleep_ms(5);
    journal_wake(arg);
}

static void waiting(void **state) {
    (void)state;
    sim_journal s;
    sim_journal_open(&s, 65536);
    uint64_t last;
    assert_ok(journal_wait(s.j, 0, 0));
    assert_err(journal_wait(s.j, 1, 0), ERR_TIMEOUT);
    assert_err(journal_wait(s.j, 1, 3), ERR_TIMEOUT);
    thread t;
    assert_ok(thread_start(&t, "wake", wake_soon, s.j));
    assert_err(journal_wait(s.j, 1, 600000), ERR_CANCELLED);
    thread_join(&t);
    assert_ok(test_append(s.j, 1, 3, &last));
    assert_ok(journal_wait(s.j, 3, 0));
    sim_journal_close(&s);
}

static void head_and_chain(void **state) {
    (void)state;
    sim_journal a, b;
    uint8_t id[JOURNAL_ID_BYTES] = "0123456789abcde";
    journal_position pa, pb;
    assert_ok(fs_sim_open(&a.disk));
    assert_ok(fs_sim_open(&b.disk));
    a.now_ms = b.now_ms = 7;
    journal_options o = {.wall_ms = sim_wall, .id = id, .segment_bytes = 4096};
    o.wall_ctx = &a;
    assert_ok(journal_open(a.disk, "j", &o, &a.j));
    o.wall_ctx = &b;
    o.segment_bytes = 65536;
    assert_ok(journal_open(b.disk, "j", &o, &b.j));
    assert_memory_equal(journal_id(a.j), id, sizeof id);
    journal_head(a.j, &pa);
    assert_int_equal(pa.lsn, 0);
    uint64_t last;
    for (uint64_t n = 1; n <= 100; n++) {
        assert_ok(test_append(a.j, n, 1, &last));
        assert_ok(test_append(b.j, n, 1, &last));
        journal_head(a.j, &pa);
        journal_head(b.j, &pb);
        assert_int_equal(pa.lsn, n);
        assert_int_equal(pa.time, pb.time);
        assert_memory_equal(pa.hash, pb.hash, JOURNAL_HASH_BYTES); /* segments do not matter */
    }
    b.now_ms++;
    assert_ok(test_append(a.j, 101, 1, &last));
    assert_ok(test_append(b.j, 101, 1, &last));
    journal_head(a.j, &pa);
    journal_head(b.j, &pb);
    assert_memory_not_equal(pa.hash, pb.hash, JOURNAL_HASH_BYTES); /* times do */
    sim_journal_close(&a);
    sim_journal_close(&b);
}

static void kinds_have_names(void **state) {
    (void)state;
    assert_string_equal(journal_kind_name(JOURNAL_POST_PUT), "post_put");
    assert_string_equal(journal_kind_name(JOURNAL_AUDIT), "audit");
    assert_string_equal(journal_kind_name(9999), "kind");
    assert_int_equal(JOURNAL_VECTOR_PUT, 3); /* numbers are on disk */
    assert_int_equal(JOURNAL_AUDIT, 64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(append_read_reopen),
        cmocka_unit_test(readers_from_everywhere),
        cmocka_unit_test(limits),
        cmocka_unit_test(drops_whole_segments_only),
        cmocka_unit_test(finds_by_time),
        cmocka_unit_test(one_process_owns_it),
        cmocka_unit_test(unusable_directories),
        cmocka_unit_test(async_in_order_and_drained),
        cmocka_unit_test(waiting),
        cmocka_unit_test(head_and_chain),
        cmocka_unit_test(kinds_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
