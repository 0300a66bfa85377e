/* distance_test: every tier against the scalar kernels, which are the specification: equal bits for all
 * lengths 1 to 1025 and for odd alignments, and on denormals, infinities and NaN. The scalar kernels
 * themselves are held against long double sums and against known values.
 */
#include "vec/distance.h"
#include "vec/codes.h"
#include "vec/cpu.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define N_MAX 1025
#define SHIFT 5 /* odd alignments: rows start 0 to SHIFT - 1 elements into their buffers */

static float a32[N_MAX + SHIFT], b32[N_MAX + SHIFT];
static f16 a16[N_MAX + SHIFT];
static int8_t a8[N_MAX + SHIFT], b8[N_MAX + SHIFT];

static void fill(uint64_t seed) {
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < N_MAX + SHIFT; i++) {
        a32[i] = rng_normal(&r);
        b32[i] = rng_normal(&r) * 1e-3f;
        a16[i] = (f16)(rng_u64(&r) & 0xbbffu); /* any finite half, denormals too */
        a8[i] = (int8_t)rng_u64(&r);
        b8[i] = (int8_t)rng_u64(&r);
    }
}

static bool same_float(float x, float y) {
    return (isnan(x) && isnan(y)) || x == y;
}

static void tiers_equal_scalar(void **state) {
    (void)state;
    const vec_kernels *s = vec_kernels_tier(VEC_SCALAR);
    fill(1);
    int tiers = 0;
    for (int t = VEC_AVX2; t < VEC_TIERS; t++) {
        const vec_kernels *k = vec_kernels_tier(t);
        if (!k) continue;
        tiers++;
        for (size_t n = 0; n <= N_MAX; n++) {
            size_t x = n % SHIFT, y = (n / SHIFT) % SHIFT;
            assert_true(
                same_float(k->dot_f32(a32 + x, b32 + y, n), s->dot_f32(a32 + x, b32 + y, n)));
            assert_true(
                same_float(k->dot_f16(a16 + x, b32 + y, n), s->dot_f16(a16 + x, b32 + y, n)));
            assert_int_equal(k->dot_i8(a8 + x, b8 + y, n), s->dot_i8(a8 + x, b8 + y, n));
        }
    }
    if (!tiers) print_message("no SIMD tier here (%s): nothing to compare\n", cpu_tier_name());
}

static void axpy_and_above_equal_scalar(void **state) {
    (void)state;
    const vec_kernels *s = vec_kernels_tier(VEC_SCALAR);
    for (int t = VEC_AVX2; t < VEC_TIERS; t++) {
        const vec_kernels *k = vec_kernels_tier(t);
        if (!k) continue;
        for (size_t n = 0; n <= N_MAX; n++) {
            float y1[N_MAX + 1], y2[N_MAX + 1];
            uint16_t i1[N_MAX + 1], i2[N_MAX + 1];
            fill(n);
            memcpy(y1, b32, sizeof y1);
            memcpy(y2, b32, sizeof y2);
            s->axpy(y1, 0.37f, a32 + n % SHIFT, n);
            k->axpy(y2, 0.37f, a32 + n % SHIFT, n);
            assert_memory_equal(y1, y2, sizeof y1); /* nothing past n is touched either */
            a32[n / 2] = NAN;
            size_t c1 = s->above(a32, n, 0.2f, i1), c2 = k->above(a32, n, 0.2f, i2);
            assert_int_equal(c1, c2);
            assert_memory_equal(i1, i2, c1 * sizeof *i1);
        }
    }
}

