/* Connections: how SQLite is opened, asked and closed; the pool of readers; errors.
 *
 * The writer has one connection, each reader another; all are used by one thread at a time
 * (THREADSAFE=2). Settings and why:
 *   journal_mode=WAL        readers see the last commit and never wait for the writer
 *   synchronous=NORMAL      no fsync at commit: the journal before us is durable and is folded
 *   again wal_autocheckpoint=0    the writer checkpoints when the WAL reaches
 *   STORE_CHECKPOINT_PAGES secure_delete           freed bytes are zeroed (vfs.c does what SQLite
 *   leaves) cell_size_check, trusted_schema=OFF, DEFENSIVE: a damaged or crafted file is an error
 *   ENABLE_QPSG             plans never depend on bound values: without it, each bind prepared
 *                           its statement again because of the partial index (10 us a read, not 3)
 *   temp_store              compiled in: temporary data never reaches a disk
 *
 * Invariants:
 *  1. meta.commits grows by one a commit. When the main file knows of more commits than the whole
 *     store shows, the WAL lost its end after it had been copied: old pages would lie over newer
 *     ones: ERR_CORRUPT. A WAL that lost its end before it was copied is an earlier commit, which
 *     the position tells. When the WAL is damaged in its middle (wal.c) the store is read whole
 *     before it is believed, since a crash inside a checkpoint may have left both.
 *  2. A store appears under its name whole: it is made beside and renamed.
 *  3. A reader's lease has at most one read transaction, opened by its first read, so all
 *     its reads see one commit. store_reader_put closes it.
 *  4. Lock order: store.lock is a leaf; it is never held across a call into SQLite.
 *
 * Statements are prepared once a connection: preparing costs 10 to 30 us, running 1 to 5.
 */
#include "store/store_int.h"

#include <errno.h>

/* ---- errors ---- */

static err world_error(const conn *c, int rc, int cause) {
    const char *why = cause ? strerror(cause) : sqlite3_errstr(rc);
    if (cause == ENOSPC || cause == EDQUOT || cause == EFBIG)
        return err_set(ERR_NO_SPACE, "%s: %s", c->path, why);
    if (cause == EACCES || cause == EPERM || cause == EROFS)
        return err_set(ERR_DENIED, "%s: %s", c->path, why);
    if (cause == ENOENT || cause == ENOTDIR) return err_set(ERR_NOT_FOUND, "%s: %s", c->path, why);
    if (cause == EMFILE || cause == ENFILE) return err_set(ERR_AGAIN, "%s: %s", c->path, why);
    return err_set(ERR_IO, "%s: %s", c->path, why);
}

static err kind_error(const conn *c, int rc) {
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return err_set(ERR_NO_MEMORY, "%s: out of memory", c->path);
    case SQLITE_FULL:
        return err_set(ERR_NO_SPACE, "%s: no space left", c->path);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(ERR_AGAIN, "%s: another process or reader is in the way", c->path);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return world_error(c, rc, c->db ? sqlite3_system_errno(c->db) : 0);
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return err_set(ERR_DENIED, "%s: cannot be written", c->path);
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
        return err_set(ERR_INTERNAL, "%s: %s", c->path, sqlite3_errstr(rc));
    default: /* CORRUPT, NOTADB, CONSTRAINT, ERROR (a table is missing), MISMATCH … */
        return err_set(ERR_CORRUPT, "%s: %s", c->path,
                       c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc));
    }
}

err store_sql_error(const conn *c, int rc) {
    if (rc == SQLITE_OK || rc == SQLITE_ROW || rc == SQLITE_DONE) return OK;
    if (rc == SQLITE_IOERR_DATA) return ERR_CORRUPT; /* vfs.c wrote the detail */
    if (rc == SQLITE_IOERR_NOMEM) rc = SQLITE_NOMEM;
    return kind_error(c, rc);
}

/* ---- statements ---- */

