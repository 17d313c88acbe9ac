# Giving back to the medium what is free and it may still keep.
from core._admin cimport admin
from core._state cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t

cdef int punch_turn(lnt_pool *p) noexcept nogil
cdef uint64_t punch_due(lnt_pool *p) noexcept nogil
cdef uint32_t punch_flags(lnt_pool *p) noexcept nogil
cdef void punch_free(lnt_pool *p) noexcept nogil
cdef int trim_run(lnt_pool *p, admin *a) noexcept nogil
cdef uint64_t punch_runs(lnt_pool *p) noexcept nogil
