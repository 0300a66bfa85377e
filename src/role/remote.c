/* Finding the kith that a command talks to: see remote.h. A serve.json whose address does not answer
 * was left by a server that was killed; then the directory is opened here, and its lock decides.
 */
#include "role/remote.h"

#include <stdio.h>

enum { PATH_BYTES = 4096, SERVE_FILE_MAX = 4096, PROBE_MS = 2000 };

static bool answers(const char *url) {
    http_client *c;
    http_reply r;
    if (http_client_open(url, NULL, &c) != OK) return false;
    http_ask ask = {.method = "GET", .target = "/healthz", .timeout_ms = PROBE_MS};
    bool yes = http_call(c, &ask, &r) == OK && r.status == 200;
    http_client_close(c);
    return yes;
}

/* The address in DIR/serve.json, when something answers there. */
static bool running(const char *dir, char url[256]) {
    char path[PATH_BYTES];
    uint8_t *text;
    size_t n;
    yyjson_doc *doc;
    snprintf(path, sizeof path, "%s/serve.json", dir);
    if (file_read_all(fs_real(), path, SERVE_FILE_MAX, &text, &n) != OK) return false;
    bool yes = false;
    if (json_parse(str_from(text, n), &doc) == OK) {
        const char *z = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "url"));
        yes = z && snprintf(url, 256, "%s", z) < 256 && answers(url);
        yyjson_doc_free(doc);
    }
    mem_free(text);
    return yes;
}

err remote_open(const remote_flags *f, bool may_create, remote *out) {
    *out = (remote){0};
    char url[256];
    if (f->server) return http_client_open(f->server, f->token, &out->http);
    if (running(f->data, url)) return http_client_open(url, f->token, &out->http);
    instance_options o = {.dir = f->data,
                          .embed = f->embed,
                          .must_exist = !may_create,
                          .quiet = true,
                          .master_key = f->master_key,
                          .archive = f->archive};
    TRY(embed_flags_check(&f->embed));
    TRY(instance_open(&o, &out->own));
    err rc = http_client_open(instance_url(out->own), NULL, &out->http);
    if (rc != OK) remote_close(out);
    return rc;
}

void remote_close(remote *r) {
    http_client_close(r->http);
    instance_close(r->own);
    *r = (remote){0};
}

static err problem(const http_reply *r) {
    yyjson_doc *doc;
    const char *detail = NULL;
    err rc = r->status == 404 ? ERR_NOT_FOUND : r->status < 500 ? ERR_INVALID : ERR_IO;
    if (json_parse(r->body, &doc) == OK) {
        detail = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "detail"));
        rc = err_set(rc, "%s", detail ? detail : net_status_text(r->status));
        yyjson_doc_free(doc);
        return rc;
    }
    return err_set(rc, "the server answered %d %s", r->status, net_status_text(r->status));
}

err remote_call(remote *r, const http_ask *ask, http_reply *out) {
    TRY(http_call(r->http, ask, out));
    return out->status >= 400 ? problem(out) : OK;
}

err remote_json(remote *r, const http_ask *ask, http_reply *reply, yyjson_doc **out) {
    *out = NULL;
    TRY(remote_call(r, ask, reply));
    return json_parse(reply->body, out);
}

const char *remote_text(yyjson_val *obj, const char *key) {
    const char *z = yyjson_get_str(yyjson_obj_get(obj, key));
    return z ? z : "";
}
