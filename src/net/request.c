/* Requests: what the loop gives to a handler and the handler gives back.
 *
 * The two sides meet in three places only: the answer's fields (written by the owner before its
 * poke, read by the loop after it), the stream_io with its lock, and the `gone` flag. So neither
 * side ever waits for the other, except a handler that streams.
 *
 * Invariants
 *  1. `owned` is true from dispatch until the loop has processed POKE_FINAL; an owned request is
 *     never freed. loop->owned_count counts them, and a loop does not end before it is 0.
 *  2. The arena is the loop's before dispatch, the handler's while owned, the loop's again
 *     afterwards.
 *  3. `io` is made by the loop before dispatch (streamed) or by the handler before POKE_BEGUN; the
 *     loop looks at it only when `pub.streamed` or `begun` says that it is there.
 *  4. Bytes of bodies held anywhere count in server->buffered: 4,096 clients may not hold 4 GiB. A
 *     whole body that would go over buffered_bytes_max is refused, a stream's rings stop growing.
 *
 * A poke per byte written would wake the loop for every line of an NDJSON answer; `out_told` and
 * `in_taken` coalesce them, and the loop's eventfd is written once for all pokes it has not yet
 * seen.
 */
#include "net/net_int.h"

#include <stdio.h>

/* ---- rings ---- */

static bool budget_is_used(const net_server *s) {
    return atomic_load_explicit(&s->buffered, memory_order_relaxed) > s->o.buffered_bytes_max;
}

static err ring_grow(net_server *s, ring *q, size_t need) {
    size_t cap = q->cap ? q->cap : MIN(RING_BYTES_MIN, q->max);
    while (cap < need) cap = MIN(cap * 2, q->max);
    char *p = mem_alloc(cap);
    if (!p) return ERR_NO_MEMORY;
    size_t first = MIN(q->len, q->cap - q->head);
    if (first) memcpy(p, q->ptr + q->head, first);
    if (q->len > first) memcpy(p + first, q->ptr, q->len - first);
    mem_free(q->ptr);
    atomic_fetch_add_explicit(&s->buffered, cap - q->cap, memory_order_relaxed);
    *q = (ring){p, cap, 0, q->len, q->max};
    return OK;
}

/* Takes what fits under max. When the server's budget is used up a ring keeps the size it has (or
 * gets the smallest), and its writer waits. */
static err ring_push(net_server *s, ring *q, str bytes, size_t *taken) {
    size_t max = budget_is_used(s) ? MAX(q->cap, MIN(RING_BYTES_MIN, q->max)) : q->max;
    size_t n = MIN(bytes.len, max - q->len);
    *taken = n;
    if (n == 0) return OK;
    if (q->len + n > q->cap) {
        *taken = 0;
        TRY(ring_grow(s, q, q->len + n));
        *taken = n;
    }
    size_t at = (q->head + q->len) % q->cap;
    size_t first = MIN(n, q->cap - at);
    memcpy(q->ptr + at, bytes.ptr, first);
    if (n > first) memcpy(q->ptr, bytes.ptr + first, n - first);
    q->len += n;
    return OK;
}

static size_t ring_pop(ring *q, char *p, size_t n) {
    n = MIN(n, q->len);
    if (n == 0) return 0;
    size_t first = MIN(n, q->cap - q->head);
    memcpy(p, q->ptr + q->head, first);
    if (n > first) memcpy(p + first, q->ptr, n - first);
    q->head = (q->head + n) % q->cap;
    q->len -= n;
    return n;
}

/* ---- life ---- */

static stream_io *io_new(const net_options *o) {
    stream_io *io = mem_zalloc(1, sizeof(*io));
    if (!io) return NULL;
    io->in.max = o->stream_in_bytes_max;
    io->out.max = o->stream_out_bytes_max;
    if (mutex_init(&io->mu) != OK) {
        mem_free(io);
        return NULL;
    }
    if (cond_init(&io->cv) != OK) {
        mutex_deinit(&io->mu);
        mem_free(io);
        return NULL;
    }
    return io;
}

