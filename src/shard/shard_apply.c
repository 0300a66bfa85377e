/* The apply thread: journal records in order, into the store and the word indexes.
 *
 * A batch is up to APPLY_RECORDS_MAX records. First all of them go into the store in one
 * transaction, which also moves the store's position; when it is committed, the indexes follow, op
 * by op, each under a short write lock. So a search may for a moment miss a row that it found in an
 * index (a post just deleted) but never shows a row of another version: hits carry `rev`.
 *
 * Failures: when the store cannot commit (disk full), the whole batch is taken back and tried again
 * until it works or the shard closes; nothing is acknowledged from here, so nothing is lost. After
 * the commit an index operation that finds no memory is tried again alone, for the same reason.
 */
#include "shard/shard_int.h"

typedef enum op_kind {
    OP_NONE,
    OP_PUT,
    OP_DELETE,
    OP_VECTOR,
    OP_FAILED,
    OP_ERASE,
    OP_BESIDE
} op_kind;

/* What one record means for the indexes. Pointers live in the batch's arena. */
typedef struct op {
    op_kind kind;
    uint64_t lsn;
    uint32_t *docs; /* of an erasure */
    size_t doc_count;
    uint32_t doc;
    uint64_t text_hash;
    const Kith__V1__Post *post;
    store_change change;
    const uint8_t *f16;
    size_t f16_size;
    const journal_record *record; /* of OP_BESIDE: a vector of another space than the first */
    trace_context trace;          /* of the request; sampled or none */
} op;

typedef struct batch {
    journal_record *records;
    op *ops;
    size_t count;
    size_t bytes;
    arena mem;
} batch;

/* ---- reading a batch ---- */

static err batch_add(shard *s, batch *b, const journal_record *r) {
    journal_record *to = &b->records[b->count];
    *to = *r;
    uint8_t *key = arena_alloc(&b->mem, r->key.len + 1),
            *body = arena_alloc(&b->mem, r->body.len + 1);
    if (!key || !body) return ERR_NO_MEMORY;
    memcpy(key, r->key.ptr, r->key.len);
    if (r->body.len) memcpy(body, r->body.ptr, r->body.len);
    to->key = str_from(key, r->key.len);
    to->body = str_from(body, r->body.len);
    TRY(shard_unseal(s, &b->mem, to));
    b->bytes += r->body.len;
    b->count++;
    return OK;
}

/* Fills the batch; OK with count 0 at the durable end. */
static err batch_read(shard *s, batch *b, journal_reader *r) {
    arena_reset(&b->mem);
    b->count = b->bytes = 0;
    b->records = arena_alloc(&b->mem, APPLY_RECORDS_MAX * sizeof *b->records);
    b->ops = arena_alloc(&b->mem, APPLY_RECORDS_MAX * sizeof *b->ops);
    if (!b->records || !b->ops) return ERR_NO_MEMORY;
    while (b->count < APPLY_RECORDS_MAX && b->bytes < APPLY_BYTES_MAX) {
        journal_record rec;
        err rc = journal_read(r, &rec);
        if (rc == ERR_NOT_FOUND) return OK;
        if (rc != OK && b->count) return OK; /* told when it is the first of a batch */
        TRY(rc);
        TRY(batch_add(s, b, &rec));
    }
    return OK;
}

/* ---- store ---- */

static err bad_body(const journal_record *r) {
    return err_set(ERR_CORRUPT, "journal record %llu: a %s body that this program cannot read",
                   (unsigned long long)r->lsn, journal_kind_name(r->kind));
}

static void forget(const shard *s, const Kith__V1__Post *old) {
    if (old && s->o.forget) s->o.forget(s->o.forget_ctx, str_of(old->text));
}

