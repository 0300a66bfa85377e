/* What the parts of api share: the tables of operations and routes, the call, the request. */
#ifndef KITH_API_INT_H
#define KITH_API_INT_H

#include "api/api.h"
#include "api/json_map.h"
#include "api/quality.h"
#include "obs/metrics.h"

#include <stdatomic.h>

typedef struct api_parts {
    shard *shard;
    searcher *searcher;
    provider *provider;
} api_parts;

struct api {
    api_options o; /* immutable */
    uint64_t start_ns;
    uint64_t request_seed;
    api_parts parts;                  /* written once, before `attached` */
    atomic_bool attached;             /* release in api_attach, acquire in api_parts_get */
    atomic_bool was_ready;            /* relaxed: a latch with hysteresis */
    _Atomic(const char *) start_what; /* relaxed, as the two numbers: only for people */
    _Atomic uint64_t start_done, start_total;
    _Atomic uint64_t request_count; /* relaxed: numbers requests */
    quality *quality;
};

/* ---- operations ---- */

typedef struct api_call {
    api *a;
    shard *shard;
    searcher *searcher;
    provider *provider; /* may be NULL */
    arena *mem;
    uint64_t lsn; /* set by writes; 0: the shard's position when the answer is made */
} api_call;

typedef err (*api_fn)(api_call *c, const void *request, void **response);

typedef struct api_operation {
    const char *name;
    unsigned scope;
    const ProtobufCMessageDescriptor *request, *response;
    api_fn fn;
} api_operation;
extern const api_operation api_operations[API_OP_COUNT];

err api_put_post(api_call *c, const void *request, void **response);
err api_get_post(api_call *c, const void *request, void **response);
err api_delete_post(api_call *c, const void *request, void **response);
err api_get_thread(api_call *c, const void *request, void **response);
err api_search(api_call *c, const void *request, void **response);
err api_similar(api_call *c, const void *request, void **response);
err api_suggest(api_call *c, const void *request, void **response);
err api_embed(api_call *c, const void *request, void **response);
err api_embed_failures(api_call *c, const void *request, void **response);
err api_retry_embed(api_call *c, const void *request, void **response);
err api_put_interactions(api_call *c, const void *request, void **response);
err api_status(api_call *c, const void *request, void **response);
err api_erase_user(api_call *c, const void *request, void **response);
err api_export_user(api_call *c, const void *request, void **response);
err api_request_backup(api_call *c, const void *request, void **response);

/* False while starting. */
bool api_parts_get(api *a, api_parts *out);
/* Fills a call, or ERR_AGAIN while starting. */
MUST_USE err api_call_begin(api *a, arena *mem, api_call *out);
/* OK when requests should come here; else the detail says why not. Does not block. */
MUST_USE err api_ready(api *a);

/* A zeroed message of the response, in the call's arena; NULL without memory. */
void *api_new(api_call *c, const ProtobufCMessageDescriptor *d);
/* Text in the arena for a message's field; "" for an empty one; NULL without memory. */
char *api_text(api_call *c, str s);
/* ERR_INVALID naming `field` unless s is 1 to POST_ID_MAX bytes of UTF-8 without control
 * characters. */
MUST_USE err api_check_id(str s, const char *field);
/* wait "" | "applied" | "searchable" */
typedef enum api_wait { API_WAIT_NONE, API_WAIT_APPLIED, API_WAIT_SEARCHABLE } api_wait;
MUST_USE err api_wait_parse(str text, api_wait *out);
MUST_USE err api_wait_for(api_call *c, str id, uint64_t lsn, api_wait what);
/* The checks of a put that do not need the shard's state. */
MUST_USE err api_check_put(api_call *c, const Kith__V1__PutPostRequest *r);
/* Embeds any number of texts, in the provider's batches; *out: n x dim floats in the arena. */
MUST_USE err api_embed_texts(api_call *c, const str *texts, size_t n, embed_task task, float **out,
                             uint64_t *tokens);

/* ---- requests over HTTP ---- */

typedef struct api_route api_route;

/* One request; hangs at net_request.user. */
typedef struct api_http {
    const api_route *route;
    str variable; /* decoded */
    str request_id;
    key_grant key; /* id "" when none was sent */
    bool local;    /* details of failures may be told */
} api_http;

typedef void (*api_raw_fn)(api *a, net_request *rq, api_http *h);

struct api_route {
    const char *method, *path; /* "/v1/posts/{id}/thread" */
    const char *variable;      /* dotted path of the request's field, or NULL */
    const char *body;          /* NULL: none, "*": the request, else the field that is the body */
    api_raw_fn raw;            /* not NULL: no operation */
    api_op operation;
    unsigned scope;
    bool streamed;
    bool on_loop; /* answers at once, without blocking */
    bool openai;  /* errors in OpenAI's form */
};
extern const api_route api_operation_routes[];
extern const size_t api_operation_route_count;

/* Finds the route. ERR_NOT_FOUND, or ERR_UNSUPPORTED: the path is there with other methods, which
 * *allow lists. h->route may then still be set, for its form of errors. */
MUST_USE err api_match(arena *mem, str method, str path, api_http *h, str *allow);
/* The methods of a path, "" when there is none. */
MUST_USE err api_allow(arena *mem, str path, str *allow);

/* Fills h->key, or ERR_UNAUTHENTICATED, ERR_DENIED. */
MUST_USE err api_authorize(api *a, const net_request *rq, unsigned scope, api_http *h);

/* A trace of one request, as OpenTelemetry names things. observe.c */
void api_trace_begin(trace_root *t, const net_request *rq, const api_http *h);

/* Answers. */
typedef struct api_answer {
    int status;
    const char *type;
    uint64_t lsn; /* 0: nothing is visible yet */
    str body;
    net_own own;
    net_header extra[8];
    size_t extra_count;
} api_answer;
void api_respond(net_request *rq, const api_http *h, api_answer *answer);
/* 200 with the body b, which it takes; or the problem, when rc or b's own tells of one. */
void api_respond_built(api *a, net_request *rq, const api_http *h, err rc, api_answer *answer,
                       strbuf *b);
void api_respond_error(api *a, net_request *rq, const api_http *h, err code);
void api_respond_method(api *a, net_request *rq, const api_http *h, str allow);
/* Headers of a streamed answer; `out` holds at least API_HEADERS_MAX. */
#define API_HEADERS_MAX 16
size_t api_headers(net_request *rq, const api_http *h, const api_answer *answer, net_header *out);
/* The members of a problem document, without the brackets; for batch lines without type and title.
 */
void api_problem_members(strbuf *b, err code, bool local, bool brief);

void api_run_batch(api *a, net_request *rq, api_http *h);
void api_run_embeddings(api *a, net_request *rq, api_http *h);
void api_run_models(api *a, net_request *rq, api_http *h);
void api_collect(void *ctx, metric_out *out); /* the quality of the last searches */
void api_run_metrics(api *a, net_request *rq, api_http *h);
void api_run_observe(api *a, net_request *rq, api_http *h);
void api_run_traces(api *a, net_request *rq, api_http *h);
void api_run_health(api *a, net_request *rq, api_http *h);
void api_run_ready(api *a, net_request *rq, api_http *h);
void api_run_openapi(api *a, net_request *rq, api_http *h);
void api_openai_error(net_request *rq, const api_http *h, err code, int status);
/* A static file by path; false when there is none. */
bool api_run_file(api *a, net_request *rq, const api_http *h);
const api_file *api_find_file(const api *a, str path);

extern const api_file openapi_file[];
extern const size_t openapi_file_count;

#endif
