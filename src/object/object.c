/* Targets by name, keys by rule, and what all targets share: an OBJECT_NEW whose answer was lost.
 *
 * When a conditional put is sent again because the answer did not come, the second try may find the
 * first's object: "exists" then means "done" if the bytes are the same, so they are compared.
 */
#include "object/object_int.h"

#include <stdlib.h>

static err bad_url(const char *text) {
    return err_set(
        ERR_INVALID,
        "archive target: expected dir:PATH, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, got "
        "'%s'",
        text);
}

static bool copy_part(str from, char *to, size_t size) {
    if (from.len >= size) return false;
    memcpy(to, from.ptr, from.len);
    to[from.len] = 0;
    return true;
}

static int hex_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A parameter's value, percent-decoded. */
static bool copy_value(str from, char *to, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < from.len; i++) {
        char c = from.ptr[i];
        if (c == '%') {
            int a = i + 2 < from.len ? hex_of(from.ptr[i + 1]) : -1;
            int b = a >= 0 ? hex_of(from.ptr[i + 2]) : -1;
            if (b < 0) return false;
            c = (char)(a * 16 + b);
            i += 2;
        }
        if (n + 1 >= size) return false;
        to[n++] = c;
    }
    to[n] = 0;
    return true;
}

err object_url_parse(const char *text, object_url *out) {
    memset(out, 0, sizeof *out);
    str rest = str_skip(str_of(text), 5), query = {0}, pair; /* behind "s3://" or "gs://" */
    ptrdiff_t q = str_find_byte(rest, '?');
    if (q >= 0) {
        query = str_skip(rest, (size_t)q + 1);
        rest.len = (size_t)q;
    }
    ptrdiff_t slash = str_find_byte(rest, '/');
    str bucket = {rest.ptr, slash >= 0 ? (size_t)slash : rest.len};
    str prefix = slash >= 0 ? str_skip(rest, (size_t)slash + 1) : (str){"", 0};
    while (prefix.len && prefix.ptr[prefix.len - 1] == '/') prefix.len--;
    if (!bucket.len || !copy_part(bucket, out->bucket, sizeof out->bucket) ||
        !copy_part(prefix, out->prefix, sizeof out->prefix))
        return bad_url(text);
    while (str_split(&query, '&', &pair)) {
        bool ok = false;
        if (str_starts(pair, STR("endpoint=")))
            ok = copy_value(str_skip(pair, 9), out->endpoint, sizeof out->endpoint);
        if (str_starts(pair, STR("region=")))
            ok = copy_value(str_skip(pair, 7), out->region, sizeof out->region);
        if (!ok)
            return err_set(ERR_INVALID, "archive target: expected endpoint= or region= behind ?");
    }
    return OK;
}

static err open_remote(const char *url, object_store **out) {
    object_url u;
    TRY(object_url_parse(url, &u));
    if (url[0] == 's') return object_s3_open(&u, out);
    const char *id = getenv("GS_ACCESS_KEY_ID"), *secret = getenv("GS_SECRET_ACCESS_KEY");
    if (id && id[0] && secret) return object_gs_xml_open(&u, id, secret, out);
    return object_gs_open(&u, out);
}

err object_open(const char *url, const object_options *o, object_store **out) {
    *out = NULL;
    str u = str_of(url);
    if (str_starts(u, STR("dir:")) && u.len > 4)
        TRY(object_dir_open(url + 4, out));
    else if (str_starts(u, STR("s3://")) || str_starts(u, STR("gs://")))
        TRY(open_remote(url, out));
    else
        return bad_url(url);
    object_store *s = *out;
    if (o) s->o = *o;
    if (!s->o.tries) s->o.tries = 6;
    rng_seed(&s->random, clock_mono_ns());
    ptrdiff_t q = str_find_byte(u, '?');
    if (q >= 0) u.len = (size_t)q;
    (void)copy_part(u, s->name, sizeof s->name);
    return OK;
}

void object_close(object_store *s) {
    if (s) s->ops->close(s);
}
const char *object_name(const object_store *s) {
    return s->name;
}

static err check_key(const char *key) {
    size_t n = strlen(key);
    bool good = n && n <= OBJECT_KEY_MAX, start = true;
    for (const char *p = key; good && *p; p++) {
        bool plain = (*p >= '0' && *p <= '9') || ((*p | 32) >= 'a' && (*p | 32) <= 'z');
        good = plain || *p == '_' || *p == '-' || (!start && (*p == '.' || *p == '/'));
        start = *p == '/';
    }
    return good && !start ? OK : err_set(ERR_INVALID, "object name '%s': not allowed", key);
}

static err put_found_one(object_store *s, const char *key, str bytes) {
    uint8_t *p = NULL;
    size_t n = 0;
    err rc = s->ops->get(s, key, OBJECT_MAX, &p, &n);
    bool same = rc == OK && str_eq(str_from(p, n), bytes);
    mem_free(p);
    if (same) return OK;
    return err_set(ERR_EXISTS, "%s/%s: it is there already", s->name, key);
}

err object_put(object_store *s, const char *key, str bytes, object_mode mode) {
    TRY(check_key(key));
    if (bytes.len > OBJECT_MAX)
        return err_set(ERR_TOO_LARGE, "object %s: expected at most %zu bytes", key, OBJECT_MAX);
    s->retried = false;
    err rc = s->ops->put(s, key, bytes, mode);
    return rc == ERR_EXISTS && s->retried ? put_found_one(s, key, bytes) : rc;
}

err object_get(object_store *s, const char *key, size_t max, uint8_t **out, size_t *n) {
    *out = NULL;
    *n = 0;
    TRY(check_key(key));
    return s->ops->get(s, key, max, out, n);
}

err object_delete(object_store *s, const char *key) {
    TRY(check_key(key));
    err rc = s->ops->del(s, key);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

err object_list(object_store *s, const char *prefix, err (*visit)(void *ctx, const object_info *o),
                void *ctx) {
    return s->ops->list(s, prefix, visit, ctx);
}
