/* Files, through an `fs`: the machine's own (fs_real) or one that counts calls and fails as told
 * (fs_fault). Nothing else in kith opens, writes, renames or syncs a file.
 *
 *     file *f;
 *     TRY(file_open(fs, "d/seg", FILE_WRITE | FILE_CREATE, &f));
 *     TRY(file_pwrite(f, p, n, 0));      // all of n, or an error
 *     TRY(file_datasync(f));             // after an error here never try again: the bytes are
 *     file_close(f);                     // in an unknown state (ATC '20, "Can applications
 *                                        // recover from fsync failures?")
 * Errors: ERR_NOT_FOUND, ERR_EXISTS, ERR_DENIED (permissions, read-only), ERR_NO_SPACE (ENOSPC,
 * EDQUOT, EFBIG), ERR_AGAIN (EMFILE, ENFILE), ERR_IO; the detail names the path and the cause.
 */
#ifndef KITH_OS_FILE_H
#define KITH_OS_FILE_H

#include "base/base.h"

typedef struct fs fs;
typedef struct file file;

enum {
    FILE_READ = 0,
    FILE_WRITE = 1,     /* and read */
    FILE_CREATE = 2,    /* when missing; mode 0600 */
    FILE_EXCLUSIVE = 4, /* with CREATE: ERR_EXISTS when it is there */
    FILE_TRUNCATE = 8
};

fs *fs_real(void); /* static, never freed */

MUST_USE err file_open(fs *fs, const char *path, unsigned flags, file **out);
void file_close(file *f); /* NULL is fine */
MUST_USE err file_size(file *f, uint64_t *out);
/* Reads up to n bytes; *got is less only at the end of the file. */
MUST_USE err file_pread(file *f, void *p, size_t n, uint64_t offset, size_t *got);
MUST_USE err file_pwrite(file *f, const void *p, size_t n, uint64_t offset);
MUST_USE err file_datasync(file *f);
MUST_USE err file_truncate(file *f, uint64_t size);
/* Reserves bytes on disk for [0, size), so that later writes there cannot meet a full disk. */
MUST_USE err file_reserve(file *f, uint64_t size);
/* Takes the advisory lock of this file (opened with FILE_WRITE) until it is closed, and writes
 * this process' id into it. ERR_AGAIN when another has it: the detail says which and what to do. */
MUST_USE err file_lock(file *f);

MUST_USE err fs_rename(fs *fs, const char *from, const char *to); /* replaces `to` atomically */
MUST_USE err fs_unlink(fs *fs, const char *path);
MUST_USE err fs_mkdir(fs *fs, const char *path);    /* mode 0700; fine when it is there */
MUST_USE err fs_sync_dir(fs *fs, const char *path); /* makes names in it durable */
bool fs_exists(fs *fs, const char *path);
/* Calls visit for each name but . and .. in bytewise order. */
MUST_USE err fs_list(fs *fs, const char *path, err (*visit)(void *ctx, const char *name),
                     void *ctx);

/* Whole files. file_read_all: at most `max` bytes (ERR_TOO_LARGE), mem_free(*out).
 * file_write_atomic: written beside as path.tmp, synced, renamed, directory synced. */
MUST_USE err file_read_all(fs *fs, const char *path, size_t max, uint8_t **out, size_t *size);
MUST_USE err file_write_atomic(fs *fs, const char *path, const void *p, size_t n);

/* A private read-only map of a whole file (real memory or a copy under fs_fault). */
typedef struct file_map {
    const uint8_t *ptr;
    size_t size;
    void *own; /* implementation's, as is `unmap` */
    void (*unmap)(struct file_map *m);
} file_map;
MUST_USE err file_map_open(fs *fs, const char *path, file_map *out);
void file_map_close(file_map *m);

/* The failing fs: wraps another; the nth call from now of the named kinds fails with `code`, once
 * or for ever after. A torn write writes only the first half of its bytes before it fails. */
enum {
    FAULT_OPEN = 1,
    FAULT_READ = 2,
    FAULT_WRITE = 4,
    FAULT_SYNC = 8,
    FAULT_RENAME = 16,
    FAULT_UNLINK = 32,
    FAULT_RESERVE = 64,
    FAULT_ALL = 127
};
typedef struct fault_plan {
    unsigned kinds; /* FAULT_… bits */
    uint64_t nth;   /* 1 is the next call; 0: none */
    err code;
    bool forever;
    bool torn;
} fault_plan;
MUST_USE err fs_fault_open(fs *inner, fs **out);
void fs_fault_plan(fs *fault, fault_plan plan); /* also restarts the count */
uint64_t fs_fault_calls(fs *fault);             /* calls of the planned kinds since then */
void fs_fault_close(fs *fault);

#endif
