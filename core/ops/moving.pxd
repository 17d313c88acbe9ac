# OP_MOVE: what lies scattered in a region is put into one run.
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op

cdef void move_run(lnt_pool *p, lnt_op *op) noexcept nogil
