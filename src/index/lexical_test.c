/* The words index against a naive one.
 *
 * The oracle keeps each document's words in an array and scores all of them for every query, by
 * the formula in lexical.h, in the same order of float operations: scores must be equal to the
 * last bit and hits the same, ties included. Random histories insert, delete and reuse document
 * numbers. Failures print the seed of the case. The rest: deletes leave no trace in saved bytes or
 * in the dictionary, saved bytes do not depend on history, every byte flipped is noticed, every
 * allocation failing changes nothing.
 */
#include "index/lexical.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DOCS = 3000, WORDS = 120, LEN_MAX = 420, K_MAX = 50 };

typedef struct oracle {
    bool in[DOCS];
    uint16_t len[DOCS];
    uint8_t words[DOCS][LEN_MAX]; /* word numbers; 0x80: alt */
    char names[WORDS][16];
    str name[WORDS];
    lexical *ix;
    lexical_scratch *s;
    rng r;
} oracle;

static void oracle_open(oracle *o, uint64_t seed, const lexical_options *options) {
    memset(o, 0, sizeof *o);
    rng_seed(&o->r, seed);
    for (unsigned w = 0; w < WORDS; w++) {
        int n = snprintf(o->names[w], sizeof o->names[w], w % 3 ? "w%u" : "longer-word-%u", w);
        o->name[w] = str_from(o->names[w], (size_t)n);
    }
    assert_int_equal(lexical_new(options, &o->ix), OK);
    o->s = lexical_scratch_new();
    assert_non_null(o->s);
}

static void oracle_close(oracle *o) {
    lexical_free(o->ix);
    lexical_scratch_free(o->s);
}

/* Few words often, most seldom. */
static uint8_t random_word(oracle *o) {
    double u = rng_unit(&o->r);
    return (uint8_t)(u * u * u * (WORDS - 1));
}

static uint16_t random_length(oracle *o) {
    switch (rng_below(&o->r, 40)) {
    case 0:
        return 0;
    case 1:
        return (uint16_t)rng_below(&o->r, LEN_MAX);
    case 2:
        return (uint16_t)(60 + rng_below(&o->r, 100));
    default:
        return (uint16_t)(1 + rng_below(&o->r, 24));
    }
}

static size_t doc_tokens(const oracle *o, uint32_t d, token *out) {
    uint32_t position = 0;
    for (uint16_t i = 0; i < o->len[d]; i++) {
        bool alt = o->words[d][i] & 0x80;
        position += i && !alt;
        out[i] = (token){.term = o->name[o->words[d][i] & 0x7f], .position = position, .alt = alt};
    }
    return o->len[d];
}

static void oracle_insert(oracle *o, uint32_t d) {
    token t[LEN_MAX];
    o->len[d] = random_length(o);
    for (uint16_t i = 0; i < o->len[d]; i++)
        o->words[d][i] = (uint8_t)(random_word(o) | (i && rng_below(&o->r, 12) == 0 ? 0x80 : 0));
    size_t n = doc_tokens(o, d, t);
    assert_int_equal(lexical_insert(o->ix, d, t, n), OK);
    o->in[d] = true;
}

static void oracle_delete(oracle *o, uint32_t d) {
    assert_int_equal(lexical_delete(o->ix, d), OK);
    o->in[d] = false;
}

/* ---- the naive search ---- */

typedef struct naive_query {
    uint8_t terms[8], must[2], nots[2], phrase[3], not_phrase[2];
    unsigned n_terms, n_must, n_nots, n_phrase, n_not_phrase;
    float weight[8];
    lexical_mode mode;
    size_t k;
    bool filtered;
    uint64_t filter[(DOCS + 63) / 64];
    uint32_t filter_docs;
} naive_query;

static unsigned tf_in(const oracle *o, uint32_t d, uint8_t w) {
    unsigned n = 0;
    for (uint16_t i = 0; i < o->len[d]; i++) n += (o->words[d][i] & 0x7f) == w;
    return n;
}

static unsigned df_of(const oracle *o, uint8_t w) {
    unsigned n = 0;
    for (uint32_t d = 0; d < DOCS; d++) n += o->in[d] && tf_in(o, d, w);
    return n;
}

