/* store: its contract by examples, then a long random run against a model in memory. */
#include "store/store_test_util.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

typedef struct fixture {
    scratch dir;
    store *s;
    arena a;
    uint64_t lsn;
} fixture;

static void start(fixture *f) {
    *f = (fixture){0};
    scratch_make(&f->dir);
    arena_init(&f->a, 256 * MIB);
    MUST(store_open(f->dir.path, 2, &f->s));
}
static void stop(fixture *f) {
    store_close(f->s);
    problems p;
    if (problems_of(f->dir.path, &p)) fail_msg("verify: %s", p.first);
    scratch_remove(&f->dir);
    arena_deinit(&f->a);
}
static void reopen(fixture *f) {
    store_close(f->s);
    MUST(store_open(f->dir.path, 2, &f->s));
}
static store_change put3(fixture *f, const char *id, const char *text, const char *reply) {
    return put_alone(f->s, &f->a, post_of(&f->a, id, text, reply), ++f->lsn);
}
static err delete1(fixture *f, const char *id, uint32_t *doc) {
    Kith__V1__Post *old = NULL;
    MUST(store_begin(f->s));
    err rc = store_delete(f->s, str_of(id), &f->a, doc, &old);
    if (rc == OK) assert_string_equal(old->id, id);
    MUST(store_commit(f->s, ++f->lsn));
    return rc;
}
static store_row get(fixture *f, const char *id) {
    store_row row;
    store_reader *r = store_reader_get(f->s);
    err rc = store_get(r, str_of(id), &f->a, &row);
    store_reader_put(f->s, r);
    MUST(rc);
    return row;
}
static err find(fixture *f, const char *id) {
    uint32_t doc;
    store_reader *r = store_reader_get(f->s);
    err rc = store_doc_of(r, str_of(id), &doc);
    store_reader_put(f->s, r);
    return rc;
}
static store_counts count(fixture *f) {
    store_counts c;
    store_reader *r = store_reader_get(f->s);
    MUST(store_count(r, &c));
    store_reader_put(f->s, r);
    return c;
}
static const char *thread_of(fixture *f, const char *id) {
    return get(f, id).post->thread;
}

/* ---- rows ---- */

static void put_get_delete(void **state) {
    (void)state;
    fixture f;
    start(&f);
    assert_int_equal(store_position(f.s), 0);
    assert_int_equal(store_doc_limit(f.s), 0);
    Kith__V1__Post *p = post_of(&f.a, "a", "hello", "");
    char *tags[] = {(char[]){"x"}, (char[]){"y"}};
    p->tags = tags, p->n_tags = 2;
    p->author = (char[]){"ann"};
    p->extra = (char[]){"{\"k\":1}"};
    set_created(&f.a, p, -1500);
    p->created_at->seconds = -2, p->created_at->nanos = 500000000;
    store_change c = put_alone(f.s, &f.a, p, 7);
    assert_int_equal(c.outcome, STORE_CREATED);
    assert_int_equal(c.doc, 0);
    assert_true(c.text_changed && !c.old && c.rerooted_count == 0);
    assert_true(c.text_hash == hash64("hello", 5, 0));
    assert_true(str_eq(c.thread, STR("a")));
    for (int turn = 0; turn < 2; turn++) {
        store_row r = get(&f, "a");
        assert_int_equal(r.doc, 0);
        assert_int_equal(r.rev, 7);
        assert_int_equal(r.post->lsn, 7);
        assert_string_equal(r.post->id, "a");
        assert_string_equal(r.post->text, "hello");
        assert_string_equal(r.post->author, "ann");
        assert_string_equal(r.post->thread, "a");
        assert_string_equal(r.post->extra, "{\"k\":1}");
        assert_int_equal(r.post->n_tags, 2);
        assert_string_equal(r.post->tags[1], "y");
        assert_int_equal(r.post->created_at->seconds, -2);
        assert_int_equal(r.post->created_at->nanos, 500000000);
        assert_int_equal(store_position(f.s), 7);
        assert_int_equal(store_doc_limit(f.s), 1);
        assert_true(store_disk_bytes(f.s) > 0);
        reopen(&f);
    }
    uint32_t doc = 9;
    assert_int_equal(delete1(&f, "b", &doc), ERR_NOT_FOUND);
    assert_int_equal(delete1(&f, "a", &doc), OK);
    assert_int_equal(doc, 0);
    assert_int_equal(find(&f, "a"), ERR_NOT_FOUND);
    assert_int_equal(count(&f).posts, 0);
    assert_int_equal(count(&f).threads, 0);
    stop(&f);
}

