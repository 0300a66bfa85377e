/* The safetensors format: a JSON header that names arrays, then their bytes.
 *
 *     safetensors *s;
 *     TRY(safetensors_open(bytes, &s));              // bytes stay the caller's, until close
 *     TRY(safetensors_read(s, "a.weight", (safetensors_shape){{384, 1536}, 2}, floats));
 *     safetensors_close(s);
 *
 * File: u64 header length, little endian; the header, {"name": {"dtype": "F32", "shape": [..],
 * "data_offsets": [begin, end]}, "__metadata__": {..}}; the data, offsets from its start.
 * Everything is checked against the file's size before it is used. Errors name the file
 * model.safetensors and the tensor. Elements of F32, F16 and BF16 are read as float and must be
 * finite.
 */
#ifndef KITH_ENCODE_SAFETENSORS_H
#define KITH_ENCODE_SAFETENSORS_H

#include "base/base.h"

#define SAFETENSORS_HEADER_MAX  (16 * MIB)
#define SAFETENSORS_TENSORS_MAX 65536
#define SAFETENSORS_DIMS_MAX    4

typedef struct safetensors safetensors;

typedef struct safetensors_shape {
    uint64_t dims[SAFETENSORS_DIMS_MAX];
    size_t count;
} safetensors_shape;

MUST_USE err safetensors_open(str bytes, safetensors **out);
void safetensors_close(safetensors *s); /* NULL is fine */
size_t safetensors_count(const safetensors *s);

bool safetensors_has(const safetensors *s, const char *name);
/* The shape of a tensor; ERR_CORRUPT when there is none of that name. */
MUST_USE err safetensors_shape_of(const safetensors *s, const char *name, safetensors_shape *out);
/* Reads a whole tensor, which must have this shape; out has room for it. */
MUST_USE err safetensors_read(const safetensors *s, const char *name, safetensors_shape shape,
                              float *out);

#endif
