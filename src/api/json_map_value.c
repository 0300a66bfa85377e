/* Single values: how a number, a text, a time or a list of bytes comes out of JSON or out of a
 * query parameter, and into the slot of a message.
 *
 * Both sources share one rule per kind, so that `limit=10`, {"limit": 10} and {"limit": "10"} mean
 * the same and fail the same: text goes through map_from_text, JSON numbers straight to the range
 * check. Invariants:
 *  1. A slot is written only when the whole value is good.
 *  2. Every error reads "expected X, got Y"; X becomes the member `expected` of the problem
 *     document. Y is a kind, a number or a length: never the text that came.
 *  3. Strings end with a NUL that is not part of them and hold no other.
 * Times are cut to milliseconds because that is what the store orders by.
 */
#include "api/json_map_int.h"

#include <float.h>
#include <google/protobuf/timestamp.pb-c.h>
#include <kith/v1/posts.pb-c.h>
#include <kith/v1/search.pb-c.h>
#include <math.h>

#define EXACT_MAX 9007199254740992.0 /* 2^53: integers up to here are exact as doubles */

enum { POST_EXTRA = 9, POST_THREAD = 10, POST_LSN = 11 }; /* posts.proto; numbers never change */

map_kind map_kind_of(const field_desc *f) {
    static const unsigned char kinds[] = {
        [PROTOBUF_C_TYPE_INT32] = MAP_I32,      [PROTOBUF_C_TYPE_SINT32] = MAP_I32,
        [PROTOBUF_C_TYPE_SFIXED32] = MAP_I32,   [PROTOBUF_C_TYPE_INT64] = MAP_I64,
        [PROTOBUF_C_TYPE_SINT64] = MAP_I64,     [PROTOBUF_C_TYPE_SFIXED64] = MAP_I64,
        [PROTOBUF_C_TYPE_UINT32] = MAP_U32,     [PROTOBUF_C_TYPE_FIXED32] = MAP_U32,
        [PROTOBUF_C_TYPE_UINT64] = MAP_U64,     [PROTOBUF_C_TYPE_FIXED64] = MAP_U64,
        [PROTOBUF_C_TYPE_FLOAT] = MAP_FLOAT,    [PROTOBUF_C_TYPE_DOUBLE] = MAP_DOUBLE,
        [PROTOBUF_C_TYPE_BOOL] = MAP_BOOL,      [PROTOBUF_C_TYPE_ENUM] = MAP_ENUM,
        [PROTOBUF_C_TYPE_STRING] = MAP_STRING,  [PROTOBUF_C_TYPE_BYTES] = MAP_BYTES,
        [PROTOBUF_C_TYPE_MESSAGE] = MAP_MESSAGE};
    KITH_ASSERT((size_t)f->type < COUNT_OF(kinds));
    if (f->descriptor == &google__protobuf__timestamp__descriptor) return MAP_TIME;
    if (f->descriptor == &kith__v1__weight__descriptor) return MAP_WEIGHT;
    return (map_kind)kinds[f->type];
}

size_t map_elem_size(map_kind k) {
    static const unsigned char size[] = {[MAP_STRING] = sizeof(char *),
                                         [MAP_BYTES] = sizeof(ProtobufCBinaryData),
                                         [MAP_BOOL] = sizeof(protobuf_c_boolean),
                                         [MAP_ENUM] = 4,
                                         [MAP_I32] = 4,
                                         [MAP_U32] = 4,
                                         [MAP_I64] = 8,
                                         [MAP_U64] = 8,
                                         [MAP_FLOAT] = 4,
                                         [MAP_DOUBLE] = 8,
                                         [MAP_TIME] = sizeof(void *),
                                         [MAP_WEIGHT] = sizeof(void *),
                                         [MAP_MESSAGE] = sizeof(void *)};
    return size[k];
}

map_use map_use_of(const msg_desc *d, const field_desc *f) {
    if (d != &kith__v1__post__descriptor) return MAP_USE;
    if (f->id == POST_EXTRA) return MAP_HIDDEN;
    return f->id == POST_THREAD || f->id == POST_LSN ? MAP_IGNORE : MAP_USE;
}

const field_desc *map_field(const msg_desc *d, str name) {
    char z[JSON_MAP_NAME_MAX + 1];
    size_t n = 0;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool upper = c >= 'A' && c <= 'Z';
        if (!c || n + 2 > JSON_MAP_NAME_MAX) return NULL;
        if (upper) z[n++] = '_';
        z[n++] = upper ? (char)(c + 32) : c;
    }
    z[n] = 0;
    return protobuf_c_message_descriptor_get_field_by_name(d, z);
}

err map_message(arena *a, const msg_desc *d, ProtobufCMessage **out) {
    ProtobufCMessage *m = arena_alloc(a, d->sizeof_message);
    if (!m) return ERR_NO_MEMORY;
    protobuf_c_message_init(d, m);
    *out = m;
    return OK;
}

err map_blame(err rc, const char *path) {
    if (rc != ERR_INVALID || err_field()[0]) return rc;
    return err_set_field(ERR_INVALID, path, "%s", err_detail());
}

