/* Google Cloud Storage by its JSON API.
 *
 * A put is a multipart/related upload: a JSON part with the name and the CRC-32C that Google shall find,
 * then the bytes; over OBJECT_PART it is a resumable session, PUT piece by piece, in which a piece that
 * broke off is asked about and sent again. A get compares the CRC-32C of x-goog-hash with what came.
 * OBJECT_NEW is ifGenerationMatch=0.
 *
 * The token is KITH_GS_TOKEN, read anew for each request, or the metadata server's (machines and pods of
 * Google), kept until a minute before it ends.
 */
#include "object/object_int.h"

#include "base/json.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOKEN_MAX = 4096, GET_TRIES = 3, PATH_BYTES = 2048, OBJECTS_MAX = 320, TOKEN_SPARE_S = 60 };
#define BOUNDARY "kith-part-4cf1a2"

typedef struct gs_store {
    object_store base;
    object_http http;
    object_url url;
    char objects[OBJECTS_MAX]; /* the path of the bucket's objects */
    char token[TOKEN_MAX];
    uint64_t token_end_ns; /* monotonic; 0: none */
} gs_store;

/* ---- token ---- */

static err fetch_token(gs_store *s) {
    static const char *const flavor[] = {"Metadata-Flavor: Google"};
    http_client *c;
    http_reply r;
    TRY(http_client_open("http://metadata.google.internal", NULL, &c));
    http_ask ask = {.method = "GET",
                    .target = "/computeMetadata/v1/instance/service-accounts/default/token",
                    .timeout_ms = 5000,
                    .headers = flavor,
                    .header_count = 1};
    yyjson_doc *doc = NULL;
    err rc = http_call(c, &ask, &r);
    if (rc == OK && r.status == 200) rc = json_parse(r.body, &doc);
    const char *z = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "access_token"));
    uint64_t life = yyjson_get_uint(yyjson_obj_get(yyjson_doc_get_root(doc), "expires_in"));
    size_t n = z ? strlen(z) : 0;
    if (n && n < TOKEN_MAX) {
        memcpy(s->token, z, n + 1);
        life = life > TOKEN_SPARE_S ? life - TOKEN_SPARE_S : 0;
        s->token_end_ns = clock_mono_ns() + life * 1000000000u;
    }
    yyjson_doc_free(doc);
    http_client_close(c);
    if (n && n < TOKEN_MAX) return OK;
    return err_set(ERR_UNAUTHENTICATED,
                   "Google Cloud Storage: no token: set KITH_GS_TOKEN, or GS_ACCESS_KEY_ID and "
                   "GS_SECRET_ACCESS_KEY, or run where the metadata server gives one");
}

static err sign(void *ctx, const object_ask *ask, arena *a, const char **headers, size_t *count) {
    gs_store *s = ctx;
    (void)ask;
    const char *token = getenv("KITH_GS_TOKEN");
    if (!token || !token[0]) {
        if (clock_mono_ns() >= s->token_end_ns) TRY(fetch_token(s));
        token = s->token;
    }
    const char *line = arena_printf(a, "Authorization: Bearer %s", token).ptr;
    if (!line) return ERR_NO_MEMORY;
    headers[(*count)++] = line;
    return OK;
}

/* ---- names and sums ---- */

static void crc_text(str bytes, char out[16]) {
    uint32_t c = crc32c(0, bytes.ptr, bytes.len);
    uint8_t big[4] = {(uint8_t)(c >> 24), (uint8_t)(c >> 16), (uint8_t)(c >> 8), (uint8_t)c};
    sodium_bin2base64(out, 16, big, sizeof big, sodium_base64_VARIANT_ORIGINAL);
}

static void full_name(const gs_store *s, const char *key, strbuf *b) {
    strbuf_addf(b, "%s%s%s", s->url.prefix, s->url.prefix[0] ? "/" : "", key);
}

/* Asks for one object: its name behind the path of all, the name's slashes encoded. */
static err call_object(gs_store *s, object_ask *ask, const char *key, http_reply *out) {
    strbuf name;
    strbuf_init(&name, OBJECT_KEY_MAX * 2);
    full_name(s, key, &name);
    ask->path = s->objects;
    ask->last = name.ptr;
    ask->what = key;
    err rc = name.rc == OK ? object_call(&s->http, ask, out) : name.rc;
    strbuf_deinit(&name);
    return rc;
}

/* ---- put ---- */

