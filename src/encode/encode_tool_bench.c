/* encode_tool: the encoder behind a pipe, for the oracle tests and benchmarks that are written in
 * another language.
 *
 *     bench_encode_tool MODEL_FOLDER ids|vectors|time|tokenize [f32|bf16|int8] [BATCH] < frames
 *
 * Standard input is frames: a u32 length, little endian, then that many bytes of a text. Output:
 *   ids       for each text u32 count, then the ids
 *   vectors   for each text dim floats
 *   time      texts are read first, then encoded in batches of BATCH; one JSON line
 *   tokenize  the same for the tokenizer alone
 * It is a tool of the tests, not of users: it reads whole files with stdio and stops on any error.
 */
#include "encode/encode.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TEXTS_MAX 4000000
#define TEXT_MAX  (64 * 1024 * 1024)

static void die(const char *what) {
    fprintf(stderr, "encode_tool: %s: %s\n", what, err_detail());
    exit(1);
}

static double seconds(void) { /* processor time of this thread */
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static str slurp(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f) return (str){0};
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    char *p = size >= 0 ? mem_alloc((size_t)size + 1) : NULL;
    if (!p || fread(p, 1, (size_t)size, f) != (size_t)size) die(path);
    fclose(f);
    return (str){p, (size_t)size};
}

static encode_model *open_model(const char *folder, encode_precision p) {
    encode_files f = {slurp(folder, "model.safetensors"),
                      slurp(folder, "vocab.txt"),
                      slurp(folder, "config.json"),
                      slurp(folder, "1_Pooling/config.json"),
                      slurp(folder, "sentence_bert_config.json"),
                      slurp(folder, "tokenizer_config.json")};
    encode_model *m;
    if (encode_model_open(&f, p, &m)) die("model");
    const str *all = &f.weights;
    for (size_t i = 0; i < sizeof f / sizeof *all; i++) {
        void *p_owned;
        memcpy(&p_owned, &all[i].ptr, sizeof p_owned);
        mem_free(p_owned);
    }
    return m;
}

static bool next_text(str *out) {
    uint8_t head[4];
    if (fread(head, 1, 4, stdin) != 4) return false;
    size_t n = le32_get(head);
    char *p = n <= TEXT_MAX ? mem_alloc(n + 1) : NULL;
    if (!p || fread(p, 1, n, stdin) != n) die("frame");
    *out = (str){p, n};
    return true;
}

static str *all_texts(size_t *n) {
    str *texts = NULL, one;
    size_t cap = 0;
    *n = 0;
    while (next_text(&one)) {
        if (mem_grow((void **)&texts, &cap, *n + 1, sizeof one, TEXTS_MAX)) die("texts");
        texts[(*n)++] = one;
    }
    return texts;
}

static void put(const void *p, size_t size, size_t n) {
    if (fwrite(p, size, n, stdout) != n) die("output");
}

static void print_ids(const encode_model *m, const str *texts, size_t n) {
    uint32_t ids[ENCODE_TOKENS_LIMIT];
    for (size_t i = 0; i < n; i++) {
        size_t count;
        encode_tokens(m, texts[i], ids, &count);
        uint32_t head = (uint32_t)count;
        put(&head, sizeof head, 1);
        put(ids, sizeof *ids, count);
    }
}

static void time_tokens(const encode_model *m, const str *texts, size_t n) {
    uint32_t ids[ENCODE_TOKENS_LIMIT];
    size_t tokens = 0, count;
    double start = seconds();
    for (size_t i = 0; i < n; i++) {
        encode_tokens(m, texts[i], ids, &count);
        tokens += count;
    }
    double took = seconds() - start;
    printf("{\"texts\": %zu, \"tokens\": %zu, \"seconds\": %.6f, \"tokens_per_s\": %.0f}\n", n,
           tokens, took, (double)tokens / took);
}

static void encode_all(const encode_model *m, const str *texts, size_t n, size_t batch,
                       bool timed) {
    encode_scratch *s;
    if (encode_scratch_open(m, &s)) die("scratch");
    float *out = mem_alloc(batch * encode_dim(m) * sizeof *out);
    if (!out) die("vectors");
    encode_stats stats = {0};
    double start = seconds(), best = 1e9;
    for (size_t i = 0; i < n; i += batch) {
        size_t take = n - i < batch ? n - i : batch;
        double from = seconds();
        if (encode_batch(m, s, texts + i, take, out, &stats)) die("batch");
        double took = seconds() - from;
        if (take == batch && took < best) best = took;
        if (!timed) put(out, encode_dim(m) * sizeof *out, take);
    }
    double took = seconds() - start;
    if (timed)
        printf("{\"texts\": %zu, \"tokens\": %llu, \"seconds\": %.6f, \"tokens_per_s\": %.1f, "
               "\"best_batch_ms\": %.4f, \"kernels\": \"%s\"}\n",
               n, (unsigned long long)stats.tokens, took, (double)stats.tokens / took, best * 1e3,
               encode_kernels(m));
    mem_free(out);
    encode_scratch_close(s);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: encode_tool MODEL ids|vectors|time|tokenize [PRECISION] [BATCH]\n");
        return 2;
    }
    encode_precision p = ENCODE_F32;
    uint64_t batch = 32;
    str mode = str_of(argv[2]);
    if (argc > 3 && !encode_precision_parse(str_of(argv[3]), &p)) return 2;
    if (argc > 4 && (!str_to_u64(str_of(argv[4]), &batch) || batch < 1 || batch > 65536)) return 2;
    encode_model *m = open_model(argv[1], p);
    size_t n;
    str *texts = all_texts(&n);
    if (str_eq(mode, STR("ids")))
        print_ids(m, texts, n);
    else if (str_eq(mode, STR("tokenize")))
        time_tokens(m, texts, n);
    else
        encode_all(m, texts, n, (size_t)batch, str_eq(mode, STR("time")));
    encode_model_close(m);
    return 0;
}
