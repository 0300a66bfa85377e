/* hnsw_test: recall against exact search, life of an index (insert, update, delete, duplicates, filters),
 * snapshots and hostile ones, refusals, memory that fails. Every test ends in hnsw_validate.
 *
 * Vectors are random points around random centres with a spectrum that falls off, which is harder for
 * a graph than real embeddings of the same dimension. Real ones are the word vectors of the shared data.
 * KITH_LONG=1 multiplies the random campaigns.
 */
#include "index/hnsw.h"
#include "index/flat.h"
#include "vec/vec.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- data ---- */

typedef struct set {
    float *rows;
    uint32_t n, dim;
} set;

static void row_normalise(float *x, uint32_t dim) {
    float norm = sqrtf(vec_dot_f32(x, x, dim));
    for (uint32_t d = 0; d < dim; d++) x[d] /= norm;
}

/* n points around `centres` centres. The same seed gives the same centres, `skip` other points. */
static set set_new(uint32_t n, uint32_t dim, uint32_t centres, uint64_t seed, uint64_t skip) {
    set s = {mem_alloc((size_t)n * dim * sizeof(float)), n, dim};
    float *middle = mem_alloc((size_t)centres * dim * sizeof *middle);
    assert_non_null(s.rows);
    assert_non_null(middle);
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < (size_t)centres * dim; i++) middle[i] = rng_normal(&r);
    rng_seed(&r, seed * 1000 + skip);
    for (uint32_t i = 0; i < n; i++) {
        const float *c = middle + (size_t)rng_below(&r, centres) * dim;
        float *x = s.rows + (size_t)i * dim;
        for (uint32_t d = 0; d < dim; d++)
            x[d] = (c[d] + rng_normal(&r)) / sqrtf(1.0f + 0.1f * (float)d);
        row_normalise(x, dim);
    }
    mem_free(middle);
    return s;
}

static const float *row(const set *s, size_t i) {
    return s->rows + i * s->dim;
}

static hnsw *index_of(const set *s, hnsw_options o) {
    hnsw *h;
    o.dim = s->dim;
    assert_int_equal(hnsw_new(&o, &h), OK);
    for (uint32_t i = 0; i < s->n; i++) assert_int_equal(hnsw_insert(h, i, row(s, i)), OK);
    return h;
}

static void must_be_valid(const hnsw *h) {
    err rc = hnsw_validate(h);
    if (rc != OK) print_error("%s\n", err_detail());
    assert_int_equal(rc, OK);
}

/* Share of the exact k that searches find; asserts that each returns as many as the exact search. */
static double recall(const hnsw *h, const set *queries, hnsw_query q) {
    hnsw_scratch *s;
    assert_int_equal(hnsw_scratch_new(&s), OK);
    size_t hits = 0, wanted = 0;
    hnsw_hit got[100], want[100];
    for (uint32_t i = 0; i < queries->n; i++) {
        size_t n, m;
        assert_int_equal(hnsw_search(h, row(queries, i), &q, s, got, &n), OK);
        assert_int_equal(flat_search_index(h, row(queries, i), &q, want, &m), OK);
        assert_int_equal(n, m);
        wanted += m;
        for (size_t a = 0; a < n; a++) {
            assert_true(!q.filter || bits_get(q.filter, got[a].doc));
            for (size_t b = 0; b < m; b++) hits += got[a].doc == want[b].doc;
            for (size_t b = 0; b < a; b++) assert_int_not_equal(got[a].doc, got[b].doc);
            if (a) assert_true(got[a - 1].score >= got[a].score);
        }
    }
    hnsw_scratch_free(s);
    return wanted ? (double)hits / (double)wanted : 1.0;
}

static hnsw_query top(uint32_t k) {
    return (hnsw_query){.k = k};
}

/* ---- recall ---- */

static void recall_on(uint32_t n, uint32_t dim, uint32_t centres, double floor) {
    set base = set_new(n, dim, centres, dim, 0), queries = set_new(100, dim, centres, dim, 1);
    hnsw *h = index_of(&base, (hnsw_options){.seed = 1});
    must_be_valid(h);
    double r = recall(h, &queries, top(10));
    print_message("recall@10 of %u x %u around %u centres: %.4f\n", n, dim, centres, r);
    assert_true(r >= floor);
    hnsw_free(h);
    mem_free(base.rows);
    mem_free(queries.rows);
}

static void recall_is_high(void **state) {
    (void)state;
    recall_on(500, 32, 10, 1.0); /* below the first training: exact */
    recall_on(6000, 32, 50, 0.95);
    recall_on(6000, 100, 1, 0.95);
    recall_on(5000, 384, 200, 0.95);
    recall_on(2500, 768, 20, 0.95);
    recall_on(3000, 2, 3, 0.90); /* on a circle */
    recall_on(3000, 8, 3, 0.95);
    recall_on(1500, 1, 1, 0.0); /* two points in all */
}

