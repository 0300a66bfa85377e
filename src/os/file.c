/* Files: the public calls of file.h, and the machine's own file system behind them.
 *
 * Every call goes through a table (fs_int.h), so that a test can put a failing or a simulated
 * disk in its place; the indirection costs about a nanosecond where a system call costs hundreds.
 *
 * Why so:
 *  1. A read or write loops until all bytes went or the kernel says no. EINTR and short counts
 *     never reach a caller; a write that moves nothing is an I/O error, not an endless loop.
 *  2. An error names the path and the cause, once, here. The code says what a caller can do:
 *     no space (wait, or delete), again (too many open files), denied, or the disk is broken.
 *  3. fdatasync, not fsync: sizes are synced by it too, times are not worth a second write.
 *     EINTR is retried, every other error is final: the kernel may have dropped the dirty pages.
 *  4. The lock is flock's: it belongs to the open file, so a second open in this process is
 *     refused as well, and the kernel drops it however the process ends.
 *  5. A name is durable only after fs_sync_dir. file_write_atomic does all of it in order: write
 *     beside, sync, rename, sync the directory; a crash leaves the old file or the new one.
 *  6. Every descriptor is close-on-exec and every file is born with mode 0600.
 */
#include "os/file.h"
#include "os/fs_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_OFFSET_MAX   ((uint64_t)INT64_MAX)
#define FS_LIST_NAMES_MAX ((size_t)1 << 20)
#define FS_LIST_BYTES_MAX (64 * MIB)

typedef struct real_file {
    file base;
    int fd;
    char path[]; /* as given, for messages */
} real_file;

/* --- errors ---------------------------------------------------------------------------------- */

static err code_of(int cause) {
    switch (cause) {
    case ENOENT:
    case ENOTDIR:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_DENIED;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return ERR_NO_SPACE;
    case EMFILE:
    case ENFILE:
    case EWOULDBLOCK:
        return ERR_AGAIN;
    case ENOMEM:
        return ERR_NO_MEMORY;
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
        return ERR_INVALID;
    default:
        return ERR_IO;
    }
}

static err fail(int cause, const char *what, const char *path) {
    return err_set(code_of(cause), "%s %s: %s", what, path, strerror(cause));
}

/* --- the machine's files --------------------------------------------------------------------- */

static err real_open(fs *disk, const char *path, unsigned flags, file **out) {
    int mode = (flags & FILE_WRITE) ? O_RDWR : O_RDONLY;
    if (flags & FILE_CREATE) mode |= O_CREAT;
    if (flags & FILE_EXCLUSIVE) mode |= O_EXCL;
    if (flags & FILE_TRUNCATE) mode |= O_TRUNC;
    size_t len = strlen(path);
    real_file *f = mem_alloc(sizeof *f + len + 1);
    if (!f) return ERR_NO_MEMORY;
    do f->fd = open(path, mode | O_CLOEXEC, 0600);
    while (f->fd < 0 && errno == EINTR);
    if (f->fd < 0) {
        int cause = errno;
        mem_free(f);
        return fail(cause, "open", path);
    }
    f->base.ops = disk->ops;
    memcpy(f->path, path, len + 1);
    *out = &f->base;
    return OK;
}

static void real_close(file *base) {
    real_file *f = (real_file *)base;
    close(f->fd); /* what matters was synced; the descriptor is gone whatever close says */
    mem_free(f);
}

static err real_size(file *base, uint64_t *out) {
    real_file *f = (real_file *)base;
    struct stat st;
    if (fstat(f->fd, &st) < 0) return fail(errno, "stat", f->path);
    *out = (uint64_t)st.st_size;
    return OK;
}

static err real_pread(file *base, void *p, size_t n, uint64_t offset, size_t *got) {
    real_file *f = (real_file *)base;
    size_t done = 0;
    while (done < n) {
        ssize_t r = pread(f->fd, (char *)p + done, n - done, (off_t)(offset + done));
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return fail(errno, "read", f->path);
        if (r == 0) break;
        done += (size_t)r;
    }
    *got = done;
    return OK;
}

