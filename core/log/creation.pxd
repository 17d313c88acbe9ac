# Making pools (docs/on-disk-format.md).
from libc.stdint cimport uint64_t

cdef object pool_create(object device, str name, uint64_t size_bytes, uint64_t journal_blocks, uint64_t area_blocks)