static void io_free(net_server *s, stream_io *io) {
    if (!io) return;
    atomic_fetch_sub_explicit(&s->buffered, io->in.cap + io->out.cap, memory_order_relaxed);
    mem_free(io->in.ptr);
    mem_free(io->out.ptr);
    cond_deinit(&io->cv);
    mutex_deinit(&io->mu);
    mem_free(io);
}

static void io_mark_gone(stream_io *io) {
    mutex_lock(&io->mu);
    io->gone = true;
    cond_broadcast(&io->cv);
    mutex_unlock(&io->mu);
}

request *request_new(conn *c) {
    loop *l = c->loop;
    request *r = l->free_requests;
    arena kept;
    if (r) {
        l->free_requests = r->next;
        l->free_count--;
        kept = r->mem;
    } else {
        r = mem_alloc(sizeof(*r));
        if (!r) return NULL;
        arena_init(&kept, l->server->o.arena_bytes_max);
    }
    memset(r, 0, sizeof(*r));
    r->mem = kept;
    r->server = l->server;
    r->loop = l;
    r->conn = c;
    r->pub.method = r->pub.path = r->pub.query = r->pub.host = r->pub.body = r->pub.peer = STR("");
    r->pub.arena = &r->mem;
    r->pub.peer_loopback = c->peer_loopback;
    r->progress_ms = r->rate_start_ms = loop_now(l);
    atomic_init(&r->gone, false);
    r->pub.start_ns = clock_mono_ns();
    STAT_ADD(l, requests_total, 1);
    return r;
}

static void release(request *r) {
    loop *l = r->loop;
    KITH_ASSERT(!r->owned && !r->in_inbox);
    if (r->answer.own == NET_TAKE) mem_free((void *)(uintptr_t)r->answer.body.ptr);
    buf_drop(&r->body);
    if (r->pub.streamed || r->begun) io_free(r->server, r->io);
    if (r->buffered) {
        atomic_fetch_sub_explicit(&r->server->buffered, r->buffered, memory_order_relaxed);
    }
    if (l->free_count >= FREE_REQUESTS_MAX || r->mem.used > ARENA_KEEP_MAX) {
        arena_deinit(&r->mem);
        mem_free(r);
        return;
    }
    arena_reset(&r->mem);
    r->next = l->free_requests;
    l->free_requests = r;
    l->free_count++;
}

void request_finish(request *r, bool complete) {
    loop *l = r->loop;
    int class = r->sending ? r->answer.status / 100 : 0;
    r->outcome.status = r->sending ? r->answer.status : 0;
    r->outcome.complete = complete;
    if (class >= 1 && class <= 5) STAT_ADD(l, status_total[class], 1);
    if (!complete) STAT_ADD(l, cancelled_total, 1);
    if (l->server->o.done) {
        r->outcome.duration_ns = clock_mono_ns() - r->pub.start_ns;
        l->server->o.done(l->server->o.ctx, &r->pub, &r->outcome);
    }
    release(r);
}

void request_cancel(request *r) {
    atomic_store_explicit(&r->gone, true, memory_order_relaxed);
    if (r->pub.streamed || r->begun) io_mark_gone(r->io);
}

void request_detach(request *r) {
    r->conn = NULL;
    request_cancel(r);
    if (!r->owned) request_finish(r, false);
}

/* ---- the answer ---- */

const char *net_status_text(int status) {
    static const struct {
        int status;
        const char *text;
    } table[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        if (table[i].status == status) return table[i].text;
    }
    return "";
}

/* Framing is ours: a handler that set these could split a response. */
static bool is_ours(str name) {
    static const str ours[] = {STR_INIT("content-length"), STR_INIT("transfer-encoding"),
                               STR_INIT("connection"),     STR_INIT("date"),
                               STR_INIT("keep-alive"),     STR_INIT("upgrade"),
                               STR_INIT("trailer"),        STR_INIT("proxy-connection")};
    for (size_t i = 0; i < COUNT_OF(ours); i++) {
        if (str_eq_nocase(name, ours[i])) return true;
    }
    return false;
}

