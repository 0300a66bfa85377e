/* The server: options, sockets, loops and how they start, are woken and end.
 *
 * Each loop has its own listening socket; with more than one they share the port by SO_REUSEPORT
 * and the kernel spreads connections. A probe socket without that option is bound first, or a
 * second server on the same port would silently take half of the first one's clients.
 *
 * Accepting is done by hand (accept4 in batches) because the case that matters is the bad one: with
 * no file descriptors left a level-triggered listener would spin; here it rests for
 * ACCEPT_PAUSE_MS. At connections_max the longest idle connection makes room, and only without one
 * a client gets 503.
 *
 * Ending: `stop` is set and each loop woken. It closes its listener, tells its connections to
 * finish, and after the grace period closes them. A loop ends when it has no connections and no
 * handler owns one of its requests, so a handler never meets freed memory.
 *
 * Handlers reach a loop through its inbox: a list under a mutex and one uv_async_send for all that
 * came since the loop last looked. The send happens under the lock: once the loop has seen the
 * request it may end, and then the async handle would be gone.
 */
#include "net/net_int.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTEN_BACKLOG 1024
#define LOOPS_MAX      64

/* ---- lists ---- */

void loop_unlist(conn *c) {
    loop *l = c->loop;
    conn_list *from = c->listed_idle ? &l->idle : &l->busy;
    if (!c->prev && !c->next && from->head != c) return; /* in none */
    *(c->prev ? &c->prev->next : &from->head) = c->next;
    *(c->next ? &c->next->prev : &from->tail) = c->prev;
    c->prev = c->next = NULL;
    if (c->listed_idle) STAT_ADD(l, connections_idle, -1);
    c->listed_idle = false;
}

void loop_list(conn *c, bool idle) {
    loop *l = c->loop;
    bool listed = c->prev || c->next || l->idle.head == c || l->busy.head == c;
    if (listed && c->listed_idle == idle) return;
    loop_unlist(c);
    conn_list *to = idle ? &l->idle : &l->busy;
    c->listed_idle = idle;
    c->prev = to->tail;
    *(to->tail ? &to->tail->next : &to->head) = c;
    to->tail = c;
    if (idle) STAT_ADD(l, connections_idle, 1);
}

/* ---- time ---- */

str loop_date(loop *l) {
    static const char days[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t s = clock_wall_ms() / 1000;
    if (s != l->date_s || !l->date[0]) {
        char t[32]; /* 2024-05-06T07:08:09Z */
        time_format(s * 1000, t);
        unsigned month = (unsigned)(t[5] - '0') * 10 + (unsigned)(t[6] - '0') - 1;
        snprintf(l->date, sizeof(l->date), "%.3s, %.2s %.3s %.4s %.8s GMT",
                 days + (s / 86400 % 7) * 3, t + 8, months + (size_t)month * 3, t, t + 11);
        l->date_s = s;
    }
    return str_of(l->date);
}

/* ---- the inbox ---- */

bool loop_is_current(const loop *l) {
    uv_thread_t self = uv_thread_self();
    return uv_thread_equal(&self, &l->tid);
}

void loop_poke(request *r, unsigned what) {
    loop *l = r->loop;
    mutex_lock(&l->inbox_mu);
    r->inbox_pokes |= what;
    if (!r->in_inbox) {
        r->in_inbox = true;
        r->inbox_next = NULL;
        *(l->inbox_tail ? &l->inbox_tail->inbox_next : &l->inbox_head) = r;
        l->inbox_tail = r;
    }
    if (!l->inbox_signalled) {
        l->inbox_signalled = true;
        uv_async_send(&l->wake);
    }
    mutex_unlock(&l->inbox_mu);
}

static void take_poke(request *r, unsigned what, conn **to_run) {
    loop *l = r->loop;
    conn *c = r->conn;
    if (what & POKE_BEGUN) r->begun = true;
    if (what & POKE_FINAL) {
        r->answered = true;
        r->aborted = (what & POKE_ABORT) != 0;
        r->owned = false;
        l->owned_count--;
        STAT_ADD(l, requests_open, -1);
    }
    if (!c) {
        request_detach(r); /* tells a waiting handler, or frees */
        return;
    }
    c->proto->poked(c, r);
    if (c->poked) return;
    c->poked = true;
    c->poked_next = *to_run;
    *to_run = c;
}

/* All pokes first, then each connection once: the answers of many streams leave in one send. A
 * connection that dies meanwhile is still memory until this turn of the loop ends. */
static void drain_inbox(loop *l) {
    conn *to_run = NULL;
    mutex_lock(&l->inbox_mu);
    request *r = l->inbox_head;
    l->inbox_head = l->inbox_tail = NULL;
    l->inbox_signalled = false;
    mutex_unlock(&l->inbox_mu);
    while (r) {
        /* Until in_inbox is cleared nobody else changes inbox_next. */
        mutex_lock(&l->inbox_mu);
        request *next = r->inbox_next;
        unsigned what = r->inbox_pokes;
        r->inbox_pokes = 0;
        r->in_inbox = false;
        mutex_unlock(&l->inbox_mu);
        take_poke(r, what, &to_run);
        r = next;
    }
    while (to_run) {
        conn *c = to_run;
        to_run = c->poked_next;
        c->poked = false;
        conn_run(c);
    }
}

/* ---- accepting ---- */

static void send_503(int fd) {
    static const char text[] = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
                               "Retry-After: 1\r\nContent-Length: 0\r\n\r\n";
    ssize_t n = send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL);
    (void)n; /* a courtesy: it fits into any fresh socket's buffer or is lost */
    shutdown(fd, SHUT_WR);
    close(fd);
}