err map_expected(const char *what, yyjson_val *v) {
    if (yyjson_is_uint(v))
        return err_set(ERR_INVALID, "expected %s, got %llu", what,
                       (unsigned long long)yyjson_get_uint(v));
    if (yyjson_is_sint(v))
        return err_set(ERR_INVALID, "expected %s, got %lld", what, (long long)yyjson_get_sint(v));
    if (yyjson_is_real(v))
        return err_set(ERR_INVALID, "expected %s, got %g", what, yyjson_get_real(v));
    if (yyjson_is_str(v))
        return err_set(ERR_INVALID, "expected %s, got a string of %zu bytes", what,
                       yyjson_get_len(v));
    const char *kind = yyjson_is_null(v)   ? "null"
                       : yyjson_is_bool(v) ? "a boolean"
                       : yyjson_is_arr(v)  ? "an array"
                                           : "an object";
    return err_set(ERR_INVALID, "expected %s, got %s", what, kind);
}

/* ---- what each kind expects ---- */

static const char *expectation(map_kind k) {
    static const char *const text[] = {
        [MAP_STRING] = "a string",
        [MAP_BYTES] = "a base64 string",
        [MAP_BOOL] = "true or false",
        [MAP_ENUM] = "the name of an enum value",
        [MAP_I32] = "an integer from -2147483648 to 2147483647",
        [MAP_U32] = "an integer from 0 to 4294967295",
        [MAP_I64] = "an integer from -9223372036854775808 to 9223372036854775807",
        [MAP_U64] = "an integer from 0 to 18446744073709551615",
        [MAP_FLOAT] = "a number of single precision",
        [MAP_DOUBLE] = "a number",
        [MAP_TIME] = "a time as in RFC 3339 (2024-05-06T07:08:09Z)",
        [MAP_WEIGHT] = "a number",
        [MAP_MESSAGE] = "an object"};
    return text[k];
}

static err expected_text(map_kind k, str got) {
    return err_set(ERR_INVALID, "expected %s, got a string of %zu bytes", expectation(k), got.len);
}

/* ---- kinds ---- */

static err put_string(arena *a, str s, void *slot) {
    if (s.len == 0) {
        *(const char **)slot = protobuf_c_empty_string;
        return OK;
    }
    if (memchr(s.ptr, 0, s.len)) return err_set(ERR_INVALID, "expected text without NUL bytes");
    if (!utf8_valid(s, NULL)) return err_set(ERR_INVALID, "expected valid UTF-8");
    char *z = arena_dup(a, s);
    if (!z) return ERR_NO_MEMORY;
    *(char **)slot = z;
    return OK;
}

static err read_base64(arena *a, str s, uint8_t **out, size_t *len) {
    while (s.len && s.ptr[s.len - 1] == '=') s.len--;
    uint8_t *p = arena_alloc(a, s.len / 4 * 3 + 3);
    if (!p) return ERR_NO_MEMORY;
    if (!base64_decode(s, BASE64_EITHER, p, NULL)) return expected_text(MAP_BYTES, s);
    *out = p;
    *len = s.len * 3 / 4;
    return OK;
}

err map_floats(arena *a, str text, float **out, size_t *n) {
    uint8_t *p;
    size_t len;
    TRY(read_base64(a, text, &p, &len));
    if (len % 4)
        return err_set(ERR_INVALID, "expected base64 of 4-byte floats, got %zu bytes", len);
    float *f = arena_alloc(a, len ? len : 1);
    if (!f) return ERR_NO_MEMORY;
    for (size_t i = 0; i < len / 4; i++) {
        uint32_t u = le32_get(p + i * 4);
        memcpy(&f[i], &u, 4);
        if (!isfinite(f[i]))
            return err_set(ERR_INVALID, "expected finite numbers, got none at index %zu", i);
    }
    *out = f;
    *n = len / 4;
    return OK;
}

static err put_time(arena *a, str s, void *slot) {
    int64_t ms;
    if (!time_parse(s, &ms)) return expected_text(MAP_TIME, s);
    ProtobufCMessage *m;
    TRY(map_message(a, &google__protobuf__timestamp__descriptor, &m));
    Google__Protobuf__Timestamp *t = (Google__Protobuf__Timestamp *)m;
    int64_t in_second = ((ms % 1000) + 1000) % 1000;
    t->seconds = (ms - in_second) / 1000;
    t->nanos = (int32_t)in_second * 1000000;
    *(void **)slot = t;
    return OK;
}

static err put_enum(const field_desc *f, str s, void *slot) {
    const ProtobufCEnumDescriptor *d = f->descriptor;
    for (unsigned i = 0; i < d->n_value_names; i++) {
        if (!str_eq(str_of(d->values_by_name[i].name), s)) continue;
        *(int *)slot = d->values[d->values_by_name[i].index].value;
        return OK;
    }
    return expected_text(MAP_ENUM, s);
}