static err real_pwrite(file *base, const void *p, size_t n, uint64_t offset) {
    real_file *f = (real_file *)base;
    size_t done = 0;
    while (done < n) {
        ssize_t r = pwrite(f->fd, (const char *)p + done, n - done, (off_t)(offset + done));
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return fail(errno, "write", f->path);
        if (r == 0) return fail(EIO, "write", f->path);
        done += (size_t)r;
    }
    return OK;
}

static err real_datasync(file *base) {
    real_file *f = (real_file *)base;
    int rc;
    do rc = fdatasync(f->fd);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? fail(errno, "sync", f->path) : OK;
}

static err real_truncate(file *base, uint64_t size) {
    real_file *f = (real_file *)base;
    int rc;
    do rc = ftruncate(f->fd, (off_t)size);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? fail(errno, "truncate", f->path) : OK;
}

static err real_reserve(file *base, uint64_t size) {
    real_file *f = (real_file *)base;
    if (size == 0) return OK;
    int cause;
    do cause = posix_fallocate(f->fd, 0, (off_t)size);
    while (cause == EINTR);
    return cause ? fail(cause, "reserve space for", f->path) : OK;
}

static err lock_refused(real_file *f) {
    char pid[24];
    ssize_t n = pread(f->fd, pid, sizeof pid, 0);
    str who = str_trim(str_from(pid, n > 0 ? (size_t)n : 0));
    int64_t number;
    if (!str_to_i64(who, &number)) who = STR("(unknown)");
    return err_set(ERR_AGAIN,
                   "%s is held by process " STR_FMT ": stop it, or use another directory", f->path,
                   STR_ARG(who));
}

/* The id is for people: that it cannot be written (a full disk) is no reason to refuse. */
static err real_lock(file *base) {
    real_file *f = (real_file *)base;
    int rc;
    do rc = flock(f->fd, LOCK_EX | LOCK_NB);
    while (rc < 0 && errno == EINTR);
    if (rc < 0 && errno == EWOULDBLOCK) return lock_refused(f);
    if (rc < 0) return fail(errno, "lock", f->path);
    char pid[24];
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(f->fd, 0) == 0 && pwrite(f->fd, pid, (size_t)n, 0) < 0) return OK;
    return OK;
}

/* --- the machine's names --------------------------------------------------------------------- */

static err real_rename(fs *disk, const char *from, const char *to) {
    (void)disk;
    return rename(from, to) < 0 ? fail(errno, "rename to", to) : OK;
}

static err real_unlink(fs *disk, const char *path) {
    (void)disk;
    return unlink(path) < 0 ? fail(errno, "remove", path) : OK;
}

static err real_mkdir(fs *disk, const char *path) {
    (void)disk;
    if (mkdir(path, 0700) == 0) return OK;
    int cause = errno;
    struct stat st;
    if (cause == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return OK;
    return fail(cause, "make directory", path);
}

static err real_sync_dir(fs *disk, const char *path) {
    (void)disk;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail(errno, "open directory", path);
    int rc;
    do rc = fsync(fd);
    while (rc < 0 && errno == EINTR);
    int cause = rc < 0 ? errno : 0;
    close(fd);
    /* Some network file systems refuse to sync a directory: their names are durable at once. */
    if (cause == EINVAL || cause == EBADF) return OK;
    return cause ? fail(cause, "sync directory", path) : OK;
}

static bool real_exists(fs *disk, const char *path) {
    (void)disk;
    return access(path, F_OK) == 0;
}

typedef struct name_list {
    char **items;
    size_t count, cap;
    arena text;
} name_list;

static int name_cmp(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static err name_list_read(name_list *l, DIR *dir, const char *path) {
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e) return errno ? fail(errno, "list", path) : OK;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        void *items = l->items;
        err rc = mem_grow(&items, &l->cap, l->count + 1, sizeof *l->items, FS_LIST_NAMES_MAX);
        l->items = items;
        TRY(rc);
        char *name = arena_dup(&l->text, str_of(e->d_name));
        if (!name) return ERR_NO_MEMORY;
        l->items[l->count++] = name;
    }
}

