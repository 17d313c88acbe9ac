# The data operations by kind, and SYNCHRONIZE CACHE.
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op

cdef void data_run(lnt_pool *p, lnt_op *op) noexcept nogil