/* posts_thread holds all but roots, posts_id finds those. */
#define AS_REPLY  " thread<>id AND "
#define AS_ROOT   " thread=id AND "
#define FROM_BOTH " FROM posts p JOIN bodies b ON b.doc=p.doc "
static const char *const sql_text[SQL_IDS] = {
    [SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_FIND] = "SELECT " STORE_ROW ", p.embed" FROM_BOTH "WHERE p.id=?",
    [SQL_THREAD_OF] = "SELECT thread FROM posts WHERE id=?",
    [SQL_THREAD_EXISTS] = "SELECT 1 WHERE EXISTS(SELECT 1 FROM posts WHERE" AS_REPLY "thread=?1)"
                          " OR EXISTS(SELECT 1 FROM posts WHERE" AS_ROOT "id=?1)",
    [SQL_THREAD_DOCS] = "SELECT doc FROM posts WHERE" AS_REPLY "thread=?",
    [SQL_THREAD_MOVE] = "UPDATE posts SET thread=?2, rev=?3 WHERE" AS_REPLY "thread=?1",
    [SQL_POST_INSERT] = "INSERT INTO posts(doc, id, thread, created, rev, text_hash, embed)"
                        " VALUES(?,?,?,?,?,?,?)",
    [SQL_POST_UPDATE] = "UPDATE posts SET thread=?2, created=?3, rev=?4, text_hash=?5, embed=?6"
                        " WHERE doc=?1",
    [SQL_POST_DELETE] = "DELETE FROM posts WHERE doc=?",
    [SQL_BODY_INSERT] = "INSERT INTO bodies(doc, lsn, body) VALUES(?,?,?)",
    [SQL_BODY_UPDATE] = "UPDATE bodies SET lsn=?2, body=?3 WHERE doc=?1",
    [SQL_BODY_DELETE] = "DELETE FROM bodies WHERE doc=?",
    [SQL_FREE_FIRST] = "SELECT doc FROM free_docs ORDER BY doc LIMIT 1",
    [SQL_FREE_INSERT] = "INSERT INTO free_docs(doc) VALUES(?)",
    [SQL_FREE_DELETE] = "DELETE FROM free_docs WHERE doc=?",
    [SQL_TEXT_STATE] = "SELECT doc, text_hash, embed FROM posts WHERE id=?",
    [SQL_EMBED_SET] = "UPDATE posts SET embed=?2 WHERE doc=?1",
    [SQL_FAILURE_PUT] = "INSERT OR REPLACE INTO failures(doc, reason) VALUES(?,?)",
    [SQL_FAILURE_DELETE] = "DELETE FROM failures WHERE doc=?",
    [SQL_RETRY_ROWS] = "UPDATE posts SET embed=0 WHERE doc IN (SELECT doc FROM failures)",
    [SQL_RETRY_CLEAR] = "DELETE FROM failures",
    [SQL_META_UPDATE] = "UPDATE meta SET position=?, commits=?, doc_limit=?, posts=?, threads=?,"
                        " pending=?, failed=? WHERE one=1",
    [SQL_BEGIN_READ] = "BEGIN",
    [SQL_END_READ] = "COMMIT",
    [SQL_GET] = "SELECT " STORE_ROW FROM_BOTH "WHERE p.id=?",
    [SQL_GET_DOC] = "SELECT " STORE_ROW FROM_BOTH "WHERE p.doc=?",
    [SQL_DOC_OF] = "SELECT doc FROM posts WHERE id=?",
    [SQL_THREAD] = "SELECT " STORE_ROW ", p.created" FROM_BOTH "WHERE" AS_REPLY
                   "thread=?1 AND (created, p.doc) > (?2, ?3)"
                   " UNION ALL SELECT " STORE_ROW ", p.created" FROM_BOTH "WHERE" AS_ROOT
                   "id=?1 AND (created, p.doc) > (?2, ?3) ORDER BY 8, 1 LIMIT ?4",
    [SQL_THREAD_SIZE] = "SELECT (SELECT count(*) FROM posts WHERE" AS_REPLY "thread=?1) +"
                        " (SELECT count(*) FROM posts WHERE" AS_ROOT "id=?1)",
    [SQL_PENDING_NEW] = "SELECT " STORE_ROW " FROM posts p INDEXED BY posts_waiting JOIN bodies b"
                        " ON b.doc=p.doc WHERE p.embed=0 ORDER BY p.rev DESC, p.doc DESC LIMIT ?",
    [SQL_PENDING_OLD] = "SELECT " STORE_ROW " FROM posts p INDEXED BY posts_waiting JOIN bodies b"
                        " ON b.doc=p.doc WHERE p.embed=0 ORDER BY p.rev, p.doc LIMIT ?",
    [SQL_FAILED] = "SELECT p.id, f.reason FROM failures f JOIN posts p ON p.doc=f.doc"
                   " ORDER BY f.doc LIMIT ?",
    [SQL_SCAN] = "SELECT doc, rev, text_hash, embed FROM posts ORDER BY doc",
    [SQL_SCAN_ROWS] = "SELECT " STORE_ROW FROM_BOTH "WHERE p.doc>=? ORDER BY p.doc",
    [SQL_COUNT] = "SELECT posts, threads, pending, failed FROM meta",
};

