/* Inside of search/: what its stages hand to each other.
 *
 *   plan.c      a request, checked          -> plan: what is asked, as data
 *   filter.c    plan + attributes           -> bit set of the posts that may be found
 *   retrieve.c  plan + indexes              -> candidates with both scores, best first
 *   collect.c   candidates + store          -> hits: caps, groups, pages that are full
 *   present.c   hits                        -> the answer: snippet, context, explanation, cursor
 *
 * retrieve.c holds the words lock (and inside it, the vectors lock); nothing else holds any.
 */
#ifndef KITH_SEARCH_INT_H
#define KITH_SEARCH_INT_H

#include "obs/metrics.h"
#include "search/cursor.h"
#include "search/fuse.h"
#include "search/histogram.h"
#include "search/query.h"
#include "search/search.h"
#include "search/snippet.h"

enum {
    SEARCH_FILTER_MAX = 1000,     /* values of one clause of Filter */
    SEARCH_CANDIDATES_MIN = 50,   /* that each retriever gives at first: 20 rank as well as 200 */
    SEARCH_CANDIDATES_MAX = 8000, /* and at most */
    SEARCH_ROUNDS_MAX = 16,       /* of going deeper for one page */
    SEARCH_WAIT_MS = 2000,        /* for min_lsn */
    SEARCH_EMBED_MS = 1000,       /* for the vector of a post that has none yet */
    SEARCH_SCRATCH_MAX = 64,      /* kept for later searches */
    SEARCH_SIMILAR_TERMS = 32,    /* words of a post that stand for it */
    SEARCH_SUGGEST_MAX = 20
};

typedef enum search_mode { MODE_HYBRID, MODE_WORDS, MODE_MEANING, MODE_LATEST } search_mode;

typedef struct plan {
    search_mode mode;
    size_t limit;
    query query;
    attrs_filter typed, given;               /* operators in the query; the request's own filter */
    str not_thread;                          /* with len: leave this thread out */
    uint32_t max_per_author, max_per_thread; /* 0: no bound */
    bool group;
    double recency, half_life_ms, meaning_weight;
    bool explain, context;
    bool paged; /* goes on from a cursor */
    search_cursor cursor;
    uint64_t request; /* fingerprint */
    uint32_t self;    /* a document to leave out; UINT32_MAX: none */
    const lexical_term *terms;
    size_t n_terms;
    const float *vector; /* of the query; NULL: none to be had */
    unsigned space;      /* of the shard, whose vector it is */
    bool degraded;       /* words alone, since there is none */
} plan;

/* Where the time of a search goes: each lap belongs to the stage that it ends. They add up to the
 * whole, since every lap begins where the last one ended. */
typedef struct search_laps {
    uint64_t start_ns, last_ns;
    uint64_t ns[STAGE_COUNT];
} search_laps;
static inline void laps_begin(search_laps *l) {
    *l = (search_laps){.start_ns = clock_mono_ns()};
    l->last_ns = l->start_ns;
}
static inline void lap(search_laps *l, unsigned stage) {
    uint64_t now = clock_mono_ns();
    l->ns[stage] += now - l->last_ns;
    l->last_ns = now;
}

/* Scratch of one search at a time. */
typedef struct search_scratch {
    search_laps laps;
    lexical_scratch *lexical;
    hnsw_scratch *hnsw;
    uint64_t *bits;   /* the filter of the round at hand */
    uint64_t *second; /* a part of it while it is made; all zero between uses */
    size_t words_cap, second_cap;
} search_scratch;

struct searcher {
    shard *shard;
    provider *providers[SHARD_SPACES_MAX]; /* by space; beside the first, NULL: not asked */
    mutex mu;                              /* guards free, n_free */
    search_scratch *free[SEARCH_SCRATCH_MAX];
    size_t n_free;
    _Atomic uint64_t searches, errors, zero_results, query_cache_hits, next_id;
    histogram took;
    atomic_uint sample_state; /* recall.c: 0 empty, 1 being written, 2 full */
    float *sample;            /* a query's vector */
};

/* ---- plan.c ---- */

