/* lexical: what lexical*.c share. Nobody else includes it.
 *
 * Documents have slots. A slot is where a document stands inside the index: slots are given by
 * length class, so that 64 to 8,192 neighbours (an extent) have nearly the same length, and with
 * it nearly the same score for a word. Posting lists are in order of slots. lexical.c has the
 * picture.
 */
#ifndef KITH_INDEX_LEXICAL_INT_H
#define KITH_INDEX_LEXICAL_INT_H

#include "index/lexical.h"
#include "index/names.h"
#include "vec/postings.h"

#define TOKEN_ALT POSTINGS_ALT /* a token at the position of the one before it */
#define TOKEN_ID  POSTINGS_ID

enum {
    EXACT_MAX = 32,     /* lengths up to here have a class each, */
    CLASSES = 76,       /* longer ones, to 65,536, four classes an octave */
    EXTENT_MIN = 64,    /* slots */
    EXTENT_MAX = 8192,  /* sums of one extent (u16) stay in the first cache level */
    STRIDE_MAX = 128,   /* tokens kept beside each other; longer documents have their own memory */
    BLOCK_MAX = 248,    /* postings a block */
    PAYLOAD_IN = 8,     /* bytes of payload kept inside the block */
    WIDTH_MAX = 25,     /* low bits of a posting */
    BITMAP_EXTRA = 2,   /* a bitmap may take so much more: half; it is read much faster */
    WIDTH_BITMAP = 128, /* block.width from here on: a bitmap of width - 127 words */
    WORDS_MAX = 128,    /* words of a bitmap */
    NIBBLE_MAX = 15     /* tf 15 and more are stored as 15 */
};

#define SLOT_NONE  UINT32_MAX       /* doc_slot: no such document */
#define SLOT_EMPTY (UINT32_MAX - 1) /* doc_slot: a document of no tokens */
#define SLOT_MAX   (1u << 30)
#define FREE_BIT   0x80000000u /* record.doc: a free slot; below it the next free one */
#define FREE_END   0x7fffffffu

/* A run of postings. Packed: count - 1 lows of `width` bits and `high` bytes of bit map, as
 * vec/postings.h (unpack) has it. Bitmap: words of 32 bits, bit 0 of the first is slot first & ~31.
 * In a high list the tfs follow, four bits each, the lower half first. */
typedef struct block {
    uint32_t first;
    uint8_t count; /* 1 to BLOCK_MAX */
    uint8_t width;
    uint8_t max_tf; /* at most NIBBLE_MAX; 0 in a low list */
    uint8_t high;
    union {
        uint8_t in[PAYLOAD_IN];
        uint8_t *ptr; /* when the payload is longer */
    } data;
} block;

typedef struct plist {
    uint32_t n; /* postings */
    uint32_t n_blocks;
    union {
        block one; /* n_blocks == 1 */
        struct {
            block *items;
            uint32_t cap;
        } many;
    } list;
} plist;

/* Documents that have the term once are in its low list; those that have it more often in a high
 * list. */
typedef struct term {
    plist low;
    uint32_t high; /* one more than the number of the list in lexical.highs; 0: none */
} term;

/* What is kept of a document, one beside the other: one cache line or two. */
typedef struct record {
    uint32_t doc; /* or FREE_BIT and the next free slot of the class */
    uint32_t len; /* tokens; 0 when free */
    uint32_t
        tokens[]; /* `stride` term numbers with TOKEN_ALT, in order of position; or a pointer */
} record;

typedef struct extent {
    uint32_t base;                /* first slot, a multiple of 64 */
    uint32_t size;                /* slots */
    uint32_t used;                /* slots given at least once: [0, used) */
    uint32_t live;                /* documents */
    uint32_t cls;                 /* length class */
    uint32_t stride;              /* u32 a record, its head included */
    bool longs;                   /* the tokens are in an allocation of their own */
    bool in_order;                /* documents ascend with their slots */
    uint32_t first_doc, last_doc; /* in order: no document is below the first or above the last */
    uint32_t *records;
} extent;

typedef struct length_class {
    uint32_t *extents; /* their numbers, ascending */
    size_t count, cap;
    uint32_t free_head; /* FREE_END: none */
    uint32_t live;
} length_class;

/* A prepared change of one list: blocks [at, at + del) become add[0..n_add). */
typedef struct edit {
    uint32_t term;
    bool high;
    uint32_t at, del, n_add;
    block add[2];
    block *grown; /* room for the blocks when they do not fit where they are */
    uint32_t grown_cap;
    int change; /* of n */
} edit;

typedef struct posting_run {
    uint32_t n;
    uint32_t slots[2 * BLOCK_MAX + 16];
    uint8_t tfs[2 * BLOCK_MAX + 16]; /* of a high list */
} posting_run;

struct lexical {
    float k1, b;
    const postings_kernels *kernels;
    names *words;
    term *terms; /* by term number */
    size_t terms_cap;
    plist *highs; /* n 0: free, and list.one.first is the next free one */
    size_t highs_end, highs_cap;
    uint32_t highs_free; /* FREE_END: none */
    extent *extents;
    size_t n_extents, extents_cap;
    uint32_t *pages; /* by slot / 64: its extent */
    uint8_t *page_class;
    size_t n_pages, pages_cap, page_class_cap;
    uint64_t *signatures; /* by slot */
    size_t signatures_cap;
    length_class classes[CLASSES];
    uint32_t classes_end; /* no class from here on ever had a document */
    uint32_t *doc_slot;   /* by document */
    size_t docs_cap;
    uint32_t docs;
    uint64_t tokens, postings;
    uint64_t bytes_postings; /* list_bytes of all lists */
    uint64_t bytes_sequences;
    /* the writer's own */
    uint32_t *ids; /* tokens of the document in hand, then sorted without repeats */
    size_t ids_cap;
    uint32_t *sorted;
    size_t sorted_cap;
    edit *edits;
    size_t edits_cap;
};