static void on_listening(uv_poll_t *p, int status, int events);

static void on_accept_pause(uv_timer_t *t) {
    loop *l = t->data;
    if (!l->stopping) uv_poll_start(&l->listener, UV_READABLE, on_listening);
}

static void pause_accepting(loop *l) {
    STAT_ADD(l, accept_errors_total, 1);
    uv_poll_stop(&l->listener);
    uv_timer_start(&l->accept_pause, on_accept_pause, ACCEPT_PAUSE_MS, 0);
}

static void on_tick(uv_timer_t *t);

static void admit(loop *l, int fd, const struct sockaddr *peer) {
    if (l->connection_count >= l->connections_max) {
        conn *oldest = l->idle.head;
        if (!oldest) {
            STAT_ADD(l, connections_rejected, 1);
            STAT_ADD(l, shed_total, 1);
            send_503(fd);
            return;
        }
        conn_close(oldest); /* counted until the end of this turn: its place is free now */
        l->connection_count--, oldest->uncounted = true;
    }
    if (!uv_is_active((uv_handle_t *)&l->ticker)) {
        uv_timer_start(&l->ticker, on_tick, l->tick_ms, l->tick_ms);
    }
    conn_accept(l, fd, peer);
}

static void on_listening(uv_poll_t *p, int status, int events) {
    loop *l = p->data;
    (void)events;
    if (status < 0) return;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof(peer);
        int fd =
            accept4(l->listen_fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            admit(l, fd, (struct sockaddr *)&peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(l);
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        }
    }
}

/* ---- a loop's life ---- */

static void visit(conn_list *list, void (*fn)(conn *c, uint64_t now), uint64_t now) {
    for (conn *c = list->head, *next; c; c = next) {
        next = c->next;
        fn(c, now);
    }
}

static void cut(conn *c, uint64_t now) {
    (void)now;
    conn_close(c);
}

static void ask_to_stop(conn *c, uint64_t now) {
    (void)now;
    if (c->lingering) return;
    c->proto->stop(c);
    conn_run(c);
}

static void close_handle(uv_handle_t *h) {
    if (!uv_is_closing(h)) uv_close(h, NULL);
}

