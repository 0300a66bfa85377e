/* As much of cmocka as the tests of src/vec use, for targets that have no cmocka: a failed assertion ends
 * the program. The last line counts. */
#ifndef KITH_PORTABLE_CMOCKA_H
#define KITH_PORTABLE_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(f) \
    { #f, f }
#define print_message(...) printf(__VA_ARGS__)

#define fail_msg(...)                                  \
    do {                                               \
        printf("%s:%d: failed: ", __FILE__, __LINE__); \
        printf(__VA_ARGS__);                           \
        printf("\n");                                  \
        exit(1);                                       \
    } while (0)
#define shim_check(ok, text)             \
    do {                                 \
        if (!(ok)) fail_msg("%s", text); \
    } while (0)

#define assert_true(x)                  shim_check(x, #x)
#define assert_false(x)                 shim_check(!(x), "not " #x)
#define assert_non_null(x)              shim_check((x) != NULL, #x)
#define assert_null(x)                  shim_check((x) == NULL, #x)
#define assert_ptr_equal(a, b)          shim_check((a) == (b), #a " is " #b)
#define assert_int_equal(a, b)          shim_check((long long)(a) == (long long)(b), #a " is " #b)
#define assert_int_not_equal(a, b)      shim_check((long long)(a) != (long long)(b), #a " is not " #b)
#define assert_memory_equal(a, b, size) shim_check(memcmp(a, b, size) == 0, #a " holds " #b)
#define assert_string_equal(a, b)       shim_check(strcmp(a, b) == 0, #a " is " #b)

static inline int shim_run(const struct CMUnitTest *tests, size_t n, int (*up)(void **),
                           int (*down)(void **)) {
    void *state = NULL;
    if (up && up(&state)) return 1;
    for (size_t i = 0; i < n; i++) {
        printf("%s\n", tests[i].name);
        fflush(stdout);
        tests[i].run(&state);
    }
    if (down && down(&state)) return 1;
    printf("%zu passed\n", n);
    return 0;
}

#define cmocka_run_group_tests(tests, up, down) \
    shim_run(tests, sizeof(tests) / sizeof((tests)[0]), up, down)
#define cmocka_run_group_tests_name(name, tests, up, down) cmocka_run_group_tests(tests, up, down)

#endif
