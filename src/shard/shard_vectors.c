/* Vectors on their way into the graph.
 *
 * The graph is behind two locks. vec_writer says who may change it (or change what it should hold);
 * vectors_lock says who may look. New vectors are taken from the queue in batches and planned side by side
 * by this thread and helpers, which read only: under a READ lock, so searches go on while neighbours
 * are sought (a hundred microseconds each). Then they are linked one by one, each under the write lock
 * (tens). vec_writer is held for short spells alone, so removals, which come from the apply thread, need
 * not wait for a batch; a draft that they overtook is brought up to date by hnsw_apply.
 *
 * All of this is once for each space (shard_int.h); a document wants the vector of the same text in each. Spaces
 * beside the first are filled behind the scenes, so their vectors are planned without helpers.
 *
 * vec[doc].want is the hash of the text that a document has now, .have that of the vector which the
 * graph holds. A vector is put only while want says so, which makes the order of arrival free:
 * vectors read again from the journal after a restart, or late ones of a text since replaced, are
 * dropped, and a document number that was reused cannot get the vector of another post (unless the
 * texts are equal, and then it is the right one).
 */
#include "shard/shard_int.h"

#include "obs/metrics.h"
#include "vec/vec.h"

enum { CATCH_UP_BATCH = 256 };

static err vec_reserve(space *sp, uint32_t doc) {
    size_t old = sp->vec_cap;
    if (doc < old) return OK;
    TRY(mem_grow((void **)&sp->vec, &sp->vec_cap, (size_t)doc + 1, sizeof *sp->vec,
                 LEXICAL_DOC_MAX));
    memset(sp->vec + old, 0, (sp->vec_cap - old) * sizeof *sp->vec);
    return OK;
}

/* vec_writer is held. */
static void drop_vector(space *sp, uint32_t doc) {
    if (!sp->vec[doc].have) return;
    rwlock_write(&sp->vectors_lock);
    err rc = hnsw_delete(sp->vectors, doc);
    rwlock_unlock(&sp->vectors_lock);
    KITH_ASSERT(rc == OK);
    sp->vec[doc].have = 0;
}

bool shard_vec_lacking(const vector_state *v) {
    return v->want && v->have != v->want && !v->failed && !v->coming;
}

/* Between these two a state may change; vec_writer is held. */
static void leave(space *sp, const vector_state *v) {
    sp->missing -= shard_vec_lacking(v);
    sp->failed -= v->failed;
}

static void enter(space *sp, const vector_state *v) {
    sp->missing += shard_vec_lacking(v);
    sp->failed += v->failed;
}

static err want_in(space *sp, uint32_t doc, uint64_t text_hash) {
    mutex_lock(&sp->vec_writer);
    err rc = vec_reserve(sp, doc);
    if (rc == OK) {
        vector_state *v = &sp->vec[doc];
        leave(sp, v);
        if (v->have != text_hash) drop_vector(sp, doc);
        if (v->want != text_hash) v->coming = v->failed = false;
        v->want = text_hash;
        enter(sp, v);
        if (shard_vec_lacking(v)) sp->look_at = doc + 1;
    }
    mutex_unlock(&sp->vec_writer);
    return rc;
}

err shard_vec_want(shard *s, uint32_t doc, uint64_t text_hash) {
    for (unsigned i = 0; i < s->space_count; i++) TRY(want_in(&s->spaces[i], doc, text_hash));
    return OK;
}

/* Sets one of the two marks of the text that doc has now. */
static void mark(space *sp, uint32_t doc, uint64_t text_hash, bool failed) {
    mutex_lock(&sp->vec_writer);
    if (doc < sp->vec_cap && sp->vec[doc].want == text_hash) {
        vector_state *v = &sp->vec[doc];
        leave(sp, v);
        *(failed ? &v->failed : &v->coming) = true;
        enter(sp, v);
    }
    mutex_unlock(&sp->vec_writer);
}

void shard_vec_forgive(space *sp, vector_state *v) {
    leave(sp, v);
    v->failed = false;
    enter(sp, v);
}

void shard_vec_failed(space *sp, uint32_t doc, uint64_t text_hash) {
    mark(sp, doc, text_hash, true);
}

