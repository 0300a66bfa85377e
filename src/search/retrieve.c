/* Retrieval: both retrievers under one filter and one lock, then each scores what only the other
 * found, so that fusion has no holes: a post that words found and vectors did not list still has its
 * exact cosine, and the other way round.
 *
 * Everything that needs the indexes to stand still happens between shard_words_begin and _end: the
 * filter, both lists, both cross scores, revisions, times and names. It takes about a millisecond; the
 * query's vector was made before, and rows are read after. The vectors lock is taken inside the words
 * lock, as shard.h orders. Vectors lag behind words, never run ahead, so a document found by vector
 * may be gone from words: then its revision is 0 and it is dropped here.
 *
 * Cross scores of words come from the same lexical_search over a filter of just those documents: it
 * looks at such few one by one (200 documents: 20 microseconds), and equal code gives equal floats.
 *
 * A query of operators only has no scores: its candidates are the newest posts.
 *
 * Invariants: each document is once among the candidates; best first, ties to the lower number.
 */
#include "search/search_int.h"

#include <math.h>
#include <stdlib.h>

enum { SLOT_FREE = 0 };

typedef struct gather {
    const plan *p;
    const shard_words *w;
    search_scratch *s;
    arena *a;
    doc_set set;
    size_t depth;
    candidate *items;
    size_t count, cap;
    uint32_t *slots; /* open addressing: index + 1 */
    size_t mask;
    bool more;
    double bound; /* sum of the terms' idf, when some candidate has no vector */
} gather;

/* ---- the set of candidates ---------------------------------------------------------------- */

static err gather_init(gather *g) {
    size_t size = 64;
    g->cap = 2 * g->depth;
    while (size < 2 * g->cap) size *= 2;
    g->items = arena_alloc(g->a, g->cap * sizeof *g->items);
    g->slots = arena_zalloc(g->a, size, sizeof *g->slots);
    g->mask = size - 1;
    return g->items && g->slots ? OK : ERR_NO_MEMORY;
}

/* The candidate of this document, made when it is new; NULL when the document is not live. */
static candidate *gather_at(gather *g, uint32_t doc) {
    size_t i = hash64_u64(doc) & g->mask;
    for (; g->slots[i] != SLOT_FREE; i = (i + 1) & g->mask)
        if (g->items[g->slots[i] - 1].doc == doc) return &g->items[g->slots[i] - 1];
    if (doc >= g->w->doc_limit || g->w->rev[doc] == 0) return NULL;
    KITH_ASSERT(g->count < g->cap);
    candidate *c = &g->items[g->count++];
    *c = (candidate){.doc = doc, .cosine = HNSW_SCORE_ABSENT};
    g->slots[i] = (uint32_t)g->count;
    return c;
}

/* ---- lists -------------------------------------------------------------------------------- */

lexical_query plan_lexical(const plan *p) {
    return (lexical_query){.terms = p->terms, .n_terms = p->n_terms, .mode = LEXICAL_ANY};
}

static err list_words(gather *g) {
    lexical_query q = plan_lexical(g->p);
    size_t n = 0;
    if (q.n_terms == 0 || g->set.count == 0) return OK;
    q.k = g->depth;
    q.filter = g->set.bits;
    q.filter_docs = (uint32_t)g->set.docs;
    q.filter_count = (uint32_t)g->set.count;
    lexical_hit *hits = arena_alloc(g->a, q.k * sizeof *hits);
    if (!hits) return ERR_NO_MEMORY;
    TRY(lexical_search(g->w->words, &q, g->s->lexical, hits, &n));
    for (size_t i = 0; i < n; i++) {
        candidate *c = gather_at(g, hits[i].doc);
        if (!c) continue;
        c->bm25 = hits[i].score;
        c->rank_words = (uint32_t)i + 1;
    }
    g->more |= n == g->depth;
    return OK;
}

static err list_meaning(gather *g, const hnsw *h) {
    hnsw_query q = {.k = (uint32_t)g->depth,
                    .filter = g->set.bits,
                    .filter_docs = g->set.docs,
                    .filter_count = g->set.count};
    size_t n = 0;
    if (g->set.count == 0) return OK;
    hnsw_hit *hits = arena_alloc(g->a, q.k * sizeof *hits);
    if (!hits) return ERR_NO_MEMORY;
    TRY(hnsw_search(h, g->p->vector, &q, g->s->hnsw, hits, &n));
    for (size_t i = 0; i < n; i++) {
        candidate *c = gather_at(g, hits[i].doc);
        if (!c) continue;
        c->cosine = hits[i].score;
        c->rank_meaning = (uint32_t)i + 1;
    }
    g->more |= n == g->depth;
    return OK;
}

/* ---- cross scores ------------------------------------------------------------------------- */

