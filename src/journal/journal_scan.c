/* Walking the frames of a segment: what recovery, readers and the checker share.
 *
 * A scanner reads through a window of 256 KiB that grows to hold a larger frame; each byte is
 * read about once. It trusts nothing: a size is believed only when header and limits agree, a
 * frame only when its CRC, its number and its place in the chain do.
 *
 * What it never does: look behind `limit`. The owner sets it to the durable end (readers of a live
 * journal) or to the file's size, so bytes that are being written now are not even buffered.
 *
 * Three ends: a clean one (the limit, or a zero word where the next frame would start: reserved
 * space that was never written), a bad frame, and a failing disk. Which of them is harmless is
 * the owner's to decide: only it knows how far the journal was durable.
 */
#include "journal/journal_int.h"

#define SCAN_WINDOW (256 * KIB)
/* Numbers further off than this are not taken for frames when looking behind damage. */
#define SCAN_LSN_SPAN ((uint64_t)1 << 32)

_Static_assert(SCAN_WINDOW > FRAME_HEADER, "a header fits the window");

void scanner_init(scanner *s, file *f, const char *name, uint32_t seed) {
    *s = (scanner){.f = f, .name = name, .seed = seed};
}

void scanner_deinit(scanner *s) {
    mem_free(s->buf);
    *s = (scanner){0};
}

void scanner_seek(scanner *s, const segment_header *h) {
    s->offset = SEGMENT_HEADER;
    s->lsn = h->first_lsn;
    s->prev = h->prev;
    s->chained = true;
}

/* Bytes [offset, offset + n) of the file; *out is NULL when they are not all before the limit. */
static err window(scanner *s, uint64_t offset, size_t n, const uint8_t **out) {
    *out = NULL;
    if (offset > s->limit || n > s->limit - offset) return OK;
    if (offset >= s->at && offset - s->at <= s->len && n <= s->len - (offset - s->at)) {
        *out = s->buf + (offset - s->at);
        return OK;
    }
    size_t want = MAX(n, SCAN_WINDOW);
    if (want > s->cap) {
        uint8_t *p = mem_realloc(s->buf, want);
        if (!p) return ERR_NO_MEMORY;
        s->buf = p;
        s->cap = want;
    }
    want = (size_t)MIN((uint64_t)s->cap, s->limit - offset);
    size_t got = 0;
    s->len = 0;
    TRY(file_pread(s->f, s->buf, want, offset, &got));
    s->at = offset;
    s->len = got;
    if (got >= n) *out = s->buf; /* else the file is shorter than was thought */
    return OK;
}

static err bad(const scanner *s, const char *what) {
    return err_set(ERR_CORRUPT, "journal segment %s: record %llu at offset %llu: %s", s->name,
                   (unsigned long long)s->lsn, (unsigned long long)s->offset, what);
}

static bool all_zero(const uint8_t *p, size_t n) {
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0); /* each equals the one before */
}

/* The header of the next frame: its size and number. ERR_NOT_FOUND at a clean end. */
static err next_header(scanner *s, size_t *bytes, uint64_t *lsn) {
    const uint8_t *p;
    size_t left = (size_t)MIN((uint64_t)FRAME_HEADER, s->limit - MIN(s->offset, s->limit));
    if (left == 0) return ERR_NOT_FOUND;
    TRY(window(s, s->offset, left, &p));
    if (!p) return bad(s, "the file ends before its recorded end");
    if (all_zero(p, MIN(left, (size_t)8))) return ERR_NOT_FOUND;
    if (left < FRAME_HEADER) return bad(s, "its header is cut off");
    *bytes = frame_peek(p, lsn);
    if (*bytes == 0) return bad(s, "its sizes are damaged");
    return OK;
}

err scanner_next(scanner *s, frame *out) {
    size_t bytes;
    uint64_t lsn;
    TRY(next_header(s, &bytes, &lsn));
    const uint8_t *p;
    TRY(window(s, s->offset, bytes, &p));
    if (!p) return bad(s, "it is cut off");
    if (!frame_read(p, bytes, s->seed, out)) return bad(s, "its checksum is wrong");
    if (out->lsn != s->lsn) return bad(s, "another record stands in its place");
    if (s->chained && memcmp(out->prev, s->prev.hash, HASH_BYTES) != 0)
        return bad(s, "it does not continue the hash chain");
    frame_chain(out, &s->prev);
    s->chained = true;
    s->offset += bytes;
    s->lsn++;
    return OK;
}

err scanner_skip_to(scanner *s, uint64_t lsn) {
    while (s->lsn < lsn) {
        size_t bytes;
        uint64_t got;
        TRY(next_header(s, &bytes, &got));
        if (got != s->lsn) return bad(s, "another record stands in its place");
        s->offset += bytes;
        s->lsn++;
        s->chained = false;
    }
    return OK;
}

err scanner_last_used(scanner *s, uint64_t from, uint64_t *out) {
    *out = from;
    for (uint64_t at = from; at < s->limit;) {
        size_t n = (size_t)MIN((uint64_t)SCAN_WINDOW, s->limit - at);
        const uint8_t *p;
        TRY(window(s, at, n, &p));
        if (!p) return OK; /* the file shrank: nothing more to see */
        if (!all_zero(p, n)) {
            size_t i = n;
            while (p[i - 1] == 0) i--;
            *out = at + i;
        }
        at += n;
    }
    return OK;
}

/* A good frame that starts in [from, until). */
static err find_between(scanner *s, uint64_t from, uint64_t until, frame *out, uint64_t *offset) {
    for (uint64_t at = (from + 7) & ~(uint64_t)7; at < until; at += 8) {
        const uint8_t *p;
        TRY(window(s, at, FRAME_HEADER, &p));
        if (!p) return ERR_NOT_FOUND;
        uint64_t got;
        size_t bytes = le32_get(p) ? frame_peek(p, &got) : 0;
        if (bytes == 0 || got < s->lsn || got - s->lsn > SCAN_LSN_SPAN) continue;
        TRY(window(s, at, bytes, &p));
        if (!p || !frame_read(p, bytes, s->seed, out)) continue;
        *offset = at;
        return OK;
    }
    return ERR_NOT_FOUND;
}

err scanner_find(scanner *s, frame *out, uint64_t *offset) {
    uint64_t until;
    TRY(scanner_last_used(s, s->offset, &until)); /* the rest is zeros, mostly: pass it quickly */
    return find_between(s, s->offset + 1, until, out, offset);
}

err scanner_find_later_group(scanner *s, frame *out) {
    uint64_t offset, until, from = s->offset;
    TRY(scanner_last_used(s, from, &until));
    for (;;) {
        TRY(find_between(s, from, until, out, &offset));
        if (out->lsn - out->group_index > s->lsn) return OK;
        from = offset + out->bytes;
    }
}
