/* client: a small blocking HTTP client over libcurl, for the command line and for what kith asks of
 * others. One client, one connection kept open, one thread.
 *
 *     http_client *c;
 *     TRY(http_client_open("http://127.0.0.1:8080", token, &c));
 *     http_reply r;
 *     TRY(http_call(c, &(http_ask){.method = "GET", .target = "/v1/status"}, &r));
 *     ... r.status, r.body (valid until the next call) ...
 *     http_client_close(c);
 *
 * Errors: ERR_INVALID (a URL that is none), ERR_AGAIN (nobody listens there), ERR_TIMEOUT, ERR_IO
 * (cut, or a certificate that is not trusted), ERR_TOO_LARGE (an answer over HTTP_REPLY_MAX),
 * ERR_CANCELLED. An HTTP status of 400 or more is no error here.
 */
#ifndef KITH_NET_CLIENT_H
#define KITH_NET_CLIENT_H

#include "base/base.h"

#define HTTP_REPLY_MAX (64 * MIB)

typedef struct http_client http_client;

typedef struct http_ask {
    const char *method;       /* "GET", "POST", ... */
    const char *target;       /* path and query, percent-encoded */
    const char *content_type; /* NULL: no body */
    str body;
    uint32_t timeout_ms;        /* 0: 30,000 */
    const char *const *headers; /* more of them, as "Name: value" */
    size_t header_count;
    const char *ca_file; /* PEM of whom to trust instead of the system's; NULL: the system's */
    const _Atomic bool *cancel; /* may be NULL; the call ends soon after it became true */
} http_ask;

typedef struct http_reply {
    int status;
    str body;
    uint64_t lsn; /* of the header Kith-LSN; 0 when absent */
    str headers;  /* as received, line by line; valid as long as the body */
} http_reply;

/* `token` NULL: no Authorization header. */
MUST_USE err http_client_open(const char *base_url, const char *token, http_client **out);
void http_client_close(http_client *c);
MUST_USE err http_call(http_client *c, const http_ask *ask, http_reply *out);

/* The value of a header of the reply, trimmed, valid as long as the body; ptr NULL when absent. */
str http_reply_header(const http_reply *r, str name);

/* Percent-encodes `s` for a path segment or a query value, into b. */
void http_encode(strbuf *b, str s);

#endif
