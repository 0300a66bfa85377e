/* archive: a shard, its archive in a directory, and what comes back from it: the newest state, any position, after
 * an erasure, with damage in any object. */
#include "archive/archive_int.h"

#include "vec/vec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DIM = 16, POSTS = 240 };

typedef struct fixture {
    char root[64], data[80], url[96], bucket[80];
    seal_master m;
    shard *s;
    archive *a;
} fixture;

static void must(err rc) {
    if (rc != OK) fail_msg("%s: %s", err_name(rc), err_detail());
}

static void on_notice(void *ctx, const char *text) {
    (void)ctx;
    if (getenv("KITH_TEST_LOUD")) print_message("notice: %s\n", text);
}

static shard *open_shard(const fixture *f, const char *dir) {
    shard *s;
    shard_options o = {.fs = fs_real(),
                       .dir = dir,
                       .space = "test/space",
                       .dim = DIM,
                       .master = &f->m,
                       .notice = on_notice};
    must(shard_open(&o, &s));
    return s;
}

static void start(fixture *f) {
    archive_options o = {.url = f->url,
                         .master = &f->m,
                         .dir = f->data,
                         .version = "test",
                         .shard = f->s,
                         .notice = on_notice};
    must(archive_start(&o, &f->a));
}

static void begin(fixture *f) {
    memset(f, 0, sizeof *f);
    snprintf(f->root, sizeof f->root, "/tmp/kith-archive-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->data, sizeof f->data, "%s/data", f->root);
    snprintf(f->bucket, sizeof f->bucket, "%s/bucket", f->root);
    snprintf(f->url, sizeof f->url, "dir:%s", f->bucket);
    f->m = (seal_master){.key = {42}, .given = true};
    f->s = open_shard(f, f->data);
    start(f);
}

static void end(fixture *f) {
    archive_stop(f->a);
    shard_close(f->s);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", f->root);
    assert_int_equal(system(command), 0);
}

static const char *author_of(uint32_t i) {
    return i % 3 == 0 ? "victor" : i % 3 == 1 ? "ann" : "";
}

static void vector_of(uint32_t i, float out[DIM]) {
    rng r;
    rng_seed(&r, i + 1);
    for (int d = 0; d < DIM; d++) out[d] = rng_normal(&r);
}

static uint64_t put(fixture *f, uint32_t i) {
    char id[16], text[96];
    float v[DIM];
    uint64_t lsn;
    snprintf(id, sizeof id, "p%u", i);
    snprintf(text, sizeof text, "%s wrote secretword%u about something", author_of(i), i);
    vector_of(i, v);
    Kith__V1__Post p = KITH__V1__POST__INIT;
    p.id = id;
    p.text = text;
    p.author = (char *)(uintptr_t)author_of(i);
    must(shard_put(f->s, &(shard_item){&p, v}, 1, &lsn));
    return lsn;
}

static void settle(fixture *f) {
    archive_stats st;
    uint64_t head = shard_head(f->s);
    for (int i = 0; i < 1500; i++) {
        archive_stats_get(f->a, &st);
        if (st.lsn >= head) return;
        clock_sleep_ms(10);
    }
    fail_msg("the archive stays at %llu of %llu", (unsigned long long)st.lsn,
             (unsigned long long)head);
}

static void snapshot(fixture *f) {
    archive_stats st;
    archive_stats_get(f->a, &st);
    int64_t before = st.snapshot_ms;
    archive_request(f->a);
    for (int i = 0; i < 1500 && st.snapshot_ms == before; i++) {
        clock_sleep_ms(10);
        archive_stats_get(f->a, &st);
    }
    assert_true(st.snapshot_ms > before);
}

/* ---- states are compared by a hash over everything ---- */

static shard_state state_of(shard *s) {
    shard_state t;
    must(shard_state_get(s, 20000, &t));
    return t;
}

static restore_result restore(const fixture *f, const char *name, uint64_t lsn, err want,
                              bool plain) {
    char into[128];
    restore_result out;
    snprintf(into, sizeof into, "%s/%s", f->root, name);
    restore_options o = {.url = f->url,
                         .into = into,
                         .master = &f->m,
                         .to_lsn = lsn,
                         .no_snapshot = plain,
                         .notice = on_notice};
    err rc = archive_restore(&o, &out);
    if (rc != want) fail_msg("restore: %s: %s", err_name(rc), err_detail());
    if (rc != OK && rc != ERR_EXISTS) assert_false(fs_exists(fs_real(), into));
    return out;
}

static shard_state restored_state(const fixture *f, const char *name) {
    char into[128];
    snprintf(into, sizeof into, "%s/%s", f->root, name);
    shard *s = open_shard(f, into);
    shard_state t = state_of(s);
    shard_close(s);
    return t;
}

static void same_state(shard_state a, shard_state b) {
    assert_int_equal(a.posts, b.posts);
    assert_int_equal(a.vectors, b.vectors);
    assert_true(a.hash == b.hash);
}

/* ---- tests ---- */

static void comes_back(void **state) {
    (void)state;
    fixture f;
    begin(&f);
    uint64_t middle = 0;
    shard_state at_middle = {0};
    for (uint32_t i = 0; i < POSTS; i++) {
        uint64_t lsn = put(&f, i);
        if (i == POSTS / 2) {
            middle = lsn;
            at_middle = state_of(f.s);
            settle(&f);
            snapshot(&f);
        }
        if (i % 40 == 0) clock_sleep_ms(350); /* more parts */
    }
    uint64_t lsn;
    must(shard_delete(f.s, STR("p7"), &lsn));
    settle(&f);
    shard_state now = state_of(f.s);
    restore_result r = restore(&f, "latest", 0, OK, false);
    assert_true(r.snapshot_lsn >= middle && r.records == lsn);
    same_state(now, restored_state(&f, "latest"));
    restore(&f, "latest", 0, ERR_EXISTS, false);
    r = restore(&f, "plain", 0, OK, true);
    assert_int_equal(r.snapshot_lsn, 0);
    same_state(now, restored_state(&f, "plain"));
    r = restore(&f, "middle", middle, OK, false);
    assert_int_equal(r.records, middle);
    same_state(at_middle, restored_state(&f, "middle"));
    restore(&f, "beyond", lsn + 1, ERR_INVALID, false);
    fixture wrong = f;
    wrong.m.key[0] ^= 1;
    restore(&wrong, "wrong", 0, ERR_DENIED, false);
    archive_stop(f.a); /* and on: the archive continues where it was */
    shard_close(f.s);
    f.s = open_shard(&f, f.data);
    start(&f);
    put(&f, POSTS + 1);
    settle(&f);
    same_state(state_of(f.s), (restore(&f, "again", 0, OK, false), restored_state(&f, "again")));
    archive_summary sum;
    must(archive_check(&(check_options){.url = f.url, .master = &f.m, .deep = true}, &sum));
    assert_int_equal(sum.problems, 0);
    assert_int_equal(sum.snapshots, 1);
    end(&f);
}

/* True when any file below `dir` holds these bytes. */
static bool grep(const char *dir, const void *bytes, size_t n) {
    char command[256], path[512];
    snprintf(command, sizeof command, "find '%s' -type f", dir);
    FILE *p = popen(command, "r");
    bool found = false;
    assert_non_null(p);
    while (fgets(path, sizeof path, p)) {
        path[strcspn(path, "\n")] = 0;
        uint8_t *all;
        size_t size;
        must(file_read_all(fs_real(), path, GIB, &all, &size));
        for (size_t i = 0; !found && i + n <= size; i++) found = memcmp(all + i, bytes, n) == 0;
        if (found && getenv("KITH_TEST_LOUD")) print_message("found in %s\n", path);
        mem_free(all);
    }
    pclose(p);
    return found;
}

static void erased_for_ever(void **state) {
    (void)state;
    fixture f;
    begin(&f);
    for (uint32_t i = 0; i < POSTS; i++) put(&f, i);
    settle(&f);
    snapshot(&f);
    uint64_t before = shard_head(f.s);
    shard_erasure e;
    must(shard_erase_user(f.s, STR("victor"), STR("test"), &e));
    assert_int_equal(e.posts, POSTS / 3);
    assert_int_equal(shard_erase_user(f.s, STR("victor"), STR("test"), &e), ERR_NOT_FOUND);
    put(&f, 3 * POSTS); /* comes back as a new person, who is not touched by the old erasure */
    settle(&f);
    archive_summary sum = {0};
    for (int i = 0; i < 1000; i++) { /* the old snapshot goes when a new one is there */
        must(archive_check(&(check_options){.url = f.url, .master = &f.m}, &sum));
        archive_stats st;
        archive_stats_get(f.a, &st);
        if (st.snapshot_lsn > before && sum.snapshots == 1) break;
        clock_sleep_ms(10);
    }
    assert_int_equal(sum.snapshots, 1);
    assert_int_equal(sum.erasures, 1);
    restore(&f, "before", before, OK, false);
    restore(&f, "after", 0, OK, false);
    shard_state t = restored_state(&f, "before");
    assert_int_equal(t.posts, POSTS - POSTS / 3);
    t = restored_state(&f, "after");
    assert_int_equal(t.posts, POSTS - POSTS / 3 + 1);
    same_state(t, state_of(f.s));
    archive_stop(f.a);
    shard_close(f.s);
    f.a = NULL;
    float v[DIM];
    f16 half[DIM];
    vector_of(0, v);
    float norm = 0;
    for (int d = 0; d < DIM; d++) norm += v[d] * v[d];
    norm = 1.0f / sqrtf(norm);
    for (int d = 0; d < DIM; d++) v[d] *= norm;
    vec_f16_from_f32(half, v, DIM);
    assert_false(grep(f.root, STR("secretword0 ").ptr, 12));
    assert_false(grep(f.root, STR("secretword3 ").ptr, 12));
    assert_true(grep(f.root, STR("secretword1 ").ptr, 12)); /* the search finds what is there */
    assert_false(grep(f.root, half, sizeof half));
    f.s = open_shard(&f, f.data);
    end(&f);
}

/* A bit flipped anywhere in the archive is seen, and the object named. */
static void damage(void **state) {
    (void)state;
    fixture f;
    char command[256], path[512];
    begin(&f);
    for (uint32_t i = 0; i < 60; i++) put(&f, i);
    settle(&f);
    snapshot(&f);
    archive_stop(f.a);
    f.a = NULL;
    snprintf(command, sizeof command, "find '%s' -type f", f.bucket);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    rng r;
    rng_seed(&r, 11);
    int objects = 0;
    while (fgets(path, sizeof path, p)) {
        path[strcspn(path, "\n")] = 0;
        uint8_t *all;
        size_t n;
        must(file_read_all(fs_real(), path, GIB, &all, &n));
        for (int i = 0; i < 8; i++) {
            size_t at = rng_below(&r, (uint32_t)n);
            uint8_t bit = (uint8_t)(1u << rng_below(&r, 8));
            all[at] ^= bit;
            must(file_write_atomic(fs_real(), path, all, n));
            archive_summary sum = {0};
            err rc =
                archive_check(&(check_options){.url = f.url, .master = &f.m, .deep = true}, &sum);
            if (rc == OK && sum.problems == 0) fail_msg("%s: byte %zu flipped: not seen", path, at);
            all[at] ^= bit;
        }
        must(file_write_atomic(fs_real(), path, all, n));
        mem_free(all);
        objects++;
    }
    pclose(p);
    assert_true(objects >= 6);
    snprintf(command, sizeof command, "rm %s/snap/*/store.db.00000", f.bucket);
    assert_int_equal(system(command), 0);
    restore_result out = restore(&f, "without", 0, OK, false); /* the snapshot is passed over */
    assert_int_equal(out.snapshot_lsn, 0);
    same_state(state_of(f.s), restored_state(&f, "without"));
    end(&f);
}

static void other_history(void **state) {
    (void)state;
    fixture f;
    begin(&f);
    for (uint32_t i = 0; i < 20; i++) put(&f, i);
    settle(&f);
    restore(&f, "past", 10, OK, false);
    archive_stop(f.a);
    shard_close(f.s);
    snprintf(f.data, sizeof f.data, "%s/past", f.root);
    f.s = open_shard(&f, f.data);
    start(&f);
    archive_stats st = {0};
    for (int i = 0; i < 500 && !st.failures; i++) {
        clock_sleep_ms(10);
        archive_stats_get(f.a, &st);
    }
    assert_true(st.failures > 0 && !st.connected);
    end(&f);
}

/* Restoring and checking with each allocation failing once: an error and no directory, or all is well. */
static void no_memory(void **state) {
    (void)state;
    fixture f;
    begin(&f);
    for (uint32_t i = 0; i < 20; i++) put(&f, i);
    settle(&f);
    snapshot(&f);
    archive_stop(f.a);
    shard_state want = state_of(f.s);
    shard_close(f.s);
    char into[128], command[320];
    int failed = 0, clean = 0;
    snprintf(into, sizeof into, "%s/into", f.root);
    snprintf(command, sizeof command, "rm -rf '%s' '%s.restoring'", into, into);
    for (long n = 1; clean < 3 && n < 20000; n += n < 60 ? 1 : 17) {
        restore_result out;
        archive_summary sum;
        restore_options o = {.url = f.url, .into = into, .master = &f.m};
        mem_fail_after(n);
        err rc = archive_restore(&o, &out);
        mem_fail_after(0);
        assert_true(rc == OK || rc == ERR_NO_MEMORY);
        assert_true(fs_exists(fs_real(), into) == (rc == OK));
        mem_fail_after(n);
        err checked =
            archive_check(&(check_options){.url = f.url, .master = &f.m, .deep = true}, &sum);
        mem_fail_after(0);
        if (checked == OK && rc == OK) assert_int_equal(sum.problems, 0);
        failed += rc != OK;
        clean += rc == OK && checked == OK;
        if (clean == 3) same_state(want, restored_state(&f, "into"));
        assert_int_equal(system(command), 0);
    }
    assert_true(failed > 50 && clean == 3);
    f.s = open_shard(&f, f.data);
    f.a = NULL;
    end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back), cmocka_unit_test(erased_for_ever),
        cmocka_unit_test(damage),     cmocka_unit_test(other_history),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