static err put_real(arena *a, map_kind k, double v, void *slot) {
    if (k == MAP_FLOAT) {
        if (fabs(v) > (double)FLT_MAX)
            return err_set(ERR_INVALID, "expected %s, got %g", expectation(k), v);
        *(float *)slot = (float)v;
        return OK;
    }
    if (k == MAP_DOUBLE) {
        *(double *)slot = v;
        return OK;
    }
    ProtobufCMessage *m;
    TRY(map_message(a, &kith__v1__weight__descriptor, &m));
    ((Kith__V1__Weight *)m)->value = v;
    *(void **)slot = m;
    return OK;
}

static err put_signed(map_kind k, int64_t v, void *slot) {
    if (k == MAP_I64)
        *(int64_t *)slot = v;
    else if (k == MAP_U64 && v >= 0)
        *(uint64_t *)slot = (uint64_t)v;
    else if (k == MAP_I32 && v >= INT32_MIN && v <= INT32_MAX)
        *(int32_t *)slot = (int32_t)v;
    else if (k == MAP_U32 && v >= 0 && v <= UINT32_MAX)
        *(uint32_t *)slot = (uint32_t)v;
    else
        return err_set(ERR_INVALID, "expected %s, got %lld", expectation(k), (long long)v);
    return OK;
}

static err put_unsigned(map_kind k, uint64_t v, void *slot) {
    if (v <= INT64_MAX) return put_signed(k, (int64_t)v, slot);
    if (k != MAP_U64)
        return err_set(ERR_INVALID, "expected %s, got %llu", expectation(k), (unsigned long long)v);
    *(uint64_t *)slot = v;
    return OK;
}

/* A number that JSON wrote with a point or an exponent, for an integer. */
static err put_whole(map_kind k, double v, void *slot) {
    if (v != floor(v) || fabs(v) > EXACT_MAX)
        return err_set(ERR_INVALID, "expected %s, got %g", expectation(k), v);
    return put_signed(k, (int64_t)v, slot);
}

static err put_int_text(map_kind k, str s, void *slot) {
    int64_t i;
    uint64_t u;
    if (str_to_i64(s, &i)) return put_signed(k, i, slot);
    if (str_to_u64(s, &u)) return put_unsigned(k, u, slot);
    return expected_text(k, s);
}

static err put_bool_text(str s, void *slot) {
    bool yes = s.len == 0 || str_eq(s, STR("true")) || str_eq(s, STR("1"));
    if (!yes && !str_eq(s, STR("false")) && !str_eq(s, STR("0"))) return expected_text(MAP_BOOL, s);
    *(protobuf_c_boolean *)slot = yes;
    return OK;
}

static err put_bytes(arena *a, str s, void *slot) {
    ProtobufCBinaryData d;
    TRY(read_base64(a, s, &d.data, &d.len));
    *(ProtobufCBinaryData *)slot = d;
    return OK;
}

err map_from_text(arena *a, const field_desc *f, str s, void *slot) {
    map_kind k = map_kind_of(f);
    double v;
    switch (k) {
    case MAP_STRING:
        return put_string(a, s, slot);
    case MAP_BYTES:
        return put_bytes(a, s, slot);
    case MAP_BOOL:
        return put_bool_text(s, slot);
    case MAP_ENUM:
        return put_enum(f, s, slot);
    case MAP_TIME:
        return put_time(a, s, slot);
    case MAP_I32:
    case MAP_U32:
    case MAP_I64:
    case MAP_U64:
        return put_int_text(k, s, slot);
    case MAP_FLOAT:
    case MAP_DOUBLE:
    case MAP_WEIGHT:
        return str_to_f64(s, &v) ? put_real(a, k, v, slot) : expected_text(k, s);
    case MAP_MESSAGE:
        break;
    }
    return expected_text(k, s);
}

static bool is_real_kind(map_kind k) {
    return k == MAP_FLOAT || k == MAP_DOUBLE || k == MAP_WEIGHT;
}

static bool is_int_kind(map_kind k) {
    return k == MAP_I32 || k == MAP_U32 || k == MAP_I64 || k == MAP_U64 || k == MAP_ENUM;
}

static err put_int_json(map_kind k, yyjson_val *v, void *slot) {
    if (k == MAP_ENUM) k = MAP_I32;
    if (yyjson_is_real(v)) return put_whole(k, yyjson_get_real(v), slot);
    if (yyjson_is_sint(v)) return put_signed(k, yyjson_get_sint(v), slot);
    return put_unsigned(k, yyjson_get_uint(v), slot);
}

err map_from_json(arena *a, const field_desc *f, yyjson_val *v, void *slot) {
    map_kind k = map_kind_of(f);
    if (k == MAP_BOOL && yyjson_is_bool(v)) {
        *(protobuf_c_boolean *)slot = yyjson_get_bool(v);
        return OK;
    }
    if (k != MAP_BOOL && k != MAP_MESSAGE && yyjson_is_str(v))
        return map_from_text(a, f, json_str(v), slot);
    if (yyjson_is_num(v) && is_real_kind(k)) return put_real(a, k, yyjson_get_num(v), slot);
    if (yyjson_is_num(v) && is_int_kind(k)) return put_int_json(k, v, slot);
    return map_expected(expectation(k), v);
}
