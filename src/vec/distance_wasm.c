/* distance_wasm: the kernels for WebAssembly's 128-bit vectors.
 *
 * WebAssembly has no fused multiply-add (its relaxed one may or may not fuse), yet sums must have the
 * same bits as everywhere. So each step is done in double precision: a product of two floats is exact
 * there, and its sum with the lane is rounded to odd, after which rounding to single precision gives what
 * one rounding would have given (Boldo and Melquiond 2008: 53 >= 24 + 2 bits). It costs about a dozen
 * instructions for two lanes; the walk through the graph scores codes, which are integers and at full
 * speed, and meets floats only when it re-ranks.
 *
 * To half precision is the scalar kernel's work: only writers need it. Sums, comparisons and widening are
 * distance_simd.h's. There is no finding out at run time: a module that holds these instructions loads
 * only where they exist.
 */
#include "vec/codes.h"
#include "vec/distance_int.h"

#if defined(__wasm_simd128__)
#include "vec/simd_wasm.h"

/* p + c to odd: the sum, moved to its odd neighbour on the side of the error when it was not exact. */
V_INLINE v128_t add_to_odd(v128_t p, v128_t c) {
    const v128_t zero = wasm_f64x2_splat(0), one = wasm_i64x2_splat(1);
    v128_t s = wasm_f64x2_add(p, c), back = wasm_f64x2_sub(s, p);
    v128_t error = wasm_f64x2_add(wasm_f64x2_sub(p, wasm_f64x2_sub(s, back)),
                                  wasm_f64x2_sub(c, back)); /* Knuth's two-sum; NaN at infinity */
    v128_t inexact = wasm_v128_or(wasm_f64x2_gt(error, zero), wasm_f64x2_lt(error, zero));
    v128_t odd = wasm_i64x2_neg(wasm_v128_and(s, one));
    v128_t away = wasm_v128_or(wasm_i64x2_shr(wasm_v128_xor(s, error), 63), one); /* 1 or -1 */
    return wasm_i64x2_add(s, wasm_v128_and(away, wasm_v128_andnot(inexact, odd)));
}

V_INLINE v128_t fma_half(v128_t a, v128_t b, v128_t c) { /* of the low two lanes */
    v128_t p = wasm_f64x2_mul(wasm_f64x2_promote_low_f32x4(a), wasm_f64x2_promote_low_f32x4(b));
    return wasm_f32x4_demote_f64x2_zero(add_to_odd(p, wasm_f64x2_promote_low_f32x4(c)));
}

V_INLINE V lane_fma(V a, V b, V c) {
    v128_t low = fma_half(a, b, c), high = fma_half(v_swap(a), v_swap(b), v_swap(c));
    return wasm_i64x2_shuffle(low, high, 0, 2);
}

/* Four halves: the exponent is put right by a multiplication, which also makes denormals whole. */
V_INLINE V lane_load_f16(const f16 *p) {
    v128_t h = wasm_u32x4_load16x4(p);
    v128_t bits = wasm_i32x4_shl(wasm_v128_and(h, wasm_i32x4_splat(0x7fff)), 13);
    v128_t special = wasm_i32x4_gt(bits, wasm_i32x4_splat((0x7c00 << 13) - 1));
    v128_t nan = wasm_i32x4_gt(bits, wasm_i32x4_splat(0x7c00 << 13));
    v128_t sign = wasm_i32x4_shl(wasm_v128_and(h, wasm_i32x4_splat(0x8000)), 16);
    v128_t f = wasm_f32x4_mul(bits, wasm_f32x4_splat(0x1p112f));
    f = wasm_v128_or(f, wasm_v128_and(special, wasm_i32x4_splat(0x7f800000)));
    f = wasm_v128_or(f, wasm_v128_and(nan, wasm_i32x4_splat(0x400000)));
    return wasm_v128_or(f, sign);
}

#define lane_abs wasm_f32x4_abs
#define lane_sum v_sum
V_INLINE unsigned lane_above(V a, V b) {
    return wasm_i32x4_bitmask(wasm_f32x4_gt(a, b));
}
V_INLINE unsigned lane_not_least(V a, V b) {
    return wasm_i32x4_bitmask(wasm_f32x4_ge(a, b)) ^ 15u;
}
#include "vec/distance_simd.h"

V_INLINE int32_t sum_i32(v128_t v) {
    return wasm_i32x4_extract_lane(v, 0) + wasm_i32x4_extract_lane(v, 1) +
           wasm_i32x4_extract_lane(v, 2) + wasm_i32x4_extract_lane(v, 3);
}

