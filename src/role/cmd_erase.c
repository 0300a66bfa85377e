/* kith erase USER and kith export USER: by the API of a running server, or by the same operation in this process.
 */
#include "role/args.h"
#include "role/command.h"
#include "role/remote.h"
#include "role/term.h"

#include <kith/v1/ops.pb-c.h>
#include <stdio.h>

enum { TARGET_MAX = 4096, ERASE_TIMEOUT_MS = 300000 };

typedef struct user_flags {
    remote_flags r;
    bool yes;
} user_flags;

static err call(const remote_flags *f, const char *method, const char *verb, const char *user,
                http_reply *reply, remote *r) {
    strbuf target;
    (void)f;
    strbuf_init(&target, TARGET_MAX);
    strbuf_addz(&target, "/v1/users/");
    http_encode(&target, str_of(user));
    strbuf_addf(&target, "/%s", verb);
    bool post = strcmp(method, "POST") == 0;
    http_ask ask = {.method = method,
                    .target = target.ptr,
                    .content_type = post ? "application/json" : NULL,
                    .body = post ? STR("{\"who\":\"kith erase\"}") : (str){0},
                    .timeout_ms = ERASE_TIMEOUT_MS};
    err rc = target.rc == OK ? remote_call(r, &ask, reply) : target.rc;
    strbuf_deinit(&target);
    return rc;
}

static err erase(const remote_flags *f, const char *user, strbuf *json) {
    remote r;
    http_reply reply;
    TRY(remote_open(f, false, &r));
    err rc;
    if (r.own) {
        Kith__V1__EraseUserRequest q = KITH__V1__ERASE_USER_REQUEST__INIT;
        q.id = (char *)(uintptr_t)user;
        q.who = (char[]){"kith erase"};
        rc = instance_invoke(r.own, API_OP_ERASE_USER, &q, json);
    } else {
        rc = call(f, "POST", "erase", user, &reply, &r);
        if (rc == OK) strbuf_add(json, reply.body);
    }
    char why[512];
    snprintf(why, sizeof why, "%s", err_detail());
    remote_close(&r);
    return rc == OK ? json->rc : err_set(rc, "%s", why);
}

static err export(const remote_flags *f, const char *user, strbuf *json) {
    remote r;
    http_reply reply;
    TRY(remote_open(f, false, &r));
    err rc;
    if (r.own) {
        Kith__V1__ExportUserRequest q = KITH__V1__EXPORT_USER_REQUEST__INIT;
        q.id = (char *)(uintptr_t)user;
        q.who = (char[]){"kith export"};
        rc = instance_invoke(r.own, API_OP_EXPORT_USER, &q, json);
    } else {
        rc = call(f, "GET", "export", user, &reply, &r);
        if (rc == OK) strbuf_add(json, reply.body);
    }
    char why[512];
    snprintf(why, sizeof why, "%s", err_detail());
    remote_close(&r);
    return rc == OK ? json->rc : err_set(rc, "%s", why);
}

static err check_user(args_spec *spec) {
    if (!utf8_valid(str_of(spec->positional[0]), NULL))
        return err_set(ERR_INVALID, "expected a user's id in UTF-8");
    return OK;
}

int command_erase(int argc, char **argv) {
    user_flags f = {.r = REMOTE_FLAGS_INIT};
    const arg args[] = {
        REMOTE_ARGS(f.r),
        {"master-key", ARG_STR, &f.r.master_key, "FILE", "64 hex digits", "KITH_MASTER_KEY_FILE"},
        {"archive", ARG_STR, &f.r.archive, "URL", "the archive, when no server runs",
         "KITH_ARCHIVE"},
        {"yes", ARG_BOOL, &f.yes, NULL, "really", NULL},
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
    strbuf json;
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK) rc = check_user(&spec);
    if (rc == OK && !f.yes)
        rc = err_set(ERR_INVALID, "erase: this cannot be undone; say --yes to do it");
    if (rc != OK) return term_fail(rc);
    strbuf_init(&json, MIB);
    rc = erase(&f.r, spec.positional[0], &json);
    if (rc == OK) term_out(STR_FMT "\n", STR_ARG(strbuf_str(&json)));
    int code = rc == OK ? 0 : term_fail(rc);
    strbuf_deinit(&json);
    return code;
}

int command_export(int argc, char **argv) {
    user_flags f = {.r = REMOTE_FLAGS_INIT};
    const arg args[] = {
        REMOTE_ARGS(f.r),
        {"master-key", ARG_STR, &f.r.master_key, "FILE", "64 hex digits", "KITH_MASTER_KEY_FILE"},
    };
    args_spec spec = {.command = "export",
                      .usage = "kith export [flags] USER",
                      .about = "Prints all that is held on a user as JSON, vectors included.",
                      .examples = "  kith export --data DIR ann > ann.json\n",
                      .args = args,
                      .count = COUNT_OF(args),
                      .positional_min = 1,
                      .positional_max = 1};
    strbuf json;
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK) rc = check_user(&spec);
    if (rc != OK) return term_fail(rc);
    strbuf_init(&json, API_ANSWER_MAX);
    rc = export(&f.r, spec.positional[0], &json);
    if (rc == OK) term_out(STR_FMT "\n", STR_ARG(strbuf_str(&json)));
    int code = rc == OK ? 0 : term_fail(rc);
    strbuf_deinit(&json);
    return code;
}