/* Documents of candidates without a rank in one list, in the order of candidates. */
static size_t without_rank(const gather *g, bool meaning, uint32_t *docs) {
    size_t n = 0;
    for (size_t i = 0; i < g->count; i++) {
        const candidate *c = &g->items[i];
        if ((meaning ? c->rank_meaning : c->rank_words) == 0) docs[n++] = c->doc;
    }
    return n;
}

static err cross_meaning(gather *g, const hnsw *h, uint32_t *docs) {
    size_t n = without_rank(g, true, docs), at = 0;
    float *scores = arena_alloc(g->a, (n + 1) * sizeof *scores);
    if (!scores) return ERR_NO_MEMORY;
    TRY(hnsw_score_docs(h, g->p->vector, docs, n, scores));
    for (size_t i = 0; i < g->count; i++)
        if (g->items[i].rank_meaning == 0) g->items[i].cosine = scores[at++];
    return OK;
}

static err cross_words(gather *g, uint32_t *docs) {
    size_t n = without_rank(g, false, docs), n_found = 0;
    lexical_query q = plan_lexical(g->p);
    if (n == 0 || q.n_terms == 0) return OK;
    lexical_hit *hits = arena_alloc(g->a, n * sizeof *hits);
    if (!hits) return ERR_NO_MEMORY;
    TRY(filter_reserve(g->s, bits_words(g->w->doc_limit) + 1));
    q.k = n;
    q.filter = g->s->second;
    q.filter_docs = g->w->doc_limit;
    q.filter_count = (uint32_t)n;
    for (size_t i = 0; i < n; i++) bits_set(g->s->second, docs[i]);
    err rc = lexical_search(g->w->words, &q, g->s->lexical, hits, &n_found);
    for (size_t i = 0; i < n; i++) bits_clear(g->s->second, docs[i]);
    TRY(rc);
    for (size_t i = 0; i < n_found; i++) gather_at(g, hits[i].doc)->bm25 = hits[i].score;
    return OK;
}

/* What a document of ordinary length with each of the words once would score (idf of lexical.h). */
static void sum_idf(gather *g) {
    const plan *p = g->p;
    double docs = attrs_docs_live(g->w->attrs);
    bool needed = false;
    for (size_t i = 0; i < g->count && !needed; i++)
        needed = g->items[i].cosine <= HNSW_SCORE_ABSENT;
    for (size_t i = 0; needed && i < p->n_terms; i++) {
        double df = lexical_df(g->w->words, p->terms[i].text);
        g->bound +=
            (double)p->terms[i].weight * log(1 + (docs - MIN(df, docs) + 0.5) / (4 * (df + 0.5)));
    }
}

static err list_both(gather *g, searcher *x) {
    bool words = g->p->mode != MODE_MEANING, meaning = g->p->mode != MODE_WORDS && g->p->vector;
    err rc = OK;
    if (words) TRY(list_words(g));
    lap(&g->s->laps, STAGE_WORDS);
    uint32_t *docs = arena_alloc(g->a, (g->cap + 1) * sizeof *docs);
    if (!docs) return ERR_NO_MEMORY;
    if (meaning) {
        const hnsw *h = shard_space_begin(x->shard, g->p->space);
        rc = list_meaning(g, h);
        if (rc == OK && words) rc = cross_meaning(g, h, docs);
        shard_space_end(x->shard, g->p->space);
        lap(&g->s->laps, STAGE_VECTORS);
        TRY(rc);
    }
    if (!words || !meaning) return OK;
    sum_idf(g);
    return cross_words(g, docs);
}

/* ---- the newest --------------------------------------------------------------------------- */

static bool newer(const candidate *a, const candidate *b) {
    return a->created_ms != b->created_ms ? a->created_ms > b->created_ms : a->doc > b->doc;
}

/* A heap of the newest seen so far, the oldest of them on top. */
static void heap_down(candidate *h, size_t n, size_t i) {
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= n) return;
        if (c + 1 < n && newer(&h[c], &h[c + 1])) c++;
        if (!newer(&h[i], &h[c])) return;
        candidate t = h[i];
        h[i] = h[c];
        h[c] = t;
        i = c;
    }
}

static void heap_offer(gather *g, const candidate *c) {
    if (g->count < g->depth) {
        g->items[g->count++] = *c;
        if (g->count == g->depth)
            for (size_t i = g->count; i-- > 0;) heap_down(g->items, g->count, i);
        return;
    }
    g->more = true;
    if (!newer(c, &g->items[0])) return;
    g->items[0] = *c;
    heap_down(g->items, g->count, 0);
}

static void list_newest(gather *g) {
    attrs_columns col = attrs_columns_of(g->w->attrs);
    const uint64_t *bits = g->set.bits ? g->set.bits : col.live;
    size_t end = MIN(MIN(g->set.docs, col.docs), g->w->doc_limit);
    for (size_t i = 0; i < bits_words(end); i++)
        for (uint64_t left = bits[i]; left; left &= left - 1) {
            uint32_t doc = (uint32_t)(i * 64 + (size_t)__builtin_ctzll(left));
            if (doc >= end || g->w->rev[doc] == 0) continue;
            candidate c = {
                .doc = doc, .created_ms = col.created_ms[doc], .cosine = HNSW_SCORE_ABSENT};
            heap_offer(g, &c);
        }
}