void store_reset(sqlite3_stmt *q) {
    sqlite3_reset(q); /* repeats the error of the last step, which was handled */
    sqlite3_clear_bindings(q);
}

err store_step(const conn *c, sqlite3_stmt *q, bool *row) {
    int rc = sqlite3_step(q);
    *row = rc == SQLITE_ROW;
    if (*row) return OK;
    err e = store_sql_error(c, rc);
    store_reset(q);
    return e;
}

err store_run(const conn *c, sqlite3_stmt *q) {
    bool row = false;
    err rc = store_step(c, q, &row);
    if (row) store_reset(q);
    return rc;
}

void store_bind_str(sqlite3_stmt *q, int at, str s) {
    KITH_ASSERT(s.len <= INT32_MAX);
    sqlite3_bind_text(q, at, s.ptr ? s.ptr : "", (int)s.len, SQLITE_STATIC);
}

str store_column_str(sqlite3_stmt *q, int column) {
    const void *p = sqlite3_column_blob(q, column);
    int n = sqlite3_column_bytes(q, column);
    return p ? str_from(p, (size_t)n) : STR("");
}

err store_exec(conn *c, const char *sql) {
    return store_sql_error(c, sqlite3_exec(c->db, sql, NULL, NULL, NULL));
}

err store_ask(conn *c, const char *sql, int64_t *out, bool *found) {
    sqlite3_stmt *q = NULL;
    TRY(store_sql_error(c, sqlite3_prepare_v2(c->db, sql, -1, &q, NULL)));
    err rc = store_step(c, q, found);
    if (rc == OK && *found) *out = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return rc;
}

err store_prepare(conn *c, sql_id from, sql_id to) {
    for (sql_id i = from; i < to; i++) {
        unsigned keep = SQLITE_PREPARE_PERSISTENT;
        TRY(store_sql_error(c, sqlite3_prepare_v3(c->db, sql_text[i], -1, keep, &c->sql[i], NULL)));
    }
    return OK;
}

/* ---- connections ---- */

err store_conn_open(conn *c, const char *path, const char *vfs, int flags) {
    *c = (conn){.path = path};
    flags |= SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    TRY(store_sql_error(c, sqlite3_open_v2(path, &c->db, flags, vfs)));
    int reserve = VFS_SUM_SIZE;
    sqlite3_file_control(c->db, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserve);
    TRY(store_sql_error(c, sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL)));
    TRY(store_sql_error(c, sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL)));
    TRY(store_sql_error(c, sqlite3_db_config(c->db, SQLITE_DBCONFIG_ENABLE_QPSG, 1, NULL)));
    TRY(store_sql_error(c, sqlite3_busy_timeout(c->db, 5000)));
    return store_exec(c, "PRAGMA cell_size_check=ON");
}

void store_conn_close(conn *c) {
    for (size_t i = 0; i < SQL_IDS; i++) sqlite3_finalize(c->sql[i]);
    if (c->db) KITH_ASSERT(sqlite3_close(c->db) == SQLITE_OK);
    *c = (conn){.path = c->path};
}

static const char writer_sql[] =
    "PRAGMA page_size=4096; PRAGMA secure_delete=ON; PRAGMA cache_size=-16384;"
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0;"
    "PRAGMA journal_size_limit=33554432; PRAGMA max_page_count=33554431";
