# How much discards may take from the initiators (docs/space.md, "Space goes back").
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t

cdef void budget_hurry(lnt_pool *p) noexcept nogil
cdef bint budget_hurries(lnt_pool *p) noexcept nogil
cdef bint budget_beside(lnt_pool *p) noexcept nogil
cdef void budget_took(lnt_pool *p, uint64_t blocks, uint64_t took_us) noexcept nogil
cdef uint32_t budget_blocks(lnt_pool *p) noexcept nogil
cdef bint budget_allows(lnt_pool *p, uint32_t in_flight) noexcept nogil
cdef uint64_t budget_due(lnt_pool *p, uint32_t in_flight) noexcept nogil

cdef inline void budget_request(lnt_pool *p, bint changes) noexcept nogil:
    """An initiator has sent a command."""
    p.budget.requests += 1
    p.budget.changes += changes
    p.budget.cached += p.current_device != NULL and p.current_device.cached != 0