static err real_list(fs *disk, const char *path, err (*visit)(void *ctx, const char *name),
                     void *ctx) {
    (void)disk;
    name_list l = {0};
    arena_init(&l.text, FS_LIST_BYTES_MAX);
    DIR *dir = opendir(path);
    if (!dir) return fail(errno, "open directory", path);
    err rc = name_list_read(&l, dir, path);
    closedir(dir);
    if (rc == OK && l.count) qsort(l.items, l.count, sizeof *l.items, name_cmp);
    for (size_t i = 0; rc == OK && i < l.count; i++) rc = visit(ctx, l.items[i]);
    mem_free(l.items);
    arena_deinit(&l.text);
    return rc;
}

static void real_unmap(file_map *m) {
    munmap(m->own, m->size);
}

static err real_map(fs *disk, const char *path, file_map *out) {
    file *f;
    TRY(real_open(disk, path, FILE_READ, &f));
    uint64_t size = 0;
    err rc = real_size(f, &size);
    if (rc == OK && size > (uint64_t)PTRDIFF_MAX) rc = fail(EFBIG, "map", path);
    if (rc == OK && size > 0) {
        void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, ((real_file *)f)->fd, 0);
        if (p == MAP_FAILED) {
            rc = fail(errno, "map", path);
        } else {
            *out = (file_map){.ptr = p, .size = (size_t)size, .own = p, .unmap = real_unmap};
        }
    }
    real_close(f);
    return rc;
}

static const fs_ops real_ops = {
    .open = real_open,
    .close = real_close,
    .size = real_size,
    .pread = real_pread,
    .pwrite = real_pwrite,
    .datasync = real_datasync,
    .truncate = real_truncate,
    .reserve = real_reserve,
    .lock = real_lock,
    .rename = real_rename,
    .unlink = real_unlink,
    .mkdir = real_mkdir,
    .sync_dir = real_sync_dir,
    .exists = real_exists,
    .list = real_list,
    .map = real_map,
};

fs *fs_real(void) {
    static fs real = {&real_ops};
    return &real;
}

/* --- calls through the table ----------------------------------------------------------------- */

err file_open(fs *disk, const char *path, unsigned flags, file **out) {
    *out = NULL;
    KITH_ASSERT(!(flags & (FILE_CREATE | FILE_TRUNCATE)) || (flags & FILE_WRITE));
    if (!path || !path[0]) return err_set(ERR_INVALID, "file: expected a path, got ''");
    return disk->ops->open(disk, path, flags, out);
}

void file_close(file *f) {
    if (f) f->ops->close(f);
}

err file_size(file *f, uint64_t *out) {
    *out = 0;
    return f->ops->size(f, out);
}

static err range_check(uint64_t offset, uint64_t n) {
    if (offset <= FILE_OFFSET_MAX && n <= FILE_OFFSET_MAX - offset) return OK;
    return err_set(ERR_INVALID, "file: offset %llu + %llu is over the largest offset",
                   (unsigned long long)offset, (unsigned long long)n);
}

err file_pread(file *f, void *p, size_t n, uint64_t offset, size_t *got) {
    *got = 0;
    TRY(range_check(offset, n));
    return n ? f->ops->pread(f, p, n, offset, got) : OK;
}

err file_pwrite(file *f, const void *p, size_t n, uint64_t offset) {
    TRY(range_check(offset, n));
    return n ? f->ops->pwrite(f, p, n, offset) : OK;
}

err file_datasync(file *f) {
    return f->ops->datasync(f);
}

err file_truncate(file *f, uint64_t size) {
    TRY(range_check(size, 0));
    return f->ops->truncate(f, size);
}

err file_reserve(file *f, uint64_t size) {
    TRY(range_check(size, 0));
    return f->ops->reserve(f, size);
}

err file_lock(file *f) {
    return f->ops->lock(f);
}

