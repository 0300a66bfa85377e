/* Connections: a socket, its two buffers, its place in the loop's lists and its deadlines.
 *
 * The socket is watched by uv_poll and read and written here by hand, not through uv_tcp: an idle
 * connection then holds no buffer at all (about 600 bytes), a request is read into the loop's one
 * buffer and usually parsed there, an answer is tried at once with one sendmsg, and TLS can stand
 * in conn_recv and conn_sendv without anything above noticing.
 *
 * Every event ends in conn_run: feed the protocol, let it produce, send, then settle (close, list,
 * watch). conn_run never nests; what happens inside it only changes state that its end looks at.
 *
 * Invariants
 *  1. `in` holds only what the protocol has not used yet, at most IN_KEEP_MAX + one read; a full
 *     one stops reading, and TCP stops the client.
 *  2. `tail` is borrowed from the current request's answer and sent behind `out`; nothing is put
 *     into `out` while there is a tail.
 *  3. A dead connection has no requests and is in no list; its memory goes in the close callback.
 *  4. After an early answer (`linger`) the socket is shut for writing and read on for a while:
 *     closing with unread bytes would send RST, and RST makes clients lose the answer (RFC 9112,
 *     9.6).
 *  5. A deadline is checked by the loop's tick, so it is late by at most one tick, and a connection
 *     costs no timer.
 */
#include "net/net_int.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- buffers ---- */

err buf_room(buf *b, size_t n, size_t max) {
    if (b->off && b->len + n > b->cap) { /* slide before growing */
        memmove(b->ptr, b->ptr + b->off, b->len - b->off);
        b->len -= b->off;
        b->off = 0;
    }
    if (b->len + n <= b->cap) return OK;
    size_t need = b->len + n, cap = b->cap ? b->cap : KIB;
    if (need > max) return err_set(ERR_TOO_LARGE, "buffer over its limit");
    while (cap < need) cap *= 2;
    char *p = mem_realloc(b->ptr, cap);
    if (!p) return ERR_NO_MEMORY;
    b->ptr = p;
    b->cap = cap;
    return OK;
}

err buf_add(buf *b, str s, size_t max) {
    if (s.len == 0) return OK;
    TRY(buf_room(b, s.len, max));
    memcpy(b->ptr + b->len, s.ptr, s.len);
    b->len += s.len;
    return OK;
}

void buf_drop(buf *b) {
    mem_free(b->ptr);
    *b = (buf){0};
}

void buf_take(buf *b, size_t n) {
    b->off += n;
    KITH_ASSERT(b->off <= b->len);
    if (b->off == b->len) buf_drop(b);
}

/* ---- transport ---- */

