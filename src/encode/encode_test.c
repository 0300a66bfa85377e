/* The whole encoder on a tiny model whose outputs an independent computation gave
 * (tests/encode_fixture.py): tokens, vectors, pooling, precisions, and every way its files can be
 * wrong. The real model is compared with its reference by tests/encode_oracle.py. */
#include "encode/encode_fixture_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define DIM FIXTURE_HIDDEN

typedef struct fixture {
    strbuf weights;
    encode_files files;
} fixture;

static int set_up(void **state) {
    fixture *f = mem_zalloc(1, sizeof *f);
    assert_non_null(f);
    strbuf_init(&f->weights, MIB);
    fixture_weights(&(fixture_plan){0}, &f->weights);
    assert_int_equal(f->weights.rc, OK);
    f->files = fixture_files(&f->weights);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    strbuf_deinit(&f->weights);
    mem_free(f);
    return 0;
}

static encode_model *opened(const encode_files *files, encode_precision p) {
    encode_model *m;
    if (encode_model_open(files, p, &m) != OK) fail_msg("%s", err_detail());
    return m;
}

static void encode_texts(const encode_model *m, size_t n, float *out, encode_stats *stats) {
    str texts[FIXTURE_TEXTS];
    encode_scratch *s;
    for (size_t i = 0; i < n; i++) texts[i] = fixture_texts[i].text;
    assert_int_equal(encode_scratch_open(m, &s), OK);
    assert_int_equal(encode_batch(m, s, texts, n, out, stats), OK);
    encode_scratch_close(s);
}

static void test_tokens(void **state) {
    fixture *f = *state;
    encode_model *m = opened(&f->files, ENCODE_F32);
    assert_int_equal(encode_max_tokens(m), FIXTURE_LONGEST);
    for (size_t i = 0; i < COUNT_OF(fixture_texts); i++) {
        const fixture_text *t = &fixture_texts[i];
        uint32_t ids[FIXTURE_LONGEST];
        size_t n;
        encode_tokens(m, t->text, ids, &n);
        if (n != t->count || memcmp(ids, t->ids, n * sizeof *ids) != 0)
            fail_msg("text %zu: %zu tokens, expected %zu, or other ids", i, n, t->count);
    }
    encode_model_close(m);
}

static void test_not_utf8(void **state) {
    fixture *f = *state;
    encode_model *m = opened(&f->files, ENCODE_F32);
    uint32_t ids[FIXTURE_LONGEST], expected[] = {2, 5, 6, 3};
    size_t n;
    encode_tokens(m, STR("hel\xff\xc3lo \xe4\xb8world\xf0\x9f"), ids, &n);
    assert_int_equal(n, 4);
    assert_memory_equal(ids, expected, sizeof expected);
    encode_model_close(m);
}

static void check_near(const float *got, const float expected[][DIM], double tolerance) {
    for (size_t i = 0; i < FIXTURE_TEXTS; i++)
        for (size_t j = 0; j < DIM; j++)
            if (!(fabs((double)got[i * DIM + j] - expected[i][j]) <= tolerance))
                fail_msg("text %zu [%zu]: %g, expected %g", i, j, got[i * DIM + j], expected[i][j]);
}

static void test_vectors(void **state) {
    fixture *f = *state;
    static const double tolerance[ENCODE_PRECISIONS] = {2e-6, 0.02, 0.05};
    for (int p = 0; p < ENCODE_PRECISIONS; p++) {
        encode_model *m = opened(&f->files, (encode_precision)p);
        float out[FIXTURE_TEXTS * DIM];
        assert_int_equal(encode_dim(m), DIM);
        assert_int_equal(encode_precision_of(m), p);
        encode_texts(m, FIXTURE_TEXTS, out, NULL);
        check_near(out, fixture_means, tolerance[p]);
        encode_model_close(m);
    }
}

static void test_cls_pooling(void **state) {
    fixture *f = *state;
    encode_files files = f->files;
    float out[FIXTURE_TEXTS * DIM];
    files.pooling = STR(FIXTURE_CLS);
    encode_model *m = opened(&files, ENCODE_F32);
    encode_texts(m, FIXTURE_TEXTS, out, NULL);
    check_near(out, fixture_firsts, 2e-6);
    encode_model_close(m);
}

