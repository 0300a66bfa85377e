/* Filters: a conjunction of clauses to a dense bit set and its count.
 *
 * The answer starts as the live documents; each clause takes bits away. A value of author or thread
 * has its documents chained, a tag has them in an array: when those named are few (an eighth of all
 * or less) a clause walks them: "in" marks them in a second bit set and ANDs it, "not" clears them
 * one by one. All other clauses scan a column: they make the 64 bits of one word from 64 neighbours
 * of the column, and skip words that are zero already. So what leaves little comes first, and a
 * long list of authors to leave out comes last, when few documents are left to look up.
 *
 * 450,000 documents: 7,032 words, 56 KB: it all stays in the second cache level. Figures are in
 * docs/words.md.
 *
 * Invariants: bits beyond docs_end are zero; the second bit set is the only allocation, beside
 * sets of numbers for clauses with several values.
 */
#include "index/attrs_int.h"

#include "vec/postings.h"

enum {
    WALK_PART = 8, /* walk when the clause names at most 1/8 of the documents */
    SCAN_FEW = 16
};

typedef struct compile {
    const attrs *a;
    const postings_kernels *kernels;
    uint64_t *bits;
    uint64_t *second; /* allocated when first needed */
    size_t words;     /* of live documents */
} compile;

/* ---- clauses that walk ---- */

static err second_zero(compile *c) {
    if (c->second)
        memset(c->second, 0, c->words * sizeof *c->second);
    else
        c->second = mem_zalloc(c->words + 1, sizeof *c->second);
    return c->second ? OK : ERR_NO_MEMORY;
}

static void and_second(compile *c) {
    for (size_t w = 0; w < c->words; w++) c->bits[w] &= c->second[w];
}

static void walk_chain(const attrs_column *col, uint32_t number, uint64_t *bits, bool set) {
    for (uint32_t d = col->heads[number]; d != ATTRS_NONE; d = col->next[d]) {
        if (set)
            bits_set(bits, d);
        else
            bits_clear(bits, d);
    }
}

/* Documents that the clause's values have, a document counted for each. */
static uint64_t clause_docs(const attrs *a, attrs_field f, attrs_strs in) {
    uint64_t sum = 0;
    for (size_t i = 0; i < in.count; i++) sum += attrs_docs_with(a, f, in.items[i]);
    return sum;
}

static err walk_column(compile *c, attrs_field f, attrs_strs in, bool negate) {
    const attrs_column *col = &c->a->columns[f];
    if (!negate) TRY(second_zero(c));
    for (size_t i = 0; i < in.count; i++) {
        uint32_t n = names_get(col->names, in.items[i]);
        if (n != NAMES_NONE) walk_chain(col, n, negate ? c->bits : c->second, !negate);
    }
    if (!negate) and_second(c);
    return OK;
}

static void walk_tag(compile *c, str tag, uint64_t *bits, bool set) {
    uint32_t t = names_get(c->a->tag_names, tag);
    if (t == NAMES_NONE) return;
    const attrs_tag_list *l = &c->a->tag_lists[t];
    for (uint32_t i = 0; i < l->count; i++) {
        if (set)
            bits_set(bits, l->docs[i]);
        else
            bits_clear(bits, l->docs[i]);
    }
}

static err apply_tags(compile *c, const attrs_filter *f) {
    if (f->tag_any.count) {
        TRY(second_zero(c));
        for (size_t i = 0; i < f->tag_any.count; i++)
            walk_tag(c, f->tag_any.items[i], c->second, true);
        and_second(c);
    }
    for (size_t i = 0; i < f->tag_all.count; i++) {
        TRY(second_zero(c));
        walk_tag(c, f->tag_all.items[i], c->second, true);
        and_second(c);
    }
    for (size_t i = 0; i < f->tag_not.count; i++) walk_tag(c, f->tag_not.items[i], c->bits, false);
    return OK;
}

/* ---- clauses that scan ---- */

/* For so few values that comparing with each beats looking each document up. */
static void scan_few(compile *c, const uint32_t *col, const uint32_t *numbers, size_t n,
                     bool negate) {
    uint64_t flip = negate ? ~(uint64_t)0 : 0;
    for (size_t w = 0; w < c->words; w++) {
        if (!c->bits[w]) continue;
        uint64_t in = 0;
        for (size_t i = 0; i < n; i++) in |= c->kernels->equal_u32(col + w * 64, numbers[i]);
        c->bits[w] &= in ^ flip;
    }
}

/* `set` has a bit for each number below `end`. */
static void scan_set(compile *c, const uint32_t *col, const uint64_t *set, uint32_t end,
                     bool negate) {
    for (size_t w = 0; w < c->words; w++) {
        uint64_t keep = 0;
        for (uint64_t left = c->bits[w]; left; left &= left - 1) {
            unsigned j = (unsigned)__builtin_ctzll(left);
            uint32_t n = col[w * 64 + j];
            bool in = n < end && bits_get(set, n);
            if (in != negate) keep |= (uint64_t)1 << j;
        }
        c->bits[w] = keep;
    }
}

