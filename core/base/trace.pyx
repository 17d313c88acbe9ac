"""The engine's memory of notable moments: a small ring of events, and the one way in which a pool becomes read-only for good.

A limit (space, counts, memory) never ends here: it is the error of the operation that met it (docs/durability.md, "Failures").
"""
from core.base.pool cimport TRACE_EVENTS, lnt_trace_entry

cdef enum:
    MEMORY_RETRY_US = 10000


cdef void trace_add(lnt_pool *p, int event, uint64_t a, uint64_t b) noexcept nogil:
    """Note an event; the same one again is counted, so that what repeats does not push out what was before."""
    cdef lnt_trace_entry *e = &p.trace[(p.traced - 1) % TRACE_EVENTS]
    if p.traced == 0 or e.event != event or e.a != a:
        e = &p.trace[p.traced % TRACE_EVENTS]
        p.traced += 1
        e.event = event
        e.a = a
        e.times = 0
    e.b = b
    e.times += 1
    e.at_us = p.now_us


cdef void memory_short(lnt_pool *p) noexcept nogil:
    """Work in the background did not get the memory that it needs: it keeps what it has, and tries again soon."""
    trace_add(p, TE_NO_MEMORY, 0, 0)
    p.memory_retry_us = p.now_us + MEMORY_RETRY_US
    if p.background_device != NULL and p.background_device != p.current_device:
        p.background_device.wake(p.background_device)


cdef void memory_again(lnt_pool *p) noexcept nogil:
    """A turn begins: it tries what had no memory, and says so when there is still none."""
    p.memory_retry_us = 0


cdef void pool_fail(lnt_pool *p, int reason, uint64_t detail) noexcept nogil:
    """A sync failed or metadata is damaged beyond one op: nothing may be acknowledged as durable from here on.

    `detail`: an errno or a block, as the reason has it. What failed first is what is told.
    """
    if p.failed:
        return
    p.failed = reason
    p.fail_detail = detail
    trace_add(p, TE_FAILED, reason, detail)
