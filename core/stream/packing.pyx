"""Packing of bodies: zstd at level 1, from the system's library (core/stream/zstd.h).

Lives here and nowhere else: the library's calls. A body is one zstd frame; what it unpacks to is never longer than said before.
"""

cdef extern from "stream/zstd.h" nogil:
    struct lnt_zstd_api:
        void *(*createCCtx)() noexcept nogil
        size_t (*freeCCtx)(void *) noexcept nogil
        size_t (*compressCCtx)(void *, void *, size_t, const void *, size_t, int) noexcept nogil
        void *(*createDCtx)() noexcept nogil
        size_t (*freeDCtx)(void *) noexcept nogil
        size_t (*decompressDCtx)(void *, void *, size_t, const void *, size_t) noexcept nogil
        unsigned (*isError)(size_t) noexcept nogil
    int lnt_zstd_load(lnt_zstd_api *api)

cdef enum:
    LEVEL = 1

cdef lnt_zstd_api zstd
cdef bint there = lnt_zstd_load(&zstd) == 0


cdef bint zstd_there() noexcept nogil:
    return there


cdef uint32_t packed(lnt_packer *z, uint8_t *to, uint32_t room, const uint8_t *raw, uint32_t n) noexcept nogil:
    """Bytes of the packed body; 0: it does not fit the room."""
    cdef size_t size
    if z.pack == NULL and there:
        z.pack = zstd.createCCtx()
    if z.pack == NULL:
        return 0
    size = zstd.compressCCtx(z.pack, to, room, raw, n, LEVEL)
    return 0 if zstd.isError(size) else <uint32_t>size


cdef bint unpacked(lnt_packer *z, uint8_t *to, uint32_t n, const uint8_t *stored, uint32_t stored_bytes) noexcept nogil:
    """Whether the body unpacks to exactly n bytes."""
    cdef size_t size
    if z.unpack == NULL and there:
        z.unpack = zstd.createDCtx()
    if z.unpack == NULL:
        return False
    size = zstd.decompressDCtx(z.unpack, to, n, stored, stored_bytes)
    return not zstd.isError(size) and size == n


cdef void packer_free(lnt_packer *z) noexcept nogil:
    if z.pack != NULL:
        zstd.freeCCtx(z.pack)
    if z.unpack != NULL:
        zstd.freeDCtx(z.unpack)
    z.pack = z.unpack = NULL
