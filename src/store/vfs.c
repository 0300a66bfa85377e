/* The checksum shim: three SQLite VFSes over the machine's own.
 *
 * SQLite does not notice a flipped bit in a row, and integrity_check finds one in twenty. So each
 * page of the main database ends with 8 reserved bytes: hash64 of the 4,088 before, seeded with
 * the page's number, so that a page in another's place is seen too. They are written when the page
 * is written to the main file (at a checkpoint) and checked whenever it is read from there. Pages
 * in the WAL carry SQLite's own frame checksums; the 8 bytes mean nothing there.
 *
 * Invariants:
 *  1. The main file is read and written in whole pages. A shorter read (SQLite looks at the first
 *     100 bytes before it knows the page size) reads its page whole and copies the part.
 *  2. A page behind the end of a non-empty file is damage: secure_delete is on, so SQLite writes
 *     each page it allocates, also those freed again.
 *  3. Nothing that was deleted is in a written page. secure_delete zeroes freed cells and pages,
 *     but when SQLite rebalances a page it moves cells and leaves copies in the gap between
 *     the cell pointers and the cells. The gap of each b-tree page is zeroed on its way out; a page
 *     is known to be one by its first byte (VFS_PAGES_MAX).
 *  4. The still VFSes open read-only, ignore locks and deletions, and show a WAL that is
 *     missing (or hidden, VFS_MAIN) as an empty file, so looking leaves no trace.
 *
 * A checksum costs 0.7 us a page (Zen 4), beside 1 us for the read itself; pages in SQLite's
 * cache are not checked again. SQLite keeps a process-wide list of VFSes by pointer: the table here
 * is the one mutable global of the module, written once.
 */
#include "store/vfs.h"
#include "os/thread.h"

#include <stdio.h>

enum { HEADER_SIZE = 100, MEM_HEADER = 16, FLAVOURS = 3 };

typedef struct page_file {
    sqlite3_file base;
    sqlite3_file *real;
    const char *name; /* SQLite's, valid while open */
    uint8_t *page;    /* one page, for sums and partial reads */
    bool still;
} page_file;
#define REAL_OFFSET ((sizeof(page_file) + 15) & ~(size_t)15)

static sqlite3_file *real_of(sqlite3_file *f) {
    return ((page_file *)f)->real;
}

uint64_t vfs_page_sum(const uint8_t page[VFS_PAGE_SIZE], uint32_t number) {
    return hash64(page, VFS_PAGE_SIZE - VFS_SUM_SIZE, number);
}

/* ---- pages ---- */

static int page_damaged(const page_file *f, uint32_t number, const char *what) {
    (void)err_set(ERR_CORRUPT, "%s: page %u: %s", f->name, number, what);
    return SQLITE_IOERR_DATA;
}

static int page_check(const page_file *f, const uint8_t *p, uint32_t number) {
    if (vfs_page_sum(p, number) == le64_get(p + VFS_PAGE_SIZE - VFS_SUM_SIZE)) return SQLITE_OK;
    if (number == 1 && memcmp(p, "SQLite format 3", 16) != 0)
        return page_damaged(f, number, "this is not a store of kith");
    return page_damaged(f, number, "the checksum does not match");
}

/* The bytes between the cell pointers and the cells of a b-tree page hold nothing: make it so. */
static void page_clear_gap(uint8_t *p, uint32_t number) {
    size_t h = number == 1 ? HEADER_SIZE : 0;
    uint8_t kind = p[h];
    if (kind != 2 && kind != 5 && kind != 10 && kind != 13) return;
    size_t cells = (size_t)p[h + 3] << 8 | p[h + 4];
    size_t start = (size_t)p[h + 5] << 8 | p[h + 6];
    size_t from = h + (kind <= 5 ? 12 : 8) + 2 * cells;
    if (from < start && start <= VFS_PAGE_SIZE - VFS_SUM_SIZE) memset(p + from, 0, start - from);
}