static int32_t wasm_dot_i8(const int8_t *a, const int8_t *b, size_t n) {
    v128_t s = wasm_i32x4_splat(0);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        s = wasm_i32x4_add(
            s, wasm_i32x4_dot_i16x8(wasm_i16x8_load8x8(a + i), wasm_i16x8_load8x8(b + i)));
    int32_t sum = sum_i32(s);
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void wasm_matvec_i8(const int8_t *m, size_t rows, size_t cols, const int16_t *x,
                           const float *scale, float f, float *y) {
    for (size_t r = 0; r < rows; r++) {
        v128_t s = wasm_i32x4_splat(0);
        for (size_t c = 0; c < cols; c += 8)
            s = wasm_i32x4_add(s, wasm_i32x4_dot_i16x8(wasm_i16x8_load8x8(m + r * cols + c),
                                                       wasm_v128_load(x + c)));
        y[r] = (float)sum_i32(s) * (scale[r] * f);
    }
}

/* To the nearest, ties to even, of up to eight floats: the rest are zero. */
V_INLINE v128_t round_eight(const float *x, float scale, size_t n) {
    float part[8] = {0};
    if (n < 8) {
        memcpy(part, x, n * sizeof *x);
        x = part;
    }
    v128_t f = wasm_f32x4_splat(scale);
    v128_t a = wasm_f32x4_nearest(wasm_f32x4_mul(wasm_v128_load(x), f));
    v128_t b = wasm_f32x4_nearest(wasm_f32x4_mul(wasm_v128_load(x + 4), f));
    return wasm_i16x8_narrow_i32x4(wasm_i32x4_trunc_sat_f32x4(a), wasm_i32x4_trunc_sat_f32x4(b));
}

static void wasm_round_i16(int16_t *to, const float *x, float scale, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        v128_t v = round_eight(x + i, scale, MIN(n - i, 8));
        memcpy(to + i, &v, MIN(n - i, 8) * sizeof *to);
    }
}

static int32_t wasm_round_i8(int8_t *to, const float *x, float scale, size_t n) {
    v128_t sum = wasm_i32x4_splat(0), ones = wasm_i16x8_splat(1);
    for (size_t i = 0; i < n; i += 8) {
        v128_t v = round_eight(x + i, scale, MIN(n - i, 8));
        sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(v, ones));
        v = wasm_i8x16_narrow_i16x8(v, v);
        memcpy(to + i, &v, MIN(n - i, 8));
    }
    return sum_i32(sum);
}

/* ---- codes ---- */

static uint32_t wasm_codes_expand(const uint8_t *record, size_t stride, int8_t *low, int8_t *high) {
    const v128_t fifteen = wasm_i8x16_splat(15);
    v128_t sum = wasm_i32x4_splat(0);
    for (size_t i = 0; i < stride; i += 16) {
        v128_t c = wasm_v128_load(record + i);
        v128_t l = wasm_v128_and(c, fifteen), h = wasm_u8x16_shr(c, 4);
        v128_t pairs = wasm_u16x8_extadd_pairwise_u8x16(wasm_i8x16_add(l, h));
        sum = wasm_i32x4_add(sum, wasm_u32x4_extadd_pairwise_u16x8(pairs));
        wasm_v128_store(low + i, wasm_i8x16_sub(wasm_i8x16_add(l, l), fifteen));
        wasm_v128_store(high + i, wasm_i8x16_sub(wasm_i8x16_add(h, h), fifteen));
    }
    return (uint32_t)sum_i32(sum);
}

/* Products of sixteen nibbles, pairwise: at most 2 * 15 * 127 each, 30,480 for a record's eight. */
V_INLINE v128_t block_sums(v128_t nibbles, const int8_t *q) {
    v128_t y = wasm_v128_load(q);
    v128_t low = wasm_i16x8_extmul_low_i8x16(nibbles, y);
    return wasm_i16x8_add(low, wasm_i16x8_extmul_high_i8x16(nibbles, y));
}

static void wasm_codes_score(const codes_query *q, const uint8_t *const *codes, size_t n,
                             float *out) {
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = codes[i];
        v128_t a = wasm_i16x8_splat(0), b = a;
        for (size_t j = 0; j < q->stride; j += 16) {
            v128_t c = wasm_v128_load(code + j);
            a = wasm_i16x8_add(a, block_sums(wasm_v128_and(c, wasm_i8x16_splat(15)), q->low + j));
            b = wasm_i16x8_add(b, block_sums(wasm_u8x16_shr(c, 4), q->high + j));
        }
        v128_t sums = wasm_i32x4_add(wasm_i32x4_extadd_pairwise_i16x8(a),
                                     wasm_i32x4_extadd_pairwise_i16x8(b));
        out[i] = code_score(q, code, sum_i32(sums));
    }
}

static const vec_kernels table = {
    .dot_f32 = simd_dot_f32,
    .dot_f16 = simd_dot_f16,
    .dot_i8 = wasm_dot_i8,
    .axpy = simd_axpy,
    .f16_from_f32 = distance_f16_from_f32,
    .f32_from_f16 = simd_f32_from_f16,
    .matvec_i8 = wasm_matvec_i8,
    .max_abs = simd_max_abs,
    .round_i16 = wasm_round_i16,
    .round_i8 = wasm_round_i8,
    .insert = simd_insert,
    .above = simd_above,
    .codes_expand = wasm_codes_expand,
    .codes_score = wasm_codes_score,
};

const vec_kernels *distance_wasm_table(void) {
    return &table;
}
#else
const vec_kernels *distance_wasm_table(void) {
    return NULL;
}
#endif
