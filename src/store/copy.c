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
