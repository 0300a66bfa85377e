/* Cursors. The text is hostile input: length and alphabet are checked first, then the checksum, so
 * that damage of any kind is told apart from a cursor of another request, and then every number on
 * its own, because a checksum is no proof of good will. Documents must ascend strictly, which makes
 * the encoding of a set unique and the decoder free of duplicates.
 *
 * CRC-32C is enough here: a forged cursor can only leave out documents from its own asker's list or
 * move the `as_of` of their own filter, neither of which shows anything that the filter hides.
 */
#include "search/cursor.h"

enum { CURSOR_VERSION = 1, CURSOR_HEAD = 9, CURSOR_CRC = 4, VARINT_MAX = 10 };

static err bad(const char *why) {
    return err_set_field(ERR_INVALID, "cursor", "expected next_cursor of an answer: %s", why);
}

static err decode(arena *a, str s, uint8_t **out, size_t *n) {
    uint32_t rest;
    if (s.len % 4 == 1) return bad("it is cut");
    uint8_t *p = arena_alloc(a, s.len / 4 * 3 + 3);
    if (!p) return ERR_NO_MEMORY;
    if (!base64_decode(s, BASE64_URL, p, &rest)) return bad("it holds a character that none has");
    if (rest) return bad("it is damaged");
    *out = p;
    *n = s.len * 3 / 4;
    return OK;
}

/* ---- the cursor ------------------------------------------------------------------------- */

static void sort_docs(uint32_t *d, size_t n) { /* Shell's, gaps of Ciura: n is at most 1,000 */
    static const size_t gaps[] = {701, 301, 132, 57, 23, 10, 4, 1};
    for (size_t g = 0; g < COUNT_OF(gaps); g++)
        for (size_t i = gaps[g]; i < n; i++) {
            uint32_t v = d[i];
            size_t j = i;
            for (; j >= gaps[g] && d[j - gaps[g]] > v; j -= gaps[g]) d[j] = d[j - gaps[g]];
            d[j] = v;
        }
}

err cursor_encode(search_cursor *c, arena *a, str *out) {
    KITH_ASSERT(c->count <= SEARCH_DEPTH_MAX);
    uint8_t *p = arena_alloc(a, CURSOR_HEAD + (3 + c->count) * VARINT_MAX + CURSOR_CRC);
    if (!p) return ERR_NO_MEMORY;
    sort_docs(c->docs, c->count);
    p[0] = CURSOR_VERSION;
    le64_put(p + 1, c->request);
    size_t n = CURSOR_HEAD;
    n += varint_put(p + n, c->as_of);
    n += varint_put(p + n, (uint64_t)c->now_ms);
    n += varint_put(p + n, c->count);
    uint32_t last = 0;
    for (size_t i = 0; i < c->count; i++) {
        KITH_ASSERT(i == 0 || c->docs[i] > last);
        n += varint_put(p + n, c->docs[i] - last);
        last = c->docs[i];
    }
    le32_put(p + n, crc32c(0, p, n));
    n += CURSOR_CRC;
    char *text = arena_alloc(a, BASE64_TEXT_MAX(n));
    if (!text) return ERR_NO_MEMORY;
    *out = str_from(text, base64_encode(p, n, BASE64_URL, text));
    KITH_ASSERT(out->len <= CURSOR_TEXT_MAX);
    return OK;
}

static err read_docs(reader *r, arena *a, search_cursor *out) {
    uint64_t count = reader_varint(r);
    if (r->failed || count > SEARCH_DEPTH_MAX || count > r->left) return bad("it is damaged");
    out->docs = arena_alloc(a, (size_t)count * sizeof *out->docs + 1);
    if (!out->docs) return ERR_NO_MEMORY;
    uint64_t doc = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t step = reader_varint(r);
        if (r->failed || step > UINT32_MAX || (step == 0 && i > 0)) return bad("it is damaged");
        doc += step;
        if (doc >= UINT32_MAX) return bad("it is damaged");
        out->docs[i] = (uint32_t)doc;
    }
    out->count = (size_t)count;
    return r->left == 0 ? OK : bad("it is damaged");
}

err cursor_decode(str text, uint64_t request, arena *a, search_cursor *out) {
    uint8_t *p = NULL;
    size_t n = 0;
    *out = (search_cursor){0};
    if (text.len > CURSOR_TEXT_MAX) return bad("it is too long");
    TRY(decode(a, text, &p, &n));
    if (n < CURSOR_HEAD + CURSOR_CRC) return bad("it is cut");
    n -= CURSOR_CRC;
    if (crc32c(0, p, n) != le32_get(p + n)) return bad("it is damaged");
    reader r = reader_of(p, n);
    if (reader_u8(&r) != CURSOR_VERSION) return bad("it is of another version");
    out->request = reader_u64(&r);
    if (out->request != request) return bad("this one belongs to another query");
    out->as_of = reader_varint(&r);
    uint64_t now = reader_varint(&r);
    if (r.failed || now > TIME_MS_MAX) return bad("it is damaged");
    out->now_ms = (int64_t)now;
    return read_docs(&r, a, out);
}
