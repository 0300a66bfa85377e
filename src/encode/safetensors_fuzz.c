/* Any bytes as model.safetensors: opening and reading every tensor that the tiny model would want
 * must end in an error or in finite numbers. */
#include "encode/safetensors.h"
#include "encode/encode_fixture_model.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    safetensors *s;
    if (safetensors_open(str_from(data, size), &s) != OK) return 0;
    for (size_t n = 0; n < FIXTURE_TENSORS; n++) {
        fixture_tensor t = fixture_tensor_at(n);
        safetensors_shape shape;
        if (safetensors_shape_of(s, t.name, &shape) != OK) continue;
        uint64_t count = 1;
        bool large = false;
        for (size_t i = 0; i < shape.count; i++)
            large |= __builtin_mul_overflow(count, shape.dims[i], &count);
        if (large || count > size) continue;
        float *out = mem_alloc((count + 1) * sizeof *out);
        if (out && safetensors_read(s, t.name, shape, out) == OK)
            for (uint64_t i = 0; i < count; i++) KITH_ASSERT(isfinite(out[i]));
        mem_free(out);
    }
    safetensors_close(s);
    return 0;
}
