/* What every fs must do, for the tests of each: bytes, names, whole files, the lock. */
#ifndef KITH_OS_FILE_TEST_UTIL_H
#define KITH_OS_FILE_TEST_UTIL_H

#include "os/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define assert_ok(expr)                                                                  \
    do {                                                                                 \
        err ok_rc_ = (expr);                                                             \
        if (ok_rc_ != OK) fail_msg("%s: %s: %s", #expr, err_name(ok_rc_), err_detail()); \
    } while (0)

typedef struct place {
    fs *disk;
    char dir[64];
    bool real;
} place;

static inline char *at(const place *p, const char *name) {
    static char path[4][256];
    static unsigned turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/%s", p->dir, name);
    return out;
}

static inline err unlink_one(void *ctx, const char *name) {
    place *p = ctx;
    return fs_unlink(p->disk, at(p, name));
}

static inline void place_close(place *p) {
    assert_ok(fs_list(p->disk, p->dir, unlink_one, p));
    if (p->real) assert_int_equal(rmdir(p->dir), 0);
}

/* --- any disk -------------------------------------------------------------------------------- */

static inline void check_bytes(place *p) {
    file *f;
    uint64_t size;
    size_t got;
    char b[16];
    assert_int_equal(file_open(p->disk, at(p, "a"), FILE_READ, &f), ERR_NOT_FOUND);
    assert_null(f);
    assert_non_null(strstr(err_detail(), "a"));
    assert_int_equal(file_open(p->disk, "", FILE_READ, &f), ERR_INVALID);
    assert_ok(file_open(p->disk, at(p, "a"), FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE, &f));
    assert_ok(file_pwrite(f, "hello", 5, 3));
    assert_ok(file_pwrite(f, "", 0, 100)); /* nothing, nowhere */
    assert_ok(file_size(f, &size));
    assert_int_equal(size, 8);
    assert_ok(file_pread(f, b, sizeof b, 0, &got));
    assert_int_equal(got, 8);
    assert_memory_equal(b, "\0\0\0hello", 8);
    assert_ok(file_pread(f, b, 2, 4, &got));
    assert_int_equal(got, 2);
    assert_memory_equal(b, "el", 2);
    assert_ok(file_pread(f, b, 2, 9, &got)); /* behind the end */
    assert_int_equal(got, 0);
    assert_int_equal(file_pread(f, b, 2, UINT64_MAX, &got), ERR_INVALID);
    assert_int_equal(file_pwrite(f, b, 2, (uint64_t)INT64_MAX), ERR_INVALID);
    assert_ok(file_reserve(f, 100));
    assert_ok(file_size(f, &size));
    assert_int_equal(size, 100);
    assert_ok(file_reserve(f, 50)); /* never shrinks */
    assert_ok(file_size(f, &size));
    assert_int_equal(size, 100);
    assert_ok(file_truncate(f, 5));
    assert_ok(file_truncate(f, 9));
    assert_ok(file_pread(f, b, sizeof b, 0, &got));
    assert_int_equal(got, 9);
    assert_memory_equal(b, "\0\0\0he\0\0\0\0", 9);
    assert_ok(file_datasync(f));
    file_close(f);
    file_close(NULL);
    assert_int_equal(file_open(p->disk, at(p, "a"), FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE, &f),
                     ERR_EXISTS);
    assert_ok(file_open(p->disk, at(p, "a"), FILE_READ, &f));
    assert_int_not_equal(file_pwrite(f, "x", 1, 0), OK);
    file_close(f);
    assert_ok(file_open(p->disk, at(p, "a"), FILE_WRITE | FILE_TRUNCATE, &f));
    assert_ok(file_size(f, &size));
    assert_int_equal(size, 0);
    file_close(f);
}

typedef struct name_log {
    char text[256];
} name_log;

static inline err log_name(void *ctx, const char *name) {
    name_log *l = ctx;
    size_t n = strlen(l->text);
    snprintf(l->text + n, sizeof l->text - n, "%s ", name);
    return OK;
}

static inline err stop_at_b(void *ctx, const char *name) {
    (void)ctx;
    return strcmp(name, "b") == 0 ? ERR_CANCELLED : OK;
}

static inline void check_names(place *p) {
    name_log l = {{0}};
    static const char *const names[] = {"b", "c", "B", "a10", "a9", "_"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        assert_ok(file_write_atomic(p->disk, at(p, names[i]), names[i], strlen(names[i])));
    assert_ok(fs_list(p->disk, p->dir, log_name, &l));
    assert_string_equal(l.text, "B _ a a10 a9 b c "); /* bytewise; a is from before */
    assert_int_equal(fs_list(p->disk, p->dir, stop_at_b, NULL), ERR_CANCELLED);
    assert_ok(fs_rename(p->disk, at(p, "c"), at(p, "b"))); /* replaces */
    assert_false(fs_exists(p->disk, at(p, "c")));
    assert_true(fs_exists(p->disk, at(p, "b")));
    assert_int_equal(fs_rename(p->disk, at(p, "c"), at(p, "b")), ERR_NOT_FOUND);
    assert_int_equal(fs_unlink(p->disk, at(p, "c")), ERR_NOT_FOUND);
    assert_ok(fs_unlink(p->disk, at(p, "_")));
    assert_ok(fs_mkdir(p->disk, p->dir)); /* it is there */
    assert_ok(fs_sync_dir(p->disk, p->dir));
}

static inline void check_whole_files(place *p) {
    uint8_t *b;
    size_t n;
    assert_ok(file_read_all(p->disk, at(p, "b"), 100, &b, &n));
    assert_int_equal(n, 1);
    assert_memory_equal(b, "c", 1);
    mem_free(b);
    char big[1000];
    memset(big, 'x', sizeof big);
    assert_ok(file_write_atomic(p->disk, at(p, "b"), big, sizeof big));
    assert_false(fs_exists(p->disk, at(p, "b.tmp")));
    assert_int_equal(file_read_all(p->disk, at(p, "b"), 999, &b, &n), ERR_TOO_LARGE);
    assert_null(b);
    file_map m;
    assert_ok(file_map_open(p->disk, at(p, "b"), &m));
    assert_int_equal(m.size, 1000);
    assert_memory_equal(m.ptr, big, 1000);
    file_map_close(&m);
    assert_null(m.ptr);
    file_map_close(&m);
    assert_ok(file_write_atomic(p->disk, at(p, "b"), "", 0));
    assert_ok(file_map_open(p->disk, at(p, "b"), &m));
    assert_int_equal(m.size, 0);
    file_map_close(&m);
    assert_ok(file_read_all(p->disk, at(p, "b"), 0, &b, &n));
    assert_int_equal(n, 0);
    mem_free(b);
    assert_int_equal(file_map_open(p->disk, at(p, "none"), &m), ERR_NOT_FOUND);
}

static inline void check_lock(place *p) {
    file *a, *b;
    assert_ok(file_open(p->disk, at(p, "L"), FILE_WRITE | FILE_CREATE, &a));
    assert_ok(file_open(p->disk, at(p, "L"), FILE_WRITE | FILE_CREATE, &b));
    assert_ok(file_lock(a));
    assert_int_equal(file_lock(b), ERR_AGAIN);
    assert_non_null(strstr(err_detail(), "held by"));
    file_close(a);
    assert_ok(file_lock(b));
    file_close(b);
}

static inline void every_call(place *p) {
    check_bytes(p);
    check_names(p);
    check_whole_files(p);
    check_lock(p);
    place_close(p);
}

#endif
