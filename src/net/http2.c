/* HTTP/2 on a connection, by nghttp2 (the only file that sees it). Prior knowledge only.
 *
 * nghttp2 does frames, HPACK, flow-control arithmetic and the message rules of RFC 9113 (pseudo
 * headers, forbidden headers, Content-Length against DATA). This file maps streams to requests and
 * adds the ceilings that the library leaves to its user:
 *
 *   streams          NET_STREAMS_MAX open (SETTINGS), and as many more whose stream is gone while
 *                    their handler still runs: a client that resets gains nothing by it
 *   rapid reset      over NET_RESETS_MAX in WINDOW_MS closes. Counted are resets by the client and
 *                    those that its errors made us send (CVE-2023-44487, "MadeYouReset")
 *   chores           PING, SETTINGS, PRIORITY and empty frames: over CHORES_MAX in WINDOW_MS closes
 *   header lists     NET_HEAD_BYTES_MAX and NET_HEADERS_MAX; what is over is counted, not kept, and
 *                    answered 431. CONTINUATION frames are capped by nghttp2
 *   windows          a stream's is stream_in_bytes_max, so a streamed body never outgrows its ring;
 *                    a connection's is CONNECTION_WINDOW. Whole bodies give credit back at once
 *                    (their limit is the body limit), streamed ones when the handler has read
 *   output           nothing is produced beyond OUT_BYTES_HIGH, and input rests meanwhile
 *
 * Invariants
 *  1. A request is in h->streams from its HEADERS until its stream is closed and no handler owns
 *     it.
 *  2. Stream user data is that request, or NULL (refused stream).
 *  3. Callbacks never send: they submit. http2's pump alone takes bytes out of nghttp2.
 *  4. An answer complete before its request's body is followed by RST_STREAM(NO_ERROR) (RFC 9113,
 *     8.1), but EARLY_RESET_MS later: clients that read both at once report the reset and lose the
 *     answer (curl 7.88 does). Until then the client may fill its window; it is dropped.
 */
#include "net/net_int.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>

#define WINDOW_MS         10000
#define CHORES_MAX        1000
#define SLICE_BYTES       ((size_t)1024)
#define EARLY_RESET_MS    500
#define CONNECTION_WINDOW ((int32_t)(1 * MIB))
#define SETTINGS_MAX      16 /* entries of one SETTINGS frame */

struct h2 {
    nghttp2_session *session;
    conn *conn;
    request *streams;
    size_t count; /* of streams */
    uint64_t window_start_ms;
    uint32_t resets, chores; /* in this window */
    bool flooded;
    bool ending; /* GOAWAY is out, or about to be */
    bool broken; /* the client's bytes cannot be understood any more */
    bool inside; /* nghttp2 is on the stack */
};

/* ---- counting floods ---- */

static void count_event(h2 *h, uint32_t *counter, uint32_t max) {
    uint64_t now = loop_now(h->conn->loop);
    if (now - h->window_start_ms > WINDOW_MS) {
        h->window_start_ms = now;
        h->resets = h->chores = 0;
    }
    if (++*counter > max) h->flooded = true;
}

static void end_session(h2 *h, uint32_t code) {
    if (h->ending) return;
    h->ending = true;
    nghttp2_session_terminate_session(h->session, code);
}

/* ---- streams and requests ---- */

static request *request_of(h2 *h, int32_t stream_id) {
    return nghttp2_session_get_stream_user_data(h->session, stream_id);
}

static void link_request(h2 *h, request *r) {
    r->prev = NULL;
    r->next = h->streams;
    if (h->streams) h->streams->prev = r;
    h->streams = r;
    h->count++;
}

static void unlink_request(h2 *h, request *r) {
    *(r->prev ? &r->prev->next : &h->streams) = r->next;
    if (r->next) r->next->prev = r->prev;
    r->prev = r->next = NULL;
    if (--h->count == 0) h->conn->since_ms = loop_now(h->conn->loop);
}

static void reset(h2 *h, request *r, uint32_t code) {
    nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, r->stream_id, code);
}

/* Gives flow-control credit back for n bytes of r's body. */
static void give_credit(h2 *h, request *r, size_t n) {
    n = MIN(n, r->uncredited);
    r->uncredited -= n;
    if (n) nghttp2_session_consume(h->session, r->stream_id, n);
}

/* ---- the answer ---- */

