/* Small things the native core needs from C: a lock, atomics, unaligned little-endian access. */
#ifndef LNT_NATIVE_H
#define LNT_NATIVE_H
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline uint64_t lnt_get_le64(const void *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline uint32_t lnt_get_le32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint16_t lnt_get_le16(const void *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static inline void lnt_put_le64(void *p, uint64_t v) { memcpy(p, &v, 8); }
static inline void lnt_put_le32(void *p, uint32_t v) { memcpy(p, &v, 4); }
static inline void lnt_put_le16(void *p, uint16_t v) { memcpy(p, &v, 2); }

static inline uint64_t lnt_mono_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* What is used next: its address and first line are sought meanwhile. */
static inline void lnt_soon(const void *at) { __builtin_prefetch(at); }
static inline void lnt_soon_written(void *at) { __builtin_prefetch(at, 1); }

/* A node on disk has 7-byte entries; in memory 8. Both ends are little-endian. */
static inline void lnt_node_unpack(uint64_t *out, const uint8_t *in, int n)
{
    for (int i = 0; i < n; i++)     /* one load, not two that a store has to join: reads a byte beyond the last entry */
        out[i] = lnt_get_le64(in + 7 * i) & 0xFFFFFFFFFFFFFF;
}
static inline void lnt_node_pack(uint8_t *out, const uint64_t *in, int n)
{
    for (int i = 0; i + 1 < n; i++)
        lnt_put_le64(out + 7 * i, in[i]);      /* the next entry overwrites the eighth byte */
    memcpy(out + 7 * (n - 1), &in[n - 1], 7);
}
static inline void lnt_count_unpack(uint32_t *out, const uint8_t *in, int n)
{
    for (int i = 0; i < n; i++)     /* reads a byte beyond the last count */
        out[i] = lnt_get_le32(in + 3 * i) & 0xFFFFFF;
}
static inline void lnt_count_pack(uint8_t *out, const uint32_t *in, int n)
{
    for (int i = 0; i + 1 < n; i++)
        lnt_put_le32(out + 3 * i, in[i]);
    memcpy(out + 3 * (n - 1), &in[n - 1], 3);
}
#endif
