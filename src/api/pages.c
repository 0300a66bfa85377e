/* What is no operation: health, the OpenAPI page, the files of the web page.
 *
 * All of it is in the binary's read-only data and holds no secret, so it is answered on the loop,
 * to anyone. Files carry an entity tag (the content's hash) and Cache-Control: no-cache: a browser
 * asks each time and gets 304, and a new binary shows its new page at once. The content security
 * policy allows scripts and styles of this server only, no inline ones, no frames around it.
 */
#include "api/api_int.h"

#define CSP                                                                           \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " \
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; "  \
    "base-uri 'none'; frame-ancestors 'none'"

static uint64_t position(api *a) {
    api_parts p;
    return api_parts_get(a, &p) ? shard_lsn(p.shard) : 0;
}

void api_run_health(api *a, net_request *rq, api_http *h) {
    api_answer r = {.status = 200, .type = "text/plain; charset=utf-8", .body = STR("ok\n")};
    r.lsn = position(a);
    r.own = NET_BORROW;
    api_respond(rq, h, &r);
}

void api_run_ready(api *a, net_request *rq, api_http *h) {
    err rc = api_ready(a);
    if (rc != OK) {
        api_respond_error(a, rq, h, rc);
        return;
    }
    api_answer r = {.status = 200, .type = "application/json", .body = STR("{\"ready\":true}\n")};
    r.lsn = position(a);
    r.own = NET_BORROW;
    api_respond(rq, h, &r);
}

const api_file *api_find_file(const api *a, str path) {
    if (str_eq(path, STR("/"))) path = STR("/index.html");
    if (str_eq(path, STR("/status"))) path = STR("/status.html");
    for (size_t i = 0; i < a->o.file_count; i++)
        if (str_eq(a->o.files[i].path, path)) return &a->o.files[i];
    return NULL;
}

/* If-None-Match lists tags; a weak mark before one does not matter here (RFC 9110, 13.1.2). */
static bool is_unchanged(const net_request *rq, str etag) {
    str rest = net_header_get(rq, STR("if-none-match")), tag;
    while (str_split(&rest, ',', &tag)) {
        tag = str_trim(tag);
        if (str_starts(tag, STR("W/"))) tag = str_skip(tag, 2);
        if (str_eq(tag, etag) || str_eq(tag, STR("*"))) return true;
    }
    return false;
}

static void send_file(net_request *rq, const api_http *h, const api_file *f, uint64_t lsn) {
    api_answer r = {.status = 200, .type = f->type.ptr, .lsn = lsn, .own = NET_BORROW};
    r.body = str_from(f->bytes, f->size);
    if (is_unchanged(rq, f->etag)) r.status = 304, r.body = (str){"", 0};
    r.extra[r.extra_count++] = (net_header){STR("ETag"), f->etag};
    r.extra[r.extra_count++] = (net_header){STR("Cache-Control"), STR("no-cache")};
    r.extra[r.extra_count++] = (net_header){STR("Content-Security-Policy"), STR(CSP)};
    r.extra[r.extra_count++] = (net_header){STR("Referrer-Policy"), STR("no-referrer")};
    r.extra[r.extra_count++] = (net_header){STR("Cross-Origin-Opener-Policy"), STR("same-origin")};
    r.extra[r.extra_count++] =
        (net_header){STR("Cross-Origin-Resource-Policy"), STR("same-origin")};
    api_respond(rq, h, &r);
}

bool api_run_file(api *a, net_request *rq, const api_http *h) {
    const api_file *f = api_find_file(a, rq->path);
    if (!f) return false;
    send_file(rq, h, f, position(a));
    return true;
}

void api_run_openapi(api *a, net_request *rq, api_http *h) {
    KITH_ASSERT(openapi_file_count == 1);
    send_file(rq, h, &openapi_file[0], position(a));
}
