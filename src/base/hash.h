/* Hashes for tables and checksums for files; neither is for secrets. */
#ifndef KITH_BASE_HASH_H
#define KITH_BASE_HASH_H

#include "base/def.h"

/* 64-bit hash with good avalanche: table keys, cache keys in memory. Stable across machines
 * (little-endian reads), so it may be stored. */
uint64_t hash64(const void *p, size_t n, uint64_t seed);
static inline uint64_t hash64_u64(uint64_t x) { /* finaliser of SplitMix64 (Steele et al. 2014) */
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
/* CRC-32C (Castagnoli), as in iSCSI (RFC 3720); crc32c("123456789") = 0xe3069283. Continue a sum by
 * passing the value so far; start with 0. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);

#endif
