/* Exact top-k: cheap upper bounds choose candidates, sequences give their scores.
 *
 * Whatever way a candidate is found, one function (consider) looks at its tokens, checks filter,
 * demands, must-not words and phrases, adds up the exact score, and keeps it when it is among the k
 * best. So only the finding differs:
 *
 *  - by filter: when few documents pass it, they are the candidates;
 *  - by driver: when a demanded term is rare, its documents are;
 *  - by seeds and extents, the general case. Seeds: the rarest terms, as long as they have few documents
 *    together, are considered whole; that fills the heap with good hits, and their terms are done: a
 *    document not seen yet has none of them. Extents: length classes are visited from the shortest;
 *    the bound of a class is the best sum that the remaining terms can reach at its shortest length, and
 *    a class below the k-th best score is skipped. In an extent the terms are added up as integers
 *    (u16, rounded up) over its slots, from lists as gaps or bitmaps; slots whose sum reaches the k-th best
 *    are considered, shortest way first. When the terms without which nothing can reach it have few
 *    postings in the extent, these are considered directly and nothing is added up (MaxScore, Turtle and
 *    Flood 1995).
 *
 * Bounds are safe: a slot's sum is at least its exact score times scale, since each part is rounded up at
 * the shortest length of the class; the threshold is rounded down by more than float addition can err.
 * A slot whose bound equals the threshold is considered: ties go to the lower document.
 *
 * Scratch is the reader's; the index is not written. No allocation but in the first searches.
 */
#include "index/lexical_int.h"

#include <math.h>

enum {
    SEED_MAX = 192,     /* postings considered before extents: 15 ns each */
    DRIVER_MAX = 1024,  /* a demanded term this rare drives the search alone */
    FILTER_DIRECT = 64, /* this few documents passing are always considered one by one */
    SUM_MAX = 60000,    /* of the u16 sums, before rounding up */
    AHEAD = 6           /* candidates whose tokens are fetched ahead */
};

typedef struct sterm {
    uint32_t id;
    uint32_t df;
    uint32_t input; /* where in the query: index over terms, must, phrase words */
    float weight;   /* of the query */
    float idf;
    float w; /* weight * idf * (k1 + 1) */
    uint32_t max_tf;
    bool demanded;
    bool done;    /* all its documents were considered */
    float best;   /* in the class at hand: bound with max_tf */
    uint16_t add; /* in the extent at hand: tf 1, scaled */
} sterm;

typedef struct phrase {
    uint32_t from, n; /* in scratch.phrase_ids */
} phrase;

struct lexical_scratch {
    sterm terms[LEXICAL_TERMS_MAX];
    uint32_t ids[LEXICAL_TERMS_MAX]; /* terms[i].id */
    uint32_t tfs[LEXICAL_TERMS_MAX]; /* of the candidate at hand */
    uint32_t n_terms;
    uint32_t order[LEXICAL_TERMS_MAX]; /* terms by rising df, later by falling bound */
    uint32_t nots[LEXICAL_NOT_MAX];
    uint32_t n_nots;
    phrase phrases[LEXICAL_PHRASES_MAX], not_phrases[LEXICAL_PHRASES_MAX];
    uint32_t n_phrases, n_not_phrases;
    uint32_t phrase_ids[2 * LEXICAL_PHRASES_MAX * LEXICAL_PHRASE_MAX];
    uint32_t n_phrase_ids;
    uint16_t sums[EXTENT_MAX];
    uint16_t found[EXTENT_MAX];
    uint32_t slots[BLOCK_MAX + 8];
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
    return (float)log(1.0 + ((double)docs - df + 0.5) / (df + 0.5));
}

static sterm *find_sterm(lexical_scratch *s, uint32_t id) {
    for (uint32_t i = 0; i < s->n_terms; i++)
        if (s->ids[i] == id) return &s->terms[i];
    return NULL;
}

