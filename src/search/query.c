/* The query language, read in one pass from left to right. White space separates pieces; a piece is
 * an operator with its value, a quoted phrase, a word to leave out, or plain text. Each piece is
 * handled where it stands and printed back at once in its canonical form, so `understood` has the
 * order in which the query was typed, and reading it again gives the same query (the fuzzer holds us
 * to that).
 *
 * People type what they like into a search box, and most of it while not finished. So nothing that
 * merely looks like an operator is an error: an unknown name, a missing value, a lone quote are
 * plain text. Only a known operator with a value that cannot be meant (before:tomorrow) is refused,
 * because guessing would silently search for something else.
 *
 * Invariants that make the printed form parse back to itself:
 *  1. A quoted value or phrase holds no quote of any kind, since the first one closes it.
 *  2. A value that was not quoted holds no white space and does not start with a quote.
 *  3. So a value is printed in quotes exactly when it has white space in it, or when it is a channel
 *     that would read as in:thread:.
 *  4. Of a quote that is never closed only the quote sign itself is dropped.
 */
#include "search/query.h"

#include "index/lexical.h"
#include "search/search.h"
#include "shard/shard.h"

enum { UNDERSTOOD_MAX = 4 * SEARCH_QUERY_MAX };

typedef enum op_kind {
    OP_FROM,
    OP_IN,
    OP_THREAD,
    OP_TAG,
    OP_LANG,
    OP_HAS,
    OP_IS,
    OP_BEFORE,
    OP_AFTER,
    OP_DURING,
    OP_NONE
} op_kind;

static const struct {
    str name;
    bool may_negate;
} OPS[] = {[OP_FROM] = {STR_INIT("from"), true},     [OP_IN] = {STR_INIT("in"), true},
           [OP_THREAD] = {STR_INIT("thread"), true}, [OP_TAG] = {STR_INIT("tag"), true},
           [OP_LANG] = {STR_INIT("lang"), true},     [OP_HAS] = {STR_INIT("has"), true},
           [OP_IS] = {STR_INIT("is"), true},         [OP_BEFORE] = {STR_INIT("before"), false},
           [OP_AFTER] = {STR_INIT("after"), false},  [OP_DURING] = {STR_INIT("during"), false}};

static const struct {
    str name;
    uint32_t flag;
} HAS[] = {{STR_INIT("link"), ATTRS_LINK},
           {STR_INIT("media"), ATTRS_MEDIA},
           {STR_INIT("question"), ATTRS_QUESTION},
           {STR_INIT("tag"), SHARD_TAGGED},
           {STR_INIT("mention"), SHARD_MENTION}};

typedef struct parser {
    str text;
    size_t pos;
    str viewer;
    arena *a;
    query *q;
    strbuf plain;      /* becomes q->text */
    strbuf understood; /* becomes q->understood */
} parser;

uint32_t query_has_flag(str name) {
    for (size_t i = 0; i < COUNT_OF(HAS); i++)
        if (str_eq_nocase(name, HAS[i].name)) return HAS[i].flag;
    return 0;
}

/* ---- characters ------------------------------------------------------------------------- */

/* White space by the code points people can type: ASCII, no-break, the U+2000 block, ideographic. */
static bool is_space(uint32_t c) {
    return c <= 0x20 || c == 0x7f || c == 0xa0 || c == 0x3000 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f;
}

static bool is_quote(uint32_t c) {
    return c == '"' || c == 0x201c || c == 0x201d || c == 0x201e || c == 0xab || c == 0xbb;
}

static uint32_t peek(const parser *p, size_t at) {
    return at < p->text.len ? utf8_next(p->text, &at) : ' ';
}

static size_t skip_space(const parser *p, size_t at) {
    while (at < p->text.len) {
        size_t next = at;
        if (!is_space(utf8_next(p->text, &next))) break;
        at = next;
    }
    return at;
}

static size_t skip_word(const parser *p, size_t at) {
    while (at < p->text.len) {
        size_t next = at;
        if (is_space(utf8_next(p->text, &next))) break;
        at = next;
    }
    return at;
}

