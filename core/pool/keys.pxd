# The store of keys as Python sees it: which slots of the catalog a change writes.
from core.base.operation cimport lnt_admin
from core.pool.state cimport PoolState
from libc.stdint cimport uint64_t

cdef int keys_attach(PoolState pool, lnt_admin *a, dict changes, bytes records) except -1
cdef dict keys_with(PoolState pool, object keys, list numbers)
cdef int kv_begin(PoolState pool, uint64_t token, dict changes, bytes records) except -1
cdef int kv_finish(PoolState pool, dict outcome, bint ok) except -1
cdef bytes kv_records(dict changes)
cdef int unbegin(PoolState pool) except -1
