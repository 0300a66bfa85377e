/* The index snapshot: written in the background, replaced atomically, loaded at start.
 *
 * It holds what is dear to make again: words, attributes and the graph, with the revision (LSN) and
 * the text hash of every document. It may be of any age: shard_reconcile brings it to the store's
 * state by comparing revisions, so the file is never needed, only useful.
 *
 * Writing: the gate stops the folds between two batches, the vector queue runs empty, and the
 * structures write themselves out; searches go on, new posts wait for that long (about 1 s for
 * 450,000 posts). The sync and the rename come after the gate is open again.
 *
 * The graphs of spaces beside the first are in files of their own, with the text hash of each document, written
 * under the same gate. When another space becomes the first, its graph is found in its own file and the old one's in
 * the index snapshot: each file says whose it is.
 *
 * When: after SNAPSHOT_RECORDS records, or SNAPSHOT_IDLE_MS after the first change, or soon after a
 * delete, because a deleted text must leave this file as well; but never for more than a 20th of
 * the time.
 */
#include "shard/shard_int.h"
#include "shard/snapfile.h"

enum { KEEP_TICK_MS = 500, DOC_ENTRY = 24, BESIDE_ENTRY = 16 };

/* ---- writing ---- */

static err write_docs(shard *s, const writer *w) {
    uint8_t head[8] = {0};
    le32_put(head, s->doc_limit);
    le32_put(head + 4, s->o.dim);
    TRY(writer_put(w, head, sizeof head));
    for (uint32_t d = 0; d < s->doc_limit; d++) {
        uint8_t b[DOC_ENTRY] = {0};
        le64_put(b, s->rev[d]);
        if (d < s->spaces[0].vec_cap) {
            le64_put(b + 8, s->spaces[0].vec[d].want);
            le64_put(b + 16, s->spaces[0].vec[d].have);
        }
        TRY(writer_put(w, b, sizeof b));
    }
    return OK;
}

static err write_sections(shard *s, snapfile_writer *f) {
    writer w;
    TRY(snapfile_section(f, "space", &w));
    TRY(writer_put(&w, s->spaces[0].name, strlen(s->spaces[0].name)));
    TRY(snapfile_section(f, "docs", &w));
    TRY(write_docs(s, &w));
    TRY(snapfile_section(f, "attrs", &w));
    TRY(attrs_save(s->attrs, &w));
    TRY(snapfile_section(f, "words", &w));
    TRY(lexical_save(s->words, &w));
    TRY(snapfile_section(f, "graph", &w));
    return hnsw_save(s->spaces[0].vectors, &w);
}

/* Of a space beside the first: by document, the text whose vector it has, and the one that failed. */
static err write_beside(const space *sp, snapfile_writer *f) {
    writer w;
    uint8_t head[8] = {0};
    TRY(snapfile_section(f, "space", &w));
    TRY(writer_put(&w, sp->name, strlen(sp->name)));
    TRY(snapfile_section(f, "docs", &w));
    le32_put(head, (uint32_t)sp->vec_cap);
    le32_put(head + 4, sp->dim);
    TRY(writer_put(&w, head, sizeof head));
    for (size_t d = 0; d < sp->vec_cap; d++) {
        uint8_t b[BESIDE_ENTRY];
        le64_put(b, sp->vec[d].have);
        le64_put(b + 8, sp->vec[d].failed ? sp->vec[d].want : 0);
        TRY(writer_put(&w, b, sizeof b));
    }
    TRY(snapfile_section(f, "graph", &w));
    return hnsw_save(sp->vectors, &w);
}

/* Waits until no vector is on its way. The gate is held, so none is added but by catch-up. */
static bool drain_vectors(shard *s) {
    mutex_lock(&s->mu);
    while (shard_vec_busy(s) && !s->closing) cond_wait(&s->moved, &s->mu);
    bool ok = !shard_vec_busy(s);
    mutex_unlock(&s->mu);
    return ok;
}

