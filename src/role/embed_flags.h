/* embed_flags: where vectors come from, as flags and environment. The key of a service is never a flag,
 * whose value every user of the machine could read: it comes from a file or the environment.
 *
 *     embed_flags f = EMBED_FLAGS_INIT;
 *     const arg args[] = {EMBED_ARGS(f), EMBED_MORE_ARGS(f), ...};
 *     ... args_parse ...
 *     TRY(embed_flags_check(&f));
 *     TRY(embed_flags_open(&f, "data", notice, ctx, &provider));
 */
#ifndef KITH_ROLE_EMBED_FLAGS_H
#define KITH_ROLE_EMBED_FLAGS_H

#include "provider/provider.h"

typedef struct embed_flags {
    const char *model_dir, *precision; /* of the local one */
    const char *kind, *url, *model, *key_file, *ca_file, *project, *location, *credentials;
    int64_t dim, query_ms, call_ms, open_ms, cache_mb, disk_mb;
    double rpm, tpm, cost, day_max, month_max;
} embed_flags;

#define EMBED_FLAGS_INIT ((embed_flags){.cost = -1})

/* For tables of args.h. */
#define EMBED_ARGS(f)                                                                              \
    {"model", ARG_STR, &(f).model_dir, "DIR", "sentence-transformers folder", "KITH_MODEL"},       \
        {"precision", ARG_STR, &(f).precision, "P", "f32, bf16 or int8", "KITH_PRECISION"},        \
        {"provider",     ARG_STR, &(f).kind, "P", "local (default), openai, vertex or mock",       \
         "KITH_PROVIDER"},                                                                         \
        {"embed-url",     ARG_STR, &(f).url, "URL", "its address, http://HOST:PORT/v1 for openai", \
         "KITH_EMBED_URL"},                                                                        \
        {"embed-model", ARG_STR, &(f).model, "NAME", "its model", "KITH_EMBED_MODEL"},             \
        {"embed-dim", ARG_INT, &(f).dim, "N", "dimensions to ask for", "KITH_EMBED_DIM"},          \
        {"embed-key-file",                                                                         \
         ARG_STR,                                                                                  \
         &(f).key_file,                                                                            \
         "FILE",                                                                                   \
         "its key; else KITH_EMBED_KEY, OPENAI_API_KEY",                                           \
         "KITH_EMBED_KEY_FILE"},                                                                   \
        {"embed-ca", ARG_STR, &(f).ca_file, "FILE", "PEM of whom to trust", "KITH_EMBED_CA"},      \
        {"vertex-project",      ARG_STR, &(f).project, "ID", "Google Cloud project",               \
         "GOOGLE_CLOUD_PROJECT"},                                                                  \
        {"vertex-location",     ARG_STR, &(f).location, "L", "region (default us-central1)",       \
         "KITH_VERTEX_LOCATION"},                                                                  \
    {                                                                                              \
        "vertex-credentials", ARG_STR, &(f).credentials, "FILE", "default: metadata server",       \
            "GOOGLE_APPLICATION_CREDENTIALS"                                                       \
    }

#define EMBED_MORE_ARGS(f)                                                                         \
    {"embed-query-ms",     ARG_INT, &(f).query_ms, "MS", "a query waits so long (default 1000)",   \
     "KITH_EMBED_QUERY_MS"},                                                                       \
        {"embed-call-ms",     ARG_INT, &(f).call_ms, "MS", "a call for posts (default 30000)",     \
         "KITH_EMBED_CALL_MS"},                                                                    \
        {"embed-open-ms",     ARG_INT, &(f).open_ms, "MS", "the breaker's pause (default 60000)",  \
         "KITH_EMBED_OPEN_MS"},                                                                    \
        {"embed-rpm",     ARG_F64, &(f).rpm, "N", "requests a minute (default: learned)",          \
         "KITH_EMBED_RPM"},                                                                        \
        {"embed-tpm",     ARG_F64, &(f).tpm, "N", "tokens a minute (default: learned)",            \
         "KITH_EMBED_TPM"},                                                                        \
        {"embed-cost", ARG_F64, &(f).cost, "X", "price of a million tokens", "KITH_EMBED_COST"},   \
        {"embed-day-max",     ARG_F64, &(f).day_max, "X", "cap a day, in that currency",           \
         "KITH_EMBED_DAY_MAX"},                                                                    \
        {"embed-month-max", ARG_F64, &(f).month_max, "X", "cap a month", "KITH_EMBED_MONTH_MAX"},  \
        {"embed-cache-mb",     ARG_INT, &(f).cache_mb, "N", "vectors kept in memory (default 32)", \
         "KITH_EMBED_CACHE_MB"},                                                                   \
    {                                                                                              \
        "embed-disk-mb", ARG_INT, &(f).disk_mb, "N", "and on disk (default 256)",                  \
            "KITH_EMBED_DISK_MB"                                                                   \
    }

/* Numbers in range, and words known: ERR_INVALID with the flag's name. */
MUST_USE err embed_flags_check(const embed_flags *f);
bool embed_flags_remote(const embed_flags *f);
/* dir: of the cache on disk and of what was spent; NULL: neither. */
MUST_USE err embed_flags_open(const embed_flags *f, const char *dir,
                              void (*notice)(void *ctx, const char *text), void *ctx,
                              provider **out);

#endif
