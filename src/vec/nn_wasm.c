/* Softmax, layer normalisation, GELU and pooling for WebAssembly.
 *
 * The code is nn_simd.h's, written once over the width of a vector; simd_wasm.h gives that width and
 * its words. Whether they exist is decided when the module is compiled, and KITH_CPU=scalar turns
 * them off. nn_test.c compares each with the scalar definition on every length from 1 to a few
 * vectors (tests/portable).
 */
#if defined(__wasm_simd128__)
#include "vec/simd_wasm.h"

#include "vec/nn_simd.h"

const nn_table nn_table_wasm = {"wasm",    simd_add_layernorm, simd_softmax,
                                simd_gelu, simd_mean,          simd_square_sum};
#else
typedef int nn_wasm_is_empty; /* a translation unit must not be empty */
#endif