static err store_post_put(shard *s, const journal_record *r, arena *a, op *o) {
    Kith__V1__PostPut *m =
        kith__v1__post_put__unpack(ARENA_PB(a), r->body.len, (const uint8_t *)r->body.ptr);
    if (!m || !m->post || shard_check_post(m->post) != OK) return bad_body(r);
    TRY(store_put(s->store, m->post, r->lsn, HLC_MS(r->time), a, &o->change));
    if (o->change.outcome == STORE_UNCHANGED) return OK;
    if (o->change.old && strcmp(o->change.old->text, m->post->text) != 0) forget(s, o->change.old);
    o->kind = OP_PUT;
    o->doc = o->change.doc;
    o->text_hash = o->change.text_hash;
    o->post = m->post;
    o->trace = shard_trace_unpack(m->trace);
    return OK;
}

/* The store knows of the first space's vectors only; those of others go to their graphs. */
static bool first_space(shard *s, const char *name, const journal_record *r, op *o) {
    const space *sp = shard_space_find(s, str_of(name));
    if (sp == s->spaces) return true;
    if (sp) *o = (op){.kind = OP_BESIDE, .lsn = r->lsn, .record = r};
    return false;
}

static err store_vector_put(shard *s, const journal_record *r, arena *a, op *o) {
    Kith__V1__VectorPut *m =
        kith__v1__vector_put__unpack(ARENA_PB(a), r->body.len, (const uint8_t *)r->body.ptr);
    if (!m) return bad_body(r);
    if (!first_space(s, m->space, r, o)) return OK;
    if (m->f16.len != (size_t)s->o.dim * 2) return bad_body(r);
    bool current = false;
    TRY(store_vector(s->store, r->key, m->text_hash, &o->doc, &current));
    if (!current) return OK;
    o->kind = OP_VECTOR;
    o->text_hash = m->text_hash;
    o->f16 = m->f16.data;
    o->f16_size = m->f16.len;
    return OK;
}

static err store_vector_fail(shard *s, const journal_record *r, arena *a, op *o) {
    Kith__V1__VectorFailed *m =
        kith__v1__vector_failed__unpack(ARENA_PB(a), r->body.len, (const uint8_t *)r->body.ptr);
    if (!m) return bad_body(r);
    if (!first_space(s, m->space, r, o)) return OK;
    bool current = false;
    TRY(store_vector_failed(s->store, r->key, m->text_hash, str_of(m->reason), &o->doc, &current));
    if (!current) return OK;
    o->kind = OP_FAILED;
    o->text_hash = m->text_hash;
    return OK;
}

static err store_record(shard *s, const journal_record *r, arena *a, op *o) {
    memset(o, 0, sizeof *o);
    o->lsn = r->lsn;
    if (r->redacted) return OK;
    switch (r->kind) {
    case JOURNAL_POST_PUT:
        return store_post_put(s, r, a, o);
    case JOURNAL_VECTOR_PUT:
        return store_vector_put(s, r, a, o);
    case JOURNAL_VECTOR_FAILED:
        return store_vector_fail(s, r, a, o);
    case JOURNAL_USER_ERASE:
        o->kind = OP_ERASE;
        return shard_store_erase(s, r, a, &o->docs, &o->doc_count);
    case JOURNAL_POST_DELETE: {
        Kith__V1__Post *old;
        err rc = store_delete(s->store, r->key, a, &o->doc, &old);
        if (rc == OK) forget(s, old);
        if (rc == OK) o->kind = OP_DELETE;
        return rc == ERR_NOT_FOUND ? OK : rc;
    }
    default:
        return OK; /* other folds' business */
    }
}

err shard_store_vector(shard *s, const journal_record *r, arena *a) {
    op o;
    return store_record(s, r, a, &o);
}

static err store_batch(shard *s, batch *b) {
    TRY(store_begin(s->store));
    err rc = OK;
    for (size_t i = 0; i < b->count && rc == OK; i++) {
        rc = store_record(s, &b->records[i], &b->mem, &b->ops[i]);
        if (rc != ERR_CORRUPT || str_find(str_of(err_detail()), STR("journal record")) < 0)
            continue;
        shard_notice(s, "%s: skipped", err_detail());
        b->ops[i].kind = OP_NONE;
        rc = OK;
    }
    if (rc == OK) rc = store_commit(s->store, b->records[b->count - 1].lsn);
    if (rc != OK) store_abort(s->store);
    return rc;
}

/* ---- indexes ---- */

