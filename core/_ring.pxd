# A ring of items (dropped references that wait) that grows as it must.
from core._state cimport item, item_ring
from libc.stdint cimport uint64_t
from libc.stdlib cimport abort, free, malloc

cdef enum:
    RING_ITEMS = 1024             # to begin with; always a power of two

cdef inline void ring_push(item_ring *r, item *it) noexcept nogil:
    cdef item *v
    cdef uint64_t i, cap
    if r.tail - r.head == r.cap:
        cap = r.cap * 2 if r.cap else RING_ITEMS
        v = <item *>malloc(cap * sizeof(item))
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
