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
 * When: after SNAPSHOT_RECORDS records, or SNAPSHOT_IDLE_MS after the first change, or soon after a
 * delete, because a deleted text must leave this file as well; but never for more than a 20th of
 * the time.
 */
#include "shard/shard_int.h"
#include "shard/snapfile.h"

enum { KEEP_TICK_MS = 500, DOC_ENTRY = 24 };

/* ---- writing ---- */

static err write_docs(shard *s, const writer *w) {
    uint8_t head[8] = {0};
    le32_put(head, s->doc_limit);
    le32_put(head + 4, s->o.dim);
    TRY(writer_put(w, head, sizeof head));
    for (uint32_t d = 0; d < s->doc_limit; d++) {
        uint8_t b[DOC_ENTRY] = {0};
        le64_put(b, s->rev[d]);
        if (d < s->vec_cap) {
            le64_put(b + 8, s->vec[d].want);
            le64_put(b + 16, s->vec[d].have);
        }
        TRY(writer_put(w, b, sizeof b));
    }
    return OK;
}

static err write_sections(shard *s, snapfile_writer *f) {
    writer w;
    TRY(snapfile_section(f, "space", &w));
    TRY(writer_put(&w, s->space, strlen(s->space)));
    TRY(snapfile_section(f, "docs", &w));
    TRY(write_docs(s, &w));
    TRY(snapfile_section(f, "attrs", &w));
    TRY(attrs_save(s->attrs, &w));
    TRY(snapfile_section(f, "words", &w));
    TRY(lexical_save(s->words, &w));
    TRY(snapfile_section(f, "graph", &w));
    return hnsw_save(s->vectors, &w);
}

/* Waits until no vector is on its way. The gate is held, so none is added but by catch-up. */
static bool drain_vectors(shard *s) {
    mutex_lock(&s->mu);
    while ((s->queue_count || s->vec_busy) && !s->closing) cond_wait(&s->moved, &s->mu);
    bool ok = !s->closing || (s->queue_count == 0 && !s->vec_busy);
    mutex_unlock(&s->mu);
    return ok;
}

static err write_gated(shard *s, snapfile_writer *f, uint64_t *lsn) {
    mutex_lock(&s->gate);
    bool drained = drain_vectors(s);
    mutex_lock(&s->vec_writer);
    rwlock_read(&s->words_lock);
    rwlock_read(&s->vectors_lock);
    *lsn = store_position(s->store);
    err rc = drained || !s->vec_on ? write_sections(s, f) : ERR_CANCELLED;
    if (rc == OK) {
        mutex_lock(&s->mu); /* what comes from here on is not in the file */
        s->change_lsn = 0;
        s->changed_ns = s->erased_ns = 0;
        mutex_unlock(&s->mu);
    }
    rwlock_unlock(&s->vectors_lock);
    rwlock_unlock(&s->words_lock);
    mutex_unlock(&s->vec_writer);
    mutex_unlock(&s->gate);
    return rc;
}

