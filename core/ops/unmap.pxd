# UNMAP: whole blocks leave the map, a slice a turn; what is left of a block is written with zeros (SBC-4 §5.35).
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op

cdef void unmap_run(lnt_pool *p, lnt_op *op) noexcept nogil
