/* CRC32C (Castagnoli, RFC 3720 appendix B.4): SSE4.2 in three interleaved streams joined by a carry-less multiply; table fallback.
 * lnt_crc32c(0, p, n) is the usual finalised value; feed a result back as `seed` to continue. */
#ifndef LNT_CRC32C_H
#define LNT_CRC32C_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LNT_CRC32C_POLY 0x82f63b78u            /* reflected */

static uint32_t lnt_crc32c_table[8][256];
static uint32_t (*lnt_crc32c_update)(uint32_t crc, const uint8_t *p, size_t n);

static inline uint64_t lnt_crc32c_load64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }

static uint32_t lnt_crc32c_sw(uint32_t crc, const uint8_t *p, size_t n)
{
    const uint32_t (*t)[256] = (const uint32_t (*)[256])lnt_crc32c_table;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v = lnt_crc32c_load64(p) ^ crc;
        crc = t[7][v & 255] ^ t[6][v >> 8 & 255] ^ t[5][v >> 16 & 255] ^ t[4][v >> 24 & 255]
            ^ t[3][v >> 32 & 255] ^ t[2][v >> 40 & 255] ^ t[1][v >> 48 & 255] ^ t[0][v >> 56];
    }
    for (; n; n--)
        crc = crc >> 8 ^ t[0][(crc ^ *p++) & 255];
    return crc;
}

#ifdef __x86_64__
#include <immintrin.h>

/* A stream followed by n bytes counts as crc * x^(8n) mod P; the constants are x^(8n - 33) reflected, because the multiply
 * shifts by one and the crc32 instruction that folds the product back multiplies by x^32. */
#define LNT_CRC32C_BLOCK(name, LEN, K2, K1)                                                              \
__attribute__((target("sse4.2,pclmul")))                                                                 \
static inline uint64_t name(uint64_t c0, const uint8_t *p)                                               \
{                                                                                                        \
    uint64_t c1 = 0, c2 = 0;                                                                             \
    size_t i;                                                                                            \
    for (i = 0; i < (LEN) - 8; i += 8) {                                                                 \
        c0 = _mm_crc32_u64(c0, lnt_crc32c_load64(p + i));                                                \
        c1 = _mm_crc32_u64(c1, lnt_crc32c_load64(p + (LEN) + i));                                        \
        c2 = _mm_crc32_u64(c2, lnt_crc32c_load64(p + 2 * (LEN) + i));                                    \
    }                                                                                                    \
    c0 = _mm_crc32_u64(c0, lnt_crc32c_load64(p + i));                                                    \
    c1 = _mm_crc32_u64(c1, lnt_crc32c_load64(p + (LEN) + i));                                            \
    __m128i a = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)c0), _mm_cvtsi64_si128(K2), 0);        \
    __m128i b = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)c1), _mm_cvtsi64_si128(K1), 0);        \
    uint64_t folded = (uint64_t)_mm_cvtsi128_si64(_mm_xor_si128(a, b));                                  \
    return _mm_crc32_u64(c2, lnt_crc32c_load64(p + 2 * (LEN) + i) ^ folded);                             \
}
LNT_CRC32C_BLOCK(lnt_crc32c_block_1360, 1360, 0x5aa1f3cf, 0x3f70cc6f)
LNT_CRC32C_BLOCK(lnt_crc32c_block_168, 168, 0xa60ce07b, 0x1b3d8f29)

__attribute__((target("sse4.2,pclmul")))
static uint32_t lnt_crc32c_hw(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t c = crc;
    for (; n >= 3 * 1360; p += 3 * 1360, n -= 3 * 1360)
        c = lnt_crc32c_block_1360(c, p);
    for (; n >= 3 * 168; p += 3 * 168, n -= 3 * 168)
        c = lnt_crc32c_block_168(c, p);
    for (; n >= 8; p += 8, n -= 8)
        c = _mm_crc32_u64(c, lnt_crc32c_load64(p));
    for (; n; n--)
        c = _mm_crc32_u8((uint32_t)c, *p++);
    return (uint32_t)c;
}
#endif

__attribute__((constructor))
static void lnt_crc32c_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? LNT_CRC32C_POLY : 0);
        lnt_crc32c_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            lnt_crc32c_table[k][i] = lnt_crc32c_table[k - 1][i] >> 8 ^ lnt_crc32c_table[0][lnt_crc32c_table[k - 1][i] & 255];
    lnt_crc32c_update = lnt_crc32c_sw;
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
        lnt_crc32c_update = lnt_crc32c_hw;
#endif
}

static inline uint32_t lnt_crc32c(uint32_t seed, const void *buf, size_t n)
{
    return ~lnt_crc32c_update(~seed, (const uint8_t *)buf, n);
}

static inline uint32_t lnt_crc32c_portable(uint32_t seed, const void *buf, size_t n)
{
    return ~lnt_crc32c_sw(~seed, (const uint8_t *)buf, n);
}
#endif
