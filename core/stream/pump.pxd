# What both pumps are: a thread's part in the engine, and the object that it reads or writes.
from core.base.types cimport lnt_obj
from core.pool.engine cimport Pool
from core.stream.worker cimport lnt_worker
from libc.stdint cimport uint64_t

cdef class Pump:
    cdef lnt_worker w
    cdef Pool pool
    cdef lnt_obj *obj

    cdef int choose(self, uint64_t object_id, str gone) except -1
    cdef int let_go(self) except -1
    cdef int check(self, str what) except -1
