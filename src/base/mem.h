/* The allocator. Only mem.c sees malloc. Every call may fail and return NULL with the detail set;
 * callers return ERR_NO_MEMORY. mem_fail_after(n) makes the n-th later allocation of this process
 * fail (0: off), which is how tests reach every such path.
 */
#ifndef KITH_BASE_MEM_H
#define KITH_BASE_MEM_H

#include "base/def.h"
#include "base/err.h"

MUST_USE void *mem_alloc(size_t size);                /* not zeroed */
MUST_USE void *mem_zalloc(size_t count, size_t size); /* zeroed, overflow-checked */
MUST_USE void *mem_realloc(void *p, size_t size);     /* on failure `p` is untouched */
/* align a power of two; freed by mem_free. Aligned to 2 MiB or more it is backed by huge pages. */
MUST_USE void *mem_aligned(size_t align, size_t size);
void mem_free(void *p); /* NULL is fine */
MUST_USE void *mem_dup(const void *p, size_t size);

/* Grows an array so that it holds at least `need` elements of `elem` bytes; capacity doubles.
 * More than `max` elements gives ERR_TOO_LARGE. *items and *cap change only on success. */
MUST_USE err mem_grow(void **items, size_t *cap, size_t need, size_t elem, size_t max);

void mem_fail_after(long n);
uint64_t mem_live_bytes(void); /* bytes now held, as malloc counts them */

#endif
