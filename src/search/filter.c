/* Which posts may be found, as one bit set that both retrievers obey. It is the AND of
 *
 *     the request's filter, the operators in the query          attributes
 *     each phrase and word to leave out                         asked of the word index
 *     rows not newer than the first page, not given before      what makes pages stable
 *     authors and threads not at their cap                      so that pages are full
 *
 * The two attribute filters are compiled apart and joined, so that "from:ana" typed under a filter of
 * author bob finds nothing rather than either. A search with none of these has no bit set at all, and
 * the retrievers go at full speed.
 *
 * Demands on words hold for posts found by meaning too: that is why they are here and not in the word
 * query. The word index has no call "who holds this phrase", so it is asked for its best 10,000, again
 * and again without those it gave, until there are no more: one pass for nearly every phrase.
 *
 * Invariants: every bit set is a live document below doc_limit; `second` is all zero when a function
 * here returns OK or not.
 */
#include "search/search_int.h"

enum { DEMAND_PASSES_MAX = 1000 };

/* ---- tallies ----------------------------------------------------------------------------- */

uint64_t name_key(str name) {
    return name.len ? hash64(name.ptr, name.len, 3) | 1 : 0;
}

err tally_init(tally *t, uint32_t max, arena *a) {
    *t = (tally){.max = max};
    if (max == 0) return OK;
    t->items = arena_alloc(a, 2 * SEARCH_DEPTH_MAX * sizeof *t->items);
    return t->items ? OK : ERR_NO_MEMORY;
}

bool tally_full(const tally *t, uint64_t key) {
    if (t->max == 0 || key == 0) return false;
    for (size_t i = 0; i < t->count; i++)
        if (t->items[i].key == key) return t->items[i].count >= t->max;
    return false;
}

void tally_add(tally *t, uint64_t key, str name) {
    if (t->max == 0 || key == 0) return;
    for (size_t i = 0; i < t->count; i++) {
        if (t->items[i].key != key) continue;
        t->items[i].count++;
        return;
    }
    KITH_ASSERT(t->count < (size_t)2 * SEARCH_DEPTH_MAX);
    t->items[t->count++] = (tally_entry){key, 1, name};
}

err tally_full_names(const tally *t, arena *a, attrs_strs *out) {
    str *names = arena_alloc(a, (t->count + 1) * sizeof *names);
    if (!names) return ERR_NO_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < t->count; i++)
        if (t->items[i].count >= t->max) names[n++] = t->items[i].name;
    *out = (attrs_strs){names, n};
    return OK;
}

/* ---- bits ------------------------------------------------------------------------------- */

err filter_reserve(search_scratch *s, size_t words) {
    size_t old = s->second_cap;
    TRY(mem_grow((void **)&s->bits, &s->words_cap, words, sizeof *s->bits, SIZE_MAX));
    TRY(mem_grow((void **)&s->second, &s->second_cap, words, sizeof *s->second, SIZE_MAX));
    if (s->second_cap > old) memset(s->second + old, 0, (s->second_cap - old) * sizeof *s->second);
    return OK;
}

static void bits_and(uint64_t *a, const uint64_t *b, size_t words) {
    for (size_t i = 0; i < words; i++) a[i] &= b[i];
}

static err and_filter(const shard_words *w, const attrs_filter *f, search_scratch *s,
                      size_t words) {
    uint32_t count;
    if (attrs_filter_empty(f)) return OK;
    err rc = attrs_filter_compile(w->attrs, f, s->second, words, &count);
    bits_and(s->bits, s->second, words);
    memset(s->second, 0, words * sizeof *s->second);
    return rc;
}

/* ---- demands on words ------------------------------------------------------------------- */

/* Sets in s->second every document of s->bits that has the phrase. */
static err phrase_docs(const shard_words *w, const query_phrase *f, search_scratch *s, size_t words,
                       lexical_hit *hits) {
    lexical_phrase phrase = {f->words, f->count};
    lexical_query q = {.phrases = &phrase,
                       .n_phrases = 1,
                       .k = LEXICAL_K_MAX,
                       .filter = s->bits,
                       .filter_docs = (uint32_t)(words * 64),
                       .filter_count = (uint32_t)bits_count(s->bits, words)};
    for (int pass = 0; pass < DEMAND_PASSES_MAX && q.filter_count; pass++) {
        size_t n = 0;
        TRY(lexical_search(w->words, &q, s->lexical, hits, &n));
        for (size_t i = 0; i < n; i++) {
            bits_set(s->second, hits[i].doc);
            bits_clear(s->bits, hits[i].doc); /* given back by the caller */
        }
        q.filter_count -= (uint32_t)n;
        if (n < LEXICAL_K_MAX) break;
    }
    return OK;
}