static void lock_all(shard *s) {
    for (unsigned i = 0; i < s->space_count; i++) mutex_lock(&s->spaces[i].vec_writer);
    rwlock_read(&s->words_lock);
    for (unsigned i = 0; i < s->space_count; i++) rwlock_read(&s->spaces[i].vectors_lock);
}

static void unlock_all(shard *s) {
    for (unsigned i = s->space_count; i-- > 0;) rwlock_unlock(&s->spaces[i].vectors_lock);
    rwlock_unlock(&s->words_lock);
    for (unsigned i = s->space_count; i-- > 0;) mutex_unlock(&s->spaces[i].vec_writer);
}

static err write_gated(shard *s, snapfile_writer **f, uint64_t *lsn) {
    mutex_lock(&s->gate);
    bool drained = drain_vectors(s);
    lock_all(s);
    *lsn = store_position(s->store);
    err rc = drained || !s->spaces[0].on ? write_sections(s, f[0]) : ERR_CANCELLED;
    for (unsigned i = 1; rc == OK && i < s->space_count; i++)
        rc = write_beside(&s->spaces[i], f[i]);
    if (rc == OK) {
        mutex_lock(&s->mu); /* what comes from here on is not in the files */
        s->change_lsn = 0;
        s->changed_ns = s->erased_ns = 0;
        mutex_unlock(&s->mu);
    }
    unlock_all(s);
    mutex_unlock(&s->gate);
    return rc;
}

static const char *file_of(const shard *s, unsigned i) {
    return i ? s->spaces[i].snap_path : s->snap_path;
}

static err write_files(shard *s, uint64_t *lsn) {
    snapfile_writer *f[SHARD_SPACES_MAX] = {NULL};
    err rc = OK;
    for (unsigned i = 0; rc == OK && i < s->space_count; i++)
        rc = snapfile_create(s->o.fs, file_of(s, i), &f[i]);
    if (rc == OK) rc = write_gated(s, f, lsn);
    for (unsigned i = 0; i < s->space_count; i++) {
        if (rc == OK)
            rc = snapfile_finish(f[i], *lsn, journal_id(s->journal));
        else if (f[i])
            snapfile_abort(f[i]);
    }
    return rc;
}

static uint64_t size_of(shard *s, const char *path) {
    uint64_t size = 0;
    file *f;
    if (file_open(s->o.fs, path, FILE_READ, &f) != OK) return 0;
    if (file_size(f, &size) != OK) size = 0;
    file_close(f);
    return size;
}

err shard_snapshot_write(shard *s) {
    uint64_t began = clock_mono_ns(), lsn = 0, size = 0;
    err rc = write_files(s, &lsn);
    if (rc == OK) shard_spaces_sweep(s);
    for (unsigned i = 0; rc == OK && i < s->space_count; i++) size += size_of(s, file_of(s, i));
    mutex_lock(&s->mu);
    s->snapshot_took_ns = clock_mono_ns() - began;
    if (rc == OK) {
        s->snapshot_lsn = lsn;
        s->snapshot_ns = clock_mono_ns();
        s->snapshot_bytes = size;
    } else if (!s->changed_ns) {
        s->changed_ns = clock_mono_ns(); /* still to be written */
    }
    cond_broadcast(&s->moved);
    mutex_unlock(&s->mu);
    return rc;
}

/* While old vectors are on their way back the snapshot would claim an LSN whose vectors it lacks. */
static bool snapshot_due(shard *s, uint64_t now) {
    if (s->catching_up || !s->changed_ns) return false;
    uint64_t spare = s->snapshot_took_ns * SNAPSHOT_SPARE;
    if (s->snapshot_ns && now - s->snapshot_ns < spare) return false;
    if (s->erased_ns && now - s->erased_ns > (uint64_t)SNAPSHOT_ERASE_MS * 1000000u) return true;
    if (s->change_lsn > s->snapshot_lsn + SNAPSHOT_RECORDS) return true;
    return now - s->changed_ns > (uint64_t)SNAPSHOT_IDLE_MS * 1000000u;
}

