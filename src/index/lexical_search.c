/* Exact top-k: cheap upper bounds choose candidates, sequences give their scores.
 *
 * Whatever way a candidate is found, one function (search_consider, lexical_query.c) decides by its
 * tokens. So only the finding differs:
 *
 *  - by filter: when few documents pass it, they are the candidates;
 *  - by lists: the rarest terms, as long as they have few documents together, are walked: a
 *    posting tells its length class, class and list tell the most that the document can score, and
 *    only those that can enter are considered. Then the term is done: a document not met yet has
 *    not got it. With demanded terms the rarest of them alone is walked, for every hit has it;
 *  - by classes: for the terms left, length classes are visited from the shortest. A class in
 *    which the terms left cannot reach the k-th best score is skipped without reading a posting.
 *    Else the lists without which nothing reaches it (the essential ones: MaxScore, Turtle and
 *    Flood 1995) are walked within the class. When they have too many postings there, bitmaps find
 *    the slots with enough terms (lexical_planes.c). With more than PLANES_MAX terms there are too
 *    many sets that are enough; then lists are added up as integers (u16, rounded up) instead, and
 *    slots whose sum reaches the k-th best considered.
 *
 * Low and high lists of a term (tf 1, tf above 1) are bounded apart: in a class of one length
 * every posting of a low list is worth the same, so the bound of what most documents have is no
 * bound but the score.
 *
 * Bounds are safe: a slot's sum is at least its exact score times scale, since each part is
 * rounded up at the shortest length of the class; comparisons leave room (SLACK) for what float
 * addition can err. A slot whose bound equals the threshold is considered, ties go to the lower
 * document; but where documents ascend with slots, and scores are known to the last bit, ties are
 * lost for all behind the worst hit, and not even looked at.
 *
 * Scratch is the reader's; the index is not written; nothing is allocated.
 */
#include "index/lexical_find.h"

#include <float.h>

/* ---- candidates that wait ---- */

static void consider_slot(search *x, uint32_t slot) {
    const extent *e = extent_of(x->ix, slot);
    search_consider(x, e, extent_record(e, slot - e->base));
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
    search_consider(x, e, r);
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

/* Walks the part of the list that lies in the extent. */
static void visit_postings(search *x, const walk *w, const bounds *in, vlist *v, const extent *e) {
    const block *b = list_blocks(v->list);
    uint32_t end = e->base + e->used;
    for (uint32_t i = list_find_block(v->list, e->base); i < v->list->n_blocks && b[i].first < end;
         i++) {
        if (walk_most(w, in, b[i].max_tf) < x->threshold) continue;
        walk_run(x, w, e->cls, in, extent_run(x, v, e, i));
    }
}

static void add_bitmap(search *x, const vlist *v, const extent *e, const block *b) {
    const uint8_t *p = block_payload(b, block_payload_size(b));
    bitmap_part in = extent_bitmap(e, b);
    uint32_t bits[WORDS_MAX];
    if (in.n == 0) return;
    memcpy(bits, p + in.skip * 4, in.n * 4);
    x->ix->kernels->add_bits(bits, in.n, v->add[1], x->s->sums + in.at);
}

static void add_slots(search *x, vlist *v, const extent *e, uint32_t i) {
    slot_run r = extent_run(x, v, e, i);
    uint16_t *sums = x->s->sums;
    if (v->high) {
        for (uint32_t k = r.from; k < r.to; k++) {
            uint16_t *sum = &sums[r.slots[k] - e->base];
            *sum = (uint16_t)(*sum + v->add[nibble_at(r.nibbles, k)]);
        }
        return;
    }
    for (uint32_t k = r.from; k < r.to; k++) {
        uint16_t *sum = &sums[r.slots[k] - e->base];
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
        search_consider(x, e, extent_record(e, s->found[i]));
        least = least_sum(x, w);
    }
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
        planes_prepare(x, w->cls, &planes);
    for (size_t i = 0; i < c->count && most * SLACK >= x->threshold; i++) {
        const extent *e = &x->ix->extents[c->extents[i]];
        if (e->live == 0) continue;
        if (how == METHOD_SUMS)
            visit_sums(x, w, e);
        else
            planes_visit(x, &planes, e);
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

err lexical_search(const lexical *ix, const lexical_query *q, lexical_scratch *s, lexical_hit *hits,
                   size_t *n) {
    *n = 0;
    search x = {.ix = ix, .q = q, .s = s, .heap = hits, .k = q->k};
    TRY(search_prepare(&x));
    if (x.impossible || s->n_terms == 0 || q->k == 0) return OK;
    if (q->filter && q->filter_count == 0) return OK;
    run(&x);
    search_sort_hits(hits, x.n);
    *n = x.n;
    return OK;
}
