/* Which request is which operation.
 *
 * Two tables: one made from the .proto files, one here for what is no rpc (streams, another's
 * format, health). A pattern is a literal path with at most one variable, which stands for one
 * whole segment; so a match is a prefix, a segment and a suffix, and about twenty of them are tried
 * in turn, which costs less than a microsecond and needs no tree.
 *
 * Literals match their percent-encoded twins ("/v1/posts%3Abatch": some clients encode ':'), but an
 * encoded slash never ends a segment: an id may hold one. The variable is decoded strictly.
 * HEAD is served by GET's route; the body is dropped by net.
 */
#include "api/api_int.h"

static const api_route by_hand[] = {
    {.method = "POST",
     .path = "/v1/posts:batch",
     .raw = api_run_batch,
     .scope = SCOPE_WRITE,
     .streamed = true},
    {.method = "POST",
     .path = "/v1/embeddings",
     .raw = api_run_embeddings,
     .scope = SCOPE_SEARCH,
     .openai = true},
    {.method = "GET",
     .path = "/v1/models",
     .raw = api_run_models,
     .scope = SCOPE_SEARCH,
     .openai = true},
    {.method = "GET",
     .path = "/metrics",
     .raw = api_run_metrics,
     .scope = SCOPE_METRICS | SCOPE_ADMIN},
    {.method = "GET",
     .path = "/v1/observe",
     .raw = api_run_observe,
     .scope = SCOPE_METRICS | SCOPE_ADMIN},
    {.method = "GET",
     .path = "/v1/traces",
     .raw = api_run_traces,
     .scope = SCOPE_METRICS | SCOPE_ADMIN},
    {.method = "GET", .path = "/healthz", .raw = api_run_health, .on_loop = true},
    {.method = "GET", .path = "/readyz", .raw = api_run_ready, .on_loop = true},
    {.method = "GET", .path = "/openapi.json", .raw = api_run_openapi, .on_loop = true}};

#define ALLOW_MAX 64 /* bytes of an Allow header */

static const api_route *route_at(size_t i) {
    if (i < COUNT_OF(by_hand)) return &by_hand[i];
    i -= COUNT_OF(by_hand);
    return i < api_operation_route_count ? &api_operation_routes[i] : NULL;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Takes `literal` off the front of *rest. */
static bool take_literal(str *rest, str literal) {
    str s = *rest;
    for (size_t i = 0; i < literal.len; i++) {
        if (!s.len) return false;
        char c = s.ptr[0];
        size_t used = 1;
        if (c == '%' && s.len >= 3 && hex(s.ptr[1]) >= 0 && hex(s.ptr[2]) >= 0) {
            c = (char)(hex(s.ptr[1]) * 16 + hex(s.ptr[2]));
            used = 3;
            if (c == '/') return false;
        }
        if (c != literal.ptr[i]) return false;
        s = str_skip(s, used);
    }
    *rest = s;
    return true;
}

/* *raw is the variable's segment, still encoded. */
static bool match_path(str path, const char *pattern, str *raw) {
    str p = str_of(pattern), rest = path;
    ptrdiff_t open = str_find_byte(p, '{');
    *raw = (str){"", 0};
    if (open < 0) return take_literal(&rest, p) && rest.len == 0;
    if (!take_literal(&rest, str_from(p.ptr, (size_t)open))) return false;
    ptrdiff_t slash = str_find_byte(rest, '/');
    *raw = str_from(rest.ptr, slash < 0 ? rest.len : (size_t)slash);
    rest = str_skip(rest, raw->len);
    str tail = str_skip(p, (size_t)str_find_byte(p, '}') + 1);
    return raw->len && take_literal(&rest, tail) && rest.len == 0;
}

static bool method_matches(str method, const char *wanted) {
    if (str_eq(method, str_of(wanted))) return true;
    return str_eq(method, STR("HEAD")) && strcmp(wanted, "GET") == 0;
}

err api_allow(arena *mem, str path, str *allow) {
    char *z = arena_alloc(mem, ALLOW_MAX);
    if (!z) return ERR_NO_MEMORY;
    strbuf b;
    strbuf_init(&b, ALLOW_MAX - 1);
    const api_route *r;
    str raw;
    for (size_t i = 0; (r = route_at(i)); i++) {
        if (!match_path(path, r->path, &raw)) continue;
        strbuf_addf(&b, "%s, ", r->method);
        if (strcmp(r->method, "GET") == 0) strbuf_addz(&b, "HEAD, ");
    }
    if (b.len) strbuf_addz(&b, "OPTIONS");
    KITH_ASSERT(b.rc == OK || b.rc == ERR_NO_MEMORY);
    if (b.len) memcpy(z, b.ptr, b.len);
    *allow = str_from(z, b.len);
    err rc = b.rc;
    strbuf_deinit(&b);
    return rc;
}

err api_match(arena *mem, str method, str path, api_http *h, str *allow) {
    const api_route *r;
    str raw;
    for (size_t i = 0; (r = route_at(i)); i++) {
        if (!match_path(path, r->path, &raw)) continue;
        h->route = r;
        if (!method_matches(method, r->method)) continue;
        err rc = net_path_decode(mem, raw, &h->variable);
        if (rc == ERR_INVALID)
            return err_set_field(rc, "id", "expected a percent-encoded id in valid UTF-8");
        return rc;
    }
    TRY(api_allow(mem, path, allow));
    if (!allow->len) return err_set(ERR_NOT_FOUND, "no such path");
    return err_set(ERR_UNSUPPORTED, "expected one of " STR_FMT, STR_ARG(*allow));
}
