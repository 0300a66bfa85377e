/* lexical: a live inverted index over the terms of analyze.h, exact top-k BM25.
 *
 *     lexical *ix;
 *     TRY(lexical_new(NULL, &ix));
 *     TRY(analyze(&a, text, &t));
 *     TRY(lexical_insert(ix, doc, t.items, t.count));
 *
 *     lexical_term terms[] = {{STR("semantic"), 1}, {STR("search"), 1}};
 *     lexical_query q = {.terms = terms, .n_terms = 2, .k = 10};
 *     lexical_hit hits[10];
 *     size_t n;
 *     TRY(lexical_search(ix, &q, scratch, hits, &n));
 *
 *     TRY(lexical_delete(ix, doc));   // nothing of it stays: no tombstone, no word
 *
 * Score of document d: the sum over the query's distinct terms t, in the query's order, of
 *     weight(t) * idf(t) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length(d) / average length))
 *     idf(t) = ln(1 + (N - df + 0.5) / (4 * (df + 0.5))) (BM25 of Robertson and Zaragoza 2009;
 *     their idf goes below zero, Lucene's adds 1 inside the logarithm and keeps common words
 *     heavy; the 4 keeps it positive and common words light: docs/words.md), in float, each part
 *     as lexical_explain shows it, so parts add up to the score exactly. tf counts up to
 *     LEXICAL_TF_MAX. A document's length is its number of tokens, alt tokens too. A word given
 *     more than once is one term whose weight is the root of the sum of the squares: twice weighs
 *     1.41. Hits come by score, best first, ties by document number ascending: same index, same
 *     answer.
 *
 * Documents are numbered by the owner; numbers are dense and may be reused after a delete.
 * A phrase demands its words next to each other in order and adds them to the scored terms.
 * A filter is a bit set over documents; it acts inside retrieval, so k hits come when k exist.
 *
 * Ownership: everything passed in is copied or only read during the call; str results point into
 * the index and are valid until the next change. Threads: many readers or one writer (the owner
 * locks); each reader has its own scratch. Failure: insert and delete change nothing when they
 * fail. Errors: ERR_EXISTS, ERR_NOT_FOUND, ERR_INVALID, ERR_TOO_LARGE, ERR_NO_MEMORY, and for load
 * ERR_CORRUPT and ERR_UNSUPPORTED.
 */
#ifndef KITH_INDEX_LEXICAL_H
#define KITH_INDEX_LEXICAL_H

#include "base/base.h"
#include "index/analyze.h"

#define LEXICAL_TF_MAX      255        /* occurrences in one document that count */
#define LEXICAL_DOC_MAX     (1u << 28) /* documents are numbered below this */
#define LEXICAL_TERMS_MAX   256        /* distinct scored terms a query; the rarest are kept */
#define LEXICAL_NOT_MAX     64         /* must-not terms */
#define LEXICAL_PHRASES_MAX 16         /* phrases and must-not phrases, each */
#define LEXICAL_PHRASE_MAX  64         /* words a phrase */
#define LEXICAL_K_MAX       10000

#define LEXICAL_K1 0.9f /* defaults; measured in docs/words.md */
#define LEXICAL_B  0.6f

typedef struct lexical lexical;
typedef struct lexical_scratch lexical_scratch;

typedef struct lexical_options {
    float k1; /* 0 to 10 */
    float b;  /* 0 to 1 */
} lexical_options;

MUST_USE err lexical_new(const lexical_options *options, lexical **out); /* NULL: the defaults */
void lexical_free(lexical *ix);

/* Tokens as analyze gives them; a document of no tokens is fine. ERR_EXISTS when doc is in. */
MUST_USE err lexical_insert(lexical *ix, uint32_t doc, const token *tokens, size_t n);
/* Needs no text: the index knows the document's terms. ERR_NOT_FOUND when doc is not in. */
MUST_USE err lexical_delete(lexical *ix, uint32_t doc);
bool lexical_has(const lexical *ix, uint32_t doc);

/* --- search ------------------------------------------------------------------------------- */

