# What every part of a pool's Python half has: the engine's memory, handles on objects, names, keys, what was started.
from core.base.native cimport pthread_mutex_t
from core.base.operation cimport lnt_admin
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_obj, lnt_op
from core.pool.queue cimport lnt_queue_device
from libc.stdint cimport uint64_t

cdef struct mailbox:
    pthread_mutex_t lock
    lnt_admin *first                  # newest first
    lnt_admin *taken                  # oldest first, out of the lock's reach: Python's
    int fd
cdef void pool_done(lnt_op *op) noexcept nogil

cdef class PoolState:
    cdef lnt_pool *p
    cdef object device
    cdef object clock         # for the queue device: microseconds; None: the machine's
    cdef readonly str name
    cdef readonly bytes uuid
    cdef readonly bytes identity
    cdef object serial_mask   # what an object's serial differs by from its slot's (docs/on-disk-format.md)
    cdef readonly bint read_only
    cdef readonly int completion_fd
    cdef lnt_queue_device *q
    cdef lnt_queue_device *side           # a second queue device, NULL: there is none
    cdef mailbox *mail        # operations whose completion Python has not seen
    cdef dict ops             # token -> Outcome
    cdef list early           # completions that came while another was waited for
    cdef dict ids             # name -> object id
    cdef dict keys            # key -> (value, [slots])
    cdef dict keys_outcomes   # token -> the change of keys that is part of that operation
    cdef set keys_changing    # keys that a change under way is about
    cdef list keys_waiting    # changes that wait for one of those: (token, changes, records)
    cdef set claimed          # names being made
    cdef uint64_t next_token
    cdef size_t unsubmitted   # the operation that is being made, an lnt_admin *
    cdef void release(self)
    cdef lnt_pool *open_pool(self) except NULL
    # handle on an object for native use (GIL held); NULL when it does not exist
    cdef lnt_obj *open_handle(self, uint64_t object_id)
    cdef void close_handle(self, lnt_obj *obj)
    cdef uint64_t clock_us(self) except? 77