static void end_if_done(loop *l) {
    if (!l->stopping || l->connection_count || l->owned_count || l->closed) return;
    l->closed = true;
    close_handle((uv_handle_t *)&l->ticker);
    close_handle((uv_handle_t *)&l->accept_pause);
    close_handle((uv_handle_t *)&l->wake);
}

static void on_tick(uv_timer_t *t) {
    loop *l = t->data;
    uint64_t now = loop_now(l);
    if (l->stopping && now >= l->stop_ms) {
        visit(&l->idle, cut, now);
        visit(&l->busy, cut, now);
    }
    visit(&l->idle, conn_tick, now);
    visit(&l->busy, conn_tick, now);
    end_if_done(l);
    if (!l->stopping && l->connection_count == 0) uv_timer_stop(&l->ticker);
}

static void begin_stop(loop *l) {
    l->stopping = true;
    uint32_t grace = atomic_load_explicit(&l->grace_ms, memory_order_relaxed);
    l->stop_ms = loop_now(l) + grace;
    uv_poll_stop(&l->listener);
    close_handle((uv_handle_t *)&l->listener);
    close(l->listen_fd);
    l->listen_fd = -1;
    uv_timer_start(&l->ticker, on_tick, MIN(l->tick_ms, 20), MIN(l->tick_ms, 20));
    visit(&l->idle, ask_to_stop, 0);
    visit(&l->busy, ask_to_stop, 0);
}

static void on_wake(uv_async_t *a) {
    loop *l = a->data;
    drain_inbox(l);
    if (!l->stopping && atomic_load_explicit(&l->stop, memory_order_acquire)) begin_stop(l);
    end_if_done(l);
}

static void run_loop(void *arg) {
    loop *l = arg;
    l->tid = uv_thread_self();
    uv_run(&l->uv, UV_RUN_DEFAULT);
    KITH_ASSERT(!l->owned_count && !l->connection_count);
}

static uint64_t tick_of(const net_options *o) {
    uint64_t ms = MIN(MIN(o->header_ms_max, o->body_ms_max), MIN(o->idle_ms_max, o->write_ms_max));
    ms = MIN(ms, o->rate_window_ms) / 4;
    return MAX(MIN(ms, 250), 5);
}

static err loop_init(loop *l, net_server *s) {
    l->server = s;
    l->listen_fd = -1;
    l->tick_ms = tick_of(&s->o);
    l->connections_max = MAX(s->o.connections_max / s->o.loops, 1);
    l->recv_buf = mem_alloc(RECV_BYTES);
    if (!l->recv_buf) return ERR_NO_MEMORY;
    TRY(mutex_init(&l->inbox_mu));
    l->has_mutex = true;
    if (uv_loop_init(&l->uv) != 0) return err_set(ERR_IO, "event loop: cannot start");
    l->has_loop = true;
    if (uv_async_init(&l->uv, &l->wake, on_wake) != 0) {
        return err_set(ERR_IO, "event loop: cannot start");
    }
    uv_timer_init(&l->uv, &l->ticker);
    uv_timer_init(&l->uv, &l->accept_pause);
    l->wake.data = l->ticker.data = l->accept_pause.data = l;
    l->has_handles = true;
    return OK;
}

static void loop_deinit(loop *l) {
    if (l->has_handles) {
        close_handle((uv_handle_t *)&l->ticker);
        close_handle((uv_handle_t *)&l->accept_pause);
        close_handle((uv_handle_t *)&l->wake);
    }
    if (l->listen_fd >= 0) {
        if (l->has_listener) close_handle((uv_handle_t *)&l->listener);
        close(l->listen_fd);
    }
    if (l->has_loop) {
        uv_run(&l->uv, UV_RUN_DEFAULT);
        int rc = uv_loop_close(&l->uv);
        KITH_ASSERT(rc == 0);
    }
    while (l->free_requests) {
        request *r = l->free_requests;
        l->free_requests = r->next;
        arena_deinit(&r->mem);
        mem_free(r);
    }
    if (l->has_mutex) mutex_deinit(&l->inbox_mu);
    mem_free(l->recv_buf);
}

