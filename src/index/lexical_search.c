/* Exact top-k: cheap upper bounds choose candidates, sequences give their scores.
 *
 * Whatever way a candidate is found, one function (consider) looks at its tokens, checks filter,
 * demands, must-not words and phrases, adds up the exact score, and keeps it when it is among the
 * k best. So only the finding differs:
 *
 *  - by filter: when few documents pass it, they are the candidates;
 *  - by lists: the rarest terms, as long as they have few documents together, are walked: a
 *    posting tells its length class, class and list tell the most that the document can score, and
 *    only those that can enter are considered. Then the term is done: a document not met yet has
 *    not got it. With demanded terms the rarest of them alone is walked, for every hit has it;
 *  - by classes: for the terms left, length classes are visited from the shortest. A class in
 *    which the terms left cannot reach the k-th best score is skipped without reading a posting.
 *    Else the lists without which nothing reaches it (the essential ones: MaxScore, Turtle and
 *    Flood 1995) are walked within the class. When they have too many postings there, each list
 *    becomes a bitmap over the slots of an extent (a plane), and the slots with enough terms are
 *    found by AND and OR of planes, 256 slots a step: which sets of terms are enough follows from
 *    the bounds. With more than PLANES_MAX terms there are too many such sets; then lists are
 *    added up as integers (u16, rounded up) instead, and slots whose sum reaches the k-th best
 *    considered.
 *
 * Low and high lists of a term (tf 1, tf above 1) are bounded apart: in a class of one length
 * every posting of a low list is worth the same, so the bound of what most documents have is no
 * bound but the score.
 *
 * Bounds are safe: a slot's sum is at least its exact score times scale, since each part is
 * rounded up at the shortest length of the class; comparisons leave room (SLACK) for what float
 * addition can err. A slot whose bound equals the threshold is considered: ties go to the lower
 * document.
 *
 * Scratch is the reader's; the index is not written; nothing is allocated.
 */
#include "index/lexical_int.h"

#include <float.h>
#include <math.h>

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

lexical_scratch *lexical_scratch_new(void) {
    return mem_alloc(sizeof(lexical_scratch));
}
void lexical_scratch_free(lexical_scratch *s) {
    mem_free(s);
}

/* ---- the query's terms ---- */

static float idf_of(uint32_t docs, uint32_t df) {
    return (float)log(1.0 + ((double)docs - df + 0.5) / (4 * (df + 0.5)));
}

static sterm *find_sterm(lexical_scratch *s, uint32_t id) {
    for (uint32_t i = 0; i < s->n_terms; i++)
        if (s->ids[i] == id) return &s->terms[i];
    return NULL;
}

/* The place of a new term when there are too many: that of the most frequent one, if it is more
 * so. */
static sterm *replace_sterm(lexical_scratch *s, uint32_t df) {
    sterm *worst = NULL;
    for (uint32_t i = 0; i < s->n_terms; i++)
        if (!s->terms[i].demanded && (!worst || s->terms[i].df > worst->df)) worst = &s->terms[i];
    return worst && worst->df > df ? worst : NULL;
}

static err add_sterm(search *x, str text, float weight, bool demanded, uint32_t input) {
    lexical_scratch *s = x->s;
    if (!(weight > 0 && weight <= 1e6f))
        return err_set(ERR_INVALID, "query: expected a weight above 0, at most 1e6");
    uint32_t id = names_get(x->ix->words, text);
    if (id == NAMES_NONE) {
        x->impossible |= demanded;
        return OK;
    }
    sterm *t = find_sterm(s, id);
    uint32_t df = term_df(x->ix, &x->ix->terms[id]);
    if (t) {
        t->weight = sqrtf(t->weight * t->weight + weight * weight);
    } else {
        t = s->n_terms < LEXICAL_TERMS_MAX ? &s->terms[s->n_terms++] : replace_sterm(s, df);
        if (!t && demanded)
            return err_set(ERR_TOO_LARGE, "query: over %d demanded words", LEXICAL_TERMS_MAX);
        if (!t) return OK;
        *t = (sterm){.id = id, .df = df, .weight = weight, .input = input};
        s->ids[t - s->terms] = id;
    }
    t->demanded |= demanded;
    return OK;
}

/* A phrase's words become ids; an unknown word makes it impossible: n = 0. */
static err add_phrase(search *x, const lexical_phrase *p, phrase *out) {
    lexical_scratch *s = x->s;
    if (p->count == 0 || p->count > LEXICAL_PHRASE_MAX)
        return err_set(ERR_TOO_LARGE, "query: a phrase of %zu words, expected 1 to %d", p->count,
                       LEXICAL_PHRASE_MAX);
    *out = (phrase){s->n_phrase_ids, (uint32_t)p->count};
    for (size_t i = 0; i < p->count; i++) {
        uint32_t id = names_get(x->ix->words, p->words[i]);
        if (id == NAMES_NONE) out->n = 0;
        s->phrase_ids[s->n_phrase_ids++] = id;
    }
    return OK;
}

static err add_phrases(search *x, uint32_t *input) {
    const lexical_query *q = x->q;
    for (size_t i = 0; i < q->n_phrases; i++) {
        const lexical_phrase *p = &q->phrases[i];
        TRY(add_phrase(x, p, &x->s->phrases[x->s->n_phrases++]));
        for (size_t j = 0; j < p->count; j++) {
            bool have = find_sterm(x->s, names_get(x->ix->words, p->words[j])) != NULL;
            uint32_t at = (*input)++;
            if (!have) {
                TRY(add_sterm(x, p->words[j], 1, true, at));
                continue;
            }
            find_sterm(x->s, names_get(x->ix->words, p->words[j]))->demanded = true;
        }
    }
    for (size_t i = 0; i < q->n_not_phrases; i++) {
        phrase *p = &x->s->not_phrases[x->s->n_not_phrases];
        TRY(add_phrase(x, &q->not_phrases[i], p));
        x->s->n_not_phrases += p->n > 0;
    }
    return OK;
}

static err check_query(const lexical_query *q) {
    if (q->k > LEXICAL_K_MAX)
        return err_set(ERR_TOO_LARGE, "query: k %zu, limit is %d", q->k, LEXICAL_K_MAX);
    if (q->n_phrases > LEXICAL_PHRASES_MAX || q->n_not_phrases > LEXICAL_PHRASES_MAX)
        return err_set(ERR_TOO_LARGE, "query: limit is %d phrases", LEXICAL_PHRASES_MAX);
    if (q->n_nots > LEXICAL_NOT_MAX)
        return err_set(ERR_TOO_LARGE, "query: limit is %d excluded words", LEXICAL_NOT_MAX);
    return OK;
}

/* The largest tf in the list, from its blocks; at 15 it may be any. */
static uint32_t list_max_tf(const plist *l) {
    uint32_t max = 0;
    for (uint32_t i = 0; l && i < l->n_blocks; i++) max = MAX(max, list_blocks(l)[i].max_tf);
    return max < NIBBLE_MAX ? max : LEXICAL_TF_MAX;
}

static err prepare(search *x) {
    const lexical *ix = x->ix;
    const lexical_query *q = x->q;
    lexical_scratch *s = x->s;
    s->n_terms = s->n_nots = s->n_phrases = s->n_not_phrases = s->n_phrase_ids = 0;
    s->ring_at = s->ring_n = 0;
    TRY(check_query(q));
    uint32_t input = 0;
    bool all = q->mode == LEXICAL_ALL;
    for (size_t i = 0; i < q->n_terms; i++)
        TRY(add_sterm(x, q->terms[i].text, q->terms[i].weight, all, input++));
    for (size_t i = 0; i < q->n_must; i++)
        TRY(add_sterm(x, q->must[i].text, q->must[i].weight, true, input++));
    TRY(add_phrases(x, &input));
    for (size_t i = 0; i < q->n_nots; i++) {
        uint32_t id = names_get(ix->words, q->nots[i]);
        if (id != NAMES_NONE) s->nots[s->n_nots++] = id;
    }
    float mean = ix->docs ? (float)((double)ix->tokens / ix->docs) : 1;
    s->has_worths = false;
    x->k_fixed = ix->k1 * (1 - ix->b);
    x->k_length = mean > 0 ? ix->k1 * ix->b / mean : 0;
    for (uint32_t i = 0; i < s->n_terms; i++) {
        sterm *t = &s->terms[i];
        t->idf = idf_of(ix->docs, t->df);
        t->w = t->weight * t->idf * (ix->k1 + 1);
        t->max_tf = list_max_tf(term_high(ix, &ix->terms[t->id]));
        x->demands += t->demanded;
    }
    return OK;
}

