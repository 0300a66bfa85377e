/* What all providers share: the checks of a call, the caches, batches within a service's limits, and the
 * check of what came back.
 *
 * A call looks each text up, in memory and then on disk; what is missing is asked for once, also when it
 * stands twice in the call, in batches that the service takes, and goes into the caches batch by batch:
 * so a call that fails half way loses nothing that was paid for. Queries stay in memory only: what
 * people search for is not written down.
 */
#include "provider/provider_int.h"

#include "obs/metrics.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>

enum { CACHE_BYTES = 32 << 20, MODEL_NAME_MAX = 64 };
#define DISK_BYTES ((uint64_t)256 << 20)

struct provider {
    /* immutable */
    const provider_ops *ops;
    void *self;
    provider_info info;
    cache *memory;
    disk_cache *disk; /* NULL: none */
    /* counters */
    _Atomic uint64_t texts, tokens, errors, hits, disk_hits, misses;
};

static void bump(_Atomic uint64_t *n, uint64_t by) {
    atomic_fetch_add_explicit(n, by, memory_order_relaxed);
}

static uint64_t read_of(_Atomic uint64_t *n) {
    return atomic_load_explicit(n, memory_order_relaxed);
}

/* ---- opening ---- */

void provider_space_set(provider_info *i, const char *kind, str name, const char *variant) {
    name.len = MIN(name.len, MODEL_NAME_MAX);
    snprintf(i->space, sizeof i->space, "%s/%.*s%s%s/%u/cosine", kind, STR_ARG(name),
             variant ? "/" : "", variant ? variant : "", i->dim);
}

static err open_caches(provider *p, const provider_config *c) {
    TRY(cache_open(c && c->cache_bytes ? c->cache_bytes : CACHE_BYTES, p->info.dim, &p->memory));
    if (!c || !c->cache_dir) return OK;
    return disk_cache_open(c->fs ? c->fs : fs_real(), c->cache_dir, &p->info,
                           c->disk_bytes ? c->disk_bytes : DISK_BYTES, &p->disk);
}

err provider_make(const provider_ops *ops, void *self, const provider_info *info,
                  const provider_config *c, provider **out) {
    *out = NULL;
    provider *p = mem_zalloc(1, sizeof *p);
    if (!p) {
        ops->close(self);
        return ERR_NO_MEMORY;
    }
    p->ops = ops;
    p->self = self;
    p->info = *info;
    err rc = sodium_init() < 0 ? err_set(ERR_INTERNAL, "libsodium cannot be initialised") : OK;
    if (rc == OK) rc = open_caches(p, c);
    if (rc != OK) {
        provider_close(p);
        return rc;
    }
    *out = p;
    return OK;
}

err provider_open(const provider_config *c, provider **out) {
    *out = NULL;
    str kind = str_of(c->kind ? c->kind : "local");
    if (str_eq(kind, STR("local")))
        return provider_local_open(c->fs ? c->fs : fs_real(), c->model_dir,
                                   c->precision ? c->precision : "f32", out);
    if (str_eq(kind, STR("mock"))) return provider_mock_open(c->dim, out);
    if (str_eq(kind, STR("openai"))) return remote_openai_open(c, out);
    if (str_eq(kind, STR("vertex"))) return remote_vertex_open(c, out);
    return err_set_field(ERR_INVALID, "provider",
                         "provider: expected local, openai, vertex or mock, got '%s'", c->kind);
}

void provider_cancel(provider *p) {
    if (p && p->ops->cancel) p->ops->cancel(p->self);
}

void provider_close(provider *p) {
    if (!p) return;
    p->ops->close(p->self);
    cache_close(p->memory);
    disk_cache_close(p->disk);
    mem_free(p);
}

const provider_info *provider_about(const provider *p) {
    return &p->info;
}
const char *provider_space(const provider *p) {
    return p->info.space;
}
uint32_t provider_dim(const provider *p) {
    return p->info.dim;
}
size_t provider_texts_max(const provider *p) {
    return p->info.texts_max;
}

/* ---- vectors ---- */

