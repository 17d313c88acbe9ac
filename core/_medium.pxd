# The medium's room, where blocks are allocated below when they are first written: a sparse file.
from core._state cimport lnt_pool
from core._types cimport lnt_io
from libc.stdint cimport int32_t, uint8_t, uint64_t

cdef int zone_need(lnt_pool *p, uint64_t zone) noexcept nogil
cdef int nodes_prepare(lnt_pool *p) noexcept nogil
cdef void nodes_tidy(lnt_pool *p) noexcept nogil
cdef void node_run_join(lnt_pool *p, uint64_t run) noexcept nogil
cdef uint64_t node_run_candidate(lnt_pool *p) noexcept nogil
cdef int no_room(int32_t result) noexcept nogil
cdef int medium_keeps(lnt_pool *p, int32_t result) noexcept nogil
cdef void medium_refused(lnt_pool *p, const lnt_io *io) noexcept nogil
cdef void medium_short(lnt_pool *p, int32_t result) noexcept nogil
cdef void medium_room(lnt_pool *p) noexcept nogil
cdef void medium_turn(lnt_pool *p) noexcept nogil

cdef enum:
    NO_RUN = 0                # run 0 is fixed
