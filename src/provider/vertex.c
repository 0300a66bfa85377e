/* Vertex AI text embeddings: POST /v1/projects/P/locations/L/publishers/google/models/M:predict
 * {"instances":[{"content","task_type"}],"parameters":{"autoTruncate","outputDimensionality"}} ->
 * {"predictions":[{"embeddings":{"values":[],"statistics":{"token_count","truncated"}}}]}.
 * Keys are in two styles in one request, as the service wants them.
 *
 * Limits of a call: 250 texts, 20,000 tokens. Some models and regions take fewer texts: the refusal says how
 * many ("5 instance(s) is allowed per prediction. Actual: 250"), and that is kept. Vectors shortened by
 * outputDimensionality are not of unit length: they are made so here, all of them.
 * Source: Google's "Text embeddings API" reference and the client library google-cloud-aiplatform.
 */
#include "provider/provider_int.h"

#include <stdio.h>

enum {
    MODEL_NAME_MAX = 96,
    TEXT_TOKENS = 2048,
    CALL_TOKENS = 20000,
    TEXTS_MAX = 250,
    URL_BYTES = 256
};

typedef struct vertex {
    char target[4 * MODEL_NAME_MAX + 128];
    uint32_t dimensions; /* 0: not sent */
    bool may_learn;      /* a refusal without a number may mean too many texts as well */
    token_source *tokens;
} vertex;

/* Where Google's price is by characters, at four a token. */
static const known_model KNOWN[] = {{"text-embedding-005", 768, 0.10},
                                    {"text-embedding-004", 768, 0.10},
                                    {"text-multilingual-embedding-002", 768, 0.10},
                                    {"gemini-embedding-001", 3072, 0.15}};

static const char *task_name(embed_task t) {
    static const char *const names[] = {[EMBED_DOCUMENT] = "RETRIEVAL_DOCUMENT",
                                        [EMBED_QUERY] = "RETRIEVAL_QUERY",
                                        [EMBED_SIMILARITY] = "SEMANTIC_SIMILARITY"};
    return names[t];
}

static err vertex_ask(void *self, remote_call *c) {
    vertex *v = self;
    strbuf_addz(&c->target, v->target);
    strbuf_addz(&c->auth, "Authorization: Bearer ");
    TRY(tokens_get(v->tokens, c));
    strbuf_addz(&c->body, "{\"instances\":[");
    for (size_t i = 0; i < c->ask->count; i++) {
        strbuf_addf(&c->body, "%s{\"task_type\":\"%s\",\"content\":", i ? "," : "",
                    task_name(c->ask->task));
        strbuf_add_json(&c->body, c->ask->texts[i]);
        strbuf_addc(&c->body, '}');
    }
    strbuf_addz(&c->body, "],\"parameters\":{\"autoTruncate\":true");
    if (v->dimensions) strbuf_addf(&c->body, ",\"outputDimensionality\":%u", v->dimensions);
    strbuf_addz(&c->body, "}}");
    return OK;
}

static err vertex_answer(yyjson_val *root, const remote_call *c, float *out, embed_usage *usage) {
    size_t i, most;
    yyjson_val *list = yyjson_obj_get(root, "predictions"), *p;
    double tokens = 0;
    if (yyjson_arr_size(list) != c->ask->count)
        return err_set(ERR_CORRUPT, "the service gave %zu vectors for %zu texts",
                       yyjson_arr_size(list), c->ask->count);
    yyjson_arr_foreach(list, i, most, p) {
        yyjson_val *e = yyjson_obj_get(p, "embeddings");
        TRY(remote_numbers(yyjson_obj_get(e, "values"), c->info->dim, out + i * c->info->dim));
        /* A protobuf Struct's number: 8 may come as 8.0. */
        double n = yyjson_get_num(yyjson_obj_get(yyjson_obj_get(e, "statistics"), "token_count"));
        if (n > 0 && n < 1e6) tokens += n;
    }
    usage->tokens = (uint64_t)tokens;
    return OK;
}

/* "250 instance(s) is allowed per prediction. Actual: 512" */
static size_t allowed_instances(yyjson_val *error) {
    size_t n = 0;
    str message = json_str(yyjson_obj_get(error, "message"));
    if (message.ptr && str_find(message, STR("instance(s) is allowed")) > 0)
        for (size_t i = 0; i < message.len && n < TEXTS_MAX; i++) {
            if (message.ptr[i] < '0' || message.ptr[i] > '9') break;
            n = n * 10 + (size_t)(message.ptr[i] - '0');
        }
    return n;
}

static void vertex_refusal(void *self, int status, yyjson_val *error, const remote_call *c,
                           remote_hint *hint) {
    vertex *v = self;
    str auth = strbuf_str(&c->auth), head = STR("Authorization: Bearer ");
    if (status == 401) {
        tokens_refused(v->tokens, str_skip(auth, head.len));
        hint->again = true;
    }
    if (status != 400 || c->ask->count < 2) return;
    hint->texts_max = allowed_instances(error);
    if (!hint->texts_max && v->may_learn) hint->texts_max = c->ask->count / 2;
}

static void vertex_close(void *self) {
    vertex *v = self;
    tokens_close(v->tokens);
    mem_free(v);
}

static void vertex_stats(void *self, provider_stats *out) {
    vertex *v = self;
    tokens_stats(v->tokens, out);
}

/* Names go into a path: letters, digits, '-', '.', '_', ':' and '@'. */
static err check_name(const char *what, const char *name) {
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:@");
    if (n && n <= MODEL_NAME_MAX && !name[n]) return OK;
    return err_set_field(ERR_INVALID, what, "%s: expected a name of letters and digits", what);
}

static void default_url(const char *location, char out[URL_BYTES]) {
    bool global = strcmp(location, "global") == 0;
    snprintf(out, URL_BYTES, "https://%s%saiplatform.googleapis.com", global ? "" : location,
             global ? "" : "-");
}

err remote_vertex_open(const provider_config *c, provider **out) {
    static const remote_api api = {vertex_ask, vertex_answer, vertex_refusal, vertex_close,
                                   vertex_stats};
    *out = NULL;
    const char *model = c->model ? c->model : KNOWN[0].name;
    const char *location = c->location ? c->location : "us-central1";
    char url[URL_BYTES];
    TRY(check_name("embed-model", model));
    TRY(check_name("vertex-location", location));
    TRY(check_name("vertex-project", c->project ? c->project : ""));
    vertex *v = mem_zalloc(1, sizeof *v);
    if (!v) return ERR_NO_MEMORY;
    snprintf(v->target, sizeof v->target,
             "/v1/projects/%s/locations/%s/publishers/google/models/%s:predict", c->project,
             location, model);
    v->may_learn = strncmp(model, "gemini-", 7) == 0;
    provider_info info = {.kind = "vertex",
                          .texts_max = TEXTS_MAX,
                          .call_tokens_max = CALL_TOKENS,
                          .text_tokens_max = TEXT_TOKENS,
                          .remote = true,
                          .sided = true};
    remote_known_model(c, KNOWN, COUNT_OF(KNOWN), model, &info);
    v->dimensions = c->dim;
    err rc = tokens_open(c->fs ? c->fs : fs_real(), c->credentials, c->ca_file, &v->tokens);
    if (rc != OK) {
        mem_free(v);
        return rc;
    }
    default_url(location, url);
    return remote_make(c, c->url ? c->url : url, &api, v, &info, out);
}
