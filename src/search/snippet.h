/* snippet: what to show of a post, and which stretches of it matched.
 *
 *     snippet_term terms[] = {{STR("load"), 2.1f}, {STR("balancer"), 7.3f}};
 *     TRY(snippet_make(text, terms, 2, a, &s));
 *     s.text        the whole text, or of a long one the stretch with the weightiest terms, "…" at cuts
 *     s.ranges      what to mark: byte ranges of s.text, ascending, apart, on the borders of code
 *                   points; of terms that weigh at least SNIPPET_MARK_SHARE of the text's
 *                   heaviest ("to" beside "computer" is noise, alone it is what matched)
 *
 * Ownership: s.text points into `text` or lives in the arena. Threads: no state. Errors:
 * ERR_NO_MEMORY.
 */
#ifndef KITH_SEARCH_SNIPPET_H
#define KITH_SEARCH_SNIPPET_H

#include "base/base.h"

#define SNIPPET_WHOLE_MAX  280 /* bytes; a text up to here is shown whole */
#define SNIPPET_BYTES      240 /* bytes of the stretch shown of a longer one, without "…" */
#define SNIPPET_RANGES_MAX 64
#define SNIPPET_MARK_SHARE 0.3f

typedef struct snippet_term {
    str text;     /* folded, as analyze gives it */
    float weight; /* how much it says: its idf */
} snippet_term;

typedef struct snippet_range {
    uint32_t start, end;
} snippet_range;

typedef struct snippet {
    str text;
    snippet_range *ranges;
    size_t count;
} snippet;

MUST_USE err snippet_make(str text, const snippet_term *terms, size_t n, arena *a, snippet *out);

#endif
