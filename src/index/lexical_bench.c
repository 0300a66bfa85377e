/* bench_index_lexical TEXTS [QUERIES [REPEAT]]: the words index on one core.
 *
 * TEXTS has a post a line; QUERIES a query a line (words divided by spaces), OR when the line
 * begins with nothing, AND when it begins with "+". Without QUERIES it makes them: words of random
 * posts, 2, 3 and 5 of them, 1,000 each way, from a fixed seed. Prints one JSON object: build and
 * bytes, then for each number of words and mode p50, p99 and mean in microseconds (each query's
 * best of REPEAT, default 5), and a checksum of the hits for comparing two builds; all this for
 * the index as built post by post ("live") and as a restart finds it ("loaded"). bench/words.py
 * runs this beside peers on the same queries; --terms TEXTS prints their terms.
 */
#include "index/lexical.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { QUERIES_MAX = 20000, WORDS_MAX_Q = 16, LINE_BYTES = 1 << 20 };

typedef struct bench_query {
    lexical_term terms[WORDS_MAX_Q];
    size_t n;
    lexical_mode mode;
} bench_query;

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int cmp_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static char line[LINE_BYTES];

static bool next_line(FILE *f, str *out) {
    if (!fgets(line, sizeof line, f)) return false;
    size_t n = strlen(line);
    while (n && (line[n - 1] == '\n' || line[n - 1] == '\r')) n--;
    *out = str_from(line, n);
    return true;
}

static void die(const char *what) {
    fprintf(stderr, "bench: %s: %s\n", what, err_detail());
    exit(1);
}

static lexical *build(const char *path, arena *a) {
    FILE *f = fopen(path, "r");
    lexical *ix;
    if (!f || lexical_new(NULL, &ix) != OK) die(path);
    double analysis = 0, insert = 0;
    uint32_t doc = 0;
    for (str s; next_line(f, &s); doc++) {
        token_list t;
        double t0 = now_us();
        if (analyze(a, s, &t) != OK) die("analyze");
        double t1 = now_us();
        if (lexical_insert(ix, doc, t.items, t.count) != OK) die("insert");
        insert += now_us() - t1;
        analysis += t1 - t0;
        arena_reset(a);
    }
    fclose(f);
    lexical_stats st;
    lexical_stats_get(ix, &st);
    printf("{\"docs\": %u, \"terms\": %u, \"postings\": %llu, \"tokens\": %llu,\n", st.docs,
           st.terms, (unsigned long long)st.postings, (unsigned long long)st.tokens);
    printf(" \"analyze_us_a_doc\": %.2f, \"insert_us_a_doc\": %.2f,\n", analysis / doc,
           insert / doc);
    printf(" \"bytes_a_posting\": %.3f, \"with_short_lists\": %.3f, \"bytes\": {\"postings\": "
           "%llu, \"sequences\": %llu, "
           "\"dictionary\": %llu, \"documents\": %llu},\n",
           (double)st.bytes_postings / (double)st.postings,
           (double)(st.bytes_postings + lexical_bytes_short(ix)) / (double)st.postings,
           (unsigned long long)st.bytes_postings, (unsigned long long)st.bytes_sequences,
           (unsigned long long)st.bytes_dictionary, (unsigned long long)st.bytes_documents);
    return ix;
}

static void count_bytes(void) {
    printf(" \"live_bytes\": %llu,\n", (unsigned long long)mem_live_bytes());
}

static size_t read_queries(const char *path, arena *keep, bench_query *q) {
    FILE *f = fopen(path, "r");
    if (!f) die(path);
    size_t n = 0;
    for (str s; n < QUERIES_MAX && next_line(f, &s); n++) {
        bool all = s.len && s.ptr[0] == '+';
        q[n] = (bench_query){.mode = all ? LEXICAL_ALL : LEXICAL_ANY};
        str rest = str_skip(s, all ? 1 : 0), w;
        while (q[n].n < WORDS_MAX_Q && str_split(&rest, ' ', &w)) {
            if (!w.len) continue;
            char *copy = arena_dup(keep, w);
            if (!copy) die("memory");
            q[n].terms[q[n].n++] = (lexical_term){{copy, w.len}, 1};
        }
    }
    fclose(f);
    return n;
}

/* Distinct words of one random post, in its order. */
static bool pick(rng *r, const token_list *t, size_t want, arena *keep, bench_query *q) {
    for (int tries = 0; q->n < want && tries < 50; tries++) {
        const token *x = &t->items[rng_below(r, (uint32_t)t->count)];
        bool again = false;
        for (size_t i = 0; i < q->n; i++) again |= str_eq(q->terms[i].text, x->term);
        if (again || x->alt) continue;
        char *copy = arena_dup(keep, x->term);
        if (!copy) die("memory");
        q->terms[q->n++] = (lexical_term){{copy, x->term.len}, 1};
    }
    return q->n == want;
}