static err put_whole(gs_store *s, const object_ask *start, const char *meta, str bytes) {
    strbuf b;
    strbuf_init(&b, OBJECT_PART + 64 * KIB);
    strbuf_addf(&b,
                "--" BOUNDARY "\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n"
                "--" BOUNDARY "\r\nContent-Type: application/octet-stream\r\n\r\n",
                meta);
    strbuf_add(&b, bytes);
    strbuf_addz(&b, "\r\n--" BOUNDARY "--\r\n");
    object_ask ask = *start;
    ask.query[ask.query_count++] = (query_pair){"uploadType", "multipart"};
    ask.content_type = "multipart/related; boundary=" BOUNDARY;
    ask.body = strbuf_str(&b);
    http_reply r;
    err rc = b.rc == OK ? object_call(&s->http, &ask, &r) : b.rc;
    strbuf_deinit(&b);
    return rc;
}

/* The session's address is a URL; its path and query, on this host. */
static err session_of(const http_reply *r, char path[PATH_BYTES], char id[PATH_BYTES]) {
    str at = http_reply_header(r, STR("location"));
    ptrdiff_t host = at.ptr ? str_find(at, STR("://")) : -1;
    str rest = host < 0 ? (str){0} : str_skip(at, (size_t)host + 3);
    ptrdiff_t slash = rest.ptr ? str_find_byte(rest, '/') : -1;
    ptrdiff_t q = slash < 0 ? -1 : str_find(rest, STR("upload_id="));
    if (q < 0) return err_set(ERR_IO, "upload session: no address in the answer");
    str p = str_skip(rest, (size_t)slash), u = str_skip(rest, (size_t)q + 10);
    p.len = (size_t)str_find_byte(p, '?') < p.len ? (size_t)str_find_byte(p, '?') : p.len;
    ptrdiff_t amp = str_find_byte(u, '&');
    if (amp >= 0) u.len = (size_t)amp;
    if (p.len >= PATH_BYTES || u.len >= PATH_BYTES)
        return err_set(ERR_IO, "upload session: its address is too long");
    memcpy(path, p.ptr, p.len);
    path[p.len] = 0;
    memcpy(id, u.ptr, u.len);
    id[u.len] = 0;
    return OK;
}

static err send_pieces(gs_store *s, const object_ask *start, str bytes, const char *path,
                       const char *id) {
    err rc = OK;
    for (size_t at = 0; rc == OK && at < bytes.len; at += OBJECT_PART) {
        size_t n = MIN(OBJECT_PART, bytes.len - at);
        char range[80];
        snprintf(range, sizeof range, "bytes %zu-%zu/%zu", at, at + n - 1, bytes.len);
        object_ask ask = {.method = "PUT",
                          .path = path,
                          .query = {{"name", start->query[start->query_count - 1].value},
                                    {"uploadType", "resumable"},
                                    {"upload_id", id}},
                          .query_count = 3,
                          .content_type = "application/octet-stream",
                          .body = str_from(bytes.ptr + at, n),
                          .headers = {{"content-range", range}},
                          .header_count = 1,
                          .what = start->what};
        http_reply r;
        rc = object_call(&s->http, &ask, &r);
        if (rc == OK && at + n < bytes.len && r.status != 308)
            rc = err_set(ERR_IO, "%s: the upload ended early", start->what);
    }
    return rc;
}

static err put_pieces(gs_store *s, const object_ask *start, const char *meta, str bytes) {
    char path[PATH_BYTES], id[PATH_BYTES];
    object_ask ask = *start;
    ask.query[ask.query_count++] = (query_pair){"uploadType", "resumable"};
    ask.content_type = "application/json; charset=UTF-8";
    ask.body = str_of(meta);
    http_reply r;
    TRY(object_call(&s->http, &ask, &r));
    TRY(session_of(&r, path, id));
    return send_pieces(s, start, bytes, path, id);
}

static err gs_put(object_store *base, const char *key, str bytes, object_mode mode) {
    gs_store *s = (gs_store *)base;
    char sum[16], path[OBJECTS_MAX + 8];
    strbuf name, meta;
    strbuf_init(&name, OBJECT_KEY_MAX * 2);
    strbuf_init(&meta, 4 * KIB);
    crc_text(bytes, sum);
    full_name(s, key, &name);
    snprintf(path, sizeof path, "/upload%s", s->objects);
    strbuf_addz(&meta, "{\"name\":");
    strbuf_add_json(&meta, strbuf_str(&name));
    strbuf_addf(&meta, ",\"crc32c\":\"%s\"}", sum);
    object_ask ask = {.method = "POST", .path = path, .what = key};
    if (mode == OBJECT_NEW) ask.query[ask.query_count++] = (query_pair){"ifGenerationMatch", "0"};
    ask.query[ask.query_count++] = (query_pair){"name", name.ptr};
    err rc = name.rc != OK ? name.rc : meta.rc;
    if (rc == OK)
        rc = bytes.len > OBJECT_PART ? put_pieces(s, &ask, meta.ptr, bytes)
                                     : put_whole(s, &ask, meta.ptr, bytes);
    strbuf_deinit(&name);
    strbuf_deinit(&meta);
    return rc;
}

