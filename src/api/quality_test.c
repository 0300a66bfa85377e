/* Ratios from made-up searches, and keys of days that are thrown away. */
#include "api/quality.h"
#include "api/diary.h"
#include "obs/catalog.h"
#include "os/file_test_util.h"

static void act(quality *q, const char *id, const char *client, unsigned action, int at_place) {
    quality_act(q, str_of(id), str_of(client), action, at_place);
}

static void test_ratios(void **state) {
    (void)state;
    quality *q;
    quality_view v;
    assert_int_equal(quality_new(&q), OK);
    quality_search(q, STR("a"), 10, 1000);
    quality_search(q, STR("b"), 10, 2000);
    quality_search(q, STR("c"), 10, 30000);
    quality_search(q, STR("d"), 0, 40000);
    quality_search(q, STR("unseen"), 3, 40000);
    act(q, "a", "x", ACTION_IMPRESSION, 0);
    act(q, "a", "x", ACTION_CLICK, 4);
    act(q, "a", "x", ACTION_CLICK, 1);
    act(q, "b", "y", ACTION_IMPRESSION, 0);
    act(q, "c", "y", ACTION_IMPRESSION, 0); /* y searched again within a minute */
    act(q, "c", "y", ACTION_CLICK, 4);
    act(q, "d", "z", ACTION_IMPRESSION, 0);
    act(q, "nobody knows", "z", ACTION_CLICK, 1);
    quality_look(q, 200000, &v);
    assert_int_equal(v.searches, 5);
    assert_int_equal(v.seen, 4);
    assert_true(v.zero == 0.2 && v.ctr_1 == 0.25 && v.ctr_10 == 0.5);
    assert_true(v.mrr == (1.0 + 0.25) / 4);
    assert_true(v.abandoned == 0.25); /* b; d had nothing to click */
    assert_true(v.reformulated == 0.25);
    quality_look(q, 41000, &v);
    assert_true(v.abandoned == 0); /* too early to tell */
    /* Old ones leave; their ids find nothing any more. */
    char id[32];
    for (int i = 0; i < 3 * QUALITY_SEARCHES; i++) {
        snprintf(id, sizeof id, "s%d", i);
        quality_search(q, str_of(id), 1, 50000);
        act(q, id, "", ACTION_CLICK, 1);
    }
    quality_look(q, 50000, &v);
    assert_int_equal(v.searches, QUALITY_SEARCHES);
    assert_true(v.ctr_1 > 0.999 && v.mrr > 0.999);
    quality_free(q);
}

static void test_days_are_forgotten(void **state) {
    (void)state;
    char dir[] = "/tmp/kith-diary-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    uint32_t today = (uint32_t)(clock_wall_ms() / 86400000);
    diary *d;
    arena a;
    str sealed, old, plain;
    arena_init(&a, MIB);
    assert_ok(diary_open(fs_real(), dir, 30, &d));
    assert_ok(diary_seal(d, today - 30, STR("old"), &a, &old));
    assert_ok(diary_seal(d, today, STR("clicked"), &a, &sealed));
    diary_close(d);
    assert_ok(diary_open(fs_real(), dir, 30, &d));
    assert_ok(diary_open_page(d, today, sealed, &a, &plain));
    assert_true(str_eq(plain, STR("clicked")));
    assert_ok(diary_open_page(d, today - 30, old, &a, &plain));
    diary_close(d);
    assert_ok(diary_open(fs_real(), dir, 29, &d)); /* a day later, so to say */
    assert_int_equal(diary_open_page(d, today - 30, old, &a, &plain), ERR_NOT_FOUND);
    assert_ok(diary_open_page(d, today, sealed, &a, &plain));
    ((char *)(uintptr_t)sealed.ptr)[sealed.len - 1] ^= 1;
    assert_int_equal(diary_open_page(d, today, sealed, &a, &plain), ERR_CORRUPT);
    assert_int_equal(diary_open_page(d, today, STR("short"), &a, &plain), ERR_CORRUPT);
    diary_close(d);
    snprintf(path, sizeof path, "%s/interactions.keys", dir);
    assert_ok(file_write_atomic(fs_real(), path, "garbage", 7));
    assert_int_equal(diary_open(fs_real(), dir, 30, &d), ERR_CORRUPT);
    assert_ok(fs_unlink(fs_real(), path));
    assert_int_equal(rmdir(dir), 0);
    arena_deinit(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ratios),
                                       cmocka_unit_test(test_days_are_forgotten)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
