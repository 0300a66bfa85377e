/* The writer: one transaction a batch of journal records.
 *
 * Threads. A post's thread is that of its parent when the parent is here, else the parent's id,
 * else its own id. When a post comes (or moves) and its thread is not its own id, all rows that
 * stand under its id as a thread are moved to its thread: they were waiting for this link. So
 * for every arrival order of a tree each post ends under the root that is known, and no chain is
 * ever walked, so a cycle cannot make a loop. A post that is replaced with another reply_to takes
 * along only rows whose thread is its own id; what hangs below it in a foreign thread stays there.
 *
 * Invariants at every commit:
 *  1. posts, bodies: the same docs. failures: the docs whose embed is EMBED_FAILED.
 *  2. The docs and free_docs together are 0 .. doc_limit - 1, each once.
 *  3. meta.threads is the number of distinct posts.thread; pending and failed count embed states.
 *  4. While a post is here under a thread other than its id, no row has its id as thread.
 *
 * A call that fails leaves a half-done change, so it spoils the transaction: store_commit then
 * aborts and gives the first error. What failed after the commit stood (a checkpoint that the disk
 * refused) is not the commit's error: a full disk is tried again later, anything else stops the
 * next store_begin, since after a failed fsync only the disk knows what it holds.
 *
 * Cost of a new post: 7 us of CPU with rising ids, 22 with random ones at 450,000 posts, where each
 * put dirties a page of posts_id of its own (store_bench.c).
 */
#include "store/store_int.h"

#include "obs/metrics.h"
#include "os/os.h"

enum { ERASE_WAIT_MS = 250, BUSY_WAIT_MS = 5000 };

static err ready(const store *s) {
    KITH_ASSERT(s->in_write);
    return s->failed;
}

/* Remembers the first failure of the transaction. */
static err spoil(store *s, err rc) {
    if (rc != OK && s->failed == OK) s->failed = rc;
    return rc;
}

/* Runs a statement whose only parameter is a doc. */
static err run_doc(store *s, sql_id id, uint32_t doc) {
    sqlite3_stmt *q = s->w.sql[id];
    sqlite3_bind_int64(q, 1, doc);
    return store_run(&s->w, q);
}

/* ---- transactions ---- */

err store_begin(store *s) {
    KITH_ASSERT(!s->in_write);
    if (s->broken != OK)
        return err_set(s->broken, "%s: stopped after an earlier disk error; open it again",
                       s->path);
    TRY(store_run(&s->w, s->w.sql[SQL_BEGIN_WRITE]));
    s->now = s->saved;
    s->failed = OK;
    s->in_write = true;
    return OK;
}

void store_abort(store *s) {
    if (!s->in_write) return;
    s->in_write = false;
    s->now = s->saved;
    if (sqlite3_get_autocommit(s->w.db)) return; /* SQLite rolled back by itself */
    err rc = store_run(&s->w, s->w.sql[SQL_ROLLBACK]);
    if (rc != OK && !sqlite3_get_autocommit(s->w.db)) s->broken = rc;
}

static err meta_write(store *s) {
    sqlite3_stmt *q = s->w.sql[SQL_META_UPDATE];
    const meta *m = &s->now;
    const uint64_t v[] = {m->position, m->commits, m->doc_limit, m->posts,
                          m->threads,  m->pending, m->failed};
    for (size_t i = 0; i < COUNT_OF(v); i++) sqlite3_bind_int64(q, (int)i + 1, (int64_t)v[i]);
    return store_run(&s->w, q);
}

/* Copies the WAL into the main file when it has grown; readers in the way only delay it. */
static void checkpoint(store *s) {
    if (s->wal_pages < s->checkpoint_at) return;
    int pages = 0, copied = 0;
    int rc = sqlite3_wal_checkpoint_v2(s->w.db, "main", SQLITE_CHECKPOINT_PASSIVE, &pages, &copied);
    err e = store_sql_error(&s->w, rc);
    if (e != OK && e != ERR_AGAIN && e != ERR_NO_SPACE && e != ERR_NO_MEMORY) s->broken = e;
    bool whole = e == OK && copied >= pages;
    s->checkpoint_at = (whole ? 0 : s->wal_pages) + STORE_CHECKPOINT_PAGES;
}

