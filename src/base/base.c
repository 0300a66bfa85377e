/* The failed assertion and the error text of each thread.
 *
 * A failed KITH_ASSERT means that kith is wrong about its own state: it prints where and aborts, so
 * that nothing more is acknowledged; the journal then recovers the rest. The error text lives in
 * thread-local storage because it must be writable when memory is exhausted, and because a caller
 * two layers up reads it long after the callee's frame is gone.
 */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local err_text last;

void kith_assert_failed(const char *cond, const char *file, int line) {
    fprintf(stderr, "kith: assertion failed: %s (%s:%d)\n", cond, file, line);
    fflush(stderr);
    abort();
}

/* By way of a copy: what is said may quote what was said last. */
static void say(const char *field, const char *fmt, va_list ap) {
    err_text now;
    vsnprintf(now.detail, sizeof now.detail, fmt, ap);
    snprintf(now.field, sizeof now.field, "%s", field);
    memcpy(last.detail, now.detail, strlen(now.detail) + 1);
    memcpy(last.field, now.field, strlen(now.field) + 1);
}

err err_set(err code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say("", fmt, ap);
    va_end(ap);
    return code;
}

err err_set_field(err code, const char *field, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say(field, fmt, ap);
    va_end(ap);
    return code;
}

const char *err_detail(void) {
    return last.detail;
}
const char *err_field(void) {
    return last.field;
}

err_text err_keep(void) {
    return last;
}
err err_restore(err code, const err_text *kept) {
    last = *kept;
    return code;
}

const char *err_name(err code) {
    static const char *const names[ERR_COUNT] = {
        [OK] = "ok",
        [ERR_INVALID] = "invalid",
        [ERR_UNAUTHENTICATED] = "unauthenticated",
        [ERR_DENIED] = "denied",
        [ERR_NOT_FOUND] = "not_found",
        [ERR_EXISTS] = "exists",
        [ERR_TOO_LARGE] = "too_large",
        [ERR_AGAIN] = "busy",
        [ERR_TIMEOUT] = "timeout",
        [ERR_CANCELLED] = "cancelled",
        [ERR_NO_MEMORY] = "no_memory",
        [ERR_NO_SPACE] = "no_space",
        [ERR_IO] = "io",
        [ERR_CORRUPT] = "corrupt",
        [ERR_UNSUPPORTED] = "unsupported",
        [ERR_INTERNAL] = "internal",
    };
    return (unsigned)code < ERR_COUNT ? names[code] : "unknown";
}
