/* Text to terms in one pass over the bytes, left to right.
 *
 * The scanner stands at a position and decides by the character there: a letter, digit or mark
 * starts a word; a character of a script without spaces starts a run that becomes pairs; an emoji,
 * "#", "@" and the start of a URL have their own rule; all else is skipped. ASCII, nine tenths of
 * all bytes, is classified by a table and folded by one OR; other characters ask utf8proc for
 * their category and are folded by its decomposition (compatibility, case fold), after which
 * combining marks of Latin, Greek, Cyrillic, Hebrew and Arabic are dropped, and a few letters that
 * do not decompose (ø, ł, đ, ...) are mapped by a table. Marks of Indic scripts are vowels: they
 * stay.
 *
 * Pairs: a unit is a base character with its marks, composed (NFKC), so that half-width katakana
 * equals full-width and a Hangul syllable stays one unit. A run of n > 1 units gives n - 1 pairs,
 * each highlighted over both its characters; a phrase of such text is a run of consecutive pairs.
 *
 * Invariants: the position always moves on, so a scan ends; a term is 1 to ANALYZE_TERM_MAX bytes
 * of valid UTF-8; offset + size lies within the text; positions rise by at most one. No recursion:
 * a URL is scanned by the same loop with a nearer end and a flag.
 *
 * Tried and measured (docs/words.md): stop words, full stemmers, keeping accents, "'s" left on.
 */
#include "index/analyze.h"

#include <utf8proc.h>

enum { CHUNK = 4096, FOLD_MAX = 32, UNIT_MAX = 28 };

typedef struct scan {
    arena *a;
    str text;
    size_t pos, end; /* the part being scanned: the text, or a URL in it */
    bool in_url;
    token_list out;
    size_t cap;
    uint32_t position; /* of the next token */
    char *room;        /* of the current chunk for terms */
    size_t room_left;
    err rc;
} scan;

/* ---- characters ---- */

enum { C_NONE, C_WORD, C_PAIR, C_EMOJI, C_FLAG, C_APOSTROPHE, C_IGNORED, C_HASH, C_AT };

static bool in_range(uint32_t c, uint32_t lo, uint32_t hi) {
    return c - lo <= hi - lo;
}

/* Scripts written without spaces between words, and Hangul, whose words carry endings. */
static bool is_pair(uint32_t c) {
    static const uint32_t ranges[][2] = {
        {0x0e01, 0x0e3a}, {0x0e40, 0x0e4e},   {0x0e81, 0x0ecd}, {0x0edc, 0x0edf}, {0x1000, 0x103f},
        {0x1050, 0x108f}, {0x1100, 0x11ff},   {0x1780, 0x17d3}, {0x2e80, 0x2fdf}, {0x3005, 0x3007},
        {0x3021, 0x3029}, {0x3031, 0x3035},   {0x303b, 0x303c}, {0x3041, 0x3096}, {0x3099, 0x309f},
        {0x30a1, 0x30fa}, {0x30fc, 0x30ff},   {0x3131, 0x318e}, {0x31f0, 0x31ff}, {0x3400, 0x4dbf},
        {0x4e00, 0x9fff}, {0xa960, 0xa97c},   {0xac00, 0xd7fb}, {0xf900, 0xfaff}, {0xff66, 0xff9f},
        {0xffa0, 0xffdc}, {0x20000, 0x323af},
    };
    if (c < 0x0e01) return false;
    for (size_t i = 0; i < COUNT_OF(ranges); i++)
        if (in_range(c, ranges[i][0], ranges[i][1])) return true;
    return false;
}

static bool is_skin(uint32_t c) {
    return in_range(c, 0x1f3fb, 0x1f3ff);
}

/* Pictures: the extended pictographic property, without the signs of ordinary text (c, TM, ...). */
static bool is_emoji(uint32_t c, const utf8proc_property_t *p) {
    if (c < 0x2190) return false;
    return p->boundclass == UTF8PROC_BOUNDCLASS_EXTENDED_PICTOGRAPHIC || is_skin(c) ||
           in_range(c, 0x2600, 0x27bf);
}