static void unchanged_and_replaced(void **state) {
    (void)state;
    fixture f;
    start(&f);
    assert_int_equal(put3(&f, "a", "one", "").outcome, STORE_CREATED);
    store_change c = put3(&f, "a", "one", ""); /* created_at absent: not compared */
    assert_int_equal(c.outcome, STORE_UNCHANGED);
    assert_false(c.text_changed);
    assert_int_equal(get(&f, "a").rev, 1);
    Kith__V1__Post *p = post_of(&f.a, "a", "one", "");
    set_created(&f.a, p, DAY_MS);             /* what it became by itself */
    p->lsn = 99, p->thread = (char[]){"zzz"}; /* output only: not compared */
    assert_int_equal(put_alone(f.s, &f.a, p, ++f.lsn).outcome, STORE_UNCHANGED);
    p->created_at->nanos = 1;
    assert_int_equal(put_alone(f.s, &f.a, p, ++f.lsn).outcome, STORE_REPLACED);
    p->lang = (char[]){"de"};
    c = put_alone(f.s, &f.a, p, ++f.lsn);
    assert_int_equal(c.outcome, STORE_REPLACED);
    assert_false(c.text_changed);
    assert_string_equal(c.old->lang, "");
    c = put3(&f, "a", "two", "");
    assert_true(c.text_changed);
    assert_string_equal(c.old->text, "one");
    assert_int_equal(c.doc, 0);
    store_row r = get(&f, "a");
    assert_int_equal(r.rev, f.lsn);
    assert_int_equal(r.post->lsn, f.lsn);
    assert_int_equal(r.post->created_at->seconds, DAY_MS / 1000); /* of this version's arrival */
    assert_int_equal(r.post->created_at->nanos, 0);
    stop(&f);
}

static void docs_reused_smallest_first(void **state) {
    (void)state;
    fixture f;
    start(&f);
    char id[16];
    uint32_t doc;
    for (int i = 0; i < 10; i++) {
        snprintf(id, sizeof id, "p%d", i);
        assert_int_equal(put3(&f, id, "t", "").doc, i);
    }
    assert_int_equal(delete1(&f, "p7", &doc), OK);
    assert_int_equal(delete1(&f, "p2", &doc), OK);
    assert_int_equal(delete1(&f, "p5", &doc), OK);
    reopen(&f);
    assert_int_equal(put3(&f, "q0", "t", "").doc, 2);
    assert_int_equal(put3(&f, "q1", "t", "").doc, 5);
    assert_int_equal(put3(&f, "q2", "t", "").doc, 7);
    assert_int_equal(put3(&f, "q3", "t", "").doc, 10);
    assert_int_equal(store_doc_limit(f.s), 11);
    stop(&f);
}

static void big_and_odd_values(void **state) {
    (void)state;
    fixture f;
    start(&f);
    char *text = arena_alloc(&f.a, 64 * KIB + 1);
    assert_non_null(text);
    memset(text, 'x', 64 * KIB);
    text[64 * KIB] = 0;
    char id[257];
    memset(id, 'i', 256);
    id[256] = 0;
    Kith__V1__Post *p = post_of(&f.a, id, text, "");
    set_created(&f.a, p, 0);
    p->created_at->seconds = TIME_MS_MAX / 1000;
    p->created_at->nanos = 999999999;
    put_alone(f.s, &f.a, p, UINT64_MAX - 1); /* an LSN over 2^63 survives */
    store_row r = get(&f, id);
    assert_true(r.rev == UINT64_MAX - 1 && r.post->lsn == UINT64_MAX - 1);
    assert_string_equal(r.post->text, text);
    reopen(&f);
    assert_true(store_position(f.s) == UINT64_MAX - 1);
    arena tiny; /* a row that does not fit is an error, not a crash */
    arena_init(&tiny, 1000);
    store_reader *lease = store_reader_get(f.s);
    assert_int_equal(store_get_doc(lease, 0, &tiny, &r), ERR_NO_MEMORY);
    assert_int_equal(store_get_doc(lease, 0, &f.a, &r), OK);
    assert_int_equal(store_get_doc(lease, 1, &f.a, &r), ERR_NOT_FOUND);
    store_reader_put(f.s, lease);
    arena_deinit(&tiny);
    stop(&f);
}

/* ---- threads ---- */

static void parent_later(void **state) {
    (void)state;
    fixture f;
    start(&f);
    put3(&f, "c", "reply to reply", "b");
    assert_string_equal(thread_of(&f, "c"), "b");
    store_change c = put3(&f, "b", "reply", "a");
    assert_true(str_eq(c.thread, STR("a")));
    assert_int_equal(c.rerooted_count, 1);
    assert_int_equal(c.rerooted[0], 0);
    assert_string_equal(thread_of(&f, "c"), "a");
    assert_int_equal(get(&f, "c").rev, 2);
    assert_int_equal(get(&f, "c").post->lsn, 1);
    c = put3(&f, "a", "root", "");
    assert_int_equal(c.rerooted_count, 0);
    assert_int_equal(count(&f).threads, 1);
    stop(&f);
}

