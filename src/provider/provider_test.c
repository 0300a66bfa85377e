/* provider: the mock's geometry, the query cache, and what bad calls get. */
#include "provider/provider_int.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DIM = 128 };

static float dot(const float *a, const float *b) {
    float s = 0;
    for (int i = 0; i < DIM; i++) s += a[i] * b[i];
    return s;
}

static void mock_geometry(void **state) {
    (void)state;
    provider *p;
    float v[4 * DIM];
    str t[] = {STR("The cat sat on the mat"), STR("a cat on a mat"), STR("quantum field theory"),
               STR("")};
    assert_int_equal(provider_mock_open(DIM, &p), OK);
    assert_int_equal(provider_embed(p, t, 4, EMBED_DOCUMENT, v, NULL), OK);
    for (int i = 0; i < 4; i++) assert_true(fabsf(dot(v + i * DIM, v + i * DIM) - 1) < 1e-4f);
    assert_true(dot(v, v + DIM) > 0.3f);
    assert_true(dot(v, v + DIM) > dot(v, v + 2 * DIM) + 0.2f);
    assert_int_equal(provider_dim(p), DIM);
    assert_string_equal(provider_space(p), "mock/words/128/cosine");
    provider_close(p);
}

static void queries_are_cached(void **state) {
    (void)state;
    provider *p;
    float a[DIM], b[DIM];
    bool hit;
    assert_int_equal(provider_mock_open(DIM, &p), OK);
    assert_int_equal(provider_embed_query(p, STR("hello world"), a, &hit), OK);
    assert_false(hit);
    assert_int_equal(provider_embed_query(p, STR("hello world"), b, &hit), OK);
    assert_true(hit);
    assert_memory_equal(a, b, sizeof a);
    /* More queries than slots: the cache stays right, and bounded. */
    for (int i = 0; i < 20000; i++) {
        char z[32];
        str q = {z, (size_t)snprintf(z, sizeof z, "query %d", i % 9000)};
        assert_int_equal(provider_embed_query(p, q, a, &hit), OK);
        assert_int_equal(provider_embed(p, &q, 1, EMBED_QUERY, b, NULL), OK);
        assert_memory_equal(a, b, sizeof a);
    }
    provider_close(p);
}

static void bad_calls(void **state) {
    (void)state;
    provider *p;
    static float v[300 * DIM];
    static str t[300];
    assert_int_equal(provider_mock_open(4, &p), ERR_INVALID);
    assert_int_equal(provider_mock_open(DIM, &p), OK);
    assert_int_equal(provider_embed(p, t, 300, EMBED_DOCUMENT, v, NULL), ERR_INVALID);
    provider_close(p);
    for (long n = 1; n < 6; n++) {
        mem_fail_after(n);
        err rc = provider_mock_open(DIM, &p);
        mem_fail_after(0);
        if (rc == OK)
            provider_close(p);
        else
            assert_int_equal(rc, ERR_NO_MEMORY);
    }
}

/* ---- a maker that counts, and fails as told ---- */

typedef struct scripted {
    size_t calls, texts, largest;
    size_t fail_at;   /* the nth call fails; 0: none */
    size_t texts_max; /* more is refused, and then known */
    size_t known_max;
    float scale; /* of its vectors; 1: as they should be */
} scripted;

static err scripted_embed(void *self, const embed_ask *ask, float *out, embed_usage *usage) {
    scripted *m = self;
    m->calls++;
    if (ask->count > m->texts_max) {
        m->known_max = m->texts_max;
        return err_set(ERR_INVALID, "too many");
    }
    if (m->calls == m->fail_at) return err_set(ERR_IO, "as told");
    m->texts += ask->count;
    m->largest = MAX(m->largest, ask->count);
    memset(out, 0, ask->count * DIM * sizeof *out);
    for (size_t i = 0; i < ask->count; i++)
        out[i * DIM + hash64(ask->texts[i].ptr, ask->texts[i].len, 0) % DIM] = m->scale;
    usage->tokens = ask->count;
    return OK;
}