static int class_of_category(int category) {
    switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return C_WORD;
    default:
        return C_NONE;
    }
}

static int class_wide(uint32_t c) {
    switch (c) {
    case 0x00ad: /* soft hyphen */
    case 0x200c: /* zero width joiners */
    case 0x200d:
    case 0x2060:
        return C_IGNORED;
    case 0x2019:
    case 0xff07:
        return C_APOSTROPHE;
    case 0xff03:
        return C_HASH;
    case 0xff20:
        return C_AT;
    default:
        break;
    }
    if (in_range(c, 0xfe00, 0xfe0f)) return C_IGNORED;
    if (in_range(c, 0x1f1e6, 0x1f1ff)) return C_FLAG;
    if (is_pair(c)) return C_PAIR;
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)c);
    if (is_emoji(c, p)) return C_EMOJI;
    return class_of_category(p->category);
}

static int class_of(uint32_t c) {
    if (c >= 0x80) return class_wide(c);
    if (in_range(c | 0x20, 'a', 'z') || in_range(c, '0', '9') || c == '_') return C_WORD;
    if (c == '\'') return C_APOSTROPHE;
    if (c == '#') return C_HASH;
    return c == '@' ? C_AT : C_NONE;
}

/* The class of the character at `pos` and, in *next, where the one behind it begins. Bytes that are
 * not UTF-8 are no part of anything. */
static int peek(const scan *s, size_t pos, size_t *next, uint32_t *c) {
    *next = pos;
    uint8_t b = (uint8_t)s->text.ptr[pos];
    if (b < 0x80) {
        *next = pos + 1;
        *c = b;
        return class_of(b);
    }
    *c = utf8_next((str){s->text.ptr, s->end}, next);
    return class_of(*c);
}

/* ---- folding ---- */

/* Marks that are accents, to be dropped; not those that are vowels. */
static bool is_accent(uint32_t c) {
    return in_range(c, 0x300, 0x36f) || in_range(c, 0x483, 0x487) || in_range(c, 0x591, 0x5bd) ||
           in_range(c, 0x5bf, 0x5c7) || in_range(c, 0x64b, 0x65f) || c == 0x670 || c == 0x640 ||
           in_range(c, 0x1ab0, 0x1aff) || in_range(c, 0x1dc0, 0x1dff) ||
           in_range(c, 0x20d0, 0x20ff) || in_range(c, 0xfe20, 0xfe2f);
}

/* Letters whose stroke or hook is part of them for Unicode, but not for who searches. */
static const char *plain_letter(uint32_t c) {
    switch (c) {
    case 0xe6:
        return "ae";
    case 0xf0:
        return "d";
    case 0xf8:
        return "o";
    case 0xfe:
        return "th";
    case 0x111:
        return "d";
    case 0x127:
        return "h";
    case 0x131:
        return "i";
    case 0x142:
        return "l";
    case 0x153:
        return "oe";
    case 0x167:
        return "t";
    case 0x180:
        return "b";
    case 0x1e5:
        return "g";
    case 0x2019:
    case 0xff07:
        return "'";
    default:
        return NULL;
    }
}

/* Appends at most `left` whole bytes; false when it did not fit. */
static bool fold_put(char *out, size_t *len, size_t max, const char *p, size_t n) {
    if (*len + n > max) return false;
    memcpy(out + *len, p, n);
    *len += n;
    return true;
}

/* Folds one character onto out; false when the term is full. */
static bool fold_char(uint32_t c, char *out, size_t *len, size_t max) {
    const char *plain = plain_letter(c);
    if (plain) return fold_put(out, len, max, plain, strlen(plain));
    utf8proc_int32_t d[FOLD_MAX];
    int bound = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)c, d, FOLD_MAX,
                                (utf8proc_option_t)(UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE |
                                                    UTF8PROC_CASEFOLD | UTF8PROC_IGNORE),
                                &bound);
    if (n < 0 || n > FOLD_MAX) n = 0; /* longer than any word wants to be */
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        uint32_t x = (uint32_t)d[i];
        if (is_accent(x) || x <= ' ') continue;
        char u[4];
        plain = plain_letter(x);
        if (plain ? !fold_put(out, len, max, plain, strlen(plain))
                  : !fold_put(out, len, max, u, utf8_put(x, u)))
            return false;
    }
    return true;
}

