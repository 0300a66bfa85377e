/* codes: training of the projection, encoding, and queries.
 *
 * Training. C = X^T X of the centred samples, then subspace iteration: W = V C, rows made
 * orthonormal, ROUNDS times. Only the span matters, not single eigenvectors, so six rounds are
 * plenty: a direction that is still mixed up has an eigenvalue near the cut, and loses nothing
 * whichever side it falls on. Then a random rotation inside the span spreads variance over all
 * dimensions, which is what a code with one step for all its dimensions wants. Vectors with fewer
 * dimensions than a record has room for need no span: they are rotated into the larger space.
 *
 * The projection is kept as int8 rows with one scale each: 95 KB at 384 dimensions, which stays in the
 * second-level cache where 381 KB of floats would not. Vectors and queries go through the same
 * rounded projection, so its error mostly cancels.
 *
 * Encoding. One step size a record, the best of STEPS by squared cosine between the projected vector
 * and its code. With y the projected vector and c its code minus 7.5, factor = |y|^2 / <y, c>: then
 * factor * <q, c> is right on average for q near y's direction (RaBitQ).
 *
 * Bounds: a projected component is at most |row| * |x| <= 127 * 64 * 16383 < 2^31 for the
 * 4,096 dimensions allowed, so int32 sums of the matrix kernel hold.
 */
#include "vec/codes.h"
#include "base/rng.h"
#include <math.h>

#define ROUNDS 6
#define STEPS  8
#define X_NORM 16000.0f /* length of an int16 vector before projection */
#define TILE   8
#define MAGIC  0x31444f43u /* "COD1" */

struct codes_model {
    uint32_t dim;    /* of vectors */
    uint32_t dims;   /* of codes */
    uint32_t cols;   /* dim rounded up to 32: length of a projection row */
    uint32_t stride; /* of records */
    float mean_norm2;
    float *mean;  /* dim */
    float *scale; /* dims: of each projection row */
    int8_t *rows; /* dims * cols */
};

uint32_t codes_stride(uint32_t dim) {
    return dim <= 2 * (64 - 4) ? 64 : 128;
}

/* All that a record has room for. Few dimensions are spread over more: each code dimension then is
 * one of many views of the vector, and their rounding errors average out. */
static uint32_t code_dims(uint32_t dim) {
    return 2 * (codes_stride(dim) - 4);
}

void codes_model_free(codes_model *m) {
    if (!m) return;
    mem_free(m->mean);
    mem_free(m->scale);
    mem_free(m->rows);
    mem_free(m);
}

static err model_new(uint32_t dim, codes_model **out) {
    KITH_ASSERT(dim > 0 && dim <= CODES_DIM_MAX);
    codes_model *m = mem_zalloc(1, sizeof *m);
    if (!m) return ERR_NO_MEMORY;
    m->dim = dim;
    m->dims = code_dims(dim);
    m->cols = (dim + 31) / 32 * 32;
    m->stride = codes_stride(dim);
    m->mean = mem_zalloc(dim, sizeof *m->mean);
    m->scale = mem_zalloc(m->dims, sizeof *m->scale);
    m->rows = mem_zalloc(m->dims, m->cols);
    if (!m->mean || !m->scale || !m->rows) {
        codes_model_free(m);
        return ERR_NO_MEMORY;
    }
    *out = m;
    return OK;
}

size_t codes_model_bytes(const codes_model *m) {
    return m ? sizeof *m + m->dim * 4 + m->dims * 4 + (size_t)m->dims * m->cols : 0;
}

/* ---- training ---- */

static void rows_center(float *samples, size_t n, codes_model *m) {
    for (size_t i = 0; i < n; i++) vec_axpy(m->mean, 1.0f / (float)n, samples + i * m->dim, m->dim);
    for (size_t i = 0; i < n; i++) vec_axpy(samples + i * m->dim, -1.0f, m->mean, m->dim);
    m->mean_norm2 = vec_dot_f32(m->mean, m->mean, m->dim);
}

