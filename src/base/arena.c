/* The arena: a list of blocks, newest first; allocation bumps a pointer in the newest.
 *
 * Blocks double from 4 KiB, so an arena of n bytes holds O(log n) blocks. arena_reset keeps only
 * the largest (the newest is never smaller than those before it, but for one oversized block), so
 * a request arena settles at one block that fits a usual request and then never calls malloc.
 * Under AddressSanitizer overruns inside a block are not seen; tests of parsers use exact copies.
 */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>

enum { BLOCK_MIN = 4096, ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t size, used;
    _Alignas(16) char data[];
};

void arena_init(arena *a, size_t max) {
    *a = (arena){NULL, 0, max};
}

void arena_reset(arena *a) {
    arena_block *keep = a->head;
    for (arena_block *b = a->head; b; b = b->next)
        if (b->size > keep->size) keep = b;
    for (arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        if (b != keep) mem_free(b);
    }
    if (keep) keep->next = NULL, keep->used = 0;
    a->head = keep;
    a->used = 0;
}

void arena_deinit(arena *a) {
    for (arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        mem_free(b);
    }
    a->head = NULL;
    a->used = 0;
}

static arena_block *add_block(arena *a, size_t need) {
    size_t size = a->head ? a->head->size * 2 : BLOCK_MIN;
    if (size > a->max) size = a->max;
    if (size < need) size = need;
    arena_block *b = mem_alloc(sizeof *b + size);
    if (!b) return NULL;
    *b = (arena_block){.next = a->head, .size = size};
    a->head = b;
    return b;
}

void *arena_alloc(arena *a, size_t size) {
    size_t need = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (need < size || need > a->max || a->used > a->max - need) {
        (void)err_set(ERR_NO_MEMORY, "request memory: limit is %zu bytes", a->max);
        return NULL;
    }
    arena_block *b = a->head;
    if (!b || b->size - b->used < need) b = add_block(a, need);
    if (!b) return NULL;
    void *p = b->data + b->used;
    b->used += need;
    a->used += need;
    return p;
}

void *arena_zalloc(arena *a, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return NULL;
    void *p = arena_alloc(a, count * size);
    if (p) memset(p, 0, count * size);
    return p;
}

char *arena_dup(arena *a, str s) {
    char *p = arena_alloc(a, s.len + 1);
    if (!p) return NULL;
    if (s.len) memcpy(p, s.ptr, s.len);
    p[s.len] = 0;
    return p;
}

str arena_printf(arena *a, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (!p) return (str){NULL, 0};
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return (str){p, (size_t)n};
}