/* ---- one candidate ---- */

static float part(const search *x, const sterm *t, uint32_t tf, uint32_t len) {
    float f = (float)MIN(tf, (uint32_t)LEXICAL_TF_MAX);
    return t->w * f / (f + (x->k_fixed + x->k_length * (float)len));
}

/* True when the tokens have the phrase's words at consecutive positions. */
static bool phrase_at(const uint32_t *t, uint32_t n, uint32_t from, const uint32_t *ids,
                      uint32_t n_ids) {
    uint32_t j = from;
    for (uint32_t i = 1; i < n_ids; i++) {
        do j++;
        while (j < n && (t[j] & TOKEN_ALT)); /* to the next position */
        bool here = false;
        for (uint32_t k = j; k < n && (k == j || (t[k] & TOKEN_ALT)); k++)
            here |= (t[k] & TOKEN_ID) == ids[i];
        if (!here) return false;
    }
    return true;
}

static bool has_phrase(const uint32_t *t, uint32_t n, const uint32_t *ids, uint32_t n_ids) {
    if (n_ids == 0) return false;
    for (uint32_t j = 0; j < n; j++)
        if ((t[j] & TOKEN_ID) == ids[0] && phrase_at(t, n, j, ids, n_ids)) return true;
    return false;
}

/* Everything but the demanded terms themselves. */
static bool passes(const search *x, const uint32_t *tokens, uint32_t len) {
    const lexical_scratch *s = x->s;
    uint32_t tf[LEXICAL_NOT_MAX];
    if (s->n_nots) {
        x->ix->kernels->count_terms(tokens, len, s->nots, s->n_nots, tf);
        for (uint32_t i = 0; i < s->n_nots; i++)
            if (tf[i]) return false;
    }
    for (uint32_t i = 0; i < s->n_phrases; i++)
        if (!has_phrase(tokens, len, s->phrase_ids + s->phrases[i].from, s->phrases[i].n))
            return false;
    for (uint32_t i = 0; i < s->n_not_phrases; i++)
        if (has_phrase(tokens, len, s->phrase_ids + s->not_phrases[i].from, s->not_phrases[i].n))
            return false;
    return true;
}

static bool worse(lexical_hit a, lexical_hit b) {
    return a.score < b.score || (a.score == b.score && a.doc > b.doc);
}

static void sift_down(lexical_hit *h, size_t n, lexical_hit x) {
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= n) break;
        if (c + 1 < n && worse(h[c + 1], h[c])) c++;
        if (!worse(h[c], x)) break;
        h[i] = h[c];
        i = c;
    }
    h[i] = x;
}