static bool word_after(const char *text, char c) {
    for (const char *p = text; (p = strchr(p, c)); p++) {
        bool start = p == text || p[-1] == ' ' || p[-1] == '\n' || p[-1] == '(';
        unsigned char n = (unsigned char)p[1];
        if (start && (n >= 0x80 || (n >= '0' && n <= '9') || (n | 32) >= 'a')) return true;
    }
    return false;
}

static bool has_any(const char *text, const char *const *needles, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strstr(text, needles[i])) return true;
    return false;
}

/* What the filters has: and is: ask for. */
static uint32_t flags_of(const Kith__V1__Post *p) {
    static const char *const links[] = {"http://", "https://", "www."};
    static const char *const questions[] = {"?", "\xef\xbc\x9f",
                                            "\xd8\x9f"}; /* full width, Arabic */
    static const char *const media[] = {"\"media\"", "\"images\"", "\"attachments\""};
    uint32_t f = 0;
    if (p->reply_to && p->reply_to[0]) f |= ATTRS_REPLY;
    if (has_any(p->text, links, COUNT_OF(links))) f |= ATTRS_LINK;
    if (has_any(p->text, questions, COUNT_OF(questions))) f |= ATTRS_QUESTION;
    if (p->extra && has_any(p->extra, media, COUNT_OF(media))) f |= ATTRS_MEDIA;
    if (p->n_tags || word_after(p->text, '#')) f |= SHARD_TAGGED;
    if (word_after(p->text, '@')) f |= SHARD_MENTION;
    return f;
}

err shard_docs_reserve(shard *s, uint32_t doc) {
    if (doc < s->doc_limit) return OK;
    size_t old = s->rev_cap;
    TRY(mem_grow((void **)&s->rev, &s->rev_cap, (size_t)doc + 1, sizeof *s->rev, LEXICAL_DOC_MAX));
    if (s->rev_cap > old) memset(s->rev + old, 0, (s->rev_cap - old) * sizeof *s->rev);
    s->doc_limit = doc + 1;
    return OK;
}

static err attrs_put(shard *s, uint32_t doc, const Kith__V1__Post *p, str root) {
    str tags[POST_TAGS_MAX];
    size_t n = MIN(p->n_tags, POST_TAGS_MAX);
    for (size_t i = 0; i < n; i++) tags[i] = str_of(p->tags[i]);
    attrs_value v = {.author = str_of(p->author),
                     .thread = root,
                     .channel = str_of(p->channel),
                     .lang = str_of(p->lang),
                     .created_ms = p->created_at->seconds * 1000 + p->created_at->nanos / 1000000,
                     .flags = flags_of(p),
                     .tags = tags,
                     .n_tags = n};
    return attrs_set(s->attrs, doc, &v);
}

static err index_words(shard *s, uint32_t doc, const Kith__V1__Post *p, str root, uint64_t rev,
                       const token_list *t) {
    TRY(shard_docs_reserve(s, doc));
    if (t) {
        if (lexical_has(s->words, doc)) TRY(lexical_delete(s->words, doc));
        TRY(lexical_insert(s->words, doc, t->items, t->count));
    }
    TRY(attrs_put(s, doc, p, root));
    s->rev[doc] = rev;
    return OK;
}

err shard_index_row(shard *s, uint32_t doc, const Kith__V1__Post *post, uint64_t rev, arena *a) {
    token_list t;
    TRY(analyze(a, str_of(post->text), &t));
    rwlock_write(&s->words_lock);
    err rc = index_words(s, doc, post, str_of(post->thread), rev, &t);
    rwlock_unlock(&s->words_lock);
    return rc;
}

void shard_unindex(shard *s, uint32_t doc) {
    rwlock_write(&s->words_lock);
    if (doc < s->doc_limit) {
        if (lexical_has(s->words, doc)) {
            err rc = lexical_delete(s->words, doc);
            if (rc != OK) shard_notice(s, "words: document %u not removed: %s", doc, err_detail());
        }
        attrs_clear(s->attrs, doc);
        s->rev[doc] = 0;
    }
    rwlock_unlock(&s->words_lock);
}