err shard_vec_push(space *sp, uint32_t doc, uint64_t text_hash, const uint8_t *half, size_t size) {
    KITH_ASSERT(size == (size_t)sp->dim * 2);
    shard *s = sp->s;
    float *v = mem_alloc(sp->dim * sizeof *v);
    f16 *copy = mem_dup(half, size); /* the record's bytes need not be aligned */
    if (!v || !copy) {
        mem_free(v);
        mem_free(copy);
        return ERR_NO_MEMORY;
    }
    vec_f32_from_f16(v, copy, sp->dim);
    mem_free(copy);
    mark(sp, doc, text_hash, false);
    mutex_lock(&s->mu);
    while (sp->queue_count == VECTOR_QUEUE_MAX && !s->closing) cond_wait(&s->moved, &s->mu);
    bool closing = s->closing;
    if (!closing) {
        sp->queue[(sp->queue_head + sp->queue_count++) % VECTOR_QUEUE_MAX] =
            (vector_job){doc, text_hash, v};
        cond_broadcast(&s->moved);
    }
    mutex_unlock(&s->mu);
    if (!closing) return OK;
    mem_free(v); /* in the journal; read again at the next start */
    return ERR_CANCELLED;
}

/* ---- plans ---- */

err shard_plans_open(bool helpers, vector_plans **out) {
    vector_plans *p = mem_zalloc(1, sizeof *p);
    if (!p) return ERR_NO_MEMORY;
    *out = p;
    TRY(mutex_init(&p->mu));
    TRY(cond_init(&p->done));
    p->helper_count = helpers ? MIN(thread_cores() - 1, PLAN_HELPERS_MAX) : 0;
    for (unsigned i = 0; i < PLAN_BATCH_MAX; i++) TRY(hnsw_draft_new(&p->drafts[i]));
    for (unsigned i = 0; i <= p->helper_count; i++) TRY(hnsw_scratch_new(&p->scratch[i]));
    if (!p->helper_count) return OK;
    return pool_open("kith-plan", p->helper_count, PLAN_HELPERS_MAX, &p->helpers);
}

void shard_plans_close(vector_plans *p) {
    if (!p) return;
    if (p->helpers) pool_close(p->helpers);
    for (unsigned i = 0; i < PLAN_BATCH_MAX; i++) hnsw_draft_free(p->drafts[i]);
    for (unsigned i = 0; i <= p->helper_count; i++) hnsw_scratch_free(p->scratch[i]);
    cond_deinit(&p->done);
    mutex_deinit(&p->mu);
    mem_free(p);
}

/* Plans jobs until none is left. The vectors thread holds vectors_lock for reading. */
static void plan_some(space *sp, hnsw_scratch *scratch) {
    vector_plans *p = sp->plans;
    for (;;) {
        unsigned i = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED);
        if (i >= p->count) return;
        p->rc[i] = hnsw_plan(sp->vectors, p->jobs[i].vector, sp->dim, scratch, p->drafts[i]);
    }
}

static void plan_help(void *arg) {
    space *sp = arg;
    vector_plans *p = sp->plans;
    mutex_lock(&p->mu);
    p->asked--;
    if (p->open) {
        hnsw_scratch *scratch = p->scratch[++p->turn];
        p->busy++;
        mutex_unlock(&p->mu);
        plan_some(sp, scratch);
        mutex_lock(&p->mu);
        if (--p->busy == 0) cond_signal(&p->done);
    }
    mutex_unlock(&p->mu);
}

/* At most helper_count come in one batch: those asked before and not yet there are not asked again. */
static void helpers_call(space *sp) {
    vector_plans *p = sp->plans;
    unsigned want = p->count > 1 && !p->alone ? MIN(p->helper_count, p->count - 1) : 0;
    mutex_lock(&p->mu);
    p->open = true;
    p->turn = 0;
    while (p->asked < want && pool_submit(p->helpers, plan_help, sp) == OK) p->asked++;
    mutex_unlock(&p->mu);
}

/* A helper that the system took off its core in the middle of a plan holds everyone up; when that happens the
 * cores are busy with other work, and this thread goes on alone for a while. */
static void plan_all(space *sp) {
    vector_plans *p = sp->plans;
    p->next = 0;
    rwlock_read(&sp->vectors_lock);
    helpers_call(sp);
    uint64_t start = clock_mono_ns();
    plan_some(sp, p->scratch[0]);
    uint64_t planned = clock_mono_ns();
    mutex_lock(&p->mu);
    p->open = false;
    while (p->busy) cond_wait(&p->done, &p->mu);
    mutex_unlock(&p->mu);
    rwlock_unlock(&sp->vectors_lock);
    bool late = clock_mono_ns() - planned > planned - start;
    p->alone = p->alone ? p->alone - 1 : late ? PLAN_ALONE : 0;
}

