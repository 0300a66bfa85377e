/* index: what answers queries, in memory, with no threads and no files of its own.
 *
 *   hnsw.h     approximate nearest neighbours: a live graph (insert, update, true delete, filter)
 *   flat.h     exact nearest neighbours: the oracle, and the engine for few matches
 *   analyze.h  text to terms, one analysis for documents, queries and highlights
 *   lexical.h  block-max BM25 over those terms
 *   attrs.h    attributes of each document and filters over them
 *
 * All number documents by one dense u32, `doc`, given and reused by the owner (shard/). The owner
 * locks: many readers or one writer, but where a header says less is needed.
 */
#ifndef KITH_INDEX_H
#define KITH_INDEX_H

#include "index/analyze.h"
#include "index/attrs.h"
#include "index/flat.h"
#include "index/hnsw.h"
#include "index/lexical.h"

#endif
