/* store_verify: everything that can be said about a store at rest, without changing it.
 *
 * In order, each step only when those before found nothing, since they read the same bytes: the
 * WAL's frames; every page through the checksum shim (by SQLite's dbpage table, so that a page that
 * the WAL has newer is taken from there: a crash in a checkpoint may have torn the old one);
 * SQLite's own quick_check; then our rules: the counts kept in meta against counted ones, a body
 * for each post, and each text against its hash. So a flipped byte in the main file is always
 * found, used or not.
 *
 * The file is opened by the still VFS: no lock, no -shm file, no recovery on disk. Nobody may
 * write meanwhile (the owner of the data directory holds its lock).
 */
#include "store/store_int.h"

typedef struct verify {
    conn c;
    void (*report)(void *ctx, const char *problem);
    void *ctx;
    uint64_t problems;
} verify;

enum { PROBLEMS_MAX = 100 };

static void problem(verify *v, const char *text) {
    if (v->problems++ < PROBLEMS_MAX) v->report(v->ctx, text);
}

/* A check that ended in an error: damage is a problem of the file, anything else stops us. */
static err judge(verify *v, err rc) {
    if (rc != ERR_CORRUPT && rc != ERR_UNSUPPORTED) return rc;
    problem(v, err_detail());
    return OK;
}

static err still_open(conn *c, const char *path, const char *vfs) {
    TRY(vfs_init());
    TRY(store_conn_open(c, path, vfs, SQLITE_OPEN_READONLY));
    return store_exec(c,
                      "PRAGMA locking_mode=EXCLUSIVE; BEGIN; SELECT count(*) FROM sqlite_schema");
}

uint64_t store_main_commits(const char *path) {
    conn c = {.path = path};
    int64_t n = 0;
    bool found = false;
    err rc = fs_exists(fs_real(), path) ? still_open(&c, path, VFS_MAIN) : ERR_NOT_FOUND;
    if (rc == OK) rc = store_ask(&c, "SELECT commits FROM meta", &n, &found);
    store_conn_close(&c);
    return rc == OK && found ? (uint64_t)n : 0;
}

/* ---- the steps ---- */

static err check_pages(verify *v) {
    int64_t pages = 0;
    bool found = false;
    TRY(store_ask(&v->c, "PRAGMA page_count", &pages, &found));
    sqlite3_stmt *q = NULL;
    static const char sql[] = "SELECT length(data) FROM sqlite_dbpage WHERE pgno=?";
    TRY(store_sql_error(&v->c, sqlite3_prepare_v2(v->c.db, sql, -1, &q, NULL)));
    err rc = OK;
    for (int64_t i = 1; rc == OK && i <= pages; i++) {
        bool row = false;
        sqlite3_bind_int64(q, 1, i);
        rc = judge(v, store_step(&v->c, q, &row));
        if (row) store_reset(q);
    }
    sqlite3_finalize(q);
    return rc;
}

static err check_trees(verify *v, const char *sql) {
    sqlite3_stmt *q = NULL;
    TRY(store_sql_error(&v->c, sqlite3_prepare_v2(v->c.db, sql, -1, &q, NULL)));
    err rc = OK;
    for (;;) {
        bool row = false;
        rc = store_step(&v->c, q, &row);
        if (rc != OK || !row) break;
        str s = store_column_str(q, 0);
        if (str_eq(s, STR("ok"))) continue;
        char text[256];
        size_t n = MIN(s.len, sizeof text - 1);
        memcpy(text, s.ptr, n);
        text[n] = 0;
        problem(v, text);
    }
    sqlite3_finalize(q);
    return rc;
}

/* Each answers the number of rows that break a rule. */
static const struct {
    const char *sql, *rule;
} rules[] = {
    {"SELECT (SELECT posts FROM meta) <> (SELECT count(*) FROM posts)", "the count of posts"},
    {"SELECT (SELECT pending FROM meta) <> (SELECT count(*) FROM posts WHERE embed=0)",
     "the count of waiting texts"},
    {"SELECT (SELECT failed FROM meta) <> (SELECT count(*) FROM posts WHERE embed=2)",
     "the count of failed texts"},
    {"SELECT (SELECT threads FROM meta) <> (SELECT count(DISTINCT thread) FROM posts)",
     "the count of threads"},
    {"SELECT (SELECT doc_limit FROM meta) <> (SELECT count(*) FROM posts) +"
     " (SELECT count(*) FROM free_docs)",
     "the count of document numbers"},
    {"SELECT count(*) FROM free_docs f JOIN posts p ON p.doc=f.doc", "free numbers in use"},
    {"SELECT count(*) FROM posts p LEFT JOIN bodies b ON b.doc=p.doc WHERE b.doc IS NULL",
     "posts without a body"},
    {"SELECT count(*) FROM bodies b LEFT JOIN posts p ON p.doc=b.doc WHERE p.doc IS NULL",
     "bodies without a post"},
    {"SELECT (SELECT count(*) FROM failures) <> (SELECT count(*) FROM failures f JOIN posts p"
     " ON p.doc=f.doc AND p.embed=2) OR (SELECT count(*) FROM failures) <> (SELECT failed FROM "
     "meta)",
     "the reasons of failures"},
};

