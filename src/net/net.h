/* net: an HTTP server that knows nothing of what it serves. HTTP/1.0, HTTP/1.1 and HTTP/2 (with
 * prior knowledge) on one port; strict on the wire, bounded in everything.
 *
 *     static void hello(void *ctx, net_request *rq) {          // on a worker thread
 *         net_header h[] = {{STR("Content-Type"), STR("text/plain; charset=utf-8")}};
 *         net_respond(rq, 200, h, 1, STR("hello\n"), NET_BORROW);
 *     }
 *     net_options o;
 *     net_options_init(&o);
 *     o.handler = hello, o.workers = pool, o.port = 8080;
 *     net_server *s;
 *     TRY(net_server_open(&o, &s));       // returns when it listens
 *     ...
 *     net_server_close(s, 5000);          // then close the pool
 *
 * A request's way. Its head arrives: `route` may refuse it, call it streamed or set its body limit.
 *  - Whole (the default): when the body is there, `inline_handler` is asked on the loop thread; if
 *    it declines, `handler` runs on a worker.
 *  - Streamed: `handler` runs on a worker at once and pulls the body with net_body_read while it
 *    pushes the response with net_respond_begin, net_respond_write and net_respond_end.
 * The worker pool's queue is the admission gate: when it is full the answer is 503 with
 * Retry-After, before any more of the body is read.
 *
 * Ownership. The handler owns its request from the call until it answers (net_respond or
 * net_respond_end), which it does exactly once, from any thread, also after the handler returned.
 * With the answer the request, its texts and its arena are gone. A request that is never answered
 * holds its connection for ever and keeps net_server_close from returning.
 *
 * Threads. route, inline_handler and done run on a loop thread and must not block (a few
 * microseconds). All else about a request is called by the one thread that owns it.
 *
 * When the client goes away, a running handler goes on: net_cancelled tells it, reads and writes of
 * a stream fail with ERR_CANCELLED, and its answer is dropped.
 *
 * Streams in both directions: a client that sends everything before it reads anything may receive
 * at most stream_out_bytes_max of response before the handler blocks in net_respond_write, the body
 * is no longer read and both sides wait until write_ms_max ends it. Read while you send.
 *
 * TLS will stand in conn_recv and conn_sendv (conn.c), and nowhere else.
 *
 * Sources: RFC 9110, 9112, 9113, 6585 (431), 3986; attack notes in docs/net.md.
 */
#ifndef KITH_NET_H
#define KITH_NET_H

#include "base/base.h"
#include "os/os.h"

typedef struct net_server net_server;

typedef struct net_header {
    str name, value;
} net_header;

/* A request as handlers see it. Read only. All texts live in `arena` until the answer. */
typedef struct net_request {
    str method; /* as sent, case-sensitive: "GET" */
    str path;   /* raw, starts with '/' ("*" for OPTIONS *); decode segments by net_path_decode */
    str query;  /* raw, without '?'; empty when absent; iterate by net_query_next */
    str host;   /* Host or :authority; may be empty */
    str body;   /* the whole body; empty when streamed */
    const net_header *headers; /* names in lower case, values trimmed */
    size_t header_count;
    int version; /* 10, 11 or 20 */
    bool streamed;
    bool peer_loopback;
    str peer;          /* "127.0.0.1:40404", "[::1]:40404" */
    uint64_t start_ns; /* monotonic, when the head was complete */
    arena *arena;      /* for the handler's own use too; at most arena_bytes_max */
    void *user;        /* the application's; NULL at first */
} net_request;

/* What `route` decides; pre-filled with the defaults from the options. */
typedef struct net_route {
    bool streamed;
    uint64_t body_bytes_max; /* 0: the default of its kind */
} net_route;

/* What became of a request, for access logs and metrics. */
typedef struct net_outcome {
    int status;                   /* 0: none was sent */
    uint64_t bytes_in, bytes_out; /* of the bodies */
    uint64_t duration_ns;         /* since start_ns */
    bool complete;                /* false: the client went away or was cut off */
} net_outcome;

typedef struct net_options {
    const char *host; /* numeric address or "localhost"; default "127.0.0.1" */
    uint16_t port;    /* 0: any free one, see net_server_port */
    unsigned loops;   /* event loop threads; 1. More share the port by SO_REUSEPORT */
    pool *workers;    /* where handlers run; must outlive the server */
    size_t queue_max; /* shed when pool_queued() is at this; 0: only when the pool refuses */

    void *ctx; /* first argument of all calls below */
    void (*handler)(void *ctx, net_request *rq);
    /* Optional. True: answered, or taken and answered later from any thread. */
    bool (*inline_handler)(void *ctx, net_request *rq);
    /* Optional. May answer at once (net_respond): then the body is not read. */
    void (*route)(void *ctx, net_request *rq, net_route *out);
    /* Optional. After the answer was sent or dropped; rq is valid during the call. */
    void (*done)(void *ctx, const net_request *rq, const net_outcome *outcome);

    uint32_t connections_max;    /* 4096; then idle ones go first, else 503 */
    uint64_t body_bytes_max;     /* 1 MiB, of a whole body; more is 413 */
    uint64_t stream_bytes_max;   /* 64 GiB, of a streamed body */
    uint64_t buffered_bytes_max; /* 256 MiB, of all bodies being held; then 503 */
    size_t stream_in_bytes_max;  /* 256 KiB, of a streamed body waiting for its handler */
    size_t stream_out_bytes_max; /* 1 MiB, of a streamed response waiting for the client */
    size_t arena_bytes_max;      /* 16 MiB a request */
    uint32_t header_ms_max;      /* 10 s from the first byte of a head to its last */
    uint32_t body_ms_max;        /* 30 s without a byte of body */
    uint32_t idle_ms_max;        /* 75 s between requests */
    uint32_t write_ms_max;       /* 30 s without a byte taken by the client */
    uint32_t rate_bytes_s_min;   /* 200 B/s, both ways, over rate_window_ms; 0: none */
    uint32_t rate_window_ms;     /* 10 s */
} net_options;