static void keep_once(shard *s) {
    mutex_lock(&s->mu);
    bool due = snapshot_due(s, clock_mono_ns()), traces = s->erase_traces;
    s->erase_traces = false;
    mutex_unlock(&s->mu);
    if (due) {
        err rc = shard_snapshot_write(s);
        if (rc != OK && rc != ERR_CANCELLED)
            shard_notice(s, "index snapshot: %s; the last one stays, trying again", err_detail());
        if (rc != OK) shard_pause(s);
    }
    if (!traces) return;
    mutex_lock(&s->gate);
    err rc = store_erase_traces(s->store);
    mutex_unlock(&s->gate);
    if (rc == OK) return;
    mutex_lock(&s->mu);
    s->erase_traces = true; /* a reader was in the way, or the disk is full: again later */
    mutex_unlock(&s->mu);
}

void shard_keep_main(void *arg) {
    shard *s = arg;
    while (!shard_closing(s)) {
        keep_once(s);
        mutex_lock(&s->mu);
        uint64_t end = clock_mono_ns() + (uint64_t)KEEP_TICK_MS * 1000000u;
        while (!s->closing && clock_mono_ns() < end)
            (void)cond_wait_ms(&s->moved, &s->mu, KEEP_TICK_MS);
        mutex_unlock(&s->mu);
    }
}

err shard_snapshot(shard *s) {
    mutex_lock(&s->mu);
    while (s->catching_up && !s->closing) cond_wait(&s->moved, &s->mu);
    mutex_unlock(&s->mu);
    return shard_snapshot_write(s);
}

/* ---- loading ---- */

/* The array of a section "docs": n entries of `entry` bytes. */
static err docs_of(const snapfile *f, size_t entry, uint32_t *n, uint32_t *dim, const uint8_t **b) {
    const uint8_t *p;
    size_t size;
    TRY(snapfile_get(f, "docs", &p, &size));
    reader r = reader_of(p, size);
    *n = reader_u32(&r);
    *dim = reader_u32(&r);
    *b = reader_array(&r, *n, entry);
    if (*b && !r.left && *n <= LEXICAL_DOC_MAX) return OK;
    return err_set(ERR_CORRUPT, "index snapshot: section 'docs' has a wrong size");
}

static err vec_room(space *sp, uint32_t n) {
    if (n == 0) return OK;
    TRY(mem_grow((void **)&sp->vec, &sp->vec_cap, n, sizeof *sp->vec, LEXICAL_DOC_MAX));
    memset(sp->vec, 0, sp->vec_cap * sizeof *sp->vec);
    return OK;
}

/* The graph in `f` must hold just the documents that the states say. */
static err load_graph(space *sp, const snapfile *f) {
    const uint8_t *p;
    size_t n;
    TRY(snapfile_get(f, "graph", &p, &n));
    TRY(hnsw_load(p, n, &(hnsw_options){.dim = sp->dim}, &sp->vectors));
    for (uint32_t d = 0; d < sp->vec_cap; d++)
        if (hnsw_has(sp->vectors, d) != (sp->vec[d].have != 0))
            return err_set(ERR_CORRUPT,
                           "index snapshot: document %u is in one index and not in "
                           "another",
                           d);
    sp->snapshot_lsn = f->lsn;
    return OK;
}

/* Revisions, and what the graph of the snapshot's space holds. */
static err load_docs(shard *s, const snapfile *f, space *sp) {
    const uint8_t *b;
    uint32_t n, dim;
    TRY(docs_of(f, DOC_ENTRY, &n, &dim, &b));
    if (sp && dim != sp->dim)
        return err_set(ERR_CORRUPT, "index snapshot: section 'docs' has a wrong size");
    if (n) TRY(shard_docs_reserve(s, n - 1));
    if (sp) TRY(vec_room(sp, n));
    for (uint32_t d = 0; d < n; d++, b += DOC_ENTRY) {
        s->rev[d] = le64_get(b);
        if (sp) sp->vec[d].have = le64_get(b + 16);
    }
    return OK;
}

