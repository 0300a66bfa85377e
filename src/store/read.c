/* The readers: every read runs inside the lease's one transaction, so all reads of a lease see the
 * same commit, and a read costs no lock of its own.
 *
 * A statement is reset before its function returns, whatever happened. Lists grow in the caller's
 * arena by doubling. The scans call the visitor between two steps of an open statement: the
 * visitor may read through the same reader, but not start the same scan again.
 *
 * Cost, warm (Zen 4, store_bench.c): store_get_doc 1.5 us in SQLite's cache, 9 us when its pages
 * are only in the system's; store_scan 0.15 us a row. A row is two b-tree look-ups (posts, then
 * bodies) and one unpack.
 */
#include "store/store_int.h"

#include "obs/metrics.h"
#include "os/os.h"

enum { SLOW_NS = 5000000 };

err store_reader_begin(store_reader *r) {
    if (r->in_read) return OK;
    TRY(store_run(&r->c, r->c.sql[SQL_BEGIN_READ]));
    r->in_read = true;
    return OK;
}

/* ---- one row ---- */

static err one_row(store_reader *r, sqlite3_stmt *q, arena *a, store_row *out) {
    bool row = false;
    TRY(store_step(&r->c, q, &row));
    if (!row) return err_set(ERR_NOT_FOUND, "no such post");
    err rc = store_row_read(&r->c, q, a, out);
    store_reset(q);
    return rc;
}

/* Slower statements are spans of their own. */
static err timed(unsigned op, uint64_t start, err rc) {
    uint64_t end = clock_mono_ns();
    metric_record(M_STORE_SECONDS, op, end - start);
    if (end - start < SLOW_NS) return rc;
    span s = span_closed("sqlite slow statement", start, end);
    span_kind_set(&s, SPAN_CLIENT);
    span_text(&s, "db.system.name", STR("sqlite"));
    span_text(&s, "db.operation.name", STR("SELECT"));
    return rc;
}

err store_get(store_reader *r, str id, arena *a, store_row *out) {
    uint64_t t = clock_mono_ns();
    TRY(store_reader_begin(r));
    store_bind_str(r->c.sql[SQL_GET], 1, id);
    return timed(STORE_OP_GET, t, one_row(r, r->c.sql[SQL_GET], a, out));
}

err store_get_doc(store_reader *r, uint32_t doc, arena *a, store_row *out) {
    uint64_t t = clock_mono_ns();
    TRY(store_reader_begin(r));
    sqlite3_bind_int64(r->c.sql[SQL_GET_DOC], 1, doc);
    return timed(STORE_OP_GET, t, one_row(r, r->c.sql[SQL_GET_DOC], a, out));
}

err store_doc_of(store_reader *r, str id, uint32_t *doc) {
    TRY(store_reader_begin(r));
    sqlite3_stmt *q = r->c.sql[SQL_DOC_OF];
    bool row = false;
    store_bind_str(q, 1, id);
    TRY(store_step(&r->c, q, &row));
    if (!row) return err_set(ERR_NOT_FOUND, "no such post");
    *doc = (uint32_t)sqlite3_column_int64(q, 0);
    store_reset(q);
    return OK;
}

/* ---- lists ---- */

void *store_list_grow(arena *a, void *items, size_t count, size_t *cap, size_t elem) {
    if (count < *cap) return items;
    size_t more = *cap ? *cap * 2 : 16;
    void *p = arena_zalloc(a, more, elem);
    if (p && count) memcpy(p, items, count * elem);
    if (p) *cap = more;
    return p;
}

static err rows_collect(store_reader *r, sqlite3_stmt *q, arena *a, store_row **rows,
                        size_t *count) {
    size_t cap = 0;
    *rows = NULL, *count = 0;
    for (;;) {
        bool row = false;
        TRY(store_step(&r->c, q, &row));
        if (!row) return OK;
        void *more = store_list_grow(a, *rows, *count, &cap, sizeof **rows);
        err rc = more ? OK : ERR_NO_MEMORY;
        if (more) *rows = more;
        if (rc == OK) rc = store_row_read(&r->c, q, a, &(*rows)[*count]);
        if (rc != OK) {
            store_reset(q);
            return rc;
        }
        ++*count;
    }
}

static int64_t sql_limit(size_t limit) {
    return limit > INT32_MAX ? INT32_MAX : (int64_t)limit;
}

err store_thread(store_reader *r, str root, const store_thread_pos *after, size_t limit, arena *a,
                 store_row **rows, size_t *count) {
    uint64_t t = clock_mono_ns();
    TRY(store_reader_begin(r));
    sqlite3_stmt *q = r->c.sql[SQL_THREAD];
    store_bind_str(q, 1, root);
    sqlite3_bind_int64(q, 2, after ? after->created_ms : INT64_MIN);
    sqlite3_bind_int64(q, 3, after ? (int64_t)after->doc : -1);
    sqlite3_bind_int64(q, 4, sql_limit(limit));
    return timed(STORE_OP_THREAD, t, rows_collect(r, q, a, rows, count));
}

