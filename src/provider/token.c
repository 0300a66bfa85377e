/* Access tokens of Google: fetched once for all threads, kept until a while before they end.
 *
 * Where they come from, by the "type" of the credentials file:
 *   service_account    a JWT signed with its key (RS256), exchanged at token_uri       (RFC 7523)
 *   authorized_user    a refresh token, exchanged at token_uri                         (RFC 6749, 6)
 *   external_account   a token of another identity provider, from a file or a URL, exchanged at token_url
 *                      (RFC 8693), then, when the file says so, for one of a service account
 *   no file            the metadata server of the machine that we run on
 *
 * One thread fetches at a time. In the last quarter of a token's life (5 minutes at most) one thread renews it
 * and the others go on with the old one; behind its end they wait for that thread, within their
 * deadlines. After a failed fetch nobody tries for RETRY_MS while the old token is good; the breaker
 * counts these calls by themselves.
 *
 * A token or a key is never in an error text, and the file's contents are wiped after parsing.
 */
#include "provider/provider_int.h"

#include "net/client.h"
#include "net/sign.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FILE_MAX_BYTES = 64 << 10,
    FORM_MAX = 64 << 10,
    TOKEN_MAX = 16 << 10,
    MARGIN_S = 300,
    LIFE_S = 3600,
    RETRY_MS = 5000,
    FETCH_MS = 10000,
    URL_MAX = 1024
};
#define NS_PER_S 1000000000u
#define SCOPE    "https://www.googleapis.com/auth/cloud-platform"
#define METADATA "/computeMetadata/v1/instance/service-accounts/default/token"

typedef enum source { FROM_METADATA, FROM_SERVICE_ACCOUNT, FROM_USER, FROM_EXTERNAL } source;

struct token_source {
    /* immutable */
    source from;
    char *json; /* the credentials file; NULL for the metadata server */
    size_t json_size;
    yyjson_doc *doc;
    char *ca_file;
    fs *fs;
    breaker breaker;
    /* guarded by mu */
    mutex mu;
    cond fetched;
    char *token; /* NULL: none */
    uint64_t renew_ns, end_ns, retry_ns;
    bool fetching;
    uint64_t count, failures;
};

static const char *member(const token_source *t, const char *key) {
    return yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(t->doc), key));
}

/* ---- opening ---- */

static err check_members(const token_source *t, const char *path, const char *const *keys) {
    for (; *keys; keys++)
        if (!member(t, *keys)) return err_set(ERR_INVALID, "%s: '%s' is missing", path, *keys);
    return OK;
}

static err check_kind(token_source *t, const char *path) {
    static const char *const account[] = {"client_email", "private_key", "token_uri", NULL},
                             *const user[] = {"client_id", "client_secret", "refresh_token", NULL},
                             *const external[] = {"audience", "subject_token_type", "token_url",
                                                  NULL};
    str type = str_of(member(t, "type"));
    if (str_eq(type, STR("service_account"))) {
        t->from = FROM_SERVICE_ACCOUNT;
        return check_members(t, path, account);
    }
    if (str_eq(type, STR("authorized_user"))) {
        t->from = FROM_USER;
        return check_members(t, path, user);
    }
    if (str_eq(type, STR("external_account"))) {
        t->from = FROM_EXTERNAL;
        return check_members(t, path, external);
    }
    return err_set(ERR_INVALID,
                   "%s: expected \"type\" service_account, authorized_user or external_account",
                   path);
}

static err load_file(token_source *t, const char *path) {
    uint8_t *p;
    TRY(file_read_all(t->fs, path, FILE_MAX_BYTES, &p, &t->json_size));
    t->json = (char *)p;
    if (json_parse(str_from(p, t->json_size), &t->doc) != OK)
        return err_set(ERR_INVALID, "%s: not JSON", path);
    return check_kind(t, path);
}

err tokens_open(fs *disk, const char *credentials, const char *ca_file, token_source **out) {
    *out = NULL;
    token_source *t = mem_zalloc(1, sizeof *t);
    if (!t) return ERR_NO_MEMORY;
    t->fs = disk;
    err rc = mutex_init(&t->mu);
    if (rc == OK) rc = cond_init(&t->fetched);
    if (rc == OK) rc = breaker_init(&t->breaker, &(breaker_options){.open_ms = 10000, .probes = 1});
    if (rc == OK && ca_file && !(t->ca_file = mem_dup(ca_file, strlen(ca_file) + 1)))
        rc = ERR_NO_MEMORY;
    if (rc == OK && credentials) rc = load_file(t, credentials);
    if (rc != OK) {
        err_text kept = err_keep();
        tokens_close(t);
        return err_restore(rc, &kept);
    }
    *out = t;
    return OK;
}

