/* What a scraper and people on call read: /metrics, /v1/observe, /v1/traces; and what is told of every
 * request, as a metric when it was answered and as a trace while it is worked on.
 *
 * These are open on loopback like a search; from elsewhere they need a key with the scope metrics
 * (or admin): they hold no texts, but sizes and speeds are nobody else's business.
 * Routes are named by their pattern, never by the path that was sent; what matched none is one route.
 */
#include "api/api_int.h"

#include "obs/trace.h"

#define OBSERVE_MAX    MIB
#define TRACES_MAX     (8 * MIB)
#define TRACES_DEFAULT 10

void api_run_metrics(api *a, net_request *rq, api_http *h) {
    strbuf b;
    metrics_format f = metrics_format_of(net_header_get(rq, STR("accept")));
    strbuf_init(&b, METRICS_TEXT_MAX);
    err rc = metrics_write(&b, f);
    api_answer r = {.type = metrics_media_type(f)};
    api_respond_built(a, rq, h, rc, &r, &b);
}

void api_run_observe(api *a, net_request *rq, api_http *h) {
    strbuf b;
    strbuf_init(&b, OBSERVE_MAX);
    err rc = a->o.observe ? a->o.observe(a->o.ctx, &b)
                          : err_set(ERR_UNSUPPORTED, "this server keeps no window");
    api_answer r = {.type = "application/json"};
    api_respond_built(a, rq, h, rc, &r, &b);
}

void api_run_traces(api *a, net_request *rq, api_http *h) {
    uint64_t limit = TRACES_DEFAULT;
    str rest = rq->query, key, value;
    err rc = OK;
    while (rest.len && rc == OK) {
        rc = net_query_next(rq->arena, &rest, &key, &value);
        if (rc == OK && str_eq(key, STR("limit")) &&
            (!str_to_u64(value, &limit) || limit < 1 || limit > 2 * TRACE_RING))
            rc = err_set_field(ERR_INVALID, "limit", "expected 1 to %d", 2 * TRACE_RING);
    }
    strbuf b;
    strbuf_init(&b, TRACES_MAX);
    strbuf_addz(&b, "{\"traces\":");
    if (rc == OK) rc = trace_ring_json(&b, (size_t)limit);
    strbuf_addz(&b, "}\n");
    api_answer r = {.type = "application/json"};
    api_respond_built(a, rq, h, rc, &r, &b);
}

void api_collect(void *ctx, metric_out *out) {
    api *a = ctx;
    quality_view v;
    quality_look(a->quality, clock_wall_ms(), &v);
    if (v.searches) metric_give(out, M_QUALITY_ZERO, NULL, v.zero);
    if (!v.seen) return;
    metric_give(out, M_QUALITY_CTR, (const char *const[]){"1"}, v.ctr_1);
    metric_give(out, M_QUALITY_CTR, (const char *const[]){"10"}, v.ctr_10);
    metric_give(out, M_QUALITY_MRR, NULL, v.mrr);
    metric_give(out, M_QUALITY_ABANDONED, NULL, v.abandoned);
    metric_give(out, M_QUALITY_REFORMULATED, NULL, v.reformulated);
}

/* ---- each request ------------------------------------------------------------------------------ */

static const char *route_of(const api_http *h) {
    return h && h->route ? h->route->path : h ? "/{file}" : "other";
}

/* Methods are a client's words: only those that are known become a label. */
static const char *method_of(str m) {
    static const char *const known[] = {"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"};
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (str_eq(m, str_of(known[i]))) return known[i];
    return "_OTHER";
}

void api_done(void *ctx, const net_request *rq, const net_outcome *o) {
    static const char digits[] = "0123456789";
    (void)ctx;
    char status[4] = {digits[o->status / 100 % 10], digits[o->status / 10 % 10],
                      digits[o->status % 10], 0};
    const char *values[] = {method_of(rq->method), route_of(rq->user), status};
    metric_record(M_HTTP_SECONDS, metric_series(M_HTTP_SECONDS, values), o->duration_ns);
}

void api_trace_begin(trace_root *t, const net_request *rq, const api_http *h) {
    char name[TRACE_NAME_MAX];
    const char *method = method_of(rq->method), *route = route_of(h);
    size_t m = strlen(method), n = MIN(strlen(route), (size_t)TRACE_NAME_MAX - m - 2);
    memcpy(name, method, m);
    name[m] = ' ';
    memcpy(name + m + 1, route, n);
    name[m + 1 + n] = 0;
    metric_record(M_POOL_WAIT_SECONDS, 0, clock_mono_ns() - rq->start_ns);
    trace_root_begin(t, name, SPAN_SERVER, net_header_get(rq, STR("traceparent")));
    span_text(&t->span, "http.request.method", str_of(method));
    span_text(&t->span, "http.route", str_of(route));
    span_text(&t->span, "kith.request_id", h->request_id);
}
