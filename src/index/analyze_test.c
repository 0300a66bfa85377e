/* Examples of many scripts, written as what a reader would expect, and properties that hold for
 * any bytes: offsets lie within the text, positions rise by at most one, terms are valid UTF-8
 * within limits. */
#include "index/analyze.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Terms in order, divided by spaces; an alt token has a "~" before it. */
static void expect(const char *text, const char *want) {
    arena a;
    arena_init(&a, 4 * MIB);
    strbuf got;
    strbuf_init(&got, MIB);
    token_list t;
    assert_int_equal(analyze(&a, str_of(text), &t), OK);
    for (size_t i = 0; i < t.count; i++) {
        if (i) strbuf_addc(&got, ' ');
        if (t.items[i].alt) strbuf_addc(&got, '~');
        strbuf_add(&got, t.items[i].term);
    }
    if (!str_eq(strbuf_str(&got), str_of(want)))
        fail_msg("'%s': expected '%s', got '" STR_FMT "'", text, want, STR_ARG(strbuf_str(&got)));
    strbuf_deinit(&got);
    arena_deinit(&a);
}

static void test_examples(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"", ""},
        {" .,;!? ", ""},
        {"Hello, World", "hello world"},
        {"don't stop", "don't stop"},
        {"the dog's bone", "the dog bone"},
        {"rock'n'roll 'quoted'", "rock'n'roll quoted"},
        {"l\xe2\x80\x99"
         "eau",
         "l'eau"},
        {"snake_case v2.5", "snake_case v2 5"},
        /* plural */
        {"companies cats glass bus was gas", "company cat glass bus was gas"},
        {"movies movie classes ties tie", "movie movie class tie tie"},
        {"boxes watches beaches headaches caches", "box watch beach headache cache"},
        /* case, accents, compatibility */
        {"Caf\xc3\xa9 CAFE\xcc\x81 cafe", "cafe cafe cafe"},
        {"\xef\xac\x81le \xef\xbc\xa1\xef\xbc\xa2", "file ab"},
        {"Stra\xc3\x9f"
         "e STRASSE",
         "strasse strasse"},
        {"\xc4\xb0stanbul \xc4\xb1\xc5\x9f\xc4\xb1k", "istanbul isik"},
        {"\xc5\x81\xc3\xb3"
         "d\xc5\xba S\xc3\xb8ren \xc3\x86sir",
         "lodz soren aesir"},
        {"\xce\x9f\xce\xb4\xcf\x8c\xcf\x82", "\xce\xbf\xce\xb4\xce\xbf\xcf\x83"},
        {"\xd0\x81\xd0\xbb\xd0\xba\xd0\xb0", "\xd0\xb5\xd0\xbb\xd0\xba\xd0\xb0"},
        {"na\xc2\xad"
         "ive",
         "naive"},
        /* Arabic and Hebrew without points; Hindi keeps its vowels */
        {"\xd8\xa7\xd9\x8e\xd9\x84\xd9\x92", "\xd8\xa7\xd9\x84"},
        {"\xd7\xa9\xd6\xb8\xd7\x81\xd7\x9c", "\xd7\xa9\xd7\x9c"},
        {"\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\x82", "\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\x82"},
        /* pairs */
        {"\xe6\x9d\xb1\xe4\xba\xac", "\xe6\x9d\xb1\xe4\xba\xac"},
        {"\xe6\x9d\xb1", "\xe6\x9d\xb1"},
        {"\xe6\x9d\xb1\xe4\xba\xac\xe9\x83\xbd",
         "\xe6\x9d\xb1\xe4\xba\xac \xe4\xba\xac\xe9\x83\xbd"},
        {"in\xe6\x9d\xb1\xe4\xba\xac"
         "2020",
         "in \xe6\x9d\xb1\xe4\xba\xac 2020"},
        {"\xef\xbd\xb6\xef\xbe\x9e\xef\xbd\xb7",
         "\xe3\x82\xac\xe3\x82\xad"}, /* half-width ga, ki */
        {"\xed\x95\x9c\xea\xb5\xad", "\xed\x95\x9c\xea\xb5\xad"},
        {"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab\xea\xb5\xad", "\xed\x95\x9c\xea\xb5\xad"}, /* jamo */
        /* emoji */
        {"\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd\xf0\x9f\x91\x8d", "\xf0\x9f\x91\x8d \xf0\x9f\x91\x8d"},
        {"\xe2\x9d\xa4\xef\xb8\x8f", "\xe2\x9d\xa4"},
        {"\xf0\x9f\xa4\xb7\xe2\x80\x8d\xe2\x99\x80\xef\xb8\x8f",
         "\xf0\x9f\xa4\xb7\xe2\x80\x8d\xe2\x99\x80 ~\xf0\x9f\xa4\xb7"},
        {"\xf0\x9f\x87\xa9\xf0\x9f\x87\xaa\xf0\x9f\x87\xab\xf0\x9f\x87\xb7",
         "\xf0\x9f\x87\xa9\xf0\x9f\x87\xaa \xf0\x9f\x87\xab\xf0\x9f\x87\xb7"},
        {"1\xef\xb8\x8f\xe2\x83\xa3", "1"},
        {"\xc2\xa9 2020", "2020"},
        /* tags, names */
        {"#Cats @Bob_1", "#cats ~cat @bob_1 ~bob_1"},
        {"##x C# a#b # @", "#x ~x c a b"},
        {"me@example.org", "me example org"},
        {"#\xe6\x9d\xb1\xe4\xba\xac"
         "20",
         "#\xe6\x9d\xb1\xe4\xba\xac"
         "20 \xe6\x9d\xb1\xe4\xba\xac 20"},
        /* URLs */
        {"see https://www.nytimes.com/2013/my-story_name?x=1#y, ok",
         "see nytime com 2013 my story name ok"},
        {"http://t.co/AbC12dE end", "t co end"},
        {"HTTP://X.org", "x org"},
        {"www.example.org/a", "example org a"},
        {"https://", "http"},
        {"awww.cute", "awww cute"},
        /* bytes that are no text */
        {"ab\xff"
         "cd \xc3",
         "ab cd"},
        {"\xed\xa0\x80x", "x"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) expect(rows[i][0], rows[i][1]);
}

