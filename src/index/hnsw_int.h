/* Inside of hnsw, for hnsw*.c and flat.c alone: the structure, its invariants and small accessors.
 *
 * Nodes are slots in chunks of NODE_CHUNK: growing allocates a chunk and copies nothing. A slot is live
 * (it has a doc) or free (in the free list). Each part of a node lies in its own array, hot apart from
 * cold: a walk touches links and codes, a re-rank vectors, an insert or delete `cold` too.
 *
 * Invariants (hnsw_validate checks them all)
 *  1 Links are directed. u -> v stands in links(u); v knows of it: v -> u stands in links(v), or u stands in
 *    back(v), never both. So a delete finds every link to a node without searching.
 *  2 parent(v) is a live node with parent(v) -> v, but for the one root; parents make no circle. So every
 *    node is reachable from the root, and the root is entry 0 of every search. Pruning
 *    never cuts parent(v) -> v.
 *  3 Before the model is trained (few nodes) there are no codes and no links; searches scan.
 *  4 No two live nodes have the same half-precision vector: docs with equal vectors share the node, in a
 *    list from node_doc through doc_next (and back through doc_prev), newest first. A first doc that is
 *    not the only one is marked MORE_DOCS: else its doc_next, a cache miss, is not looked at.
 *  5 entries[] are distinct live nodes, entry_codes their codes in that order.
 */
#ifndef KITH_INDEX_HNSW_INT_H
#define KITH_INDEX_HNSW_INT_H

#include "index/hnsw.h"
#include "vec/vec.h"

#define NONE            UINT32_MAX
#define NODE_CHUNK_BITS 14u
#define NODE_CHUNK      (1u << NODE_CHUNK_BITS)
#define BACK_MAX        28u
#define ENTRY_MAX       256u
#define HUGE_PAGE       (2 * MIB)
#define TRAIN_FIRST     1024u  /* nodes at which codes begin */
#define TRAIN_AGAIN     16384u /* nodes at which the model is trained once more, on more samples */
#define TRAIN_SAMPLES   4096u
#define RECENT          64u         /* changes remembered for drafts made before them */
#define MORE_DOCS       0x80000000u /* in node_doc */
#define WALKED          0x80000000u /* in a pool: this node's links were followed */

typedef struct node_cold {
    uint32_t parent; /* of a live node; of a free slot: the next free one */
    uint32_t hash;   /* of the half-precision vector */
    uint16_t back_count;
    uint16_t children; /* nodes whose parent this is */
    uint32_t pad;
    uint32_t back[BACK_MAX]; /* nodes that link here and are not linked back */
} node_cold;
_Static_assert(sizeof(node_cold) == 128, "two cache lines");

typedef struct node_chunk {
    uint8_t *codes;
    uint32_t *links; /* link_stride u32 a node: count, then ids */
    f16 *vectors;    /* vector_stride halves a node */
    node_cold *cold;
    uint32_t *doc; /* first doc of each node (MORE_DOCS), NONE when free */
} node_chunk;

struct hnsw {
    /* immutable */
    hnsw_options o;
    uint32_t link_stride;   /* in u32 */
    uint32_t vector_stride; /* in halves */
    uint32_t code_stride;   /* in bytes */
    /* nodes */
    node_chunk *chunks;
    uint8_t **codes; /* chunks[i].codes again: one load less on the way to a code */
    size_t chunk_count, chunk_cap, codes_cap;
    uint32_t code_shift; /* code_stride is 1 << code_shift */
    uint32_t top;        /* slots ever used: ids are below it */
    uint32_t live;       /* nodes */
    uint32_t free_head;
    uint32_t root; /* NONE before the model */
    /* docs */
    uint32_t *doc_node, *doc_next, *doc_prev; /* prev of the first is NONE */
    size_t doc_cap;
    size_t docs;
    /* equal vectors: open addressing over node ids */
    uint32_t *table;
    size_t table_size; /* a power of two, at least twice `live` */
    /* codes */
    codes_model *model; /* NULL before TRAIN_FIRST nodes */
    uint32_t train_at;  /* live nodes at which to train next */
    uint8_t *entry_codes;
    uint32_t entry_count;
    uint32_t entries[ENTRY_MAX];
    /* the writer's */
    rng random;
    uint64_t version; /* counts changes */
    /* What a draft made earlier needs to know: the nodes taken and removed last, by count modulo
     * RECENT, and how often all codes were made anew. */
    uint64_t taken, removed, recoded;
    uint32_t taken_ids[RECENT], removed_ids[RECENT];
    hnsw_scratch *scratch;
    hnsw_draft *draft;
};

/* A list of candidates, best first, as two arrays. */
typedef struct hnsw_pool {
    float *score;
    uint32_t *id;
    size_t count, max;
    size_t cap; /* allocated */
} hnsw_pool;

struct hnsw_scratch {
    uint64_t *seen; /* a bit for each node */
    size_t seen_words;
    hnsw_pool pool;  /* the walk */
    hnsw_pool found; /* what passes the filter */
    float *unit;     /* the query, normalised */
    float *tmp;      /* CODES_TMP */
    size_t dim;
    codes_query query;
};

/* One candidate neighbour while pruning. */
typedef struct hnsw_near {
    uint32_t id;
    float score;
    const uint8_t *code;
} hnsw_near;

#define NEAR_MAX (HNSW_DEGREE_MAX + 1)

