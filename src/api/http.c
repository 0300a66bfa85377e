/* Operations over HTTP: request in, handler, answer out.
 *
 * net calls three times. api_route_request, when the head is there: it finds the route and settles
 * access before a byte of the body is read, so strangers cannot make the server hold bodies; what
 * it found hangs at rq->user. api_inline, when the body is there, on the loop: only what cannot
 * block. Then api_handle on a worker.
 *
 * A request message is made of three sources in this order: the body (all of it, or one field), the
 * query parameters (the rest of the fields; none when the body is all), and the path's variable. A
 * field that the path or the body gives is not a parameter.
 * Invariants: (1) every request is answered exactly once, (2) no handler runs without access
 * checked, (3) messages and texts live in the request's arena, the answer's text in its own memory
 * that net takes over.
 */
#include "api/api_int.h"

#include <kith/v1/posts.pb-c.h>

#define REQUEST_ID_MAX 64

static str request_id(api *a, const net_request *rq) {
    str sent = net_header_get(rq, STR("kith-request-id"));
    bool good = sent.len >= 1 && sent.len <= REQUEST_ID_MAX;
    for (size_t i = 0; good && i < sent.len; i++) {
        char c = sent.ptr[i];
        good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               c == '.' || c == '_' || c == '-';
    }
    if (good) return sent;
    uint64_t n = atomic_fetch_add_explicit(&a->request_count, 1, memory_order_relaxed);
    return arena_printf(rq->arena, "%016llx", (unsigned long long)hash64_u64(a->request_seed + n));
}

/* Answers what is no operation: a missing path, another method. */
static void respond_unmatched(api *a, net_request *rq, api_http *h, err rc, str allow) {
    if (rc != ERR_UNSUPPORTED) {
        api_respond_error(a, rq, h, rc);
        return;
    }
    if (!str_eq(rq->method, STR("OPTIONS"))) {
        api_respond_method(a, rq, h, allow);
        return;
    }
    net_header allowed = {STR("Allow"), allow};
    net_respond(rq, 204, &allowed, 1, (str){"", 0}, NET_BORROW);
}

static bool is_get(const net_request *rq) {
    return str_eq(rq->method, STR("GET")) || str_eq(rq->method, STR("HEAD"));
}

/* Finds route and access. NULL: the request was answered. */
static api_http *begin(api *a, net_request *rq) {
    static const api_http none = {.request_id = STR_INIT("")};
    api_http *h = arena_zalloc(rq->arena, 1, sizeof *h);
    if (!h) {
        api_respond_error(a, rq, &none, ERR_NO_MEMORY);
        return NULL;
    }
    h->local = rq->peer_loopback;
    h->request_id = request_id(a, rq);
    if (is_get(rq) && api_find_file(a, rq->path)) {
        rq->user = h;
        return h;
    }
    str allow = {"", 0};
    err rc = api_match(rq->arena, rq->method, rq->path, h, &allow);
    if (rc != OK) {
        respond_unmatched(a, rq, h, rc, allow);
        return NULL;
    }
    rc = api_authorize(a, rq, h->route->scope, h);
    if (rc != OK) {
        api_respond_error(a, rq, h, rc);
        return NULL;
    }
    rq->user = h;
    return h;
}

void api_route_request(void *ctx, net_request *rq, net_route *out) {
    api_http *h = begin(ctx, rq);
    if (!h || !h->route) return;
    out->streamed = h->route->streamed;
    if (!out->streamed) out->body_bytes_max = API_BODY_MAX;
}

bool api_inline(void *ctx, net_request *rq) {
    api *a = ctx;
    api_http *h = rq->user;
    if (!h) return false;
    if (!h->route) return api_run_file(a, rq, h);
    if (!h->route->on_loop) return false;
    h->route->raw(a, rq, h);
    return true;
}

/* ---- the request message ---- */

/* The body of a route whose body is one field: only posts have such. */
static err read_field_body(api_call *c, const api_route *r, str body, void **out) {
    KITH_ASSERT(r->operation == API_OP_PUT_POST);
    return api_parse_post(c->mem, body, (Kith__V1__PutPostRequest **)out);
}

static err read_request(api_call *c, const net_request *rq, const api_http *h, void **out) {
    const api_route *r = h->route;
    const ProtobufCMessageDescriptor *d = api_operations[r->operation].request;
    bool whole = r->body && strcmp(r->body, "*") == 0;
    if (whole && rq->body.len) {
        TRY(json_map_parse(c->mem, d, rq->body, out));
    } else if (r->body && !whole) {
        TRY(read_field_body(c, r, rq->body, out));
    } else {
        *out = api_new(c, d);
        if (!*out) return ERR_NO_MEMORY;
    }
    const char *skip[2] = {whole ? NULL : r->body, r->variable};
    if (whole && rq->query.len)
        return err_set_field(ERR_INVALID, "query", "expected no parameters beside a body");
    if (!whole) TRY(json_map_query(c->mem, *out, rq->query, skip));
    if (r->variable) TRY(json_map_set(c->mem, *out, r->variable, h->variable));
    return OK;
}

/* Kith-Min-LSN: the answer must have seen this position. */
static err wait_min_lsn(api_call *c, const net_request *rq) {
    str text = net_header_get(rq, STR("kith-min-lsn"));
    uint64_t lsn;
    if (!text.ptr) return OK;
    if (!str_to_u64(text, &lsn))
        return err_set_field(ERR_INVALID, "Kith-Min-LSN", "expected a journal position");
    if (lsn <= shard_lsn(c->shard)) return OK;
    if (lsn > shard_head(c->shard))
        return err_set(ERR_TIMEOUT, "position %llu is not in this journal",
                       (unsigned long long)lsn);
    return shard_wait(c->shard, (str){"", 0}, lsn, WAIT_APPLIED, API_MIN_LSN_MS);
}

/* ---- one operation ---- */

static err run(api_call *c, net_request *rq, const api_http *h, void **response) {
    TRY(wait_min_lsn(c, rq));
    void *request = NULL;
    TRY(read_request(c, rq, h, &request));
    return api_operations[h->route->operation].fn(c, request, response);
}

static void run_operation(api *a, net_request *rq, api_http *h) {
    api_call call;
    void *response = NULL;
    err rc = api_call_begin(a, rq->arena, &call);
    if (rc == OK) rc = run(&call, rq, h, &response);
    api_answer r = {.type = "application/json"};
    strbuf b;
    strbuf_init(&b, API_ANSWER_MAX);
    if (rc == OK) {
        json_map_write(&b, response);
        strbuf_addc(&b, '\n');
        r.lsn = call.lsn ? call.lsn : shard_lsn(call.shard);
    }
    api_respond_built(a, rq, h, rc, &r, &b);
}

static void handle(api *a, net_request *rq, api_http *h) {
    if (!h->route)
        (void)api_run_file(a, rq, h);
    else if (h->route->raw)
        h->route->raw(a, rq, h);
    else
        run_operation(a, rq, h);
}

void api_handle(void *ctx, net_request *rq) {
    api *a = ctx;
    api_http *h = rq->user ? rq->user : begin(a, rq);
    if (!h) return;
    trace_root t;
    api_trace_begin(&t, rq, h);
    handle(a, rq, h); /* the request is gone with its answer */
    trace_root_end(&t, true);
}
