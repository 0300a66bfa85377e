/* OTLP over HTTP: a POST of protobuf, gzip unless told otherwise, and what the answer means. 200 is
 * taken; 429, 502, 503, 504 and a connection that fails may be tried again, after Retry-After (in
 * seconds) when it is there; everything else is a refusal. A 200 may carry
 * ExportTracePartialSuccess {rejected_spans 1}, which is read and counted.
 *
 * Sources: opentelemetry-proto docs/specification.md; the OpenTelemetry specification's pages on
 * exporters and on environment variables.
 */
#include "role/otlp_http.h"

#include "net/client.h"
#include "obs/export.h"
#include "obs/obs.h"
#include "role/instance.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

enum { HEADERS_MAX = 16, TARGET_BYTES = 1024, TIMEOUT_MS = 5000, GZIP_WINDOW = 15 + 16 };

struct otlp_http {
    http_client *client;
    exporter *exporter;
    char base[TARGET_BYTES], target[TARGET_BYTES];
    char *headers[HEADERS_MAX + 1]; /* owned */
    size_t header_count;
    bool gzip;
    uint32_t timeout_ms;
    strbuf packed;
    bool told; /* that the collector does not answer, since it last did */
};

static const char *env(const char *name) {
    const char *v = getenv(name);
    return v ? v : "";
}

/* ---- sending ---- */

