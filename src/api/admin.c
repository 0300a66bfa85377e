/* Embeddings of texts, and the state of the program.
 *
 * Texts are embedded in the provider's own batch size; a request's limit (API_EMBED_MAX, or
 * OpenAI's number in embeddings.c) bounds the memory: 2,048 vectors of 384 singles are 3 MiB of the
 * arena.
 *
 * Status is made of what the shard and the searcher already count; nothing is walked. Four folds
 * are shown: store and words, which move together in batches, vectors (records that are in the
 * graph), and embed (texts without a vector). Resident memory is the kernel's word.
 */
#include "api/api_int.h"

#include <kith/v1/admin.pb-c.h>

enum { FAILURES_DEFAULT = 100, FAILURES_MAX = 1000 };

/* ---- embed ---- */

static err check_texts(const str *texts, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char *want = NULL;
        if (!texts[i].len) want = "expected text, got an empty string";
        if (texts[i].len > POST_TEXT_MAX) want = "expected at most 65536 bytes, got more";
        if (!utf8_valid(texts[i], NULL)) want = "expected valid UTF-8";
        if (!want) continue;
        char field[32];
        strbuf b;
        strbuf_init(&b, sizeof field - 1);
        strbuf_addf(&b, "texts[%zu]", i);
        memcpy(field, b.ptr ? b.ptr : "", b.len + 1);
        strbuf_deinit(&b);
        return err_set_field(ERR_INVALID, field, "%s", want);
    }
    return OK;
}

err api_embed_texts(api_call *c, const str *texts, size_t n, embed_task task, float **out,
                    uint64_t *tokens) {
    if (!c->provider) return err_set(ERR_UNSUPPORTED, "this server has no embedding model");
    TRY(check_texts(texts, n));
    size_t dim = provider_dim(c->provider), batch = provider_texts_max(c->provider);
    float *v = arena_zalloc(c->mem, n * dim, sizeof *v);
    if (!v) return ERR_NO_MEMORY;
    *tokens = 0;
    for (size_t i = 0; i < n; i += batch) {
        embed_usage usage = {0};
        TRY(provider_embed(c->provider, texts + i, MIN(batch, n - i), task, v + i * dim, &usage));
        *tokens += usage.tokens;
    }
    *out = v;
    return OK;
}

static err parse_task(str s, embed_task *out) {
    *out = EMBED_DOCUMENT;
    if (str_eq(s, STR("query")))
        *out = EMBED_QUERY;
    else if (str_eq(s, STR("similarity")))
        *out = EMBED_SIMILARITY;
    else if (s.len && !str_eq(s, STR("document")))
        return err_set_field(ERR_INVALID, "task", "expected query, document or similarity");
    return OK;
}

static err fill_vectors(api_call *c, Kith__V1__EmbedResponse *out, float *v, size_t n,
                        uint32_t dim) {
    out->vectors = arena_zalloc(c->mem, n, sizeof *out->vectors);
    if (!out->vectors) return ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        Kith__V1__Vector *x = api_new(c, &kith__v1__vector__descriptor);
        if (!x) return ERR_NO_MEMORY;
        x->values = v + i * dim;
        x->n_values = dim;
        out->vectors[i] = x;
    }
    out->n_vectors = n;
    return OK;
}

err api_embed(api_call *c, const void *request, void **response) {
    const Kith__V1__EmbedRequest *r = request;
    embed_task task;
    if (r->n_texts < 1 || r->n_texts > API_EMBED_MAX)
        return err_set_field(ERR_INVALID, "texts", "expected 1 to %d texts, got %zu", API_EMBED_MAX,
                             r->n_texts);
    TRY(parse_task(str_of(r->task), &task));
    str *texts = arena_alloc(c->mem, r->n_texts * sizeof *texts);
    Kith__V1__EmbedResponse *out = api_new(c, &kith__v1__embed_response__descriptor);
    if (!texts || !out) return ERR_NO_MEMORY;
    for (size_t i = 0; i < r->n_texts; i++) texts[i] = str_of(r->texts[i]);
    float *v;
    uint64_t tokens;
    TRY(api_embed_texts(c, texts, r->n_texts, task, &v, &tokens));
    uint32_t dim = provider_dim(c->provider);
    out->space = api_text(c, str_of(provider_space(c->provider)));
    if (!out->space) return ERR_NO_MEMORY;
    out->dimensions = (int32_t)dim;
    out->tokens = (int64_t)tokens;
    *response = out;
    return fill_vectors(c, out, v, r->n_texts, dim);
}

