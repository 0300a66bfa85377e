/* export: kept traces to a collector, as OTLP (protobuf).
 *
 *     exporter *x;
 *     TRY(exporter_open(&(export_options){.send = post, .ctx = http, .service = "kith"}, &x));
 *     trace_sink_set(exporter_sink, x);
 *     ...
 *     trace_sink_set(NULL, NULL);
 *     exporter_close(x);                       // sends what waits, once, then ends
 *
 * exporter_sink copies spans into a bounded queue and returns; when it is full they are dropped and
 * counted (kith_otlp_spans_total). One thread packs up to EXPORT_BATCH spans and calls `send`, which
 * knows of HTTP, so that this module does not. What may be tried again is, after the time that the
 * collector asked for or else a growing one with jitter, EXPORT_TRIES times; meanwhile the queue
 * fills, and memory stays as it is.
 *
 * Wire: opentelemetry-proto, collector/trace/v1 (ExportTraceServiceRequest).
 */
#ifndef KITH_OBS_EXPORT_H
#define KITH_OBS_EXPORT_H

#include "base/base.h"
#include "obs/trace.h"

enum { EXPORT_QUEUE = 2048, EXPORT_BATCH = 512, EXPORT_TRIES = 5 };
#define EXPORT_BODY_MAX (4 * MIB)

typedef struct export_answer {
    bool sent;         /* taken, perhaps in part */
    bool again;        /* not taken; may be tried again */
    uint32_t retry_ms; /* what the collector asked for; 0: nothing */
    uint64_t rejected; /* spans that it refused of those taken */
} export_answer;

typedef struct export_options {
    export_answer (*send)(void *ctx, str body); /* blocks; on the exporter's thread */
    void *ctx;
    const char *service, *version;
    const char *attributes; /* of the resource: "key=value,key=value"; may be NULL */
    uint32_t delay_ms;      /* spans wait for company; 0: 1,000 */
    uint32_t backoff_ms;    /* the first pause; 0: 1,000; doubles up to 30 s */
} export_options;

typedef struct exporter exporter;
MUST_USE err exporter_open(const export_options *o, exporter **out); /* texts are borrowed */
void exporter_close(exporter *x);                                    /* NULL is fine */
void exporter_sink(void *x, const span_data *spans, size_t n);

/* The body of one request, appended to b. */
MUST_USE err otlp_traces(strbuf *b, const export_options *o, const span_data *spans, size_t n);

#endif
