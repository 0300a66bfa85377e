/* Builds the tiny model of the tests: its files in memory, weights by the formula that
 * tests/encode_fixture.py uses too. Included by tests and fuzzers only. */
#ifndef KITH_ENCODE_FIXTURE_MODEL_H
#define KITH_ENCODE_FIXTURE_MODEL_H

#include "encode/encode.h"
#include "encode/encode_fixture.h"

#include <string.h>

typedef enum fixture_dtype { FIXTURE_F32, FIXTURE_F16, FIXTURE_BF16 } fixture_dtype;

/* What a test may change about the files. */
typedef struct fixture_plan {
    fixture_dtype dtype;
    const char *prefix;  /* of every tensor's name */
    const char *skip;    /* a tensor to leave out */
    const char *reshape; /* a tensor whose shape is written with one row less */
    const char *spoil;   /* a tensor whose last value becomes NaN */
} fixture_plan;

static inline double fixture_value(size_t tensor, size_t i) {
    return ((double)((i * 7919 + tensor * 104729 + i * i % 1009 * 31) % 2003) - 1001) / 1001.0;
}

typedef struct fixture_tensor {
    char name[96];
    size_t rows, columns; /* columns 0: one dimension */
    double scale, base;
} fixture_tensor;

#define FIXTURE_TENSORS (5 + 16 * FIXTURE_LAYERS)

static inline fixture_tensor fixture_tensor_at(size_t number) {
    static const char *const first[5] = {
        "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight", "embeddings.LayerNorm.weight",
        "embeddings.LayerNorm.bias"};
    static const char *const layer[8] = {"attention.self.query",
                                         "attention.self.key",
                                         "attention.self.value",
                                         "attention.output.dense",
                                         "attention.output.LayerNorm",
                                         "intermediate.dense",
                                         "output.dense",
                                         "output.LayerNorm"};
    static const size_t first_rows[5] = {FIXTURE_WORDS, FIXTURE_POSITIONS, FIXTURE_TYPES,
                                         FIXTURE_HIDDEN, FIXTURE_HIDDEN};
    fixture_tensor t = {.rows = FIXTURE_HIDDEN, .scale = 0.4};
    strbuf name;
    strbuf_init(&name, sizeof t.name);
    bool is_norm = number == 3;
    if (number < 5) {
        strbuf_addz(&name, first[number]);
        t.rows = first_rows[number];
        t.columns = number < 3 ? FIXTURE_HIDDEN : 0;
    } else {
        size_t part = (number - 5) % 16 / 2;
        bool weight = (number - 5) % 2 == 0;
        is_norm = weight && (part == 4 || part == 7);
        strbuf_addf(&name, "encoder.layer.%zu.%s.%s", (number - 5) / 16, layer[part],
                    weight ? "weight" : "bias");
        if (part == 5) t.rows = FIXTURE_INNER;
        if (weight && !is_norm) t.columns = part == 6 ? FIXTURE_INNER : FIXTURE_HIDDEN;
    }
    if (is_norm) {
        t.scale = 0.3;
        t.base = 1;
    }
    memcpy(t.name, strbuf_str(&name).ptr, name.len + 1);
    strbuf_deinit(&name);
    return t;
}

/* Finite, normal or zero values only. */
static inline uint16_t fixture_f16(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
    if (magnitude < 0x38800000) return (uint16_t)sign; /* below 2^-14: zero will do */
    return (uint16_t)(sign | ((magnitude - 0x38000000 + 0x1000) >> 13));
}

static inline void fixture_put(strbuf *data, fixture_dtype type, float f) {
    uint8_t b[4];
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    le32_put(b, u);
    if (type == FIXTURE_F32) strbuf_add(data, str_from(b, 4));
    if (type == FIXTURE_BF16) strbuf_add(data, str_from(b + 2, 2));
    if (type == FIXTURE_F16) {
        le16_put(b, u == 0x7fc00000 ? 0x7e00 : fixture_f16(f));
        strbuf_add(data, str_from(b, 2));
    }
}

/* Appends a safetensors file to `out`. */
static inline void fixture_weights(const fixture_plan *plan, strbuf *out) {
    static const char *const types[] = {"F32", "F16", "BF16"};
    strbuf header, data;
    strbuf_init(&header, MIB);
    strbuf_init(&data, MIB);
    strbuf_addz(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t n = 0; n < FIXTURE_TENSORS; n++) {
        fixture_tensor t = fixture_tensor_at(n);
        if (plan->skip && strcmp(plan->skip, t.name) == 0) continue;
        size_t begin = data.len, count = t.rows * (t.columns ? t.columns : 1);
        for (size_t i = 0; i < count; i++)
            fixture_put(&data, plan->dtype, (float)(t.base + t.scale * fixture_value(n, i)));
        if (plan->spoil && strcmp(plan->spoil, t.name) == 0) {
            data.len -= plan->dtype == FIXTURE_F32 ? 4 : 2;
            fixture_put(&data, plan->dtype, __builtin_nanf(""));
        }
        size_t rows = t.rows, end = data.len;
        if (plan->reshape && strcmp(plan->reshape, t.name) == 0) {
            end -= (end - begin) / rows;
            rows--;
        }
        strbuf_addf(&header, ",\"%s%s\":{\"dtype\":\"%s\",\"shape\":[%zu",
                    plan->prefix ? plan->prefix : "", t.name, types[plan->dtype], rows);
        if (t.columns) strbuf_addf(&header, ",%zu", t.columns);
        strbuf_addf(&header, "],\"data_offsets\":[%zu,%zu]}", begin, end);
    }
    strbuf_addc(&header, '}');
    uint8_t size[8];
    le64_put(size, header.len);
    strbuf_add(out, str_from(size, 8));
    strbuf_add(out, strbuf_str(&header));
    strbuf_add(out, strbuf_str(&data));
    strbuf_deinit(&header);
    strbuf_deinit(&data);
}

#define FIXTURE_CONFIG                                                                             \
    "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"hidden_size\":20,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":2,\"intermediate_size\":36,\"vocab_size\":40,"                        \
    "\"max_position_embeddings\":24,\"type_vocab_size\":2,\"layer_norm_eps\":1e-12}"
#define FIXTURE_SENTENCE  "{\"max_seq_length\":16,\"do_lower_case\":false}"
#define FIXTURE_MEAN      "{\"word_embedding_dimension\":20,\"pooling_mode_mean_tokens\":true}"
#define FIXTURE_CLS       "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}"
#define FIXTURE_TOKENIZER "{\"do_lower_case\":true,\"strip_accents\":null}"

static inline encode_files fixture_files(const strbuf *weights) {
    return (encode_files){.weights = strbuf_str(weights),
                          .vocabulary = str_of(fixture_vocabulary),
                          .config = STR(FIXTURE_CONFIG),
                          .pooling = STR(FIXTURE_MEAN),
                          .sentence = STR(FIXTURE_SENTENCE),
                          .tokenizer = STR(FIXTURE_TOKENIZER)};
}

#endif
