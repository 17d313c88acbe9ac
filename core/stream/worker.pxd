# A thread of its own beside the reactors, with a ring and a device: where streams read and write objects.
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op
from core.wire.disk cimport lnt_disk
from core.wire.uring cimport lnt_ring
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef struct lnt_worker:
    lnt_pool *pool
    lnt_ring *ring
    lnt_disk disk
    int wake_fd
    uint64_t wake_value
    uint32_t woken                 # atomic
    uint32_t busy                  # ops that are not over
    uint8_t error                  # lnt_status of the first op that failed
    uint64_t error_offset          # where in its object, bytes
    lnt_op *submit_head
    lnt_op *submit_tail
    uint64_t seen                  # requests of initiators, at the last look
    uint64_t active_us             # when there were new ones
    bint waited                    # whether the last run had to wait for the medium

cdef int worker_open(lnt_worker *w, lnt_pool *pool, const char *library, int fd, void *image,
                     uint64_t object_bytes) noexcept nogil
cdef void worker_close(lnt_worker *w) noexcept nogil
cdef void worker_submit(lnt_worker *w, lnt_op *op) noexcept nogil
cdef void worker_run(lnt_worker *w) noexcept nogil
cdef bint worker_beside(lnt_worker *w) noexcept nogil
cdef uint64_t worker_batch_bytes(lnt_worker *w, uint64_t most_bytes) noexcept nogil
cdef void worker_rest(lnt_worker *w, uint64_t took_us) noexcept nogil