static void scores_are_cosines(void **state) {
    (void)state;
    set base = set_new(3000, 48, 10, 1, 0);
    hnsw *h = index_of(&base, (hnsw_options){0});
    hnsw_scratch *s;
    float longer[48], stored[48], scores[2];
    hnsw_hit hits[10];
    size_t n;
    assert_int_equal(hnsw_scratch_new(&s), OK);
    for (size_t d = 0; d < 48; d++)
        longer[d] = row(&base, 77)[d] * 1e6f; /* length does not matter */
    assert_int_equal(hnsw_search(h, longer, &(hnsw_query){.k = 10}, s, hits, &n), OK);
    assert_int_equal(hits[0].doc, 77);
    for (size_t i = 0; i < n; i++) {
        float exact = vec_dot_f32(row(&base, 77), row(&base, hits[i].doc), 48);
        assert_true(fabsf(exact - hits[i].score) < 2e-3f);
        assert_int_equal(hnsw_get(h, hits[i].doc, stored), OK);
        for (size_t d = 0; d < 48; d++)
            assert_true(fabsf(stored[d] - row(&base, hits[i].doc)[d]) < 5e-4f);
    }
    assert_int_equal(hnsw_score_docs(h, longer, (uint32_t[]){hits[3].doc, 99999}, 2, scores), OK);
    assert_true(scores[0] == hits[3].score && scores[1] == HNSW_SCORE_ABSENT);
    assert_int_equal(hnsw_get(h, 5000, stored), ERR_NOT_FOUND);
    hnsw_scratch_free(s);
    hnsw_free(h);
    mem_free(base.rows);
}

/* ---- life ---- */

static void deletes_leave_a_good_graph(void **state) {
    (void)state;
    set base = set_new(8000, 64, 40, 3, 0), queries = set_new(100, 64, 40, 3, 1);
    hnsw *h = index_of(&base, (hnsw_options){.seed = 1});
    for (uint32_t i = 0; i < base.n; i += 2) assert_int_equal(hnsw_delete(h, i), OK);
    assert_int_equal(hnsw_delete(h, 0), ERR_NOT_FOUND);
    assert_int_equal(hnsw_count(h), 4000);
    must_be_valid(h);
    hnsw *fresh;
    assert_int_equal(hnsw_new(&(hnsw_options){.dim = 64, .seed = 1}, &fresh), OK);
    for (uint32_t i = 1; i < base.n; i += 2)
        assert_int_equal(hnsw_insert(fresh, i, row(&base, i)), OK);
    assert_true(recall(h, &queries, (hnsw_query){.k = 10, .scan = true}) > 0.995);
    double after = recall(h, &queries, top(10)), anew = recall(fresh, &queries, top(10));
    print_message("half deleted: recall %.4f, fresh %.4f\n", after, anew);
    assert_true(after >= anew - 0.01 && after >= 0.95);
    size_t bytes = hnsw_stats_get(h).bytes;
    for (uint32_t i = 0; i < base.n; i += 2) assert_int_equal(hnsw_insert(h, i, row(&base, i)), OK);
    assert_int_equal(hnsw_stats_get(h).bytes, bytes); /* the freed slots were used again */
    must_be_valid(h);
    assert_true(recall(h, &queries, top(10)) >= 0.95);
    for (uint32_t i = 0; i < base.n; i++) assert_int_equal(hnsw_delete(h, i), OK);
    must_be_valid(h);
    assert_int_equal(hnsw_count(h), 0);
    assert_true(recall(h, &queries, top(10)) == 1.0); /* nothing, as the exact search */
    assert_int_equal(hnsw_insert(h, 5, row(&base, 5)), OK);
    must_be_valid(h);
    assert_true(recall(h, &queries, top(10)) == 1.0);
    hnsw_free(h);
    hnsw_free(fresh);
    mem_free(base.rows);
    mem_free(queries.rows);
}

static void turnover_keeps_recall(void **state) {
    (void)state;
    uint32_t n = 3000, rounds = getenv("KITH_LONG") ? 20 : 5;
    set base = set_new(n * (rounds + 1), 64, 40, 3, 0), queries = set_new(100, 64, 40, 3, 1);
    set first = base;
    first.n = n;
    hnsw *h = index_of(&first, (hnsw_options){.seed = 1});
    for (uint32_t i = n; i < base.n; i++) /* updates: each replaces the vector of a doc */
        assert_int_equal(hnsw_insert(h, i % n, row(&base, i)), OK);
    must_be_valid(h);
    assert_int_equal(hnsw_count(h), n);
    double r = recall(h, &queries, top(10));
    print_message("content replaced %u times: recall %.4f\n", rounds, r);
    assert_true(r >= 0.95);
    hnsw_free(h);
    mem_free(base.rows);
    mem_free(queries.rows);
}