/* The place of a new term when there are too many: that of the most frequent one, if it is more so. */
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
    uint32_t df = x->ix->terms[id].df;
    if (t) {
        t->weight += weight;
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

/* The largest tf in the list, from its blocks. */
static uint32_t list_max_tf(const term *t) {
    uint32_t max = 1;
    for (uint32_t i = 0; i < t->n_blocks; i++) max = MAX(max, term_blocks(t)[i].max_tf);
    return max;
}

static err prepare(search *x) {
    const lexical *ix = x->ix;
    const lexical_query *q = x->q;
    lexical_scratch *s = x->s;
    s->n_terms = s->n_nots = s->n_phrases = s->n_not_phrases = s->n_phrase_ids = 0;
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
    x->k_fixed = ix->k1 * (1 - ix->b);
    x->k_length = mean > 0 ? ix->k1 * ix->b / mean : 0;
    for (uint32_t i = 0; i < s->n_terms; i++) {
        sterm *t = &s->terms[i];
        t->idf = idf_of(ix->docs, t->df);
        t->w = t->weight * t->idf * (ix->k1 + 1);
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

/* Considers the document in slot i of the extent. `fresh` terms are those (in s->order) whose presence
 * means that it was considered before. */
static void consider(search *x, const extent *e, uint32_t i, uint32_t n_seen) {
    lexical_scratch *s = x->s;
    const lexical_query *q = x->q;
    uint32_t doc = e->docs[i], len = e->lens[i];
    if (q->filter && (doc >= q->filter_docs || !bits_get(q->filter, doc))) return;
    const uint32_t *tokens = extent_tokens(e, i);
    x->ix->kernels->count_terms(tokens, len, s->ids, s->n_terms, s->tfs);
    for (uint32_t j = 0; j < n_seen; j++)
        if (s->tfs[s->order[j]]) return;
    float score = 0;
    uint32_t have = 0, any = 0;
    for (uint32_t j = 0; j < s->n_terms; j++) {
        if (!s->tfs[j]) continue;
        score += part(x, &s->terms[j], s->tfs[j], len);
        have += s->terms[j].demanded;
        any = 1;
    }
    if (!any || have < x->demands) return;
    lexical_hit hit = {doc, score};
    if (x->n == x->k && !worse(x->heap[0], hit)) return;
    if ((s->n_nots | s->n_phrases | s->n_not_phrases) && !passes(x, tokens, len)) return;
    keep(x, hit);
}

static void fetch(const extent *e, uint32_t i) {
    __builtin_prefetch(&e->docs[i]);
    __builtin_prefetch(&e->lens[i]);
    if (e->stride) __builtin_prefetch(e->tokens + (size_t)i * e->stride);
}

/* Considers every document of the list; those that have one of the first n_seen terms are done. */
static void consider_list(search *x, const term *t, uint32_t n_seen) {
    uint32_t *slots = x->s->slots;
    for (uint32_t b = 0; b < t->n_blocks; b++) {
        uint32_t n = block_slots(&term_blocks(t)[b], slots);
        for (uint32_t i = 0; i < MIN(n, (uint32_t)AHEAD); i++) {
            const extent *e = extent_of(x->ix, slots[i]);
            fetch(e, slots[i] - e->base);
        }
        for (uint32_t i = 0; i < n; i++) {
            if (i + AHEAD < n) {
                const extent *e = extent_of(x->ix, slots[i + AHEAD]);
                fetch(e, slots[i + AHEAD] - e->base);
            }
            const extent *e = extent_of(x->ix, slots[i]);
            consider(x, e, slots[i] - e->base, n_seen);
        }
    }
}

static void consider_filter(search *x) {
    const lexical_query *q = x->q;
    size_t docs = MIN((size_t)q->filter_docs, x->ix->docs_cap);
    for (size_t w = 0; w < bits_words(docs); w++)
        for (uint64_t m = q->filter[w]; m; m &= m - 1) {
            size_t d = w * 64 + (unsigned)__builtin_ctzll(m);
            uint32_t slot = d < docs ? x->ix->doc_slot[d] : SLOT_NONE;
            if (slot >= SLOT_EMPTY) continue;
            const extent *e = extent_of(x->ix, slot);
            consider(x, e, slot - e->base, 0);
        }
}

/* ---- one extent ---- */

/* What is left to find, in the class at hand. */
typedef struct window {
    uint32_t from, n; /* the terms: s->order[from .. from + n), by falling bound */
    uint32_t n_seen;
    uint32_t len_min;
    float scale;
    uint32_t demanded_add; /* a document with all demands has at least this sum */
} window;

static uint16_t scaled(const search *x, const window *w, const sterm *t, uint32_t tf) {
    return (uint16_t)(part(x, t, tf, w->len_min) * w->scale + 1);
}

/* Adds the blocks' exceptions: what tf above 1 gives beyond tf 1. */
static void add_exceptions(search *x, const window *w, const sterm *t, const extent *e,
                           const block *b) {
    uint16_t *sums = x->s->sums;
    const uint8_t *p = block_payload(b, block_payload_size(b));
    bool bitmap = block_is_bitmap(b);
    p += bitmap ? block_words(b) * 4 : ((b->count - 1u) * b->width + 7) / 8;
    for (uint32_t i = 0; i < b->n_exc; i++, p += bitmap ? 3 : 2) {
        uint32_t slot = bitmap ? (b->first & ~31u) + le16_get(p) : x->s->slots[p[0]];
        if (slot - e->base >= e->size) continue;
        uint32_t more = (uint32_t)scaled(x, w, t, p[bitmap ? 2 : 1]) - t->add;
        sums[slot - e->base] = (uint16_t)(sums[slot - e->base] + more);
    }
}

static void add_bitmap(search *x, const sterm *t, const extent *e, const block *b) {
    const uint8_t *p = block_payload(b, block_payload_size(b));
    uint32_t first = b->first & ~31u, words = block_words(b), skip = 0;
    uint32_t bits[WORDS_MAX];
    if (first < e->base) skip = MIN((e->base - first) / 32, words);
    uint32_t at = first + skip * 32 - e->base; /* in the extent */
    if (skip == words || at >= e->size) return;
    uint32_t n = MIN(words - skip, (e->size - at) / 32);
    memcpy(bits, p + skip * 4, n * 4);
    x->ix->kernels->add_bits(bits, n, t->add, x->s->sums + at);
}

static void add_packed(search *x, const sterm *t, const extent *e, const block *b) {
    uint32_t n = block_slots(b, x->s->slots);
    uint16_t *sums = x->s->sums;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = x->s->slots[i] - e->base;
        if (at < e->size) sums[at] = (uint16_t)(sums[at] + t->add);
    }
}

/* Adds one term to the sums of the extent; returns the postings that may be in it. */
static void add_term(search *x, const window *w, const sterm *t, const extent *e) {
    const term *list = &x->ix->terms[t->id];
    const block *b = term_blocks(list);
    uint32_t end = e->base + e->used;
    for (uint32_t i = term_find_block(list, e->base); i < list->n_blocks && b[i].first < end; i++) {
        if (block_is_bitmap(&b[i]))
            add_bitmap(x, t, e, &b[i]);
        else
            add_packed(x, t, e, &b[i]);
        if (b[i].n_exc) add_exceptions(x, w, t, e, &b[i]);
    }
}

static uint32_t postings_near(const search *x, const sterm *t, const extent *e) {
    const term *list = &x->ix->terms[t->id];
    const block *b = term_blocks(list);
    uint32_t end = e->base + e->used, n = 0;
    for (uint32_t i = term_find_block(list, e->base); i < list->n_blocks && b[i].first < end; i++)
        n += b[i].count;
    return n;
}

/* The least sum of a document that matters now. */
static uint32_t least_sum(const search *x, const window *w) {
    double least = (double)x->threshold * (1 - 1e-4) * w->scale;
    uint32_t floor = w->demanded_add ? w->demanded_add : 1;
    return least > floor ? (uint32_t)MIN(least, 65535.0) : floor;
}

static void visit_sums(search *x, const window *w, const extent *e) {
    lexical_scratch *s = x->s;
    uint32_t n = (e->used + 63) & ~63u;
    memset(s->sums, 0, n * sizeof *s->sums);
    for (uint32_t i = 0; i < w->n; i++) {
        sterm *t = &s->terms[s->order[w->from + i]];
        add_term(x, w, t, e);
    }
    uint32_t least = least_sum(x, w);
    uint32_t found = x->ix->kernels->collect(s->sums, n, (uint16_t)least, s->found);
    for (uint32_t i = 0; i < found; i++) {
        if (i + AHEAD < found) fetch(e, s->found[i + AHEAD]);
        if (s->sums[s->found[i]] < least) continue;
        consider(x, e, s->found[i], w->n_seen);
        least = least_sum(x, w);
    }
}

/* Considers the postings of the first n terms of the window one by one. */
static void visit_postings(search *x, const window *w, const extent *e, uint32_t n) {
    lexical_scratch *s = x->s;
    uint32_t end = e->base + e->used;
    for (uint32_t j = 0; j < n; j++) {
        const term *list = &x->ix->terms[s->terms[s->order[w->from + j]].id];
        const block *b = term_blocks(list);
        for (uint32_t i = term_find_block(list, e->base); i < list->n_blocks && b[i].first < end;
             i++) {
            uint32_t count = block_slots(&b[i], s->slots);
            for (uint32_t k = 0; k < count; k++)
                if (s->slots[k] - e->base < e->size)
                    consider(x, e, s->slots[k] - e->base, w->n_seen + j);
        }
    }
}

static void visit_extent(search *x, const window *w, const extent *e) {
    /* Terms from `essential` on reach the threshold not even together. */
    lexical_scratch *s = x->s;
    uint32_t essential = w->n;
    float tail = 0;
    while (essential > 0) {
        float more = tail + s->terms[s->order[w->from + essential - 1]].best;
        if (more * (1 + 1e-4f) >= x->threshold) break;
        tail = more;
        essential--;
    }
    if (essential == 0) return;
    if (x->demands == 0) {
        uint32_t near = 0;
        for (uint32_t i = 0; i < essential; i++)
            near += postings_near(x, &s->terms[s->order[w->from + i]], e);
        if (near <= 16 + e->used / 128) {
            visit_postings(x, w, e, essential);
            return;
        }
    }
    visit_sums(x, w, e);
}

/* ---- all extents ---- */

/* Sets the window's bounds for a class; returns the best sum a document of it can have. */
static float window_class(search *x, window *w, uint32_t cls) {
    lexical_scratch *s = x->s;
    w->len_min = class_length_min(cls);
    uint32_t len_max = class_length_max(cls);
    float all = 0, top = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        sterm *t = &s->terms[s->order[w->from + i]];
        t->best = part(x, t, MIN(t->max_tf, len_max), w->len_min);
        all += t->best;
    }
    for (uint32_t i = 1; i < w->n; i++) { /* nearly in order already: insertion */
        uint32_t o = s->order[w->from + i], j = i;
        for (; j > 0 && s->terms[s->order[w->from + j - 1]].best < s->terms[o].best; j--)
            s->order[w->from + j] = s->order[w->from + j - 1];
        s->order[w->from + j] = o;
    }
    for (uint32_t i = 0; i < MIN(w->n, len_max); i++) top += s->terms[s->order[w->from + i]].best;
    w->scale = SUM_MAX / all;
    w->demanded_add = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        sterm *t = &s->terms[s->order[w->from + i]];
        t->add = scaled(x, w, t, 1);
        if (t->demanded) w->demanded_add += t->add;
    }
    return top;
}

