/* Batches: texts are cut into tokens and packed into chunks, chunks run through the model.
 *
 * A chunk is as many whole texts as fit into `chunk` tokens: large enough that the weights, which
 * pass through the caches once a chunk and layer, cost little beside the arithmetic; small enough
 * that activations stay in the last cache (1,024 tokens of a 384-wide model: 9 MB). One short text
 * is a chunk of its own length: nothing is padded.
 *
 * The scratch is one allocation for all buffers, sized from the model: encode_batch allocates
 * nothing and so cannot run out of memory half way.
 */
#include "encode/encode_int.h"

#include <string.h>

/* Hands out pieces of one block; with base NULL it only measures. */
typedef struct layout {
    char *base;
    size_t used;
} layout;

static void *take(layout *l, size_t count, size_t size) {
    void *p = l->base ? l->base + l->used : NULL;
    l->used += (count * size + 63) / 64 * 64;
    return p;
}

static size_t work_bytes(const encode_model *m) {
    size_t most = 0;
    for (size_t i = 0; i < m->shape.layers; i++) {
        const encode_layer *l = &m->layers[i];
        most = MAX(most, gemm_work_bytes(&l->qkv));
        most = MAX(most, gemm_work_bytes(&l->down));
        most = MAX(most, gemm_work_bytes(&l->up));
    }
    return most;
}

static void scratch_lay_out(encode_scratch *s, layout *l) {
    const encode_model *m = s->model;
    size_t h = m->shape.hidden, d = h / m->shape.heads, dp = d + GEMM_SMALL_COLUMNS;
    size_t lp = m->max_tokens + GEMM_SMALL_COLUMNS, f = sizeof(float);
    s->ids = take(l, s->chunk, sizeof *s->ids);
    s->ends = take(l, s->chunk, sizeof *s->ends);
    s->x = take(l, s->chunk * h, f);
    s->qkv = take(l, s->chunk * 3 * h, f);
    s->context = take(l, s->chunk * h, f);
    s->part = take(l, FORWARD_ROWS * h, f);
    s->inner = take(l, FORWARD_ROWS * m->shape.inner, f);
    s->keys = take(l, d * lp, f);
    s->values = take(l, lp * dp, f);
    s->mixed = take(l, lp * dp, f);
    s->scores = take(l, ATTENTION_ROWS * lp, f);
    s->work = take(l, work_bytes(m), 1);
}

err encode_scratch_open(const encode_model *m, encode_scratch **out) {
    *out = NULL;
    encode_scratch *s = mem_zalloc(1, sizeof *s);
    if (!s) return ERR_NO_MEMORY;
    s->model = m;
    s->chunk = MAX(CHUNK_TOKENS, m->max_tokens);
    layout measured = {0};
    scratch_lay_out(s, &measured);
    layout l = {.base = mem_aligned(64, measured.used)};
    if (!l.base) {
        mem_free(s);
        return ERR_NO_MEMORY;
    }
    scratch_lay_out(s, &l);
    s->bytes = l.used;
    *out = s;
    return OK;
}

void encode_scratch_close(encode_scratch *s) {
    if (!s) return;
    mem_free(s->ids); /* the block starts there */
    mem_free(s);
}

size_t encode_scratch_bytes(const encode_scratch *s) {
    return sizeof *s + s->bytes;
}

bool encode_tokens(const encode_model *m, str text, uint32_t *ids, size_t *n) {
    bool cut = tokenizer_run(m->tok, text, ids + 1, m->max_tokens - 2, n);
    ids[0] = tokenizer_cls(m->tok);
    ids[*n + 1] = tokenizer_sep(m->tok);
    *n += 2;
    return cut;
}

/* Fills a chunk with texts from `at` on; returns how many it took, at least one. */
static size_t chunk_fill(const encode_model *m, encode_scratch *s, const str *texts, size_t n,
                         encode_stats *stats) {
    size_t taken = 0, used = 0;
    /* A text may take max_tokens: another is begun only when that many are left. */
    while (taken < n && s->chunk - used >= m->max_tokens) {
        size_t length;
        stats->truncated += encode_tokens(m, texts[taken], s->ids + used, &length);
        used += length;
        s->ends[taken++] = (uint32_t)used;
    }
    stats->texts += taken;
    stats->tokens += used;
    return taken;
}

err encode_batch(const encode_model *m, encode_scratch *s, const str *texts, size_t n, float *out,
                 encode_stats *stats) {
    KITH_ASSERT(s->model == m);
    encode_stats unwanted = {0};
    for (size_t at = 0; at < n;) {
        size_t taken = chunk_fill(m, s, texts + at, n - at, stats ? stats : &unwanted);
        TRY(forward_run(m, s, taken, out + at * m->shape.hidden));
        at += taken;
    }
    return OK;
}