static str slice(const parser *p, size_t from, size_t to) {
    return str_from(p->text.ptr + from, to - from);
}

/* Without white space at its ends. */
static str trim(const parser *p, size_t from, size_t to) {
    from = skip_space(p, from);
    if (from > to) from = to;
    size_t end = from;
    for (size_t at = from; at < to;) {
        size_t word = MIN(skip_word(p, at), to);
        if (word > at) end = word;
        at = MAX(skip_space(p, word), at + 1);
    }
    return slice(p, from, MIN(end, to));
}

static bool has_space(str s) {
    for (size_t i = 0; i < s.len;)
        if (is_space(utf8_next(s, &i))) return true;
    return false;
}

/* At a quote: true with the text up to the next quote, and p->pos behind it; false when it is never
 * closed, and then p->pos is behind the opening quote. */
static bool take_quoted(parser *p, size_t at, str *out) {
    utf8_next(p->text, &at);
    for (size_t end = at; end < p->text.len;) {
        size_t next = end;
        if (is_quote(utf8_next(p->text, &next))) {
            *out = trim(p, at, end);
            p->pos = next;
            return true;
        }
        end = next;
    }
    p->pos = at;
    return false;
}

/* ---- printing back ---------------------------------------------------------------------- */

static void put(strbuf *b, str s) {
    if (b->len) strbuf_addc(b, ' ');
    strbuf_add(b, s);
}

static void put_operator(parser *p, bool negated, op_kind op, str value) {
    strbuf *b = &p->understood;
    put(b, negated ? STR("-") : STR(""));
    strbuf_add(b, OPS[op].name);
    strbuf_addc(b, ':');
    bool quoted = has_space(value) || (op == OP_IN && value.len >= 7 &&
                                       str_eq_nocase(str_from(value.ptr, 7), STR("thread:")));
    if (quoted) strbuf_addc(b, '"');
    strbuf_add(b, value);
    if (quoted) strbuf_addc(b, '"');
}

/* ---- values ----------------------------------------------------------------------------- */

static err add_value(query_strs *list, str v) {
    for (size_t i = 0; i < list->count; i++)
        if (str_eq(list->items[i], v)) return OK;
    if (list->count == QUERY_VALUES_MAX)
        return err_set_field(ERR_INVALID, "q", "expected at most %d values of one operator",
                             QUERY_VALUES_MAX);
    list->items[list->count++] = v;
    return OK;
}

/* With a sign before the name that may or may not be part of it. */
static err add_name(query_strs *list, str v, char sign) {
    TRY(add_value(list, v));
    if (v.len > 1 && v.ptr[0] == sign) return add_value(list, str_skip(v, 1));
    return OK;
}

static err add_author(parser *p, query_strs *list, str v) {
    if (!str_eq_nocase(v, STR("me"))) return add_name(list, v, '@');
    if (p->viewer.len == 0)
        return err_set_field(ERR_INVALID, "q", "from:me needs to know who asks: set viewer");
    return add_value(list, p->viewer);
}