_Static_assert(VFS_PAGES_MAX == 33554431 && VFS_PAGE_SIZE == 4096, "as in the pragmas");

static int wal_told(void *ctx, sqlite3 *db, const char *name, int pages) {
    (void)db, (void)name;
    ((store *)ctx)->wal_pages = pages;
    return SQLITE_OK;
}

static err writer_open(store *s) {
    TRY(store_conn_open(&s->w, s->path, VFS_LIVE, SQLITE_OPEN_READWRITE));
    TRY(store_exec(&s->w, writer_sql));
    TRY(store_schema_open(&s->w, &s->saved));
    s->now = s->saved;
    sqlite3_wal_hook(s->w.db, wal_told, s);
    return store_prepare(&s->w, SQL_BEGIN_WRITE, SQL_BEGIN_READ);
}

static err readers_open(store *s) {
    s->readers = mem_zalloc(s->reader_count, sizeof *s->readers);
    if (!s->readers) return ERR_NO_MEMORY;
    for (unsigned i = 0; i < s->reader_count; i++) {
        store_reader *r = &s->readers[i];
        TRY(store_conn_open(&r->c, s->path, VFS_LIVE, SQLITE_OPEN_READONLY));
        r->owner = s;
        TRY(store_exec(&r->c, "PRAGMA cache_size=-8192; PRAGMA query_only=ON"));
        TRY(store_prepare(&r->c, SQL_BEGIN_READ, SQL_IDS));
        r->next_free = s->free_readers;
        s->free_readers = r;
    }
    return OK;
}

/* ---- the first time ---- */

