/* More like this post: its own stored vector is the query, and its rarest words beside it. When it has
 * no vector yet its text is embedded as a document, so that the answer is the one that the stored
 * vector will give. When that fails too, words alone answer.
 *
 * Of a long text only the SEARCH_SIMILAR_TERMS rarest words that other posts have too are asked for: a
 * word that nobody else uses finds nothing and costs little, a common one costs much and says little.
 *
 * The post itself is left out by a bit in the filter, so pages are full without it.
 */
#include "search/search_int.h"

#include "index/analyze.h"

typedef struct rare {
    str text;
    uint32_t df, tf;
} rare;

/* Keeps `list` ascending by df; the most common falls off the end. */
static void rare_add(rare *list, size_t *n, rare r) {
    for (size_t i = 0; i < *n; i++)
        if (str_eq(list[i].text, r.text)) {
            list[i].tf++;
            return;
        }
    size_t i = *n;
    if (i == SEARCH_SIMILAR_TERMS) {
        if (list[i - 1].df <= r.df) return;
        i--;
    } else {
        ++*n;
    }
    for (; i > 0 && list[i - 1].df > r.df; i--) list[i] = list[i - 1];
    list[i] = r;
}

static err similar_words(searcher *x, const char *text, arena *a, plan *p) {
    token_list t;
    rare list[SEARCH_SIMILAR_TERMS];
    size_t n = 0;
    shard_words w;
    TRY(analyze(a, str_of(text), &t));
    shard_words_begin(x->shard, &w);
    for (size_t i = 0; i < t.count; i++) {
        uint32_t df = lexical_df(w.words, t.items[i].term);
        if (df > 1) rare_add(list, &n, (rare){t.items[i].term, df, 1});
    }
    shard_words_end(x->shard);
    str *words = arena_alloc(a, (n + 1) * sizeof *words);
    if (!words) return ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) words[i] = list[i].text;
    return plan_terms(p, words, n, a);
}

/* The vector of a text that the fold has not come to yet. Someone waits: no longer than for a query's. */
static err embed_waiting(searcher *x, const str *text, float *v) {
    embed_ask ask = {.texts = text,
                     .count = 1,
                     .task = EMBED_DOCUMENT,
                     .deadline_ns = clock_mono_ns() + SEARCH_EMBED_MS * (uint64_t)1000000};
    return provider_embed_ask(x->providers[0], &ask, v, NULL);
}

static err similar_vector(searcher *x, const store_row *row, arena *a, plan *p) {
    float *v = arena_alloc(a, shard_dim(x->shard) * sizeof *v);
    if (!v) return ERR_NO_MEMORY;
    const hnsw *h = shard_vectors_begin(x->shard);
    err rc = hnsw_has(h, row->doc) ? hnsw_get(h, row->doc, v) : ERR_NOT_FOUND;
    shard_vectors_end(x->shard);
    str text = str_of(row->post->text);
    if (rc != OK) rc = embed_waiting(x, &text, v);
    if (rc == OK) p->vector = v;
    if (rc != OK) rc = fallback_stored(x, row->doc, a, p);
    if (rc == ERR_NOT_FOUND) rc = fallback_vector(x, text, a, p);
    p->degraded = rc != OK;
    return OK;
}

err similar_fill(searcher *x, const Kith__V1__SimilarRequest *req, arena *a, plan *p) {
    store *st = shard_store(x->shard);
    store_row row;
    store_reader *rd = store_reader_get(st);
    err rc = store_get(rd, str_of(req->id), a, &row);
    store_reader_put(st, rd);
    TRY(rc);
    p->self = row.doc;
    if (req->other_threads) p->not_thread = str_of(row.post->thread);
    TRY(similar_vector(x, &row, a, p));
    TRY(similar_words(x, row.post->text, a, p));
    p->mode = p->vector ? MODE_HYBRID : MODE_WORDS;
    return OK;
}
