"""Where the new blocks of a write go, and whether there may be any (docs/architecture.md, "Where blocks go").

Lives here and nowhere else: the goals of regions that are being filled.
"""
from core._blkmap cimport map_filled, map_find, map_goal
from core.base.hash cimport hash_slot
from core.base.layout cimport L_BLOCK_BYTES, L_RUN_BLOCKS, OB_QUOTA_BYTES
from core.base.native cimport lnt_get_le64
from core.base.regions cimport in_region, region_key, region_left
from core.base.space cimport GOAL_BITS, lnt_goal
from core.base.types cimport ST_NO_SPACE
from core.space.allocation cimport alloc_arrival, alloc_exact, alloc_extent, alloc_whole, space_beyond, space_for_data
from core.space.marks cimport marks_press, marks_took
from core.sparse cimport is_wide

cdef enum:
    FILLED_LEAST = 104            # blocks of a region that is being overwritten, from where on it is looked at ...
    FILLED_STEP = 26              # ... each time so many more are
    SPARSE_PART = 8               # a region is sparse while less than this part of it is mapped


cdef inline lnt_goal *goal_of(lnt_pool *p, uint64_t key) noexcept nogil:
    return &p.goals[hash_slot(key, GOAL_BITS)]


cdef int space_check(lnt_pool *p, lnt_object *o, uint64_t blocks, int is_new) noexcept nogil:
    """0 when the object may take so many more blocks: pool, other objects' reservations, and its quota.

    What is reserved may take half of what is kept back, too: nodes that others needed may have taken of its space.
    """
    cdef uint64_t space = space_for_data(p)
    cdef uint64_t quota = lnt_get_le64(o.slot_image + OB_QUOTA_BYTES)
    if o.reserved_now and is_new:
        space = space_beyond(p, p.reserve_blocks // 2)
    if p.medium.is_short:
        return ST_NO_SPACE
    if space + o.reserved_now < blocks + p.reserved_unused or space < blocks:
        return ST_NO_SPACE
    if quota and is_new and (o.mapped_blocks + o.inflight_blocks + blocks) * L_BLOCK_BYTES > quota:
        return ST_NO_SPACE
    return 0


cdef inline bint streams(lnt_pool *p, lnt_object *o, uint64_t lba) noexcept nogil:
    """What was written last to this region, or at its start to the one before, ended at lba."""
    cdef uint64_t key = region_key(o, lba if in_region(lba) else lba - 1)
    cdef lnt_goal *g = goal_of(p, key)
    return lba and g.key == key and g.following == lba


cdef int choose_arrival(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t want, uint64_t *pba,
                        uint32_t *got) noexcept nogil:
    """New blocks in order of arrival, for a small write to a region that is sparse; got is 0 where it is not.

    Places of their own would cost such writes a page of counts and, on a file, a search of the file system for each.
    """
    cdef uint64_t key = region_key(o, lba)
    cdef lnt_goal *g = goal_of(p, key)
    cdef uint32_t filled
    cdef int rc
    got[0] = 0
    if g.key == key and g.base or streams(p, o, lba):
        return 0                      # the region is being filled
    rc = map_filled(p, who, o, lba, &filled)
    if rc or filled >= L_RUN_BLOCKS // SPARSE_PART:
        return rc
    rc = alloc_arrival(p, who, want, pba, got)
    if rc == 0:
        g.key = key
        g.base = 0
        g.following = lba + got[0]
    return rc


cdef int choose_blocks(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t want, bint is_new, uint64_t *pba,
                       uint32_t *got) noexcept nogil:
    """New blocks for lba: next to what its region already has, or in order of arrival while that is next to nothing.

    A small overwrite that is no part of a stream takes what the medium still keeps, where there is much of it: a schedule of
    snapshots would else use a new part of a sparse medium for each, faster than holes can be punched.
    """
    cdef uint64_t key = region_key(o, lba)
    cdef lnt_goal *g = goal_of(p, key)
    cdef uint64_t target = 0
    cdef bint filling = g.key == key and g.base
    cdef bint small = not is_new and want < SMALL_BLOCKS and not (filling and g.following == lba)
    cdef bint thrifty = small and marks_press(p)
    cdef bint wide = is_wide(p, o)
    cdef int rc
    if want < SMALL_BLOCKS and not thrifty and wide:
        rc = choose_arrival(p, who, o, lba, want, pba, got)
        if rc or got[0]:
            return rc
    if filling:
        target = g.base + in_region(lba)
    else:
        rc = map_goal(p, who, o, lba, wide, &target)
        if rc:
            return rc
    rc = alloc_extent(p, who, target, in_region(lba), want, thrifty, pba, got)
    if rc == 0 and small:
        marks_took(p, got[0])
    if rc == 0 and pba[0] >= in_region(lba) and not (thrifty and g.key == key):
        if g.key != key or g.base != pba[0] - in_region(lba):
            g.filled = 0
        g.key = key
        g.base = pba[0] - in_region(lba)
    if rc == 0 and g.key == key:
        g.following = lba + got[0]
    return rc


cdef int moves(lnt_pool *p, lnt_waiter *who, lnt_object *o, const lnt_extent *first, uint64_t lba, uint64_t want,
               uint32_t *n) noexcept nogil:
    """How many blocks from lba on a write of `want` sends to a run of their own: 0, or all that it covers of the region.

    A stream does so where what it writes over is this object's alone and lies scattered, and there is space to spare: it
    costs nothing that a first write does not, and the region becomes one run again. `first` is the extent at lba.
    """
    cdef lnt_extent e
    cdef uint32_t pieces = 1
    cdef uint64_t at, end
    cdef int rc
    n[0] = 0
    if want > region_left(lba):
        want = region_left(lba)
    end = lba + want
    at = lba + first.n
    if (want < SMALL_BLOCKS or at >= end or not runs_to_spare(p)
            or space_for_data(p) < want + 4 * p.reserve_blocks or space_check(p, o, want, 0)):
        return 0
    while at < end:
        rc = map_find(p, who, o, at, end - at, 1, &e)
        if rc:
            return rc
        if not e.exclusive:
            return 0
        pieces += 1
        at += e.n
    if pieces > FEW_PIECES + want // PIECE_BLOCKS:
        n[0] = <uint32_t>want
    return 0


cdef bint region_fills(lnt_pool *p, lnt_object *o, uint64_t lba, uint32_t n) noexcept nogil:
    """So many blocks from lba on went to the region's own run instead of shared ones. True when it is time to look at it."""
    cdef uint64_t key = region_key(o, lba)
    cdef lnt_goal *g = goal_of(p, key)
    cdef uint32_t before = g.filled
    if g.key != key or not g.base:
        return False
    g.filled += n
    return g.filled >= FILLED_LEAST and before // FILLED_STEP != g.filled // FILLED_STEP


cdef int choose_place(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t want, uint64_t *base, uint64_t *pba,
                      uint32_t *got) noexcept nogil:
    """All of `want` blocks at their places in the run at `base`; 0: in a free one, which becomes it.

    got is 0 where they are not free.
    """
    cdef lnt_goal *g = goal_of(p, region_key(o, lba))
    cdef int rc
    if base[0]:
        pba[0] = base[0] + in_region(lba)
        rc = alloc_exact(p, who, pba[0], want, got)
    else:
        rc = alloc_whole(p, who, 0, in_region(lba), want, pba, got)
    if rc == 0 and got[0]:
        base[0] = pba[0] - in_region(lba)
        p.stat_moved += got[0]
        g.key = region_key(o, lba)    # what is written there next belongs there, too
        g.base = base[0]
        g.following = 0
        g.filled = 0
    return rc


cdef int choose_run(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t want, uint64_t *pba,
                    uint32_t *got) noexcept nogil:
    """All of `want` blocks in the run that the region is being moved to, or in a free one; got is 0 where that cannot be."""
    cdef uint64_t key = region_key(o, lba)
    cdef lnt_goal *g = goal_of(p, key)
    cdef int rc = alloc_whole(p, who, g.base + in_region(lba) if g.key == key else 0, in_region(lba), want, pba, got)
    if rc == 0 and got[0]:
        p.stat_moved += got[0]
        g.key = key
        g.base = pba[0] - in_region(lba)
        g.following = lba + got[0]
    return rc
