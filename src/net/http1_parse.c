/* HTTP/1 heads and chunked bodies, strictly.
 *
 * picohttpparser finds the pieces of a head quickly, but is lenient where leniency smuggles
 * requests: it takes a bare LF as a line end, hands out folded lines, any length of minor version,
 * and every Content-Length. So each head it accepts is judged again here, and the rule is: what two
 * parsers could read differently is refused.
 *
 * Invariants of an accepted head
 *  1. Every line ends with CRLF; no other CR or LF, no NUL, no fold, no space before a colon.
 *  2. HTTP/1.1 has exactly one Host, HTTP/1.0 at most one; it holds no '/', '@', ',' or space.
 *  3. Framing comes from at most one header: one Content-Length of 1 to 19 digits, or one
 *     Transfer-Encoding that is exactly "chunked" (and never in HTTP/1.0). Both: 400.
 *  4. The target is visible ASCII without '#': "/path?query", "*" for OPTIONS, or the absolute
 *     form, whose authority then stands for Host (RFC 9112, 3.2.2).
 *
 * The chunk decoder is a byte machine that hands out slices of its input: chunk sizes are 1 to 16
 * hex digits, then optional ";extension" (ignored, bounded a line and a body), then CRLF; data is
 * followed by exactly CRLF; trailers are checked for shape, bounded and dropped.
 *
 * A head that arrives byte by byte costs O(n): `seen` lets the parser look for the end only in what
 * is new.
 */
#include "net/http1_parse.h"

#include <picohttpparser.h>

#define METHOD_BYTES_MAX 32

/* ---- character classes ---- */

/* Sets of ASCII as bit masks: bytes 0 to 63, 64 to 127. */
typedef struct charset {
    uint64_t low, high;
} charset;

/* RFC 9110, 5.6.2: letters, digits and !#$%&'*+-.^_`|~ */
static const charset TCHAR = {0x3ff6cfa00000000u, 0x57ffffffc7fffffeu};
/* RFC 3986, 3.2.2: letters, digits and -._~%!$&'()*+;=:[] */
static const charset AUTHORITY = {0x2fff6ff200000000u, 0x47fffffeaffffffeu};

static inline bool in_set(charset set, unsigned char c) {
    return c < 128 && ((c < 64 ? set.low >> c : set.high >> (c - 64)) & 1);
}

static bool all_in_set(charset set, str s) {
    for (size_t i = 0; i < s.len; i++) {
        if (!in_set(set, (unsigned char)s.ptr[i])) return false;
    }
    return true;
}

bool http1_is_token(str s) {
    return s.len > 0 && all_in_set(TCHAR, s);
}

bool http1_is_value(str s) {
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) return false;
    }
    return true;
}

bool http1_is_authority(str s) {
    return s.len <= 255 + 8 && all_in_set(AUTHORITY, s); /* a DNS name and a port */
}

bool http1_target_split(str target, str *path, str *query) {
    for (size_t i = 0; i < target.len; i++) {
        unsigned char c = (unsigned char)target.ptr[i];
        if (c <= 0x20 || c >= 0x7f || c == '#') return false;
    }
    ptrdiff_t mark = str_find_byte(target, '?');
    *path = mark < 0 ? target : str_from(target.ptr, (size_t)mark);
    *query = mark < 0 ? (str){"", 0} : str_skip(target, (size_t)mark + 1);
    return path->len > 0 && path->ptr[0] == '/';
}

/* ---- the head ---- */

static int refuse(http1_head *h, int status, const char *detail) {
    h->detail = detail;
    return status;
}

static bool all_lines_crlf(str head) {
    const char *p = head.ptr, *end = head.ptr + head.len;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
        if (p == head.ptr || p[-1] != '\r') return false;
        p++;
    }
    return true;
}

/* "http://host/path" to host and "/path". */
static bool absolute_form(str target, str *host, str *origin) {
    size_t skip = 0;
    if (target.len > 7 && str_eq_nocase(str_from(target.ptr, 7), STR("http://"))) skip = 7;
    if (target.len > 8 && str_eq_nocase(str_from(target.ptr, 8), STR("https://"))) skip = 8;
    if (skip == 0) return false;
    str rest = str_skip(target, skip);
    size_t n = 0;
    while (n < rest.len && rest.ptr[n] != '/' && rest.ptr[n] != '?') n++;
    *host = str_from(rest.ptr, n);
    *origin = str_skip(rest, n);
    if (origin->len == 0) *origin = STR("/");
    return n > 0 && origin->ptr[0] == '/' && http1_is_authority(*host);
}