static void keep(search *x, lexical_hit hit) {
    lexical_hit *h = x->heap;
    if (x->n == x->k) {
        if (!worse(h[0], hit)) return;
        sift_down(h, x->n, hit);
    } else {
        size_t i = x->n++;
        for (; i > 0 && worse(hit, h[(i - 1) / 2]); i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
        h[i] = hit;
    }
    if (x->n == x->k) x->threshold = h[0].score;
}

/* Considers a document, unless it was met before. */
static void consider(search *x, const extent *e, const record *r) {
    lexical_scratch *s = x->s;
    const lexical_query *q = x->q;
    if (q->filter && (r->doc >= q->filter_docs || !bits_get(q->filter, r->doc))) return;
    const uint32_t *tokens = record_tokens(e, r);
    x->ix->kernels->count_terms(tokens, r->len, s->ids, s->n_terms, s->tfs);
    float score = 0;
    uint32_t have = 0;
    for (uint32_t j = 0; j < s->n_terms; j++) {
        uint32_t tf = s->tfs[j];
        if (!tf) continue;
        if (s->terms[j].seen & (tf > 1 ? SEEN_HIGH : SEEN_LOW)) return;
        score += part(x, &s->terms[j], tf, r->len);
        have += s->terms[j].demanded;
    }
    if (score <= 0 || have < x->demands) return;
    lexical_hit hit = {r->doc, score};
    if (x->n == x->k && !worse(x->heap[0], hit)) return;
    if ((s->n_nots | s->n_phrases | s->n_not_phrases) && !passes(x, tokens, r->len)) return;
    keep(x, hit);
}

static void consider_slot(search *x, uint32_t slot) {
    const extent *e = extent_of(x->ix, slot);
    consider(x, e, extent_record(e, slot - e->base));
}

/* Considers the candidate that waited longest. */
static void consider_oldest(search *x) {
    lexical_scratch *s = x->s;
    waiting w = s->ring[s->ring_at];
    s->ring_at = (s->ring_at + 1) % WAITING;
    s->ring_n--;
    if (w.most < x->threshold) return;
    const extent *e = extent_of(x->ix, w.slot);
    const record *r = extent_record(e, w.slot - e->base);
    if (w.most == x->threshold && x->n == x->k && r->doc > x->heap[0].doc) return;
    consider(x, e, r);
}

/* Lets a candidate wait while its record is fetched. */
static void push(search *x, uint32_t slot, float most) {
    lexical_scratch *s = x->s;
    const extent *e = extent_of(x->ix, slot);
    __builtin_prefetch(extent_record(e, slot - e->base));
    if (s->ring_n == WAITING) consider_oldest(x);
    s->ring[(s->ring_at + s->ring_n++) % WAITING] = (waiting){slot, most};
}

static void drain(search *x) {
    while (x->s->ring_n) consider_oldest(x);
}

static void consider_filter(search *x) {
    const lexical_query *q = x->q;
    size_t docs = MIN((size_t)q->filter_docs, x->ix->docs_cap);
    for (size_t w = 0; w < bits_words(docs); w++)
        for (uint64_t m = q->filter[w]; m; m &= m - 1) {
            size_t d = w * 64 + (unsigned)__builtin_ctzll(m);
            uint32_t slot = d < docs ? x->ix->doc_slot[d] : SLOT_NONE;
            if (slot < SLOT_EMPTY) consider_slot(x, slot);
        }
}

/* ---- bounds ---- */

/* Bounds of the first terms in all classes at once: loops that a compiler turns into SIMD. */
static void make_worths(search *x) {
    lexical_scratch *s = x->s;
    uint32_t end = x->ix->classes_end;
    float norm[CLASSES], longest[CLASSES];
    for (uint32_t c = 0; c < end; c++) {
        norm[c] = x->k_fixed + x->k_length * (float)class_length_min(c);
        longest[c] = (float)MIN(class_length_max(c), (uint32_t)LEXICAL_TF_MAX);
    }
    for (uint32_t j = 0; j < MIN(s->n_terms, (uint32_t)WORTHS); j++) {
        float w = s->terms[j].w, most = (float)s->terms[j].max_tf, *low = s->worths[j][0];
        float *high = s->worths[j][1];
        for (uint32_t c = 0; c < end; c++) {
            float tf = most < longest[c] ? most : longest[c];
            low[c] = w * 1.0f / (1.0f + norm[c]);
            high[c] = w * tf / (tf + norm[c]);
        }
    }
    s->has_worths = true;
}

/* The most a posting of the list can be worth in the class. */
static inline float bound(const search *x, const sterm *t, bool high, uint32_t cls) {
    lexical_scratch *s = x->s;
    uint32_t i = (uint32_t)(t - s->terms);
    if (i < WORTHS) return s->worths[i][high][cls];
    uint32_t tf = high ? MIN(t->max_tf, class_length_max(cls)) : 1;
    return part(x, t, tf, class_length_min(cls));
}

/* What is asked of signatures while one list is walked. */
typedef struct walk {
    const sterm *t;
    bool high;
    bool whole;    /* no term beside those below */
    bool demands;  /* every term is demanded */
    uint32_t n;    /* terms bounded one by one: t, and those worth most, in the query's order */
    uint32_t self; /* which of them is t */
    uint32_t terms[SIG_TERMS];
    uint64_t any[SIG_TERMS], high_bits[SIG_TERMS]; /* their bits */
    uint64_t all_high;                             /* high_bits together */
    uint64_t demanded;                             /* bits that must all be there */
} walk;

/* Takes in term i when it is worth more than one of those that are in. */
static void walk_add(const search *x, walk *w, uint32_t i) {
    const sterm *terms = x->s->terms;
    if (w->n == SIG_TERMS) {
        uint32_t least = w->self ? 0 : 1;
        for (uint32_t j = 0; j < w->n; j++)
            if (j != w->self && terms[w->terms[j]].w < terms[w->terms[least]].w) least = j;
        w->whole = false;
        if (terms[w->terms[least]].w >= terms[i].w && &terms[i] != w->t) return;
        memmove(w->terms + least, w->terms + least + 1, (--w->n - least) * sizeof *w->terms);
        w->self -= w->self > least && w->self < SIG_TERMS;
    }
    if (&terms[i] == w->t) w->self = w->n;
    w->terms[w->n++] = i;
}

static void walk_init(const search *x, walk *w, const sterm *t, bool high) {
    const lexical_scratch *s = x->s;
    w->t = t;
    w->high = high;
    w->whole = true;
    w->demands = x->demands == s->n_terms;
    w->n = 0;
    w->self = SIG_TERMS; /* not in yet */
    w->all_high = w->demanded = 0;
    for (uint32_t i = 0; i < s->n_terms; i++) {
        const sterm *o = &s->terms[i];
        if (o->demanded) w->demanded |= signature_any(o->id);
        if (o == t || !o->done) walk_add(x, w, i);
    }
    for (uint32_t j = 0; j < w->n; j++) {
        const sterm *o = &s->terms[w->terms[j]];
        bool more = o != t && o->max_tf > 1;
        w->any[j] = o == t ? ~(uint64_t)0 : signature_any(o->id);
        w->high_bits[j] = more ? signature_high(o->id) : 0;
        w->all_high |= w->high_bits[j];
    }
}

static bool walk_asks(const walk *w, uint32_t term_index) {
    for (uint32_t j = 0; j < w->n; j++)
        if (w->terms[j] == term_index) return true;
    return false;
}

/* What all terms that are not bounded one by one can add together. */
static float bounds_rest(const search *x, const walk *w, uint32_t cls) {
    const lexical_scratch *s = x->s;
    float rest = 0;
    for (uint32_t i = 0; !w->whole && i < s->n_terms; i++) {
        const sterm *o = &s->terms[i];
        if (o != w->t && !o->done && !walk_asks(w, i)) rest += bound(x, o, o->max_tf > 1, cls);
    }
    return rest;
}

/* What the terms can add in a class. In a low list, by_set has the walked term too; a sum goes in
 * the query's order, so that in an exact class it is, to the last bit, the score of a document
 * that has this set, each once. When all are demanded only the whole set has a sum. */
static void bounds_make(const search *x, const walk *w, uint32_t cls, bounds *out) {
    const lexical_scratch *s = x->s;
    float low[SIG_TERMS], all = 0;
    for (uint32_t j = 0; j < w->n; j++) {
        const sterm *o = &s->terms[w->terms[j]];
        bool self = j == w->self;
        low[j] = self && w->high ? 0 : bound(x, o, false, cls);
        out->more[j] = self || o->max_tf < 2 ? 0 : bound(x, o, true, cls) - low[j];
        all += out->more[j];
    }
    float rest = out->by_set[0] = bounds_rest(x, w, cls);
    if (w->demands) {
        for (uint32_t j = 0; j < w->n; j++) rest += low[j];
        out->by_set[0] = rest;
    } else {
        for (uint32_t j = 0; j < w->n; j++) {
            for (uint32_t m = 0; m < 1u << j; m++)
                out->by_set[m + (1u << j)] = out->by_set[m] + low[j];
            rest = out->by_set[(1u << (j + 1)) - 1];
        }
    }
    out->most = rest + all;
    uint32_t longest = class_length_max(cls);
    for (uint32_t tf = 2; w->high && tf <= NIBBLE_MAX; tf++) {
        uint32_t f = tf < NIBBLE_MAX ? tf : w->t->max_tf;
        out->worth[tf] = tf > 2 && f > w->t->max_tf
                             ? out->worth[tf - 1] /* there is none */
                             : part(x, w->t, MIN(f, longest), class_length_min(cls));
    }
}

/* The most that a document with this signature can have, without what is there more than once. */
static float bounds_low(const walk *w, const bounds *b, uint64_t sig) {
    uint32_t set = 0;
    for (uint32_t j = 0; !w->demands && j < w->n; j++)
        set |= (uint32_t)((sig & w->any[j]) != 0) << j;
    return b->by_set[set];
}

static float bounds_more(const walk *w, const bounds *b, uint64_t sig) {
    float more = 0;
    for (uint32_t j = 0; j < w->n; j++)
        if (sig & w->high_bits[j]) more += b->more[j];
    return more;
}

/* Slots of one block, all of one extent. */
typedef struct slot_run {
    const uint32_t *slots;
    uint32_t from, to;      /* in slots */
    const uint8_t *nibbles; /* of the block; NULL in a low list */
} slot_run;

/* True when no document from this slot on, in its extent, can enter at a score that equals the
 * threshold: documents ascend, and the worst hit is before them. */
static bool ties_lose(const search *x, uint32_t first) {
    if (x->n < x->k) return false;
    const extent *e = extent_of(x->ix, first);
    if (!e->in_order) return false;
    if (e->first_doc > x->heap[0].doc) return true;
    return extent_record(e, first - e->base)->doc > x->heap[0].doc;
}

/* Puts the places of a run whose signatures have all of `all` and some of `some` (any, when that is
 * all bits) into s->pass; returns how many. Without a branch: what passes is hard to foresee. */
static uint32_t pass_signatures(search *x, slot_run r, uint64_t all, uint64_t some) {
    const uint64_t *signatures = x->ix->signatures;
    uint32_t *pass = x->s->pass, n = 0;
    for (uint32_t i = r.from; i < r.to; i++) {
        uint64_t sig = signatures[r.slots[i]];
        pass[n] = i;
        n += (uint32_t)((sig & all) == all) & (uint32_t)((sig & some) != 0);
    }
    return n;
}

/* Bits of which a document needs one when its posting alone is not enough. */
static uint64_t walk_others(const walk *w) {
    uint64_t bits = w->all_high;
    for (uint32_t j = 0; !w->demands && j < w->n; j++)
        if (j != w->self) bits |= w->any[j];
    return w->whole ? bits : ~(uint64_t)0;
}

/* A run of a low list in an exact class: what has every word at most once is known to the last
 * bit. `lost`: a score at which ties cannot enter. */
static void walk_exact(search *x, const walk *w, const bounds *b, slot_run r) {
    const uint64_t *signatures = x->ix->signatures;
    float all = b->by_set[w->demands ? 0 : (1u << w->n) - 1], lost = -1;
    float alone = b->by_set[w->demands ? 0 : 1u << w->self];
    if (all <= x->threshold && ties_lose(x, r.slots[r.from])) lost = x->threshold;
    bool enough = alone > x->threshold || (alone == x->threshold && alone != lost);
    uint32_t n = pass_signatures(x, r, w->demanded, enough ? ~(uint64_t)0 : walk_others(w));
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = r.slots[x->s->pass[i]];
        uint64_t sig = signatures[slot];
        float most = bounds_low(w, b, sig);
        if (sig & w->all_high) most = (most + bounds_more(w, b, sig)) * SLACK;
        if (most >= x->threshold && most != lost) push(x, slot, most);
    }
}