/* By positions: which words stand at each, then look for the run. */
static bool naive_phrase(const oracle *o, uint32_t d, const uint8_t *p, unsigned n) {
    uint32_t position[LEN_MAX], at = 0;
    for (uint16_t i = 0; i < o->len[d]; i++) {
        at += i && !(o->words[d][i] & 0x80);
        position[i] = at;
    }
    for (uint32_t from = 0; o->len[d] && from <= at; from++) {
        unsigned have = 0;
        for (unsigned j = 0; j < n; j++) {
            bool here = false;
            for (uint16_t i = 0; i < o->len[d]; i++)
                here |= position[i] == from + j && (o->words[d][i] & 0x7f) == p[j];
            have += here;
        }
        if (have == n) return true;
    }
    return false;
}

typedef struct scored {
    uint8_t words[16];
    float weight[16];
    bool demanded[16];
    unsigned n;
} scored;

static void scored_add(scored *s, uint8_t w, float weight, bool demanded, bool add) {
    unsigned i = 0;
    while (i < s->n && s->words[i] != w) i++;
    if (i == s->n) {
        s->words[s->n] = w;
        s->weight[s->n] = weight;
        s->demanded[s->n++] = demanded;
        return;
    }
    if (add) s->weight[i] = sqrtf(s->weight[i] * s->weight[i] + weight * weight);
    s->demanded[i] |= demanded;
}

static scored score_plan(const naive_query *q) {
    scored s = {.n = 0};
    for (unsigned i = 0; i < q->n_terms; i++)
        scored_add(&s, q->terms[i], q->weight[i], q->mode == LEXICAL_ALL, true);
    for (unsigned i = 0; i < q->n_must; i++) scored_add(&s, q->must[i], 1, true, true);
    for (unsigned i = 0; i < q->n_phrase; i++) scored_add(&s, q->phrase[i], 1, true, false);
    return s;
}

static int hit_cmp(const void *a, const void *b) {
    const lexical_hit *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->doc < y->doc ? -1 : x->doc > y->doc;
}

static bool naive_passes(const oracle *o, const naive_query *q, uint32_t d) {
    if (!o->in[d]) return false;
    if (q->filtered && (d >= q->filter_docs || !bits_get(q->filter, d))) return false;
    for (unsigned i = 0; i < q->n_nots; i++)
        if (tf_in(o, d, q->nots[i])) return false;
    if (q->n_phrase && !naive_phrase(o, d, q->phrase, q->n_phrase)) return false;
    return !(q->n_not_phrase && naive_phrase(o, d, q->not_phrase, q->n_not_phrase));
}

static size_t naive_search(const oracle *o, const naive_query *q, lexical_options p,
                           lexical_hit *out) {
    scored s = score_plan(q);
    uint32_t docs = 0;
    uint64_t tokens = 0;
    for (uint32_t d = 0; d < DOCS; d++)
        if (o->in[d]) docs++, tokens += o->len[d];
    float mean = docs ? (float)((double)tokens / docs) : 1;
    float fixed = p.k1 * (1 - p.b), by_length = mean > 0 ? p.k1 * p.b / mean : 0;
    float w[16];
    for (unsigned i = 0; i < s.n; i++) {
        unsigned df = df_of(o, s.words[i]);
        float idf = (float)log(1.0 + ((double)docs - df + 0.5) / (4 * (df + 0.5)));
        w[i] = s.weight[i] * idf * (p.k1 + 1);
    }
    static lexical_hit all[DOCS];
    size_t n = 0;
    for (uint32_t d = 0; d < DOCS; d++) {
        if (!naive_passes(o, q, d)) continue;
        float score = 0;
        bool any = false, demands = true;
        for (unsigned i = 0; i < s.n; i++) {
            float tf = (float)MIN(tf_in(o, d, s.words[i]), 255u);
            if (tf == 0)
                demands &= !s.demanded[i];
            else
                score += w[i] * tf / (tf + (fixed + by_length * (float)o->len[d])), any = true;
        }
        if (any && demands) all[n++] = (lexical_hit){d, score};
    }
    qsort(all, n, sizeof *all, hit_cmp);
    n = MIN(n, q->k);
    memcpy(out, all, n * sizeof *out);
    return n;
}

