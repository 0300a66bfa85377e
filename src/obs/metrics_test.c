/* Counting from many threads, buckets and quantiles, both texts, the bound on series. */
#include "obs/metrics.h"
#include "obs/metrics_int.h"
#include "os/os.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { THREADS = 8, TIMES = 10000 };

static void count_some(void *arg) {
    (void)arg;
    for (int i = 0; i < TIMES; i++) {
        metric_add(M_EMBED_TEXTS, 0, 2);
        metric_record(M_JOURNAL_BATCH, 0, 3);
    }
}

/* Threads come and go; their counts stay. */
static void test_threads(void **state) {
    (void)state;
    uint64_t before = metric_total(M_EMBED_TEXTS, 0, 1);
    metric_view a, b;
    metric_look(M_JOURNAL_BATCH, 0, 1, &a);
    for (int round = 0; round < 3; round++) {
        thread t[THREADS];
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(thread_start(&t[i], "t", count_some, NULL), OK);
        for (int i = 0; i < THREADS; i++) thread_join(&t[i]);
    }
    assert_int_equal(metric_total(M_EMBED_TEXTS, 0, 1) - before, 3 * THREADS * TIMES * 2);
    metric_look(M_JOURNAL_BATCH, 0, 1, &b);
    assert_int_equal(b.count - a.count, 3 * THREADS * TIMES);
    assert_int_equal(b.sum - a.sum, 3 * 3 * THREADS * TIMES);
    assert_true(metric_quantile(M_JOURNAL_BATCH, &b, &a, 0.5) == 3);
}

static void test_quantiles(void **state) {
    (void)state;
    metric_view v;
    for (uint64_t i = 1; i <= 1000; i++)
        metric_record(M_SEARCH_STAGE_SECONDS, 3, i * 1000000); /* ms */
    metric_look(M_SEARCH_STAGE_SECONDS, 3, 1, &v);
    assert_int_equal(v.count, 1000);
    double p50 = metric_quantile(M_SEARCH_STAGE_SECONDS, &v, NULL, 0.5);
    double p99 = metric_quantile(M_SEARCH_STAGE_SECONDS, &v, NULL, 0.99);
    assert_true(p50 >= 0.5 && p50 <= 0.5 * 1.13);
    assert_true(p99 >= 0.99 && p99 <= 0.99 * 1.13);
    assert_true(metric_quantile(M_SEARCH_STAGE_SECONDS, &v, &v, 0.5) == 0);
    metric_record(M_SEARCH_STAGE_SECONDS, 3, UINT64_MAX); /* the last bucket, not beyond */
}

static char *scrape(metrics_format f) {
    strbuf b;
    strbuf_init(&b, METRICS_TEXT_MAX);
    assert_int_equal(metrics_write(&b, f), OK);
    return strbuf_take(&b);
}

static void has(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("no %s in:\n%.3000s", part, text);
}

/* 50 ms is in the bucket of 50 ms, and one more nanosecond is not: a service level counts on it. */
static void test_bounds_are_exact(void **state) {
    (void)state;
    metric_record(M_SEARCH_SECONDS, search_series(SEARCH_WORDS, 10), 50000000);
    metric_record(M_SEARCH_SECONDS, search_series(SEARCH_WORDS, 10), 50000002);
    char *t = scrape(METRICS_PROMETHEUS);
    has(t, "vector_search_duration_seconds_bucket{query_type=\"words\",result_count=\"10-49\",le="
           "\"0.05\"} 1\n");
    has(t, "vector_search_duration_seconds_bucket{query_type=\"words\",result_count=\"10-49\",le="
           "\"0.1\"} 2\n");
    has(t, "vector_search_duration_seconds_count{query_type=\"words\",result_count=\"10-49\"} 2\n");
    has(t, "# TYPE vector_search_duration_seconds histogram\n");
    mem_free(t);
    for (uint64_t ns = 1; ns < 200000000000u; ns = ns * 5 / 4 + 1) {
        uint64_t ticks = metric_ticks(ns);
        unsigned i = metrics_bound_of(M_SEARCH_SECONDS, ticks);
        if (i < METRIC_BOUNDS) assert_true(ticks < (uint64_t)1 << (METRIC_FIRST_BOUND + i));
        if (i) assert_true(ticks >= (uint64_t)1 << (METRIC_FIRST_BOUND + i - 1));
        assert_true(fabs((double)ticks - (double)ns * 1.34217728) < 2);
    }
}

