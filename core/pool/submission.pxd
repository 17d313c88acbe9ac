# The memory of an operation that Python starts: made, handed to the engine, freed; and what its end means.
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_admin
from core.pool.state cimport PoolState
from libc.stdint cimport uint8_t

cdef class Outcome:
    cdef object value(self, PoolState pool, lnt_admin *a, str code)

cdef class Untold(Outcome):
    pass
cdef void admin_free(PoolState pool, lnt_admin *a)
cdef lnt_admin *admin_new(PoolState pool, uint8_t kind) except NULL
cdef lnt_admin *admin_on(PoolState pool, uint8_t kind, object_id, other_id=*) except NULL
cdef lnt_object *handle(PoolState pool, object_id) except NULL
cdef void *memory_for(size_t size_bytes) except NULL
cdef object out_of_memory()
cdef object submit(PoolState pool, lnt_admin *a, Outcome outcome)
