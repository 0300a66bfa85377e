/* vec: number kernels. The scalar code is the definition and always works; AVX2 and AVX-512
 * versions are chosen once at start and are tested against it. Intrinsics live here and nowhere else.
 *
 *   cpu.h       what the processor can do
 *   distance.h  dot products of f32, f16 and int8 rows; half precision conversions
 *   codes.h     4-bit codes of vectors: training, encoding, scoring
 *   gemm.h      matrix products
 *   nn.h        what a transformer needs beside them
 */
#ifndef KITH_VEC_H
#define KITH_VEC_H

#include "vec/cpu.h"
#if __has_include("vec/distance.h")
#include "vec/distance.h"
#endif
#if __has_include("vec/codes.h")
#include "vec/codes.h"
#endif
#if __has_include("vec/gemm.h")
#include "vec/gemm.h"
#endif
#if __has_include("vec/nn.h")
#include "vec/nn.h"
#endif

#endif
