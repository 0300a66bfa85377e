/* analyze: text to terms. One analysis serves documents, queries, phrases and highlights.
 *
 *     arena a;
 *     arena_init(&a, 4 * MIB);
 *     token_list t;
 *     TRY(analyze(&a, STR("Café #Zürich, don't!"), &t));
 *     // cafe@0 #zurich@1 zurich@1(alt) don't@2
 *
 * Rules
 *  - A word is a run of letters, digits and marks; an apostrophe between letters stays inside
 *    (don't, l'eau). "_" joins as a letter does.
 *  - Terms are folded: compatibility forms, case and accents go (NFKD, case folding, without
 *    combining marks): search "cafe" finds "CAFÉ", and "file" finds "ﬁle".
 *  - Han, Hiragana, Katakana, Hangul, and the Thai, Lao, Khmer and Myanmar scripts (which write
 *    no spaces) become overlapping pairs of characters; a character alone is a term by itself.
 *  - An emoji is a term (with its skin tone and variation selector taken off); "👍👍" is two.
 *  - "#tag" gives "#tag" and, at the same position, "tag" (alt); "@name" the same. So a search
 *    for the word finds the tag, and a search for "#tag" prefers or, by the first token alone,
 *    demands it.
 *  - A URL gives the words of its host and path ("https", "www" and the query string do not
 *    count).
 *  - English plural and possessive endings are taken off ASCII words (cats: cat, movies: movie,
 *    companies: company; docs/words.md has the measurement); nothing else is stemmed and there are
 *    no stop words.
 *  - Invalid UTF-8 separates words; it never fails.
 *
 * Limits: a term is at most ANALYZE_TERM_MAX bytes (longer words are cut between code points), a
 * text at most ANALYZE_TOKENS_MAX tokens (what comes after is left out and `cut` is set).
 * Threads: no state; safe from any thread, an arena per thread. Errors: ERR_NO_MEMORY when the
 * arena is full, ERR_TOO_LARGE when the text is over ANALYZE_TEXT_MAX bytes.
 */
#ifndef KITH_INDEX_ANALYZE_H
#define KITH_INDEX_ANALYZE_H

#include "base/base.h"

#define ANALYZE_TERM_MAX   64          /* bytes of a term */
#define ANALYZE_TOKENS_MAX 65535       /* tokens of one text */
#define ANALYZE_TEXT_MAX   (16u << 20) /* bytes of one text */
#define ANALYZE_VERSION    1           /* stored beside what was built with it */

typedef struct token {
    str term;          /* folded, lives in the arena */
    uint32_t position; /* 0, 1, ...; an alt token repeats that of the token before it */
    uint32_t offset;   /* in the text, in bytes: what to highlight */
    uint32_t size;
    bool alt; /* a second form of the token before it; phrases and demands skip it */
} token;

typedef struct token_list {
    token *items;
    size_t count;
    bool cut; /* the text had more tokens than the limit */
} token_list;

/* Tokens in order of position. `out` and what it points at live as long as the arena. */
MUST_USE err analyze(arena *a, str text, token_list *out);

/* Folds one piece of text as `analyze` folds a word, without splitting (for prefixes that a user
 * is typing). At most ANALYZE_TERM_MAX bytes are written; returns their number. */
size_t analyze_fold(str s, char out[ANALYZE_TERM_MAX]);

#endif
