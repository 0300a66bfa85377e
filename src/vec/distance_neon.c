/* distance_neon: the kernels for Arm's 128-bit vectors (64-bit Arm: always there).
 *
 * Floating sums, comparisons and half precision are distance_simd.h's. Two tables: plain, and with the
 * int8 dot products of Armv8.2 (sdot), which do in one instruction what takes a widening multiply and a
 * pairwise addition without.
 *
 * Codes without sdot: a nibble is at most 15, so its products with int8 are at most 1,905 and a lane of
 * int16 takes the two of each of the eight 16-byte blocks of a record, 30,480 in all, from low nibbles and
 * as many from high ones in a register of their own.
 *
 * No processor of this kind is needed to test it: tests/portable runs everything under an emulator.
 */
#include "vec/codes.h"
#include "vec/distance_int.h"

#if defined(__aarch64__)
#include "vec/simd_neon.h"

#define DOT __attribute__((target("arch=armv8.2-a+dotprod")))

#define lane_fma V_FMA
V_INLINE V lane_load_f16(const f16 *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
#define lane_abs vabsq_f32
V_INLINE float lane_sum(V v) {
    float32x2_t half = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(half, 0) + vget_lane_f32(half, 1);
}
/* A bit for each lane that is all ones. */
V_INLINE unsigned mask_of(uint32x4_t m) {
    static const uint32_t bits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(m, vld1q_u32(bits)));
}
V_INLINE unsigned lane_above(V a, V b) {
    return mask_of(vcgtq_f32(a, b));
}
V_INLINE unsigned lane_not_least(V a, V b) {
    return mask_of(vmvnq_u32(vcgeq_f32(a, b)));
}
#include "vec/distance_simd.h"

static int32_t neon_dot_i8(const int8_t *a, const int8_t *b, size_t n) {
    int32x4_t s = vdupq_n_s32(0);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        int8x16_t x = vld1q_s8(a + i), y = vld1q_s8(b + i);
        s = vpadalq_s16(s, vmull_s8(vget_low_s8(x), vget_low_s8(y)));
        s = vpadalq_s16(s, vmull_high_s8(x, y));
    }
    int32_t sum = vaddvq_s32(s);
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

DOT static int32_t neon_dot_dot_i8(const int8_t *a, const int8_t *b, size_t n) {
    int32x4_t s = vdupq_n_s32(0);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) s = vdotq_s32(s, vld1q_s8(a + i), vld1q_s8(b + i));
    int32_t sum = vaddvq_s32(s);
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void neon_f16_from_f32(f16 *to, const float *from, size_t n) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1_u16(to + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(from + i))));
    if (i < n) {
        float x[4] = {0};
        f16 h[4];
        memcpy(x, from + i, (n - i) * sizeof *x);
        vst1_u16(h, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x))));
        memcpy(to + i, h, (n - i) * sizeof *h);
    }
}

/* The sum of one row; cols is a multiple of 32. */
V_INLINE int32_t row_sum(const int8_t *m, size_t cols, const int16_t *x) {
    int32x4_t s0 = vdupq_n_s32(0), s1 = s0;
    for (size_t c = 0; c < cols; c += 16) {
        int8x16_t w = vld1q_s8(m + c);
        int16x8_t low = vmovl_s8(vget_low_s8(w)), high = vmovl_high_s8(w);
        int16x8_t x0 = vld1q_s16(x + c), x1 = vld1q_s16(x + c + 8);
        s0 = vmlal_s16(s0, vget_low_s16(low), vget_low_s16(x0));
        s1 = vmlal_high_s16(s1, low, x0);
        s0 = vmlal_s16(s0, vget_low_s16(high), vget_low_s16(x1));
        s1 = vmlal_high_s16(s1, high, x1);
    }
    return vaddvq_s32(vaddq_s32(s0, s1));
}

static void neon_matvec_i8(const int8_t *m, size_t rows, size_t cols, const int16_t *x,
                           const float *scale, float f, float *y) {
    for (size_t r = 0; r < rows; r++) y[r] = (float)row_sum(m + r * cols, cols, x) * (scale[r] * f);
}

static void neon_round_i16(int16_t *to, const float *x, float scale, size_t n) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1_s16(to + i, vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), scale))));
    for (; i < n; i++) to[i] = (int16_t)vcvtns_s32_f32(x[i] * scale);
}

