/* A copy of the store while it is written: SQLite's online backup from a reader's connection.
 *
 * The reader holds one read transaction all through, so the copy is of one commit however long it takes,
 * and the writer is never stopped. Never by reading store.db as a file: SQLite's locks are the process', and
 * closing any descriptor of that file drops them. Some pages at a time with a pause between, so that
 * searches keep the disk and the cores.
 */
#include "store/store_int.h"

enum { PAGES = 1024, PAUSE_MS = 1 };

static err copy_pages(const conn *from, conn *to) {
    sqlite3_backup *b = sqlite3_backup_init(to->db, "main", from->db, "main");
    if (!b) return store_sql_error(to, sqlite3_errcode(to->db));
    int rc;
    do {
        rc = sqlite3_backup_step(b, PAGES);
        if (rc == SQLITE_OK) clock_sleep_ms(PAUSE_MS);
    } while (rc == SQLITE_OK);
    int end = sqlite3_backup_finish(b);
    return store_sql_error(to, rc == SQLITE_DONE ? end : rc);
}

err store_copy(store *s, const char *path, uint64_t *position) {
    meta m;
    conn to;
    store_reader *r = store_reader_get(s);
    err rc = store_reader_begin(r);
    if (rc == OK) rc = store_schema_meta(&r->c, &m);
    if (rc == OK) {
        *position = m.position;
        rc = store_conn_open(&to, path, VFS_LIVE, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
        if (rc == OK) rc = store_exec(&to, "PRAGMA synchronous=FULL");
        if (rc == OK) rc = copy_pages(&r->c, &to);
        store_conn_close(&to);
    }
    store_reader_put(s, r);
    return rc;
}

/* ---- posts of an author: rare (erasures), so no index is kept for it ---- */

static err add_id(arena *a, str id, str **ids, size_t *count, size_t *cap) {
    str *all = store_list_grow(a, *ids, *count, cap, sizeof *all);
    const char *p = all ? arena_dup(a, id) : NULL;
    if (!p) return ERR_NO_MEMORY;
    all[(*count)++] = str_from(p, id.len);
    *ids = all;
    return OK;
}

err store_ids_of_author(store *s, str author, arena *a, str **ids, size_t *count) {
    sqlite3_stmt *q = NULL;
    const conn *c = &s->w;
    size_t cap = 0;
    arena row;
    static const char sql[] =
        "SELECT " STORE_ROW " FROM posts p JOIN bodies b ON b.doc=p.doc ORDER BY p.doc";
    *ids = NULL;
    *count = 0;
    TRY(store_sql_error(c, sqlite3_prepare_v2(c->db, sql, -1, &q, NULL)));
    arena_init(&row, STORE_ROW_MAX);
    err rc = OK;
    for (bool more = true; rc == OK && more;) {
        store_row r;
        arena_reset(&row);
        rc = store_step(c, q, &more);
        if (rc != OK || !more) break;
        rc = store_row_read(c, q, &row, &r);
        if (rc == OK && str_eq(str_of(r.post->author), author))
            rc = add_id(a, str_of(r.post->id), ids, count, &cap);
    }
    sqlite3_finalize(q);
    arena_deinit(&row);
    return rc;
}
