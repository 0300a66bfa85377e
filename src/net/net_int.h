/* Inside net: the structs that its files share, and who may touch which field.
 *
 * Life of things
 *   server ── owns loops; one thread each
 *   loop   ── owns connections and a free list of requests; everything of it but `inbox`
 *             is touched by its own thread alone
 *   conn   ── a socket; speaks one `protocol` (HTTP/1 or HTTP/2)
 *   request ── belongs to a loop; `conn` is NULL once the client is gone
 *
 * A request has two halves. Between dispatch and answer (`owned`) a handler thread writes the
 * answer's fields and the loop does not look at them. The hand-over is the inbox: the handler links
 * the request there under inbox_mu with what happened (POKE_…); the loop takes the list under the
 * same lock. After POKE_FINAL the handler never touches the request again, so the loop may free it.
 *
 * Lock order: none are nested. inbox_mu and stream_io.mu are leaves.
 */
#ifndef KITH_NET_INT_H
#define KITH_NET_INT_H

#include "net/http1_parse.h"
#include "net/net.h"

#include <stdatomic.h>
#include <uv.h>

#define RECV_BYTES     (64 * KIB) /* one read, into the loop's buffer */
#define OUT_BYTES_HIGH (64 * KIB) /* more waiting output: stop producing */
#define OUT_COPY_MAX   (16 * KIB) /* smaller bodies are copied behind their head */
#define IN_KEEP_MAX    (64 * KIB) /* unparsed input held by a connection */
#define READ_AHEAD_MAX (4 * KIB)  /* of it while a request is being answered */
#define RING_BYTES_MIN (4 * KIB)
#define DISCARD_BYTES_MAX \
    (64 * KIB) /* rest of an unwanted body that is read to keep a connection */
#define LINGER_BYTES_MAX   (512 * KIB)
#define LINGER_MS_MAX      2000
#define ACCEPT_PAUSE_MS    100 /* after EMFILE */
#define ACCEPT_BATCH       64
#define TURNS_MAX          16  /* rounds of input and output for one event */
#define FREE_REQUESTS_MAX  128 /* kept by a loop for reuse */
#define ARENA_KEEP_MAX     (64 * KIB)
#define ANSWER_HEADERS_MAX 64

typedef struct loop loop;
typedef struct conn conn;
typedef struct request request;
typedef struct h2 h2;

/* Bytes [off, len) of a growing buffer. Zeroed is empty; buf_drop frees. */
typedef struct buf {
    char *ptr;
    size_t off, len, cap;
} buf;

MUST_USE err buf_add(buf *b, str s, size_t max);
MUST_USE err buf_room(buf *b, size_t n, size_t max); /* space for n behind len */
void buf_take(buf *b, size_t n);                     /* n bytes off the front; frees when empty */
void buf_drop(buf *b);
static inline size_t buf_size(const buf *b) {
    return b->len - b->off;
}
static inline str buf_str(const buf *b) {
    return b->ptr ? str_from(b->ptr + b->off, b->len - b->off) : (str){"", 0};
}

/* A bounded queue of bytes between a loop and a handler. */
typedef struct ring {
    char *ptr;
    size_t cap, head, len, max;
} ring;

/* ---- requests ---- */

enum {
    POKE_BEGUN = 1, /* the head of a streamed response is ready */
    POKE_DATA = 2,  /* response bytes wait, or body bytes were taken */
    POKE_FINAL = 4, /* the answer is complete */
    POKE_ABORT = 8  /* with FINAL: cut it off */
};

/* A streamed body or response. */
typedef struct stream_io {
    mutex mu;
    cond cv; /* the handler waits here */
    /* guarded by mu */
    ring in, out;
    bool in_end;     /* no more body */
    err in_rc;       /* why the body broke off */
    bool in_paused;  /* the loop waits for room in `in` */
    size_t in_taken; /* bytes read by the handler, not yet told to the loop */
    bool out_told;   /* the loop knows of waiting output */
    bool gone;       /* client away */
} stream_io;

/* The answer, written by whoever owns the request. */
typedef struct answer {
    int status;
    bool streamed;
    bool has_body;      /* false: HEAD, 204, 304 */
    str head;           /* HTTP/1: status line and headers, without Date, Connection, last CRLF */
    net_header *fields; /* HTTP/2: in lower case */
    size_t field_count;
    str body;
    net_own own;
    net_header *trailers;
    size_t trailer_count;
} answer;

struct request {
    net_request pub; /* first: handlers hold a pointer to it */
    arena mem;
    net_server *server;
    loop *loop;
    request *prev, *next; /* of an HTTP/2 connection; free list */