static ssize_t end_of_body(h2 *h, request *r, uint32_t *flags, size_t n) {
    nghttp2_nv nv[ANSWER_HEADERS_MAX];
    size_t count = r->answer.trailer_count;
    if (r->aborted) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* RST_STREAM: it is not whole */
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (count == 0) return (ssize_t)n;
    for (size_t i = 0; i < count; i++) {
        net_header f = r->answer.trailers[i];
        nv[i] = (nghttp2_nv){(uint8_t *)(uintptr_t)f.name.ptr, (uint8_t *)(uintptr_t)f.value.ptr,
                             f.name.len, f.value.len, NGHTTP2_NV_FLAG_NONE};
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    if (nghttp2_submit_trailer(h->session, r->stream_id, nv, count) != 0) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

static ssize_t on_read(nghttp2_session *s, int32_t id, uint8_t *p, size_t max, uint32_t *flags,
                       nghttp2_data_source *source, void *arg) {
    h2 *h = arg;
    request *r = source->ptr;
    size_t n;
    (void)s, (void)id;
    if (r->answer.streamed) {
        n = request_stream_out(r, (char *)p, max);
        r->deferred = n == 0 && !r->answered;
        if (r->deferred) return NGHTTP2_ERR_DEFERRED;
    } else {
        str rest = str_skip(r->answer.body, r->body_sent);
        n = MIN(max, rest.len);
        memcpy(p, rest.ptr, n);
    }
    r->body_sent += n;
    r->outcome.bytes_out += n;
    r->rate_bytes += n;
    r->progress_ms = loop_now(r->loop);
    bool over = r->answer.streamed ? r->answered && request_stream_waiting(r) == 0
                                   : r->body_sent == r->answer.body.len;
    return over ? end_of_body(h, r, flags, n) : (ssize_t)n;
}

static nghttp2_nv field(str name, str value) {
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name.ptr, (uint8_t *)(uintptr_t)value.ptr, name.len,
                        value.len, NGHTTP2_NV_FLAG_NONE};
}

/* Starts the answer, once it is there. */
static void submit(h2 *h, request *r) {
    nghttp2_nv nv[ANSWER_HEADERS_MAX + 3];
    char status[8];
    answer *a = &r->answer;
    if (r->sending || (!r->answered && !r->begun)) return;
    r->sending = true;
    r->progress_ms = r->rate_start_ms = loop_now(r->loop);
    r->rate_bytes = 0;
    size_t n = 0;
    int len = snprintf(status, sizeof(status), "%d", a->status);
    nv[n++] = field(STR(":status"), str_from(status, (size_t)len));
    for (size_t i = 0; i < a->field_count; i++)
        nv[n++] = field(a->fields[i].name, a->fields[i].value);
    nv[n++] = field(STR("date"), loop_date(r->loop));
    nghttp2_data_provider body = {.source.ptr = r, .read_callback = on_read};
    bool with_body = a->has_body && (a->streamed || a->body.len);
    int rc = nghttp2_submit_response(h->session, r->stream_id, nv, n, with_body ? &body : NULL);
    if (rc != 0) {
        reset(h, r, NGHTTP2_INTERNAL_ERROR);
    }
}

/* ---- the request ---- */

/* A body that cannot go on. */
static void break_body(h2 *h, request *r, err rc) {
    r->body_broken = true;
    if (r->pub.streamed && r->dispatched) {
        request_stream_in_end(r, rc);
        return;
    }
    if (r->answered || r->dispatched) return;
    r->discard = true;
    buf_drop(&r->body);
    switch (rc) {
    case ERR_TOO_LARGE:
        request_refuse(r, 413, "body over the limit of this path");
        break;
    case ERR_TIMEOUT:
        request_refuse(r, 408, "the body came too slowly");
        break;
    default:
        request_refuse(r, 503, "no memory for this body now");
    }
    submit(h, r);
}

static void body_over(h2 *h, request *r) {
    if (r->body_done) return;
    r->body_done = true;
    if (r->pub.streamed && r->dispatched) {
        if (!r->body_broken) request_stream_in_end(r, OK);
    } else if (!r->answered && !r->dispatched) {
        request_dispatch(r);
        submit(h, r);
    }
}

static int set_refusal(request *r, int status, const char *detail) {
    if (!r->refuse_status) {
        r->refuse_status = status;
        r->refuse_detail = detail;
    }
    return 0;
}

static err keep_text(request *r, const uint8_t *p, size_t n, str *out) {
    char *copy = arena_alloc(&r->mem, n + 1);
    if (!copy) return ERR_NO_MEMORY;
    if (n) memcpy(copy, p, n);
    *out = str_from(copy, n);
    return OK;
}

static err add_header(request *r, str name, str value) {
    size_t n = r->pub.header_count;
    net_header *list = (net_header *)(uintptr_t)r->pub.headers;
    if (n == r->header_cap) {
        size_t cap = r->header_cap ? r->header_cap * 2 : 16;
        net_header *more = arena_alloc(&r->mem, cap * sizeof(*more));
        if (!more) return ERR_NO_MEMORY;
        if (n) memcpy(more, list, n * sizeof(*more));
        r->pub.headers = list = more;
        r->header_cap = (uint32_t)cap;
    }
    list[n] = (net_header){name, value};
    r->pub.header_count = n + 1;
    return OK;
}

static err keep_field(request *r, str name, const uint8_t *value, size_t len) {
    str v, k;
    TRY(keep_text(r, value, len, &v));
    if (str_eq(name, STR(":method"))) {
        r->pub.method = v;
    } else if (str_eq(name, STR(":path"))) {
        r->pub.path = v; /* split later */
    } else if (str_eq(name, STR(":authority"))) {
        r->pub.host = v;
    } else if (name.ptr[0] != ':') {
        TRY(keep_text(r, (const uint8_t *)name.ptr, name.len, &k));
        TRY(add_header(r, k, v));
    }
    return OK;
}

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg) {
    h2 *h = arg;
    request *r = request_of(h, frame->hd.stream_id);
    (void)s, (void)flags;
    if (!r || frame->hd.type != NGHTTP2_HEADERS) return 0;
    r->header_bytes += (uint32_t)MIN(name_len + value_len + 32, MIB);
    if (r->header_bytes > NET_HEAD_BYTES_MAX) {
        if (r->header_bytes > 16 * NET_HEAD_BYTES_MAX) h->flooded = true; /* an HPACK bomb */
        return set_refusal(r, 431, "header list over 32 KiB");
    }
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0; /* trailers are dropped */
    if (r->pub.header_count >= NET_HEADERS_MAX) return set_refusal(r, 431, "over 100 headers");
    if (name_len == 0) return 0;
    if (keep_field(r, str_from(name, name_len), value, value_len) != OK) {
        return set_refusal(r, 503, "out of memory");
    }
    return 0;
}

