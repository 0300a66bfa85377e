/* kith verify: every file of a data directory, read without opening the shard and without changing
 * anything. The journal and the keys of what is sealed in it are the truth, so their problems are
 * told first; a damaged store or snapshot is told as what it is: something that the next start makes
 * again.
 */
#include "shard/shard_int.h"
#include "shard/snapfile.h"

#include <stdio.h>

enum { PATH_BYTES = 4096, TEXT_BYTES = 512 };

typedef struct verify {
    void (*report)(void *ctx, const char *file, const char *problem);
    void *ctx;
    const char *name;
    uint64_t problems;
} verify;

static void journal_report(void *ctx, const journal_problem *p) {
    verify *v = ctx;
    if (p->code == OK) return; /* a note: nothing acknowledged is hurt */
    char path[PATH_BYTES], text[TEXT_BYTES];
    snprintf(path, sizeof path, "journal/%s", p->file);
    snprintf(text, sizeof text, "at byte %llu, LSN %llu: %s", (unsigned long long)p->offset,
             (unsigned long long)p->lsn, p->text);
    v->problems++;
    v->report(v->ctx, path, text);
}

static void file_report(void *ctx, const char *problem) {
    verify *v = ctx;
    v->problems++;
    v->report(v->ctx, v->name, problem);
}

static err verify_journal(fs *disk, const char *dir, verify *v, uint64_t *files) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/journal", dir);
    journal_summary sum = {0};
    err rc = journal_verify(disk, path, journal_report, v, &sum);
    *files += sum.segments;
    if (rc != OK && v->problems == 0) {
        v->problems++;
        v->report(v->ctx, "journal", err_detail());
    }
    return OK;
}

static err verify_store(fs *disk, const char *dir, verify *v, uint64_t *files) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/store.db", dir);
    if (!fs_exists(disk, path)) return OK;
    v->name = "store.db";
    ++*files;
    uint64_t before = v->problems;
    err rc = store_verify(path, file_report, v);
    if (rc != OK && v->problems == before) file_report(v, err_detail());
    return OK;
}

static err verify_snapfile(fs *disk, const char *dir, const char *name, verify *v,
                           uint64_t *files) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    snapfile f;
    err rc = snapfile_open(disk, path, &f);
    if (rc == ERR_NOT_FOUND) return OK;
    ++*files;
    if (rc == ERR_NO_MEMORY) return rc;
    v->name = name;
    if (rc != OK)
        file_report(v, err_detail());
    else
        snapfile_close(&f);
    return OK;
}

typedef struct verify_dir {
    fs *disk;
    const char *dir;
    verify *v;
    uint64_t *files;
} verify_dir;

static err verify_listed(void *ctx, const char *name) {
    const verify_dir *d = ctx;
    if (!shard_space_file(name)) return OK;
    return verify_snapfile(d->disk, d->dir, name, d->v, d->files);
}

/* The index snapshot, and those of spaces beside the first. */
static err verify_snapshots(fs *disk, const char *dir, verify *v, uint64_t *files) {
    TRY(verify_snapfile(disk, dir, "index.snap", v, files));
    return fs_list(disk, dir, verify_listed, &(verify_dir){disk, dir, v, files});
}

static err verify_keys(fs *disk, const char *dir, const seal_master *master, verify *v,
                       uint64_t *files) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/user.keys", dir);
    if (!fs_exists(disk, path)) return OK;
    v->name = "user.keys";
    ++*files;
    static const seal_master none;
    err rc = keyring_check(disk, path, master ? master : &none);
    if (rc == ERR_NO_MEMORY) return rc;
    if (rc != OK) file_report(v, err_detail());
    return OK;
}

err shard_verify(fs *disk, const char *dir, const seal_master *master,
                 void (*report)(void *ctx, const char *file, const char *problem), void *ctx,
                 uint64_t *files_checked) {
    verify v = {.report = report, .ctx = ctx};
    *files_checked = 0;
    if (!fs_exists(disk, dir)) return err_set(ERR_NOT_FOUND, "%s: no such directory", dir);
    TRY(verify_journal(disk, dir, &v, files_checked));
    TRY(verify_keys(disk, dir, master, &v, files_checked));
    TRY(verify_store(disk, dir, &v, files_checked));
    TRY(verify_snapshots(disk, dir, &v, files_checked));
    if (v.problems == 0) return OK;
    return err_set(ERR_CORRUPT, "%s: %llu problems", dir, (unsigned long long)v.problems);
}
