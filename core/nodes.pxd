# Nodes of the map in memory (docs/concurrency.md, I1 to I3).
from core.base.entries cimport E_EXCL, WAIT
from core.base.operation cimport lnt_waiter
from core.base.page cimport lnt_page
from core.base.pool cimport lnt_pool
from core.space.counts cimport count_is_one
from libc.stdint cimport uint64_t, uint8_t

cdef enum:
    NODES_KEPT = 8        # free blocks that no new node takes

cdef inline uint64_t *entries(lnt_page *f) noexcept nogil:
    return <uint64_t *>f.data


cdef inline int hint_exclusive(lnt_pool *p, lnt_waiter *who, uint64_t *v, int n, uint64_t reference) noexcept nogil:
    """Look the counts of n blocks up, whose numbers are the entries' `reference` bits, and remember which are the object's alone.

    From the first count that cannot be read on, nothing is claimed: what may be shared is written elsewhere. 0 or WAIT.
    """
    cdef int i, rc = 0
    for i in range(n):
        if not v[i] & E_EXCL() and count_is_one(p, who, v[i] & reference, 1, &rc):
            v[i] |= E_EXCL()
        if rc:
            return rc if rc == WAIT else 0
    return 0


cdef inline int alike(const uint64_t *v, int n) noexcept nogil:
    """How many of the n entries are exclusive, or not, as the first one is."""
    cdef int i = 1
    while i < n and (v[i] ^ v[0]) & E_EXCL() == 0:
        i += 1
    return i


cdef lnt_page *node_get(lnt_pool *p, lnt_waiter *who, uint64_t id, uint8_t level, int *rc) noexcept nogil
cdef lnt_page *node_new(lnt_pool *p, uint8_t kind, uint8_t level, int *rc) noexcept nogil
cdef lnt_page *shadow(lnt_pool *p, lnt_waiter *who, lnt_page *f, int *rc) noexcept nogil
cdef void leaf_dirty(lnt_pool *p, lnt_page *above, int above_idx, lnt_page *up, int idx, lnt_page *leaf) noexcept nogil
