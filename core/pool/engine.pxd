# The pool: objects, map, space and durability behind one class, and the same for native threads (docs/architecture.md).
from core.base.operation cimport lnt_admin
from core.pool.driven cimport DrivenPool
from core.pool.turn cimport LNT_IDLE, lnt_dev_attach, lnt_dev_detach, lnt_dev_reap, lnt_dev_run, lnt_enter, lnt_leave, lnt_submit
from libc.stdint cimport uint32_t, uint64_t

cdef class Pool(DrivenPool):
    cdef int prepare(self, uint64_t cache_bytes, uint32_t flags) except -1
    cdef int recover(self, uint64_t cache_bytes) except -1
    cdef int reopen(self, bytes raw) except -1
    cdef int super_write(self) except -1
    cdef int names_load(self) except -1
    cdef int keys_load(self, list slots) except -1
    cdef int kv_apply(self, bytes key, object value) except -1
    cdef object pop(self)
    cdef object finished(self, lnt_admin *a)
