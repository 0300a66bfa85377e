/* Matrix tiles for WebAssembly.
 *
 * Two rows of four vectors: engines on x86-64 have sixteen registers to map these to. Single precision
 * and bfloat16 weights are gemm_simd.h's tiles. Integers: activations are int16, weights are widened as
 * they are loaded, two inputs of a column lie together, and i32x4.dot_i16x8_s multiplies and adds both.
 * Sums are exact int32 as everywhere.
 *
 * gemm_test.c compares everything with the scalar kernels (tests/portable).
 */
#if defined(__wasm_simd128__)
#include "vec/simd_wasm.h"

#define TILE_ROWS    2
#define TILE_VECTORS 4
#include "vec/gemm_simd.h"

static void wasm_f32(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_2(tile_f32_rows, 4) }
}

static void wasm_bf16(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_2(tile_bf16_rows, 4) }
}

V_INLINE int32_t pair_at(const int16_t *a) {
    int32_t pair;
    memcpy(&pair, a, sizeof pair);
    return pair;
}

V_INLINE void tile_i8_rows(const gemm_tile *t, const size_t rows, const size_t vectors) {
    v128_t s[TILE_ROWS][TILE_VECTORS];
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++) s[i][j] = wasm_i32x4_splat(0);
    }
    const int16_t *a = t->a;
    const int8_t *b = t->b;
    for (size_t p = 0; p < t->k; p += 2, b += t->ldb, a += 2) {
        v128_t w[TILE_VECTORS];
        UNROLLED for (size_t j = 0; j < vectors; j++) w[j] = wasm_i16x8_load8x8(b + j * 8);
        UNROLLED for (size_t i = 0; i < rows; i++) {
            v128_t x = wasm_i32x4_splat(pair_at(a + i * t->lda));
            UNROLLED for (size_t j = 0; j < vectors; j++) s[i][j] =
                wasm_i32x4_add(s[i][j], wasm_i32x4_dot_i16x8(x, w[j]));
        }
    }
    UNROLLED for (size_t i = 0; i < rows; i++) {
        UNROLLED for (size_t j = 0; j < vectors; j++)
            tile_scale_store(t, i, j, wasm_f32x4_convert_i32x4(s[i][j]));
    }
}

static void wasm_i8(const gemm_tile *t) {
    switch (t->rows) { TILE_CASES_2(tile_i8_rows, 4) }
}

static void wasm_prepare_i8(const float *x, size_t k, size_t k_padded, void *out,
                            gemm_range *range) {
    int16_t *o = out;
    float inverse = simd_range(x, k, range);
    V inverses = V_SET1(inverse), lows = V_SET1(range->low);
    size_t i = 0;
    for (; i < k; i += 4) {
        V v = i + 4 <= k ? V_LOAD(x + i) : v_load_part(x + i, k - i);
        v128_t q = wasm_i32x4_trunc_sat_f32x4(V_ROUND(V_MUL(V_SUB(v, lows), inverses)));
        q = wasm_i16x8_narrow_i32x4(q, q);
        memcpy(o + i, &q, MIN(k - i, 4) * sizeof *o);
    }
    for (i = k; i < k_padded; i++) o[i] = 0;
}

const gemm_table gemm_table_wasm = {
    .name = "wasm",
    .columns = 16,
    .kernel =
        {
            [GEMM_F32] = {2, 1, 384, sizeof(float), 0, false, wasm_f32, NULL},
            [GEMM_BF16] = {2, 1, 512, 2, sizeof(float), false, wasm_bf16, gemm_prepare_bf16},
            [GEMM_I8] = {2, 2, GEMM_DIM_MAX, 1, 2, false, wasm_i8, wasm_prepare_i8},
        },
    .small_rows_max = 2,
    .small = wasm_f32,
};
#else
typedef int gemm_wasm_is_empty; /* a translation unit must not be empty */
#endif
