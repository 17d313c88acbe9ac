# Rings of dropped references. What each of the pool's rings waits for: core/space/dropped.
from core.base.memory cimport mem_new
from core.base.page cimport lnt_dirty
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport abort, free

# References dropped and not yet taken off the counts.
cdef enum dropped_kind:
    DROPPED_DATA = 1
    DROPPED_NODE = 2
    DROPPED_HOME = 3          # a node's block that the last checkpoint still uses

cdef struct lnt_dropped:
    uint64_t ref
    uint64_t seq              # the journal frame that holds the change
    uint64_t epoch            # I/O of this epoch may still touch the block (DROPPED_HOME: checkpoint generation)
    uint32_t blocks           # of a node 1
    uint8_t level             # of a node
    uint8_t kind
    uint8_t trim              # give the space back to the medium before reuse

cdef struct lnt_dropped_ring:
    lnt_dropped *items
    uint64_t head
    uint64_t tail
    uint64_t capacity         # power of two

cdef struct lnt_homes:        # core/space/homes.pyx
    uint64_t *spare           # blocks at hand, in the order in which a sweep over the medium comes by: from head on, before tail
    uint64_t head
    uint64_t tail
    uint64_t spare_room       # of the array
    uint64_t sweep            # behind the one that was taken last
    lnt_dirty *left           # those that are not in order yet (without a page)
    uint64_t n_left
    uint64_t left_room
    uint64_t asked            # for so many since the last checkpoint became durable ...
    uint64_t asked_before     # ... and from the one before it to that
    uint64_t kept             # so many may be here

cdef enum:
    RING_ITEMS = 1024         # to begin with; always a power of two
    STEP_DROPS = 2048         # references that one step of an op, or of a record in replay, drops at most

cdef inline uint64_t ring_count(const lnt_dropped_ring *r) noexcept nogil:
    return r.tail - r.head

cdef inline lnt_dropped *ring_at(const lnt_dropped_ring *r, uint64_t place) noexcept nogil:
    return &r.items[place & (r.capacity - 1)]

cdef inline lnt_dropped *ring_oldest(const lnt_dropped_ring *r) noexcept nogil:
    return ring_at(r, r.head)

cdef inline lnt_dropped *ring_newest(const lnt_dropped_ring *r) noexcept nogil:
    return ring_at(r, r.tail - 1)

cdef inline int ring_ready(lnt_dropped_ring *r, uint64_t more) noexcept nogil:
    """1 when so many items more have their place: asked before a change drops references, since none may be lost."""
    cdef lnt_dropped *items
    cdef uint64_t i, cap = r.capacity if r.capacity else RING_ITEMS
    while ring_count(r) + more > cap:
        cap *= 2
    if cap == r.capacity:
        return 1
    items = <lnt_dropped *>mem_new(cap * sizeof(lnt_dropped))
    if items == NULL:
        return 0
    for i in range(ring_count(r)):
        items[i] = ring_at(r, r.head + i)[0]
    free(r.items)
    r.items = items
    r.tail -= r.head
    r.head = 0
    r.capacity = cap
    return 1

cdef inline void ring_push(lnt_dropped_ring *r, const lnt_dropped *it) noexcept nogil:
    if ring_count(r) == r.capacity and not ring_ready(r, 1):
        abort()                   # unreachable: `ring_ready` was asked; what is on the medium stays as it is
    ring_at(r, r.tail)[0] = it[0]
    r.tail += 1
