/* S3-compatible storage (and, with other names, Google's XML API).
 *
 * A put carries its SHA-256 twice: signed as x-amz-content-sha256, which the server compares with what it
 * got, and kept as metadata, which a get compares with what came. So a byte changed on any of the ways is
 * seen by who is nearest. Over OBJECT_PART a put is a multipart upload: begin, parts, complete; whatever
 * fails in between is aborted, so that no parts lie around to be paid for.
 * OBJECT_NEW is `If-None-Match: *` on the put or on the completion: the server decides, 412 is "there".
 *
 * Paths are /bucket/key on one host, which every server understands. Answers in XML are searched for the
 * few names needed; the keys that we write need no entities.
 */
#include "object/object_int.h"

#include <stdio.h>
#include <stdlib.h>

enum { PARTS_MAX = 16, ETAG_MAX = 128, GET_TRIES = 3, PATH_BYTES = 1024, UPLOAD_ID_MAX = 1024 };

typedef struct s3_store {
    object_store base;
    object_http http;
    object_url url;
    char *id, *secret, *token;
    char host[256];
    bool google;
} s3_store;

/* ---- signing ---- */

static int by_name(const query_pair *a, const query_pair *b) {
    return strcmp(a->name, b->name);
}

static void add_signed(object_ask *k, const char *name, const char *value) {
    query_pair p = {name, value};
    size_t i = k->header_count++;
    for (; i > 0 && by_name(&k->headers[i - 1], &p) > 0; i--) k->headers[i] = k->headers[i - 1];
    k->headers[i] = p;
}

static err sign(void *ctx, const object_ask *ask, arena *a, const char **headers, size_t *count) {
    s3_store *s = ctx;
    const char *time_name = s->google ? "x-goog-date" : "x-amz-date";
    const char *hash_name = s->google ? "x-goog-content-sha256" : "x-amz-content-sha256";
    object_ask k = *ask;
    char made[65], at[17];
    const char *hash = ask->body_hash ? ask->body_hash : made;
    if (hash == made) sigv4_hash(ask->body, made);
    sigv4_time(clock_wall_ms(), at);
    add_signed(&k, "host", s->host);
    add_signed(&k, hash_name, hash);
    add_signed(&k, time_name, at);
    if (s->token) add_signed(&k, "x-amz-security-token", s->token);
    sigv4 who = {s->id, s->secret, s->url.region, s->google};
    strbuf b;
    strbuf_init(&b, 4096);
    err rc = sigv4_header(&who, &k, hash, at, &b);
    if (rc == OK) {
        headers[(*count)++] = arena_dup(a, strbuf_str(&b));
        headers[(*count)++] = arena_printf(a, "%s: %s", hash_name, hash).ptr;
        headers[(*count)++] = arena_printf(a, "%s: %s", time_name, at).ptr;
        if (s->token)
            headers[(*count)++] = arena_printf(a, "x-amz-security-token: %s", s->token).ptr;
        for (size_t i = 0; i < *count; i++)
            if (!headers[i]) rc = ERR_NO_MEMORY;
    }
    strbuf_deinit(&b);
    return rc;
}

/* ---- asking ---- */

static err path_of(const s3_store *s, const char *key, char out[PATH_BYTES]) {
    strbuf b;
    strbuf_init(&b, PATH_BYTES - 1);
    strbuf_addf(&b, "/%s%s%s%s%s", s->url.bucket, s->url.prefix[0] ? "/" : "", s->url.prefix,
                key[0] ? "/" : "", key);
    err rc = b.rc;
    if (rc == OK) memcpy(out, b.ptr, b.len + 1);
    strbuf_deinit(&b);
    return rc;
}

static const char *sum_header(const s3_store *s) {
    return s->google ? "x-goog-meta-kith-sha256" : "x-amz-meta-kith-sha256";
}

static void if_new(const s3_store *s, object_ask *ask) {
    query_pair h = s->google ? (query_pair){"x-goog-if-generation-match", "0"}
                             : (query_pair){"if-none-match", "*"};
    add_signed(ask, h.name, h.value);
}

