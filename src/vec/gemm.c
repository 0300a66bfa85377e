/* Matrix products: packing, blocking, and the scalar kernels that define the results.
 *
 * The shape of the work. A transformer multiplies a tall activation matrix (m rows, one a token) by
 * fixed weights (n results, k inputs). The weights are packed once into panels of `columns` results
 * each, laid out [panel][k / group][column][group], so that a kernel reads one panel forward, a
 * vector of columns at a time. A tile is up to rows_max rows of one panel: its sums live in
 * registers, every load of weights serves rows_max rows and every activation is broadcast to all
 * columns.
 *
 * Blocking. Rows go in blocks of ROWS_BLOCK, whose activations stay in the second cache while all
 * panels pass over them; a panel's k_block inputs stay in the first cache while all tiles of the
 * block use it. When k is over k_block the sums pass through c (add), and bias and activation come
 * with the last.
 *
 * Rows are shared out evenly among tiles: 13 rows with tiles of 6 are 5 + 4 + 4, not 6 + 6 + 1, as
 * a thin tile costs nearly as much as a full one.
 *
 * Integers. Weights become w = round(W * 127 / max|W|) by column. Activations become
 * q = round((x - low) * 255 / (high - low)) by row, low and high its least and greatest value:
 * after layer normalisation and after GELU values lie far from even about zero, and with one sign
 * bit to spare the error of the whole encoder is half as large (mean cosine .9985 against .9962).
 * As x = low + scale q, the result is (scale * sum(q w) + low * sum(w)) * column's scale + bias.
 * Sums of k <= 65,536 products of at most 255 * 127 stay below 2^31: exact. The final steps are
 * single multiplications and additions in this order, so that tiers agree to the last bit.
 *
 * Invariants: padded columns have weights, bias and scales of zero; padded k have weights of zero.
 */
#include "vec/gemm_int.h"
#include "vec/nn_int.h"

#include <math.h>

#define ROWS_BLOCK 192 /* a multiple of every tile height */

_Static_assert(255 * 127 * (int64_t)GEMM_DIM_MAX <= INT32_MAX, "int32 sums must not overflow");

/* ---- scalar kernels ---- */

#define SCALAR_COLUMNS 16
#define SCALAR_ROWS    4

static void scalar_store(const gemm_tile *t, size_t row, const float *sum) {
    float *c = t->c + row * t->ldc;
    for (size_t j = 0; j < SCALAR_COLUMNS; j++) {
        float y = sum[j] + (t->bias ? t->bias[j] : 0);
        c[j] = t->act == GEMM_GELU ? nn_gelu_scalar(y) : y;
    }
}

static void scalar_f32(const gemm_tile *t) {
    for (size_t i = 0; i < t->rows; i++) {
        const float *a = (const float *)t->a + i * t->lda, *b = t->b;
        float sum[SCALAR_COLUMNS] = {0};
        if (t->add) memcpy(sum, t->c + i * t->ldc, sizeof sum);
        for (size_t p = 0; p < t->k; p++, b += t->ldb)
            for (size_t j = 0; j < SCALAR_COLUMNS; j++) sum[j] += a[p] * b[j];
        scalar_store(t, i, sum);
    }
}

static void scalar_bf16(const gemm_tile *t) {
    for (size_t i = 0; i < t->rows; i++) {
        const float *a = (const float *)t->a + i * t->lda;
        const uint16_t *b = t->b;
        float sum[SCALAR_COLUMNS] = {0};
        if (t->add) memcpy(sum, t->c + i * t->ldc, sizeof sum);
        for (size_t p = 0; p < t->k; p++, b += t->ldb)
            for (size_t j = 0; j < SCALAR_COLUMNS; j++) sum[j] += a[p] * gemm_bf16_to(b[j]);
        scalar_store(t, i, sum);
    }
}