static void scripted_close(void *self) {
    (void)self;
}

static size_t scripted_max(void *self) {
    const scripted *m = self;
    return m->known_max;
}

static provider *scripted_open(scripted *m, const provider_config *c) {
    static const provider_ops ops = {
        .embed = scripted_embed, .close = scripted_close, .call_texts_max = scripted_max};
    provider_info info = {.kind = "scripted",
                          .space = "scripted/x/128/cosine",
                          .dim = DIM,
                          .texts_max = 256,
                          .call_tokens_max = 1000,
                          .text_tokens_max = 400};
    provider *p;
    if (!m->texts_max) m->texts_max = 256;
    m->known_max = 256;
    assert_int_equal(provider_make(&ops, m, &info, c, &p), OK);
    return p;
}

static void fill(str t[], char text[][32], size_t n, size_t distinct) {
    for (size_t i = 0; i < n; i++)
        t[i] = (str){text[i], (size_t)snprintf(text[i], 32, "text %zu", i % distinct)};
}

static bool right(const float *v, str text) {
    uint64_t at = hash64(text.ptr, text.len, 0) % DIM;
    return v[at] > 0.999f;
}

static void equal_texts_are_asked_for_once(void **state) {
    (void)state;
    scripted m = {.scale = 1};
    provider *p = scripted_open(&m, NULL);
    str t[100];
    char text[100][32];
    static float v[100 * DIM];
    fill(t, text, 100, 17);
    embed_usage use;
    assert_int_equal(provider_embed(p, t, 100, EMBED_DOCUMENT, v, &use), OK);
    assert_true(m.texts == 17 && use.tokens == 17);
    for (size_t i = 0; i < 100; i++) assert_true(right(v + i * DIM, t[i]));
    memset(v, 0, sizeof v);
    assert_int_equal(provider_embed(p, t, 100, EMBED_DOCUMENT, v, &use), OK);
    assert_true(m.texts == 17 && use.tokens == 0);
    for (size_t i = 0; i < 100; i++) assert_true(right(v + i * DIM, t[i]));
    provider_forget(p, STR(" text  3"));
    assert_int_equal(provider_embed(p, t, 100, EMBED_DOCUMENT, v, &use), OK);
    assert_int_equal(m.texts, 18);
    provider_stats st;
    provider_stats_get(p, &st);
    assert_true(st.texts == 300 && st.cache_misses == 18 && st.cache_entries == 17);
    provider_close(p);
}

static void what_was_paid_for_is_kept_when_a_call_fails(void **state) {
    (void)state;
    scripted m = {.scale = 1, .texts_max = 10, .fail_at = 5};
    provider *p = scripted_open(&m, NULL);
    str t[60];
    char text[60][32];
    static float v[60 * DIM];
    fill(t, text, 60, 60);
    /* The first call is refused for its size, four go, the fifth fails. */
    assert_int_equal(provider_embed(p, t, 60, EMBED_DOCUMENT, v, NULL), ERR_IO);
    assert_true(m.calls == 5 && m.texts == 30);
    assert_int_equal(provider_embed(p, t, 60, EMBED_DOCUMENT, v, NULL), OK);
    assert_true(m.calls == 8 && m.texts == 60 && m.largest == 10);
    for (size_t i = 0; i < 60; i++) assert_true(right(v + i * DIM, t[i]));
    provider_close(p);
}

static void a_call_stays_within_its_tokens(void **state) {
    (void)state;
    scripted m = {.scale = 1};
    provider *p = scripted_open(&m, NULL);
    static char text[10][4000];
    static float v[10 * DIM];
    str t[10];
    for (size_t i = 0; i < 10; i++) {
        memset(text[i], 'a' + (int)i, sizeof text[i]);
        t[i] = str_from(text[i], sizeof text[i]); /* 1,334 tokens, cut at 400 */
    }
    assert_int_equal(provider_embed(p, t, 10, EMBED_DOCUMENT, v, NULL), OK);
    assert_true(m.largest == 2 && m.calls == 5);
    provider_close(p);
}

