/* Signature Version 4: a request is boiled down to a canonical text, its SHA-256 goes with date and
 * scope into a second text, and that is signed by a key derived from the secret for that day, region and
 * service. Google's HMAC keys use the same with other names (GOOG4, x-goog-).
 *
 * Written here because curl 7.88's own signs unsorted queries and `?uploads` wrongly. Source: AWS
 * General Reference, "Create a signed AWS API request"; the test holds its worked example.
 * Paths are encoded once (S3's rule; other services encode twice).
 */
#include "object/object_int.h"

#include <sodium.h>

enum {
    HASH = crypto_hash_sha256_BYTES,
    TEXT_MAX = 64 * 1024,
    SECRET_MAX = 255,
    SCOPE_MAX = 159,
    DATE_LEN = 8
};

void sigv4_hash(str bytes, char hex[65]) {
    uint8_t h[HASH];
    crypto_hash_sha256(h, (const uint8_t *)bytes.ptr, bytes.len);
    sodium_bin2hex(hex, 65, h, sizeof h);
}

void sigv4_time(int64_t ms, char out[17]) {
    char text[32];
    size_t n = time_format(ms - ms % 1000, text), k = 0;
    for (size_t i = 0; i < n && k < 16; i++)
        if (text[i] != '-' && text[i] != ':') out[k++] = text[i];
    out[k] = 0;
}

static void hmac(uint8_t out[HASH], const void *key, size_t key_len, str text) {
    crypto_auth_hmacsha256_state st;
    crypto_auth_hmacsha256_init(&st, key, key_len);
    crypto_auth_hmacsha256_update(&st, (const uint8_t *)text.ptr, text.len);
    crypto_auth_hmacsha256_final(&st, out);
    sodium_memzero(&st, sizeof st);
}

static void signed_names(strbuf *b, const object_ask *ask) {
    for (size_t i = 0; i < ask->header_count; i++)
        strbuf_addf(b, "%s%s", i ? ";" : "", ask->headers[i].name);
}

static void canonical(strbuf *b, const object_ask *ask, const char *body_hash) {
    strbuf_addf(b, "%s\n", ask->method);
    object_encode_path(b, ask->path);
    strbuf_addc(b, '\n');
    object_encode_query(b, ask->query, ask->query_count);
    strbuf_addc(b, '\n');
    for (size_t i = 0; i < ask->header_count; i++)
        strbuf_addf(b, "%s:%s\n", ask->headers[i].name, ask->headers[i].value);
    strbuf_addc(b, '\n');
    signed_names(b, ask);
    strbuf_addf(b, "\n%s", body_hash);
}

static void derive(const sigv4 *k, const char *at, uint8_t key[HASH]) {
    strbuf b;
    strbuf_init(&b, SECRET_MAX);
    strbuf_addf(&b, "%s%s", k->google ? "GOOG4" : "AWS4", k->secret);
    hmac(key, b.ptr ? b.ptr : "", b.len, str_from(at, DATE_LEN));
    if (b.ptr) sodium_memzero(b.ptr, b.len);
    strbuf_deinit(&b);
    hmac(key, key, HASH, str_of(k->region));
    hmac(key, key, HASH, k->google ? STR("storage") : STR("s3"));
    hmac(key, key, HASH, k->google ? STR("goog4_request") : STR("aws4_request"));
}

err sigv4_header(const sigv4 *k, const object_ask *ask, const char *body_hash, const char *at,
                 strbuf *out) {
    const char *name = k->google ? "GOOG4-HMAC-SHA256" : "AWS4-HMAC-SHA256";
    char hex[65];
    strbuf text, sc;
    strbuf_init(&sc, SCOPE_MAX);
    strbuf_addf(&sc, "%.8s/%s/%s", at, k->region,
                k->google ? "storage/goog4_request" : "s3/aws4_request");
    strbuf_init(&text, TEXT_MAX);
    canonical(&text, ask, body_hash);
    sigv4_hash(strbuf_str(&text), hex);
    err rc = text.rc;
    strbuf_reset(&text);
    strbuf_addf(&text, "%s\n%s\n" STR_FMT "\n%s", name, at, STR_ARG(strbuf_str(&sc)), hex);
    uint8_t key[HASH], mac[HASH];
    derive(k, at, key);
    hmac(mac, key, HASH, strbuf_str(&text));
    sodium_memzero(key, sizeof key);
    sodium_bin2hex(hex, sizeof hex, mac, sizeof mac);
    strbuf_addf(out, "Authorization: %s Credential=%s/" STR_FMT ", SignedHeaders=", name, k->id,
                STR_ARG(strbuf_str(&sc)));
    signed_names(out, ask);
    strbuf_addf(out, ", Signature=%s", hex);
    if (rc == OK) rc = text.rc != OK ? text.rc : sc.rc != OK ? sc.rc : out->rc;
    strbuf_deinit(&text);
    strbuf_deinit(&sc);
    return rc;
}
