/* What all providers share: the checks of a call, the check of what came back, and the cache of
 * query vectors.
 *
 * The cache holds the last QUERIES vectors by the 128-bit hash of the text (the text itself is not
 * kept). Slots form sets of WAYS; the one used longest ago in a set goes. People repeat queries, and a
 * page that searches as one types repeats prefixes, so this saves most of a search's time: the
 * encoder needs milliseconds, everything else microseconds.
 */
#include "provider/provider_int.h"

#include "obs/metrics.h"

#include <math.h>

enum { QUERIES = 4096, WAYS = 8, SPACE_MAX = 128 };

typedef struct cached {
    uint64_t key[2]; /* both 0: empty */
    uint64_t used;   /* the cache's clock at the last use */
} cached;

struct provider {
    /* immutable */
    const provider_ops *ops;
    void *self;
    char space[SPACE_MAX];
    uint32_t dim;
    size_t texts_max;
    /* guarded by mu */
    mutex mu;
    cached *slots;
    float *vectors; /* QUERIES x dim */
    uint64_t clock;
};

err provider_make(const provider_ops *ops, void *self, const char *space, uint32_t dim,
                  size_t texts_max, provider **out) {
    *out = NULL;
    provider *p = mem_zalloc(1, sizeof *p);
    err rc = p ? mutex_init(&p->mu) : ERR_NO_MEMORY;
    if (rc != OK) {
        ops->close(self);
        mem_free(p);
        return rc;
    }
    p->ops = ops;
    p->self = self;
    p->dim = dim;
    p->texts_max = texts_max;
    memcpy(p->space, space, MIN(strlen(space), SPACE_MAX - 1));
    p->slots = mem_zalloc(QUERIES, sizeof *p->slots);
    p->vectors = mem_zalloc((size_t)QUERIES * dim, sizeof *p->vectors);
    if (!p->slots || !p->vectors) {
        provider_close(p);
        return ERR_NO_MEMORY;
    }
    *out = p;
    return OK;
}

void provider_close(provider *p) {
    if (!p) return;
    p->ops->close(p->self);
    mutex_deinit(&p->mu);
    mem_free(p->slots);
    mem_free(p->vectors);
    mem_free(p);
}

const char *provider_space(const provider *p) {
    return p->space;
}
uint32_t provider_dim(const provider *p) {
    return p->dim;
}
size_t provider_texts_max(const provider *p) {
    return p->texts_max;
}

/* A vector of NaN or of another length than 1 must never reach an index. */
static err check_vectors(const provider *p, const float *v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double norm = 0;
        for (uint32_t d = 0; d < p->dim; d++) norm += (double)v[i * p->dim + d] * v[i * p->dim + d];
        if (!(norm > 0.99 && norm < 1.01))
            return err_set(ERR_INTERNAL, "%s gave a vector that is not of unit length", p->space);
    }
    return OK;
}

/* "local" of "local/all-minilm-l6-v2/f32/384/cosine". */
static void maker_of(const provider *p, char out[METRIC_LABEL_MAX]) {
    size_t n = strcspn(p->space, "/");
    if (n >= METRIC_LABEL_MAX) n = METRIC_LABEL_MAX - 1;
    memcpy(out, p->space, n);
    out[n] = 0;
}

static void count_call(const provider *p, embed_task task, size_t n, uint64_t tokens,
                       uint64_t start, err rc) {
    static const char *const tasks[] = {"document", "query", "similarity"};
    char maker[METRIC_LABEL_MAX];
    uint64_t end = clock_mono_ns();
    maker_of(p, maker);
    const char *timed[] = {maker, tasks[task]}, *outcome[] = {maker, rc == OK ? "ok" : "error"},
               *reason[] = {maker, err_name(rc)};
    metric_record(M_EMBED_SECONDS, metric_series(M_EMBED_SECONDS, timed), end - start);
    metric_add(M_EMBED_REQUESTS, metric_series(M_EMBED_REQUESTS, outcome), 1);
    if (rc != OK) metric_add(M_EMBED_FAILURES, metric_series(M_EMBED_FAILURES, reason), 1);
    if (rc == OK) {
        metric_add(M_EMBED_TEXTS, metric_series(M_EMBED_TEXTS, timed), n);
        metric_add(M_EMBED_TOKENS, metric_series(M_EMBED_TOKENS, timed), tokens);
    }
    span s = span_closed("embeddings", start, end);
    span_kind_set(&s, SPAN_CLIENT);
    span_text(&s, "gen_ai.operation.name", STR("embeddings"));
    span_text(&s, "gen_ai.provider.name", str_of(maker));
    span_text(&s, "gen_ai.request.model", str_of(p->space));
    span_number(&s, "gen_ai.embeddings.dimension.count", p->dim);
    span_number(&s, "gen_ai.usage.input_tokens", (int64_t)tokens);
    if (rc != OK) span_fail(&s, err_name(rc));
}

err provider_embed(provider *p, const str *texts, size_t n, embed_task task, float *out,
                   embed_usage *usage) {
    embed_usage none;
    if (!usage) usage = &none;
    *usage = (embed_usage){0};
    if (n > p->texts_max)
        return err_set_field(ERR_INVALID, "texts", "texts: expected at most %zu, got %zu",
                             p->texts_max, n);
    if (n == 0) return OK;
    uint64_t start = clock_mono_ns();
    err rc = p->ops->embed(p->self, texts, n, task, out, usage);
    if (rc == OK) rc = check_vectors(p, out, n);
    count_call(p, task, n, usage->tokens, start, rc);
    return rc;
}

/* The slot that holds `key`, or the one to use for it. mu is held. */
static size_t find_slot(const provider *p, const uint64_t key[2], bool *hit) {
    size_t set = key[0] % (QUERIES / WAYS) * WAYS, oldest = set;
    for (size_t i = set; i < set + WAYS; i++) {
        *hit = p->slots[i].key[0] == key[0] && p->slots[i].key[1] == key[1];
        if (*hit) return i;
        if (p->slots[i].used < p->slots[oldest].used) oldest = i;
    }
    return oldest;
}

err provider_embed_query(provider *p, str text, float *out, bool *was_cached) {
    uint64_t key[2] = {hash64(text.ptr, text.len, 1), hash64(text.ptr, text.len, 2) | 1};
    bool hit;
    mutex_lock(&p->mu);
    size_t i = find_slot(p, key, &hit);
    if (hit) {
        memcpy(out, p->vectors + i * p->dim, p->dim * sizeof *out);
        p->slots[i].used = ++p->clock;
    }
    mutex_unlock(&p->mu);
    if (was_cached) *was_cached = hit;
    metric_add(M_QUERY_CACHE, hit ? CACHE_HIT : CACHE_MISS, 1);
    if (hit) return OK;
    TRY(provider_embed(p, &text, 1, EMBED_QUERY, out, NULL));
    mutex_lock(&p->mu);
    i = find_slot(p, key, &hit);
    memcpy(p->vectors + i * p->dim, out, p->dim * sizeof *out);
    p->slots[i] = (cached){{key[0], key[1]}, ++p->clock};
    mutex_unlock(&p->mu);
    return OK;
}