err store_commit(store *s, uint64_t position) {
    uint64_t start = clock_mono_ns();
    err rc = ready(s);
    if (rc == OK) {
        s->now.position = position;
        s->now.commits++;
        rc = meta_write(s);
    }
    if (rc == OK) rc = store_run(&s->w, s->w.sql[SQL_COMMIT]);
    if (rc != OK) {
        store_abort(s);
        return rc;
    }
    s->in_write = false;
    s->saved = s->now;
    checkpoint(s);
    metric_record(M_STORE_SECONDS, STORE_OP_COMMIT, clock_mono_ns() - start);
    store_publish(s);
    return OK;
}

err store_erase_traces(store *s) {
    KITH_ASSERT(!s->in_write);
    if (s->broken != OK) return s->broken;
    sqlite3_busy_timeout(s->w.db, ERASE_WAIT_MS);
    int rc = sqlite3_wal_checkpoint_v2(s->w.db, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    err e = store_sql_error(&s->w, rc);
    sqlite3_busy_timeout(s->w.db, BUSY_WAIT_MS);
    if (e == OK) s->checkpoint_at = STORE_CHECKPOINT_PAGES;
    store_publish(s);
    return e;
}

/* ---- what is there ---- */

typedef struct found {
    bool here;
    store_row row;
    str body; /* as stored */
    int embed;
} found;

static err find(store *s, str id, arena *a, found *out) {
    *out = (found){0};
    sqlite3_stmt *q = s->w.sql[SQL_FIND];
    store_bind_str(q, 1, id);
    TRY(store_step(&s->w, q, &out->here));
    if (!out->here) return OK;
    err rc = store_row_read(&s->w, q, a, &out->row);
    if (rc == OK) {
        str body = store_column_str(q, 6);
        out->body = str_from(arena_dup(a, body), body.len);
        out->embed = sqlite3_column_int(q, 7);
        if (!out->body.ptr) rc = ERR_NO_MEMORY;
    }
    store_reset(q);
    return rc;
}

static err thread_exists(store *s, str root, bool *out) {
    sqlite3_stmt *q = s->w.sql[SQL_THREAD_EXISTS];
    store_bind_str(q, 1, root);
    TRY(store_step(&s->w, q, out));
    if (*out) store_reset(q);
    return OK;
}

/* The thread this post belongs to; *peopled: some row is surely in it already. */
static err thread_for(store *s, const Kith__V1__Post *post, arena *a, str *out, bool *peopled) {
    str id = str_of(post->id), parent = str_of(post->reply_to);
    *peopled = false;
    str root = parent.len ? parent : id;
    if (parent.len && !str_eq(parent, id)) {
        sqlite3_stmt *q = s->w.sql[SQL_THREAD_OF];
        store_bind_str(q, 1, parent);
        TRY(store_step(&s->w, q, peopled));
        if (*peopled) {
            str t = store_column_str(q, 0);
            *out = str_from(arena_dup(a, t), t.len);
            store_reset(q);
            return out->ptr ? OK : ERR_NO_MEMORY;
        }
    }
    *out = str_from(arena_dup(a, root), root.len);
    return out->ptr ? OK : ERR_NO_MEMORY;
}

/* ---- put ---- */

typedef struct put_work {
    const Kith__V1__Post *post;
    uint64_t lsn;
    int64_t created_ms;
    str body;     /* packed */
    bool peopled; /* its thread has rows already */
    arena *mem;
} put_work;

static err created(const Kith__V1__Post *post, int64_t now_ms, Google__Protobuf__Timestamp *t,
                   int64_t *ms) {
    google__protobuf__timestamp__init(t);
    if (post->created_at) {
        t->seconds = post->created_at->seconds;
        t->nanos = post->created_at->nanos;
    } else {
        int64_t part = now_ms % 1000;
        if (part < 0) part += 1000;
        t->seconds = (now_ms - part) / 1000;
        t->nanos = (int32_t)part * 1000000;
    }
    if (t->seconds < TIME_MS_MIN / 1000 || t->seconds > TIME_MS_MAX / 1000)
        return err_set_field(ERR_INVALID, "created_at", "created_at: expected years 1 to 9999");
    *ms = t->seconds * 1000 + t->nanos / 1000000;
    return OK;
}

/* Is the stored version equal in all that the caller set? */
static err is_same(const Kith__V1__Post *post, const found *f, arena *a, bool *out) {
    str body = {0};
    Google__Protobuf__Timestamp *t = post->created_at ? NULL : f->row.post->created_at;
    TRY(store_pack(post, t, a, &body));
    *out = str_eq(body, f->body);
    return OK;
}

static err doc_take(store *s, uint32_t *out) {
    if (s->now.posts == s->now.doc_limit) {
        if (s->now.doc_limit >= STORE_DOCS_MAX)
            return err_set(ERR_NO_SPACE, "%s: %u posts are the limit", s->path, STORE_DOCS_MAX);
        *out = (uint32_t)s->now.doc_limit++;
        return OK;
    }
    sqlite3_stmt *q = s->w.sql[SQL_FREE_FIRST];
    bool row = false;
    TRY(store_step(&s->w, q, &row));
    if (!row) return err_set(ERR_CORRUPT, "%s: a free document number is missing", s->path);
    *out = (uint32_t)sqlite3_column_int64(q, 0);
    store_reset(q);
    return run_doc(s, SQL_FREE_DELETE, *out);
}

/* Counts `root` as a thread when no row is in it yet. */
static err thread_enter(store *s, str root, bool peopled) {
    if (!peopled) TRY(thread_exists(s, root, &peopled));
    s->now.threads += !peopled;
    return OK;
}
static err thread_leave(store *s, str root) {
    bool peopled = false;
    TRY(thread_exists(s, root, &peopled));
    s->now.threads -= !peopled;
    return OK;
}

static err create(store *s, const put_work *w, store_change *out) {
    TRY(doc_take(s, &out->doc));
    TRY(thread_enter(s, out->thread, w->peopled));
    sqlite3_stmt *q = s->w.sql[SQL_POST_INSERT];
    sqlite3_bind_int64(q, 1, out->doc);
    store_bind_str(q, 2, str_of(w->post->id));
    store_bind_str(q, 3, out->thread);
    sqlite3_bind_int64(q, 4, w->created_ms);
    sqlite3_bind_int64(q, 5, (int64_t)w->lsn);
    sqlite3_bind_int64(q, 6, (int64_t)out->text_hash);
    sqlite3_bind_int64(q, 7, EMBED_WAITING);
    TRY(store_run(&s->w, q));
    q = s->w.sql[SQL_BODY_INSERT];
    sqlite3_bind_int64(q, 1, out->doc);
    sqlite3_bind_int64(q, 2, (int64_t)w->lsn);
    sqlite3_bind_blob(q, 3, w->body.ptr, (int)w->body.len, SQLITE_STATIC);
    TRY(store_run(&s->w, q));
    s->now.posts++;
    s->now.pending++;
    return OK;
}

/* A row's embed state becomes `to`. */
static err embed_change(store *s, uint32_t doc, int from, int to) {
    s->now.pending += (uint64_t)(to == EMBED_WAITING) - (uint64_t)(from == EMBED_WAITING);
    s->now.failed += (uint64_t)(to == EMBED_FAILED) - (uint64_t)(from == EMBED_FAILED);
    return from == EMBED_FAILED && to != EMBED_FAILED ? run_doc(s, SQL_FAILURE_DELETE, doc) : OK;
}

static err replace(store *s, const put_work *w, const found *f, store_change *out) {
    str before = str_of(f->row.post->thread);
    bool moves = !str_eq(before, out->thread);
    int embed = out->text_changed ? EMBED_WAITING : f->embed;
    TRY(embed_change(s, out->doc, f->embed, embed));
    if (moves) TRY(thread_enter(s, out->thread, w->peopled));
    sqlite3_stmt *q = s->w.sql[SQL_POST_UPDATE];
    sqlite3_bind_int64(q, 1, out->doc);
    store_bind_str(q, 2, out->thread);
    sqlite3_bind_int64(q, 3, w->created_ms);
    sqlite3_bind_int64(q, 4, (int64_t)w->lsn);
    sqlite3_bind_int64(q, 5, (int64_t)out->text_hash);
    sqlite3_bind_int64(q, 6, embed);
    TRY(store_run(&s->w, q));
    q = s->w.sql[SQL_BODY_UPDATE];
    sqlite3_bind_int64(q, 1, out->doc);
    sqlite3_bind_int64(q, 2, (int64_t)w->lsn);
    sqlite3_bind_blob(q, 3, w->body.ptr, (int)w->body.len, SQLITE_STATIC);
    TRY(store_run(&s->w, q));
    return moves ? thread_leave(s, before) : OK;
}

static err docs_of_thread(store *s, str root, arena *a, uint32_t **out, size_t *count) {
    sqlite3_stmt *q = s->w.sql[SQL_THREAD_DOCS];
    size_t cap = 0;
    bool row = false;
    *out = NULL, *count = 0;
    store_bind_str(q, 1, root);
    for (;;) {
        TRY(store_step(&s->w, q, &row));
        if (!row) return OK;
        if (*count == cap) { /* doubling in an arena wastes as much again, of 4 bytes a doc */
            cap = cap ? cap * 2 : 8;
            uint32_t *more = arena_alloc(a, cap * sizeof *more);
            if (!more) break;
            if (*count) memcpy(more, *out, *count * sizeof *more);
            *out = more;
        }
        (*out)[(*count)++] = (uint32_t)sqlite3_column_int64(q, 0);
    }
    store_reset(q);
    return ERR_NO_MEMORY;
}

/* Moves the rows that waited under this post's id to its thread. */
static err reroot(store *s, const put_work *w, store_change *out) {
    str id = str_of(w->post->id);
    if (str_eq(id, out->thread)) return OK;
    TRY(docs_of_thread(s, id, w->mem, &out->rerooted, &out->rerooted_count));
    if (!out->rerooted_count) return OK;
    sqlite3_stmt *q = s->w.sql[SQL_THREAD_MOVE];
    store_bind_str(q, 1, id);
    store_bind_str(q, 2, out->thread);
    sqlite3_bind_int64(q, 3, (int64_t)w->lsn);
    TRY(store_run(&s->w, q));
    s->now.threads--;
    return OK;
}

static err put(store *s, put_work *w, int64_t now_ms, store_change *out) {
    const Kith__V1__Post *post = w->post;
    arena *a = w->mem;
    str text = str_of(post->text);
    found f;
    *out = (store_change){.outcome = STORE_CREATED, .text_changed = true};
    out->text_hash = hash64(text.ptr, text.len, 0);
    TRY(find(s, str_of(post->id), a, &f));
    if (f.here) {
        bool same = false;
        TRY(is_same(post, &f, a, &same));
        out->outcome = same ? STORE_UNCHANGED : STORE_REPLACED;
        out->doc = f.row.doc;
        out->old = f.row.post;
        out->thread = str_of(f.row.post->thread);
        out->text_changed = f.row.text_hash != out->text_hash;
        if (same) return OK;
    }
    Google__Protobuf__Timestamp t;
    TRY(created(post, now_ms, &t, &w->created_ms));
    TRY(store_pack(post, &t, a, &w->body));
    TRY(thread_for(s, post, a, &out->thread, &w->peopled));
    TRY(f.here ? replace(s, w, &f, out) : create(s, w, out));
    return reroot(s, w, out);
}

err store_put(store *s, const Kith__V1__Post *post, uint64_t lsn, int64_t now_ms, arena *a,
              store_change *out) {
    TRY(ready(s));
    uint64_t start = clock_mono_ns();
    put_work w = {.post = post, .lsn = lsn, .mem = a};
    err rc = spoil(s, put(s, &w, now_ms, out));
    metric_record(M_STORE_SECONDS, STORE_OP_WRITE, clock_mono_ns() - start);
    return rc;
}

/* ---- delete ---- */

static err remove_row(store *s, const found *f) {
    TRY(run_doc(s, SQL_POST_DELETE, f->row.doc));
    TRY(run_doc(s, SQL_BODY_DELETE, f->row.doc));
    TRY(run_doc(s, SQL_FREE_INSERT, f->row.doc));
    TRY(embed_change(s, f->row.doc, f->embed, EMBED_DONE));
    s->now.posts--;
    return thread_leave(s, str_of(f->row.post->thread));
}

err store_delete(store *s, str id, arena *a, uint32_t *doc, Kith__V1__Post **old) {
    TRY(ready(s));
    found f;
    TRY(spoil(s, find(s, id, a, &f)));
    if (!f.here) return err_set(ERR_NOT_FOUND, "no post has this id");
    TRY(spoil(s, remove_row(s, &f)));
    *doc = f.row.doc;
    *old = f.row.post;
    return OK;
}

/* ---- embed states ---- */

typedef struct text_state {
    bool current; /* the post is here with this text */
    uint32_t doc;
    int embed;
} text_state;

static err text_state_of(store *s, str id, uint64_t text_hash, text_state *out) {
    *out = (text_state){0};
    sqlite3_stmt *q = s->w.sql[SQL_TEXT_STATE];
    bool row = false;
    store_bind_str(q, 1, id);
    TRY(store_step(&s->w, q, &row));
    if (!row) return OK;
    out->doc = (uint32_t)sqlite3_column_int64(q, 0);
    out->current = (uint64_t)sqlite3_column_int64(q, 1) == text_hash;
    out->embed = sqlite3_column_int(q, 2);
    store_reset(q);
    return OK;
}

static err embed_set(store *s, uint32_t doc, int from, int to) {
    if (from == to) return OK;
    sqlite3_stmt *q = s->w.sql[SQL_EMBED_SET];
    sqlite3_bind_int64(q, 1, doc);
    sqlite3_bind_int64(q, 2, to);
    TRY(store_run(&s->w, q));
    return embed_change(s, doc, from, to);
}

err store_vector(store *s, str id, uint64_t text_hash, uint32_t *doc, bool *current) {
    TRY(ready(s));
    text_state t;
    TRY(spoil(s, text_state_of(s, id, text_hash, &t)));
    *current = t.current;
    if (!t.current) return OK;
    *doc = t.doc;
    return spoil(s, embed_set(s, t.doc, t.embed, EMBED_DONE));
}

static err mark_failed(store *s, const text_state *t, str reason) {
    TRY(embed_set(s, t->doc, t->embed, EMBED_FAILED));
    sqlite3_stmt *q = s->w.sql[SQL_FAILURE_PUT];
    sqlite3_bind_int64(q, 1, t->doc);
    store_bind_str(q, 2, utf8_cut(reason, STORE_REASON_MAX));
    return store_run(&s->w, q);
}

err store_vector_failed(store *s, str id, uint64_t text_hash, str reason, uint32_t *doc,
                        bool *current) {
    TRY(ready(s));
    text_state t;
    TRY(spoil(s, text_state_of(s, id, text_hash, &t)));
    *current = t.current && t.embed != EMBED_DONE; /* a vector that is here stays */
    if (!*current) return OK;
    *doc = t.doc;
    return spoil(s, mark_failed(s, &t, reason));
}

err store_forget_vectors(store *s) {
    TRY(ready(s));
    TRY(spoil(s, store_exec(&s->w, "UPDATE posts SET embed=0 WHERE embed<>0")));
    TRY(spoil(s, store_exec(&s->w, "DELETE FROM failures")));
    s->now.pending = s->now.posts;
    s->now.failed = 0;
    return OK;
}

err store_retry_failed(store *s, uint64_t *count) {
    TRY(ready(s));
    *count = s->now.failed;
    if (!s->now.failed) return OK;
    TRY(spoil(s, store_run(&s->w, s->w.sql[SQL_RETRY_ROWS])));
    TRY(spoil(s, store_run(&s->w, s->w.sql[SQL_RETRY_CLEAR])));
    s->now.pending += s->now.failed;
    s->now.failed = 0;
    return OK;
}
