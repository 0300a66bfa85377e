/* kith bench index and kith bench embed: the same work that bench/ gives to other engines. The work is
 * in bench_index.c and bench_embed.c; here are only the flags.
 */
#include "ingest/ingest.h"
#include "role/args.h"
#include "role/bench_embed.h"
#include "role/bench_index.h"
#include "role/command.h"
#include "role/instance.h"
#include "role/term.h"

enum { TEXTS_MAX = 1 << 30, RESULT_MAX = 1 << 20 };

static int print_result(err rc, strbuf *out) {
    if (rc == OK) rc = out->rc;
    if (rc == OK) term_out(STR_FMT "\n", STR_ARG(strbuf_str(out)));
    strbuf_deinit(out);
    return rc == OK ? 0 : term_fail(rc);
}

static err embed_file(const char *model_dir, const char *precision, const char *texts, size_t batch,
                      strbuf *out) {
    char path[INSTANCE_PATH_MAX];
    uint8_t *bytes;
    size_t n;
    encode_model *m;
    if (!model_dir) {
        TRY(instance_model_dir(path));
        model_dir = path;
    }
    TRY(file_read_all(fs_real(), texts, TEXTS_MAX, &bytes, &n));
    err rc = provider_model_open(fs_real(), model_dir, precision, &m);
    if (rc == OK) {
        rc = bench_embed_run(m, str_from(bytes, n), batch, out);
        encode_model_close(m);
    }
    mem_free(bytes);
    return rc;
}

static int bench_embed(int argc, char **argv) {
    const char *model = NULL, *precision = "f32", *texts = NULL;
    int64_t batch = 32;
    bool json = false;
    const arg args[] = {
        {"texts", ARG_STR, &texts, "FILE", "a text a line", NULL},
        {"batch", ARG_INT, &batch, "N", "texts at a time (default 32)", NULL},
        {"model", ARG_STR, &model, "DIR", "sentence-transformers folder", "KITH_MODEL"},
        {"precision", ARG_STR, &precision, "P", "f32, bf16 or int8", "KITH_PRECISION"},
        {"json", ARG_BOOL, &json, NULL, "print JSON (it always is)", NULL},
    };
    args_spec spec = {.command = "bench",
                      .usage = "kith bench embed [flags] --texts FILE",
                      .about = "Speed of the encoder on one core, tokenizing included.",
                      .examples = "  kith bench embed --texts lines.txt --batch 32 --json\n",
                      .args = args,
                      .count = COUNT_OF(args)};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK && !texts) rc = err_set(ERR_INVALID, "--texts: expected a file");
    if (rc == OK && (batch < 1 || batch > BENCH_EMBED_BATCH_MAX))
        rc = err_set(ERR_INVALID, "--batch: expected 1 to %d", BENCH_EMBED_BATCH_MAX);
    if (rc != OK) return term_fail(rc);
    strbuf out;
    strbuf_init(&out, RESULT_MAX);
    return print_result(embed_file(model, precision, texts, (size_t)batch, &out), &out);
}

static int bench_index(int argc, char **argv) {
    const char *base = NULL, *queries = NULL, *truth = NULL;
    int64_t threads = 1;
    bool json = false;
    const arg args[] = {
        {"base", ARG_STR, &base, "B.fvecs", "vectors to index", NULL},
        {"queries", ARG_STR, &queries, "Q.fvecs", "vectors to ask with", NULL},
        {"truth", ARG_STR, &truth, "T.ivecs", "true neighbours (default: computed)", NULL},
        {"threads", ARG_INT, &threads, "N", "threads that search (default 1)", NULL},
        {"json", ARG_BOOL, &json, NULL, "print JSON, for scripts", NULL},
    };
    args_spec spec = {.command = "bench",
                      .usage = "kith bench index [flags] --base B.fvecs --queries Q.fvecs",
                      .about = "Recall and speed of the graph, a row per setting.",
                      .examples = "  kith bench index --base b.fvecs --queries q.fvecs --json\n",
                      .args = args,
                      .count = COUNT_OF(args)};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK && (!base || !queries))
        rc = err_set(ERR_INVALID, "--base and --queries: expected fvecs files");
    if (rc == OK && (threads < 1 || threads > 256))
        rc = err_set(ERR_INVALID, "--threads: expected 1 to 256");
    if (rc != OK) return term_fail(rc);
    strbuf out;
    strbuf_init(&out, RESULT_MAX);
    return print_result(bench_index_run(base, queries, truth, (unsigned)threads, json, &out), &out);
}

int command_bench(int argc, char **argv) {
    if (argc > 0 && str_eq(str_of(argv[0]), STR("index"))) return bench_index(argc - 1, argv + 1);
    if (argc > 0 && str_eq(str_of(argv[0]), STR("embed"))) return bench_embed(argc - 1, argv + 1);
    bool help =
        argc > 0 && (str_eq(str_of(argv[0]), STR("--help")) || str_eq(str_of(argv[0]), STR("-h")));
    term_out(
        "Speed of the index and of the encoder.\n\nusage: kith bench index [flags] | kith bench "
        "embed [flags]\n\nexamples:\n  kith bench index --help\n  kith bench embed --help\n");
    return help ? 0 : 2;
}