err store_thread_size(store_reader *r, str root, uint64_t *out) {
    TRY(store_reader_begin(r));
    sqlite3_stmt *q = r->c.sql[SQL_THREAD_SIZE];
    bool row = false;
    store_bind_str(q, 1, root);
    TRY(store_step(&r->c, q, &row));
    *out = row ? (uint64_t)sqlite3_column_int64(q, 0) : 0;
    if (row) store_reset(q);
    return OK;
}

err store_pending(store_reader *r, bool fresh_first, size_t limit, arena *a, store_row **rows,
                  size_t *count) {
    uint64_t t = clock_mono_ns();
    TRY(store_reader_begin(r));
    sqlite3_stmt *q = r->c.sql[fresh_first ? SQL_PENDING_NEW : SQL_PENDING_OLD];
    sqlite3_bind_int64(q, 1, sql_limit(limit));
    return timed(STORE_OP_PENDING, t, rows_collect(r, q, a, rows, count));
}

static err failure_read(sqlite3_stmt *q, arena *a, store_failure *out) {
    str id = store_column_str(q, 0), reason = store_column_str(q, 1);
    out->id = str_from(arena_dup(a, id), id.len);
    out->reason = str_from(arena_dup(a, reason), reason.len);
    return out->id.ptr && out->reason.ptr ? OK : ERR_NO_MEMORY;
}

err store_failed(store_reader *r, size_t limit, arena *a, store_failure **out, size_t *count) {
    TRY(store_reader_begin(r));
    sqlite3_stmt *q = r->c.sql[SQL_FAILED];
    sqlite3_bind_int64(q, 1, sql_limit(limit));
    size_t cap = 0;
    *out = NULL, *count = 0;
    for (;;) {
        bool row = false;
        TRY(store_step(&r->c, q, &row));
        if (!row) return OK;
        void *more = store_list_grow(a, *out, *count, &cap, sizeof **out);
        err rc = more ? OK : ERR_NO_MEMORY;
        if (more) *out = more;
        if (rc == OK) rc = failure_read(q, a, &(*out)[*count]);
        if (rc != OK) {
            store_reset(q);
            return rc;
        }
        ++*count;
    }
}

/* ---- scans ---- */

err store_scan(store_reader *r, err (*visit)(void *ctx, const store_brief *b), void *ctx) {
    TRY(store_reader_begin(r));
    sqlite3_stmt *q = r->c.sql[SQL_SCAN];
    for (;;) {
        bool row = false;
        TRY(store_step(&r->c, q, &row));
        if (!row) return OK;
        store_brief b = {.doc = (uint32_t)sqlite3_column_int64(q, 0),
                         .rev = (uint64_t)sqlite3_column_int64(q, 1),
                         .text_hash = (uint64_t)sqlite3_column_int64(q, 2),
                         .embedded = sqlite3_column_int(q, 3) == EMBED_DONE};
        err rc = visit(ctx, &b);
        if (rc != OK) {
            store_reset(q);
            return rc;
        }
    }
}

err store_scan_rows(store_reader *r, uint32_t from, err (*visit)(void *ctx, const store_row *row),
                    void *ctx) {
    TRY(store_reader_begin(r));
    sqlite3_stmt *q = r->c.sql[SQL_SCAN_ROWS];
    sqlite3_bind_int64(q, 1, from);
    arena a;
    arena_init(&a, STORE_ROW_MAX);
    err rc = OK;
    for (;;) {
        bool row = false;
        rc = store_step(&r->c, q, &row);
        if (rc != OK || !row) break;
        store_row now;
        arena_reset(&a);
        rc = store_row_read(&r->c, q, &a, &now);
        if (rc == OK) rc = visit(ctx, &now);
        if (rc != OK) {
            store_reset(q);
            break;
        }
    }
    arena_deinit(&a);
    return rc;
}

err store_count(store_reader *r, store_counts *out) {
    TRY(store_reader_begin(r));
    sqlite3_stmt *q = r->c.sql[SQL_COUNT];
    bool row = false;
    TRY(store_step(&r->c, q, &row));
    if (!row) return err_set(ERR_CORRUPT, "%s: no row in meta", r->c.path);
    *out = (store_counts){.posts = (uint64_t)sqlite3_column_int64(q, 0),
                          .threads = (uint64_t)sqlite3_column_int64(q, 1),
                          .pending = (uint64_t)sqlite3_column_int64(q, 2),
                          .failed = (uint64_t)sqlite3_column_int64(q, 3)};
    store_reset(q);
    return OK;
}