static void search_extents(search *x, window *w) {
    const lexical *ix = x->ix;
    for (uint32_t c = 0; c < CLASSES; c++) {
        const length_class *lc = &ix->classes[c];
        if (lc->live == 0 || class_length_max(c) < x->demands) continue;
        float bound = window_class(x, w, c);
        for (size_t i = 0; i < lc->count; i++) {
            if (bound * (1 + 1e-4f) < x->threshold) break;
            const extent *e = &ix->extents[lc->extents[i]];
            if (e->live) visit_extent(x, w, e);
        }
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

static const sterm *rarest_demanded(const lexical_scratch *s) {
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

static void run(search *x) {
    lexical_scratch *s = x->s;
    order_by_df(s);
    uint64_t postings = 0;
    for (uint32_t i = 0; i < s->n_terms; i++) postings += s->terms[i].df;
    if (filter_is_narrow(x, postings)) {
        consider_filter(x);
        return;
    }
    const sterm *driver = rarest_demanded(s);
    if (driver && driver->df <= DRIVER_MAX) {
        consider_list(x, &x->ix->terms[driver->id], 0);
        return;
    }
    uint32_t seeds = 0, spent = 0;
    while (!driver && seeds < s->n_terms) {
        const sterm *t = &s->terms[s->order[seeds]];
        if (spent + t->df > SEED_MAX) break;
        spent += t->df;
        consider_list(x, &x->ix->terms[t->id], seeds);
        seeds++;
    }
    if (seeds == s->n_terms) return;
    for (uint32_t i = seeds; i < s->n_terms; i++) {
        sterm *t = &s->terms[s->order[i]];
        t->max_tf = list_max_tf(&x->ix->terms[t->id]);
    }
    window w = {.from = seeds, .n = s->n_terms - seeds, .n_seen = seeds};
    search_extents(x, &w);
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
    const uint32_t *tokens = extent_tokens(e, slot - e->base);
    out->length = e->lens[slot - e->base];
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
