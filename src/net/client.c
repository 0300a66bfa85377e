/* The HTTP client: libcurl's easy interface on one handle, which keeps its connection open between
 * calls. Redirects are not followed (an API has none), proxies of the environment are used only for
 * addresses that are not loopback, and signals are left alone (CURLOPT_NOSIGNAL), since callers have
 * threads. The token goes into a header and nowhere else.
 */
#include "net/client.h"

#include "obs/trace.h"

#include <curl/curl.h>
#include <stdatomic.h>

enum {
    URL_MAX = 16384,
    TIMEOUT_MS = 30000,
    CONNECT_MS = 5000,
    REPLY_HEADERS_MAX = 64 * 1024 /* what comes behind it is not kept */
};

struct http_client {
    CURL *curl;
    char *base;
    char *auth; /* "Authorization: Bearer ..." or NULL */
    strbuf body, headers;
};

err http_client_open(const char *base_url, const char *token, http_client **out) {
    *out = NULL;
    if (strncmp(base_url, "http://", 7) != 0 && strncmp(base_url, "https://", 8) != 0)
        return err_set(ERR_INVALID, "server: expected http://HOST:PORT, got '%s'", base_url);
    http_client *c = mem_zalloc(1, sizeof *c);
    if (!c) return ERR_NO_MEMORY;
    strbuf_init(&c->body, HTTP_REPLY_MAX);
    strbuf_init(&c->headers, REPLY_HEADERS_MAX);
    c->curl = curl_easy_init();
    c->base = mem_dup(base_url, strlen(base_url) + 1);
    err rc = c->curl && c->base ? OK : err_set(ERR_NO_MEMORY, "no memory for an HTTP client");
    if (rc == OK && token) {
        strbuf b;
        strbuf_init(&b, URL_MAX);
        strbuf_addf(&b, "Authorization: Bearer %s", token);
        c->auth = strbuf_take(&b);
        if (!c->auth) rc = ERR_NO_MEMORY;
    }
    if (rc != OK) {
        http_client_close(c);
        return rc;
    }
    size_t n = strlen(c->base);
    while (n && c->base[n - 1] == '/') c->base[--n] = 0;
    *out = c;
    return OK;
}

void http_client_close(http_client *c) {
    if (!c) return;
    if (c->curl) curl_easy_cleanup(c->curl);
    strbuf_deinit(&c->body);
    strbuf_deinit(&c->headers);
    mem_free(c->base);
    mem_free(c->auth);
    mem_free(c);
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx) {
    http_client *c = ctx;
    strbuf_add(&c->body, str_from(p, size * n));
    return c->body.rc == OK ? size * n : 0;
}

static size_t on_header(char *p, size_t size, size_t n, void *ctx) {
    http_client *c = ctx;
    str line = str_from(p, size * n);
    if (str_starts(line, STR("HTTP/"))) strbuf_reset(&c->headers); /* behind a 100 comes another */
    strbuf_add(&c->headers, line);
    return size * n;
}

static err of_curl(const http_client *c, CURLcode e) {
    switch (e) {
    case CURLE_OK:
        return OK;
    case CURLE_URL_MALFORMAT:
        return err_set(ERR_INVALID, "not a URL: %s", c->base);
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
        return err_set(ERR_AGAIN, "no server answers at %s", c->base);
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(ERR_TIMEOUT, "%s: no answer in time", c->base);
    case CURLE_WRITE_ERROR:
        return err_set(ERR_TOO_LARGE, "%s: answer too large", c->base);
    case CURLE_ABORTED_BY_CALLBACK:
        return err_set(ERR_CANCELLED, "the call was given up");
    case CURLE_OUT_OF_MEMORY:
        return err_set(ERR_NO_MEMORY, "no memory for an HTTP call");
    default:
        return err_set(ERR_IO, "%s: %s", c->base, curl_easy_strerror(e));
    }
}

