/* kith embed: lines of standard input to vectors in an fvecs file (per row: dimension as u32, then that
 * many floats, little-endian). kith embed failed: the posts whose text could not be embedded.
 */
#include "ingest/ingest.h"
#include "role/args.h"
#include "role/command.h"
#include "role/instance.h"
#include "role/remote.h"
#include "role/term.h"

#include <stdio.h>

enum { BATCH = 64 };

static err put_rows(FILE *out, const float *v, size_t n, uint32_t dim) {
    uint8_t head[4];
    le32_put(head, dim);
    for (size_t i = 0; i < n; i++)
        if (fwrite(head, 4, 1, out) != 1 || fwrite(v + i * dim, sizeof *v, dim, out) != dim)
            return err_set(ERR_IO, "--out: cannot be written");
    return OK;
}

typedef struct embed_run {
    provider *p;
    FILE *out;
    lines *in;
    arena mem;
    str texts[BATCH];
    float *v;
    size_t n;
    uint64_t done;
    progress bar;
} embed_run;

static err flush(embed_run *e) {
    uint32_t dim = provider_dim(e->p);
    if (e->n == 0) return OK;
    embed_ask ask = {.texts = e->texts, .count = e->n, .task = EMBED_DOCUMENT, .bulk = true};
    TRY(provider_embed_ask(e->p, &ask, e->v, NULL));
    TRY(put_rows(e->out, e->v, e->n, dim));
    e->done += e->n;
    e->n = 0;
    arena_reset(&e->mem);
    progress_show(&e->bar, e->done, 0, lines_progress(e->in));
    return OK;
}

static err run(embed_run *e) {
    for (;;) {
        str line;
        bool cut;
        err rc = lines_next(e->in, &line, &cut);
        if (rc == ERR_NOT_FOUND) return flush(e);
        TRY(rc);
        char *copy = arena_dup(&e->mem, line);
        if (!copy) return ERR_NO_MEMORY;
        e->texts[e->n++] = (str){copy, line.len};
        if (e->n == BATCH) TRY(flush(e));
    }
}

static void on_notice(void *ctx, const char *text) {
    (void)ctx;
    term_note("%s", text);
}

/* ---- embed failed ---- */

static err list_failed(remote *r, bool json) {
    http_reply reply;
    yyjson_doc *doc;
    http_ask ask = {.method = "GET", .target = "/v1/embed/failed?limit=1000"};
    TRY(remote_json(r, &ask, &reply, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc), *list = yyjson_obj_get(root, "failures"), *f;
    size_t i, n;
    if (json) {
        term_out("%.*s", STR_ARG(reply.body));
    } else {
        yyjson_arr_foreach(list, i, n, f)
            term_out("%s\t%s\n", remote_text(f, "id"), remote_text(f, "reason"));
        if (yyjson_arr_size(list) == 0) term_out("no text is set aside\n");
    }
    yyjson_doc_free(doc);
    return OK;
}

static err retry(remote *r, bool json) {
    http_reply reply;
    yyjson_doc *doc;
    http_ask ask = {.method = "POST",
                    .target = "/v1/embed/failed",
                    .content_type = "application/json",
                    .body = STR("{}")};
    TRY(remote_json(r, &ask, &reply, &doc));
    unsigned long long n = yyjson_get_uint(yyjson_obj_get(yyjson_doc_get_root(doc), "count"));
    if (json)
        term_out("%.*s", STR_ARG(reply.body));
    else
        term_out("%llu texts are tried again\n", n);
    yyjson_doc_free(doc);
    return OK;
}

static int command_failed(int argc, char **argv) {
    remote_flags f = REMOTE_FLAGS_INIT;
    bool again = false;
    const arg args[] = {
        REMOTE_ARGS(f),
        {"retry", ARG_BOOL, &again, NULL, "try them again, by a running server", NULL},
    };
    args_spec spec = {.command = "embed failed",
                      .usage = "kith embed failed [--retry] [flags]",
                      .about = "Posts whose text could not be embedded, and why: id TAB reason.",
                      .examples = "  kith embed failed --data DIR\n"
                                  "  kith embed failed --data DIR --retry\n",
                      .args = args,
                      .count = COUNT_OF(args)};
    remote r = {0};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK) rc = remote_open(&f, false, &r);
    if (rc == OK) rc = again ? retry(&r, f.json) : list_failed(&r, f.json);
    remote_close(&r);
    return rc == OK ? 0 : term_fail(rc);
}

static err embed_lines(const embed_flags *f, const char *out) {
    embed_run e = {0};
    arena_init(&e.mem, BATCH * (LINES_MAX_BYTES + 16));
    progress_start(&e.bar, "embedding");
    err rc = embed_flags_check(f);
    if (rc == OK) rc = embed_flags_open(f, NULL, on_notice, NULL, &e.p);
    if (rc == OK) rc = lines_open("-", &e.in);
    if (rc == OK) {
        e.v = mem_alloc((size_t)BATCH * provider_dim(e.p) * sizeof *e.v);
        e.out = fopen(out, "wb");
        if (!e.v)
            rc = ERR_NO_MEMORY;
        else if (!e.out)
            rc = err_set(ERR_IO, "--out %s: cannot be written", out);
    }
    if (rc == OK) rc = run(&e);
    progress_end(&e.bar);
    if (e.out && fclose(e.out) != 0 && rc == OK) rc = err_set(ERR_IO, "--out %s: not written", out);
    lines_close(e.in);
    provider_close(e.p);
    arena_deinit(&e.mem);
    mem_free(e.v);
    return rc;
}

int command_embed(int argc, char **argv) {
    if (argc > 0 && strcmp(argv[0], "failed") == 0) return command_failed(argc - 1, argv + 1);
    embed_flags f = EMBED_FLAGS_INIT;
    const char *out = NULL;
    const arg args[] = {
        EMBED_ARGS(f),
        EMBED_MORE_ARGS(f),
        {"out", ARG_STR, &out, "FILE", "fvecs file to write", NULL},
    };
    args_spec spec = {.command = "embed",
                      .usage = "kith embed [flags] --out V.fvecs < lines.txt | kith embed failed",
                      .about = "Embeds each line of standard input; 'failed' lists the posts whose "
                               "text could not be embedded.",
                      .examples = "  kith embed --out v.fvecs < lines.txt\n"
                                  "  kith embed failed --data DIR --retry\n",
                      .args = args,
                      .count = COUNT_OF(args)};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK && !out) rc = err_set(ERR_INVALID, "--out: expected a file");
    if (rc != OK) return term_fail(rc);
    rc = embed_lines(&f, out);
    return rc == OK ? 0 : term_fail(rc);
}
