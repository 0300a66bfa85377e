/* A query becomes terms; a candidate gets its score; the best are kept; an answer is explained.
 *
 * Whatever way a candidate was found, search_consider looks at its tokens, checks filter, demands,
 * must-not words and phrases, adds up the exact score in the query's order, and keeps it when it is
 * among the k best. So finding may err on the side of too much, and only costs time by it. The heap
 * has the worst hit first, whose score is the threshold that all bounds are compared with.
 */
#include "index/lexical_find.h"

#include <math.h>

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

err search_prepare(search *x) {
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

void search_consider(search *x, const extent *e, const record *r) {
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

void search_sort_hits(lexical_hit *h, size_t n) {
    for (; n > 1; n--) {
        lexical_hit worst = h[0];
        sift_down(h, n - 1, h[n - 1]);
        h[n - 1] = worst;
    }
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
    TRY(search_prepare(&x));
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
