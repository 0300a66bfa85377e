/* What counting costs: a counter, a histogram, a span, in CPU time; the bounds of docs/observability.md. */
#include "obs/metrics.h"
#include "obs/trace.h"
#include "os/os.h"

#include <stdio.h>

enum { TIMES = 20000000, SPANS = 2000000, ROUNDS = 3 };

static double best(double a, double b) {
    return a > 0 && a < b ? a : b;
}

int main(void) {
    double counter = 0, histogram = 0, one_span = 0, whole = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t t = clock_thread_cpu_ns();
        for (int i = 0; i < TIMES; i++) {
            metric_add(M_SEARCHES, (unsigned)i & 7, 1);
            __asm__ volatile("" ::: "memory");
        }
        counter = best(counter, (double)(clock_thread_cpu_ns() - t) / TIMES);
        t = clock_thread_cpu_ns();
        for (int i = 0; i < TIMES; i++) {
            metric_record(M_SEARCH_SECONDS, (unsigned)i & 7, (uint64_t)i * 7919 % 10000000);
            __asm__ volatile("" ::: "memory");
        }
        histogram = best(histogram, (double)(clock_thread_cpu_ns() - t) / TIMES);
        t = clock_thread_cpu_ns();
        for (int i = 0; i < SPANS / 10; i++) {
            trace_root r;
            trace_root_begin(&r, "bench", SPAN_SERVER, (str){"", 0});
            for (int k = 0; k < 10; k++) {
                span s = span_begin("bench.stage");
                span_number(&s, "kith.n", k);
                span_end(&s);
            }
            trace_root_end(&r, true);
        }
        one_span = best(one_span, (double)(clock_thread_cpu_ns() - t) / SPANS);
        t = clock_thread_cpu_ns();
        for (int i = 0; i < SPANS / 10; i++) {
            trace_root r;
            trace_root_begin(&r, "bench", SPAN_SERVER, (str){"", 0});
            trace_root_end(&r, true);
        }
        whole = best(whole, (double)(clock_thread_cpu_ns() - t) / (SPANS / 10));
    }
    printf("counter %.2f ns, histogram %.2f ns, span %.1f ns, a trace of one span %.0f ns\n",
           counter, histogram, one_span, whole);
    return 0;
}
