/* The HTTP/1 parser under libFuzzer.
 *
 * The input is a head and, when that is accepted, a body. Checked beside memory safety: that a head
 * parsed in one go and one that came in pieces agree, that slices lie inside the input, that what
 * is accepted keeps the invariants of http1_parse.c, and that chunks give the same body however
 * they are cut. The first byte decides where the cut is.
 *
 */
#include "net/http1_parse.h"

static void inside(str part, str whole) {
    if (part.len == 0) return;
    KITH_ASSERT(part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len);
}

static void check_head(const http1_head *h, str in, size_t used) {
    size_t hosts = 0, lengths = 0, encodings = 0;
    KITH_ASSERT(used <= in.len && used >= 16);
    KITH_ASSERT(in.ptr[used - 1] == '\n' && in.ptr[used - 2] == '\r');
    KITH_ASSERT(h->minor == 0 || h->minor == 1);
    KITH_ASSERT(http1_is_token(h->method));
    KITH_ASSERT(h->path.len && (h->path.ptr[0] == '/' || str_eq(h->path, STR("*"))));
    KITH_ASSERT(h->path.len + h->query.len <= NET_TARGET_BYTES_MAX);
    inside(h->query, in);
    inside(h->host, in);
    for (size_t i = 0; i < h->header_count; i++) {
        str name = h->headers[i].name;
        inside(name, in);
        inside(h->headers[i].value, in);
        KITH_ASSERT(http1_is_token(name) && http1_is_value(h->headers[i].value));
        hosts += str_eq_nocase(name, STR("host"));
        lengths += str_eq_nocase(name, STR("content-length"));
        encodings += str_eq_nocase(name, STR("transfer-encoding"));
    }
    KITH_ASSERT(hosts <= 1 && (hosts == 1 || h->minor == 0));
    KITH_ASSERT(lengths + encodings <= 1);
    KITH_ASSERT(h->has_length == (lengths == 1) && h->chunked == (encodings == 1));
}

/* The body's hash, how it ended, and what was left. */
typedef struct ending {
    http1_chunk how;
    uint64_t sum;
    size_t left;
} ending;

static ending read_body(str in, size_t cut) {
    http1_chunks d = {0};
    ending e = {CHUNK_MORE, 14695981039346656037u, 0};
    for (int part = 0; part < 2; part++) {
        str s = part ? str_skip(in, cut) : str_from(in.ptr, cut), data;
        do {
            e.how = http1_chunks_next(&d, &s, &data);
            inside(data, in);
            for (size_t i = 0; i < data.len; i++) {
                e.sum = (e.sum ^ (unsigned char)data.ptr[i]) * 1099511628211u;
            }
        } while (e.how == CHUNK_DATA);
        e.left = s.len + (part ? 0 : in.len - cut);
        if (e.how != CHUNK_MORE) break;
    }
    return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    http1_head whole, pieces;
    size_t used, used_pieces;
    if (n < 2) return 0;
    str in = str_from(p + 1, n - 1);
    size_t cut = p[0] * in.len / 255;
    int status = http1_head_parse(in, 0, &whole, &used);
    int early = http1_head_parse(str_from(in.ptr, cut), 0, &pieces, &used_pieces);
    if (early == HTTP1_MORE) {
        int late = http1_head_parse(in, cut, &pieces, &used_pieces);
        /* Knowing what was seen only saves work: it may see a refusal later, never accept more. */
        KITH_ASSERT((late == 0) == (status == 0) && used == used_pieces);
    } else if (early == 0) {
        KITH_ASSERT(status == 0 && used == used_pieces);
    }
    if (status == 0) check_head(&whole, in, used);
    str body = status == 0 ? str_skip(in, used) : in;
    if (body.len == 0) return 0;
    cut = p[0] * body.len / 255;
    ending a = read_body(body, 0), b = read_body(body, cut);
    KITH_ASSERT(a.how == b.how && a.sum == b.sum && a.left == b.left);
    return 0;
}