/* As pass_signatures, of a high list: first by tf, which needs no look at a signature. */
static uint32_t pass_high(search *x, const walk *w, const bounds *b, slot_run r) {
    const uint64_t *signatures = x->ix->signatures;
    uint32_t *pass = x->s->pass, n = 0, m = 0, need = 2, alone = 2;
    while (need < NIBBLE_MAX && (b->worth[need] + b->most) * SLACK < x->threshold) need++;
    while (alone < NIBBLE_MAX && (b->worth[alone] + b->by_set[0]) * SLACK < x->threshold) alone++;
    for (uint32_t i = r.from; i < r.to; i++) {
        pass[n] = i;
        n += nibble_at(r.nibbles, i) >= need;
    }
    uint64_t all = w->demanded, some = walk_others(w);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t sig = signatures[r.slots[pass[i]]];
        bool other = (sig & some) | (nibble_at(r.nibbles, pass[i]) >= alone);
        pass[m] = pass[i];
        m += (uint32_t)((sig & all) == all) & other;
    }
    return m;
}

/* Lets those slots wait that can reach the threshold by what class, tf and signature say. */
static void walk_run(search *x, const walk *w, uint32_t cls, const bounds *b, slot_run r) {
    const uint64_t *signatures = x->ix->signatures;
    if (class_length_max(cls) < x->demands || r.from == r.to) return;
    if (class_is_exact(cls) && !w->high && w->whole) {
        walk_exact(x, w, b, r);
        return;
    }
    float alone = b->by_set[w->demands || w->high ? 0 : 1u << w->self];
    uint64_t some = alone * SLACK >= x->threshold ? ~(uint64_t)0 : walk_others(w);
    uint32_t n = w->high ? pass_high(x, w, b, r) : pass_signatures(x, r, w->demanded, some);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = x->s->pass[i];
        uint64_t sig = signatures[r.slots[at]];
        float most = bounds_low(w, b, sig);
        if (w->high) most += b->worth[nibble_at(r.nibbles, at)];
        if (sig & w->all_high) most += bounds_more(w, b, sig);
        if (most * SLACK >= x->threshold) push(x, r.slots[at], most * SLACK);
    }
}

/* The most that a document in the list can have; tf the largest. */
static float walk_most(const walk *w, const bounds *b, uint32_t tf) {
    return (b->most + (w->high ? b->worth[tf] : 0)) * SLACK;
}

/* ---- walking rare terms ---- */

/* The first of n ascending slots that is not below `lo`; n when none is. */
static uint32_t lower_bound(const uint32_t *slots, uint32_t n, uint32_t lo) {
    if (n == 0 || slots[0] >= lo) return 0;
    uint32_t at = 0; /* slots[at] < lo */
    for (uint32_t left = n; left > 1;) {
        uint32_t half = left / 2;
        at = slots[at + half] < lo ? at + half : at;
        left -= half;
    }
    return at + 1;
}

/* The first of slots[from..n) that is not below `end`: mostly a few steps away. */
static uint32_t lower_bound_from(const uint32_t *slots, uint32_t from, uint32_t n, uint32_t end) {
    if (slots[n - 1] < end) return n;
    for (uint32_t near = MIN(n, from + 16); from < near; from++)
        if (slots[from] >= end) return from;
    return from + lower_bound(slots + from, n - from, end);
}

/* The slots of one block, cut into runs of one extent. */
static void walk_block(search *x, const walk *w, const block *b) {
    lexical_scratch *s = x->s;
    const lexical *ix = x->ix;
    uint32_t n = block_slots(ix->kernels, b, s->slots);
    const uint8_t *nibbles = w->high ? block_nibbles(b) : NULL;
    for (uint32_t i = 0; i < n;) {
        const extent *e = extent_of(ix, s->slots[i]);
        uint32_t cls = e->cls, from = i;
        i = lower_bound_from(s->slots, i, n, e->base + e->size);
        if (!s->known[cls]) bounds_make(x, w, cls, &s->by_class[cls]);
        s->known[cls] = true;
        const bounds *in = &s->by_class[cls];
        if (walk_most(w, in, b->max_tf) < x->threshold) continue;
        walk_run(x, w, cls, in, (slot_run){s->slots, from, i, nibbles});
    }
}

/* A list so short that bounds would cost more than looking. */
static void walk_few(search *x, const walk *w, const plist *l) {
    const uint64_t *signatures = x->ix->signatures;
    for (uint32_t b = 0; b < l->n_blocks; b++) {
        uint32_t n = block_slots(x->ix->kernels, &list_blocks(l)[b], x->s->slots);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t slot = x->s->slots[i];
            if ((signatures[slot] & w->demanded) == w->demanded) push(x, slot, FLT_MAX);
        }
    }
}

/* The high list first: it fills the heap with better hits. */
static void walk_term(search *x, sterm *t) {
    const term *at = &x->ix->terms[t->id];
    const plist *lists[2] = {term_high(x->ix, at), &at->low};
    for (int i = 0; i < 2; i++) {
        walk w;
        if (!lists[i] || lists[i]->n == 0) continue;
        walk_init(x, &w, t, i == 0);
        if (lists[i]->n <= FEW) {
            walk_few(x, &w, lists[i]);
            continue;
        }
        memset(x->s->known, 0, sizeof x->s->known);
        if (!x->s->has_worths) make_worths(x);
        for (uint32_t b = 0; b < lists[i]->n_blocks; b++)
            walk_block(x, &w, &list_blocks(lists[i])[b]);
    }
    drain(x);
    t->seen = SEEN_LOW | SEEN_HIGH;
    t->done = true;
}

/* ---- one extent ---- */

/* The class at hand. */
typedef struct window {
    uint32_t cls;
    uint32_t essential;    /* lists from here on in list_order are walked */
    float scale;           /* of sums */
    uint32_t demanded_add; /* a document with all demands has at least this sum */
} window;

/* The slots of block b, from the list's buffers. */
static const uint32_t *cached_block(const search *x, vlist *v, uint32_t b) {
    uint32_t way = b % v->ways;
    uint32_t *buf = v->buf + way * BUF;
    if (v->tags[way] != b) block_slots(x->ix->kernels, &list_blocks(v->list)[b], buf);
    v->tags[way] = b;
    return buf;
}

/* Cuts [*from, *to) of ascending slots to those in [lo, hi). */
static void cut_slots(const uint32_t *slots, uint32_t lo, uint32_t hi, uint32_t *from,
                      uint32_t *to) {
    *from = lower_bound(slots, *to, lo);
    if (*to > *from && slots[*to - 1] >= hi) *to = lower_bound(slots, *to, hi);
}

/* Walks the part of the list that lies in the extent. */
static void visit_postings(search *x, const walk *w, const bounds *in, vlist *v, const extent *e) {
    const block *b = list_blocks(v->list);
    uint32_t end = e->base + e->used;
    for (uint32_t i = list_find_block(v->list, e->base); i < v->list->n_blocks && b[i].first < end;
         i++) {
        if (walk_most(w, in, b[i].max_tf) < x->threshold) continue;
        const uint32_t *slots = cached_block(x, v, i);
        uint32_t from = 0, to = b[i].count;
        cut_slots(slots, e->base, end, &from, &to);
        const uint8_t *nibbles = v->high ? block_nibbles(&b[i]) : NULL;
        walk_run(x, w, e->cls, in, (slot_run){slots, from, to, nibbles});
    }
}

