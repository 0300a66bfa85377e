/* How many appends a second, and what one costs: bodies of 600 bytes, 1, 16 and 256 threads that
 * wait each for its own record, and one event loop that keeps 256 asynchronous appends in flight.
 *
 *     bench_journal [directory] [seconds per row]
 *
 * The floor beside it, in the same run and on the same disk: the bare system calls, one pwrite of
 * k times 704 bytes into reserved space and one fdatasync. Each row is the best of three. "slow
 * disk" repeats the rows with a sync that takes 2 ms more. Then the reader: records a second,
 * checked, from the page cache.
 */
#include "journal/journal.h"
#include "os/fs_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BODY_BYTES  600
#define THREADS_MAX 256
#define REPEATS     3

/* --- a disk whose sync takes longer ---------------------------------------------------------- */

typedef struct slow_fs {
    fs base;
    fs_ops ops;
} slow_fs;

/* Every file is the machine's own; only its table of calls is another. */
static err slow_open(fs *disk, const char *path, unsigned flags, file **out) {
    TRY(file_open(fs_real(), path, flags, out));
    (*out)->ops = disk->ops;
    return OK;
}

static err slow_sync(file *f) {
    err rc = fs_real()->ops->datasync(f);
    clock_sleep_ms(2);
    return rc;
}

static slow_fs slow_make(void) {
    slow_fs s = {.ops = *fs_real()->ops};
    s.ops.open = slow_open;
    s.ops.datasync = slow_sync;
    return s;
}

/* --- helpers --------------------------------------------------------------------------------- */

static void must(err rc, const char *what) {
    if (rc == OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, err_name(rc), err_detail());
    exit(1);
}

static const char *scratch;

static err unlink_one(void *ctx, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", (const char *)ctx, name);
    return fs_unlink(fs_real(), path);
}

static void scratch_clear(void) {
    static char dir[256];
    snprintf(dir, sizeof dir, "%s", scratch);
    must(fs_list(fs_real(), dir, unlink_one, dir), "clear");
}

/* --- waiting writers ------------------------------------------------------------------------- */

typedef struct load {
    journal *j;
    uint64_t until_ns;
    uint64_t appends;   /* atomic */
    uint64_t in_flight; /* atomic */
    mutex mu;
    cond less;
} load;

static const char *body(void) {
    static char text[BODY_BYTES];
    if (!text[0])
        for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + i % 26);
    return text;
}

static journal_entry entry(void) {
    return (journal_entry){.kind = JOURNAL_POST_PUT,
                           .key = STR("post-0123456789"),
                           .body = str_from(body(), BODY_BYTES)};
}

static void append_until(void *arg) {
    load *l = arg;
    journal_entry e = entry();
    uint64_t n = 0, first, last;
    for (; clock_mono_ns() < l->until_ns; n++)
        must(journal_append(l->j, &e, 1, &first, &last), "append");
    __atomic_fetch_add(&l->appends, n, __ATOMIC_RELAXED);
}

static void done(void *ctx, err rc, uint64_t first, uint64_t last) {
    load *l = ctx;
    must(rc, "append");
    (void)first, (void)last;
    if (__atomic_sub_fetch(&l->in_flight, 1, __ATOMIC_RELAXED) != 128) return;
    mutex_lock(&l->mu);
    cond_signal(&l->less);
    mutex_unlock(&l->mu);
}

static void event_loop(load *l) {
    journal_entry e = entry();
    while (clock_mono_ns() < l->until_ns) {
        mutex_lock(&l->mu);
        while (__atomic_load_n(&l->in_flight, __ATOMIC_RELAXED) >= 256) cond_wait(&l->less, &l->mu);
        mutex_unlock(&l->mu);
        __atomic_add_fetch(&l->in_flight, 1, __ATOMIC_RELAXED);
        must(journal_append_async(l->j, &e, 1, done, l), "append");
        l->appends++;
    }
}

typedef struct result {
    double per_s, group, sync_us;
} result;

/* threads 0: the event loop. */
static result run(fs *disk, unsigned threads, double seconds) {
    load l = {0};
    must(mutex_init(&l.mu), "mutex");
    must(cond_init(&l.less), "condition");
    scratch_clear();
    must(journal_open(disk, scratch, NULL, &l.j), "open");
    uint64_t start = clock_mono_ns();
    l.until_ns = start + (uint64_t)(seconds * 1e9);
    static thread t[THREADS_MAX];
    for (unsigned i = 0; i < threads; i++)
        must(thread_start(&t[i], "writer", append_until, &l), "thread");
    for (unsigned i = 0; i < threads; i++) thread_join(&t[i]);
    if (threads == 0) event_loop(&l);
    must(journal_wait(l.j, l.appends, 60000), "wait");
    double took = (double)(clock_mono_ns() - start) / 1e9;
    journal_stats st;
    journal_stats_get(l.j, &st);
    journal_close(l.j);
    mutex_deinit(&l.mu);
    cond_deinit(&l.less);
    return (result){.per_s = (double)l.appends / took,
                    .group = (double)st.appends / (double)st.groups,
                    .sync_us = (double)st.fsync_ns_sum / 1e3 / (double)st.fsyncs};
}

