# The superblock as it is written: what it says, and how it is sealed (docs/on-disk-format.md, "Superblock").
from core.base.crc32c cimport lnt_crc32c
from core.base.layout cimport L_BLOCK_BYTES, SB_CRC
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef bytes super_bytes(dict values)
cdef void node_runs_store(lnt_pool *p, uint8_t *out) noexcept nogil
cdef void super_build(lnt_pool *p, uint8_t *out, uint32_t flags) noexcept nogil
cdef void super_next(lnt_pool *p, uint8_t *out) noexcept nogil
cdef void super_seal(uint8_t *out, uint64_t sb_gen) noexcept nogil
cdef void super_distrust(lnt_pool *p) noexcept nogil

cdef inline uint32_t super_crc(const uint8_t *raw) noexcept nogil:
    """What its checksum field shall say: of all behind that."""
    return lnt_crc32c(0, raw + SB_CRC + 4, L_BLOCK_BYTES - SB_CRC - 4)