static void scalar_i8(const gemm_tile *t) {
    for (size_t i = 0; i < t->rows; i++) {
        const uint8_t *a = (const uint8_t *)t->a + i * t->lda;
        const int8_t *b = t->b;
        int32_t sum[SCALAR_COLUMNS] = {0};
        for (size_t p = 0; p < t->k; p++, b += t->ldb)
            for (size_t j = 0; j < SCALAR_COLUMNS; j++) sum[j] += a[p] * b[j];
        float scaled[SCALAR_COLUMNS];
        gemm_range r = t->rows_range[i];
        for (size_t j = 0; j < SCALAR_COLUMNS; j++)
            scaled[j] = ((float)sum[j] * r.scale + r.low * t->col_sum[j]) * t->col_scale[j];
        scalar_store(t, i, scaled);
    }
}

void gemm_prepare_bf16(const float *x, size_t k, size_t k_padded, void *out, gemm_range *range) {
    float *o = out;
    for (size_t i = 0; i < k; i++) o[i] = gemm_bf16_to(gemm_bf16_of(x[i]));
    for (size_t i = k; i < k_padded; i++) o[i] = 0;
    *range = (gemm_range){1, 0};
}

static void scalar_prepare_i8(const float *x, size_t k, size_t k_padded, void *out,
                              gemm_range *range) {
    uint8_t *o = out;
    float low = x[0], high = x[0];
    for (size_t i = 1; i < k; i++) {
        low = MIN(low, x[i]);
        high = MAX(high, x[i]);
    }
    float inverse = gemm_range_make(low, high, range);
    for (size_t i = 0; i < k; i++) o[i] = (uint8_t)lrintf((x[i] - low) * inverse);
    for (size_t i = k; i < k_padded; i++) o[i] = 0;
}

const gemm_table gemm_table_scalar = {
    .name = "scalar",
    .columns = SCALAR_COLUMNS,
    .kernel =
        {
            [GEMM_F32] = {SCALAR_ROWS, 1, 512, sizeof(float), 0, false, scalar_f32, NULL},
            [GEMM_BF16] = {SCALAR_ROWS, 1, 512, 2, sizeof(float), false, scalar_bf16,
                           gemm_prepare_bf16},
            [GEMM_I8] = {SCALAR_ROWS, 1, GEMM_DIM_MAX, 1, 1, false, scalar_i8, scalar_prepare_i8},
        },
    .small_rows_max = SCALAR_ROWS,
    .small = scalar_f32,
};

const gemm_table *gemm_table_for(const cpu_features *f) {
    if (!f) f = cpu_features_get();
#if defined(__x86_64__)
    if (f->avx512 && f->avx512_vnni && f->avx512_bf16) return &gemm_table_avx512_full;
    if (f->avx512 && f->avx512_vnni) return &gemm_table_avx512_vnni;
    if (f->avx512) return &gemm_table_avx512;
    if (f->avx2) return &gemm_table_avx2;
#elif defined(__aarch64__)
    if (f->neon_dot) return &gemm_table_neon_dot;
    if (f->neon) return &gemm_table_neon;
#elif defined(__wasm_simd128__)
    if (f->wasm) return &gemm_table_wasm;
#endif
    return &gemm_table_scalar;
}

const char *gemm_table_name(const gemm_table *t) {
    return t->name;
}

/* ---- packing ---- */

static size_t round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

static const gemm_kernel *kernel_of(const gemm_matrix *w) {
    return &w->table->kernel[w->kind];
}

static size_t columns_padded(const gemm_matrix *w) {
    return round_up(w->n, w->table->columns);
}

static size_t k_padded(const gemm_matrix *w) {
    return round_up(w->k, kernel_of(w)->k_group);
}

/* Where weight (column, p) lies in the panels. */
static size_t packed_at(const gemm_matrix *w, size_t column, size_t p) {
    size_t columns = w->table->columns, group = kernel_of(w)->k_group;
    size_t panel = column / columns * columns * k_padded(w);
    size_t c = column % columns, half = columns / 2;
    size_t at = kernel_of(w)->interleaved ? (c % half * group + p % group) * 2 + c / half
                                          : c * group + p % group;
    return panel + p / group * columns * group + at;
}

