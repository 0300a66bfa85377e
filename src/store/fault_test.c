/* store under faults: killed processes, failing disks, full disks, no memory, damaged WALs. After
 * each the store must be one that was committed: its position tells which, and the history is a
 * function of the position, so that the whole content can be checked. */
#include "store/store_test_util.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

/* ---- the history: what record `lsn` does ---- */

enum { IDS = 40, REPLACED_EVERY = 5 };

static char *id_of(uint64_t lsn, char out[24]) {
    snprintf(out, 24, "id%02u", (unsigned)(lsn * 7919 % IDS));
    return out;
}
static bool is_delete(uint64_t lsn) {
    return lsn % REPLACED_EVERY == 0;
}

static err apply(store *s, uint64_t lsn, arena *a) {
    char id[24], reply[24], text[600];
    uint32_t doc = 0;
    Kith__V1__Post *old = NULL;
    id_of(lsn, id);
    if (is_delete(lsn)) {
        err rc = store_delete(s, str_of(id), a, &doc, &old);
        return rc == ERR_NOT_FOUND ? OK : rc;
    }
    int n = snprintf(text, sizeof text, "record %llu ", (unsigned long long)lsn);
    memset(text + n, 'x', lsn % 500);
    text[n + (int)(lsn % 500)] = 0;
    Kith__V1__Post *p = arena_zalloc(a, 1, sizeof *p);
    if (!p) return ERR_NO_MEMORY;
    kith__v1__post__init(p);
    p->id = id, p->text = text;
    if (lsn % 3 == 0) p->reply_to = id_of(lsn + 1, reply);
    store_change c;
    return store_put(s, p, lsn, 0, a, &c);
}

/* Commits the records from the store's position + 1 to `until`, `batch` at a time. */
static err fold(store *s, uint64_t until, uint64_t batch) {
    arena a;
    arena_init(&a, 4 * MIB);
    err rc = OK;
    while (rc == OK && store_position(s) < until) {
        uint64_t lsn = store_position(s), end = MIN(lsn + batch, until);
        rc = store_begin(s);
        if (rc != OK) break;
        while (rc == OK && lsn < end) rc = apply(s, ++lsn, &a);
        if (rc == OK)
            rc = store_commit(s, end);
        else
            store_abort(s);
        arena_reset(&a);
    }
    arena_deinit(&a);
    return rc;
}

/* The content is exactly that of the position. */
static void check_content(store *s) {
    uint64_t last[IDS] = {0};
    char id[24], want[32];
    arena a;
    arena_init(&a, 4 * MIB);
    for (uint64_t lsn = 1; lsn <= store_position(s); lsn++)
        last[lsn * 7919 % IDS] = is_delete(lsn) ? 0 : lsn;
    uint64_t posts = 0;
    store_counts c;
    store_reader *r = store_reader_get(s);
    for (unsigned i = 0; i < IDS; i++) {
        store_row row;
        snprintf(id, sizeof id, "id%02u", i);
        err rc = store_get(r, str_of(id), &a, &row);
        if (rc != (last[i] ? OK : ERR_NOT_FOUND)) fail_msg("%s: %s", id, err_name(rc));
        if (!last[i]) continue;
        posts++;
        snprintf(want, sizeof want, "record %llu ", (unsigned long long)last[i]);
        assert_true(str_starts(str_of(row.post->text), str_of(want)));
        assert_true(row.post->lsn == last[i]);
    }
    MUST(store_count(r, &c));
    assert_true(c.posts == posts);
    store_reader_put(s, r);
    arena_deinit(&a);
}

/* Opens what a fault left, checks it whole, returns its position. */
static uint64_t check_left(const char *path) {
    store *s = NULL;
    problems p;
    if (fs_exists(fs_real(), path) && problems_of(path, &p)) fail_msg("verify: %s", p.first);
    MUST(store_open(path, 1, &s));
    check_content(s);
    uint64_t at = store_position(s);
    store_close(s);
    if (problems_of(path, &p)) fail_msg("verify after close: %s", p.first);
    return at;
}

/* ---- kill -9 ---- */

static void killed_child(const char *path, uint64_t batch) {
    store *s = NULL;
    MUST(store_open(path, 1, &s));
    for (;;) {
        MUST(fold(s, store_position(s) + 10 * batch, batch));
        MUST(store_erase_traces(s)); /* a whole checkpoint: kills meet it too */
    }
}

