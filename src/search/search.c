/* The public calls. Each takes a scratch from the pool, makes a plan, collects hits, presents them and
 * gives the scratch back; counters and times are kept on the way out, so a refused request counts too.
 *
 * The query's vector is asked for before any lock is taken: a model takes milliseconds, the locks are
 * held for one. When no vector is to be had the query is answered from words alone and the answer says
 * so; a search is never lost because a model is.
 *
 * The scratch pool is a stack under a mutex held for a few instructions. A scratch belongs to one
 * search at a time; those over SEARCH_SCRATCH_MAX are freed rather than kept.
 */
#include "search/search_int.h"

/* ---- scratch ------------------------------------------------------------------------------ */

static void scratch_free(search_scratch *s) {
    if (!s) return;
    lexical_scratch_free(s->lexical);
    hnsw_scratch_free(s->hnsw);
    mem_free(s->bits);
    mem_free(s->second);
    mem_free(s);
}

static err scratch_new(search_scratch **out) {
    search_scratch *s = mem_zalloc(1, sizeof *s);
    if (!s) return ERR_NO_MEMORY;
    s->lexical = lexical_scratch_new();
    err rc = s->lexical ? hnsw_scratch_new(&s->hnsw) : ERR_NO_MEMORY;
    if (rc != OK)
        scratch_free(s);
    else
        *out = s;
    return rc;
}

err searcher_scratch_get(searcher *x, search_scratch **out) {
    *out = NULL;
    mutex_lock(&x->mu);
    if (x->n_free) *out = x->free[--x->n_free];
    mutex_unlock(&x->mu);
    return *out ? OK : scratch_new(out);
}

void searcher_scratch_put(searcher *x, search_scratch *s) {
    if (!s) return;
    mutex_lock(&x->mu);
    bool keep = x->n_free < SEARCH_SCRATCH_MAX;
    if (keep) x->free[x->n_free++] = s;
    mutex_unlock(&x->mu);
    if (!keep) scratch_free(s);
}

/* ---- open and close ----------------------------------------------------------------------- */

err searcher_open(shard *s, provider *p, searcher **out) {
    if (provider_dim(p) != shard_dim(s))
        return err_set(ERR_INVALID, "search: the model gives %u numbers, the index holds %u",
                       provider_dim(p), shard_dim(s));
    searcher *x = mem_zalloc(1, sizeof *x);
    if (!x) return ERR_NO_MEMORY;
    x->shard = s;
    x->providers[0] = p;
    x->sample = mem_zalloc(shard_dim(s), sizeof *x->sample);
    err rc = x->sample ? mutex_init(&x->mu) : ERR_NO_MEMORY;
    if (rc != OK) {
        mem_free(x->sample);
        mem_free(x);
        return rc;
    }
    atomic_store_explicit(&x->next_id, clock_mono_ns() ^ (uint64_t)clock_wall_ms() << 20,
                          memory_order_relaxed);
    *out = x;
    return OK;
}

err searcher_beside(searcher *x, unsigned space, provider *p) {
    KITH_ASSERT(space > 0 && space < shard_space_count(x->shard));
    if (provider_dim(p) != shard_space_dim(x->shard, space))
        return err_set(ERR_INVALID, "search: the model gives %u numbers, the index holds %u",
                       provider_dim(p), shard_space_dim(x->shard, space));
    x->providers[space] = p;
    return OK;
}

void searcher_close(searcher *x) {
    if (!x) return;
    while (x->n_free) scratch_free(x->free[--x->n_free]);
    mutex_deinit(&x->mu);
    mem_free(x->sample);
    mem_free(x);
}

/* ---- running a plan ----------------------------------------------------------------------- */

