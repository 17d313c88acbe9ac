# Dropped references in rings. Which ring may be written by whom: core/base/pool.pxd.
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport abort, free, malloc

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

cdef inline void ring_push(lnt_dropped_ring *r, lnt_dropped *it) noexcept nogil:
    cdef lnt_dropped *v
    cdef uint64_t i, cap
    if r.tail - r.head == r.cap:
        cap = r.cap * 2 if r.cap else RING_ITEMS
        v = <lnt_dropped *>malloc(cap * sizeof(lnt_dropped))
        if v == NULL:
            abort()               # a reference would be lost; what is on the medium stays as it is
        for i in range(r.tail - r.head):
            v[i] = r.v[(r.head + i) & (r.cap - 1)]
        free(r.v)
        r.v = v
        r.tail -= r.head
        r.head = 0
        r.cap = cap
    r.v[r.tail & (r.cap - 1)] = it[0]
    r.tail += 1
