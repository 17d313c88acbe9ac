# Dropped references in rings. Which ring may be written by whom: core/base/pool.pxd.
from core.base.memory cimport mem_new
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport abort, free

# References dropped and not yet taken off the counts.
cdef enum item_kind:
    I_DATA = 1
    I_NODE = 2
    I_HOME = 3                # a node's block that the last checkpoint still uses

cdef struct lnt_dropped:
    uint64_t ref
    uint64_t seq              # the journal frame that holds the change
    uint64_t epoch            # I/O of this epoch may still touch the block (I_HOME: checkpoint generation)
    uint32_t n
    uint8_t kind
    uint8_t trim              # give the space back to the medium before reuse

cdef struct lnt_dropped_ring:
    lnt_dropped *v
    uint64_t head
    uint64_t tail
    uint64_t cap              # power of two

cdef enum:
    RING_ITEMS = 1024             # to begin with; always a power of two
    STEP_DROPS = 2048             # references that one step of an op, or of a record in replay, drops at most

cdef inline int ring_ready(lnt_dropped_ring *r, uint64_t more) noexcept nogil:
    """1 when so many items more have their place: asked before a change drops references, since none may be lost."""
    cdef lnt_dropped *v
    cdef uint64_t i, cap = r.cap if r.cap else RING_ITEMS
    while r.tail - r.head + more > cap:
        cap *= 2
    if cap == r.cap:
        return 1
    v = <lnt_dropped *>mem_new(cap * sizeof(lnt_dropped))
    if v == NULL:
        return 0
    for i in range(r.tail - r.head):
        v[i] = r.v[(r.head + i) & (r.cap - 1)]
    free(r.v)
    r.v = v
    r.tail -= r.head
    r.head = 0
    r.cap = cap
    return 1

cdef inline void ring_push(lnt_dropped_ring *r, lnt_dropped *it) noexcept nogil:
    if r.tail - r.head == r.cap and not ring_ready(r, 1):
        abort()                   # unreachable: `ring_ready` was asked; what is on the medium stays as it is
    r.v[r.tail & (r.cap - 1)] = it[0]
    r.tail += 1
