# CRC32C of data blocks, for objects that keep it.
from core._state cimport lnt_pool
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef int csum_touch(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil
cdef void csum_put(lnt_pool *p, uint64_t pba, uint32_t n, const uint8_t *data, uint32_t *sums) noexcept nogil
cdef int csum_set(lnt_pool *p, uint64_t pba, uint32_t n, const uint8_t *sums) noexcept nogil
cdef int csum_verify(lnt_pool *p, uint64_t pba, uint32_t n, const uint8_t *data, uint32_t *bad) noexcept nogil
