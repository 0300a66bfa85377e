/* Live recall: now and then one real query's vector is kept, and in an idle moment answered twice, by the
 * graph as searches are and exactly, over every vector. What the graph missed is what its users missed.
 *
 * One vector is kept at a time, the first after the last one was used, so queries are told apart by
 * nothing. The exact scan takes the vectors lock for CHUNK documents at a time (under a millisecond), so
 * a writer waits no longer than for a search; documents that change meanwhile count as they were found.
 */
#include "search/search_int.h"

#include <stdlib.h>

enum { K = 10, CHUNK = 512, EMPTY = 0, BUSY = 1, FULL = 2 };

void recall_offer(searcher *x, const float *v) {
    unsigned empty = EMPTY;
    if (atomic_load_explicit(&x->sample_state, memory_order_relaxed) != EMPTY) return;
    if (!atomic_compare_exchange_strong(&x->sample_state, &empty, BUSY)) return;
    memcpy(x->sample, v, shard_dim(x->shard) * sizeof *v);
    atomic_store_explicit(&x->sample_state, FULL, memory_order_release);
}

typedef struct best {
    uint32_t docs[K];
    float scores[K];
    size_t count;
} best;

static void best_add(best *b, uint32_t doc, float score) {
    if (score <= HNSW_SCORE_ABSENT || (b->count == K && score <= b->scores[K - 1])) return;
    size_t i = b->count < K ? b->count++ : K - 1;
    for (; i > 0 && b->scores[i - 1] < score; i--) {
        b->scores[i] = b->scores[i - 1];
        b->docs[i] = b->docs[i - 1];
    }
    b->scores[i] = score;
    b->docs[i] = doc;
}

static err exact(searcher *x, uint32_t limit, best *out) {
    uint32_t docs[CHUNK];
    float scores[CHUNK];
    for (uint32_t from = 0; from < limit; from += CHUNK) {
        uint32_t n = MIN(limit - from, (uint32_t)CHUNK);
        for (uint32_t i = 0; i < n; i++) docs[i] = from + i;
        const hnsw *h = shard_vectors_begin(x->shard);
        err rc = hnsw_score_docs(h, x->sample, docs, n, scores);
        shard_vectors_end(x->shard);
        TRY(rc);
        for (uint32_t i = 0; i < n; i++) best_add(out, docs[i], scores[i]);
    }
    return OK;
}

static err by_graph(searcher *x, hnsw_hit hits[K], size_t *n) {
    search_scratch *s;
    TRY(searcher_scratch_get(x, &s));
    hnsw_query q = {.k = K};
    const hnsw *h = shard_vectors_begin(x->shard);
    err rc = hnsw_search(h, x->sample, &q, s->hnsw, hits, n);
    shard_vectors_end(x->shard);
    searcher_scratch_put(x, s);
    return rc;
}

err searcher_recall(searcher *x, uint32_t *right, uint32_t *of) {
    hnsw_hit hits[K];
    size_t n = 0;
    best b = {.count = 0};
    shard_words w;
    if (atomic_load_explicit(&x->sample_state, memory_order_acquire) != FULL)
        return err_set(ERR_NOT_FOUND, "no query since the last sample");
    shard_words_begin(x->shard, &w);
    uint32_t limit = w.doc_limit;
    shard_words_end(x->shard);
    err rc = by_graph(x, hits, &n);
    if (rc == OK) rc = exact(x, limit, &b);
    atomic_store_explicit(&x->sample_state, EMPTY, memory_order_release);
    TRY(rc);
    *of = (uint32_t)b.count;
    *right = 0;
    float worst = b.count ? b.scores[b.count - 1] : 0;
    /* A hit as good as the last of the exact ones is right, whichever of equals it is. */
    for (size_t i = 0; i < n; i++) *right += hits[i].score >= worst - 1e-6f;
    *right = MIN(*right, *of);
    metric_add(M_RECALL_SAMPLES, RECALL_FOUND, *right);
    metric_add(M_RECALL_SAMPLES, RECALL_MISSED, *of - *right);
    return OK;
}
