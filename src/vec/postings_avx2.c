/* The kernels of postings.c in AVX2: eight or sixteen integers a step.
 *
 * Comparisons become bits by movemask; sixteen bits of a bitmap become sixteen 16-bit lanes by
 * broadcasting them, keeping in each lane its own bit and comparing (four instructions for 16
 * documents, whether one bit is set or all). Loads are unaligned: on the machines measured that
 * costs nothing. Answers equal the scalar ones bit for bit. Nothing reads beyond its input.
 */
#include "vec/postings_int.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt")))

AVX2 static __m256i load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

AVX2 static uint64_t equal_u32(const uint32_t *p, uint32_t value) {
    uint64_t m = 0;
    __m256i v = _mm256_set1_epi32((int)value);
    for (unsigned j = 0; j < 8; j++) {
        __m256i e = _mm256_cmpeq_epi32(load(p + j * 8), v);
        m |= (uint64_t)(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(e)) << (j * 8);
    }
    return m;
}

AVX2 static uint64_t masked_equal_u32(const uint32_t *p, uint32_t mask, uint32_t value) {
    uint64_t m = 0;
    __m256i v = _mm256_set1_epi32((int)value), k = _mm256_set1_epi32((int)mask);
    for (unsigned j = 0; j < 8; j++) {
        __m256i e = _mm256_cmpeq_epi32(_mm256_and_si256(load(p + j * 8), k), v);
        m |= (uint64_t)(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(e)) << (j * 8);
    }
    return m;
}

AVX2 static uint64_t less_i64(const int64_t *p, int64_t value) {
    uint64_t m = 0;
    __m256i v = _mm256_set1_epi64x(value);
    for (unsigned j = 0; j < 16; j++) {
        __m256i e = _mm256_cmpgt_epi64(v, load(p + j * 4));
        m |= (uint64_t)(uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(e)) << (j * 4);
    }
    return m;
}

AVX2 static uint32_t bits_of(__m256i e) {
    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(e));
}

/* The last 1 to 7 tokens are loaded under a mask; lanes beyond them are 0xffffffff, no term. */
AVX2 static __m256i load_tail(const uint32_t *p, uint32_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i in = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
    __m256i x = _mm256_maskload_epi32((const int *)(const void *)p, in);
    __m256i id = _mm256_and_si256(x, _mm256_set1_epi32((int)POSTINGS_ID));
    return _mm256_or_si256(id, _mm256_andnot_si256(in, _mm256_set1_epi32(-1)));
}

AVX2 static void count_terms(const uint32_t *tokens, uint32_t n, const uint32_t *terms,
                             uint32_t n_terms, uint32_t *tf) {
    const __m256i id = _mm256_set1_epi32((int)POSTINGS_ID);
    for (uint32_t i = 0; i < n_terms; i++) tf[i] = 0;
    for (uint32_t j = 0; j < n; j += 8) {
        __m256i x =
            n - j >= 8 ? _mm256_and_si256(load(tokens + j), id) : load_tail(tokens + j, n - j);
        for (uint32_t i = 0; i < n_terms; i++) {
            __m256i e = _mm256_cmpeq_epi32(x, _mm256_set1_epi32((int)terms[i]));
            tf[i] += (uint32_t)_mm_popcnt_u32(bits_of(e));
        }
    }
}

/* By byte: the places of its set bits, a byte each. */
#define PLACE(b, i) \
    ((b) >> (i)&1 ? (uint64_t)(i) << (8 * __builtin_popcount((b) & ((1u << (i)) - 1))) : 0)
#define PLACES(b)                                                                        \
    (PLACE(b, 0) | PLACE(b, 1) | PLACE(b, 2) | PLACE(b, 3) | PLACE(b, 4) | PLACE(b, 5) | \
     PLACE(b, 6) | PLACE(b, 7))
#define PLACES_4(b)  PLACES((b)), PLACES((b) + 1), PLACES((b) + 2), PLACES((b) + 3)
#define PLACES_16(b) PLACES_4((b)), PLACES_4((b) + 4), PLACES_4((b) + 8), PLACES_4((b) + 12)
#define PLACES_64(b) PLACES_16((b)), PLACES_16((b) + 16), PLACES_16((b) + 32), PLACES_16((b) + 48)
static const uint64_t places[256] = {PLACES_64(0u), PLACES_64(64u), PLACES_64(128u),
                                     PLACES_64(192u)};

/* out[i] = the place of the i-th set bit of p[0..size), less i, for i < n; beyond them 0. Eight at
 * once, of which those that are too many are written over; so out has room for n + 8. */
AVX2 static void unpack_high(const uint8_t *p, uint32_t size, uint32_t n, uint32_t *out) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    uint32_t at = 0;
    for (uint32_t k = 0; k < size && at < n; k++) {
        __m256i x = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)places[p[k]]));
        __m256i from = _mm256_sub_epi32(_mm256_set1_epi32((int)(k * 8 - at)), lane);
        _mm256_storeu_si256((__m256i *)(void *)(out + at), _mm256_add_epi32(x, from));
        at += (uint32_t)_mm_popcnt_u32(p[k]);
    }
    for (; at < n; at++) out[at] = 0;
}

