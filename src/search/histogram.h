/* histogram: how long things took, in buckets that grow with the value (log-linear: eight to each
 * power of two, so a quantile is at most 12.5 % too high). 1 microsecond to 71 minutes.
 * Threads: adding is lock-free from any thread; reading while others add sees each value or not.
 */
#ifndef KITH_SEARCH_HISTOGRAM_H
#define KITH_SEARCH_HISTOGRAM_H

#include "base/base.h"
#include <stdatomic.h>

enum { HISTOGRAM_SUB = 8, HISTOGRAM_BUCKETS = 31 * HISTOGRAM_SUB };

typedef struct histogram {
    _Atomic uint64_t count[HISTOGRAM_BUCKETS];
} histogram; /* all zero is empty */

void histogram_add(histogram *h, uint64_t us);
uint64_t histogram_count(const histogram *h);
/* The upper bound of the bucket in which the share q (0 to 1) is reached, in microseconds; 0 when
 * empty. */
uint64_t histogram_quantile(const histogram *h, double q);

#endif
