/* lexical_find: what lexical_query.c, lexical_search.c and lexical_planes.c share: a search, and a
 * reader's scratch. Nobody else includes it.
 *
 * lexical_query.c turns a query into terms, scores a candidate and keeps the best; lexical_search.c
 * finds candidates by walking lists, lexical_planes.c by bitmaps.
 */
#ifndef KITH_INDEX_LEXICAL_FIND_H
#define KITH_INDEX_LEXICAL_FIND_H

#include "index/lexical_int.h"

enum {
    LISTS_MAX = 2 * LEXICAL_TERMS_MAX,
    WALK_MAX = 3000,      /* postings of rare terms walked before classes */
    WALK_COST = 4,        /* ns a posting walked */
    FILTER_DIRECT = 64,   /* this few documents passing are always considered one by one */
    SUM_MAX = 60000,      /* of the u16 sums, before rounding up */
    AHEAD = 8,            /* candidates whose records are fetched ahead */
    WAITING = 16,         /* candidates that wait for their records */
    SIG_TERMS = 6,        /* terms in the bounds of a walk, its own too */
    WAYS = 4,             /* blocks of a list kept decoded */
    BUF = BLOCK_MAX + 16, /* slots of one decoded block, with room for its decoder */
    CACHE_LISTS = 96,     /* lists that have WAYS buffers; with more lists each has one */
    WORTHS = 8,           /* terms whose bounds are kept */
    FEW = 24,             /* lists so short are walked without bounds */
    PLANES_MAX = 6,       /* terms: 63 sets of them */
    LEVELS_MAX = 3,       /* terms whose tfs are told apart: 63 ways to have them */
    SETS_MAX = 64,
    FEW_HIGH = 4, /* postings read in the time of one slot asked */
    PLANE_WORDS = EXTENT_MAX / 64,
    PIECE_WORDS = 16 /* of planes, considered before sets are chosen anew */
};

#define SLACK (1 + 1e-4f) /* 256 float additions err by less than 2e-5 of the sum */

enum { SEEN_LOW = 1, SEEN_HIGH = 2 };

typedef struct sterm {
    uint32_t id;
    uint32_t df;
    uint32_t input; /* where in the query: index over terms, must, phrase words */
    float weight;   /* of the query */
    float idf;
    float w;         /* weight * idf * (k1 + 1) */
    uint32_t max_tf; /* of the high list; 0: there is none */
    bool demanded;
    bool done;     /* all its documents were met */
    uint32_t seen; /* lists whose documents (in the class at hand) were met */
} sterm;

/* One list of one term of those left for classes. */
typedef struct vlist {
    const plist *list;
    uint32_t term; /* in scratch.terms */
    bool high;
    float best;                   /* of a posting, in the class at hand */
    uint16_t add[NIBBLE_MAX + 1]; /* by tf, scaled; in the class at hand */
    uint32_t *buf;                /* ways * BUF slots */
    uint32_t ways;
    uint32_t tags[WAYS]; /* the block in each buffer */
} vlist;

typedef struct phrase {
    uint32_t from, n; /* in scratch.phrase_ids */
} phrase;

/* The most that a document can score, by which of up to six terms it may have. */
typedef struct bounds {
    float by_set[1 << SIG_TERMS]; /* each once, by which are there */
    float more[SIG_TERMS];        /* what each adds when it is there more than once */
    float worth[NIBBLE_MAX + 1];  /* of a posting of a high list, by tf as far as the list says */
    float most;                   /* all of them, more than once */
} bounds;

typedef struct waiting {
    uint32_t slot;
    float most;
} waiting;

struct lexical_scratch {
    sterm terms[LEXICAL_TERMS_MAX];
    uint32_t ids[LEXICAL_TERMS_MAX]; /* terms[i].id */
    uint32_t tfs[LEXICAL_TERMS_MAX]; /* of the candidate at hand */
    uint32_t n_terms;
    uint32_t order[LEXICAL_TERMS_MAX]; /* terms by rising df */
    uint32_t nots[LEXICAL_NOT_MAX];
    uint32_t n_nots;
    phrase phrases[LEXICAL_PHRASES_MAX], not_phrases[LEXICAL_PHRASES_MAX];
    uint32_t n_phrases, n_not_phrases;
    uint32_t phrase_ids[2 * LEXICAL_PHRASES_MAX * LEXICAL_PHRASE_MAX];
    uint32_t n_phrase_ids;
    vlist lists[LISTS_MAX];
    uint32_t n_lists, n_left;         /* lists, and the terms they belong to */
    uint32_t list_order[LISTS_MAX];   /* by rising bound in the class at hand */
    float worths[WORTHS][2][CLASSES]; /* of the first terms: most of a low and of a high posting */
    bool has_worths;
    bounds by_class[CLASSES]; /* of the terms beside the list being walked */
    bool known[CLASSES];      /* by_class was made */
    waiting ring[WAITING];
    uint32_t ring_at, ring_n;
    uint64_t planes[PLANES_MAX][PLANE_WORDS]; /* slots that have the term, */
    uint64_t twice[PLANES_MAX][PLANE_WORDS];  /* at least twice, */
    uint64_t thrice[PLANES_MAX][PLANE_WORDS]; /* at least three times */
    uint64_t high[PLANE_WORDS];               /* slots that have any of the terms more than once */
    uint64_t candidates[PIECE_WORDS];         /* of one piece */
    uint16_t sums[EXTENT_MAX];
    uint16_t found[EXTENT_MAX];
    uint32_t slots[BUF], pass[BUF];
    uint32_t cache[LISTS_MAX * BUF];
};

