/* Base64 (RFC 4648): the standard alphabet, written with padding, and the one for URLs, without. */
#ifndef KITH_BASE_BASE64_H
#define KITH_BASE_BASE64_H

#include "base/str.h"

typedef enum base64_alphabet {
    BASE64_STANDARD = 1, /* "+/" */
    BASE64_URL = 2,      /* "-_" */
    BASE64_EITHER = 3    /* only for reading */
} base64_alphabet;

#define BASE64_TEXT_MAX(n) (((n) + 2) / 3 * 4)

/* Writes at most BASE64_TEXT_MAX(n) characters, no NUL; returns how many. */
size_t base64_encode(const void *p, size_t n, base64_alphabet a, char *out);
void base64_add(strbuf *b, const void *p, size_t n, base64_alphabet a);
/* Reads text whose padding was cut off into s.len * 3 / 4 bytes; false when it is none. *rest (may be
 * NULL): the bits behind the last byte, which an encoder leaves 0. */
MUST_USE bool base64_decode(str s, base64_alphabet a, uint8_t *out, uint32_t *rest);

#endif