static int read_target(http1_head *h, str target) {
    if (target.len > NET_TARGET_BYTES_MAX) return refuse(h, 414, "request target over 8 KiB");
    if (str_eq(target, STR("*")) && str_eq(h->method, STR("OPTIONS"))) {
        h->path = target;
        return 0;
    }
    str origin = target, host;
    if (target.len && target.ptr[0] != '/') {
        if (!absolute_form(target, &host, &origin)) {
            return refuse(h, 400, "request target: expected /path or http://host/path");
        }
        h->host = host;
    }
    if (!http1_target_split(origin, &h->path, &h->query)) {
        return refuse(h, 400, "request target: expected visible ASCII without '#'");
    }
    return 0;
}

static int read_length(http1_head *h, str v) {
    if (h->has_length) return refuse(h, 400, "more than one Content-Length");
    if (v.len == 0 || v.len > 19) return refuse(h, 400, "Content-Length: expected 1 to 19 digits");
    uint64_t n = 0;
    for (size_t i = 0; i < v.len; i++) {
        if (v.ptr[i] < '0' || v.ptr[i] > '9') {
            return refuse(h, 400, "Content-Length: expected digits only");
        }
        n = n * 10 + (uint64_t)(v.ptr[i] - '0');
    }
    h->has_length = true;
    h->length = n;
    return 0;
}

static int read_connection(http1_head *h, str v) {
    str rest = v, part;
    while (str_split(&rest, ',', &part)) {
        str t = str_trim(part);
        if (str_eq_nocase(t, STR("close"))) h->close = true;
        if (str_eq_nocase(t, STR("keep-alive"))) h->persist = true;
    }
    return 0;
}

static int read_host(http1_head *h, str v) {
    if (h->has_host) return refuse(h, 400, "more than one Host");
    if (!http1_is_authority(v)) return refuse(h, 400, "Host: expected host or host:port");
    h->has_host = true;
    if (h->host.len == 0) h->host = v; /* else the absolute form has named it */
    return 0;
}

static int read_encoding(http1_head *h, str v) {
    if (h->chunked) return refuse(h, 400, "more than one Transfer-Encoding");
    if (h->minor == 0) return refuse(h, 400, "Transfer-Encoding in HTTP/1.0");
    if (!str_eq_nocase(v, STR("chunked"))) {
        return refuse(h, 501, "Transfer-Encoding: only chunked is offered");
    }
    h->chunked = true;
    return 0;
}

/* The headers that decide about framing; the rest is the handler's. */
static int read_special(http1_head *h, str name, str v) {
    switch (name.len) {
    case 4:
        return str_eq_nocase(name, STR("host")) ? read_host(h, v) : 0;
    case 6:
        if (!str_eq_nocase(name, STR("expect")) || h->minor == 0) return 0;
        if (!str_eq_nocase(v, STR("100-continue"))) {
            return refuse(h, 417, "Expect: only 100-continue is offered");
        }
        h->expect_continue = true;
        return 0;
    case 10:
        return str_eq_nocase(name, STR("connection")) ? read_connection(h, v) : 0;
    case 14:
        return str_eq_nocase(name, STR("content-length")) ? read_length(h, v) : 0;
    case 17:
        return str_eq_nocase(name, STR("transfer-encoding")) ? read_encoding(h, v) : 0;
    default:
        return 0;
    }
}

static int read_fields(http1_head *h, const struct phr_header *raw, size_t count) {
    if (count > NET_HEADERS_MAX) return refuse(h, 431, "more than 100 headers");
    for (size_t i = 0; i < count; i++) {
        if (!raw[i].name) return refuse(h, 400, "folded header line");
        str name = str_from(raw[i].name, raw[i].name_len);
        str v = str_from(raw[i].value, raw[i].value_len);
        while (v.len && (v.ptr[v.len - 1] == ' ' || v.ptr[v.len - 1] == '\t')) v.len--;
        if (!http1_is_token(name) || !http1_is_value(v)) return refuse(h, 400, "bad header");
        int status = read_special(h, name, v);
        if (status) return status;
        h->headers[i] = (net_header){name, v};
    }
    h->header_count = count;
    return 0;
}