struct hnsw_draft {
    uint64_t version, taken, removed, recoded; /* of the graph it was planned on */
    uint32_t dim;
    uint32_t hash;
    uint32_t twin;   /* live node with the same vector, or NONE */
    uint32_t parent; /* NONE: this will be the root */
    uint32_t count;
    float *unit, *tmp; /* the vector as it will be read back, scratch */
    f16 *half;
    uint8_t code[CODES_STRIDE_MAX];
    float close;                          /* the score of the CLOSE-th nearest node, or the last */
    uint32_t chosen[HNSW_DEGREE_MAX];     /* neighbours to be, nearest first */
    uint64_t links_hash[HNSW_DEGREE_MAX]; /* of their links when planned */
    /* New links of chosen[i] when its list is full: keep_count[i] of them from keep + i * NEAR_MAX;
     * NONE there stands for the new node. KEEP_ALL: there is room. */
    uint32_t keep_count[HNSW_DEGREE_MAX];
    uint32_t *keep;
    hnsw_near *near; /* ef_build candidates */
    size_t near_cap;
    hnsw *next; /* the index with a new model, when one was due; NULL else */
};
#define KEEP_ALL UINT32_MAX

static inline const node_chunk *chunk_of(const hnsw *h, uint32_t id) {
    return &h->chunks[id >> NODE_CHUNK_BITS];
}
static inline uint32_t slot_of(uint32_t id) {
    return id & (NODE_CHUNK - 1);
}
static inline uint8_t *node_code(const hnsw *h, uint32_t id) {
    return h->codes[id >> NODE_CHUNK_BITS] + ((size_t)slot_of(id) << h->code_shift);
}
static inline uint32_t *node_links(const hnsw *h, uint32_t id) {
    return chunk_of(h, id)->links + (size_t)slot_of(id) * h->link_stride;
}
static inline f16 *node_vector(const hnsw *h, uint32_t id) {
    return chunk_of(h, id)->vectors + (size_t)slot_of(id) * h->vector_stride;
}
static inline node_cold *node_cold_of(const hnsw *h, uint32_t id) {
    return &chunk_of(h, id)->cold[slot_of(id)];
}
static inline uint32_t *node_doc(const hnsw *h, uint32_t id) {
    return &chunk_of(h, id)->doc[slot_of(id)];
}
/* The docs of a live node, one after the other: NONE at the end.
 *     for (uint32_t at = *node_doc(h, id); at != NONE; at = doc_after(h, at)) use(doc_at(at)); */
static inline uint32_t doc_at(uint32_t at) {
    return at & ~MORE_DOCS;
}
static inline uint32_t doc_after(const hnsw *h, uint32_t at) {
    if (!(at & MORE_DOCS)) return NONE;
    uint32_t next = h->doc_next[doc_at(at)];
    return next == NONE ? NONE : next | MORE_DOCS;
}
static inline bool node_live(const hnsw *h, uint32_t id) {
    return id < h->top && *node_doc(h, id) != NONE;
}

/* hnsw.c */
err hnsw_unit(uint32_t dim, const float *vec, float *unit); /* normalises or refuses */
err hnsw_scratch_fit(const hnsw *h, hnsw_scratch *s, size_t pool);
err hnsw_draft_fit(const hnsw *h, hnsw_draft *d);
err hnsw_copy(const hnsw *h, hnsw **out);
void hnsw_become(hnsw *h, hnsw *next);   /* h takes next's place; next is freed */
void hnsw_docs_chain(hnsw *h);           /* doc_prev from doc_next */
err hnsw_reserve(hnsw *h, uint32_t doc); /* memory for one more node and this doc */
err hnsw_chunk_add(hnsw *h);
err hnsw_table_reserve(hnsw *h, uint32_t nodes);
err hnsw_docs_reserve(hnsw *h, uint32_t doc);
uint32_t hnsw_twin(const hnsw *h, const f16 *half, uint32_t hash);
uint32_t hnsw_hash(const hnsw *h, const f16 *half);
void hnsw_table_add(hnsw *h, uint32_t id);
void hnsw_table_remove(hnsw *h, uint32_t id);
uint32_t hnsw_node_take(hnsw *h); /* a slot, reserved before */
void hnsw_node_give(hnsw *h, uint32_t id);
void hnsw_doc_attach(hnsw *h, uint32_t doc, uint32_t id);
void hnsw_doc_detach(hnsw *h, uint32_t doc);
void hnsw_entry_set(hnsw *h, uint32_t index, uint32_t id);

/* hnsw_search.c */
void hnsw_walk(const hnsw *h, const codes_query *q, size_t ef, hnsw_scratch *s);
/* Where it went in; SIZE_MAX when the pool is full of better ones. */
size_t hnsw_pool_add(hnsw_pool *p, float score, uint32_t id);
err hnsw_query_check(const hnsw *h, const hnsw_query *q);

/* hnsw_build.c */
bool hnsw_link_has(const hnsw *h, uint32_t from, uint32_t to);
bool hnsw_link_add(hnsw *h, uint32_t from, uint32_t to); /* false: no room at either end */
void hnsw_link_remove(hnsw *h, uint32_t from, uint32_t to);
void hnsw_back_remove(hnsw *h, uint32_t id, uint32_t from);
void hnsw_out_remove(hnsw *h, uint32_t from, uint32_t to); /* one side only */
size_t hnsw_prune(const hnsw *h, hnsw_near *near, size_t n, size_t forced, size_t limit);

/* hnsw_check.c */
err hnsw_check_quick(const hnsw *h); /* what memory safety rests on, in linear time */

/* hnsw_delete.c */
void hnsw_node_delete(hnsw *h, uint32_t id);

#endif