/* cov = samples^T samples, dim * dim. `columns` (dim * n) holds the transposed samples. */
static void covariance(const float *samples, size_t n, size_t dim, float *columns, float *cov) {
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dim; d++) columns[d * n + i] = samples[i * dim + d];
    for (size_t tile = 0; tile < dim; tile += TILE) { /* TILE columns stay in cache */
        size_t end = MIN(tile + TILE, dim);
        for (size_t j = tile; j < dim; j++) {
            for (size_t i = tile; i < MIN(end, j + 1); i++) {
                float s = vec_dot_f32(columns + i * n, columns + j * n, n);
                cov[i * dim + j] = cov[j * dim + i] = s;
            }
        }
    }
}

/* Makes `count` rows orthonormal (modified Gram-Schmidt, twice); a row that vanishes is redrawn. */
static void rows_orthonormal(float *rows, size_t count, size_t dim, rng *r) {
    for (size_t i = 0; i < count; i++) {
        float *row = rows + i * dim;
        for (int tries = 0; tries < 8; tries++) {
            float before = vec_dot_f32(row, row, dim);
            for (int pass = 0; pass < 2; pass++)
                for (size_t j = 0; j < i; j++)
                    vec_axpy(row, -vec_dot_f32(row, rows + j * dim, dim), rows + j * dim, dim);
            float norm2 = vec_dot_f32(row, row, dim);
            if (norm2 > 1e-10f * before && norm2 > 1e-30f) break;
            for (size_t d = 0; d < dim; d++) row[d] = rng_normal(r);
        }
        float norm = sqrtf(vec_dot_f32(row, row, dim));
        float scale = norm > 0 ? 1.0f / norm : 0.0f;
        for (size_t d = 0; d < dim; d++) row[d] *= scale;
    }
}

static void rows_random(float *rows, size_t n, rng *r) {
    for (size_t i = 0; i < n; i++) rows[i] = rng_normal(r);
}

/* to = a b^T: rows of a (na) by rows of b (nb), each of length dim. */
static void rows_product(const float *a, size_t na, const float *b, size_t nb, size_t dim,
                         float *to) {
    for (size_t tile = 0; tile < na; tile += TILE)
        for (size_t j = 0; j < nb; j++)
            for (size_t i = tile; i < MIN(tile + TILE, na); i++)
                to[i * nb + j] = vec_dot_f32(a + i * dim, b + j * dim, dim);
}

static void model_set_rows(codes_model *m, const float *rows) {
    for (size_t i = 0; i < m->dims; i++) {
        const float *row = rows + i * m->dim;
        float most = 1e-30f;
        for (size_t d = 0; d < m->dim; d++) most = fmaxf(most, fabsf(row[d]));
        m->scale[i] = most / 127.0f;
        for (size_t d = 0; d < m->dim; d++)
            m->rows[i * m->cols + d] = (int8_t)lrintf(row[d] / most * 127.0f);
    }
}

/* Rows for vectors of fewer dimensions than a code: the first columns of a random rotation of the
 * code's space. They are orthonormal, so inner products are kept. turn: dims * dims. */
static void train_spread(codes_model *m, float *turn, rng *r) {
    size_t dims = m->dims, dim = m->dim;
    rows_random(turn, dims * dims, r);
    rows_orthonormal(turn, dims, dims, r);
    for (size_t i = 1; i < dims; i++) memmove(turn + i * dim, turn + i * dims, dim * sizeof *turn);
    model_set_rows(m, turn);
}

/* Finds the span, rotates it at random. v and w: dims * dim floats; turn: dims * dims. */
static void train_span(codes_model *m, const float *cov, float *v, float *w, float *turn, rng *r) {
    size_t dims = m->dims, dim = m->dim;
    rows_random(v, dims * dim, r);
    rows_orthonormal(v, dims, dim, r);
    for (int round = 0; round < ROUNDS; round++) {
        rows_product(v, dims, cov, dim, dim, w);
        memcpy(v, w, dims * dim * sizeof *v);
        rows_orthonormal(v, dims, dim, r);
    }
    rows_random(turn, dims * dims, r);
    rows_orthonormal(turn, dims, dims, r);
    memset(w, 0, dims * dim * sizeof *w);
    for (size_t i = 0; i < dims; i++)
        for (size_t j = 0; j < dims; j++)
            vec_axpy(w + i * dim, turn[i * dims + j], v + j * dim, dim);
    model_set_rows(m, w);
}

