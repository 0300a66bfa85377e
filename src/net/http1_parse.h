/* The pure part of HTTP/1: a head or a chunked body out of bytes. No sockets, no memory of its own:
 * everything points into the input. Used by http1.c and the fuzzer.
 */
#ifndef KITH_NET_HTTP1_PARSE_H
#define KITH_NET_HTTP1_PARSE_H

#include "net/net.h"

#define HTTP1_MORE              (-1)
#define HTTP1_CHUNK_LINE_MAX    256        /* bytes of one chunk-size line with its extensions */
#define HTTP1_CHUNK_OVERHEAD    (64 * KIB) /* bytes of extensions in one body */
#define HTTP1_TRAILER_BYTES_MAX (8 * KIB)

typedef struct http1_head {
    str method, path, query, host;
    net_header headers[NET_HEADERS_MAX]; /* names as sent */
    size_t header_count;
    int minor; /* HTTP/1.minor: 0 or 1 */
    bool has_length, chunked;
    bool keep_alive;
    bool expect_continue;
    uint64_t length;    /* Content-Length */
    const char *detail; /* why it is refused */
    /* while parsing */
    bool has_host, close, persist;
} http1_head;

/* 0: complete, *used bytes. HTTP1_MORE: incomplete. Else the status that refuses it, h->detail says
 * why. `seen` bytes of `in` were there at the last call that returned HTTP1_MORE (0 at first): they
 * are not searched again. */
int http1_head_parse(str in, size_t seen, http1_head *h, size_t *used);

typedef enum http1_chunk {
    CHUNK_MORE, /* all input used */
    CHUNK_DATA, /* *data is the next piece of the body */
    CHUNK_END,  /* the body and its trailers are over; *in starts behind them */
    CHUNK_BAD   /* framing is broken: the connection cannot go on */
} http1_chunk;

/* A decoder; starts zeroed. */
typedef struct http1_chunks {
    uint8_t state;
    uint64_t left;       /* of this chunk */
    uint32_t line_bytes; /* of this line */
    uint32_t overhead_bytes;
} http1_chunks;

/* Takes from the front of *in. Call again until MORE, END or BAD. */
http1_chunk http1_chunks_next(http1_chunks *d, str *in, str *data);
/* Gives the last n bytes of the CHUNK_DATA just returned back to *in. */
void http1_chunks_unread(http1_chunks *d, str *in, size_t n);

/* RFC 9110 token: a method or header name. */
bool http1_is_token(str s);
/* A header value: no control bytes but tab. */
bool http1_is_value(str s);
/* What may stand in Host or :authority (also empty). */
bool http1_is_authority(str s);
/* Splits a target of origin form into path and query; false when it has bytes none may have. */
bool http1_target_split(str target, str *path, str *query);

#endif
