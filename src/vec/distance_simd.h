/* The kernels of distance.c that read the same on every vector processor, over the words of
 * simd_avx2.h and its like, included before. The including file gives what those lack, as functions or macros:
 *
 *     V lane_fma(V a, V b, V c)            a * b + c, rounded once
 *     V lane_load_f16(const f16 *p)        V_LANES halves, widened
 *     V lane_abs(V v)
 *     float lane_sum(V v)                  lane half + i to lane i, until one is left
 *     unsigned lane_above(V a, V b)        a bit for each lane of a that is above b's
 *     unsigned lane_not_least(V a, V b)    a bit for each lane of a that is not at least b's
 *
 * A 32-lane sum is 32 / V_LANES registers, reduced by the same tree as the scalar code: halves of
 * the registers, then halves of the last one. Tails are copied to zeroed buffers: one more step of
 * the same loop, no masks. */
#ifndef KITH_VEC_DISTANCE_SIMD_H
#define KITH_VEC_DISTANCE_SIMD_H

#include "vec/codes.h"
#include "vec/distance_int.h"
#include "vec/unroll.h"

#define LANES_REGISTERS (32 / V_LANES)

typedef struct lanes {
    V r[LANES_REGISTERS];
} lanes;

V_INLINE void lanes_zero(lanes *s) {
    UNROLLED for (int i = 0; i < LANES_REGISTERS; i++) s->r[i] = V_ZERO();
}

V_INLINE float lanes_sum(lanes *s) {
    UNROLLED for (int half = LANES_REGISTERS / 2; half > 0; half /= 2)
        UNROLLED for (int i = 0; i < half; i++) s->r[i] = V_ADD(s->r[i], s->r[half + i]);
    return lane_sum(s->r[0]);
}

V_INLINE void lanes_step_f32(lanes *s, const float *a, const float *b) {
    UNROLLED for (int i = 0; i < LANES_REGISTERS; i++) s->r[i] =
        lane_fma(V_LOAD(a + V_LANES * i), V_LOAD(b + V_LANES * i), s->r[i]);
}

V_INLINE void lanes_step_f16(lanes *s, const f16 *a, const float *b) {
    UNROLLED for (int i = 0; i < LANES_REGISTERS; i++) s->r[i] =
        lane_fma(lane_load_f16(a + V_LANES * i), V_LOAD(b + V_LANES * i), s->r[i]);
}

V_TARGET static inline float simd_dot_f32(const float *a, const float *b, size_t n) {
    lanes s;
    lanes_zero(&s);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) lanes_step_f32(&s, a + i, b + i);
    if (i < n) {
        float x[32] = {0}, y[32] = {0};
        memcpy(x, a + i, (n - i) * sizeof *a);
        memcpy(y, b + i, (n - i) * sizeof *b);
        lanes_step_f32(&s, x, y);
    }
    return lanes_sum(&s);
}

V_TARGET static inline float simd_dot_f16(const f16 *a, const float *b, size_t n) {
    lanes s;
    lanes_zero(&s);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) lanes_step_f16(&s, a + i, b + i);
    if (i < n) {
        f16 x[32] = {0};
        float y[32] = {0};
        memcpy(x, a + i, (n - i) * sizeof *a);
        memcpy(y, b + i, (n - i) * sizeof *b);
        lanes_step_f16(&s, x, y);
    }
    return lanes_sum(&s);
}

V_TARGET static inline void simd_axpy(float *y, float a, const float *x, size_t n) {
    V f = V_SET1(a);
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        V_STORE(y + i, lane_fma(f, V_LOAD(x + i), V_LOAD(y + i)));
    for (; i < n; i++) y[i] = __builtin_fmaf(a, x[i], y[i]);
}

V_TARGET static inline void simd_f32_from_f16(float *to, const f16 *from, size_t n) {
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) V_STORE(to + i, lane_load_f16(from + i));
    if (i < n) {
        f16 h[V_LANES] = {0};
        float x[V_LANES];
        memcpy(h, from + i, (n - i) * sizeof *h);
        V_STORE(x, lane_load_f16(h));
        memcpy(to + i, x, (n - i) * sizeof *x);
    }
}

V_TARGET static inline float simd_max_abs(const float *x, size_t n) {
    V most = V_ZERO();
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) most = V_MAX(most, lane_abs(V_LOAD(x + i)));
    float m = v_top(most);
    for (; i < n; i++) {
        float v = __builtin_fabsf(x[i]);
        m = v > m ? v : m;
    }
    return m;
}

V_TARGET static inline size_t simd_above(const float *scores, size_t n, float threshold,
                                         uint16_t *index) {
    size_t count = 0, i = 0;
    V t = V_SET1(threshold);
    for (; i + V_LANES <= n; i += V_LANES) {
        unsigned mask = lane_above(V_LOAD(scores + i), t);
        for (; mask; mask &= mask - 1) index[count++] = (uint16_t)(i + (size_t)__builtin_ctz(mask));
    }
    for (; i < n; i++)
        if (scores[i] > threshold) index[count++] = (uint16_t)i;
    return count;
}

/* How many of the falling scores[0, n) are at least `score`. Reads up to V_LANES - 1 past the end:
 * there is room. */
V_INLINE size_t place_of(const float *scores, size_t n, float score) {
    V s = V_SET1(score);
    for (size_t i = 0; i < n; i += V_LANES) {
        unsigned mask = lane_not_least(V_LOAD(scores + i), s);
        if (mask) return MIN(i + (size_t)__builtin_ctz(mask), n);
    }
    return n;
}

V_TARGET static inline size_t simd_insert(float *scores, uint32_t *ids, size_t n, float score,
                                          uint32_t id) {
    size_t at = place_of(scores, n, score);
    memmove(scores + at + 1, scores + at, (n - at) * sizeof *scores);
    memmove(ids + at + 1, ids + at, (n - at) * sizeof *ids);
    scores[at] = score;
    ids[at] = id;
    return at;
}

/* A record's score from its sum of products: scale, offset and factors in the scalar code's order. */
V_INLINE float code_score(const codes_query *q, const uint8_t *code, int32_t sum) {
    const uint8_t *tail = code + q->stride - 4;
    float both[2]; /* factor, bias */
    simd_f32_from_f16(both, (f16[]){le16_get(tail), le16_get(tail + 2)}, 2);
    float inner = (float)sum * q->scale + q->offset;
    return both[0] * inner + (both[1] + q->base);
}

#endif
