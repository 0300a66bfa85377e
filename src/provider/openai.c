/* The OpenAI-compatible protocol: POST URL/embeddings {"input","model","encoding_format","dimensions"} ->
 * {"data":[{"index","embedding"}],"usage":{"total_tokens"}}.
 *
 * Vectors are asked for in base64 (little-endian singles: a third of the size of the numbers written out);
 * a server that sends numbers all the same is understood. `dimensions` is sent only when it was
 * configured, since servers whose model has one size refuse it. A text is cut at text_tokens_max x 3 bytes,
 * because this protocol answers 400 to one that is too long.
 * Source: OpenAI's API reference, "Create embeddings"; limits of the models: the same.
 */
#include "provider/provider_int.h"

#include <stdio.h>

enum { MODEL_NAME_MAX = 96, TEXT_TOKENS = 8191, CALL_TOKENS = 280000, KEY_MAX = 4096 };

typedef struct openai {
    char model[MODEL_NAME_MAX + 1];
    uint32_t dimensions; /* 0: not sent */
    char *auth;          /* "Authorization: Bearer ..." or NULL */
} openai;

static const known_model KNOWN[] = {{"text-embedding-3-small", 1536, 0.02},
                                    {"text-embedding-3-large", 3072, 0.13},
                                    {"text-embedding-ada-002", 1536, 0.10}};

static err openai_ask(void *self, remote_call *c) {
    const openai *o = self;
    strbuf_addz(&c->target, "/embeddings");
    if (o->auth) strbuf_addz(&c->auth, o->auth);
    strbuf_addz(&c->body, "{\"model\":");
    strbuf_add_json(&c->body, str_of(o->model));
    if (o->dimensions) strbuf_addf(&c->body, ",\"dimensions\":%u", o->dimensions);
    strbuf_addz(&c->body, ",\"encoding_format\":\"base64\",\"input\":[");
    for (size_t i = 0; i < c->ask->count; i++) {
        if (i) strbuf_addc(&c->body, ',');
        strbuf_add_json(&c->body, utf8_cut(c->ask->texts[i], (size_t)TEXT_TOKENS * 3));
    }
    strbuf_addz(&c->body, "]}");
    return OK;
}

static err read_vector(yyjson_val *e, uint32_t dim, float *out) {
    if (!yyjson_is_str(e)) return remote_numbers(e, dim, out);
    str s = json_str(e);
    while (s.len && s.ptr[s.len - 1] == '=') s.len--;
    if (dim == 0) { /* how many are there? */
        out[0] = (float)(s.len * 3 / 4 / sizeof *out);
        return OK;
    }
    if (s.len != (dim * sizeof *out * 4 + 2) / 3 ||
        !base64_decode(s, BASE64_STANDARD, (uint8_t *)out, NULL))
        return err_set(ERR_CORRUPT, "the service gave no vector of %u dimensions", dim);
    return remote_vector(out, dim);
}

static err read_data(yyjson_val *data, const remote_call *c, float *out) {
    size_t n = c->ask->count, i, most, seen = 0;
    bool have[PROVIDER_TEXTS_MAX] = {false};
    yyjson_val *item;
    if (yyjson_arr_size(data) != n)
        return err_set(ERR_CORRUPT, "the service gave %zu vectors for %zu texts",
                       yyjson_arr_size(data), n);
    yyjson_arr_foreach(data, i, most, item) {
        yyjson_val *index = yyjson_obj_get(item, "index");
        uint64_t at = yyjson_is_uint(index) ? yyjson_get_uint(index) : i;
        if (at >= n || have[at])
            return err_set(ERR_CORRUPT, "the service numbered vectors wrongly");
        have[at] = true;
        seen++;
        TRY(read_vector(yyjson_obj_get(item, "embedding"), c->info->dim, out + at * c->info->dim));
    }
    return seen == n ? OK : err_set(ERR_CORRUPT, "the service gave too few vectors");
}

static err openai_answer(yyjson_val *root, const remote_call *c, float *out, embed_usage *usage) {
    yyjson_val *use = yyjson_obj_get(root, "usage");
    usage->tokens = yyjson_get_uint(yyjson_obj_get(use, "total_tokens"));
    return read_data(yyjson_obj_get(root, "data"), c, out);
}

static void openai_refusal(void *self, int status, yyjson_val *error, const remote_call *c,
                           remote_hint *hint) {
    (void)self, (void)error;
    if (status == 413 && c->ask->count > 1) hint->texts_max = c->ask->count / 2;
}

static void openai_close(void *self) {
    openai *o = self;
    if (o->auth) memset(o->auth, 0, strlen(o->auth));
    mem_free(o->auth);
    mem_free(o);
}

static err set_key(openai *o, const char *key) {
    if (!key || !key[0]) return OK;
    strbuf b;
    str k = str_trim(str_of(key));
    for (size_t i = 0; i < k.len; i++)
        if (k.ptr[i] <= ' ' || k.ptr[i] > '~')
            return err_set(ERR_INVALID, "the provider's key: expected one line of ASCII");
    strbuf_init(&b, KEY_MAX);
    strbuf_addf(&b, "Authorization: Bearer %.*s", STR_ARG(k));
    o->auth = strbuf_take(&b);
    return o->auth ? OK : err_set(ERR_INVALID, "the provider's key is too long");
}

err remote_openai_open(const provider_config *c, provider **out) {
    static const remote_api api = {.ask = openai_ask,
                                   .answer = openai_answer,
                                   .refusal = openai_refusal,
                                   .close = openai_close};
    *out = NULL;
    const char *model = c->model ? c->model : KNOWN[0].name;
    if (strlen(model) > MODEL_NAME_MAX || !utf8_valid(str_of(model), NULL))
        return err_set_field(ERR_INVALID, "embed-model", "the model's name is too long");
    openai *o = mem_zalloc(1, sizeof *o);
    if (!o) return ERR_NO_MEMORY;
    snprintf(o->model, sizeof o->model, "%s", model);
    o->dimensions = c->dim;
    err rc = set_key(o, c->key);
    if (rc != OK) {
        openai_close(o);
        return rc;
    }
    provider_info info = {.kind = "openai",
                          .texts_max = PROVIDER_TEXTS_MAX,
                          .call_tokens_max = CALL_TOKENS,
                          .text_tokens_max = TEXT_TOKENS,
                          .remote = true};
    remote_known_model(c, KNOWN, COUNT_OF(KNOWN), model, &info);
    return remote_make(c, c->url ? c->url : "https://api.openai.com/v1", &api, o, &info, out);
}
