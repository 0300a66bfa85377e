/* provider: where vectors come from. One interface, `provider`; its makers:
 *
 *   local   a sentence-transformers model in this process
 *   openai  any server with an OpenAI-compatible /v1/embeddings (another kith, for one)
 *   vertex  Google Vertex AI text embedding models, REST :predict
 *   mock    deterministic vectors from hashed words, for tests and dry runs
 *
 *     provider *p;
 *     TRY(provider_open(&(provider_config){.kind = "openai", .url = "http://127.0.0.1:9000/v1",
 *                                          .model = "all-minilm", .dim = 384}, &p));
 *     TRY(provider_embed(p, texts, n, EMBED_DOCUMENT, out, NULL));   // out: n x provider_dim floats
 *
 * Over all of them: a cache by space and normalised text, and the check that no vector of NaN or of another
 * length than 1 comes through. Around the remote ones: breakers for queries and for documents, a
 * limiter that learns from 429, retries within a budget, deadlines, caps on spending; docs/providers.md
 * tells what happens when.
 *
 * Threads: any, at once. Errors: ERR_INVALID (a text that this model cannot take, a bad configuration),
 * ERR_AGAIN (away for now: the breaker is open, the limit is used up), ERR_TIMEOUT, ERR_IO, ERR_CORRUPT (an
 * answer that is none), ERR_DENIED (the key, the model), ERR_CANCELLED (stopping), ERR_NO_MEMORY;
 * opening a local model gives ERR_CORRUPT and ERR_NOT_FOUND, whose detail names file and tensor.
 * No detail holds a text, a key or a token.
 */
#ifndef KITH_PROVIDER_H
#define KITH_PROVIDER_H

#include "base/base.h"
#include "guard/guard.h"
#include "os/os.h"

typedef enum embed_task { EMBED_DOCUMENT, EMBED_QUERY, EMBED_SIMILARITY } embed_task;

typedef struct embed_usage {
    uint64_t tokens; /* as the provider counts them; nothing for what the cache had */
} embed_usage;

typedef struct embed_ask {
    const str *texts;
    size_t count; /* at most provider_texts_max */
    embed_task task;
    bool bulk; /* the embed fold: waits for room and retries longer, leaves room to queries */
    uint64_t deadline_ns; /* of clock_mono_ns; 0: the provider's default for this task */
} embed_ask;

typedef struct provider provider;

#define PROVIDER_SPACE_MAX 160
#define PROVIDER_DIM_MAX   4096

/* What a provider is, costs and takes. */
typedef struct provider_info {
    const char *kind;               /* "local", ... */
    char space[PROVIDER_SPACE_MAX]; /* "vertex/text-embedding-005/768/cosine" */
    uint32_t dim;
    size_t texts_max;         /* of one call of provider_embed */
    uint64_t call_tokens_max; /* of one call to the service; 0: no limit */
    uint64_t text_tokens_max; /* of one text, what is behind is cut; 0: not known */
    double cost;              /* of a million tokens, in the currency of the caps */
    bool remote;              /* it may be away */
    bool sided;               /* a query's vector differs from a document's of the same text */
} provider_info;

/* ---- opening ---- */

typedef struct provider_config {
    const char *kind; /* NULL: "local" */
    /* local */
    const char *model_dir, *precision; /* "f32", "bf16" or "int8"; part of the space */
    /* openai, vertex */
    const char *url;   /* NULL: the service's own */
    const char *model; /* NULL: text-embedding-3-small, text-embedding-005 */
    uint32_t dim;      /* 0: the model's own; asked of the service when not known. mock: needed */
    const char *key;   /* openai; NULL: none. Copied */
    const char *project, *location,
        *credentials;    /* vertex; credentials: a file, NULL: metadata server */
    const char *ca_file; /* PEM; NULL: the system's */
    /* 0: the default of each */
    uint32_t query_ms; /* the most a query waits: 1,000 */
    uint32_t call_ms;  /* one try of a bulk call: 30,000 */
    breaker_options breaker;
    limiter_options limit;
    double cost; /* of a million tokens; below 0: the model's known price */
    spend_options spend;
    size_t cache_bytes;    /* in memory: 32 MiB */
    const char *cache_dir; /* of the cache on disk and what was spent; NULL: neither is kept */
    uint64_t disk_bytes;   /* of the cache on disk: 256 MiB */
    fs *fs;                /* NULL: fs_real */
    void (*notice)(void *ctx, const char *text); /* what an operator should know; may be NULL */
    void *ctx;
} provider_config;

MUST_USE err provider_open(const provider_config *c, provider **out);
MUST_USE err provider_local_open(fs *fs, const char *model_dir, const char *precision,
                                 provider **out);
/* Only the model, for benchmarks: close it by encode_model_close. */
struct encode_model;
MUST_USE err provider_model_open(fs *fs, const char *model_dir, const char *precision,
                                 struct encode_model **out);
/* Unit vectors from hashed words and character trigrams: texts that share words are near. */
MUST_USE err provider_mock_open(uint32_t dim, provider **out);
/* Calls under way end soon with ERR_CANCELLED, and so do new ones. Before joining who may be in one. */
void provider_cancel(provider *p);
void provider_close(provider *p); /* nobody may be in a call; NULL is fine */

/* ---- asking ---- */

const provider_info *provider_about(const provider *p);
/* "local/all-minilm-l6-v2/f32/384/cosine": two vectors may be compared only when this is equal. */
const char *provider_space(const provider *p);
uint32_t provider_dim(const provider *p);
size_t provider_texts_max(const provider *p); /* the most texts of one call */

MUST_USE err provider_embed(provider *p, const str *texts, size_t n, embed_task task, float *out,
                            embed_usage *usage);
MUST_USE err provider_embed_ask(provider *p, const embed_ask *ask, float *out, embed_usage *usage);
/* One query's vector, from the cache when it was asked for before; *cached may be NULL. */
MUST_USE err provider_embed_query(provider *p, str text, float *out, bool *cached);
/* OK when the provider embeds a harmless text just now (past the cache): tells a text that cannot be
 * embedded from a provider that is out of order. */
MUST_USE err provider_check(provider *p);
/* The vectors of this text leave the caches, for it was deleted. */
void provider_forget(provider *p, str text);

/* ---- counting ---- */

typedef struct provider_stats {
    /* provider_embed and provider_embed_query */
    uint64_t texts, tokens, errors;
    uint64_t cache_hits, cache_disk_hits, cache_misses;
    uint64_t cache_entries, cache_bytes;
    /* calls to a service, each try counted, by what came of it */
    uint64_t requests, ok, throttled, server_errors, timeouts, network_errors, bad_answers, denied,
        refused;
    uint64_t retries, retries_refused;                   /* refused: the budget was used up */
    uint64_t skipped_open, skipped_limit, skipped_spend; /* calls not made */
    uint64_t request_ns;                                 /* all of them together */
    uint64_t tokens_fetched, tokens_failed;              /* access tokens */
    breaker_stats query, document;                       /* closed and empty when not remote */
    limiter_stats limit;
    spend_stats spent;
} provider_stats;
void provider_stats_get(provider *p, provider_stats *out);

#endif
