/* The log: one write(2) a line, so lines of several threads do not mix, and no lock. A full pipe or
 * a closed standard error loses lines, never a request.
 */
#include "obs/obs.h"

#include "os/os.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1024 };

static int level_min = LOG_INFO; /* atomic */

void log_level_set(log_level level) {
    __atomic_store_n(&level_min, (int)level, __ATOMIC_RELAXED);
}

void log_line(log_level level, const char *what, const char *fmt, ...) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if ((int)level < __atomic_load_n(&level_min, __ATOMIC_RELAXED)) return;
    char line[LINE_MAX_BYTES], at[32];
    time_format(clock_wall_ms(), at);
    int n = snprintf(line, sizeof line, "time=%s level=%s msg=\"%s\" ", at, names[level], what);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n, fmt, ap);
    va_end(ap);
    size_t len = MIN((size_t)n + (m > 0 ? (size_t)m : 0), sizeof line - 2);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) line[i] = ' ';
    while (len && line[len - 1] == ' ') len--;
    line[len++] = '\n';
    ssize_t put = write(STDERR_FILENO, line, len);
    (void)put;
}
