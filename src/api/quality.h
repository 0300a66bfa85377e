/* quality: how good the last searches were for those who asked, from what they did with the results.
 *
 *     quality_search(q, search_id, hits);                         // each answer
 *     quality_act(q, search_id, client, ACTION_CLICK, place);      // each interaction
 *     quality_look(q, &now);                                       // for a scrape
 *
 * The last QUALITY_SEARCHES searches are kept, as hashes and small numbers: no query, no id of a
 * person. Ratios are over those that were seen (that had an impression); a search without a click counts
 * as abandoned when it is older than QUALITY_SETTLE_MS, and as reformulated when the same client
 * searched again within QUALITY_AGAIN_MS.
 * Threads: any.
 */
#ifndef KITH_API_QUALITY_H
#define KITH_API_QUALITY_H

#include "base/base.h"
#include "os/os.h"

enum { QUALITY_SEARCHES = 4096, QUALITY_SETTLE_MS = 60000, QUALITY_AGAIN_MS = 60000 };

typedef struct quality quality;
MUST_USE err quality_new(quality **out);
void quality_free(quality *q);

void quality_search(quality *q, str search_id, size_t hits, int64_t now_ms);
void quality_act(quality *q, str search_id, str client, unsigned action, int32_t place);

typedef struct quality_view {
    uint64_t searches, seen;
    double zero, ctr_1, ctr_10, mrr, abandoned, reformulated; /* 0 to 1 */
} quality_view;
void quality_look(quality *q, int64_t now_ms, quality_view *out);

#endif
