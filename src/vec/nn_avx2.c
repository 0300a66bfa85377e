/* Softmax, layer normalisation, GELU and pooling for processors with AVX2.
 *
 * The code is nn_simd.h's, written once over the width of a vector; simd_avx2.h gives that width
 * and its words. Every function here carries the target attribute, so that the file compiles
 * whatever the compiler's own flags are, and none of it runs unless cpu.h found the instructions.
 * nn_test.c compares each with the scalar definition on every length from 1 to a few vectors.
 */
#if defined(__x86_64__)
#include "vec/simd_avx2.h"

#include "vec/nn_simd.h"

const nn_table nn_table_avx2 = {"avx2",    simd_add_layernorm, simd_softmax,
                                simd_gelu, simd_mean,          simd_square_sum};
#else
typedef int nn_avx2_is_empty; /* a translation unit must not be empty */
#endif