static void wipe(char *p, size_t n) {
    if (p) sodium_memzero(p, n);
    mem_free(p);
}

void tokens_close(token_source *t) {
    if (!t) return;
    wipe(t->token, t->token ? strlen(t->token) : 0);
    yyjson_doc_free(t->doc);
    wipe(t->json, t->json_size);
    breaker_deinit(&t->breaker);
    cond_deinit(&t->fetched);
    mutex_deinit(&t->mu);
    mem_free(t->ca_file);
    mem_free(t);
}

/* ---- asking ---- */

typedef struct fetch {
    token_source *t;
    const remote_call *call; /* its deadline, and whether it is given up */
    strbuf token;
    uint64_t life_s;
} fetch;

typedef struct question {
    const char *url, *type; /* type NULL: GET */
    str body;
    const char *const *headers;
    size_t header_count;
} question;

/* Asks, and calls `read` with the answer of status 200. */
static err ask(fetch *f, const question *q, err (*read)(fetch *f, str body)) {
    http_client *http;
    http_reply reply;
    uint64_t now = clock_mono_ns();
    uint64_t end = f->call->deadline_ns, left = end > now ? (end - now) / 1000000u : 0;
    http_ask a = {.method = q->type ? "POST" : "GET",
                  .target = "",
                  .content_type = q->type,
                  .body = q->body,
                  .headers = q->headers,
                  .header_count = q->header_count,
                  .timeout_ms = (uint32_t)MIN(left, FETCH_MS) + 1,
                  .ca_file = f->t->ca_file,
                  .cancel = f->call->cancel};
    TRY(http_client_open(q->url, NULL, &http));
    err rc = http_call(http, &a, &reply);
    if (rc == OK && reply.status != 200)
        rc = err_set(reply.status == 429 || reply.status >= 500 ? ERR_IO : ERR_DENIED,
                     "the token server answered %d", reply.status);
    if (rc == OK) rc = read(f, reply.body);
    http_client_close(http);
    return rc;
}

static err read_member(fetch *f, str body, const char *key, const char *life) {
    yyjson_doc *doc;
    if (json_parse(body, &doc) != OK)
        return err_set(ERR_CORRUPT, "the token server's answer is no JSON");
    yyjson_val *root = yyjson_doc_get_root(doc);
    str token = json_str(yyjson_obj_get(root, key));
    bool good = token.len && token.len <= TOKEN_MAX;
    for (size_t i = 0; i < token.len; i++) good = good && token.ptr[i] > ' ' && token.ptr[i] <= '~';
    strbuf_reset(&f->token);
    if (good) strbuf_add(&f->token, token);
    double s = life ? yyjson_get_num(yyjson_obj_get(root, life)) : 0;
    if (s > 0 && s < 1e6) f->life_s = (uint64_t)s;
    yyjson_doc_free(doc);
    return good ? f->token.rc : err_set(ERR_CORRUPT, "the token server gave no token");
}

static err read_token(fetch *f, str body) {
    return read_member(f, body, "access_token", "expires_in");
}

static void form(strbuf *b, const char *key, str value) {
    strbuf_addf(b, "%s%s=", b->len ? "&" : "", key);
    http_encode(b, value);
}

static err post_form(fetch *f, const char *url, strbuf *b) {
    question q = {.url = url, .type = "application/x-www-form-urlencoded", .body = strbuf_str(b)};
    err rc = b->rc == OK ? ask(f, &q, read_token) : b->rc;
    if (b->ptr) sodium_memzero(b->ptr, b->len);
    strbuf_deinit(b);
    return rc;
}

/* ---- service account ---- */

static err make_jwt(const token_source *t, strbuf *jwt) {
    strbuf part;
    uint8_t sig[SIGN_BYTES_MAX];
    size_t n;
    long long now = (long long)(clock_wall_ms() / 1000);
    strbuf_init(&part, FORM_MAX);
    strbuf_addz(&part, "{\"alg\":\"RS256\",\"typ\":\"JWT\"");
    if (member(t, "private_key_id")) {
        strbuf_addz(&part, ",\"kid\":");
        strbuf_add_json(&part, str_of(member(t, "private_key_id")));
    }
    strbuf_addc(&part, '}');
    base64_add(jwt, part.ptr, part.len, BASE64_URL);
    strbuf_addc(jwt, '.');
    strbuf_reset(&part);
    strbuf_addz(&part, "{\"iss\":");
    strbuf_add_json(&part, str_of(member(t, "client_email")));
    strbuf_addz(&part, ",\"aud\":");
    strbuf_add_json(&part, str_of(member(t, "token_uri")));
    strbuf_addf(&part, ",\"scope\":\"" SCOPE "\",\"iat\":%lld,\"exp\":%lld}", now, now + LIFE_S);
    base64_add(jwt, part.ptr, part.len, BASE64_URL);
    err rc = part.rc;
    strbuf_deinit(&part);
    if (rc == OK) rc = sign_rs256(str_of(member(t, "private_key")), strbuf_str(jwt), sig, &n);
    if (rc != OK) return rc;
    strbuf_addc(jwt, '.');
    base64_add(jwt, sig, n, BASE64_URL);
    return jwt->rc;
}