/* ---- comparing ---- */

static naive_query random_query(oracle *o) {
    naive_query q = {.mode = rng_below(&o->r, 3) ? LEXICAL_ANY : LEXICAL_ALL};
    q.n_terms = 1 + rng_below(&o->r, q.mode == LEXICAL_ALL ? 3 : 6);
    for (unsigned i = 0; i < q.n_terms; i++) {
        q.terms[i] = random_word(o);
        q.weight[i] = rng_below(&o->r, 4) ? 1 : (float)rng_unit(&o->r) + 0.1f;
    }
    if (rng_below(&o->r, 6) == 0) q.must[q.n_must++] = random_word(o);
    if (rng_below(&o->r, 4) == 0) q.nots[q.n_nots++] = random_word(o);
    if (rng_below(&o->r, 5) == 0) {
        q.n_phrase = 1 + rng_below(&o->r, 3);
        for (unsigned i = 0; i < q.n_phrase; i++) q.phrase[i] = random_word(o);
        if (rng_below(&o->r, 2)) q.n_terms = 0;
    }
    if (rng_below(&o->r, 6) == 0) {
        q.n_not_phrase = 2;
        q.not_phrase[0] = random_word(o);
        q.not_phrase[1] = random_word(o);
    }
    q.k = 1 + rng_below(&o->r, K_MAX);
    q.filtered = rng_below(&o->r, 2);
    q.filter_docs = rng_below(&o->r, 5) ? DOCS : rng_below(&o->r, DOCS);
    unsigned of = 1u << rng_below(&o->r, 9);
    for (uint32_t d = 0; d < q.filter_docs; d++)
        if (rng_below(&o->r, of) == 0) bits_set(q.filter, d);
    return q;
}

static size_t run(const oracle *o, const naive_query *q, lexical_hit *out, lexical_query *lq,
                  lexical_explanation *why) {
    lexical_term terms[8], must[2];
    str nots[2], p[3], np[2];
    for (unsigned i = 0; i < q->n_terms; i++)
        terms[i] = (lexical_term){o->name[q->terms[i]], q->weight[i]};
    for (unsigned i = 0; i < q->n_must; i++) must[i] = (lexical_term){o->name[q->must[i]], 1};
    for (unsigned i = 0; i < q->n_nots; i++) nots[i] = o->name[q->nots[i]];
    for (unsigned i = 0; i < q->n_phrase; i++) p[i] = o->name[q->phrase[i]];
    for (unsigned i = 0; i < q->n_not_phrase; i++) np[i] = o->name[q->not_phrase[i]];
    lexical_phrase phrase = {p, q->n_phrase}, not_phrase = {np, q->n_not_phrase};
    *lq = (lexical_query){.terms = terms,
                          .n_terms = q->n_terms,
                          .must = must,
                          .n_must = q->n_must,
                          .nots = nots,
                          .n_nots = q->n_nots,
                          .phrases = &phrase,
                          .n_phrases = q->n_phrase > 0,
                          .not_phrases = &not_phrase,
                          .n_not_phrases = q->n_not_phrase > 0,
                          .mode = q->mode,
                          .k = q->k};
    if (q->filtered) {
        lq->filter = q->filter;
        lq->filter_docs = q->filter_docs;
        lq->filter_count = (uint32_t)bits_count(q->filter, COUNT_OF(q->filter));
    }
    size_t n;
    assert_int_equal(lexical_search(o->ix, lq, o->s, out, &n), OK);
    for (size_t i = 0; i < n; i += 7) {
        assert_int_equal(lexical_explain(o->ix, lq, o->s, out[i].doc, why), OK);
        float sum = 0;
        for (size_t j = 0; j < why->n_parts; j++) sum += why->parts[j].value;
        assert_true(why->matches && sum == out[i].score && why->score == sum);
    }
    return n;
}

