/* safetensors: a header that is not trusted, and arrays converted to float.
 *
 * The header is parsed once into an array of tensors, each checked: known element type, at most
 * four dimensions, product of dimensions times element size equal to the length between its
 * offsets, offsets inside the file. After safetensors_open no offset is looked at again. Tensors
 * may overlap or leave gaps: that is odd but harmless to a reader.
 *
 * Element types that kith does not compute with (integers, as position ids are) are kept by name
 * and refused only when they are asked for.
 *
 * A weight that is not finite would spread to every vector, so reading refuses it and says where.
 * Data is read byte-wise (memcpy): nothing in the format promises alignment.
 */
#include "encode/safetensors.h"
#include "base/json.h"

#include <math.h>
#include <string.h>

#define FILE_NAME "model.safetensors"

typedef enum element { ELEMENT_F32, ELEMENT_F16, ELEMENT_BF16, ELEMENT_OTHER } element;

typedef struct tensor {
    const char *name; /* in the document */
    element type;
    safetensors_shape shape;
    const uint8_t *data;
} tensor;

struct safetensors {
    yyjson_doc *doc;
    tensor *tensors;
    size_t count;
    strmap *names;
};

typedef struct type_name {
    str name;
    element type;
    uint64_t bytes;
} type_name;

static const type_name type_names[] = {
    {STR_INIT("F32"), ELEMENT_F32, 4},    {STR_INIT("F16"), ELEMENT_F16, 2},
    {STR_INIT("BF16"), ELEMENT_BF16, 2},  {STR_INIT("F64"), ELEMENT_OTHER, 8},
    {STR_INIT("I64"), ELEMENT_OTHER, 8},  {STR_INIT("U64"), ELEMENT_OTHER, 8},
    {STR_INIT("I32"), ELEMENT_OTHER, 4},  {STR_INIT("U32"), ELEMENT_OTHER, 4},
    {STR_INIT("I16"), ELEMENT_OTHER, 2},  {STR_INIT("U16"), ELEMENT_OTHER, 2},
    {STR_INIT("I8"), ELEMENT_OTHER, 1},   {STR_INIT("U8"), ELEMENT_OTHER, 1},
    {STR_INIT("BOOL"), ELEMENT_OTHER, 1},
};

static err tensor_wrong(const char *name, const char *what) {
    return err_set(ERR_CORRUPT, FILE_NAME ": tensor %.100s: %s", name, what);
}

/* Reads the type and shape of a header entry; *bytes is what they ask for. */
static err tensor_measure(yyjson_val *v, tensor *t, uint64_t *bytes) {
    str dtype = json_str(yyjson_obj_get(v, "dtype"));
    const type_name *type = NULL;
    for (size_t i = 0; dtype.ptr && i < COUNT_OF(type_names); i++)
        if (str_eq(dtype, type_names[i].name)) type = &type_names[i];
    if (!type) return tensor_wrong(t->name, "unknown element type");
    yyjson_val *shape = yyjson_obj_get(v, "shape");
    size_t dims = yyjson_arr_size(shape);
    if (!yyjson_is_arr(shape) || dims > SAFETENSORS_DIMS_MAX)
        return tensor_wrong(t->name, "expected a shape of at most 4 numbers");
    t->type = type->type;
    t->shape = (safetensors_shape){.count = dims};
    *bytes = type->bytes;
    for (size_t i = 0; i < dims; i++) {
        yyjson_val *dim = yyjson_arr_get(shape, i);
        if (!yyjson_is_uint(dim)) return tensor_wrong(t->name, "its shape is not whole numbers");
        t->shape.dims[i] = yyjson_get_uint(dim);
        if (__builtin_mul_overflow(*bytes, t->shape.dims[i], bytes))
            return tensor_wrong(t->name, "its shape is too large");
    }
    return OK;
}

static err tensor_parse(yyjson_val *v, str data, tensor *t) {
    uint64_t bytes = 0;
    if (!yyjson_is_obj(v)) return tensor_wrong(t->name, "expected an object in the header");
    TRY(tensor_measure(v, t, &bytes));
    yyjson_val *offsets = yyjson_obj_get(v, "data_offsets");
    yyjson_val *from = yyjson_arr_get(offsets, 0), *to = yyjson_arr_get(offsets, 1);
    if (!yyjson_is_uint(from) || !yyjson_is_uint(to) || yyjson_arr_size(offsets) != 2)
        return tensor_wrong(t->name, "expected two data_offsets");
    uint64_t begin = yyjson_get_uint(from), end = yyjson_get_uint(to);
    if (begin > end || end > data.len)
        return tensor_wrong(t->name, "its data lies outside the file: the file is cut or damaged");
    if (end - begin != bytes)
        return tensor_wrong(t->name, "its shape and its data_offsets disagree");
    t->data = (const uint8_t *)data.ptr + begin;
    return OK;
}