/* Fixed limits. */
#define NET_HEAD_BYTES_MAX   (32 * KIB) /* request line and headers: 431 */
#define NET_HEADERS_MAX      100        /* 431 */
#define NET_TARGET_BYTES_MAX (8 * KIB)  /* 414 */
#define NET_STREAMS_MAX      100        /* of one HTTP/2 connection */
#define NET_RESETS_MAX       200        /* streams reset in 10 s: ENHANCE_YOUR_CALM */

typedef struct net_stats {
    uint64_t connections_open, connections_idle; /* now */
    uint64_t connections_total, connections_rejected;
    uint64_t requests_total, requests_h2_total, requests_open; /* open: now, with handlers */
    uint64_t bytes_in_total, bytes_out_total;                  /* on the sockets */
    uint64_t status_total[6];                                  /* [2]: 2xx … [5]: 5xx */
    uint64_t bad_requests_total;                               /* refused by the protocol layer */
    uint64_t shed_total;      /* 503: queue, memory or connections exhausted */
    uint64_t too_large_total; /* 413, 414, 431 */
    uint64_t timeouts_total;
    uint64_t cancelled_total;     /* the client went away before its answer */
    uint64_t floods_total;        /* HTTP/2 connections closed for a flood */
    uint64_t buffered_bytes;      /* now, of bodies */
    uint64_t accept_errors_total; /* EMFILE and the like */
} net_stats;

void net_options_init(net_options *o);

/* Binds, starts the loops and returns. ERR_INVALID (an option), ERR_EXISTS (the port is taken),
 * ERR_DENIED (a low port), ERR_NO_MEMORY, ERR_IO. */
MUST_USE err net_server_open(const net_options *o, net_server **out);
uint16_t net_server_port(const net_server *s);
/* Stops accepting, closes idle connections, lets requests finish for `grace_ms`, then cuts the
 * connections and waits for the handlers that still hold a request. Frees s. NULL is fine. */
void net_server_close(net_server *s, uint32_t grace_ms);
void net_server_stats(const net_server *s, net_stats *out); /* any thread */
/* True for 127.0.0.0/8, ::1 and "localhost". */
bool net_host_loopback(const char *host);

/* The first header of this name (any case) or an empty str with ptr NULL. */
str net_header_get(const net_request *rq, str name);

/* How net_respond treats the body's memory. */
typedef enum net_own {
    NET_COPY,   /* copied before net_respond returns */
    NET_BORROW, /* static, or in rq->arena: stays until sent */
    NET_TAKE    /* mem_free'd by net once sent */
} net_own;

/* Answers. Never fails for the caller: with headers that are no headers (a CR in a value) or no
 * memory it sends 500 instead. Content-Length, Date and framing are added here and must not be
 * given. 1xx are not answers. The body of HEAD, 204 and 304 is not sent. */
void net_respond(net_request *rq, int status, const net_header *headers, size_t count, str body,
                 net_own own);

/* True when the answer no longer matters: the client is gone or the server stops. */
bool net_cancelled(const net_request *rq);

/* Streams, on the thread that owns the request. */

/* Blocks until there are bytes; *got is 0 at the end of the body. ERR_CANCELLED, ERR_TIMEOUT,
 * ERR_TOO_LARGE (over its limit), ERR_INVALID (broken framing). Also fine on whole requests. */
MUST_USE err net_body_read(net_request *rq, void *buf, size_t n, size_t *got);
/* Sends the head. ERR_INVALID: bad headers, nothing was sent, answer otherwise. ERR_CANCELLED:
 * still end with net_respond_end. */
MUST_USE err net_respond_begin(net_request *rq, int status, const net_header *headers,
                               size_t count);
/* Copies; blocks while stream_out_bytes_max are waiting. ERR_CANCELLED: stop, and end. */
MUST_USE err net_respond_write(net_request *rq, str bytes);
/* Ends the response and gives up the request. Trailers (HTTP/2, chunked) may be none. */
void net_respond_end(net_request *rq, const net_header *trailers, size_t count);
/* Cuts the response off so that the client sees it is not whole, and gives up the request. */
void net_respond_abort(net_request *rq);

/* Percent-decoding, strict: '%' needs two hex digits, %00 and what is not UTF-8 are ERR_INVALID.
 * *out is `raw` itself when there was nothing to decode. One path segment: %2F gives '/'. */
MUST_USE err net_path_decode(arena *mem, str raw, str *out);

/* key=value pairs of a query or form, '+' is a space.
 *     str rest = rq->query, key, value;
 *     while (rest.len) { TRY(net_query_next(rq->arena, &rest, &key, &value)); ... }
 * Empty pairs ("a=1&&b=2") are skipped: key.len may be 0 for the last. */
MUST_USE err net_query_next(arena *mem, str *rest, str *key, str *value);

/* "Not Found" for 404; "" for a status unknown here. */
const char *net_status_text(int status);

#endif
