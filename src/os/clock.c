/* Clocks by clock_gettime: realtime for people and records, monotonic for durations, thread CPU
 * time for benchmarks. The hybrid logical clock packs milliseconds and a counter into one u64 so
 * that comparing timestamps is comparing integers; when the wall clock stands still or jumps back,
 * the counter runs on (65,536 records a millisecond) and overflows into the millisecond part.
 */
#include "os/clock.h"

#include <errno.h>
#include <time.h>

static uint64_t now_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int64_t clock_wall_ms(void) {
    return (int64_t)(now_ns(CLOCK_REALTIME) / 1000000u);
}
uint64_t clock_wall_ns(void) {
    return now_ns(CLOCK_REALTIME);
}
uint64_t clock_mono_ns(void) {
    return now_ns(CLOCK_MONOTONIC);
}
uint64_t clock_thread_cpu_ns(void) {
    return now_ns(CLOCK_THREAD_CPUTIME_ID);
}

void clock_sleep_ms(uint64_t ms) {
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {}
}

hlc hlc_next(hlc last, int64_t wall_ms) {
    hlc now = wall_ms > 0 ? (hlc)wall_ms << 16 : 0;
    return now > last ? now : last + 1;
}
