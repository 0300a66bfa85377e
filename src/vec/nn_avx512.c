/* Softmax, layer normalisation, GELU and pooling for processors with AVX-512.
 *
 * The code is nn_simd.h's, written once over the width of a vector; simd_avx512.h gives that width
 * and its words. Every function here carries the target attribute, so that the file compiles
 * whatever the compiler's own flags are, and none of it runs unless cpu.h found the instructions.
 * nn_test.c compares each with the scalar definition on every length from 1 to a few vectors.
 */
#if defined(__x86_64__)
#include "vec/simd_avx512.h"

#include "vec/nn_simd.h"

const nn_table nn_table_avx512 = {"avx512",  simd_add_layernorm, simd_softmax,
                                  simd_gelu, simd_mean,          simd_square_sum};
#else
typedef int nn_avx512_is_empty; /* a translation unit must not be empty */
#endif