static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    const _Atomic bool *cancel = ctx;
    (void)a, (void)b, (void)c, (void)d;
    return atomic_load_explicit(cancel, memory_order_relaxed);
}

static void set_options(http_client *c, const http_ask *ask, const char *url,
                        struct curl_slist *headers) {
    CURL *h = c->curl;
    long timeout = ask->timeout_ms ? (long)ask->timeout_ms : TIMEOUT_MS;
    curl_easy_reset(h);
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_NOPROXY, "127.0.0.1,localhost,[::1]");
    curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, timeout);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
    if (ask->content_type) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)ask->body.len);
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, ask->body.ptr ? ask->body.ptr : "");
    }
    if (ask->ca_file) curl_easy_setopt(h, CURLOPT_CAINFO, ask->ca_file);
    if (ask->cancel) {
        curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(h, CURLOPT_XFERINFODATA, (void *)(uintptr_t)ask->cancel);
        curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
    }
    curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, ask->method);
    if (strcmp(ask->method, "HEAD") == 0) curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
}

static err add_header(struct curl_slist **list, const char *line) {
    struct curl_slist *more = curl_slist_append(*list, line);
    if (!more) return err_set(ERR_NO_MEMORY, "no memory for an HTTP header");
    *list = more;
    return OK;
}

/* A call within a trace tells it, so that what the other side does is seen in it too. */
static err add_trace(struct curl_slist **list) {
    char line[sizeof "traceparent: " + TRACEPARENT_LEN] = "traceparent: ";
    if (!trace_id_is(trace_here.trace)) return OK;
    traceparent_format(&trace_here, line + sizeof "traceparent: " - 1);
    return add_header(list, line);
}

err http_call(http_client *c, const http_ask *ask, http_reply *out) {
    struct curl_slist *headers = NULL;
    strbuf url, type;
    strbuf_init(&url, URL_MAX);
    strbuf_init(&type, URL_MAX);
    strbuf_addz(&url, c->base);
    strbuf_addz(&url, ask->target);
    strbuf_addf(&type, "Content-Type: %s", ask->content_type ? ask->content_type : "");
    err rc = url.rc != OK ? url.rc : type.rc;
    if (rc == OK) rc = add_header(&headers, "Expect:");
    if (rc == OK && c->auth) rc = add_header(&headers, c->auth);
    if (rc == OK) rc = add_trace(&headers);
    if (rc == OK && ask->content_type) rc = add_header(&headers, type.ptr);
    for (size_t i = 0; rc == OK && i < ask->header_count; i++)
        rc = add_header(&headers, ask->headers[i]);
    if (rc == OK) {
        strbuf_reset(&c->body);
        strbuf_reset(&c->headers);
        set_options(c, ask, url.ptr, headers);
        rc = of_curl(c, curl_easy_perform(c->curl));
    }
    if (rc == OK) {
        long status = 0;
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        *out = (http_reply){(int)status, strbuf_str(&c->body), 0, strbuf_str(&c->headers)};
        if (!str_to_u64(http_reply_header(out, STR("kith-lsn")), &out->lsn)) out->lsn = 0;
    }
    curl_slist_free_all(headers);
    strbuf_deinit(&url);
    strbuf_deinit(&type);
    return rc;
}

str http_reply_header(const http_reply *r, str name) {
    str rest = r->headers, line;
    while (str_split(&rest, '\n', &line))
        if (line.len > name.len && line.ptr[name.len] == ':' &&
            str_eq_nocase(str_from(line.ptr, name.len), name))
            return str_trim(str_skip(line, name.len + 1));
    return (str){0};
}

void http_encode(strbuf *b, str s) {
    for (size_t i = 0; i < s.len; i++) {
        unsigned char ch = (unsigned char)s.ptr[i];
        bool plain = (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z') ||
                     ch == '-' || ch == '.' || ch == '_' || ch == '~';
        if (plain)
            strbuf_addc(b, (char)ch);
        else
            strbuf_addf(b, "%%%02X", ch);
    }
}
