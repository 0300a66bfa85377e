/* The failing file system: another fs, with the nth call of chosen kinds refused.
 *
 * Tests loop nth from 1 until a run meets no fault, and so reach every failing call of the code
 * under test ("torture mode"). The faults are what real disks do: an error once, an error for ever
 * after (the disk died, or the process was killed as far as the disk can tell), and a torn write.
 *
 * Rules:
 *  1. Every call is of one kind: mkdir, list, lock and map count as OPEN, size and pread as READ,
 *     pwrite and truncate as WRITE, datasync and sync_dir as SYNC. exists has no error to give.
 *  2. A refused call does nothing, except a torn write, which writes the first half of its bytes.
 *     A write of one byte torn writes nothing.
 *  3. The counter is shared by all files and threads and guarded by one mutex, held only to count:
 *     the order of calls of several threads is theirs, so nth is exact only with one thread.
 *  4. A map is a heap copy made by file.c through open and read, so it can fail as those do.
 */
#include "os/file.h"
#include "os/fs_int.h"
#include "os/thread.h"

typedef struct fault_fs {
    fs base;
    fs *inner;  /* immutable */
    mutex lock; /* guards what follows */
    fault_plan plan;
    uint64_t calls;
} fault_fs;

typedef struct fault_file {
    file base;
    fault_fs *owner;
    file *inner;
} fault_file;

/* Counts a call of this kind; OK, or the planned error with *torn told (may be NULL). */
static err fault_check(fault_fs *f, unsigned kind, bool *torn) {
    mutex_lock(&f->lock);
    bool hit = false;
    if (f->plan.kinds & kind) {
        f->calls++;
        hit =
            f->plan.nth && (f->calls == f->plan.nth || (f->plan.forever && f->calls > f->plan.nth));
    }
    err code = hit ? f->plan.code : OK;
    uint64_t call = f->calls;
    if (torn) *torn = hit && f->plan.torn;
    mutex_unlock(&f->lock);
    if (!hit) return OK;
    return err_set(code, "injected fault at call %llu", (unsigned long long)call);
}

static err fault_open(fs *disk, const char *path, unsigned flags, file **out) {
    fault_fs *f = (fault_fs *)disk;
    TRY(fault_check(f, FAULT_OPEN, NULL));
    fault_file *w = mem_alloc(sizeof *w);
    if (!w) return ERR_NO_MEMORY;
    *w = (fault_file){.base = {disk->ops}, .owner = f};
    err rc = file_open(f->inner, path, flags, &w->inner);
    if (rc != OK) {
        mem_free(w);
        return rc;
    }
    *out = &w->base;
    return OK;
}

static void fault_close(file *base) {
    fault_file *f = (fault_file *)base;
    file_close(f->inner);
    mem_free(f);
}

static err fault_size(file *base, uint64_t *out) {
    fault_file *f = (fault_file *)base;
    TRY(fault_check(f->owner, FAULT_READ, NULL));
    return file_size(f->inner, out);
}

static err fault_pread(file *base, void *p, size_t n, uint64_t offset, size_t *got) {
    fault_file *f = (fault_file *)base;
    TRY(fault_check(f->owner, FAULT_READ, NULL));
    return file_pread(f->inner, p, n, offset, got);
}

static err fault_pwrite(file *base, const void *p, size_t n, uint64_t offset) {
    fault_file *f = (fault_file *)base;
    bool torn = false;
    err rc = fault_check(f->owner, FAULT_WRITE, &torn);
    if (rc != OK && torn) {
        err half = file_pwrite(f->inner, p, n / 2, offset);
        (void)half; /* the planned error is told either way */
        return err_set(rc, "injected torn write");
    }
    TRY(rc);
    return file_pwrite(f->inner, p, n, offset);
}

static err fault_datasync(file *base) {
    fault_file *f = (fault_file *)base;
    TRY(fault_check(f->owner, FAULT_SYNC, NULL));
    return file_datasync(f->inner);
}