static void compare(oracle *o, lexical_options p, uint64_t seed) {
    naive_query q = random_query(o);
    lexical_hit want[K_MAX], got[K_MAX];
    lexical_query lq;
    static lexical_explanation why;
    size_t w = naive_search(o, &q, p, want), g = run(o, &q, got, &lq, &why);
    bool same = w == g;
    for (size_t i = 0; same && i < w; i++)
        same = want[i].doc == got[i].doc && want[i].score == got[i].score;
    if (same) return;
    for (size_t i = 0; i < MAX(w, g); i++)
        print_error("%zu: want %u %.9g, got %u %.9g\n", i, i < w ? want[i].doc : 0,
                    i < w ? (double)want[i].score : 0, i < g ? got[i].doc : 0,
                    i < g ? (double)got[i].score : 0);
    fail_msg("seed %llu: %zu hits, %zu expected", (unsigned long long)seed, g, w);
}

static void history(uint64_t seed, uint32_t docs, unsigned steps, unsigned queries) {
    static oracle o;
    const lexical_options options[] = {{0.9f, 0.4f}, {1.2f, 0.75f}, {0, 0}, {2, 1}};
    lexical_options p = options[seed % COUNT_OF(options)];
    oracle_open(&o, seed, &p);
    for (unsigned step = 0; step < steps; step++) {
        unsigned fill = step % 3; /* grow, mix, shrink */
        for (uint32_t i = 0; i < docs; i++) {
            uint32_t d = rng_below(&o.r, docs);
            if (!o.in[d] && (fill < 2 || rng_below(&o.r, 4) == 0))
                oracle_insert(&o, d);
            else if (o.in[d] && fill > 0)
                oracle_delete(&o, d);
        }
        assert_int_equal(lexical_validate(o.ix), OK);
        for (unsigned i = 0; i < queries; i++) compare(&o, p, seed);
    }
    oracle_close(&o);
}

static void test_oracle_small(void **state) {
    (void)state;
    unsigned cases = getenv("KITH_LONG") ? 2000 : 40;
    for (uint64_t seed = 1; seed <= cases; seed++) history(seed, 20 + 5 * (seed % 13), 6, 20);
}

static void test_oracle_large(void **state) {
    (void)state;
    unsigned cases = getenv("KITH_LONG") ? 60 : 4;
    for (uint64_t seed = 100; seed < 100 + cases; seed++) history(seed, DOCS, 3, 30);
}

/* ---- a crowd ---- */

/* Many documents of few words, put in order, so that lists are long, scores equal by the thousand,
 * and planes and lost ties decide what is looked at. */
enum { CROWD = 24000, CROWD_WORDS = 9, CROWD_LEN = 44 };

typedef struct crowd {
    lexical *ix;
    lexical_scratch *s;
    rng r;
    uint8_t len[CROWD]; /* 0: not in */
    uint8_t tf[CROWD][CROWD_WORDS];
    uint32_t docs;
    uint64_t tokens;
} crowd;

static const char crowd_words[CROWD_WORDS][2] = {"a", "b", "c", "d", "e", "f", "g", "h", "i"};

static void crowd_insert(crowd *c, uint32_t d) {
    token t[CROWD_LEN];
    uint32_t n = 1 + rng_below(&c->r, CROWD_LEN) * rng_below(&c->r, CROWD_LEN) / CROWD_LEN;
    memset(c->tf[d], 0, sizeof c->tf[d]);
    for (uint32_t i = 0; i < n; i++) {
        double u = rng_unit(&c->r); /* most tokens are words that nobody asks for */
        uint32_t w = (uint32_t)(u * u * u * 40);
        static const char other[32] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
        t[i].alt = false;
        t[i].term = str_from(other, w % 32 + 2 > 31 ? 31 : w % 32 + 2);
        if (w >= CROWD_WORDS) continue;
        t[i].term = str_of(crowd_words[w]);
        c->tf[d][w]++;
    }
    assert_int_equal(lexical_insert(c->ix, d, t, n), OK);
    c->len[d] = (uint8_t)n;
    c->docs++;
    c->tokens += n;
}

static void crowd_delete(crowd *c, uint32_t d) {
    assert_int_equal(lexical_delete(c->ix, d), OK);
    c->docs--;
    c->tokens -= c->len[d];
    c->len[d] = 0;
}

