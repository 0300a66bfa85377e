/* kith eval: quality on judged queries. The work is in eval.c; here are only the flags and the output,
 * whose member names scripts rely on.
 */
#include "role/args.h"
#include "role/command.h"
#include "role/eval.h"
#include "role/instance.h"
#include "role/term.h"

static void on_progress(void *ctx, const char *what, uint64_t done, uint64_t total) {
    progress *bar = ctx;
    if (!bar->started || bar->what != what) progress_start(bar, what);
    progress_show(bar, done, total, -1);
}

static void print_result(const eval_options *o, const eval_result *r, bool json) {
    const char *mode = o->mode ? o->mode : "hybrid";
    if (json) {
        term_out("{\"ndcg@10\":%.5f,\"recall@100\":%.5f,\"mrr@10\":%.5f,\"queries\":%llu,\"p50_"
                 "us\":%.1f,"
                 "\"p99_us\":%.1f,\"ndcg_linear@10\":%.5f,\"docs\":%llu,\"mode\":\"%s\",\"index_"
                 "s\":%.1f}\n",
                 r->ndcg_10, r->recall_100, r->mrr_10, (unsigned long long)r->queries, r->p50_us,
                 r->p99_us, r->ndcg_linear_10, (unsigned long long)r->docs, mode, r->index_s);
        return;
    }
    term_out("%s, %llu queries over %llu documents\n", mode, (unsigned long long)r->queries,
             (unsigned long long)r->docs);
    term_out("  nDCG@10 %.4f   recall@100 %.4f   MRR@10 %.4f\n", r->ndcg_10, r->recall_100,
             r->mrr_10);
    term_out("  a search: p50 %.0f us, p99 %.0f us; indexing took %.1f s\n", r->p50_us, r->p99_us,
             r->index_s);
}

int command_eval(int argc, char **argv) {
    eval_options o = {0};
    progress bar = {0};
    const char *model = NULL, *precision = NULL;
    bool json = false;
    const arg args[] = {
        {"docs", ARG_STR, &o.docs, "FILE", "documents, JSONL, gz or plain", NULL},
        {"queries", ARG_STR, &o.queries, "FILE", "queries, JSONL", NULL},
        {"qrels", ARG_STR, &o.qrels, "FILE", "judgements: query TAB document TAB grade", NULL},
        {"mode", ARG_STR, &o.mode, "M", "hybrid (default), words or meaning", NULL},
        {"data", ARG_STR, &o.dir, "DIR", "keep the index here and use it again", NULL},
        {"model", ARG_STR, &model, "DIR", "sentence-transformers folder", "KITH_MODEL"},
        {"precision", ARG_STR, &precision, "P", "f32, bf16 or int8", "KITH_PRECISION"},
        {"json", ARG_BOOL, &json, NULL, "print JSON, for scripts", NULL},
    };
    args_spec spec = {.command = "eval",
                      .usage = "kith eval [flags] --docs D --queries Q --qrels R",
                      .about = "How good search is on judged queries.",
                      .examples =
                          "  kith eval --docs docs.jsonl --queries queries.jsonl --qrels qrels.tsv "
                          "--json\n",
                      .args = args,
                      .count = COUNT_OF(args)};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK && (!o.docs || !o.queries || !o.qrels))
        rc = err_set(ERR_INVALID, "--docs, --queries and --qrels: expected files");
    if (rc != OK) return term_fail(rc);
    eval_result r;
    o.progress = on_progress;
    o.progress_ctx = &bar;
    if (!precision && o.dir) precision = instance_precision(o.dir);
    rc = instance_model(model, precision, &o.provider);
    if (rc == OK) rc = eval_run(&o, &r);
    progress_end(&bar);
    if (rc == OK) print_result(&o, &r, json);
    provider_close(o.provider);
    return rc == OK ? 0 : term_fail(rc);
}
