/* The log: one line an event, whatever is in it. */
#include "obs/obs.h"
#include "obs/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* What `fn` writes to standard error. */
static size_t caught(void (*fn)(void), char *buf, size_t max) {
    int ends[2], old = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    fn();
    dup2(old, STDERR_FILENO);
    close(old);
    close(ends[1]);
    ssize_t n = read(ends[0], buf, max - 1);
    close(ends[0]);
    buf[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}

static void two_lines(void) {
    log_line(LOG_INFO, "first", "a=%d b=%s", 1, "x\ny");
    log_line(LOG_DEBUG, "unseen", "%s", "");
    log_line(LOG_ERROR, "second", "%s", "");
}

static void one_line_an_event(void **state) {
    (void)state;
    char buf[4096];
    log_json_set(false);
    caught(two_lines, buf, sizeof buf);
    assert_non_null(strstr(buf, "level=info msg=\"first\" a=1 b=x y\n"));
    assert_non_null(strstr(buf, "level=error msg=\"second\"\n"));
    assert_null(strstr(buf, "unseen"));
}

static void quoted(void) {
    trace_here = (trace_context){{1, 2}, 3, false};
    log_line(LOG_INFO, "ready", "n=%d url=http://x/ id=007 detail=\"a b=c\" last=\xff", 12);
    trace_here = (trace_context){.span = 0};
}

static void json_with_trace(void **state) {
    (void)state;
    char buf[4096];
    log_json_set(true);
    caught(quoted, buf, sizeof buf);
    log_json_set(false);
    assert_non_null(strstr(buf,
                           "\"level\":\"info\",\"msg\":\"ready\",\"trace_id\":"
                           "\"00000000000000010000000000000002\",\"span_id\":"
                           "\"0000000000000003\",\"n\":12,\"url\":\"http://x/\",\"id\":\"007\","
                           "\"detail\":\"a b=c\",\"last\":\"\"}\n"));
}

static void long_line(void) {
    char big[5000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    log_line(LOG_WARN, "long", "%s", big);
}

static void long_lines_are_cut(void **state) {
    (void)state;
    char buf[8192];
    size_t n = caught(long_line, buf, sizeof buf);
    assert_in_range(n, 1000, 1024);
    assert_int_equal(buf[n - 1], '\n');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_line_an_event),
        cmocka_unit_test(json_with_trace),
        cmocka_unit_test(long_lines_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