static err pack(otlp_http *o, str body) {
    z_stream z = {0};
    if (deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return err_set(ERR_NO_MEMORY, "no memory to compress");
    strbuf_reset(&o->packed);
    z.next_in = (Bytef *)(uintptr_t)body.ptr;
    z.avail_in = (uInt)body.len;
    int rc;
    do {
        unsigned char out[16384];
        z.next_out = out;
        z.avail_out = sizeof out;
        rc = deflate(&z, Z_FINISH);
        strbuf_add(&o->packed, str_from(out, sizeof out - z.avail_out));
    } while (rc == Z_OK);
    deflateEnd(&z);
    return rc == Z_STREAM_END ? o->packed.rc : err_set(ERR_INTERNAL, "deflate: %d", rc);
}

/* rejected_spans of ExportTraceServiceResponse {partial_success 1 {rejected_spans 1}}. */
static uint64_t rejected_of(str body) {
    reader r = reader_of(body.ptr, body.len);
    if (body.len < 2 || reader_u8(&r) != (1 << 3 | 2)) return 0;
    (void)reader_varint(&r);
    if (reader_u8(&r) != 1 << 3) return 0;
    uint64_t n = reader_varint(&r);
    return r.failed ? 0 : n;
}

static void tell(otlp_http *o, bool works, const char *why) {
    if (works == !o->told) return;
    o->told = !works;
    if (works)
        log_line(LOG_INFO, "collector answers", "url=%s", o->base);
    else
        log_line(LOG_WARN, "collector does not take traces", "url=%s why=\"%s\"", o->base, why);
}

static export_answer post(void *ctx, str body) {
    otlp_http *o = ctx;
    export_answer none = {.again = false};
    if (o->gzip && pack(o, body) != OK) return none;
    http_ask ask = {.method = "POST",
                    .target = o->target,
                    .content_type = "application/x-protobuf",
                    .body = o->gzip ? strbuf_str(&o->packed) : body,
                    .timeout_ms = o->timeout_ms,
                    .headers = (const char *const *)o->headers,
                    .header_count = o->header_count};
    http_reply r;
    if (http_call(o->client, &ask, &r) != OK) {
        tell(o, false, err_detail());
        return (export_answer){.again = true};
    }
    bool again = r.status == 429 || (r.status >= 502 && r.status <= 504);
    bool sent = r.status >= 200 && r.status < 300;
    tell(o, sent, net_status_text(r.status));
    uint64_t seconds = 0;
    str after = http_reply_header(&r, STR("retry-after"));
    if (!after.ptr || !str_to_u64(after, &seconds) || seconds > 3600) seconds = 0;
    return (export_answer){.sent = sent,
                           .again = again,
                           .retry_ms = (uint32_t)seconds * 1000,
                           .rejected = sent ? rejected_of(r.body) : 0};
}

/* ---- settings ---- */

static err read_sampler(void) {
    trace_options o = trace_options_default();
    str kind = str_of(env("OTEL_TRACES_SAMPLER")), arg = str_of(env("OTEL_TRACES_SAMPLER_ARG"));
    const char *slow = env("KITH_TRACE_SLOW_MS");
    uint64_t ms;
    o.parent = !kind.len || str_starts(kind, STR("parentbased_"));
    if (str_starts(kind, STR("parentbased_"))) kind = str_skip(kind, sizeof "parentbased_" - 1);
    if (str_eq(kind, STR("always_on")))
        o.ratio = 1;
    else if (str_eq(kind, STR("always_off")))
        o.ratio = 0;
    else if (kind.len && !str_eq(kind, STR("traceidratio")))
        return err_set(ERR_INVALID, "OTEL_TRACES_SAMPLER: expected always_on, always_off, "
                                    "traceidratio or parentbased_ before one of them");
    else if (arg.len && (!str_to_f64(arg, &o.ratio) || o.ratio < 0 || o.ratio > 1))
        return err_set(ERR_INVALID, "OTEL_TRACES_SAMPLER_ARG: expected 0 to 1");
    if (slow[0] && !str_to_u64(str_of(slow), &ms))
        return err_set(ERR_INVALID, "KITH_TRACE_SLOW_MS: expected milliseconds");
    if (slow[0]) o.slow_ns = ms * 1000000u;
    o.off = strcmp(env("OTEL_SDK_DISABLED"), "true") == 0;
    trace_options_set(&o);
    return OK;
}

/* "http://host:4318/path" into base and target; the path of a general endpoint goes before
 * /v1/traces, that of the traces' own is used as it is. */
static err read_endpoint(otlp_http *o, bool *there) {
    const char *own = env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
               *all = env("OTEL_EXPORTER_OTLP_ENDPOINT");
    str url = str_of(own[0] ? own : all);
    *there = url.len > 0;
    if (!url.len) return OK;
    ptrdiff_t scheme = str_find(url, STR("://"));
    if (scheme < 0 || url.len >= TARGET_BYTES - 16)
        return err_set(ERR_INVALID, "OTEL_EXPORTER_OTLP_ENDPOINT: expected http://HOST:PORT");
    str rest = str_skip(url, (size_t)scheme + 3);
    ptrdiff_t slash = str_find_byte(rest, '/');
    size_t base = slash < 0 ? url.len : (size_t)scheme + 3 + (size_t)slash;
    str path = str_skip(url, base);
    while (!own[0] && path.len && path.ptr[path.len - 1] == '/') path.len--;
    snprintf(o->base, sizeof o->base, "%.*s", (int)base, url.ptr);
    snprintf(o->target, sizeof o->target, STR_FMT "%s", STR_ARG(path),
             own[0] ? (path.len ? "" : "/") : "/v1/traces");
    return OK;
}

static err add_header(otlp_http *o, str name, str value) {
    strbuf b;
    if (o->header_count == HEADERS_MAX) return err_set(ERR_TOO_LARGE, "too many OTLP headers");
    strbuf_init(&b, 8 * KIB);
    strbuf_addf(&b, STR_FMT ": " STR_FMT, STR_ARG(name), STR_ARG(value));
    o->headers[o->header_count] = strbuf_take(&b);
    return o->headers[o->header_count++] ? OK : ERR_NO_MEMORY;
}

static err read_headers(otlp_http *o) {
    const char *own = env("OTEL_EXPORTER_OTLP_TRACES_HEADERS");
    str rest = str_of(own[0] ? own : env("OTEL_EXPORTER_OTLP_HEADERS")), pair, key;
    const char *gzip = env("OTEL_EXPORTER_OTLP_COMPRESSION");
    o->gzip = strcmp(gzip, "none") != 0;
    if (o->gzip) TRY(add_header(o, STR("Content-Encoding"), STR("gzip")));
    while (rest.len && str_split(&rest, ',', &pair))
        if (str_find_byte(pair, '=') > 0 && str_split(&pair, '=', &key))
            TRY(add_header(o, str_trim(key), str_trim(pair)));
    uint64_t ms = TIMEOUT_MS;
    const char *t = env("OTEL_EXPORTER_OTLP_TIMEOUT");
    if (t[0] && (!str_to_u64(str_of(t), &ms) || ms < 1 || ms > 60000))
        return err_set(ERR_INVALID, "OTEL_EXPORTER_OTLP_TIMEOUT: expected 1 to 60000 ms");
    o->timeout_ms = (uint32_t)ms;
    return OK;
}

static err start(otlp_http *o) {
    const char *name = env("OTEL_SERVICE_NAME");
    export_options x = {.send = post,
                        .ctx = o,
                        .service = name[0] ? name : "kith",
                        .version = KITH_VERSION,
                        .attributes = env("OTEL_RESOURCE_ATTRIBUTES")};
    uint64_t ms;
    if (str_to_u64(str_of(env("OTEL_BSP_SCHEDULE_DELAY")), &ms) && ms <= 60000)
        x.delay_ms = (uint32_t)ms;
    TRY(read_headers(o));
    TRY(http_client_open(o->base, NULL, &o->client));
    TRY(exporter_open(&x, &o->exporter));
    trace_sink_set(exporter_sink, o->exporter);
    return OK;
}

err otlp_http_open(otlp_http **out) {
    *out = NULL;
    otlp_http *o = mem_zalloc(1, sizeof *o);
    if (!o) return ERR_NO_MEMORY;
    strbuf_init(&o->packed, EXPORT_BODY_MAX);
    bool there = false;
    err rc = read_sampler();
    if (rc == OK) rc = read_endpoint(o, &there);
    if (rc == OK && there && strcmp(env("OTEL_TRACES_EXPORTER"), "none") != 0) rc = start(o);
    if (rc != OK) {
        otlp_http_close(o);
        return rc;
    }
    *out = o;
    return OK;
}

void otlp_http_close(otlp_http *o) {
    if (!o) return;
    trace_sink_set(NULL, NULL);
    exporter_close(o->exporter);
    http_client_close(o->client);
    for (size_t i = 0; i < o->header_count; i++) mem_free(o->headers[i]);
    strbuf_deinit(&o->packed);
    mem_free(o);
}
