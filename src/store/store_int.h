/* What the files of store/ share: a connection with its statements, the writer's state, the
 * tables. Private to the module.
 *
 * Life of a statement: prepared at open, kept; bound, stepped and reset inside one function, so
 * that none is ever left half-way when that function returns (also on errors).
 */
#ifndef KITH_STORE_INT_H
#define KITH_STORE_INT_H

#include "os/os.h"
#include "store/store.h"
#include "store/vfs.h"

enum {
    STORE_READERS_MAX = 64,
    STORE_REASON_MAX = 512,       /* bytes of a failure's reason */
    STORE_ROW_MAX = 4 << 20,      /* bytes of memory for one row in store_scan_rows */
    STORE_CHECKPOINT_PAGES = 4096 /* 16 MiB of WAL: then the writer checkpoints */
};
#define STORE_DOCS_MAX (UINT32_MAX - 1)

typedef enum sql_id {
    /* writer */
    SQL_BEGIN_WRITE,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_FIND,
    SQL_THREAD_OF,
    SQL_THREAD_EXISTS,
    SQL_THREAD_DOCS,
    SQL_THREAD_MOVE,
    SQL_POST_INSERT,
    SQL_POST_UPDATE,
    SQL_POST_DELETE,
    SQL_BODY_INSERT,
    SQL_BODY_UPDATE,
    SQL_BODY_DELETE,
    SQL_FREE_FIRST,
    SQL_FREE_INSERT,
    SQL_FREE_DELETE,
    SQL_TEXT_STATE,
    SQL_EMBED_SET,
    SQL_FAILURE_PUT,
    SQL_FAILURE_DELETE,
    SQL_RETRY_ROWS,
    SQL_RETRY_CLEAR,
    SQL_META_UPDATE,
    /* readers */
    SQL_BEGIN_READ,
    SQL_END_READ,
    SQL_GET,
    SQL_GET_DOC,
    SQL_DOC_OF,
    SQL_THREAD,
    SQL_THREAD_SIZE,
    SQL_PENDING_NEW,
    SQL_PENDING_OLD,
    SQL_FAILED,
    SQL_SCAN,
    SQL_SCAN_ROWS,
    SQL_COUNT,
    SQL_IDS
} sql_id;

typedef struct conn {
    sqlite3 *db;
    const char *path; /* the store's */
    sqlite3_stmt *sql[SQL_IDS];
} conn;

enum { EMBED_WAITING = 0, EMBED_DONE = 1, EMBED_FAILED = 2 };

/* The one row of `meta`, kept in memory by the writer and written at each commit. */
typedef struct meta {
    uint64_t position, commits, doc_limit, posts, threads, pending, failed;
} meta;

struct store_reader {
    conn c;
    store *owner;
    bool in_read; /* a read transaction is open: one snapshot until store_reader_put */
    store_reader *next_free;
};

struct store {
    char *path;
    /* writer's thread only */
    conn w;
    meta saved; /* as committed */
    meta now;   /* as the open transaction has it */
    bool in_write;
    err failed;        /* why the open transaction cannot be committed */
    err broken;        /* why no transaction may begin any more */
    int wal_pages;     /* after the last commit, told by SQLite */
    int checkpoint_at; /* pages */
    /* atomic: relaxed, each a number on its own */
    uint64_t position, disk_bytes;
    uint32_t doc_limit;
    /* guarded by lock */
    mutex lock;
    cond reader_free;
    store_reader *free_readers;
    unsigned readers_out;
    /* immutable */
    store_reader *readers;
    unsigned reader_count;
};

/* ---- store.c: connections and statements ---- */

/* The error for what SQLite just returned on this connection; OK for SQLITE_OK, _ROW and _DONE. */
err store_sql_error(const conn *c, int rc);
MUST_USE err store_conn_open(conn *c, const char *path, const char *vfs, int flags);
MUST_USE err store_exec(conn *c, const char *sql);
/* One integer answered by a statement that is prepared for this only; *found false: no row. */
MUST_USE err store_ask(conn *c, const char *sql, int64_t *out, bool *found);
MUST_USE err store_prepare(conn *c, sql_id from, sql_id to);
void store_conn_close(conn *c);
/* Steps; *row tells whether there is one. Resets the statement unless there is. */
MUST_USE err store_step(const conn *c, sqlite3_stmt *q, bool *row);
/* Runs a statement that answers no rows. */
MUST_USE err store_run(const conn *c, sqlite3_stmt *q);
void store_reset(sqlite3_stmt *q);
void store_bind_str(sqlite3_stmt *q, int at, str s); /* the bytes must live until the reset */
str store_column_str(sqlite3_stmt *q, int column);   /* valid until the next step or reset */

/* Shows the last commit to other threads: position, doc limit, size. */
void store_publish(store *s);

/* read.c: opens the lease's read transaction, once. */
MUST_USE err store_reader_begin(store_reader *r);
/* Makes room for one more of `elem` bytes; NULL when out of memory. */
void *store_list_grow(arena *a, void *items, size_t count, size_t *cap, size_t elem);

/* ---- schema.c ---- */

MUST_USE err store_schema_create(conn *c); /* the tables, in an empty database */
/* Brings an old schema up and reads `meta`. */
MUST_USE err store_schema_open(conn *c, meta *out);
MUST_USE err store_schema_meta(conn *c, meta *out);

/* ---- message.c ---- */

/* The packed form that is stored: without id, thread and lsn, which are columns; `created` stands
 * in when it is not NULL. In the arena. */
MUST_USE err store_pack(const Kith__V1__Post *post, Google__Protobuf__Timestamp *created, arena *a,
                        str *out);
/* `q` stands on a row of STORE_ROW columns. */
#define STORE_ROW "p.doc, p.id, p.thread, p.rev, p.text_hash, b.lsn, b.body"
MUST_USE err store_row_read(const conn *c, sqlite3_stmt *q, arena *a, store_row *out);

/* ---- wal.c ---- */

/* Looks for damage in the middle of the WAL of the store at `path`, which SQLite would take for
 * its end. Nobody may have the store open. *problem in the arena, ptr NULL when there is none. */
MUST_USE err store_wal_check(const char *path, arena *a, str *problem);

/* ---- verify.c ---- */

/* Reads everything through this connection: pages, trees, rules. ERR_CORRUPT names what is wrong.
 */
MUST_USE err store_check_deep(conn *c);
/* The number of commits that the main file knows of, without the WAL; 0 when it cannot be read. */
uint64_t store_main_commits(const char *path);

#endif
