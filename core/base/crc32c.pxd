# CRC32C: of everything on the medium, of streams, of PDUs.
from libc.stdint cimport uint32_t

cdef extern from "base/crc32c.h" nogil:
    uint32_t lnt_crc32c(uint32_t seed, const void *buf, size_t n)
    uint32_t lnt_crc32c_portable(uint32_t seed, const void *buf, size_t n)
