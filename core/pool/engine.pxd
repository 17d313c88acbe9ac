# The engine for native callers: the turn's functions (core/pool/turn.pxd) and the pool that owns the objects.
from core.base.operation cimport lnt_admin
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_dev, lnt_io, lnt_obj, lnt_op
from core.pool.queue cimport lnt_queue_device
from core.pool.turn cimport LNT_IDLE, lnt_dev_attach, lnt_dev_detach, lnt_dev_reap, lnt_dev_run, lnt_enter, lnt_leave, lnt_submit
from libc.stdint cimport uint64_t

cdef struct mailbox

cdef class Pool:
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
    cdef dict ops             # token -> what to do with its result
    cdef dict ids             # name -> object id
    cdef dict keys            # key -> (value, [slots])
    cdef dict keys_outcomes   # token -> the change of keys that is part of that operation
    cdef set keys_changing    # keys that a change under way is about
    cdef list keys_waiting    # changes that wait for one of those: (token, changes, records)
    cdef set claimed          # names being made
    cdef uint64_t next_token
    cdef size_t unsubmitted   # the operation that is being made, an lnt_admin *
    cdef object ios           # queue device: io id -> request
    # handle on an object for native use (GIL held); NULL when it does not exist
    cdef lnt_obj *open_handle(self, uint64_t object_id)
    cdef void close_handle(self, lnt_obj *obj)
    cdef int prepare(self, uint64_t cache_bytes) except -1
    cdef int recover(self, uint64_t cache_bytes) except -1
    cdef int reopen(self, bytes raw) except -1
    cdef int super_write(self) except -1
    cdef int names_load(self) except -1
    cdef int keys_load(self, list slots) except -1
    cdef int kv_apply(self, bytes key, object value) except -1
    cdef int idle(self) except -1
    cdef int collect(self) except -1
    cdef int side_attach(self) except -1
    cdef int collect_from(self, lnt_queue_device *q) except -1
    cdef uint64_t turn_queue(self, lnt_queue_device *q, uint64_t now_us) except? 77
    cdef uint64_t pump(self) except? 77
    cdef object pop(self)
    cdef void release(self)
    cdef lnt_pool *open_pool(self) except NULL
