/* Who may: the policy of keys and of loopback.
 *
 * "Open on loopback" means: open to the person at this machine. A loopback address alone does not
 * show that, for two others come from there too: a reverse proxy on this machine, which carries
 * strangers, and a web page in a browser of this machine, which any site may have written. A
 * proxy passes on the public name in Host; a page of another site sends Origin (always with a
 * request that can write), and one that rebinds its name to 127.0.0.1 has its own name in Host. So
 * a request without a key must come from loopback, name a loopback host, and have no foreign Origin
 * and no Sec-Fetch-Site: cross-site. Forwarded headers are not believed in either direction, but
 * their presence shows a proxy.
 *
 * A token that is sent is always checked: a wrong one is refused even where none is needed, so that
 * a client learns of its mistake at once.
 */
#include "api/api_int.h"

static str bearer(const net_request *rq) {
    str v = net_header_get(rq, STR("authorization"));
    const size_t n = sizeof "Bearer " - 1;
    if (v.len < n || !str_eq_nocase(str_from(v.ptr, n), STR("Bearer "))) return (str){NULL, 0};
    return str_trim(str_skip(v, n));
}

/* "[::1]:8080" -> "::1", "localhost:8080" -> "localhost" */
static str host_name(str host) {
    if (host.len && host.ptr[0] == '[') {
        ptrdiff_t end = str_find_byte(host, ']');
        return end < 0 ? host : str_from(host.ptr + 1, (size_t)end - 1);
    }
    ptrdiff_t colon = str_find_byte(host, ':');
    return colon < 0 ? host : str_from(host.ptr, (size_t)colon);
}

static bool host_is_loopback(str host) {
    char z[64];
    str name = host_name(host);
    if (!name.len || name.len >= sizeof z || memchr(name.ptr, 0, name.len)) return false;
    memcpy(z, name.ptr, name.len);
    z[name.len] = 0;
    return net_host_loopback(z);
}

static bool origin_is_ours(str origin, str host) {
    if (!origin.ptr) return true;
    ptrdiff_t at = str_find(origin, STR("://"));
    return at > 0 && str_eq_nocase(str_skip(origin, (size_t)at + 3), host);
}

static err check_local(const net_request *rq) {
    static const str forwarded[] = {STR_INIT("forwarded"), STR_INIT("x-forwarded-for"),
                                    STR_INIT("x-real-ip")};
    if (!rq->peer_loopback) return err_set(ERR_UNAUTHENTICATED, "expected a bearer token");
    for (size_t i = 0; i < COUNT_OF(forwarded); i++)
        if (net_header_get(rq, forwarded[i]).ptr)
            return err_set(ERR_UNAUTHENTICATED,
                           "expected a bearer token: the request came through a proxy");
    if (!host_is_loopback(rq->host))
        return err_set(ERR_UNAUTHENTICATED, "expected a bearer token: Host is not a loopback name");
    str site = net_header_get(rq, STR("sec-fetch-site"));
    if (!origin_is_ours(net_header_get(rq, STR("origin")), rq->host) ||
        str_eq(site, STR("cross-site")))
        return err_set(ERR_DENIED, "another site's page may not call this server without a key");
    return OK;
}

err api_authorize(api *a, const net_request *rq, unsigned scope, api_http *h) {
    h->key = (key_grant){.scopes = SCOPE_NONE};
    h->local = rq->peer_loopback;
    if (scope == SCOPE_NONE) return OK;
    if (net_header_get(rq, STR("authorization")).ptr) {
        str sent = bearer(rq);
        if (!sent.ptr)
            return err_set(ERR_UNAUTHENTICATED, "expected Authorization: Bearer <token>");
        if (!a->o.keys) return err_set(ERR_UNAUTHENTICATED, "this server has no keys");
        TRY(keys_check(a->o.keys, sent, &h->key));
        if (h->key.scopes & scope) return OK;
        if (scope & SCOPE_METRICS) scope = SCOPE_METRICS; /* admin does as well */
        return err_set(ERR_DENIED, "this key lacks the scope %s", keys_scope_name(scope));
    }
    if (scope == SCOPE_ADMIN || a->o.keys_always)
        return err_set(ERR_UNAUTHENTICATED, "expected a bearer token");
    return check_local(rq);
}