/* Rows of a chunk do not touch each other: a text's vector is the same bits in any company. */
static void test_batch_invariant(void **state) {
    fixture *f = *state;
    for (int p = 0; p < ENCODE_PRECISIONS; p++) {
        encode_model *m = opened(&f->files, (encode_precision)p);
        encode_scratch *s;
        str texts[700];
        float *all = mem_alloc(COUNT_OF(texts) * DIM * sizeof *all), one[DIM];
        assert_non_null(all);
        assert_int_equal(encode_scratch_open(m, &s), OK);
        for (size_t i = 0; i < COUNT_OF(texts); i++)
            texts[i] = fixture_texts[i % COUNT_OF(fixture_texts)].text;
        encode_stats stats = {0};
        assert_int_equal(encode_batch(m, s, texts, COUNT_OF(texts), all, &stats), OK);
        assert_int_equal(stats.texts, COUNT_OF(texts));
        for (size_t i = 0; i < COUNT_OF(texts); i += 37) {
            assert_int_equal(encode_batch(m, s, &texts[i], 1, one, NULL), OK);
            assert_memory_equal(one, all + i * DIM, sizeof one);
        }
        mem_free(all);
        encode_scratch_close(s);
        encode_model_close(m);
    }
}

static void test_stats(void **state) {
    fixture *f = *state;
    encode_model *m = opened(&f->files, ENCODE_F32);
    encode_scratch *s;
    encode_stats stats = {1, 1, 1};
    float out[3 * DIM];
    str texts[] = {STR("hello"), STR("a a a a a a a a a a a a a a"),
                   STR("a a a a a a a a a a a a a a a")};
    assert_int_equal(encode_scratch_open(m, &s), OK);
    assert_int_equal(encode_batch(m, s, texts, 3, out, &stats), OK);
    assert_int_equal(stats.texts, 4);
    assert_int_equal(stats.tokens, 1 + 3 + 16 + 16);
    assert_int_equal(stats.truncated, 2); /* the third text had one more */
    assert_memory_equal(out + DIM, out + 2 * DIM, DIM * sizeof *out);
    assert_int_equal(encode_batch(m, s, texts, 0, out, &stats), OK);
    assert_true(encode_scratch_bytes(s) > 0 && encode_model_bytes(m) > f->weights.len / 2);
    encode_scratch_close(s);
    encode_model_close(m);
}

static void test_weight_types(void **state) {
    fixture *f = *state;
    static const fixture_plan plans[] = {
        {.dtype = FIXTURE_F16}, {.dtype = FIXTURE_BF16}, {.prefix = "bert."}};
    static const double tolerance[] = {3e-3, 2e-2, 2e-6};
    for (size_t i = 0; i < COUNT_OF(plans); i++) {
        strbuf w;
        float out[FIXTURE_TEXTS * DIM];
        encode_files files = f->files;
        strbuf_init(&w, MIB);
        fixture_weights(&plans[i], &w);
        files.weights = strbuf_str(&w);
        encode_model *m = opened(&files, ENCODE_F32);
        strbuf_deinit(&w); /* the model keeps nothing of the files */
        encode_texts(m, FIXTURE_TEXTS, out, NULL);
        check_near(out, fixture_means, tolerance[i]);
        encode_model_close(m);
    }
}

static void test_optional_files(void **state) {
    fixture *f = *state;
    encode_files files = f->files;
    files.pooling = files.sentence = files.tokenizer = (str){0};
    encode_model *m = opened(&files, ENCODE_F32);
    float out[FIXTURE_TEXTS * DIM];
    assert_int_equal(encode_max_tokens(m), FIXTURE_POSITIONS);
    encode_texts(m, FIXTURE_TEXTS, out, NULL);
    check_near(out, fixture_means, 2e-6);
    encode_model_close(m);
}

/* ---- files that are wrong ---- */

static void refused(const encode_files *files, err code, const char *says) {
    encode_model *m = NULL;
    assert_int_equal(encode_model_open(files, ENCODE_F32, &m), code);
    assert_null(m);
    if (!strstr(err_detail(), says)) fail_msg("'%s' does not say '%s'", err_detail(), says);
}

static void test_wrong_tensors(void **state) {
    fixture *f = *state;
    for (size_t n = 0; n < FIXTURE_TENSORS; n++) {
        fixture_tensor t = fixture_tensor_at(n);
        fixture_plan plans[] = {{.skip = t.name},
                                {.reshape = t.name},
                                {.spoil = t.name},
                                {.spoil = t.name, .dtype = FIXTURE_F16}};
        static const char *const says[] = {"missing", "expected shape", "not finite", "not finite"};
        for (size_t i = 0; i < COUNT_OF(plans); i++) {
            strbuf w;
            encode_files files = f->files;
            strbuf_init(&w, MIB);
            fixture_weights(&plans[i], &w);
            files.weights = strbuf_str(&w);
            refused(&files, ERR_CORRUPT, t.name);
            refused(&files, ERR_CORRUPT, says[i]);
            refused(&files, ERR_CORRUPT, "model.safetensors");
            strbuf_deinit(&w);
        }
    }
}