/* ---- what the indexes know of each -------------------------------------------------------- */

static void look_up(gather *g, bool names) {
    attrs_columns col = attrs_columns_of(g->w->attrs);
    for (size_t i = 0; i < g->count; i++) {
        candidate *c = &g->items[i];
        c->rev = g->w->rev[c->doc];
        if (c->doc >= col.docs) continue;
        c->created_ms = col.created_ms[c->doc];
        if (!names) continue;
        c->author = name_key(attrs_name(g->w->attrs, ATTRS_AUTHOR, col.author[c->doc]));
        c->root = name_key(attrs_name(g->w->attrs, ATTRS_THREAD, col.thread[c->doc]));
    }
}

/* Earlier pages count towards the caps of this one. */
static err count_given(const plan *p, const shard_words *w, round_state *r, arena *a) {
    attrs_columns col = attrs_columns_of(w->attrs);
    if (r->authors.max == 0 && r->threads.max == 0) return OK;
    for (size_t i = 0; i < p->cursor.count; i++) {
        uint32_t doc = p->cursor.docs[i];
        if (doc >= w->doc_limit || doc >= col.docs || w->rev[doc] == 0) continue;
        if (w->rev[doc] > p->cursor.as_of) continue; /* another post by now, or another text */
        str author = attrs_name(w->attrs, ATTRS_AUTHOR, col.author[doc]);
        str root = attrs_name(w->attrs, ATTRS_THREAD, col.thread[doc]);
        author.ptr = arena_dup(a, author);
        root.ptr = arena_dup(a, root);
        if (!author.ptr || !root.ptr) return ERR_NO_MEMORY;
        tally_add(&r->authors, name_key(author), author);
        tally_add(&r->threads, name_key(root), root);
    }
    return OK;
}

/* ---- order -------------------------------------------------------------------------------- */

fuse_weights plan_weights(const plan *p) {
    bool words = p->mode == MODE_WORDS || (p->mode == MODE_HYBRID && !p->vector);
    return fuse_weights_of(words ? 0 : p->mode == MODE_MEANING ? 1 : p->meaning_weight, p->recency);
}

static int by_score(const void *x, const void *y) {
    const candidate *a = x, *b = y;
    if (a->fused.score != b->fused.score) return a->fused.score > b->fused.score ? -1 : 1;
    return a->doc < b->doc ? -1 : a->doc > b->doc;
}

static int by_time(const void *x, const void *y) {
    return newer(x, y) ? -1 : newer(y, x) ? 1 : 0;
}

static void order(gather *g) {
    const plan *p = g->p;
    if (p->mode == MODE_LATEST) {
        qsort(g->items, g->count, sizeof *g->items, by_time);
        return;
    }
    fuse_weights w = plan_weights(p);
    for (size_t i = 0; i < g->count; i++) {
        candidate *c = &g->items[i];
        double fresh =
            p->recency > 0 ? fuse_freshness(c->created_ms, p->cursor.now_ms, p->half_life_ms) : 0;
        c->fused = fuse(&w, &(fuse_input){c->bm25, c->cosine, g->bound, fresh});
    }
    qsort(g->items, g->count, sizeof *g->items, by_score);
}

/* ---- the whole ---------------------------------------------------------------------------- */

static err under_lock(gather *g, searcher *x, round_state *r) {
    const plan *p = g->p;
    if (r->rounds == 0) {
        r->lsn = g->w->lsn;
        TRY(count_given(p, g->w, r, g->a));
    }
    TRY(filter_compile(p, r, g->w, g->s, g->a, &g->set));
    lap(&g->s->laps, STAGE_FILTER);
    if (r->rounds == 0) r->matching = g->set.matching;
    TRY(gather_init(g));
    if (p->mode == MODE_LATEST)
        list_newest(g);
    else
        TRY(list_both(g, x));
    look_up(g, p->group || r->authors.max || r->threads.max);
    return OK;
}

err retrieve(searcher *x, const plan *p, round_state *r, size_t depth, candidates *out) {
    shard_words w;
    gather g = {.p = p, .w = &w, .s = r->scratch, .a = r->arena, .depth = depth};
    shard_words_begin(x->shard, &w);
    err rc = under_lock(&g, x, r);
    shard_words_end(x->shard);
    lap(&r->scratch->laps, STAGE_FUSE);
    TRY(rc);
    order(&g);
    lap(&r->scratch->laps, STAGE_RANK);
    r->rounds++;
    if (r->as_of == 0) r->as_of = r->lsn;
    *out = (candidates){g.items, g.count, g.more};
    return OK;
}