static size_t crowd_naive(const crowd *c, const lexical_query *q, const uint32_t *words,
                          lexical_hit *out) {
    static lexical_hit all[CROWD];
    float mean = (float)((double)c->tokens / c->docs), fixed = 0.9f * (1 - 0.6f);
    float w[CROWD_WORDS], by_length = 0.9f * 0.6f / mean;
    for (size_t i = 0; i < q->n_terms; i++) {
        uint32_t df = 0;
        for (uint32_t d = 0; d < CROWD; d++) df += c->len[d] && c->tf[d][words[i]];
        w[i] = 1 * (float)log(1.0 + ((double)c->docs - df + 0.5) / (4 * (df + 0.5))) * (0.9f + 1);
    }
    size_t n = 0;
    for (uint32_t d = 0; d < CROWD; d++) {
        size_t have = 0;
        float score = 0;
        if (c->len[d] == 0 || (q->filter && !bits_get(q->filter, d))) continue;
        for (size_t i = 0; i < q->n_terms; i++) {
            float tf = c->tf[d][words[i]];
            if (tf == 0) continue;
            have++;
            score += w[i] * tf / (tf + (fixed + by_length * (float)c->len[d]));
        }
        if (have >= (q->mode == LEXICAL_ALL ? q->n_terms : 1)) all[n++] = (lexical_hit){d, score};
    }
    qsort(all, n, sizeof *all, hit_cmp);
    n = MIN(n, q->k);
    memcpy(out, all, n * sizeof *out);
    return n;
}

static void crowd_compare(crowd *c) {
    uint32_t words[CROWD_WORDS];
    uint64_t filter[(CROWD + 63) / 64];
    lexical_term t[CROWD_WORDS];
    lexical_hit want[K_MAX], got[K_MAX];
    size_t n, of = 1 + rng_below(&c->r, 3);
    for (uint32_t i = 0; i < CROWD_WORDS; i++) words[i] = i;
    lexical_query q = {.terms = t, .n_terms = 1 + rng_below(&c->r, 7)};
    for (uint32_t i = 0; i < q.n_terms; i++) {
        uint32_t j = i + rng_below(&c->r, CROWD_WORDS - i), x = words[i];
        words[i] = words[j];
        words[j] = x;
        t[i] = (lexical_term){str_of(crowd_words[words[i]]), 1};
    }
    q.mode = rng_below(&c->r, 2) ? LEXICAL_ANY : LEXICAL_ALL;
    q.k = 1 + rng_below(&c->r, rng_below(&c->r, 2) ? 10 : K_MAX);
    for (size_t i = 0; i < COUNT_OF(filter); i++) filter[i] = rng_u64(&c->r) | rng_u64(&c->r);
    if (of == 1) q.filter = filter;
    q.filter_docs = CROWD;
    q.filter_count = (uint32_t)bits_count(filter, COUNT_OF(filter));
    assert_int_equal(lexical_search(c->ix, &q, c->s, got, &n), OK);
    assert_int_equal(n, crowd_naive(c, &q, words, want));
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(got[i].doc, want[i].doc);
        assert_true(got[i].score == want[i].score);
    }
}

static void test_crowd(void **state) {
    (void)state;
    static crowd c;
    unsigned rounds = getenv("KITH_LONG") ? 2000 : 120;
    rng_seed(&c.r, 7);
    assert_int_equal(lexical_new(NULL, &c.ix), OK);
    c.s = lexical_scratch_new();
    assert_non_null(c.s);
    for (uint32_t d = 0; d < CROWD; d++)
        if (rng_below(&c.r, 8)) crowd_insert(&c, d);
    for (unsigned i = 0; i < rounds; i++) crowd_compare(&c);
    for (uint32_t i = 0; i < CROWD; i++) { /* slots used again: extents are no longer in order */
        uint32_t d = rng_below(&c.r, CROWD);
        if (c.len[d] && (d < CROWD / 2 || rng_below(&c.r, 3) == 0))
            crowd_delete(&c, d);
        else if (!c.len[d])
            crowd_insert(&c, d);
    }
    assert_int_equal(lexical_validate(c.ix), OK);
    for (unsigned i = 0; i < rounds; i++) crowd_compare(&c);
    strbuf b;
    strbuf_init(&b, 64 * MIB);
    writer w = writer_to_strbuf(&b);
    assert_int_equal(lexical_save(c.ix, &w), OK);
    lexical_free(c.ix);
    assert_int_equal(lexical_load(b.ptr, b.len, &c.ix), OK);
    assert_int_equal(lexical_validate(c.ix), OK);
    for (unsigned i = 0; i < rounds; i++) crowd_compare(&c);
    strbuf_deinit(&b);
    lexical_free(c.ix);
    lexical_scratch_free(c.s);
}