static size_t make_queries(const char *path, arena *keep, arena *a, bench_query *q) {
    static const size_t sizes[] = {2, 3, 5};
    rng r;
    rng_seed(&r, 1);
    FILE *f = fopen(path, "r");
    if (!f) die(path);
    size_t n = 0, docs = 0;
    while (fgets(line, sizeof line, f)) docs++;
    rewind(f);
    for (str s; n < 3000 && next_line(f, &s); arena_reset(a)) {
        token_list t;
        if (rng_below(&r, (uint32_t)(docs / 3600 + 1)) || analyze(a, s, &t) != OK || t.count < 6)
            continue;
        q[n] = (bench_query){.mode = n % 6 < 3 ? LEXICAL_ANY : LEXICAL_ALL};
        n += pick(&r, &t, sizes[n % 3], keep, &q[n]);
    }
    fclose(f);
    return n;
}

static double best_of(const lexical *ix, const bench_query *b, lexical_scratch *s, int repeat,
                      uint64_t *sum) {
    lexical_query q = {.terms = b->terms, .n_terms = b->n, .k = 10, .mode = b->mode};
    lexical_hit h[10];
    double best = 1e30;
    for (int i = 0; i < repeat; i++) {
        size_t n;
        double t0 = now_us();
        if (lexical_search(ix, &q, s, h, &n) != OK) die("search");
        best = MIN(best, now_us() - t0);
        if (i == 0) *sum = hash64(h, n * sizeof *h, *sum);
    }
    return best;
}

static void run_group(const lexical *ix, const bench_query *q, size_t n, size_t words,
                      lexical_mode mode, int repeat) {
    static double us[QUERIES_MAX];
    lexical_scratch *s = lexical_scratch_new();
    if (!s) die("scratch");
    size_t m = 0;
    uint64_t sum = 0;
    double mean = 0;
    for (size_t i = 0; i < n; i++)
        if (q[i].n == words && q[i].mode == mode) {
            us[m] = best_of(ix, &q[i], s, repeat, &sum);
            mean += us[m++];
        }
    lexical_scratch_free(s);
    if (!m) return;
    qsort(us, m, sizeof *us, cmp_double);
    printf("  {\"words\": %zu, \"mode\": \"%s\", \"queries\": %zu, \"p50_us\": %.2f, \"p99_us\": "
           "%.2f, "
           "\"max_us\": %.1f, \"mean_us\": %.2f, \"sum\": \"%016llx\"},\n",
           words, mode == LEXICAL_ANY ? "or" : "and", m, us[m / 2], us[m * 99 / 100], us[m - 1],
           mean / (double)m, (unsigned long long)sum);
}

/* The index as a restart would find it: each length class together. */
static lexical *reload(const lexical *ix) {
    strbuf b;
    strbuf_init(&b, 4 * GIB);
    writer w = writer_to_strbuf(&b);
    lexical *again;
    double t0 = now_us();
    if (lexical_save(ix, &w) != OK) die("save");
    double t1 = now_us();
    if (lexical_load(b.ptr, b.len, &again) != OK) die("load");
    double t2 = now_us();
    lexical_stats st;
    lexical_stats_get(again, &st);
    printf(" \"save_ms\": %.1f, \"load_ms\": %.1f, \"file_bytes\": %zu, "
           "\"loaded_bytes_a_posting\": %.3f, \"loaded_with_short_lists\": %.3f,\n",
           (t1 - t0) / 1e3, (t2 - t1) / 1e3, b.len, (double)st.bytes_postings / (double)st.postings,
           (double)(st.bytes_postings + lexical_bytes_short(again)) / (double)st.postings);
    strbuf_deinit(&b);
    return again;
}

/* The terms of each text, divided by spaces, for peers. */
static int print_terms(const char *path) {
    arena a;
    arena_init(&a, 64 * MIB);
    FILE *f = fopen(path, "r");
    if (!f) die(path);
    for (str s; next_line(f, &s); arena_reset(&a)) {
        token_list t;
        if (analyze(&a, s, &t) != OK) die("analyze");
        for (size_t i = 0; i < t.count; i++)
            printf("%s" STR_FMT, i ? " " : "", STR_ARG(t.items[i].term));
        printf("\n");
    }
    fclose(f);
    arena_deinit(&a);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--terms") == 0) return print_terms(argv[2]);
    if (argc < 2) {
        fprintf(stderr, "usage: bench_index_lexical TEXTS [QUERIES|- [REPEAT]]\n");
        return 2;
    }
    static bench_query q[QUERIES_MAX];
    arena a, keep;
    arena_init(&a, 64 * MIB);
    arena_init(&keep, 256 * MIB);
    lexical *ix = build(argv[1], &a);
    count_bytes();
    bool given = argc > 2 && strcmp(argv[2], "-") != 0;
    size_t n = given ? read_queries(argv[2], &keep, q) : make_queries(argv[1], &keep, &a, q);
    int64_t repeat = 5;
    if (argc > 3 && (!str_to_i64(str_of(argv[3]), &repeat) || repeat < 1)) die("REPEAT");
    lexical *again = reload(ix);
    const lexical *both[2] = {ix, again};
    for (int i = 0; i < 2; i++) {
        printf(" \"%s\": [\n", i ? "loaded" : "live");
        for (size_t words = 1; words <= WORDS_MAX_Q; words++)
            for (int mode = 0; mode < 2; mode++)
                run_group(both[i], q, n, words, (lexical_mode)mode, (int)repeat);
        printf("  null]%s\n", i ? "}" : ",");
    }
    lexical_free(again);
    lexical_free(ix);
    arena_deinit(&a);
    arena_deinit(&keep);
    return 0;
}
