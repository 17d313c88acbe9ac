"""How often each block is referred to (I1).

Lives here and nowhere else: what count pages say. What follows from it for a run is core/base/runs.pxd, for the medium
core/space/marks.pyx.
"""
from core.base.entries cimport VID, WAIT
from core.base.layout cimport L_COUNT_MAX, L_COUNT_PAGES, L_COUNT_START, L_GROUP_BLOCKS, L_ZONE_BLOCKS, PK_COUNT
from core.base.page cimport PAGE_VALID
from core.base.pool cimport run_is_fixed
from core.base.runs cimport run_changed
from core.base.trace cimport PF_COUNTS, TE_COUNT_LIMIT, pool_fail, trace_add
from core.base.types cimport ST_CHECKSUM, ST_LIMIT, ST_MEMORY
from core.pages.cache cimport cache_find, cache_get, cache_new, page_dirty
from core.space.marks cimport freed_clear, freed_mark, marks_of
from libc.stdint cimport int64_t

cdef enum:
    COUNT_LIVE = L_COUNT_MAX // 2     # what a count may reach while the pool is open ...
    COUNT_SHARED = 1 << 16            # ... and by copies by reference


cdef inline void block_used(lnt_pool *p, uint64_t pba) noexcept nogil:
    if marks_of(p, pba // L_RUN_BLOCKS) != NULL:
        freed_clear(p, pba)
    run_changed(p, pba // L_RUN_BLOCKS, 1)


cdef inline void block_freed(lnt_pool *p, uint64_t pba) noexcept nogil:
    freed_mark(p, pba)
    run_changed(p, pba // L_RUN_BLOCKS, -1)


# -- counts ------------------------------------------------------------------------------------------------------------

cdef lnt_page *count_page(lnt_pool *p, lnt_waiter *who, uint64_t pba, int *rc) noexcept nogil:
    cdef uint64_t group = pba // L_GROUP_BLOCKS
    cdef uint64_t home = (pba // L_ZONE_BLOCKS) * L_ZONE_BLOCKS + L_COUNT_START + group % L_COUNT_PAGES
    cdef uint64_t run = group * 2
    cdef lnt_page *f
    if pba >= p.total_blocks or run_is_fixed(p, pba // L_RUN_BLOCKS):
        rc[0] = ST_CHECKSUM
        return NULL
    f = cache_find(p, home)
    if f != NULL and f.state == PAGE_VALID:
        f.used = 1
        return f
    if f == NULL and (run_is_fixed(p, run) or p.run_used[run] == 0) and (
            run_is_fixed(p, run + 1) or p.run_used[run + 1] == 0):
        f = cache_new(p, home, PK_COUNT, 0)   # nothing is counted there: what the medium holds does not matter
        if f == NULL:
            rc[0] = ST_MEMORY
        return f
    return cache_get(p, who, home, PK_COUNT, 0, rc)


cdef uint32_t *count_at(lnt_pool *p, lnt_waiter *who, uint64_t pba, lnt_page **f, int *rc) noexcept nogil:
    f[0] = count_page(p, who, pba, rc)
    if f[0] == NULL:
        return NULL
    return <uint32_t *>f[0].data + pba % L_GROUP_BLOCKS


cdef int count_touch(lnt_pool *p, lnt_waiter *who, uint64_t pba, uint32_t n) noexcept nogil:
    """0 when the counts of all the blocks are in memory, else WAIT or a status. Starts all the reads it needs."""
    cdef int rc, worst = 0
    cdef uint64_t at = pba, end = pba + n
    while at < end:
        rc = 0
        if count_page(p, who, at, &rc) == NULL and (rc == WAIT or worst == 0):
            worst = rc                # an op that is queued on a page must not end before it arrives
        at = (at // L_GROUP_BLOCKS + 1) * L_GROUP_BLOCKS
    return worst


cdef int count_add(lnt_pool *p, uint64_t pba, uint32_t n, int32_t delta) noexcept nogil:
    """Add to the counts of blocks that were touched: all or none. ST_LIMIT: one is at its limit; ST_CHECKSUM: damage."""
    cdef uint32_t i
    cdef uint32_t *c
    cdef uint32_t was
    cdef lnt_page *f = NULL
    cdef int rc = 0
    cdef uint64_t b
    for i in range(n):
        b = pba + i
        if i == 0 or b % L_GROUP_BLOCKS == 0:
            f = count_page(p, NULL, b, &rc)
            if f == NULL:
                return rc             # before anything has changed: callers touch ranges first
            page_dirty(p, f)
        c = <uint32_t *>f.data + b % L_GROUP_BLOCKS
        was = c[0]
        if <int64_t>was + delta < 0:
            pool_fail(p, PF_COUNTS, b)
            return ST_CHECKSUM
        if delta > 0 and was + delta > COUNT_LIVE and over_limit(p, was + delta):
            if i:
                count_add(p, pba, i, -delta)
            trace_add(p, TE_COUNT_LIMIT, b, was)
            return ST_LIMIT
        c[0] = <uint32_t>(<int64_t>was + delta)
        if was == 0 and delta > 0:
            block_used(p, b)
        elif was != 0 and c[0] == 0:
            block_freed(p, b)
    return 0


cdef void counts_begin(lnt_pool *p, lnt_page *f, uint64_t pba, uint32_t n) noexcept nogil:
    """Free blocks of one run, whose count page is `f`, get their first reference."""
    cdef uint32_t *c = <uint32_t *>f.data + pba % L_GROUP_BLOCKS
    cdef uint32_t i
    page_dirty(p, f)
    for i in range(n):
        c[i] = 1
    if marks_of(p, pba // L_RUN_BLOCKS) != NULL:
        for i in range(n):
            freed_clear(p, pba + i)
    run_changed(p, pba // L_RUN_BLOCKS, <int>n)


cdef inline int over_limit(lnt_pool *p, uint32_t count) noexcept nogil:
    """1 when a count may not become so high. Replay may go further: there dropped references are still counted that were off."""
    if p.replaying:
        p.counts_high = 1
        return count > L_COUNT_MAX
    return count > COUNT_LIVE


cdef int shares_room(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil:
    """0 when more entries may refer to each of these touched blocks because of copies by reference, else ST_LIMIT or a status.

    That limit is low, so that copies of nodes, which snapshots call for, have the rest: whoever copies makes a second copy.
    """
    cdef uint32_t i
    cdef int rc = 0
    cdef lnt_page *f = NULL
    if p.replaying:
        return 0
    for i in range(n):
        if i == 0 or (pba + i) % L_GROUP_BLOCKS == 0:
            f = count_page(p, NULL, pba + i, &rc)
            if f == NULL:
                return rc
        if (<uint32_t *>f.data)[(pba + i) % L_GROUP_BLOCKS] >= COUNT_SHARED:
            return ST_LIMIT
    return 0


cdef int count_is_one(lnt_pool *p, lnt_waiter *who, uint64_t pba, uint32_t n, int *rc) noexcept nogil:
    """1 when every block of the range has exactly one reference."""
    cdef uint32_t i
    cdef lnt_page *f = NULL
    for i in range(n):
        if i == 0 or (pba + i) % L_GROUP_BLOCKS == 0:
            f = count_page(p, who, pba + i, rc)
            if f == NULL:
                return 0
        if (<uint32_t *>f.data)[(pba + i) % L_GROUP_BLOCKS] != 1:
            return 0
    return 1


cdef int node_touch(lnt_pool *p, lnt_waiter *who, uint64_t id) noexcept nogil:
    if id & VID():
        return 0
    return count_touch(p, who, id, 1)


cdef int node_room(lnt_pool *p, uint64_t id, uint32_t more) noexcept nogil:
    """0 when so many more may refer to a node whose count was touched, else ST_LIMIT or a status."""
    cdef lnt_page *f
    cdef uint32_t *c
    cdef uint32_t refs
    cdef int rc = 0
    if id & VID():
        refs = cache_find(p, id).references
    else:
        c = count_at(p, NULL, id, &f, &rc)
        if c == NULL:
            return rc
        refs = c[0]
    return ST_LIMIT if refs + more > COUNT_LIVE and over_limit(p, refs + more) else 0


cdef int node_ref(lnt_pool *p, uint64_t id, int32_t delta) noexcept nogil:
    """Add to the references of a node whose count was touched."""
    cdef lnt_page *f = cache_find(p, id)
    cdef int rc
    if id & VID():
        f.references = <uint32_t>(<int64_t>f.references + delta)
        return 0
    rc = count_add(p, id, 1, delta)
    if rc == 0 and f != NULL and f.references != 0:
        f.references = <uint32_t>(<int64_t>f.references + delta)
    return rc


# -- for assertions ------------------------------------------------------------------------------------------------------


cdef int counts_may_be(lnt_pool *p, uint64_t pba, uint64_t n, uint32_t count) noexcept nogil:
    cdef uint64_t b
    cdef lnt_page *f
    for b in range(pba, pba + n):
        f = cache_find(p, b // L_ZONE_BLOCKS * L_ZONE_BLOCKS + L_COUNT_START + b // L_GROUP_BLOCKS % L_COUNT_PAGES)
        if f != NULL and f.state == PAGE_VALID and (<uint32_t *>f.data)[b % L_GROUP_BLOCKS] != count:
            return 0
    return 1


cdef int count_may_be_one(lnt_pool *p, uint64_t pba, uint64_t n) noexcept nogil:
    """0 when a block is known, from what is in memory, not to have exactly one reference."""
    return counts_may_be(p, pba, n, 1)


cdef int count_may_be_none(lnt_pool *p, uint64_t pba, uint64_t n) noexcept nogil:
    """The same for blocks that nobody refers to."""
    return counts_may_be(p, pba, n, 0)
