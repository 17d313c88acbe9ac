"""The pending list of a checkpoint: what is to come off the counts, and what a crash frees.

It holds all dropped references and all blocks of writes in flight (I10; docs/on-disk-format.md, "Item of the pending list").
Lives here and nowhere else: its items.
"""
from core.base.check cimport lnt_assert
from core.base.dropped cimport DROPPED_DATA, DROPPED_NODE, lnt_dropped, lnt_dropped_ring, ring_at
from core.base.layout cimport (
    L_BLOCK_BYTES, L_PAGE_HEADER_BYTES, L_PENDING_ITEMS, L_PENDING_ITEM_BYTES, PI_BLOCK, PI_KIND, PI_LENGTH, PK_PENDING,
)
from core.base.mutations cimport M_NO_INFLIGHT
from core.base.native cimport lnt_put_le32, lnt_put_le64
from core.base.operation cimport lnt_piece
from core.pages.format cimport page_seal
from libc.stdint cimport uint64_t, uint8_t
from libc.string cimport memset


cdef void pending_put(lnt_pool *p, uint64_t ref, uint32_t length, uint32_t kind, uint32_t *count, uint32_t cap) noexcept nogil:
    cdef uint8_t *at
    if count[0] < cap:
        at = (p.checkpoint.pending + (count[0] // L_PENDING_ITEMS) * L_BLOCK_BYTES + L_PAGE_HEADER_BYTES
              + count[0] % L_PENDING_ITEMS * L_PENDING_ITEM_BYTES)
        lnt_put_le64(at + PI_BLOCK, ref)
        lnt_put_le32(at + PI_LENGTH, length)
        lnt_put_le32(at + PI_KIND, kind)
    count[0] += 1


cdef void pending_ring(lnt_pool *p, lnt_dropped_ring *r, uint32_t *count, uint32_t cap) noexcept nogil:
    cdef uint64_t i
    cdef lnt_dropped *it
    for i in range(r.head, r.tail):
        it = ring_at(r, i)
        if it.kind == DROPPED_NODE:
            pending_put(p, it.ref, it.level, DROPPED_NODE, count, cap)
        else:
            pending_put(p, it.ref, it.blocks, DROPPED_DATA, count, cap)


cdef void pending_homes(lnt_pool *p, uint32_t *count, uint32_t cap) noexcept nogil:
    """Blocks at hand for nodes that move."""
    cdef uint64_t i
    for i in range(p.homes.head, p.homes.tail):
        pending_put(p, p.homes.spare[i], 1, DROPPED_DATA, count, cap)
    for i in range(p.homes.n_left):
        pending_put(p, p.homes.left[i].id, 1, DROPPED_DATA, count, cap)


cdef uint32_t pending_store(lnt_pool *p, uint32_t cap) noexcept nogil:
    """All dropped references and all blocks of writes in flight; returns how many items there are."""
    cdef uint32_t n = 0
    cdef lnt_piece *a = p.pieces
    pending_ring(p, &p.dropped_waiting, &n, cap)
    pending_ring(p, &p.dropped_homes, &n, cap)
    pending_homes(p, &n, cap)
    pending_ring(p, &p.dropped_ready, &n, cap)
    pending_ring(p, &p.damage.aside, &n, cap)
    while a != NULL:
        if a.n and not a.mapped and not p.mutations & M_NO_INFLIGHT:
            pending_put(p, a.pba, a.n, DROPPED_DATA, &n, cap)
        a = a.flight_next
    return n


cdef uint32_t pending_pages(lnt_pool *p) noexcept nogil:
    """How many it takes now."""
    return (pending_store(p, 0) + L_PENDING_ITEMS - 1) // L_PENDING_ITEMS


cdef void pending_freeze(lnt_pool *p) noexcept nogil:
    """The list of this instant, in its pages."""
    cdef uint32_t i, stored, n = pending_store(p, 0)
    memset(p.checkpoint.pending, 0, <uint64_t>p.checkpoint.n_pending * L_BLOCK_BYTES)
    stored = pending_store(p, n)
    lnt_assert(stored == n, "I10: the pending list holds every block of writes under way")
    for i in range(p.checkpoint.n_pending):
        page_seal(p, p.checkpoint.pending + <uint64_t>i * L_BLOCK_BYTES, PK_PENDING, 0,
                  n - i * L_PENDING_ITEMS if n - i * L_PENDING_ITEMS < L_PENDING_ITEMS else L_PENDING_ITEMS, i,
                  p.checkpoint.generation + 1)
