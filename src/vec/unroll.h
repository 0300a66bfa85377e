/* UNROLLED: the loop behind it, of a constant count, is written out, so that an array of vectors
 * that it goes through lives in registers. */
#ifndef KITH_VEC_UNROLL_H
#define KITH_VEC_UNROLL_H

#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif

#endif
