/* distance: the scalar kernels, which define what every kernel computes, and the choice of tier.
 *
 * Invariants
 *  1 Floating sums: 32 lanes by fused multiply-add, then halves are added: see lanes_sum. SIMD tiers
 *    keep this order, so results are equal to the last bit and tests compare with ==.
 *  2 A tail is as if both rows went on with zeros to a multiple of 32; x + 0 * 0 changes no lane.
 *  3 fmaf is the C library's: one instruction where the processor has it, slow and right where not.
 *  4 Half precision rounds to nearest even, keeps denormals; NaN stays NaN (quiet, payload cut).
 * The table pointer is set by a constructor that runs after the one in cpu.c.
 */
#include "vec/distance.h"
#include "vec/codes.h"
#include "vec/cpu.h"
#include "vec/distance_int.h"
#include <math.h>

#define LANES 32

static float lanes_sum(float lane[LANES]) {
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++) lane[i] += lane[half + i];
    return lane[0];
}

static float scalar_dot_f32(const float *a, const float *b, size_t n) {
    float lane[LANES] = {0};
    for (size_t i = 0; i < n; i++) lane[i % LANES] = fmaf(a[i], b[i], lane[i % LANES]);
    return lanes_sum(lane);
}

static float f32_of_f16(f16 h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, bits;
    uint32_t fraction = h & 0x3ffu;
    if (exponent == 31) { /* infinity, or NaN made quiet */
        bits = sign | 0x7f800000u | (fraction << 13) | (fraction ? 0x400000u : 0);
    } else if (exponent) {
        bits = sign | ((exponent + 112) << 23) | (fraction << 13);
    } else {
        float f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static f16 f16_of_f32(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    uint32_t abs = bits & 0x7fffffffu;
    if (abs > 0x7f800000u) return (f16)(sign | 0x7e00u | (abs >> 13 & 0x3ffu));
    if (abs >= 0x477ff000u) return (f16)(sign | 0x7c00u); /* rounds to 65536 or more */
    if (abs < 0x38800000u) {                              /* below 2^-14: a denormal or zero */
        float scaled;
        memcpy(&scaled, &abs, 4);
        return (f16)(sign | (uint16_t)lrintf(scaled * 0x1p24f)); /* exact but for the rounding */
    }
    uint32_t rounded = abs + 0xfffu + (abs >> 13 & 1u);
    return (f16)(sign | (uint16_t)((rounded - 0x38000000u) >> 13));
}

static float scalar_dot_f16(const f16 *a, const float *b, size_t n) {
    float lane[LANES] = {0};
    for (size_t i = 0; i < n; i++) lane[i % LANES] = fmaf(f32_of_f16(a[i]), b[i], lane[i % LANES]);
    return lanes_sum(lane);
}

static int32_t scalar_dot_i8(const int8_t *a, const int8_t *b, size_t n) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void scalar_axpy(float *y, float a, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = fmaf(a, x[i], y[i]);
}

void distance_f16_from_f32(f16 *to, const float *from, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = f16_of_f32(from[i]);
}

static void scalar_f32_from_f16(float *to, const f16 *from, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = f32_of_f16(from[i]);
}

static void scalar_matvec_i8(const int8_t *m, size_t rows, size_t cols, const int16_t *x,
                             const float *scale, float f, float *y) {
    for (size_t r = 0; r < rows; r++) {
        int32_t sum = 0;
        for (size_t c = 0; c < cols; c++) sum += m[r * cols + c] * x[c];
        y[r] = (float)sum * (scale[r] * f);
    }
}

static float scalar_max_abs(const float *x, size_t n) {
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    return most;
}

static void scalar_round_i16(int16_t *to, const float *x, float scale, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = (int16_t)lrintf(x[i] * scale);
}

static int32_t scalar_round_i8(int8_t *to, const float *x, float scale, size_t n) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        to[i] = (int8_t)lrintf(x[i] * scale);
        sum += to[i];
    }
    return sum;
}

static size_t scalar_insert(float *scores, uint32_t *ids, size_t n, float score, uint32_t id) {
    size_t at = n;
    for (; at > 0 && scores[at - 1] < score; at--) {
        scores[at] = scores[at - 1];
        ids[at] = ids[at - 1];
    }
    scores[at] = score;
    ids[at] = id;
    return at;
}

static size_t scalar_above(const float *scores, size_t n, float threshold, uint16_t *index) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (scores[i] > threshold) index[count++] = (uint16_t)i;
    return count;
}

static uint32_t scalar_codes_expand(const uint8_t *record, size_t stride, int8_t *low,
                                    int8_t *high) {
    uint32_t sum = 0;
    for (size_t i = 0; i < stride; i++) {
        low[i] = (int8_t)(2 * (record[i] & 15) - 15);
        high[i] = (int8_t)(2 * (record[i] >> 4) - 15);
        sum += (record[i] & 15u) + (record[i] >> 4);
    }
    return sum;
}

static void scalar_codes_score(const codes_query *q, const uint8_t *const *codes, size_t n,
                               float *out) {
    for (size_t i = 0; i < n; i++) {
        const uint8_t *c = codes[i];
        int32_t sum = 0;
        for (size_t j = 0; j < q->stride; j++)
            sum += (c[j] & 15) * q->low[j] + (c[j] >> 4) * q->high[j];
        float factor = f32_of_f16(le16_get(c + q->stride - 4));
        float bias = f32_of_f16(le16_get(c + q->stride - 2));
        float inner = (float)sum * q->scale + q->offset;
        out[i] = factor * inner + (bias + q->base);
    }
}

static const vec_kernels scalar_table = {
    .dot_f32 = scalar_dot_f32,
    .dot_f16 = scalar_dot_f16,
    .dot_i8 = scalar_dot_i8,
    .axpy = scalar_axpy,
    .f16_from_f32 = distance_f16_from_f32,
    .f32_from_f16 = scalar_f32_from_f16,
    .matvec_i8 = scalar_matvec_i8,
    .max_abs = scalar_max_abs,
    .round_i16 = scalar_round_i16,
    .round_i8 = scalar_round_i8,
    .insert = scalar_insert,
    .above = scalar_above,
    .codes_expand = scalar_codes_expand,
    .codes_score = scalar_codes_score,
};

const vec_kernels *vec_best = &scalar_table;

const vec_kernels *vec_kernels_tier(int tier) {
    const cpu_features *f = cpu_features_get();
    if (tier == VEC_SCALAR) return &scalar_table;
    if (tier == VEC_AVX2 && f->avx2) return distance_avx2_table();
    if (tier == VEC_AVX512 && f->avx512_vnni) return distance_avx512_table();
    if (tier == VEC_NEON && f->neon) return distance_neon_table();
    if (tier == VEC_NEON_DOT && f->neon_dot) return distance_neon_dot_table();
    if (tier == VEC_WASM && f->wasm) return distance_wasm_table();
    return NULL;
}

__attribute__((constructor(102))) static void distance_start(void) {
    for (int tier = VEC_TIERS - 1; tier >= 0; tier--) {
        const vec_kernels *k = vec_kernels_tier(tier);
        if (k) {
            vec_best = k;
            return;
        }
    }
}