MUST_USE err plan_search(const Kith__V1__SearchRequest *req, arena *a, plan *out);
MUST_USE err plan_similar(const Kith__V1__SimilarRequest *req, arena *a, plan *out);
/* Words of the query as terms. */
MUST_USE err plan_terms(plan *p, const str *words, size_t n, arena *a);

/* ---- filter.c ---- */

typedef struct doc_set {
    const uint64_t *bits; /* NULL: every live document */
    size_t docs;          /* bits in it */
    size_t count;         /* set */
    uint64_t matching;    /* what the filters let through, before pages and caps */
} doc_set;

/* How often each author or thread is in the answer so far; names live in the arena. */
typedef struct tally_entry {
    uint64_t key; /* hash of the name */
    uint32_t count;
    str name;
} tally_entry;
typedef struct tally {
    tally_entry *items; /* room for 2 x SEARCH_DEPTH_MAX */
    size_t count;
    uint32_t max; /* 0: no bound, and nothing is counted */
} tally;
MUST_USE err tally_init(tally *t, uint32_t max, arena *a);
bool tally_full(const tally *t, uint64_t key);
void tally_add(tally *t, uint64_t key, str name);
/* Names at their bound, in the arena. */
MUST_USE err tally_full_names(const tally *t, arena *a, attrs_strs *out);

typedef struct round_state {
    search_scratch *scratch;
    arena *arena;
    uint64_t as_of; /* 0 in the first round of a first page: everything */
    uint64_t lsn;   /* that the first round saw */
    uint64_t matching;
    unsigned rounds;
    const uint32_t *given; /* documents already looked at for this page */
    size_t n_given;
    tally authors, threads;
} round_state;

/* Under the words lock. */
MUST_USE err filter_compile(const plan *p, const round_state *r, const shard_words *w,
                            search_scratch *s, arena *a, doc_set *out);
/* Both bit arrays of the scratch hold at least so many words, `second` all zero. */
MUST_USE err filter_reserve(search_scratch *s, size_t words);
uint64_t name_key(str name); /* 0 for none */

/* ---- retrieve.c ---- */

typedef struct candidate {
    uint32_t doc;
    uint32_t rank_words, rank_meaning; /* 0: not in that list */
    float bm25, cosine;
    uint64_t rev;
    uint64_t author, root; /* keys of the author's and the thread's name */
    int64_t created_ms;
    fuse_result fused;
} candidate;

typedef struct candidates {
    candidate *items; /* best first */
    size_t count;
    bool more; /* a deeper look may find others */
} candidates;

MUST_USE err retrieve(searcher *x, const plan *p, round_state *r, size_t depth, candidates *out);
fuse_weights plan_weights(const plan *p);
lexical_query plan_lexical(const plan *p);

/* ---- collect.c ---- */

typedef struct found {
    candidate c;
    store_row row;
    uint32_t more_in_thread;
} found;

typedef struct collection {
    found *items;
    size_t count;
    bool full; /* there may be a next page */
    uint64_t lsn, matching;
} collection;

MUST_USE err collect(searcher *x, plan *p, search_scratch *s, arena *a, collection *out);

/* ---- present.c ---- */

MUST_USE err present(searcher *x, plan *p, const collection *c, search_scratch *s, arena *a,
                     Kith__V1__SearchResponse **out);

/* ---- fallback.c ---- */

/* A query's vector in another space than the first, which had none to give. ERR_NOT_FOUND: nor has another. */
MUST_USE err fallback_vector(searcher *x, str text, arena *a, plan *p);
/* The same of a post's stored vector. */
MUST_USE err fallback_stored(searcher *x, uint32_t doc, arena *a, plan *p);

/* ---- similar.c ---- */

/* The post's vector and words; its own document is left out. ERR_NOT_FOUND. */
MUST_USE err similar_fill(searcher *x, const Kith__V1__SimilarRequest *req, arena *a, plan *p);

/* ---- recall.c ---- */

void recall_offer(searcher *x, const float *v);

/* ---- search.c ---- */

MUST_USE err searcher_scratch_get(searcher *x, search_scratch **out);
void searcher_scratch_put(searcher *x, search_scratch *s);

#endif