typedef enum lexical_mode {
    LEXICAL_ANY, /* at least one term */
    LEXICAL_ALL  /* every term */
} lexical_mode;

typedef struct lexical_term {
    str text;     /* folded */
    float weight; /* > 0; 1 for a plain word */
} lexical_term;

typedef struct lexical_phrase {
    const str *words; /* folded, without alt tokens */
    size_t count;
} lexical_phrase;

typedef struct lexical_query {
    const lexical_term *terms;
    size_t n_terms;
    const lexical_phrase *phrases; /* all must be in the document */
    size_t n_phrases;
    const lexical_term *must; /* demanded and scored, in either mode */
    size_t n_must;
    const str *nots; /* none may be in the document */
    size_t n_nots;
    const lexical_phrase *not_phrases;
    size_t n_not_phrases;
    lexical_mode mode;
    size_t k;
    const uint64_t *filter; /* bits over [0, filter_docs); NULL: all documents */
    uint32_t filter_docs;   /* documents from here on do not pass */
    uint32_t filter_count;  /* bits set */
} lexical_query;

typedef struct lexical_hit {
    uint32_t doc;
    float score;
} lexical_hit;

MUST_USE lexical_scratch *lexical_scratch_new(void); /* NULL when out of memory */
void lexical_scratch_free(lexical_scratch *s);

/* hits has room for q->k. */
MUST_USE err lexical_search(const lexical *ix, const lexical_query *q, lexical_scratch *s,
                            lexical_hit *hits, size_t *n);

/* What each term adds to the score of one document, in the order they are added. */
typedef struct lexical_part {
    str term; /* the query's */
    float weight, idf;
    uint32_t df, tf;
    float value; /* 0 when the document has not got it */
} lexical_part;
typedef struct lexical_explanation {
    lexical_part parts[LEXICAL_TERMS_MAX];
    size_t n_parts;
    float k1, b, length_mean;
    uint32_t length, docs;
    bool matches; /* the query's demands hold (the filter is not looked at) */
    float score;  /* parts[0].value + parts[1].value + ... in float */
} lexical_explanation;
MUST_USE err lexical_explain(const lexical *ix, const lexical_query *q, lexical_scratch *s,
                             uint32_t doc, lexical_explanation *out);

/* --- terms -------------------------------------------------------------------------------- */

uint32_t lexical_df(const lexical *ix, str term); /* documents with it; 0 when unknown */

typedef struct lexical_suggestion {
    str term;
    uint32_t df;
} lexical_suggestion;
/* Up to `max` terms that start with `prefix`, most documents first, then bytewise. Looks at every
 * term of the dictionary: about 1 ms at 300,000 terms. */
size_t lexical_terms_prefix(const lexical *ix, str prefix, lexical_suggestion *out, size_t max);

/* --- accounting --------------------------------------------------------------------------- */

typedef struct lexical_stats {
    uint32_t docs, terms;
    uint64_t postings, tokens;
    uint64_t bytes_postings;   /* compressed lists with the headers of their blocks */
    uint64_t bytes_sequences;  /* each document's terms in order (positions, phrases, deletes) */
    uint64_t bytes_dictionary; /* words and their table */
    uint64_t bytes_documents;  /* document numbers */
} lexical_stats;
void lexical_stats_get(const lexical *ix, lexical_stats *out); /* O(1) */
/* Of lists so short that they lie in their word's entry, part of bytes_dictionary. O(terms). */
uint64_t lexical_bytes_short(const lexical *ix);

/* --- bytes -------------------------------------------------------------------------------- */

/* The bytes depend on what is in the index, not on how it came there. The owner keeps readers'
 * lock while it runs. */
MUST_USE err lexical_save(const lexical *ix, const writer *w);
/* Everything in `p` is checked: ERR_CORRUPT or a whole index. `p` is not needed afterwards. */
MUST_USE err lexical_load(const void *p, size_t size, lexical **out);

/* Checks every invariant; ERR_INTERNAL with the first that fails. For tests and admin. */
MUST_USE err lexical_validate(const lexical *ix);

#endif
