/* A model from its files: configuration read and checked, weights converted, packed once.
 *
 * What each file gives. config.json: the shape, and that this is a BERT with GELU and absolute
 * positions. 1_Pooling/config.json: mean or CLS. sentence_bert_config.json: the longest text.
 * tokenizer_config.json: lower case, accents, ideographs. vocab.txt: the tokenizer.
 * model.safetensors: the weights, by the names that BERT models give them, with or without "bert."
 * before.
 *
 * Folded in here, so that the forward pass does nothing twice: queries, keys and values become one
 * matrix; 1 / sqrt(head size) goes into the queries; the embedding of token type 0 (the only one a
 * single text has) goes into the positions. The pooler that BERT carries for other tasks is not
 * read.
 *
 * Files are the world's: every key's type and range is checked before use, and an error names the
 * file and the key or tensor. Invariants after opening: hidden is a multiple of heads; every id
 * that the tokenizer can give is a row of `words`; max_tokens is between 3 and the rows of
 * positions.
 */
#include "base/json.h"
#include "encode/encode_int.h"
#include "encode/safetensors.h"

#include <math.h>
#include <string.h>

#define INNER_MAX     GEMM_DIM_MAX
#define HEADS_MAX     256
#define SPARE_ROWS    1024 /* a vocabulary may be padded to a round number of rows, not more */
#define NAME_MAX_SIZE 160

/* ---- configuration files ---- */

static err config_parse(const char *file, str text, yyjson_doc **out) {
    err rc = json_parse(text, out);
    if (rc == ERR_NO_MEMORY || rc == OK) return rc;
    return err_set(ERR_CORRUPT, "%s: %s", file, err_detail());
}

/* A whole number in [1, max]. */
static err config_size(yyjson_val *root, const char *key, size_t max, size_t *out) {
    yyjson_val *v = yyjson_obj_get(root, key);
    if (!yyjson_is_uint(v) || yyjson_get_uint(v) < 1 || yyjson_get_uint(v) > max)
        return err_set(ERR_CORRUPT, "config.json: %s: expected a whole number from 1 to %zu", key,
                       max);
    *out = (size_t)yyjson_get_uint(v);
    return OK;
}

/* A text that, when it is there, must be this one: what kith computes. */
static err config_expect(yyjson_val *root, const char *key, str expected) {
    yyjson_val *v = yyjson_obj_get(root, key);
    if (!v || str_eq(json_str(v), expected)) return OK;
    return err_set(ERR_UNSUPPORTED, "config.json: %s: only %s is supported", key, expected.ptr);
}

static err config_shape(yyjson_val *root, encode_shape *s) {
    TRY(config_expect(root, "model_type", STR("bert")));
    TRY(config_expect(root, "hidden_act", STR("gelu")));
    TRY(config_expect(root, "position_embedding_type", STR("absolute")));
    TRY(config_size(root, "hidden_size", ENCODE_DIM_MAX, &s->hidden));
    TRY(config_size(root, "num_hidden_layers", ENCODE_LAYERS_MAX, &s->layers));
    TRY(config_size(root, "num_attention_heads", HEADS_MAX, &s->heads));
    TRY(config_size(root, "intermediate_size", INNER_MAX, &s->inner));
    TRY(config_size(root, "vocab_size", ENCODE_VOCAB_MAX, &s->vocab));
    TRY(config_size(root, "max_position_embeddings", GEMM_DIM_MAX, &s->positions));
    TRY(config_size(root, "type_vocab_size", 64, &s->types));
    if (s->hidden % s->heads)
        return err_set(ERR_CORRUPT, "config.json: hidden_size: expected a multiple of "
                                    "num_attention_heads");
    yyjson_val *epsilon = yyjson_obj_get(root, "layer_norm_eps");
    double e = epsilon ? yyjson_get_num(epsilon) : 1e-12;
    if (!(e >= 0 && e <= 1) || (epsilon && !yyjson_is_num(epsilon)))
        return err_set(ERR_CORRUPT, "config.json: layer_norm_eps: expected a number from 0 to 1");
    s->epsilon = (float)e;
    return OK;
}

static err config_read(str text, encode_shape *s) {
    yyjson_doc *doc = NULL;
    TRY(config_parse("config.json", text, &doc));
    err rc = config_shape(yyjson_doc_get_root(doc), s);
    yyjson_doc_free(doc);
    return rc;
}

static bool is_true(yyjson_val *root, const char *key) {
    return yyjson_get_bool(yyjson_obj_get(root, key));
}

