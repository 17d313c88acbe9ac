# The superblock: which of its two copies counts, what it says, and how it is sealed (docs/on-disk-format.md, "Superblock").
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef object super_read(lnt_pool *p, object device)
cdef int super_load(lnt_pool *p, bytes raw) except -1
cdef bytes super_bytes(dict values)
cdef bytes super_current(object device)
cdef int super_change(object device, dict values) except -1
cdef void node_runs_store(lnt_pool *p, uint8_t *out) noexcept nogil
cdef void super_build(lnt_pool *p, uint8_t *out, uint32_t flags) noexcept nogil
cdef void super_seal(uint8_t *out, uint64_t sb_gen) noexcept nogil
cdef void super_distrust(lnt_pool *p) noexcept nogil