/* Eight lows of `width` bits fill `width` bytes, so each eight begin at a byte: two loads of 16
 * bytes (four lows each), a byte shuffle that gives each lane its four bytes, a shift for each
 * lane, a mask. */
AVX2 static void unpack(const uint8_t *p, uint32_t size, uint32_t width, uint32_t first, uint32_t n,
                        uint32_t *out) {
    const uint32_t lows = MIN((n * width + 7) / 8, size);
    out[0] = first;
    unpack_high(p + lows, size - lows, n, out + 1);
    const int half = (int)(width * 4), rest = half & 7;
    __m256i bit = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3),
                                     _mm256_set1_epi32((int)width));
    bit = _mm256_add_epi32(bit, _mm256_setr_epi32(0, 0, 0, 0, rest, rest, rest, rest));
    __m256i byte = _mm256_srli_epi32(bit, 3), shift = _mm256_and_si256(bit, _mm256_set1_epi32(7));
    __m256i pick = _mm256_add_epi32(_mm256_mullo_epi32(byte, _mm256_set1_epi32(0x01010101)),
                                    _mm256_set1_epi32(0x03020100));
    const __m256i mask = _mm256_set1_epi32((int)((1u << width) - 1));
    const __m128i up = _mm_cvtsi32_si128((int)width);
    __m256i base =
        _mm256_add_epi32(_mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8), _mm256_set1_epi32((int)first));
    uint8_t end[96]; /* the last bytes, with room to read on */
    bool in_end = false;
    for (uint32_t i = 0, at = 0; i < n; i += 8, at += width) {
        if (!in_end && at + width + 16 > size) {
            uint32_t left = size > at ? size - at : 0;
            memcpy(end, p + at, left);
            memset(end + left, 0, sizeof end - left);
            p = end;
            at = 0;
            in_end = true;
        }
        __m128i lo = _mm_loadu_si128((const __m128i *)(const void *)(p + at));
        __m128i hi = _mm_loadu_si128((const __m128i *)(const void *)(p + at + (half >> 3)));
        __m256i x = _mm256_shuffle_epi8(_mm256_set_m128i(hi, lo), pick);
        x = _mm256_and_si256(_mm256_srlv_epi32(x, shift), mask);
        x = _mm256_add_epi32(x, _mm256_sll_epi32(load(out + 1 + i), up));
        _mm256_storeu_si256((__m256i *)(void *)(out + 1 + i), _mm256_add_epi32(x, base));
        base = _mm256_add_epi32(base, _mm256_set1_epi32(8));
    }
}

AVX2 static void or_product(uint64_t *to, const uint64_t *const *planes, uint32_t n_planes,
                            uint32_t n_words) {
    for (uint32_t w = 0; w < n_words; w += 4) {
        __m256i x = load(planes[0] + w);
        for (uint32_t i = 1; i < n_planes; i++) x = _mm256_and_si256(x, load(planes[i] + w));
        _mm256_storeu_si256((__m256i *)(void *)(to + w), _mm256_or_si256(load(to + w), x));
    }
}

AVX2 static void add_bits(const uint32_t *bits, uint32_t n_words, uint16_t add, uint16_t *sums) {
    const __m256i lane = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
                                           8192, 16384, (short)0x8000);
    const __m256i a = _mm256_set1_epi16((short)add);
    for (uint32_t w = 0; w < n_words; w++) {
        uint32_t m = bits[w];
        if (m == 0) continue;
        for (unsigned h = 0; h < 2; h++) {
            __m256i b = _mm256_set1_epi16((short)(m >> (16 * h)));
            __m256i on = _mm256_cmpeq_epi16(_mm256_and_si256(b, lane), lane);
            uint16_t *s = sums + w * 32 + h * 16;
            __m256i sum = _mm256_add_epi16(load(s), _mm256_and_si256(on, a));
            _mm256_storeu_si256((__m256i *)(void *)s, sum);
        }
    }
}

AVX2 static uint32_t collect(const uint16_t *sums, uint32_t n, uint16_t least, uint16_t *out) {
    uint32_t found = 0;
    const __m256i l = _mm256_set1_epi16((short)least);
    for (uint32_t i = 0; i < n; i += 32) {
        __m256i x = load(sums + i), y = load(sums + i + 16);
        __m256i gx = _mm256_cmpeq_epi16(_mm256_max_epu16(x, l), x); /* unsigned >= */
        __m256i gy = _mm256_cmpeq_epi16(_mm256_max_epu16(y, l), y);
        __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi16(gx, gy), 0xd8);
        for (uint32_t m = (uint32_t)_mm256_movemask_epi8(both); m; m &= m - 1)
            out[found++] = (uint16_t)(i + (unsigned)__builtin_ctz(m));
    }
    return found;
}

const postings_kernels postings_avx2 = {equal_u32, masked_equal_u32, less_i64, count_terms,
                                        unpack,    or_product,       add_bits, collect};
#else
typedef int postings_avx2_is_for_x86; /* a translation unit may not be empty */
#endif
