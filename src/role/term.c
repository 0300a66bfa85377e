/* Terminal output. The progress line goes to standard error, so that standard output can be piped,
 * and only when that is a terminal: a log file full of carriage returns helps nobody.
 */
#include "role/term.h"

#include "os/os.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { SHOW_AFTER_NS = 2000000000, SHOW_EVERY_NS = 100000000 };

void term_out(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stdout, fmt, ap);
    va_end(ap);
}

void term_note(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

bool term_is_out(void) {
    return isatty(STDOUT_FILENO) == 1;
}

int term_fail(err rc) {
    term_note("kith: %s", err_detail()[0] ? err_detail() : err_name(rc));
    return rc == ERR_INVALID ? 2 : 1;
}

void progress_start(progress *p, const char *what) {
    *p = (progress){.what = what, .start_ns = clock_mono_ns(), .started = true};
}

double progress_seconds(const progress *p) {
    return (double)(clock_mono_ns() - p->start_ns) / 1e9;
}

static void show_eta(double seconds) {
    if (seconds < 90)
        fprintf(stderr, ", %.0f s left", seconds);
    else if (seconds < 5400)
        fprintf(stderr, ", %.0f min left", seconds / 60);
    else
        fprintf(stderr, ", %.1f h left", seconds / 3600);
}

void progress_show(progress *p, uint64_t done, uint64_t total, double share) {
    uint64_t now = clock_mono_ns();
    if (now - p->start_ns < SHOW_AFTER_NS || now - p->shown_ns < SHOW_EVERY_NS) return;
    if (!isatty(STDERR_FILENO)) return;
    p->shown_ns = now;
    p->shown = true;
    double s = progress_seconds(p);
    if (share < 0 && total) share = (double)done / (double)total;
    fprintf(stderr, "\r\033[K%s: %llu", p->what, (unsigned long long)done);
    if (total) fprintf(stderr, " of %llu", (unsigned long long)total);
    if (share >= 0) fprintf(stderr, " (%.0f %%)", share * 100);
    fprintf(stderr, ", %.0f/s", (double)done / s);
    if (share > 0.001) show_eta(s / share - s);
    fflush(stderr);
}

void progress_step(progress *p, const char *what, uint64_t done, uint64_t total) {
    if (!p->started || p->what != what) progress_start(p, what);
    progress_show(p, done, total, -1);
}

void progress_end(progress *p) {
    if (p->shown) fputs("\r\033[K", stderr);
    p->shown = false;
}
