/* The allocator: malloc behind one door.
 *
 * Why a door: tests make the nth allocation fail (mem_fail_after), and every failure leaves one
 * detail text. Nothing is counted per call but that: live bytes come from the C library
 * (mallinfo2), so an allocation costs one predictable branch over malloc.
 */
#include "base/base.h"

#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE (2 * MIB)

static long fail_after; /* atomic; 0: off, else allocations left until the one that fails */

static bool must_fail(void) {
    if (LIKELY(__atomic_load_n(&fail_after, __ATOMIC_RELAXED) == 0)) return false;
    return __atomic_sub_fetch(&fail_after, 1, __ATOMIC_RELAXED) == 0;
}

static void *checked(void *p, size_t size) {
    if (UNLIKELY(!p)) (void)err_set(ERR_NO_MEMORY, "out of memory: no %zu bytes to be had", size);
    return p;
}

void mem_fail_after(long n) {
    __atomic_store_n(&fail_after, n, __ATOMIC_RELAXED);
}

void *mem_alloc(size_t size) {
    return checked(must_fail() ? NULL : malloc(size ? size : 1), size);
}

void *mem_zalloc(size_t count, size_t size) {
    size_t n = count ? count : 1, s = size ? size : 1;
    return checked(must_fail() ? NULL : calloc(n, s), n > SIZE_MAX / s ? SIZE_MAX : n * s);
}

void *mem_realloc(void *p, size_t size) {
    return checked(must_fail() ? NULL : realloc(p, size ? size : 1), size);
}

void *mem_aligned(size_t align, size_t size) {
    size_t rounded = (size + align - 1) & ~(align - 1);
    if (rounded < size) return checked(NULL, size);
    void *p = must_fail() ? NULL : aligned_alloc(align, rounded ? rounded : align);
    /* Random access over many megabytes: huge pages save a page walk each. Advice, no more. */
    if (p && align >= HUGE_PAGE) (void)madvise(p, rounded, MADV_HUGEPAGE);
    return checked(p, size);
}

void mem_free(void *p) {
    free(p);
}

void *mem_dup(const void *p, size_t size) {
    void *q = mem_alloc(size);
    if (q && size) memcpy(q, p, size);
    return q;
}

err mem_grow(void **items, size_t *cap, size_t need, size_t elem, size_t max) {
    if (need <= *cap) return OK;
    if (need > max) return err_set(ERR_TOO_LARGE, "array of %zu items: limit is %zu", need, max);
    size_t want = *cap ? *cap : 8;
    while (want < need) want = want > max / 2 ? max : want * 2;
    if (want > SIZE_MAX / elem) return err_set(ERR_NO_MEMORY, "array of %zu items", want);
    void *p = mem_realloc(*items, want * elem);
    if (!p) return ERR_NO_MEMORY;
    *items = p;
    *cap = want;
    return OK;
}

uint64_t mem_live_bytes(void) {
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}