err codes_model_train(float *samples, size_t n, uint32_t dim, uint64_t seed, codes_model **out) {
    KITH_ASSERT(n > 0);
    codes_model *m;
    TRY(model_new(dim, &m));
    size_t dims = m->dims;
    bool whole = dim <= dims;
    float *columns = whole ? NULL : mem_alloc(dim * n * sizeof(float));
    float *cov = whole ? NULL : mem_alloc((size_t)dim * dim * sizeof(float));
    float *v = whole ? NULL : mem_alloc(dims * dim * sizeof(float));
    float *w = whole ? NULL : mem_alloc(dims * dim * sizeof(float));
    float *turn = mem_alloc(dims * dims * sizeof(float));
    err rc = ERR_NO_MEMORY;
    if (turn && (whole || (columns && cov && v && w))) {
        rng r;
        rng_seed(&r, seed);
        rows_center(samples, n, m);
        if (whole) {
            train_spread(m, turn, &r);
        } else {
            covariance(samples, n, dim, columns, cov);
            train_span(m, cov, v, w, turn, &r);
        }
        *out = m;
        m = NULL;
        rc = OK;
    }
    mem_free(columns);
    mem_free(cov);
    mem_free(v);
    mem_free(w);
    mem_free(turn);
    codes_model_free(m);
    return rc;
}

/* ---- encoding ---- */

/* y (dims) = projection of unit - mean; *bias = <mean, unit - mean>. */
static void project(const codes_model *m, const float *unit, float *y, float *tmp, float *bias) {
    float *x = tmp;
    int16_t *fixed = (int16_t *)(tmp + m->dim);
    memcpy(x, unit, m->dim * sizeof *x);
    vec_axpy(x, -1.0f, m->mean, m->dim);
    *bias = vec_dot_f32(m->mean, x, m->dim);
    float norm = sqrtf(vec_dot_f32(x, x, m->dim));
    vec_best->round_i16(fixed, x, norm > 0 ? X_NORM / norm : 0.0f, m->dim);
    memset(fixed + m->dim, 0, (m->cols - m->dim) * sizeof *fixed);
    vec_best->matvec_i8(m->rows, m->dims, m->cols, fixed, m->scale, norm / X_NORM, y);
}

typedef struct fit {
    float inner; /* <y, c> */
    float norm2; /* <c, c> */
} fit;

static int code_of(float y, float inverse) {
    int c = (int)lrintf(y * inverse + 7.5f);
    return c < 0 ? 0 : c > 15 ? 15 : c;
}

static fit fit_step(const float *y, size_t dims, float inverse) {
    fit f = {0, 0};
    for (size_t i = 0; i < dims; i++) {
        float c = (float)code_of(y[i], inverse) - 7.5f;
        f.inner += y[i] * c;
        f.norm2 += c * c;
    }
    return f;
}

void codes_encode(const codes_model *m, const float *unit, uint8_t *record, float *tmp) {
    float *y = tmp, bias;
    project(m, unit, y, tmp + CODES_DIMS_MAX, &bias);
    float most = vec_best->max_abs(y, m->dims), norm2 = vec_dot_f32(y, y, m->dims);
    float inverse = 0, best = -1, factor = 0;
    for (int s = 0; s < STEPS && most > 0; s++) {
        float try = 7.5f / (most * (1.0f - 0.07f * (float)s));
        fit f = fit_step(y, m->dims, try);
        float quality = f.inner * f.inner / f.norm2;
        if (quality <= best) continue;
        best = quality;
        inverse = try;
        factor = norm2 / f.inner;
    }
    size_t half = m->stride - 4;
    memset(record, 0, m->stride);
    for (size_t i = 0; i < m->dims; i++) {
        unsigned c = (unsigned)code_of(y[i], inverse);
        record[i < half ? i : i - half] |= (uint8_t)(i < half ? c : c << 4);
    }
    f16 tail[2];
    vec_f16_from_f32(tail, (float[]){factor, bias}, 2);
    le16_put(record + half, tail[0]);
    le16_put(record + half + 2, tail[1]);
}

