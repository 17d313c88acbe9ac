# Room below the pool: a file is sparse, and the file system under it may be full (docs/space.md, "Room below").
from core.base.operation cimport lnt_waiter
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_io
from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef enum:
    NO_RUN = 0                # run 0 is fixed

cdef uint32_t medium_flags(lnt_pool *p) noexcept nogil
cdef void zones_seen(lnt_pool *p) noexcept nogil
cdef int medium_keeps(lnt_pool *p, int32_t result) noexcept nogil
cdef void medium_refused(lnt_pool *p, const lnt_io *io) noexcept nogil
cdef void medium_short(lnt_pool *p, int32_t result) noexcept nogil
cdef void medium_room(lnt_pool *p) noexcept nogil
cdef int zone_need(lnt_pool *p, lnt_waiter *who, uint64_t zone) noexcept nogil
cdef void node_run_join(lnt_pool *p, uint64_t run) noexcept nogil
cdef void nodes_tidy(lnt_pool *p) noexcept nogil
cdef int nodes_prepare(lnt_pool *p, lnt_waiter *who) noexcept nogil
cdef void medium_later(lnt_pool *p, uint64_t after_us) noexcept nogil
cdef void medium_goal(lnt_pool *p, uint64_t blocks) noexcept nogil
cdef int zones_widen(lnt_pool *p, uint64_t total_blocks) noexcept nogil
cdef void medium_turn(lnt_pool *p) noexcept nogil
cdef uint64_t fixed_from(object device) except? 0
cdef int medium_open(lnt_pool *p, object device, uint32_t flags) except -1
cdef int medium_load(lnt_pool *p, object device, bytes super_raw) except -1
