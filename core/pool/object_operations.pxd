# Operations on objects as Python starts them: arguments checked, names and memory taken, names given when it is over.
from core.base.operation cimport lnt_admin
from core.pool.state cimport PoolState
from core.pool.submission cimport Outcome

cdef object change(PoolState pool, info, dict args, Outcome outcome)
cdef int disclaim(PoolState pool, list slots) except -1
cdef int keys_beside(PoolState pool, lnt_admin *a, object keys, list slots) except -1
cdef int new_objects(PoolState pool, lnt_admin *a, list slots) except -1
cdef int shrinks_resume(PoolState pool) except -1
cdef bytes slot_of(PoolState pool, str kind, str name, dict args)
