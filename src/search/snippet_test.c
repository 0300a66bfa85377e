/* Tests of snippets: whole short texts, the right stretch of long ones, and on random texts of many
 * scripts that every range is valid UTF-8 inside the snippet and folds to a term that was asked for.
 */
#include "search/snippet.h"

#include "index/analyze.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static arena mem;

static bool holds_term(str piece, const snippet_term *terms, size_t n) {
    token_list t;
    assert_int_equal(analyze(&mem, piece, &t), OK);
    for (size_t i = 0; i < t.count; i++)
        for (size_t k = 0; k < n; k++)
            if (str_eq(t.items[i].term, terms[k].text)) return true;
    return false;
}

static void check(const snippet *s, const snippet_term *terms, size_t n) {
    assert_true(utf8_valid(s->text, NULL));
    assert_true(s->text.len <= SNIPPET_WHOLE_MAX + 40 || n == 0);
    uint32_t last = 0;
    for (size_t i = 0; i < s->count; i++) {
        snippet_range r = s->ranges[i];
        assert_true(r.start < r.end && r.end <= s->text.len && (i == 0 || r.start > last));
        last = r.end;
        str piece = str_from(s->text.ptr + r.start, r.end - r.start);
        assert_true(utf8_valid(piece, NULL));
        assert_true(holds_term(piece, terms, n));
    }
}

static void short_text(void **state) {
    (void)state;
    snippet_term terms[] = {{STR("cafe"), 1}, {STR("cat"), 2}};
    snippet s;
    str text = STR("Two cats in the Caf\xc3\xa9, no dogs.");
    assert_int_equal(snippet_make(text, terms, 2, &mem, &s), OK);
    check(&s, terms, 2);
    assert_true(s.text.ptr == text.ptr && s.text.len == text.len);
    assert_int_equal(s.count, 2);
    assert_int_equal(s.ranges[0].start, 4);
    assert_int_equal(s.ranges[0].end, 8);
    assert_int_equal(s.ranges[1].start, 16);
    assert_int_equal(s.ranges[1].end, 21);
    terms[0].weight = 0.5f; /* too light beside the cats, but not alone */
    assert_int_equal(snippet_make(text, terms, 2, &mem, &s), OK);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.ranges[0].start, 4);
    assert_int_equal(snippet_make(STR("the cafe"), terms, 2, &mem, &s), OK);
    assert_int_equal(s.count, 1);
    assert_int_equal(snippet_make(STR(""), terms, 2, &mem, &s), OK);
    assert_int_equal(s.text.len + s.count, 0);
    assert_int_equal(snippet_make(text, NULL, 0, &mem, &s), OK);
    assert_int_equal(s.count, 0);
}

static void long_text(void **state) {
    (void)state;
    snippet_term terms[] = {{STR("needle"), 5}, {STR("thread"), 4}, {STR("hay"), 0.5f}};
    strbuf b;
    strbuf_init(&b, MIB);
    for (int i = 0; i < 100; i++) strbuf_addz(&b, "hay and more hay lies here ");
    strbuf_addz(&b, "the needle is beside the thread ");
    for (int i = 0; i < 100; i++) strbuf_addz(&b, "needle in the hay again ");
    snippet s;
    assert_int_equal(snippet_make(strbuf_str(&b), terms, 3, &mem, &s), OK);
    check(&s, terms, 3);
    assert_true(str_find(s.text, STR("thread")) >= 0 && str_find(s.text, STR("needle")) >= 0);
    assert_true(str_starts(s.text, STR("\xe2\x80\xa6")) && str_ends(s.text, STR("\xe2\x80\xa6")));
    assert_int_equal(snippet_make(strbuf_str(&b), NULL, 0, &mem, &s), OK);
    assert_true(str_starts(s.text, STR("hay and")) && s.text.len <= SNIPPET_BYTES + 3);
    strbuf_deinit(&b);
}

static void random_texts(void **state) {
    (void)state;
    static const char *words[] = {
        "cat", "Straße", "東京都", "#tag", "👍", "привет", "x", "http://ex.org/a?b", "don't", "“q”"};
    rng r;
    rng_seed(&r, 11);
    for (int round = 0; round < 500; round++) {
        strbuf b;
        strbuf_init(&b, MIB);
        for (uint32_t n = rng_below(&r, 200); n > 0; n--) {
            strbuf_addz(&b, words[rng_below(&r, COUNT_OF(words))]);
            if (rng_below(&r, 4)) strbuf_addc(&b, ' ');
        }
        snippet_term terms[3];
        size_t n = 0;
        token_list t;
        assert_int_equal(analyze(&mem, strbuf_str(&b), &t), OK);
        while (t.count && n < 3) {
            str w = t.items[rng_below(&r, (uint32_t)t.count)].term;
            bool had = false;
            for (size_t i = 0; i < n; i++) had |= str_eq(terms[i].text, w);
            if (had && rng_below(&r, 2)) break;
            if (!had) terms[n++] = (snippet_term){w, (float)rng_unit(&r)};
        }
        snippet s;
        assert_int_equal(snippet_make(strbuf_str(&b), terms, n, &mem, &s), OK);
        assert_true(n == 0 || s.count > 0);
        /* A term can span a border only of the text itself: pieces fold as the whole does. */
        check(&s, terms, n);
        strbuf_deinit(&b);
        arena_reset(&mem);
    }
}

int main(void) {
    arena_init(&mem, 64 * MIB);
    const struct CMUnitTest tests[] = {cmocka_unit_test(short_text), cmocka_unit_test(long_text),
                                       cmocka_unit_test(random_texts)};
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    arena_deinit(&mem);
    return rc;
}
