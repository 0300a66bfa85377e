/* Traces: context on the wire, what is kept, bounds, and spans that follow from another thread. */
#include "obs/trace.h"
#include "os/os.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static span_data got[TRACE_SPANS_MAX];
static size_t n_got, calls;

static void take(void *ctx, const span_data *spans, size_t n) {
    (void)ctx;
    calls++;
    n_got = n;
    memcpy(got, spans, n * sizeof *spans);
}

static const char GOOD[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

static void set(double ratio, uint64_t slow_ns) {
    trace_options o = trace_options_default();
    o.ratio = ratio;
    o.slow_ns = slow_ns;
    trace_options_set(&o);
    trace_sink_set(take, NULL);
    n_got = calls = 0;
}

static void test_traceparent(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "00",
        "garbage",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"};
    trace_context c;
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        if (traceparent_parse(str_of(bad[i]), &c)) fail_msg("taken: %s", bad[i]);
    assert_true(traceparent_parse(str_of(GOOD), &c));
    assert_true(c.sampled);
    char out[TRACEPARENT_LEN + 1];
    traceparent_format(&c, out);
    assert_string_equal(out, GOOD);
    assert_true(traceparent_parse(
        STR("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-later"), &c));
    assert_false(c.sampled);
}

static void one(const char *parent, bool ok) {
    trace_root r;
    trace_root_begin(&r, "root", SPAN_SERVER, str_of(parent));
    span s = span_begin("child");
    span_text(&s, "k", STR("v"));
    span t = span_begin("grandchild");
    span_end(&t);
    span_end(&s);
    trace_root_end(&r, ok);
}

static void test_kept(void **state) {
    (void)state;
    set(0, UINT64_MAX);
    one("", true);
    assert_int_equal(calls, 0); /* not sampled, not slow */
    one("", false);
    assert_int_equal(calls, 1); /* failed */
    one(GOOD, true);
    assert_int_equal(calls, 2); /* the caller wants it */
    assert_int_equal(n_got, 3);
    assert_true(got[0].trace.hi == 0x4bf92f3577b34da6u && got[0].parent == 0x00f067aa0ba902b7u);
    assert_int_equal(got[1].parent, got[0].id);
    assert_int_equal(got[2].parent, got[1].id);
    assert_true(got[0].end_ns >= got[1].end_ns && got[1].start_ns >= got[0].start_ns);
    one("00-zz", true); /* malformed: a new trace */
    assert_int_equal(calls, 2);
    set(0, 0);
    one("", true);
    assert_int_equal(calls, 1); /* slow */
    set(1, UINT64_MAX);
    one("", true);
    assert_int_equal(calls, 1);
    set(0.25, UINT64_MAX);
    for (int i = 0; i < 4000; i++) one("", true);
    assert_in_range(calls, 800, 1200);
}

static void test_bounds(void **state) {
    (void)state;
    trace_root r;
    trace_stats a, b;
    set(1, UINT64_MAX);
    trace_stats_get(&a);
    trace_root_begin(&r, "a name that is much longer than any name should ever be in a trace",
                     SPAN_SERVER, STR(""));
    for (int i = 0; i < 100; i++) {
        span s = span_begin("many");
        for (int k = 0; k < 20; k++) span_number(&s, "n", k);
        span_text(&s, "t", STR("no more room"));
        span_end(&s);
    }
    trace_root_end(&r, true);
    trace_stats_get(&b);
    assert_int_equal(n_got, TRACE_SPANS_MAX);
    assert_int_equal(b.spans_lost - a.spans_lost, 101 - TRACE_SPANS_MAX);
    assert_int_equal(got[1].attr_count, TRACE_ATTRS_MAX);
    span s = span_begin("outside of any trace");
    assert_null(s.data);
    span_end(&s);
}

static void follow(void *arg) {
    trace_context c;
    (void)arg;
    if (trace_recall(77, &c)) trace_follow(&c, "fold.embed", clock_mono_ns() - 1000000);
}

static void test_follow(void **state) {
    (void)state;
    set(1, UINT64_MAX);
    trace_root r;
    trace_context c;
    trace_root_begin(&r, "put", SPAN_SERVER, STR(""));
    trace_remember(77, &trace_here);
    trace_id id = trace_here.trace;
    trace_root_end(&r, true);
    thread t;
    assert_int_equal(thread_start(&t, "fold", follow, NULL), OK);
    thread_join(&t);
    assert_int_equal(n_got, 1);
    assert_true(got[0].trace.lo == id.lo && got[0].end_ns - got[0].start_ns >= 1000000);
    assert_false(trace_recall(78, &c));
    strbuf b;
    strbuf_init(&b, MIB);
    assert_int_equal(trace_ring_json(&b, 1), OK);
    assert_non_null(strstr(b.ptr, "\"name\":\"put\"")); /* both in one */
    assert_non_null(strstr(b.ptr, "\"name\":\"fold.embed\""));
    strbuf_deinit(&b);
    trace_sink_set(NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_traceparent),
                                       cmocka_unit_test(test_kept), cmocka_unit_test(test_bounds),
                                       cmocka_unit_test(test_follow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