static void a_wrong_vector_never_comes_through(void **state) {
    (void)state;
    static const float scales[] = {0, 0.5f, 2, NAN, INFINITY};
    for (size_t i = 0; i < COUNT_OF(scales); i++) {
        scripted m = {.scale = scales[i]};
        provider *p = scripted_open(&m, NULL);
        float v[DIM];
        str t = STR("x");
        assert_int_equal(provider_embed(p, &t, 1, EMBED_DOCUMENT, v, NULL), ERR_INTERNAL);
        assert_int_equal(provider_embed_query(p, t, v, NULL), ERR_INTERNAL);
        m.scale = 1; /* and nothing of it was kept */
        assert_int_equal(provider_embed_query(p, t, v, NULL), OK);
        provider_close(p);
    }
}

/* ---- threads ---- */

static err pure_embed(void *self, const embed_ask *ask, float *out, embed_usage *usage) {
    (void)self, (void)usage;
    memset(out, 0, ask->count * DIM * sizeof *out);
    for (size_t i = 0; i < ask->count; i++)
        out[i * DIM + hash64(ask->texts[i].ptr, ask->texts[i].len, 0) % DIM] = 1;
    return OK;
}

typedef struct asker {
    provider *p;
    uint64_t seed;
    thread t;
} asker;

static void ask_many(void *arg) {
    asker *a = arg;
    rng r;
    rng_seed(&r, a->seed);
    for (int i = 0; i < 1500; i++) {
        char z[32];
        float v[2 * DIM];
        str t[2] = {{z, (size_t)snprintf(z, sizeof z, "text %u", rng_below(&r, 300))}, STR("same")};
        if (rng_below(&r, 10) == 0) provider_forget(a->p, t[0]);
        bool query = rng_below(&r, 2);
        err rc = query ? provider_embed_query(a->p, t[0], v, NULL)
                       : provider_embed(a->p, t, 2, EMBED_DOCUMENT, v, NULL);
        KITH_ASSERT(rc == OK && right(v, t[0]) && (query || right(v + DIM, t[1])));
    }
}

static void many_threads_one_provider(void **state) {
    (void)state;
    static const provider_ops ops = {.embed = pure_embed, .close = scripted_close};
    provider_info info = {
        .kind = "pure", .space = "pure/x/128/cosine", .dim = DIM, .texts_max = 256};
    char dir[] = "/tmp/kith-provider-XXXXXX", cmd[64];
    assert_non_null(mkdtemp(dir));
    provider_config c = {.cache_bytes = 60000, .cache_dir = dir, .disk_bytes = 100000};
    provider *p;
    asker a[4];
    assert_int_equal(provider_make(&ops, NULL, &info, &c, &p), OK);
    for (size_t i = 0; i < COUNT_OF(a); i++) {
        a[i] = (asker){.p = p, .seed = i + 1};
        assert_int_equal(thread_start(&a[i].t, "asker", ask_many, &a[i]), OK);
    }
    for (size_t i = 0; i < COUNT_OF(a); i++) thread_join(&a[i].t);
    provider_stats st;
    provider_stats_get(p, &st);
    assert_true(st.cache_hits > 0 && st.cache_disk_hits > 0 && st.errors == 0);
    provider_close(p);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    assert_int_equal(system(cmd), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mock_geometry),
        cmocka_unit_test(queries_are_cached),
        cmocka_unit_test(bad_calls),
        cmocka_unit_test(equal_texts_are_asked_for_once),
        cmocka_unit_test(what_was_paid_for_is_kept_when_a_call_fails),
        cmocka_unit_test(a_call_stays_within_its_tokens),
        cmocka_unit_test(a_wrong_vector_never_comes_through),
        cmocka_unit_test(many_threads_one_provider),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
