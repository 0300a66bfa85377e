/* Answers: the headers that all have, and errors as documents.
 *
 * A problem document (RFC 9457) has type "about:blank", so its title is the status's phrase; what a
 * program branches on is `code`, what a person reads is `detail`. `expected` is cut out of a detail
 * of the form "... expected X, got Y", which is how every check in kith words itself, so that no
 * check has to build a document.
 *
 * Failures of the world and of ours (500, 507) may name files: strangers get the code and the
 * request's id, and the text goes to the log once, here.
 */
#include "api/api_int.h"

#include "api/keys.h"

#define NUMBER_TEXT 24

int api_status_of(err code) {
    static const short status[ERR_COUNT] = {[OK] = 200,
                                            [ERR_INVALID] = 400,
                                            [ERR_UNAUTHENTICATED] = 401,
                                            [ERR_DENIED] = 403,
                                            [ERR_NOT_FOUND] = 404,
                                            [ERR_EXISTS] = 409,
                                            [ERR_TOO_LARGE] = 413,
                                            [ERR_AGAIN] = 503,
                                            [ERR_TIMEOUT] = 504,
                                            [ERR_CANCELLED] = 503,
                                            [ERR_NO_MEMORY] = 503,
                                            [ERR_NO_SPACE] = 507,
                                            [ERR_IO] = 500,
                                            [ERR_CORRUPT] = 500,
                                            [ERR_UNSUPPORTED] = 501,
                                            [ERR_INTERNAL] = 500};
    return (unsigned)code < ERR_COUNT ? status[code] : 500;
}

static bool is_callers(err code) {
    int s = api_status_of(code);
    return s < 500 || code == ERR_AGAIN || code == ERR_TIMEOUT || code == ERR_UNSUPPORTED;
}

/* ---- headers ---- */

static void add(net_header *out, size_t *n, str name, str value) {
    KITH_ASSERT(*n < API_HEADERS_MAX);
    out[(*n)++] = (net_header){name, value};
}

size_t api_headers(net_request *rq, const api_http *h, const api_answer *r, net_header *out) {
    size_t n = 0;
    add(out, &n, STR("Content-Type"), str_of(r->type));
    add(out, &n, STR("X-Content-Type-Options"), STR("nosniff"));
    if (h->request_id.len) add(out, &n, STR("Kith-Request-Id"), h->request_id);
    str lsn = arena_printf(rq->arena, "%llu", (unsigned long long)r->lsn);
    if (lsn.ptr) add(out, &n, STR("Kith-LSN"), lsn);
    bool cached = false;
    for (size_t i = 0; i < r->extra_count; i++) {
        cached = cached || str_eq(r->extra[i].name, STR("Cache-Control"));
        add(out, &n, r->extra[i].name, r->extra[i].value);
    }
    if (!cached) add(out, &n, STR("Cache-Control"), STR("no-store"));
    return n;
}

void api_respond(net_request *rq, const api_http *h, api_answer *r) {
    net_header headers[API_HEADERS_MAX];
    size_t n = api_headers(rq, h, r, headers);
    trace_root_number("http.response.status_code", r->status);
    if (r->status >= 500) trace_root_fail(net_status_text(r->status));
    net_respond(rq, r->status, headers, n, r->body, r->own);
}

/* ---- problems ---- */

/* X of "expected X, got Y"; empty when the detail is not of that form. */
static str expected_of(str detail) {
    const size_t word = sizeof "expected " - 1;
    ptrdiff_t from = str_find(detail, STR("expected "));
    if (from < 0) return (str){"", 0};
    str s = str_skip(detail, (size_t)from + word);
    for (str rest = s;;) {
        ptrdiff_t got = str_find(rest, STR(", got "));
        if (got < 0) return s;
        rest = str_skip(rest, (size_t)got + 1);
        if (str_find(rest, STR(", got ")) < 0)
            return str_from(s.ptr, (size_t)(rest.ptr - s.ptr) - 1);
    }
}

/* A member with a text that may hold anything: what is not UTF-8 is cut off. */
static void add_member(strbuf *b, const char *name, str text) {
    size_t bad;
    if (!utf8_valid(text, &bad)) text.len = bad;
    strbuf_addf(b, ",\"%s\":", name);
    strbuf_add_json(b, text);
}