/* The text between <name> and </name>, after `from`; ptr NULL when there is none. */
static str xml_text(str body, const char *name, size_t *from) {
    char open[64];
    snprintf(open, sizeof open, "<%s>", name);
    str out = {0}, rest = str_skip(body, *from);
    ptrdiff_t at = str_find(rest, str_of(open));
    if (at >= 0) {
        rest = str_skip(rest, (size_t)at + strlen(open));
        ptrdiff_t end = str_find_byte(rest, '<');
        if (end >= 0) out = str_from(rest.ptr, (size_t)end);
        *from = (size_t)(rest.ptr - body.ptr);
    }
    return out;
}

/* ---- in parts ---- */

typedef struct upload {
    s3_store *s;
    const char *path, *key;
    char id[UPLOAD_ID_MAX];
    char etags[PARTS_MAX][ETAG_MAX];
    unsigned parts;
} upload;

static err upload_begin(upload *u, const char *sum) {
    object_ask ask = {.method = "POST",
                      .path = u->path,
                      .query = {{"uploads", ""}},
                      .query_count = 1,
                      .content_type = "application/octet-stream",
                      .what = u->key};
    http_reply r;
    size_t from = 0;
    add_signed(&ask, sum_header(u->s), sum);
    TRY(object_call(&u->s->http, &ask, &r));
    str id = xml_text(r.body, "UploadId", &from);
    if (!id.len || id.len >= sizeof u->id)
        return err_set(ERR_IO, "%s: no upload id in the answer", u->key);
    memcpy(u->id, id.ptr, id.len);
    return OK;
}

static err upload_part(upload *u, str bytes) {
    char number[16];
    snprintf(number, sizeof number, "%u", u->parts + 1);
    object_ask ask = {.method = "PUT",
                      .path = u->path,
                      .query = {{"partNumber", number}, {"uploadId", u->id}},
                      .query_count = 2,
                      .content_type = "application/octet-stream",
                      .body = bytes,
                      .what = u->key};
    http_reply r;
    TRY(object_call(&u->s->http, &ask, &r));
    str tag = http_reply_header(&r, STR("etag"));
    if (!tag.len || tag.len >= ETAG_MAX) return err_set(ERR_IO, "%s: a part without ETag", u->key);
    memcpy(u->etags[u->parts++], tag.ptr, tag.len);
    return OK;
}

static err upload_complete(upload *u, object_mode mode) {
    strbuf xml;
    strbuf_init(&xml, 64 * KIB);
    strbuf_addz(&xml, "<CompleteMultipartUpload>");
    for (unsigned i = 0; i < u->parts; i++)
        strbuf_addf(&xml, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", i + 1,
                    u->etags[i]);
    strbuf_addz(&xml, "</CompleteMultipartUpload>");
    object_ask ask = {.method = "POST",
                      .path = u->path,
                      .query = {{"uploadId", u->id}},
                      .query_count = 1,
                      .content_type = "application/xml",
                      .body = strbuf_str(&xml),
                      .what = u->key};
    if (mode == OBJECT_NEW) if_new(u->s, &ask);
    http_reply r;
    err rc = xml.rc == OK ? object_call(&u->s->http, &ask, &r) : xml.rc;
    /* S3 may say 200 and put the failure into the body. */
    if (rc == OK && str_find(r.body, STR("<Error>")) >= 0)
        rc = err_set(ERR_AGAIN, "%s: the upload could not be completed", u->key);
    strbuf_deinit(&xml);
    return rc;
}

static void upload_abort(upload *u) {
    object_ask ask = {.method = "DELETE",
                      .path = u->path,
                      .query = {{"uploadId", u->id}},
                      .query_count = 1,
                      .what = u->key};
    err_text kept = err_keep();
    http_reply r;
    err rc = object_call(&u->s->http, &ask, &r); /* best effort: a lifecycle rule finds the rest */
    (void)err_restore(rc, &kept);
}

static err put_parts(s3_store *s, upload *u, str bytes, object_mode mode) {
    char sum[65];
    u->s = s;
    sigv4_hash(bytes, sum);
    TRY(upload_begin(u, sum));
    err rc = OK;
    for (size_t at = 0; rc == OK && at < bytes.len; at += OBJECT_PART)
        rc = upload_part(u, str_from(bytes.ptr + at, MIN(OBJECT_PART, bytes.len - at)));
    if (rc == OK) rc = upload_complete(u, mode);
    if (rc != OK) upload_abort(u);
    return rc;
}