static double length(const float *v, uint32_t dim) {
    double sum = 0;
    for (uint32_t d = 0; d < dim; d++) sum += (double)v[d] * v[d];
    return sqrt(sum);
}

bool provider_unit(float *v, uint32_t dim) {
    double n = length(v, dim);
    if (!(n > 1e-12 && n < 1e30)) return false; /* also NaN */
    for (uint32_t d = 0; d < dim; d++) v[d] = (float)(v[d] / n);
    return true;
}

/* A vector of NaN or of another length than 1 must never reach an index. */
static err check_vectors(const provider *p, const float *v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double len = length(v + i * p->info.dim, p->info.dim);
        if (!(len > 0.995 && len < 1.005))
            return err_set(ERR_INTERNAL, "%s gave a vector that is not of unit length",
                           p->info.space);
    }
    return OK;
}

/* ---- keys ---- */

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

cache_key cache_key_of(const provider_info *i, embed_task task, str text) {
    crypto_generichash_state h;
    cache_key k;
    unsigned char side = i->sided ? (unsigned char)task : 0, gap = ' ';
    crypto_generichash_init(&h, NULL, 0, sizeof k);
    crypto_generichash_update(&h, (const unsigned char *)i->space, strlen(i->space) + 1);
    crypto_generichash_update(&h, &side, 1);
    for (size_t at = 0; at < text.len;) {
        size_t end = at;
        while (end < text.len && !is_space(text.ptr[end])) end++;
        if (end > at) {
            crypto_generichash_update(&h, (const unsigned char *)text.ptr + at, end - at);
            crypto_generichash_update(&h, &gap, 1);
        }
        while (end < text.len && is_space(text.ptr[end])) end++;
        at = end;
    }
    uint8_t out[sizeof k];
    crypto_generichash_final(&h, out, sizeof out);
    k.h[0] = le64_get(out);
    k.h[1] = le64_get(out + 8);
    return k;
}

uint64_t provider_guess_tokens(const provider_info *i, str text) {
    uint64_t n = text.len / 3 + 1;
    return i->text_tokens_max ? MIN(n, i->text_tokens_max) : n;
}

/* ---- counting ---- */

/* One call to the maker of vectors: what no cache had. */
static void count_call(const provider *p, const embed_ask *ask, uint64_t tokens, uint64_t start,
                       err rc) {
    static const char *const tasks[] = {"document", "query", "similarity"};
    const char *maker = p->info.kind;
    uint64_t end = clock_mono_ns();
    const char *timed[] = {maker, tasks[ask->task]},
               *outcome[] = {maker, rc == OK ? "ok" : "error"}, *reason[] = {maker, err_name(rc)};
    metric_record(M_EMBED_SECONDS, metric_series(M_EMBED_SECONDS, timed), end - start);
    metric_add(M_EMBED_REQUESTS, metric_series(M_EMBED_REQUESTS, outcome), 1);
    if (rc != OK) metric_add(M_EMBED_FAILURES, metric_series(M_EMBED_FAILURES, reason), 1);
    if (rc == OK) {
        metric_add(M_EMBED_TEXTS, metric_series(M_EMBED_TEXTS, timed), ask->count);
        metric_add(M_EMBED_TOKENS, metric_series(M_EMBED_TOKENS, timed), tokens);
    }
    span s = span_closed("embeddings", start, end);
    span_kind_set(&s, SPAN_CLIENT);
    span_text(&s, "gen_ai.operation.name", STR("embeddings"));
    span_text(&s, "gen_ai.provider.name", str_of(maker));
    span_text(&s, "gen_ai.request.model", str_of(p->info.space));
    span_number(&s, "gen_ai.embeddings.dimension.count", p->info.dim);
    span_number(&s, "gen_ai.usage.input_tokens", (int64_t)tokens);
    if (rc != OK) span_fail(&s, err_name(rc));
}

/* Asks the maker of vectors and checks what it gave. */
static err make_vectors(provider *p, const embed_ask *ask, float *out, embed_usage *usage) {
    uint64_t start = clock_mono_ns();
    err rc = p->ops->embed(p->self, ask, out, usage);
    if (rc == OK) rc = check_vectors(p, out, ask->count);
    count_call(p, ask, usage->tokens, start, rc);
    return rc;
}