/* A tree of 5 in all 120 orders: always one thread, whatever came first. */
static void any_order(void **state) {
    (void)state;
    static const char *const ids[] = {"r", "a", "b", "c", "d"};
    static const char *const to[] = {"", "r", "a", "b", "a"};
    fixture f;
    start(&f);
    for (int order = 0; order < 120; order++) {
        int left[5] = {0, 1, 2, 3, 4}, n = 5, k = order;
        for (; n > 0; n--) {
            int at = k % n, i = left[at];
            k /= n;
            memmove(left + at, left + at + 1, sizeof(int) * (size_t)(n - 1 - at));
            put3(&f, ids[i], "t", to[i]);
        }
        for (int i = 0; i < 5; i++) assert_string_equal(thread_of(&f, ids[i]), "r");
        assert_int_equal(count(&f).threads, 1);
        uint32_t doc;
        for (int i = 0; i < 5; i++) assert_int_equal(delete1(&f, ids[(i + order) % 5], &doc), OK);
        assert_int_equal(count(&f).threads, 0);
    }
    stop(&f);
}

static void cycles_end(void **state) {
    (void)state;
    fixture f;
    start(&f);
    put3(&f, "self", "t", "self");
    assert_string_equal(thread_of(&f, "self"), "self");
    put3(&f, "self", "t2", "self");
    assert_string_equal(thread_of(&f, "self"), "self");
    put3(&f, "a", "t", "b");
    put3(&f, "b", "t", "a");
    assert_string_equal(thread_of(&f, "a"), thread_of(&f, "b"));
    put3(&f, "x", "t", "y");
    put3(&f, "y", "t", "z");
    put3(&f, "z", "t", "x");
    assert_string_equal(thread_of(&f, "x"), thread_of(&f, "y"));
    assert_string_equal(thread_of(&f, "y"), thread_of(&f, "z"));
    assert_int_equal(count(&f).threads, 3);
    put3(&f, "root", "t", ""); /* a root turned into its own descendant's reply */
    put3(&f, "leaf", "t", "root");
    put3(&f, "root", "t", "leaf");
    assert_string_equal(thread_of(&f, "root"), "root");
    put3(&f, "self", "t3", "root"); /* a self-reply turned into a real one */
    assert_string_equal(thread_of(&f, "self"), "root");
    put3(&f, "self", "t4", "self");
    assert_string_equal(thread_of(&f, "self"), "self");
    stop(&f);
}

static void deleted_parent(void **state) {
    (void)state;
    fixture f;
    start(&f);
    uint32_t doc;
    put3(&f, "r", "t", "");
    put3(&f, "m", "t", "r");
    put3(&f, "k", "t", "m");
    assert_int_equal(delete1(&f, "r", &doc), OK);
    assert_string_equal(thread_of(&f, "k"), "r");
    assert_int_equal(delete1(&f, "m", &doc), OK);
    put3(&f, "k2", "t", "m"); /* its parent is gone: it waits under m */
    assert_string_equal(thread_of(&f, "k2"), "m");
    assert_int_equal(count(&f).threads, 2);
    put3(&f, "m", "t", "r");
    assert_string_equal(thread_of(&f, "k2"), "r");
    assert_int_equal(count(&f).threads, 1);
    stop(&f);
}

static void moved_root_takes_its_thread(void **state) {
    (void)state;
    fixture f;
    start(&f);
    put3(&f, "r1", "t", "");
    put3(&f, "r2", "t", "");
    put3(&f, "k", "t", "r2");
    store_change c = put3(&f, "r2", "t", "r1");
    assert_int_equal(c.outcome, STORE_REPLACED);
    assert_int_equal(c.rerooted_count, 1);
    assert_string_equal(thread_of(&f, "k"), "r1");
    assert_int_equal(count(&f).threads, 1);
    put3(&f, "r2", "t", "");
    assert_string_equal(thread_of(&f, "r2"), "r2");
    assert_int_equal(count(&f).threads, 2);
    stop(&f);
}

static void thousand_replies(void **state) {
    (void)state;
    fixture f;
    start(&f);
    char id[16];
    MUST(store_begin(f.s));
    store_change c;
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof id, "k%d", i);
        Kith__V1__Post *p = post_of(&f.a, id, "t", "p");
        set_created(&f.a, p, 1000 * (i % 100)); /* ties, broken by doc */
        MUST(store_put(f.s, p, ++f.lsn, 0, &f.a, &c));
    }
    MUST(store_put(f.s, post_of(&f.a, "p", "t", "root"), ++f.lsn, 0, &f.a, &c));
    MUST(store_commit(f.s, f.lsn));
    assert_int_equal(c.rerooted_count, 1000);
    for (uint32_t i = 0; i < 1000; i++) assert_int_equal(c.rerooted[i] < 1000, 1);
    store_reader *r = store_reader_get(f.s);
    uint64_t size = 0, seen = 0;
    MUST(store_thread_size(r, STR("root"), &size));
    assert_int_equal(size, 1001);
    store_thread_pos at = {0}, *after = NULL;
    for (;;) {
        store_row *rows;
        size_t n;
        MUST(store_thread(r, STR("root"), after, 7, &f.a, &rows, &n));
        for (size_t i = 0; i < n; i++) {
            int64_t ms = rows[i].post->created_at->seconds * 1000;
            if (after)
                assert_true(ms > at.created_ms || (ms == at.created_ms && rows[i].doc > at.doc));
            at = (store_thread_pos){ms, rows[i].doc}, after = &at;
        }
        seen += n;
        if (n < 7) break;
    }
    assert_int_equal(seen, 1001);
    store_reader_put(f.s, r);
    stop(&f);
}

