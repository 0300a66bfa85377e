/* Percent-decoding and query strings.
 *
 * Decoding is strict because what slips through here becomes an id, a file name or a key further
 * up: '%' must be followed by two hex digits, a decoded NUL is refused, and the result must be
 * UTF-8. Decoding happens once: "%2541" gives "%41", never "A".
 *
 * Nothing is copied when nothing is encoded: most ids and words pass through as slices of the
 * target.
 */
#include "net/net.h"

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static err decode_bytes(str raw, bool plus_is_space, char *out, size_t *len) {
    size_t n = 0;
    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.ptr[i];
        if (c == '+' && plus_is_space) c = ' ';
        if (c == '%') {
            int hi = i + 1 < raw.len ? digit(raw.ptr[i + 1]) : -1;
            int lo = i + 2 < raw.len ? digit(raw.ptr[i + 2]) : -1;
            if (hi < 0 || lo < 0) {
                return err_set(ERR_INVALID,
                               "percent-encoding: expected two hex digits behind '%%'");
            }
            c = (char)(hi << 4 | lo);
            i += 2;
        }
        if (c == 0) return err_set(ERR_INVALID, "percent-encoding: NUL is not text");
        out[n++] = c;
    }
    *len = n;
    return OK;
}

static err decode(arena *mem, str raw, bool plus_is_space, str *out) {
    bool plain = str_find_byte(raw, '%') < 0 && str_find_byte(raw, 0) < 0;
    if (plain && plus_is_space) plain = str_find_byte(raw, '+') < 0;
    *out = raw;
    if (!plain) {
        char *p = arena_alloc(mem, raw.len);
        if (!p) return ERR_NO_MEMORY;
        size_t n = 0;
        TRY(decode_bytes(raw, plus_is_space, p, &n));
        *out = str_from(p, n);
    }
    if (!utf8_valid(*out, NULL)) {
        return err_set(ERR_INVALID, "percent-encoding: expected UTF-8");
    }
    return OK;
}

err net_path_decode(arena *mem, str raw, str *out) {
    return decode(mem, raw, false, out);
}

err net_query_next(arena *mem, str *rest, str *key, str *value) {
    str pair = {"", 0};
    while (pair.len == 0 && rest->len) {
        ptrdiff_t amp = str_find_byte(*rest, '&');
        pair = amp < 0 ? *rest : str_from(rest->ptr, (size_t)amp);
        *rest = str_skip(*rest, amp < 0 ? rest->len : (size_t)amp + 1);
    }
    ptrdiff_t eq = str_find_byte(pair, '=');
    str k = eq < 0 ? pair : str_from(pair.ptr, (size_t)eq);
    str v = eq < 0 ? (str){"", 0} : str_skip(pair, (size_t)eq + 1);
    TRY(decode(mem, k, true, key));
    return decode(mem, v, true, value);
}