static err query_vector(searcher *x, plan *p, search_scratch *s, arena *a) {
    if (p->mode == MODE_WORDS || p->mode == MODE_LATEST) return OK;
    bool cached = false;
    float *v = arena_alloc(a, shard_dim(x->shard) * sizeof *v);
    if (!v) return ERR_NO_MEMORY;
    lap(&s->laps, STAGE_PLAN);
    err rc = provider_embed_query(x->providers[0], p->query.text, v, &cached);
    if (rc != OK && fallback_vector(x, p->query.text, a, p) == OK) {
        metric_add(M_SEARCH_DEGRADED, DEGRADED_OTHER_SPACE, 1);
        lap(&s->laps, STAGE_EMBED);
        return OK;
    }
    lap(&s->laps, STAGE_EMBED);
    if (rc != OK) {
        metric_add(M_SEARCH_DEGRADED, DEGRADED_WORDS_ONLY, 1);
        p->degraded = true;
        p->mode = MODE_WORDS;
        return OK;
    }
    p->vector = v;
    recall_offer(x, v);
    if (cached) atomic_fetch_add_explicit(&x->query_cache_hits, 1, memory_order_relaxed);
    return OK;
}

static err wait_for(searcher *x, uint64_t lsn) {
    if (lsn == 0 || lsn <= shard_lsn(x->shard)) return OK;
    return shard_wait(x->shard, STR(""), lsn, WAIT_APPLIED, SEARCH_WAIT_MS);
}

static err search_plan(searcher *x, const Kith__V1__SearchRequest *req, search_scratch *s, arena *a,
                       plan **out) {
    plan *p = arena_zalloc(a, 1, sizeof *p);
    if (!p) return ERR_NO_MEMORY;
    *out = p;
    TRY(plan_search(req, a, p));
    TRY(wait_for(x, req->min_lsn));
    return query_vector(x, p, s, a);
}

static err similar_plan(searcher *x, const Kith__V1__SimilarRequest *req, arena *a, plan **out) {
    plan *p = arena_zalloc(a, 1, sizeof *p);
    if (!p) return ERR_NO_MEMORY;
    *out = p;
    TRY(plan_similar(req, a, p));
    return similar_fill(x, req, a, p);
}

static err run(searcher *x, plan *p, search_scratch *s, arena *a, Kith__V1__SearchResponse **out) {
    collection c;
    lap(&s->laps, STAGE_PLAN);
    TRY(collect(x, p, s, a, &c));
    err rc = present(x, p, &c, s, a, out);
    lap(&s->laps, STAGE_HYDRATE);
    return rc;
}

/* The stages as metrics, and as spans one behind another: a stage that ran in several rounds is
 * shown once. */
static void tell_stages(const search_laps *l) {
    static const char *const names[STAGE_COUNT] = {
        "search.plan",    "search.embed", "search.filter", "search.words",
        "search.vectors", "search.fuse",  "search.rank",   "search.hydrate"};
    uint64_t at = l->start_ns;
    for (unsigned i = 0; i < STAGE_COUNT; i++) {
        if (!l->ns[i]) continue;
        metric_record(M_SEARCH_STAGE_SECONDS, i, l->ns[i]);
        span_closed(names[i], at, at + l->ns[i]);
        at += l->ns[i];
    }
}

static unsigned type_of(const plan *p, bool similar) {
    static const unsigned types[] = {SEARCH_HYBRID, SEARCH_WORDS, SEARCH_MEANING, SEARCH_LATEST};
    return similar ? SEARCH_SIMILAR : p ? types[p->mode] : SEARCH_HYBRID;
}

static void tell(unsigned type, const search_laps *l, err rc, const Kith__V1__SearchResponse *r) {
    if (rc != OK || !r) {
        metric_add(M_SEARCHES, type * OUTCOME_COUNT + OUTCOME_ERROR, 1);
        return;
    }
    unsigned outcome = r->n_hits ? OUTCOME_OK : OUTCOME_ZERO;
    metric_add(M_SEARCHES, type * OUTCOME_COUNT + outcome, 1);
    metric_record(M_SEARCH_SECONDS, search_series(type, r->n_hits), l->last_ns - l->start_ns);
    if (r->n_hits) metric_record(M_QUERY_SCORE, 0, (uint64_t)(MAX(r->hits[0]->score, 0) * 1000));
    tell_stages(l);
    trace_root_number("kith.search.hits", (int64_t)r->n_hits);
    trace_root_number("kith.search.matching", r->matching);
}

