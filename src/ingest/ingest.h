/* ingest: what brings posts in beside the API, and the embed fold.
 *
 *   embedder  a thread that takes texts without a vector from the shard, embeds them in batches and
 *             appends the vectors to the journal
 *   lines     a reader of lines from a file, gz or plain, or standard input
 *
 *     embedder *e;
 *     TRY(embedder_start(&(embedder_options){.shard = s, .provider = p}, &e));
 *     ...
 *     embedder_stop(e);        // before the shard closes
 */
#ifndef KITH_INGEST_H
#define KITH_INGEST_H

#include "provider/provider.h"
#include "shard/shard.h"

typedef struct embedder embedder;

typedef struct embedder_stats {
    uint64_t texts, tokens, failed; /* since the start */
    double texts_per_s;             /* over the last seconds of work; 0 when idle */
} embedder_stats;

typedef struct embedder_options {
    shard *shard;
    unsigned space; /* of the shard, that the provider's vectors are of */
    provider *provider;
    embedder *first; /* this one rests while that one works; NULL: no one goes before it */
    void (*notice)(void *ctx, const char *text);
    void *ctx;
} embedder_options;

/* The thread runs at a lower priority: a query's embedding goes before it. */
MUST_USE err embedder_start(const embedder_options *o, embedder **out);
void embedder_stop(embedder *e); /* NULL is fine */
/* Texts that were put aside are tried again, soon. */
void embedder_retry(embedder *e);
void embedder_stats_get(embedder *e, embedder_stats *out);

/* ---- lines ---- */

#define LINES_MAX_BYTES (1 * MIB) /* of one line; a longer one is given cut, with `cut` set */

typedef struct lines lines;
/* path "-": standard input. A gzip file is told by its first bytes. */
MUST_USE err lines_open(const char *path, lines **out);
void lines_close(lines *l);
/* The next line without its end; ERR_NOT_FOUND at the end of the file. Valid until the next call. */
MUST_USE err lines_next(lines *l, str *line, bool *cut);
/* How much of the file was read, 0 to 1; negative when that cannot be known. */
double lines_progress(const lines *l);

#endif
