# What every op waits for: an epoch, its place in line, room in cache and journal (docs/concurrency.md, I5, I14).
from core.base.object cimport lnt_object
from core.base.pool cimport lnt_pool, op_state
from core.base.types cimport lnt_op
from core.ops.ranges cimport range_let_in
from libc.stdint cimport uint64_t

cdef void epoch_enter(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void epoch_exit(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void wait_grace(lnt_pool *p, lnt_op *op, uint64_t target) noexcept nogil
cdef uint64_t unpublished(lnt_pool *p) noexcept nogil
cdef int memory_ready(lnt_pool *p) noexcept nogil
cdef int write_book(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void write_unbook(lnt_pool *p, lnt_op *op) noexcept nogil
cdef int wait_room(lnt_pool *p, lnt_op *op) noexcept nogil

cdef inline int waits_for_range(lnt_pool *p, lnt_op *op) noexcept nogil:
    """1: the op waits for its place in line. A part of another op goes on: the other stands for both."""
    return not op_state(op).internal and range_let_in(p, &op_state(op).place, <lnt_object *>op.obj, op)
