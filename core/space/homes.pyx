"""Blocks at hand for nodes that leave their homes (docs/decisions/0018): homes that others have left, and some more.

They have been homes, or were chosen as such: counted once, in every pending list, and allocated below (I16). A node may leave
without waiting for anything, and the counts do not change. Lives here and nowhere else: how many are kept, and in which order
they are taken.
"""
from core.base.dropped cimport DROPPED_DATA, lnt_dropped, ring_count
from core.base.memory cimport mem_new, mem_widen
from core.base.page cimport lnt_dirty
from core.pages.dirty cimport dirty_sort
from core.space.allocation cimport space_for_data, space_for_nodes
from libc.stdlib cimport free
from libc.string cimport memmove, memset

cdef enum:
    ROUNDS = 4                # kept for so many checkpoints: one sweep over them all finds most of a run free again
    AREAS_MOST = 2            # but no more than so many area halves have blocks
    SCARCE_PART = 4           # of what is kept back: with less free space than so many of it none is kept here ...
    AMPLE_PART = 8            # ... and with less than so many none is added
    ROOM = 1024               # of the arrays, to begin with


# -- how many --------------------------------------------------------------------------------------------------------------


cdef inline uint64_t wanted(lnt_pool *p) noexcept nogil:
    """So many shall be at hand, or on the way, by what was asked for of late. A pending list has room for them (`bookable`)."""
    return min(ROUNDS * max(p.homes.asked, p.homes.asked_before), AREAS_MOST * <uint64_t>p.checkpoint.area_blocks)


cdef int homes_at_hand(lnt_pool *p, uint64_t n) noexcept nogil:
    """1 when so many are. Asked before each node that would leave: who gets none now may later."""
    if p.replaying:
        return 0              # the area holds all that a recovery makes dirty, and no home is chosen before its checkpoint
    p.homes.asked += n
    return p.homes.tail - p.homes.head >= n


cdef int homes_short(lnt_pool *p) noexcept nogil:
    """1 when another one shall be chosen, and there is memory to keep it: space is ample, too."""
    cdef uint64_t have = homes_count(p) + ring_count(&p.dropped_homes)
    if have >= wanted(p):
        return 0
    if space_for_nodes(p) < p.cache.dirty_stop + p.reserve_blocks // 2 or space_for_data(p) < AMPLE_PART * p.reserve_blocks:
        return 0
    p.homes.kept = max(p.homes.kept, wanted(p))
    return left_ready(p)


cdef void homes_round(lnt_pool *p) noexcept nogil:
    """A checkpoint is durable: what was asked for until now says how many are kept until the next."""
    p.homes.kept = wanted(p)
    p.homes.asked_before = p.homes.asked
    p.homes.asked = 0


# -- which ---------------------------------------------------------------------------------------------------------------------


cdef inline uint64_t ahead(lnt_pool *p, uint64_t home) noexcept nogil:
    """So many blocks of the medium ahead of the sweep, which begins again at its end."""
    return home - p.homes.sweep if home >= p.homes.sweep else home + p.total_blocks - p.homes.sweep


cdef uint64_t home_take(lnt_pool *p) noexcept nogil:
    """The next one that is at hand; its reference becomes the node's."""
    cdef uint64_t home = p.homes.spare[p.homes.head]
    p.homes.head += 1
    p.homes.sweep = home + 1
    return home


cdef int left_ready(lnt_pool *p) noexcept nogil:
    """1 when there is a place for another one that is not in order yet."""
    cdef uint64_t room = 2 * p.homes.left_room if p.homes.left_room else ROOM
    if p.homes.n_left < p.homes.left_room:
        return 1
    if not mem_widen(<void **>&p.homes.left, room * sizeof(lnt_dirty)):
        return 0
    p.homes.left_room = room
    return 1


cdef void home_add(lnt_pool *p, uint64_t home) noexcept nogil:
    """One was chosen (`homes_short`); it is at hand when the checkpoint is durable."""
    p.homes.left[p.homes.n_left].id = home
    p.homes.left[p.homes.n_left].f = NULL
    p.homes.n_left += 1


cdef int home_keep(lnt_pool *p, const lnt_dropped *it) noexcept nogil:
    """A home that a node has left is free now. 1: it is kept for another, once they are put in order."""
    if homes_count(p) >= p.homes.kept or not left_ready(p):
        return 0
    home_add(p, it.ref)
    return 1


cdef int spare_ready(lnt_pool *p, uint64_t more) noexcept nogil:
    """1 when so many more have their place in the array, behind those that are there, which begin at its begin."""
    cdef uint64_t n = p.homes.tail - p.homes.head, room = p.homes.spare_room if p.homes.spare_room else ROOM
    while room < n + more:
        room *= 2
    if room != p.homes.spare_room:
        if not mem_widen(<void **>&p.homes.spare, room * sizeof(uint64_t)):
            return 0
        p.homes.spare_room = room
    memmove(p.homes.spare, p.homes.spare + p.homes.head, n * sizeof(uint64_t))
    p.homes.head = 0
    p.homes.tail = n
    return 1


cdef void homes_order(lnt_pool *p) noexcept nogil:
    """Put those that have come among the others. Without memory for it they wait for the next time.

    They are taken in one sweep over the medium, so what a checkpoint writes lies together: a run that the sweep comes back to has
    been left by nearly all that was there.
    """
    cdef uint64_t i, n = p.homes.n_left, at
    cdef lnt_dirty *others
    if n == 0:
        return
    others = <lnt_dirty *>mem_new(n * sizeof(lnt_dirty))
    if others == NULL or not spare_ready(p, n):
        free(others)
        return
    for i in range(n):
        p.homes.left[i].id = ahead(p, p.homes.left[i].id)
    dirty_sort(p.homes.left, others, n, p.total_blocks)
    free(others)
    i = p.homes.tail
    at = p.homes.tail + n
    p.homes.tail = at
    while n:                              # from the last on, so that none is overwritten
        at -= 1
        if i and ahead(p, p.homes.spare[i - 1]) > p.homes.left[n - 1].id:
            i -= 1
            p.homes.spare[at] = p.homes.spare[i]
        else:
            n -= 1
            p.homes.spare[at] = (p.homes.sweep + p.homes.left[n].id) % p.total_blocks
    p.homes.n_left = 0


# -- back ----------------------------------------------------------------------------------------------------------------------


cdef int home_spared(lnt_pool *p, lnt_dropped *it) noexcept nogil:
    """Take one that is not to be kept any more, of those whose turn is the last. 0: there is none."""
    if homes_count(p) == 0 or homes_count(p) <= p.homes.kept and space_for_data(p) >= SCARCE_PART * p.reserve_blocks:
        return 0
    memset(it, 0, sizeof(lnt_dropped))
    it.blocks = 1
    it.kind = DROPPED_DATA
    if p.homes.n_left:
        p.homes.n_left -= 1
        it.ref = p.homes.left[p.homes.n_left].id
    else:
        p.homes.tail -= 1
        it.ref = p.homes.spare[p.homes.tail]
    return 1


cdef void homes_free(lnt_pool *p) noexcept nogil:
    """The pool is closed."""
    free(p.homes.spare)
    free(p.homes.left)