static int page_read(page_file *f, uint8_t *into, uint32_t number) {
    sqlite3_int64 at = (sqlite3_int64)(number - 1) * VFS_PAGE_SIZE, size = 0;
    int rc = f->real->pMethods->xRead(f->real, into, VFS_PAGE_SIZE, at);
    if (rc == SQLITE_OK) return page_check(f, into, number);
    if (rc != SQLITE_IOERR_SHORT_READ) return rc;
    int size_rc = f->real->pMethods->xFileSize(f->real, &size);
    if (size_rc != SQLITE_OK) return size_rc;
    if (size == 0) return rc; /* a new file: SQLite takes the zeros */
    return page_damaged(f, number, "the file ends before it");
}

static int main_read(sqlite3_file *file, void *out, int n, sqlite3_int64 at) {
    page_file *f = (page_file *)file;
    uint32_t number = (uint32_t)(at / VFS_PAGE_SIZE) + 1;
    size_t in_page = (size_t)(at % VFS_PAGE_SIZE);
    if (n == VFS_PAGE_SIZE && in_page == 0) return page_read(f, out, number);
    if (n <= 0 || in_page + (size_t)n > VFS_PAGE_SIZE) { /* another page size: not our file */
        return page_damaged(f, number, "pages of another size");
    }
    int rc = page_read(f, f->page, number);
    if (rc == SQLITE_OK || rc == SQLITE_IOERR_SHORT_READ) memcpy(out, f->page + in_page, (size_t)n);
    return rc;
}

static int main_write(sqlite3_file *file, const void *p, int n, sqlite3_int64 at) {
    page_file *f = (page_file *)file;
    if (f->still) return SQLITE_READONLY;
    if (n != VFS_PAGE_SIZE || at % VFS_PAGE_SIZE != 0) return SQLITE_IOERR_WRITE;
    uint32_t number = (uint32_t)(at / VFS_PAGE_SIZE) + 1;
    memcpy(f->page, p, VFS_PAGE_SIZE);
    page_clear_gap(f->page, number);
    le64_put(f->page + VFS_PAGE_SIZE - VFS_SUM_SIZE, vfs_page_sum(f->page, number));
    return f->real->pMethods->xWrite(f->real, f->page, n, at);
}

/* ---- the rest of a main file: forwarded ---- */

static int main_close(sqlite3_file *f) {
    mem_free(((page_file *)f)->page);
    return real_of(f)->pMethods->xClose(real_of(f));
}
static int main_truncate(sqlite3_file *f, sqlite3_int64 size) {
    return real_of(f)->pMethods->xTruncate(real_of(f), size);
}
static int main_sync(sqlite3_file *f, int flags) {
    return real_of(f)->pMethods->xSync(real_of(f), flags);
}
static int main_size(sqlite3_file *f, sqlite3_int64 *out) {
    return real_of(f)->pMethods->xFileSize(real_of(f), out);
}
static int main_lock(sqlite3_file *f, int level) {
    return ((page_file *)f)->still ? SQLITE_OK : real_of(f)->pMethods->xLock(real_of(f), level);
}
static int main_unlock(sqlite3_file *f, int level) {
    return ((page_file *)f)->still ? SQLITE_OK : real_of(f)->pMethods->xUnlock(real_of(f), level);
}
static int main_reserved(sqlite3_file *f, int *out) {
    *out = 0;
    return ((page_file *)f)->still ? SQLITE_OK
                                   : real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}
static int main_control(sqlite3_file *f, int op, void *arg) {
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}
static int main_sector(sqlite3_file *f) {
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}
static int main_device(sqlite3_file *f) {
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}
static int main_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out) {
    return real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, out);
}
static int main_shm_lock(sqlite3_file *f, int offset, int n, int flags) {
    return real_of(f)->pMethods->xShmLock(real_of(f), offset, n, flags);
}
static void main_shm_barrier(sqlite3_file *f) {
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}
static int main_shm_unmap(sqlite3_file *f, int delete_too) {
    return real_of(f)->pMethods->xShmUnmap(real_of(f), delete_too);
}

static const sqlite3_io_methods main_methods = {
    .iVersion = 2, /* no xFetch: no memory maps */
    .xClose = main_close,
    .xRead = main_read,
    .xWrite = main_write,
    .xTruncate = main_truncate,
    .xSync = main_sync,
    .xFileSize = main_size,
    .xLock = main_lock,
    .xUnlock = main_unlock,
    .xCheckReservedLock = main_reserved,
    .xFileControl = main_control,
    .xSectorSize = main_sector,
    .xDeviceCharacteristics = main_device,
    .xShmMap = main_shm_map,
    .xShmLock = main_shm_lock,
    .xShmBarrier = main_shm_barrier,
    .xShmUnmap = main_shm_unmap,
};