static void test_wrong_configuration(void **state) {
    fixture *f = *state;
    static const struct {
        const char *from, *to, *says;
        err code;
    } cases[] = {
        {"\"bert\"", "\"gpt2\"", "model_type", ERR_UNSUPPORTED},
        {"\"gelu\"", "\"relu\"", "hidden_act", ERR_UNSUPPORTED},
        {"\"hidden_size\":20", "\"hidden_size\":0", "hidden_size", ERR_CORRUPT},
        {"\"hidden_size\":20", "\"hidden_size\":-1", "hidden_size", ERR_CORRUPT},
        {"\"hidden_size\":20", "\"hidden_size\":4097", "hidden_size", ERR_CORRUPT},
        {"\"hidden_size\":20", "\"hidden_size\":\"x\"", "hidden_size", ERR_CORRUPT},
        {"\"hidden_size\":20", "\"hidden_size\":21", "num_attention_heads", ERR_CORRUPT},
        {"\"hidden_size\":20", "\"hidden_size\":22", "word_embedding_dimension", ERR_CORRUPT},
        {"\"num_hidden_layers\":2", "\"num_hidden_layers\":3", "encoder.layer.2.", ERR_CORRUPT},
        {"\"vocab_size\":40", "\"vocab_size\":39", "word_embeddings", ERR_CORRUPT},
        {"\"layer_norm_eps\":1e-12", "\"layer_norm_eps\":2", "layer_norm_eps", ERR_CORRUPT},
        {"\"type_vocab_size\":2", "\"x\":2", "type_vocab_size", ERR_CORRUPT},
        {"\"model_type\"", "model_type", "config.json", ERR_CORRUPT},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        strbuf b;
        strbuf_init(&b, MIB);
        str config = STR(FIXTURE_CONFIG);
        ptrdiff_t at = str_find(config, str_of(cases[i].from));
        assert_true(at >= 0);
        strbuf_add(&b, str_from(config.ptr, (size_t)at));
        strbuf_addz(&b, cases[i].to);
        strbuf_add(&b, str_skip(config, (size_t)at + strlen(cases[i].from)));
        encode_files files = f->files;
        files.config = strbuf_str(&b);
        refused(&files, cases[i].code, cases[i].says);
        strbuf_deinit(&b);
    }
}

static void test_wrong_small_files(void **state) {
    fixture *f = *state;
    encode_files files = f->files;
    files.pooling = STR("{\"pooling_mode_max_tokens\":true}");
    refused(&files, ERR_UNSUPPORTED, "1_Pooling/config.json");
    files.pooling = STR("{\"pooling_mode_mean_tokens\":true,\"pooling_mode_cls_token\":true}");
    refused(&files, ERR_UNSUPPORTED, "1_Pooling/config.json");
    files.pooling = STR("{");
    refused(&files, ERR_CORRUPT, "1_Pooling/config.json");
    files = f->files;
    files.sentence = STR("{\"max_seq_length\":2}");
    refused(&files, ERR_CORRUPT, "sentence_bert_config.json");
    files.sentence = STR("[");
    refused(&files, ERR_CORRUPT, "sentence_bert_config.json");
    files = f->files;
    files.tokenizer = STR("");
    refused(&files, ERR_CORRUPT, "tokenizer_config.json");
    files = f->files;
    files.config = (str){0};
    refused(&files, ERR_CORRUPT, "config.json");
    files = f->files;
    files.weights = (str){0};
    refused(&files, ERR_CORRUPT, "model.safetensors");
}

static void test_wrong_vocabulary(void **state) {
    fixture *f = *state;
    encode_files files = f->files;
    files.vocabulary = STR("");
    refused(&files, ERR_CORRUPT, "vocab.txt");
    files.vocabulary = STR("[UNK]\n[CLS]\nhello\n");
    refused(&files, ERR_CORRUPT, "[SEP]");
    files.vocabulary = STR("[UNK]\n[CLS]\n[SEP]\nh\xff\n");
    refused(&files, ERR_CORRUPT, "line 4");
    strbuf b;
    strbuf_init(&b, MIB);
    strbuf_addz(&b, fixture_vocabulary);
    strbuf_addz(&b, "one more\n"); /* an id without a row */
    files.vocabulary = strbuf_str(&b);
    refused(&files, ERR_CORRUPT, "tokenizer of another model");
    strbuf_deinit(&b);
}