static int check_framing(http1_head *h) {
    if (h->minor == 1 && !h->has_host) return refuse(h, 400, "no Host");
    if (h->chunked && h->has_length) {
        return refuse(h, 400, "both Content-Length and Transfer-Encoding");
    }
    h->keep_alive = h->minor == 1 ? !h->close : h->persist && !h->close;
    return 0;
}

/* The parser wants more: is there too much already? */
static int check_partial(http1_head *h, str in) {
    size_t line_max = NET_TARGET_BYTES_MAX + 64; /* method, version, spaces */
    if (in.len > line_max && !memchr(in.ptr, '\n', line_max)) {
        return refuse(h, 414, "request line over 8 KiB");
    }
    if (in.len >= NET_HEAD_BYTES_MAX) return refuse(h, 431, "header block over 32 KiB");
    return HTTP1_MORE;
}

/* The parser refused: say it as exactly as a client deserves. */
static int explain_refusal(http1_head *h, str in, size_t count) {
    if (count > NET_HEADERS_MAX) return refuse(h, 431, "more than 100 headers");
    ptrdiff_t end = str_find_byte(in, '\r');
    if (end > 9) {
        str tail = str_from(in.ptr + end - 9, 9);
        if (str_starts(tail, STR(" HTTP/")) && tail.ptr[7] == '.' && tail.ptr[6] != '1') {
            return refuse(h, 505, "expected HTTP/1.0 or HTTP/1.1");
        }
    }
    return refuse(h, 400, "not an HTTP/1 request");
}

/* The parser took `raw`; what follows is ours. */
static int judge(http1_head *h, str target, const struct phr_header *raw, size_t count) {
    str version = str_from(target.ptr + target.len + 1, 10);
    if (!str_eq(version, STR("HTTP/1.1\r\n")) && !str_eq(version, STR("HTTP/1.0\r\n"))) {
        return refuse(h, 505, "expected HTTP/1.0 or HTTP/1.1");
    }
    if (!http1_is_token(h->method) || h->method.len > METHOD_BYTES_MAX) {
        return refuse(h, 400, "bad method");
    }
    int status = read_target(h, target);
    if (status == 0) status = read_fields(h, raw, count);
    return status ? status : check_framing(h);
}

/* RFC 9112, 2.2: one empty line before a request is skipped. */
static int skip_empty_line(http1_head *h, str *in, size_t *skipped) {
    *skipped = str_starts(*in, STR("\r\n")) ? 2 : 0;
    *in = str_skip(*in, *skipped);
    if (in->len == 0) return HTTP1_MORE;
    if (in->ptr[0] == '\n') return refuse(h, 400, "bare LF");
    if (in->ptr[0] != '\r') return 0;
    return in->len == 1 && *skipped == 0 ? HTTP1_MORE : refuse(h, 400, "empty line");
}

int http1_head_parse(str in, size_t seen, http1_head *h, size_t *used) {
    struct phr_header raw[NET_HEADERS_MAX + 1];
    size_t count = COUNT_OF(raw), target_len, skipped;
    const char *target;
    *used = 0;
    *h = (http1_head){.detail = ""};
    int status = skip_empty_line(h, &in, &skipped);
    if (status != 0) return status;
    seen = seen > skipped ? seen - skipped : 0;

    int n = phr_parse_request(in.ptr, in.len, &h->method.ptr, &h->method.len, &target, &target_len,
                              &h->minor, raw, &count, seen);
    if (n == -2) return check_partial(h, in);
    if (n < 0) return explain_refusal(h, in, count);
    if ((size_t)n > NET_HEAD_BYTES_MAX) return refuse(h, 431, "header block over 32 KiB");
    if (!all_lines_crlf(str_from(in.ptr, (size_t)n))) return refuse(h, 400, "bare LF");
    status = judge(h, str_from(target, target_len), raw, count);
    if (status == 0) *used = skipped + (size_t)n;
    return status;
}

/* ---- chunked bodies ---- */