/* Each document's entry must agree with what the structures hold. */
static err check_docs(const shard *s) {
    for (uint32_t d = 0; d < s->doc_limit; d++) {
        bool live = s->rev[d] != 0;
        if (lexical_has(s->words, d) != live || attrs_has(s->attrs, d) != live)
            return err_set(ERR_CORRUPT,
                           "index snapshot: document %u is in one index and not in "
                           "another",
                           d);
    }
    return OK;
}

static err load_sections(shard *s, const snapfile *f) {
    const uint8_t *p;
    size_t n;
    TRY(snapfile_get(f, "space", &p, &n));
    space *sp = shard_space_find(s, str_from(p, n));
    TRY(load_docs(s, f, sp));
    TRY(snapfile_get(f, "attrs", &p, &n));
    TRY(attrs_load(p, n, &s->attrs));
    TRY(snapfile_get(f, "words", &p, &n));
    TRY(lexical_load(p, n, &s->words));
    TRY(check_docs(s));
    return sp ? load_graph(sp, f) : OK;
}

/* A snapshot of this journal; ERR_NOT_FOUND: none. */
static err open_snapshot(shard *s, const char *path, snapfile *f) {
    TRY(snapfile_open(s->o.fs, path, f));
    if (memcmp(f->id, journal_id(s->journal), SNAPFILE_ID_BYTES) != 0)
        return err_set(ERR_CORRUPT, "index snapshot: of another journal");
    if (f->lsn > journal_head_lsn(s->journal))
        return err_set(ERR_CORRUPT, "index snapshot: newer than the journal");
    return OK;
}

static err load_beside(space *sp, const snapfile *f) {
    const uint8_t *p, *b;
    size_t size;
    uint32_t n, dim;
    TRY(snapfile_get(f, "space", &p, &size));
    TRY(docs_of(f, BESIDE_ENTRY, &n, &dim, &b));
    if (dim != sp->dim || !str_eq(str_from(p, size), str_of(sp->name)))
        return err_set(ERR_CORRUPT, "index snapshot: of another space");
    TRY(vec_room(sp, n));
    for (uint32_t d = 0; d < n; d++, b += BESIDE_ENTRY) {
        sp->vec[d].have = le64_get(b);
        uint64_t failed = le64_get(b + 8); /* counts while the text is still that one */
        if (failed) sp->vec[d].want = failed;
        sp->vec[d].failed = failed != 0;
        sp->failed += failed != 0;
    }
    return load_graph(sp, f);
}

static void clear_space(space *sp) {
    hnsw_free(sp->vectors);
    sp->vectors = NULL;
    sp->failed = sp->missing = 0;
    sp->snapshot_lsn = 0;
    if (sp->vec) memset(sp->vec, 0, sp->vec_cap * sizeof *sp->vec);
}

/* The graph of a space that the index snapshot did not have: its own file, or none. */
static err load_space(space *sp) {
    snapfile f;
    err rc = open_snapshot(sp->s, sp->snap_path, &f);
    if (rc == OK) rc = load_beside(sp, &f);
    snapfile_close(&f);
    if (rc == OK || rc == ERR_NO_MEMORY) return rc;
    if (rc != ERR_NOT_FOUND)
        shard_notice(sp->s, "%s; the graph of %s is made again from the journal", err_detail(),
                     sp->name);
    clear_space(sp);
    return hnsw_new(&(hnsw_options){.dim = sp->dim}, &sp->vectors);
}

static void clear_indexes(shard *s) {
    attrs_free(s->attrs);
    lexical_free(s->words);
    s->attrs = NULL;
    s->words = NULL;
    s->doc_limit = 0;
    if (s->rev) memset(s->rev, 0, s->rev_cap * sizeof *s->rev);
    for (unsigned i = 0; i < s->space_count; i++) clear_space(&s->spaces[i]);
}