/* ---- vectors ---- */

static void vector_states(void **state) {
    (void)state;
    fixture f;
    start(&f);
    uint64_t h[3];
    const char *ids[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) h[i] = put3(&f, ids[i], ids[i], "").text_hash;
    assert_int_equal(count(&f).pending, 3);
    store_row *rows;
    size_t n;
    store_reader *r = store_reader_get(f.s);
    MUST(store_pending(r, true, 2, &f.a, &rows, &n));
    assert_int_equal(n, 2);
    assert_string_equal(rows[0].post->id, "c");
    MUST(store_pending(r, false, 10, &f.a, &rows, &n));
    assert_int_equal(n, 3);
    assert_string_equal(rows[0].post->id, "a");
    store_reader_put(f.s, r);
    bool current = false;
    uint32_t doc = 99;
    MUST(store_begin(f.s));
    MUST(store_vector(f.s, STR("a"), h[0], &doc, &current));
    assert_true(current && doc == 0);
    MUST(store_vector(f.s, STR("a"), h[0], &doc, &current)); /* again: no harm */
    assert_true(current);
    MUST(store_vector(f.s, STR("b"), h[0], &doc, &current)); /* of an older text */
    assert_false(current);
    MUST(store_vector(f.s, STR("nobody"), h[0], &doc, &current));
    assert_false(current);
    MUST(store_vector_failed(f.s, STR("b"), h[1], STR("too long"), &doc, &current));
    MUST(store_vector_failed(f.s, STR("b"), h[1], STR("too long still"), &doc, &current));
    MUST(store_vector_failed(f.s, STR("a"), h[0], STR("late"), &doc,
                             &current)); /* its vector stays */
    MUST(store_vector_failed(f.s, STR("c"), h[0], STR("stale"), &doc, &current));
    MUST(store_commit(f.s, ++f.lsn));
    store_counts c = count(&f);
    assert_true(c.pending == 1 && c.failed == 1);
    r = store_reader_get(f.s);
    store_failure *failed;
    MUST(store_failed(r, 10, &f.a, &failed, &n));
    store_reader_put(f.s, r);
    assert_int_equal(n, 1);
    assert_true(str_eq(failed[0].id, STR("b")) && str_eq(failed[0].reason, STR("too long still")));
    MUST(store_begin(f.s));
    uint64_t again = 0;
    MUST(store_retry_failed(f.s, &again));
    MUST(store_commit(f.s, f.lsn));
    assert_int_equal(again, 1);
    assert_int_equal(count(&f).pending, 2);
    MUST(store_begin(f.s));
    MUST(store_vector_failed(f.s, STR("b"), h[1], STR("no"), &doc, &current));
    MUST(store_commit(f.s, f.lsn));
    put3(&f, "b", "new text", ""); /* a new text waits again */
    put3(&f, "a", "new text", "");
    c = count(&f);
    assert_true(c.pending == 3 && c.failed == 0);
    stop(&f);
}

static err stop_at_three(void *ctx, const store_brief *b) {
    (void)b;
    return ++*(int *)ctx == 3 ? ERR_CANCELLED : OK;
}
static err visit_row(void *ctx, const store_row *row) {
    uint32_t *next = ctx;
    assert_int_equal(row->doc, *next);
    ++*next;
    return OK;
}

static void scans(void **state) {
    (void)state;
    fixture f;
    start(&f);
    char id[16];
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "p%d", i);
        put3(&f, id, id, "");
    }
    store_reader *r = store_reader_get(f.s);
    int seen = 0;
    assert_int_equal(store_scan(r, stop_at_three, &seen), ERR_CANCELLED);
    assert_int_equal(seen, 3);
    uint32_t next = 5;
    MUST(store_scan_rows(r, 5, visit_row, &next));
    assert_int_equal(next, 20);
    store_reader_put(f.s, r);
    stop(&f);
}