/* ---- texts that could not be embedded ---- */

static err fill_failures(api_call *c, Kith__V1__EmbedFailuresResponse *out,
                         const store_failure *list, size_t n) {
    out->failures = arena_zalloc(c->mem, n, sizeof *out->failures);
    if (!out->failures) return ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        Kith__V1__EmbedFailure *f = api_new(c, &kith__v1__embed_failure__descriptor);
        if (!f) return ERR_NO_MEMORY;
        f->id = api_text(c, list[i].id);
        f->reason = api_text(c, list[i].reason);
        if (!f->id || !f->reason) return ERR_NO_MEMORY;
        out->failures[i] = f;
    }
    out->n_failures = n;
    return OK;
}

err api_embed_failures(api_call *c, const void *request, void **response) {
    const Kith__V1__EmbedFailuresRequest *r = request;
    size_t limit = r->limit ? (size_t)r->limit : FAILURES_DEFAULT, n;
    store_failure *list;
    shard_stats s;
    if (r->limit < 0 || limit > FAILURES_MAX)
        return err_set_field(ERR_INVALID, "limit", "expected 1 to %d, got %d", FAILURES_MAX,
                             (int)r->limit);
    Kith__V1__EmbedFailuresResponse *out =
        api_new(c, &kith__v1__embed_failures_response__descriptor);
    if (!out) return ERR_NO_MEMORY;
    TRY(shard_stat(c->shard, &s));
    store_reader *rd = store_reader_get(shard_store(c->shard));
    err rc = store_failed(rd, limit, c->mem, &list, &n);
    store_reader_put(shard_store(c->shard), rd);
    TRY(rc);
    out->total = (int64_t)s.failed;
    *response = out;
    return fill_failures(c, out, list, n);
}

err api_retry_embed(api_call *c, const void *request, void **response) {
    (void)request;
    shard_stats s;
    Kith__V1__RetryEmbedResponse *out = api_new(c, &kith__v1__retry_embed_response__descriptor);
    if (!out) return ERR_NO_MEMORY;
    TRY(shard_stat(c->shard, &s));
    out->count = (int64_t)s.failed;
    if (c->a->o.embed_retry) c->a->o.embed_retry(c->a->o.ctx);
    *response = out;
    return OK;
}

/* ---- status ---- */

typedef struct fold_row {
    const char *name;
    uint64_t lsn, lag;
    double seconds;
} fold_row;

static err fill_folds(api_call *c, Kith__V1__StatusResponse *out, const shard_stats *s) {
    uint64_t h = s->head_lsn;
    const fold_row rows[] = {
        {"store", s->store_lsn, h - MIN(h, s->store_lsn), s->store_lag_s},
        {"words", s->words_lsn, h - MIN(h, s->words_lsn), s->store_lag_s},
        {"vectors", s->vectors_lsn, h - MIN(h, s->vectors_lsn), s->vectors_lag_s},
        {"embed", s->store_lsn, s->pending, s->embed_lag_s}};
    out->folds = arena_zalloc(c->mem, COUNT_OF(rows), sizeof *out->folds);
    if (!out->folds) return ERR_NO_MEMORY;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Kith__V1__FoldStatus *f = api_new(c, &kith__v1__fold_status__descriptor);
        if (!f || !(f->name = api_text(c, str_of(rows[i].name)))) return ERR_NO_MEMORY;
        f->lsn = rows[i].lsn;
        f->lag_records = rows[i].lag;
        f->lag_seconds = rows[i].seconds;
        out->folds[out->n_folds++] = f;
    }
    return OK;
}

