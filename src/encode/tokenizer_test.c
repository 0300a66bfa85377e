/* The tokenizer alone: options that the tiny model of encode_test.c does not use, and vocabularies
 * as odd as a file can make them. Equality with the reference is tests/encode_oracle.py's. */
#include "encode/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static tokenizer *made(const char *vocabulary, tokenizer_options o) {
    tokenizer *t;
    if (tokenizer_new(str_of(vocabulary), &o, &t) != OK) fail_msg("%s", err_detail());
    return t;
}

static void expect(const tokenizer *t, str text, const uint32_t *ids, size_t n) {
    uint32_t got[16];
    size_t count;
    assert_false(tokenizer_run(t, text, got, 16, &count));
    assert_int_equal(count, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(got[i], ids[i]);
}
#define EXPECT(t, text, ...)                              \
    expect(t, STR(text), (const uint32_t[]){__VA_ARGS__}, \
           COUNT_OF(((const uint32_t[]){__VA_ARGS__})))

#define BASIC "[UNK]\n[CLS]\n[SEP]\n"

static void test_cased(void **state) {
    (void)state;
    tokenizer *t = made(BASIC "A\na\n\xc3\xa9\ne\n", (tokenizer_options){false, false, true});
    EXPECT(t, "A a \xc3\xa9 e\xcc\x81", 3, 4, 5, 0); /* decomposed stays decomposed */
    tokenizer_free(t);
    t = made(BASIC "a\ne\n##e\n", (tokenizer_options){false, true, true});
    EXPECT(t,
           "a \xc3\xa9 e\xcc\x81 \xc3\xa9"
           "e",
           3, 4, 4, 4, 5);
    tokenizer_free(t);
    t = made(BASIC "i\n##\xcc\x87\n\xc3\xa9\n", (tokenizer_options){true, false, true});
    EXPECT(t, "\xc4\xb0 \xc3\x89", 3, 4, 5); /* I with a dot is the one letter that becomes two */
    tokenizer_free(t);
}

static void test_ideographs_together(void **state) {
    (void)state;
    tokenizer *t = made(BASIC "\xe4\xb8\xad\n##\xe6\x96\x87\n\xe6\x96\x87\n",
                        (tokenizer_options){true, true, false});
    EXPECT(t, "\xe4\xb8\xad\xe6\x96\x87", 3, 4);
    tokenizer_free(t);
    t = made(BASIC "\xe4\xb8\xad\n##\xe6\x96\x87\n\xe6\x96\x87\n",
             (tokenizer_options){true, true, true});
    EXPECT(t, "\xe4\xb8\xad\xe6\x96\x87", 3, 5);
    tokenizer_free(t);
}

static void test_odd_vocabularies(void **state) {
    (void)state;
    tokenizer_options o = {true, true, true};
    /* Doubled lines: the last counts. Empty lines, "##" alone, no newline at the end, CRLF. */
    tokenizer *t = made("[UNK]\r\n[CLS]\r\n[SEP]\r\nx\r\n\r\n##\r\nx\r\n##y", o);
    assert_int_equal(tokenizer_count(t), 8);
    EXPECT(t, "x xy #", 6, 6, 7, 0);
    tokenizer_free(t);
    t = made(BASIC "ab\nabc\nabcd\n##d\n##cd\n##c\n", o);
    EXPECT(t, "abcd abc abd abccd ab abe", 5, 4, 3, 6, 4, 7, 3, 0); /* longest first, no way back */
    tokenizer_free(t);
    t = made(BASIC "ab\n##c\n##de\n", o);
    EXPECT(t, "abcd abc", 0, 3, 4); /* a word that cannot be finished is unknown as a whole */
    tokenizer_free(t);
}

static void test_limits(void **state) {
    (void)state;
    tokenizer_options o = {true, true, true};
    tokenizer *t;
    strbuf b;
    strbuf_init(&b, 64 * MIB);
    strbuf_addz(&b, BASIC);
    for (int i = 0; i < 1025; i++) strbuf_addc(&b, 'a');
    assert_int_equal(tokenizer_new(strbuf_str(&b), &o, &t), ERR_CORRUPT);
    assert_null(t);
    while (b.len <= TOKENIZER_BYTES_MAX) strbuf_addz(&b, "\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_int_equal(tokenizer_new(strbuf_str(&b), &o, &t), ERR_TOO_LARGE);
    strbuf_reset(&b);
    for (size_t i = 0; i <= TOKENIZER_TOKENS_MAX; i++) strbuf_addz(&b, "a\n");
    assert_int_equal(tokenizer_new(strbuf_str(&b), &o, &t), ERR_TOO_LARGE);
    strbuf_deinit(&b);
}

/* Every two-byte token and every pair of them: the trie gives each back and nothing else. */
static void test_trie_complete(void **state) {
    (void)state;
    strbuf b;
    strbuf_init(&b, MIB);
    strbuf_addz(&b, BASIC);
    for (int i = 'a'; i <= 'z'; i++)
        for (int j = 'a'; j <= 'z'; j++) strbuf_addf(&b, "%c%c\n##%c%c\n", i, j, j, i);
    tokenizer *t = made(strbuf_str(&b).ptr, (tokenizer_options){true, true, true});
    strbuf_deinit(&b);
    for (uint32_t i = 0; i < 26 * 26; i++) {
        char word[5] = {(char)('a' + i / 26), (char)('a' + i % 26), (char)('a' + i % 26),
                        (char)('a' + i / 26), 'x'};
        uint32_t ids[] = {3 + 2 * i, 4 + 2 * i}, unknown = 0;
        expect(t, str_from(word, 2), ids, 1);
        expect(t, str_from(word, 4), ids, 2);
        expect(t, str_from(word, 1), &unknown, 1);
        expect(t, str_from(word, 5), &unknown, 1);
    }
    tokenizer_free(t);
}

static void test_cut(void **state) {
    (void)state;
    tokenizer *t = made(BASIC "a\n##a\n", (tokenizer_options){true, true, true});
    uint32_t ids[4];
    size_t n;
    assert_false(tokenizer_run(t, STR("a a a"), ids, 3, &n));
    assert_int_equal(n, 3);
    assert_true(tokenizer_run(t, STR("a a aa"), ids, 3, &n));
    assert_int_equal(n, 3);
    assert_true(tokenizer_run(t, STR("a a [SEP] [CLS]"), ids, 3, &n));
    assert_int_equal(ids[2], 2);
    assert_true(tokenizer_run(t, STR("a"), ids, 0, &n));
    assert_int_equal(n, 0);
    assert_false(tokenizer_run(t, STR("  \t"), ids, 0, &n));
    tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cased),
        cmocka_unit_test(test_ideographs_together),
        cmocka_unit_test(test_odd_vocabularies),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_trie_complete),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