static void update_moves_a_doc(void **state) {
    (void)state;
    set base = set_new(2000, 32, 10, 1, 0);
    hnsw *h = index_of(&base, (hnsw_options){0});
    hnsw_scratch *s;
    hnsw_hit hit;
    size_t n;
    assert_int_equal(hnsw_scratch_new(&s), OK);
    assert_int_equal(hnsw_insert(h, 3, row(&base, 1000)), OK); /* now equal to doc 1000 */
    assert_int_equal(hnsw_count(h), 2000);
    assert_int_equal(hnsw_stats_get(h).nodes, 1999);
    must_be_valid(h);
    assert_int_equal(hnsw_search(h, row(&base, 3), &(hnsw_query){.k = 1}, s, &hit, &n), OK);
    assert_int_not_equal(hit.doc, 3);
    assert_int_equal(hnsw_search(h, row(&base, 1000), &(hnsw_query){.k = 1}, s, &hit, &n), OK);
    assert_int_equal(hit.doc, 3); /* equal scores: the smaller doc */
    assert_int_equal(hnsw_insert(h, 3, row(&base, 3)), OK);
    assert_int_equal(hnsw_insert(h, 3, row(&base, 3)), OK); /* the same again changes nothing */
    assert_int_equal(hnsw_stats_get(h).nodes, 2000);
    must_be_valid(h);
    hnsw_scratch_free(s);
    hnsw_free(h);
    mem_free(base.rows);
}

static void plans_may_be_old(void **state) {
    (void)state;
    set base = set_new(3000, 32, 10, 1, 0);
    hnsw *h;
    hnsw_scratch *s;
    hnsw_draft *d;
    assert_int_equal(hnsw_new(&(hnsw_options){.dim = 32}, &h), OK);
    assert_int_equal(hnsw_scratch_new(&s), OK);
    assert_int_equal(hnsw_draft_new(&d), OK);
    assert_int_equal(hnsw_apply(h, 0, d), ERR_INVALID);
    for (uint32_t i = 0; i < 2000; i++) {
        assert_int_equal(hnsw_plan(h, row(&base, i), 32, s, d), OK);
        if (i % 3 == 0)
            assert_int_equal(hnsw_insert(h, 2000 + i / 3, row(&base, 2000 + i / 3)), OK);
        if (i % 5 == 4) assert_int_equal(hnsw_delete(h, i - 1), OK);
        if (i % 7 == 0) assert_int_equal(hnsw_insert(h, 2990, row(&base, i)), OK);
        assert_int_equal(hnsw_apply(h, i, d), OK);
    }
    must_be_valid(h);
    hnsw_draft_free(d);
    hnsw_scratch_free(s);
    hnsw_free(h);
    mem_free(base.rows);
}

typedef struct planner {
    const hnsw *h;
    const set *base;
    hnsw_draft **d;
    uint32_t at, count, failed;
} planner;

/* Plans every second draft of a batch. */
static void *plan_half(void *arg) {
    planner *p = arg;
    hnsw_scratch *s;
    if (hnsw_scratch_new(&s) != OK) return NULL;
    for (uint32_t i = p->at & 1; i < p->count; i += 2) {
        uint32_t at = (p->at & ~1u) + i;
        p->failed += hnsw_plan(p->h, row(p->base, at), p->base->dim, s, p->d[i]) != OK;
    }
    hnsw_scratch_free(s);
    return NULL;
}

/* Inserts rows [at, at + n) planned by two threads, while others are deleted. */
static void insert_batch(hnsw *h, const set *base, hnsw_draft **d, uint32_t at, uint32_t n) {
    planner half[2] = {{h, base, d, at, n, 0}, {h, base, d, at + 1, n, 0}};
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, plan_half, &half[1]), 0);
    plan_half(&half[0]);
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(half[0].failed + half[1].failed, 0);
    for (uint32_t i = 0; i < n; i++) {
        if (at % 96 == 0 && i % 8 == 4) {
            assert_int_equal(hnsw_delete(h, at - 40 - i), OK);
            assert_int_equal(hnsw_insert(h, at - 40 - i, row(base, at - 40 - i)), OK);
        }
        assert_int_equal(hnsw_apply(h, at + i, d[i]), OK);
    }
}

static void plans_are_made_side_by_side(void **state) {
    (void)state;
    enum { MANY = 32 };
    set base = set_new(6016, 32, 20, 11, 0), queries = set_new(200, 32, 20, 11, 1);
    for (uint32_t i = 4096; i < 4096 + MANY; i++) /* a burst of near-duplicates, far from all */
        for (uint32_t d = 0; d < 32; d++)
            base.rows[(size_t)i * 32 + d] = (d & 1 ? -0.3f : 0.3f) + 0.001f * (float)((i * d) % 7);
    hnsw *h, *one = index_of(&base, (hnsw_options){.dim = 32, .ef_build = 64});
    hnsw_draft *d[MANY];
    for (int i = 0; i < MANY; i++) assert_int_equal(hnsw_draft_new(&d[i]), OK);
    assert_int_equal(hnsw_new(&(hnsw_options){.dim = 32, .ef_build = 64}, &h), OK);
    assert_int_equal(hnsw_plan_together(h), 1);
    for (uint32_t i = 0; i < 2048; i++) assert_int_equal(hnsw_insert(h, i, row(&base, i)), OK);
    assert_int_equal(hnsw_plan_together(h), MANY);
    for (uint32_t i = 2048; i < base.n; i += MANY) insert_batch(h, &base, d, i, MANY);
    must_be_valid(h);
    double apart = recall(one, &queries, top(10)), together = recall(h, &queries, top(10));
    print_message("recall one by one %.4f, together %.4f\n", apart, together);
    assert_true(together > apart - 0.01);
    set burst = {base.rows + (size_t)4096 * 32, MANY, 32};
    assert_true(recall(h, &burst, top(10)) > 0.99);
    for (int i = 0; i < MANY; i++) hnsw_draft_free(d[i]);
    hnsw_free(h);
    hnsw_free(one);
    mem_free(base.rows);
    mem_free(queries.rows);
}