/* ---- operations ---- */

static err s3_put(object_store *base, const char *key, str bytes, object_mode mode) {
    s3_store *s = (s3_store *)base;
    char path[PATH_BYTES], sum[65];
    TRY(path_of(s, key, path));
    if (bytes.len > OBJECT_PART && !s->google) {
        upload *u = mem_zalloc(1, sizeof *u);
        if (!u) return ERR_NO_MEMORY;
        u->path = path;
        u->key = key;
        err rc = put_parts(s, u, bytes, mode);
        mem_free(u);
        return rc;
    }
    sigv4_hash(bytes, sum);
    object_ask ask = {.method = "PUT",
                      .path = path,
                      .content_type = "application/octet-stream",
                      .body = bytes,
                      .body_hash = sum,
                      .what = key};
    add_signed(&ask, sum_header(s), sum);
    if (mode == OBJECT_NEW) if_new(s, &ask);
    http_reply r;
    return object_call(&s->http, &ask, &r);
}

static err s3_get(object_store *base, const char *key, size_t max, uint8_t **out, size_t *n) {
    s3_store *s = (s3_store *)base;
    char path[PATH_BYTES], sum[65];
    TRY(path_of(s, key, path));
    object_ask ask = {.method = "GET", .path = path, .what = key};
    for (unsigned try = 0; try < GET_TRIES; try++) {
        http_reply r;
        TRY(object_call(&s->http, &ask, &r));
        str want = http_reply_header(&r, str_of(sum_header(s)));
        sigv4_hash(r.body, sum);
        if (!want.ptr || str_eq(want, str_of(sum))) return object_take_body(&r, key, max, out, n);
    }
    return err_set(ERR_CORRUPT, "%s/%s: its bytes are not those that were put (SHA-256)",
                   base->name, key);
}

static err s3_del(object_store *base, const char *key) {
    s3_store *s = (s3_store *)base;
    char path[PATH_BYTES];
    TRY(path_of(s, key, path));
    object_ask ask = {.method = "DELETE", .path = path, .what = key};
    http_reply r;
    return object_call(&s->http, &ask, &r);
}

typedef struct listing {
    const s3_store *s;
    err (*visit)(void *ctx, const object_info *o);
    void *ctx;
    char token[URL_BYTES];
} listing;

static err list_entry(listing *l, str key, str size) {
    char name[OBJECT_KEY_MAX + 1];
    size_t skip = l->s->url.prefix[0] ? strlen(l->s->url.prefix) + 1 : 0;
    object_info o = {.key = name};
    key = str_skip(key, skip);
    if (!key.len || key.len > OBJECT_KEY_MAX || !str_to_u64(size, &o.size)) return OK;
    memcpy(name, key.ptr, key.len);
    name[key.len] = 0;
    return l->visit(l->ctx, &o);
}

static err list_page(listing *l, str body) {
    size_t from = 0, at = 0;
    for (;;) {
        str key = xml_text(body, "Key", &from);
        if (!key.ptr) break;
        size_t near = from;
        TRY(list_entry(l, key, xml_text(body, "Size", &near)));
    }
    str more = xml_text(body, "NextContinuationToken", &at);
    l->token[0] = 0;
    if (more.len >= sizeof l->token) return err_set(ERR_IO, "object listing: token too long");
    if (more.len) memcpy(l->token, more.ptr, more.len);
    l->token[more.len] = 0;
    return OK;
}

