/* Text helpers and the string builder.
 *
 * Numbers are parsed by hand because the C library's parsers skip white space, accept partial
 * text and read the locale. The builder keeps its first failure (`rc`), so code that builds a long
 * text checks once at the end.
 */
#include "base/base.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { NUMBER_MAX = 64 }; /* longest text of a floating-point number that we read */

int str_cmp(str a, str b) {
    size_t n = MIN(a.len, b.len);
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
    if (c) return c;
    return a.len < b.len ? -1 : a.len > b.len;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool str_eq_nocase(str a, str b) {
    if (a.len != b.len) return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.ptr[i]) != lower(b.ptr[i])) return false;
    return true;
}

bool str_starts(str s, str p) {
    return s.len >= p.len && (p.len == 0 || memcmp(s.ptr, p.ptr, p.len) == 0);
}

bool str_ends(str s, str p) {
    return s.len >= p.len && (p.len == 0 || memcmp(s.ptr + s.len - p.len, p.ptr, p.len) == 0);
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

str str_trim(str s) {
    while (s.len && is_space(s.ptr[0])) s.ptr++, s.len--;
    while (s.len && is_space(s.ptr[s.len - 1])) s.len--;
    return s;
}

str str_skip(str s, size_t n) {
    if (n > s.len) n = s.len;
    return n ? (str){s.ptr + n, s.len - n} : s; /* NULL + 0 is undefined */
}

ptrdiff_t str_find(str s, str needle) {
    if (needle.len == 0) return 0;
    if (s.len < needle.len) return -1;
    const char *p = memmem(s.ptr, s.len, needle.ptr, needle.len);
    return p ? p - s.ptr : -1;
}

ptrdiff_t str_find_byte(str s, char c) {
    const char *p = s.len ? memchr(s.ptr, c, s.len) : NULL;
    return p ? p - s.ptr : -1;
}

bool str_split(str *rest, char sep, str *part) {
    if (!rest->ptr) return false;
    ptrdiff_t at = str_find_byte(*rest, sep);
    if (at < 0) {
        *part = *rest;
        *rest = (str){NULL, 0};
        return true;
    }
    *part = (str){rest->ptr, (size_t)at};
    *rest = str_skip(*rest, (size_t)at + 1);
    return true;
}

bool str_to_u64(str s, uint64_t *out) {
    if (s.len == 0 || s.len > 20) return false;
    uint64_t v = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned d = (unsigned)(s.ptr[i] - '0');
        if (d > 9 || v > (UINT64_MAX - d) / 10) return false;
        v = v * 10 + d;
    }
    *out = v;
    return true;
}

bool str_to_i64(str s, int64_t *out) {
    bool neg = s.len && s.ptr[0] == '-';
    uint64_t v;
    if (!str_to_u64(neg ? str_skip(s, 1) : s, &v)) return false;
    if (v > (uint64_t)INT64_MAX + (neg ? 1 : 0)) return false;
    *out = neg ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool str_to_f64(str s, double *out) {
    char z[NUMBER_MAX];
    if (s.len == 0 || s.len >= sizeof z) return false;
    for (size_t i = 0; i < s.len; i++)
        if (!strchr("0123456789+-.eE", s.ptr[i]) || !s.ptr[i]) return false;
    memcpy(z, s.ptr, s.len);
    z[s.len] = 0;
    char *end;
    double v = strtod(z, &end);
    if (end != z + s.len || !isfinite(v)) return false;
    *out = v;
    return true;
}

void strbuf_init(strbuf *b, size_t max) {
    *b = (strbuf){NULL, 0, 0, max, OK};
}

void strbuf_deinit(strbuf *b) {
    mem_free(b->ptr);
    b->ptr = NULL;
    b->len = b->cap = 0;
}

void strbuf_reset(strbuf *b) {
    b->len = 0;
    b->rc = OK;
    if (b->ptr) b->ptr[0] = 0;
}

static bool reserve(strbuf *b, size_t more) {
    if (b->rc != OK) return false;
    if (more > b->max - b->len) {
        b->rc = err_set(ERR_TOO_LARGE, "text over its limit of %zu bytes", b->max);
        return false;
    }
    size_t need = b->len + more + 1;
    if (need <= b->cap) return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need) cap *= 2;
    if (cap > b->max + 1) cap = b->max + 1;
    char *p = mem_realloc(b->ptr, cap);
    if (!p) {
        b->rc = ERR_NO_MEMORY;
        return false;
    }
    b->ptr = p;
    b->cap = cap;
    return true;
}

void strbuf_add(strbuf *b, str s) {
    if (!reserve(b, s.len)) return;
    if (s.len) memcpy(b->ptr + b->len, s.ptr, s.len);
    b->len += s.len;
    b->ptr[b->len] = 0;
}

void strbuf_addz(strbuf *b, const char *z) {
    strbuf_add(b, str_of(z));
}
void strbuf_addc(strbuf *b, char c) {
    strbuf_add(b, (str){&c, 1});
}

void strbuf_addf(strbuf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !reserve(b, (size_t)n)) return;
    va_start(ap, fmt);
    vsnprintf(b->ptr + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void strbuf_add_json(strbuf *b, str s) {
    strbuf_addc(b, '"');
    size_t from = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        strbuf_add(b, (str){s.ptr + from, i - from});
        from = i + 1;
        if (c == '\n')
            strbuf_addz(b, "\\n");
        else if (c < 0x20)
            strbuf_addf(b, "\\u%04x", c);
        else
            strbuf_add(b, (str){(char[]){'\\', (char)c}, 2});
    }
    strbuf_add(b, (str){s.ptr + from, s.len - from});
    strbuf_addc(b, '"');
}

char *strbuf_take(strbuf *b) {
    if (b->rc == OK && !b->ptr) strbuf_add(b, (str){"", 0});
    char *p = b->rc == OK ? b->ptr : NULL;
    if (!p) mem_free(b->ptr);
    b->ptr = NULL;
    b->len = b->cap = 0;
    return p;
}
