/* A log-linear histogram, after the idea of HdrHistogram (Tene). Values below 8 have a bucket each;
 * above, the power of two picks a group and the three bits after the leading one pick the bucket in
 * it. Adding is one relaxed increment: nothing is ordered by these counts, they only have to be
 * complete once the adders are done. Values over the last bucket count in it.
 */
#include "search/histogram.h"

static size_t bucket_of(uint64_t us) {
    if (us < HISTOGRAM_SUB) return (size_t)us;
    unsigned power = 63u - (unsigned)__builtin_clzll(us); /* >= 3 */
    size_t b = (size_t)(power - 2) * HISTOGRAM_SUB + (size_t)((us >> (power - 3)) & 7);
    return MIN(b, HISTOGRAM_BUCKETS - 1);
}

/* The largest value of a bucket. */
static uint64_t bucket_top(size_t b) {
    if (b < HISTOGRAM_SUB) return b;
    unsigned power = (unsigned)(b / HISTOGRAM_SUB) + 2;
    uint64_t sub = b % HISTOGRAM_SUB;
    return ((8 + sub + 1) << (power - 3)) - 1;
}

void histogram_add(histogram *h, uint64_t us) {
    atomic_fetch_add_explicit(&h->count[bucket_of(us)], 1, memory_order_relaxed);
}

uint64_t histogram_count(const histogram *h) {
    uint64_t n = 0;
    for (size_t b = 0; b < HISTOGRAM_BUCKETS; b++)
        n += atomic_load_explicit(&h->count[b], memory_order_relaxed);
    return n;
}

uint64_t histogram_quantile(const histogram *h, double q) {
    uint64_t total = histogram_count(h), seen = 0;
    if (total == 0) return 0;
    double want = q * (double)total;
    for (size_t b = 0; b < HISTOGRAM_BUCKETS; b++) {
        seen += atomic_load_explicit(&h->count[b], memory_order_relaxed);
        if (seen > 0 && (double)seen >= want) return bucket_top(b);
    }
    return bucket_top(HISTOGRAM_BUCKETS - 1);
}