static void add_bitmap(search *x, const vlist *v, const extent *e, const block *b) {
    const uint8_t *p = block_payload(b, block_payload_size(b));
    uint32_t first = b->first & ~31u, words = block_words(b), skip = 0;
    uint32_t bits[WORDS_MAX];
    if (first < e->base) skip = MIN((e->base - first) / 32, words);
    uint32_t at = first + skip * 32 - e->base; /* in the extent */
    if (skip == words || at >= e->size) return;
    uint32_t n = MIN(words - skip, (e->size - at) / 32);
    memcpy(bits, p + skip * 4, n * 4);
    x->ix->kernels->add_bits(bits, n, v->add[1], x->s->sums + at);
}

static void add_slots(search *x, vlist *v, const extent *e, uint32_t i) {
    const block *b = &list_blocks(v->list)[i];
    const uint32_t *slots = cached_block(x, v, i);
    uint16_t *sums = x->s->sums;
    uint32_t from = 0, to = b->count;
    cut_slots(slots, e->base, e->base + e->used, &from, &to);
    if (v->high) {
        const uint8_t *p = block_nibbles(b);
        for (uint32_t k = from; k < to; k++) {
            uint16_t *sum = &sums[slots[k] - e->base];
            *sum = (uint16_t)(*sum + v->add[nibble_at(p, k)]);
        }
        return;
    }
    for (uint32_t k = from; k < to; k++) {
        uint16_t *sum = &sums[slots[k] - e->base];
        *sum = (uint16_t)(*sum + v->add[1]);
    }
}

static void add_list(search *x, vlist *v, const extent *e) {
    const block *b = list_blocks(v->list);
    uint32_t end = e->base + e->used;
    for (uint32_t i = list_find_block(v->list, e->base); i < v->list->n_blocks && b[i].first < end;
         i++) {
        if (block_is_bitmap(&b[i]))
            add_bitmap(x, v, e, &b[i]);
        else
            add_slots(x, v, e, i);
    }
}

/* The least sum of a document that matters now. */
static uint32_t least_sum(const search *x, const window *w) {
    double least = (double)x->threshold / SLACK * w->scale;
    uint32_t floor = w->demanded_add ? w->demanded_add : 1;
    return least > floor ? (uint32_t)MIN(least, 65535.0) : floor;
}

static void visit_sums(search *x, const window *w, const extent *e) {
    lexical_scratch *s = x->s;
    uint32_t n = (e->used + 63) & ~63u;
    memset(s->sums, 0, n * sizeof *s->sums);
    for (uint32_t i = 0; i < s->n_lists; i++) add_list(x, &s->lists[i], e);
    uint32_t least = least_sum(x, w);
    uint32_t found = x->ix->kernels->collect(s->sums, n, (uint16_t)least, s->found);
    for (uint32_t i = 0; i < found; i++) {
        if (i + AHEAD < found) __builtin_prefetch(extent_record(e, s->found[i + AHEAD]));
        if (s->sums[s->found[i]] < least) continue;
        consider(x, e, extent_record(e, s->found[i]));
        least = least_sum(x, w);
    }
}

/* ---- planes ---- */

static void or_bitmap(const extent *e, const block *b, uint64_t *plane) {
    const uint8_t *p = block_payload(b, block_payload_size(b));
    uint32_t first = b->first & ~31u, words = block_words(b), skip = 0;
    if (first < e->base) skip = MIN((e->base - first) / 32, words);
    uint32_t at = first + skip * 32 - e->base; /* in the extent */
    for (uint32_t w = skip; w < words && at < e->size; w++, at += 32)
        plane[at / 64] |= (uint64_t)le32_get(p + w * 4) << (at & 32);
}

/* By bytes: a chain of changes of one 64-bit word would wait for each other. */
static void set_bit(uint64_t *plane, uint32_t at) {
    uint8_t *p = (uint8_t *)plane + at / 8;
    *p = (uint8_t)(*p | 1u << (at & 7));
}

static void or_slots(search *x, vlist *v, const extent *e, uint32_t i, uint64_t *plane) {
    const uint32_t *slots = cached_block(x, v, i);
    uint32_t from = 0, to = list_blocks(v->list)[i].count;
    cut_slots(slots, e->base, e->base + e->used, &from, &to);
    for (uint32_t k = from; k < to; k++) set_bit(plane, slots[k] - e->base);
}

/* The slots with at least this tf. Without a branch: tfs are hard to foresee. */
static void or_tfs(slot_run r, uint32_t base, uint32_t least, uint64_t *plane) {
    uint8_t *bytes = (uint8_t *)plane;
    for (uint32_t k = r.from; k < r.to; k++) {
        uint32_t at = r.slots[k] - base;
        uint32_t bit = (uint32_t)(nibble_at(r.nibbles, k) >= least) << (at & 7);
        bytes[at / 8] = (uint8_t)(bytes[at / 8] | bit);
    }
}

/* The slots of a high list: those with at least tf `need`, two, three. */
static void or_high(search *x, vlist *v, const extent *e, uint32_t need, uint32_t plane) {
    lexical_scratch *s = x->s;
    const block *b = list_blocks(v->list);
    uint32_t end = e->base + e->used;
    for (uint32_t i = list_find_block(v->list, e->base); i < v->list->n_blocks && b[i].first < end;
         i++) {
        if (b[i].max_tf < need) continue;
        const uint32_t *slots = cached_block(x, v, i);
        const uint8_t *nibbles = block_nibbles(&b[i]);
        uint32_t from = 0, to = b[i].count;
        cut_slots(slots, e->base, end, &from, &to);
        if (need <= 2)
            for (uint32_t k = from; k < to; k++) set_bit(s->twice[plane], slots[k] - e->base);
        slot_run r = {slots, from, to, nibbles};
        if (b[i].max_tf > 2) or_tfs(r, e->base, MAX(need, 3u), s->thrice[plane]);
        if (need > 2) or_tfs(r, e->base, need, s->twice[plane]);
    }
}

static void or_list(search *x, vlist *v, const extent *e, uint64_t *plane) {
    const block *b = list_blocks(v->list);
    uint32_t end = e->base + e->used;
    for (uint32_t i = list_find_block(v->list, e->base); i < v->list->n_blocks && b[i].first < end;
         i++) {
        if (block_is_bitmap(&b[i]))
            or_bitmap(e, &b[i], plane);
        else
            or_slots(x, v, e, i, plane);
    }
}

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

/* A document that has those terms, at least so often. */
typedef struct need_set {
    uint8_t any, twice, thrice; /* a bit for each term */
    bool high;                  /* any of them more than once */
} need_set;

/* What may enter now: what has one of the sets. In an exact class a document whose levels are below
 * 3 has exactly the sum of their worths: it enters above the threshold, or at it until ties are
 * lost. */
typedef struct gate {
    float threshold; /* that the sets are for */
    float lost; /* no document from here on, in the extent, can enter at this threshold; -1: none */
    bool by_signature; /* there are no planes of level 1 */
    uint32_t n;
    need_set sets[SETS_MAX];
} gate;

/* Whether this sum of worths, exact or a bound, lets a document enter. */
static bool sum_enters(const search *x, const gate *g, float sum, bool exact) {
    if (!exact) return sum * SLACK >= MAX(x->threshold, FLT_MIN);
    return sum > x->threshold || (sum == x->threshold && g->lost != sum && sum > 0);
}

/* The smallest sets of terms that are enough: `ok` has a bit for each set that is. */
static void add_sets(const plane_terms *t, uint64_t ok, bool high, gate *g) {
    for (; ok; ok &= ok - 1) {
        uint32_t set = (uint32_t)__builtin_ctzll(ok);
        if ((set & t->demanded) == t->demanded) {
            g->sets[g->n++] = (need_set){.any = (uint8_t)set, .high = high};
            for (uint32_t above = set; above < 1u << t->n; above = (above + 1) | set)
                if (above != set) ok &= ~((uint64_t)1 << above);
        }
    }
}

