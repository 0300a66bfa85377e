/* postings: kernels of the words index and of attribute filters over arrays of integers.
 *
 *     const postings_kernels *k = postings_kernels_get();
 *     uint64_t mask = k->equal_u32(column + 64 * w, author);   // bit j: column[64 * w + j]
 *
 * The table is chosen once from cpu_features_get(); the scalar one is the definition.
 */
#ifndef KITH_VEC_POSTINGS_H
#define KITH_VEC_POSTINGS_H

#include "base/base.h"

#define POSTINGS_ID  0x7fffffffu /* a token: its term, */
#define POSTINGS_ALT 0x80000000u /* and a bit that is the owner's */

typedef struct postings_kernels {
    /* Each looks at 64 neighbours and answers with a bit for each. */
    uint64_t (*equal_u32)(const uint32_t *p, uint32_t value);
    uint64_t (*masked_equal_u32)(const uint32_t *p, uint32_t mask, uint32_t value);
    uint64_t (*less_i64)(const int64_t *p, int64_t value); /* p[j] < value */

    /* tf[i] = how many of tokens[0..n) are terms[i], for i < n_terms; n may be 0. The top bit of
     * a token is not looked at; that of a term is 0. */
    void (*count_terms)(const uint32_t *tokens, uint32_t n, const uint32_t *terms, uint32_t n_terms,
                        uint32_t *tf);

    /* Elias and Fano: out[0] = first, and n numbers ascending behind it, out[i] = first + i + (h[i]
     * << width) + low[i]. p[0..size) has the n lows of `width` bits (at most 25), one behind the
     * other, little-endian, then from the next byte on a bit map whose i-th set bit, counted from
     * 1, is bit h[i] + i - 1. When it has too few bits, the rest is as for h 0. out has room for
     * n + 9. */
    void (*unpack)(const uint8_t *p, uint32_t size, uint32_t width, uint32_t first, uint32_t n,
                   uint32_t *out);

    /* to |= planes[0] & planes[1] & ... for n_planes > 0 bitmaps of n_words, a multiple of 4. */
    void (*or_product)(uint64_t *to, const uint64_t *const *planes, uint32_t n_planes,
                       uint32_t n_words);
    /* For each bit i of `bits` (n_words of 32): sums[i] += add. */
    void (*add_bits)(const uint32_t *bits, uint32_t n_words, uint16_t add, uint16_t *sums);
    /* Writes the i < n with sums[i] >= least, ascending; returns how many. n is a multiple of 64.
     */
    uint32_t (*collect)(const uint16_t *sums, uint32_t n, uint16_t least, uint16_t *out);
} postings_kernels;

const postings_kernels *postings_kernels_get(void);

#endif