static void random_life_is_valid(void **state) {
    (void)state;
    uint32_t rounds = getenv("KITH_LONG") ? 40 : 3;
    for (uint32_t round = 0; round < rounds; round++) {
        rng r;
        rng_seed(&r, 100 + round);
        uint32_t dim = 2 + rng_below(&r, 40), docs = 2500;
        set base = set_new(docs, dim, 1 + rng_below(&r, 30), round, 0);
        uint8_t *model = mem_zalloc(docs, 1);
        hnsw *h;
        hnsw_options o = {
            .dim = dim, .degree = 8 + rng_below(&r, 40), .ef_build = 20, .seed = round};
        assert_int_equal(hnsw_new(&o, &h), OK);
        size_t count = 0;
        for (uint32_t step = 0; step < 9000; step++) {
            uint32_t doc = rng_below(&r, docs), vector = rng_below(&r, docs);
            bool filling = step / 1500 % 2 == 0;
            if (rng_below(&r, 10) < (filling ? 8u : 2u)) {
                assert_int_equal(hnsw_insert(h, doc, row(&base, vector)), OK);
                count += !model[doc];
                model[doc] = 1;
            } else {
                assert_int_equal(hnsw_delete(h, doc), model[doc] ? OK : ERR_NOT_FOUND);
                count -= model[doc];
                model[doc] = 0;
            }
            assert_int_equal(hnsw_count(h), count);
            if (step % 1000 == 999) must_be_valid(h);
        }
        for (uint32_t doc = 0; doc < docs; doc++) assert_int_equal(hnsw_has(h, doc), model[doc]);
        hnsw_free(h);
        mem_free(model);
        mem_free(base.rows);
    }
}

static void sorted_arrival_is_fine(void **state) {
    (void)state;
    enum { N = 4000, DIM = 16 };
    set base = {mem_alloc(N * DIM * sizeof(float)), N, DIM}; /* a curve: each near the one before */
    for (size_t i = 0; i < N; i++) {
        for (size_t d = 0; d < DIM; d++)
            base.rows[i * DIM + d] = cosf((float)i * 0.001f * (float)(d + 1)) + 0.01f;
        row_normalise(base.rows + i * DIM, DIM);
    }
    hnsw *h = index_of(&base, (hnsw_options){0});
    must_be_valid(h);
    double r = recall(h, &(set){base.rows, 200, DIM}, top(10));
    print_message("along a curve: recall %.4f\n", r);
    assert_true(r >= 0.9);
    for (uint32_t i = 0; i < N; i += 3) assert_int_equal(hnsw_delete(h, i), OK);
    must_be_valid(h);
    hnsw_free(h);
    mem_free(base.rows);
}

/* ---- threads ---- */

typedef struct shared {
    pthread_rwlock_t lock;
    const hnsw *h;
    const set *base;
    atomic_bool stop;
    atomic_uint searches, wrong;
} shared;

static void *search_on(void *arg) {
    shared *sh = arg;
    hnsw_scratch *s;
    if (hnsw_scratch_new(&s) != OK) return NULL;
    for (uint32_t i = 0; !atomic_load(&sh->stop); i++) {
        hnsw_hit hits[10];
        size_t n = 0;
        pthread_rwlock_rdlock(&sh->lock);
        size_t docs = hnsw_count(sh->h);
        err rc =
            hnsw_search(sh->h, row(sh->base, i % sh->base->n), &(hnsw_query){.k = 10}, s, hits, &n);
        pthread_rwlock_unlock(&sh->lock);
        if (rc != OK || n != MIN(docs, (size_t)10)) atomic_fetch_add(&sh->wrong, 1);
        atomic_fetch_add(&sh->searches, 1);
    }
    hnsw_scratch_free(s);
    return NULL;
}

