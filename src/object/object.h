/* object: named bytes kept elsewhere: a directory, S3-compatible storage, Google Cloud Storage.
 *
 *     object_store *s;
 *     TRY(object_open("s3://bucket/kith?endpoint=http://127.0.0.1:8333", NULL, &s));
 *     TRY(object_put(s, "journal/0001.kith", bytes, OBJECT_NEW));   // ERR_EXISTS when it is there
 *     TRY(object_get(s, "journal/0001.kith", 64 * MIB, &p, &n));    // mem_free(p)
 *     object_close(s);
 *
 * Targets
 *   dir:PATH                      a directory, made when missing
 *   s3://BUCKET[/PREFIX][?endpoint=URL&region=R]
 *       AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN; AWS_REGION (us-east-1) and
 *       AWS_ENDPOINT_URL stand in for the parameters. Signed by Signature Version 4, paths by bucket.
 *   gs://BUCKET[/PREFIX][?endpoint=URL]
 *       JSON API with the token in KITH_GS_TOKEN, else the metadata server's; or, when
 *       GS_ACCESS_KEY_ID and GS_SECRET_ACCESS_KEY are set, the XML API signed by that HMAC key.
 *
 * Promises: a put is whole or not there. OBJECT_NEW never overwrites (two writers on one dir: target
 * may race). Bytes are checked end to end: the sum goes with the put, the server refuses others, and
 * a get whose sum differs is asked again, then ERR_CORRUPT. Objects over OBJECT_PART go in parts.
 * What may pass (no connection, time-outs, 408, 429, 5xx) is tried `tries` times, with a wait that
 * doubles from 50 ms to 5 s of which a random part is taken; then ERR_AGAIN, ERR_TIMEOUT or ERR_IO.
 *
 * Errors: ERR_INVALID (target, key), ERR_DENIED (401, 403), ERR_NOT_FOUND, ERR_EXISTS, ERR_TOO_LARGE,
 * ERR_CORRUPT; details name the object, never a secret. Keys: 1 to OBJECT_KEY_MAX bytes of
 * A-Z a-z 0-9 . _ - and / between parts; no part begins with a dot.
 * Threads: one store, one thread at a time.
 */
#ifndef KITH_OBJECT_H
#define KITH_OBJECT_H

#include "os/os.h"

#define OBJECT_KEY_MAX 512
#define OBJECT_MAX     (60 * MIB) /* of one object: what the HTTP client takes */
#define OBJECT_PART    (8 * MIB)

typedef struct object_store object_store;

typedef struct object_options {
    unsigned tries;              /* 0: 6 */
    uint32_t timeout_ms;         /* of one request; 0: 30,000 */
    bool (*stopping)(void *ctx); /* asked between tries; true: give up. May be NULL */
    void *ctx;
} object_options;

MUST_USE err object_open(const char *url, const object_options *o, object_store **out);
void object_close(object_store *s);             /* NULL is fine */
const char *object_name(const object_store *s); /* the target without parameters, for messages */

typedef enum object_mode { OBJECT_NEW, OBJECT_REPLACE } object_mode;

MUST_USE err object_put(object_store *s, const char *key, str bytes, object_mode mode);
MUST_USE err object_get(object_store *s, const char *key, size_t max, uint8_t **out, size_t *n);
MUST_USE err object_delete(object_store *s, const char *key); /* fine when it is gone */

typedef struct object_info {
    const char *key; /* borrowed for the call */
    uint64_t size;
} object_info;
/* Every object whose key begins with `prefix`, in bytewise order. `visit` must not call the store. */
MUST_USE err object_list(object_store *s, const char *prefix,
                         err (*visit)(void *ctx, const object_info *o), void *ctx);

#endif
