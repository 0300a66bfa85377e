/* Matrix products for neural networks: y = act(x * W^T + bias), W packed once, x in rows.
 *
 *     gemm_matrix w;
 *     TRY(gemm_matrix_init(&w, &(gemm_source){.kind = GEMM_F32, .weights = p, .bias = b,
 *                                             .n = 1536, .k = 384}));
 *     void *work = mem_aligned(64, gemm_work_bytes(&w));
 *     gemm_run(&w, &(gemm_call){.x = x, .ldx = 384, .m = rows, .out = y, .ldo = 1536,
 *                               .act = GEMM_GELU, .work = work});
 *     gemm_matrix_deinit(&w);
 *
 * Kinds. GEMM_F32: single precision throughout. GEMM_BF16: weights and activations are rounded to
 * bfloat16 (to nearest, ties to even), sums are single precision. GEMM_I8: weights are int8 with
 * one scale a column of the result; activations are 8 bits between a row's least and greatest
 * value, found as they come; sums are exact int32, so every processor gives the same sums.
 *
 * Ownership: a matrix owns its packed copy; the source may go after gemm_matrix_init. A matrix is
 * immutable then and may be used from many threads, each with its own work memory.
 * Which kernels run (scalar, AVX2, AVX-512) is decided in gemm_matrix_init, from vec/cpu.h or from
 * the table that the source names; the scalar kernels are the definition.
 * Limits: 1 <= n <= GEMM_DIM_MAX, 1 <= k <= GEMM_DIM_MAX. Weights must be finite.
 */
#ifndef KITH_VEC_GEMM_H
#define KITH_VEC_GEMM_H

#include "vec/cpu.h"

#define GEMM_DIM_MAX 65536

typedef enum gemm_kind { GEMM_F32, GEMM_BF16, GEMM_I8, GEMM_KINDS } gemm_kind;

/* What is applied to each result: nothing, or GELU with the error function (Hendrycks and Gimpel
 * 2016): 0.5 y (1 + erf(y / sqrt 2)), exact to 5e-7 of y. */
typedef enum gemm_act { GEMM_LINEAR, GEMM_GELU } gemm_act;

/* The kernels of one processor tier. */
typedef struct gemm_table gemm_table;

/* The best kernels that `f` allows; NULL asks for this processor's features. Never NULL. */
const gemm_table *gemm_table_for(const cpu_features *f);
const char *gemm_table_name(const gemm_table *t);

typedef struct gemm_matrix {
    gemm_kind kind;
    size_t n, k;             /* results and inputs a row */
    const gemm_table *table; /* static */
    void *panels;            /* owned: the packed weights */
    float *bias;             /* owned: n values and zeros up to a whole panel */
    float *scales;           /* owned, GEMM_I8: one a column */
    float *sums;             /* owned, GEMM_I8: a column's integer weights, summed */
} gemm_matrix;

typedef struct gemm_source {
    gemm_kind kind;
    const gemm_table *table; /* NULL: the best for this processor */
    const float *weights;    /* n rows of k: row i makes result i */
    const float *bias;       /* n values, or NULL for zeros */
    size_t n, k;
} gemm_source;

MUST_USE err gemm_matrix_init(gemm_matrix *w, const gemm_source *src);
void gemm_matrix_deinit(gemm_matrix *w); /* a zeroed matrix is fine */
size_t gemm_matrix_bytes(const gemm_matrix *w);

typedef struct gemm_call {
    const float *x;
    size_t ldx, m; /* m rows, ldx floats apart */
    float *out;    /* must not overlap x */
    size_t ldo;
    gemm_act act;
    void *work; /* gemm_work_bytes, 64-byte aligned; may be NULL when that is 0 */
} gemm_call;

size_t gemm_work_bytes(const gemm_matrix *w);
void gemm_run(const gemm_matrix *w, const gemm_call *call);

/* c = a * b for small row-major matrices in single precision: a is m x k, b is k x n. n must be a
 * multiple of GEMM_SMALL_COLUMNS (pad b with zeros); c must not overlap a or b. */
#define GEMM_SMALL_COLUMNS 16
typedef struct gemm_small {
    const float *a;
    const float *b;
    float *c;
    size_t lda, ldb, ldc, m, n, k;
} gemm_small;
void gemm_small_run(const gemm_table *t, const gemm_small *s);

#endif
