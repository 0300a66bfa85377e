/* The transformer, forward: token ids to vectors.
 *
 * A chunk is a few texts' tokens one after the other, without padding: the row-wise parts (matrix
 * products, normalisation) see one tall matrix, attention looks only inside each text. For each
 * layer (Vaswani et al. 2017; BERT's post-norm form, Devlin et al. 2019):
 *
 *     qkv = x Wqkv + b                            one product for queries, keys and values
 *     head by head: softmax(q k^T / sqrt d) v     1 / sqrt d is folded into Wq and its bias
 *     x = LN(x + context Wo + b)
 *     x = LN(x + gelu(x Wup + b) Wdown + b)
 *
 * then the mean of a text's rows, or its first row, at unit length.
 *
 * Order of work: queries to context go over the whole chunk, then the rest in blocks of
 * FORWARD_ROWS rows, so that the wide inner activations of a block are still in cache when they are
 * read. Attention takes one head at a time: keys are transposed into a small panel, scores are made
 * for up to ATTENTION_ROWS queries at once. With 34 tokens a text attention is 1.5 % of the
 * arithmetic.
 *
 * Invariants: texts have at least 2 tokens ([CLS], [SEP]) and at most max_tokens; ids are below
 * vocab.
 */
#include "encode/encode_int.h"

#include <string.h>

static size_t round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

static void embed(const encode_model *m, encode_scratch *s, size_t texts) {
    size_t h = m->shape.hidden, at = 0;
    for (size_t i = 0; i < texts; i++)
        for (size_t pos = 0; at < s->ends[i]; at++, pos++) {
            const float *word = m->words + s->ids[at] * h, *position = m->positions + pos * h;
            float *x = s->x + at * h;
            for (size_t j = 0; j < h; j++) x[j] = word[j] + position[j];
        }
    nn_norm norm = {m->norms, m->norms + h, m->shape.epsilon, h};
    nn_add_layernorm(m->nn, s->x, NULL, &norm, at);
}

/* One head of one text: rows [from, from + length) of qkv to the same rows of context. */
static void attend_head(const encode_model *m, encode_scratch *s, size_t from, size_t length,
                        size_t head) {
    size_t h = m->shape.hidden, d = h / m->shape.heads, ld = 3 * h;
    size_t dp = round_up(d, GEMM_SMALL_COLUMNS), lp = round_up(length, GEMM_SMALL_COLUMNS);
    const float *q = s->qkv + from * ld + head * d, *k = q + h, *v = q + 2 * h;
    float *out = s->context + from * h + head * d;
    size_t ldv = ld, ldo = h;
    nn_transpose(k, ld, length, d, s->keys, lp);
    if (dp != d) { /* kernels take whole columns of 16 */
        memset(s->values, 0, length * dp * sizeof(float));
        for (size_t i = 0; i < length; i++)
            memcpy(s->values + i * dp, v + i * ld, d * sizeof(float));
        v = s->values;
        out = s->mixed;
        ldv = ldo = dp;
    }
    for (size_t i = 0; i < length; i += ATTENTION_ROWS) {
        size_t rows = MIN(ATTENTION_ROWS, length - i);
        gemm_small_run(m->gemm,
                       &(gemm_small){q + i * ld, s->keys, s->scores, ld, lp, lp, rows, lp, d});
        nn_softmax(m->nn, s->scores, rows, length, lp);
        gemm_small_run(m->gemm,
                       &(gemm_small){s->scores, v, out + i * ldo, lp, ldv, ldo, rows, dp, length});
    }
    for (size_t i = 0; dp != d && i < length; i++)
        memcpy(s->context + (from + i) * h + head * d, out + i * dp, d * sizeof(float));
}

static void attend(const encode_model *m, encode_scratch *s, size_t texts) {
    size_t from = 0;
    for (size_t i = 0; i < texts; i++) {
        for (size_t head = 0; head < m->shape.heads; head++)
            attend_head(m, s, from, s->ends[i] - from, head);
        from = s->ends[i];
    }
}

static void multiply(const gemm_matrix *w, encode_scratch *s, const float *x, float *out, size_t m,
                     gemm_act act) {
    gemm_run(
        w, &(gemm_call){
               .x = x, .ldx = w->k, .m = m, .out = out, .ldo = w->n, .act = act, .work = s->work});
}

/* What follows attention, for `rows` rows from `at`. */
static void feed_forward(const encode_model *m, encode_scratch *s, const encode_layer *layer,
                         size_t at, size_t rows) {
    size_t h = m->shape.hidden;
    float *x = s->x + at * h, *part = s->part;
    nn_norm first = {layer->norms, layer->norms + h, m->shape.epsilon, h};
    nn_norm second = {layer->norms + 2 * h, layer->norms + 3 * h, m->shape.epsilon, h};
    multiply(&layer->out, s, s->context + at * h, part, rows, GEMM_LINEAR);
    nn_add_layernorm(m->nn, x, part, &first, rows);
    multiply(&layer->up, s, x, s->inner, rows, GEMM_GELU);
    multiply(&layer->down, s, s->inner, part, rows, GEMM_LINEAR);
    nn_add_layernorm(m->nn, x, part, &second, rows);
}

static err pool(const encode_model *m, const encode_scratch *s, size_t texts, float *out) {
    size_t h = m->shape.hidden, from = 0;
    for (size_t i = 0; i < texts; i++, out += h) {
        const float *rows = s->x + from * h;
        nn_mean(m->nn, rows, m->pool_cls ? 1 : s->ends[i] - from, h, out);
        if (!nn_unit(m->nn, out, h)) {
            memset(out, 0, h * sizeof *out);
            return err_set(ERR_CORRUPT, "model.safetensors: its weights give a vector that is "
                                        "not finite or has no length");
        }
        from = s->ends[i];
    }
    return OK;
}

err forward_run(const encode_model *m, encode_scratch *s, size_t texts, float *out) {
    size_t tokens = s->ends[texts - 1];
    KITH_ASSERT(texts >= 1 && tokens <= s->chunk);
    embed(m, s, texts);
    for (size_t l = 0; l < m->shape.layers; l++) {
        const encode_layer *layer = &m->layers[l];
        multiply(&layer->qkv, s, s->x, s->qkv, tokens, GEMM_LINEAR);
        attend(m, s, texts);
        for (size_t at = 0; at < tokens; at += FORWARD_ROWS)
            feed_forward(m, s, layer, at, MIN(FORWARD_ROWS, tokens - at));
    }
    return pool(m, s, texts, out);
}