static void test_offsets_and_positions(void **state) {
    (void)state;
    arena a;
    arena_init(&a, MIB);
    token_list t;
    assert_int_equal(analyze(&a, STR("A #Tag \xe6\x9d\xb1\xe4\xba\xac\xe9\x83\xbd"), &t), OK);
    const uint32_t want[][3] = {{0, 0, 1}, {1, 2, 4}, {1, 3, 3}, {2, 7, 6}, {3, 10, 6}};
    assert_int_equal(t.count, COUNT_OF(want));
    for (size_t i = 0; i < t.count; i++) {
        assert_int_equal(t.items[i].position, want[i][0]);
        assert_int_equal(t.items[i].offset, want[i][1]);
        assert_int_equal(t.items[i].size, want[i][2]);
        assert_int_equal(t.items[i].alt, i == 2);
    }
    arena_deinit(&a);
}

static void test_limits(void **state) {
    (void)state;
    arena a;
    arena_init(&a, 64 * MIB);
    token_list t;
    char *big = mem_alloc(400000);
    memset(big, 'x', 400000);
    assert_int_equal(analyze(&a, str_from(big, 400000), &t), OK);
    assert_int_equal(t.count, 1);
    assert_int_equal(t.items[0].term.len, ANALYZE_TERM_MAX);
    assert_int_equal(t.items[0].size, 400000);
    for (size_t i = 0; i < 400000; i += 2) big[i] = ' ';
    assert_int_equal(analyze(&a, str_from(big, 400000), &t), OK);
    assert_int_equal(t.count, ANALYZE_TOKENS_MAX);
    assert_true(t.cut);
    for (size_t i = 0; i + 3 <= 300; i += 3) memcpy(big + i, "\xe0\xa4\xb9", 3);
    assert_int_equal(analyze(&a, str_from(big, 300), &t), OK);
    assert_int_equal(t.items[0].term.len, ANALYZE_TERM_MAX / 3 * 3); /* cut between characters */
    mem_free(big);
    arena_deinit(&a);
    arena_init(&a, 4096);
    char words[6000];
    for (size_t i = 0; i < sizeof words; i++) words[i] = i % 2 ? ' ' : 'a';
    assert_int_equal(analyze(&a, str_from(words, sizeof words), &t), ERR_NO_MEMORY);
    assert_int_equal(analyze(&a, (str){words, (size_t)ANALYZE_TEXT_MAX + 1}, &t), ERR_TOO_LARGE);
    arena_deinit(&a);
}