static err add_lang(query_strs *list, str v) {
    bool good = v.len <= ATTRS_LANG_MAX;
    for (size_t i = 0; good && i < v.len; i++) {
        unsigned char c = (unsigned char)v.ptr[i];
        good =
            ((c | 32) >= 'a' && (c | 32) <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    }
    if (!good) return err_set_field(ERR_INVALID, "q", "lang: expected a code like en or pt-BR");
    return add_value(list, v);
}

static err add_has(uint32_t *flags, str v) {
    uint32_t f = query_has_flag(v);
    if (f == 0)
        return err_set_field(ERR_INVALID, "q",
                             "has: expected link, media, question, tag or mention");
    *flags |= f;
    return OK;
}

static err add_is(query *q, str v, bool negated) {
    bool post = str_eq_nocase(v, STR("post")), reply = str_eq_nocase(v, STR("reply"));
    if (!post && !reply) return err_set_field(ERR_INVALID, "q", "is: expected post or reply");
    if (post != negated)
        q->is_post = true;
    else
        q->is_reply = true;
    return OK;
}

/* ---- times ------------------------------------------------------------------------------ */

static bool digits(str s, size_t at, size_t n, int64_t *out) {
    return s.ptr[at] >= '0' && s.ptr[at] <= '9' && str_to_i64(str_from(s.ptr + at, n), out);
}

/* The first moment of a month. */
static bool month_start(int64_t y, int64_t m, int64_t *ms) {
    if (y == 10000) {
        *ms = TIME_MS_MAX + 1;
        return true;
    }
    char text[10];
    memcpy(text, "0000-00-01", sizeof text);
    for (int i = 3; i >= 0; i--, y /= 10) text[i] = (char)('0' + y % 10);
    text[5] = (char)('0' + m / 10);
    text[6] = (char)('0' + m % 10);
    return time_parse(str_from(text, sizeof text), ms);
}

/* A year, a month or a day as [from, until). */
static bool period_parse(str v, int64_t *from, int64_t *until) {
    int64_t y, m = 1;
    if (v.len == 10 && time_parse(v, from)) {
        *until = *from + 86400000;
        return true;
    }
    if ((v.len != 4 && v.len != 7) || !digits(v, 0, 4, &y) || y < 1) return false;
    if (v.len == 7 && (v.ptr[4] != '-' || !digits(v, 5, 2, &m) || m < 1 || m > 12)) return false;
    if (!month_start(y, m, from)) return false;
    if (v.len == 4 || m == 12) return month_start(y + 1, 1, until);
    return month_start(y, m + 1, until);
}

static err add_time(query *q, op_kind op, str v) {
    int64_t from, until;
    if (!period_parse(v, &from, &until)) {
        if (op == OP_DURING)
            return err_set_field(
                ERR_INVALID, "q",
                "during: expected a year, month or day: 2024, 2024-05, 2024-05-06");
        if (!time_parse(v, &from))
            return err_set_field(ERR_INVALID, "q",
                                 "" STR_FMT ": expected a date like 2024, 2024-05, 2024-05-06 or "
                                 "2024-05-06T07:08:09Z",
                                 STR_ARG(OPS[op].name));
    }
    int64_t limit = op == OP_DURING ? until : from;
    if (op != OP_BEFORE && (!q->has_from || from > q->from_ms)) {
        q->has_from = true;
        q->from_ms = from;
    }
    if (op != OP_AFTER && (!q->has_until || limit < q->until_ms)) {
        q->has_until = true;
        q->until_ms = limit;
    }
    return OK;
}

/* ---- pieces ----------------------------------------------------------------------------- */

static err add_operator(parser *p, bool negated, op_kind op, str v) {
    query *q = p->q;
    query_strs *const lists[][2] = {[OP_FROM] = {&q->from, &q->not_from},
                                    [OP_IN] = {&q->in, &q->not_in},
                                    [OP_THREAD] = {&q->thread, &q->not_thread},
                                    [OP_TAG] = {&q->tag, &q->not_tag},
                                    [OP_LANG] = {&q->lang, &q->not_lang}};
    query_strs *list = (size_t)op < COUNT_OF(lists) ? lists[op][negated] : NULL;
    put_operator(p, negated, op, v);
    switch (op) {
    case OP_FROM:
        return add_author(p, list, v);
    case OP_IN:
    case OP_TAG:
        return add_name(list, v, '#');
    case OP_THREAD:
        return add_value(list, v);
    case OP_LANG:
        return add_lang(list, v);
    case OP_HAS:
        return add_has(negated ? &q->not_has : &q->has, v);
    case OP_IS:
        return add_is(q, v, negated);
    default:
        return add_time(q, op, v);
    }
}

/* The name before a ':' at `at`; *value is where its value starts. */
static op_kind operator_at(const parser *p, size_t at, bool negated, size_t *value) {
    for (size_t i = 0; i < COUNT_OF(OPS); i++) {
        size_t n = OPS[i].name.len;
        if (p->text.len - at <= n || p->text.ptr[at + n] != ':') continue;
        if (!str_eq_nocase(slice(p, at, at + n), OPS[i].name)) continue;
        *value = at + n + 1;
        return negated && !OPS[i].may_negate ? OP_NONE : (op_kind)i;
    }
    return OP_NONE;
}

/* True when an operator with a value stands at `at` (behind its '-'). */
static err take_operator(parser *p, size_t at, bool negated, bool *taken) {
    size_t from = 0;
    str v = {0};
    op_kind op = operator_at(p, at, negated, &from);
    *taken = false;
    if (op == OP_NONE) return OK;
    bool quoted = is_quote(peek(p, from)) && take_quoted(p, from, &v);
    if (!quoted) {
        while (is_quote(peek(p, from))) utf8_next(p->text, &from); /* never closed: dropped */
        size_t end = skip_word(p, from);
        v = slice(p, from, end);
        p->pos = end;
        str id = str_skip(v, 7);
        if (op == OP_IN && id.len && str_eq_nocase(str_from(v.ptr, 7), STR("thread:"))) {
            op = OP_THREAD;
            v = id;
        }
    }
    *taken = v.len || quoted; /* from:"" is a value on its way: nothing yet */
    return v.len ? add_operator(p, negated, op, v) : OK;
}

/* Folded words of a phrase, alt tokens left out. */
static err phrase_words(parser *p, str text, query_phrase *out) {
    token_list t;
    TRY(analyze(p->a, text, &t));
    str *words = arena_zalloc(p->a, t.count + 1, sizeof *words);
    if (!words) return ERR_NO_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < t.count; i++)
        if (!t.items[i].alt) words[n++] = t.items[i].term;
    if (n > LEXICAL_PHRASE_MAX)
        return err_set_field(ERR_INVALID, "q", "expected at most %d words in a phrase",
                             LEXICAL_PHRASE_MAX);
    *out = (query_phrase){words, n, text};
    return OK;
}