ptrdiff_t conn_recv(conn *c, char *p, size_t n) {
    ssize_t got;
    do {
        got = recv(c->fd, p, n, 0);
    } while (got < 0 && errno == EINTR);
    if (got >= 0) {
        STAT_ADD(c->loop, bytes_in_total, got);
        return got;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? IO_AGAIN : IO_GONE;
}

ptrdiff_t conn_sendv(conn *c, str a, str b) {
    struct iovec v[2] = {{(void *)(uintptr_t)a.ptr, a.len}, {(void *)(uintptr_t)b.ptr, b.len}};
    bool first = a.len > 0;
    struct msghdr m = {.msg_iov = first ? v : v + 1, .msg_iovlen = first && b.len ? 2 : 1};
    ssize_t put;
    do {
        put = sendmsg(c->fd, &m, MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    if (put >= 0) {
        STAT_ADD(c->loop, bytes_out_total, put);
        return put;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? IO_AGAIN : IO_GONE;
}

/* ---- closing ---- */

static void on_closed(uv_handle_t *h) {
    conn *c = h->data;
    loop *l = c->loop;
    buf_drop(&c->in);
    buf_drop(&c->out);
    if (!c->uncounted) l->connection_count--;
    STAT_ADD(l, connections_open, -1);
    mem_free(c);
}

void conn_close(conn *c) {
    if (c->dead) return;
    c->dead = true;
    c->tail = (str){NULL, 0};
    c->proto->detach(c); /* the buffers stay until on_closed: callers still hold slices of them */
    loop_unlist(c);
    uv_close((uv_handle_t *)&c->poll, on_closed);
    close(c->fd);
    c->fd = -1;
}

void conn_timeout(conn *c) {
    STAT_ADD(c->loop, timeouts_total, 1);
    conn_close(c);
}

/* Shut for writing; the rest of the input is read and dropped for a while. */
static void start_linger(conn *c) {
    c->lingering = true;
    c->since_ms = loop_now(c->loop);
    c->linger_bytes = 0;
    c->proto->detach(c);
    buf_drop(&c->in);
    if (shutdown(c->fd, SHUT_WR) != 0) conn_close(c);
}

static void linger_read(conn *c) {
    ptrdiff_t n = conn_recv(c, c->loop->recv_buf, RECV_BYTES);
    if (n == IO_AGAIN) return;
    if (n > 0) c->linger_bytes += (size_t)n;
    if (n <= 0 || c->linger_bytes > LINGER_BYTES_MAX) conn_close(c);
}

/* ---- output ---- */

void conn_put(conn *c, str bytes) {
    if (c->dead) return;
    KITH_ASSERT(c->tail.len == 0);
    if (conn_pending(c) == 0) c->write_ms = loop_now(c->loop);
    if (buf_add(&c->out, bytes, SIZE_MAX / 4) != OK) conn_close(c);
}

void conn_flush(conn *c) {
    while (!c->dead && conn_pending(c)) {
        size_t waiting = conn_pending(c);
        ptrdiff_t n = conn_sendv(c, buf_str(&c->out), c->tail);
        if (n == IO_AGAIN) return;
        if (n <= 0) {
            conn_close(c);
            return;
        }
        size_t head = MIN((size_t)n, buf_size(&c->out));
        if (head) buf_take(&c->out, head);
        if (c->tail.len) c->tail = str_skip(c->tail, (size_t)n - head);
        c->write_ms = loop_now(c->loop);
        c->rate_bytes += (size_t)n;
        if ((size_t)n < waiting) return; /* the socket is full: do not ask again */
    }
}

/* ---- settling ---- */

static void on_event(uv_poll_t *p, int status, int events);

static void watch(conn *c) {
    int want = 0;
    if (c->lingering || (!c->eof && c->proto->appetite(c))) want |= UV_READABLE;
    if (conn_pending(c) || c->more) want |= UV_WRITABLE;
    if (want == c->events) return;
    c->events = want;
    int rc = want ? uv_poll_start(&c->poll, want, on_event) : uv_poll_stop(&c->poll);
    if (rc != 0) conn_close(c);
}

static void settle(conn *c) {
    if (c->dead) return;
    if (!c->lingering && conn_pending(c) == 0 && !c->more) {
        bool idle = c->proto->idle(c);
        if (c->close_after && c->linger && !c->eof) {
            start_linger(c);
        } else if (c->close_after || (c->eof && idle)) {
            conn_close(c);
        }
        if (c->dead) return;
        loop_list(c, idle && !c->lingering && buf_size(&c->in) == 0);
    } else {
        loop_list(c, false);
    }
    watch(c);
}

/* Feeds `in` and keeps what the protocol left. */
static void feed(conn *c, str in, bool own) {
    size_t used = c->proto->input(c, in);
    if (c->dead) return;
    KITH_ASSERT(used <= in.len);
    if (c->close_after && used < in.len) {
        c->linger = true; /* unread bytes: see invariant 4 */
        used = in.len;
    }
    if (own) {
        buf_take(&c->in, used);
    } else if (used < in.len) {
        if (buf_add(&c->in, str_skip(in, used), IN_KEEP_MAX + RECV_BYTES) != OK) conn_close(c);
    }
}

/* Fresh bytes, or what is kept; then output and input in turns until neither moves. */
static void run(conn *c, str fresh) {
    KITH_ASSERT(!c->running);
    c->running = true;
    c->more = false;
    if (fresh.len) feed(c, fresh, false);
    for (int turn = 0; !c->dead; turn++) {
        bool more = c->proto->pump(c);
        conn_flush(c);
        if (c->dead || conn_pending(c)) break; /* the socket will call */
        size_t before = buf_size(&c->in);
        if (before && !c->close_after) feed(c, buf_str(&c->in), true);
        if (!more && conn_pending(c) == 0 && buf_size(&c->in) == before) break;
        if (turn >= TURNS_MAX) { /* others wait too: come back by way of the loop */
            c->more = true;
            break;
        }
    }
    c->running = false;
    settle(c);
}

void conn_run(conn *c) {
    if (!c->dead && !c->lingering && !c->running) run(c, (str){NULL, 0});
}

static void on_readable(conn *c) {
    loop *l = c->loop;
    bool kept = buf_size(&c->in) > 0;
    char *p = l->recv_buf;
    size_t n = c->proto->appetite(c);
    if (n == 0) {
        watch(c);
        return;
    }
    if (kept) { /* straight behind what is there */
        if (buf_room(&c->in, READ_AHEAD_MAX, IN_KEEP_MAX + RECV_BYTES) != OK) {
            conn_close(c);
            return;
        }
        n = MIN(c->in.cap - c->in.len, n);
        p = c->in.ptr + c->in.len;
    }
    ptrdiff_t got = conn_recv(c, p, n);
    if (got == IO_GONE) {
        conn_close(c);
        return;
    }
    if (got == 0) c->eof = true;
    if (got > 0) c->rate_bytes += (size_t)got;
    if (kept && got > 0) c->in.len += (size_t)got;
    run(c, !kept && got > 0 ? str_from(p, (size_t)got) : (str){NULL, 0});
}

static void on_event(uv_poll_t *p, int status, int events) {
    conn *c = p->data;
    if (c->dead) return;
    if (status < 0) {
        conn_close(c);
    } else if (c->lingering) {
        linger_read(c);
    } else if (events & UV_READABLE) {
        on_readable(c);
    } else {
        conn_flush(c);
        conn_run(c);
    }
}

/* ---- deadlines ---- */

/* True when the client took less than rate_bytes_s_min over the last window. */
static bool too_slow(conn *c, uint64_t now) {
    const net_options *o = &c->loop->server->o;
    if (now - c->rate_start_ms < o->rate_window_ms) return false;
    uint64_t floor = (uint64_t)o->rate_bytes_s_min * o->rate_window_ms / 1000;
    bool slow = c->rate_bytes < floor;
    c->rate_start_ms = now;
    c->rate_bytes = 0;
    return slow;
}

void conn_tick(conn *c, uint64_t now) {
    const net_options *o = &c->loop->server->o;
    if (c->lingering) {
        if (now - c->since_ms > LINGER_MS_MAX) conn_close(c);
        return;
    }
    if (conn_pending(c) || c->more) {
        if (now - c->write_ms > o->write_ms_max || too_slow(c, now)) {
            conn_timeout(c);
            return;
        }
    } else {
        c->rate_start_ms = now;
        c->rate_bytes = 0;
    }
    c->proto->tick(c, now);
}

/* ---- opening ---- */

static void name_peer(conn *c, const struct sockaddr *peer) {
    char host[48] = "";
    if (peer->sa_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)(const void *)peer;
        uv_ip6_name(a, host, sizeof(host));
        snprintf(c->peer, sizeof(c->peer), "[%s]:%u", host, ntohs(a->sin6_port));
        c->peer_loopback = IN6_IS_ADDR_LOOPBACK(&a->sin6_addr) ||
                           (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr) && a->sin6_addr.s6_addr[12] == 127);
    } else {
        const struct sockaddr_in *a = (const struct sockaddr_in *)(const void *)peer;
        uv_ip4_name(a, host, sizeof(host));
        snprintf(c->peer, sizeof(c->peer), "%s:%u", host, ntohs(a->sin_port));
        c->peer_loopback = (ntohl(a->sin_addr.s_addr) >> 24) == 127;
    }
}

void conn_accept(loop *l, int fd, const struct sockaddr *peer) {
    conn *c = mem_zalloc(1, sizeof(*c));
    int on = 1;
    if (!c) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    c->loop = l;
    c->fd = fd;
    c->proto = &http1_protocol;
    c->since_ms = c->write_ms = c->rate_start_ms = loop_now(l);
    name_peer(c, peer);
    if (uv_poll_init(&l->uv, &c->poll, fd) != 0) {
        close(fd);
        mem_free(c);
        return;
    }
    c->poll.data = c;
    l->connection_count++;
    STAT_ADD(l, connections_total, 1);
    STAT_ADD(l, connections_open, 1);
    loop_list(c, true);
    watch(c);
}