static void test_fold(void **state) {
    (void)state;
    char out[ANALYZE_TERM_MAX];
    size_t n = analyze_fold(STR("#Caf\xc3\xa9"), out);
    assert_true(str_eq(str_from(out, n), STR("#cafe")));
    assert_int_equal(analyze_fold(STR(""), out), 0);
    assert_int_equal(analyze_fold(STR("\xff"), out), 0);
}

/* Any bytes: words, signs and scripts thrown together, some of them cut. */
static void test_any_bytes(void **state) {
    (void)state;
    static const char *const pieces[] = {"a",
                                         "Z",
                                         "9",
                                         "_",
                                         "'",
                                         "#",
                                         "@",
                                         " ",
                                         "https://",
                                         "www.",
                                         "/",
                                         "?",
                                         "\xc3\xa9",
                                         "\xcc\x81",
                                         "\xe6\x9d\xb1",
                                         "\xef\xbe\x9e",
                                         "\xed\x95\x9c",
                                         "\xe1\x85\xa1",
                                         "\xf0\x9f\x91\x8d",
                                         "\xf0\x9f\x8f\xbd",
                                         "\xe2\x80\x8d",
                                         "\xef\xb8\x8f",
                                         "\xf0\x9f\x87\xa9",
                                         "\xe0\xa4\xbf",
                                         "\xe0\xb8\x81",
                                         "\xff",
                                         "\xe2\x80",
                                         "\xef\xb7\xba",
                                         "\xc2\xad",
                                         "\xe2\x83\xa3",
                                         "ies",
                                         "s"};
    rng r;
    arena a;
    arena_init(&a, MIB);
    for (uint64_t seed = 1; seed <= (getenv("KITH_LONG") ? 2000000 : 20000); seed++) {
        char text[256];
        size_t len = 0;
        rng_seed(&r, seed);
        for (uint32_t n = rng_below(&r, 30); n > 0; n--) {
            str p = str_of(pieces[rng_below(&r, COUNT_OF(pieces))]);
            memcpy(text + len, p.ptr, p.len);
            len += p.len;
        }
        char *exact = mem_dup(text, len + !len); /* its own memory, so that an overrun shows */
        token_list t;
        assert_int_equal(analyze(&a, str_from(exact, len), &t), OK);
        uint32_t at = 0;
        for (size_t i = 0; i < t.count; i++) {
            const token *x = &t.items[i];
            bool good = x->term.len > 0 && x->term.len <= ANALYZE_TERM_MAX &&
                        utf8_valid(x->term, NULL) && x->size > 0 && x->offset + x->size <= len &&
                        x->position == (x->alt || i == 0 ? at : at + 1);
            if (!good) fail_msg("seed %llu, token %zu", (unsigned long long)seed, i);
            at = x->position;
        }
        mem_free(exact);
        arena_reset(&a);
    }
    arena_deinit(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples),  cmocka_unit_test(test_offsets_and_positions),
        cmocka_unit_test(test_limits),    cmocka_unit_test(test_fold),
        cmocka_unit_test(test_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
