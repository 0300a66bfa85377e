/* Spaces: which there are, whose the directory is, and what a space beside the first still lacks.
 *
 * The first space is the one that searches ask; the store marks in its rows what of it is embedded, so its queue is
 * the store. A further space has no marks there: what it lacks is told by its graph alone. Each document's state
 * says which text it has, which one the graph holds, and whether a vector is on its way; a count of those that
 * lack one is kept with every change, so that an idle space costs nothing, and a pointer goes down over the
 * documents, taken back up by each new post, so that fresh posts come first.
 *
 * The file `space` names the first space. When another becomes the first, the store's marks are of the old one: they
 * are made anew from the vector records in the journal, which name their space. `space.next` is there from
 * before the first change until after the last, so a crash in between only means doing it again, whichever
 * space is asked for then. Rows without a vector in the new space wait for one, as ever.
 */
#include "shard/shard_int.h"

#include <stdio.h>

enum {
    PATH_BYTES = 4096,
    SPACE_FILE_MAX = 512,
    LOOK_MAX = 1 << 16, /* documents looked at under one lock */
    LOOK_ENOUGH = 4096, /* and from the first one found on */
    REBIND_RECORDS = 10000
};

static void path_of(const shard *s, const char *name, char out[PATH_BYTES]) {
    int n = snprintf(out, PATH_BYTES, "%s/%s", s->dir, name);
    KITH_ASSERT(n > 0);
}

static err snap_name(const char *space_name, char out[64]) {
    int n = snprintf(out, 64, "space-%016llx.snap",
                     (unsigned long long)hash64(space_name, strlen(space_name), 0));
    return n > 0 ? OK : ERR_INTERNAL;
}

/* ---- life ---- */

static err init_one(shard *s, unsigned i, const char *name, uint32_t dim) {
    space *sp = &s->spaces[i];
    char path[PATH_BYTES], base[64];
    for (unsigned j = 0; j < i; j++)
        if (strcmp(s->spaces[j].name, name) == 0)
            return err_set(ERR_INVALID, "space '%s' is given twice", name);
    TRY(snap_name(name, base));
    path_of(s, base, path);
    sp->s = s;
    sp->dim = dim;
    sp->name = mem_dup(name, strlen(name) + 1);
    sp->snap_path = mem_dup(path, strlen(path) + 1);
    s->space_count = i + 1;
    if (!sp->name || !sp->snap_path) return ERR_NO_MEMORY;
    TRY(rwlock_init(&sp->vectors_lock));
    return mutex_init(&sp->vec_writer);
}

err shard_spaces_init(shard *s) {
    if (s->o.more_count >= SHARD_SPACES_MAX)
        return err_set(ERR_INVALID, "at most %d spaces", SHARD_SPACES_MAX);
    TRY(init_one(s, 0, s->o.space, s->o.dim));
    for (unsigned i = 0; i < s->o.more_count; i++)
        TRY(init_one(s, i + 1, s->o.more[i].name, s->o.more[i].dim));
    return OK;
}

err shard_spaces_start(shard *s) {
    for (unsigned i = 0; i < s->space_count; i++) {
        TRY(thread_start(&s->spaces[i].t, "kith-vectors", shard_vec_main, &s->spaces[i]));
        s->spaces[i].on = true;
    }
    return OK;
}

void shard_spaces_join(shard *s) {
    for (unsigned i = 0; i < s->space_count; i++)
        if (s->spaces[i].on) thread_join(&s->spaces[i].t);
}

void shard_spaces_deinit(shard *s) {
    for (unsigned i = 0; i < s->space_count; i++) {
        space *sp = &s->spaces[i];
        for (size_t j = 0; j < sp->queue_count; j++)
            mem_free(sp->queue[(sp->queue_head + j) % VECTOR_QUEUE_MAX].vector);
        hnsw_free(sp->vectors);
        shard_plans_close(sp->plans);
        mem_free(sp->vec);
        mem_free(sp->name);
        mem_free(sp->snap_path);
    }
}

space *shard_space_find(shard *s, str name) {
    for (unsigned i = 0; i < s->space_count; i++)
        if (str_eq(str_of(s->spaces[i].name), name)) return &s->spaces[i];
    return NULL;
}

