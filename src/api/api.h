/* api: the operations of proto/kith/v1, and their JSON over HTTP. It is what net calls and what the
 * command line calls in process; it owns no thread and no state but its options.
 *
 *     api *a;
 *     TRY(api_open(&(api_options){.keys = k, .version = "0.1.0", .files = ui_files, ...}, &a));
 *     net.ctx = a, net.route = api_route_request;
 *     net.inline_handler = api_inline, net.handler = api_handle;
 *     TRY(net_server_open(&net, &server));        // answers /healthz; /readyz says "starting"
 *     TRY(shard_open(..., &s));                   // may take long; api_starting tells how far
 *     api_attach(a, s, searcher, provider);
 *
 * In process, with the same checks and the same errors, but no access control:
 *     TRY(api_invoke(a, API_OP_SEARCH, &request, arena, (void **)&response, &lsn));
 *
 * A handler takes a request struct and gives a response struct; which wire carries it, it does not
 * know. Errors become application/problem+json: {type, title, status, code, detail, field,
 * expected} with the code of err_name and the status written in base/err.h; ERR_AGAIN and
 * ERR_TIMEOUT say Retry-After. Details of the world's failures (they name files) are told to
 * loopback peers and to the log only. POST /v1/embeddings and GET /v1/models answer errors in
 * OpenAI's form.
 *
 * Headers of every answer: Kith-LSN (the position it saw or made) and Kith-Request-Id (echoed when
 * it is 1 to 64 of A-Z a-z 0-9 . _ -, else made). Kith-Min-LSN: N waits up to API_MIN_LSN_MS until
 * N is applied, then 504; 504 at once when N is not even in the journal.
 *
 * Access (auth.c). A bearer token must be a live key with the scope of the operation. Without a
 * token: search and write are open to loopback peers, unless keys_always, when the request looks
 * local all through: Host is a loopback name (else a proxy stands in front, or a page rebinds its
 * DNS name) and Origin, when there is one, is this server (else another site's page is asking).
 * Everything else is 401. Health, the OpenAPI page and the static files hold nothing secret and are
 * open.
 *
 * Threads: any. api_attach may be called while requests run. Ownership: everything in the options
 * is borrowed and must outlive the api.
 */
#ifndef KITH_API_H
#define KITH_API_H

#include "api/api_routes.gen.h"
#include "api/keys.h"
#include "base/base.h"
#include "net/net.h"
#include "provider/provider.h"
#include "search/search.h"
#include "shard/shard.h"

#define API_BODY_MAX       MIB         /* of a JSON request */
#define API_LINE_MAX       MIB         /* of a batch */
#define API_ANSWER_MAX     (256 * MIB) /* of a JSON answer */
#define API_MIN_LSN_MS     2000
#define API_WAIT_MS        10000 /* wait=applied and wait=searchable */
#define API_EMBED_MAX      256   /* texts of one EmbedRequest */
#define API_OPENAI_MAX     2048  /* texts of one OpenAI request */
#define API_THREAD_MAX     1000
#define API_THREAD_DEFAULT 100
#define API_THREAD_BYTES   (4 * MIB) /* of texts in one page of a thread */

typedef struct api api;

/* A file of the page, baked in by tools/bake.py. */
typedef struct api_file {
    str path, type, etag; /* "/index.html", its media type, an entity tag with its quotes */
    const unsigned char *bytes;
    size_t size;
} api_file;
extern const api_file ui_files[]; /* the tree's ui/ */
extern const size_t ui_files_count;

typedef struct api_options {
    keys *keys;       /* NULL: there are none */
    bool keys_always; /* also loopback peers need one */
    const char *version;
    struct diary *diary; /* NULL: interactions are not kept */
    const api_file *files;
    size_t file_count;
    double (*embed_rate)(void *ctx); /* posts a second now; may be NULL */
    void (*embed_retry)(void *ctx);  /* try failed texts again; may be NULL */
    /* What /v1/observe tells, as one JSON object; may be NULL. */
    err (*observe)(void *ctx, strbuf *b);
    void (*log)(void *ctx, const char *text); /* failures that are not the caller's; may be NULL */
    void *ctx;
} api_options;

MUST_USE err api_open(const api_options *o, api **out);
void api_close(api *a);
/* From now on operations are answered. The provider may be NULL: then texts are not embedded. */
void api_attach(api *a, shard *s, searcher *x, provider *p);
/* What is being done before api_attach, for /readyz: "folding", 120, 4500. `what` is static. */
void api_starting(api *a, const char *what, uint64_t done, uint64_t total);

/* The three calls of net_options, with ctx an api. */
void api_route_request(void *ctx, net_request *rq, net_route *out);
bool api_inline(void *ctx, net_request *rq);
void api_handle(void *ctx, net_request *rq);
/* The `done` of net_options: counts what was answered. */
void api_done(void *ctx, const net_request *rq, const net_outcome *o);

/* One operation in process. `request` is of the operation's request type, *response of its response
 * type, in the arena. *lsn (may be NULL): the position that it saw or made. */
MUST_USE err api_invoke(api *a, api_op op, const void *request, arena *mem, void **response,
                        uint64_t *lsn);

/* A post as clients write it, {"id", "text", ..., "vector"}: for imports and batches. */
MUST_USE err api_parse_post(arena *mem, str json, Kith__V1__PutPostRequest **out);
/* The HTTP status of an error. */
int api_status_of(err code);

#endif