static void searches_run_beside_the_writer(void **state) {
    (void)state;
    set base = set_new(3000, 32, 10, 1, 0);
    hnsw *h;
    hnsw_scratch *s;
    hnsw_draft *d;
    pthread_t readers[2];
    assert_int_equal(hnsw_new(&(hnsw_options){.dim = 32}, &h), OK);
    assert_int_equal(hnsw_scratch_new(&s), OK);
    assert_int_equal(hnsw_draft_new(&d), OK);
    shared sh = {.h = h, .base = &base};
    pthread_rwlockattr_t attr; /* or two readers could keep the writer out for ever */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    assert_int_equal(pthread_rwlock_init(&sh.lock, &attr), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, search_on, &sh), 0);
    for (uint32_t i = 0; i < base.n; i++) {
        pthread_rwlock_rdlock(&sh.lock);
        assert_int_equal(hnsw_plan(h, row(&base, i), 32, s, d), OK);
        pthread_rwlock_unlock(&sh.lock);
        pthread_rwlock_wrlock(&sh.lock);
        assert_int_equal(hnsw_apply(h, i, d), OK);
        if (i % 4 == 3) assert_int_equal(hnsw_delete(h, i - 2), OK);
        pthread_rwlock_unlock(&sh.lock);
    }
    atomic_store(&sh.stop, true);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_join(readers[i], NULL), 0);
    assert_int_equal(atomic_load(&sh.wrong), 0);
    print_message("%u searches beside %u inserts\n", atomic_load(&sh.searches), base.n);
    must_be_valid(h);
    pthread_rwlock_destroy(&sh.lock);
    hnsw_draft_free(d);
    hnsw_scratch_free(s);
    hnsw_free(h);
    mem_free(base.rows);
}

/* ---- duplicates ---- */

static void duplicates_share_a_node(void **state) {
    (void)state;
    set base = set_new(6000, 48, 30, 5, 0), queries = set_new(100, 48, 30, 5, 1);
    for (uint32_t i = 0; i < base.n; i += 5) /* a fifth are reposts of 20 texts */
        memcpy(base.rows + (size_t)i * 48, row(&base, i % 100 + 1), 48 * sizeof(float));
    hnsw *h = index_of(&base, (hnsw_options){.seed = 1});
    assert_true(hnsw_stats_get(h).nodes <= 4800);
    assert_int_equal(hnsw_count(h), 6000);
    must_be_valid(h);
    double r = recall(h, &queries, top(10));
    print_message("20%% duplicates: recall %.4f\n", r);
    assert_true(r >= 0.95);
    assert_true(recall(h, &base, top(1)) >= 0.99); /* every vector finds itself */
    for (uint32_t i = 0; i < base.n; i += 10) assert_int_equal(hnsw_delete(h, i), OK);
    must_be_valid(h);
    hnsw_free(h);
    mem_free(base.rows);
    mem_free(queries.rows);
}

static void near_duplicates_stay_reachable(void **state) {
    (void)state;
    set base = set_new(4000, 48, 30, 5, 0), queries = set_new(50, 48, 30, 5, 1);
    rng r;
    rng_seed(&r, 1);
    for (uint32_t i = 0; i < 2000; i++) { /* half are one text with a comma moved */
        float *x = base.rows + (size_t)i * 48;
        for (size_t d = 0; d < 48; d++) x[d] = row(&base, 3999)[d] + rng_normal(&r) * 2e-3f;
        row_normalise(x, 48);
    }
    hnsw *h = index_of(&base, (hnsw_options){.seed = 1});
    must_be_valid(h);
    double others = recall(h, &queries, top(10));
    print_message("half near-duplicates: recall of others %.4f\n", others);
    assert_true(others >= 0.93);
    hnsw_free(h);
    mem_free(base.rows);
    mem_free(queries.rows);
}

static void one_vector_many_docs(void **state) {
    (void)state;
    hnsw *h;
    float x[8] = {1, 2, 3};
    assert_int_equal(hnsw_new(&(hnsw_options){.dim = 8}, &h), OK);
    for (uint32_t i = 0; i < 3000; i++) assert_int_equal(hnsw_insert(h, i, x), OK);
    assert_int_equal(hnsw_stats_get(h).nodes, 1);
    assert_true(recall(h, &(set){x, 1, 8}, top(100)) == 1.0);
    for (uint32_t i = 0; i < 3000; i++) assert_int_equal(hnsw_delete(h, i), OK);
    must_be_valid(h);
    hnsw_free(h);
}

/* ---- filters ---- */

