/* The scalar kernels of the words index and of attribute filters: the specification.
 *
 * They are written so that a reader sees what they mean; postings_avx2.c must give the same answers
 * for every input, which postings_test.c checks. Nothing here allocates or fails. The table is a
 * choice between two constants, made from cpu.c's finding, so there is no state.
 */
#include "vec/postings.h"

#include "vec/cpu.h"
#include "vec/postings_int.h"

static uint64_t equal_u32(const uint32_t *p, uint32_t value) {
    uint64_t m = 0;
    for (unsigned j = 0; j < 64; j++) m |= (uint64_t)(p[j] == value) << j;
    return m;
}

static uint64_t masked_equal_u32(const uint32_t *p, uint32_t mask, uint32_t value) {
    uint64_t m = 0;
    for (unsigned j = 0; j < 64; j++) m |= (uint64_t)((p[j] & mask) == value) << j;
    return m;
}

static uint64_t less_i64(const int64_t *p, int64_t value) {
    uint64_t m = 0;
    for (unsigned j = 0; j < 64; j++) m |= (uint64_t)(p[j] < value) << j;
    return m;
}

static void count_terms(const uint32_t *tokens, uint32_t n, const uint32_t *terms, uint32_t n_terms,
                        uint32_t *tf) {
    for (uint32_t i = 0; i < n_terms; i++) {
        uint32_t count = 0;
        for (uint32_t j = 0; j < n; j++) count += (tokens[j] & POSTINGS_ID) == terms[i];
        tf[i] = count;
    }
}

static void unpack(const uint8_t *p, uint32_t size, uint32_t width, uint32_t first, uint32_t n,
                   uint32_t *out) {
    uint32_t low_bits = n * width, high = (low_bits + 7) / 8 * 8, end = size * 8;
    out[0] = first;
    for (uint32_t i = 1; i <= n; i++) {
        uint32_t low = 0, h = 0;
        for (uint32_t j = 0, at = (i - 1) * width; j < width && at < end; j++, at++)
            low |= (uint32_t)(p[at / 8] >> (at & 7) & 1) << j;
        while (high < end && !(p[high / 8] >> (high & 7) & 1)) high++;
        if (high < end) h = high++ - (low_bits + 7) / 8 * 8 - (i - 1);
        out[i] = first + i + (h << width) + low;
    }
}

static void or_product(uint64_t *to, const uint64_t *const *planes, uint32_t n_planes,
                       uint32_t n_words) {
    for (uint32_t w = 0; w < n_words; w++) {
        uint64_t x = planes[0][w];
        for (uint32_t i = 1; i < n_planes; i++) x &= planes[i][w];
        to[w] |= x;
    }
}

static void add_bits(const uint32_t *bits, uint32_t n_words, uint16_t add, uint16_t *sums) {
    for (uint32_t w = 0; w < n_words; w++)
        for (uint32_t m = bits[w]; m; m &= m - 1) {
            uint16_t *s = &sums[w * 32 + (unsigned)__builtin_ctz(m)];
            *s = (uint16_t)(*s + add);
        }
}

static uint32_t collect(const uint16_t *sums, uint32_t n, uint16_t least, uint16_t *out) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i++)
        if (sums[i] >= least) out[found++] = (uint16_t)i;
    return found;
}

const postings_kernels postings_scalar = {equal_u32, masked_equal_u32, less_i64, count_terms,
                                          unpack,    or_product,       add_bits, collect};

const postings_kernels *postings_kernels_get(void) {
#if defined(__x86_64__)
    if (cpu_features_get()->avx2) return &postings_avx2;
#endif
    return &postings_scalar;
}