/* ---- an empty file: the WAL that a still VFS does not have or does not show ---- */

static int empty_ok(sqlite3_file *f) {
    (void)f;
    return SQLITE_OK;
}
static int empty_read(sqlite3_file *f, void *out, int n, sqlite3_int64 at) {
    (void)f, (void)at;
    memset(out, 0, (size_t)n);
    return SQLITE_IOERR_SHORT_READ;
}
static int empty_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) {
    (void)f, (void)p, (void)n, (void)at;
    return SQLITE_READONLY;
}
static int empty_truncate(sqlite3_file *f, sqlite3_int64 size) {
    (void)f, (void)size;
    return SQLITE_OK;
}
static int empty_flag(sqlite3_file *f, int flags) {
    (void)f, (void)flags;
    return SQLITE_OK;
}
static int empty_size(sqlite3_file *f, sqlite3_int64 *out) {
    (void)f;
    *out = 0;
    return SQLITE_OK;
}
static int empty_reserved(sqlite3_file *f, int *out) {
    (void)f;
    *out = 0;
    return SQLITE_OK;
}
static int empty_control(sqlite3_file *f, int op, void *arg) {
    (void)f, (void)op, (void)arg;
    return SQLITE_NOTFOUND;
}

static const sqlite3_io_methods empty_methods = {
    .iVersion = 1,
    .xClose = empty_ok,
    .xRead = empty_read,
    .xWrite = empty_write,
    .xTruncate = empty_truncate,
    .xSync = empty_flag,
    .xFileSize = empty_size,
    .xLock = empty_flag,
    .xUnlock = empty_flag,
    .xCheckReservedLock = empty_reserved,
    .xFileControl = empty_control,
    .xSectorSize = empty_ok,
    .xDeviceCharacteristics = empty_ok,
};

/* ---- the VFSes ---- */

static sqlite3_vfs *under(sqlite3_vfs *v) {
    return v->pAppData;
}
static bool is_still(const sqlite3_vfs *v) {
    return strcmp(v->zName, VFS_LIVE) != 0;
}

static int open_main(sqlite3_vfs *v, const char *name, page_file *f, int flags, int *out_flags) {
    *f = (page_file){.real = (sqlite3_file *)((char *)f + REAL_OFFSET), .name = name};
    f->still = is_still(v);
    f->real->pMethods = NULL;
    f->page = mem_alloc(VFS_PAGE_SIZE);
    if (!f->page) return SQLITE_NOMEM;
    int rc = under(v)->xOpen(under(v), name, f->real, flags, out_flags);
    if (rc == SQLITE_OK) {
        f->base.pMethods = &main_methods;
        return SQLITE_OK;
    }
    if (f->real->pMethods) f->real->pMethods->xClose(f->real);
    mem_free(f->page);
    return rc;
}

static int vfs_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out_flags) {
    f->pMethods = NULL;
    if (flags & SQLITE_OPEN_MAIN_DB) return open_main(v, name, (page_file *)f, flags, out_flags);
    if (!is_still(v)) return under(v)->xOpen(under(v), name, f, flags, out_flags);
    int there = 0;
    if (flags & SQLITE_OPEN_WAL && strcmp(v->zName, VFS_MAIN) != 0) {
        int rc = under(v)->xAccess(under(v), name, SQLITE_ACCESS_EXISTS, &there);
        if (rc != SQLITE_OK) return rc;
    }
    flags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
    if (there) return under(v)->xOpen(under(v), name, f, flags, out_flags);
    f->pMethods = &empty_methods;
    if (out_flags) *out_flags = flags;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *v, const char *name, int sync) {
    return is_still(v) ? SQLITE_OK : under(v)->xDelete(under(v), name, sync);
}
static int vfs_access(sqlite3_vfs *v, const char *name, int flags, int *out) {
    return under(v)->xAccess(under(v), name, flags, out);
}
static int vfs_full(sqlite3_vfs *v, const char *name, int n, char *out) {
    return under(v)->xFullPathname(under(v), name, n, out);
}
static int vfs_random(sqlite3_vfs *v, int n, char *out) {
    return under(v)->xRandomness(under(v), n, out);
}
static int vfs_sleep(sqlite3_vfs *v, int us) {
    return under(v)->xSleep(under(v), us);
}
static int vfs_time(sqlite3_vfs *v, double *out) {
    return under(v)->xCurrentTime(under(v), out);
}
static int vfs_time_ms(sqlite3_vfs *v, sqlite3_int64 *out) {
    return under(v)->xCurrentTimeInt64(under(v), out);
}
static int vfs_last_error(sqlite3_vfs *v, int n, char *out) {
    return under(v)->xGetLastError(under(v), n, out);
}

