/* Softmax, layer normalisation, GELU and pooling for 64-bit Arm.
 *
 * The code is nn_simd.h's, written once over the width of a vector; simd_neon.h gives that width and
 * its words. Arm has had these instructions since its first 64-bit processors, so nothing is asked
 * for at run time but KITH_CPU=scalar. nn_test.c compares each with the scalar definition, on every
 * length from 1 to a few vectors, under an emulator (tests/portable).
 */
#if defined(__aarch64__)
#include "vec/simd_neon.h"

#include "vec/nn_simd.h"

const nn_table nn_table_neon = {"neon",    simd_add_layernorm, simd_softmax,
                                simd_gelu, simd_mean,          simd_square_sum};
#else
typedef int nn_neon_is_empty; /* a translation unit must not be empty */
#endif
