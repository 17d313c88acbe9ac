# Walks over maps that only read: extents, differences, what an object alone refers to.
from core._admin cimport admin
from core._state cimport lnt_pool
from libc.stdint cimport uint64_t

cdef int emit(admin *a, uint64_t start, uint64_t length, uint64_t value) noexcept nogil
cdef int walk_extents(lnt_pool *p, admin *a) noexcept nogil
cdef int walk_diff(lnt_pool *p, admin *a) noexcept nogil
cdef int walk_exclusive(lnt_pool *p, admin *a) noexcept nogil