static err finish(searcher *x, uint64_t start_ns, err rc, arena *a, Kith__V1__SearchResponse *r) {
    uint64_t ns = clock_mono_ns() - start_ns;
    atomic_fetch_add_explicit(&x->searches, 1, memory_order_relaxed);
    if (rc == OK) {
        r->took_ms = (double)ns / 1e6;
        uint64_t id = atomic_fetch_add_explicit(&x->next_id, 1, memory_order_relaxed);
        str hex = arena_printf(a, "%016llx", (unsigned long long)hash64_u64(id));
        r->search_id = (char *)(uintptr_t)hex.ptr;
        if (!hex.ptr) rc = ERR_NO_MEMORY;
    }
    if (rc != OK) {
        atomic_fetch_add_explicit(&x->errors, 1, memory_order_relaxed);
        return rc;
    }
    histogram_add(&x->took, ns / 1000);
    if (r->n_hits == 0) atomic_fetch_add_explicit(&x->zero_results, 1, memory_order_relaxed);
    return OK;
}

/* One of the two requests, the other is NULL. */
static err answer(searcher *x, const Kith__V1__SearchRequest *req,
                  const Kith__V1__SimilarRequest *like, arena *a, Kith__V1__SearchResponse **out) {
    search_laps l;
    search_scratch *s = NULL;
    plan *p = NULL;
    laps_begin(&l);
    err rc = searcher_scratch_get(x, &s);
    *out = NULL;
    if (rc == OK) {
        s->laps = l;
        rc = like ? similar_plan(x, like, a, &p) : search_plan(x, req, s, a, &p);
        if (rc == OK) rc = run(x, p, s, a, out);
        l = s->laps;
    }
    searcher_scratch_put(x, s);
    tell(type_of(p, like != NULL), &l, rc, *out);
    return finish(x, l.start_ns, rc, a, *out);
}

/* ---- public calls ------------------------------------------------------------------------- */

err search_run(searcher *x, const Kith__V1__SearchRequest *req, arena *a,
               Kith__V1__SearchResponse **out) {
    return answer(x, req, NULL, a, out);
}

err search_similar(searcher *x, const Kith__V1__SimilarRequest *req, arena *a,
                   Kith__V1__SearchResponse **out) {
    return answer(x, NULL, req, a, out);
}

static err ids_of(const collection *c, str exclude, size_t k, arena *a, search_id_list *out) {
    *out = (search_id_list){.items = arena_alloc(a, (k + 1) * sizeof *out->items)};
    if (!out->items) return ERR_NO_MEMORY;
    for (size_t i = 0; i < c->count && out->count < k; i++) {
        str id = str_of(c->items[i].row.post->id);
        if (!str_eq(id, exclude)) out->items[out->count++] = id;
    }
    return OK;
}

err search_ids(searcher *x, const Kith__V1__SearchRequest *req, str exclude, size_t k, arena *a,
               search_id_list *out) {
    search_scratch *s = NULL;
    plan *p;
    collection c;
    if (k >= SEARCH_DEPTH_MAX)
        return err_set(ERR_INVALID, "k: expected under %d", SEARCH_DEPTH_MAX);
    err rc = searcher_scratch_get(x, &s);
    if (rc == OK) {
        laps_begin(&s->laps);
        rc = search_plan(x, req, s, a, &p);
    }
    if (rc == OK) {
        p->limit = k + (exclude.len > 0);
        rc = collect(x, p, s, a, &c);
    }
    searcher_scratch_put(x, s);
    return rc == OK ? ids_of(&c, exclude, k, a, out) : rc;
}

void searcher_stats(searcher *x, search_stats *out) {
    *out = (search_stats){
        .searches = atomic_load_explicit(&x->searches, memory_order_relaxed),
        .errors = atomic_load_explicit(&x->errors, memory_order_relaxed),
        .zero_results = atomic_load_explicit(&x->zero_results, memory_order_relaxed),
        .query_cache_hits = atomic_load_explicit(&x->query_cache_hits, memory_order_relaxed),
        .p50_ms = (double)histogram_quantile(&x->took, 0.5) / 1000,
        .p99_ms = (double)histogram_quantile(&x->took, 0.99) / 1000};
}
