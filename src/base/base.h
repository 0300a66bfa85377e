/* base: what every module stands on. Pure C, no system calls, no threads, no files.
 *
 * Include this one header; it brings in the small ones beside it:
 *   err.h    error codes and the one detail text of this thread
 *   mem.h    the only allocator: everything may fail, and tests make it fail
 *   arena.h  memory with one lifetime (a request, a batch): allocate freely, reset at once
 *   str.h    text as pointer and length, string builder with a ceiling, strict number parsing
 *   utf8.h   strict UTF-8 validation and decoding
 *   hash.h   64-bit hash, CRC-32C
 *   map.h    hash maps: string to u32, u64 to u32
 *   bits.h   dense bit sets
 *   rng.h    seeded random numbers
 *   io.h     byte writer interface and a bounds-checked little-endian reader
 *   timefmt.h RFC 3339 times
 * json.h (which brings in yyjson) is included on its own by those who need it.
 */
#ifndef KITH_BASE_H
#define KITH_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_USE         __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define NORETURN         __attribute__((noreturn))
#define UNUSED           __attribute__((unused))
#define LIKELY(x)        __builtin_expect(!!(x), 1)
#define UNLIKELY(x)      __builtin_expect(!!(x), 0)
#define COUNT_OF(a)      (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)        ((a) < (b) ? (a) : (b))
#define MAX(a, b)        ((a) > (b) ? (a) : (b))

#define KIB ((size_t)1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)

/* Stays on in production: O(1) checks of our own logic. A failure prints and aborts: a process
 * that is wrong about its own state must not acknowledge anything more. */
#define KITH_ASSERT(cond)                                                                          \
    (LIKELY(cond) ? (void)0 : kith_assert_failed(#cond, __FILE__, __LINE__))

/* Checks that cost more than O(1): debug and sanitizer builds only. */
#ifdef KITH_DEBUG
#define KITH_DCHECK(cond) KITH_ASSERT(cond)
#else
#define KITH_DCHECK(cond) ((void)sizeof(cond))
#endif

NORETURN void kith_assert_failed(const char *cond, const char *file, int line);

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/arena.h"
#include "base/bits.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/map.h"
#include "base/rng.h"
#include "base/timefmt.h"
#include "base/utf8.h"

#endif