    /* loop thread */
    conn *conn;
    int32_t stream_id;
    bool head_method; /* HEAD */
    bool expect_continue;
    bool body_done; /* all of it arrived */
    bool discard;   /* drop what comes */
    bool dispatched;
    bool owned;    /* by a handler */
    bool answered; /* the answer is complete */
    bool begun;    /* a streamed answer's head is ready */
    bool sending;  /* its first bytes are with the connection */
    bool aborted;
    bool has_length, chunked, keep_alive;
    bool body_broken; /* it will not be read further */
    bool closing;     /* the connection ends with this answer */
    uint64_t length, body_max;
    buf body;             /* of a whole request too big for the recv buffer */
    uint64_t buffered;    /* our part of server->buffered */
    uint64_t progress_ms; /* last byte of body in or answer out */
    uint64_t rate_start_ms, rate_bytes;
    net_outcome outcome;
    size_t body_sent;                  /* HTTP/2 */
    uint32_t header_bytes, header_cap; /* HTTP/2, while reading */
    int refuse_status;                 /* HTTP/2, while reading */
    const char *refuse_detail;
    /* HTTP/2 */
    bool head_done;
    bool deferred; /* nghttp2 waits for more of the answer */
    bool end_sent;
    bool orphan;       /* the stream is gone, the handler is not */
    size_t uncredited; /* body bytes whose flow-control credit was not given back */

    /* owner (handler), then loop */
    answer answer;
    stream_io *io;    /* set before the handler runs, or by it before POKE_BEGUN */
    size_t body_read; /* net_body_read on a whole body */

    /* guarded by loop->inbox_mu */
    request *inbox_next;
    bool in_inbox;
    unsigned inbox_pokes;

    /* atomic: set by the loop, read by the handler (relaxed: it is a hint) */
    atomic_bool gone;
};

MUST_USE request *request_new(conn *c);
/* Reports the outcome and frees. The request must not be owned. */
void request_finish(request *r, bool complete);
/* The connection is going: frees, or leaves it to the handler's last poke. */
void request_detach(request *r);
/* Tells the handler that its answer is not wanted any more. */
void request_cancel(request *r);
/* Answers from the loop: application/problem+json, Retry-After with 503. */
void request_refuse(request *r, int status, const char *detail);
/* Asks the application's route. */
void request_route(request *r);
/* Gives it to inline_handler, then the pool; may leave it answered (also by 503). */
void request_dispatch(request *r);
/* Room for n more bytes of held body within the server's budget. */
MUST_USE err request_reserve(request *r, size_t n);
/* Adds to the whole body: ERR_TOO_LARGE (limit), ERR_AGAIN (server's budget), ERR_NO_MEMORY. */
MUST_USE err request_body_add(request *r, str bytes);
/* Streamed body: takes what fits; *taken < bytes.len means paused. */
MUST_USE err request_stream_in(request *r, str bytes, size_t *taken);
void request_stream_in_end(request *r, err rc); /* OK: whole */
/* Streamed response: moves at most n bytes out; frees a waiting handler. */
size_t request_stream_out(request *r, char *p, size_t n);
size_t request_stream_waiting(request *r);
size_t request_stream_taken(request *r); /* body bytes the handler took since the last call */
/* A header list in lower case for HTTP/2, plain for HTTP/1; checks names and values. */
MUST_USE err request_copy_headers(request *r, const net_header *in, size_t n, net_header **out);
/* application/problem+json for a refusal outside any request; valid until the next call. */
str request_problem(int status, const char *detail, char *out, size_t cap);

/* ---- connections ---- */

typedef struct protocol {
    size_t (*input)(conn *c, str in);    /* returns the bytes used */
    bool (*pump)(conn *c);               /* produce output; true: more when there is room */
    void (*poked)(conn *c, request *r);  /* r's handler did something; conn_run follows */
    void (*tick)(conn *c, uint64_t now); /* deadlines */
    void (*detach)(conn *c);             /* connection is closing */
    size_t (*appetite)(const conn *c);   /* bytes worth reading now; 0: do not */
    bool (*idle)(const conn *c);         /* between requests */
    void (*stop)(conn *c);               /* finish what is in flight, then close */
} protocol;

extern const protocol http1_protocol, http2_protocol;

typedef struct conn_list {
    conn *head, *tail;
} conn_list;

