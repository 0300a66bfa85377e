/* The caches: the memory's invariants under random work, what it keeps of repeated keys beside a flood of
 * new ones; the file's survival of cuts, flips and foreign files; forgetting.
 */
#include "provider/provider_int.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { DIM = 16 };

static cache_key key_of(uint64_t i) {
    return (cache_key){{hash64_u64(i + 1), hash64_u64(i + 1000000007)}};
}

static void vector_of(uint64_t i, float v[DIM]) {
    for (int d = 0; d < DIM; d++) v[d] = (float)((hash64_u64(i * DIM + (uint64_t)d) & 255) + 1);
    assert_true(provider_unit(v, DIM));
}

static void memory_under_random_work(void **state) {
    (void)state;
    rng r;
    cache *c;
    float v[DIM], want[DIM];
    rng_seed(&r, 7);
    for (size_t bytes = 1; bytes < 200000; bytes *= 9) {
        assert_int_equal(cache_open(bytes, DIM, &c), OK);
        for (int step = 0; step < 20000; step++) {
            uint64_t i = rng_below(&r, 1 + rng_below(&r, 2000));
            cache_key k = key_of(i);
            vector_of(i, want);
            uint32_t what = rng_below(&r, 10);
            if (what == 0) {
                cache_forget(c, &k);
                assert_false(cache_get(c, &k, v));
            } else if (!cache_get(c, &k, v)) {
                cache_put(c, &k, want);
            } else {
                assert_memory_equal(v, want, sizeof v);
            }
            if (step % 500 == 0) assert_true(cache_validate(c));
        }
        assert_true(cache_validate(c));
        cache_close(c);
    }
}

/* 100 keys asked for again and again among 100,000 that come once: the 100 stay. */
static void a_flood_does_not_push_out_what_is_used(void **state) {
    (void)state;
    cache *c;
    float v[DIM];
    uint64_t hits = 0, asked = 0;
    assert_int_equal(cache_open(200 * (DIM * 4 + 104), DIM, &c), OK);
    for (uint64_t i = 0; i < 100000; i++) {
        cache_key k = i % 5 == 0 ? key_of(i / 5 % 100) : key_of(1000 + i);
        bool hit = cache_get(c, &k, v);
        if (!hit) vector_of(i, v), cache_put(c, &k, v);
        if (i % 5 == 0 && i > 20000) asked++, hits += hit;
    }
    assert_true((double)hits > 0.95 * (double)asked); /* LRU: none, 400 others come in between */
    cache_close(c);
}

static provider_info info_of(const char *space) {
    provider_info i = {.kind = "test", .dim = DIM};
    snprintf(i.space, sizeof i.space, "%s", space);
    return i;
}

static char dir[64];