static err pooling_read(str text, size_t hidden, bool *cls) {
    yyjson_doc *doc = NULL;
    *cls = false;
    if (!text.ptr) return OK;
    TRY(config_parse("1_Pooling/config.json", text, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc);
    err rc = OK;
    yyjson_val *dim = yyjson_obj_get(root, "word_embedding_dimension");
    bool mean = is_true(root, "pooling_mode_mean_tokens");
    *cls = is_true(root, "pooling_mode_cls_token");
    if (mean == *cls || is_true(root, "pooling_mode_max_tokens") ||
        is_true(root, "pooling_mode_mean_sqrt_len_tokens"))
        rc = err_set(ERR_UNSUPPORTED, "1_Pooling/config.json: only pooling_mode_mean_tokens or "
                                      "pooling_mode_cls_token, alone, is supported");
    else if (dim && yyjson_get_uint(dim) != hidden)
        rc = err_set(ERR_CORRUPT,
                     "1_Pooling/config.json: word_embedding_dimension: expected %zu "
                     "as config.json has it",
                     hidden);
    yyjson_doc_free(doc);
    return rc;
}

static err sentence_read(str text, size_t positions, size_t *max_tokens) {
    yyjson_doc *doc = NULL;
    *max_tokens = MIN(positions, ENCODE_TOKENS_LIMIT);
    if (text.ptr) {
        TRY(config_parse("sentence_bert_config.json", text, &doc));
        yyjson_val *v = yyjson_obj_get(yyjson_doc_get_root(doc), "max_seq_length");
        bool absent = !v || yyjson_is_null(v), whole = yyjson_is_uint(v);
        uint64_t length = yyjson_get_uint(v);
        yyjson_doc_free(doc);
        if (!absent && (!whole || length < 3))
            return err_set(ERR_CORRUPT, "sentence_bert_config.json: max_seq_length: expected a "
                                        "whole number of at least 3");
        if (!absent && length < *max_tokens) *max_tokens = (size_t)length;
    }
    if (*max_tokens < 3)
        return err_set(ERR_CORRUPT, "config.json: max_position_embeddings: expected at least 3");
    return OK;
}

static err tokenizer_options_read(str text, tokenizer_options *o) {
    yyjson_doc *doc = NULL;
    *o = (tokenizer_options){true, true, true};
    if (!text.ptr) return OK;
    TRY(config_parse("tokenizer_config.json", text, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *lower = yyjson_obj_get(root, "do_lower_case");
    yyjson_val *accents = yyjson_obj_get(root, "strip_accents");
    yyjson_val *ideographs = yyjson_obj_get(root, "tokenize_chinese_chars");
    if (yyjson_is_bool(lower)) o->lower_case = yyjson_get_bool(lower);
    o->strip_accents = yyjson_is_bool(accents) ? yyjson_get_bool(accents) : o->lower_case;
    if (yyjson_is_bool(ideographs)) o->split_ideographs = yyjson_get_bool(ideographs);
    yyjson_doc_free(doc);
    return OK;
}

/* ---- weights ---- */

typedef struct loader {
    encode_model *m;
    const safetensors *file;
    const char *prefix; /* "" or "bert." */
    strbuf text;
} loader;

/* The full name of a tensor: of layer `layer`, or of none when it is SIZE_MAX. */
static err name_make(loader *l, size_t layer, const char *rest) {
    strbuf_reset(&l->text);
    strbuf_addz(&l->text, l->prefix);
    if (layer == SIZE_MAX)
        strbuf_addz(&l->text, "embeddings.");
    else
        strbuf_addf(&l->text, "encoder.layer.%zu.", layer);
    strbuf_addz(&l->text, rest);
    return l->text.rc;
}

static err read_matrix(loader *l, size_t layer, const char *rest, size_t rows, size_t columns,
                       float *out) {
    TRY(name_make(l, layer, rest));
    return safetensors_read(l->file, l->text.ptr, (safetensors_shape){{rows, columns}, 2}, out);
}

static err read_vector(loader *l, size_t layer, const char *rest, size_t n, float *out) {
    TRY(name_make(l, layer, rest));
    return safetensors_read(l->file, l->text.ptr, (safetensors_shape){{n}, 1}, out);
}

static float *floats_new(size_t n) {
    return mem_aligned(64, n * sizeof(float));
}

static const gemm_kind kind_of[ENCODE_PRECISIONS] = {GEMM_F32, GEMM_BF16, GEMM_I8};

/* One or several linear layers of equal width, stacked into one packed matrix. */
typedef struct linear {
    const char *const *names; /* "x.weight", "x.bias" for each */
    size_t count, n, k;       /* n: of each */
    float first_scale;        /* multiplies the first */
} linear;

static err read_linear(loader *l, size_t layer, const linear *d, gemm_matrix *out) {
    size_t n = d->count * d->n;
    float *weights = floats_new(n * d->k), *bias = floats_new(n);
    err rc = weights && bias ? OK : ERR_NO_MEMORY;
    for (size_t i = 0; rc == OK && i < d->count; i++) {
        TRY_GOTO(read_matrix(l, layer, d->names[2 * i], d->n, d->k, weights + i * d->n * d->k));
        TRY_GOTO(read_vector(l, layer, d->names[2 * i + 1], d->n, bias + i * d->n));
    }
    if (rc == OK) {
        for (size_t i = 0; i < d->n * d->k; i++) weights[i] *= d->first_scale;
        for (size_t i = 0; i < d->n; i++) bias[i] *= d->first_scale;
        rc = gemm_matrix_init(out, &(gemm_source){.kind = kind_of[l->m->precision],
                                                  .table = l->m->gemm,
                                                  .weights = weights,
                                                  .bias = bias,
                                                  .n = n,
                                                  .k = d->k});
    }
done:
    mem_free(weights);
    mem_free(bias);
    return rc;
}

static err read_layer(loader *l, size_t i) {
    static const char *const qkv[] = {"attention.self.query.weight", "attention.self.query.bias",
                                      "attention.self.key.weight",   "attention.self.key.bias",
                                      "attention.self.value.weight", "attention.self.value.bias"};
    static const char *const out[] = {"attention.output.dense.weight",
                                      "attention.output.dense.bias"};
    static const char *const up[] = {"intermediate.dense.weight", "intermediate.dense.bias"};
    static const char *const down[] = {"output.dense.weight", "output.dense.bias"};
    const encode_shape *s = &l->m->shape;
    encode_layer *layer = &l->m->layers[i];
    size_t h = s->hidden;
    float scale = 1 / sqrtf((float)(h / s->heads));
    TRY(read_linear(l, i, &(linear){qkv, 3, h, h, scale}, &layer->qkv));
    TRY(read_linear(l, i, &(linear){out, 1, h, h, 1}, &layer->out));
    TRY(read_linear(l, i, &(linear){up, 1, s->inner, h, 1}, &layer->up));
    TRY(read_linear(l, i, &(linear){down, 1, h, s->inner, 1}, &layer->down));
    layer->norms = floats_new(4 * h);
    if (!layer->norms) return ERR_NO_MEMORY;
    TRY(read_vector(l, i, "attention.output.LayerNorm.weight", h, layer->norms));
    TRY(read_vector(l, i, "attention.output.LayerNorm.bias", h, layer->norms + h));
    TRY(read_vector(l, i, "output.LayerNorm.weight", h, layer->norms + 2 * h));
    return read_vector(l, i, "output.LayerNorm.bias", h, layer->norms + 3 * h);
}

/* Positions come with the embedding of token type 0 added. */
static err read_positions(loader *l) {
    encode_model *m = l->m;
    size_t h = m->shape.hidden;
    float *all = floats_new(m->shape.positions * h), *types = floats_new(m->shape.types * h);
    err rc = all && types ? OK : ERR_NO_MEMORY;
    if (rc == OK) {
        TRY_GOTO(
            read_matrix(l, SIZE_MAX, "position_embeddings.weight", m->shape.positions, h, all));
        TRY_GOTO(
            read_matrix(l, SIZE_MAX, "token_type_embeddings.weight", m->shape.types, h, types));
        for (size_t i = 0; i < m->max_tokens * h; i++) m->positions[i] = all[i] + types[i % h];
    }
done:
    mem_free(all);
    mem_free(types);
    return rc;
}

static err read_embeddings(loader *l) {
    encode_model *m = l->m;
    size_t h = m->shape.hidden;
    m->words = floats_new(m->shape.vocab * h);
    m->positions = floats_new(m->max_tokens * h);
    m->norms = floats_new(2 * h);
    if (!m->words || !m->positions || !m->norms) return ERR_NO_MEMORY;
    TRY(read_matrix(l, SIZE_MAX, "word_embeddings.weight", m->shape.vocab, h, m->words));
    TRY(read_positions(l));
    TRY(read_vector(l, SIZE_MAX, "LayerNorm.weight", h, m->norms));
    return read_vector(l, SIZE_MAX, "LayerNorm.bias", h, m->norms + h);
}

static err read_weights(encode_model *m, const safetensors *file) {
    loader l = {.m = m, .file = file, .prefix = ""};
    strbuf_init(&l.text, NAME_MAX_SIZE);
    if (safetensors_has(file, "bert.embeddings.word_embeddings.weight")) l.prefix = "bert.";
    err rc = OK;
    TRY_GOTO(read_embeddings(&l));
    m->layers = mem_zalloc(m->shape.layers, sizeof *m->layers);
    if (!m->layers) rc = ERR_NO_MEMORY;
    for (size_t i = 0; rc == OK && i < m->shape.layers; i++) rc = read_layer(&l, i);
done:
    strbuf_deinit(&l.text);
    return rc;
}

/* ---- public ---- */

static err vocabulary_check(const encode_model *m) {
    size_t tokens = tokenizer_count(m->tok), rows = m->shape.vocab;
    if (tokens <= rows && tokens + SPARE_ROWS >= rows) return OK;
    return err_set(ERR_CORRUPT,
                   "vocab.txt: %zu tokens, but config.json has vocab_size %zu: "
                   "the tokenizer of another model",
                   tokens, rows);
}

static err model_read(encode_model *m, const encode_files *files) {
    tokenizer_options o;
    TRY(config_read(files->config, &m->shape));
    TRY(pooling_read(files->pooling, m->shape.hidden, &m->pool_cls));
    TRY(sentence_read(files->sentence, m->shape.positions, &m->max_tokens));
    TRY(tokenizer_options_read(files->tokenizer, &o));
    safetensors *file;
    TRY(safetensors_open(files->weights, &file));
    err rc = read_weights(m, file);
    safetensors_close(file);
    TRY(rc);
    TRY(tokenizer_new(files->vocabulary, &o, &m->tok));
    return vocabulary_check(m);
}

err encode_model_open(const encode_files *files, encode_precision p, encode_model **out) {
    KITH_ASSERT(p < ENCODE_PRECISIONS);
    *out = NULL;
    encode_model *m = mem_zalloc(1, sizeof *m);
    if (!m) return ERR_NO_MEMORY;
    m->precision = p;
    m->nn = nn_table_for(NULL);
    m->gemm = gemm_table_for(NULL);
    err rc = model_read(m, files);
    if (rc != OK) {
        encode_model_close(m);
        return rc;
    }
    *out = m;
    return OK;
}

void encode_model_close(encode_model *m) {
    if (!m) return;
    for (size_t i = 0; m->layers && i < m->shape.layers; i++) {
        encode_layer *l = &m->layers[i];
        gemm_matrix_deinit(&l->qkv);
        gemm_matrix_deinit(&l->out);
        gemm_matrix_deinit(&l->up);
        gemm_matrix_deinit(&l->down);
        mem_free(l->norms);
    }
    mem_free(m->layers);
    mem_free(m->words);
    mem_free(m->positions);
    mem_free(m->norms);
    tokenizer_free(m->tok);
    mem_free(m);
}

size_t encode_dim(const encode_model *m) {
    return m->shape.hidden;
}
size_t encode_layers(const encode_model *m) {
    return m->shape.layers;
}
bool encode_pools_cls(const encode_model *m) {
    return m->pool_cls;
}
size_t encode_max_tokens(const encode_model *m) {
    return m->max_tokens;
}
encode_precision encode_precision_of(const encode_model *m) {
    return m->precision;
}
const char *encode_kernels(const encode_model *m) {
    return gemm_table_name(m->gemm);
}

size_t encode_model_bytes(const encode_model *m) {
    size_t h = m->shape.hidden;
    size_t n = sizeof *m + tokenizer_bytes(m->tok);
    n += (m->shape.vocab + m->max_tokens + 2) * h * sizeof(float);
    for (size_t i = 0; i < m->shape.layers; i++) {
        const encode_layer *l = &m->layers[i];
        n += sizeof *l + 4 * h * sizeof(float) + gemm_matrix_bytes(&l->qkv) +
             gemm_matrix_bytes(&l->out) + gemm_matrix_bytes(&l->up) + gemm_matrix_bytes(&l->down);
    }
    return n;
}

static const str precision_names[ENCODE_PRECISIONS] = {STR_INIT("f32"), STR_INIT("bf16"),
                                                       STR_INIT("int8")};

const char *encode_precision_name(encode_precision p) {
    KITH_ASSERT(p < ENCODE_PRECISIONS);
    return precision_names[p].ptr;
}

bool encode_precision_parse(str name, encode_precision *out) {
    for (int i = 0; i < ENCODE_PRECISIONS; i++)
        if (str_eq(name, precision_names[i])) {
            *out = (encode_precision)i;
            return true;
        }
    return false;
}