static void pack_column_i8(gemm_matrix *w, const float *row, size_t column) {
    float top = 0;
    for (size_t p = 0; p < w->k; p++) top = MAX(top, fabsf(row[p]));
    float inverse = top > 0 ? 127 / top : 0;
    int32_t sum = 0;
    int8_t *panels = w->panels;
    for (size_t p = 0; p < w->k; p++) {
        int8_t q = (int8_t)lrintf(row[p] * inverse);
        panels[packed_at(w, column, p)] = q;
        sum += q;
    }
    w->scales[column] = top / 127;
    w->sums[column] = (float)sum;
}

static void pack_column(gemm_matrix *w, const float *row, size_t column) {
    if (w->kind == GEMM_I8) {
        pack_column_i8(w, row, column);
    } else if (w->kind == GEMM_BF16) {
        uint16_t *panels = w->panels;
        for (size_t p = 0; p < w->k; p++) panels[packed_at(w, column, p)] = gemm_bf16_of(row[p]);
    } else {
        float *panels = w->panels;
        for (size_t p = 0; p < w->k; p++) panels[packed_at(w, column, p)] = row[p];
    }
}

static void *zeroed_aligned(size_t bytes) {
    void *p = mem_aligned(64, round_up(bytes, 64));
    if (p) memset(p, 0, bytes);
    return p;
}

err gemm_matrix_init(gemm_matrix *w, const gemm_source *src) {
    KITH_ASSERT(src->n >= 1 && src->n <= GEMM_DIM_MAX && src->k >= 1 && src->k <= GEMM_DIM_MAX);
    KITH_ASSERT(src->kind < GEMM_KINDS);
    *w = (gemm_matrix){.kind = src->kind, .n = src->n, .k = src->k};
    w->table = src->table ? src->table : gemm_table_for(NULL);
    size_t columns = columns_padded(w);
    w->panels = zeroed_aligned(columns * k_padded(w) * kernel_of(w)->b_bytes);
    w->bias = zeroed_aligned(columns * sizeof *w->bias);
    if (w->kind == GEMM_I8) {
        w->scales = zeroed_aligned(columns * sizeof *w->scales);
        w->sums = zeroed_aligned(columns * sizeof *w->sums);
    }
    if (!w->panels || !w->bias || (w->kind == GEMM_I8 && (!w->scales || !w->sums))) {
        gemm_matrix_deinit(w);
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < w->n; i++) pack_column(w, src->weights + i * w->k, i);
    if (src->bias) memcpy(w->bias, src->bias, w->n * sizeof *w->bias);
    return OK;
}

void gemm_matrix_deinit(gemm_matrix *w) {
    mem_free(w->panels);
    mem_free(w->bias);
    mem_free(w->scales);
    mem_free(w->sums);
    *w = (gemm_matrix){0};
}

size_t gemm_matrix_bytes(const gemm_matrix *w) {
    size_t a_column = sizeof *w->bias;
    if (w->kind == GEMM_I8) a_column += sizeof *w->scales + sizeof *w->sums;
    return columns_padded(w) * (k_padded(w) * kernel_of(w)->b_bytes + a_column);
}

/* ---- running ---- */

/* Row stride of prepared activations, in elements: whole cache lines. */
static size_t prepared_stride(const gemm_matrix *w) {
    return round_up(k_padded(w), 64 / kernel_of(w)->a_bytes);
}

size_t gemm_work_bytes(const gemm_matrix *w) {
    const gemm_kernel *kernel = kernel_of(w);
    if (!kernel->prepare) return 0;
    return ROWS_BLOCK * (prepared_stride(w) * kernel->a_bytes + sizeof(gemm_range));
}

/* A tile whose panel has fewer than `columns` real columns goes through a buffer. */
static void run_narrow(const gemm_kernel *kernel, gemm_tile t, size_t columns) {
    float buffer[GEMM_TILE_ROWS_MAX * GEMM_TILE_COLUMNS_MAX] = {0};
    float *c = t.c;
    size_t ldc = t.ldc;
    t.c = buffer;
    t.ldc = GEMM_TILE_COLUMNS_MAX;
    for (size_t i = 0; t.add && i < t.rows; i++)
        memcpy(buffer + i * t.ldc, c + i * ldc, columns * sizeof *c);
    kernel->tile(&t);
    for (size_t i = 0; i < t.rows; i++)
        memcpy(c + i * ldc, buffer + i * t.ldc, columns * sizeof *c);
}