/* ---- life ---- */

static void insert_text(lexical *ix, uint32_t doc, const char *text) {
    arena a;
    arena_init(&a, MIB);
    token_list t;
    assert_int_equal(analyze(&a, str_of(text), &t), OK);
    assert_int_equal(lexical_insert(ix, doc, t.items, t.count), OK);
    arena_deinit(&a);
}

static void save_to(const lexical *ix, strbuf *b) {
    strbuf_init(b, 64 * MIB);
    writer w = writer_to_strbuf(b);
    assert_int_equal(lexical_save(ix, &w), OK);
}

static void test_errors(void **state) {
    (void)state;
    lexical *ix;
    assert_int_equal(lexical_new(&(lexical_options){-1, 0}, &ix), ERR_INVALID);
    assert_int_equal(lexical_new(&(lexical_options){NAN, 0}, &ix), ERR_INVALID);
    assert_int_equal(lexical_new(NULL, &ix), OK);
    insert_text(ix, 5, "one two");
    token t = {.term = STR("x")};
    assert_int_equal(lexical_insert(ix, 5, &t, 1), ERR_EXISTS);
    assert_int_equal(lexical_insert(ix, LEXICAL_DOC_MAX, &t, 1), ERR_TOO_LARGE);
    token empty = {.term = STR("")};
    assert_int_equal(lexical_insert(ix, 6, &empty, 1), ERR_INVALID);
    assert_int_equal(lexical_delete(ix, 6), ERR_NOT_FOUND);
    assert_int_equal(lexical_delete(ix, 4000000), ERR_NOT_FOUND);
    assert_int_equal(lexical_df(ix, STR("x")), 0);
    lexical_scratch *s = lexical_scratch_new();
    lexical_term q = {STR("one"), 0};
    size_t n;
    lexical_hit h[1];
    assert_int_equal(
        lexical_search(ix, &(lexical_query){.terms = &q, .n_terms = 1, .k = 1}, s, h, &n),
        ERR_INVALID);
    assert_int_equal(lexical_search(ix, &(lexical_query){.k = LEXICAL_K_MAX + 1}, s, h, &n),
                     ERR_TOO_LARGE);
    lexical_scratch_free(s);
    lexical_free(ix);
}

/* Texts analyzed by other rules would not be found: the file says by which. */
static void test_other_analysis_is_refused(void **state) {
    (void)state;
    lexical *ix, *out;
    assert_int_equal(lexical_new(NULL, &ix), OK);
    insert_text(ix, 3, "a small index");
    strbuf b;
    save_to(ix, &b);
    uint8_t *p = (uint8_t *)b.ptr;
    assert_int_equal(le32_get(p + 20), ANALYZE_VERSION);
    le32_put(p + 20, ANALYZE_VERSION + 1);
    le32_put(p + b.len - 4, crc32c(0, p, b.len - 4));
    assert_int_equal(lexical_load(b.ptr, b.len, &out), ERR_UNSUPPORTED);
    le32_put(p + 20, ANALYZE_VERSION);
    le32_put(p + b.len - 4, crc32c(0, p, b.len - 4));
    assert_int_equal(lexical_load(b.ptr, b.len, &out), OK);
    lexical_free(out);
    strbuf_deinit(&b);
    lexical_free(ix);
}

