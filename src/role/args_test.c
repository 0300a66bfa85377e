/* args: values, the environment, what wrong words get. */
#include "role/args.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct got {
    const char *dir;
    int64_t limit;
    bool json;
    double weight;
    args_spec spec;
} got;

static err parse(got *g, const char *const *words, int n) {
    char *argv[16];
    for (int i = 0; i < n; i++) argv[i] = (char *)(uintptr_t)words[i];
    const arg args[] = {{"data", ARG_STR, &g->dir, "DIR", "where", "KITH_TEST_DIR"},
                        {"limit", ARG_INT, &g->limit, "N", "how many", NULL},
                        {"weight", ARG_F64, &g->weight, "W", "share", NULL},
                        {"json", ARG_BOOL, &g->json, NULL, "for scripts", NULL}};
    g->spec = (args_spec){.command = "t",
                          .usage = "kith t [flags] A [B]",
                          .about = "",
                          .examples = "",
                          .args = args,
                          .count = 4,
                          .positional_min = 1,
                          .positional_max = 2};
    return args_parse(&g->spec, n, argv);
}

#define PARSE(g, ...)                            \
    parse(g, (const char *const[]){__VA_ARGS__}, \
          (int)COUNT_OF(((const char *const[]){__VA_ARGS__})))

static void values(void **state) {
    (void)state;
    got g = {0};
    assert_int_equal(PARSE(&g, "--data", "d", "a", "--limit=7", "--json", "--weight", "0.5"), OK);
    assert_string_equal(g.dir, "d");
    assert_true(g.limit == 7 && g.json && g.weight == 0.5);
    assert_int_equal(g.spec.positional_count, 1);
    got h = {0};
    assert_int_equal(PARSE(&h, "--", "--json"), OK);
    assert_string_equal(h.spec.positional[0], "--json");
    assert_false(h.json);
}

static void environment(void **state) {
    (void)state;
    got g = {0};
    setenv("KITH_TEST_DIR", "from-env", 1);
    assert_int_equal(PARSE(&g, "a"), OK);
    assert_string_equal(g.dir, "from-env");
    assert_int_equal(PARSE(&g, "a", "--data", "flag"), OK);
    assert_string_equal(g.dir, "flag");
    unsetenv("KITH_TEST_DIR");
}

static void wrong_words(void **state) {
    (void)state;
    got g = {0};
    assert_int_equal(PARSE(&g, "--limit", "x", "a"), ERR_INVALID);
    assert_int_equal(PARSE(&g, "--limit"), ERR_INVALID);
    assert_int_equal(PARSE(&g, "--nope", "a"), ERR_INVALID);
    assert_int_equal(PARSE(&g, "a", "b", "c"), ERR_INVALID);
    assert_int_equal(PARSE(&g, "--json"), ERR_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(environment),
        cmocka_unit_test(wrong_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
