/* exp, erf and GELU of a vector, in the words of simd_avx2.h or simd_avx512.h, included before.
 *
 * exp: x = n ln 2 + r, |r| <= ln 2 / 2; exp(r) = 1 + r + r^2 p(r), p of degree 3 by least maximum
 * relative error 1.0e-7 (Cody and Waite's splitting of ln 2).
 * erf: t P(t^2) / Q(t^2), P and Q of degree 5, for |t| <= 3.9, and constant beyond, where
 * 1 - erf < 3.5e-8. Fitted for least maximum absolute error: 1.5e-8, and 4.4e-7 in single
 * precision.
 */
#ifndef KITH_VEC_SIMD_MATH_H
#define KITH_VEC_SIMD_MATH_H

/* Relative error 2e-7; below -87 the result is about 1e-38, above 88 it is about 1.6e38. */
V_INLINE V v_exp(V x) {
    x = V_MIN(V_MAX(x, V_SET1(-87.0f)), V_SET1(88.0f));
    V n = V_ROUND(V_MUL(x, V_SET1(1.44269504f)));
    V r = V_FNMA(n, V_SET1(0.693359375f), x);
    r = V_FNMA(n, V_SET1(-2.12194440e-4f), r);
    V p = V_SET1(8.312530815601349e-3f);
    p = V_FMA(p, r, V_SET1(4.189012199640274e-2f));
    p = V_FMA(p, r, V_SET1(1.6667114198207855e-1f));
    p = V_FMA(p, r, V_SET1(4.99992311000824e-1f));
    p = V_FMA(p, V_MUL(r, r), r);
    return V_MUL(V_ADD(p, V_SET1(1.0f)), v_power_of_two(n));
}

V_INLINE V v_erf(V t) {
    t = V_MIN(V_MAX(t, V_SET1(-3.9f)), V_SET1(3.9f));
    V u = V_MUL(t, t);
    V p = V_SET1(2.0505310658336384e-06f);
    p = V_FMA(p, u, V_SET1(2.874427882488817e-04f));
    p = V_FMA(p, u, V_SET1(3.836173331364989e-03f));
    p = V_FMA(p, u, V_SET1(5.296476185321808e-02f));
    p = V_FMA(p, u, V_SET1(1.9192439317703247e-01f));
    p = V_FMA(p, u, V_SET1(1.128378987312317f));
    V q = V_SET1(3.823148290393874e-05f);
    q = V_FMA(q, u, V_SET1(1.1815665056928992e-03f));
    q = V_FMA(q, u, V_SET1(1.5107798390090466e-02f));
    q = V_FMA(q, u, V_SET1(1.1475136876106262e-01f));
    q = V_FMA(q, u, V_SET1(5.03420352935791e-01f));
    q = V_FMA(q, u, V_SET1(1.0f));
    return V_DIV(V_MUL(t, p), q);
}

V_INLINE V v_gelu(V y) {
    V half = V_MUL(y, V_SET1(0.5f));
    return V_FMA(half, v_erf(V_MUL(y, V_SET1(0.70710678f))), half);
}

#endif