static void test_deleted_word_leaves_no_trace(void **state) {
    (void)state;
    lexical *ix;
    assert_int_equal(lexical_new(NULL, &ix), OK);
    insert_text(ix, 0, "the common words stay");
    insert_text(ix, 1, "the xyzzysecretword goes");
    strbuf b;
    save_to(ix, &b);
    assert_true(str_find(strbuf_str(&b), STR("xyzzysecretword")) >= 0);
    strbuf_deinit(&b);
    assert_int_equal(lexical_delete(ix, 1), OK);
    assert_int_equal(lexical_df(ix, STR("xyzzysecretword")), 0);
    lexical_suggestion x[4];
    assert_int_equal(lexical_terms_prefix(ix, STR("xyz"), x, 4), 0);
    assert_int_equal(lexical_terms_prefix(ix, STR(""), x, 4), 4);
    save_to(ix, &b);
    assert_true(str_find(strbuf_str(&b), STR("xyzzy")) < 0);
    strbuf_deinit(&b);
    lexical_stats st;
    lexical_stats_get(ix, &st);
    assert_int_equal(st.docs, 1);
    assert_int_equal(st.terms, 4);
    assert_int_equal(st.postings, 4);
    lexical_free(ix);
}

static void test_bytes_follow_from_content(void **state) {
    (void)state;
    static oracle o;
    oracle_open(&o, 7, NULL);
    for (uint32_t d = 0; d < 800; d++) oracle_insert(&o, d);
    for (uint32_t i = 0; i < 3000; i++) {
        uint32_t d = rng_below(&o.r, 800);
        if (o.in[d])
            oracle_delete(&o, d);
        else
            oracle_insert(&o, d);
    }
    strbuf a, b;
    save_to(o.ix, &a);
    lexical *fresh;
    assert_int_equal(lexical_new(NULL, &fresh), OK);
    for (uint32_t d = 800; d-- > 0;) {
        token t[LEN_MAX];
        if (o.in[d]) assert_int_equal(lexical_insert(fresh, d, t, doc_tokens(&o, d, t)), OK);
    }
    save_to(fresh, &b);
    assert_true(str_eq(strbuf_str(&a), strbuf_str(&b)));
    lexical *loaded;
    assert_int_equal(lexical_load(a.ptr, a.len, &loaded), OK);
    assert_int_equal(lexical_validate(loaded), OK);
    strbuf_deinit(&b);
    save_to(loaded, &b);
    assert_true(str_eq(strbuf_str(&a), strbuf_str(&b)));
    lexical_free(o.ix); /* the loaded one answers and lives on as the first would */
    o.ix = loaded;
    lexical_options p = {LEXICAL_K1, LEXICAL_B};
    for (int i = 0; i < 50; i++) compare(&o, p, 7);
    for (uint32_t d = 0; d < 800; d++) {
        if (o.in[d])
            oracle_delete(&o, d);
        else
            oracle_insert(&o, d);
    }
    assert_int_equal(lexical_validate(o.ix), OK);
    for (int i = 0; i < 50; i++) compare(&o, p, 7);
    lexical_free(fresh);
    strbuf_deinit(&a);
    strbuf_deinit(&b);
    oracle_close(&o);
}

static void test_every_flipped_byte_is_noticed(void **state) {
    (void)state;
    lexical *ix, *out;
    assert_int_equal(lexical_new(NULL, &ix), OK);
    insert_text(ix, 3, "a small index, of #two posts");
    insert_text(ix, 9, "two two small");
    strbuf b;
    save_to(ix, &b);
    for (size_t i = 0; i < b.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            b.ptr[i] = (char)(b.ptr[i] ^ (1 << bit));
            err rc = lexical_load(b.ptr, b.len, &out);
            assert_true(rc == ERR_CORRUPT || rc == ERR_UNSUPPORTED);
            b.ptr[i] = (char)(b.ptr[i] ^ (1 << bit));
        }
    for (size_t n = 0; n < b.len; n++) {
        char *copy = mem_dup(b.ptr, n + 1); /* exact, so that an overrun shows */
        assert_true(lexical_load(copy, n, &out) != OK);
        mem_free(copy);
    }
    strbuf_deinit(&b);
    lexical_free(ix);
}

