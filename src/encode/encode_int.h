/* encode, inside: what a model is and what a thread works with. See model.c and forward.c. */
#ifndef KITH_ENCODE_INT_H
#define KITH_ENCODE_INT_H

#include "encode/encode.h"
#include "encode/tokenizer.h"
#include "vec/vec.h"

typedef struct encode_shape { /* from config.json */
    size_t hidden, layers, heads, inner, vocab, positions, types;
    float epsilon;
} encode_shape;

typedef struct encode_layer {
    gemm_matrix qkv;      /* hidden -> 3 hidden: queries (scaled), keys, values */
    gemm_matrix out;      /* hidden -> hidden */
    gemm_matrix up, down; /* hidden -> inner -> hidden */
    float *norms;         /* owned: gamma, beta after attention; gamma, beta after down */
} encode_layer;

struct encode_model {
    encode_shape shape;
    encode_precision precision;
    size_t max_tokens;
    bool pool_cls; /* else the mean */
    tokenizer *tok;
    const nn_table *nn;
    const gemm_table *gemm;
    float *words;     /* owned: vocab x hidden */
    float *positions; /* owned: max_tokens x hidden, the type's embedding added */
    float *norms;     /* owned: gamma, beta of the embeddings */
    encode_layer *layers;
};

/* Room for one chunk of tokens. All buffers lie in one allocation. */
struct encode_scratch {
    const encode_model *model;
    size_t chunk, bytes;
    uint32_t *ids;  /* chunk */
    uint32_t *ends; /* chunk: where each text of the chunk ends */
    float *x;       /* chunk x hidden: the residual stream */
    float *qkv;     /* chunk x 3 hidden */
    float *context; /* chunk x hidden */
    float *part;    /* chunk x hidden: what is to be added to x */
    float *inner;   /* FORWARD_ROWS x inner */
    float *keys;    /* head_dim x padded length: one head's keys, transposed */
    float *values;  /* length x padded head_dim, when head_dim is no multiple of 16 */
    float *mixed;   /* the same for the result */
    float *scores;  /* ATTENTION_ROWS x padded length */
    void *work;     /* for gemm_run */
};

#define FORWARD_ROWS   192 /* rows that go through the feed-forward part together */
#define ATTENTION_ROWS 48
#define CHUNK_TOKENS   1024 /* a chunk has at least room for this and for one longest text */

/* Runs the texts whose ids are in s->ids, text i ending at s->ends[i], and writes their vectors. */
MUST_USE err forward_run(const encode_model *m, encode_scratch *s, size_t texts, float *out);

#endif
