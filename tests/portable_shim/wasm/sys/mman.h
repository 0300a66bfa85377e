/* Advice about pages, which WebAssembly has not. */
#include <stddef.h>
#define MADV_HUGEPAGE 14
static inline int madvise(void *p, size_t n, int advice) {
    (void)p, (void)n, (void)advice;
    return 0;
}