static void test_failing_allocations_change_nothing(void **state) {
    (void)state;
    static oracle o;
    oracle_open(&o, 11, NULL);
    for (uint32_t d = 0; d < 300; d++) oracle_insert(&o, d);
    strbuf before, after;
    save_to(o.ix, &before);
    token t[200];
    char names[200][12];
    for (unsigned i = 0; i < 200; i++) {
        int n = snprintf(names[i], sizeof names[i], "new%u", i % 150);
        t[i] = (token){.term = i % 4 ? str_from(names[i], (size_t)n) : o.name[i % WORDS]};
    }
    err rc = ERR_NO_MEMORY;
    for (long nth = 1; rc != OK; nth++) {
        mem_fail_after(nth);
        rc = lexical_insert(o.ix, 1000, t, 200);
        mem_fail_after(0);
        if (rc == OK) break;
        assert_int_equal(rc, ERR_NO_MEMORY);
        assert_int_equal(lexical_validate(o.ix), OK);
    }
    rc = ERR_NO_MEMORY;
    for (long nth = 1; rc != OK; nth++) {
        mem_fail_after(nth);
        rc = lexical_delete(o.ix, 1000);
        mem_fail_after(0);
        assert_int_equal(lexical_validate(o.ix), OK);
    }
    save_to(o.ix, &after);
    assert_true(str_eq(strbuf_str(&before), strbuf_str(&after)));
    lexical *out = NULL;
    rc = ERR_NO_MEMORY;
    for (long nth = 1; rc != OK; nth += 1 + nth / 16) {
        mem_fail_after(nth);
        rc = lexical_load(before.ptr, before.len, &out);
        mem_fail_after(0);
        assert_true(rc == OK || rc == ERR_NO_MEMORY);
    }
    lexical_free(out);
    strbuf_deinit(&before);
    strbuf_deinit(&after);
    oracle_close(&o);
}

static void test_memory_comes_back(void **state) {
    (void)state;
    static oracle o;
    oracle_open(&o, 13, NULL);
    for (uint32_t d = 0; d < 2000; d++) oracle_insert(&o, d);
    for (uint32_t d = 0; d < 2000; d++) oracle_delete(&o, d);
    lexical_stats st;
    lexical_stats_get(o.ix, &st);
    assert_true(st.docs == 0 && st.terms == 0 && st.postings == 0 && st.tokens == 0);
    assert_true(st.bytes_postings == 0);
    oracle_close(&o); /* the leak checker of the sanitizer build sees to the rest */
}

static void test_terms_prefix(void **state) {
    (void)state;
    lexical *ix;
    assert_int_equal(lexical_new(NULL, &ix), OK);
    insert_text(ix, 0, "apple apply ape");
    insert_text(ix, 1, "apply banana");
    lexical_suggestion x[2];
    assert_int_equal(lexical_terms_prefix(ix, STR("ap"), x, 2), 2);
    assert_true(str_eq(x[0].term, STR("apply")) && x[0].df == 2);
    assert_true(str_eq(x[1].term, STR("ape")) && x[1].df == 1);
    lexical_free(ix);
}

static void test_phrase_over_tags(void **state) {
    (void)state;
    lexical *ix;
    lexical_scratch *s = lexical_scratch_new();
    assert_int_equal(lexical_new(NULL, &ix), OK);
    insert_text(ix, 0, "i love #new york city");
    insert_text(ix, 1, "york is new to me");
    str words[] = {STR("new"), STR("york")};
    lexical_phrase p = {words, 2};
    lexical_query q = {.phrases = &p, .n_phrases = 1, .k = 5};
    lexical_hit h[5];
    size_t n;
    assert_int_equal(lexical_search(ix, &q, s, h, &n), OK);
    assert_int_equal(n, 1);
    assert_int_equal(h[0].doc, 0);
    words[0] = STR("#new");
    assert_int_equal(lexical_search(ix, &q, s, h, &n), OK);
    assert_int_equal(n, 1);
    words[0] = STR("nowhere");
    assert_int_equal(lexical_search(ix, &q, s, h, &n), OK);
    assert_int_equal(n, 0);
    lexical_scratch_free(s);
    lexical_free(ix);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_small),
        cmocka_unit_test(test_oracle_large),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_deleted_word_leaves_no_trace),
        cmocka_unit_test(test_bytes_follow_from_content),
        cmocka_unit_test(test_every_flipped_byte_is_noticed),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_other_analysis_is_refused),
        cmocka_unit_test(test_failing_allocations_change_nothing),
        cmocka_unit_test(test_memory_comes_back),
        cmocka_unit_test(test_terms_prefix),
        cmocka_unit_test(test_phrase_over_tags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