static void filters_give_full_pages(void **state) {
    (void)state;
    set base = set_new(9000, 64, 40, 3, 0), queries = set_new(60, 64, 40, 3, 1);
    hnsw *h = index_of(&base, (hnsw_options){.seed = 1});
    uint64_t *bits = mem_zalloc(bits_words(base.n), sizeof *bits);
    static const double shares[] = {1.0, 0.5, 0.1, 0.01, 0.001, 0.0};
    for (int correlated = 0; correlated < 2; correlated++) {
        for (size_t i = 0; i < COUNT_OF(shares); i++) {
            rng r;
            rng_seed(&r, i);
            memset(bits, 0, bits_words(base.n) * sizeof *bits);
            float edge = -0.05f; /* correlated: docs on one side of a plane */
            for (uint32_t doc = 0; doc < base.n; doc++)
                if (rng_unit(&r) < shares[i] && (!correlated || row(&base, doc)[0] > edge))
                    bits_set(bits, doc);
            size_t count = bits_count(bits, bits_words(base.n));
            hnsw_query q = {.k = 10, .filter = bits, .filter_docs = base.n, .filter_count = count};
            double rec = recall(h, &queries, q);
            print_message("%zu docs match%s: recall %.4f\n", count,
                          correlated ? ", correlated" : "", rec);
            assert_true(rec >= 0.95);
            q.filter_count = base.n; /* a wrong count may cost recall, never the page */
            (void)recall(h, &queries, q);
            q.filter_docs = 100; /* a short set: docs past its end do not match */
            q.filter_count = bits_count(bits, 1) + 20;
            assert_true(recall(h, &queries, q) >= 0.95);
        }
    }
    mem_free(bits);
    hnsw_free(h);
    mem_free(base.rows);
    mem_free(queries.rows);
}

static void k_may_exceed_what_there_is(void **state) {
    (void)state;
    set base = set_new(1500, 16, 5, 3, 0);
    hnsw *h = index_of(&base, (hnsw_options){0});
    hnsw_scratch *s;
    assert_int_equal(hnsw_scratch_new(&s), OK);
    hnsw_hit *hits = mem_alloc(HNSW_K_MAX * sizeof *hits);
    size_t n;
    assert_int_equal(hnsw_search(h, base.rows, &(hnsw_query){.k = HNSW_K_MAX}, s, hits, &n), OK);
    assert_int_equal(n, 1500);
    assert_int_equal(hnsw_search(h, base.rows, &(hnsw_query){.k = 1400, .ef = 1}, s, hits, &n), OK);
    assert_int_equal(n, 1400);
    assert_int_equal(hnsw_search(h, base.rows, &(hnsw_query){.k = 0}, s, hits, &n), ERR_INVALID);
    assert_int_equal(hnsw_search(h, base.rows, &(hnsw_query){.k = HNSW_K_MAX + 1}, s, hits, &n),
                     ERR_INVALID);
    assert_int_equal(
        hnsw_search(h, base.rows, &(hnsw_query){.k = 1, .ef = HNSW_EF_MAX + 1}, s, hits, &n),
        ERR_INVALID);
    mem_free(hits);
    hnsw_scratch_free(s);
    hnsw_free(h);
    mem_free(base.rows);
}

/* ---- refusals ---- */

static void bad_vectors_are_refused(void **state) {
    (void)state;
    set base = set_new(1200, 16, 5, 3, 0);
    hnsw *h = index_of(&base, (hnsw_options){.max_docs = 1200});
    hnsw_scratch *s;
    hnsw_draft *d;
    hnsw_hit hit;
    size_t n;
    assert_int_equal(hnsw_scratch_new(&s), OK);
    assert_int_equal(hnsw_draft_new(&d), OK);
    float bad[][16] = {{0}, {[3] = NAN}, {[15] = INFINITY}, {[0] = -INFINITY, [1] = 1}, {-0.0f}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(hnsw_insert(h, 1, bad[i]), ERR_INVALID);
        assert_int_equal(hnsw_plan(h, bad[i], 16, s, d), ERR_INVALID);
        assert_int_equal(hnsw_search(h, bad[i], &(hnsw_query){.k = 1}, s, &hit, &n), ERR_INVALID);
        assert_int_equal(hnsw_score_docs(h, bad[i], &(uint32_t){1}, 1, &(float){0}), ERR_INVALID);
    }
    assert_int_equal(hnsw_plan(h, base.rows, 15, s, d), ERR_INVALID);
    assert_int_equal(hnsw_plan(h, base.rows, 17, s, d), ERR_INVALID);
    assert_int_equal(hnsw_insert(h, 1200, base.rows), ERR_NO_SPACE);
    float tiny[16] = {1e-40f, 1e-42f}, huge[16] = {3e38f, 3e38f};
    assert_int_equal(hnsw_insert(h, 1, tiny), OK); /* any length but zero */
    assert_int_equal(hnsw_insert(h, 2, huge), OK);
    must_be_valid(h);
    hnsw *none;
    assert_int_equal(hnsw_new(&(hnsw_options){.dim = 0}, &none), ERR_INVALID);
    assert_int_equal(hnsw_new(&(hnsw_options){.dim = HNSW_DIM_MAX + 1}, &none), ERR_INVALID);
    assert_int_equal(hnsw_new(&(hnsw_options){.dim = 8, .degree = 7}, &none), ERR_INVALID);
    assert_int_equal(hnsw_new(&(hnsw_options){.dim = 8, .degree = 129}, &none), ERR_INVALID);
    assert_int_equal(hnsw_new(&(hnsw_options){.dim = 8, .ef_build = 20001}, &none), ERR_INVALID);
    hnsw_draft_free(d);
    hnsw_scratch_free(s);
    hnsw_free(h);
    mem_free(base.rows);
}

