/* Suggestions for the last word being typed: words of the index, and authors, channels and tags, each
 * as the whole query with that word completed, so that a client puts it into the box as it is.
 *
 * After an operator only its own names are offered ("from:an" -> authors). A bare word is completed by
 * words first, then by "from:", "in:" and "#" of names that begin like it. Names are compared without
 * case in ASCII, words folded as the index folds them. Those that more posts have come first.
 *
 * Names have no sorted order in attrs, so all are looked at: 100,000 authors take about a millisecond.
 * The walk over numbers ends when as many names were met as there are.
 */
#include "search/search_int.h"

#include "index/analyze.h"

enum { SUGGEST_DEFAULT = 8, NUMBERS_MAX = 1 << 24 };

typedef struct offer {
    str text; /* in the arena */
    uint32_t docs;
} offer;

typedef struct offers {
    offer items[SEARCH_SUGGEST_MAX];
    size_t count, max;
    arena *a;
} offers;

static bool starts_nocase(str s, str prefix) {
    return s.len >= prefix.len && str_eq_nocase(str_from(s.ptr, prefix.len), prefix);
}

/* Sorted by posts, most first; the first come stays before its equals. */
static void offer_add(offers *o, str text, uint32_t docs) {
    size_t i = o->count;
    if (i == o->max) {
        if (i == 0 || o->items[i - 1].docs >= docs) return;
        i--;
    } else {
        o->count++;
    }
    for (; i > 0 && o->items[i - 1].docs < docs; i--) o->items[i] = o->items[i - 1];
    o->items[i] = (offer){text, docs};
}

static void offer_names(const shard_words *w, attrs_field field, str prefix, offers *o) {
    attrs_stats st;
    attrs_stats_get(w->attrs, &st);
    uint32_t left = st.names[field];
    for (uint32_t n = 0; left > 0 && n < NUMBERS_MAX; n++) {
        str name = attrs_name(w->attrs, field, n);
        if (name.len == 0) continue;
        left--;
        if (starts_nocase(name, prefix)) offer_add(o, name, attrs_docs_with(w->attrs, field, name));
    }
}

/* The offers as whole queries: `head`, the operator, the name (in quotes when it has a space). */
static err finish(const offers *o, str head, const char *op, Kith__V1__SuggestResponse *out) {
    for (size_t i = 0; i < o->count && out->n_suggestions < SEARCH_SUGGEST_MAX; i++) {
        str t = o->items[i].text;
        const char *quote = op[0] && op[0] != '#' && str_find_byte(t, ' ') >= 0 ? "\"" : "";
        str s = arena_printf(o->a, STR_FMT "%s%s" STR_FMT "%s", STR_ARG(head), op, quote,
                             STR_ARG(t), quote);
        if (!s.ptr) return ERR_NO_MEMORY;
        out->suggestions[out->n_suggestions++] = (char *)(uintptr_t)s.ptr;
    }
    return OK;
}

static const struct {
    str op;
    attrs_field field;
} NAMED[] = {{STR_INIT("from:"), ATTRS_AUTHOR},
             {STR_INIT("in:"), ATTRS_CHANNEL},
             {STR_INIT("tag:"), ATTRS_TAG},
             {STR_INIT("lang:"), ATTRS_LANG}};

static err suggest_operator(const shard_words *w, str head, str word, offers *o,
                            Kith__V1__SuggestResponse *out, bool *done) {
    for (size_t i = 0; i < COUNT_OF(NAMED); i++) {
        str rest = str_skip(word, NAMED[i].op.len);
        if (!starts_nocase(word, NAMED[i].op)) continue;
        *done = true;
        offer_names(w, NAMED[i].field, rest, o);
        return finish(o, head, NAMED[i].op.ptr, out);
    }
    return OK;
}

static err suggest_words(const shard_words *w, str head, str word, offers *o,
                         Kith__V1__SuggestResponse *out) {
    char folded[ANALYZE_TERM_MAX];
    lexical_suggestion terms[SEARCH_SUGGEST_MAX];
    str prefix = str_from(folded, analyze_fold(word, folded));
    if (prefix.len == 0) return OK;
    size_t n = lexical_terms_prefix(w->words, prefix, terms, o->max);
    for (size_t i = 0; i < n; i++) offer_add(o, terms[i].term, terms[i].df);
    return finish(o, head, "", out);
}

static err suggest(const shard_words *w, str head, str word, size_t limit, arena *a,
                   Kith__V1__SuggestResponse *out) {
    static const char *const ops[] = {"from:", "in:", "#"};
    static const attrs_field fields[] = {ATTRS_AUTHOR, ATTRS_CHANNEL, ATTRS_TAG};
    offers o = {.max = limit, .a = a};
    bool done = false;
    TRY(suggest_operator(w, head, word, &o, out, &done));
    if (done || word.len == 0) return OK;
    o.max = MAX(limit / 2, (size_t)1);
    TRY(suggest_words(w, head, word, &o, out));
    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        size_t left = limit - MIN(out->n_suggestions, limit);
        o = (offers){.max = MIN(left, MAX(limit / 4, (size_t)1)), .a = a};
        str name = i == 2 && word.ptr[0] == '#' ? str_skip(word, 1) : word;
        if (name.len && o.max) offer_names(w, fields[i], name, &o);
        TRY(finish(&o, head, ops[i], out));
    }
    return OK;
}

err search_suggest(searcher *x, const Kith__V1__SuggestRequest *req, arena *a,
                   Kith__V1__SuggestResponse **out) {
    str q = str_of(req->q);
    if (q.len > SEARCH_QUERY_MAX)
        return err_set_field(ERR_TOO_LARGE, "q", "expected at most %zu bytes", SEARCH_QUERY_MAX);
    if (!utf8_valid(q, NULL)) return err_set_field(ERR_INVALID, "q", "expected valid UTF-8");
    if (req->limit < 0 || req->limit > SEARCH_SUGGEST_MAX)
        return err_set_field(ERR_INVALID, "limit", "expected 1 to %d", SEARCH_SUGGEST_MAX);
    Kith__V1__SuggestResponse *r = arena_alloc(a, sizeof *r);
    if (!r) return ERR_NO_MEMORY;
    kith__v1__suggest_response__init(r);
    r->suggestions = arena_zalloc(a, SEARCH_SUGGEST_MAX, sizeof *r->suggestions);
    if (!r->suggestions) return ERR_NO_MEMORY;
    size_t start = q.len;
    while (start > 0 && q.ptr[start - 1] != ' ') start--;
    shard_words w;
    shard_words_begin(x->shard, &w);
    err rc = suggest(&w, str_from(q.ptr, start), str_skip(q, start),
                     req->limit ? (size_t)req->limit : SUGGEST_DEFAULT, a, r);
    shard_words_end(x->shard);
    if (rc == OK) *out = r;
    return rc;
}