/* ---- get, delete, list ---- */

static bool sum_fits(const http_reply *r) {
    char sum[16];
    str h = http_reply_header(r, STR("x-goog-hash"));
    ptrdiff_t at = h.ptr ? str_find(h, STR("crc32c=")) : -1;
    if (at < 0) return true;
    crc_text(r->body, sum);
    return str_starts(str_skip(h, (size_t)at + 7), str_of(sum));
}

static err gs_get(object_store *base, const char *key, size_t max, uint8_t **out, size_t *n) {
    gs_store *s = (gs_store *)base;
    for (unsigned try = 0; try < GET_TRIES; try++) {
        object_ask ask = {.method = "GET", .query = {{"alt", "media"}}, .query_count = 1};
        http_reply r;
        TRY(call_object(s, &ask, key, &r));
        if (sum_fits(&r)) return object_take_body(&r, key, max, out, n);
    }
    return err_set(ERR_CORRUPT, "%s/%s: its bytes are not those that were put (CRC-32C)",
                   base->name, key);
}

static err gs_del(object_store *base, const char *key) {
    object_ask ask = {.method = "DELETE"};
    http_reply r;
    return call_object((gs_store *)base, &ask, key, &r);
}

typedef struct listing {
    const gs_store *s;
    err (*visit)(void *ctx, const object_info *o);
    void *ctx;
    char token[URL_BYTES];
} listing;

static err list_page(listing *l, str body) {
    yyjson_doc *doc;
    yyjson_val *v;
    size_t i, n, skip = l->s->url.prefix[0] ? strlen(l->s->url.prefix) + 1 : 0;
    err rc = OK;
    TRY(json_parse(body, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_arr_foreach(yyjson_obj_get(root, "items"), i, n, v) {
        const char *name = yyjson_get_str(yyjson_obj_get(v, "name"));
        const char *size = yyjson_get_str(yyjson_obj_get(v, "size"));
        object_info o = {.key = name && strlen(name) > skip ? name + skip : ""};
        if (!o.key[0] || !size || !str_to_u64(str_of(size), &o.size)) continue;
        if (rc == OK) rc = l->visit(l->ctx, &o);
    }
    const char *next = yyjson_get_str(yyjson_obj_get(root, "nextPageToken"));
    size_t len = next ? strlen(next) : 0;
    if (len >= sizeof l->token) rc = err_set(ERR_IO, "object listing: token too long");
    if (len && len < sizeof l->token) memcpy(l->token, next, len + 1);
    if (!len) l->token[0] = 0;
    yyjson_doc_free(doc);
    return rc;
}

static err gs_list(object_store *base, const char *prefix,
                   err (*visit)(void *ctx, const object_info *o), void *ctx) {
    gs_store *s = (gs_store *)base;
    strbuf full;
    strbuf_init(&full, OBJECT_KEY_MAX * 2);
    full_name(s, prefix, &full);
    listing l = {.s = s, .visit = visit, .ctx = ctx};
    err rc = full.rc;
    do {
        object_ask ask = {.method = "GET", .path = s->objects, .what = prefix};
        if (l.token[0]) ask.query[ask.query_count++] = (query_pair){"pageToken", l.token};
        ask.query[ask.query_count++] = (query_pair){"prefix", strbuf_str(&full).ptr};
        http_reply r;
        if (rc == OK) rc = object_call(&s->http, &ask, &r);
        if (rc == OK) rc = list_page(&l, r.body);
    } while (rc == OK && l.token[0]);
    strbuf_deinit(&full);
    return rc;
}

static void gs_close(object_store *base) {
    gs_store *s = (gs_store *)base;
    http_client_close(s->http.client);
    sodium_memzero(s->token, sizeof s->token);
    mem_free(s);
}

err object_gs_open(const object_url *u, object_store **out) {
    static const object_ops ops = {gs_put, gs_get, gs_del, gs_list, gs_close};
    gs_store *s = mem_zalloc(1, sizeof *s);
    if (!s) return ERR_NO_MEMORY;
    s->base.ops = &ops;
    s->url = *u;
    snprintf(s->objects, sizeof s->objects, "/storage/v1/b/%s/o", u->bucket);
    s->http = (object_http){.sign = sign, .sign_ctx = s, .store = &s->base};
    const char *endpoint = u->endpoint[0] ? u->endpoint : "https://storage.googleapis.com";
    err rc = http_client_open(endpoint, NULL, &s->http.client);
    if (rc != OK) {
        gs_close(&s->base);
        return rc;
    }
    *out = &s->base;
    return OK;
}
