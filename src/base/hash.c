/* hash64: 8 bytes a step, multiply and fold 64x64 to 128 bits (the mixing step that wyhash and
 * others are built on), finished by SplitMix64's finaliser.
 *
 * CRC-32C: the SSE 4.2 instruction where the machine has it (8 bytes in 3 cycles), else a table of
 * the 16 nibbles, small enough to be written out and checked by eye.
 */
#include "base/base.h"

static uint64_t fold(uint64_t a, uint64_t b) {
    __extension__ typedef unsigned __int128 u128;
    u128 m = (u128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

uint64_t hash64(const void *p, size_t n, uint64_t seed) {
    const uint64_t k0 = 0x9e3779b97f4a7c15u, k1 = 0xd6e8feb86659fd93u;
    const uint8_t *b = p;
    uint64_t h = seed ^ (n * k1);
    size_t left = n;
    for (; left >= 8; left -= 8, b += 8) h = fold(h ^ le64_get(b), k0) + k1;
    uint64_t tail = 0;
    for (size_t i = 0; i < left; i++) tail |= (uint64_t)b[i] << (8 * i);
    return hash64_u64(fold(h ^ tail, k0) + k1 + left);
}

/* Remainders of the 16 nibbles for the reflected polynomial 0x82f63b78. */
static const uint32_t crc_nibble[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};

static uint32_t crc_soft(uint32_t crc, const uint8_t *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        crc ^= b[i];
        crc = crc_nibble[crc & 15] ^ (crc >> 4);
        crc = crc_nibble[crc & 15] ^ (crc >> 4);
    }
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_hard(uint32_t crc, const uint8_t *b,
                                                           size_t n) {
    uint64_t c = crc;
    for (; n >= 8; n -= 8, b += 8) c = __builtin_ia32_crc32di(c, le64_get(b));
    crc = (uint32_t)c;
    for (; n; n--, b++) crc = __builtin_ia32_crc32qi(crc, *b);
    return crc;
}
#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t n) {
#if defined(__x86_64__)
    if (LIKELY(__builtin_cpu_supports("sse4.2"))) return ~crc_hard(~crc, p, n);
#endif
    return ~crc_soft(~crc, p, n);
}