void codes_query_set(const codes_model *m, const float *unit, codes_query *q, float *tmp) {
    float *y = tmp, bias;
    size_t half = m->stride - 4;
    project(m, unit, y, tmp + CODES_DIMS_MAX, &bias);
    float most = vec_best->max_abs(y, m->dims), scale = most > 0 ? 127.0f / most : 0.0f;
    memset(q, 0, sizeof *q);
    int sum = vec_best->round_i8(q->low, y, scale, half);
    sum += vec_best->round_i8(q->high, y + half, scale, half);
    q->stride = m->stride;
    q->scale = most / 127.0f;
    q->offset = -7.5f * q->scale * (float)sum;
    q->base = bias + m->mean_norm2; /* <unit, mean> */
}

void codes_query_from_record(const codes_model *m, const uint8_t *record, codes_query *q) {
    size_t half = m->stride - 4; /* dims is twice that */
    f16 tail[2] = {le16_get(record + half), le16_get(record + half + 2)};
    float both[2];
    vec_f32_from_f16(both, tail, 2);
    uint32_t sum = vec_best->codes_expand(record, m->stride, q->low, q->high);
    for (size_t i = half; i < m->stride; i++) { /* the tail holds no dimensions */
        q->low[i] = q->high[i] = 0;
        sum -= (record[i] & 15u) + (record[i] >> 4);
    }
    q->stride = m->stride;
    q->scale = both[0] * 0.5f;
    q->offset = -7.5f * q->scale * (float)((int)(2 * sum) - 15 * (int)m->dims);
    q->base = both[1] + m->mean_norm2;
}

/* ---- snapshot ---- */

err codes_model_save(const codes_model *m, const writer *w) {
    uint8_t head[16], four[4];
    le32_put(head, MAGIC);
    le32_put(head + 4, m->dim);
    le32_put(head + 8, m->dims);
    le32_put(head + 12, m->stride);
    TRY(writer_put(w, head, sizeof head));
    for (uint32_t i = 0; i < m->dim + m->dims; i++) {
        float f = i < m->dim ? m->mean[i] : m->scale[i - m->dim];
        uint32_t bits;
        memcpy(&bits, &f, 4);
        le32_put(four, bits);
        TRY(writer_put(w, four, 4));
    }
    return writer_put(w, m->rows, (size_t)m->dims * m->cols);
}

static bool read_floats(reader *r, float *to, size_t n, float limit) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = reader_u32(r);
        memcpy(&to[i], &bits, 4);
        if (!(to[i] >= -limit && to[i] <= limit)) return false; /* NaN too */
    }
    return !r->failed;
}

err codes_model_load(reader *r, uint32_t dim, codes_model **out) {
    uint32_t magic = reader_u32(r), d = reader_u32(r), dims = reader_u32(r), stride = reader_u32(r);
    if (r->failed || magic != MAGIC || d != dim || dims != code_dims(dim) ||
        stride != codes_stride(dim))
        return err_set(ERR_CORRUPT, "code model: its header does not fit %u dimensions", dim);
    codes_model *m;
    TRY(model_new(dim, &m));
    bool good = read_floats(r, m->mean, dim, 1.0f) && read_floats(r, m->scale, dims, 1.0f);
    const uint8_t *rows = reader_array(r, dims, m->cols);
    if (!good || !rows) {
        codes_model_free(m);
        return err_set(ERR_CORRUPT, "code model: cut off, or a number out of range");
    }
    memcpy(m->rows, rows, (size_t)dims * m->cols);
    for (size_t i = 0; i < dims; i++) /* padding takes part in sums: it must be zero */
        memset(m->rows + i * m->cols + dim, 0, m->cols - dim);
    m->mean_norm2 = vec_dot_f32(m->mean, m->mean, dim);
    *out = m;
    return OK;
}
