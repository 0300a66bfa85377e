/* catalog: every metric of kith, in one place. docs/observability.md shows it for people, and a test
 * holds the two together. Numbers are this process' own: they may change.
 *
 * Kinds by order: histograms of durations, histograms of other things, counters, then values that
 * collectors give (gauges, and counters kept elsewhere).
 */
#ifndef KITH_OBS_CATALOG_H
#define KITH_OBS_CATALOG_H

#include "base/base.h"

typedef enum metric_id {
    /* histograms of durations */
    M_SEARCH_SECONDS,
    M_SEARCH_STAGE_SECONDS,
    M_HTTP_SECONDS,
    M_EMBED_SECONDS,
    M_STORE_SECONDS,
    M_JOURNAL_APPEND_SECONDS,
    M_JOURNAL_FSYNC_SECONDS,
    M_FOLD_SECONDS,
    M_LOOP_DELAY_SECONDS,
    M_POOL_WAIT_SECONDS,
    /* histograms of other things */
    M_JOURNAL_BATCH,
    M_QUERY_SCORE,
    /* counters */
    M_SEARCHES,
    M_SEARCH_DEGRADED,
    M_QUERY_CACHE,
    M_EMBED_REQUESTS,
    M_EMBED_FAILURES,
    M_EMBED_TEXTS,
    M_EMBED_TOKENS,
    M_JOURNAL_RECORDS,
    M_JOURNAL_BYTES,
    M_FOLD_RECORDS,
    M_INTERACTIONS,
    M_INTERACTIONS_REFUSED,
    M_RECALL_SAMPLES,
    M_LOG_LINES,
    M_OTLP_SPANS,
    M_OTLP_EXPORTS,
    /* values that collectors give */
    M_FAISS_MEMORY,
    M_INDEX_MEMORY,
    M_INDEX_MEMORY_LIMIT,
    M_INDEX_VECTORS,
    M_POSTS,
    M_THREADS,
    M_DISK_BYTES,
    M_SNAPSHOT_AGE,
    M_SNAPSHOT_LSN,
    M_SNAPSHOT_PRESENT,
    M_EMBED_PENDING,
    M_EMBED_FAILED,
    M_EMBED_OLDEST,
    M_EMBED_RATE,
    M_FOLD_LAG_SECONDS,
    M_FOLD_LAG_RECORDS,
    M_JOURNAL_HEAD,
    M_JOURNAL_STOPPED,
    M_JOURNAL_PROBLEMS,
    M_BACKUP_AGE,
    M_BREAKER_STATE,
    M_BREAKER_TRANSITIONS,
    M_EMBED_COST,
    M_RATE_LIMITED,
    M_PROVIDER_REQUESTS,
    M_PROVIDER_RETRIES,
    M_PROVIDER_SPEND,
    M_EMBED_CACHE,
    M_RECALL,
    M_QUALITY_CTR,
    M_QUALITY_MRR,
    M_QUALITY_ABANDONED,
    M_QUALITY_REFORMULATED,
    M_QUALITY_ZERO,
    M_QUALITY_DRIFT,
    M_HTTP_CONNECTIONS,
    M_HTTP_OPEN_REQUESTS,
    M_HTTP_SHED,
    M_HTTP_BAD,
    M_HTTP_BYTES,
    M_HTTP_BUFFERED,
    M_POOL_QUEUE,
    M_PROCESS_CPU,
    M_PROCESS_RSS,
    M_PROCESS_VIRTUAL,
    M_PROCESS_FDS,
    M_PROCESS_FDS_MAX,
    M_PROCESS_START,
    M_PROCESS_THREADS,
    M_HEAP_BYTES,
    M_BUILD_INFO,
    M_TRACES,
    M_TRACE_SPANS_LOST,
    M_SERIES_OTHER,
    METRIC_COUNT
} metric_id;
#define METRIC_FIRST_PLAIN_HISTOGRAM M_JOURNAL_BATCH
#define METRIC_FIRST_COUNTER         M_SEARCHES
#define METRIC_FIRST_GIVEN           M_FAISS_MEMORY

enum { METRIC_LABELS_MAX = 3, METRIC_WORDS_MAX = 10, METRIC_SERIES_MAX = 64 };

typedef struct metric_label {
    const char *name;
    const char *words[METRIC_WORDS_MAX]; /* all that it may be; none: open */
} metric_label;

typedef struct metric_info {
    const char *name, *help;
    bool counter;     /* of the given ones: a counter that is kept elsewhere */
    uint8_t open_max; /* series, where a label is open */
    metric_label labels[METRIC_LABELS_MAX];
} metric_info;

extern const metric_info metric_catalog[METRIC_COUNT];

/* Places of words in the lists of catalog.c. */
enum { SEARCH_HYBRID, SEARCH_WORDS, SEARCH_MEANING, SEARCH_LATEST, SEARCH_SIMILAR, SEARCH_TYPES };
enum { RESULTS_NONE, RESULTS_FEW, RESULTS_SOME, RESULTS_MANY, RESULTS_COUNT };
enum {
    STAGE_PLAN,
    STAGE_EMBED,
    STAGE_FILTER,
    STAGE_WORDS,
    STAGE_VECTORS,
    STAGE_FUSE,
    STAGE_RANK,
    STAGE_HYDRATE,
    STAGE_COUNT
};
enum { OUTCOME_OK, OUTCOME_ZERO, OUTCOME_ERROR, OUTCOME_COUNT };
enum { DEGRADED_WORDS_ONLY, DEGRADED_CACHED_VECTOR, DEGRADED_OTHER_SPACE };
enum { CACHE_HIT, CACHE_MISS };
enum {
    STORE_OP_GET,
    STORE_OP_THREAD,
    STORE_OP_PENDING,
    STORE_OP_WRITE,
    STORE_OP_COMMIT,
    STORE_OPS
};
enum { FOLD_STORE, FOLD_WORDS, FOLD_VECTORS, FOLD_EMBED, FOLD_COUNT };
enum { ACTION_IMPRESSION, ACTION_CLICK, ACTION_DWELL, ACTION_REPLY, ACTION_OTHER, ACTION_COUNT };
enum { RECALL_FOUND, RECALL_MISSED };
enum { SPANS_EXPORTED, SPANS_DROPPED, SPANS_REJECTED };
enum { EXPORT_OK, EXPORT_RETRIED, EXPORT_FAILED };

/* The series of a search: its type and how many results it had. */
static inline unsigned search_series(unsigned type, size_t results) {
    unsigned n = results == 0   ? RESULTS_NONE
                 : results < 10 ? RESULTS_FEW
                 : results < 50 ? RESULTS_SOME
                                : RESULTS_MANY;
    return type * RESULTS_COUNT + n;
}

#endif
