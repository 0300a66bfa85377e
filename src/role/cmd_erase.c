/* kith erase USER and kith export USER: by the API of a running server, or by the same operation in this process.
 */
#include "role/args.h"
#include "role/command.h"
#include "role/remote.h"
#include "role/term.h"

#include <kith/v1/ops.pb-c.h>
#include <stdio.h>

enum { TARGET_MAX = 4096, ERASE_TIMEOUT_MS = 300000 };

/* One operation on a user, as a server is asked for it and as this process does it itself. */
typedef struct user_call {
    const char *method, *verb, *user;
    str body; /* JSON; empty: none */
    api_op op;
    const void *request; /* of op */
} user_call;

static err call_server(remote *r, const user_call *c, strbuf *json) {
    strbuf target;
    http_reply reply;
    strbuf_init(&target, TARGET_MAX);
    strbuf_addz(&target, "/v1/users/");
    http_encode(&target, str_of(c->user));
    strbuf_addf(&target, "/%s", c->verb);
    http_ask ask = {.method = c->method,
                    .target = target.ptr,
                    .content_type = c->body.len ? "application/json" : NULL,
                    .body = c->body,
                    .timeout_ms = ERASE_TIMEOUT_MS};
    err rc = target.rc == OK ? remote_call(r, &ask, &reply) : target.rc;
    if (rc == OK) strbuf_add(json, reply.body);
    strbuf_deinit(&target);
    return rc;
}

static err call(const remote_flags *f, const user_call *c, strbuf *json) {
    remote r;
    TRY(remote_open(f, false, &r));
    err rc = r.own ? instance_invoke(r.own, c->op, c->request, json) : call_server(&r, c, json);
    err_text kept = err_keep();
    remote_close(&r);
    return err_restore(rc == OK ? json->rc : rc, &kept);
}

/* Calls and prints; returns the exit code. */
static int say(const remote_flags *f, const user_call *c, size_t most) {
    strbuf json;
    strbuf_init(&json, most);
    err rc = call(f, c, &json);
    if (rc == OK) term_out(STR_FMT "\n", STR_ARG(strbuf_str(&json)));
    int code = rc == OK ? 0 : term_fail(rc);
    strbuf_deinit(&json);
    return code;
}

static err check_user(args_spec *spec) {
    if (!utf8_valid(str_of(spec->positional[0]), NULL))
        return err_set(ERR_INVALID, "expected a user's id in UTF-8");
    return OK;
}

int command_erase(int argc, char **argv) {
    remote_flags f = REMOTE_FLAGS_INIT;
    bool yes = false;
    const arg args[] = {
        REMOTE_ARGS(f),
        {"master-key", ARG_STR, &f.master_key, "FILE", "64 hex digits", "KITH_MASTER_KEY_FILE"},
        {"archive", ARG_STR, &f.archive, "URL", "the archive, when no server runs", "KITH_ARCHIVE"},
        {"yes", ARG_BOOL, &yes, NULL, "really", NULL},
    };
    args_spec spec = {.command = "erase",
                      .usage = "kith erase [flags] --yes USER",
                      .about =
                          "Destroys the user's key and deletes all that the user wrote: journal, "
                          "store, indexes, archive, and every copy of them. Prints the "
                          "certificate. Cannot be undone.",
                      .examples = "  kith erase --data DIR --yes ann > certificate.json\n",
                      .args = args,
                      .count = COUNT_OF(args),
                      .positional_min = 1,
                      .positional_max = 1};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK) rc = check_user(&spec);
    if (rc == OK && !yes)
        rc = err_set(ERR_INVALID, "erase: this cannot be undone; say --yes to do it");
    if (rc != OK) return term_fail(rc);
    Kith__V1__EraseUserRequest q = KITH__V1__ERASE_USER_REQUEST__INIT;
    q.id = (char *)(uintptr_t)spec.positional[0];
    q.who = (char[]){"kith erase"};
    user_call c = {.method = "POST",
                   .verb = "erase",
                   .user = q.id,
                   .body = STR("{\"who\":\"kith erase\"}"),
                   .op = API_OP_ERASE_USER,
                   .request = &q};
    return say(&f, &c, MIB);
}

int command_export(int argc, char **argv) {
    remote_flags f = REMOTE_FLAGS_INIT;
    const arg args[] = {
        REMOTE_ARGS(f),
        {"master-key", ARG_STR, &f.master_key, "FILE", "64 hex digits", "KITH_MASTER_KEY_FILE"},
    };
    args_spec spec = {.command = "export",
                      .usage = "kith export [flags] USER",
                      .about = "Prints all that is held on a user as JSON, vectors included.",
                      .examples = "  kith export --data DIR ann > ann.json\n",
                      .args = args,
                      .count = COUNT_OF(args),
                      .positional_min = 1,
                      .positional_max = 1};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK) rc = check_user(&spec);
    if (rc != OK) return term_fail(rc);
    Kith__V1__ExportUserRequest q = KITH__V1__EXPORT_USER_REQUEST__INIT;
    q.id = (char *)(uintptr_t)spec.positional[0];
    q.who = (char[]){"kith export"};
    user_call c = {
        .method = "GET", .verb = "export", .user = q.id, .op = API_OP_EXPORT_USER, .request = &q};
    return say(&f, &c, API_ANSWER_MAX);
}
