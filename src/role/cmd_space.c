/* kith space: the spaces of vectors that a directory keeps. A change of models takes four of its words: add the new
 * space, wait until it is filled (list), use it, drop the old one. Changes are written to DIR/spaces.json and taken
 * up at the next start of `kith serve`.
 */
#include "role/args.h"
#include "role/command.h"
#include "role/remote.h"
#include "role/spaces.h"
#include "role/term.h"

#include <stdio.h>

enum { FILLED_PERCENT = 99 };

static void on_notice(void *ctx, const char *text) {
    (void)ctx;
    term_note("%s", text);
}

/* ---- list ---- */

static double num(yyjson_val *o, const char *key) {
    return yyjson_get_num(yyjson_obj_get(o, key));
}

static err status_of(const remote_flags *f, remote *r, yyjson_doc **doc) {
    http_reply reply;
    http_ask ask = {.method = "GET", .target = "/v1/status"};
    TRY(remote_open(f, false, r));
    return remote_json(r, &ask, &reply, doc);
}

static void show(yyjson_val *list, bool json) {
    size_t i, n;
    yyjson_val *v;
    if (json) term_out("[");
    yyjson_arr_foreach(list, i, n, v) {
        if (json)
            term_out("%s{\"space\":\"%s\",\"used\":%s,\"vectors\":%.0f,\"pending\":%.0f,\"failed\":"
                     "%.0f}",
                     i ? "," : "", remote_text(v, "space"), i ? "false" : "true", num(v, "vectors"),
                     num(v, "pending"), num(v, "failed"));
        else
            term_out("%s %-48s %10.0f vectors, %.0f to go, %.0f failed\n", i ? " " : "*",
                     remote_text(v, "space"), num(v, "vectors"), num(v, "pending"),
                     num(v, "failed"));
    }
    if (json) term_out("]\n");
}

static err list(const remote_flags *f) {
    remote r = {0};
    yyjson_doc *doc = NULL;
    err rc = status_of(f, &r, &doc);
    if (rc == OK) show(yyjson_obj_get(yyjson_doc_get_root(doc), "spaces"), f->json);
    yyjson_doc_free(doc);
    err_text kept = err_keep();
    remote_close(&r);
    return err_restore(rc, &kept);
}

/* ---- add ---- */

static err add(const remote_flags *f) {
    spaces *s;
    provider *p = NULL;
    TRY(embed_flags_check(&f->embed));
    TRY(spaces_load(f->data, &s));
    embed_flags e = f->embed;
    if (!e.kind || !e.kind[0]) e.kind = "local";
    bool local = strcmp(e.kind, "local") == 0;
    if (local && (!e.precision || !e.precision[0])) e.precision = "int8";
    err rc = embed_flags_open(&e, NULL, on_notice, NULL, &p);
    if (rc == OK) rc = spaces_add(s, provider_space(p), &e);
    if (rc == OK) rc = spaces_save(f->data, s);
    if (rc == OK) term_out("%s\n", provider_space(p));
    if (rc == OK) term_note("it is kept from the next start of 'kith serve' on");
    provider_close(p);
    spaces_free(s);
    return rc;
}

/* ---- use ---- */

static err check_filled(const remote_flags *f, const char *name) {
    remote r = {0};
    yyjson_doc *doc = NULL;
    size_t i, n;
    yyjson_val *v;
    bool found = false;
    err rc = status_of(f, &r, &doc);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_arr_foreach(yyjson_obj_get(root, "spaces"), i, n, v) {
        if (rc != OK || strcmp(remote_text(v, "space"), name) != 0) continue;
        found = true;
        double have = num(v, "vectors") + num(v, "failed"), posts = num(root, "posts");
        if (have * 100 < posts * FILLED_PERCENT)
            rc = err_set(ERR_INVALID,
                         "%s has vectors of %.0f of %.0f posts: wait, or --force to search in it "
                         "while it is filled",
                         name, have, posts);
    }
    if (rc == OK && !found)
        rc = err_set(ERR_NOT_FOUND, "%s is not kept: see 'kith space list'", name);
    yyjson_doc_free(doc);
    err_text kept = err_keep();
    remote_close(&r);
    return err_restore(rc, &kept);
}

static err use(const remote_flags *f, const char *name, bool force) {
    spaces *s;
    if (!force) TRY(check_filled(f, name));
    TRY(spaces_load(f->data, &s));
    err rc = OK;
    if (!s->use || !spaces_find(s, name))
        rc = err_set(ERR_NOT_FOUND, "%s is not kept yet: 'kith space add', then start 'kith serve'",
                     name);
    s->use = name;
    if (rc == OK) rc = spaces_save(f->data, s);
    if (rc == OK) term_note("searches ask %s from the next start of 'kith serve' on", name);
    spaces_free(s);
    return rc;
}

/* ---- drop ---- */

static err drop(const remote_flags *f, const char *name) {
    spaces *s;
    TRY(spaces_load(f->data, &s));
    err rc = OK;
    if (!spaces_find(s, name))
        rc = err_set(ERR_NOT_FOUND, "%s is not kept: see 'kith space list'", name);
    else if (s->use && strcmp(s->use, name) == 0)
        rc = err_set(ERR_INVALID, "%s is the one that searches ask: use another first", name);
    spaces_remove(s, name);
    if (rc == OK) rc = spaces_save(f->data, s);
    if (rc == OK) term_note("%s is let go at the next start of 'kith serve'", name);
    spaces_free(s);
    return rc;
}

/* ---- the command ---- */

static err run(const args_spec *spec, const remote_flags *f, bool force) {
    const char *what = spec->positional[0];
    bool named = spec->positional_count == 2;
    if (strcmp(what, "list") == 0 && !named) return list(f);
    if (!fs_exists(fs_real(), f->data))
        return err_set(ERR_NOT_FOUND, "%s: no such data directory", f->data);
    if (strcmp(what, "add") == 0 && !named) return add(f);
    if (strcmp(what, "use") == 0 && named) return use(f, spec->positional[1], force);
    if (strcmp(what, "drop") == 0 && named) return drop(f, spec->positional[1]);
    return err_set(ERR_INVALID, "expected list, add, use SPACE or drop SPACE; usage: %s",
                   spec->usage);
}

int command_space(int argc, char **argv) {
    remote_flags f = REMOTE_FLAGS_INIT;
    bool force = false;
    const arg args[] = {
        REMOTE_ARGS(f),
        {"force", ARG_BOOL, &force, NULL, "use a space that is not filled yet", NULL},
    };
    args_spec spec = {.command = "space",
                      .usage = "kith space [flags] list | add | use SPACE | drop SPACE",
                      .about =
                          "Spaces of vectors that a directory keeps side by side: the first is "
                          "asked, the others answer when its provider is away. 'add' takes the "
                          "flags of a provider. A running server sees changes when it starts "
                          "again.",
                      .examples = "  kith space add --data DIR --model OTHER-MODEL\n"
                                  "  kith space list --data DIR\n"
                                  "  kith space use local/other-model/int8/384/cosine --data DIR\n",
                      .args = args,
                      .count = COUNT_OF(args),
                      .positional_min = 1,
                      .positional_max = 2};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK) rc = run(&spec, &f, force);
    return rc == OK ? 0 : term_fail(rc);
}
