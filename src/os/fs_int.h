/* What an `fs` is inside: a table of calls. Private to os/ and to file systems made for tests.
 * An implementation embeds `struct fs` and `struct file` as the first member of its own structs.
 * file.h checks arguments once, before the table is called: paths are not NULL, offset + n does
 * not wrap. */
#ifndef KITH_OS_FS_INT_H
#define KITH_OS_FS_INT_H

#include "os/file.h"

typedef struct fs_ops {
    err (*open)(fs *fs, const char *path, unsigned flags, file **out);
    void (*close)(file *f);
    err (*size)(file *f, uint64_t *out);
    err (*pread)(file *f, void *p, size_t n, uint64_t offset, size_t *got);
    err (*pwrite)(file *f, const void *p, size_t n, uint64_t offset);
    err (*datasync)(file *f);
    err (*truncate)(file *f, uint64_t size);
    err (*reserve)(file *f, uint64_t size);
    err (*lock)(file *f);
    err (*rename)(fs *fs, const char *from, const char *to);
    err (*unlink)(fs *fs, const char *path);
    err (*mkdir)(fs *fs, const char *path);
    err (*sync_dir)(fs *fs, const char *path);
    bool (*exists)(fs *fs, const char *path);
    err (*list)(fs *fs, const char *path, err (*visit)(void *ctx, const char *name), void *ctx);
    err (*map)(fs *fs, const char *path, file_map *out); /* NULL: file.c makes a heap copy */
} fs_ops;

struct fs {
    const fs_ops *ops;
};

struct file {
    const fs_ops *ops;
};

#endif
