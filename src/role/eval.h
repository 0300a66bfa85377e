/* eval: how good search is on judged queries, in one process with nothing running.
 *
 *     eval_options o = {.docs = "docs.jsonl.gz", .queries = "queries.jsonl", .qrels = "qrels.tsv",
 *                       .mode = "hybrid", .provider = p};
 *     eval_result r;
 *     TRY(eval_run(&o, &r));
 *
 * docs and queries: JSON lines with "id" and "text", plain or gz; docs may have author, created_at,
 * reply_to, channel, lang. qrels: query id TAB document id TAB grade. Documents go into a shard in a
 * temporary directory, which is removed, or in `dir`, which stays: the next run finds them there and
 * embeds nothing. Queries are asked as plain words (no operators), one after the other, cut at
 * SEARCH_QUERY_MAX / 2 bytes. A query's own post (same id) is dropped from its results. Queries
 * without a positive judgement are left out.
 *
 *   ndcg@10      gain 2^grade - 1, discount log2(rank + 1) (Burges et al. 2005), over the ideal order
 *                of all positive judgements
 *   ndcg_linear  the same with gain = grade (Järvelin and Kekäläinen 2002, as trec_eval does)
 *   recall@100   share of positive judgements in the first 100, mean over queries
 *   mrr@10       1 / rank of the first positive in the first 10
 *   p50, p99     of one search for 100 hits, embedding of the query included
 *
 * Errors: ERR_NOT_FOUND (a file), ERR_INVALID (a line, with its number), and those of the shard.
 */
#ifndef KITH_ROLE_EVAL_H
#define KITH_ROLE_EVAL_H

#include "provider/provider.h"

#define EVAL_RECALL_DEPTH 100

typedef struct eval_options {
    const char *docs, *queries, *qrels;
    const char *mode; /* hybrid (NULL), words, meaning */
    const char *dir;  /* NULL: temporary */
    provider *provider;
    /* "documents" and "queries", how many are done, of how many (0: not known); may be NULL. */
    void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
    void *progress_ctx;
} eval_options;

typedef struct eval_result {
    uint64_t docs, queries;
    double ndcg_10, ndcg_linear_10, recall_100, mrr_10;
    double p50_us, p99_us;
    double index_s; /* reading, embedding and indexing the documents */
} eval_result;

MUST_USE err eval_run(const eval_options *o, eval_result *out);

#endif
