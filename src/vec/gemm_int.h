/* gemm, inside: what a processor tier gives, and how weights are packed. See gemm.c. */
#ifndef KITH_VEC_GEMM_INT_H
#define KITH_VEC_GEMM_INT_H

#include "vec/gemm.h"

#define GEMM_TILE_ROWS_MAX    12
#define GEMM_TILE_COLUMNS_MAX 32

/* How a row of activations became integers: x = low + scale * q, q in [0, 255]. */
typedef struct gemm_range {
    float scale, low;
} gemm_range;

/* One tile of the result: `rows` rows of one panel of columns. */
typedef struct gemm_tile {
    const void *a; /* prepared activations; lda in elements */
    const void *b; /* panel; ldb in elements, from one group of k to the next */
    float *c;
    const float *bias;            /* of the panel's columns; NULL: none */
    const gemm_range *rows_range; /* GEMM_I8: one a row */
    const float *col_scale;       /* GEMM_I8: one a column */
    const float *col_sum;         /* GEMM_I8: the column's integer weights, summed */
    size_t lda, ldb, ldc, rows, k;
    bool add; /* start from what c holds instead of zero */
    gemm_act act;
} gemm_tile;

typedef struct gemm_kernel {
    size_t rows_max;  /* of a tile */
    size_t k_group;   /* consecutive k of one column that lie together in a panel */
    size_t k_block;   /* k worked through at once: what keeps a panel in the first cache */
    size_t b_bytes;   /* of a packed weight */
    size_t a_bytes;   /* of a prepared activation; 0: used as they are */
    bool interleaved; /* weights of the panel's two halves take turns, one and one */
    void (*tile)(const gemm_tile *t);
    /* Makes a row of activations ready: k floats to k_padded elements, the rest as zeros. */
    void (*prepare)(const float *x, size_t k, size_t k_padded, void *out, gemm_range *range);
} gemm_kernel;

struct gemm_table {
    const char *name;
    size_t columns; /* of a panel */
    gemm_kernel kernel[GEMM_KINDS];
    size_t small_rows_max;
    void (*small)(const gemm_tile *t); /* GEMM_SMALL_COLUMNS columns, b read with ldb */
};

extern const gemm_table gemm_table_scalar;
#if defined(__x86_64__)
extern const gemm_table gemm_table_avx2;
extern const gemm_table gemm_table_avx512;      /* f32 wide, the rest as AVX2 */
extern const gemm_table gemm_table_avx512_vnni; /* and int8 dot products */
extern const gemm_table gemm_table_avx512_full; /* and bfloat16 dot products */
#elif defined(__aarch64__)
extern const gemm_table gemm_table_neon;
extern const gemm_table gemm_table_neon_dot; /* and int8 dot products */
#elif defined(__wasm_simd128__)
extern const gemm_table gemm_table_wasm;
#endif

/* Shared by kernels. */
/* Fills the range of a row from its least and greatest value; returns what (x - low) is multiplied
 * with. Values so large that their difference is infinite give q = 0 and come out as not finite. */
static inline float gemm_range_make(float low, float high, gemm_range *range) {
    float width = high - low;
    *range = (gemm_range){width / 255, low};
    return width > 0 ? 255 / width : 0;
}
static inline uint16_t gemm_bf16_of(float f) { /* nearest, ties to even; f is finite */
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
static inline float gemm_bf16_to(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
/* Activations as floats rounded to bfloat16: what tiles take that have no instruction for it. */
void gemm_prepare_bf16(const float *x, size_t k, size_t k_padded, void *out, gemm_range *range);

#endif
