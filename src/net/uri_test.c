/* Percent-decoding and queries.
 *
 * The tables hold what must pass, and what must be refused: cut or wrong hex digits, NUL in both
 * forms, and bytes that are not UTF-8. Decoding happens once, and plain text is not copied.
 *
 */
#include "net/net_testing.h"

static void test_path(void **state) {
    static const struct {
        const char *raw, *out; /* NULL: refused */
    } table[] = {
        {"abc", "abc"}, {"a%20b", "a b"}, {"a+b", "a+b"},
        {"%2F", "/"},   {"%2541", "%41"}, {"%c3%A4", "\xc3\xa4"},
        {"", ""},       {"%", NULL},      {"%4", NULL},
        {"%zz", NULL},  {"%4g", NULL},    {"%00", NULL},
        {"%ff", NULL},  {"%c3", NULL},    {"%ed%a0%80", NULL},
        {"a%2", NULL},
    };
    arena mem;
    (void)state;
    arena_init(&mem, MIB);
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        str out;
        err rc = net_path_decode(&mem, str_of(table[i].raw), &out);
        assert_int_equal(rc, table[i].out ? OK : ERR_INVALID);
        if (table[i].out) assert_true(str_eq(out, str_of(table[i].out)));
    }
    str plain = STR("same"), out;
    assert_int_equal(net_path_decode(&mem, plain, &out), OK);
    assert_ptr_equal(out.ptr, plain.ptr);
    arena_deinit(&mem);
}

static void test_query(void **state) {
    arena mem;
    str rest = STR("q=two+words&&limit=10&flag&x=%3D%26&=v"), key, value;
    static const char *want[][2] = {
        {"q", "two words"}, {"limit", "10"}, {"flag", ""}, {"x", "=&"}, {"", "v"}};
    (void)state;
    arena_init(&mem, MIB);
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        assert_true(rest.len > 0);
        assert_int_equal(net_query_next(&mem, &rest, &key, &value), OK);
        assert_true(str_eq(key, str_of(want[i][0])));
        assert_true(str_eq(value, str_of(want[i][1])));
    }
    assert_int_equal(rest.len, 0);
    rest = STR("a=%zz");
    assert_int_equal(net_query_next(&mem, &rest, &key, &value), ERR_INVALID);
    rest = STR("&&");
    assert_int_equal(net_query_next(&mem, &rest, &key, &value), OK);
    assert_int_equal(key.len, 0);
    arena_deinit(&mem);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_query),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
