/* lexical: what lexical*.c share. Nobody else includes it.
 *
 * Documents have slots. A slot is where a document stands inside the index: slots are given by length
 * class, so that 64 to 8,192 neighbours (an extent) have nearly the same length, and with it nearly
 * the same score for a word. Posting lists are in order of slots. lexical.c has the picture.
 */
#ifndef KITH_INDEX_LEXICAL_INT_H
#define KITH_INDEX_LEXICAL_INT_H

#include "index/lexical.h"
#include "index/names.h"
#include "vec/postings.h"

#define TOKEN_ALT POSTINGS_ALT /* a token at the position of the one before it */
#define TOKEN_ID  POSTINGS_ID

enum {
    CLASSES = 60,       /* lengths 1 to 65,536: 1..8, then four classes an octave */
    EXTENT_MIN = 64,    /* slots */
    EXTENT_MAX = 8192,  /* sums of one extent (u16) stay in the first cache level */
    STRIDE_MAX = 128,   /* tokens kept beside each other; longer documents have their own memory */
    BLOCK_MAX = 248,    /* postings a block */
    PAYLOAD_IN = 8,     /* bytes of payload kept inside the block */
    WIDTH_BITMAP = 128, /* block.width from here on: a bitmap of width - 127 words */
    WORDS_MAX = 128     /* words of a bitmap */
};

#define SLOT_NONE  UINT32_MAX       /* doc_slot: no such document */
#define SLOT_EMPTY (UINT32_MAX - 1) /* doc_slot: a document of no tokens */
#define SLOT_MAX   (1u << 30)
#define FREE_BIT   0x80000000u /* extent.docs: a free slot; below it the next free one */
#define FREE_END   0x7fffffffu

/* A run of postings. Packed: count - 1 gaps of `width` bits, little-endian, then n_exc pairs (index
 * u8, tf u8). Bitmap: words of 32 bits, bit 0 of the first is slot first & ~31, then n_exc triples (bit
 * u16, tf u8). A posting that is no exception has tf 1. */
typedef struct block {
    uint32_t first;
    uint8_t count; /* 1 to BLOCK_MAX */
    uint8_t width;
    uint8_t n_exc;
    uint8_t max_tf;
    union {
        uint8_t in[PAYLOAD_IN];
        uint8_t *ptr; /* when the payload is longer */
    } data;
} block;

typedef struct term {
    uint32_t df;
    uint32_t n_blocks; /* 0: the number is not in use */
    union {
        block one; /* n_blocks == 1 */
        struct {
            block *items;
            uint32_t cap;
        } many;
    } list;
} term;

typedef struct extent {
    uint32_t base;   /* first slot, a multiple of 64 */
    uint32_t size;   /* slots */
    uint32_t used;   /* slots given at least once: [0, used) */
    uint32_t live;   /* documents */
    uint32_t cls;    /* length class */
    uint32_t stride; /* tokens a slot; 0: `longs` */
    uint32_t *docs;  /* by slot: the document, or FREE_BIT and the next free slot of the class */
    uint16_t *lens;
    uint32_t *tokens; /* by slot: stride term numbers with TOKEN_ALT, in order of position */
    uint32_t **longs; /* by slot: as many as the length */
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
    uint32_t at, del, n_add;
    block add[2];
    block *grown; /* room for the blocks when they do not fit where they are */
    uint32_t grown_cap;
    int change; /* of df */
} edit;

typedef struct posting_run {
    uint32_t n;
    uint32_t slots[2 * BLOCK_MAX + 8];
    uint8_t tfs[2 * BLOCK_MAX + 8];
} posting_run;

struct lexical {
    float k1, b;
    const postings_kernels *kernels;
    names *words;
    term *terms; /* by term number */
    size_t terms_cap;
    extent *extents;
    size_t n_extents, extents_cap;
    uint32_t *pages; /* by slot / 64: its extent */
    size_t n_pages, pages_cap;
    length_class classes[CLASSES];
    uint32_t *doc_slot; /* by document */
    size_t docs_cap;
    uint32_t docs;
    uint64_t tokens, postings;
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
uint32_t class_length_min(uint32_t cls);
uint32_t class_length_max(uint32_t cls);
/* Inserts a document whose tokens (term numbers with TOKEN_ALT) are in ix->ids; new terms have df
 * 0 so far and stay the caller's to drop on failure. */
MUST_USE err lexical_insert_ids(lexical *ix, uint32_t doc, uint32_t n);
MUST_USE err lexical_grow_terms(lexical *ix);
MUST_USE err lexical_grow_docs(lexical *ix, uint32_t doc);

/* Every term in use is below. (After a failed insert there may be names without room for a term.) */
static inline uint32_t terms_end(const lexical *ix) {
    return (uint32_t)MIN((size_t)names_end(ix->words), ix->terms_cap);
}
static inline const extent *extent_of(const lexical *ix, uint32_t slot) {
    return &ix->extents[ix->pages[slot >> 6]];
}
static inline const uint32_t *extent_tokens(const extent *e, uint32_t i) {
    return e->stride ? e->tokens + (size_t)i * e->stride : e->longs[i];
}

/* lexical_list.c */
static inline const block *term_blocks(const term *t) {
    return t->n_blocks == 1 ? &t->list.one : t->list.many.items;
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
/* Writes slots (room for BLOCK_MAX) ascending; returns how many. */
uint32_t block_slots(const block *b, uint32_t *slots);
void block_read(const block *b, posting_run *out); /* appends */
void block_free(block *b);
void term_free(term *t);
uint64_t term_bytes(const term *t);
/* The last block whose first slot is at most `slot`; 0 when none is. */
uint32_t term_find_block(const term *t, uint32_t slot);
MUST_USE err edit_insert(const term *t, uint32_t slot, uint8_t tf, edit *e);
MUST_USE err edit_remove(const term *t, uint32_t slot, edit *e);
void edit_commit(term *t, edit *e); /* df too */
void edit_abort(edit *e);
/* A list made at once from all its postings, ascending. */
MUST_USE err term_build(term *t, const uint32_t *slots, const uint8_t *tfs, uint32_t n);
MUST_USE err block_validate(const block *b);

#endif