/* A lease sees one commit, even while others follow; a new lease sees the new one. */
static void lease_is_a_snapshot(void **state) {
    (void)state;
    fixture f;
    start(&f);
    put3(&f, "a", "old", "");
    store_reader *r = store_reader_get(f.s);
    store_row row;
    MUST(store_get(r, STR("a"), &f.a, &row));
    put3(&f, "a", "new", "");
    MUST(store_get(r, STR("a"), &f.a, &row));
    assert_string_equal(row.post->text, "old");
    assert_int_equal(store_erase_traces(f.s), ERR_AGAIN); /* the reader needs the WAL */
    store_reader_put(f.s, r);
    MUST(store_erase_traces(f.s));
    assert_string_equal(get(&f, "a").post->text, "new");
    stop(&f);
}

/* ---- what is not a store ---- */

static void write_file(const char *path, const void *p, size_t n) {
    MUST(file_write_atomic(fs_real(), path, p, n));
}

static void foreign_files(void **state) {
    (void)state;
    scratch d;
    scratch_make(&d);
    store *s = NULL;
    problems p;
    static const char text[9000] = "this is a diary";
    write_file(d.path, text, sizeof text);
    assert_int_equal(store_open(d.path, 1, &s), ERR_CORRUPT);
    assert_non_null(strstr(err_detail(), "store.db"));
    assert_true(problems_of(d.path, &p) > 0);
    write_file(d.path, text, 15);
    assert_int_equal(store_open(d.path, 1, &s), ERR_CORRUPT);
    assert_true(problems_of(d.path, &p) > 0);
    MUST(fs_unlink(fs_real(), d.path));
    sqlite3 *db = NULL; /* a plain SQLite database */
    assert_int_equal(sqlite3_open(d.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE t(x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(store_open(d.path, 1, &s), ERR_CORRUPT);
    assert_true(problems_of(d.path, &p) > 0);
    assert_int_equal(store_open("/nonexistent/store.db", 1, &s), ERR_NOT_FOUND);
    assert_int_equal(store_verify("/nonexistent/store.db", note_problem, &p), ERR_NOT_FOUND);
    scratch_remove(&d);
}

static void newer_schema(void **state) {
    (void)state;
    fixture f;
    start(&f);
    MUST(store_exec(&f.s->w, "UPDATE meta SET schema=2"));
    store_close(f.s);
    store *s = NULL;
    assert_int_equal(store_open(f.dir.path, 1, &s), ERR_UNSUPPORTED);
    assert_null(s);
    scratch_remove(&f.dir);
    arena_deinit(&f.a);
}

/* ---- damage: every byte of a small file ---- */

static void every_byte_flipped(void **state) {
    (void)state;
    fixture f;
    start(&f);
    char id[32];
    for (int i = 0; i < 12; i++) {
        snprintf(id, sizeof id, "p%d", i);
        put3(&f, id, "some text that is long enough to be a post", i ? "p0" : "");
    }
    uint32_t doc;
    assert_int_equal(delete1(&f, "p3", &doc), OK);
    store_close(f.s);
    uint8_t *bytes = NULL;
    size_t size = 0, missed = 0;
    MUST(file_read_all(fs_real(), f.dir.path, 64 * MIB, &bytes, &size));

    file *disk = NULL;
    MUST(file_open(fs_real(), f.dir.path, FILE_WRITE, &disk));
    for (size_t i = 0; i < size; i++) {
        uint8_t wrong = bytes[i] ^ (uint8_t)(1u << (i % 8));
        problems p;
        MUST(file_pwrite(disk, &wrong, 1, i));
        if (problems_of(f.dir.path, &p) == 0) missed++;
        if (i % 97 == 0) { /* opening and reading it: an error or the truth, never a crash */
            store *s = NULL;
            if (store_open(f.dir.path, 1, &s) == OK) store_close(s);
            write_file(f.dir.path, bytes, size);
            file_close(disk);
            MUST(file_open(fs_real(), f.dir.path, FILE_WRITE, &disk));
        }
        MUST(file_pwrite(disk, &bytes[i], 1, i));
    }
    file_close(disk);
    mem_free(bytes);
    assert_int_equal(missed, 0);
    MUST(store_open(f.dir.path, 2, &f.s));
    stop(&f);
}

/* ---- erasure ---- */

typedef struct grep {
    scratch *dir;
    str needle;
    int hits;
} grep;
static err grep_one(void *ctx, const char *name) {
    grep *g = ctx;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", g->dir->dir, name);
    uint8_t *p = NULL;
    size_t n = 0;
    TRY(file_read_all(fs_real(), path, 256 * MIB, &p, &n));
    if (str_find(str_from(p, n), g->needle) >= 0) g->hits++;
    mem_free(p);
    return OK;
}
static int files_with(scratch *d, const char *needle) {
    grep g = {d, str_of(needle), 0};
    MUST(fs_list(fs_real(), d->dir, grep_one, &g));
    return g.hits;
}

/* Texts of all sizes come, move about as pages split and merge, change and go; no trace is left. */
static void erased_is_gone(void **state) {
    (void)state;
    fixture f;
    start(&f);
    rng r;
    rng_seed(&r, 11);
    char id[32];
    enum { N = 3000 };
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            if (i % 300 == 0) MUST(store_begin(f.s));
            bool secret = i % 3 == round;
            size_t len = 20 + rng_below(&r, i % 50 ? 400 : 9000);
            char *text = arena_alloc(&f.a, len + 1);
            assert_non_null(text);
            for (size_t k = 0; k < len; k++) text[k] = secret ? "SECRET"[k % 6] : "common"[k % 6];
            text[len] = 0;
            snprintf(id, sizeof id, "%s%08x", secret ? "HIDDENID" : "p",
                     (unsigned)i * 2654435761u + (unsigned)round);
            store_change c;
            MUST(store_put(f.s, post_of(&f.a, id, text, ""), ++f.lsn, 0, &f.a, &c));
            if (i % 300 == 299) MUST(store_commit(f.s, f.lsn));
        }
        if (round == 1) reopen(&f); /* the WAL goes into the main file */
        MUST(store_begin(f.s));
        for (int i = 0; i < N; i++) {
            snprintf(id, sizeof id, "HIDDENID%08x", (unsigned)i * 2654435761u + (unsigned)round);
            uint32_t doc;
            Kith__V1__Post *old;
            err rc = store_delete(f.s, str_of(id), &f.a, &doc, &old);
            assert_true(rc == OK || rc == ERR_NOT_FOUND);
        }
        MUST(store_commit(f.s, ++f.lsn));
        MUST(store_erase_traces(f.s));
        assert_int_equal(files_with(&f.dir, "commoncommon"), 1);
        assert_int_equal(files_with(&f.dir, "SECRETSECRET"), 0);
        assert_int_equal(files_with(&f.dir, "HIDDENID"), 0);
    }
    stop(&f);
}

/* ---- the model ---- */

enum { MODEL_IDS = 120 };
typedef struct model_post {
    bool here;
    int text, reply, thread; /* numbers of ids; reply -1: none */
    uint32_t doc;
    uint64_t rev, lsn;
    int embed;
} model_post;
typedef struct model {
    model_post p[MODEL_IDS];
    uint32_t limit;
} model;

static uint32_t model_doc(model *m) {
    for (uint32_t d = 0; d < m->limit; d++) {
        bool used = false;
        for (int i = 0; i < MODEL_IDS; i++) used |= m->p[i].here && m->p[i].doc == d;
        if (!used) return d;
    }
    return m->limit++;
}

static void model_reroot(model *m, int id, uint64_t lsn) {
    int to = m->p[id].thread;
    for (int i = 0; to != id && i < MODEL_IDS; i++) {
        if (!m->p[i].here || m->p[i].thread != id) continue;
        m->p[i].thread = to;
        m->p[i].rev = lsn;
    }
}

static store_outcome model_put(model *m, int id, int text, int reply, uint64_t lsn) {
    model_post *p = &m->p[id];
    bool was = p->here;
    if (was && p->text == text && p->reply == reply) return STORE_UNCHANGED;
    int root = reply < 0 ? id : reply;
    if (reply >= 0 && reply != id && m->p[reply].here) root = m->p[reply].thread;
    uint32_t doc = was ? p->doc : model_doc(m);
    int embed = was && p->text == text ? p->embed : EMBED_WAITING;
    *p = (model_post){true, text, reply, root, doc, lsn, lsn, embed};
    model_reroot(m, id, lsn);
    return was ? STORE_REPLACED : STORE_CREATED;
}

static const char *id_name(int i, char out[16]) {
    snprintf(out, 16, "id%d", i);
    return out;
}
static const char *text_name(int i, char out[16]) {
    snprintf(out, 16, "text %d", i);
    return out;
}

/* One random operation on both; they must agree. */
static void model_fail(fixture *f, model_post *p, str id, uint64_t hash, bool here) {
    uint32_t doc;
    bool current = false;
    MUST(store_vector_failed(f->s, id, hash, STR("because"), &doc, &current));
    assert_int_equal(current, here && p->embed != EMBED_DONE);
    if (current) p->embed = EMBED_FAILED;
}

static void model_step(fixture *f, model *m, rng *r) {
    char id[16], text[16], reply[16];
    int i = (int)rng_below(r, MODEL_IDS);
    uint64_t lsn = ++f->lsn;
    uint32_t kind = rng_below(r, 10), doc = 0;
    id_name(i, id);
    if (kind < 5) {
        int t = (int)rng_below(r, 6), to = (int)rng_below(r, MODEL_IDS * 3 / 2);
        if (to >= MODEL_IDS) to = -1;
        store_change c;
        Kith__V1__Post *p =
            post_of(&f->a, id, text_name(t, text), to < 0 ? "" : id_name(to, reply));
        model before = *m;
        MUST(store_put(f->s, p, lsn, DAY_MS, &f->a, &c));
        store_outcome want = model_put(m, i, t, to, lsn);
        assert_int_equal(c.outcome, want);
        assert_int_equal(c.doc, m->p[i].doc);
        assert_true(str_eq(c.thread, str_of(id_name(m->p[i].thread, reply))));
        size_t moved = 0;
        for (int k = 0; k < MODEL_IDS; k++)
            moved += k != i && m->p[k].here && m->p[k].thread != before.p[k].thread;
        assert_int_equal(c.rerooted_count, moved);
    } else if (kind < 7) {
        Kith__V1__Post *old;
        err rc = store_delete(f->s, str_of(id), &f->a, &doc, &old);
        assert_int_equal(rc, m->p[i].here ? OK : ERR_NOT_FOUND);
        if (rc == OK) assert_int_equal(doc, m->p[i].doc);
        m->p[i].here = false;
    } else {
        int t = (int)rng_below(r, 6);
        bool current = false;
        str s = str_of(text_name(t, text));
        uint64_t hash = hash64(s.ptr, s.len, 0);
        bool here = m->p[i].here && m->p[i].text == t;
        if (kind < 9) {
            MUST(store_vector(f->s, str_of(id), hash, &doc, &current));
            assert_int_equal(current, here);
            if (here) m->p[i].embed = EMBED_DONE;
        } else {
            model_fail(f, &m->p[i], str_of(id), hash, here);
        }
    }
}

static void model_compare(fixture *f, const model *m) {
    store_counts want = {0}, have;
    bool peopled[MODEL_IDS] = {false};
    store_reader *r = store_reader_get(f->s);
    for (int i = 0; i < MODEL_IDS; i++) {
        char id[16], name[16];
        store_row row;
        const model_post *p = &m->p[i];
        err rc = store_get(r, str_of(id_name(i, id)), &f->a, &row);
        assert_int_equal(rc, p->here ? OK : ERR_NOT_FOUND);
        if (!p->here) continue;
        want.posts++;
        want.pending += p->embed == EMBED_WAITING;
        want.failed += p->embed == EMBED_FAILED;
        want.threads += !peopled[p->thread];
        peopled[p->thread] = true;
        assert_int_equal(row.doc, p->doc);
        assert_true(row.rev == p->rev && row.post->lsn == p->lsn);
        assert_string_equal(row.post->thread, id_name(p->thread, name));
        assert_string_equal(row.post->text, text_name(p->text, name));
        assert_string_equal(row.post->reply_to, p->reply < 0 ? "" : id_name(p->reply, name));
    }
    MUST(store_count(r, &have));
    assert_memory_equal(&have, &want, sizeof want);
    store_row *rows;
    store_failure *failed;
    size_t n;
    MUST(store_pending(r, true, SIZE_MAX, &f->a, &rows, &n));
    assert_int_equal(n, want.pending);
    for (size_t i = 1; i < n; i++) assert_true(rows[i - 1].rev >= rows[i].rev);
    MUST(store_failed(r, SIZE_MAX, &f->a, &failed, &n));
    assert_int_equal(n, want.failed);
    store_reader_put(f->s, r);
    assert_int_equal(store_doc_limit(f->s), m->limit);
}

static void random_against_model(void **state) {
    (void)state;
    int rounds = getenv("KITH_LONG") ? 20000 : 400;
    fixture f;
    start(&f);
    rng r;
    const char *given = getenv("KITH_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 42;
    print_message("seed %llu\n", (unsigned long long)seed);
    rng_seed(&r, seed);
    model m = {0};
    for (int round = 0; round < rounds; round++) {
        model before = m;
        MUST(store_begin(f.s));
        for (uint32_t n = rng_below(&r, 30); n; n--) model_step(&f, &m, &r);
        if (rng_below(&r, 4) == 0) {
            store_abort(f.s);
            m = before;
        } else {
            MUST(store_commit(f.s, f.lsn));
            assert_int_equal(store_position(f.s), f.lsn);
        }
        if (rng_below(&r, 40) == 0) reopen(&f);
        if (rng_below(&r, 20) == 0) MUST(store_erase_traces(f.s));
        if (round % 10 == 0) model_compare(&f, &m);
        arena_reset(&f.a);
    }
    model_compare(&f, &m);
    stop(&f);
}

/* ---- threads of the machine ---- */

typedef struct hammer {
    store *s;
    bool stop; /* atomic */
    uint64_t reads;
} hammer;

/* Posts a and b always change together: a lease must never see one without the other. */
static void hammer_read(void *arg) {
    hammer *h = arg;
    arena a;
    arena_init(&a, MIB);
    while (!__atomic_load_n(&h->stop, __ATOMIC_ACQUIRE)) {
        store_reader *r = store_reader_get(h->s);
        store_row x, y;
        store_counts c;
        MUST(store_get(r, STR("a"), &a, &x));
        MUST(store_get(r, STR("b"), &a, &y));
        MUST(store_count(r, &c));
        KITH_ASSERT(x.rev == y.rev && strcmp(x.post->text, y.post->text) == 0);
        store_reader_put(h->s, r);
        arena_reset(&a);
        h->reads++;
    }
    arena_deinit(&a);
}

static void readers_beside_the_writer(void **state) {
    (void)state;
    fixture f;
    start(&f); /* 2 readers, 3 threads: some wait */
    put3(&f, "a", "0", "");
    MUST(store_begin(f.s));
    store_change c;
    char text[16] = "0";
    MUST(store_put(f.s, post_of(&f.a, "a", "1", ""), 2, 0, &f.a, &c));
    MUST(store_put(f.s, post_of(&f.a, "b", "1", ""), 2, 0, &f.a, &c));
    MUST(store_commit(f.s, 2));
    hammer h[3];
    thread t[3];
    for (int i = 0; i < 3; i++) {
        h[i] = (hammer){.s = f.s};
        MUST(thread_start(&t[i], "hammer", hammer_read, &h[i]));
    }
    for (uint64_t lsn = 3; lsn < 600; lsn++) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)lsn);
        MUST(store_begin(f.s));
        MUST(store_put(f.s, post_of(&f.a, "a", text, ""), lsn, 0, &f.a, &c));
        MUST(store_put(f.s, post_of(&f.a, "b", text, ""), lsn, 0, &f.a, &c));
        MUST(store_commit(f.s, lsn));
        KITH_ASSERT(store_position(f.s) == lsn);
        if (lsn % 50 == 0) (void)!store_erase_traces(f.s);
        arena_reset(&f.a);
    }
    for (int i = 0; i < 3; i++) {
        __atomic_store_n(&h[i].stop, true, __ATOMIC_RELEASE);
        thread_join(&t[i]);
    }
    stop(&f);
}