static err fault_truncate(file *base, uint64_t size) {
    fault_file *f = (fault_file *)base;
    TRY(fault_check(f->owner, FAULT_WRITE, NULL));
    return file_truncate(f->inner, size);
}

static err fault_reserve(file *base, uint64_t size) {
    fault_file *f = (fault_file *)base;
    TRY(fault_check(f->owner, FAULT_RESERVE, NULL));
    return file_reserve(f->inner, size);
}

static err fault_lock(file *base) {
    fault_file *f = (fault_file *)base;
    TRY(fault_check(f->owner, FAULT_OPEN, NULL));
    return file_lock(f->inner);
}

static err fault_rename(fs *disk, const char *from, const char *to) {
    fault_fs *f = (fault_fs *)disk;
    TRY(fault_check(f, FAULT_RENAME, NULL));
    return fs_rename(f->inner, from, to);
}

static err fault_unlink(fs *disk, const char *path) {
    fault_fs *f = (fault_fs *)disk;
    TRY(fault_check(f, FAULT_UNLINK, NULL));
    return fs_unlink(f->inner, path);
}

static err fault_mkdir(fs *disk, const char *path) {
    fault_fs *f = (fault_fs *)disk;
    TRY(fault_check(f, FAULT_OPEN, NULL));
    return fs_mkdir(f->inner, path);
}

static err fault_sync_dir(fs *disk, const char *path) {
    fault_fs *f = (fault_fs *)disk;
    TRY(fault_check(f, FAULT_SYNC, NULL));
    return fs_sync_dir(f->inner, path);
}

static bool fault_exists(fs *disk, const char *path) {
    return fs_exists(((fault_fs *)disk)->inner, path);
}

static err fault_list(fs *disk, const char *path, err (*visit)(void *ctx, const char *name),
                      void *ctx) {
    fault_fs *f = (fault_fs *)disk;
    TRY(fault_check(f, FAULT_OPEN, NULL));
    return fs_list(f->inner, path, visit, ctx);
}

static const fs_ops fault_ops = {
    .open = fault_open,
    .close = fault_close,
    .size = fault_size,
    .pread = fault_pread,
    .pwrite = fault_pwrite,
    .datasync = fault_datasync,
    .truncate = fault_truncate,
    .reserve = fault_reserve,
    .lock = fault_lock,
    .rename = fault_rename,
    .unlink = fault_unlink,
    .mkdir = fault_mkdir,
    .sync_dir = fault_sync_dir,
    .exists = fault_exists,
    .list = fault_list,
    .map = NULL,
};

err fs_fault_open(fs *inner, fs **out) {
    *out = NULL;
    fault_fs *f = mem_zalloc(1, sizeof *f);
    if (!f) return ERR_NO_MEMORY;
    f->base.ops = &fault_ops;
    f->inner = inner;
    err rc = mutex_init(&f->lock);
    if (rc != OK) {
        mem_free(f);
        return rc;
    }
    *out = &f->base;
    return OK;
}

void fs_fault_plan(fs *fault, fault_plan plan) {
    fault_fs *f = (fault_fs *)fault;
    KITH_ASSERT(f->base.ops == &fault_ops);
    KITH_ASSERT(!plan.nth || plan.code != OK);
    mutex_lock(&f->lock);
    f->plan = plan;
    f->calls = 0;
    mutex_unlock(&f->lock);
}

uint64_t fs_fault_calls(fs *fault) {
    fault_fs *f = (fault_fs *)fault;
    mutex_lock(&f->lock);
    uint64_t calls = f->calls;
    mutex_unlock(&f->lock);
    return calls;
}

void fs_fault_close(fs *fault) {
    fault_fs *f = (fault_fs *)fault;
    if (!f) return;
    mutex_deinit(&f->lock);
    mem_free(f);
}