/* Finite weights whose vectors overflow: an error, and nothing but zeros given out. */
static void test_overflow(void **state) {
    fixture *f = *state;
    strbuf w;
    strbuf_init(&w, MIB);
    strbuf_add(&w, strbuf_str(&f->weights));
    for (size_t i = w.len - 4 * 20 * 2; i + 4 <= w.len; i += 4) le32_put(w.ptr + i, 0x7f7fffff);
    encode_files files = f->files;
    files.weights = strbuf_str(&w);
    encode_model *m = opened(&files, ENCODE_F32);
    strbuf_deinit(&w);
    encode_scratch *s;
    float out[DIM];
    assert_int_equal(encode_scratch_open(m, &s), OK);
    assert_int_equal(encode_batch(m, s, (str[]){STR("hello")}, 1, out, NULL), ERR_CORRUPT);
    for (size_t j = 0; j < DIM; j++) assert_true(out[j] == 0);
    encode_scratch_close(s);
    encode_model_close(m);
}

/* ---- hostile bytes ---- */

/* Opens and, when that works, encodes: any answer but a crash or a vector that is not of length 1.
 * */
static void survive(const encode_files *files) {
    encode_model *m;
    encode_scratch *s;
    float out[64] = {0};
    err rc = encode_model_open(files, ENCODE_F32, &m);
    if (rc != OK) {
        assert_true(err_detail()[0] != 0);
        return;
    }
    assert_true(encode_dim(m) <= 64);
    assert_int_equal(encode_scratch_open(m, &s), OK);
    rc = encode_batch(m, s, (str[]){STR("hello worlds \xe4\xb8\xad zz")}, 1, out, NULL);
    double squares = 0;
    for (size_t j = 0; j < encode_dim(m); j++) squares += (double)out[j] * out[j];
    assert_true(rc == OK ? fabs(squares - 1) < 1e-3 : squares == 0);
    encode_scratch_close(s);
    encode_model_close(m);
}

/* Flips and cuts one of the files everywhere (every `step` bytes beyond the first `dense`). */
static void attack(encode_files files, str *target, size_t dense, size_t step) {
    size_t n = target->len;
    char *bytes = mem_dup(target->ptr, n + 1);
    assert_non_null(bytes);
    static const uint8_t flips[] = {0xff, 0x01, 0x20, 0x80};
    for (size_t i = 0; i < n; i += i < dense ? 1 : step) {
        char was = bytes[i];
        bytes[i] = (char)(was ^ flips[i % COUNT_OF(flips)]);
        *target = str_from(bytes, n);
        survive(&files);
        bytes[i] = was;
        if (i % 3 == 0) {
            char *cut = mem_dup(bytes, i); /* its own block: reading beyond it is seen */
            assert_non_null(cut);
            *target = str_from(cut, i);
            survive(&files);
            mem_free(cut);
        }
    }
    mem_free(bytes);
}

static void test_hostile_files(void **state) {
    fixture *f = *state;
    size_t step = getenv("KITH_LONG") ? 1 : 331;
    encode_files files = f->files;
    attack(files, &files.weights, step == 1 ? f->weights.len : 600, step);
    files = f->files;
    attack(files, &files.vocabulary, step == 1 ? 400 : 60, 7);
    files = f->files;
    attack(files, &files.config, 400, 1);
    files = f->files;
    attack(files, &files.pooling, 100, 1);
    files = f->files;
    attack(files, &files.sentence, 100, 1);
    files = f->files;
    attack(files, &files.tokenizer, 100, 1);
}

static err open_and_encode(const encode_files *files) {
    encode_model *m;
    encode_scratch *s = NULL;
    float out[DIM];
    TRY(encode_model_open(files, ENCODE_INT8, &m));
    err rc = encode_scratch_open(m, &s);
    if (rc == OK) rc = encode_batch(m, s, (str[]){STR("hello")}, 1, out, NULL);
    encode_scratch_close(s);
    encode_model_close(m);
    return rc;
}

static void test_no_memory(void **state) {
    fixture *f = *state;
    for (long n = 1;; n++) {
        mem_fail_after(n);
        err rc = open_and_encode(&f->files);
        mem_fail_after(0);
        if (rc == OK) {
            assert_true(n > 40);
            return;
        }
        assert_int_equal(rc, ERR_NO_MEMORY);
    }
}

static void test_precision_names(void **state) {
    (void)state;
    encode_precision p;
    for (int i = 0; i < ENCODE_PRECISIONS; i++) {
        assert_true(encode_precision_parse(str_of(encode_precision_name((encode_precision)i)), &p));
        assert_int_equal(p, i);
    }
    assert_false(encode_precision_parse(STR("fp8"), &p));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_not_utf8),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_cls_pooling),
        cmocka_unit_test(test_batch_invariant),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_weight_types),
        cmocka_unit_test(test_optional_files),
        cmocka_unit_test(test_wrong_tensors),
        cmocka_unit_test(test_wrong_configuration),
        cmocka_unit_test(test_wrong_small_files),
        cmocka_unit_test(test_wrong_vocabulary),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_hostile_files),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_precision_names),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
