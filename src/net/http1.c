/* HTTP/1.0 and HTTP/1.1 on a connection.
 *
 * One request at a time: what a client pipelines stays unparsed until the answer before it is out,
 * so order costs nothing. A request goes through: head (read_head), route, body (read_body),
 * dispatch, answer (send_answer), and each step may run again with more bytes, more room or a poke.
 *
 * Invariants
 *  1. Framing is decided once, by http1_parse.c. After a head or chunk that is refused no further
 *     byte of the connection is parsed: it is answered and closed.
 *  2. An answer is sent when the body has been read, or when it will not be read (then the
 *     connection closes behind it). A small unwanted body is read and dropped: a 401 or 404 with
 *     a known, short body keeps its connection.
 *  3. A streamed answer starts as soon as it began, whatever the body does.
 *  4. The first bytes of a connection may be HTTP/2's preface; then it is handed to http2.c for
 *     good. "PRI" is no method here, and Upgrade is not offered (RFC 9113 dropped it).
 */
#include "net/net_int.h"

#include <stdio.h>

static const str PREFACE = STR_INIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/* ---- refusing without a request ---- */

static void refuse_connection(conn *c, int status, const char *detail) {
    loop *l = c->loop;
    char body[512], head[256];
    str text = request_problem(status, detail, body, sizeof(body));
    str date = loop_date(l);
    int n = snprintf(head, sizeof(head),
                     "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\n"
                     "Content-Length: %zu\r\nDate: " STR_FMT "\r\nConnection: close\r\n\r\n",
                     status, net_status_text(status), text.len, STR_ARG(date));
    conn_put(c, str_from(head, (size_t)n));
    conn_put(c, text);
    c->close_after = c->linger = true;
    STAT_ADD(l, status_total[status / 100], 1);
    if (status == 414 || status == 431) {
        STAT_ADD(l, too_large_total, 1);
    } else if (status != 408) {
        STAT_ADD(l, bad_requests_total, 1);
    }
}

/* ---- the head ---- */

static str copy(char **p, str s, bool lower) {
    char *start = *p;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        start[i] = lower && c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    *p += s.len;
    return str_from(start, s.len);
}

/* The head's texts, out of the receive buffer into the request's arena. */
static err keep_head(request *r, const http1_head *h, const conn *c) {
    str peer = str_of(c->peer);
    size_t n = h->header_count;
    size_t bytes = h->method.len + h->path.len + h->query.len + h->host.len + peer.len;
    for (size_t i = 0; i < n; i++) bytes += h->headers[i].name.len + h->headers[i].value.len;
    net_header *to = arena_alloc(&r->mem, n * sizeof(*to) + bytes + 1);
    if (!to) return ERR_NO_MEMORY;
    char *p = (char *)(to + n);
    net_request *q = &r->pub;
    q->method = copy(&p, h->method, false);
    q->path = copy(&p, h->path, false);
    q->query = copy(&p, h->query, false);
    q->host = copy(&p, h->host, false);
    q->peer = copy(&p, peer, false);
    for (size_t i = 0; i < n; i++) {
        to[i].name = copy(&p, h->headers[i].name, true);
        to[i].value = copy(&p, h->headers[i].value, false);
    }
    q->headers = to;
    q->header_count = n;
    q->version = h->minor ? 11 : 10;
    r->head_method = str_eq(h->method, STR("HEAD"));
    r->keep_alive = h->keep_alive;
    r->expect_continue = h->expect_continue;
    r->chunked = h->chunked;
    r->has_length = h->has_length;
    r->length = h->length;
    r->body_done = !h->chunked && h->length == 0;
    return OK;
}

static void begin_request(conn *c, const http1_head *h, bool more_there) {
    request *r = request_new(c);
    if (!r) {
        refuse_connection(c, 503, "out of memory");
        return;
    }
    c->rq = r;
    c->chunks = (http1_chunks){0};
    if (keep_head(r, h, c) != OK) {
        r->keep_alive = false;
        request_refuse(r, 503, "out of memory");
        return;
    }
    request_route(r);
    if (r->answered) {
        r->discard = true;
        return;
    }
    if (r->expect_continue && !r->body_done && !more_there) {
        conn_put(c, STR("HTTP/1.1 100 Continue\r\n\r\n"));
        r->expect_continue = false; /* the body will come */
    }
    if (r->pub.streamed) {
        if (r->body_done) request_stream_in_end(r, OK);
        request_dispatch(r);
    }
}

