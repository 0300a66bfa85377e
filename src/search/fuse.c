/* Fusion. The usual rules look at the other candidates: reciprocal rank fusion throws the scores away
 * and was the worst of all we tried, min-max scaling makes a post's score depend on which others were
 * found, so that it changes from page to page. This one maps each score by itself.
 *
 * BM25 grows without bound with the number and rarity of matching words. Divided by what the query
 * could reach at most, long questions lose their words' say, though many rare words in common mean
 * more, not less. s / (s + 150) is nearly linear where most scores lie (5 to 60) and bends above, so a
 * post that quotes the whole query cannot drown everything. Cosine is taken as it is, cut at 0:
 * scaling it changes nothing that the weight does not.
 *
 * Explanations add up exactly because the score is computed from the very parts that are shown, in
 * one order, in doubles, with no fused multiply-add (the build says -ffp-contract=off).
 */
#include "search/fuse.h"

#include <math.h>

fuse_weights fuse_weights_of(double meaning, double recency) {
    KITH_ASSERT(meaning >= 0 && meaning <= 1 && recency >= 0 && recency <= 1);
    double rest = 1 - recency;
    return (fuse_weights){
        .words = rest * (1 - meaning), .meaning = rest * meaning, .recency = recency};
}

static fuse_part part(double weight, double normalized) {
    return (fuse_part){normalized, weight * normalized};
}

fuse_result fuse(const fuse_weights *w, const fuse_input *in) {
    double s = in->bm25 > 0 ? (double)in->bm25 : 0;
    double c = in->cosine > 0 ? (double)in->cosine : 0;
    if (in->cosine < -1 && in->bound > 0) c = FUSE_PENDING * MIN(s / in->bound, 1);
    fuse_result r = {.words = part(w->words, s / (s + FUSE_WORDS_HALF)),
                     .meaning = part(w->meaning, MIN(c, 1)),
                     .recency = part(w->recency, in->fresh)};
    r.score = r.words.contribution + r.meaning.contribution + r.recency.contribution;
    return r;
}

double fuse_freshness(int64_t created_ms, int64_t now_ms, double half_life_ms) {
    KITH_ASSERT(half_life_ms > 0);
    if (created_ms >= now_ms) return 1;
    return exp2(-((double)now_ms - (double)created_ms) / half_life_ms);
}