static int32_t neon_round_i8(int8_t *to, const float *x, float scale, size_t n) {
    int32x4_t sum = vdupq_n_s32(0);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), scale));
        int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), scale));
        sum = vaddq_s32(sum, vaddq_s32(a, b));
        vst1_s8(to + i, vmovn_s16(vcombine_s16(vmovn_s32(a), vmovn_s32(b))));
    }
    int32_t total = vaddvq_s32(sum);
    for (; i < n; i++) {
        to[i] = (int8_t)vcvtns_s32_f32(x[i] * scale);
        total += to[i];
    }
    return total;
}

/* ---- codes ---- */

static uint32_t neon_codes_expand(const uint8_t *record, size_t stride, int8_t *low, int8_t *high) {
    const uint8x16_t nibble = vdupq_n_u8(15);
    const int8x16_t fifteen = vdupq_n_s8(15);
    uint32_t sum = 0;
    for (size_t i = 0; i < stride; i += 16) {
        uint8x16_t c = vld1q_u8(record + i);
        uint8x16_t l = vandq_u8(c, nibble), h = vshrq_n_u8(c, 4);
        sum += vaddlvq_u8(vaddq_u8(l, h));
        int8x16_t ls = vreinterpretq_s8_u8(l), hs = vreinterpretq_s8_u8(h);
        vst1q_s8(low + i, vsubq_s8(vaddq_s8(ls, ls), fifteen));
        vst1q_s8(high + i, vsubq_s8(vaddq_s8(hs, hs), fifteen));
    }
    return sum;
}

static void neon_codes_score(const codes_query *q, const uint8_t *const *codes, size_t n,
                             float *out) {
    for (size_t i = 0; i < n; i++) {
        int16x8_t a = vdupq_n_s16(0), b = a;
        for (size_t j = 0; j < q->stride; j += 16) {
            uint8x16_t c = vld1q_u8(codes[i] + j);
            int8x16_t l = vreinterpretq_s8_u8(vandq_u8(c, vdupq_n_u8(15)));
            int8x16_t h = vreinterpretq_s8_u8(vshrq_n_u8(c, 4));
            int8x16_t ql = vld1q_s8(q->low + j), qh = vld1q_s8(q->high + j);
            a = vmlal_s8(a, vget_low_s8(l), vget_low_s8(ql));
            a = vmlal_high_s8(a, l, ql);
            b = vmlal_s8(b, vget_low_s8(h), vget_low_s8(qh));
            b = vmlal_high_s8(b, h, qh);
        }
        out[i] = code_score(q, codes[i], vaddlvq_s16(a) + vaddlvq_s16(b));
    }
}

DOT static void neon_dot_codes_score(const codes_query *q, const uint8_t *const *codes, size_t n,
                                     float *out) {
    for (size_t i = 0; i < n; i++) {
        int32x4_t a = vdupq_n_s32(0), b = a;
        for (size_t j = 0; j < q->stride; j += 16) {
            uint8x16_t c = vld1q_u8(codes[i] + j);
            int8x16_t l = vreinterpretq_s8_u8(vandq_u8(c, vdupq_n_u8(15)));
            int8x16_t h = vreinterpretq_s8_u8(vshrq_n_u8(c, 4));
            a = vdotq_s32(a, l, vld1q_s8(q->low + j));
            b = vdotq_s32(b, h, vld1q_s8(q->high + j));
        }
        out[i] = code_score(q, codes[i], vaddvq_s32(vaddq_s32(a, b)));
    }
}

#define TABLE(dot, codes)                                                                   \
    {                                                                                       \
        .dot_f32 = simd_dot_f32, .dot_f16 = simd_dot_f16, .dot_i8 = dot, .axpy = simd_axpy, \
        .f16_from_f32 = neon_f16_from_f32, .f32_from_f16 = simd_f32_from_f16,               \
        .matvec_i8 = neon_matvec_i8, .max_abs = simd_max_abs, .round_i16 = neon_round_i16,  \
        .round_i8 = neon_round_i8, .insert = simd_insert, .above = simd_above,              \
        .codes_expand = neon_codes_expand, .codes_score = codes,                            \
    }
static const vec_kernels table = TABLE(neon_dot_i8, neon_codes_score);
static const vec_kernels dot_table = TABLE(neon_dot_dot_i8, neon_dot_codes_score);

const vec_kernels *distance_neon_table(void) {
    return &table;
}
const vec_kernels *distance_neon_dot_table(void) {
    return &dot_table;
}
#else
const vec_kernels *distance_neon_table(void) {
    return NULL;
}
const vec_kernels *distance_neon_dot_table(void) {
    return NULL;
}
#endif