static err add_not(parser *p, str text) {
    query *q = p->q;
    query_phrase f;
    TRY(phrase_words(p, text, &f));
    if (f.count == 0) return OK;
    if (q->n_nots == COUNT_OF(q->nots))
        return err_set_field(ERR_INVALID, "q", "expected at most %zu words to leave out",
                             COUNT_OF(q->nots));
    q->nots[q->n_nots++] = f;
    return OK;
}

static err add_phrase(parser *p, bool negated, str text) {
    query *q = p->q;
    if (text.len == 0) return OK;
    put(&p->understood, negated ? STR("-\"") : STR("\""));
    strbuf_add(&p->understood, text);
    strbuf_addc(&p->understood, '"');
    if (negated) return add_not(p, text);
    put(&p->plain, text);
    query_phrase f;
    TRY(phrase_words(p, text, &f));
    if (f.count == 0) return OK;
    if (q->n_phrases == QUERY_PHRASES_MAX)
        return err_set_field(ERR_INVALID, "q", "expected at most %d phrases", QUERY_PHRASES_MAX);
    q->phrases[q->n_phrases++] = f;
    return OK;
}

static err take_piece(parser *p) {
    size_t start = p->pos, at = start;
    uint32_t after = peek(p, at + 1);
    bool negated = p->text.ptr[at] == '-' && after != '-' && !is_space(after);
    if (negated) at++;
    if (is_quote(peek(p, at))) {
        str text;
        if (take_quoted(p, at, &text)) return add_phrase(p, negated, text);
        return OK; /* the lone quote is dropped; what follows is read as if it were not there */
    }
    bool taken;
    TRY(take_operator(p, at, negated, &taken));
    if (taken) return OK;
    size_t end = skip_word(p, at);
    p->pos = end;
    put(&p->understood, slice(p, start, end));
    if (negated) return add_not(p, slice(p, at, end));
    put(&p->plain, slice(p, start, end));
    return OK;
}

/* ---- the whole -------------------------------------------------------------------------- */

static err take_all(parser *p) {
    for (;;) {
        p->pos = skip_space(p, p->pos);
        if (p->pos >= p->text.len) return OK;
        TRY(take_piece(p));
    }
}

