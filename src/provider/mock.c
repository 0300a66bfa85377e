/* The mock provider: deterministic vectors at no cost, for tests and dry runs.
 *
 * A text is the sum of the pseudo-random sign vectors of its words (lower case, ASCII folding only)
 * and, at a third of the weight, of its character trigrams; so texts that share words are near, texts
 * that share stems are a little near, and all else is at a right angle, as random directions are.
 */
#include "provider/provider_int.h"

#include <math.h>

typedef struct mock {
    uint32_t dim;
} mock;

static void add(float *v, uint32_t dim, uint64_t seed, float weight) {
    for (uint32_t d = 0; d < dim; d += 64) {
        uint64_t bits = hash64_u64(seed + d);
        for (uint32_t i = 0; i < 64 && d + i < dim; i++)
            v[d + i] += (bits >> i) & 1 ? weight : -weight;
    }
}

static bool is_word(unsigned char c) {
    return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
}

static unsigned char fold(char c) {
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static void embed_one(const mock *m, str text, float *v) {
    memset(v, 0, m->dim * sizeof *v);
    uint64_t word = 0, gram = 0;
    add(v, m->dim, 1, 0.01f); /* an empty text has a direction too */
    for (size_t i = 0; i <= text.len; i++) {
        unsigned char c = i < text.len ? fold(text.ptr[i]) : ' ';
        if (is_word(c)) {
            word = hash64_u64(word ^ c) | 1;
            gram = (gram << 8 | c) & 0xffffff;
            if (gram > 0xffff) add(v, m->dim, hash64_u64(gram), 0.33f);
        } else {
            if (word) add(v, m->dim, word, 1.0f);
            word = gram = 0;
        }
    }
    double norm = 0;
    for (uint32_t d = 0; d < m->dim; d++) norm += (double)v[d] * v[d];
    for (uint32_t d = 0; d < m->dim; d++) v[d] = (float)(v[d] / sqrt(norm));
}

static err mock_embed(void *self, const embed_ask *ask, float *out, embed_usage *usage) {
    const mock *m = self;
    for (size_t i = 0; i < ask->count; i++) {
        embed_one(m, ask->texts[i], out + i * m->dim);
        usage->tokens += ask->texts[i].len / 4 + 1;
    }
    return OK;
}

static void mock_close(void *self) {
    mem_free(self);
}

err provider_mock_open(uint32_t dim, provider **out) {
    static const provider_ops ops = {.embed = mock_embed, .close = mock_close};
    *out = NULL;
    if (dim < 8 || dim > PROVIDER_DIM_MAX)
        return err_set(ERR_INVALID, "mock provider: expected 8 to %d dimensions", PROVIDER_DIM_MAX);
    mock *m = mem_zalloc(1, sizeof *m);
    if (!m) return ERR_NO_MEMORY;
    m->dim = dim;
    provider_info info = {.kind = "mock", .dim = dim, .texts_max = PROVIDER_TEXTS_MAX};
    provider_space_set(&info, "mock", STR("words"), NULL);
    return provider_make(&ops, m, &info, NULL, out);
}
