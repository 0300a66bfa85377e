/* term: what a person sees: text on standard output, a progress line with an ETA on a terminal. */
#ifndef KITH_ROLE_TERM_H
#define KITH_ROLE_TERM_H

#include "base/base.h"

void term_out(const char *fmt, ...) PRINTF_LIKE(1, 2);  /* standard output */
void term_note(const char *fmt, ...) PRINTF_LIKE(1, 2); /* standard error, with a line end */
bool term_is_out(void);                                 /* standard output is a terminal */

/* Prints "kith: <detail>" and what to do; returns the exit code: 2 for a wrong call, else 1. */
int term_fail(err rc);

typedef struct progress {
    const char *what;
    uint64_t start_ns, shown_ns, first;
    bool started, shown;
} progress;

void progress_start(progress *p, const char *what);
/* Shows done of total (0: not known) at most ten times a second, only after two seconds, only on a
 * terminal. `share` is 0..1 or negative when not known; then done/total is taken. */
void progress_show(progress *p, uint64_t done, uint64_t total, double share);
/* The same, and begins a new line when `what` (by its address) is another than before. */
void progress_step(progress *p, const char *what, uint64_t done, uint64_t total);
void progress_end(progress *p); /* wipes the line */
double progress_seconds(const progress *p);

#endif