static err load_indexes(shard *s) {
    snapfile f;
    err rc = open_snapshot(s, s->snap_path, &f);
    if (rc == OK) rc = load_sections(s, &f);
    if (rc == OK) {
        s->snapshot_lsn = f.lsn;
        s->snapshot_bytes = f.map.size;
        s->snapshot_ns = clock_mono_ns();
    }
    snapfile_close(&f);
    if (rc == OK || rc == ERR_NO_MEMORY) return rc;
    if (rc != ERR_NOT_FOUND)
        shard_notice(s, "%s; the indexes are made again from the store and the journal",
                     err_detail());
    clear_indexes(s);
    TRY(attrs_new(&s->attrs));
    return lexical_new(NULL, &s->words);
}

err shard_load(shard *s) {
    TRY(load_indexes(s));
    for (unsigned i = 0; i < s->space_count; i++)
        if (!s->spaces[i].vectors) TRY(load_space(&s->spaces[i]));
    return OK;
}

/* ---- reconciling ---- */

typedef struct reconcile {
    shard *s;
    uint64_t *seen; /* bits: documents that the store has */
    size_t seen_docs;
    uint32_t *stale; /* documents to put again */
    size_t stale_count, stale_cap;
} reconcile;

static err visit_brief(void *ctx, const store_brief *b) {
    reconcile *c = ctx;
    shard *s = c->s;
    if (b->doc < c->seen_docs) bits_set(c->seen, b->doc);
    TRY(shard_vec_want(s, b->doc, b->text_hash));
    if (b->embedded && s->spaces[0].vec[b->doc].have != b->text_hash) s->spaces[0].behind = true;
    if (b->doc < s->doc_limit && s->rev[b->doc] == b->rev) return OK;
    TRY(mem_grow((void **)&c->stale, &c->stale_cap, c->stale_count + 1, sizeof *c->stale,
                 LEXICAL_DOC_MAX));
    c->stale[c->stale_count++] = b->doc;
    return OK;
}

/* Documents that the indexes hold and the store does not. */
static err drop_gone(reconcile *c) {
    shard *s = c->s;
    for (uint32_t d = 0; d < c->seen_docs; d++) {
        if (bits_get(c->seen, d)) continue;
        if (d < s->doc_limit && s->rev[d]) shard_unindex(s, d);
        TRY(shard_vec_want(s, d, 0));
    }
    return OK;
}

static err put_stale(reconcile *c) {
    shard *s = c->s;
    arena a;
    arena_init(&a, 64 * MIB);
    err rc = OK;
    store_reader *r = store_reader_get(s->store);
    for (size_t i = 0; i < c->stale_count && rc == OK; i++) {
        store_row row;
        arena_reset(&a);
        rc = store_get_doc(r, c->stale[i], &a, &row);
        if (rc == OK) rc = shard_index_row(s, row.doc, row.post, row.rev, &a);
        if (s->o.progress && i % 1024 == 0)
            s->o.progress(s->o.progress_ctx, "indexing words", i, c->stale_count);
    }
    store_reader_put(s->store, r);
    arena_deinit(&a);
    return rc;
}

/* One above the last document that some index holds. */
static size_t docs_known(const shard *s) {
    size_t n = s->doc_limit;
    for (unsigned i = 0; i < s->space_count; i++) n = MAX(n, s->spaces[i].vec_cap);
    return n;
}

err shard_reconcile(shard *s) {
    reconcile c = {.s = s, .seen_docs = docs_known(s)};
    c.seen = mem_zalloc(bits_words(c.seen_docs) + 1, sizeof *c.seen);
    if (!c.seen) return ERR_NO_MEMORY;
    store_reader *r = store_reader_get(s->store);
    err rc = store_scan(r, visit_brief, &c);
    store_reader_put(s->store, r);
    if (rc == OK) rc = drop_gone(&c);
    if (rc == OK) rc = put_stale(&c);
    uint64_t head = store_position(s->store);
    for (unsigned i = 0; i < s->space_count; i++) {
        space *sp = &s->spaces[i];
        if (i) sp->behind = sp->snapshot_lsn < head;
        s->catching_up |= rc == OK && sp->behind;
    }
    if (rc == OK && (c.stale_count || s->catching_up)) {
        s->change_lsn = head;
        s->changed_ns = clock_mono_ns();
    }
    mem_free(c.stale);
    mem_free(c.seen);
    return rc;
}
