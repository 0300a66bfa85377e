/* Clocks. Wall time is for people and records, monotonic time for durations, CPU time for
 * benchmarks. The hybrid logical clock (Kulkarni et al. 2014) orders records: near wall time and
 * never going back.
 */
#ifndef KITH_OS_CLOCK_H
#define KITH_OS_CLOCK_H

#include "base/base.h"

int64_t clock_wall_ms(void);  /* since 1970, UTC */
uint64_t clock_wall_ns(void); /* the same, finer */
uint64_t clock_mono_ns(void);
uint64_t clock_thread_cpu_ns(void);
void clock_sleep_ms(uint64_t ms);

/* 48 bits of wall milliseconds, 16 bits of counter. */
typedef uint64_t hlc;
#define HLC_MS(t) ((int64_t)((t) >> 16))
/* The next timestamp after `last` when the wall clock shows `wall_ms`. */
hlc hlc_next(hlc last, int64_t wall_ms);

#endif