/* A writer that goes on while the copy is made; the copy is of one commit. */
typedef struct busy_writer {
    fixture *f;
    int stop; /* atomic */
    uint64_t lsn;
} busy_writer;

static void write_on(void *arg) {
    busy_writer *w = arg;
    arena a;
    arena_init(&a, MIB);
    while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
        char id[16];
        arena_reset(&a);
        snprintf(id, sizeof id, "w%llu", (unsigned long long)++w->lsn);
        put_alone(w->f->s, &a, post_of(&a, id, "a post that came meanwhile", ""), w->lsn);
    }
    arena_deinit(&a);
}

static void copied_while_written(void **state) {
    (void)state;
    fixture f;
    start(&f);
    busy_writer w = {.f = &f, .lsn = 0};
    for (int i = 0; i < 500; i++) {
        char id[16];
        snprintf(id, sizeof id, "w%llu", (unsigned long long)++w.lsn);
        put_alone(f.s, &f.a, post_of(&f.a, id, "text of a post that is there", ""), w.lsn);
    }
    thread t;
    char path[200];
    uint64_t at = 0;
    snprintf(path, sizeof path, "%s/copy.db", f.dir.dir);
    MUST(thread_start(&t, "writer", write_on, &w));
    while (store_position(f.s) < 510) clock_sleep_ms(1);
    MUST(store_copy(f.s, path, &at));
    __atomic_store_n(&w.stop, 1, __ATOMIC_RELAXED);
    thread_join(&t);
    assert_true(at >= 510 && at <= w.lsn);
    problems p;
    if (problems_of(path, &p)) fail_msg("verify: %s", p.first);
    store *c;
    MUST(store_open(path, 1, &c));
    assert_int_equal(store_position(c), at);
    store_counts n;
    store_reader *r = store_reader_get(c);
    MUST(store_count(r, &n));
    store_reader_put(c, r);
    assert_int_equal(n.posts, at);
    store_close(c);
    stop(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copied_while_written),
        cmocka_unit_test(put_get_delete),
        cmocka_unit_test(unchanged_and_replaced),
        cmocka_unit_test(docs_reused_smallest_first),
        cmocka_unit_test(big_and_odd_values),
        cmocka_unit_test(parent_later),
        cmocka_unit_test(any_order),
        cmocka_unit_test(cycles_end),
        cmocka_unit_test(deleted_parent),
        cmocka_unit_test(moved_root_takes_its_thread),
        cmocka_unit_test(thousand_replies),
        cmocka_unit_test(vector_states),
        cmocka_unit_test(scans),
        cmocka_unit_test(lease_is_a_snapshot),
        cmocka_unit_test(foreign_files),
        cmocka_unit_test(newer_schema),
        cmocka_unit_test(every_byte_flipped),
        cmocka_unit_test(erased_is_gone),
        cmocka_unit_test(random_against_model),
        cmocka_unit_test(readers_beside_the_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