/* Replies whose root became known: only their thread changes. The strings that attrs gives out are
 * valid until its next change, so they are copied before they go in again. */
static err reroot_doc(shard *s, uint32_t doc, str root, arena *a) {
    str tags[ATTRS_TAGS_MAX];
    attrs_value v;
    if (doc >= s->doc_limit || !attrs_get(s->attrs, doc, &v, tags)) return OK;
    str *parts[] = {&v.author, &v.channel, &v.lang};
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        parts[i]->ptr = arena_dup(a, *parts[i]);
        if (!parts[i]->ptr) return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < v.n_tags; i++) {
        tags[i].ptr = arena_dup(a, tags[i]);
        if (!tags[i].ptr) return ERR_NO_MEMORY;
    }
    v.tags = tags;
    v.thread = root;
    return attrs_set(s->attrs, doc, &v);
}

static err reroot(shard *s, const op *o, arena *a) {
    for (size_t i = 0; i < o->change.rerooted_count; i++) {
        uint32_t doc = o->change.rerooted[i];
        TRY(reroot_doc(s, doc, o->change.thread, a));
        if (doc < s->doc_limit) s->rev[doc] = o->lsn;
    }
    return OK;
}

static err op_put(shard *s, const op *o, arena *a) {
    token_list t;
    if (o->change.text_changed) {
        TRY(analyze(a, str_of(o->post->text), &t));
        TRY(shard_vec_want(s, o->doc, o->text_hash));
    }
    rwlock_write(&s->words_lock);
    err rc = index_words(s, o->doc, o->post, o->change.thread, o->lsn,
                         o->change.text_changed ? &t : NULL);
    if (rc == OK) rc = reroot(s, o, a);
    rwlock_unlock(&s->words_lock);
    return rc;
}

static err op_run(shard *s, const op *o, arena *a) {
    switch (o->kind) {
    case OP_PUT:
        return op_put(s, o, a);
    case OP_DELETE:
        TRY(shard_vec_want(s, o->doc, 0));
        shard_unindex(s, o->doc);
        return OK;
    case OP_ERASE:
        for (size_t i = 0; i < o->doc_count; i++) {
            TRY(shard_vec_want(s, o->docs[i], 0));
            shard_unindex(s, o->docs[i]);
        }
        return OK;
    case OP_VECTOR:
        return shard_vec_push(s->spaces, o->doc, o->text_hash, o->f16, o->f16_size);
    case OP_FAILED:
        shard_vec_failed(s->spaces, o->doc, o->text_hash);
        return OK;
    case OP_BESIDE:
        return shard_vec_record(s, o->record, a);
    default:
        return OK;
    }
}

/* One record is in store and words: its trace, when it has one, goes on. */
static void follow_trace(const op *o, uint64_t start) {
    if (!o->trace.sampled) return;
    trace_follow(&o->trace, "fold.words", start);
    trace_remember(o->text_hash, &o->trace);
}

static void mark_erased(shard *s) {
    mutex_lock(&s->mu);
    if (!s->erased_ns) s->erased_ns = clock_mono_ns();
    s->erase_traces = true;
    mutex_unlock(&s->mu);
}

static void index_batch(shard *s, batch *b) {
    arena a;
    arena_init(&a, 64 * MIB);
    for (size_t i = 0; i < b->count; i++) {
        const op *o = &b->ops[i];
        uint64_t start = clock_mono_ns();
        for (;;) {
            arena_reset(&a);
            err rc = op_run(s, o, &a);
            if (rc == OK || rc == ERR_CANCELLED) break;
            shard_notice(s, "indexing record %llu: %s; trying again", (unsigned long long)o->lsn,
                         err_detail());
            shard_pause(s);
            if (shard_closing(s)) break;
        }
        follow_trace(o, start);
        if (o->kind == OP_DELETE || o->kind == OP_ERASE || (o->kind == OP_PUT && o->change.old))
            mark_erased(s);
    }
    arena_deinit(&a);
}

