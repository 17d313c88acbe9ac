# Packing of bodies: zstd at level 1, from the system's library (core/stream/zstd.h).
from libc.stdint cimport uint32_t, uint8_t

cdef struct lnt_packer:            # one thread's; zeroed before its first use
    void *pack
    void *unpack

cdef bint zstd_there() noexcept nogil
cdef uint32_t packed(lnt_packer *z, uint8_t *to, uint32_t room, const uint8_t *raw, uint32_t n) noexcept nogil
cdef bint unpacked(lnt_packer *z, uint8_t *to, uint32_t n, const uint8_t *stored, uint32_t stored_bytes) noexcept nogil
cdef void packer_free(lnt_packer *z) noexcept nogil
