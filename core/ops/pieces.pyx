"""WRITE ATOMIC: all pieces of a write change the map in one step and are one journal frame (SBC-4 §4.29; docs/durability.md).

Everything that the change may have to wait for, or that may refuse it, is touched or asked before its first part.
"""
from core._blkmap cimport map_find, map_insert, path_own
from core.base.entries cimport E_EXCL
from core.base.extent cimport lnt_extent
from core.base.mutations cimport M_ATOMIC_SPACE, M_ATOMIC_STAYS, M_SPLIT_ATOMIC
from core.base.page cimport lnt_page
from core.base.trace cimport PF_HALF, pool_fail
from core.base.types cimport ST_IO_WRITE, ST_MEMORY, ST_NO_SPACE
from core.log.journal cimport frame_close, frames_ready, journal_reserve
from core.log.records cimport map_record_bytes, record_map
from core.nodes cimport NODES_KEPT
from core.pages.cache cimport cache_ready
from core.pages.checksums cimport csum_put, csum_touch
from core.space.allocation cimport space_for_nodes
from libc.stdint cimport uint32_t


cdef int piece_ready(lnt_pool *p, lnt_waiter *who, lnt_object *o, lnt_piece *a, uint8_t verify) noexcept nogil:
    """Own the leaf that a piece goes to. 0, WAIT, a status, MERGE_AGAIN or PLAN_AGAIN."""
    cdef lnt_extent e
    cdef lnt_page *leaf
    cdef int rc
    if a.partial:
        rc = map_find(p, who, o, a.lba, 1, 0, &e)
        if rc:
            return rc
        if e.pba and p.epoch < o.settle_epoch:
            return PLAN_AGAIN     # what became shared meanwhile may still be written in place by its other owner (I8)
        if e.entry != a.source:
            a.source = e.entry
            return MERGE_AGAIN
    rc = csum_touch(p, who, a.pba, a.n) if verify else 0
    if rc == ST_MEMORY:
        return rc
    if rc > 0 and not p.mutations & M_ATOMIC_STAYS:
        return PLAN_AGAIN
    if rc == 0:
        rc = path_own(p, who, o, a.lba, 0, &leaf, NULL)
    return rc


cdef int pieces_insert(lnt_pool *p, lnt_waiter *who, lnt_object *o, lnt_piece **first, uint8_t verify) noexcept nogil:
    """Enter a row of pieces. 0, or nothing was changed: WAIT, a status, PLAN_AGAIN, or MERGE_AGAIN with `first` at it."""
    cdef lnt_piece *a = first[0]
    cdef uint32_t total = 0, count = 0
    cdef uint32_t[512] sums
    cdef int rc
    while a != NULL:
        rc = piece_ready(p, who, o, a, verify)
        if rc:
            if rc == MERGE_AGAIN:
                first[0] = a
            return rc
        total += map_record_bytes(a.n, verify)
        count += 1
        a = a.next
    # A leaf that merges on the way is split again by the next piece.
    if space_for_nodes(p) <= NODES_KEPT + count and not p.mutations & M_ATOMIC_SPACE:
        return ST_NO_SPACE
    if not cache_ready(p, count):
        return ST_MEMORY
    journal_reserve(p, total)
    a = first[0]
    while a != NULL:
        if map_insert(p, who, o, a.lba, a.pba, a.n, E_EXCL()):
            pool_fail(p, PF_HALF, a.lba)     # unreachable: all of it was touched; never go on with half of it
            return ST_IO_WRITE
        if verify:
            csum_put(p, a.pba, a.n, a.bounce if a.partial else a.src, sums)
        record_map(p, o.pub.id, a.lba, a.pba, a.n, sums if verify else NULL)
        if p.mutations & M_SPLIT_ATOMIC:
            frame_close(p, 0)
            frames_ready(p)           # nobody else needs more than one step is given
        a = a.next
    return 0