static err scan_column(compile *c, attrs_field f, attrs_strs in, bool negate) {
    const attrs_column *col = &c->a->columns[f];
    if (in.count <= SCAN_FEW) {
        uint32_t numbers[SCAN_FEW];
        size_t n = 0;
        for (size_t i = 0; i < in.count; i++) {
            uint32_t x = names_get(col->names, in.items[i]);
            if (x != NAMES_NONE) numbers[n++] = x; /* ATTRS_NONE would find those without a value */
        }
        scan_few(c, col->numbers, numbers, n, negate);
        return OK;
    }
    uint32_t end = names_end(col->names);
    uint64_t *set = mem_zalloc(bits_words(end) + 1, sizeof *set);
    if (!set) return ERR_NO_MEMORY;
    for (size_t i = 0; i < in.count; i++) {
        uint32_t n = names_get(col->names, in.items[i]);
        if (n != NAMES_NONE) bits_set(set, n);
    }
    scan_set(c, col->numbers, set, end, negate);
    mem_free(set);
    return OK;
}

static void scan_time(compile *c, const attrs_filter *f) {
    int64_t from = f->has_from ? f->from_ms : INT64_MIN;
    for (size_t w = 0; w < c->words; w++) {
        if (!c->bits[w]) continue;
        const int64_t *col = c->a->created_ms + w * 64;
        if (f->has_from) c->bits[w] &= ~c->kernels->less_i64(col, from);
        if (f->has_until) c->bits[w] &= c->kernels->less_i64(col, f->until_ms);
    }
}

static void scan_flags(compile *c, const attrs_filter *f) {
    uint32_t mask = f->flags_set | f->flags_clear;
    if (f->flags_set & f->flags_clear) { /* no document has a flag set and not */
        memset(c->bits, 0, c->words * sizeof *c->bits);
        return;
    }
    for (size_t w = 0; w < c->words; w++) {
        if (!c->bits[w]) continue;
        const uint32_t *col = c->a->flags + w * 64;
        if (mask) c->bits[w] &= c->kernels->masked_equal_u32(col, mask, f->flags_set);
        if (f->flags_any) c->bits[w] &= ~c->kernels->masked_equal_u32(col, f->flags_any, 0);
    }
}

/* ---- the whole ---- */

typedef struct clause {
    attrs_field field;
    attrs_strs values;
    bool negate;
} clause;

enum { CLAUSES = 9 };

static void list_clauses(const attrs_filter *f, clause out[CLAUSES]) {
    const clause all[CLAUSES] = {
        {ATTRS_AUTHOR, f->author_in, false},   {ATTRS_THREAD, f->thread_in, false},
        {ATTRS_CHANNEL, f->channel_in, false}, {ATTRS_LANG, f->lang_in, false},
        {ATTRS_AUTHOR, f->author_not, true},   {ATTRS_AUTHOR, f->author_deny, true},
        {ATTRS_THREAD, f->thread_not, true},   {ATTRS_CHANNEL, f->channel_not, true},
        {ATTRS_LANG, f->lang_not, true},
    };
    memcpy(out, all, sizeof all);
}

static err check_filter(const attrs_filter *f) {
    const attrs_strs all[] = {f->author_in,  f->author_not, f->author_deny, f->thread_in,
                              f->thread_not, f->channel_in, f->channel_not, f->lang_in,
                              f->lang_not,   f->tag_any,    f->tag_all,     f->tag_not};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        if (all[i].count > ATTRS_CLAUSE_MAX)
            return err_set(ERR_TOO_LARGE, "filter: %zu values in one clause, limit is %d",
                           all[i].count, ATTRS_CLAUSE_MAX);
    return OK;
}

/* One clause by the cheaper way: its documents one by one, or the column of those that are left. */
static err apply_clause(compile *c, const clause *x) {
    if (x->values.count == 0) return OK;
    uint64_t docs = clause_docs(c->a, x->field, x->values), left = c->a->docs_live / WALK_PART;
    if (x->negate) left = MIN(left, bits_count(c->bits, c->words));
    if (c->a->columns[x->field].chained && docs <= left)
        return walk_column(c, x->field, x->values, x->negate);
    return scan_column(c, x->field, x->values, x->negate);
}

/* What leaves little comes first, so that scans skip and long lists of authors to leave out are
 * looked up for what is left instead of walked. */
static err apply_all(compile *c, const attrs_filter *f) {
    clause all[CLAUSES];
    list_clauses(f, all);
    for (int i = 0; i < CLAUSES; i++)
        if (!all[i].negate) TRY(apply_clause(c, &all[i]));
    TRY(apply_tags(c, f));
    if (f->has_from || f->has_until) scan_time(c, f);
    if (f->flags_set | f->flags_clear | f->flags_any) scan_flags(c, f);
    for (int i = 0; i < CLAUSES; i++)
        if (all[i].negate) TRY(apply_clause(c, &all[i]));
    return OK;
}