static err check_headers(const net_header *h, size_t n) {
    if (n > ANSWER_HEADERS_MAX) return err_set(ERR_INVALID, "response: over 64 headers");
    for (size_t i = 0; i < n; i++) {
        if (!http1_is_token(h[i].name) || !http1_is_value(h[i].value) || is_ours(h[i].name)) {
            return err_set(ERR_INVALID, "response: header %zu is not allowed", i);
        }
    }
    return OK;
}

static char *put(char *p, str s) {
    if (s.len) memcpy(p, s.ptr, s.len);
    return p + s.len;
}

err request_copy_headers(request *r, const net_header *in, size_t n, net_header **out) {
    TRY(check_headers(in, n));
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += in[i].name.len + in[i].value.len;
    net_header *h = arena_alloc(&r->mem, n * sizeof(*h) + bytes + 1);
    if (!h) return ERR_NO_MEMORY;
    char *p = (char *)(h + n);
    for (size_t i = 0; i < n; i++) {
        h[i].name = str_from(p, in[i].name.len);
        for (size_t k = 0; k < in[i].name.len; k++) {
            char c = in[i].name.ptr[k];
            *p++ = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        }
        h[i].value = str_from(p, in[i].value.len);
        p = put(p, in[i].value);
    }
    *out = h;
    return OK;
}

/* The head of an HTTP/1 answer, but for Date, Connection and the empty line. */
static err head_build(request *r, const net_header *h, size_t n, str framing) {
    answer *a = &r->answer;
    char line[80];
    int len =
        snprintf(line, sizeof(line), "HTTP/1.1 %d %s\r\n", a->status, net_status_text(a->status));
    size_t bytes = (size_t)len + framing.len;
    TRY(check_headers(h, n));
    for (size_t i = 0; i < n; i++) bytes += h[i].name.len + h[i].value.len + 4;
    char *start = arena_alloc(&r->mem, bytes);
    if (!start) return ERR_NO_MEMORY;
    char *p = put(start, str_from(line, (size_t)len));
    for (size_t i = 0; i < n; i++) {
        p = put(put(p, h[i].name), STR(": "));
        p = put(put(p, h[i].value), STR("\r\n"));
    }
    p = put(p, framing);
    a->head = str_from(start, bytes);
    return OK;
}

static bool status_has_body(int status) {
    return status != 204 && status != 304;
}

/* `length` is the body's, or UINT64_MAX for a streamed one. */
static err answer_head(request *r, int status, const net_header *h, size_t n, uint64_t length) {
    answer *a = &r->answer;
    char framing[64] = "";
    bool whole = length != UINT64_MAX;
    if (status < 200 || status > 599) return err_set(ERR_INVALID, "response: status %d", status);
    a->status = status;
    a->has_body = status_has_body(status) && !r->head_method;
    if (r->pub.version == 20) {
        net_header *fields = arena_alloc(&r->mem, (n + 1) * sizeof(*fields)), *copied;
        if (!fields) return ERR_NO_MEMORY;
        TRY(request_copy_headers(r, h, n, &copied));
        if (n) memcpy(fields, copied, n * sizeof(*fields));
        if (whole && status_has_body(status)) {
            str v = arena_printf(&r->mem, "%llu", (unsigned long long)length);
            if (!v.ptr) return ERR_NO_MEMORY;
            fields[n++] = (net_header){STR("content-length"), v};
        }
        a->fields = fields, a->field_count = n;
        return OK;
    }
    if (whole && status_has_body(status)) {
        snprintf(framing, sizeof(framing), "Content-Length: %llu\r\n", (unsigned long long)length);
    }
    bool chunked = !whole && a->has_body && r->pub.version == 11;
    return head_build(r, h, n, chunked ? STR("Transfer-Encoding: chunked\r\n") : str_of(framing));
}

/* The answer when there is no good one: needs no memory. */
static void answer_fail(request *r) {
    r->answer = (answer){
        .status = 500,
        .head = STR("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n"),
    };
}

