/* Messages into JSON: a walk over the descriptors with its own stack, straight into the builder.
 *
 * A level is one message being written; `field` is the next field, `index` the next item of a list
 * of messages. There is no document in between: an answer is built once, in the order of the field
 * numbers, and handed to the socket.
 *
 * What is left out is decided by is_absent(): empty texts and absent messages always, zeros and
 * empty lists only in a Post (json_map.h says why). Numbers are written by yyjson, which gives the
 * shortest decimal that reads back as the same double; its scratch is 256 bytes of this stack.
 * Measured with json_map_bench: ten hits of a search, 6.2 KB, see there.
 */
#include "api/json_map_int.h"

#include <google/protobuf/timestamp.pb-c.h>
#include <kith/v1/posts.pb-c.h>
#include <kith/v1/search.pb-c.h>
#include <math.h>

#define EXACT_MAX ((int64_t)1 << 53)

typedef struct out_level {
    const ProtobufCMessage *msg;
    unsigned field;
    size_t index;
    bool in_list;
    bool sparse; /* leaves out zeros */
    bool some;   /* a member was written */
} out_level;

typedef struct out_walk {
    strbuf *out;
    size_t depth;
    out_level levels[JSON_MAP_DEPTH_MAX];
} out_walk;

/* ---- values ---- */

void json_map_write_real(strbuf *out, double v, bool as_float) {
    char scratch[256];
    yyjson_alc alc;
    yyjson_val x;
    if (!isfinite(v)) {
        strbuf_addz(out, "null");
        return;
    }
    if (v == floor(v) && fabs(v) < 1e15) { /* 3, not 3.0: shorter, and the same number */
        strbuf_addf(out, "%lld", (long long)v);
        return;
    }
    x.tag = (uint64_t)YYJSON_TYPE_NUM | YYJSON_SUBTYPE_REAL;
    x.uni.f64 = v;
    size_t len;
    bool ok = yyjson_alc_pool_init(&alc, scratch, sizeof scratch);
    KITH_ASSERT(ok);
    yyjson_write_flag flags = as_float ? YYJSON_WRITE_FP_TO_FLOAT : YYJSON_WRITE_NOFLAG;
    char *text = yyjson_val_write_opts(&x, flags, &alc, &len, NULL);
    KITH_ASSERT(text);
    strbuf_add(out, str_from(text, len));
}

static void write_u64(strbuf *out, uint64_t v) {
    char z[24];
    size_t at = sizeof z;
    bool quoted = v > (uint64_t)EXACT_MAX;
    if (quoted) z[--at] = '"';
    do {
        z[--at] = (char)('0' + v % 10);
    } while (v /= 10);
    if (quoted) z[--at] = '"';
    strbuf_add(out, str_from(z + at, sizeof z - at));
}

static void write_i64(strbuf *out, int64_t v) {
    if (v >= 0)
        write_u64(out, (uint64_t)v);
    else if (v < -EXACT_MAX)
        strbuf_addf(out, "\"%lld\"", (long long)v);
    else
        strbuf_addf(out, "%lld", (long long)v);
}

static void write_time(strbuf *out, const Google__Protobuf__Timestamp *t) {
    char z[32];
    int64_t s = MAX(TIME_MS_MIN / 1000, MIN(t->seconds, TIME_MS_MAX / 1000));
    size_t n = time_format(s * 1000 + t->nanos / 1000000, z);
    strbuf_addc(out, '"');
    strbuf_add(out, str_from(z, n));
    strbuf_addc(out, '"');
}

static void write_bytes(strbuf *out, const ProtobufCBinaryData *d) {
    strbuf_addc(out, '"');
    base64_add(out, d->data, d->len, BASE64_STANDARD);
    strbuf_addc(out, '"');
}

/* True when one of eight bytes must be escaped: below 0x20, '"' or '\\'. Each test subtracts so
 * that a byte that is small enough borrows into its top bit; a byte over 0x7f never counts. A
 * borrow may mark a neighbour that is fine, which only sends the text the slow way. */
