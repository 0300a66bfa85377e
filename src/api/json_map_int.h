/* What the three parts of json_map share: slots of a message, names, scalars. */
#ifndef KITH_API_JSON_MAP_INT_H
#define KITH_API_JSON_MAP_INT_H

#include "api/json_map.h"

typedef ProtobufCMessageDescriptor msg_desc;
typedef ProtobufCFieldDescriptor field_desc;

static inline void *map_slot(const void *msg, const field_desc *f) {
    return (char *)(uintptr_t)msg + f->offset;
}
static inline size_t *map_count(const void *msg, const field_desc *f) {
    return (size_t *)(void *)((char *)(uintptr_t)msg + f->quantifier_offset);
}

typedef enum map_kind {
    MAP_STRING,
    MAP_BYTES,
    MAP_BOOL,
    MAP_ENUM,
    MAP_I32,
    MAP_U32,
    MAP_I64,
    MAP_U64,
    MAP_FLOAT,
    MAP_DOUBLE,
    MAP_TIME,   /* google.protobuf.Timestamp */
    MAP_WEIGHT, /* kith.v1.Weight */
    MAP_MESSAGE
} map_kind;
map_kind map_kind_of(const field_desc *f);
size_t map_elem_size(map_kind k); /* in a repeated field */

/* How a field takes part: Post.extra is not a member of that name, thread and lsn are not read. */
typedef enum map_use { MAP_USE, MAP_IGNORE, MAP_HIDDEN } map_use;
map_use map_use_of(const msg_desc *d, const field_desc *f);

/* By snake_case or lowerCamelCase name; NULL when there is none. */
const field_desc *map_field(const msg_desc *d, str name);

MUST_USE err map_message(arena *a, const msg_desc *d, ProtobufCMessage **out);

/* One scalar from text, as queries hold it, and from JSON. On ERR_INVALID the detail says what was
 * expected and what came; the field is the caller's to name (map_blame). */
MUST_USE err map_from_text(arena *a, const field_desc *f, str text, void *slot);
MUST_USE err map_from_json(arena *a, const field_desc *f, yyjson_val *v, void *slot);
/* Sets err_field of an error that has none yet, keeping its detail. Returns rc. */
err map_blame(err rc, const char *path);
/* "expected X, got <what v is>". */
err map_expected(const char *what, yyjson_val *v);
/* *n floats from base64 of little-endian singles. */
MUST_USE err map_floats(arena *a, str text, float **out, size_t *n);

#endif
