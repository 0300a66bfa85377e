/* RFC 3339 times, by hand: strptime reads the locale and knows no fractions or offsets, and the
 * C library's calendar calls read the process's time zone. Days from civil dates and back follow
 * Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms" (public formulas).
 */
#include "base/base.h"

static int64_t days_from_civil(int64_t y, int m, int d) {
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

void time_civil(int64_t z, int *y, int *m, int *d) {
    z += 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *d = (int)(doy - (153 * mp + 2) / 5 + 1);
    *m = (int)(mp < 10 ? mp + 3 : mp - 9);
    *y = (int)(yoe + era * 400 + (*m <= 2));
}

/* Reads exactly n digits. */
static bool digits(str *s, size_t n, int *out) {
    if (s->len < n) return false;
    int v = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned d = (unsigned)(s->ptr[i] - '0');
        if (d > 9) return false;
        v = v * 10 + (int)d;
    }
    *s = str_skip(*s, n);
    *out = v;
    return true;
}

static bool byte(str *s, const char *set) {
    if (!s->len || !s->ptr[0] || !strchr(set, s->ptr[0])) return false;
    *s = str_skip(*s, 1);
    return true;
}

static bool parse_date(str *s, int64_t *days) {
    static const unsigned char month_days[12] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int y, m, d;
    if (!digits(s, 4, &y) || !byte(s, "-") || !digits(s, 2, &m) || !byte(s, "-") ||
        !digits(s, 2, &d))
        return false;
    if (y < 1 || m < 1 || m > 12 || d < 1 || d > month_days[m - 1]) return false;
    if (m == 2 && d == 29 && (y % 4 != 0 || (y % 100 == 0 && y % 400 != 0))) return false;
    *days = days_from_civil(y, m, d);
    return true;
}

static bool parse_fraction(str *s, int *ms) {
    *ms = 0;
    if (!byte(s, ".,")) return true;
    int scale = 100, n = 0;
    while (s->len && s->ptr[0] >= '0' && s->ptr[0] <= '9') {
        *ms += (s->ptr[0] - '0') * scale;
        scale /= 10;
        n++;
        *s = str_skip(*s, 1);
    }
    return n > 0 && n <= 18;
}

static bool parse_offset(str *s, int *minutes) {
    *minutes = 0;
    if (byte(s, "Zz")) return true;
    int sign = s->len && s->ptr[0] == '-' ? -1 : 1, h, m;
    if (!byte(s, "+-") || !digits(s, 2, &h)) return false;
    (void)byte(s, ":");
    if (!digits(s, 2, &m) || h > 23 || m > 59) return false;
    *minutes = sign * (h * 60 + m);
    return true;
}

bool time_parse(str s, int64_t *out) {
    int64_t days;
    if (!parse_date(&s, &days)) return false;
    if (s.len == 0) {
        *out = days * 86400000;
        return true;
    }
    int h, m, sec, ms, off;
    if (!byte(&s, "Tt ") || !digits(&s, 2, &h) || !byte(&s, ":") || !digits(&s, 2, &m) ||
        !byte(&s, ":") || !digits(&s, 2, &sec) || !parse_fraction(&s, &ms) ||
        !parse_offset(&s, &off) || s.len)
        return false;
    if (h > 23 || m > 59 || sec > 60) return false;
    int64_t t = ((days * 24 + h) * 60 + m - off) * 60000 + sec * 1000 + ms;
    if (t < TIME_MS_MIN || t > TIME_MS_MAX) return false;
    *out = t;
    return true;
}

static char *put_digits(char *p, int v, int n) {
    for (int i = n - 1; i >= 0; i--, v /= 10) p[i] = (char)('0' + v % 10);
    return p + n;
}

size_t time_format(int64_t t, char out[32]) {
    t = MAX(TIME_MS_MIN, MIN(t, TIME_MS_MAX));
    int64_t days = t >= 0 ? t / 86400000 : -((-t + 86399999) / 86400000);
    int64_t in_day = t - days * 86400000;
    int y, m, d, ms = (int)(in_day % 1000), s = (int)(in_day / 1000);
    time_civil(days, &y, &m, &d);
    char *p = put_digits(out, y, 4);
    *p++ = '-', p = put_digits(p, m, 2);
    *p++ = '-', p = put_digits(p, d, 2);
    *p++ = 'T', p = put_digits(p, s / 3600, 2);
    *p++ = ':', p = put_digits(p, s / 60 % 60, 2);
    *p++ = ':', p = put_digits(p, s % 60, 2);
    if (ms) *p++ = '.', p = put_digits(p, ms, 3);
    *p++ = 'Z';
    *p = 0;
    return (size_t)(p - out);
}
