/* Candidates by bitmaps (planes): for a class where few terms have many documents.
 *
 * In an extent each term has three planes: slots that have it, twice, and three times or more. From
 * the bounds follows which sets of terms, at which of these levels, are enough to reach the k-th
 * best score; the smallest of those sets are each an AND of planes, and candidates their OR, 256
 * slots a step.
 *
 * In a class of one length this is no bound but the score: every document of a set that has no term
 * three times has exactly the sum of its levels, to the last bit. So candidates above the
 * threshold enter for sure, and those at the threshold only when their document is lower than the
 * worst hit's; where documents ascend with slots (they do until a slot is used again), the first
 * one that is not ends all ties of the extent. Of the tens of thousands of posts that have both of
 * two common words, a few dozen are looked at.
 *
 * High lists are short: their planes come first. When every set asks for a level above 1 and few
 * slots have it, the low lists are not read at all, and signatures answer for the other terms.
 *
 * With over LEVELS_MAX terms levels are too many to tell apart: then a set counts with all terms
 * once, or, for slots that have any term more often, with all at their largest.
 */
#include "index/lexical_find.h"

#include <float.h>

/* ---- planes of lists ---- */

static void or_bitmap(const extent *e, const block *b, uint64_t *plane) {
    const uint8_t *p = block_payload(b, block_payload_size(b));
    bitmap_part in = extent_bitmap(e, b);
    p += in.skip * 4;
    for (uint32_t w = 0, at = in.at; w < in.n; w++, at += 32)
        plane[at / 64] |= (uint64_t)le32_get(p + w * 4) << (at & 32);
}

/* By bytes: a chain of changes of one 64-bit word would wait for each other. */
static void set_bit(uint64_t *plane, uint32_t at) {
    uint8_t *p = (uint8_t *)plane + at / 8;
    *p = (uint8_t)(*p | 1u << (at & 7));
}

static void or_slots(search *x, vlist *v, const extent *e, uint32_t i, uint64_t *plane) {
    slot_run r = extent_run(x, v, e, i);
    for (uint32_t k = r.from; k < r.to; k++) set_bit(plane, r.slots[k] - e->base);
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
        slot_run r = extent_run(x, v, e, i);
        if (need <= 2)
            for (uint32_t k = r.from; k < r.to; k++) set_bit(s->twice[plane], r.slots[k] - e->base);
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
        if (slot_enters(x, t, g, e, slot)) search_consider(x, e, extent_record(e, slot));
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

void planes_visit(search *x, const plane_terms *t, const extent *e) {
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

void planes_prepare(const search *x, uint32_t cls, plane_terms *t) {
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