bool shard_space_file(const char *name) {
    return str_starts(str_of(name), STR("space-")) && str_ends(str_of(name), STR(".snap"));
}

static err sweep_one(void *ctx, const char *name) {
    shard *s = ctx;
    char path[PATH_BYTES];
    if (!shard_space_file(name)) return OK;
    path_of(s, name, path);
    for (unsigned i = 1; i < s->space_count; i++)
        if (strcmp(s->spaces[i].snap_path, path) == 0) return OK;
    err rc = fs_unlink(s->o.fs, path);
    if (rc != OK) shard_notice(s, "%s of a space that is not kept: not removed", name);
    return OK;
}

void shard_spaces_sweep(shard *s) {
    err rc = fs_list(s->o.fs, s->dir, sweep_one, s);
    if (rc != OK) shard_notice(s, "looking for snapshots of other spaces: %s", err_detail());
}

/* ---- whose directory it is ---- */

err shard_space_bind(shard *s) {
    const char *name = s->spaces[0].name;
    char path[PATH_BYTES], next[PATH_BYTES];
    uint8_t *text = NULL;
    size_t n = 0;
    path_of(s, "space", path);
    path_of(s, "space.next", next);
    err rc = file_read_all(s->o.fs, path, SPACE_FILE_MAX, &text, &n);
    if (rc == ERR_NOT_FOUND) return file_write_atomic(s->o.fs, path, name, strlen(name));
    bool same = rc == OK && str_eq(str_from(text, n), str_of(name));
    s->rebind = rc == OK && (!same || fs_exists(s->o.fs, next));
    if (rc == OK && !same && !s->o.change_space)
        rc = err_set(ERR_INVALID,
                     "%s: its vectors are of space '%.*s' and the model gives '%s': start with the "
                     "model that made them, use another directory, or see 'kith space --help'",
                     s->dir, (int)n, (const char *)text, name);
    mem_free(text);
    return rc == OK && s->rebind ? file_write_atomic(s->o.fs, next, name, strlen(name)) : rc;
}

static err rebind_some(shard *s, journal_reader *r, arena *a, uint64_t head) {
    TRY(store_begin(s->store));
    err rc = OK;
    for (unsigned i = 0; rc == OK && i < REBIND_RECORDS && journal_reader_lsn(r) <= head; i++) {
        journal_record rec;
        arena_reset(a);
        rc = journal_read(r, &rec);
        bool vector =
            rc == OK && (rec.kind == JOURNAL_VECTOR_PUT || rec.kind == JOURNAL_VECTOR_FAILED);
        if (vector) rc = shard_unseal(s, a, &rec);
        if (vector && rc == OK) rc = shard_store_vector(s, &rec, a);
    }
    if (rc == OK) return store_commit(s->store, store_position(s->store));
    store_abort(s->store);
    return rc;
}

static err rebind_all(shard *s) {
    uint64_t head = store_position(s->store), first = journal_first_lsn(s->journal);
    journal_reader *r;
    TRY(store_begin(s->store));
    TRY(store_forget_vectors(s->store));
    TRY(store_commit(s->store, head));
    if (head < first) return OK;
    TRY(journal_reader_open(s->journal, first, &r));
    arena a;
    arena_init(&a, 4 * JOURNAL_BODY_MAX);
    err rc = OK;
    while (rc == OK && journal_reader_lsn(r) <= head) {
        rc = rebind_some(s, r, &a, head);
        if (s->o.progress)
            s->o.progress(s->o.progress_ctx, "changing the space", journal_reader_lsn(r), head);
    }
    journal_reader_close(r);
    arena_deinit(&a);
    return rc;
}

err shard_space_rebind(shard *s) {
    char path[PATH_BYTES], next[PATH_BYTES];
    path_of(s, "space", path);
    path_of(s, "space.next", next);
    TRY(rebind_all(s));
    TRY(file_write_atomic(s->o.fs, path, s->spaces[0].name, strlen(s->spaces[0].name)));
    return fs_unlink(s->o.fs, next);
}

/* ---- reading ---- */

unsigned shard_space_count(const shard *s) {
    return s->space_count;
}
const char *shard_space_name(const shard *s, unsigned i) {
    return s->spaces[i].name;
}
uint32_t shard_space_dim(const shard *s, unsigned i) {
    return s->spaces[i].dim;
}

