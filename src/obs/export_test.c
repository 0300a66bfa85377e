/* The exporter against a collector that is down, slow, full, or asks to wait. */
#include "obs/export.h"
#include "obs/metrics.h"
#include "os/os.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

typedef struct fake {
    _Atomic unsigned calls, bytes;
    export_answer answers[8]; /* the last one goes on */
    unsigned n;
    _Atomic bool hold;
} fake;

static export_answer post(void *ctx, str body) {
    fake *f = ctx;
    while (f->hold) clock_sleep_ms(1);
    unsigned i = f->calls++;
    f->bytes += (unsigned)body.len;
    return f->answers[MIN(i, f->n - 1)];
}

static void give(exporter *x, size_t n) {
    span_data d = {.trace = {1, 2}, .id = 3, .kind = SPAN_SERVER, .name = "n"};
    for (size_t i = 0; i < n; i++) exporter_sink(x, &d, 1);
}

typedef struct counts {
    uint64_t exported, dropped, rejected, retried;
} counts;
static counts now(void) {
    return (counts){metric_total(M_OTLP_SPANS, SPANS_EXPORTED, 1),
                    metric_total(M_OTLP_SPANS, SPANS_DROPPED, 1),
                    metric_total(M_OTLP_SPANS, SPANS_REJECTED, 1),
                    metric_total(M_OTLP_EXPORTS, EXPORT_RETRIED, 1)};
}

static exporter *open_with(fake *f) {
    exporter *x;
    export_options o = {.send = post, .ctx = f, .service = "kith", .delay_ms = 1, .backoff_ms = 1};
    assert_int_equal(exporter_open(&o, &x), OK);
    return x;
}

static void wait_calls(fake *f, unsigned n) {
    for (int i = 0; i < 5000 && f->calls < n; i++) clock_sleep_ms(1);
    assert_true(f->calls >= n);
}

static void test_sends_and_counts(void **state) {
    (void)state;
    counts a = now();
    fake f = {.answers = {{.sent = true, .rejected = 2}}, .n = 1};
    exporter *x = open_with(&f);
    give(x, 10);
    exporter_close(x);
    counts b = now();
    assert_int_equal(b.exported + b.rejected - a.exported - a.rejected, 10);
    assert_true(f.bytes > 10 * 30);
}

static void test_tries_again(void **state) {
    (void)state;
    counts a = now();
    fake f = {.answers = {{.again = true, .retry_ms = 1}, {.again = true}, {.sent = true}}, .n = 3};
    exporter *x = open_with(&f);
    give(x, 1);
    wait_calls(&f, 3);
    exporter_close(x);
    counts b = now();
    assert_int_equal(b.exported - a.exported, 1);
    assert_int_equal(b.retried - a.retried, 2);
}

/* A collector that refuses for good: no second try. */
static void test_gives_up(void **state) {
    (void)state;
    counts a = now();
    fake f = {.answers = {{.again = false}}, .n = 1};
    exporter *x = open_with(&f);
    give(x, 5);
    exporter_close(x);
    counts b = now();
    assert_int_equal(b.dropped - a.dropped, 5);
    assert_int_equal(b.retried - a.retried, 0);
    fake down = {.answers = {{.again = true}}, .n = 1};
    x = open_with(&down);
    give(x, 1);
    wait_calls(&down, EXPORT_TRIES);
    exporter_close(x);
    assert_int_equal(down.calls, EXPORT_TRIES);
}

/* A collector that hangs: the queue is bounded and giving never waits for it. */
static void test_bounded(void **state) {
    (void)state;
    counts a = now();
    fake f = {.answers = {{.sent = true}}, .n = 1, .hold = true};
    exporter *x = open_with(&f);
    give(x, 20000);
    counts b = now();
    assert_true(b.dropped - a.dropped >= 20000 - EXPORT_QUEUE - EXPORT_BATCH);
    f.hold = false;
    exporter_close(x);
    b = now();
    assert_int_equal(b.dropped + b.exported - a.dropped - a.exported, 20000);
}

/* The bytes, worked out by hand from opentelemetry-proto. */
static void test_wire(void **state) {
    (void)state;
    span_data d = {.trace = {0x0102030405060708u, 0x1112131415161718u},
                   .id = 0x2122232425262728u,
                   .kind = SPAN_SERVER,
                   .failed = true,
                   .start_ns = 1,
                   .end_ns = 2,
                   .attr_count = 1,
                   .name = "n"};
    d.attrs[0] = (span_attr){.key = "k", .number = 5};
    export_options o = {.service = "s", .attributes = "a=b,bad"};
    static const uint8_t want[] =
        "\x0a\x6d"
        "\x0a\x1f\x0a\x13\x0a\x0cservice.name\x12\x03\x0a\x01s\x0a\x08\x0a\x01"
        "a\x12\x03\x0a\x01"
        "b"
        "\x12\x4a\x0a\x06\x0a\x04kith\x12\x40"
        "\x0a\x10\x01\x02\x03\x04\x05\x06\x07\x08\x11\x12\x13\x14\x15\x16\x17\x18"
        "\x12\x08\x21\x22\x23\x24\x25\x26\x27\x28\x2a\x01n\x30\x02"
        "\x39\x01\0\0\0\0\0\0\0\x41\x02\0\0\0\0\0\0\0"
        "\x4a\x07\x0a\x01k\x12\x02\x18\x05\x7a\x02\x18\x02";
    strbuf b;
    strbuf_init(&b, KIB);
    assert_int_equal(otlp_traces(&b, &o, &d, 1), OK);
    for (size_t i = 0; i < b.len && i < sizeof want - 1; i++)
        if ((uint8_t)b.ptr[i] != want[i])
            fail_msg("byte %zu of %zu: %02x, wanted %02x", i, b.len, (uint8_t)b.ptr[i], want[i]);
    assert_int_equal(b.len, sizeof want - 1);
    strbuf_deinit(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sends_and_counts),
                                       cmocka_unit_test(test_tries_again),
                                       cmocka_unit_test(test_gives_up),
                                       cmocka_unit_test(test_bounded), cmocka_unit_test(test_wire)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
