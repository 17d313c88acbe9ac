# COMPARE AND WRITE and WRITE ATOMIC: alone in their range, then read, compared and written (SBC-4 §5.3, §5.47).
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op

cdef void locked_run(lnt_pool *p, lnt_op *op) noexcept nogil
