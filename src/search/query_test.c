/* Tests of the query language: each operator, its negation, its bad values, and that whatever looks
 * unfinished is plain text. Every query that parses is printed back, parsed again and compared, so
 * each case also tests the canonical form.
 */
#include "search/query.h"

#include "search/search.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static arena mem;

static query parse(const char *text) {
    query q, again;
    assert_int_equal(query_parse(str_of(text), STR("ana"), &mem, &q), OK);
    assert_int_equal(query_parse(q.understood, STR("ana"), &mem, &again), OK);
    assert_true(str_eq(q.understood, again.understood));
    assert_true(str_eq(q.text, again.text));
    assert_int_equal(q.n_nots, again.n_nots);
    assert_int_equal(q.n_phrases, again.n_phrases);
    return q;
}

static void assert_str(str s, const char *want) {
    if (!str_eq(s, str_of(want))) fail_msg("got '" STR_FMT "', want '%s'", STR_ARG(s), want);
}

static void assert_strs(const query_strs *s, const char *want) {
    char joined[512];
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (i) joined[n++] = '|';
        memcpy(joined + n, s->items[i].ptr, s->items[i].len);
        n += s->items[i].len;
    }
    assert_str(str_from(joined, n), want);
}

static void assert_refused(const char *text) {
    query q;
    assert_int_equal(query_parse(str_of(text), STR(""), &mem, &q), ERR_INVALID);
    assert_string_equal(err_field(), "q");
}

static void plain_text(void **state) {
    (void)state;
    query q = parse("  load   balancer\twhy? ");
    assert_str(q.text, "load balancer why?");
    assert_str(q.understood, "load balancer why?");
    assert_int_equal(q.n_words, 3);
    assert_true(query_filter_empty(&q));
    /* What looks like an operator and is none. */
    const char *same[] = {"http://example.org/x",
                          "12:30",
                          "from:",
                          "foo:bar",
                          "a - b",
                          "--flag",
                          "-",
                          "frombar",
                          "5\"disk x",
                          "#cats @ana",
                          "in :x",
                          ":",
                          "\xf0\x9f\x91\x8d"};
    for (size_t i = 0; i < COUNT_OF(same); i++) {
        q = parse(same[i]);
        assert_str(q.text, same[i]);
        assert_true(query_filter_empty(&q));
        assert_int_equal(q.n_phrases + q.n_nots, 0);
    }
    q = parse("");
    assert_int_equal(q.text.len + q.n_words, 0);
}

static void phrases_and_nots(void **state) {
    (void)state;
    query q = parse("why \"Load  Balancers\" -nginx -\"Blue Green\" now");
    assert_str(q.text, "why Load  Balancers now");
    assert_int_equal(q.n_phrases, 1);
    assert_int_equal(q.phrases[0].count, 2);
    assert_str(q.phrases[0].words[0], "load");
    assert_int_equal(q.n_nots, 2);
    assert_str(q.nots[0].words[0], "nginx");
    assert_int_equal(q.nots[1].count, 2);
    assert_str(q.nots[1].words[1], "green");
    assert_str(q.understood, "why \"Load  Balancers\" -nginx -\"Blue Green\" now");
    /* Curly quotes, as phones write them. */
    q = parse("\xe2\x80\x9c"
              "a phrase"
              "\xe2\x80\x9d");
    assert_int_equal(q.n_phrases, 1);
    assert_str(q.understood, "\"a phrase\"");
    /* Never closed, empty, only signs. */
    q = parse("\"load balancer");
    assert_int_equal(q.n_phrases, 0);
    assert_str(q.text, "load balancer");
    q = parse("\"\" x \"  \"");
    assert_str(q.text, "x");
    q = parse("\"!!!\"");
    assert_int_equal(q.n_phrases, 0);
    assert_str(q.text, "!!!");
}

static void operators(void **state) {
    (void)state;
    query q = parse("From:Bob from:\"Ana M\" -from:eve in:general -in:spam in:thread:t1 thread:t2 "
                    "-thread:t3 tag:red -tag:blue lang:de -lang:pt-BR words");
    assert_strs(&q.from, "Bob|Ana M");
    assert_strs(&q.not_from, "eve");
    assert_strs(&q.in, "general");
    assert_strs(&q.not_in, "spam");
    assert_strs(&q.thread, "t1|t2");
    assert_strs(&q.not_thread, "t3");
    assert_strs(&q.tag, "red");
    assert_strs(&q.not_tag, "blue");
    assert_strs(&q.lang, "de");
    assert_strs(&q.not_lang, "pt-BR");
    assert_str(q.text, "words");
    assert_str(q.understood,
               "from:Bob from:\"Ana M\" -from:eve in:general -in:spam thread:t1 thread:t2 "
               "-thread:t3 tag:red -tag:blue lang:de -lang:pt-BR words");
    q = parse("from:me from:me from:@bo tag:#x in:#y");
    assert_strs(&q.from, "ana|@bo|bo");
    assert_strs(&q.tag, "#x|x");
    assert_strs(&q.in, "#y|y");
    q = parse("in:\"thread:odd\" from:\"\" x");
    assert_strs(&q.in, "thread:odd");
    assert_int_equal(q.from.count, 0);
    q = parse("from:\"ana");
    assert_strs(&q.from, "ana");
}