err fs_rename(fs *disk, const char *from, const char *to) {
    return disk->ops->rename(disk, from, to);
}
err fs_unlink(fs *disk, const char *path) {
    return disk->ops->unlink(disk, path);
}
err fs_mkdir(fs *disk, const char *path) {
    return disk->ops->mkdir(disk, path);
}
err fs_sync_dir(fs *disk, const char *path) {
    return disk->ops->sync_dir(disk, path);
}
bool fs_exists(fs *disk, const char *path) {
    return disk->ops->exists(disk, path);
}

err fs_list(fs *disk, const char *path, err (*visit)(void *ctx, const char *name), void *ctx) {
    return disk->ops->list(disk, path, visit, ctx);
}

/* --- whole files ----------------------------------------------------------------------------- */

static err read_whole(file *f, const char *path, size_t max, uint8_t **out, size_t *size) {
    uint64_t n = 0;
    TRY(file_size(f, &n));
    if (n > max)
        return err_set(ERR_TOO_LARGE, "%s: expected at most %zu bytes, got %llu", path, max,
                       (unsigned long long)n);
    uint8_t *p = mem_alloc(n ? (size_t)n : 1);
    if (!p) return ERR_NO_MEMORY;
    size_t got = 0;
    err rc = file_pread(f, p, (size_t)n, 0, &got);
    if (rc != OK) {
        mem_free(p);
        return rc;
    }
    *out = p;
    *size = got; /* less than n when the file shrank meanwhile */
    return OK;
}

err file_read_all(fs *disk, const char *path, size_t max, uint8_t **out, size_t *size) {
    *out = NULL;
    *size = 0;
    file *f;
    TRY(file_open(disk, path, FILE_READ, &f));
    err rc = read_whole(f, path, max, out, size);
    file_close(f);
    return rc;
}

/* The directory part of `path` into out: "." for a bare name, "/" for a name in the root. */
static err dir_of(const char *path, strbuf *out) {
    const char *slash = strrchr(path, '/');
    if (!slash) {
        strbuf_addz(out, ".");
    } else {
        strbuf_add(out, str_from(path, slash == path ? 1 : (size_t)(slash - path)));
    }
    return out->rc;
}

static err write_beside(fs *disk, const char *path, const void *p, size_t n) {
    file *f;
    TRY(file_open(disk, path, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, &f));
    err rc = file_pwrite(f, p, n, 0);
    if (rc == OK) rc = file_datasync(f);
    file_close(f);
    return rc;
}

err file_write_atomic(fs *disk, const char *path, const void *p, size_t n) {
    strbuf tmp, dir;
    strbuf_init(&tmp, 64 * KIB);
    strbuf_init(&dir, 64 * KIB);
    strbuf_addf(&tmp, "%s.tmp", path);
    err rc = tmp.rc;
    if (rc == OK) rc = dir_of(path, &dir);
    if (rc != OK) goto done;
    rc = write_beside(disk, tmp.ptr, p, n);
    if (rc == OK) rc = fs_rename(disk, tmp.ptr, path);
    if (rc != OK) {
        err_text kept = err_keep();
        err gone = fs_unlink(disk, tmp.ptr); /* best effort: the next write truncates it anyway */
        if (gone != OK) (void)err_restore(rc, &kept);
        goto done;
    }
    rc = fs_sync_dir(disk, dir.ptr);
done:
    strbuf_deinit(&tmp);
    strbuf_deinit(&dir);
    return rc;
}

static void heap_unmap(file_map *m) {
    mem_free(m->own);
}

err file_map_open(fs *disk, const char *path, file_map *out) {
    *out = (file_map){0};
    if (disk->ops->map) return disk->ops->map(disk, path, out);
    uint8_t *p;
    size_t n;
    TRY(file_read_all(disk, path, (size_t)PTRDIFF_MAX, &p, &n));
    *out = (file_map){.ptr = p, .size = n, .own = p, .unmap = heap_unmap};
    return OK;
}

void file_map_close(file_map *m) {
    if (m->own) m->unmap(m);
    *m = (file_map){0};
}