/* ---- into the graph ---- */

/* vec_writer is held. */
static bool job_wanted(const space *sp, const vector_job *j) {
    if (j->doc >= sp->vec_cap) return false;
    const vector_state *v = &sp->vec[j->doc];
    return v->want == j->text_hash && v->have != j->text_hash;
}

/* vec_writer is held. */
static void have(space *sp, vector_state *v, uint64_t text_hash) {
    leave(sp, v);
    v->have = text_hash;
    v->failed = v->coming = false;
    enter(sp, v);
}

static err apply_draft(space *sp, const vector_job *j, hnsw_draft *d) {
    err rc = OK;
    mutex_lock(&sp->vec_writer);
    if (job_wanted(sp, j)) {
        rwlock_write(&sp->vectors_lock);
        rc = hnsw_apply(sp->vectors, j->doc, d);
        rwlock_unlock(&sp->vectors_lock);
        if (rc == OK) have(sp, &sp->vec[j->doc], j->text_hash);
    }
    mutex_unlock(&sp->vec_writer);
    return rc;
}

/* Takes those out that no one wants any more, and the old vectors of the rest out of the graph. */
static void jobs_prepare(space *sp) {
    vector_plans *p = sp->plans;
    unsigned n = 0;
    mutex_lock(&sp->vec_writer);
    for (unsigned i = 0; i < p->count; i++) {
        if (job_wanted(sp, &p->jobs[i])) {
            drop_vector(sp, p->jobs[i].doc);
            p->jobs[n++] = p->jobs[i];
        } else {
            mem_free(p->jobs[i].vector);
        }
    }
    mutex_unlock(&sp->vec_writer);
    p->count = n;
}

/* A trace goes on in the first space only. */
static void count_job(const vector_job *j, uint64_t start, bool first) {
    trace_context c;
    metric_record(M_FOLD_SECONDS, FOLD_VECTORS, clock_mono_ns() - start);
    metric_add(M_FOLD_RECORDS, FOLD_VECTORS, 1);
    if (first && trace_recall(j->text_hash, &c)) trace_follow(&c, "fold.vectors", start);
}

/* Plans and links the batch. Those that found no memory stay in it, to be tried again; any other failure is
 * the vector's own fault. */
static void jobs_run(space *sp) {
    vector_plans *p = sp->plans;
    uint64_t start = clock_mono_ns();
    unsigned n = 0;
    jobs_prepare(sp);
    plan_all(sp);
    for (unsigned i = 0; i < p->count; i++) {
        vector_job j = p->jobs[i];
        err rc = p->rc[i] == OK ? apply_draft(sp, &j, p->drafts[i]) : p->rc[i];
        if (rc == OK) count_job(&j, start, sp == sp->s->spaces);
        if (rc != OK) shard_notice(sp->s, "graph: document %u: %s", j.doc, err_name(rc));
        if (rc == ERR_NO_MEMORY) {
            p->jobs[n++] = j;
            continue;
        }
        if (rc != OK) shard_vec_failed(sp, j.doc, j.text_hash);
        mem_free(j.vector);
    }
    p->count = n;
}

static void jobs_drop(vector_plans *p) {
    for (unsigned i = 0; i < p->count; i++) mem_free(p->jobs[i].vector);
    p->count = 0;
}

/* mu is held. */
static void jobs_take(space *sp, unsigned most) {
    vector_plans *p = sp->plans;
    p->count = 0;
    while (sp->queue_count > 0 && p->count < most) {
        p->jobs[p->count++] = sp->queue[sp->queue_head];
        sp->queue_head = (sp->queue_head + 1) % VECTOR_QUEUE_MAX;
        sp->queue_count--;
    }
}

/* How many vectors to plan side by side. Only this thread makes the graph larger. */
static unsigned plan_together(space *sp) {
    rwlock_read(&sp->vectors_lock);
    unsigned n = hnsw_plan_together(sp->vectors);
    rwlock_unlock(&sp->vectors_lock);
    return MIN(n, PLAN_BATCH_MAX);
}

bool shard_vec_busy(const shard *s) {
    for (unsigned i = 0; i < s->space_count; i++)
        if (s->spaces[i].queue_count || s->spaces[i].busy) return true;
    return false;
}

