/* Dense bit sets over [0, n): arrays of u64 owned by the caller. */
#ifndef KITH_BASE_BITS_H
#define KITH_BASE_BITS_H

#include "base/def.h"

static inline size_t bits_words(size_t n) {
    return (n + 63) / 64;
}
static inline bool bits_get(const uint64_t *b, size_t i) {
    return (b[i >> 6] >> (i & 63)) & 1;
}
static inline void bits_set(uint64_t *b, size_t i) {
    b[i >> 6] |= (uint64_t)1 << (i & 63);
}
static inline void bits_clear(uint64_t *b, size_t i) {
    b[i >> 6] &= ~((uint64_t)1 << (i & 63));
}
static inline size_t bits_count(const uint64_t *b, size_t words) {
    size_t n = 0;
    for (size_t i = 0; i < words; i++) n += (size_t)__builtin_popcountll(b[i]);
    return n;
}

#endif