static err remove_if_there(const char *path) {
    err rc = fs_unlink(fs_real(), path);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

static err make_tables(const char *path) {
    conn c = {.path = path};
    meta m;
    err rc = store_conn_open(&c, path, VFS_LIVE, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    if (rc == OK) rc = store_exec(&c, writer_sql);
    if (rc == OK) rc = store_schema_create(&c);
    if (rc == OK) rc = store_schema_open(&c, &m);
    if (rc == OK) {
        int sql_rc = sqlite3_wal_checkpoint_v2(c.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        rc = store_sql_error(&c, sql_rc);
    }
    store_conn_close(&c);
    return rc;
}

/* Makes an empty store beside `path` and renames it, so that no half-made one is ever there. */
static err make_store(const char *path) {
    arena a;
    arena_init(&a, 64 * KIB);
    const char *made = arena_printf(&a, "%s.new", path).ptr;
    const char *wal = arena_printf(&a, "%s.new-wal", path).ptr;
    const char *journal = arena_printf(&a, "%s.new-journal", path).ptr;
    char *dir = arena_dup(&a, str_of(path));
    err rc = made && wal && journal && dir ? OK : ERR_NO_MEMORY;
    if (rc == OK) rc = remove_if_there(made);
    if (rc == OK) rc = remove_if_there(wal);
    if (rc == OK) rc = remove_if_there(journal);
    if (rc == OK) rc = make_tables(made);
    if (rc == OK) rc = fs_rename(fs_real(), made, path);
    if (rc == OK) {
        char *slash = strrchr(dir, '/');
        if (slash) slash[slash == dir] = 0;
        rc = fs_sync_dir(fs_real(), slash ? dir : ".");
    }
    arena_deinit(&a);
    return rc;
}

/* ---- open ---- */

/* See invariant 1. */
static err open_checked(store *s, bool wal_damaged) {
    uint64_t main_commits = store_main_commits(s->path);
    TRY(writer_open(s));
    if (main_commits > s->saved.commits)
        return err_set(ERR_CORRUPT, "%s-wal: its end is lost (commit %llu of %llu)", s->path,
                       (unsigned long long)s->saved.commits, (unsigned long long)main_commits);
    return wal_damaged ? store_check_deep(&s->w) : OK;
}

static err open_all(store *s) {
    arena a;
    str problem = {0};
    if (!fs_exists(fs_real(), s->path)) TRY(make_store(s->path));
    arena_init(&a, 64 * KIB);
    err rc = store_wal_check(s->path, &a, &problem);
    arena_deinit(&a);
    TRY(rc);
    TRY(open_checked(s, problem.ptr != NULL));
    return readers_open(s);
}

err store_open(const char *path, unsigned readers, store **out) {
    *out = NULL;
    if (!path[0] || readers < 1 || readers > STORE_READERS_MAX)
        return err_set(ERR_INVALID, "store: expected a path and 1 to %d readers",
                       STORE_READERS_MAX);
    TRY(vfs_init());
    store *s = mem_zalloc(1, sizeof *s);
    if (!s) return ERR_NO_MEMORY;
    s->reader_count = readers;
    s->checkpoint_at = STORE_CHECKPOINT_PAGES;
    err rc = mutex_init(&s->lock);
    if (rc != OK) goto no_mutex;
    rc = cond_init(&s->reader_free);
    if (rc != OK) goto no_cond;
    s->path = mem_dup(path, strlen(path) + 1);
    rc = s->path ? open_all(s) : ERR_NO_MEMORY;
    if (rc != OK) {
        store_close(s);
        return rc;
    }
    store_publish(s);
    *out = s;
    return OK;
no_cond:
    mutex_deinit(&s->lock);
no_mutex:
    mem_free(s);
    return rc;
}

void store_close(store *s) {
    if (!s) return;
    KITH_ASSERT(s->readers_out == 0);
    store_abort(s);
    for (unsigned i = 0; s->readers && i < s->reader_count; i++) store_conn_close(&s->readers[i].c);
    store_conn_close(&s->w); /* the last: checkpoints and removes the WAL */
    mem_free(s->readers);
    mem_free(s->path);
    cond_deinit(&s->reader_free);
    mutex_deinit(&s->lock);
    mem_free(s);
}

/* ---- what other threads see ---- */

static uint64_t size_of(sqlite3 *db, int which) {
    sqlite3_file *f = NULL;
    sqlite3_int64 n = 0;
    if (sqlite3_file_control(db, "main", which, &f) != SQLITE_OK || !f || !f->pMethods) return 0;
    return f->pMethods->xFileSize(f, &n) == SQLITE_OK && n > 0 ? (uint64_t)n : 0;
}

void store_publish(store *s) {
    uint64_t bytes = size_of(s->w.db, SQLITE_FCNTL_FILE_POINTER) +
                     size_of(s->w.db, SQLITE_FCNTL_JOURNAL_POINTER);
    __atomic_store_n(&s->position, s->saved.position, __ATOMIC_RELAXED);
    __atomic_store_n(&s->doc_limit, (uint32_t)s->saved.doc_limit, __ATOMIC_RELAXED);
    __atomic_store_n(&s->disk_bytes, bytes, __ATOMIC_RELAXED);
}

uint64_t store_position(const store *s) {
    return __atomic_load_n(&s->position, __ATOMIC_RELAXED);
}
uint32_t store_doc_limit(const store *s) {
    return __atomic_load_n(&s->doc_limit, __ATOMIC_RELAXED);
}
uint64_t store_disk_bytes(store *s) {
    return __atomic_load_n(&s->disk_bytes, __ATOMIC_RELAXED);
}

store_reader *store_reader_get(store *s) {
    mutex_lock(&s->lock);
    while (!s->free_readers) cond_wait(&s->reader_free, &s->lock);
    store_reader *r = s->free_readers;
    s->free_readers = r->next_free;
    s->readers_out++;
    mutex_unlock(&s->lock);
    return r;
}

void store_reader_put(store *s, store_reader *r) {
    KITH_ASSERT(r->owner == s);
    if (r->in_read && store_run(&r->c, r->c.sql[SQL_END_READ]) != OK) {
        /* A read transaction that cannot end would pin the WAL; its loss is no loss. */
        (void)sqlite3_exec(r->c.db, "ROLLBACK", NULL, NULL, NULL);
    }
    r->in_read = false;
    mutex_lock(&s->lock);
    KITH_ASSERT(s->readers_out > 0);
    s->readers_out--;
    r->next_free = s->free_readers;
    s->free_readers = r;
    mutex_unlock(&s->lock);
    cond_signal(&s->reader_free);
}