static err header_parse(safetensors *s, str data) {
    yyjson_val *root = yyjson_doc_get_root(s->doc);
    if (!yyjson_is_obj(root)) return err_set(ERR_CORRUPT, FILE_NAME ": its header is no object");
    size_t max = yyjson_obj_size(root);
    if (max > SAFETENSORS_TENSORS_MAX)
        return err_set(ERR_TOO_LARGE, FILE_NAME ": %zu tensors, limit is %d", max,
                       SAFETENSORS_TENSORS_MAX);
    s->names = strmap_new();
    s->tensors = mem_zalloc(max, sizeof *s->tensors);
    if (!s->names || !s->tensors) return ERR_NO_MEMORY;
    yyjson_obj_iter it = yyjson_obj_iter_with(root);
    for (yyjson_val *key = yyjson_obj_iter_next(&it); key; key = yyjson_obj_iter_next(&it)) {
        str name = json_str(key);
        if (str_eq(name, STR("__metadata__"))) continue;
        tensor *t = &s->tensors[s->count];
        t->name = name.ptr;
        TRY(tensor_parse(yyjson_obj_iter_get_val(key), data, t));
        if (strmap_get(s->names, name) != MAP_NONE)
            return tensor_wrong(t->name, "it is named twice");
        TRY(strmap_put(s->names, name, (uint32_t)s->count++));
    }
    return OK;
}

err safetensors_open(str bytes, safetensors **out) {
    *out = NULL;
    if (bytes.len < 8)
        return err_set(ERR_CORRUPT, FILE_NAME ": the file is cut: %zu bytes", bytes.len);
    uint64_t header = le64_get(bytes.ptr);
    if (header > bytes.len - 8)
        return err_set(ERR_CORRUPT, FILE_NAME ": the file is cut or is no safetensors file");
    if (header > SAFETENSORS_HEADER_MAX)
        return err_set(ERR_TOO_LARGE, FILE_NAME ": a header of %llu bytes, limit is %zu",
                       (unsigned long long)header, SAFETENSORS_HEADER_MAX);
    safetensors *s = mem_zalloc(1, sizeof *s);
    if (!s) return ERR_NO_MEMORY;
    err rc = json_parse(str_from(bytes.ptr + 8, (size_t)header), &s->doc);
    if (rc == ERR_INVALID) rc = err_set(ERR_CORRUPT, FILE_NAME ": its header is not JSON");
    if (rc == OK) rc = header_parse(s, str_skip(bytes, 8 + (size_t)header));
    if (rc != OK) {
        safetensors_close(s);
        return rc;
    }
    *out = s;
    return OK;
}

void safetensors_close(safetensors *s) {
    if (!s) return;
    strmap_free(s->names);
    mem_free(s->tensors);
    yyjson_doc_free(s->doc);
    mem_free(s);
}

size_t safetensors_count(const safetensors *s) {
    return s->count;
}

static const tensor *tensor_find(const safetensors *s, const char *name) {
    uint32_t i = strmap_get(s->names, str_of(name));
    return i == MAP_NONE ? NULL : &s->tensors[i];
}

bool safetensors_has(const safetensors *s, const char *name) {
    return tensor_find(s, name);
}

err safetensors_shape_of(const safetensors *s, const char *name, safetensors_shape *out) {
    const tensor *t = tensor_find(s, name);
    if (!t) return tensor_wrong(name, "missing");
    *out = t->shape;
    return OK;
}

/* ---- elements ---- */

static float f16_to_float(uint16_t h) { /* IEEE 754 binary16 */
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, part = h & 0x3ff;
    float magnitude;
    if (exponent == 31)
        magnitude = part ? NAN : INFINITY;
    else if (exponent == 0)
        magnitude = ldexpf((float)part, -24);
    else
        magnitude = ldexpf((float)(part | 0x400), (int)exponent - 25);
    return sign ? -magnitude : magnitude;
}

static void elements_convert(const tensor *t, uint64_t count, float *out) {
    if (t->type == ELEMENT_F32) {
        for (uint64_t i = 0; i < count; i++) {
            uint32_t u = le32_get(t->data + 4 * i);
            memcpy(&out[i], &u, sizeof u);
        }
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint16_t h = le16_get(t->data + 2 * i);
        uint32_t u = (uint32_t)h << 16;
        if (t->type == ELEMENT_BF16)
            memcpy(&out[i], &u, sizeof u);
        else
            out[i] = f16_to_float(h);
    }
}

err safetensors_read(const safetensors *s, const char *name, safetensors_shape shape, float *out) {
    const tensor *t = tensor_find(s, name);
    if (!t) return tensor_wrong(name, "missing");
    if (t->type == ELEMENT_OTHER) return tensor_wrong(name, "expected F32, F16 or BF16 elements");
    uint64_t count = 1;
    bool same = shape.count == t->shape.count;
    for (size_t i = 0; same && i < shape.count; i++) {
        same = shape.dims[i] == t->shape.dims[i];
        count *= shape.dims[i];
    }
    if (!same) {
        return err_set(ERR_CORRUPT,
                       FILE_NAME ": tensor %.100s: expected shape [%llu, %llu] of %zu dimensions, "
                                 "got [%llu, %llu] of %zu",
                       name, (unsigned long long)shape.dims[0], (unsigned long long)shape.dims[1],
                       shape.count, (unsigned long long)t->shape.dims[0],
                       (unsigned long long)t->shape.dims[1], t->shape.count);
    }
    elements_convert(t, count, out);
    for (uint64_t i = 0; i < count; i++)
        if (!isfinite(out[i]))
            return err_set(ERR_CORRUPT, FILE_NAME ": tensor %.100s: value %llu is not finite", name,
                           (unsigned long long)i);
    return OK;
}