void shard_vec_main(void *arg) {
    space *sp = arg;
    shard *s = sp->s;
    for (;;) {
        unsigned most = plan_together(sp);
        mutex_lock(&s->mu);
        while (sp->queue_count == 0 && !s->closing) cond_wait(&s->moved, &s->mu);
        if (s->closing) break;
        jobs_take(sp, most);
        sp->busy = true;
        mutex_unlock(&s->mu);
        jobs_run(sp);
        while (sp->plans->count && !shard_closing(s)) {
            shard_pause(s);
            jobs_run(sp);
        }
        jobs_drop(sp->plans);
        mutex_lock(&s->mu);
        sp->busy = false;
        if (!s->changed_ns) s->changed_ns = clock_mono_ns();
        if (!s->change_lsn) s->change_lsn = s->applied_lsn;
        cond_broadcast(&s->moved);
        mutex_unlock(&s->mu);
    }
    mutex_unlock(&s->mu);
}

/* ---- after a restart ---- */

/* The document of `id` when it has this text and the graph lacks its vector. */
static bool lacks(space *sp, str id, uint64_t text_hash, uint32_t *doc) {
    store_reader *r = store_reader_get(sp->s->store);
    err rc = store_doc_of(r, id, doc);
    store_reader_put(sp->s->store, r);
    if (rc != OK) return false;
    mutex_lock(&sp->vec_writer);
    bool yes =
        *doc < sp->vec_cap && sp->vec[*doc].want == text_hash && sp->vec[*doc].have != text_hash;
    mutex_unlock(&sp->vec_writer);
    return yes;
}

err shard_vec_record(shard *s, const journal_record *rec, arena *a) {
    bool put = rec->kind == JOURNAL_VECTOR_PUT;
    const uint8_t *body = (const uint8_t *)rec->body.ptr;
    uint32_t doc;
    if (put) {
        Kith__V1__VectorPut *m = kith__v1__vector_put__unpack(ARENA_PB(a), rec->body.len, body);
        space *sp = m ? shard_space_find(s, str_of(m->space)) : NULL;
        if (!sp || m->f16.len != (size_t)sp->dim * 2 || !lacks(sp, rec->key, m->text_hash, &doc))
            return OK;
        return shard_vec_push(sp, doc, m->text_hash, m->f16.data, m->f16.len);
    }
    Kith__V1__VectorFailed *m = kith__v1__vector_failed__unpack(ARENA_PB(a), rec->body.len, body);
    space *sp = m ? shard_space_find(s, str_of(m->space)) : NULL;
    if (sp && lacks(sp, rec->key, m->text_hash, &doc)) shard_vec_failed(sp, doc, m->text_hash);
    return OK;
}

static err catch_record(shard *s, const journal_record *rec, arena *a) {
    bool ours = rec->kind == JOURNAL_VECTOR_PUT || rec->kind == JOURNAL_VECTOR_FAILED;
    return ours && !rec->redacted ? shard_vec_record(s, rec, a) : OK;
}

/* Where vectors that some graph lacks may begin. */
static uint64_t catch_from(shard *s) {
    uint64_t from = UINT64_MAX;
    for (unsigned i = 0; i < s->space_count; i++)
        if (s->spaces[i].behind) from = MIN(from, s->spaces[i].snapshot_lsn + 1);
    return MAX(from, journal_first_lsn(s->journal));
}

static err catch_up(shard *s) {
    journal_reader *r;
    TRY(journal_reader_open(s->journal, catch_from(s), &r));
    uint64_t head = journal_head_lsn(s->journal);
    arena a;
    arena_init(&a, 2 * JOURNAL_BODY_MAX);
    err rc = OK;
    while (rc == OK && journal_reader_lsn(r) <= head && !shard_closing(s)) {
        journal_record rec;
        rc = journal_read(r, &rec);
        arena_reset(&a);
        if (rc == OK) rc = shard_unseal(s, &a, &rec);
        if (rc == OK) rc = catch_record(s, &rec, &a);
        if (s->o.progress && journal_reader_lsn(r) % CATCH_UP_BATCH == 0)
            s->o.progress(s->o.progress_ctx, "vectors from the journal", journal_reader_lsn(r),
                          head);
    }
    journal_reader_close(r);
    arena_deinit(&a);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

void shard_catch_main(void *arg) {
    shard *s = arg;
    err rc = catch_up(s);
    if (rc != OK && rc != ERR_CANCELLED)
        shard_notice(s, "vectors from the journal: %s; some posts are found by words only",
                     err_detail());
    mutex_lock(&s->mu);
    s->catching_up = false;
    cond_broadcast(&s->moved);
    mutex_unlock(&s->mu);
}
