/* save: a buffered, summed way from a structure to its bytes, for lexical_file.c and attrs_file.c.
 *
 * A file is: magic (8 bytes), version (u32), length of the body (u64), body, CRC-32C of all before
 * it (u32). save_open checks the frame of bytes read back, so that what follows parses bytes that
 * are very likely those written; they are still parsed as hostile. Private to index/.
 */
#ifndef KITH_INDEX_SAVE_H
#define KITH_INDEX_SAVE_H

#include "base/base.h"

enum { SAVE_HEAD = 20, SAVE_TAIL = 4 };

typedef struct save {
    const writer *w; /* NULL: only count */
    uint64_t size;   /* bytes put so far */
    uint32_t crc;
    err rc; /* sticky */
    size_t n;
    uint8_t buf[4096];
} save;

static inline void save_flush(save *s) {
    if (s->w && s->rc == OK) {
        s->crc = crc32c(s->crc, s->buf, s->n);
        s->rc = writer_put(s->w, s->buf, s->n);
    }
    s->n = 0;
}

static inline void save_bytes(save *s, const void *p, size_t n) {
    s->size += n;
    const uint8_t *b = p;
    while (n) {
        if (s->n == sizeof s->buf) save_flush(s);
        size_t part = MIN(n, sizeof s->buf - s->n);
        memcpy(s->buf + s->n, b, part);
        s->n += part;
        b += part;
        n -= part;
    }
}

static inline void save_varint(save *s, uint64_t v) {
    uint8_t b[10];
    save_bytes(s, b, varint_put(b, v));
}

static inline void save_text(save *s, str t) {
    save_varint(s, t.len);
    save_bytes(s, t.ptr, t.len);
}

static inline void save_u32(save *s, uint32_t v) {
    uint8_t b[4];
    le32_put(b, v);
    save_bytes(s, b, sizeof b);
}

static inline void save_head(save *s, const char magic[8], uint32_t version, uint64_t body) {
    uint8_t h[SAVE_HEAD];
    memcpy(h, magic, 8);
    le32_put(h + 8, version);
    le64_put(h + 12, body);
    save_bytes(s, h, sizeof h);
}

static inline err save_end(save *s) {
    save_flush(s);
    uint8_t b[SAVE_TAIL];
    le32_put(b, s->crc);
    if (s->w && s->rc == OK) s->rc = writer_put(s->w, b, sizeof b);
    return s->rc;
}

/* A reader of the body. `what` names the file in errors. */
static inline err save_open(const void *p, size_t size, const char *what, const char magic[8],
                            uint32_t version, reader *body) {
    const uint8_t *b = p;
    if (size < SAVE_HEAD + SAVE_TAIL || memcmp(b, magic, 8) != 0)
        return err_set(ERR_CORRUPT, "%s: not such a file", what);
    if (le32_get(b + 8) != version)
        return err_set(ERR_UNSUPPORTED, "%s: version %u, this program reads %u", what,
                       le32_get(b + 8), version);
    if (le64_get(b + 12) != size - SAVE_HEAD - SAVE_TAIL)
        return err_set(ERR_CORRUPT, "%s: cut or longer than written", what);
    if (le32_get(b + size - SAVE_TAIL) != crc32c(0, b, size - SAVE_TAIL))
        return err_set(ERR_CORRUPT, "%s: checksum differs", what);
    *body = reader_of(b + SAVE_HEAD, size - SAVE_HEAD - SAVE_TAIL);
    return OK;
}

#endif