typedef struct search {
    const lexical *ix;
    const lexical_query *q;
    lexical_scratch *s;
    lexical_hit *heap; /* worst first */
    size_t n, k;
    float threshold;         /* below this a candidate cannot enter; 0 until the heap is full */
    float k_fixed, k_length; /* k1 * (1 - b + b * len / mean) = k_fixed + k_length * len */
    uint32_t demands;
    bool impossible; /* a demanded word is nowhere */
} search;

/* Slots of one block, all of one extent. */
typedef struct slot_run {
    const uint32_t *slots;
    uint32_t from, to;      /* in slots */
    const uint8_t *nibbles; /* of the block; NULL in a low list */
} slot_run;

/* The class's terms for planes: those not done, in the query's order. A term is in a document at
 * one of four levels: 0 not, 1 once, 2 twice, 3 more often. */
typedef struct plane_terms {
    uint32_t n, cls;
    uint32_t terms[PLANES_MAX];        /* in scratch.terms */
    uint32_t need[PLANES_MAX];         /* a tf below this adds too little, whatever else is there */
    uint32_t demanded;                 /* a bit for each */
    float worth[PLANES_MAX][4];        /* by level; at 3, of the largest tf */
    bool more[PLANES_MAX];             /* it has a high list */
    uint64_t bit[PLANES_MAX];          /* of signatures */
    float low_sum[1 << PLANES_MAX];    /* by set of terms: all at level 1; */
    float any_sum[1 << PLANES_MAX];    /* all at the highest */
    float sums[1 << (2 * LEVELS_MAX)]; /* by levels, two bits a term, when there are few terms */
} plane_terms;

/* lexical_query.c */
MUST_USE err search_prepare(search *x);
/* Considers a document, unless it was met before. */
void search_consider(search *x, const extent *e, const record *r);
void search_sort_hits(lexical_hit *h, size_t n); /* heap to order, best first */

/* lexical_planes.c */
void planes_prepare(const search *x, uint32_t cls, plane_terms *t);
void planes_visit(search *x, const plane_terms *t, const extent *e);

static inline float part(const search *x, const sterm *t, uint32_t tf, uint32_t len) {
    float f = (float)MIN(tf, (uint32_t)LEXICAL_TF_MAX);
    return t->w * f / (f + (x->k_fixed + x->k_length * (float)len));
}

/* The most a posting of the list can be worth in the class. */
static inline float bound(const search *x, const sterm *t, bool high, uint32_t cls) {
    lexical_scratch *s = x->s;
    uint32_t i = (uint32_t)(t - s->terms);
    if (i < WORTHS) return s->worths[i][high][cls];
    uint32_t tf = high ? MIN(t->max_tf, class_length_max(cls)) : 1;
    return part(x, t, tf, class_length_min(cls));
}

/* The first of n ascending slots that is not below `lo`; n when none is. */
static inline uint32_t lower_bound(const uint32_t *slots, uint32_t n, uint32_t lo) {
    if (n == 0 || slots[0] >= lo) return 0;
    uint32_t at = 0; /* slots[at] < lo */
    for (uint32_t left = n; left > 1;) {
        uint32_t half = left / 2;
        at = slots[at + half] < lo ? at + half : at;
        left -= half;
    }
    return at + 1;
}

/* Cuts [*from, *to) of ascending slots to those in [lo, hi). */
static inline void cut_slots(const uint32_t *slots, uint32_t lo, uint32_t hi, uint32_t *from,
                             uint32_t *to) {
    *from = lower_bound(slots, *to, lo);
    if (*to > *from && slots[*to - 1] >= hi) *to = lower_bound(slots, *to, hi);
}

/* The slots of block b, from the list's buffers. */
static inline const uint32_t *cached_block(const search *x, vlist *v, uint32_t b) {
    uint32_t way = b % v->ways;
    uint32_t *buf = v->buf + way * BUF;
    if (v->tags[way] != b) block_slots(x->ix->kernels, &list_blocks(v->list)[b], buf);
    v->tags[way] = b;
    return buf;
}

/* What of block b lies in the extent. */
static inline slot_run extent_run(const search *x, vlist *v, const extent *e, uint32_t b) {
    const block *at = &list_blocks(v->list)[b];
    const uint8_t *nibbles = v->high ? block_nibbles(at) : NULL;
    slot_run r = {cached_block(x, v, b), 0, at->count, nibbles};
    cut_slots(r.slots, e->base, e->base + e->used, &r.from, &r.to);
    return r;
}

/* Where the words of a bitmap lie in an extent: n of them from word `skip` on, the first one at slot
 * `at` of the extent. */
typedef struct bitmap_part {
    uint32_t skip, n, at;
} bitmap_part;

static inline bitmap_part extent_bitmap(const extent *e, const block *b) {
    uint32_t first = b->first & ~31u, words = block_words(b), skip = 0;
    if (first < e->base) skip = MIN((e->base - first) / 32, words);
    uint32_t at = first + skip * 32 - e->base;
    uint32_t room = at < e->size ? (e->size - at) / 32 : 0;
    return (bitmap_part){skip, MIN(words - skip, room), at};
}

#endif