void api_problem_members(strbuf *b, err code, bool local, bool brief) {
    int status = api_status_of(code);
    if (!brief)
        strbuf_addf(b, "\"type\":\"about:blank\",\"title\":\"%s\",", net_status_text(status));
    strbuf_addf(b, "\"status\":%d,\"code\":\"%s\"", status, err_name(code));
    if (!is_callers(code) && !local) {
        add_member(b, "detail", STR("the server failed; its log has more under the request's id"));
        return;
    }
    str detail = str_of(err_detail()), expected = expected_of(detail);
    add_member(b, "detail", detail);
    if (err_field()[0]) add_member(b, "field", str_of(err_field()));
    if (code == ERR_INVALID && expected.len) add_member(b, "expected", expected);
}

static void log_failure(api *a, const api_http *h, err code) {
    if (is_callers(code) || !a->o.log) return;
    strbuf b;
    strbuf_init(&b, KIB);
    strbuf_addf(&b, "request=" STR_FMT " code=%s detail=", STR_ARG(h->request_id), err_name(code));
    strbuf_add_json(&b, str_of(err_detail()));
    if (b.rc == OK) a->o.log(a->o.ctx, b.ptr);
    strbuf_deinit(&b);
}

static void add_extra(api_answer *r, str name, str value) {
    KITH_ASSERT(r->extra_count < COUNT_OF(r->extra));
    r->extra[r->extra_count++] = (net_header){name, value};
}

static void send_problem(api *a, net_request *rq, const api_http *h, err code, api_answer *r) {
    strbuf b;
    strbuf_init(&b, 8 * KIB);
    strbuf_addc(&b, '{');
    api_problem_members(&b, code, h->local, false);
    strbuf_addz(&b, "}\n");
    api_parts parts;
    if (api_parts_get(a, &parts) && !r->lsn) r->lsn = shard_lsn(parts.shard);
    r->type = "application/problem+json";
    r->body = b.rc == OK ? strbuf_str(&b) : STR("{\"type\":\"about:blank\",\"status\":500}\n");
    r->own = NET_COPY;
    api_respond(rq, h, r);
    strbuf_deinit(&b);
}

void api_respond_error(api *a, net_request *rq, const api_http *h, err code) {
    log_failure(a, h, code);
    if (h->route && h->route->openai) {
        api_openai_error(rq, h, code, api_status_of(code));
        return;
    }
    api_answer r = {.status = api_status_of(code)};
    if (code == ERR_AGAIN || code == ERR_TIMEOUT || code == ERR_NO_MEMORY)
        add_extra(&r, STR("Retry-After"), STR("1"));
    if (code == ERR_UNAUTHENTICATED)
        add_extra(&r, STR("WWW-Authenticate"), STR("Bearer realm=\"kith\""));
    send_problem(a, rq, h, code, &r);
}

void api_respond_built(api *a, net_request *rq, const api_http *h, err rc, api_answer *r,
                       strbuf *b) {
    if (rc == OK) rc = b->rc;
    if (rc != OK) {
        strbuf_deinit(b);
        api_respond_error(a, rq, h, rc);
        return;
    }
    size_t n = b->len;
    r->status = 200;
    r->own = NET_TAKE;
    r->body = str_from(strbuf_take(b), n);
    api_respond(rq, h, r);
}

void api_respond_method(api *a, net_request *rq, const api_http *h, str allow) {
    (void)a;
    strbuf b;
    strbuf_init(&b, KIB);
    strbuf_addf(&b,
                "{\"type\":\"about:blank\",\"title\":\"Method Not Allowed\",\"status\":405,"
                "\"code\":\"method\",\"detail\":\"expected one of " STR_FMT
                "\",\"expected\":\"" STR_FMT "\"}\n",
                STR_ARG(allow), STR_ARG(allow));
    api_answer r = {.status = 405, .type = "application/problem+json", .body = strbuf_str(&b)};
    r.own = NET_COPY;
    add_extra(&r, STR("Allow"), allow);
    api_respond(rq, h, &r);
    strbuf_deinit(&b);
}
