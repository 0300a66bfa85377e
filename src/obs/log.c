/* The log: one write(2) a line, so lines of several threads do not mix, and no lock. A full pipe or
 * a closed standard error loses lines, never a request.
 *
 * A line is a JSON object, or key=value pairs when standard error is a terminal; KITH_LOG=json or text
 * chooses. The pairs come formatted as text either way, so the JSON is made from it: a value is what
 * stands up to the next blank, or between quotes. A line within a trace carries its id.
 */
#include "obs/obs.h"

#include "obs/metrics.h"
#include "os/os.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1024, JSON_MAX_BYTES = 4096 };

static int level_min = LOG_INFO; /* atomic */
static int form;                 /* atomic; 0: not decided yet, 1: text, 2: JSON */

void log_level_set(log_level level) {
    __atomic_store_n(&level_min, (int)level, __ATOMIC_RELAXED);
}

void log_json_set(bool json) {
    __atomic_store_n(&form, json ? 2 : 1, __ATOMIC_RELAXED);
}

static bool is_json(void) {
    int f = __atomic_load_n(&form, __ATOMIC_RELAXED);
    if (f) return f == 2;
    const char *want = getenv("KITH_LOG");
    bool json = want && want[0] ? strcmp(want, "text") != 0 : !isatty(STDERR_FILENO);
    log_json_set(json);
    return json;
}

/* One key=value off *rest; the value without its quotes. */
static bool next_pair(str *rest, str *key, str *value) {
    *rest = str_trim(*rest);
    ptrdiff_t eq = str_find_byte(*rest, '=');
    if (eq <= 0) return false;
    *key = str_from(rest->ptr, (size_t)eq);
    str v = str_skip(*rest, (size_t)eq + 1);
    size_t end = 0;
    if (v.len && v.ptr[0] == '"') {
        for (end = 1; end < v.len; end++)
            if (v.ptr[end] == '"' && (end + 1 == v.len || v.ptr[end + 1] == ' ')) break;
        *value = str_from(v.ptr + 1, end - 1);
        *rest = str_skip(v, end + 1);
        return true;
    }
    while (end < v.len && v.ptr[end] != ' ') end++;
    *value = str_from(v.ptr, end);
    *rest = str_skip(v, end);
    return true;
}

static bool is_number(str s) {
    double d;
    return s.len && s.len < 20 && s.ptr[0] != '+' && s.ptr[0] != '.' && str_to_f64(s, &d) &&
           !(s.len > 1 && s.ptr[0] == '0' && s.ptr[1] != '.');
}

static void put_json(strbuf *b, str pairs) {
    str key, value;
    size_t bad;
    while (next_pair(&pairs, &key, &value)) {
        if (!utf8_valid(key, NULL)) continue;
        strbuf_addc(b, ',');
        strbuf_add_json(b, key);
        strbuf_addc(b, ':');
        if (!utf8_valid(value, &bad)) value.len = bad;
        if (is_number(value))
            strbuf_add(b, value);
        else
            strbuf_add_json(b, value);
    }
}

static size_t line_json(char *line, const char *level, const char *what, str pairs) {
    char at[32], hex[33];
    strbuf b;
    strbuf_init(&b, JSON_MAX_BYTES - 2);
    time_format(clock_wall_ms(), at);
    strbuf_addf(&b, "{\"time\":\"%s\",\"level\":\"%s\",\"msg\":", at, level);
    strbuf_add_json(&b, str_of(what));
    if (trace_id_is(trace_here.trace)) {
        trace_id_format(trace_here.trace, hex);
        strbuf_addf(&b, ",\"trace_id\":\"%s\",\"span_id\":\"%016llx\"", hex,
                    (unsigned long long)trace_here.span);
    }
    put_json(&b, pairs);
    strbuf_addc(&b, '}');
    size_t n = b.rc == OK ? b.len : 0;
    if (n) memcpy(line, b.ptr, n);
    strbuf_deinit(&b);
    return n;
}

static size_t line_text(char *line, const char *level, const char *what, str pairs) {
    char at[32];
    time_format(clock_wall_ms(), at);
    int n = snprintf(line, JSON_MAX_BYTES - 1, "time=%s level=%s msg=\"%s\" " STR_FMT, at, level,
                     what, STR_ARG(pairs));
    size_t len = MIN(n > 0 ? (size_t)n : 0, (size_t)LINE_MAX_BYTES - 1);
    while (len && line[len - 1] == ' ') len--;
    return len;
}

void log_line(log_level level, const char *what, const char *fmt, ...) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if ((int)level < __atomic_load_n(&level_min, __ATOMIC_RELAXED)) return;
    char pairs[LINE_MAX_BYTES], line[JSON_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(pairs, sizeof pairs, fmt, ap);
    va_end(ap);
    size_t len = MIN(n > 0 ? (size_t)n : 0, sizeof pairs - 1);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)pairs[i] < 0x20 || pairs[i] == 0x7f) pairs[i] = ' ';
    metric_add(M_LOG_LINES, (unsigned)level, 1);
    size_t size = 0;
    if (is_json()) size = line_json(line, names[level], what, str_from(pairs, len));
    if (!size) size = line_text(line, names[level], what, str_from(pairs, len));
    line[size++] = '\n';
    ssize_t put = write(STDERR_FILENO, line, size);
    (void)put;
}
