/* Inside of provider/: the interface that each maker of vectors fills in, and the parts of the remote
 * ones.
 *
 *   provider.c  cache, checks, batches within the limits
 *   cache.c     the cache in memory; disk.c the one on disk
 *   remote.c    one call to a service: breaker, limiter, retries, deadline
 *   openai.c, vertex.c  what that service speaks; token.c how Google lets one in
 */
#ifndef KITH_PROVIDER_INT_H
#define KITH_PROVIDER_INT_H

#include "base/json.h"
#include "provider/provider.h"
#include <stdatomic.h>

enum { PROVIDER_TEXTS_MAX = 256 };

typedef struct provider_ops {
    /* ask->count texts into count x dim floats, unit length; *usage starts at 0. Called from many
     * threads at once. */
    err (*embed)(void *self, const embed_ask *ask, float *out, embed_usage *usage);
    void (*close)(void *self);
    /* May be NULL: */
    void (*cancel)(void *self);
    size_t (*call_texts_max)(void *self); /* may become less while it is used */
    void (*stats)(void *self, provider_stats *out);
} provider_ops;

/* Takes `self` over, also when it fails. c (may be NULL) says how large the caches are. */
MUST_USE err provider_make(const provider_ops *ops, void *self, const provider_info *info,
                           const provider_config *c, provider **out);
void provider_space_set(provider_info *i, const char *kind, str name, const char *variant);
/* Divides by its length; false when it is not finite or has none. */
MUST_USE bool provider_unit(float *v, uint32_t dim);
/* What a text costs at most, before the service counts: a third of its bytes, at most info's limit. */
uint64_t provider_guess_tokens(const provider_info *i, str text);

/* ---- caches ---- */

typedef struct cache_key {
    uint64_t h[2];
} cache_key;
/* The key of this text for this side of this space: BLAKE2b of the text with runs of white space made
 * one space, so that nobody can make two texts meet. */
cache_key cache_key_of(const provider_info *i, embed_task task, str text);

typedef struct cache cache;
MUST_USE err cache_open(size_t bytes, uint32_t dim, cache **out);
void cache_close(cache *c);
bool cache_get(cache *c, const cache_key *k, float *out);
void cache_put(cache *c, const cache_key *k, const float *v);
void cache_forget(cache *c, const cache_key *k);
size_t cache_count(cache *c, uint64_t *bytes);
bool cache_validate(cache *c); /* for tests */

typedef struct disk_cache disk_cache;
/* One file for one space, at most `bytes` long, made when missing, made anew when it is not ours. */
MUST_USE err disk_cache_open(fs *fs, const char *dir, const provider_info *i, uint64_t bytes,
                             disk_cache **out);
void disk_cache_close(disk_cache *d);
bool disk_cache_get(disk_cache *d, const cache_key *k, float *out);
void disk_cache_put(disk_cache *d, const cache_key *k, const float *v);
void disk_cache_forget(disk_cache *d, const cache_key *k);

/* ---- remote ---- */

typedef enum remote_fault {
    REMOTE_OK,
    REMOTE_THROTTLED,
    REMOTE_SERVER,  /* 5xx, 408 */
    REMOTE_TIMEOUT, /* also our own deadline */
    REMOTE_NETWORK, /* no connection, cut, TLS */
    REMOTE_BAD,     /* an answer that is none */
    REMOTE_DENIED,  /* 401, 403, 404: the key, the project, the model */
    REMOTE_REFUSED, /* 400, 413, 422: this text, or so many */
    REMOTE_CANCELLED
} remote_fault;

typedef struct remote_call {
    const embed_ask *ask;
    const provider_info *info;
    uint64_t deadline_ns;
    bool may_probe;
    const _Atomic bool *cancel;
    strbuf target, body,
        auth; /* filled by api->ask; auth: the Authorization header's line, or empty */
} remote_call;

/* What the body of an error tells beside its status. */
typedef struct remote_hint {
    size_t texts_max; /* the service takes so many at once; 0: it did not say */
    bool again;       /* the next try is another one: with a fresh token */
} remote_hint;

/* One service's protocol. */
typedef struct remote_api {
    err (*ask)(void *self, remote_call *c);
    /* The answer of status 200. ERR_CORRUPT: it is none. */
    err (*answer)(yyjson_val *root, const remote_call *c, float *out, embed_usage *usage);
    /* error: of the body, NULL when it has none. */
    void (*refusal)(void *self, int status, yyjson_val *error, const remote_call *c,
                    remote_hint *hint);
    void (*close)(void *self);
    void (*stats)(void *self, provider_stats *out); /* may be NULL */
} remote_api;

/* Takes `self` over. c->dim 0: asked of the service. */
MUST_USE err remote_make(const provider_config *c, const char *url, const remote_api *api,
                         void *self, provider_info *info, provider **out);
MUST_USE err remote_openai_open(const provider_config *c, provider **out);
MUST_USE err remote_vertex_open(const provider_config *c, provider **out);
typedef struct known_model {
    const char *name;
    uint32_t dim;
    double cost; /* dollars a million tokens */
} known_model;
/* Dimension, price and the space's name of this model: as configured, else as known. */
void remote_known_model(const provider_config *c, const known_model *known, size_t n,
                        const char *model, provider_info *info);
/* A JSON array of numbers into a vector of unit length. */
MUST_USE err remote_numbers(yyjson_val *array, uint32_t dim, float *out);
/* Makes it one of unit length; ERR_CORRUPT when that cannot be. */
MUST_USE err remote_vector(float *v, uint32_t dim);

/* ---- access tokens of Google ---- */

typedef struct token_source token_source;
/* credentials: a JSON file (service account, authorised user, external account), NULL: the metadata
 * server, at GCE_METADATA_HOST or where Google has it. */
MUST_USE err tokens_open(fs *fs, const char *credentials, const char *ca_file, token_source **out);
void tokens_close(token_source *t);
/* Appends the token to c->auth. Fetched once for all threads, a while before the old one ends. */
MUST_USE err tokens_get(token_source *t, remote_call *c);
/* The service said 401 to this one: no one gets it again. */
void tokens_refused(token_source *t, str token);
void tokens_stats(token_source *t, provider_stats *out);

#endif