enum {
    AT_SIZE,      /* first hex digit of a size */
    IN_SIZE,      /* more digits, ';', or CR */
    IN_EXTENSION, /* up to CR */
    SIZE_LF,      /* LF of the size line */
    IN_DATA,      /* `left` bytes */
    DATA_CR,      /* CR behind the data */
    DATA_LF,      /* LF behind the data */
    AT_TRAILER,   /* first byte of a trailer line, or CR of the end */
    IN_NAME,      /* trailer name, up to ':' */
    IN_TRAILER,   /* trailer value, up to CR */
    TRAILER_LF,   /* LF of a trailer line */
    END_LF,       /* LF of the empty line */
    AT_END,       /* over */
    BROKEN
};

static int hex_value(unsigned char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static uint8_t size_byte(http1_chunks *d, unsigned char c) {
    int v = hex_value(c);
    if (v >= 0) {
        if (d->left >> 59) return BROKEN; /* 63 bits: no sum with it can wrap */
        d->left = d->left << 4 | (uint64_t)v;
        return d->line_bytes > 16 ? BROKEN : IN_SIZE;
    }
    if (d->state == AT_SIZE) return BROKEN;
    if (c == ';') return IN_EXTENSION;
    return c == '\r' ? SIZE_LF : BROKEN;
}

static uint8_t text_byte(uint8_t state, uint8_t after_cr, unsigned char c) {
    if (c == '\r') return after_cr;
    return (c < 0x20 && c != '\t') || c == 0x7f ? BROKEN : state;
}

static uint8_t trailer_byte(uint8_t state, unsigned char c) {
    switch (state) {
    case AT_TRAILER:
        return c == '\r' ? END_LF : in_set(TCHAR, c) ? IN_NAME : BROKEN;
    case IN_NAME:
        return c == ':' ? IN_TRAILER : in_set(TCHAR, c) ? IN_NAME : BROKEN;
    case IN_TRAILER:
        return text_byte(IN_TRAILER, TRAILER_LF, c);
    case TRAILER_LF:
        return c == '\n' ? AT_TRAILER : BROKEN;
    case END_LF:
        return c == '\n' ? AT_END : BROKEN;
    default:
        return BROKEN;
    }
}

/* The state after one byte that is not data. */
static uint8_t framing_byte(http1_chunks *d, unsigned char c) {
    switch (d->state) {
    case AT_SIZE:
    case IN_SIZE:
        return size_byte(d, c);
    case IN_EXTENSION:
        return text_byte(IN_EXTENSION, SIZE_LF, c);
    case SIZE_LF:
        return c != '\n' ? BROKEN : d->left ? IN_DATA : AT_TRAILER;
    case DATA_CR:
        return c == '\r' ? DATA_LF : BROKEN;
    case DATA_LF:
        return c == '\n' ? AT_SIZE : BROKEN;
    default:
        return trailer_byte(d->state, c);
    }
}

static bool within_limits(http1_chunks *d) {
    bool trailer = d->state >= AT_TRAILER && d->state <= END_LF;
    if (d->state == AT_SIZE || d->state == IN_DATA) d->line_bytes = 0;
    if (d->state == IN_EXTENSION || trailer) d->overhead_bytes++;
    if (d->state == SIZE_LF && d->left == 0) d->overhead_bytes = 0; /* trailers count anew */
    if (trailer) return d->overhead_bytes <= HTTP1_TRAILER_BYTES_MAX;
    return d->line_bytes <= HTTP1_CHUNK_LINE_MAX && d->overhead_bytes <= HTTP1_CHUNK_OVERHEAD;
}

http1_chunk http1_chunks_next(http1_chunks *d, str *in, str *data) {
    *data = (str){"", 0};
    while (in->len) {
        if (d->state == IN_DATA) {
            size_t n = (size_t)MIN(d->left, (uint64_t)in->len);
            *data = str_from(in->ptr, n);
            *in = str_skip(*in, n);
            d->left -= n;
            if (d->left == 0) d->state = DATA_CR;
            return CHUNK_DATA;
        }
        d->line_bytes++;
        d->state = framing_byte(d, (unsigned char)in->ptr[0]);
        if (d->state == BROKEN || !within_limits(d)) {
            d->state = BROKEN;
            return CHUNK_BAD;
        }
        *in = str_skip(*in, 1);
        if (d->state == AT_END) return CHUNK_END;
    }
    return d->state == BROKEN ? CHUNK_BAD : CHUNK_MORE;
}

void http1_chunks_unread(http1_chunks *d, str *in, size_t n) {
    d->state = IN_DATA;
    d->left += n;
    *in = str_from(in->ptr - n, in->len + n);
}
