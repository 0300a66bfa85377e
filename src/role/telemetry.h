/* telemetry: what one instance says of itself beyond counting: gauges for the scraper, a look at the
 * last minutes for people (kith top, /status), traces to a collector.
 *
 *     TRY(telemetry_open(dir, &t));
 *     telemetry_server(t, server, workers);          // as the parts come up
 *     telemetry_parts(t, shard, searcher, provider, embedder);
 *     ...
 *     telemetry_stop(t);                              // before the parts go
 *     telemetry_close(t);
 *
 * Settings come from the environment, as OpenTelemetry names them: docs/observability.md.
 */
#ifndef KITH_ROLE_TELEMETRY_H
#define KITH_ROLE_TELEMETRY_H

#include "archive/archive.h"
#include "ingest/ingest.h"
#include "net/net.h"
#include "search/search.h"

typedef struct telemetry telemetry;

MUST_USE err telemetry_open(const char *dir, telemetry **out);
void telemetry_server(telemetry *t, net_server *server, pool *workers);
void telemetry_parts(telemetry *t, shard *s, searcher *x, provider *p, embedder *e);
/* Before telemetry_parts, when there is one. */
void telemetry_archive(telemetry *t, archive *a);
void telemetry_stop(telemetry *t); /* NULL is fine, as is below; joins its threads */
void telemetry_close(telemetry *t);

/* The last TELEMETRY_SECONDS as one JSON object. */
enum { TELEMETRY_SECONDS = 300 };
MUST_USE err telemetry_json(telemetry *t, strbuf *b);

#endif
