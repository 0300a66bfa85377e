/* Base64, three bytes or four digits at a time. A strbuf is filled by the piece and not by four
 * characters, since vectors of thousands of bytes go this way.
 */
#include "base/base.h"

enum { PIECE = 192 }; /* bytes, a multiple of 3: no padding within */

size_t base64_encode(const void *p, size_t n, base64_alphabet a, char *out) {
    static const char standard[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
                      url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    KITH_ASSERT(a == BASE64_STANDARD || a == BASE64_URL);
    const char *digits = a == BASE64_URL ? url : standard;
    const uint8_t *s = p;
    size_t len = 0;
    for (size_t i = 0; i < n; i += 3) {
        size_t left = MIN(n - i, 3);
        uint32_t v = (uint32_t)s[i] << 16;
        if (left > 1) v |= (uint32_t)s[i + 1] << 8;
        if (left > 2) v |= s[i + 2];
        for (uint32_t k = 0; k <= left; k++) out[len++] = digits[v >> (18 - 6 * k) & 63];
    }
    while (a == BASE64_STANDARD && len % 4) out[len++] = '=';
    return len;
}

void base64_add(strbuf *b, const void *p, size_t n, base64_alphabet a) {
    char text[BASE64_TEXT_MAX(PIECE)];
    for (size_t i = 0; i < n; i += PIECE) {
        size_t len = base64_encode((const uint8_t *)p + i, MIN(n - i, PIECE), a, text);
        strbuf_add(b, str_from(text, len));
    }
}

static int digit(char c, base64_alphabet a) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (a & BASE64_STANDARD && (c == '+' || c == '/')) return c == '+' ? 62 : 63;
    if (a & BASE64_URL && (c == '-' || c == '_')) return c == '-' ? 62 : 63;
    return -1;
}

bool base64_decode(str s, base64_alphabet a, uint8_t *out, uint32_t *rest) {
    if (s.len % 4 == 1) return false;
    uint32_t v = 0, bits = 0;
    for (size_t i = 0; i < s.len; i++) {
        int d = digit(s.ptr[i], a);
        if (d < 0) return false;
        v = (v << 6 | (uint32_t)d) & 0xffff;
        bits += 6;
        if (bits < 8) continue;
        bits -= 8;
        *out++ = (uint8_t)(v >> bits);
    }
    if (rest) *rest = v & ((1u << bits) - 1);
    return true;
}