static float from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static void halves_convert(void **state) {
    (void)state;
    const vec_kernels *s = vec_kernels_tier(VEC_SCALAR);
    static f16 all[65536], back[65536], other[65536];
    static float wide[65536], wide1[65536], wide2[65536];
    for (size_t i = 0; i < 65536; i++) all[i] = (f16)i;
    s->f32_from_f16(wide, all, 65536);
    s->f16_from_f32(back, wide, 65536);
    assert_true(wide[0x3c00] == 1.0f && wide[1] == 0x1p-24f && wide[0x7bff] == 65504.0f);
    for (size_t i = 0; i < 65536; i++) {
        bool nan = (i & 0x7c00) == 0x7c00 && (i & 0x3ff);
        assert_int_equal(back[i], nan ? (i | 0x200) : i);
    }
    static const float edges[] = {65519.9f,   65520.0f, -65520.0f,    1e30f,       INFINITY,
                                  -INFINITY,  NAN,      0x1p-25f,     0x1.8p-25f,  0x1p-24f,
                                  0x1.8p-24f, 0x1p-14f, 0x1.ffcp-15f, 2049.0f,     2051.0f,
                                  -0.0f,      1e-40f,   0x1.ffep-15f, 0x1.fffp-15f};
    rng r;
    rng_seed(&r, 3);
    for (size_t i = 0; i < 65536; i++)
        wide[i] = i < COUNT_OF(edges) ? edges[i] : from_bits((uint32_t)rng_u64(&r));
    s->f16_from_f32(back, wide, 65536);
    assert_int_equal(back[0], 0x7bff);
    assert_int_equal(back[1], 0x7c00);
    assert_int_equal(back[7], 0); /* halfway goes to even */
    assert_int_equal(back[8], 1);
    for (int t = VEC_AVX2; t < VEC_TIERS; t++) {
        const vec_kernels *k = vec_kernels_tier(t);
        if (!k) continue;
        for (size_t n = 0; n < 70; n++) {
            memset(other, 0x55, sizeof other);
            k->f16_from_f32(other, wide, n);
            assert_memory_equal(other, back, n * sizeof *other);
            assert_int_equal(other[n], 0x5555);
        }
        k->f16_from_f32(other, wide, 65536);
        assert_memory_equal(other, back, sizeof back);
        s->f32_from_f16(wide1, all, 65536 - 3);
        k->f32_from_f16(wide2, all, 65536 - 3);
        assert_memory_equal(wide1, wide2, (65536 - 3) * sizeof(float));
    }
}

/* One kernel of a tier beside the scalar one on n elements with specials among them. */
static void check_specials(const vec_kernels *k, const vec_kernels *s, size_t n) {
    static float y1[N_MAX], y2[N_MAX];
    static f16 h1[N_MAX], h2[N_MAX];
    static uint16_t i1[N_MAX], i2[N_MAX];
    assert_true(same_float(k->dot_f32(a32, b32, n), s->dot_f32(a32, b32, n)));
    assert_true(same_float(k->dot_f16(a16, b32, n), s->dot_f16(a16, b32, n)));
    memcpy(y1, b32, n * sizeof *y1);
    memcpy(y2, b32, n * sizeof *y2);
    s->axpy(y1, 0.37f, a32, n);
    k->axpy(y2, 0.37f, a32, n);
    for (size_t i = 0; i < n; i++) assert_true(same_float(y1[i], y2[i]));
    s->f16_from_f32(h1, a32, n);
    k->f16_from_f32(h2, a32, n);
    assert_memory_equal(h1, h2, n * sizeof *h1);
    s->f32_from_f16(y1, a16, n);
    k->f32_from_f16(y2, a16, n);
    assert_memory_equal(y1, y2, n * sizeof *y1);
    size_t above = s->above(a32, n, -0.1f, i1);
    assert_int_equal(k->above(a32, n, -0.1f, i2), above);
    assert_memory_equal(i1, i2, above * sizeof *i1);
}

static void specials_are_equal(void **state) {
    (void)state;
    const vec_kernels *s = vec_kernels_tier(VEC_SCALAR);
    static const float special[] = {NAN, INFINITY, -INFINITY, 1e-42f, -1e-45f, 3e38f, 0.0f};
    for (int t = VEC_AVX2; t < VEC_TIERS; t++) {
        const vec_kernels *k = vec_kernels_tier(t);
        if (!k) continue;
        for (size_t n = 1; n <= N_MAX; n++) {
            fill(n);
            a32[n - 1] = special[n % COUNT_OF(special)];
            a32[n / 2] = special[n / COUNT_OF(special) % COUNT_OF(special)];
            a16[n / 2] = (f16)(n & 1 ? 0x7c00 : 0x7e01);
            check_specials(k, s, n);
            for (size_t i = 0; i < n; i++) a32[i] *= 1e-38f, b32[i] *= 1e-3f; /* denormal sums */
            check_specials(k, s, n);
            a32[n - 1] = a32[n / 2] = INFINITY;
            check_specials(k, s, n);
        }
    }
}

/* A new kernel must come to every tier. */
static void tables_are_whole(void **state) {
    (void)state;
    for (int t = VEC_SCALAR; t < VEC_TIERS; t++) {
        const vec_kernels *k = vec_kernels_tier(t);
        void (*entry[sizeof *k / sizeof(void (*)(void))])(void);
        if (!k) continue;
        memcpy(entry, k, sizeof *k);
        for (size_t i = 0; i < COUNT_OF(entry); i++) assert_true(entry[i] != NULL);
    }
}

