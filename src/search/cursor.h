/* cursor: where a listing stands, as text that the caller gives back.
 *
 *     search_cursor c = {.request = fingerprint, .as_of = lsn, .now_ms = now, .docs = d, .count = n};
 *     TRY(cursor_encode(&c, a, &text));
 *     TRY(cursor_decode(text, fingerprint, a, &c));
 *
 * It names the journal position of the first page and the documents given so far: later pages take
 * only what was there then and was not given yet. That makes them free of repeats and holes while
 * posts arrive, with no state on the server; the price is two or three bytes a hit.
 * It holds document numbers, never text, and gives no right: filters apply as on the first page.
 *
 * Bytes: version 1, fingerprint u64, as_of, now_ms and count as varints, the documents ascending as
 * varints of differences, CRC-32C of all before; in base64url without padding.
 *
 * Ownership: results live in the arena. Errors: ERR_INVALID with the field "cursor" (damaged, of
 * another version, or made by another request), ERR_NO_MEMORY.
 */
#ifndef KITH_SEARCH_CURSOR_H
#define KITH_SEARCH_CURSOR_H

#include "base/base.h"
#include "search/search.h"

#define CURSOR_TEXT_MAX (8 * KIB)

typedef struct search_cursor {
    uint64_t request; /* hash of what was asked, page size and explanations aside */
    uint64_t as_of;   /* LSN that the first page saw */
    int64_t now_ms;   /* when the first page was asked for: ages count from here */
    uint32_t *docs;   /* given so far; at most SEARCH_DEPTH_MAX, each once */
    size_t count;
} search_cursor;

/* Sorts c->docs. */
MUST_USE err cursor_encode(search_cursor *c, arena *a, str *out);
MUST_USE err cursor_decode(str text, uint64_t request, arena *a, search_cursor *out);

#endif