/* ---- snapshots ---- */

static void save_to(const hnsw *h, strbuf *b) {
    strbuf_init(b, 512 * MIB);
    writer w = writer_to_strbuf(b);
    assert_int_equal(hnsw_save(h, &w), OK);
}

static void snapshots_go_round(void **state) {
    (void)state;
    for (uint32_t n = 0; n <= 2600; n += 1300) {
        set base = set_new(n + 1, 40, 20, 9, 0);
        base.n = n;
        hnsw *h = index_of(&base, (hnsw_options){.seed = 4}), *again;
        for (uint32_t i = 0; i < n; i += 9) assert_int_equal(hnsw_delete(h, i), OK);
        strbuf a, b;
        save_to(h, &a);
        err rc = hnsw_load(a.ptr, a.len, &(hnsw_options){.dim = 40, .ef_default = 80}, &again);
        if (rc != OK) print_error("%s\n", err_detail());
        assert_int_equal(rc, OK);
        for (uint32_t i = 0; i < n / 2; i++) { /* both go on the same way */
            assert_int_equal(hnsw_insert(h, i, row(&base, n - 1 - i)), OK);
            assert_int_equal(hnsw_insert(again, i, row(&base, n - 1 - i)), OK);
        }
        must_be_valid(again);
        strbuf_deinit(&a);
        save_to(h, &a);
        save_to(again, &b);
        assert_int_equal(a.len, b.len);
        a.ptr[20] = b.ptr[20]; /* ef_default */
        assert_memory_equal(a.ptr, b.ptr, a.len);
        assert_int_equal(hnsw_load(a.ptr, a.len, &(hnsw_options){.dim = 41}, &again), ERR_INVALID);
        strbuf_deinit(&a);
        strbuf_deinit(&b);
        hnsw_free(h);
        hnsw_free(again);
        mem_free(base.rows);
    }
}

static void same_calls_same_bytes(void **state) {
    (void)state;
    set base = set_new(2500, 24, 20, 9, 0);
    strbuf a, b;
    hnsw *h = index_of(&base, (hnsw_options){.seed = 4}),
         *g = index_of(&base, (hnsw_options){.seed = 4});
    save_to(h, &a);
    save_to(g, &b);
    assert_true(str_eq(strbuf_str(&a), strbuf_str(&b)));
    uint32_t crc = crc32c(0, a.ptr, a.len);
    print_message("snapshot of 2500 x 24: %zu bytes, crc %08x\n", a.len, crc);
    strbuf_deinit(&a);
    strbuf_deinit(&b);
    hnsw_free(h);
    hnsw_free(g);
    mem_free(base.rows);
}

/* What loads must be usable: validated, searched, changed. */
static void use(hnsw *h, const float *x) {
    hnsw_scratch *s;
    hnsw_hit hits[20];
    size_t n;
    assert_int_equal(hnsw_scratch_new(&s), OK);
    assert_int_equal(hnsw_search(h, x, &(hnsw_query){.k = 20, .ef = 40}, s, hits, &n), OK);
    assert_int_equal(hnsw_insert(h, 3, x), OK);
    for (uint32_t doc = 0; doc < 200; doc += 7)
        if (hnsw_has(h, doc)) assert_int_equal(hnsw_delete(h, doc), OK);
    hnsw_scratch_free(s);
}

static void damaged_snapshots_never_crash(void **state) {
    (void)state;
    enum { DIM = 4, N = 1100 };
    set base = set_new(N, DIM, 20, 9, 0);
    hnsw *h = index_of(&base, (hnsw_options){.degree = 8, .ef_build = 10, .seed = 4});
    for (uint32_t i = 100; i < N; i++)
        assert_int_equal(hnsw_delete(h, i), OK); /* trained, yet small */
    strbuf b;
    save_to(h, &b);
    hnsw_free(h);
    size_t loaded = 0, refused = 0, step = getenv("KITH_LONG") ? 1 : 37;
    for (size_t at = 0; at < b.len; at += step) {
        uint8_t keep = (uint8_t)b.ptr[at];
        b.ptr[at] = (char)(keep ^ (1u << (at % 8)));
        err rc = hnsw_load(b.ptr, b.len, NULL, &h);
        b.ptr[at] = (char)keep;
        if (rc != OK) {
            refused++;
            continue;
        }
        loaded++;
        use(h, base.rows);
        hnsw_free(h);
    }
    print_message("%zu damaged snapshots refused, %zu loaded and usable\n", refused, loaded);
    assert_true(refused > 100 && loaded > 100);
    for (size_t n = 0; n < b.len; n += 1 + b.len / 300)
        assert_int_not_equal(hnsw_load(b.ptr, n, NULL, &h), OK);
    strbuf_deinit(&b);
    mem_free(base.rows);
}

/* ---- real vectors ---- */