static err s3_list(object_store *base, const char *prefix,
                   err (*visit)(void *ctx, const object_info *o), void *ctx) {
    s3_store *s = (s3_store *)base;
    char path[PATH_BYTES];
    strbuf full;
    strbuf_init(&full, OBJECT_KEY_MAX * 2 + 1);
    snprintf(path, sizeof path, "/%s", s->url.bucket);
    strbuf_addf(&full, "%s%s%s", s->url.prefix, s->url.prefix[0] ? "/" : "", prefix);
    err rc = full.rc;
    listing l = {.s = s, .visit = visit, .ctx = ctx};
    do {
        object_ask ask = {.method = "GET", .path = path, .what = prefix};
        if (l.token[0]) ask.query[ask.query_count++] = (query_pair){"continuation-token", l.token};
        ask.query[ask.query_count++] = (query_pair){"list-type", "2"};
        ask.query[ask.query_count++] = (query_pair){"prefix", strbuf_str(&full).ptr};
        http_reply r;
        if (rc == OK) rc = object_call(&s->http, &ask, &r);
        if (rc == OK) rc = list_page(&l, r.body);
    } while (rc == OK && l.token[0]);
    strbuf_deinit(&full);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

/* ---- opening ---- */

static void s3_close(object_store *base) {
    s3_store *s = (s3_store *)base;
    http_client_close(s->http.client);
    mem_free(s->id);
    mem_free(s->secret);
    mem_free(s->token);
    mem_free(s);
}

static err set_host(s3_store *s) {
    str e = str_of(s->url.endpoint);
    ptrdiff_t at = str_find(e, STR("://"));
    str host = at < 0 ? (str){0} : str_skip(e, (size_t)at + 3);
    ptrdiff_t slash = host.ptr ? str_find_byte(host, '/') : -1;
    if (slash >= 0) host.len = (size_t)slash;
    str port = str_starts(e, STR("https:")) ? STR(":443") : STR(":80");
    if (str_ends(host, port)) host.len -= port.len; /* curl leaves it out too */
    if (!host.len || host.len >= sizeof s->host)
        return err_set(ERR_INVALID, "archive target: expected endpoint=http://HOST:PORT");
    memcpy(s->host, host.ptr, host.len);
    s->host[host.len] = 0;
    return OK;
}

static char *dup_env(const char *z) {
    return z && z[0] ? mem_dup(z, strlen(z) + 1) : NULL;
}

static void copy_default(char *to, size_t size, const char *from) {
    size_t n = strlen(from);
    if (to[0] || n >= size) return;
    memcpy(to, from, n + 1);
}

static err finish_open(s3_store *s, object_store **out) {
    err rc =
        s->id && s->secret
            ? set_host(s)
            : err_set(ERR_UNAUTHENTICATED,
                      "archive target: expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in "
                      "the environment");
    if (rc == OK) rc = http_client_open(s->url.endpoint, NULL, &s->http.client);
    if (rc != OK) {
        s3_close(&s->base);
        return rc;
    }
    *out = &s->base;
    return OK;
}

static s3_store *s3_new(const object_url *u, bool google) {
    static const object_ops ops = {s3_put, s3_get, s3_del, s3_list, s3_close};
    s3_store *s = mem_zalloc(1, sizeof *s);
    if (!s) return NULL;
    s->base.ops = &ops;
    s->url = *u;
    s->google = google;
    s->http = (object_http){.sign = sign, .sign_ctx = s, .store = &s->base};
    return s;
}

err object_s3_open(const object_url *u, object_store **out) {
    s3_store *s = s3_new(u, false);
    if (!s) return ERR_NO_MEMORY;
    const char *region = getenv("AWS_REGION"), *endpoint = getenv("AWS_ENDPOINT_URL");
    if (region && region[0]) copy_default(s->url.region, sizeof s->url.region, region);
    copy_default(s->url.region, sizeof s->url.region, "us-east-1");
    if (endpoint && endpoint[0]) copy_default(s->url.endpoint, sizeof s->url.endpoint, endpoint);
    if (!s->url.endpoint[0])
        snprintf(s->url.endpoint, sizeof s->url.endpoint, "https://s3.%s.amazonaws.com",
                 s->url.region);
    s->id = dup_env(getenv("AWS_ACCESS_KEY_ID"));
    s->secret = dup_env(getenv("AWS_SECRET_ACCESS_KEY"));
    s->token = dup_env(getenv("AWS_SESSION_TOKEN"));
    return finish_open(s, out);
}

err object_gs_xml_open(const object_url *u, const char *id, const char *secret,
                       object_store **out) {
    s3_store *s = s3_new(u, true);
    if (!s) return ERR_NO_MEMORY;
    copy_default(s->url.region, sizeof s->url.region, "auto");
    copy_default(s->url.endpoint, sizeof s->url.endpoint, "https://storage.googleapis.com");
    s->id = dup_env(id);
    s->secret = dup_env(secret);
    return finish_open(s, out);
}