static err fill_bytes(api_call *c, Kith__V1__StatusResponse *out, const shard_stats *s) {
    const struct {
        const char *part;
        uint64_t memory, disk;
    } rows[] = {{"journal", 0, s->journal_disk},   {"store", 0, s->store_disk},
                {"words", s->words_memory, 0},     {"attrs", s->attrs_memory, 0},
                {"vectors", s->vectors_memory, 0}, {"snapshot", 0, s->snapshot_disk},
                {"other", s->other_memory, 0}};
    out->bytes = arena_zalloc(c->mem, COUNT_OF(rows), sizeof *out->bytes);
    if (!out->bytes) return ERR_NO_MEMORY;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Kith__V1__PartBytes *p = api_new(c, &kith__v1__part_bytes__descriptor);
        if (!p || !(p->part = api_text(c, str_of(rows[i].part)))) return ERR_NO_MEMORY;
        p->memory_bytes = rows[i].memory;
        p->disk_bytes = rows[i].disk;
        out->bytes[out->n_bytes++] = p;
    }
    return OK;
}

static err fill_spaces(api_call *c, Kith__V1__StatusResponse *out, const shard_stats *s) {
    unsigned count = shard_space_count(c->shard);
    out->spaces = arena_zalloc(c->mem, count, sizeof *out->spaces);
    if (!out->spaces) return ERR_NO_MEMORY;
    for (unsigned i = 0; i < count; i++) {
        Kith__V1__SpaceStatus *t = api_new(c, &kith__v1__space_status__descriptor);
        shard_space_stats x;
        if (!t || !(t->space = api_text(c, str_of(shard_space_name(c->shard, i)))))
            return ERR_NO_MEMORY;
        shard_space_stat(c->shard, i, &x);
        t->dimensions = (int32_t)shard_space_dim(c->shard, i);
        t->vectors = (int64_t)x.vectors;
        t->pending = (int64_t)(i ? x.pending : s->pending);
        t->failed = (int64_t)(i ? x.failed : s->failed);
        t->memory_bytes = x.memory;
        out->spaces[out->n_spaces++] = t;
    }
    return OK;
}

static void fill_numbers(api_call *c, Kith__V1__StatusResponse *out, const shard_stats *s) {
    search_stats x;
    process_stats p;
    searcher_stats(c->searcher, &x);
    process_stats_get(&p);
    out->posts = (int64_t)s->posts;
    out->vectors = (int64_t)s->vectors;
    out->threads = (int64_t)s->threads;
    out->embed_pending = (int64_t)s->pending;
    out->embed_failed = (int64_t)s->failed;
    out->lsn = s->store_lsn;
    out->uptime_seconds = (double)(clock_mono_ns() - c->a->start_ns) / 1e9;
    out->rss_bytes = p.rss;
    out->searches = (int64_t)x.searches;
    out->search_p50_ms = x.p50_ms;
    out->search_p99_ms = x.p99_ms;
    out->snapshot_lsn = s->snapshot_lsn;
    out->snapshot_age_seconds = s->snapshot_age_s;
    double rate = c->a->o.embed_rate ? c->a->o.embed_rate(c->a->o.ctx) : 0;
    out->embed_posts_per_second = rate;
    out->embed_eta_seconds = rate > 0 ? (double)s->pending / rate : 0;
}

err api_status(api_call *c, const void *request, void **response) {
    (void)request;
    shard_stats s;
    TRY(shard_stat(c->shard, &s));
    Kith__V1__StatusResponse *out = api_new(c, &kith__v1__status_response__descriptor);
    if (!out) return ERR_NO_MEMORY;
    out->version = api_text(c, str_of(c->a->o.version));
    out->state = api_text(c, api_ready(c->a) == OK ? STR("ready") : STR("catching_up"));
    out->space = api_text(c, str_of(c->provider ? provider_space(c->provider) : ""));
    if (!out->version || !out->state || !out->space) return ERR_NO_MEMORY;
    fill_numbers(c, out, &s);
    TRY(fill_folds(c, out, &s));
    TRY(fill_spaces(c, out, &s));
    *response = out;
    return fill_bytes(c, out, &s);
}