static void test_openmetrics(void **state) {
    (void)state;
    trace_here = (trace_context){{1, 2}, 3, true};
    metric_record(M_SEARCH_SECONDS, search_series(SEARCH_HYBRID, 0), 3000000);
    trace_here = (trace_context){.span = 0};
    metric_add(M_SEARCHES, 0, 1);
    char *t = scrape(METRICS_OPENMETRICS);
    has(t, "# TYPE kith_searches counter\n");
    has(t, "kith_searches_total{query_type=\"hybrid\",outcome=\"ok\"} ");
    has(t, "kith_searches_created{query_type=\"hybrid\",outcome=\"ok\"} ");
    has(t, "le=\"0.003125\"} 1 # {trace_id=\"00000000000000010000000000000002\"} 0.003 ");
    assert_string_equal(t + strlen(t) - 6, "# EOF\n");
    mem_free(t);
    t = scrape(METRICS_PROMETHEUS);
    assert_null(strstr(t, "# {"));
    assert_null(strstr(t, "_created"));
    mem_free(t);
    assert_int_equal(metrics_format_of(STR(
                         "application/openmetrics-text; version=1.0.0;q=0.9, text/plain;q=0.2")),
                     METRICS_OPENMETRICS);
    assert_int_equal(metrics_format_of(STR("text/plain, application/openmetrics-text;q=0.1")),
                     METRICS_PROMETHEUS);
    assert_int_equal(metrics_format_of(STR("*/*")), METRICS_PROMETHEUS);
    assert_int_equal(metrics_format_of(STR("application/openmetrics-text;q=0")),
                     METRICS_PROMETHEUS);
}

/* Whatever comes in as a label, the series stay bounded and the text stays whole. */
static void test_label_explosion(void **state) {
    (void)state;
    for (int i = 0; i < 10000; i++) {
        char name[200];
        snprintf(name, sizeof name, "p%d\"\\\n%s", i,
                 i % 2 ? "\xff\xfe"
                       : "\xc3\xa4 long long long long long long long long long long long");
        const char *values[] = {name, "reason"};
        metric_add(M_EMBED_FAILURES, metric_series(M_EMBED_FAILURES, values), 1);
    }
    assert_int_equal(metric_series_count(M_EMBED_FAILURES), 1 + 32);
    uint64_t sum = metric_total(M_EMBED_FAILURES, 0, metric_series_count(M_EMBED_FAILURES));
    assert_int_equal(sum, 10000);
    char *t = scrape(METRICS_PROMETHEUS);
    has(t, "kith_embed_failures_total{provider=\"other\",reason=\"other\"} 9968\n");
    has(t, "kith_embed_failures_total{provider=\"p1\\\"\\\\\\n\",reason=\"reason\"} 1\n");
    assert_true(utf8_valid(str_of(t), NULL));
    mem_free(t);
}

static void give(void *ctx, metric_out *out) {
    metric_give(out, M_FOLD_LAG_SECONDS, (const char *const[]){"store"}, 1.5);
    metric_give(out, M_FOLD_LAG_SECONDS, (const char *const[]){"embed"}, 0);
    metric_give(out, M_POSTS, NULL, *(double *)ctx);
}

static void test_collectors(void **state) {
    (void)state;
    double posts = 42;
    assert_int_equal(metrics_collector_add(give, &posts), OK);
    char *t = scrape(METRICS_PROMETHEUS);
    has(t, "kith_fold_lag_seconds{fold=\"store\"} 1.5\nkith_fold_lag_seconds{fold=\"embed\"} 0\n");
    has(t, "# TYPE kith_posts gauge\nkith_posts 42\n");
    mem_free(t);
    metrics_collector_remove(give, &posts);
    t = scrape(METRICS_PROMETHEUS);
    assert_null(strstr(t, "kith_posts 42"));
    mem_free(t);
}

/* Names follow the conventions, each metric has a help text that is a sentence. */
static void test_catalog(void **state) {
    (void)state;
    for (metric_id m = 0; m < METRIC_COUNT; m++) {
        const metric_info *i = &metric_catalog[m];
        if (!i->name || !i->help) fail_msg("metric %d is not in the table", (int)m);
        bool counter = (m >= METRIC_FIRST_COUNTER && m < METRIC_FIRST_GIVEN) || i->counter;
        if (counter != str_ends(str_of(i->name), STR("_total")))
            fail_msg("%s: counters, and only they, end in _total", i->name);
        assert_true(i->open_max <= METRIC_SERIES_MAX);
        bool words = i->labels[0].name && i->labels[0].words[0];
        if (i->labels[0].name && !words && !i->open_max)
            fail_msg("%s: an open label without a bound", i->name);
        for (metric_id k = 0; k < m; k++) assert_string_not_equal(metric_catalog[k].name, i->name);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),          cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_bounds_are_exact), cmocka_unit_test(test_openmetrics),
        cmocka_unit_test(test_label_explosion),  cmocka_unit_test(test_collectors),
        cmocka_unit_test(test_catalog),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