struct conn {
    uv_poll_t poll;
    loop *loop;
    const protocol *proto;
    conn *prev, *next;
    int fd;
    int events; /* that poll waits for */
    bool listed_idle;
    bool eof;         /* the client sent its last byte */
    bool dead;        /* closed; freed by the loop's next turn */
    bool uncounted;   /* made room for another at connections_max */
    bool close_after; /* close when the output is out */
    bool linger;      /* … and read on for a while, so that the client sees the answer */
    bool lingering;
    bool running; /* inside conn_run: no nesting */
    bool more;    /* the protocol has more output than one turn may send */
    bool poked;   /* in the loop's list of connections to run */
    conn *poked_next;
    buf in;            /* unparsed */
    buf out;           /* to send */
    str tail;          /* to send behind `out`; borrowed */
    uint64_t since_ms; /* idle, head or linger began */
    uint64_t write_ms; /* last progress of output */
    uint64_t rate_start_ms, rate_bytes;
    size_t linger_bytes;

    /* HTTP/1 */
    request *rq;
    http1_chunks chunks;
    size_t head_seen;
    bool preface_checked; /* the first bytes are not HTTP/2's preface */

    h2 *h2;

    bool peer_loopback;
    char peer[64];
};

void conn_accept(loop *l, int fd, const struct sockaddr *peer);
void conn_close(conn *c);
/* Adds to the output. Out of memory closes the connection. */
void conn_put(conn *c, str bytes);
void conn_flush(conn *c);
/* Lets the protocol go on with what is there, sends, and settles. */
void conn_run(conn *c);
static inline size_t conn_pending(const conn *c) {
    return buf_size(&c->out) + c->tail.len;
}
void conn_tick(conn *c, uint64_t now);
void conn_timeout(conn *c); /* counts, and closes */

MUST_USE err http2_start(conn *c);

/* Transport: the only two calls that move bytes. TLS goes here.
 * > 0: bytes moved; 0: end of file (recv); IO_AGAIN: not now; IO_GONE: broken. */
#define IO_AGAIN (-1)
#define IO_GONE  (-2)
ptrdiff_t conn_recv(conn *c, char *p, size_t n);
ptrdiff_t conn_sendv(conn *c, str a, str b);

/* ---- loops ---- */

/* Counters of one loop: written by its thread, read by any (relaxed). */
typedef struct loop_stats {
    _Atomic uint64_t connections_total, connections_rejected, requests_total, requests_h2_total,
        bytes_in_total, bytes_out_total, bad_requests_total, shed_total, too_large_total,
        timeouts_total, cancelled_total, floods_total, accept_errors_total, connections_open,
        connections_idle, requests_open;
    _Atomic uint64_t status_total[6];
} loop_stats;

#define STAT_ADD(l, field, n)                                                             \
    atomic_store_explicit(&(l)->stats.field,                                              \
                          atomic_load_explicit(&(l)->stats.field, memory_order_relaxed) + \
                              (uint64_t)(n),                                              \
                          memory_order_relaxed)

struct loop {
    net_server *server;
    uv_loop_t uv;
    uv_poll_t listener;
    uv_timer_t ticker, accept_pause;
    uv_async_t wake;
    int listen_fd;
    bool has_mutex, has_loop, has_handles, has_listener; /* what is to be taken down */
    bool stopping;
    bool closed;      /* own handles are closing */
    uint64_t stop_ms; /* when stopping: cut off then */
    unsigned connections_max;
    unsigned connection_count;
    conn_list idle, busy; /* idle: longest first */
    request *free_requests;
    size_t free_count;
    size_t owned_count;
    char *recv_buf;
    char date[32]; /* of date_s */
    int64_t date_s;
    uint64_t tick_ms;

    thread thread;
    uv_thread_t tid; /* set by the loop before it accepts */

    mutex inbox_mu;
    /* guarded by inbox_mu */
    request *inbox_head, *inbox_tail;
    bool inbox_signalled;

    atomic_bool stop; /* release by net_server_close, acquire by the loop */
    _Atomic uint32_t grace_ms;

    loop_stats stats;
};

struct net_server {
    net_options o; /* immutable */
    char host[64];
    uint16_t port;
    loop *loops;
    unsigned loops_ready, loops_started;
    _Atomic uint64_t buffered;
};

void loop_poke(request *r, unsigned what); /* any thread */
bool loop_is_current(const loop *l);
str loop_date(loop *l); /* IMF-fixdate, renewed each second */
static inline uint64_t loop_now(loop *l) {
    return uv_now(&l->uv);
}
void loop_list(conn *c, bool idle); /* moves c to the tail of that list */
void loop_unlist(conn *c);

#endif