static float *fvecs_read(const char *folder, const char *name, uint32_t *n, uint32_t *dim) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = mem_alloc(size);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, size, f), size);
    fclose(f);
    *dim = le32_get(p);
    *n = (uint32_t)(size / (4 * (*dim + 1)));
    for (size_t i = 0; i < *n; i++)
        memmove(p + i * *dim * 4, p + i * (*dim + 1) * 4 + 4, (size_t)*dim * 4);
    return (float *)(void *)p;
}

/* The shared data's word vectors: 20,000 of them here, all with KITH_LONG. */
static void real_vectors_are_found(void **state) {
    (void)state;
    const char *data = getenv("KITH_DATA");
    char folder[512];
    (void)snprintf(folder, sizeof folder, "%s/ann/glove100", data ? data : "../shared/data");
    set base = {0}, queries = {0};
    base.rows = fvecs_read(folder, "base.fvecs", &base.n, &base.dim);
    queries.rows = fvecs_read(folder, "query.fvecs", &queries.n, &queries.dim);
    if (!base.rows || !queries.rows) {
        print_message("%s is absent: skipped\n", folder);
        mem_free(base.rows);
        mem_free(queries.rows);
        skip();
    }
    if (!getenv("KITH_LONG")) base.n = 20000, queries.n = 200;
    hnsw *h = index_of(&base, (hnsw_options){.seed = 1});
    must_be_valid(h);
    double r = recall(h, &queries, top(10));
    print_message("glove100, %u vectors: recall@10 %.4f at the default ef\n", base.n, r);
    assert_true(r >= 0.95);
    hnsw_free(h);
    mem_free(base.rows);
    mem_free(queries.rows);
}

/* ---- memory ---- */

static void memory_may_fail(void **state) {
    (void)state;
    set base = set_new(1400, 20, 10, 2, 0);
    hnsw *h = NULL;
    for (long n = 1; !h && n < 50; n++) {
        mem_fail_after(n);
        err rc = hnsw_new(&(hnsw_options){.dim = 20}, &h);
        mem_fail_after(0);
        assert_true(rc == OK || rc == ERR_NO_MEMORY);
        if (rc != OK) h = NULL;
    }
    size_t failed = 0;
    for (uint32_t i = 0; i < base.n; i++) {
        for (long n = 1;; n++) { /* until none of the insert's allocations is left to fail */
            mem_fail_after(n);
            err rc = hnsw_insert(h, i, row(&base, i));
            mem_fail_after(0);
            if (rc == OK) break;
            failed++;
            assert_int_equal(rc, ERR_NO_MEMORY);
            assert_false(hnsw_has(h, i));
            assert_true(n < 50);
        }
    }
    assert_true(failed > 5);
    must_be_valid(h);
    strbuf b;
    save_to(h, &b);
    hnsw_free(h);
    err rc = ERR_NO_MEMORY;
    for (long n = 1; rc != OK && n < 100; n++) {
        mem_fail_after(n);
        rc = hnsw_load(b.ptr, b.len, NULL, &h);
        mem_fail_after(0);
        assert_true(rc == OK || rc == ERR_NO_MEMORY);
    }
    must_be_valid(h);
    hnsw_scratch *s;
    hnsw_hit hits[5];
    size_t found;
    assert_int_equal(hnsw_scratch_new(&s), OK);
    rc = ERR_NO_MEMORY;
    for (long n = 1; rc != OK && n < 20; n++) {
        mem_fail_after(n);
        rc = hnsw_search(h, base.rows, &(hnsw_query){.k = 5}, s, hits, &found);
        mem_fail_after(0);
    }
    assert_int_equal(rc, OK);
    hnsw_scratch_free(s);
    strbuf_deinit(&b);
    hnsw_free(h);
    mem_free(base.rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recall_is_high),
        cmocka_unit_test(scores_are_cosines),
        cmocka_unit_test(deletes_leave_a_good_graph),
        cmocka_unit_test(turnover_keeps_recall),
        cmocka_unit_test(update_moves_a_doc),
        cmocka_unit_test(plans_may_be_old),
        cmocka_unit_test(plans_are_made_side_by_side),
        cmocka_unit_test(random_life_is_valid),
        cmocka_unit_test(searches_run_beside_the_writer),
        cmocka_unit_test(sorted_arrival_is_fine),
        cmocka_unit_test(duplicates_share_a_node),
        cmocka_unit_test(near_duplicates_stay_reachable),
        cmocka_unit_test(one_vector_many_docs),
        cmocka_unit_test(filters_give_full_pages),
        cmocka_unit_test(k_may_exceed_what_there_is),
        cmocka_unit_test(bad_vectors_are_refused),
        cmocka_unit_test(snapshots_go_round),
        cmocka_unit_test(same_calls_same_bytes),
        cmocka_unit_test(damaged_snapshots_never_crash),
        cmocka_unit_test(real_vectors_are_found),
        cmocka_unit_test(memory_may_fail),
    };
    return cmocka_run_group_tests_name("index_hnsw", tests, NULL, NULL);
}