static size_t fold_bytes(str s, char *out, size_t max) {
    size_t len = 0, pos = 0;
    while (pos < s.len) {
        uint8_t b = (uint8_t)s.ptr[pos];
        if (b < 0x80) {
            if (len == max) break;
            out[len++] = (char)(in_range(b, 'A', 'Z') ? b | 0x20 : b);
            pos++;
            continue;
        }
        uint32_t c = utf8_next(s, &pos);
        if (c == 0xfffd) continue; /* a byte that is no text */
        if (!fold_char(c, out, &len, max)) break;
    }
    return len;
}

size_t analyze_fold(str s, char out[ANALYZE_TERM_MAX]) {
    return fold_bytes(s, out, ANALYZE_TERM_MAX);
}

/* ---- tokens ---- */

static char *term_room(scan *s) {
    if (s->room_left < ANALYZE_TERM_MAX) {
        s->room = arena_alloc(s->a, CHUNK);
        if (!s->room) {
            s->rc = ERR_NO_MEMORY;
            return NULL;
        }
        s->room_left = CHUNK;
    }
    return s->room;
}

static bool tokens_grow(scan *s) {
    if (s->out.count < s->cap) return true;
    size_t cap = s->cap ? s->cap * 2 : s->text.len / 5 + 8;
    cap = MIN(cap, (size_t)ANALYZE_TOKENS_MAX + 1);
    token *t = arena_alloc(s->a, cap * sizeof *t);
    if (!t) {
        s->rc = ERR_NO_MEMORY;
        return false;
    }
    if (s->out.count) memcpy(t, s->out.items, s->out.count * sizeof *t);
    s->out.items = t;
    s->cap = cap;
    return true;
}

/* Adds the term that lies in the first `len` bytes of the room. */
static void emit(scan *s, size_t len, size_t from, size_t to, bool alt) {
    if (len == 0) return;
    if (s->out.count == ANALYZE_TOKENS_MAX) {
        s->out.cut = true;
        return;
    }
    if (!tokens_grow(s)) return;
    if (alt && s->out.count == 0) alt = false;
    uint32_t position = alt ? s->out.items[s->out.count - 1].position : s->position++;
    s->out.items[s->out.count++] =
        (token){{s->room, len}, position, (uint32_t)from, (uint32_t)(to - from), alt};
    s->room += len;
    s->room_left -= len;
}

/* ---- words ---- */

static bool ends_with(const char *p, size_t n, const char *suffix) {
    size_t m = strlen(suffix);
    return n >= m && memcmp(p + n - m, suffix, m) == 0;
}

/* Words in "ies" whose singular ends in "ie", without that ending; all others end in "y". */
static bool is_ie_word(str w) {
    static const str words[] = {
        STR_INIT("mov"),   STR_INIT("cook"),   STR_INIT("pix"),   STR_INIT("self"),
        STR_INIT("hood"),  STR_INIT("rook"),   STR_INIT("newb"),  STR_INIT("brown"),
        STR_INIT("calor"), STR_INIT("ind"),    STR_INIT("food"),  STR_INIT("ser"),
        STR_INIT("spec"),  STR_INIT("zomb"),   STR_INIT("magp"),  STR_INIT("lass"),
        STR_INIT("cut"),   STR_INIT("sweet"),  STR_INIT("aunt"),  STR_INIT("junk"),
        STR_INIT("hipp"),  STR_INIT("tech"),   STR_INIT("freeb"), STR_INIT("group"),
        STR_INIT("road"),  STR_INIT("smooth"), STR_INIT("vegg"),  STR_INIT("gen"),
        STR_INIT("prair"), STR_INIT("bird"),   STR_INIT("goal"),  STR_INIT("book")};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (str_eq(w, words[i])) return true;
    return false;
}