/* What RFC 9113 lets pass and we do not. */
static void judge_head(request *r) {
    net_request *q = &r->pub;
    str target = q->path, listed = net_header_get(q, STR("host"));
    if (!http1_is_token(q->method) || q->method.len > 32) {
        set_refusal(r, 400, "bad method");
    } else if (target.len > NET_TARGET_BYTES_MAX) {
        set_refusal(r, 414, "request target over 8 KiB");
    } else if (str_eq(target, STR("*")) && str_eq(q->method, STR("OPTIONS"))) {
        q->query = (str){"", 0};
    } else if (!http1_target_split(target, &q->path, &q->query)) {
        set_refusal(r, 400, "request target: expected a path of visible ASCII without '#'");
    }
    if (listed.ptr && q->host.len && !str_eq_nocase(listed, q->host)) {
        set_refusal(r, 400, "Host and :authority differ");
    }
    if (listed.ptr && q->host.len == 0) q->host = listed;
    if (!http1_is_authority(q->host)) set_refusal(r, 400, "Host: expected host or host:port");
}

/* The head is complete. */
static void begin_request(h2 *h, request *r, bool no_body) {
    net_request *q = &r->pub;
    str empty = {"", 0};
    r->head_done = true;
    q->version = 20;
    if (!q->method.ptr) q->method = empty;
    if (!q->path.ptr) q->path = empty;
    if (!q->host.ptr) q->host = empty;
    q->query = empty;
    if (keep_text(r, (const uint8_t *)h->conn->peer, strlen(h->conn->peer), &q->peer) != OK) {
        set_refusal(r, 503, "out of memory");
    }
    if (!r->refuse_status) judge_head(r);
    r->head_method = str_eq(q->method, STR("HEAD"));
    r->has_length = str_to_u64(net_header_get(q, STR("content-length")), &r->length);
    r->chunked = !r->has_length && !no_body;
    r->body_done = no_body;
    STAT_ADD(r->loop, requests_h2_total, 1);
    if (r->refuse_status) {
        request_refuse(r, r->refuse_status, r->refuse_detail);
    } else {
        request_route(r);
    }
    if (r->answered) {
        r->discard = true;
    } else if (r->pub.streamed) {
        if (no_body) request_stream_in_end(r, OK);
        request_dispatch(r);
    } else if (no_body) {
        request_dispatch(r);
    }
    if (!no_body && !r->answered &&
        str_eq_nocase(net_header_get(q, STR("expect")), STR("100-continue"))) {
        nghttp2_nv nv = field(STR(":status"), STR("100"));
        nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, r->stream_id, NULL, &nv, 1, NULL);
    }
    submit(h, r);
}

