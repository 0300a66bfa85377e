/* bench_index_hnsw: recall and speed of the graph on fvecs files.
 *
 *     bench_index_hnsw --base B.fvecs --queries Q.fvecs --truth T.ivecs [--repeat 3] [--limit N]
 *         [--degree D] [--ef-build E] [--save FILE] [--load FILE]
 *
 * One thread, CPU time. A line a setting of ef, and one for a scan of all codes: recall@10, queries a second (the best of the repeats).
 * Truth holds the rows' numbers of the exact nearest, at least 10 a query; rows at or over the limit
 * are left out of it. --save and --load keep a built graph between runs.
 */
#include "index/hnsw.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct matrix {
    void *rows; /* count * dim 4-byte numbers */
    size_t count;
    size_t dim;
} matrix;

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint8_t *slurp(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s: cannot open\n", path);
        exit(2);
    }
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = mem_alloc(*size);
    if (!p || fread(p, 1, *size, f) != *size) exit(2);
    fclose(f);
    return p;
}

static matrix matrix_read(const char *path) {
    size_t size;
    uint8_t *p = slurp(path, &size);
    matrix m = {.dim = le32_get(p)};
    m.count = size / (4 * (m.dim + 1));
    for (size_t i = 0; i < m.count; i++)
        memmove(p + i * m.dim * 4, p + i * (m.dim + 1) * 4 + 4, m.dim * 4);
    m.rows = p;
    return m;
}

typedef struct options {
    const char *base, *queries, *truth, *save, *load;
    long repeat, limit, degree, ef_build;
} options;

static options options_read(int argc, char **argv) {
    options o = {.repeat = 3};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *a = argv[i], *v = argv[i + 1];
        if (!strcmp(a, "--base"))
            o.base = v;
        else if (!strcmp(a, "--queries"))
            o.queries = v;
        else if (!strcmp(a, "--truth"))
            o.truth = v;
        else if (!strcmp(a, "--save"))
            o.save = v;
        else if (!strcmp(a, "--load"))
            o.load = v;
        else if (!strcmp(a, "--repeat"))
            o.repeat = atol(v);
        else if (!strcmp(a, "--limit"))
            o.limit = atol(v);
        else if (!strcmp(a, "--degree"))
            o.degree = atol(v);
        else if (!strcmp(a, "--ef-build"))
            o.ef_build = atol(v);
        else
            exit(2);
    }
    if (!o.queries || !o.truth || (!o.base && !o.load)) {
        fprintf(stderr, "usage: bench_index_hnsw --base B --queries Q --truth T\n");
        exit(2);
    }
    return o;
}

static void check(err rc) {
    if (rc == OK) return;
    fprintf(stderr, "%s: %s\n", err_name(rc), err_detail());
    exit(1);
}

static hnsw *build(const options *o, size_t dim) {
    matrix base = matrix_read(o->base);
    if (base.dim != dim) exit(2);
    size_t n = o->limit ? MIN((size_t)o->limit, base.count) : base.count;
    hnsw *h;
    check(hnsw_new(&(hnsw_options){.dim = (uint32_t)dim,
                                   .degree = (uint32_t)o->degree,
                                   .ef_build = (uint32_t)o->ef_build,
                                   .seed = 1},
                   &h));
    double start = cpu_seconds();
    for (size_t i = 0; i < n; i++) check(hnsw_insert(h, (uint32_t)i, (float *)base.rows + i * dim));
    double s = cpu_seconds() - start;
    hnsw_stats st = hnsw_stats_get(h);
    printf("build %.2f s, %.0f inserts/s, %zu nodes, %.1f links a node, %.0f bytes a vector\n", s,
           (double)n / s, st.nodes, (double)hnsw_links(h) / (double)st.nodes,
           (double)st.bytes / (double)n);
    mem_free(base.rows);
    return h;
}

static err file_write(void *ctx, const void *p, size_t n) {
    return fwrite(p, 1, n, ctx) == n ? OK : ERR_IO;
}

static void save(const hnsw *h, const char *path) {
    FILE *f = fopen(path, "wb");
    if (!f) exit(2);
    check(hnsw_save(h, &(writer){file_write, f}));
    fclose(f);
}

static hnsw *load(const char *path) {
    size_t size;
    uint8_t *p = slurp(path, &size);
    hnsw *h;
    double start = cpu_seconds();
    check(hnsw_load(p, size, NULL, &h));
    printf("load %.3f s, %zu bytes\n", cpu_seconds() - start, size);
    mem_free(p);
    return h;
}

/* Asks all queries; the share found of the ten nearest, and the best time of the repeats. */
static double ask(const options *o, const hnsw *h, const matrix *q, const matrix *t,
                  hnsw_scratch *s, hnsw_query how, double *best) {
    size_t hits = 0, asked = 0;
    *best = 1e9;
    for (long r = 0; r < o->repeat; r++) {
        hits = asked = 0;
        double start = cpu_seconds();
        for (size_t i = 0; i < q->count; i++) {
            hnsw_hit out[10];
            size_t n;
            const uint32_t *want = (uint32_t *)t->rows + i * t->dim;
            check(hnsw_search(h, (float *)q->rows + i * q->dim, &how, s, out, &n));
            for (size_t a = 0, w = 0; w < t->dim && a < 10; w++) {
                if (o->limit && want[w] >= (uint32_t)o->limit) continue;
                a++;
                asked++;
                for (size_t b = 0; b < n; b++) hits += out[b].doc == want[w];
            }
        }
        *best = MIN(*best, cpu_seconds() - start);
    }
    return (double)hits / (double)asked;
}

int main(int argc, char **argv) {
    options o = options_read(argc, argv);
    matrix q = matrix_read(o.queries), t = matrix_read(o.truth);
    hnsw *h = o.load ? load(o.load) : build(&o, q.dim);
    if (o.save) save(h, o.save);
    hnsw_scratch *s;
    check(hnsw_scratch_new(&s));
    static const uint32_t efs[] = {10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384};
    for (size_t e = 0; e <= COUNT_OF(efs); e++) {
        hnsw_query how = {.k = 10, .scan = e == COUNT_OF(efs)};
        double best;
        if (!how.scan) how.ef = efs[e];
        double recall = ask(&o, h, &q, &t, s, how, &best);
        if (how.scan)
            printf("scan    ");
        else
            printf("ef %3u  ", how.ef);
        printf("recall@10 %.4f  %7.0f qps  %.1f us\n", recall, (double)q.count / best,
               best / (double)q.count * 1e6);
    }
    hnsw_scratch_free(s);
    hnsw_free(h);
    mem_free(q.rows);
    mem_free(t.rows);
    return 0;
}