static err from_account(fetch *f) {
    strbuf jwt, b;
    strbuf_init(&jwt, FORM_MAX);
    strbuf_init(&b, FORM_MAX);
    err rc = make_jwt(f->t, &jwt);
    if (rc == OK) {
        form(&b, "grant_type", STR("urn:ietf:params:oauth:grant-type:jwt-bearer"));
        form(&b, "assertion", strbuf_str(&jwt));
        rc = post_form(f, member(f->t, "token_uri"), &b);
    }
    strbuf_deinit(&jwt);
    return rc;
}

static err from_user(fetch *f) {
    const char *url = member(f->t, "token_uri");
    strbuf b;
    strbuf_init(&b, FORM_MAX);
    form(&b, "grant_type", STR("refresh_token"));
    form(&b, "client_id", str_of(member(f->t, "client_id")));
    form(&b, "client_secret", str_of(member(f->t, "client_secret")));
    form(&b, "refresh_token", str_of(member(f->t, "refresh_token")));
    return post_form(f, url ? url : "https://oauth2.googleapis.com/token", &b);
}

/* ---- external account ---- */

/* The foreign token out of what its file or URL gave: all of it, or one field of JSON. */
static err read_subject(fetch *f, str body) {
    yyjson_val *from = yyjson_obj_get(yyjson_doc_get_root(f->t->doc), "credential_source");
    yyjson_val *format = yyjson_obj_get(from, "format");
    const char *type = yyjson_get_str(yyjson_obj_get(format, "type"));
    const char *field = yyjson_get_str(yyjson_obj_get(format, "subject_token_field_name"));
    if (type && strcmp(type, "json") == 0)
        return read_member(f, body, field ? field : "access_token", NULL);
    strbuf_reset(&f->token);
    strbuf_add(&f->token, str_trim(body));
    return f->token.rc;
}

static err subject_from_file(fetch *f, const char *path) {
    uint8_t *p;
    size_t n;
    TRY(file_read_all(f->t->fs, path, TOKEN_MAX, &p, &n));
    err rc = read_subject(f, str_from(p, n));
    wipe((char *)p, n);
    return rc;
}

enum { HEADERS_MAX = 8, HEADER_BYTES = 512 };

static err subject_from_url(fetch *f, const char *url, yyjson_val *headers) {
    char text[HEADERS_MAX][HEADER_BYTES];
    const char *lines[HEADERS_MAX];
    size_t n = 0;
    yyjson_obj_iter it = yyjson_obj_iter_with(headers);
    for (yyjson_val *k; n < HEADERS_MAX && (k = yyjson_obj_iter_next(&it)); n++) {
        const char *value = yyjson_get_str(yyjson_obj_iter_get_val(k));
        snprintf(text[n], HEADER_BYTES, "%s: %s", yyjson_get_str(k), value ? value : "");
        lines[n] = text[n];
    }
    return ask(f, &(question){.url = url, .headers = lines, .header_count = n}, read_subject);
}

static err read_impersonated(fetch *f, str body) {
    return read_member(f, body, "accessToken", NULL);
}

static err impersonate(fetch *f, const char *url) {
    char *auth;
    strbuf b;
    strbuf_init(&b, TOKEN_MAX + 64);
    strbuf_addf(&b, "Authorization: Bearer %s", f->token.ptr);
    auth = strbuf_take(&b);
    if (!auth) return ERR_NO_MEMORY;
    const char *headers[] = {auth};
    question q = {.url = url,
                  .type = "application/json",
                  .body = STR("{\"scope\":[\"" SCOPE "\"],\"lifetime\":\"3600s\"}"),
                  .headers = headers,
                  .header_count = 1};
    f->life_s = LIFE_S;
    err rc = ask(f, &q, read_impersonated);
    wipe(auth, strlen(auth));
    return rc;
}