/* True when "es" is the plural ending: boxes, classes, watches, reaches; not caches, headaches. */
static bool takes_es(const char *p, size_t n) {
    if (ends_with(p, n, "xes") || ends_with(p, n, "sses") || ends_with(p, n, "zzes")) return true;
    if (ends_with(p, n, "shes")) return true;
    if (!ends_with(p, n, "ches") || n < 6) return false;
    return p[n - 5] != 'a' || p[n - 6] == 'e' || p[n - 6] == 'o';
}

/* Takes the English possessive and plural off an ASCII word, after the rules of Harman (1991), so
 * that what is left is a word: it is also what suggestions show. */
static size_t strip_plural(char *p, size_t n) {
    if (ends_with(p, n, "'s")) n -= 2;
    if (n < 4 || p[n - 1] != 's') return n;
    for (size_t i = 0; i < n; i++)
        if (!in_range((uint8_t)p[i], 'a', 'z')) return n;
    if (ends_with(p, n, "us") || ends_with(p, n, "ss")) return n;
    if (takes_es(p, n)) return n - 2;
    if (!ends_with(p, n, "ies") || n < 5 || p[n - 4] == 'e' || p[n - 4] == 'a') return n - 1;
    if (is_ie_word(str_from(p, n - 3))) return n - 1;
    p[n - 3] = 'y';
    return n - 2;
}

/* The end of the word that begins at `pos`: letters, digits, marks, "_", apostrophes between. */
static size_t word_end(const scan *s, size_t pos, bool apostrophes) {
    size_t end = pos;
    while (pos < s->end) {
        size_t next;
        uint32_t c;
        int k = peek(s, pos, &next, &c);
        if (s->in_url && c == '_') break;
        if (k == C_WORD) {
            end = next;
        } else if (k == C_APOSTROPHE && apostrophes) {
            size_t after;
            if (end != pos || next >= s->end || peek(s, next, &after, &c) != C_WORD) break;
        } else if (k != C_IGNORED) {
            break;
        }
        pos = next;
    }
    return end;
}

/* In a URL: no word but a key that some service made up. */
static bool is_identifier(const char *p, size_t n) {
    bool digit = false, letter = false;
    for (size_t i = 0; i < n; i++) {
        if (in_range((uint8_t)p[i], '0', '9'))
            digit = true;
        else
            letter = true;
    }
    return n > 24 || (digit && letter && n >= 5);
}

static void scan_word(scan *s) {
    size_t from = s->pos, end = word_end(s, from, !s->in_url);
    s->pos = MAX(end, from + 1);
    char *p = term_room(s);
    if (!p) return;
    size_t n = fold_bytes(str_from(s->text.ptr + from, end - from), p, ANALYZE_TERM_MAX);
    if (s->in_url && is_identifier(p, n)) return;
    emit(s, strip_plural(p, n), from, end, false);
}

/* "#tag" and "@name": with its sign, then the word alone as an alt. */
static void scan_tag(scan *s, size_t word, char sign) {
    size_t from = s->pos, next;
    uint32_t c;
    size_t end = word;
    while (end < s->end) { /* a tag may mix scripts: #東京2020 is one tag */
        int k = peek(s, end, &next, &c);
        if (k != C_WORD && k != C_PAIR && k != C_IGNORED) break;
        end = next;
    }
    bool plain = word_end(s, word, false) == end;
    s->pos = end;
    char *p = term_room(s);
    if (!p) return;
    p[0] = sign;
    str w = str_from(s->text.ptr + word, end - word);
    size_t n = fold_bytes(w, p + 1, ANALYZE_TERM_MAX - 1);
    if (n == 0) return;
    emit(s, n + 1, from, end, false);
    p = term_room(s);
    if (!p || s->rc != OK) return;
    if (!plain) { /* its words are found by scanning them too */
        s->pos = word;
        return;
    }
    n = fold_bytes(w, p, ANALYZE_TERM_MAX);
    emit(s, sign == '#' ? strip_plural(p, n) : n, word, end, true);
}

/* ---- pairs ---- */

typedef struct unit {
    char text[UNIT_MAX];
    size_t len, from, to;
} unit;

