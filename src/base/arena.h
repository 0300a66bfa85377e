/* An arena: memory with one lifetime. Allocation is a pointer bump; nothing is freed alone;
 * arena_reset gives it all back and keeps the largest block for the next use.
 * Not for threads: one arena, one owner. Over `max` bytes an allocation fails (NULL).
 */
#ifndef KITH_BASE_ARENA_H
#define KITH_BASE_ARENA_H

#include "base/def.h"
#include "base/str.h"

typedef struct arena_block arena_block;

typedef struct arena {
    arena_block *head; /* newest block */
    size_t used;       /* bytes handed out since the last reset */
    size_t max;        /* ceiling for `used` */
} arena;

void arena_init(arena *a, size_t max);
void arena_reset(arena *a);
void arena_deinit(arena *a);

MUST_USE void *arena_alloc(arena *a, size_t size);                /* 16-byte aligned, not zeroed */
MUST_USE void *arena_zalloc(arena *a, size_t count, size_t size); /* overflow-checked, zeroed */
MUST_USE char *arena_dup(arena *a, str s); /* a copy, NUL-terminated; NULL when out of memory */
/* Printf into the arena; an empty str with ptr NULL when out of memory. */
str arena_printf(arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
