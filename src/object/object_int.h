/* What the targets share. Private to object/. */
#ifndef KITH_OBJECT_INT_H
#define KITH_OBJECT_INT_H

#include "net/client.h"
#include "object/object.h"

enum { URL_BYTES = 2048, HEADERS_MAX = 12, QUERY_MAX = 6, ANSWER_NAME_MAX = 256 };

typedef struct object_ops {
    err (*put)(object_store *s, const char *key, str bytes, object_mode mode);
    err (*get)(object_store *s, const char *key, size_t max, uint8_t **out, size_t *n);
    err (*del)(object_store *s, const char *key);
    err (*list)(object_store *s, const char *prefix, err (*visit)(void *ctx, const object_info *o),
                void *ctx);
    void (*close)(object_store *s);
} object_ops;

struct object_store {
    const object_ops *ops;
    object_options o;
    rng random;   /* of the waits */
    bool retried; /* some request of this operation was sent more than once */
    char name[URL_BYTES];
};

/* A target as it is written: scheme://bucket/prefix?endpoint=...&region=... */
typedef struct object_url {
    char bucket[256], prefix[OBJECT_KEY_MAX], endpoint[URL_BYTES], region[64];
} object_url;
MUST_USE err object_url_parse(const char *text, object_url *out);

MUST_USE err object_dir_open(const char *path, object_store **out);
MUST_USE err object_s3_open(const object_url *u, object_store **out);
MUST_USE err object_gs_open(const object_url *u, object_store **out);
/* Google's XML API, signed by an HMAC key; object_s3.c speaks both. */
MUST_USE err object_gs_xml_open(const object_url *u, const char *id, const char *secret,
                                object_store **out);

/* ---- object_http.c ---- */

typedef struct query_pair {
    const char *name, *value;
} query_pair;

typedef struct object_ask {
    const char *method;
    const char *path; /* not encoded: "/bucket/key" */
    const char *last; /* NULL, or one more segment, in which slashes are encoded too */
    query_pair query[QUERY_MAX];
    size_t query_count; /* in bytewise order of their names */
    const char *content_type;
    str body;
    const char *body_hash; /* its SHA-256 in hex, from who has it; NULL: made when it is signed */
    query_pair headers[HEADERS_MAX]; /* lower case names, in bytewise order */
    size_t header_count;
    const char *what; /* the key, for messages */
} object_ask;

/* Adds what proves who asks: headers in `out` (arena `a`), for one try. */
typedef err (*object_sign)(void *ctx, const object_ask *ask, arena *a, const char **headers,
                           size_t *count);

typedef struct object_http {
    http_client *client;
    object_sign sign;
    void *sign_ctx;
    object_store *store;
} object_http;

/* Sends, with tries; a final answer of 400 or more becomes an error, but 308. */
MUST_USE err object_call(object_http *h, const object_ask *ask, http_reply *out);
/* Path and query as they are sent and signed. */
void object_encode_path(strbuf *b, const char *path);
void object_encode_query(strbuf *b, const query_pair *q, size_t n);
/* A copy of the body, at most max. */
MUST_USE err object_take_body(const http_reply *r, const char *key, size_t max, uint8_t **out,
                              size_t *n);

/* ---- sigv4.c ---- */

typedef struct sigv4 {
    const char *id, *secret, *region;
    bool google; /* GOOG4 names instead of AWS4 */
} sigv4;

/* The Authorization header for a request. `headers`: all that are signed, sorted, lower case names;
 * body_hash: hex SHA-256 of the body; at: "20150830T123600Z". */
MUST_USE err sigv4_header(const sigv4 *k, const object_ask *ask, const char *body_hash,
                          const char *at, strbuf *out);
void sigv4_hash(str bytes, char hex[65]); /* SHA-256 */
void sigv4_time(int64_t ms, char out[17]);

#endif