/* ---- nghttp2's callbacks ---- */

static int on_begin_headers(nghttp2_session *s, const nghttp2_frame *frame, void *arg) {
    h2 *h = arg;
    int32_t id = frame->hd.stream_id;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    request *r = h->count < 2 * NET_STREAMS_MAX ? request_new(h->conn) : NULL;
    if (!r) {
        STAT_ADD(h->conn->loop, shed_total, 1);
        nghttp2_submit_rst_stream(s, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
        return 0;
    }
    r->stream_id = id;
    link_request(h, r);
    nghttp2_session_set_stream_user_data(s, id, r);
    return 0;
}

static int on_invalid_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name,
                             size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                             void *arg) {
    (void)s, (void)frame, (void)name, (void)name_len, (void)value, (void)value_len, (void)flags;
    (void)arg;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* a reset; by default it drops the field */
}

static int on_frame_recv(nghttp2_session *s, const nghttp2_frame *frame, void *arg) {
    h2 *h = arg;
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    request *r;
    (void)s;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        r = request_of(h, frame->hd.stream_id);
        if (!r) break;
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            begin_request(h, r, end);
        } else if (end) {
            body_over(h, r);
        }
        break;
    case NGHTTP2_DATA:
        r = request_of(h, frame->hd.stream_id);
        if (r && end) body_over(h, r);
        if (!end && frame->hd.length == 0) count_event(h, &h->chores, CHORES_MAX);
        break;
    case NGHTTP2_RST_STREAM:
        count_event(h, &h->resets, NET_RESETS_MAX);
        break;
    case NGHTTP2_PING:
    case NGHTTP2_SETTINGS:
    case NGHTTP2_PRIORITY:
        count_event(h, &h->chores, CHORES_MAX);
        break;
    default:
        break;
    }
    return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *arg) {
    h2 *h = arg;
    request *r = request_of(h, id);
    str bytes = str_from(p, n);
    size_t taken = n;
    err rc;
    (void)flags;
    if (!r || r->body_broken || r->discard) { /* no credit for more of this stream */
        nghttp2_session_consume_connection(s, n);
        return 0;
    }
    r->uncredited += n;
    r->progress_ms = loop_now(r->loop);
    r->rate_bytes += n;
    if (r->pub.streamed && r->dispatched) {
        rc = request_stream_in(r, bytes, &taken);
        if (rc == OK && taken < n) rc = err_set(ERR_AGAIN, "the server's budget is used up");
    } else {
        rc = request_body_add(r, bytes);
        give_credit(h, r, n);
    }
    if (rc != OK) break_body(h, r, rc);
    return 0;
}

static int on_frame_send(nghttp2_session *s, const nghttp2_frame *frame, void *arg) {
    h2 *h = arg;
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    (void)s;
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        uint32_t code = frame->rst_stream.error_code;
        bool ours =
            code == NGHTTP2_NO_ERROR || code == NGHTTP2_REFUSED_STREAM || code == NGHTTP2_CANCEL;
        if (!ours) count_event(h, &h->resets, NET_RESETS_MAX);
    }
    if (!end || (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS)) return 0;
    request *r = request_of(h, frame->hd.stream_id);
    if (!r) return 0;
    r->end_sent = true;
    r->discard = true; /* whatever of the body still comes */
    r->progress_ms = loop_now(r->loop);
    return 0;
}