static bool must_escape(uint64_t v) {
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    uint64_t quote = v ^ (ones * '"'), slash = v ^ (ones * '\\');
    uint64_t hit = (v - ones * 0x20) | (quote - ones) | (slash - ones);
    return (hit & ~v & tops) != 0;
}

static bool is_plain(char c) {
    return (unsigned char)c >= 0x20 && c != '"' && c != '\\';
}

/* Where the next byte to be escaped stands, from i on; s.len when there is none. */
static size_t plain_end(str s, size_t i) {
    for (uint64_t v; i + 8 <= s.len; i += 8) {
        memcpy(&v, s.ptr + i, 8);
        if (must_escape(v)) break;
    }
    while (i < s.len && is_plain(s.ptr[i])) i++;
    return i;
}

static void write_escape(strbuf *out, unsigned char c) {
    static const char hex[] = "0123456789abcdef";
    char z[6] = {'\\', (char)c, '0', '0', hex[c >> 4], hex[c & 15]};
    bool two = c == '"' || c == '\\' || c == '\n' || c == '\t' || c == '\r';
    if (c == '\n') z[1] = 'n';
    if (c == '\t') z[1] = 't';
    if (c == '\r') z[1] = 'r';
    if (!two) z[1] = 'u';
    strbuf_add(out, str_from(z, two ? 2 : 6));
}

/* Runs without escapes are found eight bytes at a time and copied whole: three times the speed of a
 * loop over bytes on texts of posts. */
static void write_text(strbuf *out, str s) {
    strbuf_addc(out, '"');
    for (size_t i = 0, end; i < s.len; i = end + 1) {
        end = plain_end(s, i);
        if (end > i) strbuf_add(out, str_from(s.ptr + i, end - i));
        if (end < s.len) write_escape(out, (unsigned char)s.ptr[end]);
    }
    strbuf_addc(out, '"');
}

static void write_enum(strbuf *out, const field_desc *f, int v) {
    const ProtobufCEnumValue *e = protobuf_c_enum_descriptor_get_value(f->descriptor, v);
    if (e)
        strbuf_addf(out, "\"%s\"", e->name);
    else
        strbuf_addf(out, "%d", v);
}

static void write_scalar(strbuf *out, const field_desc *f, const void *slot) {
    switch (map_kind_of(f)) {
    case MAP_STRING:
        write_text(out, str_of(*(char *const *)slot));
        break;
    case MAP_BYTES:
        write_bytes(out, slot);
        break;
    case MAP_BOOL:
        strbuf_addz(out, *(const protobuf_c_boolean *)slot ? "true" : "false");
        break;
    case MAP_ENUM:
        write_enum(out, f, *(const int *)slot);
        break;
    case MAP_I32:
        write_i64(out, *(const int32_t *)slot);
        break;
    case MAP_U32:
        write_u64(out, *(const uint32_t *)slot);
        break;
    case MAP_I64:
        write_i64(out, *(const int64_t *)slot);
        break;
    case MAP_U64:
        write_u64(out, *(const uint64_t *)slot);
        break;
    case MAP_FLOAT:
        json_map_write_real(out, (double)*(const float *)slot, true);
        break;
    case MAP_DOUBLE:
        json_map_write_real(out, *(const double *)slot, false);
        break;
    case MAP_TIME:
        write_time(out, *(Google__Protobuf__Timestamp *const *)slot);
        break;
    case MAP_WEIGHT:
        json_map_write_real(out, (*(Kith__V1__Weight *const *)slot)->value, false);
        break;
    case MAP_MESSAGE:
        break;
    }
}

/* ---- members ---- */

static bool is_zero(const void *p, size_t n) {
    static const char zero[16];
    KITH_ASSERT(n <= sizeof zero);
    return memcmp(p, zero, n) == 0;
}

