/* The kernel tables of postings.h, one for each tier; for vec/ and its tests only. */
#ifndef KITH_VEC_POSTINGS_INT_H
#define KITH_VEC_POSTINGS_INT_H

#include "vec/postings.h"

extern const postings_kernels postings_scalar;
#if defined(__x86_64__)
extern const postings_kernels postings_avx2;
#endif

#endif
