# CRC32C of data blocks, kept by block in the zone's checksum pages (docs/on-disk-format.md, csum).
from core.base.operation cimport lnt_waiter
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef int csum_touch(lnt_pool *p, lnt_waiter *who, uint64_t pba, uint32_t n) noexcept nogil
cdef void csum_put(lnt_pool *p, uint64_t pba, uint32_t n, const uint8_t *data, uint32_t *sums) noexcept nogil
cdef int csum_set(lnt_pool *p, uint64_t pba, uint32_t n, const uint8_t *sums) noexcept nogil
cdef int csum_verify(lnt_pool *p, lnt_waiter *who, uint64_t pba, uint32_t n, const uint8_t *data, uint32_t *bad) noexcept nogil
