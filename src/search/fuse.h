/* fuse: two scores of different kinds made one, so that the parts add up.
 *
 *     score = w_words * s / (s + FUSE_WORDS_HALF) + w_meaning * max(0, cosine) + w_recency * 2^(-age / half-life)
 *
 * s is BM25. Neither part looks at other candidates: a post has the same score on each page, in each
 * order of arrival, and alone. docs/search.md has the rules that were compared and their numbers.
 *
 * A post whose vector is not made yet is given the cosine that its words suggest, FUSE_PENDING times the
 * share of the query's idf that it matched; so what was just written is found near its place.
 *
 * Threads: no state. Weights are not negative and add up to 1.
 */
#ifndef KITH_SEARCH_FUSE_H
#define KITH_SEARCH_FUSE_H

#include "base/base.h"

#define FUSE_WORDS_HALF     150.0 /* the BM25 that counts one half */
#define FUSE_WORDS_RULE     "bm25 / (bm25 + 150)"
#define FUSE_MEANING_WEIGHT 0.35 /* of 1, in hybrid mode */
#define FUSE_MEANING_RULE   "max(0, cosine)"
#define FUSE_PENDING        0.6 /* cosine of a post without a vector that has all the query's words */
#define FUSE_PENDING_RULE   "no vector yet: 0.6 x share of the query's words"
#define FUSE_SIMILAR_WEIGHT 0.5 /* the same for "more like this post" */

typedef struct fuse_weights {
    double words, meaning, recency;
} fuse_weights;

typedef struct fuse_input {
    float bm25;   /* 0: no word in common */
    float cosine; /* below -1: no vector */
    double bound; /* sum of the query's idf; looked at only when there is no vector */
    double fresh; /* 0 to 1 */
} fuse_input;

typedef struct fuse_part {
    double normalized, contribution;
} fuse_part;

typedef struct fuse_result {
    fuse_part words, meaning, recency;
    double score; /* words + meaning + recency, added in this order */
} fuse_result;

/* `meaning` is the share of meaning, `recency` of freshness, each 0 to 1. */
fuse_weights fuse_weights_of(double meaning, double recency);
fuse_result fuse(const fuse_weights *w, const fuse_input *in);
/* 2^(-age / half-life); 1 for what is not older than now. */
double fuse_freshness(int64_t created_ms, int64_t now_ms, double half_life_ms);

#endif
