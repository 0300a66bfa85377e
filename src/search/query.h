/* query: what a person typed, taken apart: words, phrases, words to leave out, and operators.
 *
 *     query q;
 *     TRY(query_parse(STR("from:ana \"load balancer\" -nginx before:2024-05 why"), viewer, a, &q));
 *     q.text        "load balancer why"      for the encoder
 *     q.words       load balancer why        for the word index
 *     q.phrases[0]  load balancer            demanded, words in order
 *     q.nots[0]     nginx                    must not occur
 *     q.filter      author_in = {ana}, until_ms = start of May 2024
 *
 * Operators (the name in any case, ASCII): from:NAME (from:me is the viewer), in:CHANNEL,
 * in:thread:ID or thread:ID, tag:NAME, lang:CODE, has:link|media|question|tag|mention,
 * is:post|reply, each also with "-" before it; before: after: during: with a year, a month, a day
 * or (not during) an RFC 3339 time. A value with spaces stands in quotes: from:"Ana M".
 * after:X is from the start of X on, before:X until the start of X, during:X all of X, in UTC.
 * The values of one operator are joined by OR, operators by AND. from:@ana finds ana and @ana, in:#x
 * and tag:#x the same. Values are compared as stored, byte by byte.
 * "a phrase" in straight or curly quotes; -word and -"a phrase". Anything else is plain text: an
 * unknown operator, one without a value, a quote that is never closed.
 *
 * Ownership: all results live in the arena or point into `text` and `viewer`. Threads: no state.
 * Errors: ERR_INVALID with the field "q" (a value that is none: before:tomorrow; too many parts;
 * from:me without a viewer; invalid UTF-8), ERR_TOO_LARGE over SEARCH_QUERY_MAX, ERR_NO_MEMORY.
 */
#ifndef KITH_SEARCH_QUERY_H
#define KITH_SEARCH_QUERY_H

#include "base/base.h"
#include "index/attrs.h"

#define QUERY_VALUES_MAX  64 /* values of one operator */
#define QUERY_PHRASES_MAX 16 /* phrases, and as many phrases to leave out */

typedef struct query_strs {
    str items[QUERY_VALUES_MAX];
    size_t count;
} query_strs;

typedef struct query_phrase {
    const str *words; /* folded, alt tokens left out */
    size_t count;
    str text; /* as typed, without its quotes */
} query_phrase;

typedef struct query {
    str text; /* words and phrases in their order, one space between, for the encoder */
    const str
        *words; /* folded terms of text in order, alt tokens too; a word twice is there twice */
    size_t n_words;
    query_phrase phrases[QUERY_PHRASES_MAX];
    size_t n_phrases;
    query_phrase nots[QUERY_PHRASES_MAX * 2]; /* a word to leave out is a phrase of one word */
    size_t n_nots;
    query_strs from, not_from, in, not_in, thread, not_thread, tag, not_tag, lang, not_lang;
    uint32_t has, not_has; /* ATTRS_… flags: any of; none of */
    uint32_t flags_set, flags_clear;
    bool has_from, has_until;
    int64_t from_ms, until_ms;
    bool is_post, is_reply; /* as typed; both: no restriction */
    str understood;         /* the query printed back; parsing it again gives the same */
} query;

MUST_USE err query_parse(str text, str viewer, arena *a, query *out);

/* The operators as a filter of the attributes; it points into q. */
void query_filter(const query *q, attrs_filter *out);
bool query_filter_empty(const query *q);

/* A flag by the name that has: takes; 0 when there is none such. */
uint32_t query_has_flag(str name);

#endif