const hnsw *shard_space_begin(shard *s, unsigned i) {
    rwlock_read(&s->spaces[i].vectors_lock);
    return s->spaces[i].vectors;
}

void shard_space_end(shard *s, unsigned i) {
    rwlock_unlock(&s->spaces[i].vectors_lock);
}

void shard_space_stat(shard *s, unsigned i, shard_space_stats *out) {
    space *sp = &s->spaces[i];
    const hnsw *h = shard_space_begin(s, i);
    out->vectors = hnsw_count(h);
    out->memory = hnsw_stats_get(h).bytes;
    shard_space_end(s, i);
    mutex_lock(&sp->vec_writer);
    out->failed = sp->failed;
    out->pending = sp->missing;
    mutex_unlock(&sp->vec_writer);
}

/* ---- what a space lacks ---- */

void shard_space_retry(shard *s, unsigned i) {
    space *sp = &s->spaces[i];
    mutex_lock(&sp->vec_writer);
    for (size_t d = 0; d < sp->vec_cap && sp->failed; d++) shard_vec_forgive(sp, &sp->vec[d]);
    mutex_unlock(&sp->vec_writer);
    mutex_lock(&s->mu);
    cond_broadcast(&s->moved);
    mutex_unlock(&s->mu);
}

/* Up to `limit` documents; a part of the way round. */
static size_t look(space *sp, uint32_t *docs, size_t limit) {
    size_t n = 0;
    mutex_lock(&sp->vec_writer);
    unsigned left = (unsigned)MIN(sp->vec_cap, (size_t)LOOK_MAX);
    while (left-- > 0 && n < limit && n < sp->missing) {
        if (sp->look_at == 0 || sp->look_at > sp->vec_cap) sp->look_at = (uint32_t)sp->vec_cap;
        uint32_t doc = --sp->look_at;
        if (!shard_vec_lacking(&sp->vec[doc])) continue;
        if (n == 0) left = MIN(left, (unsigned)LOOK_ENOUGH);
        docs[n++] = doc;
    }
    mutex_unlock(&sp->vec_writer);
    return n;
}

/* Their rows; a document whose row is of another text by now is not among them. */
static err rows_of(space *sp, const uint32_t *docs, size_t n, arena *a, shard_rows *out) {
    out->items = arena_zalloc(a, n, sizeof *out->items);
    if (!out->items) return ERR_NO_MEMORY;
    store_reader *r = store_reader_get(sp->s->store);
    err rc = OK;
    for (size_t i = 0; i < n && rc == OK; i++) {
        store_row *row = &out->items[out->count];
        rc = store_get_doc(r, docs[i], a, row);
        mutex_lock(&sp->vec_writer);
        if (rc == OK) out->count += sp->vec[docs[i]].want == row->text_hash;
        mutex_unlock(&sp->vec_writer);
        if (rc == ERR_NOT_FOUND) rc = OK;
    }
    store_reader_put(sp->s->store, r);
    return rc;
}

static bool lacks_any(space *sp) {
    mutex_lock(&sp->vec_writer);
    bool any = sp->missing > 0;
    mutex_unlock(&sp->vec_writer);
    return any;
}

err shard_space_pending(shard *s, unsigned i, size_t limit, uint64_t timeout_ms, arena *a,
                        shard_rows *out) {
    space *sp = &s->spaces[i];
    uint64_t end = clock_mono_ns() + timeout_ms * 1000000u;
    uint32_t *docs = arena_alloc(a, limit * sizeof *docs);
    *out = (shard_rows){0};
    if (!docs) return ERR_NO_MEMORY;
    for (;;) {
        bool any = lacks_any(sp);
        mutex_lock(&s->mu);
        uint64_t now = clock_mono_ns();
        bool stop = s->closing || now >= end, ready = any && !s->catching_up;
        if (!stop && !ready) (void)cond_wait_ms(&s->moved, &s->mu, (end - now) / 1000000u + 1);
        mutex_unlock(&s->mu);
        size_t n = ready ? look(sp, docs, limit) : 0;
        if (n) TRY(rows_of(sp, docs, n, a, out));
        if (out->count || stop) return OK;
    }
}