err attrs_filter_compile(const attrs *a, const attrs_filter *f, uint64_t *bits, size_t words,
                         uint32_t *count) {
    compile c = {.a = a, .kernels = postings_kernels_get(), .bits = bits};
    c.words = bits_words(a->docs_end);
    *count = 0;
    if (words < c.words)
        return err_set(ERR_INVALID, "filter: room for %zu words, %zu are needed", words, c.words);
    TRY(check_filter(f));
    if (c.words) memcpy(bits, a->live, c.words * sizeof *bits);
    if (words > c.words) memset(bits + c.words, 0, (words - c.words) * sizeof *bits);
    err rc = apply_all(&c, f);
    mem_free(c.second);
    TRY(rc);
    *count = (uint32_t)bits_count(bits, c.words);
    return OK;
}

bool attrs_filter_empty(const attrs_filter *f) {
    clause all[CLAUSES];
    list_clauses(f, all);
    for (int i = 0; i < CLAUSES; i++)
        if (all[i].values.count) return false;
    return !(f->tag_any.count || f->tag_all.count || f->tag_not.count || f->has_from ||
             f->has_until || f->flags_set || f->flags_clear || f->flags_any);
}

/* ---- one document ---- */

static bool strs_have(attrs_strs in, str x) {
    for (size_t i = 0; i < in.count; i++)
        if (str_eq(in.items[i], x)) return true;
    return false;
}

static bool doc_has_tag(const attrs *a, uint32_t doc, str tag) {
    uint32_t t = names_get(a->tag_names, tag);
    const attrs_doc_tags *own = &a->tags[doc];
    for (uint32_t i = 0; t != NAMES_NONE && i < own->count; i++)
        if (own->items[i].tag == t) return true;
    return false;
}

static bool match_tags(const attrs *a, const attrs_filter *f, uint32_t doc) {
    bool any = f->tag_any.count == 0;
    for (size_t i = 0; i < f->tag_any.count && !any; i++)
        any = doc_has_tag(a, doc, f->tag_any.items[i]);
    if (!any) return false;
    for (size_t i = 0; i < f->tag_all.count; i++)
        if (!doc_has_tag(a, doc, f->tag_all.items[i])) return false;
    for (size_t i = 0; i < f->tag_not.count; i++)
        if (doc_has_tag(a, doc, f->tag_not.items[i])) return false;
    return true;
}

bool attrs_filter_match(const attrs *a, const attrs_filter *f, uint32_t doc) {
    if (!attrs_has(a, doc)) return false;
    clause all[CLAUSES];
    list_clauses(f, all);
    for (int i = 0; i < CLAUSES; i++) {
        if (all[i].values.count == 0) continue;
        str own = attrs_name(a, all[i].field, a->columns[all[i].field].numbers[doc]);
        bool in = own.len && strs_have(all[i].values, own);
        if (in == all[i].negate) return false;
    }
    int64_t t = a->created_ms[doc];
    if ((f->has_from && t < f->from_ms) || (f->has_until && t >= f->until_ms)) return false;
    uint32_t flags = a->flags[doc];
    if ((flags & f->flags_set) != f->flags_set || (flags & f->flags_clear)) return false;
    if (f->flags_any && !(flags & f->flags_any)) return false;
    return match_tags(a, f, doc);
}

/* ---- facets ---- */

/* True when x stands before y: more documents, then by name; "no value" after names. */
static bool facet_before(const attrs *a, attrs_field field, attrs_facet x, attrs_facet y) {
    if (x.count != y.count) return x.count > y.count;
    if (x.number == ATTRS_NONE || y.number == ATTRS_NONE) return y.number == ATTRS_NONE;
    return str_cmp(attrs_name(a, field, x.number), attrs_name(a, field, y.number)) < 0;
}

static size_t facet_put(const attrs *a, attrs_field field, attrs_facet *out, size_t n, size_t max,
                        attrs_facet x) {
    if (n == max && !facet_before(a, field, x, out[n - 1])) return n;
    size_t i = n < max ? n++ : n - 1;
    for (; i > 0 && facet_before(a, field, x, out[i - 1]); i--) out[i] = out[i - 1];
    out[i] = x;
    return n;
}

err attrs_facets(const attrs *a, attrs_field field, const uint64_t *bits, attrs_facet *out,
                 size_t max, size_t *n) {
    *n = 0;
    if (field == ATTRS_TAG) return err_set(ERR_INVALID, "facets: not by tag");
    if (max == 0) return OK;
    const uint32_t *col = a->columns[field].numbers;
    uint32_t end = names_end(a->columns[field].names);
    uint32_t *counts = mem_zalloc((size_t)end + 1, sizeof *counts); /* the last: no value */
    if (!counts) return ERR_NO_MEMORY;
    size_t all = bits_words(a->docs_end);
    for (size_t w = 0; w < all; w++)
        for (uint64_t m = (bits ? bits[w] : ~(uint64_t)0) & a->live[w]; m; m &= m - 1)
            counts[MIN(col[w * 64 + (unsigned)__builtin_ctzll(m)], end)]++;
    for (uint32_t i = 0; i <= end; i++)
        if (counts[i])
            *n = facet_put(a, field, out, *n, max,
                           (attrs_facet){i == end ? ATTRS_NONE : i, counts[i]});
    mem_free(counts);
    return OK;
}
