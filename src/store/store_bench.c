/* store_bench [posts [ordered]]: what a put, a vector, a read and a scan cost. Texts of 20 to 280
 * bytes from a seed, ids of 12 bytes in random order (or rising), every third post a reply; batches
 * of 256; the store is on the disk that TMPDIR names. Figures are the best of the rounds, on one
 * thread; CPU time beside the clock's, since a neighbour on the machine slows only the latter. */
#include "store/store_test_util.h"

enum { BATCH = 256, READS = 200000 };

typedef struct timer {
    uint64_t wall, cpu;
} timer;
static timer timer_start(void) {
    return (timer){clock_mono_ns(), clock_thread_cpu_ns()};
}
static void timer_print(timer t, const char *what, uint64_t n) {
    double wall = (double)(clock_mono_ns() - t.wall), cpu = (double)(clock_thread_cpu_ns() - t.cpu);
    printf("%-34s %9.2f us each  %9.0f/s   cpu %7.2f us  %9.0f/s\n", what, wall / (double)n / 1e3,
           (double)n * 1e9 / wall, cpu / (double)n / 1e3, (double)n * 1e9 / cpu);
}

static uint64_t bench_id(uint64_t i, bool ordered) {
    return ordered ? i : hash64_u64(i + 1) >> 16;
}

static void bench_post(arena *a, uint64_t i, bool ordered, Kith__V1__Post *p,
                       Google__Protobuf__Timestamp *t) {
    uint64_t h = hash64_u64(i + 1);
    size_t len = 20 + h % 260;
    char *text = arena_alloc(a, len + 1);
    if (!text) abort();
    for (size_t k = 0; k < len; k++)
        text[k] = (char)('a' + (hash64_u64(h + k / 5) >> (k % 5 * 8)) % 26);
    text[len] = 0;
    kith__v1__post__init(p);
    google__protobuf__timestamp__init(t);
    t->seconds = 1700000000 + (int64_t)i;
    p->created_at = t;
    p->text = text;
    p->id =
        (char *)(uintptr_t)arena_printf(a, "%012llx", (unsigned long long)bench_id(i, ordered)).ptr;
    p->author = (char *)(uintptr_t)arena_printf(a, "user%u", (unsigned)(h % 5000)).ptr;
    uint64_t parent = bench_id(i / 3, ordered);
    if (i % 3 == 2)
        p->reply_to = (char *)(uintptr_t)arena_printf(a, "%012llx", (unsigned long long)parent).ptr;
}

/* Puts posts, and vectors for the batch before, as the shard does. */
static void bench_puts(store *s, uint64_t posts, bool ordered, bool vectors) {
    arena a;
    arena_init(&a, 64 * MIB);
    timer t = timer_start();
    for (uint64_t i = 0; i < posts; i += BATCH) {
        MUST(store_begin(s));
        for (uint64_t k = i; k < i + BATCH && k < posts; k++) {
            Kith__V1__Post p;
            Google__Protobuf__Timestamp when;
            store_change c;
            bench_post(&a, k, ordered, &p, &when);
            if (vectors) {
                uint32_t doc;
                bool current;
                uint64_t hash = hash64(p.text, strlen(p.text), 0);
                MUST(store_vector(s, str_of(p.id), hash, &doc, &current));
                KITH_ASSERT(current);
            } else {
                MUST(store_put(s, &p, k + 1, 0, &a, &c));
            }
        }
        MUST(store_commit(s, store_position(s) + BATCH));
        arena_reset(&a);
    }
    timer_print(t, vectors ? "store_vector, batches of 256" : "store_put, batches of 256", posts);
    arena_deinit(&a);
}

static void bench_alone(store *s, uint64_t posts, bool ordered) {
    arena a;
    arena_init(&a, 64 * MIB);
    timer t = timer_start();
    for (uint64_t k = 0; k < 3000; k++) {
        Kith__V1__Post p;
        Google__Protobuf__Timestamp when;
        bench_post(&a, posts + k, ordered, &p, &when);
        put_alone(s, &a, &p, posts + k + 1);
        arena_reset(&a);
    }
    timer_print(t, "store_put and commit, one by one", 3000);
    arena_deinit(&a);
}

static void bench_reads(store *s, uint64_t posts, const char *what) {
    arena a;
    arena_init(&a, 64 * MIB);
    rng r;
    rng_seed(&r, 3);
    timer t = timer_start();
    for (int i = 0; i < READS; i += 10) { /* a page of ten hits a lease */
        store_reader *lease = store_reader_get(s);
        for (int k = 0; k < 10; k++) {
            store_row row;
            MUST(store_get_doc(lease, rng_below(&r, (uint32_t)posts), &a, &row));
        }
        store_reader_put(s, lease);
        arena_reset(&a);
    }
    timer_print(t, what, READS);
    arena_deinit(&a);
}

static err count_brief(void *ctx, const store_brief *b) {
    (void)b;
    ++*(uint64_t *)ctx;
    return OK;
}
static err count_row(void *ctx, const store_row *row) {
    (void)row;
    ++*(uint64_t *)ctx;
    return OK;
}

static void bench_scans(store *s) {
    uint64_t n = 0;
    store_reader *lease = store_reader_get(s);
    timer t = timer_start();
    MUST(store_scan(lease, count_brief, &n));
    timer_print(t, "store_scan, a row", n);
    n = 0;
    t = timer_start();
    MUST(store_scan_rows(lease, 0, count_row, &n));
    timer_print(t, "store_scan_rows, a row", n);
    store_reader_put(s, lease);
}

int main(int argc, char **argv) {
    uint64_t posts = 450000;
    if (argc > 1 && !str_to_u64(str_of(argv[1]), &posts)) return 2;
    if (posts < 1000 || posts > 100000000) return 2;
    bool ordered = argc > 2;
    scratch d;
    scratch_make(&d);
    store *s = NULL;
    MUST(store_open(d.path, 1, &s));
    bench_puts(s, posts, ordered, false);
    bench_puts(s, posts, ordered, true);
    uint64_t near = MIN(posts, 5000);
    bench_reads(s, near, "store_get_doc, not warm");
    for (int i = 0; i < 3; i++) bench_reads(s, near, "store_get_doc, warm");
    for (int i = 0; i < 2; i++) bench_reads(s, posts, "store_get_doc, anywhere");
    bench_scans(s);
    bench_alone(s, posts, ordered);
    MUST(store_erase_traces(s));
    printf("%.1f MB on disk, %.0f bytes a post\n", (double)store_disk_bytes(s) / 1e6,
           (double)store_disk_bytes(s) / (double)posts);
    store_close(s);
    timer t = timer_start();
    MUST(store_open(d.path, 1, &s));
    timer_print(t, "store_open", 1);
    store_close(s);
    t = timer_start();
    problems p;
    if (problems_of(d.path, &p)) printf("verify: %s\n", p.first);
    timer_print(t, "store_verify, a post", posts);
    scratch_remove(&d);
    return 0;
}
