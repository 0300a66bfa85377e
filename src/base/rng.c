/* xoshiro256** 1.0 (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2018),
 * seeded through SplitMix64 as its authors advise, so that seeds 1, 2, 3 give unrelated sequences.
 * rng_below uses Lemire's multiply-shift with rejection (2019): uniform, usually no division.
 */
#include "base/base.h"

#include <math.h>

void rng_seed(rng *r, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        r->s[i] = hash64_u64(seed);
    }
}

static uint64_t rotl(uint64_t x, int k) {
    return (x << k) | (x >> (64 - k));
}

uint64_t rng_u64(rng *r) {
    uint64_t *s = r->s;
    uint64_t out = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return out;
}

uint32_t rng_below(rng *r, uint32_t n) {
    KITH_ASSERT(n > 0);
    uint64_t m = (rng_u64(r) >> 32) * n;
    if ((uint32_t)m < n) {
        uint32_t floor = (0u - n) % n;
        while ((uint32_t)m < floor) m = (rng_u64(r) >> 32) * n;
    }
    return (uint32_t)(m >> 32);
}

double rng_unit(rng *r) {
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

float rng_normal(rng *r) { /* Box and Muller 1958, one of the pair */
    double u = 1.0 - rng_unit(r), v = rng_unit(r);
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}