static int on_stream_close(nghttp2_session *s, int32_t id, uint32_t code, void *arg) {
    h2 *h = arg;
    request *r = nghttp2_session_get_stream_user_data(s, id);
    if (!r) return 0;
    nghttp2_session_set_stream_user_data(s, id, NULL);
    nghttp2_session_consume_connection(s, r->uncredited);
    r->uncredited = 0;
    if (r->owned) { /* its handler's last poke ends it */
        r->orphan = true;
        request_cancel(r);
        return 0;
    }
    unlink_request(h, r);
    request_finish(r, r->end_sent && code == NGHTTP2_NO_ERROR);
    return 0;
}

/* ---- the protocol ---- */

static void flood(h2 *h) {
    h->flooded = false;
    if (h->ending) return;
    STAT_ADD(h->conn->loop, floods_total, 1);
    end_session(h, NGHTTP2_ENHANCE_YOUR_CALM);
}

static void fail_input(h2 *h, ssize_t rc) {
    bool hostile = rc == NGHTTP2_ERR_FLOODED || rc == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS;
    if (hostile) STAT_ADD(h->conn->loop, floods_total, 1);
    STAT_ADD(h->conn->loop, bad_requests_total, 1);
    end_session(h, hostile ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR);
    h->broken = true;
}

/* In slices, so that a flood is seen before all of a large read has been acted on. */
static size_t input(conn *c, str in) {
    h2 *h = c->h2;
    for (str rest = in; rest.len && !h->ending;) {
        size_t n = MIN(rest.len, SLICE_BYTES);
        h->inside = true;
        ssize_t rc = nghttp2_session_mem_recv(h->session, (const uint8_t *)rest.ptr, n);
        h->inside = false;
        if (rc < 0) {
            fail_input(h, rc);
            break;
        }
        if (h->flooded) flood(h);
        rest = str_skip(rest, n);
    }
    return in.len;
}

static bool pump(conn *c) {
    h2 *h = c->h2;
    if (c->close_after) return false;
    while (conn_pending(c) < OUT_BYTES_HIGH) {
        const uint8_t *p;
        h->inside = true;
        ssize_t n = nghttp2_session_mem_send(h->session, &p);
        h->inside = false;
        if (n < 0) {
            conn_close(c);
            return false;
        }
        if (h->flooded) flood(h);
        if (n == 0) {
            bool over =
                !nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session);
            if (over || h->broken || (c->loop->stopping && h->count == 0)) {
                c->close_after = c->linger = true;
            } else if (c->eof) {
                conn_close(c);
            }
            return false;
        }
        conn_put(c, str_from(p, (size_t)n));
        if (c->dead) return false;
    }
    return true;
}

static void poked(conn *c, request *r) {
    h2 *h = c->h2;
    if (r->orphan) {
        if (r->owned) {
            request_cancel(r); /* its stream_io may be new */
            return;
        }
        unlink_request(h, r);
        request_finish(r, false);
        return;
    }
    if (r->pub.streamed) give_credit(h, r, request_stream_taken(r));
    submit(h, r);
    if (r->deferred) {
        r->deferred = false;
        r->progress_ms = r->rate_start_ms = loop_now(r->loop);
        r->rate_bytes = 0;
        nghttp2_session_resume_data(h->session, r->stream_id);
    }
}

static void detach(conn *c) {
    h2 *h = c->h2;
    if (!h) return;
    c->h2 = NULL;
    while (h->streams) {
        request *r = h->streams;
        unlink_request(h, r);
        request_detach(r);
    }
    KITH_ASSERT(!h->inside); /* callbacks only submit */
    nghttp2_session_del(h->session);
    mem_free(h);
}

static size_t appetite(const conn *c) {
    return !c->close_after && conn_pending(c) < OUT_BYTES_HIGH ? RECV_BYTES : 0;
}

static bool idle(const conn *c) {
    return c->h2->count == 0;
}

static void stop(conn *c) {
    h2 *h = c->h2;
    nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR,
                          NULL, 0);
}

static bool rate_too_low(request *r, uint64_t now) {
    const net_options *o = &r->server->o;
    if (now - r->rate_start_ms < o->rate_window_ms) return false;
    bool low = r->rate_bytes < (uint64_t)o->rate_bytes_s_min * o->rate_window_ms / 1000;
    r->rate_start_ms = now;
    r->rate_bytes = 0;
    return low;
}

/* Waiting for the client's window? */
static bool answer_is_stuck(request *r, uint64_t now) {
    if (!r->sending || r->end_sent || r->deferred) return false;
    if (r->answer.streamed && request_stream_waiting(r) == 0) return false;
    return now - r->progress_ms > r->server->o.write_ms_max || rate_too_low(r, now);
}