static err answer_whole(request *r, const answer *want, const net_header *h, size_t n) {
    answer *a = &r->answer;
    TRY(answer_head(r, want->status, h, n, want->body.len));
    if (!a->has_body) {
        if (want->own == NET_TAKE) mem_free((void *)(uintptr_t)want->body.ptr);
        return OK;
    }
    a->body = want->body;
    a->own = want->own;
    if (want->own != NET_COPY || want->body.len == 0) return OK;
    if (want->body.len <= OUT_COPY_MAX) {
        char *p = arena_alloc(&r->mem, want->body.len);
        if (p) {
            put(p, want->body);
            a->body.ptr = p, a->own = NET_BORROW;
            return OK;
        }
    }
    a->body.ptr = mem_dup(want->body.ptr, want->body.len);
    a->own = NET_TAKE;
    if (a->body.ptr) return OK;
    a->own = NET_BORROW;
    return ERR_NO_MEMORY;
}

/* The owner is done with it. Never touch r after this from a handler's thread. */
static void give_back(request *r, unsigned pokes) {
    if (!loop_is_current(r->loop)) {
        loop_poke(r, POKE_FINAL | pokes);
        return;
    }
    r->answered = true;
    r->aborted = (pokes & POKE_ABORT) != 0;
    if (r->owned) {
        r->owned = false;
        r->loop->owned_count--;
        STAT_ADD(r->loop, requests_open, -1);
    }
}

void net_respond(net_request *rq, int status, const net_header *headers, size_t count, str body,
                 net_own own) {
    request *r = (request *)rq;
    KITH_ASSERT(!r->answer.streamed);
    answer want = {.status = status, .body = body, .own = own};
    if (answer_whole(r, &want, headers, count) != OK) {
        if (own == NET_TAKE) mem_free((void *)(uintptr_t)body.ptr);
        answer_fail(r);
    }
    give_back(r, 0);
}

static const char *problem_code(int status) {
    switch (status) {
    case 408:
        return "timeout";
    case 413:
    case 414:
    case 431:
        return "too_large";
    case 404:
        return "not_found";
    case 501:
    case 505:
        return "unsupported";
    case 503:
        return "again";
    default:
        return status >= 500 ? "internal" : "invalid";
    }
}

str request_problem(int status, const char *detail, char *out, size_t cap) {
    int n = snprintf(out, cap,
                     "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"code\":\"%s\","
                     "\"detail\":\"%s\"}\n",
                     net_status_text(status), status, problem_code(status), detail);
    KITH_ASSERT(n > 0 && (size_t)n < cap); /* details are ours, short and without quotes */
    return str_from(out, (size_t)n);
}

void request_refuse(request *r, int status, const char *detail) {
    char text[512];
    net_header h[] = {{STR("Content-Type"), STR("application/problem+json")},
                      {STR("Retry-After"), STR("1")}};
    KITH_ASSERT(!r->owned && !r->answered);
    if (status == 503) {
        STAT_ADD(r->loop, shed_total, 1);
    } else if (status == 413 || status == 414 || status == 431) {
        STAT_ADD(r->loop, too_large_total, 1);
    } else if (status < 500) {
        STAT_ADD(r->loop, bad_requests_total, 1);
    }
    net_respond(&r->pub, status, h, status == 503 ? 2 : 1,
                request_problem(status, detail, text, sizeof(text)), NET_COPY);
}

/* ---- dispatch ---- */

static bool pool_is_full(const net_options *o) {
    return o->workers && o->queue_max && pool_queued(o->workers) >= o->queue_max;
}

void request_route(request *r) {
    const net_options *o = &r->server->o;
    net_route way = {0};
    if (o->route) o->route(o->ctx, &r->pub, &way);
    r->pub.streamed = way.streamed && !r->answered;
    r->body_max = way.body_bytes_max;
    if (r->body_max == 0) r->body_max = way.streamed ? o->stream_bytes_max : o->body_bytes_max;
    if (r->answered) return;
    if (r->has_length && r->length > r->body_max) {
        r->pub.streamed = false;
        request_refuse(r, 413, "body over the limit of this path");
        return;
    }
    bool long_body = r->chunked || r->length > DISCARD_BYTES_MAX;
    if ((way.streamed || long_body) && pool_is_full(o)) {
        r->pub.streamed = false;
        request_refuse(r, 503, "too many requests are waiting");
        return;
    }
    if (!r->pub.streamed) return;
    r->io = io_new(o);
    if (!r->io) {
        r->pub.streamed = false;
        request_refuse(r, 503, "out of memory");
    }
}

