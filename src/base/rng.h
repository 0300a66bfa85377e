/* Seeded random numbers: xoshiro256** (Blackman and Vigna 2018). Same seed, same sequence. Not for
 * secrets. */
#ifndef KITH_BASE_RNG_H
#define KITH_BASE_RNG_H

#include "base/def.h"

typedef struct rng {
    uint64_t s[4];
} rng;

void rng_seed(rng *r, uint64_t seed);
uint64_t rng_u64(rng *r);
uint32_t rng_below(rng *r, uint32_t n); /* uniform in [0, n), n > 0 */
double rng_unit(rng *r);                /* uniform in [0, 1) */
float rng_normal(rng *r);               /* mean 0, variance 1 */

#endif
