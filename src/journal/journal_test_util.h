/* Shared by the journal's tests: directories, entries made from a number, and their check. */
#ifndef KITH_JOURNAL_JOURNAL_TEST_UTIL_H
#define KITH_JOURNAL_JOURNAL_TEST_UTIL_H

#include "journal/journal.h"
#include "os/sim.h"

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
#define assert_err(expr, code)                                                                 \
    do {                                                                                       \
        err got_rc_ = (expr);                                                                  \
        if (got_rc_ != (code))                                                                 \
            fail_msg("%s: expected %s, got %s (%s)", #expr, err_name(code), err_name(got_rc_), \
                     err_detail());                                                            \
    } while (0)

static inline bool test_is_long(void) {
    return getenv("KITH_LONG") != NULL;
}

/* A new directory of the machine; test_dir_remove takes it away with the files in it. */
static inline void test_dir_make(char out[64]) {
    snprintf(out, 64, "/tmp/kith-journal-XXXXXX");
    assert_non_null(mkdtemp(out));
}

static inline err test_unlink_one(void *ctx, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", (const char *)ctx, name);
    return fs_unlink(fs_real(), path);
}

static inline void test_dir_clear(char *dir) {
    assert_ok(fs_list(fs_real(), dir, test_unlink_one, dir));
}

static inline void test_dir_remove(char *dir) {
    test_dir_clear(dir);
    assert_int_equal(rmdir(dir), 0);
}

/* Entry number n of a test: key and body follow from n alone, so a reader can check any record. */
typedef struct test_entry {
    char key[24];
    uint8_t body[1500];
    journal_entry e;
} test_entry;

static inline void test_entry_fill(test_entry *t, uint64_t n) {
    rng r;
    rng_seed(&r, n);
    size_t len = rng_below(&r, 20) == 0 ? 0 : rng_below(&r, 20) == 0 ? 1400 : rng_below(&r, 120);
    for (size_t i = 0; i < len; i++) t->body[i] = (uint8_t)rng_u64(&r);
    int k = snprintf(t->key, sizeof t->key, "k%llu", (unsigned long long)n);
    t->e = (journal_entry){.kind = (uint16_t)(1 + n % 60),
                           .region = (uint16_t)(n % 3),
                           .key = str_from(t->key, (size_t)k),
                           .body = str_from(t->body, len)};
}

/* Fails the test when the record is not entry n. */
static inline void test_record_is(const journal_record *rec, uint64_t n) {
    test_entry t;
    test_entry_fill(&t, n);
    if (!str_eq(rec->key, t.e.key) || !str_eq(rec->body, t.e.body) || rec->kind != t.e.kind)
        fail_msg("record %llu is not entry %llu", (unsigned long long)rec->lsn,
                 (unsigned long long)n);
}

/* Appends entries `from`, from + 1, ... as one call. */
static inline err test_append(journal *j, uint64_t from, size_t n, uint64_t *last) {
    test_entry *t = calloc(n, sizeof *t);
    journal_entry *e = calloc(n, sizeof *e);
    for (size_t i = 0; i < n; i++) {
        test_entry_fill(&t[i], from + i);
        e[i] = t[i].e;
    }
    uint64_t first;
    err rc = journal_append(j, e, n, &first, last);
    if (rc == OK) assert_int_equal(*last, first + n - 1);
    free(t);
    free(e);
    return rc;
}

#endif