/* Reads one base character with its marks, composed; len 0 when nothing of it stays. */
static void read_unit(scan *s, unit *u) {
    utf8proc_int32_t d[FOLD_MAX];
    utf8proc_ssize_t n = 0;
    u->from = s->pos;
    u->len = 0;
    while (s->pos < s->end) {
        size_t next;
        uint32_t c;
        int k = peek(s, s->pos, &next, &c);
        const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)c);
        bool mark = p->category == UTF8PROC_CATEGORY_MN || p->category == UTF8PROC_CATEGORY_MC ||
                    c == 0xff9e || c == 0xff9f || in_range(c, 0x1160, 0x11ff);
        if (s->pos > u->from && !mark && k != C_IGNORED) break;
        int bound = 0;
        utf8proc_ssize_t left = FOLD_MAX - n;
        utf8proc_ssize_t got =
            utf8proc_decompose_char((utf8proc_int32_t)c, d + n, left,
                                    (utf8proc_option_t)(UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE |
                                                        UTF8PROC_CASEFOLD | UTF8PROC_IGNORE),
                                    &bound);
        if (got > 0 && got <= left) n += got;
        s->pos = next;
    }
    u->to = s->pos;
    n = utf8proc_normalize_utf32(d, n, UTF8PROC_COMPOSE);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        char b[4];
        size_t w = utf8_put((uint32_t)d[i], b);
        if ((uint32_t)d[i] > ' ' && !fold_put(u->text, &u->len, UNIT_MAX, b, w)) break;
    }
}

static void emit_units(scan *s, const unit *a, const unit *b) {
    char *p = term_room(s);
    if (!p) return;
    size_t n = 0;
    fold_put(p, &n, ANALYZE_TERM_MAX, a->text, a->len);
    if (b) fold_put(p, &n, ANALYZE_TERM_MAX, b->text, b->len);
    emit(s, n, a->from, b ? b->to : a->to, false);
}

static void scan_pairs(scan *s) {
    unit last = {.len = 0}, now;
    bool any = false;
    while (s->pos < s->end && s->rc == OK) {
        size_t next;
        uint32_t c;
        if (peek(s, s->pos, &next, &c) != C_PAIR) break;
        read_unit(s, &now);
        if (now.len == 0) continue;
        if (last.len) {
            emit_units(s, &last, &now);
            any = true;
        }
        last = now;
    }
    if (last.len && !any) emit_units(s, &last, NULL);
}

/* ---- pictures ---- */

/* Skin tones and variation selectors: how a picture looks, not what it is. */
static bool is_modifier(uint32_t c) {
    return is_skin(c) || in_range(c, 0xfe00, 0xfe0f);
}

/* Puts the next picture of a sequence on the term, joined to those before; false when it is full.
 */
static bool put_picture(char *p, size_t *n, uint32_t c) {
    static const char joiner[] = {(char)0xe2, (char)0x80, (char)0x8d};
    char u[8];
    size_t m = 0;
    if (*n) {
        memcpy(u, joiner, sizeof joiner);
        m = sizeof joiner;
    }
    m += utf8_put(c, u + m);
    return fold_put(p, n, ANALYZE_TERM_MAX, u, m);
}

/* An emoji sequence without skin tones and selectors; of a joined one the first picture is an alt.
 */
static void scan_emoji(scan *s) {
    char *p = term_room(s);
    if (!p) return;
    size_t n = 0, from = s->pos, first = 0;
    bool joined = false;
    while (s->pos < s->end) {
        size_t next;
        uint32_t c;
        int k = peek(s, s->pos, &next, &c);
        bool joins = c == 0x200d, picture = !joins && !is_modifier(c);
        if (picture && s->pos != from && !(joined && k == C_EMOJI)) break;
        if (picture && !put_picture(p, &n, c)) break;
        if (!first) first = n;
        joined = joins;
        s->pos = next;
    }
    if (n == 0) return; /* a skin tone alone */
    const char *whole = p;
    emit(s, n, from, s->pos, false);
    if (n == first || s->rc != OK || !(p = term_room(s))) return;
    memcpy(p, whole, first);
    emit(s, first, from, s->pos, true);
}