static void flags(void **state) {
    (void)state;
    query q = parse("has:link has:Question -has:media is:reply");
    assert_int_equal(q.has, ATTRS_LINK | ATTRS_QUESTION);
    assert_int_equal(q.flags_clear, ATTRS_MEDIA);
    assert_int_equal(q.flags_set, ATTRS_REPLY);
    q = parse("is:post");
    assert_int_equal(q.flags_clear, ATTRS_REPLY);
    q = parse("-is:reply");
    assert_int_equal(q.flags_clear, ATTRS_REPLY);
    q = parse("is:post is:reply"); /* values of one operator are joined by OR */
    assert_int_equal(q.flags_clear | q.flags_set, 0);
    assert_int_not_equal(query_has_flag(STR("tag")), 0);
    assert_int_not_equal(query_has_flag(STR("mention")), query_has_flag(STR("tag")));
    assert_int_equal(query_has_flag(STR("x")), 0);
}

static int64_t ms(const char *text) {
    int64_t v;
    assert_true(time_parse(str_of(text), &v));
    return v;
}

static void times(void **state) {
    (void)state;
    query q = parse("after:2024 before:2024-05");
    assert_true(q.has_from && q.has_until);
    assert_int_equal(q.from_ms, ms("2024-01-01"));
    assert_int_equal(q.until_ms, ms("2024-05-01"));
    q = parse("during:2024-02");
    assert_int_equal(q.from_ms, ms("2024-02-01"));
    assert_int_equal(q.until_ms, ms("2024-03-01"));
    q = parse("during:2024-12 during:2024");
    assert_int_equal(q.from_ms, ms("2024-12-01"));
    assert_int_equal(q.until_ms, ms("2025-01-01"));
    q = parse("during:2024-05-06");
    assert_int_equal(q.until_ms - q.from_ms, 86400000);
    q = parse("before:2024-05-06T07:08:09Z after:\"2024-05-06 01:00:00Z\"");
    assert_int_equal(q.until_ms, ms("2024-05-06T07:08:09Z"));
    assert_int_equal(q.from_ms, ms("2024-05-06T01:00:00Z"));
    q = parse("during:9999");
    assert_int_equal(q.until_ms, TIME_MS_MAX + 1);
    q = parse("-before:2024"); /* has no negation: a word to leave out */
    assert_int_equal(q.n_nots, 1);
    assert_false(q.has_until);
}

static void refused(void **state) {
    (void)state;
    const char *bad[] = {
        "before:tomorrow", "after:2024-13", "after:2024-02-30", "during:2024-05-06T07:08:09Z",
        "before:99999",    "before:+999",   "before:2024-5",    "during:0000",
        "has:cheese",      "is:cat",        "lang:\"a b\"",     "lang:abcdefghijklmnopq",
        "from:me",         "x \xff"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) assert_refused(bad[i]);
    char text[SEARCH_QUERY_MAX + 2];
    memset(text, 'a', sizeof text);
    query q;
    assert_int_equal(query_parse(str_from(text, sizeof text - 1), STR(""), &mem, &q),
                     ERR_TOO_LARGE);
    assert_int_equal(query_parse(str_from(text, SEARCH_QUERY_MAX), STR(""), &mem, &q), OK);
    size_t n = 0;
    text[n++] = '"';
    for (size_t i = 0; i < 65; i++) text[n++] = 'a', text[n++] = ' ';
    text[n++] = '"';
    assert_int_equal(query_parse(str_from(text, n), STR(""), &mem, &q), ERR_INVALID);
    text[2] = 'a'; /* one word less */
    assert_int_equal(query_parse(str_from(text, n), STR(""), &mem, &q), OK);
    n = 0;
    for (size_t i = 0; i < 65; i++) {
        memcpy(text + n, "from:a00 ", 9);
        text[n + 6] = (char)('0' + i / 10);
        text[n + 7] = (char)('0' + i % 10);
        n += 9;
    }
    assert_int_equal(query_parse(str_from(text, n), STR(""), &mem, &q), ERR_INVALID);
    assert_int_equal(query_parse(str_from(text, n - 9), STR(""), &mem, &q), OK);
}

static void literal_text(void **state) {
    (void)state;
    static const char *const texts[] = {"He said \"go home\" -- from:ana -not before:tomorrow",
                                        "--x -\"y\" in:thread:z from:from:a \"-q\" -from:b",
                                        "plain", ""};
    static const char *const want[] = {"He said go home from: ana not before: tomorrow",
                                       "x y in: thread: z from: from: a q from: b", "plain", ""};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        str s;
        assert_int_equal(search_literal(str_of(texts[i]), &mem, &s), OK);
        query q;
        assert_int_equal(query_parse(s, STR(""), &mem, &q), OK);
        assert_str(q.text, want[i]);
        assert_int_equal(q.n_phrases + q.n_nots, 0);
        assert_true(query_filter_empty(&q));
    }
}

static void memory_runs_out(void **state) {
    (void)state;
    str text = STR("from:ana \"a phrase here\" -word -\"not this\" before:2024-05 cats");
    for (long n = 1; n < 100; n++) {
        query q;
        arena a;
        arena_init(&a, MIB);
        mem_fail_after(n);
        err rc = query_parse(text, STR("me"), &a, &q);
        mem_fail_after(0);
        arena_deinit(&a);
        if (rc == OK) return;
        assert_int_equal(rc, ERR_NO_MEMORY);
    }
    fail_msg("never enough memory");
}

int main(void) {
    arena_init(&mem, 64 * MIB);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_text),   cmocka_unit_test(phrases_and_nots),
        cmocka_unit_test(operators),    cmocka_unit_test(flags),
        cmocka_unit_test(times),        cmocka_unit_test(refused),
        cmocka_unit_test(literal_text), cmocka_unit_test(memory_runs_out)};
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    arena_deinit(&mem);
    return rc;
}
