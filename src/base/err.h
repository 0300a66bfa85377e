/* Errors: a code that callers branch on, and one detail text per thread for people.
 *
 *     err store_open(const char *path, store **out) {
 *         if (!path[0]) return err_set(ERR_INVALID, "data directory: expected a path, got ''");
 *         TRY(file_open(...));
 *         ...
 *
 * Rules: 0 is OK. The detail is written once, where the error is born; layers above forward the
 * code with TRY() and add nothing. The detail is valid until the next err_set of this thread.
 * It may name a file, a field, a limit; it never holds a user's text, a vector or a key.
 */
#ifndef KITH_BASE_ERR_H
#define KITH_BASE_ERR_H

#include "base/def.h"

typedef enum err {
    OK = 0,
    ERR_INVALID,         /* caller's fault: the request is wrong as written (HTTP 400, exit 2) */
    ERR_UNAUTHENTICATED, /* no key, or not a key of ours (401) */
    ERR_DENIED,          /* a good key without this scope (403) */
    ERR_NOT_FOUND,       /* no such post, file, key (404) */
    ERR_EXISTS,          /* it is there already and differs (409) */
    ERR_TOO_LARGE,       /* over a named size limit (413) */
    ERR_AGAIN,           /* busy: a queue is full; try later (503 + Retry-After) */
    ERR_TIMEOUT,         /* the deadline passed (504) */
    ERR_CANCELLED,       /* the asker went away or we are stopping */
    ERR_NO_MEMORY,       /* an allocation failed (503) */
    ERR_NO_SPACE,        /* the disk is full or a memory limit is reached (507) */
    ERR_IO,              /* the world failed: read, write, fsync, socket (500) */
    ERR_CORRUPT,         /* bytes at rest or on the wire are not what was written (500) */
    ERR_UNSUPPORTED,     /* known and not offered here: a version, a codec (501) */
    ERR_INTERNAL,        /* our bug, met where going on is safe (500) */
    ERR_COUNT
} err;

#define ERR_DETAIL_MAX 512
#define ERR_FIELD_MAX  128

/* Records the detail for this thread and returns `code`. Text over 511 bytes is cut. The arguments may be
 * err_detail() and err_field(): a layer that knows more quotes what was said. */
err err_set(err code, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The same, and names the request field at fault ("limit", "posts[3].id"); cut at 127 bytes. */
err err_set_field(err code, const char *field, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The detail and field of this thread's last error: never NULL, "" when none. */
const char *err_detail(void);
const char *err_field(void);

/* Keeps this thread's detail and field over calls that set their own, such as closing what failed:
 *     err_text kept = err_keep();
 *     shard_close(s);
 *     return err_restore(rc, &kept); */
typedef struct err_text {
    char detail[ERR_DETAIL_MAX], field[ERR_FIELD_MAX];
} err_text;
err_text err_keep(void);
err err_restore(err code, const err_text *kept); /* returns `code` */

/* The stable name of a code, for problem documents and logs: "invalid", "not_found", ... */
const char *err_name(err code);

#define TRY(expr)                                    \
    do {                                             \
        err try_rc_ = (expr);                        \
        if (UNLIKELY(try_rc_ != OK)) return try_rc_; \
    } while (0)

/* For functions with one exit: sets `rc` and jumps to `done`. */
#define TRY_GOTO(expr)                     \
    do {                                   \
        rc = (expr);                       \
        if (UNLIKELY(rc != OK)) goto done; \
    } while (0)

#endif
