/* Bytes out and in. A `writer` is where a structure saves itself (a file, a checksum, memory);
 * a `reader` walks untrusted bytes: every read is checked, and the first that does not fit makes
 * it fail for good, so a parser can read a whole header and check once.
 */
#ifndef KITH_BASE_IO_H
#define KITH_BASE_IO_H

#include "base/def.h"
#include "base/err.h"
#include "base/str.h"

typedef struct writer {
    err (*write)(void *ctx, const void *p, size_t n);
    void *ctx;
} writer;

static inline err writer_put(const writer *w, const void *p, size_t n) {
    return n ? w->write(w->ctx, p, n) : OK;
}

/* A writer that appends to a strbuf (whose ceiling holds). */
writer writer_to_strbuf(strbuf *b);

static inline void le16_put(void *p, uint16_t v) {
    uint8_t *b = p;
    b[0] = (uint8_t)v, b[1] = (uint8_t)(v >> 8);
}
static inline void le32_put(void *p, uint32_t v) {
    le16_put(p, (uint16_t)v), le16_put((uint8_t *)p + 2, (uint16_t)(v >> 16));
}
static inline void le64_put(void *p, uint64_t v) {
    le32_put(p, (uint32_t)v), le32_put((uint8_t *)p + 4, (uint32_t)(v >> 32));
}
static inline uint16_t le16_get(const void *p) {
    const uint8_t *b = p;
    return (uint16_t)(b[0] | (b[1] << 8));
}
static inline uint32_t le32_get(const void *p) {
    return le16_get(p) | ((uint32_t)le16_get((const uint8_t *)p + 2) << 16);
}
static inline uint64_t le64_get(const void *p) {
    return le32_get(p) | ((uint64_t)le32_get((const uint8_t *)p + 4) << 32);
}

typedef struct reader {
    const uint8_t *ptr;
    size_t left;
    bool failed;
} reader;

static inline reader reader_of(const void *p, size_t n) {
    return (reader){p, n, false};
}
uint8_t reader_u8(reader *r); /* 0 once failed */
uint16_t reader_u16(reader *r);
uint32_t reader_u32(reader *r);
uint64_t reader_u64(reader *r);
uint64_t reader_varint(reader *r);                /* LEB128, at most 10 bytes */
const uint8_t *reader_bytes(reader *r, size_t n); /* borrowed; NULL once failed */
/* n elements of `elem` bytes, overflow-checked. */
const uint8_t *reader_array(reader *r, size_t n, size_t elem);

size_t varint_put(uint8_t out[10], uint64_t v); /* returns its length */

#endif