static bool read_head(conn *c, str *rest) {
    http1_head h;
    size_t used;
    if (rest->len == 0) return false;
    int status = http1_head_parse(*rest, c->head_seen, &h, &used);
    if (status == HTTP1_MORE) {
        if (c->head_seen == 0) c->since_ms = loop_now(c->loop);
        c->head_seen = rest->len;
        return false;
    }
    c->head_seen = 0;
    *rest = str_skip(*rest, used);
    if (status != 0) {
        refuse_connection(c, status, h.detail);
        return false;
    }
    begin_request(c, &h, rest->len > 0);
    return true;
}

/* ---- the body ---- */

/* The body cannot go on. */
static void break_body(request *r, err rc) {
    r->body_broken = true;
    if (r->pub.streamed && r->dispatched) {
        request_stream_in_end(r, rc);
    } else if (!r->answered && !r->dispatched) {
        r->discard = true;
        buf_drop(&r->body);
        switch (rc) {
        case ERR_TOO_LARGE:
            request_refuse(r, 413, "body over the limit of this path");
            break;
        case ERR_TIMEOUT:
            request_refuse(r, 408, "the body came too slowly");
            break;
        case ERR_INVALID:
            request_refuse(r, 400, "chunked body: bad framing");
            break;
        default:
            request_refuse(r, 503, "no memory for this body now");
        }
    }
}

static err take_bytes(request *r, str bytes, size_t *taken) {
    r->progress_ms = loop_now(r->loop);
    *taken = bytes.len;
    if (r->pub.streamed && r->dispatched && !r->discard) {
        TRY(request_stream_in(r, bytes, taken));
    } else {
        TRY(request_body_add(r, bytes));
    }
    r->rate_bytes += *taken;
    return OK;
}

static void body_over(request *r) {
    r->body_done = true;
    if (r->pub.streamed && r->dispatched && !r->discard) request_stream_in_end(r, OK);
}

static void read_chunked(conn *c, request *r, str *rest) {
    for (;;) {
        str data;
        size_t taken;
        switch (http1_chunks_next(&c->chunks, rest, &data)) {
        case CHUNK_MORE:
            return;
        case CHUNK_BAD:
            break_body(r, ERR_INVALID);
            return;
        case CHUNK_END:
            body_over(r);
            return;
        case CHUNK_DATA:
            break;
        }
        err rc = take_bytes(r, data, &taken);
        if (rc != OK) {
            break_body(r, rc);
            return;
        }
        if (taken < data.len) { /* the handler is slower than the client */
            http1_chunks_unread(&c->chunks, rest, data.len - taken);
            return;
        }
    }
}

static void read_counted(request *r, str *rest) {
    uint64_t left = r->length - r->outcome.bytes_in;
    str data = str_from(rest->ptr, (size_t)MIN(left, (uint64_t)rest->len));
    size_t taken = data.len;
    bool at_once = left == r->length && data.len == r->length && r->length <= OUT_COPY_MAX;
    if (at_once && !r->pub.streamed && !r->discard) { /* the common POST: one copy, no buffer */
        char *p = arena_dup(&r->mem, data);
        if (p) {
            r->pub.body = str_from(p, data.len);
            r->outcome.bytes_in = data.len;
            *rest = str_skip(*rest, data.len);
            r->body_done = true;
            return;
        }
    }
    err rc = take_bytes(r, data, &taken);
    if (rc != OK) {
        break_body(r, rc);
        return;
    }
    *rest = str_skip(*rest, taken);
    if (r->outcome.bytes_in == r->length) body_over(r);
}

