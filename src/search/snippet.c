/* Snippets. The text is analysed as it was for the index, and its tokens carry their place, so what
 * is marked is what matched: folded accents, plurals, characters of a CJK pair and all.
 *
 * Of a long text the stretch of SNIPPET_BYTES is taken whose different terms weigh most; a term that
 * comes twice counts once and a hundredth more, which breaks ties for the denser stretch. All
 * stretches that start at a match are looked at by two pointers, so the work is linear in the
 * matches. Then the stretch gets a third of its spare bytes as a lead, and both ends move to white
 * space when some is near, else to the border of a code point. Without a match it is the start.
 *
 * Invariants: ranges lie inside the snippet, ascend, do not touch, and cut no code point, since
 * tokens do not and window ends are moved off the middle of one.
 */
#include "search/snippet.h"

#include "index/analyze.h"

enum { BORDER_SEARCH = 24 /* bytes to look for white space at a cut */ };
static const char ELLIPSIS[] = "\xe2\x80\xa6";

typedef struct match {
    uint32_t start, end, term;
} match;

/* ---- finding what matched ---------------------------------------------------------------- */

typedef struct term_table {
    const snippet_term *terms;
    size_t count;
    uint16_t *slots; /* index + 1 of a term; 0 empty */
    size_t mask;
} term_table;

static err table_make(const snippet_term *terms, size_t n, arena *a, term_table *out) {
    size_t size = 16;
    while (size < n * 2) size *= 2;
    uint16_t *slots = arena_zalloc(a, size, sizeof *slots);
    if (!slots) return ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        size_t s = hash64(terms[i].text.ptr, terms[i].text.len, 0) & (size - 1);
        while (slots[s]) s = (s + 1) & (size - 1);
        slots[s] = (uint16_t)(i + 1);
    }
    *out = (term_table){terms, n, slots, size - 1};
    return OK;
}

static bool table_find(const term_table *t, str word, uint32_t *term) {
    for (size_t s = hash64(word.ptr, word.len, 0) & t->mask; t->slots[s]; s = (s + 1) & t->mask) {
        *term = t->slots[s] - 1u;
        if (str_eq(t->terms[*term].text, word)) return true;
    }
    return false;
}

static err find_matches(str text, const term_table *table, arena *a, match **out, size_t *count) {
    token_list t;
    *count = 0;
    TRY(analyze(a, text, &t));
    match *m = arena_alloc(a, (t.count + 1) * sizeof *m);
    if (!m) return ERR_NO_MEMORY;
    for (size_t i = 0; i < t.count; i++) {
        const token *k = &t.items[i];
        uint32_t term;
        if (k->size && table_find(table, k->term, &term))
            m[(*count)++] = (match){k->offset, k->offset + k->size, term};
    }
    *out = m;
    return OK;
}

/* ---- choosing the stretch ---------------------------------------------------------------- */

/* Matches [from, to) of the best stretch. */
typedef struct stretch {
    size_t from, to;
} stretch;

static err best_stretch(const match *m, size_t count, const term_table *t, arena *a, stretch *out) {
    uint32_t *seen = arena_zalloc(a, t->count + 1, sizeof *seen);
    if (!seen) return ERR_NO_MEMORY;
    double score = 0, best = -1;
    size_t j = 0;
    *out = (stretch){0, 0};
    for (size_t i = 0; i < count; i++) {
        if (j < i) j = i;
        for (; j < count && m[j].end <= m[i].start + SNIPPET_BYTES; j++)
            score += (double)t->terms[m[j].term].weight * (seen[m[j].term]++ ? 0.01 : 1);
        if (score > best + 1e-9) {
            best = score;
            *out = (stretch){i, j};
        }
        if (j > i) score -= (double)t->terms[m[i].term].weight * (--seen[m[i].term] ? 0.01 : 1);
    }
    return OK;
}

static bool continues(str s, size_t at) {
    return at < s.len && ((unsigned char)s.ptr[at] & 0xc0) == 0x80;
}

static bool blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Behind the white space nearest before `at`, but not before at - BORDER_SEARCH. */
static size_t border_before(str s, size_t at, size_t limit) {
    size_t low = at > BORDER_SEARCH ? at - BORDER_SEARCH : 0;
    for (size_t i = at; i > MAX(low, limit); i--)
        if (blank(s.ptr[i - 1])) return i;
    while (at > 0 && continues(s, at)) at--;
    return at;
}

static void window(str text, const match *m, stretch b, size_t *start, size_t *end) {
    bool any = b.from < b.to;
    size_t first = any ? m[b.from].start : 0, last = any ? m[b.to - 1].end : 0;
    size_t spare = SNIPPET_BYTES - MIN(last - first, SNIPPET_BYTES);
    size_t s = first > spare / 3 ? first - spare / 3 : 0;
    if (text.len - s < SNIPPET_BYTES) s = text.len - SNIPPET_BYTES;
    if (s > first) s = first;
    if (s > 0) s = border_before(text, s, 0);
    size_t e = MIN(s + SNIPPET_BYTES, text.len);
    if (e < last) e = last;
    if (e < text.len) e = border_before(text, e, last);
    *start = s;
    *end = e;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static void add_range(snippet *s, size_t start, size_t end) {
    if (s->count && start <= s->ranges[s->count - 1].end) {
        snippet_range *last = &s->ranges[s->count - 1];
        last->end = MAX(last->end, (uint32_t)end);
        return;
    }
    if (s->count < SNIPPET_RANGES_MAX)
        s->ranges[s->count++] = (snippet_range){(uint32_t)start, (uint32_t)end};
}

/* The matches within [shown.start, shown.end) of the text; `lead` bytes stand before it in the snippet. */
static void mark(snippet *s, const snippet_term *terms, const match *m, size_t count,
                 snippet_range shown, size_t lead) {
    float most = 0;
    for (size_t i = 0; i < count; i++) most = MAX(most, terms[m[i].term].weight);
    for (size_t i = 0; i < count; i++)
        if (m[i].start >= shown.start && m[i].end <= shown.end &&
            terms[m[i].term].weight >= SNIPPET_MARK_SHARE * most)
            add_range(s, m[i].start - shown.start + lead, m[i].end - shown.start + lead);
}

err snippet_make(str text, const snippet_term *terms, size_t n, arena *a, snippet *out) {
    size_t count, start = 0, end = text.len, lead = 0;
    match *m;
    term_table table;
    stretch best;
    KITH_ASSERT(n < UINT16_MAX);
    TRY(table_make(terms, n, a, &table));
    TRY(find_matches(text, &table, a, &m, &count));
    *out = (snippet){.text = text};
    out->ranges = arena_alloc(a, SNIPPET_RANGES_MAX * sizeof *out->ranges);
    if (!out->ranges) return ERR_NO_MEMORY;
    if (text.len > SNIPPET_WHOLE_MAX) {
        TRY(best_stretch(m, count, &table, a, &best));
        window(text, m, best, &start, &end);
        lead = start > 0 ? sizeof ELLIPSIS - 1 : 0;
        out->text =
            arena_printf(a, "%s" STR_FMT "%s", start > 0 ? ELLIPSIS : "", (int)(end - start),
                         text.ptr + start, end < text.len ? ELLIPSIS : "");
        if (!out->text.ptr) return ERR_NO_MEMORY;
    }
    mark(out, terms, m, count, (snippet_range){(uint32_t)start, (uint32_t)end}, lead);
    return OK;
}
