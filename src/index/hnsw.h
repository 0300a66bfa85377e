/* hnsw: approximate nearest neighbours by cosine, live: insert, update, true delete and filters, at
 * any time, in any order. A navigable graph of unit vectors, searched over 4-bit codes and re-ranked
 * with half-precision vectors.
 *
 *     hnsw *h;
 *     hnsw_scratch *s;
 *     TRY(hnsw_new(&(hnsw_options){.dim = 384}, &h));
 *     TRY(hnsw_scratch_new(&s));
 *     TRY(hnsw_insert(h, 7, vec, s));                       // doc 7
 *     hnsw_hit hits[10];
 *     size_t n;
 *     TRY(hnsw_search(h, query, &(hnsw_query){.k = 10}, s, hits, &n));
 *     TRY(hnsw_delete(h, 7));
 *
 * Documents. `doc` is the owner's dense u32, reused as it likes. Inserting a doc that is there
 * replaces its vector. Docs with equal vectors (reposts) share one node of the graph.
 *
 * Vectors may have any length but 0; they are normalised on the way in. Wrong dimension, NaN,
 * infinity and the zero vector give ERR_INVALID and change nothing.
 *
 * Threads. Calls that take `const hnsw *` may run together; each thread brings its own scratch. Calls
 * that take `hnsw *` need the owner's write lock. To keep that lock short, an insert can be split:
 *     read lock:  hnsw_plan(h, vec, dim, s, draft)     finds the neighbours, changes nothing
 *     write lock: hnsw_apply(h, doc, draft)            links: tens of microseconds
 * by one writer. Several drafts may be planned before the first is applied, by several threads, each with
 * its own scratch: apply renews a draft that is older than the graph, and plans it again when it must.
 * Nodes planned together do not see each other, so hnsw_plan_together says how many may be.
 *
 * Errors: ERR_INVALID (the caller's vector, k, ef), ERR_NOT_FOUND, ERR_NO_SPACE (max_docs),
 * ERR_NO_MEMORY (nothing was changed), ERR_CORRUPT (load).
 *
 * Determinism: the same calls with the same seed give the same snapshot bytes, on every processor.
 *
 * Sources: HNSW (Malkov and Yashunin 2016), Vamana's pruning rule (DiskANN, Subramanya et al. 2019),
 * in-place deletes (IP-DiskANN, Xu et al. 2025), code scale correction (RaBitQ, Gao and Long 2024).
 * docs/index.md tells what was tried and what it gave.
 */
#ifndef KITH_INDEX_HNSW_H
#define KITH_INDEX_HNSW_H

#include "base/base.h"

#define HNSW_DIM_MAX    4096u
#define HNSW_DOCS_MAX   0x7fffff00u
#define HNSW_K_MAX      10000u
#define HNSW_EF_MAX     20000u
#define HNSW_DEGREE_MIN 8u
#define HNSW_DEGREE_MAX 128u

typedef struct hnsw hnsw;
typedef struct hnsw_scratch hnsw_scratch; /* marks and pools of one search at a time */
typedef struct hnsw_draft hnsw_draft;     /* a planned insert */

/* 0 in any field but dim means the default. */
typedef struct hnsw_options {
    uint32_t dim;
    uint32_t degree;     /* most links a node has: 64 */
    uint32_t ef_build;   /* candidates weighed for a new node: 128 */
    uint32_t ef_default; /* candidates of a search that names none: 64 */
    uint64_t seed;
    uint32_t max_docs; /* docs must be below it: HNSW_DOCS_MAX */
} hnsw_options;

MUST_USE err hnsw_new(const hnsw_options *o, hnsw **out);
void hnsw_free(hnsw *h); /* NULL is fine */
MUST_USE err hnsw_scratch_new(hnsw_scratch **out);
void hnsw_scratch_free(hnsw_scratch *s);
MUST_USE err hnsw_draft_new(hnsw_draft **out);
void hnsw_draft_free(hnsw_draft *d);

MUST_USE err hnsw_plan(const hnsw *h, const float *vec, size_t dim, hnsw_scratch *s, hnsw_draft *d);
MUST_USE err hnsw_apply(hnsw *h, uint32_t doc, hnsw_draft *d);
/* How many drafts it is wise to have planned and not applied: 1 while the graph is small. */
uint32_t hnsw_plan_together(const hnsw *h);
/* Both at once. `dim` is the index's own. */
MUST_USE err hnsw_insert(hnsw *h, uint32_t doc, const float *vec);
/* ERR_NOT_FOUND when doc is not there. Needs no memory, so it cannot fail otherwise. */
MUST_USE err hnsw_delete(hnsw *h, uint32_t doc);

typedef struct hnsw_hit {
    uint32_t doc;
    float score; /* cosine, from the stored half-precision vector */
} hnsw_hit;

typedef struct hnsw_query {
    uint32_t k;             /* 1..HNSW_K_MAX */
    uint32_t ef;            /* 0: the index's default; more finds more and takes longer */
    const uint64_t *filter; /* bit set over docs; NULL: all */
    size_t filter_docs;     /* bits in `filter`: docs from here on do not match */
    size_t filter_count;    /* bits set: how the way of searching is chosen */
    bool scan; /* score all that match by code instead of walking: finds 999 of 1,000, and takes
                  some 8 ns a node */
} hnsw_query;

/* Best first; equal scores by doc. out holds k. Returns min(k, docs that match) hits, always. */
MUST_USE err hnsw_search(const hnsw *h, const float *query, const hnsw_query *q, hnsw_scratch *s,
                         hnsw_hit *out, size_t *n);
/* Scores of given docs, in their order; a doc that is not there scores -2. */
#define HNSW_SCORE_ABSENT (-2.0f)
MUST_USE err hnsw_score_docs(const hnsw *h, const float *query, const uint32_t *docs, size_t n,
                             float *scores);
/* The stored vector, unit length to half precision. */
MUST_USE err hnsw_get(const hnsw *h, uint32_t doc, float *out);

bool hnsw_has(const hnsw *h, uint32_t doc);
size_t hnsw_count(const hnsw *h); /* docs */
uint32_t hnsw_dim(const hnsw *h);

typedef struct hnsw_stats {
    size_t docs, nodes; /* nodes < docs when vectors are equal */
    size_t bytes_vectors, bytes_codes, bytes_links, bytes_other;
    size_t bytes; /* their sum */
} hnsw_stats;
hnsw_stats hnsw_stats_get(const hnsw *h); /* O(1) */
size_t hnsw_links(const hnsw *h);         /* directed links; O(nodes) */

/* Checks every invariant, reachability of every doc included; ERR_INTERNAL names the first broken.
 * O(links), and allocates. */
MUST_USE err hnsw_validate(const hnsw *h);

/* A snapshot: magic "KITHANN\1", version, sizes, arrays; little-endian. The container around it adds
 * checksums. Loading checks all that memory safety and the invariants rest on; when o is not NULL
 * its non-zero fields must match (dim) or override (ef_default, max_docs). `size` is what the
 * snapshot should fill: more or less is ERR_CORRUPT. */
MUST_USE err hnsw_save(const hnsw *h, const writer *w);
MUST_USE err hnsw_load(const void *bytes, size_t size, const hnsw_options *o, hnsw **out);

#endif
