# The pool's own queue devices: how tools and tests drive the engine (docs/architecture.md, "The seams").
from core.pool.queue cimport lnt_queue_device
from core.pool.state cimport PoolState
from libc.stdint cimport uint32_t, uint64_t

cdef class DrivenPool(PoolState):
    cdef object ios           # io id -> request
    cdef int side_attach(self) except -1
    cdef int medium_set(self, uint32_t gap_bytes, bint cached) except -1
    cdef int collect(self) except -1
    cdef int collect_from(self, lnt_queue_device *q) except -1
    cdef uint64_t turn_queue(self, lnt_queue_device *q, uint64_t now_us) except? 77
    cdef uint64_t pump(self) except? 77
    cdef int idle(self) except -1
