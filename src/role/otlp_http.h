/* otlp_http: the way from the exporter (obs/export.h) to a collector: OTLP over HTTP, and the settings
 * that OpenTelemetry's environment variables make. Without an endpoint nothing is exported; traces are
 * still kept for kith trace.
 *
 *     otlp_http *o;
 *     TRY(otlp_http_open(&o));     // reads OTEL_*; sets the sampler and, with an endpoint, the sink
 *     otlp_http_close(o);
 */
#ifndef KITH_ROLE_OTLP_HTTP_H
#define KITH_ROLE_OTLP_HTTP_H

#include "base/base.h"

typedef struct otlp_http otlp_http;
MUST_USE err otlp_http_open(otlp_http **out);
void otlp_http_close(otlp_http *o); /* NULL is fine */

#endif
