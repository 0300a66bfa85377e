/* Macros that every header needs: attributes, sizes, assertions. Included through base/base.h. */
#ifndef KITH_BASE_DEF_H
#define KITH_BASE_DEF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_USE          __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define NORETURN          __attribute__((noreturn))
#define UNUSED            __attribute__((unused))
#define LIKELY(x)         __builtin_expect(!!(x), 1)
#define UNLIKELY(x)       __builtin_expect(!!(x), 0)
#define COUNT_OF(a)       (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)         ((a) < (b) ? (a) : (b))
#define MAX(a, b)         ((a) > (b) ? (a) : (b))

#define KIB ((size_t)1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)

/* Stays on in production: O(1) checks of our own logic. A failure prints and aborts: a process
 * that is wrong about its own state must not acknowledge anything more. */
#define KITH_ASSERT(cond) (LIKELY(cond) ? (void)0 : kith_assert_failed(#cond, __FILE__, __LINE__))

/* Checks that cost more than O(1): debug and sanitizer builds only. */
#ifdef KITH_DEBUG
#define KITH_DCHECK(cond) KITH_ASSERT(cond)
#else
#define KITH_DCHECK(cond) ((void)sizeof(cond))
#endif

NORETURN void kith_assert_failed(const char *cond, const char *file, int line);

#endif