static err keep(arena *a, const strbuf *b, str *out) {
    TRY(b->rc);
    out->ptr = arena_dup(a, strbuf_str(b));
    out->len = b->len;
    return out->ptr ? OK : ERR_NO_MEMORY;
}

static err finish(parser *p) {
    query *q = p->q;
    TRY(keep(p->a, &p->plain, &q->text));
    TRY(keep(p->a, &p->understood, &q->understood));
    token_list t;
    TRY(analyze(p->a, q->text, &t));
    str *words = arena_zalloc(p->a, t.count + 1, sizeof *words);
    if (!words) return ERR_NO_MEMORY;
    for (size_t i = 0; i < t.count; i++) words[i] = t.items[i].term;
    q->words = words;
    q->n_words = t.count;
    if (q->is_reply && !q->is_post) q->flags_set |= ATTRS_REPLY;
    if (q->is_post && !q->is_reply) q->flags_clear |= ATTRS_REPLY;
    q->flags_clear |= q->not_has;
    return OK;
}

err query_parse(str text, str viewer, arena *a, query *out) {
    *out = (query){0};
    if (text.len > SEARCH_QUERY_MAX)
        return err_set_field(ERR_TOO_LARGE, "q", "expected at most %zu bytes, got %zu",
                             (size_t)SEARCH_QUERY_MAX, text.len);
    if (!utf8_valid(text, NULL)) return err_set_field(ERR_INVALID, "q", "expected valid UTF-8");
    parser p = {.text = text, .viewer = viewer, .a = a, .q = out};
    strbuf_init(&p.plain, UNDERSTOOD_MAX);
    strbuf_init(&p.understood, UNDERSTOOD_MAX);
    err rc = take_all(&p);
    if (rc == OK) rc = finish(&p);
    strbuf_deinit(&p.plain);
    strbuf_deinit(&p.understood);
    return rc;
}

err search_literal(str text, arena *a, str *out) {
    str in = utf8_cut(text, SEARCH_QUERY_MAX / 2);
    parser p = {.text = in};
    char *t = arena_alloc(a, 2 * in.len + 2);
    if (!t) return ERR_NO_MEMORY;
    size_t n = 0;
    bool start = true; /* of a word */
    for (size_t at = 0; at < in.len;) {
        size_t next = at, value;
        uint32_t c = utf8_next(in, &next);
        bool skip = is_quote(c) || (start && c == '-');
        bool op = start && !skip && operator_at(&p, at, false, &value) != OP_NONE;
        if (op) next = value; /* "from:x" becomes "from: x" */
        if (skip) {
            t[n++] = ' ';
        } else {
            memcpy(t + n, in.ptr + at, next - at);
            n += next - at;
            if (op) t[n++] = ' ';
        }
        start = skip || op || is_space(c);
        at = next;
    }
    *out = str_from(t, n);
    return OK;
}

static attrs_strs strs_of(const query_strs *s) {
    return (attrs_strs){s->items, s->count};
}

void query_filter(const query *q, attrs_filter *out) {
    *out = (attrs_filter){.author_in = strs_of(&q->from),
                          .author_not = strs_of(&q->not_from),
                          .thread_in = strs_of(&q->thread),
                          .thread_not = strs_of(&q->not_thread),
                          .channel_in = strs_of(&q->in),
                          .channel_not = strs_of(&q->not_in),
                          .lang_in = strs_of(&q->lang),
                          .lang_not = strs_of(&q->not_lang),
                          .tag_any = strs_of(&q->tag),
                          .tag_not = strs_of(&q->not_tag),
                          .has_from = q->has_from,
                          .has_until = q->has_until,
                          .from_ms = q->from_ms,
                          .until_ms = q->until_ms,
                          .flags_set = q->flags_set,
                          .flags_clear = q->flags_clear,
                          .flags_any = q->has};
}

bool query_filter_empty(const query *q) {
    attrs_filter f;
    query_filter(q, &f);
    return attrs_filter_empty(&f);
}
