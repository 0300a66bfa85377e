/* JSON by yyjson, read strictly and with limits: depth, size, valid UTF-8, no duplicate trouble.
 * This header is the one home of yyjson.h; those who read or write JSON use yyjson's own calls on
 * the documents that json_parse gives.
 */
#ifndef KITH_BASE_JSON_H
#define KITH_BASE_JSON_H

#include "base/base.h"
#include <yyjson.h>

#define JSON_DEPTH_MAX 64

/* Parses one document. Deeper than JSON_DEPTH_MAX or not JSON: ERR_INVALID with position and what
 * was expected. Free with yyjson_doc_free. `s` need not outlive the call. */
MUST_USE err json_parse(str s, yyjson_doc **out);
static inline str json_str(yyjson_val *v) {
    return str_from(yyjson_get_str(v), yyjson_get_len(v));
}

#endif
