/* POST /v1/embeddings and GET /v1/models: OpenAI's format, so that programs written for it need
 * only another base address.
 *
 * It is a second face of the embed operation, with its own words: `input` is a text or a list of
 * texts, `encoding_format` float or base64 (little-endian singles), `dimensions` only what the
 * model has (kith does not cut vectors: two lengths would be two spaces), `model` this server's or
 * absent. Lists of tokens are refused by name: token numbers of another tokenizer mean nothing
 * here. Unknown members are refused, as OpenAI does. Errors are {"error": {message, type, param,
 * code}}. Texts count as documents: OpenAI knows no task. The model id is the second part of the
 * space's name
 * ("local/all-minilm-l6-v2/384/cosine").
 */
#include "api/api_int.h"

#include "base/json.h"

typedef struct openai_request {
    str *texts;
    size_t count;
    bool base64;
} openai_request;

static str model_of(const provider *p) {
    str rest = str_of(provider_space(p)), part = {"", 0};
    (void)str_split(&rest, '/', &part);
    str name;
    return str_split(&rest, '/', &name) && name.len ? name : str_of(provider_space(p));
}

/* "all-MiniLM-L6-v2", also behind an owner: "sentence-transformers/all-MiniLM-L6-v2". */
static bool is_model(const provider *p, str asked) {
    str name = model_of(p);
    if (str_eq(asked, str_of(provider_space(p)))) return true;
    if (asked.len > name.len && asked.ptr[asked.len - name.len - 1] == '/')
        asked = str_skip(asked, asked.len - name.len);
    return str_eq_nocase(asked, name);
}

/* ---- errors ---- */

void api_openai_error(net_request *rq, const api_http *h, err code, int status) {
    strbuf b;
    strbuf_init(&b, 8 * KIB);
    const char *type = status < 500 ? "invalid_request_error" : "server_error";
    strbuf_addz(&b, "{\"error\":{\"message\":");
    str detail = str_of(status == 500 && !h->local ? "the server failed" : err_detail());
    size_t bad;
    if (!utf8_valid(detail, &bad)) detail.len = bad;
    strbuf_add_json(&b, detail);
    strbuf_addf(&b, ",\"type\":\"%s\",\"param\":", type);
    str field = str_of(err_field());
    if (field.len && utf8_valid(field, NULL))
        strbuf_add_json(&b, field);
    else
        strbuf_addz(&b, "null");
    strbuf_addf(&b, ",\"code\":\"%s\"}}\n", err_name(code));
    api_answer r = {.status = status, .type = "application/json", .body = strbuf_str(&b)};
    r.own = NET_COPY;
    if (code == ERR_AGAIN || code == ERR_TIMEOUT)
        r.extra[r.extra_count++] = (net_header){STR("Retry-After"), STR("1")};
    if (code == ERR_UNAUTHENTICATED)
        r.extra[r.extra_count++] =
            (net_header){STR("WWW-Authenticate"), STR("Bearer realm=\"kith\"")};
    api_respond(rq, h, &r);
    strbuf_deinit(&b);
}

/* ---- the request ---- */

static err take_text(arena *mem, yyjson_val *v, str *out) {
    str s = json_str(v);
    if (memchr(s.ptr, 0, s.len))
        return err_set_field(ERR_INVALID, "input", "expected text without NUL bytes");
    char *z = arena_dup(mem, s);
    *out = str_from(z, s.len);
    return z ? OK : ERR_NO_MEMORY;
}

static err read_list(arena *mem, yyjson_val *v, openai_request *out) {
    size_t i, n;
    yyjson_val *x;
    out->count = yyjson_arr_size(v);
    if (out->count < 1 || out->count > API_OPENAI_MAX)
        return err_set_field(ERR_INVALID, "input", "expected 1 to %d texts, got %zu",
                             API_OPENAI_MAX, out->count);
    out->texts = arena_zalloc(mem, out->count, sizeof *out->texts);
    if (!out->texts) return ERR_NO_MEMORY;
    yyjson_arr_foreach(v, i, n, x) {
        if (yyjson_is_num(x) || yyjson_is_arr(x))
            return err_set_field(
                ERR_INVALID, "input",
                "expected texts, got lists of tokens, which this model cannot read");
        if (!yyjson_is_str(x))
            return err_set_field(ERR_INVALID, "input", "expected texts, got %s at index %zu",
                                 yyjson_get_type_desc(x), i);
        TRY(take_text(mem, x, &out->texts[i]));
    }
    return OK;
}

static err read_input(arena *mem, yyjson_val *v, openai_request *out) {
    if (yyjson_is_arr(v)) return read_list(mem, v, out);
    if (!yyjson_is_str(v))
        return err_set_field(ERR_INVALID, "input", "expected a text or a list of texts");
    out->texts = arena_zalloc(mem, 1, sizeof *out->texts);
    if (!out->texts) return ERR_NO_MEMORY;
    out->count = 1;
    return take_text(mem, v, &out->texts[0]);
}

static err read_format(yyjson_val *v, bool *base64) {
    str s = json_str(v);
    *base64 = yyjson_is_str(v) && str_eq(s, STR("base64"));
    if (*base64 || yyjson_is_null(v) || (yyjson_is_str(v) && str_eq(s, STR("float")))) return OK;
    return err_set_field(ERR_INVALID, "encoding_format", "expected float or base64");
}

