/* The reader keeps three words: where, how much is left, and whether anything did not fit. Once it
 * has failed it returns zeros and NULL for good, so a parser reads a whole header, checks `failed`
 * once, and cannot be walked out of its bytes by any length field.
 */
#include "base/base.h"

static err to_strbuf(void *ctx, const void *p, size_t n) {
    strbuf *b = ctx;
    strbuf_add(b, str_from(p, n));
    return b->rc;
}

writer writer_to_strbuf(strbuf *b) {
    return (writer){to_strbuf, b};
}

const uint8_t *reader_bytes(reader *r, size_t n) {
    if (r->failed || n > r->left) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->ptr;
    r->ptr += n;
    r->left -= n;
    return p;
}

const uint8_t *reader_array(reader *r, size_t n, size_t elem) {
    if (elem && n > r->left / elem) {
        r->failed = true;
        return NULL;
    }
    return reader_bytes(r, n * elem);
}

uint8_t reader_u8(reader *r) {
    const uint8_t *p = reader_bytes(r, 1);
    return p ? p[0] : 0;
}

uint16_t reader_u16(reader *r) {
    const uint8_t *p = reader_bytes(r, 2);
    return p ? le16_get(p) : 0;
}

uint32_t reader_u32(reader *r) {
    const uint8_t *p = reader_bytes(r, 4);
    return p ? le32_get(p) : 0;
}

uint64_t reader_u64(reader *r) {
    const uint8_t *p = reader_bytes(r, 8);
    return p ? le64_get(p) : 0;
}

uint64_t reader_varint(reader *r) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = reader_u8(r);
        if (r->failed) return 0;
        if (shift == 63 && b > 1) break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) return v;
    }
    r->failed = true;
    return 0;
}

size_t varint_put(uint8_t out[10], uint64_t v) {
    size_t n = 0;
    for (; v >= 0x80; v >>= 7) out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}
