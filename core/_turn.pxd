# The engine as native threads use it. Rules: docs/architecture.md, "The seams".
from core._state cimport lnt_pool
from core._types cimport lnt_dev, lnt_op
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