/* ---- a call ---- */

/* The texts of one call that no cache has. */
typedef struct missing {
    cache_key key[PROVIDER_TEXTS_MAX]; /* of every text of the call */
    uint32_t at[PROVIDER_TEXTS_MAX];   /* the call's numbers of those that are missing */
    uint32_t same[PROVIDER_TEXTS_MAX]; /* an earlier number with the same key; its own otherwise */
    str texts[PROVIDER_TEXTS_MAX];
    size_t count;
} missing;

/* Only documents are kept on disk, so only their keys are worth a read. */
static bool on_disk(const provider *p, embed_task task) {
    return p->disk && (task == EMBED_DOCUMENT || !p->info.sided);
}

static bool look_up(provider *p, embed_task task, const cache_key *k, float *out) {
    bool hit = cache_get(p->memory, k, out);
    if (!hit && on_disk(p, task) && disk_cache_get(p->disk, k, out)) {
        cache_put(p->memory, k, out);
        bump(&p->disk_hits, 1);
        hit = true;
    }
    bump(hit ? &p->hits : &p->misses, 1);
    return hit;
}

static uint32_t find_same(const missing *m, uint32_t i) {
    for (size_t j = 0; j < m->count; j++) {
        const cache_key *k = &m->key[m->at[j]];
        if (k->h[0] == m->key[i].h[0] && k->h[1] == m->key[i].h[1]) return m->at[j];
    }
    return i;
}

static void find_missing(provider *p, const embed_ask *ask, float *out, missing *m) {
    for (uint32_t i = 0; i < ask->count; i++) {
        m->key[i] = cache_key_of(&p->info, ask->task, ask->texts[i]);
        m->same[i] = find_same(m, i);
        if (m->same[i] != i || look_up(p, ask->task, &m->key[i], out + (size_t)i * p->info.dim))
            continue;
        m->texts[m->count] = ask->texts[i];
        m->at[m->count++] = i;
    }
}

/* How many of the missing, from `from`, go into one call to the service. */
static size_t batch_size(provider *p, const missing *m, size_t from) {
    size_t most = p->ops->call_texts_max ? p->ops->call_texts_max(p->self) : p->info.texts_max,
           n = 0;
    uint64_t tokens = 0;
    while (from + n < m->count && n < most) {
        tokens += provider_guess_tokens(&p->info, m->texts[from + n]);
        if (n && p->info.call_tokens_max && tokens > p->info.call_tokens_max) break;
        n++;
    }
    return n;
}

static void keep(provider *p, const embed_ask *ask, const cache_key *k, const float *v) {
    cache_put(p->memory, k, v);
    if (p->disk && ask->task == EMBED_DOCUMENT) disk_cache_put(p->disk, k, v);
}

static err embed_missing(provider *p, const embed_ask *ask, missing *m, float *out,
                         embed_usage *usage) {
    uint32_t dim = p->info.dim;
    float *v = mem_alloc(m->count * dim * sizeof *v);
    if (!v) return ERR_NO_MEMORY;
    err rc = OK;
    for (size_t from = 0, n; from < m->count && rc == OK; from += n) {
        embed_ask part = *ask;
        embed_usage use = {0};
        n = batch_size(p, m, from);
        part.texts = m->texts + from;
        part.count = n;
        rc = make_vectors(p, &part, v, &use);
        if (rc != OK && batch_size(p, m, from) < n) { /* it learned a smaller limit: again */
            rc = OK;
            n = 0;
            continue;
        }
        usage->tokens += use.tokens;
        for (size_t i = 0; i < n && rc == OK; i++) {
            uint32_t at = m->at[from + i];
            memcpy(out + (size_t)at * dim, v + i * dim, dim * sizeof *out);
            keep(p, ask, &m->key[at], v + i * dim);
        }
    }
    mem_free(v);
    return rc;
}