err shard_snapshot_write(shard *s) {
    uint64_t began = clock_mono_ns(), lsn = 0;
    snapfile_writer *f;
    TRY(snapfile_create(s->o.fs, s->snap_path, &f));
    err rc = write_gated(s, f, &lsn);
    if (rc != OK) {
        snapfile_abort(f);
        return rc;
    }
    rc = snapfile_finish(f, lsn, journal_id(s->journal));
    uint64_t size = 0;
    file *sf;
    if (rc == OK && file_open(s->o.fs, s->snap_path, FILE_READ, &sf) == OK) {
        if (file_size(sf, &size) != OK) size = 0;
        file_close(sf);
    }
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

static err load_docs(shard *s, const uint8_t *p, size_t size) {
    reader r = reader_of(p, size);
    uint32_t n = reader_u32(&r), dim = reader_u32(&r);
    const uint8_t *b = reader_array(&r, n, DOC_ENTRY);
    if (!b || r.left || dim != s->o.dim || n > LEXICAL_DOC_MAX)
        return err_set(ERR_CORRUPT, "index snapshot: section 'docs' has a wrong size");
    if (n == 0) return OK;
    TRY(shard_docs_reserve(s, n - 1));
    TRY(mem_grow((void **)&s->vec, &s->vec_cap, n, sizeof *s->vec, LEXICAL_DOC_MAX));
    memset(s->vec, 0, s->vec_cap * sizeof *s->vec);
    for (uint32_t d = 0; d < n; d++, b += DOC_ENTRY) {
        s->rev[d] = le64_get(b);
        s->vec[d].want = le64_get(b + 8);
        s->vec[d].have = le64_get(b + 16);
    }
    return OK;
}

/* Each document's entry must agree with what the structures hold. */
static err check_docs(const shard *s) {
    for (uint32_t d = 0; d < s->doc_limit; d++) {
        bool live = s->rev[d] != 0, vec = d < s->vec_cap && s->vec[d].have != 0;
        if (lexical_has(s->words, d) != live || attrs_has(s->attrs, d) != live ||
            hnsw_has(s->vectors, d) != vec)
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
    if (!str_eq(str_from(p, n), str_of(s->space)))
        return err_set(ERR_CORRUPT, "index snapshot: of another space");
    TRY(snapfile_get(f, "docs", &p, &n));
    TRY(load_docs(s, p, n));
    TRY(snapfile_get(f, "attrs", &p, &n));
    TRY(attrs_load(p, n, &s->attrs));
    TRY(snapfile_get(f, "words", &p, &n));
    TRY(lexical_load(p, n, &s->words));
    TRY(snapfile_get(f, "graph", &p, &n));
    TRY(hnsw_load(p, n, &(hnsw_options){.dim = s->o.dim}, &s->vectors));
    return check_docs(s);
}

static void clear_indexes(shard *s) {
    attrs_free(s->attrs);
    lexical_free(s->words);
    hnsw_free(s->vectors);
    s->attrs = NULL;
    s->words = NULL;
    s->vectors = NULL;
    s->doc_limit = 0;
    if (s->rev) memset(s->rev, 0, s->rev_cap * sizeof *s->rev);
    if (s->vec) memset(s->vec, 0, s->vec_cap * sizeof *s->vec);
}

err shard_load(shard *s, uint64_t *lsn) {
    snapfile f;
    *lsn = 0;
    err rc = snapfile_open(s->o.fs, s->snap_path, &f);
    if (rc == OK && memcmp(f.id, journal_id(s->journal), SNAPFILE_ID_BYTES) != 0)
        rc = err_set(ERR_CORRUPT, "index snapshot: of another journal");
    if (rc == OK && f.lsn > journal_head_lsn(s->journal))
        rc = err_set(ERR_CORRUPT, "index snapshot: newer than the journal");
    if (rc == OK) rc = load_sections(s, &f);
    if (rc == OK) {
        *lsn = f.lsn;
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
    TRY(lexical_new(NULL, &s->words));
    return hnsw_new(&(hnsw_options){.dim = s->o.dim}, &s->vectors);
}

/* ---- reconciling ---- */

typedef struct reconcile {
    shard *s;
    uint64_t *seen; /* bits: documents that the store has */
    size_t seen_docs;
    uint32_t *stale; /* documents to put again */
    size_t stale_count, stale_cap;
    bool vectors_missing;
} reconcile;

static err visit_brief(void *ctx, const store_brief *b) {
    reconcile *c = ctx;
    shard *s = c->s;
    if (b->doc < c->seen_docs) bits_set(c->seen, b->doc);
    TRY(shard_vec_want(s, b->doc, b->text_hash));
    if (b->embedded && s->vec[b->doc].have != b->text_hash) c->vectors_missing = true;
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
        if (d < s->vec_cap && (s->vec[d].want || s->vec[d].have)) TRY(shard_vec_want(s, d, 0));
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

err shard_reconcile(shard *s) {
    reconcile c = {.s = s, .seen_docs = s->doc_limit};
    c.seen = mem_zalloc(bits_words(c.seen_docs) + 1, sizeof *c.seen);
    if (!c.seen) return ERR_NO_MEMORY;
    store_reader *r = store_reader_get(s->store);
    err rc = store_scan(r, visit_brief, &c);
    store_reader_put(s->store, r);
    if (rc == OK) rc = drop_gone(&c);
    if (rc == OK) rc = put_stale(&c);
    if (rc == OK && (c.stale_count || c.vectors_missing)) {
        s->change_lsn = store_position(s->store);
        s->changed_ns = clock_mono_ns();
    }
    s->catching_up = rc == OK && c.vectors_missing;
    mem_free(c.stale);
    mem_free(c.seen);
    return rc;
}
