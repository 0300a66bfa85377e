/* encode: texts to unit vectors by a BERT-family sentence-transformers model, in this process.
 *
 *     encode_files files = {.weights = …, .vocabulary = …, .config = …, .pooling = …,
 *                           .sentence = …, .tokenizer = …};      // the files' bytes
 *     encode_model *m;
 *     TRY(encode_model_open(&files, ENCODE_F32, &m));            // the files may go now
 *     encode_scratch *s;                                         // one a thread
 *     TRY(encode_scratch_open(m, &s));
 *     float v[2 * 384];                                          // encode_dim(m) each
 *     TRY(encode_batch(m, s, (str[]){STR("hello"), STR("world")}, 2, v, NULL));
 *     encode_scratch_close(s);
 *     encode_model_close(m);
 *
 * Models: any folder of the sentence-transformers layout with a BERT encoder (model_type "bert",
 * WordPiece vocabulary, GELU): any number of layers, width and heads within the limits below; mean
 * or CLS pooling. Vectors always have unit length. Weights: F32, F16 or BF16 safetensors.
 *
 * Precision is a property of the vectors: those of two precisions differ slightly and must not be
 * mixed in one space. int8 gives the same sums on every processor; see docs/encoder.md.
 *
 * Threads: a model is immutable and may be used from any number of threads; a scratch belongs to
 * one at a time and to one model. Ownership: the model copies all it needs of the files.
 * Errors: ERR_CORRUPT and ERR_UNSUPPORTED name the file, and the tensor or key, at fault; every
 * weight is checked to be finite. encode_batch: ERR_CORRUPT when weights make a vector that is not
 * finite or has no length (nothing of such a vector is given out). No other state, nothing global.
 */
#ifndef KITH_ENCODE_H
#define KITH_ENCODE_H

#include "base/base.h"

#define ENCODE_DIM_MAX      4096
#define ENCODE_LAYERS_MAX   64
#define ENCODE_TOKENS_LIMIT 2048 /* of a text, whatever the model says */
#define ENCODE_VOCAB_MAX    (1024 * 1024)

typedef enum encode_precision {
    ENCODE_F32,
    ENCODE_BF16,
    ENCODE_INT8,
    ENCODE_PRECISIONS
} encode_precision;

/* "f32", "bf16", "int8". */
const char *encode_precision_name(encode_precision p);
MUST_USE bool encode_precision_parse(str name, encode_precision *out);

/* Whole files. The last three may be absent (ptr NULL): mean pooling, 512 tokens at most, lower
 * case. */
typedef struct encode_files {
    str weights;    /* model.safetensors */
    str vocabulary; /* vocab.txt */
    str config;     /* config.json */
    str pooling;    /* 1_Pooling/config.json */
    str sentence;   /* sentence_bert_config.json */
    str tokenizer;  /* tokenizer_config.json */
} encode_files;

typedef struct encode_model encode_model;
typedef struct encode_scratch encode_scratch;

MUST_USE err encode_model_open(const encode_files *files, encode_precision p, encode_model **out);
void encode_model_close(encode_model *m); /* NULL is fine */

size_t encode_dim(const encode_model *m);
size_t encode_layers(const encode_model *m);
bool encode_pools_cls(const encode_model *m);    /* the first token's row; else the mean of all */
size_t encode_max_tokens(const encode_model *m); /* of a text, with [CLS] and [SEP] */
encode_precision encode_precision_of(const encode_model *m);
size_t encode_model_bytes(const encode_model *m);
const char *encode_kernels(const encode_model *m); /* "avx2", …: for status pages */

MUST_USE err encode_scratch_open(const encode_model *m, encode_scratch **out);
void encode_scratch_close(encode_scratch *s); /* NULL is fine */
size_t encode_scratch_bytes(const encode_scratch *s);

/* The token ids that the model sees, with [CLS] and [SEP]: at most encode_max_tokens, which is what
 * `ids` must have room for. True when the text had more. */
bool encode_tokens(const encode_model *m, str text, uint32_t *ids, size_t *n);

typedef struct encode_stats {
    uint64_t texts, tokens; /* tokens include [CLS] and [SEP] */
    uint64_t truncated;     /* texts that had more tokens than the model takes */
} encode_stats;

/* One vector a text, in their order: out has n * encode_dim floats. `stats` is added to; may be
 * NULL. Texts are worked on together, without padding: give many at once when there are many. */
MUST_USE err encode_batch(const encode_model *m, encode_scratch *s, const str *texts, size_t n,
                          float *out, encode_stats *stats);

#endif