/* All at level 1, or one of them higher and enough if all are. */
static void gate_by_sets(const search *x, const plane_terms *t, gate *g) {
    uint64_t low = 0, any = 0;
    bool exact = class_is_exact(t->cls);
    for (uint32_t set = 1; set < 1u << t->n; set++) {
        low |= (uint64_t)sum_enters(x, g, t->low_sum[set], exact) << set;
        any |= (uint64_t)sum_enters(x, g, t->any_sum[set], false) << set;
    }
    add_sets(t, low, false, g);
    add_sets(t, any, true, g);
}

/* True when no term can be one level lower. */
static bool levels_are_least(const plane_terms *t, uint64_t ok, uint32_t v) {
    for (uint32_t j = 0; j < t->n; j++) {
        uint32_t level = v >> (2 * j) & 3, least = t->demanded >> j & 1;
        if (level > least && (ok >> (v - (1u << (2 * j))) & 1)) return false;
        if (level < least || (level > 1 && !t->more[j])) return false;
    }
    return true;
}

static void gate_by_levels(const search *x, const plane_terms *t, gate *g) {
    uint64_t ok = 0;
    bool exact = class_is_exact(t->cls);
    for (uint32_t v = 1; v < 1u << (2 * t->n); v++) {
        bool three = v & (v >> 1) & 0x15;
        ok |= (uint64_t)sum_enters(x, g, t->sums[v], exact && !three) << v;
    }
    for (uint64_t m = ok; m; m &= m - 1) {
        uint32_t v = (uint32_t)__builtin_ctzll(m);
        if (!levels_are_least(t, ok, v)) continue;
        need_set *set = &g->sets[g->n++];
        *set = (need_set){0};
        for (uint32_t j = 0; j < t->n; j++) {
            uint32_t level = v >> (2 * j) & 3;
            uint8_t bit = (uint8_t)(1u << j);
            if (level == 1) set->any |= bit;
            if (level == 2) set->twice |= bit;
            if (level == 3) set->thrice |= bit;
        }
    }
}

static void gate_make(const search *x, const plane_terms *t, gate *g) {
    g->threshold = x->threshold;
    g->n = 0;
    if (t->n <= LEVELS_MAX)
        gate_by_levels(x, t, g);
    else
        gate_by_sets(x, t, g);
}

static uint32_t add_planes(uint64_t planes[][PLANE_WORDS], uint32_t set, uint32_t at,
                           const uint64_t **out) {
    uint32_t n = 0;
    for (; set; set &= set - 1) out[n++] = planes[__builtin_ctz(set)] + at;
    return n;
}

/* candidates = the slots of a piece that have one of the sets; without `any`, as far as the levels
 * above 1 say. */
static void find_candidates(search *x, const gate *g, uint32_t at, bool any) {
    lexical_scratch *s = x->s;
    memset(s->candidates, 0, sizeof s->candidates);
    for (uint32_t i = 0; i < g->n; i++) {
        const need_set *set = &g->sets[i];
        const uint64_t *planes[3 * PLANES_MAX + 1];
        uint32_t n = any ? add_planes(s->planes, set->any, at, planes) : 0;
        n += add_planes(s->twice, set->twice, at, planes + n);
        n += add_planes(s->thrice, set->thrice, at, planes + n);
        if (set->high) planes[n++] = s->high + at;
        x->ix->kernels->or_product(s->candidates, planes, n, PIECE_WORDS);
    }
}

/* Whether a slot can enter by what planes, or signatures when there are none, say of its terms. */
static bool slot_enters(const search *x, const plane_terms *t, gate *g, const extent *e,
                        uint32_t i) {
    const lexical_scratch *s = x->s;
    bool exact = class_is_exact(t->cls);
    uint32_t w = i / 64, bit = i & 63;
    uint64_t sig = g->by_signature ? x->ix->signatures[e->base + i] : 0;
    float sum = 0;
    for (uint32_t j = 0; j < t->n; j++) {
        uint32_t tf = g->by_signature ? (sig & t->bit[j]) != 0 : s->planes[j][w] >> bit & 1;
        if (t->more[j] && tf) tf += (s->twice[j][w] >> bit & 1) + (s->thrice[j][w] >> bit & 1);
        if (!tf && (t->demanded >> j & 1)) return false;
        exact &= tf < 3;
        sum += t->worth[j][tf];
    }
    if (!exact) return sum * SLACK >= x->threshold;
    if (sum != x->threshold || x->n < x->k) return sum >= x->threshold;
    if (g->lost == sum) return false;
    if (extent_record(e, i)->doc < x->heap[0].doc) return true;
    if (e->in_order) g->lost = sum;
    return false;
}

/* Considers the candidates of the piece at word `at` from slot `from` on. Ends early, with the next
 * slot, when ties are lost: then most candidates are none any more. */
static uint32_t consider_piece(search *x, const plane_terms *t, gate *g, const extent *e,
                               uint32_t at, uint32_t from) {
    lexical_scratch *s = x->s;
    uint32_t n = 0;
    float lost = g->lost;
    for (uint32_t w = 0; w < (from / 64) - at && w < PIECE_WORDS; w++) s->candidates[w] = 0;
    if (from / 64 - at < PIECE_WORDS) s->candidates[from / 64 - at] &= ~(uint64_t)0 << (from & 63);
    for (uint32_t w = 0; w < PIECE_WORDS; w++)
        for (uint64_t m = s->candidates[w]; m; m &= m - 1)
            s->found[n++] = (uint16_t)((at + w) * 64 + (unsigned)__builtin_ctzll(m));
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = s->found[i];
        if (i + AHEAD < n) __builtin_prefetch(extent_record(e, s->found[i + AHEAD]));
        if (slot_enters(x, t, g, e, slot)) consider(x, e, extent_record(e, slot));
        if (g->lost != lost) return slot + 1;
    }
    return (at + PIECE_WORDS) * 64;
}

/* Planes of levels 2 and 3. */
static void make_high_planes(search *x, const plane_terms *t, const extent *e, uint32_t words) {
    lexical_scratch *s = x->s;
    memset(s->high, 0, words * 8);
    for (uint32_t i = 0, at = 0; i < t->n; i++) {
        memset(s->twice[i], 0, words * 8);
        memset(s->thrice[i], 0, words * 8);
        for (; at < s->n_lists && s->lists[at].term == t->terms[i]; at++)
            if (s->lists[at].high) or_high(x, &s->lists[at], e, t->need[i], i);
        for (uint32_t w = 0; t->n > LEVELS_MAX && w < words; w++) s->high[w] |= s->twice[i][w];
    }
}

static void make_planes(search *x, const plane_terms *t, const extent *e, uint32_t words) {
    lexical_scratch *s = x->s;
    for (uint32_t i = 0, at = 0; i < t->n; i++) {
        memset(s->planes[i], 0, words * 8);
        for (; at < s->n_lists && s->lists[at].term == t->terms[i]; at++)
            or_list(x, &s->lists[at], e, s->planes[i]);
    }
}

/* True when every set asks for a level above 1, and so few slots have it that asking signatures for
 * the rest is cheaper than reading the low lists. */
static bool few_are_high(search *x, const gate *g, const extent *e, uint32_t words) {
    uint32_t n = 0;
    double low = 0;
    for (uint32_t i = 0; i < g->n; i++)
        if (!(g->sets[i].twice | g->sets[i].thrice | g->sets[i].high)) return false;
    for (uint32_t i = 0; i < x->s->n_lists; i++) low += x->s->lists[i].list->n;
    uint32_t few = (uint32_t)(low * e->live / x->ix->docs / FEW_HIGH);
    for (uint32_t at = 0; at < words && n <= few; at += PIECE_WORDS) {
        find_candidates(x, g, at, false);
        for (uint32_t w = 0; w < PIECE_WORDS; w++)
            for (uint64_t m = x->s->candidates[w]; m && n <= few; m &= m - 1) n++;
    }
    return n <= few;
}