static int make_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/kith-cache-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state) {
    char cmd[96];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static bool close_to(const float *a, const float *b) {
    float s = 0;
    for (int d = 0; d < DIM; d++) s += a[d] * b[d];
    return s > 0.9999f;
}

static uint64_t found(disk_cache *d, uint64_t n) {
    float v[DIM], want[DIM];
    uint64_t hits = 0;
    for (uint64_t i = 0; i < n; i++) {
        cache_key k = key_of(i);
        if (!disk_cache_get(d, &k, v)) continue;
        vector_of(i, want);
        assert_true(close_to(v, want)); /* never another one's */
        hits++;
    }
    return hits;
}

static disk_cache *reopen(disk_cache *d, const char *space, uint64_t bytes) {
    provider_info i = info_of(space);
    disk_cache_close(d);
    assert_int_equal(disk_cache_open(fs_real(), dir, &i, bytes, &d), OK);
    return d;
}

static void disk_keeps_and_survives(void **state) {
    (void)state;
    float v[DIM];
    char path[96];
    enum { N = 400 };
    disk_cache *d = reopen(NULL, "a/b", 1 << 20);
    for (uint64_t i = 0; i < N; i++) {
        cache_key k = key_of(i);
        vector_of(i, v);
        disk_cache_put(d, &k, v);
    }
    assert_int_equal(found(d, N), N);
    d = reopen(d, "a/b", 1 << 20);
    assert_int_equal(found(d, N), N);
    cache_key k = key_of(7);
    disk_cache_forget(d, &k);
    d = reopen(d, "a/b", 1 << 20);
    assert_false(disk_cache_get(d, &k, v));
    assert_int_equal(found(d, N), N - 1);
    disk_cache_close(d);
    /* Bytes flipped all over: what is damaged is a miss. */
    snprintf(path, sizeof path, "%s/embed-cache", dir);
    FILE *f = fopen(path, "r+b");
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long size = ftell(f);
    for (long at = 4096; at < size; at += 8) {
        fseek(f, at, SEEK_SET);
        int ch = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(ch ^ 0x55, f);
    }
    fclose(f);
    d = reopen(NULL, "a/b", 1 << 20);
    assert_true(found(d, N) < 10);
    /* Cut: what is behind the end is empty. */
    disk_cache_close(d);
    assert_int_equal(truncate(path, 5000), 0);
    d = reopen(NULL, "a/b", 1 << 20);
    assert_int_equal(found(d, N), 0);
    vector_of(1, v);
    k = key_of(1);
    disk_cache_put(d, &k, v);
    assert_int_equal(found(d, N), 1);
    /* Another space's file is not ours. */
    d = reopen(d, "a/c", 1 << 20);
    assert_int_equal(found(d, N), 0);
    disk_cache_close(d);
}

static void disk_is_bounded(void **state) {
    (void)state;
    float v[DIM];
    enum { BYTES = 20000 };
    disk_cache *d = reopen(NULL, "bound", BYTES);
    for (uint64_t i = 0; i < 5000; i++) {
        cache_key k = key_of(i);
        vector_of(i, v);
        disk_cache_put(d, &k, v);
    }
    uint64_t hits = found(d, 5000);
    assert_in_range(hits, BYTES / (24 + DIM * 2) / 2, BYTES / (24 + DIM * 2));
    char path[96];
    snprintf(path, sizeof path, "%s/embed-cache", dir);
    FILE *f = fopen(path, "rb");
    fseek(f, 0, SEEK_END);
    assert_true(ftell(f) <= BYTES + 4096);
    fclose(f);
    disk_cache_close(d);
}

static void a_full_or_broken_disk_is_only_a_miss(void **state) {
    (void)state;
    fs *bad;
    float v[DIM];
    provider_info i = info_of("bad");
    assert_int_equal(fs_fault_open(fs_real(), &bad), OK);
    for (uint64_t n = 1; n < 12; n++) {
        disk_cache *d;
        fs_fault_plan(bad, (fault_plan){.kinds = FAULT_ALL, .nth = n, .code = ERR_NO_SPACE});
        if (disk_cache_open(bad, dir, &i, 1 << 16, &d) != OK) continue;
        for (uint64_t k = 0; k < 4; k++) {
            cache_key key = key_of(k);
            vector_of(k, v);
            disk_cache_put(d, &key, v);
        }
        assert_true(found(d, 4) >= 2);
        disk_cache_close(d);
    }
    fs_fault_close(bad);
}

static void keys_of_texts(void **state) {
    (void)state;
    provider_info a = info_of("a"), b = info_of("b");
    static const struct {
        const char *x, *y;
        bool same;
    } t[] = {{"hello world", " hello \n\tworld ", true},
             {"hello world", "helloworld", false},
             {"", "  ", true},
             {"a", "A", false},
             {"a b", "a b", true},
             {"ab c", "a bc", false}};
    for (size_t i = 0; i < COUNT_OF(t); i++) {
        cache_key x = cache_key_of(&a, EMBED_QUERY, str_of(t[i].x));
        cache_key y = cache_key_of(&a, EMBED_DOCUMENT, str_of(t[i].y));
        cache_key z = cache_key_of(&b, EMBED_QUERY, str_of(t[i].x));
        assert_int_equal(memcmp(&x, &y, sizeof x) == 0, t[i].same);
        assert_true(memcmp(&x, &z, sizeof x) != 0);
    }
    a.sided = true;
    cache_key x = cache_key_of(&a, EMBED_QUERY, STR("a")),
              y = cache_key_of(&a, EMBED_DOCUMENT, STR("a"));
    assert_true(memcmp(&x, &y, sizeof x) != 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_under_random_work),
        cmocka_unit_test(a_flood_does_not_push_out_what_is_used),
        cmocka_unit_test_setup_teardown(disk_keeps_and_survives, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(disk_is_bounded, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(a_full_or_broken_disk_is_only_a_miss, make_dir, drop_dir),
        cmocka_unit_test(keys_of_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