static void scalar_is_right(void **state) {
    (void)state;
    const vec_kernels *s = vec_kernels_tier(VEC_SCALAR);
    fill(9);
    for (size_t n = 1; n <= N_MAX; n += 17) {
        long double sum = 0;
        long whole = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (long double)a32[i] * b32[i];
            whole += a8[i] * b8[i];
        }
        assert_true(fabsl(sum - s->dot_f32(a32, b32, n)) < 1e-5L);
        assert_int_equal(whole, s->dot_i8(a8, b8, n));
    }
}

static void matvec_equals_scalar(void **state) {
    (void)state;
    const vec_kernels *s = vec_kernels_tier(VEC_SCALAR);
    static int8_t m[7 * 1024];
    static int16_t x[1024];
    rng r;
    rng_seed(&r, 4);
    for (size_t i = 0; i < COUNT_OF(m); i++) m[i] = (int8_t)rng_u64(&r);
    for (size_t i = 0; i < COUNT_OF(x); i++) x[i] = (int16_t)((int)rng_below(&r, 4001) - 2000);
    for (int t = VEC_AVX2; t < VEC_TIERS; t++) {
        const vec_kernels *k = vec_kernels_tier(t);
        if (!k) continue;
        for (size_t cols = 32; cols <= 1024; cols += 32) {
            static const float scale[7] = {1, 0.1f, 3e-3f, 7, 0.3f, 0.7f, 11};
            float y1[7], y2[7];
            s->matvec_i8(m, 7, cols, x, scale, 0.37f, y1);
            k->matvec_i8(m, 7, cols, x, scale, 0.37f, y2);
            assert_memory_equal(y1, y2, sizeof y1);
        }
    }
}

static void rounding_equals_scalar(void **state) {
    (void)state;
    const vec_kernels *s = vec_kernels_tier(VEC_SCALAR);
    for (int t = VEC_AVX2; t < VEC_TIERS; t++) {
        const vec_kernels *k = vec_kernels_tier(t);
        if (!k) continue;
        for (size_t n = 0; n <= N_MAX; n++) {
            int16_t w1[N_MAX] = {0}, w2[N_MAX] = {0};
            int8_t b1[N_MAX] = {0}, b2[N_MAX] = {0};
            const float *x = a32 + n % SHIFT;
            fill(n);
            if (n > 4) a32[4] = 2.5f, a32[n - 1] = -3.5f; /* ties, at scale 1 */
            float most = s->max_abs(x, n), scale = n % 3 || most == 0 ? 1.0f : 127.0f / most;
            assert_true(k->max_abs(x, n) == most);
            s->round_i16(w1, x, scale * 100, n);
            k->round_i16(w2, x, scale * 100, n);
            assert_memory_equal(w1, w2, sizeof w1);
            assert_int_equal(s->round_i8(b1, x, scale, n), k->round_i8(b2, x, scale, n));
            assert_memory_equal(b1, b2, sizeof b1);
        }
    }
}

static void insert_equals_scalar(void **state) {
    (void)state;
    const vec_kernels *s = vec_kernels_tier(VEC_SCALAR);
    for (int t = VEC_AVX2; t < VEC_TIERS; t++) {
        const vec_kernels *k = vec_kernels_tier(t);
        if (!k) continue;
        float f1[400 + 16] = {0}, f2[400 + 16] = {0};
        uint32_t i1[400 + 16] = {0}, i2[400 + 16] = {0};
        rng r;
        rng_seed(&r, 11);
        for (uint32_t n = 0; n < 400; n++) {
            float score = (float)rng_below(&r, 60) - 30.0f; /* many ties */
            size_t p1 = s->insert(f1, i1, n, score, n), p2 = k->insert(f2, i2, n, score, n);
            assert_int_equal(p1, p2);
            assert_memory_equal(f1, f2, (n + 1) * sizeof *f1);
            assert_memory_equal(i1, i2, (n + 1) * sizeof *i1);
            for (size_t i = 1; i <= n; i++) assert_true(f1[i - 1] >= f1[i]);
        }
    }
}

static void best_is_the_highest(void **state) {
    (void)state;
    for (int t = VEC_TIERS - 1; t >= 0; t--) {
        if (!vec_kernels_tier(t)) continue;
        assert_ptr_equal(vec_best, vec_kernels_tier(t));
        return;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_is_right),        cmocka_unit_test(tiers_equal_scalar),
        cmocka_unit_test(specials_are_equal),     cmocka_unit_test(axpy_and_above_equal_scalar),
        cmocka_unit_test(halves_convert),         cmocka_unit_test(matvec_equals_scalar),
        cmocka_unit_test(rounding_equals_scalar), cmocka_unit_test(insert_equals_scalar),
        cmocka_unit_test(best_is_the_highest),    cmocka_unit_test(tables_are_whole),
    };
    return cmocka_run_group_tests_name("vec_distance", tests, NULL, NULL);
}
