/* json_map: JSON and protobuf-c messages, each made from the other by the message's descriptor. It
 * is the proto3 JSON mapping with the field names of the .proto files (snake_case).
 *
 *     Kith__V1__SearchRequest *req;
 *     TRY(json_map_parse(arena, &kith__v1__search_request__descriptor, text, (void **)&req));
 *     ...
 *     json_map_write(&out, response);      // out.rc tells of a lack of memory
 *
 * Reading
 *  - Names in snake_case or lowerCamelCase. The same field twice, in either form, is refused.
 *  - null is as good as absent; inside an array it is an error.
 *  - Integers: numbers without a fraction ("10", 1e1 and 10.0 too), checked for their range.
 *    Doubles and floats: finite numbers, or strings that hold one.
 *  - Times: RFC 3339 strings, kept to the millisecond. Bytes: base64, either alphabet, padded or
 *    not. Enums: the name or the number. kith.v1.Weight: the bare number.
 *  - Lists of floats: an array, or a base64 string of little-endian IEEE singles.
 *  - Strings hold no NUL: the C side could not see what comes behind it.
 *  - Errors are ERR_INVALID with the JSON path as err_field() ("posts[3].text") and a detail of
 *    the form "expected X, got Y"; an unknown field is named the same way.
 *  - kith.v1.Post is the exception: its unknown members are kept, as the text of one JSON object
 *    in Post.extra (at most POST_EXTRA_MAX), and its output-only members thread and lsn ignored.
 * Writing
 *  - Empty strings and absent messages are left out; numbers, booleans and lists always stand,
 *    so that a client need not guess zeros. A Post leaves out all that is zero or empty, so that
 *    it comes back as it was put; the members of its extra stand beside the others.
 *  - 64-bit integers beyond 2^53 are strings (a double cannot hold them), else numbers.
 * Query parameters
 *  - `limit=10`, `filter.author=a&filter.author=b`; a name that the message does not have is looked
 *    for in its member `filter`: `author=a`. Booleans: true, false, 1, 0, or nothing for true. An
 *    empty value is otherwise the same as absent.
 *
 * What is read lives in the arena, the JSON document may go. No recursion; messages nest at most
 * JSON_MAP_DEPTH_MAX deep. No thread state but that of err.h.
 */
#ifndef KITH_API_JSON_MAP_H
#define KITH_API_JSON_MAP_H

#include "base/base.h"
#include "base/json.h"
#include <protobuf-c/protobuf-c.h>

#define JSON_MAP_DEPTH_MAX  8
#define JSON_MAP_FIELDS_MAX 64 /* of one message */
#define JSON_MAP_NAME_MAX   64 /* bytes of a field's name */

/* json_parse, with "body" as the field of what is no JSON. */
MUST_USE err json_map_document(str text, yyjson_doc **out);
/* One JSON text to one message. An empty text is ERR_INVALID. */
MUST_USE err json_map_parse(arena *a, const ProtobufCMessageDescriptor *d, str text, void **out);

typedef struct json_map_source {
    arena *mem;
    yyjson_val *value; /* of the message: an object */
    const char *path;  /* of `value` in what the caller sent; "" for the whole */
    const char *aside; /* a member of `value` that is not the message's; NULL: none */
    yyjson_val *found; /* out: that member, or NULL */
} json_map_source;

MUST_USE err json_map_read(json_map_source *in, const ProtobufCMessageDescriptor *d, void **out);
/* Reads `v` into the list of numbers or texts `name` of msg. The path is the name. */
MUST_USE err json_map_read_list(arena *a, void *msg, const char *name, yyjson_val *v);

void json_map_write(strbuf *out, const void *msg);
/* A finite number as JSON; as_float: the shortest text that gives the same single again. */
void json_map_write_real(strbuf *out, double v, bool as_float);

/* Adds the query parameters to msg. Names in `skip` (NULL entries are fine) are unknown here: they
 * come from the path or the body. */
MUST_USE err json_map_query(arena *a, void *msg, str query, const char *const skip[2]);
/* Sets one text field by its dotted path ("post.id"). ERR_INVALID when it holds another text. */
MUST_USE err json_map_set(arena *a, void *msg, const char *path, str value);

#endif