static bool is_absent(const out_level *l, const field_desc *f) {
    const void *slot = map_slot(l->msg, f);
    if (f->label == PROTOBUF_C_LABEL_REPEATED) return l->sparse && *map_count(l->msg, f) == 0;
    map_kind k = map_kind_of(f);
    switch (k) {
    case MAP_STRING:
        return !*(char *const *)slot || !**(char *const *)slot;
    case MAP_BYTES:
        return ((const ProtobufCBinaryData *)slot)->len == 0;
    case MAP_TIME:
    case MAP_WEIGHT:
    case MAP_MESSAGE:
        return !*(void *const *)slot;
    default:
        return l->sparse && is_zero(slot, map_elem_size(k));
    }
}

static void write_items(strbuf *out, const ProtobufCMessage *m, const field_desc *f) {
    size_t n = *map_count(m, f), elem = map_elem_size(map_kind_of(f));
    const char *p = *(const char *const *)map_slot(m, f);
    strbuf_addc(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) strbuf_addc(out, ',');
        write_scalar(out, f, p + i * elem);
    }
    strbuf_addc(out, ']');
}

/* The members of a Post's extra, a JSON object's text, as members of the post. */
static void write_extra(out_walk *w, out_level *l) {
    str s = str_of(((const Kith__V1__Post *)l->msg)->extra);
    if (s.len < 2 || s.ptr[0] != '{' || s.ptr[s.len - 1] != '}') return;
    s = str_trim(str_from(s.ptr + 1, s.len - 2));
    if (!s.len) return;
    if (l->some) strbuf_addc(w->out, ',');
    strbuf_add(w->out, s);
}

static void push(out_walk *w, const ProtobufCMessage *m) {
    KITH_ASSERT(w->depth < JSON_MAP_DEPTH_MAX);
    bool post = m->descriptor == &kith__v1__post__descriptor;
    w->levels[w->depth++] = (out_level){.msg = m, .sparse = post};
    strbuf_addc(w->out, '{');
}

static void next_item(out_walk *w, out_level *l) {
    const field_desc *f = &l->msg->descriptor->fields[l->field];
    if (l->index == *map_count(l->msg, f)) {
        strbuf_addc(w->out, ']');
        l->in_list = false;
        l->field++;
        return;
    }
    ProtobufCMessage *const *items = *(ProtobufCMessage ***)map_slot(l->msg, f);
    if (l->index) strbuf_addc(w->out, ',');
    push(w, items[l->index++]);
}

/* ,"name": as one addition to the text. */
static void write_name(strbuf *out, const char *name, bool comma) {
    char z[JSON_MAP_NAME_MAX + 4] = ",\"";
    size_t n = strlen(name);
    KITH_ASSERT(n <= JSON_MAP_NAME_MAX);
    memcpy(z + 2, name, n);
    z[n + 2] = '"';
    z[n + 3] = ':';
    strbuf_add(out, str_from(z + !comma, n + 4 - !comma));
}

static void next_field(out_walk *w, out_level *l) {
    const field_desc *f = &l->msg->descriptor->fields[l->field];
    if (map_use_of(l->msg->descriptor, f) == MAP_HIDDEN || is_absent(l, f)) {
        l->field++;
        return;
    }
    write_name(w->out, f->name, l->some);
    l->some = true;
    bool nested = map_kind_of(f) == MAP_MESSAGE;
    if (nested && f->label == PROTOBUF_C_LABEL_REPEATED) {
        strbuf_addc(w->out, '[');
        l->in_list = true;
        l->index = 0;
        return;
    }
    l->field++;
    if (nested)
        push(w, *(ProtobufCMessage **)map_slot(l->msg, f));
    else if (f->label == PROTOBUF_C_LABEL_REPEATED)
        write_items(w->out, l->msg, f);
    else
        write_scalar(w->out, f, map_slot(l->msg, f));
}

void json_map_write(strbuf *out, const void *msg) {
    out_walk w;
    w.out = out;
    w.depth = 0;
    push(&w, msg);
    while (w.depth && out->rc == OK) {
        out_level *l = &w.levels[w.depth - 1];
        if (l->in_list) {
            next_item(&w, l);
        } else if (l->field < l->msg->descriptor->n_fields) {
            next_field(&w, l);
        } else {
            if (l->sparse) write_extra(&w, l);
            strbuf_addc(out, '}');
            w.depth--;
        }
    }
}
