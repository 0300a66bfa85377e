/* Strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing over U+10FFFF. */
#ifndef KITH_BASE_UTF8_H
#define KITH_BASE_UTF8_H

#include "base/def.h"
#include "base/str.h"

/* True when all of `s` is valid; else *bad (may be NULL) is the offset of the first bad byte. */
bool utf8_valid(str s, size_t *bad);
/* Decodes one code point at s.ptr[*pos] and moves *pos behind it. Invalid bytes decode as U+FFFD,
 * one byte at a time, so a loop always ends. *pos must be below s.len. */
uint32_t utf8_next(str s, size_t *pos);
/* Writes cp (a scalar value) and returns its length, 1 to 4. */
size_t utf8_put(uint32_t cp, char out[4]);
size_t utf8_count(str s); /* code points */
/* The longest prefix of at most `max` bytes that does not cut a code point. */
str utf8_cut(str s, size_t max);

#endif
