# CRC32C for Python (RFC 7143 §13.1; the pool's checksums): the interleaved hardware version and the table one.
from libc.stdint cimport uint32_t


def crc32c(const unsigned char[::1] data not None, uint32_t seed=0):
    cdef Py_ssize_t n = data.shape[0]
    if n == 0:
        return seed
    with nogil:
        seed = lnt_crc32c(seed, &data[0], <size_t>n)
    return seed


def crc32c_portable(const unsigned char[::1] data not None, uint32_t seed=0):
    cdef Py_ssize_t n = data.shape[0]
    if n == 0:
        return seed
    with nogil:
        seed = lnt_crc32c_portable(seed, &data[0], <size_t>n)
    return seed