/* ---- sockets ---- */

static err bind_address(const char *host, uint16_t port, struct sockaddr_storage *out) {
    const char *name = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    memset(out, 0, sizeof(*out));
    if (uv_ip4_addr(name, port, (struct sockaddr_in *)out) == 0) return OK;
    if (uv_ip6_addr(name, port, (struct sockaddr_in6 *)out) == 0) return OK;
    return err_set(ERR_INVALID, "listen address: expected an IPv4 or IPv6 address");
}

static err socket_failed(const net_options *o, int fd) {
    int e = errno;
    if (fd >= 0) close(fd);
    if (e == EADDRINUSE) {
        return err_set(ERR_EXISTS, "port %u of %s is in use by another process", o->port, o->host);
    }
    if (e == EACCES || e == EPERM) {
        return err_set(ERR_DENIED, "port %u of %s: not allowed for this user", o->port, o->host);
    }
    return err_set(e == EADDRNOTAVAIL ? ERR_INVALID : ERR_IO, "listen on %s port %u: %s", o->host,
                   o->port, strerror(e));
}

static err open_socket(const net_options *o, bool shared, int *out) {
    struct sockaddr_storage a;
    TRY(bind_address(o->host, o->port, &a));
    int on = 1, fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return socket_failed(o, fd);
    socklen_t len =
        a.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) ||
        bind(fd, (struct sockaddr *)&a, len) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        return socket_failed(o, fd);
    }
    *out = fd;
    return OK;
}

static err read_port(int fd, uint16_t *port) {
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    if (getsockname(fd, (struct sockaddr *)&a, &len) != 0) {
        return err_set(ERR_IO, "listen: %s", strerror(errno));
    }
    *port = ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&a)->sin6_port
                                          : ((struct sockaddr_in *)(void *)&a)->sin_port);
    return OK;
}

static err open_listeners(net_server *s) {
    bool shared = s->o.loops > 1;
    if (shared) { /* is the port really free? */
        int probe;
        TRY(open_socket(&s->o, false, &probe));
        if (s->o.port == 0) {
            err rc = read_port(probe, &s->o.port);
            if (rc != OK) {
                close(probe);
                return rc;
            }
        }
        close(probe);
    }
    for (unsigned i = 0; i < s->o.loops; i++) {
        loop *l = &s->loops[i];
        TRY(open_socket(&s->o, shared, &l->listen_fd));
        if (uv_poll_init(&l->uv, &l->listener, l->listen_fd) != 0) {
            return err_set(ERR_IO, "event loop: cannot watch the socket");
        }
        l->has_listener = true;
        l->listener.data = l;
        uv_poll_start(&l->listener, UV_READABLE, on_listening);
    }
    return read_port(s->loops[0].listen_fd, &s->port);
}

/* ---- public ---- */

void net_options_init(net_options *o) {
    *o = (net_options){
        .host = "127.0.0.1",
        .loops = 1,
        .connections_max = 4096,
        .body_bytes_max = 1 * MIB,
        .stream_bytes_max = 64 * GIB,
        .buffered_bytes_max = 256 * MIB,
        .stream_in_bytes_max = 256 * KIB,
        .stream_out_bytes_max = 1 * MIB,
        .arena_bytes_max = 16 * MIB,
        .header_ms_max = 10000,
        .body_ms_max = 30000,
        .idle_ms_max = 75000,
        .write_ms_max = 30000,
        .rate_bytes_s_min = 200,
        .rate_window_ms = 10000,
    };
}

static err check_limits(const net_options *o) {
    bool small = o->connections_max == 0 || o->stream_in_bytes_max < 64 * KIB ||
                 o->stream_in_bytes_max > GIB || o->stream_out_bytes_max < 4 * KIB ||
                 o->arena_bytes_max < 64 * KIB;
    if (small) return err_set(ERR_INVALID, "net: a size limit is out of range");
    bool never = !o->header_ms_max || !o->body_ms_max || !o->idle_ms_max || !o->write_ms_max ||
                 !o->rate_window_ms;
    return never ? err_set(ERR_INVALID, "net: a time limit is 0") : OK;
}

