/* Tests of fusion: bounds, monotony, the exact sum, and that nothing but a post's own scores counts. */
#include "search/fuse.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void parts_add_up(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 3);
    for (int i = 0; i < 10000; i++) {
        fuse_weights w = fuse_weights_of(rng_unit(&r), rng_unit(&r));
        fuse_input in = {(float)rng_unit(&r) * 300, (float)rng_unit(&r) * 2 - 1, 0, rng_unit(&r)};
        fuse_result f = fuse(&w, &in);
        assert_true(f.score ==
                    f.words.contribution + f.meaning.contribution + f.recency.contribution);
        assert_true(f.words.contribution == w.words * f.words.normalized);
        assert_true(f.score >= 0 && f.score <= 1 + 1e-12);
        assert_true(w.words + w.meaning + w.recency > 1 - 1e-12);
        fuse_input more = in;
        more.bm25 += 1;
        assert_true(fuse(&w, &more).score >= f.score);
        more.cosine = in.cosine + 0.1f;
        assert_true(fuse(&w, &more).score >= f.score);
    }
}

static void edges(void **state) {
    (void)state;
    fuse_weights w = fuse_weights_of(0.5, 0);
    assert_true(fuse(&w, &(fuse_input){(float)FUSE_WORDS_HALF, -2, 0, 0}).score == 0.25);
    assert_true(fuse(&w, &(fuse_input){0, -0.5f, 0, 0}).score == 0);
    assert_true(fuse(&w, &(fuse_input){0, 1.0001f, 0, 0}).score == 0.5);
    /* A post without a vector is placed by its words, one with a vector never. */
    assert_true(fuse(&w, &(fuse_input){10, -2, 10, 0}).meaning.normalized == FUSE_PENDING);
    assert_true(fuse(&w, &(fuse_input){5, -2, 10, 0}).meaning.normalized == FUSE_PENDING / 2);
    assert_true(fuse(&w, &(fuse_input){10, 0, 10, 0}).meaning.normalized == 0);
    assert_true(fuse_freshness(1000, 1000, 10) == 1 && fuse_freshness(2000, 1000, 10) == 1);
    assert_true(fuse_freshness(990, 1000, 10) == 0.5);
    assert_true(fuse_freshness(TIME_MS_MIN, TIME_MS_MAX, 3600000) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts_add_up), cmocka_unit_test(edges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
