/* One request to an object store, tried until it is answered for good.
 *
 * Each try is signed anew (the signature holds the time). Between tries: a random part of a wait that
 * doubles from WAIT_MS_MIN to WAIT_MS_MAX ("full jitter"), or what Retry-After says when that is
 * longer, so that many clients do not come back together. What is tried again: no connection, a
 * connection that was cut, time-outs, 408, 409 (S3: a conflict of two conditional writes), 429, 5xx.
 * Everything else is an answer. Encoding of paths and queries is here because signatures cover it.
 */
#include "object/object_int.h"

#include "guard/guard.h"

enum { WAIT_MS_MIN = 50, WAIT_MS_MAX = 5000, RETRY_AFTER_MAX = 30, TARGET_MAX = 8192 };

void object_encode_path(strbuf *b, const char *path) {
    str rest = str_of(path), part;
    for (bool first = true; str_split(&rest, '/', &part); first = false) {
        if (!first) strbuf_addc(b, '/');
        http_encode(b, part);
    }
}

void object_encode_query(strbuf *b, const query_pair *q, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (i) strbuf_addc(b, '&');
        http_encode(b, str_of(q[i].name));
        strbuf_addc(b, '=');
        http_encode(b, str_of(q[i].value));
    }
}

/* The text of <Code> (S3) or "message" (Google), for people. */
static str reason(const http_reply *r) {
    static const str open[] = {STR_INIT("<Code>"), STR_INIT("\"message\": \""),
                               STR_INIT("\"message\":\"")};
    for (size_t i = 0; i < COUNT_OF(open); i++) {
        ptrdiff_t at = str_find(r->body, open[i]);
        if (at < 0) continue;
        str rest = str_skip(r->body, (size_t)at + open[i].len);
        size_t n = 0;
        while (n < rest.len && n < 120 && rest.ptr[n] != '<' && rest.ptr[n] != '"') n++;
        return str_from(rest.ptr, n);
    }
    return STR("");
}

static err of_status(const object_http *h, const object_ask *ask, const http_reply *r) {
    err rc = ERR_IO;
    if (r->status < 300 || r->status == 308) return OK;
    if (r->status == 404) rc = ERR_NOT_FOUND;
    if (r->status == 401 || r->status == 403) rc = ERR_DENIED;
    if (r->status == 412) rc = ERR_EXISTS;
    if (r->status == 400 || r->status == 405 || r->status == 416) rc = ERR_INVALID;
    if (r->status == 408 || r->status == 409 || r->status == 429 || r->status >= 500)
        rc = ERR_AGAIN;
    str why = reason(r);
    return err_set(rc, "%s/%s: the storage answered %d " STR_FMT, h->store->name, ask->what,
                   r->status, STR_ARG(why));
}

static bool passing(err rc) {
    return rc == ERR_AGAIN || rc == ERR_TIMEOUT || rc == ERR_IO;
}

static bool wait_more(const object_http *h, unsigned try, const http_reply *r) {
    object_store *s = h->store;
    uint64_t ms = retry_delay_ms(&s->random, try, WAIT_MS_MIN, WAIT_MS_MAX), after = 0;
    ms = MAX(ms, 1);
    str told = http_reply_header(r, STR("retry-after"));
    if (told.ptr && str_to_u64(told, &after) && after <= RETRY_AFTER_MAX)
        ms = MAX(ms, after * 1000);
    for (uint64_t end = clock_mono_ns() + ms * 1000000u; clock_mono_ns() < end;) {
        if (s->o.stopping && s->o.stopping(s->o.ctx)) return false;
        clock_sleep_ms(MIN((end - clock_mono_ns()) / 1000000u + 1, 50));
    }
    return !(s->o.stopping && s->o.stopping(s->o.ctx));
}

static err one_try(object_http *h, const object_ask *ask, const char *target, http_reply *out) {
    arena a;
    const char *headers[HEADERS_MAX + 4];
    size_t n = 0;
    arena_init(&a, 256 * KIB);
    for (size_t i = 0; i < ask->header_count; i++) {
        headers[n] = arena_printf(&a, "%s: %s", ask->headers[i].name, ask->headers[i].value).ptr;
        if (!headers[n++]) {
            arena_deinit(&a);
            return ERR_NO_MEMORY;
        }
    }
    err rc = h->sign(h->sign_ctx, ask, &a, headers, &n);
    http_ask q = {.method = ask->method,
                  .target = target,
                  .content_type = ask->content_type,
                  .body = ask->body,
                  .timeout_ms = h->store->o.timeout_ms,
                  .headers = headers,
                  .header_count = n};
    if (rc == OK) rc = http_call(h->client, &q, out);
    arena_deinit(&a);
    return rc == OK ? of_status(h, ask, out) : rc;
}

err object_call(object_http *h, const object_ask *ask, http_reply *out) {
    strbuf target;
    strbuf_init(&target, TARGET_MAX);
    object_encode_path(&target, ask->path);
    if (ask->last) {
        strbuf_addc(&target, '/');
        http_encode(&target, str_of(ask->last));
    }
    if (ask->query_count) strbuf_addc(&target, '?');
    object_encode_query(&target, ask->query, ask->query_count);
    err rc = target.rc;
    for (unsigned try = 0; rc == OK || passing(rc);) {
        *out = (http_reply){0};
        rc = one_try(h, ask, target.ptr, out);
        if (!passing(rc) || ++try >= h->store->o.tries) break;
        h->store->retried = true;
        if (!wait_more(h, try, out)) break;
    }
    strbuf_deinit(&target);
    return rc;
}

err object_take_body(const http_reply *r, const char *key, size_t max, uint8_t **out, size_t *n) {
    if (r->body.len > max)
        return err_set(ERR_TOO_LARGE, "object %s: expected at most %zu bytes, got %zu", key, max,
                       r->body.len);
    *out = mem_alloc(r->body.len + 1);
    if (!*out) return ERR_NO_MEMORY;
    if (r->body.len) memcpy(*out, r->body.ptr, r->body.len);
    *n = r->body.len;
    return OK;
}