static err from_external(fetch *f) {
    const token_source *t = f->t;
    yyjson_val *from = yyjson_obj_get(yyjson_doc_get_root(t->doc), "credential_source");
    const char *path = yyjson_get_str(yyjson_obj_get(from, "file"));
    const char *url = yyjson_get_str(yyjson_obj_get(from, "url"));
    const char *as = member(t, "service_account_impersonation_url");
    if (path)
        TRY(subject_from_file(f, path));
    else if (url)
        TRY(subject_from_url(f, url, yyjson_obj_get(from, "headers")));
    else
        return err_set(ERR_UNSUPPORTED,
                       "external account: expected credential_source.file or .url");
    strbuf b;
    strbuf_init(&b, FORM_MAX);
    form(&b, "grant_type", STR("urn:ietf:params:oauth:grant-type:token-exchange"));
    form(&b, "audience", str_of(member(t, "audience")));
    form(&b, "scope", STR(SCOPE));
    form(&b, "requested_token_type", STR("urn:ietf:params:oauth:token-type:access_token"));
    form(&b, "subject_token_type", str_of(member(t, "subject_token_type")));
    form(&b, "subject_token", strbuf_str(&f->token));
    TRY(post_form(f, member(t, "token_url"), &b));
    return as ? impersonate(f, as) : OK;
}

static err from_metadata(fetch *f) {
    static const char *const headers[] = {"Metadata-Flavor: Google"};
    const char *host = getenv("GCE_METADATA_HOST");
    char url[URL_MAX];
    int n = snprintf(url, sizeof url, "http://%s" METADATA,
                     host && host[0] ? host : "metadata.google.internal");
    if (n >= (int)sizeof url) return err_set(ERR_INVALID, "GCE_METADATA_HOST is too long");
    return ask(f, &(question){.url = url, .headers = headers, .header_count = 1}, read_token);
}

/* ---- once for all threads ---- */

static err fetch_one(fetch *f) {
    static err (*const from[])(fetch *) = {[FROM_METADATA] = from_metadata,
                                           [FROM_SERVICE_ACCOUNT] = from_account,
                                           [FROM_USER] = from_user,
                                           [FROM_EXTERNAL] = from_external};
    return from[f->t->from](f);
}

/* mu is not held; only the thread that set t->fetching is here. */
static err renew(token_source *t, const remote_call *c) {
    breaker_ticket ticket;
    fetch f = {.t = t, .call = c, .life_s = LIFE_S};
    strbuf_init(&f.token, TOKEN_MAX);
    uint64_t start = clock_mono_ns();
    err rc = err_set(ERR_AGAIN, "the token server is away for now (breaker open)");
    if (breaker_enter(&t->breaker, start, c->may_probe, &ticket)) {
        rc = fetch_one(&f);
        breaker_leave(&t->breaker, &ticket, clock_mono_ns(),
                      rc == OK              ? GUARD_OK
                      : rc == ERR_CANCELLED ? GUARD_IGNORED
                                            : GUARD_FAILED);
    }
    uint64_t margin = MIN(f.life_s / 4, MARGIN_S);
    mutex_lock(&t->mu);
    if (rc == OK) {
        wipe(t->token, t->token ? strlen(t->token) : 0);
        t->token = strbuf_take(&f.token);
        t->end_ns = start + f.life_s * NS_PER_S;
        t->renew_ns = t->end_ns - margin * NS_PER_S;
        t->count++;
        if (!t->token) rc = ERR_NO_MEMORY;
    } else {
        t->failures++;
        t->retry_ns = clock_mono_ns() + RETRY_MS * (uint64_t)1000000;
    }
    t->fetching = false;
    cond_broadcast(&t->fetched);
    mutex_unlock(&t->mu);
    if (f.token.ptr) sodium_memzero(f.token.ptr, f.token.len);
    strbuf_deinit(&f.token);
    return rc;
}

err tokens_get(token_source *t, remote_call *c) {
    mutex_lock(&t->mu);
    for (;;) {
        uint64_t now = clock_mono_ns();
        bool good = t->token && now < t->end_ns;
        bool due = !good || (now >= t->renew_ns && now >= t->retry_ns);
        if (good && (!due || t->fetching)) break;
        if (!t->fetching) {
            t->fetching = true;
            mutex_unlock(&t->mu);
            err rc = renew(t, c);
            if (rc != OK && !good) return rc;
            mutex_lock(&t->mu);
            continue;
        }
        if (now >= c->deadline_ns) {
            mutex_unlock(&t->mu);
            return err_set(ERR_TIMEOUT, "no access token in time");
        }
        (void)cond_wait_ms(&t->fetched, &t->mu, (c->deadline_ns - now) / 1000000u + 1);
    }
    strbuf_addz(&c->auth, t->token);
    mutex_unlock(&t->mu);
    return c->auth.rc;
}

void tokens_refused(token_source *t, str token) {
    mutex_lock(&t->mu);
    if (t->token && str_eq(str_of(t->token), token)) t->end_ns = 0;
    mutex_unlock(&t->mu);
}

void tokens_stats(token_source *t, provider_stats *out) {
    mutex_lock(&t->mu);
    out->tokens_fetched = t->count;
    out->tokens_failed = t->failures;
    mutex_unlock(&t->mu);
}