static void run_handler(void *arg) {
    request *r = arg;
    if (net_cancelled(&r->pub)) { /* nobody waits any more: leave the worker to those who do */
        answer_fail(r);
        give_back(r, 0);
        return;
    }
    r->server->o.handler(r->server->o.ctx, &r->pub);
}

static void set_owned(request *r, bool owned) {
    r->owned = owned;
    r->loop->owned_count += owned ? 1 : (size_t)-1;
    STAT_ADD(r->loop, requests_open, owned ? 1 : -1);
}

void request_dispatch(request *r) {
    const net_options *o = &r->server->o;
    KITH_ASSERT(!r->dispatched && !r->answered);
    r->dispatched = true;
    if (!r->pub.streamed) r->pub.body = r->pub.body.len ? r->pub.body : buf_str(&r->body);
    set_owned(r, true);
    if (o->inline_handler && !r->pub.streamed && o->inline_handler(o->ctx, &r->pub)) return;
    KITH_ASSERT(r->owned);
    err rc = ERR_NOT_FOUND;
    if (o->handler) rc = pool_is_full(o) ? ERR_AGAIN : pool_submit(o->workers, run_handler, r);
    if (rc == OK) return;
    set_owned(r, false);
    if (rc == ERR_NOT_FOUND) {
        request_refuse(r, 404, "nothing is served here");
    } else {
        request_refuse(r, 503, "too many requests are waiting");
    }
}

bool net_cancelled(const net_request *rq) {
    const request *r = (const request *)rq;
    return atomic_load_explicit(&r->gone, memory_order_relaxed);
}

str net_header_get(const net_request *rq, str name) {
    for (size_t i = 0; i < rq->header_count; i++) {
        if (str_eq_nocase(rq->headers[i].name, name)) return rq->headers[i].value;
    }
    return (str){NULL, 0};
}

/* ---- bodies, loop side ---- */

err request_reserve(request *r, size_t n) {
    uint64_t all = atomic_fetch_add_explicit(&r->server->buffered, n, memory_order_relaxed) + n;
    r->buffered += n;
    if (all > r->server->o.buffered_bytes_max) {
        return err_set(ERR_AGAIN, "the server's budget for bodies is used up");
    }
    return OK;
}

err request_body_add(request *r, str bytes) {
    r->outcome.bytes_in += bytes.len;
    if (r->discard || bytes.len == 0) return OK;
    if (r->outcome.bytes_in > r->body_max) {
        return err_set(ERR_TOO_LARGE, "body over its limit");
    }
    TRY(request_reserve(r, bytes.len));
    /* A known length is still reached by doubling: memory follows bytes that came, not promises. */
    return buf_add(&r->body, bytes, (size_t)r->body_max);
}

err request_stream_in(request *r, str bytes, size_t *taken) {
    stream_io *io = r->io;
    mutex_lock(&io->mu);
    err rc = ring_push(r->server, &io->in, bytes, taken);
    io->in_paused = *taken < bytes.len;
    if (*taken) cond_signal(&io->cv);
    mutex_unlock(&io->mu);
    r->outcome.bytes_in += *taken;
    if (rc == OK && r->outcome.bytes_in > r->body_max) {
        rc = err_set(ERR_TOO_LARGE, "body over its limit");
    }
    return rc;
}

void request_stream_in_end(request *r, err rc) {
    stream_io *io = r->io;
    mutex_lock(&io->mu);
    io->in_end = true;
    io->in_rc = rc;
    cond_signal(&io->cv);
    mutex_unlock(&io->mu);
}

size_t request_stream_out(request *r, char *p, size_t n) {
    stream_io *io = r->io;
    mutex_lock(&io->mu);
    size_t got = ring_pop(&io->out, p, n);
    if (io->out.len == 0) io->out_told = false;
    if (io->out.len <= io->out.cap / 2) cond_signal(&io->cv);
    mutex_unlock(&io->mu);
    return got;
}