static err embed_texts(provider *p, const embed_ask *ask, float *out, embed_usage *usage) {
    missing *m = mem_alloc(sizeof *m);
    if (!m) return ERR_NO_MEMORY;
    m->count = 0;
    find_missing(p, ask, out, m);
    err rc = m->count ? embed_missing(p, ask, m, out, usage) : OK;
    size_t dim = p->info.dim;
    for (uint32_t i = 0; i < ask->count && rc == OK; i++)
        if (m->same[i] != i) memcpy(out + i * dim, out + m->same[i] * dim, dim * sizeof *out);
    mem_free(m);
    return rc;
}

err provider_embed_ask(provider *p, const embed_ask *ask, float *out, embed_usage *usage) {
    embed_usage none;
    if (!usage) usage = &none;
    *usage = (embed_usage){0};
    if (ask->count > p->info.texts_max)
        return err_set_field(ERR_INVALID, "texts", "texts: expected at most %zu, got %zu",
                             p->info.texts_max, ask->count);
    for (size_t i = 0; i < ask->count && p->info.remote; i++) /* JSON takes nothing else */
        if (!utf8_valid(ask->texts[i], NULL))
            return err_set_field(ERR_INVALID, "texts", "texts: expected valid UTF-8");
    if (ask->count == 0) return OK;
    err rc = embed_texts(p, ask, out, usage);
    bump(&p->texts, ask->count);
    bump(&p->tokens, usage->tokens);
    if (rc != OK) bump(&p->errors, 1);
    return rc;
}

err provider_embed(provider *p, const str *texts, size_t n, embed_task task, float *out,
                   embed_usage *usage) {
    return provider_embed_ask(p, &(embed_ask){.texts = texts, .count = n, .task = task}, out,
                              usage);
}

err provider_embed_query(provider *p, str text, float *out, bool *was_cached) {
    cache_key k = cache_key_of(&p->info, EMBED_QUERY, text);
    bool hit = look_up(p, EMBED_QUERY, &k, out);
    if (was_cached) *was_cached = hit;
    metric_add(M_QUERY_CACHE, hit ? CACHE_HIT : CACHE_MISS, 1);
    if (hit) {
        bump(&p->texts, 1);
        return OK;
    }
    embed_usage use = {0};
    embed_ask ask = {.texts = &text, .count = 1, .task = EMBED_QUERY};
    err rc = p->info.remote && !utf8_valid(text, NULL)
                 ? err_set_field(ERR_INVALID, "q", "expected valid UTF-8")
                 : make_vectors(p, &ask, out, &use);
    if (rc == OK) keep(p, &ask, &k, out);
    bump(&p->texts, 1);
    bump(&p->tokens, use.tokens);
    if (rc != OK) bump(&p->errors, 1);
    return rc;
}

err provider_check(provider *p) {
    str text = STR("kith");
    embed_ask ask = {.texts = &text, .count = 1, .bulk = true};
    embed_usage use = {0};
    float *v = mem_alloc(p->info.dim * sizeof *v);
    if (!v) return ERR_NO_MEMORY;
    err rc = make_vectors(p, &ask, v, &use);
    mem_free(v);
    return rc;
}

void provider_forget(provider *p, str text) {
    for (int task = EMBED_DOCUMENT; task <= (p->info.sided ? EMBED_SIMILARITY : EMBED_DOCUMENT);
         task++) {
        cache_key k = cache_key_of(&p->info, (embed_task)task, text);
        cache_forget(p->memory, &k);
        if (on_disk(p, (embed_task)task)) disk_cache_forget(p->disk, &k);
    }
}

void provider_stats_get(provider *p, provider_stats *out) {
    memset(out, 0, sizeof *out);
    if (p->ops->stats) p->ops->stats(p->self, out);
    out->texts = read_of(&p->texts);
    out->tokens = read_of(&p->tokens);
    out->errors = read_of(&p->errors);
    out->cache_hits = read_of(&p->hits);
    out->cache_disk_hits = read_of(&p->disk_hits);
    out->cache_misses = read_of(&p->misses);
    out->cache_entries = cache_count(p->memory, &out->cache_bytes);
}
