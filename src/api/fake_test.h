/* What the tests of api stand on instead of the real shard, store, searcher, provider and server:
 * posts in an array, answers in memory, failures on demand. Only the calls that api makes.
 *
 *     shard *s = fake_shard_new();
 *     api_attach(a, s, fake_searcher(s), fake_provider(s));
 *     fake_http *x = fake_send(a, "GET", "/v1/posts/1", "kith-min-lsn: 3\n", STR(""));
 *     ... x->status, fake_header(x, "kith-lsn"), x->body ...
 *     fake_done(x);
 */
#ifndef KITH_API_FAKE_TEST_H
#define KITH_API_FAKE_TEST_H

#include "api/api_int.h"

#define FAKE_POSTS_MAX 4096
#define FAKE_DIM       4

typedef struct fake_post {
    char *id;
    uint8_t *bytes; /* packed */
    size_t size;
    uint64_t lsn;
    bool vector;
} fake_post;

struct shard {
    fake_post posts[FAKE_POSTS_MAX];
    size_t count;
    uint64_t head, applied; /* applied is what shard_lsn says; follows head unless `stuck` */
    bool stuck;
    err put_rc; /* what the next put_rc_times puts give */
    int put_rc_times;
    int puts;          /* calls */
    size_t items_most; /* of one call */
    int readers_out;
    err wait_rc;
    err search_rc;
    const Kith__V1__SearchRequest *searched; /* valid while its request lives */
    char last_q[256];
    Kith__V1__SearchResponse *canned;
};

shard *fake_shard_new(void);
void fake_shard_free(shard *s);
searcher *fake_searcher(shard *s);
provider *fake_provider(shard *s);

typedef struct fake_http {
    net_request rq; /* first */
    arena mem;
    net_header sent[32];
    int status;
    int answers;
    char headers[4096]; /* "name: value\n", names in lower case */
    strbuf body;
    bool is_streamed, aborted;
    str input;
    size_t input_at, input_piece; /* bytes a read gives at most */
    bool cancelled;
} fake_http;

/* Sends through route, inline and handle, as net does. headers: "name: value\n" each, names in
 * lower case. From loopback, with Host localhost, unless `headers` names a "x-test-peer: far". */
fake_http *fake_send(api *a, const char *method, const char *target, const char *headers, str body);
/* The same with the body in pieces, and maybe cut off (err after the last piece). */
fake_http *fake_send_pieces(api *a, const char *method, const char *target, const char *headers,
                            str body, size_t piece);
const char *fake_header(const fake_http *x, const char *name); /* "" when absent */
void fake_done(fake_http *x);

#endif