static void set_applied(shard *s, const journal_record *last) {
    mutex_lock(&s->mu);
    s->applied_lsn = last->lsn;
    s->applied_time = last->time;
    s->change_lsn = last->lsn;
    if (!s->changed_ns) s->changed_ns = clock_mono_ns();
    cond_broadcast(&s->moved);
    mutex_unlock(&s->mu);
}

static err apply_batch(shard *s, batch *b, uint64_t start) {
    mutex_lock(&s->gate);
    err rc;
    while ((rc = store_batch(s, b)) != OK) {
        shard_notice(s, "store: %s; writes are safe in the journal, trying again", err_detail());
        mutex_unlock(&s->gate);
        shard_pause(s);
        if (shard_closing(s)) return ERR_CANCELLED;
        mutex_lock(&s->gate);
    }
    uint64_t stored = clock_mono_ns();
    span_closed("fold.store", start, stored);
    metric_record(M_FOLD_SECONDS, FOLD_STORE, stored - start);
    metric_add(M_FOLD_RECORDS, FOLD_STORE, b->count);
    index_batch(s, b);
    span_closed("fold.words", stored, clock_mono_ns());
    metric_record(M_FOLD_SECONDS, FOLD_WORDS, clock_mono_ns() - stored);
    metric_add(M_FOLD_RECORDS, FOLD_WORDS, b->count);
    set_applied(s, &b->records[b->count - 1]);
    mutex_unlock(&s->gate);
    return OK;
}

/* One batch; *idle when there was none. */
static err apply_step(shard *s, journal_reader *r, batch *b, bool *idle) {
    TRY(batch_read(s, b, r));
    *idle = b->count == 0;
    if (*idle) return OK;
    uint64_t start = clock_mono_ns();
    trace_root t;
    trace_root_begin(&t, "fold.apply batch", SPAN_CONSUMER, (str){"", 0});
    err rc = apply_batch(s, b, start);
    span_number(&t.span, "db.operation.batch.size", (int64_t)b->count);
    trace_root_end(&t, rc == OK || rc == ERR_CANCELLED);
    return rc;
}

void shard_apply_main(void *arg) {
    shard *s = arg;
    journal_reader *r = NULL;
    batch b = {0};
    arena_init(&b.mem, APPLY_BYTES_MAX * 8 + JOURNAL_BODY_MAX * 8);
    err rc = journal_reader_open(s->journal, s->applied_lsn + 1, &r);
    while (rc == OK && !shard_closing(s)) {
        bool idle = false;
        rc = apply_step(s, r, &b, &idle);
        if (rc == OK && idle) {
            err w = journal_wait(s->journal, journal_reader_lsn(r), 1000);
            (void)w; /* a time-out and a wake-up both mean: look again */
        }
        if (rc == ERR_NO_MEMORY || rc == ERR_AGAIN) { /* nothing was read: try again later */
            shard_notice(s, "reading the journal: %s; trying again", err_detail());
            shard_pause(s);
            rc = OK;
        }
    }
    if (rc != OK && rc != ERR_CANCELLED)
        shard_notice(s, "folding stopped: %s; searches go on, new posts are not shown",
                     err_detail());
    if (r) journal_reader_close(r);
    arena_deinit(&b.mem);
}

err shard_apply_store(shard *s) {
    uint64_t at = store_position(s->store), head = journal_head_lsn(s->journal);
    if (at == head) return OK;
    journal_reader *r;
    TRY(journal_reader_open(s->journal, at + 1, &r));
    batch b = {0};
    arena_init(&b.mem, APPLY_BYTES_MAX * 8 + JOURNAL_BODY_MAX * 8);
    err rc = OK;
    for (uint64_t done = at; rc == OK && done < head;) {
        rc = batch_read(s, &b, r);
        if (rc != OK || b.count == 0) break;
        rc = store_batch(s, &b);
        done = b.records[b.count - 1].lsn;
        s->applied_time = b.records[b.count - 1].time;
        if (s->o.progress) s->o.progress(s->o.progress_ctx, "folding the journal", done, head);
    }
    journal_reader_close(r);
    arena_deinit(&b.mem);
    return rc;
}