static err check_options(const net_options *o) {
    if (!o->host || strlen(o->host) >= 64) return err_set(ERR_INVALID, "listen address: too long");
    if (o->loops == 0 || o->loops > LOOPS_MAX) {
        return err_set(ERR_INVALID, "loops: expected 1 to %d", LOOPS_MAX);
    }
    if (!o->handler && !o->inline_handler) return err_set(ERR_INVALID, "net: no handler");
    if (o->handler && !o->workers) return err_set(ERR_INVALID, "net: a handler needs workers");
    return check_limits(o);
}

static void send_stop(net_server *s, uint32_t grace_ms) {
    for (unsigned i = 0; i < s->loops_started; i++) {
        loop *l = &s->loops[i];
        atomic_store_explicit(&l->grace_ms, grace_ms, memory_order_relaxed);
        atomic_store_explicit(&l->stop, true, memory_order_release);
        uv_async_send(&l->wake);
    }
    for (unsigned i = 0; i < s->loops_started; i++) thread_join(&s->loops[i].thread);
}

void net_server_close(net_server *s, uint32_t grace_ms) {
    if (!s) return;
    send_stop(s, grace_ms);
    for (unsigned i = 0; s->loops && i < s->loops_ready; i++) loop_deinit(&s->loops[i]);
    mem_free(s->loops);
    mem_free(s);
}

static err start(net_server *s) {
    s->loops = mem_zalloc(s->o.loops, sizeof(*s->loops));
    if (!s->loops) return ERR_NO_MEMORY;
    for (unsigned i = 0; i < s->o.loops; i++) {
        s->loops_ready++;
        TRY(loop_init(&s->loops[i], s));
    }
    TRY(open_listeners(s));
    for (unsigned i = 0; i < s->o.loops; i++) {
        TRY(thread_start(&s->loops[i].thread, "kith-net", run_loop, &s->loops[i]));
        s->loops_started++;
    }
    return OK;
}

err net_server_open(const net_options *o, net_server **out) {
    *out = NULL;
    TRY(check_options(o));
    net_server *s = mem_zalloc(1, sizeof(*s));
    if (!s) return ERR_NO_MEMORY;
    s->o = *o;
    memcpy(s->host, o->host, strlen(o->host) + 1);
    s->o.host = s->host;
    err rc = start(s);
    if (rc != OK) {
        net_server_close(s, 0);
        return rc;
    }
    *out = s;
    return OK;
}

uint16_t net_server_port(const net_server *s) {
    return s->port;
}

bool net_host_loopback(const char *host) {
    struct sockaddr_storage a;
    if (bind_address(host, 0, &a) != OK) return false;
    if (a.ss_family == AF_INET6) {
        return IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)(void *)&a)->sin6_addr);
    }
    return ntohl(((struct sockaddr_in *)(void *)&a)->sin_addr.s_addr) >> 24 == 127;
}

#define SUM(field) out->field += atomic_load_explicit(&t->field, memory_order_relaxed)

void net_server_stats(const net_server *s, net_stats *out) {
    *out = (net_stats){0};
    for (unsigned i = 0; i < s->o.loops; i++) {
        const loop_stats *t = &s->loops[i].stats;
        SUM(connections_open), SUM(connections_idle), SUM(connections_total);
        SUM(connections_rejected), SUM(requests_total), SUM(requests_h2_total), SUM(requests_open);
        SUM(bytes_in_total), SUM(bytes_out_total), SUM(bad_requests_total), SUM(shed_total);
        SUM(too_large_total), SUM(timeouts_total), SUM(cancelled_total), SUM(floods_total);
        SUM(accept_errors_total);
        for (size_t k = 0; k < COUNT_OF(out->status_total); k++) SUM(status_total[k]);
    }
    out->buffered_bytes = atomic_load_explicit(&s->buffered, memory_order_relaxed);
}