static bool body_is_late(request *r, uint64_t now) {
    if (r->body_done || r->body_broken || r->answered) return false;
    if (r->pub.streamed && r->uncredited >= r->server->o.stream_in_bytes_max / 2) {
        r->progress_ms = r->rate_start_ms = now; /* the handler is late, not the client */
        r->rate_bytes = 0;
        return false;
    }
    return now - r->progress_ms > r->server->o.body_ms_max || rate_too_low(r, now);
}

/* False when the connection was closed. */
static bool tick_stream(h2 *h, request *r, uint64_t now) {
    const net_options *o = &r->server->o;
    if (!r->head_done) {
        if (now - r->progress_ms <= o->header_ms_max) return true;
        conn_timeout(h->conn);
        return false;
    }
    if (r->end_sent) {
        if (!r->body_done && now - r->progress_ms > EARLY_RESET_MS) reset(h, r, NGHTTP2_NO_ERROR);
    } else if (body_is_late(r, now)) {
        STAT_ADD(r->loop, timeouts_total, 1);
        break_body(h, r, ERR_TIMEOUT);
    } else if (answer_is_stuck(r, now)) {
        STAT_ADD(r->loop, timeouts_total, 1);
        reset(h, r, NGHTTP2_CANCEL);
    }
    return true;
}

static void tick(conn *c, uint64_t now) {
    h2 *h = c->h2;
    const net_options *o = &c->loop->server->o;
    if (h->count == 0 && now - c->since_ms > o->idle_ms_max) end_session(h, NGHTTP2_NO_ERROR);
    for (request *r = h->streams, *next; r; r = next) {
        next = r->next;
        if (!r->orphan && !tick_stream(h, r, now)) return;
    }
    conn_run(c);
}

const protocol http2_protocol = {
    .input = input,
    .pump = pump,
    .poked = poked,
    .tick = tick,
    .detach = detach,
    .appetite = appetite,
    .idle = idle,
    .stop = stop,
};

/* ---- starting ---- */

/* nghttp2's memory comes from ours, so that it is counted and can be made to fail. */
static void *h2_alloc(size_t n, void *arg) {
    (void)arg;
    return mem_alloc(n);
}

static void h2_free(void *p, void *arg) {
    (void)arg;
    mem_free(p);
}

static void *h2_zalloc(size_t n, size_t size, void *arg) {
    (void)arg;
    return mem_zalloc(n, size);
}

static void *h2_realloc(void *p, size_t n, void *arg) {
    (void)arg;
    return mem_realloc(p, n);
}

static err make_session(h2 *h) {
    nghttp2_session_callbacks *calls = NULL;
    nghttp2_option *option = NULL;
    nghttp2_mem mem = {NULL, h2_alloc, h2_free, h2_zalloc, h2_realloc};
    err rc = ERR_NO_MEMORY;
    if (nghttp2_session_callbacks_new(&calls) != 0 || nghttp2_option_new(&option) != 0) goto done;
    nghttp2_session_callbacks_set_on_begin_headers_callback(calls, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(calls, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(calls, on_frame_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_stream_close);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_max_settings(option, SETTINGS_MAX);
    if (nghttp2_session_server_new3(&h->session, calls, h, option, &mem) == 0) rc = OK;
done:
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(calls);
    return rc;
}

err http2_start(conn *c) {
    const net_options *o = &c->loop->server->o;
    h2 *h = mem_zalloc(1, sizeof(*h));
    if (!h) return ERR_NO_MEMORY;
    h->conn = c;
    h->window_start_ms = loop_now(c->loop);
    if (make_session(h) != OK) {
        mem_free(h);
        return ERR_NO_MEMORY;
    }
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, NET_STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)o->stream_in_bytes_max},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, NET_HEAD_BYTES_MAX},
    };
    int rc = nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, COUNT_OF(settings));
    if (rc == 0) {
        rc = nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
                                                   CONNECTION_WINDOW);
    }
    if (rc != 0) {
        nghttp2_session_del(h->session);
        mem_free(h);
        return ERR_NO_MEMORY;
    }
    c->h2 = h;
    c->proto = &http2_protocol;
    c->since_ms = loop_now(c->loop);
    return OK;
}
