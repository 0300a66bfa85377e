/* What safety costs: appended posts a second with nothing, with sealing, and with sealing and an archive, interleaved in
 * one run, so that a busy machine hits all alike. CPU time of the putting thread and wall time.
 *
 *     bench_archive [ROUNDS]
 */
#include "archive/archive_int.h"

#include <stdio.h>
#include <stdlib.h>

enum { DIM = 384, BATCH = 64, BATCHES = 60, MODES = 3, USERS = 2000 };

static const char *const names[MODES] = {"plain", "sealed", "sealed, archived"};

static void must(err rc) {
    if (rc == OK) return;
    fprintf(stderr, "%s: %s\n", err_name(rc), err_detail());
    exit(1);
}

typedef struct result {
    double cpu_s, wall_s;
    uint64_t posts;
} result;

/* The users are there already, as most are in a running app: a new one costs one more sync. */
static void make_users(shard *s) {
    static char authors[USERS][16];
    static str names_of[USERS];
    static uint32_t entries[USERS];
    for (int i = 0; i < USERS; i++) {
        snprintf(authors[i], sizeof authors[i], "u%d", i);
        names_of[i] = str_of(authors[i]);
    }
    must(keyring_entries(shard_keyring(s), names_of, USERS, entries));
}

static void put_batches(shard *s, rng *r, result *out) {
    static float v[BATCH][DIM];
    static char ids[BATCH][32], texts[BATCH][640], authors[BATCH][16];
    static Kith__V1__Post posts[BATCH];
    shard_item items[BATCH];
    for (int b = 0; b < BATCHES; b++) {
        for (int i = 0; i < BATCH; i++) {
            for (int d = 0; d < DIM; d++) v[i][d] = rng_normal(r);
            snprintf(ids[i], sizeof ids[i], "p%llx", (unsigned long long)rng_u64(r));
            memset(texts[i], 'a' + i % 26, 500);
            snprintf(authors[i], sizeof authors[i], "u%u", rng_below(r, USERS));
            posts[i] = (Kith__V1__Post)KITH__V1__POST__INIT;
            posts[i].id = ids[i], posts[i].text = texts[i], posts[i].author = authors[i];
            items[i] = (shard_item){&posts[i], v[i]};
        }
        uint64_t lsn, wall = clock_mono_ns(), cpu = clock_thread_cpu_ns();
        must(shard_put(s, items, BATCH, &lsn));
        out->wall_s += (double)(clock_mono_ns() - wall) / 1e9;
        out->cpu_s += (double)(clock_thread_cpu_ns() - cpu) / 1e9;
        out->posts += BATCH;
    }
}

static void one_round(int mode, rng *r, result *out) {
    char dir[] = "/var/tmp/kith-bench-XXXXXX", data[64], url[80], command[96];
    seal_master m = {.key = {1}, .given = true};
    if (!mkdtemp(dir)) exit(1);
    snprintf(data, sizeof data, "%s/d", dir);
    snprintf(url, sizeof url, "dir:%s/a", dir);
    shard *s;
    archive *a = NULL;
    must(shard_open(&(shard_options){.fs = fs_real(),
                                     .dir = data,
                                     .space = "bench",
                                     .dim = DIM,
                                     .master = &m,
                                     .unsealed = mode == 0},
                    &s));
    if (mode == 2)
        must(archive_start(
            &(archive_options){
                .url = url, .master = &m, .dir = data, .version = "bench", .shard = s},
            &a));
    make_users(s);
    put_batches(s, r, out);
    archive_stop(a);
    shard_close(s);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command) != 0) exit(1);
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 3;
    result best[MODES] = {{0}};
    rng r;
    rng_seed(&r, 1);
    for (int i = 0; i < rounds; i++)
        for (int mode = 0; mode < MODES; mode++) {
            result x = {0};
            one_round(mode, &r, &x);
            if (i == 0 || x.wall_s < best[mode].wall_s) best[mode].wall_s = x.wall_s;
            if (i == 0 || x.cpu_s < best[mode].cpu_s) best[mode].cpu_s = x.cpu_s;
            best[mode].posts = x.posts;
        }
    for (int mode = 0; mode < MODES; mode++)
        printf("%-18s %9.0f posts/s (wall), ratio %.3f   %6.2f us CPU a post, ratio %.3f\n",
               names[mode], (double)best[mode].posts / best[mode].wall_s,
               best[0].wall_s / best[mode].wall_s,
               best[mode].cpu_s * 1e6 / (double)best[mode].posts, best[0].cpu_s / best[mode].cpu_s);
    return 0;
}