static void kill_nine(void **state) {
    (void)state;
    int rounds = getenv("KITH_LONG") ? 1000 : 25;
    scratch d;
    scratch_make(&d);
    rng r;
    rng_seed(&r, 5);
    uint64_t at = 0;
    for (int i = 0; i < rounds; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            killed_child(d.path, 1 + rng_below(&r, 20));
            _exit(1);
        }
        (void)rng_u64(&r); /* the child drew from its copy */
        clock_sleep_ms(1 + rng_below(&r, 40));
        kill(child, SIGKILL);
        int status = 0;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        uint64_t now = check_left(d.path);
        assert_true(now >= at); /* page cache survives a kill: nothing committed is lost */
        at = now;
    }
    print_message("%d kills, %llu records\n", rounds, (unsigned long long)at);
    scratch_remove(&d);
}

/* ---- a disk that fails: a VFS under the store's ---- */

typedef struct disk {
    sqlite3_vfs vfs, *real;
    uint64_t calls, nth; /* the nth call fails */
    bool forever;
    int code;
} disk;
typedef struct disk_file {
    sqlite3_file base;
    sqlite3_file *real;
    disk *d;
} disk_file;

static sqlite3_file *inner(sqlite3_file *f) {
    return ((disk_file *)f)->real;
}
static bool fails(disk *d) {
    d->calls++;
    return d->nth && (d->calls == d->nth || (d->forever && d->calls > d->nth));
}
static bool file_fails(sqlite3_file *f) {
    return fails(((disk_file *)f)->d);
}
static int disk_close(sqlite3_file *f) {
    return inner(f)->pMethods->xClose(inner(f));
}
static int disk_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at) {
    if (file_fails(f)) return SQLITE_IOERR_READ;
    return inner(f)->pMethods->xRead(inner(f), p, n, at);
}
static int disk_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) {
    disk *d = ((disk_file *)f)->d;
    if (!file_fails(f)) return inner(f)->pMethods->xWrite(inner(f), p, n, at);
    if (d->code == SQLITE_FULL) return SQLITE_FULL;
    (void)inner(f)->pMethods->xWrite(inner(f), p, n / 2, at); /* torn */
    return SQLITE_IOERR_WRITE;
}
static int disk_truncate(sqlite3_file *f, sqlite3_int64 n) {
    if (file_fails(f)) return SQLITE_IOERR_TRUNCATE;
    return inner(f)->pMethods->xTruncate(inner(f), n);
}
static int disk_sync(sqlite3_file *f, int flags) {
    if (file_fails(f)) return SQLITE_IOERR_FSYNC;
    return inner(f)->pMethods->xSync(inner(f), flags);
}
static int disk_size(sqlite3_file *f, sqlite3_int64 *out) {
    if (file_fails(f)) return SQLITE_IOERR_FSTAT;
    return inner(f)->pMethods->xFileSize(inner(f), out);
}
static int disk_lock(sqlite3_file *f, int level) {
    return inner(f)->pMethods->xLock(inner(f), level);
}
static int disk_unlock(sqlite3_file *f, int level) {
    return inner(f)->pMethods->xUnlock(inner(f), level);
}
static int disk_reserved(sqlite3_file *f, int *out) {
    return inner(f)->pMethods->xCheckReservedLock(inner(f), out);
}
static int disk_control(sqlite3_file *f, int op, void *arg) {
    return inner(f)->pMethods->xFileControl(inner(f), op, arg);
}
static int disk_sector(sqlite3_file *f) {
    return inner(f)->pMethods->xSectorSize(inner(f));
}
static int disk_device(sqlite3_file *f) {
    return inner(f)->pMethods->xDeviceCharacteristics(inner(f));
}
static int disk_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out) {
    if (file_fails(f)) return SQLITE_IOERR_SHMMAP;
    return inner(f)->pMethods->xShmMap(inner(f), page, size, extend, out);
}
static int disk_shm_lock(sqlite3_file *f, int offset, int n, int flags) {
    return inner(f)->pMethods->xShmLock(inner(f), offset, n, flags);
}
static void disk_shm_barrier(sqlite3_file *f) {
    inner(f)->pMethods->xShmBarrier(inner(f));
}
static int disk_shm_unmap(sqlite3_file *f, int gone) {
    return inner(f)->pMethods->xShmUnmap(inner(f), gone);
}
static const sqlite3_io_methods disk_methods = {
    .iVersion = 2,
    .xClose = disk_close,
    .xRead = disk_read,
    .xWrite = disk_write,
    .xTruncate = disk_truncate,
    .xSync = disk_sync,
    .xFileSize = disk_size,
    .xLock = disk_lock,
    .xUnlock = disk_unlock,
    .xCheckReservedLock = disk_reserved,
    .xFileControl = disk_control,
    .xSectorSize = disk_sector,
    .xDeviceCharacteristics = disk_device,
    .xShmMap = disk_shm_map,
    .xShmLock = disk_shm_lock,
    .xShmBarrier = disk_shm_barrier,
    .xShmUnmap = disk_shm_unmap,
};

