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

#include "base/arena.h"
#include "base/base64.h"
#include "base/bits.h"
#include "base/def.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/utf8.h"

#endif
