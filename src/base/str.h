/* Text: `str` is a borrowed pointer and length, not NUL-terminated. `strbuf` builds text and is
 * born with a ceiling. Numbers parse strictly: the whole text or an error.
 */
#ifndef KITH_BASE_STR_H
#define KITH_BASE_STR_H

#include "base/def.h"
#include "base/err.h"
#include <string.h>

typedef struct str {
    const char *ptr;
    size_t len;
} str;

#define STR(lit) ((str){"" lit, sizeof(lit) - 1})
#define STR_INIT(lit) \
    { "" lit, sizeof(lit) - 1 }
#define STR_FMT    "%.*s" /* printf("%.*s", STR_ARG(s)) */
#define STR_ARG(s) (int)(s).len, (s).ptr

static inline str str_of(const char *z) {
    return (str){z, z ? strlen(z) : 0};
}
static inline str str_from(const void *p, size_t n) {
    return (str){(const char *)p, n};
}
static inline bool str_eq(str a, str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
int str_cmp(str a, str b);        /* bytewise, as memcmp, shorter first */
bool str_eq_nocase(str a, str b); /* ASCII only */
bool str_starts(str s, str prefix);
bool str_ends(str s, str suffix);
str str_trim(str s);                   /* ASCII white space */
str str_skip(str s, size_t n);         /* without its first n bytes (all, when n is more) */
ptrdiff_t str_find(str s, str needle); /* byte offset or -1 */
ptrdiff_t str_find_byte(str s, char c);
/* Cuts the part before `sep` off *rest; false when *rest is exhausted.
 *     str rest = STR("a,b"), part; while (str_split(&rest, ',', &part)) ... */
bool str_split(str *rest, char sep, str *part);
MUST_USE bool str_to_i64(str s, int64_t *out);
MUST_USE bool str_to_u64(str s, uint64_t *out);
MUST_USE bool str_to_f64(str s, double *out); /* finite values only */

typedef struct strbuf {
    char *ptr; /* NUL-terminated once anything was added */
    size_t len, cap, max;
    err rc; /* sticky: the first failure; later adds do nothing */
} strbuf;

void strbuf_init(strbuf *b, size_t max);
void strbuf_deinit(strbuf *b);
void strbuf_reset(strbuf *b); /* keeps the memory, clears rc */
void strbuf_add(strbuf *b, str s);
void strbuf_addz(strbuf *b, const char *z);
void strbuf_addc(strbuf *b, char c);
void strbuf_addf(strbuf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void strbuf_add_json(strbuf *b, str s); /* a JSON string literal with its quotes; s valid UTF-8 */
static inline str strbuf_str(const strbuf *b) {
    return (str){b->ptr ? b->ptr : "", b->len};
}
MUST_USE char *strbuf_take(strbuf *b); /* moves the text out (mem_free it); NULL on failure */

#endif