/* ---- SQLite's memory: each block has its size in front ---- */

static void *memory_alloc(int n) {
    char *p = mem_alloc((size_t)n + MEM_HEADER);
    if (!p) return NULL;
    le64_put(p, (uint64_t)n);
    return p + MEM_HEADER;
}
static void memory_free(void *p) {
    if (p) mem_free((char *)p - MEM_HEADER);
}
static void *memory_realloc(void *old, int n) {
    char *p = mem_realloc((char *)old - MEM_HEADER, (size_t)n + MEM_HEADER);
    if (!p) return NULL;
    le64_put(p, (uint64_t)n);
    return p + MEM_HEADER;
}
static int memory_size(void *p) {
    return p ? (int)le64_get((char *)p - MEM_HEADER) : 0;
}
static int memory_round(int n) {
    return (n + 7) & ~7;
}
static int memory_start(void *ctx) {
    (void)ctx;
    return SQLITE_OK;
}
static void memory_stop(void *ctx) {
    (void)ctx;
}

/* ---- once a process ---- */

static sqlite3_vfs vfs_table[FLAVOURS];
static int init_rc;
static pthread_once_t init_once = PTHREAD_ONCE_INIT;

static void init(void) {
    static const char *const names[FLAVOURS] = {VFS_LIVE, VFS_STILL, VFS_MAIN};
    static const sqlite3_mem_methods memory = {memory_alloc, memory_free,  memory_realloc,
                                               memory_size,  memory_round, memory_start,
                                               memory_stop,  NULL};
    init_rc = sqlite3_config(SQLITE_CONFIG_MALLOC, &memory);
    if (init_rc == SQLITE_OK) init_rc = sqlite3_initialize();
    sqlite3_vfs *base = init_rc == SQLITE_OK ? sqlite3_vfs_find(NULL) : NULL;
    for (size_t i = 0; base && i < FLAVOURS && init_rc == SQLITE_OK; i++) {
        vfs_table[i] = (sqlite3_vfs){.iVersion = 2,
                                     .szOsFile = (int)REAL_OFFSET + base->szOsFile,
                                     .mxPathname = base->mxPathname,
                                     .zName = names[i],
                                     .pAppData = base,
                                     .xOpen = vfs_open,
                                     .xDelete = vfs_delete,
                                     .xAccess = vfs_access,
                                     .xFullPathname = vfs_full,
                                     .xRandomness = vfs_random,
                                     .xSleep = vfs_sleep,
                                     .xCurrentTime = vfs_time,
                                     .xCurrentTimeInt64 = vfs_time_ms,
                                     .xGetLastError = vfs_last_error};
        init_rc = sqlite3_vfs_register(&vfs_table[i], 0);
    }
}

err vfs_init(void) {
    pthread_once(&init_once, init);
    if (init_rc == SQLITE_OK) return OK;
    return err_set(ERR_INTERNAL, "SQLite could not start: %s", sqlite3_errstr(init_rc));
}

sqlite3_vfs *vfs_under(sqlite3_vfs *replacement) {
    for (size_t i = 0; replacement && i < FLAVOURS; i++) {
        vfs_table[i].pAppData = replacement;
        vfs_table[i].szOsFile = (int)REAL_OFFSET + replacement->szOsFile;
    }
    return vfs_table[0].pAppData;
}