/* lexical.c */
uint32_t class_of_length(uint32_t len);
static inline bool class_is_exact(uint32_t cls) { /* all its documents have one length */
    return cls < EXACT_MAX;
}
static inline uint32_t class_length_min(uint32_t cls) {
    if (cls < EXACT_MAX) return cls + 1;
    uint32_t e = (cls - EXACT_MAX) / 4 + 5, sub = (cls - EXACT_MAX) % 4;
    return ((4 + sub) << (e - 2)) + 1;
}
static inline uint32_t class_length_max(uint32_t cls) {
    if (cls < EXACT_MAX) return cls + 1;
    return class_length_min(cls) + (1u << ((cls - EXACT_MAX) / 4 + 3)) - 1;
}
/* For load, in this order: room for so many documents of each class, each class together; documents
 * whose tokens are in ix->ids, without lists; then all lists at once. */
MUST_USE err lexical_make_room(lexical *ix, const uint32_t counts[CLASSES]);
MUST_USE err lexical_place(lexical *ix, uint32_t doc, uint32_t n);
MUST_USE err lexical_build_lists(lexical *ix);
MUST_USE err lexical_grow_terms(lexical *ix);
MUST_USE err lexical_grow_docs(lexical *ix, uint32_t doc);

/* Every term in use is below. (After a failed insert there may be names without room for a term.)
 */
static inline uint32_t terms_end(const lexical *ix) {
    return (uint32_t)MIN((size_t)names_end(ix->words), ix->terms_cap);
}
static inline const extent *extent_of(const lexical *ix, uint32_t slot) {
    return &ix->extents[ix->pages[slot >> 6]];
}
static inline record *extent_record(const extent *e, uint32_t i) {
    return (record *)(void *)(e->records + (size_t)i * e->stride);
}
static inline const uint32_t *record_tokens(const extent *e, const record *r) {
    if (!e->longs) return r->tokens;
    const uint32_t *p;
    memcpy(&p, r->tokens, sizeof p);
    return p;
}
/* A document's signature says quickly, and surely, that a word is not in it, or not more than
 * once: 48 bits by words, and 16 by words that it has more often. */
static inline uint64_t signature_any(uint32_t id) {
    return (uint64_t)1 << (((uint64_t)(id * 0x9e3779b1u) * 48) >> 32);
}
static inline uint64_t signature_high(uint32_t id) {
    return (uint64_t)1 << (48 + ((id * 0x85ebca6bu) >> 28));
}
uint64_t signature_of(const uint32_t *sorted,
                      uint32_t n); /* of tokens in order, without TOKEN_ALT */
static inline const plist *term_high(const lexical *ix, const term *t) {
    return t->high ? &ix->highs[t->high - 1] : NULL;
}
static inline uint32_t term_df(const lexical *ix, const term *t) {
    return t->low.n + (t->high ? ix->highs[t->high - 1].n : 0);
}

/* lexical_list.c */
static inline const block *list_blocks(const plist *l) {
    return l->n_blocks == 1 ? &l->list.one : l->list.many.items;
}
static inline bool block_is_bitmap(const block *b) {
    return b->width >= WIDTH_BITMAP;
}
static inline uint32_t block_words(const block *b) {
    return b->width - WIDTH_BITMAP + 1u;
}
uint32_t block_payload_size(const block *b);
static inline const uint8_t *block_payload(const block *b, uint32_t size) {
    return size <= PAYLOAD_IN ? b->data.in : b->data.ptr;
}
/* Writes slots (room for BLOCK_MAX + 8) ascending; returns how many. */
uint32_t block_slots(const postings_kernels *k, const block *b, uint32_t *slots);
/* The tfs of a high block, where its nibbles begin. */
const uint8_t *block_nibbles(const block *b);
static inline uint32_t nibble_at(const uint8_t *p, uint32_t i) {
    return (p[i / 2] >> (4 * (i & 1))) & 15u;
}
void block_free(block *b);
void list_free(plist *l);
/* Compressed slots, tfs and headers, but what lies in the list's entry in the dictionary: of a list
 * of one block the first slot, and the payload when it is short (list_bytes_inside). */
uint64_t list_bytes(const plist *l);
uint64_t list_bytes_inside(const plist *l);
/* The last block whose first slot is at most `slot`; 0 when none is. */
uint32_t list_find_block(const plist *l, uint32_t slot);
/* tf 1: for a low list. */
MUST_USE err edit_insert(const plist *l, uint32_t slot, uint32_t tf, edit *e);
MUST_USE err edit_remove(const plist *l, uint32_t slot, edit *e);
/* Returns what list_bytes changed by. */
int64_t edit_commit(plist *l, edit *e);
void edit_abort(edit *e);
/* A list made at once from all its postings, ascending; tfs NULL for a low list. */
MUST_USE err list_build(plist *l, const uint32_t *slots, const uint8_t *tfs, uint32_t n);
MUST_USE err block_validate(const block *b, bool high);

#endif
