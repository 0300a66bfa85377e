/* search: a request in, ranked posts out. It parses the query, takes its vector, asks words and
 * vectors under one filter, fuses, caps, groups, hydrates from the store, and explains.
 *
 *     searcher *x;
 *     TRY(searcher_open(shard, provider, &x));
 *     TRY(search_run(x, &request, &arena, &response));     // response lives in the arena
 *
 * Any thread may call; scratch memory is pooled inside. Errors: ERR_INVALID with the field for a
 * bad request (mode, limit, cursor, operator), ERR_NOT_FOUND for similar to a missing post,
 * ERR_TIMEOUT when min_lsn is not reached in time.
 */
#ifndef KITH_SEARCH_H
#define KITH_SEARCH_H

#include "base/base.h"
#include "provider/provider.h"
#include "shard/shard.h"
#include <kith/v1/search.pb-c.h>

#define SEARCH_QUERY_MAX     (2 * KIB)
#define SEARCH_LIMIT_MAX     100
#define SEARCH_LIMIT_DEFAULT 10
#define SEARCH_DEPTH_MAX     1000 /* hits that cursors reach */

typedef struct searcher searcher;
MUST_USE err searcher_open(shard *s, provider *p, searcher **out);
void searcher_close(searcher *x);
/* The provider of another of the shard's spaces, asked when the first one has no vector. Before the first search. */
MUST_USE err searcher_beside(searcher *x, unsigned space, provider *p);

MUST_USE err search_run(searcher *x, const Kith__V1__SearchRequest *req, arena *a,
                        Kith__V1__SearchResponse **out);
MUST_USE err search_similar(searcher *x, const Kith__V1__SimilarRequest *req, arena *a,
                            Kith__V1__SearchResponse **out);
MUST_USE err search_suggest(searcher *x, const Kith__V1__SuggestRequest *req, arena *a,
                            Kith__V1__SuggestResponse **out);

/* Only ids in rank order, without snippets and explanations: for `kith eval`. `exclude` (may be
 * empty) is an id to leave out. Everything lives in the arena; req->limit is not looked at. */
typedef struct search_id_list {
    str *items;
    size_t count; /* at most k, which is below SEARCH_DEPTH_MAX */
} search_id_list;
MUST_USE err search_ids(searcher *x, const Kith__V1__SearchRequest *req, str exclude, size_t k,
                        arena *a, search_id_list *out);

/* A query that asks for just the words of `text`: what would be read as an operator, a phrase or a word
 * to leave out is taken apart. For text that nobody typed into a search box; at most
 * SEARCH_QUERY_MAX / 2 bytes of it are kept. */
MUST_USE err search_literal(str text, arena *a, str *out);

/* Answers a query of late again, by the graph and exactly: how many of the exact hits (at most 10) the
 * graph found. ERR_NOT_FOUND when no query came since the last call. Takes as long as an exact search;
 * call it from one thread, when there is time. */
MUST_USE err searcher_recall(searcher *x, uint32_t *right, uint32_t *of);

typedef struct search_stats {
    uint64_t searches, errors, zero_results, query_cache_hits;
    double p50_ms, p99_ms; /* since the start, from log-linear buckets */
} search_stats;
void searcher_stats(searcher *x, search_stats *out);

#endif