size_t request_stream_waiting(request *r) {
    mutex_lock(&r->io->mu);
    size_t n = r->io->out.len;
    if (n == 0) r->io->out_told = false;
    mutex_unlock(&r->io->mu);
    return n;
}

size_t request_stream_taken(request *r) {
    mutex_lock(&r->io->mu);
    size_t n = r->io->in_taken;
    r->io->in_taken = 0;
    mutex_unlock(&r->io->mu);
    return n;
}

/* ---- streams, handler side ---- */

static err read_whole(request *r, char *p, size_t n, size_t *got) {
    str rest = str_skip(r->pub.body, r->body_read);
    *got = MIN(n, rest.len);
    if (*got) memcpy(p, rest.ptr, *got);
    r->body_read += *got;
    return OK;
}

err net_body_read(net_request *rq, void *p, size_t n, size_t *got) {
    request *r = (request *)rq;
    *got = 0;
    if (!rq->streamed) return read_whole(r, p, n, got);
    KITH_ASSERT(!loop_is_current(r->loop));
    stream_io *io = r->io;
    mutex_lock(&io->mu);
    while (io->in.len == 0 && !io->in_end && !io->gone) cond_wait(&io->cv, &io->mu);
    *got = ring_pop(&io->in, p, n);
    io->in_taken += *got;
    bool tell = *got && (io->in_taken >= io->in.max / 4 || io->in_paused) && !io->in_end;
    if (tell && io->in.len > io->in.cap / 2) tell = false;
    if (tell) io->in_paused = false;
    err rc = *got ? OK : io->gone ? ERR_CANCELLED : io->in_rc;
    mutex_unlock(&io->mu);
    if (tell) loop_poke(r, POKE_DATA);
    if (rc != OK) return err_set(rc, "the request's body broke off");
    return OK;
}

err net_respond_begin(net_request *rq, int status, const net_header *headers, size_t count) {
    request *r = (request *)rq;
    KITH_ASSERT(!loop_is_current(r->loop) && !r->answer.streamed);
    TRY(answer_head(r, status, headers, count, UINT64_MAX));
    if (!r->io) {
        r->io = io_new(&r->server->o);
        if (!r->io) return ERR_NO_MEMORY;
    }
    r->answer.streamed = true;
    loop_poke(r, POKE_BEGUN);
    if (net_cancelled(rq)) return err_set(ERR_CANCELLED, "the client is gone");
    return OK;
}

err net_respond_write(net_request *rq, str bytes) {
    request *r = (request *)rq;
    KITH_ASSERT(r->answer.streamed);
    if (!r->answer.has_body) return OK;
    stream_io *io = r->io;
    err rc = OK;
    while (bytes.len && rc == OK) {
        mutex_lock(&io->mu);
        size_t taken = 0;
        rc = io->gone ? ERR_CANCELLED : ring_push(r->server, &io->out, bytes, &taken);
        if (rc == OK && taken == 0) cond_wait(&io->cv, &io->mu); /* full: the loop will call */
        bool tell = taken && !io->out_told;
        if (tell) io->out_told = true;
        mutex_unlock(&io->mu);
        if (tell) loop_poke(r, POKE_DATA);
        bytes = str_skip(bytes, taken);
    }
    if (rc == ERR_CANCELLED) return err_set(rc, "the client is gone");
    return rc;
}

void net_respond_end(net_request *rq, const net_header *trailers, size_t count) {
    request *r = (request *)rq;
    unsigned pokes = 0;
    if (!r->answer.streamed) {
        answer_fail(r);
    } else if (count && request_copy_headers(r, trailers, count, &r->answer.trailers) == OK) {
        r->answer.trailer_count = count;
    } else if (count) {
        pokes = POKE_ABORT;
    }
    give_back(r, pokes);
}

void net_respond_abort(net_request *rq) {
    request *r = (request *)rq;
    if (!r->answer.streamed) answer_fail(r);
    give_back(r, r->answer.streamed ? POKE_ABORT : 0);
}