static void visit_planes(search *x, const plane_terms *t, const extent *e) {
    uint32_t words = (uint32_t)(bits_words(e->used) + PIECE_WORDS - 1) / PIECE_WORDS * PIECE_WORDS;
    bool lost = x->n == x->k && e->in_order && e->first_doc > x->heap[0].doc;
    gate g = {.lost = lost ? x->threshold : -1};
    gate_make(x, t, &g);
    if (g.n == 0) return;
    make_high_planes(x, t, e, words);
    g.by_signature = few_are_high(x, &g, e, words);
    if (!g.by_signature) make_planes(x, t, e, words);
    for (uint32_t slot = 0; slot < words * 64 && g.n;) {
        float lost_before = g.lost;
        uint32_t at = slot / 64 / PIECE_WORDS * PIECE_WORDS;
        find_candidates(x, &g, at, !g.by_signature);
        slot = consider_piece(x, t, &g, e, at, slot);
        if (x->threshold != g.threshold || g.lost != lost_before) gate_make(x, t, &g);
    }
}

/* The least tf of term i with which, and with all other terms, the threshold can be reached. */
static uint32_t needed_tf(const search *x, const plane_terms *t, uint32_t i) {
    const sterm *a = &x->s->terms[t->terms[i]];
    float others = 0;
    for (uint32_t j = 0; j < t->n; j++)
        if (j != i) others += t->worth[j][3];
    uint32_t tf = 2;
    while (tf < NIBBLE_MAX &&
           (part(x, a, tf, class_length_min(t->cls)) + others) * SLACK < x->threshold)
        tf++;
    return tf;
}

static void prepare_planes(const search *x, uint32_t cls, plane_terms *t) {
    const lexical_scratch *s = x->s;
    t->n = t->demanded = 0;
    t->cls = cls;
    t->low_sum[0] = t->any_sum[0] = t->sums[0] = 0;
    for (uint32_t i = 0; i < s->n_lists; i++) {
        if (i && s->lists[i].term == s->lists[i - 1].term) continue;
        const sterm *a = &s->terms[s->lists[i].term];
        uint32_t j = t->n++, bit = 1u << j;
        float *worth = t->worth[j];
        worth[0] = 0;
        worth[1] = bound(x, a, false, cls);
        worth[2] = part(x, a, 2, class_length_min(cls));
        worth[3] = bound(x, a, a->max_tf > 1, cls);
        t->more[j] = a->max_tf > 1;
        t->bit[j] = signature_any(a->id);
        t->terms[j] = s->lists[i].term;
        if (a->demanded) t->demanded |= bit;
        for (uint32_t m = 0; m < bit; m++) {
            t->low_sum[m + bit] = t->low_sum[m] + worth[1];
            t->any_sum[m + bit] = t->any_sum[m] + worth[3];
        }
        for (uint32_t v = 0; j < LEVELS_MAX && v < 3u << (2 * j); v++)
            t->sums[v + (1u << (2 * j))] =
                t->sums[v & ((1u << (2 * j)) - 1)] + worth[(v >> (2 * j)) + 1];
    }
    for (uint32_t i = 0; i < t->n; i++) t->need[i] = needed_tf(x, t, i);
}

/* ---- classes ---- */

/* Bounds of all lists in the class, and the lists in order of them. Returns the most a document
 * can have. */
static float class_bounds(search *x, uint32_t cls) {
    lexical_scratch *s = x->s;
    for (uint32_t i = 0; i < s->n_lists; i++)
        s->lists[i].best = bound(x, &s->terms[s->lists[i].term], s->lists[i].high, cls);
    for (uint32_t i = 1; i < s->n_lists; i++) { /* nearly in order already: insertion */
        uint32_t o = s->list_order[i], j = i;
        for (; j > 0 && s->lists[s->list_order[j - 1]].best > s->lists[o].best; j--)
            s->list_order[j] = s->list_order[j - 1];
        s->list_order[j] = o;
    }
    float sum = 0, most = s->lists[s->list_order[s->n_lists - 1]].best;
    for (uint32_t i = 0; i < s->n_lists;
         i++) { /* a high list bounds its term; the low one before it counts not */
        const vlist *v = &s->lists[i];
        if (v->high || i + 1 == s->n_lists || s->lists[i + 1].term != v->term) sum += v->best;
    }
    return MIN(sum, most * (float)class_length_max(cls));
}

/* Where in list_order the essential lists begin: those before reach the threshold not even
 * together. */
static uint32_t first_essential(const search *x) {
    const lexical_scratch *s = x->s;
    float low[LEXICAL_TERMS_MAX], sum = 0; /* the best list of each term so far */
    for (uint32_t i = 0; i < s->n_terms; i++) low[i] = 0;
    for (uint32_t i = 0; i < s->n_lists; i++) {
        const vlist *v = &s->lists[s->list_order[i]];
        sum += v->best - low[v->term]; /* bounds rise, so v->best is its term's best */
        low[v->term] = v->best;
        if (sum * SLACK >= x->threshold) return i;
    }
    return s->n_lists;
}

/* Only the lists of the rarest demanded term: every hit is in one of them. */
static uint32_t essential_of_demand(search *x, uint32_t number) {
    lexical_scratch *s = x->s;
    uint32_t end = s->n_lists;
    for (uint32_t i = s->n_lists; i-- > 0;) {
        uint32_t o = s->list_order[i];
        if (s->lists[o].term != number) continue;
        memmove(s->list_order + i, s->list_order + i + 1, (--end - i) * sizeof o);
        s->list_order[end] = o;
    }
    return end;
}

/* How to find what a class has. */
typedef enum method { METHOD_WALK, METHOD_PLANES, METHOD_SUMS } method;

/* The cheapest way, by estimates in ns. */
static method choose(const search *x, const window *w) {
    const lexical_scratch *s = x->s;
    const length_class *c = &x->ix->classes[w->cls];
    double part_of = (double)c->live / x->ix->docs, all = 0, essential = 0;
    for (uint32_t i = 0; i < s->n_lists; i++) {
        const vlist *v = &s->lists[s->list_order[i]];
        all += v->list->n;
        if (i >= w->essential) essential += v->list->n;
    }
    bool planes = s->n_left <= PLANES_MAX;
    double by_slot = (planes ? 0.02 : 0.3) * s->n_lists * c->live;
    double other = by_slot + 0.7 * all * part_of + 60.0 * s->n_lists * (double)c->count;
    if (essential * part_of * WALK_COST < other) return METHOD_WALK;
    return planes ? METHOD_PLANES : METHOD_SUMS;
}

static void prepare_sums(search *x, window *w, float most) {
    lexical_scratch *s = x->s;
    uint32_t len = class_length_min(w->cls), longest = class_length_max(w->cls);
    w->scale = SUM_MAX / most;
    w->demanded_add = 0;
    for (uint32_t i = 0; i < s->n_lists; i++) {
        vlist *v = &s->lists[i];
        const sterm *t = &s->terms[v->term];
        uint32_t max = v->high ? MIN(t->max_tf, NIBBLE_MAX) : 1;
        for (uint32_t tf = 1; tf <= max; tf++) {
            uint32_t f = MIN(tf < NIBBLE_MAX ? tf : t->max_tf, longest);
            v->add[tf] = (uint16_t)(part(x, t, f, len) * w->scale + 1);
        }
        bool first = i == 0 || s->lists[i - 1].term != v->term;
        if (t->demanded && first) w->demanded_add += v->add[v->high ? 2 : 1];
    }
}

