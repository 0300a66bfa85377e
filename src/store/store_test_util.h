/* What the tests and the bench of store/ share: a scratch directory, posts by number, and calls
 * that must succeed. */
#ifndef KITH_STORE_TEST_UTIL_H
#define KITH_STORE_TEST_UTIL_H

#include "store/store_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DAY_MS 86400000

typedef struct scratch {
    char dir[128], path[160];
} scratch;

static UNUSED void must_ok(err rc, const char *what) {
    if (rc == OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, err_name(rc), err_detail());
    abort();
}
#define MUST(e) must_ok(e, #e)

static UNUSED err unlink_one(void *ctx, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", ((scratch *)ctx)->dir, name);
    return fs_unlink(fs_real(), path);
}

static UNUSED void scratch_make(scratch *s) {
    const char *tmp = getenv("TMPDIR");
    if (!tmp || strlen(tmp) > 80) tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(s->dir, sizeof s->dir, "%s/kith-store-XXXXXX", tmp);
    if (!mkdtemp(s->dir)) abort();
    snprintf(s->path, sizeof s->path, "%s/store.db", s->dir);
}
static UNUSED void scratch_clear(scratch *s) {
    MUST(fs_list(fs_real(), s->dir, unlink_one, s));
}
static UNUSED void scratch_remove(scratch *s) {
    scratch_clear(s);
    if (rmdir(s->dir) != 0) abort();
}

/* A post in the arena; reply may be "". */
static UNUSED Kith__V1__Post *post_of(arena *a, const char *id, const char *text,
                                      const char *reply) {
    Kith__V1__Post *p = arena_alloc(a, sizeof *p);
    if (!p) abort();
    kith__v1__post__init(p);
    p->id = arena_dup(a, str_of(id));
    p->text = arena_dup(a, str_of(text));
    p->reply_to = arena_dup(a, str_of(reply));
    return p;
}

static UNUSED void set_created(arena *a, Kith__V1__Post *p, int64_t ms) {
    p->created_at = arena_alloc(a, sizeof *p->created_at);
    if (!p->created_at) abort();
    google__protobuf__timestamp__init(p->created_at);
    p->created_at->seconds = ms / 1000;
    p->created_at->nanos = (int32_t)(ms % 1000) * 1000000;
}

/* One put in a transaction of its own. */
static UNUSED store_change put_alone(store *s, arena *a, const Kith__V1__Post *p, uint64_t lsn) {
    store_change c;
    MUST(store_begin(s));
    MUST(store_put(s, p, lsn, DAY_MS, a, &c));
    MUST(store_commit(s, lsn));
    return c;
}

typedef struct problems {
    int count;
    char first[256];
} problems;
static UNUSED void note_problem(void *ctx, const char *text) {
    problems *p = ctx;
    if (!p->count++) snprintf(p->first, sizeof p->first, "%s", text);
}
/* The number of problems that store_verify finds; an error that stops it counts as one. */
static UNUSED int problems_of(const char *path, problems *p) {
    *p = (problems){0};
    err rc = store_verify(path, note_problem, p);
    if (rc != OK) note_problem(p, err_detail());
    return p->count;
}

#endif