/* Two regional letters make a flag; one alone is a term too. */
static void scan_flag(scan *s) {
    char *p = term_room(s);
    if (!p) return;
    size_t n = 0, from = s->pos;
    for (int i = 0; i < 2 && s->pos < s->end; i++) {
        size_t next;
        uint32_t c;
        if (peek(s, s->pos, &next, &c) != C_FLAG) break;
        char u[4];
        fold_put(p, &n, ANALYZE_TERM_MAX, u, utf8_put(c, u));
        s->pos = next;
    }
    emit(s, n, from, s->pos, false);
}

/* ---- URLs ---- */

/* How many bytes of scheme and "www." stand at pos; 0 when no URL begins here. */
static size_t url_prefix(const scan *s, size_t pos) {
    static const str schemes[] = {STR_INIT("https://"), STR_INIT("http://")};
    str rest = str_from(s->text.ptr + pos, s->end - pos);
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(schemes) && !n; i++)
        if (rest.len > schemes[i].len &&
            str_eq_nocase(str_from(rest.ptr, schemes[i].len), schemes[i]))
            n = schemes[i].len;
    str host = str_skip(rest, n);
    if (host.len > 4 && str_eq_nocase(str_from(host.ptr, 4), STR("www."))) n += 4;
    return n;
}

static size_t url_end(const scan *s, size_t pos) {
    while (pos < s->end) {
        uint8_t b = (uint8_t)s->text.ptr[pos];
        if (b <= ' ' || b == '<' || b == '>' || b == '"' || b == 0x7f) break;
        pos++;
    }
    return pos;
}

/* What the words of a URL are taken from: host and path. */
static size_t url_words_end(const scan *s, size_t pos, size_t end) {
    while (pos < end && s->text.ptr[pos] != '?' && s->text.ptr[pos] != '#') pos++;
    return pos;
}

static void scan_step(scan *s, int k, size_t next) {
    switch (k) {
    case C_WORD:
        scan_word(s);
        break;
    case C_PAIR:
        scan_pairs(s);
        break;
    case C_EMOJI:
        scan_emoji(s);
        break;
    case C_FLAG:
        scan_flag(s);
        break;
    default:
        s->pos = next;
        break;
    }
}

/* True when a tag begins at s->pos: a sign behind which a word stands, and none before it. */
static bool tag_here(const scan *s, int k, size_t next, bool after_word) {
    if ((k != C_HASH && k != C_AT) || after_word || s->in_url || next >= s->end) return false;
    size_t n;
    uint32_t c;
    int w = peek(s, next, &n, &c);
    return w == C_WORD || w == C_PAIR;
}

/* Scans [pos, end). */
static void scan_all(scan *s) {
    bool after_word = false;
    size_t url_until = 0, text_end = s->end;
    while (s->rc == OK && !s->out.cut) {
        if (s->pos >= s->end) {
            if (!s->in_url) break;
            s->pos = url_until; /* the URL's words are done: go on behind it */
            s->end = text_end;
            s->in_url = false;
            after_word = false;
            continue;
        }
        size_t next;
        uint32_t c;
        int k = peek(s, s->pos, &next, &c);
        size_t prefix = k == C_WORD && !s->in_url && !after_word ? url_prefix(s, s->pos) : 0;
        if (prefix) {
            url_until = url_end(s, s->pos);
            s->pos += prefix;
            s->end = url_words_end(s, s->pos, url_until);
            s->in_url = true;
        } else if (tag_here(s, k, next, after_word)) {
            scan_tag(s, next, k == C_HASH ? '#' : '@');
            after_word = false;
        } else {
            scan_step(s, k, next);
            after_word = k == C_WORD;
        }
    }
}

err analyze(arena *a, str text, token_list *out) {
    *out = (token_list){0};
    if (text.len > ANALYZE_TEXT_MAX)
        return err_set(ERR_TOO_LARGE, "text: %zu bytes, limit is %u", text.len, ANALYZE_TEXT_MAX);
    scan s = {.a = a, .text = text, .end = text.len};
    scan_all(&s);
    TRY(s.rc);
    *out = s.out;
    return OK;
}