static void read_body(conn *c, request *r, str *rest) {
    if (rest->len == 0) return;
    if (r->chunked) {
        read_chunked(c, r, rest);
    } else {
        read_counted(r, rest);
    }
}

/* ---- the answer ---- */

static void finish(conn *c, request *r) {
    bool close = r->closing || !r->body_done;
    c->linger = !r->body_done;
    c->rq = NULL;
    request_finish(r, true);
    c->close_after = close || c->loop->stopping;
    c->since_ms = loop_now(c->loop);
}

static void send_head(conn *c, request *r) {
    bool close = !r->keep_alive || c->loop->stopping || r->aborted;
    if (r->answer.streamed) {
        close |= r->pub.version == 10 && r->answer.has_body; /* its end is the connection's */
    } else {
        close |= !r->body_done;
    }
    r->sending = true;
    r->closing = close;
    conn_put(c, r->answer.head);
    conn_put(c, STR("Date: "));
    conn_put(c, loop_date(c->loop));
    if (close) {
        conn_put(c, STR("\r\nConnection: close\r\n\r\n"));
    } else if (r->pub.version == 10) {
        conn_put(c, STR("\r\nConnection: keep-alive\r\n\r\n"));
    } else {
        conn_put(c, STR("\r\n\r\n"));
    }
}

static void send_whole(conn *c, request *r) {
    str body = r->answer.body;
    r->outcome.bytes_out = body.len;
    if (body.len <= OUT_COPY_MAX) {
        conn_put(c, body);
        return;
    }
    if (c->dead) return;
    c->tail = body;
    conn_flush(c);
}

/* Moves what waits in the stream to the output, as chunks. True when the answer is complete. */
static bool send_stream(conn *c, request *r) {
    char piece[16 * KIB / 2];
    bool chunked = r->pub.version == 11;
    while (!c->dead && conn_pending(c) < OUT_BYTES_HIGH) {
        size_t n = request_stream_out(r, piece, sizeof(piece));
        if (n == 0) return r->answered;
        char line[24];
        int len = snprintf(line, sizeof(line), "%zx\r\n", n);
        if (chunked) conn_put(c, str_from(line, (size_t)len));
        conn_put(c, str_from(piece, n));
        if (chunked) conn_put(c, STR("\r\n"));
        r->outcome.bytes_out += n;
    }
    return false;
}

static void send_stream_end(conn *c, request *r) {
    if (r->aborted) { /* the missing last chunk tells the client */
        conn_flush(c);
        conn_close(c);
        return;
    }
    if (r->pub.version == 11 && r->answer.has_body) {
        conn_put(c, STR("0\r\n"));
        for (size_t i = 0; i < r->answer.trailer_count; i++) {
            conn_put(c, r->answer.trailers[i].name);
            conn_put(c, STR(": "));
            conn_put(c, r->answer.trailers[i].value);
            conn_put(c, STR("\r\n"));
        }
        conn_put(c, STR("\r\n"));
    }
    if (!c->dead) finish(c, r);
}

/* True when the request is over. */
static bool send_answer(conn *c, request *r) {
    if (!r->sending) {
        send_head(c, r);
        if (!r->answer.streamed) send_whole(c, r);
    }
    if (c->dead || c->tail.len) return false;
    if (!r->answer.streamed) {
        finish(c, r);
        return true;
    }
    if (r->answer.has_body ? !send_stream(c, r) : !r->answered) return false;
    if (c->dead) return false;
    send_stream_end(c, r);
    return true;
}

/* Answered before the body is there: is the rest short enough to be read and dropped? */
static bool answer_may_wait(const request *r) {
    return !r->body_broken && !r->chunked && !r->expect_continue && !r->answer.streamed &&
           r->length - r->outcome.bytes_in <= DISCARD_BYTES_MAX;
}

/* ---- the protocol ---- */

/* One step of the current request; true when there may be another. */
static bool serve(conn *c, str *rest) {
    request *r = c->rq;
    if (r->answered) r->discard = true;
    if (!r->body_done && !r->body_broken) read_body(c, r, rest);
    if (r->body_done && !r->dispatched && !r->answered) request_dispatch(r);
    if (!r->answered && !r->begun) return false;
    if (!r->begun && !r->body_done && answer_may_wait(r)) return false;
    return send_answer(c, r);
}

