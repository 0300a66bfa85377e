/* The tables, and how an older file becomes a newer one.
 *
 * posts is narrow (what folds and scans need), bodies holds the packed post: a vector that arrives
 * or a thread that moves rewrites some 80 bytes, not the text, and store_scan reads no texts.
 * Each is keyed by doc. posts_thread leaves out roots, which posts_id finds: with random ids each
 * entry of an index dirties a page of its own, and most posts are roots. posts_waiting holds only
 * texts without a vector. free_docs are the holes below meta.doc_limit: their number is doc_limit -
 * posts, so it is not kept.
 *
 * meta has one row; its first columns (one, schema) stay for ever, so that any version can refuse a
 * newer file. `commits` goes up by one a commit: store.c uses it to see a WAL that fell behind.
 *
 * A migration is one SQL text that takes version i + 1 to i + 2, run in one transaction with the
 * change of meta.schema. Version 1 is the first: the table of migrations is empty but for its end.
 */
#include "store/store_int.h"

enum { SCHEMA_VERSION = 1, APPLICATION_ID = 0x6b697468 }; /* "kith" */

static const char create_sql[] =
    "PRAGMA application_id=1802073192;"
    "CREATE TABLE meta(one INTEGER PRIMARY KEY CHECK(one=1), schema INTEGER NOT NULL,"
    " position INTEGER NOT NULL, commits INTEGER NOT NULL, doc_limit INTEGER NOT NULL,"
    " posts INTEGER NOT NULL, threads INTEGER NOT NULL, pending INTEGER NOT NULL,"
    " failed INTEGER NOT NULL) STRICT;"
    "INSERT INTO meta VALUES(1,1,0,0,0,0,0,0,0);"
    "CREATE TABLE posts(doc INTEGER PRIMARY KEY, id TEXT NOT NULL, thread TEXT NOT NULL,"
    " created INTEGER NOT NULL, rev INTEGER NOT NULL, text_hash INTEGER NOT NULL,"
    " embed INTEGER NOT NULL) STRICT;"
    "CREATE UNIQUE INDEX posts_id ON posts(id);"
    "CREATE INDEX posts_thread ON posts(thread, created) WHERE thread<>id;"
    "CREATE INDEX posts_waiting ON posts(rev) WHERE embed=0;"
    "CREATE TABLE bodies(doc INTEGER PRIMARY KEY, lsn INTEGER NOT NULL, body BLOB NOT NULL) STRICT;"
    "CREATE TABLE failures(doc INTEGER PRIMARY KEY, reason TEXT NOT NULL) STRICT;"
    "CREATE TABLE free_docs(doc INTEGER PRIMARY KEY) STRICT;";
_Static_assert(APPLICATION_ID == 1802073192, "as in create_sql");

/* migrations[i] takes version i + 1 to i + 2. */
static const char *const migrations[SCHEMA_VERSION] = {NULL};

static err set_version(conn *c, int version) {
    sqlite3_stmt *q = NULL;
    TRY(store_sql_error(c, sqlite3_prepare_v2(c->db, "UPDATE meta SET schema=?", -1, &q, NULL)));
    sqlite3_bind_int(q, 1, version);
    err rc = store_run(c, q);
    sqlite3_finalize(q);
    return rc;
}

static err in_transaction(conn *c, const char *sql, int version) {
    TRY(store_exec(c, "BEGIN IMMEDIATE"));
    err rc = store_exec(c, sql);
    if (rc == OK) rc = set_version(c, version);
    if (rc == OK) rc = store_exec(c, "COMMIT");
    if (rc != OK && !sqlite3_get_autocommit(c->db)) {
        if (store_exec(c, "ROLLBACK") != OK) return rc; /* SQLite rolls back at close */
    }
    return rc;
}

err store_schema_meta(conn *c, meta *out) {
    static const char sql[] =
        "SELECT position, commits, doc_limit, posts, threads, pending, failed FROM meta";
    sqlite3_stmt *q = NULL;
    TRY(store_sql_error(c, sqlite3_prepare_v2(c->db, sql, -1, &q, NULL)));
    bool row = false;
    err rc = store_step(c, q, &row);
    if (rc == OK && !row) rc = err_set(ERR_CORRUPT, "%s: no row in meta", c->path);
    if (rc == OK) {
        uint64_t v[7];
        for (int i = 0; i < 7; i++) v[i] = (uint64_t)sqlite3_column_int64(q, i);
        *out = (meta){v[0], v[1], v[2], v[3], v[4], v[5], v[6]};
    }
    sqlite3_finalize(q);
    if (rc == OK && (out->doc_limit > STORE_DOCS_MAX || out->posts > out->doc_limit))
        rc = err_set(ERR_CORRUPT, "%s: impossible counts in meta", c->path);
    return rc;
}

err store_schema_create(conn *c) {
    return in_transaction(c, create_sql, 1);
}

err store_schema_open(conn *c, meta *out) {
    int64_t n = 0, version = 0;
    bool found = false;
    TRY(store_ask(c, "PRAGMA application_id", &n, &found));
    if (n != APPLICATION_ID)
        return err_set(ERR_CORRUPT, "%s: a database of another program, not of kith", c->path);
    TRY(store_ask(c, "SELECT schema FROM meta", &version, &found));
    if (!found || version < 1) return err_set(ERR_CORRUPT, "%s: no row in meta", c->path);
    if (version > SCHEMA_VERSION)
        return err_set(ERR_UNSUPPORTED, "%s: made by a newer kith (schema %lld, known up to %d)",
                       c->path, (long long)version, SCHEMA_VERSION);
    for (; version < SCHEMA_VERSION; version++)
        TRY(in_transaction(c, migrations[version - 1], (int)version + 1));
    return store_schema_meta(c, out);
}
