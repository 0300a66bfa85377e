/* Opening, closing, waiting and counting. How a record moves is in shard_apply.c, vectors in
 * shard_vectors.c, the snapshot in shard_snapshot.c.
 *
 * Opening, in this order, so that any mix of old and new files comes out right:
 *   1. the journal (its lock is the directory's lock) and the store
 *   2. the store folds the journal to its head; the indexes do not exist yet
 *   3. indexes are loaded from the snapshot, or made empty
 *   4. reconcile: every document whose revision in the indexes differs from the store's is put
 *      again from the store. So the snapshot may be older or newer than the store, or missing
 *   5. threads start; vectors that the graph lacks are read from the journal behind the scenes
 */
#include "shard/shard_int.h"

#include <stdarg.h>
#include <stdio.h>

enum { NOTICE_MAX = 512, PATH_MAX_BYTES = 4096, KEY_LOOK = 1000 };

void shard_notice(shard *s, const char *fmt, ...) {
    if (!s->o.notice) return;
    char text[NOTICE_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->o.notice(s->o.notice_ctx, text);
}

bool shard_closing(shard *s) {
    mutex_lock(&s->mu);
    bool closing = s->closing;
    mutex_unlock(&s->mu);
    return closing;
}

void shard_pause(shard *s) {
    uint64_t until = clock_mono_ns() + (uint64_t)RETRY_MS * 1000000u;
    mutex_lock(&s->mu);
    while (!s->closing && clock_mono_ns() < until) (void)cond_wait_ms(&s->moved, &s->mu, RETRY_MS);
    mutex_unlock(&s->mu);
}

static char *join(const char *dir, const char *name) {
    strbuf b;
    strbuf_init(&b, PATH_MAX_BYTES);
    strbuf_addf(&b, "%s/%s", dir, name);
    return strbuf_take(&b);
}

static void remove_store(shard *s, const char *db) {
    static const char *const tails[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < COUNT_OF(tails); i++) {
        char path[PATH_MAX_BYTES];
        int n = snprintf(path, sizeof path, "%s%s", db, tails[i]);
        if (n < (int)sizeof path && fs_exists(s->o.fs, path)) {
            err rc = fs_unlink(s->o.fs, path); /* what stays is told by the next store_open */
            (void)rc;
        }
    }
}

/* A damaged store is a fold that can be made again, as long as the journal goes back to its first
 * record. */
static err open_store(shard *s, const char *db) {
    unsigned readers = s->o.readers ? s->o.readers : 4;
    err rc = store_open(db, readers, &s->store);
    if (rc != ERR_CORRUPT || journal_first_lsn(s->journal) > 1) return rc;
    shard_notice(s, "%s; the store is made again from the journal", err_detail());
    remove_store(s, db);
    return store_open(db, readers, &s->store);
}

/* Whether one of `n` records from `lsn` on is sealed. */
static err sealed_near(shard *s, uint64_t lsn, size_t n, bool *yes) {
    journal_reader *r;
    journal_record rec;
    TRY(journal_reader_open(s->journal, lsn, &r));
    err rc = OK;
    for (size_t i = 0; rc == OK && i < n && !*yes; i++) {
        rc = journal_read(r, &rec);
        if (rc == OK) *yes = shard_is_sealed(&rec);
    }
    journal_reader_close(r);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

/* The users' keys. A file that is gone while sealed records are here is not made anew: they would be
 * unreadable for ever, and new users would get the places of old ones. */
static err check_keys_file(shard *s, const char *path) {
    uint64_t first = journal_first_lsn(s->journal), head = journal_head_lsn(s->journal);
    bool sealed = false;
    if (fs_exists(s->o.fs, path) || head < first) return OK;
    TRY(sealed_near(s, first, KEY_LOOK, &sealed));
    if (!sealed && head > first + KEY_LOOK)
        TRY(sealed_near(s, head + 1 - KEY_LOOK, KEY_LOOK, &sealed));
    if (!sealed) return OK;
    return err_set(
        ERR_CORRUPT,
        "%s is missing: the journal's records are sealed by the keys in it; bring it back "
        "from the archive (kith restore)",
        path);
}

static err open_keys(shard *s) {
    static const seal_master none;
    char *path = join(s->dir, "user.keys");
    if (!path) return ERR_NO_MEMORY;
    err rc = check_keys_file(s, path);
    if (rc == OK) rc = keyring_open(s->o.fs, path, s->o.master ? s->o.master : &none, &s->keys);
    s->o.master = NULL; /* borrowed for the call */
    mem_free(path);
    return rc;
}

static err open_files(shard *s) {
    TRY(fs_mkdir(s->o.fs, s->dir));
    char *jdir = join(s->dir, "journal"), *db = join(s->dir, "store.db");
    s->snap_path = join(s->dir, "index.snap");
    err rc = jdir && db && s->snap_path ? OK : ERR_NO_MEMORY;
    if (rc == OK) rc = journal_open(s->o.fs, jdir, &(journal_options){.region = 0}, &s->journal);
    if (rc == OK) {
        const journal_recovery *r = journal_recovered(s->journal);
        if (r->cut_bytes)
            shard_notice(s,
                         "journal: cut an unfinished write of %llu bytes at LSN %llu; nothing "
                         "acknowledged was in it",
                         (unsigned long long)r->cut_bytes, (unsigned long long)r->cut_lsn);
        rc = shard_space_bind(s);
    }
    if (rc == OK) rc = open_keys(s);
    if (rc == OK) rc = open_store(s, db);
    mem_free(jdir);
    mem_free(db);
    return rc;
}

static err init_locks(shard *s) {
    TRY(rwlock_init(&s->words_lock));
    TRY(mutex_init(&s->gate));
    TRY(mutex_init(&s->mu));
    return cond_init(&s->moved);
}

static err start_threads(shard *s) {
    TRY(shard_spaces_start(s));
    TRY(thread_start(&s->apply_thread, "kith-apply", shard_apply_main, s));
    s->apply_on = true;
    TRY(thread_start(&s->keep_thread, "kith-keep", shard_keep_main, s));
    s->keep_on = true;
    if (!s->catching_up) return OK;
    TRY(thread_start(&s->catch_thread, "kith-catch-up", shard_catch_main, s));
    s->catch_on = true;
    return OK;
}

static err open_all(shard *s) {
    TRY(open_files(s));
    uint64_t head = journal_head_lsn(s->journal);
    if (store_position(s->store) > head)
        return err_set(ERR_CORRUPT,
                       "%s: the store is at LSN %llu and the journal ends at %llu: journal files "
                       "are missing; restore them from a backup",
                       s->dir, (unsigned long long)store_position(s->store),
                       (unsigned long long)head);
    TRY(shard_apply_store(s));
    for (unsigned i = 0; i < s->space_count; i++)
        TRY(shard_plans_open(i == 0, &s->spaces[i].plans));
    if (s->rebind) TRY(shard_space_rebind(s));
    TRY(shard_load(s));
    TRY(shard_reconcile(s));
    s->applied_lsn = store_position(s->store);
    return start_threads(s);
}

err shard_open(const shard_options *o, shard **out) {
    *out = NULL;
    if (!o->dir || !o->dir[0])
        return err_set(ERR_INVALID, "data directory: expected a path, got ''");
    shard *s = mem_zalloc(1, sizeof *s);
    if (!s) return ERR_NO_MEMORY;
    s->o = *o;
    s->dir = mem_dup(o->dir, strlen(o->dir) + 1);
    err rc = init_locks(s); /* a failure here is a leak of locks at start, and the end of it */
    if (rc == OK) rc = s->dir ? shard_spaces_init(s) : ERR_NO_MEMORY;
    if (rc == OK) rc = open_all(s);
    if (rc != OK) {
        shard_close(s);
        return rc;
    }
    *out = s;
    return OK;
}

static void stop_threads(shard *s) {
    mutex_lock(&s->mu);
    s->closing = true;
    cond_broadcast(&s->moved);
    mutex_unlock(&s->mu);
    if (s->journal) journal_wake(s->journal);
    if (s->apply_on) thread_join(&s->apply_thread);
    if (s->catch_on) thread_join(&s->catch_thread);
    if (s->keep_on) thread_join(&s->keep_thread);
    shard_spaces_join(s);
}

void shard_close(shard *s) {
    if (!s) return;
    bool ran = s->apply_on;
    stop_threads(s);
    if (ran && s->change_lsn && !s->catching_up) {
        err rc = shard_snapshot_write(s);
        if (rc != OK) shard_notice(s, "index snapshot not written: %s", err_detail());
    }
    shard_spaces_deinit(s);
    lexical_free(s->words);
    attrs_free(s->attrs);
    store_close(s->store);
    keyring_close(s->keys);
    journal_close(s->journal);
    mem_free(s->rev);
    mem_free(s->snap_path);
    mem_free(s->dir);
    mem_free(s);
}

/* ---- waiting ---- */

/* True when `id` is in the graph, or can never be. */
static bool is_searchable(shard *s, str id) {
    store_reader *r = store_reader_get(s->store);
    uint32_t doc;
    err rc = store_doc_of(r, id, &doc);
    store_reader_put(s->store, r);
    if (rc != OK) return true; /* gone */
    space *sp = s->spaces;
    mutex_lock(&sp->vec_writer);
    bool in = doc < sp->vec_cap && (sp->vec[doc].failed || sp->vec[doc].have == sp->vec[doc].want);
    mutex_unlock(&sp->vec_writer);
    return in;
}

err shard_wait(shard *s, str id, uint64_t lsn, shard_wait_for what, uint64_t timeout_ms) {
    uint64_t end = clock_mono_ns() + timeout_ms * 1000000u;
    bool done = false;
    mutex_lock(&s->mu);
    for (;;) {
        done = s->applied_lsn >= lsn;
        if (done && what == WAIT_SEARCHABLE) {
            mutex_unlock(&s->mu);
            done = is_searchable(s, id);
            mutex_lock(&s->mu);
        }
        uint64_t now = clock_mono_ns();
        if (done || s->closing || now >= end) break;
        /* At most 20 ms: what moved between the check and the wait is seen then. */
        (void)cond_wait_ms(&s->moved, &s->mu, MIN((end - now) / 1000000u + 1, 20));
    }
    bool closing = s->closing;
    mutex_unlock(&s->mu);
    if (done) return OK;
    if (closing) return err_set(ERR_CANCELLED, "the server is stopping");
    return err_set(ERR_TIMEOUT, "not %s after %llu ms; it is safe and will be soon",
                   what == WAIT_APPLIED ? "applied" : "searchable", (unsigned long long)timeout_ms);
}

/* ---- reading ---- */

store *shard_store(shard *s) {
    return s->store;
}
journal *shard_journal(shard *s) {
    return s->journal;
}
keyring *shard_keyring(shard *s) {
    return s->keys;
}
const char *shard_space(const shard *s) {
    return s->spaces[0].name;
}
uint32_t shard_dim(const shard *s) {
    return s->o.dim;
}
uint64_t shard_head(shard *s) {
    return journal_head_lsn(s->journal);
}

uint64_t shard_lsn(shard *s) {
    mutex_lock(&s->mu);
    uint64_t lsn = s->applied_lsn;
    mutex_unlock(&s->mu);
    return lsn;
}

void shard_words_begin(shard *s, shard_words *out) {
    uint64_t lsn = shard_lsn(s); /* before the lock: never more than what the indexes hold */
    rwlock_read(&s->words_lock);
    *out = (shard_words){s->attrs, s->words, s->rev, s->doc_limit, lsn};
}

void shard_words_end(shard *s) {
    rwlock_unlock(&s->words_lock);
}

const hnsw *shard_vectors_begin(shard *s) {
    return shard_space_begin(s, 0);
}

void shard_vectors_end(shard *s) {
    shard_space_end(s, 0);
}

err shard_pending(shard *s, size_t limit, uint64_t timeout_ms, arena *a, store_row **rows,
                  size_t *count) {
    uint64_t end = clock_mono_ns() + timeout_ms * 1000000u;
    for (;;) {
        store_reader *r = store_reader_get(s->store);
        bool fresh = __atomic_fetch_add(&s->pending_turn, 1, __ATOMIC_RELAXED) % 4 != 3;
        err rc = store_pending(r, fresh, limit, a, rows, count);
        store_reader_put(s->store, r);
        if (rc != OK || *count) return rc;
        mutex_lock(&s->mu);
        uint64_t now = clock_mono_ns();
        bool stop = s->closing || now >= end;
        if (!stop) (void)cond_wait_ms(&s->moved, &s->mu, (end - now) / 1000000u + 1);
        mutex_unlock(&s->mu);
        if (stop) return OK;
    }
}

/* ---- counting ---- */

static double lag_s(uint64_t done, uint64_t head, hlc done_time, hlc now) {
    if (done >= head || HLC_MS(now) <= HLC_MS(done_time)) return 0;
    return (double)(HLC_MS(now) - HLC_MS(done_time)) / 1000.0;
}

static void stat_memory(shard *s, shard_stats *out) {
    lexical_stats ls;
    attrs_stats as;
    shard_words w;
    shard_words_begin(s, &w);
    lexical_stats_get(w.words, &ls);
    attrs_stats_get(w.attrs, &as);
    out->other_memory = s->rev_cap * sizeof *s->rev;
    shard_words_end(s);
    out->words_memory =
        ls.bytes_postings + ls.bytes_sequences + ls.bytes_dictionary + ls.bytes_documents;
    out->attrs_memory = as.bytes_columns + as.bytes_names + as.bytes_tags;
    const hnsw *h = shard_vectors_begin(s);
    out->vectors = hnsw_count(h);
    hnsw_stats hs = hnsw_stats_get(h);
    shard_vectors_end(s);
    out->vectors_memory = hs.bytes;
}

err shard_stat(shard *s, shard_stats *out) {
    memset(out, 0, sizeof *out);
    store_counts c;
    store_reader *r = store_reader_get(s->store);
    err rc = store_count(r, &c);
    store_reader_put(s->store, r);
    TRY(rc);
    out->posts = c.posts, out->threads = c.threads;
    out->pending = c.pending, out->failed = c.failed;
    stat_memory(s, out);
    journal_position head;
    journal_head(s->journal, &head);
    journal_stats js;
    journal_stats_get(s->journal, &js);
    out->journal_disk = js.bytes;
    out->journal_stopped = js.stopped != OK;
    out->store_disk = store_disk_bytes(s->store);
    mutex_lock(&s->mu);
    bool queued = s->spaces[0].queue_count || s->spaces[0].busy || s->catching_up;
    out->head_lsn = head.lsn;
    out->store_lsn = out->words_lsn = s->applied_lsn;
    out->vectors_lsn = queued && s->applied_lsn ? s->applied_lsn - 1 : s->applied_lsn;
    hlc now = hlc_next(0, clock_wall_ms());
    out->store_lag_s = lag_s(s->applied_lsn, head.lsn, s->applied_time, now);
    out->vectors_lag_s = queued ? lag_s(0, 1, s->applied_time, now) : out->store_lag_s;
    out->snapshot_lsn = s->snapshot_lsn;
    out->snapshot_disk = s->snapshot_bytes;
    out->snapshot_age_s = s->snapshot_ns ? (double)(clock_mono_ns() - s->snapshot_ns) / 1e9 : -1.0;
    mutex_unlock(&s->mu);
    return OK;
}