static int disk_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out) {
    disk *d = v->pAppData;
    f->pMethods = NULL;
    if (fails(d)) return SQLITE_CANTOPEN;
    disk_file *w = (disk_file *)f;
    *w = (disk_file){.real = (sqlite3_file *)(w + 1), .d = d};
    int rc = d->real->xOpen(d->real, name, w->real, flags, out);
    if (rc == SQLITE_OK) f->pMethods = &disk_methods;
    return rc;
}
static int disk_delete(sqlite3_vfs *v, const char *name, int sync) {
    disk *d = v->pAppData;
    if (fails(d)) return SQLITE_IOERR_DELETE;
    return d->real->xDelete(d->real, name, sync);
}
static int disk_access(sqlite3_vfs *v, const char *name, int flags, int *out) {
    disk *d = v->pAppData;
    if (fails(d)) return SQLITE_IOERR_ACCESS;
    return d->real->xAccess(d->real, name, flags, out);
}

/* Puts the failing disk under the store; take it away with vfs_under(d->real). */
static void disk_place(disk *d) {
    MUST(vfs_init());
    *d = (disk){.real = vfs_under(NULL)};
    d->vfs = *d->real; /* calls that need no fault go to the real one's functions */
    d->vfs.pNext = NULL;
    d->vfs.szOsFile = (int)sizeof(disk_file) + d->real->szOsFile;
    d->vfs.pAppData = d;
    d->vfs.xOpen = disk_open;
    d->vfs.xDelete = disk_delete;
    d->vfs.xAccess = disk_access;
    vfs_under(&d->vfs);
}

/* Opens, folds some, checkpoints, folds more, closes; the first error ends it. */
static err life(const char *path, uint64_t records, uint64_t *committed) {
    store *s = NULL;
    TRY(store_open(path, 1, &s));
    err rc = fold(s, store_position(s) + records, 3);
    if (rc == OK) rc = store_erase_traces(s);
    if (rc == OK) rc = fold(s, store_position(s) + records, 5);
    *committed = store_position(s);
    store_close(s);
    return rc;
}

static void failing_disk(void **state) {
    (void)state;
    static const struct {
        int code;
        bool forever;
    } kinds[] = {{SQLITE_IOERR, false}, {SQLITE_IOERR, true}, {SQLITE_FULL, true}};
    uint64_t step = getenv("KITH_LONG") ? 1 : 3;
    disk d;
    disk_place(&d);
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        scratch dir;
        scratch_make(&dir);
        uint64_t faults = 0, silent = 0;
        for (uint64_t nth = 1 + k % step;; nth += step) {
            uint64_t committed = 0;
            d.calls = 0, d.nth = nth;
            d.code = kinds[k].code, d.forever = kinds[k].forever;
            err rc = life(dir.path, 12, &committed);
            bool met = d.calls >= nth;
            d.nth = 0;
            faults += met;
            silent += met && rc == OK; /* in close, or where SQLite needs no answer */
            uint64_t left = check_left(dir.path);
            if (rc != ERR_CORRUPT) assert_true(left >= committed);
            scratch_clear(&dir);
            if (!met) break;
        }
        print_message("%llu faults, %llu without an error\n", (unsigned long long)faults,
                      (unsigned long long)silent);
        assert_true(faults > 20 && silent * 2 < faults);
        scratch_remove(&dir);
    }
    vfs_under(d.real);
}

/* ---- no memory ---- */

static void no_memory(void **state) {
    (void)state;
    bool all = getenv("KITH_LONG") != NULL;
    scratch dir;
    scratch_make(&dir);
    uint64_t errors = 0, runs = 0, committed = 0;
    MUST(life(dir.path, 12, &committed));
    scratch_clear(&dir);
    for (long nth = 1;; nth += all ? 1 : 1 + nth / 12) {
        mem_fail_after(nth);
        committed = 0;
        err rc = life(dir.path, 12, &committed);
        mem_fail_after(0);
        runs++;
        errors += rc != OK;
        if (rc != OK && rc != ERR_NO_MEMORY) fail_msg("%s: %s", err_name(rc), err_detail());
        assert_true(check_left(dir.path) >= committed);
        scratch_clear(&dir);
        if (rc == OK && nth > 30000) break;
    }
    print_message("%llu runs, %llu errors\n", (unsigned long long)runs, (unsigned long long)errors);
    assert_true(errors > 20);
    scratch_remove(&dir);
}

/* ---- a full disk ---- */

