# UNMAP, SYNC and COMPARE AND WRITE, and the door through which every data op runs.
from core._state cimport lnt_pool
from core._types cimport lnt_op

cdef void data_run(lnt_pool *p, lnt_op *op) noexcept nogil