static void advance(conn *c, str *rest) {
    while (!c->dead && !c->close_after && c->tail.len == 0 && conn_pending(c) < OUT_BYTES_HIGH) {
        if (!(c->rq ? serve(c, rest) : read_head(c, rest))) break;
    }
}

static size_t input(conn *c, str in) {
    if (!c->preface_checked) {
        size_t n = MIN(in.len, PREFACE.len);
        if (str_eq(str_from(in.ptr, n), str_from(PREFACE.ptr, n))) {
            if (c->head_seen == 0) c->since_ms = loop_now(c->loop);
            c->head_seen = n;
            if (n < PREFACE.len) return 0;
            if (http2_start(c) == OK) return c->proto->input(c, in);
            conn_close(c);
            return 0;
        }
        c->preface_checked = true;
    }
    str rest = in;
    advance(c, &rest);
    return in.len - rest.len;
}

static bool pump(conn *c) {
    str none = {"", 0};
    advance(c, &none);
    request *r = c->rq;
    if (c->dead || !r) return false;
    if (c->eof && !r->body_done && !r->answered && buf_size(&c->in) == 0) {
        conn_close(c); /* the rest of the body will never come */
        return false;
    }
    /* An answer that is complete and still here wants its end sent, even with nothing waiting. */
    return r->begun && r->sending && (r->answered || request_stream_waiting(r) > 0);
}

static void poked(conn *c, request *r) {
    (void)c, (void)r;
}

static void detach(conn *c) {
    request *r = c->rq;
    c->rq = NULL;
    if (r) request_detach(r);
}

/* What a client pipelines behind a request in flight is not worth much memory. */
static size_t appetite(const conn *c) {
    size_t kept = buf_size(&c->in);
    if (c->close_after) return 0;
    if (c->rq && c->rq->body_done) return kept < READ_AHEAD_MAX ? READ_AHEAD_MAX : 0;
    return kept < IN_KEEP_MAX ? RECV_BYTES : 0;
}

static bool idle(const conn *c) {
    return c->rq == NULL;
}

static void stop(conn *c) {
    if (!c->rq) {
        c->close_after = true;
    } else {
        c->rq->closing = true;
        c->rq->keep_alive = false;
    }
}

/* The client owes us body bytes. */
static void body_tick(conn *c, request *r, uint64_t now) {
    const net_options *o = &c->loop->server->o;
    bool late = now - r->progress_ms > o->body_ms_max;
    if (buf_size(&c->in) > 0) { /* the handler owes us room instead */
        r->progress_ms = r->rate_start_ms = now;
        r->rate_bytes = 0;
        return;
    }
    if (now - r->rate_start_ms >= o->rate_window_ms) {
        late |= r->rate_bytes < (uint64_t)o->rate_bytes_s_min * o->rate_window_ms / 1000;
        r->rate_start_ms = now;
        r->rate_bytes = 0;
    }
    if (!late) return;
    STAT_ADD(c->loop, timeouts_total, 1);
    break_body(r, ERR_TIMEOUT);
    conn_run(c);
}

static void tick(conn *c, uint64_t now) {
    const net_options *o = &c->loop->server->o;
    request *r = c->rq;
    if (r) {
        if (!r->body_done && !r->body_broken) body_tick(c, r, now);
        return;
    }
    if (c->close_after) return;
    uint64_t waited = now - c->since_ms;
    if (buf_size(&c->in) == 0) {
        if (waited > o->idle_ms_max) conn_close(c);
    } else if (waited > o->header_ms_max) {
        STAT_ADD(c->loop, timeouts_total, 1);
        refuse_connection(c, 408, "the request's head came too slowly");
        conn_run(c);
    }
}

const protocol http1_protocol = {
    .input = input,
    .pump = pump,
    .poked = poked,
    .tick = tick,
    .detach = detach,
    .appetite = appetite,
    .idle = idle,
    .stop = stop,
};