static void full_disk_child(const char *path) {
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {400 * KIB, RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(2);
    store *s = NULL;
    MUST(store_open(path, 1, &s));
    err rc = fold(s, 100000, 20);
    if (rc != ERR_NO_SPACE) _exit(3);
    uint64_t at = store_position(s);
    check_content(s); /* reads go on */
    if (fold(s, at + 20, 20) != ERR_NO_SPACE) _exit(4);
    MUST(store_erase_traces(s)); /* the WAL goes: there is room again */
    if (fold(s, at + 20, 20) != OK) _exit(5);
    limit.rlim_cur = RLIM_INFINITY;
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(6);
    MUST(fold(s, at + 400, 20));
    store_close(s);
    _exit(0);
}

static void full_disk(void **state) {
    (void)state;
    scratch dir;
    scratch_make(&dir);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) full_disk_child(dir.path);
    int status = 0;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(check_left(dir.path) > 400);
    scratch_remove(&dir);
}

/* ---- damage in the WAL ---- */

typedef struct image {
    uint8_t *db, *wal;
    size_t db_size, wal_size;
    uint64_t position;
} image;

/* What a kill would leave of this store now. */
static image image_of(store *s, const scratch *d) {
    image m = {.position = store_position(s)};
    char wal[200];
    snprintf(wal, sizeof wal, "%s-wal", d->path);
    MUST(file_read_all(fs_real(), d->path, 64 * MIB, &m.db, &m.db_size));
    MUST(file_read_all(fs_real(), wal, 64 * MIB, &m.wal, &m.wal_size));
    return m;
}
static void image_write(const image *m, const scratch *d, size_t wal_size) {
    char wal[200];
    file *f = NULL;
    snprintf(wal, sizeof wal, "%s-wal", d->path);
    MUST(file_open(fs_real(), d->path, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, &f));
    MUST(file_pwrite(f, m->db, m->db_size, 0));
    file_close(f);
    MUST(file_open(fs_real(), wal, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, &f));
    if (wal_size) MUST(file_pwrite(f, m->wal, wal_size, 0));
    file_close(f);
}
static void image_free(image *m) {
    mem_free(m->db);
    mem_free(m->wal);
}

/* Opens a damaged image: ERR_CORRUPT, or a state that was committed. Returns whether refused. */
static bool refused(const scratch *d, uint64_t *position) {
    store *s = NULL;
    problems p;
    problems_of(d->path, &p);
    err rc = store_open(d->path, 1, &s);
    if (rc != OK) {
        if (rc != ERR_CORRUPT) fail_msg("%s: %s", err_name(rc), err_detail());
        assert_true(p.count > 0);
        return true;
    }
    check_content(s);
    *position = store_position(s);
    store_close(s);
    return false;
}

static void damaged_wal(void **state) {
    (void)state;
    size_t step = getenv("KITH_LONG") ? 1 : 211;
    for (int copied = 0; copied < 2; copied++) {
        scratch live, dead;
        scratch_make(&live);
        scratch_make(&dead);
        store *s = NULL;
        MUST(store_open(live.path, 1, &s));
        MUST(fold(s, 30, 10));
        MUST(store_erase_traces(s));
        MUST(fold(s, 60, 10));
        if (copied) { /* the whole WAL lies in the main file too */
            int rc =
                sqlite3_wal_checkpoint_v2(s->w.db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
            assert_int_equal(rc, SQLITE_OK);
        }
        image m = image_of(s, &live);
        uint64_t at = 0;
        size_t refusals = 0, earlier = 0;
        for (size_t i = 0; i < m.wal_size; i += step) { /* a flipped byte */
            m.wal[i] ^= 0x40;
            image_write(&m, &dead, m.wal_size);
            if (refused(&dead, &at))
                refusals++;
            else
                earlier += at < m.position;
            assert_true(at <= m.position);
            m.wal[i] ^= 0x40;
        }
        print_message("%zu refusals, %zu earlier states\n", refusals, earlier);
        if (copied) assert_int_equal(earlier, 0); /* nothing older over newer pages */
        if (copied) assert_true(refusals > 10);
        if (!copied) assert_true(earlier > 10); /* a commit that was, to be folded on from */
        for (size_t i = 0; i <= m.wal_size; i += 1 + m.wal_size / 40) { /* a torn tail */
            image_write(&m, &dead, i);
            if (refused(&dead, &at)) assert_true(copied);
            if (!copied) assert_true(at >= 30 && at <= 60);
        }
        image_free(&m);
        store_close(s);
        scratch_remove(&live);
        scratch_remove(&dead);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill_nine), cmocka_unit_test(failing_disk), cmocka_unit_test(no_memory),
        cmocka_unit_test(full_disk), cmocka_unit_test(damaged_wal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
