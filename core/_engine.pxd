# The engine as native callers (the reactor) use it. Rules: docs/architecture.md, "The seams".
from core._admin cimport admin
from core._state cimport lnt_pool, pthread_mutex_t
from core._types cimport lnt_dev, lnt_io, lnt_obj, lnt_op
from libc.stdint cimport uint64_t

# Lock: every function below marked (L) needs it held; hold it for engine work only, never while parsing or copying.
cdef void lnt_enter(lnt_pool *p) noexcept nogil
cdef void lnt_leave(lnt_pool *p) noexcept nogil
# (L) once a thread, before its first op / after its last.
cdef void lnt_dev_attach(lnt_pool *p, lnt_dev *dev) noexcept nogil
cdef void lnt_dev_detach(lnt_pool *p, lnt_dev *dev) noexcept nogil
# (L) start an op. Its done is never called from inside: lnt_dev_reap does that.
cdef void lnt_submit(lnt_pool *p, lnt_op *op) noexcept nogil
# (L) run what became ready (retries, batched journal frames, commit, checkpoint and reclaim steps). Call once a loop turn,
# after the turn's io.done and lnt_submit calls. Returns the microseconds until it wants to be called again
# (0: at once, there is more to do; LNT_IDLE: nothing pending).
cdef uint64_t lnt_dev_run(lnt_pool *p, lnt_dev *dev, uint64_t now_us) noexcept nogil
# (no lock) call done of every finished op of this device; returns how many.
cdef int lnt_dev_reap(lnt_pool *p, lnt_dev *dev) noexcept nogil

cdef enum:
    LNT_IDLE = 0x7fffffff

cdef struct qdev              # the queue device of tools and tests, private

cdef class Pool:
    cdef lnt_pool *p
    cdef object device
    cdef readonly str name
    cdef readonly bytes uuid
    cdef readonly bint read_only
    cdef readonly int completion_fd
    cdef qdev *q
    cdef void *finished       # admin ops whose completion Python has not seen
    cdef pthread_mutex_t finished_lock
    cdef dict ops             # token -> what to do with its result
    cdef dict ids             # name -> object id
    cdef dict keys            # key -> (value, [slots])
    cdef set claimed          # names being made
    cdef uint64_t next_token
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
    cdef uint64_t pump(self) except? 77
    cdef void push(self, admin *a)
    cdef object pop(self)
    cdef void release(self)
    cdef lnt_pool *open_pool(self) except NULL
