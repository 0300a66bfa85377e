/* Every tier's kernels against the scalar ones, on random input of all the sizes that matter, and
 * on buffers of the exact size, so that a read or write beyond shows under a sanitizer. */
#include "vec/cpu.h"
#include "vec/postings_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const postings_kernels *best(void) {
    return postings_kernels_get();
}

static void test_masks(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 1);
    uint32_t u[64];
    int64_t t[64];
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < 64; i++) {
            u[i] = rng_below(&r, 4) | (rng_below(&r, 3) ? 0 : 0xfffffff0u);
            t[i] = (int64_t)rng_below(&r, 5) - 2;
            if (rng_below(&r, 9) == 0) t[i] = rng_below(&r, 2) ? INT64_MIN : INT64_MAX;
        }
        uint32_t v = u[rng_below(&r, 64)], m = (uint32_t)rng_u64(&r) | 3;
        int64_t x = t[rng_below(&r, 64)];
        assert_true(best()->equal_u32(u, v) == postings_scalar.equal_u32(u, v));
        assert_true(best()->masked_equal_u32(u, m, v & m) ==
                    postings_scalar.masked_equal_u32(u, m, v & m));
        assert_true(best()->less_i64(t, x) == postings_scalar.less_i64(t, x));
    }
}

static void test_count_terms(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 2);
    for (uint32_t n = 0; n <= 1025; n++) {
        uint32_t *tokens = mem_alloc(n * 4 + 1), terms[9], want[9], got[9];
        for (uint32_t i = 0; i < n; i++)
            tokens[i] = rng_below(&r, 12) | (rng_below(&r, 2) ? POSTINGS_ALT : 0);
        for (int i = 0; i < 9; i++) terms[i] = rng_below(&r, 14);
        terms[8] = POSTINGS_ID; /* the largest there can be */
        postings_scalar.count_terms(tokens, n, terms, 9, want);
        best()->count_terms(tokens, n, terms, 9, got);
        assert_memory_equal(want, got, sizeof want);
        mem_free(tokens);
    }
}

static void test_unpack(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 3);
    for (uint32_t width = 0; width <= 25; width++)
        for (uint32_t n = 0; n <= 260; n++) {
            uint32_t size = (n * width + 7) / 8 + rng_below(&r, n + 1), want[280], got[280];
            uint8_t *p = mem_alloc(size + !size);
            for (uint32_t i = 0; i < size; i++)
                p[i] = (uint8_t)(rng_u64(&r) & (n % 3 ? rng_u64(&r) : 255));
            postings_scalar.unpack(p, size, width, 12345, n, want);
            best()->unpack(p, size, width, 12345, n, got);
            assert_memory_equal(want, got, (n + 1) * sizeof *want);
            mem_free(p);
        }
}

/* The scalar unpack is the definition: numbers put bit by bit come back. */
static void test_unpack_definition(void **state) {
    (void)state;
    /* Lows of 3 bits 1, 6, 6, 1; highs 0, 0, 2, 5: set bits 0, 1, 4, 8. */
    const uint8_t p[] = {0xb1, 0x03, 0x13, 0x01};
    uint32_t out[16];
    postings_scalar.unpack(p, 4, 3, 100, 4, out);
    const uint32_t want[] = {100, 102, 108, 125, 145};
    assert_memory_equal(out, want, sizeof want);
}

static void test_bitmaps(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 4);
    enum { WORDS = 128 };
    for (int round = 0; round < 300; round++) {
        uint64_t a[WORDS], b[WORDS], c[WORDS], to[2][WORDS];
        uint16_t sums[2][WORDS * 64], found[2][WORDS * 64];
        uint32_t words = 4 * (1 + rng_below(&r, WORDS / 4)), bits[256];
        for (uint32_t i = 0; i < words; i++) {
            a[i] = rng_u64(&r) & rng_u64(&r);
            b[i] = rng_u64(&r);
            c[i] = rng_u64(&r);
            to[0][i] = to[1][i] = rng_u64(&r) & rng_u64(&r) & rng_u64(&r);
        }
        const uint64_t *planes[] = {a, b, c};
        uint32_t n = 1 + rng_below(&r, 3);
        postings_scalar.or_product(to[0], planes, n, words);
        best()->or_product(to[1], planes, n, words);
        assert_memory_equal(to[0], to[1], words * 8);
        for (uint32_t i = 0; i < words * 64; i++)
            sums[0][i] = sums[1][i] = (uint16_t)rng_below(&r, 50000);
        memcpy(bits, a, words * 8);
        uint16_t add = (uint16_t)rng_below(&r, 15000);
        postings_scalar.add_bits(bits, words * 2, add, sums[0]);
        best()->add_bits(bits, words * 2, add, sums[1]);
        assert_memory_equal(sums[0], sums[1], words * 128);
        uint16_t least = (uint16_t)rng_below(&r, 65536);
        uint32_t k = postings_scalar.collect(sums[0], words * 64, least, found[0]);
        assert_int_equal(best()->collect(sums[0], words * 64, least, found[1]), k);
        assert_memory_equal(found[0], found[1], k * sizeof(uint16_t));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks),   cmocka_unit_test(test_count_terms),
        cmocka_unit_test(test_unpack),  cmocka_unit_test(test_unpack_definition),
        cmocka_unit_test(test_bitmaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