/* Demanded: only those that have it stay. Else: only those that do not. */
static err demand(const shard_words *w, const query_phrase *f, bool wanted, search_scratch *s,
                  size_t words, lexical_hit *hits) {
    err rc = phrase_docs(w, f, s, words, hits);
    if (wanted) memcpy(s->bits, s->second, words * sizeof *s->bits);
    /* When not wanted, phrase_docs took them out of s->bits: that is the answer. */
    memset(s->second, 0, words * sizeof *s->second);
    return rc;
}

static err demands(const query *q, const shard_words *w, search_scratch *s, size_t words) {
    if (q->n_phrases + q->n_nots == 0) return OK;
    lexical_hit *hits = mem_alloc(LEXICAL_K_MAX * sizeof *hits);
    if (!hits) return ERR_NO_MEMORY;
    err rc = OK;
    for (size_t i = 0; i < q->n_phrases && rc == OK; i++)
        rc = demand(w, &q->phrases[i], true, s, words, hits);
    for (size_t i = 0; i < q->n_nots && rc == OK; i++)
        rc = demand(w, &q->nots[i], false, s, words, hits);
    mem_free(hits);
    return rc;
}

/* ---- pages ------------------------------------------------------------------------------ */

static void keep_as_of(const shard_words *w, uint64_t as_of, uint64_t *bits, size_t words) {
    for (size_t i = 0; i < words; i++)
        for (uint64_t left = bits[i]; left; left &= left - 1) {
            size_t doc = i * 64 + (size_t)__builtin_ctzll(left);
            if (doc >= w->doc_limit || w->rev[doc] > as_of) bits_clear(bits, doc);
        }
}

static void take_out(const uint32_t *docs, size_t n, uint64_t *bits, size_t words) {
    for (size_t i = 0; i < n; i++)
        if (docs[i] / 64 < words) bits_clear(bits, docs[i]);
}

static bool nothing_to_filter(const plan *p, const round_state *r) {
    return attrs_filter_empty(&p->typed) && attrs_filter_empty(&p->given) &&
           p->query.n_phrases + p->query.n_nots == 0 && p->not_thread.len == 0 && r->as_of == 0 &&
           r->n_given == 0 && p->cursor.count == 0 && p->self == UINT32_MAX &&
           r->authors.count + r->threads.count == 0;
}

/* What the filters themselves let through. */
static err let_through(const plan *p, const round_state *r, const shard_words *w, search_scratch *s,
                       size_t words) {
    attrs_columns c = attrs_columns_of(w->attrs);
    size_t live = MIN(bits_words(c.docs), words);
    memset(s->bits, 0, words * sizeof *s->bits);
    memcpy(s->bits, c.live, live * sizeof *s->bits);
    TRY(and_filter(w, &p->given, s, words));
    TRY(and_filter(w, &p->typed, s, words));
    if (p->not_thread.len) {
        attrs_filter f = {.thread_not = {&p->not_thread, 1}};
        TRY(and_filter(w, &f, s, words));
    }
    if (p->self != UINT32_MAX) take_out(&p->self, 1, s->bits, words);
    if (r->as_of) keep_as_of(w, r->as_of, s->bits, words);
    return demands(&p->query, w, s, words);
}

err filter_compile(const plan *p, const round_state *r, const shard_words *w, search_scratch *s,
                   arena *a, doc_set *out) {
    if (nothing_to_filter(p, r)) {
        uint32_t live = attrs_docs_live(w->attrs);
        *out = (doc_set){NULL, w->doc_limit, live, live};
        return OK;
    }
    size_t words = bits_words(MAX(w->doc_limit, attrs_docs_end(w->attrs))) + 1;
    TRY(filter_reserve(s, words));
    TRY(let_through(p, r, w, s, words));
    uint64_t matching = bits_count(s->bits, words);
    take_out(p->cursor.docs, p->cursor.count, s->bits, words);
    take_out(r->given, r->n_given, s->bits, words);
    attrs_filter full = {0};
    TRY(tally_full_names(&r->authors, a, &full.author_not));
    TRY(tally_full_names(&r->threads, a, &full.thread_not));
    TRY(and_filter(w, &full, s, words));
    *out = (doc_set){s->bits, words * 64, bits_count(s->bits, words), matching};
    return OK;
}