/* All tiles of one panel: `t` is the first, with `rows` rows to do in all. */
static void run_panel(const gemm_kernel *kernel, gemm_tile t, size_t rows, size_t columns) {
    size_t a_bytes = kernel->a_bytes ? kernel->a_bytes : sizeof(float);
    bool narrow = columns < (size_t)t.ldb / kernel->k_group;
    size_t tiles = (rows + kernel->rows_max - 1) / kernel->rows_max;
    for (size_t i = 0; i < tiles; i++) {
        t.rows = rows / tiles + (i < rows % tiles);
        if (narrow)
            run_narrow(kernel, t, columns);
        else
            kernel->tile(&t);
        t.a = (const char *)t.a + t.rows * t.lda * a_bytes;
        t.c += t.rows * t.ldc;
        if (t.rows_range) t.rows_range += t.rows;
    }
}

/* One block of rows against k inputs from k0 on, all panels. */
static void run_block(const gemm_matrix *w, gemm_tile t, size_t rows, size_t k0, gemm_act act) {
    const gemm_kernel *kernel = kernel_of(w);
    size_t columns = w->table->columns, kp = k_padded(w);
    size_t k_end = MIN(kp, k0 + kernel->k_block);
    bool last = k_end == kp;
    float *c = t.c;
    t.ldb = columns * kernel->k_group;
    t.k = k_end - k0;
    t.add = k0 > 0;
    t.act = last ? act : GEMM_LINEAR;
    for (size_t j = 0; j < w->n; j += columns) {
        size_t at = j * kp + k0 * columns;
        t.b = (const char *)w->panels + at * kernel->b_bytes;
        t.c = c + j;
        t.bias = last ? w->bias + j : NULL;
        if (w->kind == GEMM_I8) {
            t.col_scale = w->scales + j;
            t.col_sum = w->sums + j;
        }
        run_panel(kernel, t, rows, MIN(columns, w->n - j));
    }
}

void gemm_run(const gemm_matrix *w, const gemm_call *call) {
    const gemm_kernel *kernel = kernel_of(w);
    KITH_ASSERT(call->work || gemm_work_bytes(w) == 0);
    size_t a_bytes = sizeof(float);
    for (size_t m0 = 0; m0 < call->m; m0 += ROWS_BLOCK) {
        size_t rows = MIN(ROWS_BLOCK, call->m - m0);
        gemm_tile t = {.c = call->out + m0 * call->ldo, .ldc = call->ldo};
        t.a = call->x + m0 * call->ldx;
        t.lda = call->ldx;
        if (kernel->prepare) {
            gemm_range *ranges = call->work;
            char *prepared = (char *)call->work + ROWS_BLOCK * sizeof *ranges;
            a_bytes = kernel->a_bytes;
            t.lda = prepared_stride(w);
            for (size_t i = 0; i < rows; i++)
                kernel->prepare(call->x + (m0 + i) * call->ldx, w->k, k_padded(w),
                                prepared + i * t.lda * a_bytes, &ranges[i]);
            t.a = prepared;
            t.rows_range = ranges;
        }
        const char *a = t.a;
        for (size_t k0 = 0; k0 < k_padded(w); k0 += kernel->k_block) {
            t.a = a + k0 * a_bytes;
            run_block(w, t, rows, k0, call->act);
        }
    }
}

void gemm_small_run(const gemm_table *table, const gemm_small *s) {
    KITH_ASSERT(s->n % GEMM_SMALL_COLUMNS == 0);
    size_t tiles = (s->m + table->small_rows_max - 1) / table->small_rows_max;
    for (size_t j = 0; j < s->n; j += GEMM_SMALL_COLUMNS) {
        gemm_tile t = {.a = s->a, .b = s->b + j, .c = s->c + j, .k = s->k};
        t.lda = s->lda;
        t.ldb = s->ldb;
        t.ldc = s->ldc;
        for (size_t i = 0; i < tiles; i++) {
            t.rows = s->m / tiles + (i < s->m % tiles);
            table->small(&t);
            t.a = (const float *)t.a + t.rows * t.lda;
            t.c += t.rows * t.ldc;
        }
    }
}