static err check_dimensions(const provider *p, yyjson_val *v) {
    uint32_t dim = provider_dim(p);
    if (yyjson_is_null(v) || (yyjson_is_uint(v) && yyjson_get_uint(v) == dim)) return OK;
    return err_set_field(ERR_INVALID, "dimensions", "expected %u, the only length of this model",
                         dim);
}

static err check_model(const provider *p, yyjson_val *v) {
    if (yyjson_is_null(v) || (yyjson_is_str(v) && is_model(p, json_str(v)))) return OK;
    if (!yyjson_is_str(v)) return err_set_field(ERR_INVALID, "model", "expected a string");
    str name = model_of(p);
    return err_set_field(ERR_NOT_FOUND, "model", "expected " STR_FMT ", the model of this server",
                         STR_ARG(name));
}

static err read_member(api_call *c, str key, yyjson_val *v, openai_request *out) {
    if (str_eq(key, STR("input"))) return read_input(c->mem, v, out);
    if (str_eq(key, STR("model"))) return check_model(c->provider, v);
    if (str_eq(key, STR("encoding_format"))) return read_format(v, &out->base64);
    if (str_eq(key, STR("dimensions"))) return check_dimensions(c->provider, v);
    if (str_eq(key, STR("user"))) return OK;
    char *name = arena_dup(c->mem, utf8_cut(key, 100));
    return err_set_field(ERR_INVALID, name ? name : "", "unknown field");
}

static err read_request(api_call *c, str body, openai_request *out) {
    *out = (openai_request){0};
    yyjson_doc *doc;
    TRY(json_map_document(body, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc), *key;
    err rc = yyjson_is_obj(root) ? OK : err_set_field(ERR_INVALID, "body", "expected an object");
    yyjson_obj_iter it = yyjson_obj_iter_with(root);
    while (rc == OK && (key = yyjson_obj_iter_next(&it)))
        rc = read_member(c, json_str(key), yyjson_obj_iter_get_val(key), out);
    yyjson_doc_free(doc);
    if (rc == OK && !out->count)
        rc = err_set_field(ERR_INVALID, "input", "expected a text or a list of texts");
    return rc;
}

/* ---- the answer ---- */

static void write_vector(strbuf *b, const float *v, uint32_t dim, bool base64) {
    if (base64) { /* floats are little-endian on every machine that we build for */
        strbuf_addc(b, '"');
        base64_add(b, v, dim * sizeof *v, BASE64_STANDARD);
        strbuf_addc(b, '"');
        return;
    }
    strbuf_addc(b, '[');
    for (uint32_t i = 0; i < dim; i++) {
        if (i) strbuf_addc(b, ',');
        json_map_write_real(b, (double)v[i], true);
    }
    strbuf_addc(b, ']');
}

static void write_answer(strbuf *b, api_call *c, const openai_request *q, const float *v,
                         uint64_t tokens) {
    uint32_t dim = provider_dim(c->provider);
    strbuf_addz(b, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < q->count; i++) {
        strbuf_addf(b, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i ? "," : "", i);
        write_vector(b, v + i * dim, dim, q->base64);
        strbuf_addc(b, '}');
    }
    strbuf_addz(b, "],\"model\":");
    strbuf_add_json(b, model_of(c->provider));
    strbuf_addf(b, ",\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}}\n",
                (unsigned long long)tokens, (unsigned long long)tokens);
}

static err run_embeddings(api_call *c, const net_request *rq, strbuf *b) {
    openai_request q;
    float *v;
    uint64_t tokens;
    if (!c->provider) return err_set(ERR_UNSUPPORTED, "this server has no embedding model");
    TRY(read_request(c, rq->body, &q));
    err rc = api_embed_texts(c, q.texts, q.count, EMBED_DOCUMENT, &v, &tokens);
    if (rc == ERR_INVALID) { /* texts[3] is input[3] here */
        str at = str_of(err_field());
        str name = arena_printf(c->mem, "input" STR_FMT, STR_ARG(str_skip(at, sizeof "texts" - 1)));
        if (!name.ptr) return ERR_NO_MEMORY;
        return err_set_field(rc, name.ptr, "%s", err_detail());
    }
    if (rc == OK) write_answer(b, c, &q, v, tokens);
    return rc == OK ? b->rc : rc;
}

static void respond(api *a, net_request *rq, const api_http *h, err rc, strbuf *b) {
    api_parts p;
    api_answer r = {.type = "application/json"};
    if (rc == OK && api_parts_get(a, &p)) r.lsn = shard_lsn(p.shard);
    api_respond_built(a, rq, h, rc, &r, b);
}

void api_run_embeddings(api *a, net_request *rq, api_http *h) {
    api_call call;
    strbuf b;
    strbuf_init(&b, API_ANSWER_MAX);
    err rc = api_call_begin(a, rq->arena, &call);
    if (rc == OK) rc = run_embeddings(&call, rq, &b);
    respond(a, rq, h, rc, &b);
}

void api_run_models(api *a, net_request *rq, api_http *h) {
    api_call call;
    strbuf b;
    strbuf_init(&b, 4 * KIB);
    err rc = api_call_begin(a, rq->arena, &call);
    if (rc == OK) {
        strbuf_addz(&b, "{\"object\":\"list\",\"data\":[");
        if (call.provider) {
            strbuf_addz(&b, "{\"id\":");
            strbuf_add_json(&b, model_of(call.provider));
            strbuf_addz(&b, ",\"object\":\"model\",\"created\":0,\"owned_by\":\"kith\"}");
        }
        strbuf_addz(&b, "]}\n");
        rc = b.rc;
    }
    respond(a, rq, h, rc, &b);
}