static void walk_class(search *x, const window *w) {
    lexical_scratch *s = x->s;
    const length_class *c = &x->ix->classes[w->cls];
    for (uint32_t j = w->essential; j < s->n_lists; j++) {
        vlist *v = &s->lists[s->list_order[j]];
        walk k;
        bounds in;
        walk_init(x, &k, &s->terms[v->term], v->high);
        bounds_make(x, &k, w->cls, &in);
        for (size_t i = 0; i < c->count; i++) {
            const extent *e = &x->ix->extents[c->extents[i]];
            if (e->live) visit_postings(x, &k, &in, v, e);
        }
        drain(x);
        s->terms[v->term].seen |= v->high ? SEEN_HIGH : SEEN_LOW;
    }
    for (uint32_t i = 0; i < s->n_lists; i++) s->terms[s->lists[i].term].seen = 0;
}

static void visit_class(search *x, window *w, float most) {
    const length_class *c = &x->ix->classes[w->cls];
    plane_terms planes;
    method how = choose(x, w);
    if (how == METHOD_WALK) {
        walk_class(x, w);
        return;
    }
    if (how == METHOD_SUMS)
        prepare_sums(x, w, most);
    else
        prepare_planes(x, w->cls, &planes);
    for (size_t i = 0; i < c->count && most * SLACK >= x->threshold; i++) {
        const extent *e = &x->ix->extents[c->extents[i]];
        if (e->live == 0) continue;
        if (how == METHOD_SUMS)
            visit_sums(x, w, e);
        else
            visit_planes(x, &planes, e);
    }
}

static void search_classes(search *x, const sterm *demand) {
    lexical_scratch *s = x->s;
    window w = {0};
    if (!s->has_worths) make_worths(x);
    for (w.cls = 0; w.cls < x->ix->classes_end; w.cls++) {
        if (x->ix->classes[w.cls].live == 0 || class_length_max(w.cls) < x->demands) continue;
        float most = class_bounds(x, w.cls);
        if (most * SLACK < x->threshold) continue;
        w.essential =
            demand ? essential_of_demand(x, (uint32_t)(demand - s->terms)) : first_essential(x);
        if (w.essential < s->n_lists) visit_class(x, &w, most);
    }
}

/* ---- the whole ---- */

static void order_by_df(lexical_scratch *s) {
    for (uint32_t i = 0; i < s->n_terms; i++) {
        uint32_t j = i;
        for (; j > 0 && s->terms[s->order[j - 1]].df > s->terms[i].df; j--)
            s->order[j] = s->order[j - 1];
        s->order[j] = i;
    }
}

static sterm *rarest_demanded(lexical_scratch *s) {
    for (uint32_t i = 0; i < s->n_terms; i++)
        if (s->terms[s->order[i]].demanded) return &s->terms[s->order[i]];
    return NULL;
}

static bool filter_is_narrow(const search *x, uint64_t postings) {
    const lexical_query *q = x->q;
    if (!q->filter) return false;
    return q->filter_count <= FILTER_DIRECT ||
           (q->filter_count < postings / 4 && q->filter_count < x->ix->docs / 32);
}

/* The lists of all terms not done, those of a term beside each other, the low one first. */
static void make_lists(search *x) {
    lexical_scratch *s = x->s;
    s->n_lists = s->n_left = 0;
    for (uint32_t i = 0; i < s->n_terms; i++) {
        if (s->terms[i].done) continue;
        s->n_left++;
        const term *t = &x->ix->terms[s->terms[i].id];
        const plist *both[2] = {&t->low, term_high(x->ix, t)};
        for (int h = 0; h < 2; h++)
            if (both[h] && both[h]->n)
                s->lists[s->n_lists++] = (vlist){.list = both[h], .term = i, .high = h};
    }
    uint32_t *buf = s->cache;
    for (uint32_t i = 0; i < s->n_lists; i++) {
        vlist *v = &s->lists[i];
        v->ways = s->n_lists <= CACHE_LISTS ? MIN(v->list->n_blocks, (uint32_t)WAYS) : 1;
        v->buf = buf;
        buf += v->ways * BUF;
        for (uint32_t k = 0; k < WAYS; k++) v->tags[k] = UINT32_MAX;
        s->list_order[i] = i;
    }
}

static void run(search *x) {
    lexical_scratch *s = x->s;
    order_by_df(s);
    uint64_t postings = 0;
    for (uint32_t i = 0; i < s->n_terms; i++) postings += s->terms[i].df;
    if (filter_is_narrow(x, postings)) {
        consider_filter(x);
        return;
    }
    sterm *demand = rarest_demanded(s);
    if (demand && demand->df <= WALK_MAX) {
        walk_term(x, demand);
        return;
    }
    uint32_t spent = 0;
    for (uint32_t i = 0; !demand && i < s->n_terms; i++) {
        sterm *t = &s->terms[s->order[i]];
        spent += t->df;
        if (spent > WALK_MAX) break;
        walk_term(x, t);
    }
    make_lists(x);
    if (s->n_lists) search_classes(x, demand);
}

/* Heap to order, best first. */
static void sort_hits(lexical_hit *h, size_t n) {
    for (; n > 1; n--) {
        lexical_hit worst = h[0];
        sift_down(h, n - 1, h[n - 1]);
        h[n - 1] = worst;
    }
}

err lexical_search(const lexical *ix, const lexical_query *q, lexical_scratch *s, lexical_hit *hits,
                   size_t *n) {
    *n = 0;
    search x = {.ix = ix, .q = q, .s = s, .heap = hits, .k = q->k};
    TRY(prepare(&x));
    if (x.impossible || s->n_terms == 0 || q->k == 0) return OK;
    if (q->filter && q->filter_count == 0) return OK;
    run(&x);
    sort_hits(hits, x.n);
    *n = x.n;
    return OK;
}

/* ---- explanation ---- */

/* The text of the query's `input`th word. */
static str input_text(const lexical_query *q, uint32_t input) {
    if (input < q->n_terms) return q->terms[input].text;
    input -= (uint32_t)q->n_terms;
    if (input < q->n_must) return q->must[input].text;
    input -= (uint32_t)q->n_must;
    for (size_t i = 0; i < q->n_phrases; i++) {
        if (input < q->phrases[i].count) return q->phrases[i].words[input];
        input -= (uint32_t)q->phrases[i].count;
    }
    return STR("");
}

err lexical_explain(const lexical *ix, const lexical_query *q, lexical_scratch *s, uint32_t doc,
                    lexical_explanation *out) {
    *out = (lexical_explanation){.k1 = ix->k1, .b = ix->b, .docs = ix->docs};
    if (!lexical_has(ix, doc)) return err_set(ERR_NOT_FOUND, "words: no document %u", doc);
    search x = {.ix = ix, .q = q, .s = s};
    TRY(prepare(&x));
    out->length_mean = ix->docs ? (float)((double)ix->tokens / ix->docs) : 0;
    uint32_t slot = ix->doc_slot[doc], have = 0;
    if (slot == SLOT_EMPTY) return OK;
    const extent *e = extent_of(ix, slot);
    const record *r = extent_record(e, slot - e->base);
    const uint32_t *tokens = record_tokens(e, r);
    out->length = r->len;
    ix->kernels->count_terms(tokens, out->length, s->ids, s->n_terms, s->tfs);
    for (uint32_t i = 0; i < s->n_terms; i++) {
        const sterm *t = &s->terms[i];
        uint32_t tf = MIN(s->tfs[i], (uint32_t)LEXICAL_TF_MAX);
        float value = tf ? part(&x, t, tf, out->length) : 0;
        out->parts[out->n_parts++] =
            (lexical_part){input_text(q, t->input), t->weight, t->idf, t->df, tf, value};
        out->score += value;
        have += tf && t->demanded;
        out->matches |= tf > 0;
    }
    out->matches =
        out->matches && !x.impossible && have == x.demands && passes(&x, tokens, out->length);
    return OK;
}