/* k records a sync by bare calls: no frames, no checksums, no threads. */
static double floor_run(fs *disk, size_t k, double seconds) {
    char path[512];
    scratch_clear();
    snprintf(path, sizeof path, "%s/floor", scratch);
    file *f;
    size_t n = k * 704, size = 64 * MIB;
    char *p = calloc(1, n);
    memset(p, 7, n);
    must(file_open(disk, path, FILE_WRITE | FILE_CREATE, &f), "open");
    must(file_reserve(f, size), "reserve");
    uint64_t start = clock_mono_ns(), until = start + (uint64_t)(seconds * 1e9), calls = 0;
    for (size_t at = 0; clock_mono_ns() < until; at = at + 2 * n > size ? 0 : at + n, calls++) {
        must(file_pwrite(f, p, n, at), "write");
        must(file_datasync(f), "sync");
    }
    double took = (double)(clock_mono_ns() - start) / 1e9;
    file_close(f);
    free(p);
    return (double)(calls * k) / took;
}

static void rows(fs *disk, const char *name, double seconds) {
    static const unsigned threads[] = {1, 16, 256, 0};
    printf("%s, %d-byte bodies\n%-26s %12s %12s %10s %12s\n", name, BODY_BYTES, "", "appends/s",
           "calls/group", "sync us", "bare calls/s");
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        result best = {0};
        double bare = 0;
        for (int k = 0; k < REPEATS; k++) {
            result r = run(disk, threads[i], seconds);
            if (r.per_s > best.per_s) best = r;
            double b = floor_run(disk, threads[i] ? threads[i] : 256, seconds / 2);
            bare = MAX(bare, b);
        }
        char label[64];
        snprintf(label, sizeof label, threads[i] ? "%u waiting" : "asynchronous, 256", threads[i]);
        printf("%-26s %12.0f %12.1f %10.0f %12.0f\n", label, best.per_s, best.group, best.sync_us,
               bare);
    }
}

static void reading(void) {
    enum { RECORDS = 200000, CALL = 500 };
    static journal_entry e[CALL];
    journal *j;
    journal_reader *r;
    journal_record rec;
    scratch_clear();
    for (size_t i = 0; i < CALL; i++) e[i] = entry();
    must(journal_open(fs_real(), scratch, NULL, &j), "open");
    uint64_t first, last, start = clock_mono_ns(), cpu = clock_thread_cpu_ns();
    for (int i = 0; i < RECORDS / CALL; i++)
        must(journal_append(j, e, CALL, &first, &last), "append");
    cpu = clock_thread_cpu_ns() - cpu;
    printf("one thread, %d records a call: %.0f records/s, %.2f us of CPU a record\n", CALL,
           RECORDS / ((double)(clock_mono_ns() - start) / 1e9), (double)cpu / 1e3 / RECORDS);
    double best = 0;
    for (int k = 0; k < REPEATS; k++) {
        cpu = clock_thread_cpu_ns();
        must(journal_reader_open(j, 1, &r), "reader");
        while (journal_read(r, &rec) == OK) {}
        KITH_ASSERT(journal_reader_lsn(r) == RECORDS + 1);
        best = MAX(best, RECORDS / ((double)(clock_thread_cpu_ns() - cpu) / 1e9));
        journal_reader_close(r);
    }
    journal_close(j);
    start = clock_mono_ns();
    must(journal_open(fs_real(), scratch, NULL, &j), "open");
    double open_ms = (double)(clock_mono_ns() - start) / 1e6;
    printf("reading, all checked: %.0f records a second of CPU; opening (%llu records in the last "
           "segment): %.0f "
           "ms\n",
           best, (unsigned long long)journal_recovered(j)->records, open_ms);
    journal_close(j);
}

int main(int argc, char **argv) {
    char own[] = "/tmp/kith-bench-XXXXXX";
    scratch = argc > 1 ? argv[1] : mkdtemp(own);
    double seconds = argc > 2 ? atof(argv[2]) : 1;
    if (!scratch) return 1;
    slow_fs slow = slow_make();
    slow.base.ops = &slow.ops;
    rows(fs_real(), "this disk", seconds);
    rows(&slow.base, "slow disk (sync + 2 ms)", seconds);
    reading();
    scratch_clear();
    if (argc <= 1) rmdir(own);
    return 0;
}