static err check_rules(verify *v) {
    for (size_t i = 0; i < COUNT_OF(rules); i++) {
        int64_t n = 0;
        bool found = false;
        TRY(store_ask(&v->c, rules[i].sql, &n, &found));
        if (found && n == 0) continue;
        (void)err_set(ERR_CORRUPT, "%s: wrong: %s", v->c.path, rules[i].rule);
        problem(v, err_detail());
    }
    return OK;
}

static err check_texts(verify *v) {
    static const char sql[] =
        "SELECT " STORE_ROW " FROM posts p JOIN bodies b ON b.doc=p.doc ORDER BY p.doc";
    sqlite3_stmt *q = NULL;
    TRY(store_sql_error(&v->c, sqlite3_prepare_v2(v->c.db, sql, -1, &q, NULL)));
    arena a;
    arena_init(&a, STORE_ROW_MAX);
    err rc = OK;
    while (rc == OK) {
        bool here = false;
        rc = store_step(&v->c, q, &here);
        if (rc != OK || !here) break;
        store_row row;
        arena_reset(&a);
        rc = store_row_read(&v->c, q, &a, &row);
        if (rc == OK && hash64(row.post->text, strlen(row.post->text), 0) != row.text_hash)
            rc = err_set(ERR_CORRUPT, "%s: the text of doc %u does not match its hash", v->c.path,
                         row.doc);
        rc = judge(v, rc);
    }
    sqlite3_finalize(q);
    arena_deinit(&a);
    return rc;
}

static err check_file(verify *v) {
    meta m;
    TRY(check_pages(v));
    if (v->problems) return OK;
    TRY(store_schema_meta(&v->c, &m));
    TRY(check_trees(v, "PRAGMA quick_check"));
    if (v->problems) return OK;
    TRY(check_rules(v));
    TRY(check_texts(v));
    if (store_main_commits(v->c.path) <= m.commits) return OK;
    return err_set(ERR_CORRUPT, "%s-wal: its end is lost", v->c.path);
}

/* The main file is whole pages, at least one. */
static err check_size(const char *path) {
    file *f = NULL;
    uint64_t size = 0;
    TRY(file_open(fs_real(), path, FILE_READ, &f));
    err rc = file_size(f, &size);
    file_close(f);
    if (rc == OK && (size == 0 || size % VFS_PAGE_SIZE != 0))
        rc = err_set(ERR_CORRUPT, "%s: %llu bytes are not whole pages", path,
                     (unsigned long long)size);
    return rc;
}

static void keep_first(void *ctx, const char *text) {
    bool *told = ctx;
    if (!*told && text != err_detail()) (void)err_set(ERR_CORRUPT, "%s", text);
    *told = true;
}

err store_check_deep(conn *c) {
    bool told = false;
    verify v = {.c = *c, .report = keep_first, .ctx = &told};
    TRY(judge(&v, check_pages(&v)));
    if (!told) TRY(judge(&v, check_trees(&v, "PRAGMA integrity_check")));
    if (!told) TRY(judge(&v, check_rules(&v)));
    if (!told) TRY(judge(&v, check_texts(&v)));
    return told ? ERR_CORRUPT : OK;
}

err store_verify(const char *path, void (*report)(void *ctx, const char *problem), void *ctx) {
    verify v = {.c = {.path = path}, .report = report, .ctx = ctx};
    arena a;
    str text = {0};
    TRY(judge(&v, check_size(path)));
    if (v.problems) return OK;
    arena_init(&a, 64 * KIB);
    err rc = store_wal_check(path, &a, &text);
    if (rc == OK && text.ptr) problem(&v, text.ptr);
    arena_deinit(&a);
    if (rc != OK || v.problems) return rc;
    rc = judge(&v, still_open(&v.c, path, VFS_STILL));
    if (rc == OK && !v.problems) rc = judge(&v, check_file(&v));
    store_conn_close(&v.c);
    return rc;
}
