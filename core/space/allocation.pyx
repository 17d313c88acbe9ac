"""Which free blocks are taken: near a goal, and never what is promised to somebody else.

Lives here and nowhere else: the cursors of the search.
"""
from core.base.check cimport LNT_CHECKS, lnt_assert, lnt_check
from core.base.dropped cimport ring_at
from core.base.entries cimport WAIT
from core.base.layout cimport L_GROUP_BLOCKS, L_RUN_BLOCKS, L_SUMMARY_RUNS, L_ZONE_BLOCKS
from core.base.mutations cimport M_NO_PUNCH_HOLD
from core.base.page cimport lnt_page
from core.base.runs cimport runs_search_from
from core.base.space cimport RB_COUNTS, RB_NODES, lnt_freed_page
from core.base.trace cimport PF_SUMMARY, pool_fail
from core.base.types cimport ST_CHECKSUM, ST_MEMORY, ST_NO_SPACE
from core.pages.damage cimport damage_held
from core.space.counts cimport count_add, count_page, counts_begin
from core.space.marks cimport is_marked, marks_of
from core.space.medium cimport zone_need

cdef extern from *:
    """
    #define lnt_ctz(v) __builtin_ctzll(v)
    """
    uint32_t ctz "lnt_ctz"(uint64_t) nogil

cdef enum:
    MARKED_LOOKS = 256            # at runs, for blocks that the medium still keeps
    FRESH_LOOKS = 4096            # at runs, for one of which it keeps none


cdef uint64_t space_for_nodes(lnt_pool *p) noexcept nogil:
    """Blocks that nodes may still take: the one count of what is free and neither promised to a node nor out of reach."""
    cdef uint64_t kept = p.nodes_without_home + p.held_blocks
    if p.medium.sparse:
        return p.nodes_free - p.nodes_without_home if p.nodes_free > p.nodes_without_home else 0
    return p.free_blocks - kept if p.free_blocks > kept else 0


cdef uint64_t space_for_data(lnt_pool *p) noexcept nogil:
    """Blocks that writes of data may still take (before per-object reservations)."""
    return space_beyond(p, p.reserve_blocks)


cdef uint64_t space_beyond(lnt_pool *p, uint64_t reserve) noexcept nogil:
    """Blocks that data may take where so many are kept for nodes: of a sparse medium those in the runs for nodes count first."""
    cdef uint64_t space = space_for_nodes(p)
    if p.medium.sparse:
        if space < reserve // 2:
            return 0
        reserve -= space if space < reserve else reserve
        space = p.free_blocks - p.held_blocks if p.free_blocks > p.held_blocks else 0
    return space - reserve if space > reserve else 0


cdef uint64_t available_blocks(lnt_pool *p) noexcept nogil:
    """The same with what is being given back to the medium, but for runs that damage keeps away."""
    cdef uint64_t away = damage_held(p) + p.nodes_free
    return space_for_data(p) + (p.held_blocks - away if p.held_blocks > away else 0)


cdef int take_at(lnt_pool *p, lnt_waiter *who, uint64_t pba, uint32_t want, uint32_t least, uint32_t *got) noexcept nogil:
    """Claim free blocks from pba on, within its run. got is 0 when there are not so many as `least`."""
    cdef int rc = 0
    cdef lnt_page *f
    cdef uint32_t *c
    cdef uint32_t n = 0
    cdef uint64_t room = L_RUN_BLOCKS - pba % L_RUN_BLOCKS
    got[0] = 0
    f = count_page(p, who, pba, &rc)
    if f == NULL:
        return rc
    lnt_assert(p.run_busy[pba // L_RUN_BLOCKS] == 0 or p.mutations & M_NO_PUNCH_HOLD != 0,
               "I15: nothing is taken from a run that somebody keeps")
    c = <uint32_t *>f.data + pba % L_GROUP_BLOCKS
    if want > room:
        want = <uint32_t>room
    while n < want and c[n] == 0:
        n += 1
    if n < least or n == 0:
        return 0
    counts_begin(p, f, pba, n)
    got[0] = n
    return 0


cdef inline uint64_t zone_of(uint64_t run) noexcept nogil:
    return run * L_RUN_BLOCKS // L_ZONE_BLOCKS


cdef inline int run_usable(lnt_pool *p, uint64_t run) noexcept nogil:
    return run < p.n_runs and p.run_used[run] < L_RUN_BLOCKS and p.medium.zones[zone_of(run)] and (
        not p.run_busy[run] or p.mutations & M_NO_PUNCH_HOLD)


cdef int take_anywhere(lnt_pool *p, lnt_waiter *who, uint32_t want, uint64_t *pba, uint32_t *got) noexcept nogil:
    """Free blocks of the next run that has any: the first ones behind those taken last."""
    cdef uint64_t i, run, b
    cdef uint32_t j, k
    cdef int rc = 0
    cdef lnt_page *f
    for i in range(p.n_runs):
        run = p.fit_cursor + i
        if run >= p.n_runs:
            run -= p.n_runs
        if not run_usable(p, run):
            continue
        b = run * L_RUN_BLOCKS
        f = count_page(p, who, b, &rc)
        if rc == ST_MEMORY:
            return rc
        if rc > 0:
            rc = 0                    # its counts cannot be read: nothing is taken from here any more
            continue
        if f == NULL:
            return rc
        if p.fit_cursor != run:
            p.fit_block = 0
        p.fit_cursor = run
        for j in range(L_RUN_BLOCKS):
            k = (p.fit_block + j) & (L_RUN_BLOCKS - 1)
            if (<uint32_t *>f.data)[b % L_GROUP_BLOCKS + k] == 0:
                pba[0] = b + k
                p.fit_block = k
                return take_at(p, who, b + k, want, 1, got)
        pool_fail(p, PF_SUMMARY, b)
        return ST_CHECKSUM            # the summary promised a free block
    return ST_NO_SPACE


cdef inline bint search_over(lnt_pool *p, int rc, uint32_t got) noexcept nogil:
    """Found, or nothing else may be tried: to wait, no memory, a failed pool. Damage in one place only passes over it."""
    return rc == WAIT or rc == ST_MEMORY or got or rc and p.failed


cdef int take_marked(lnt_pool *p, lnt_waiter *who, uint32_t want, uint64_t *pba, uint32_t *got) noexcept nogil:
    """Free blocks of the next run with some that were freed and not given back: the medium need not find room for them.

    got is 0 where there are none, or looking would take too long.
    """
    cdef uint64_t run, bits
    cdef uint32_t k
    cdef lnt_freed_page *g
    cdef int rc, looks = 0
    got[0] = 0
    while looks < MARKED_LOOKS:
        run = p.marked_cursor
        g = p.marks.pages[run // L_SUMMARY_RUNS] if run < p.n_runs else NULL
        looks += 1
        if g == NULL or g.live == 0:
            run = (run // L_SUMMARY_RUNS + 1) * L_SUMMARY_RUNS
            p.marked_cursor = run if run < p.n_runs else 0
            continue
        if g.age[run % L_SUMMARY_RUNS] and run_usable(p, run):
            for k in range(8):
                bits = g.bits[run % L_SUMMARY_RUNS * 8 + k]
                if bits:
                    pba[0] = run * L_RUN_BLOCKS + k * 64 + ctz(bits)
                    rc = take_at(p, who, pba[0], want, 1, got)
                    if search_over(p, rc, got[0]):
                        return rc
                    break
        p.marked_cursor = run + 1 if run + 1 < p.n_runs else 0
    return 0


cdef int take_free_run(lnt_pool *p, lnt_waiter *who, uint32_t offset, uint32_t want, uint64_t *pba, uint32_t *got) noexcept nogil:
    """Blocks at `offset` of a run of which none is used. got is 0 where there is none."""
    cdef uint64_t _i, run
    cdef int rc = 0
    got[0] = 0
    if p.free_runs == 0:
        return 0
    for _i in range(p.n_runs):
        run = p.run_cursor
        if p.run_used[run] == 0 and not p.medium.zones[zone_of(run)] and zone_need(p, who, zone_of(run)) == WAIT:
            return WAIT
        if p.run_used[run] == 0 and run_usable(p, run):
            pba[0] = run * L_RUN_BLOCKS + offset
            rc = take_at(p, who, pba[0], want, 1, got)
            if search_over(p, rc, got[0]):
                return rc
        runs_search_from(p, run + 1)
    return rc


cdef inline bint run_is_fresh(lnt_pool *p, uint64_t run) noexcept nogil:
    """None of it is used, and the medium keeps nothing of it: it will find one place for all of it."""
    cdef lnt_freed_page *g = marks_of(p, run)
    return p.run_used[run] == 0 and run_usable(p, run) and (g == NULL or g.age[run % L_SUMMARY_RUNS] == 0)


cdef int take_fresh_run(lnt_pool *p, lnt_waiter *who, uint32_t offset, uint32_t want, uint64_t *pba,
                        uint32_t *got) noexcept nogil:
    """Blocks at `offset` of a run that is fresh. got is 0 where there is none, or looking would take too long."""
    cdef uint64_t _i, run
    cdef int rc
    got[0] = 0
    for _i in range(min(p.n_runs, <uint64_t>FRESH_LOOKS)):
        run = p.fresh_cursor
        p.fresh_cursor = run + 1 if run + 1 < p.n_runs else 0
        if run_is_fresh(p, run):
            pba[0] = run * L_RUN_BLOCKS + offset
            rc = take_at(p, who, pba[0], want, want, got)
            if search_over(p, rc, got[0]):
                return rc
    return 0


cdef int alloc_exact(lnt_pool *p, lnt_waiter *who, uint64_t pba, uint32_t want, uint32_t *got) noexcept nogil:
    """Claim all of `want` blocks from pba on, or none (got is 0). 0, WAIT, or damage."""
    got[0] = 0
    return take_at(p, who, pba, want, want, got) if pba < p.total_blocks and run_usable(p, pba // L_RUN_BLOCKS) else 0


cdef int alloc_whole(lnt_pool *p, lnt_waiter *who, uint64_t goal, uint32_t offset, uint32_t want, uint64_t *pba,
                     uint32_t *got) noexcept nogil:
    """Claim all of `want` contiguous blocks, at `goal` or at `offset` of a free run, or none (got is 0). 0, WAIT, or damage.

    Of free runs one is taken of which the medium keeps nothing, if there is one. What was written there block by block lies
    scattered below, too, and would for ever.
    """
    cdef int rc
    got[0] = 0
    if goal and goal < p.total_blocks and run_usable(p, goal // L_RUN_BLOCKS):
        rc = take_at(p, who, goal, want, want, got)
        if search_over(p, rc, got[0]):
            pba[0] = goal
            return rc
    rc = take_fresh_run(p, who, offset, want, pba, got)
    if search_over(p, rc, got[0]):
        return rc
    rc = take_free_run(p, who, offset, want, pba, got)
    return rc if search_over(p, rc, got[0]) else 0


cdef int alloc_extent(lnt_pool *p, lnt_waiter *who, uint64_t goal, uint32_t offset, uint32_t want, bint thrifty, uint64_t *pba,
                      uint32_t *got) noexcept nogil:
    """Claim up to `want` contiguous blocks (count 1): at `goal`, else at `offset` of a free run, else anywhere.

    A region of a LUN so gets a run of the pool of its own while there are free ones, which lets huge entries form; the
    unused rest of such a run is anyone's when no free run is left, what was used before first; or (thrifty) always, unless
    the goal was used before, too. 0, WAIT, ST_NO_SPACE or a damage status.
    """
    cdef int rc
    got[0] = 0
    if thrifty and not (goal and goal < p.total_blocks and is_marked(p, goal)):
        rc = take_marked(p, who, want, pba, got)
        if search_over(p, rc, got[0]):
            return rc
    if goal and goal < p.total_blocks and run_usable(p, goal // L_RUN_BLOCKS):
        rc = take_at(p, who, goal, want, 1, got)
        if search_over(p, rc, got[0]):
            pba[0] = goal
            return rc
    rc = take_free_run(p, who, offset, want, pba, got)
    if search_over(p, rc, got[0]):
        return rc
    rc = take_marked(p, who, want, pba, got)
    if search_over(p, rc, got[0]):
        return rc
    return take_anywhere(p, who, want, pba, got)


cdef int alloc_arrival(lnt_pool *p, lnt_waiter *who, uint32_t want, uint64_t *pba, uint32_t *got) noexcept nogil:
    """Claim up to `want` contiguous blocks behind those that were claimed so before, in runs that were free; else anywhere.

    What arrives together lies together: one count page for 1024 writes, and for the medium one stream.
    """
    cdef uint64_t at = p.arrival_cursor
    cdef int rc
    got[0] = 0
    if at and run_usable(p, at // L_RUN_BLOCKS):
        rc = take_at(p, who, at, want, 1, got)
        if rc == WAIT or rc == ST_MEMORY:
            return rc
        pba[0] = at
    if not got[0]:
        rc = alloc_extent(p, who, 0, 0, want, 0, pba, got)
        if rc:
            return rc
    at = pba[0] + got[0]
    p.arrival_cursor = at if at % L_RUN_BLOCKS else 0
    return 0


cdef int take_for_node(lnt_pool *p, lnt_waiter *who, uint64_t *pba) noexcept nogil:
    """The first free block of the runs that are for nodes alone."""
    cdef uint32_t i, k
    cdef uint64_t b
    cdef int rc = 0
    cdef lnt_page *f
    for i in range(p.medium.n_runs):
        b = <uint64_t>p.medium.runs[i] * L_RUN_BLOCKS
        if p.run_used[p.medium.runs[i]] == L_RUN_BLOCKS or p.run_busy[p.medium.runs[i]] & RB_COUNTS:
            continue
        f = count_page(p, who, b, &rc)
        if f == NULL:
            if rc == WAIT or rc == ST_MEMORY:
                return rc
            continue
        for k in range(L_RUN_BLOCKS):
            if (<uint32_t *>f.data)[b % L_GROUP_BLOCKS + k] == 0:
                pba[0] = b + k
                return count_add(p, b + k, 1, 1)
    return ST_NO_SPACE


cdef int is_held_home(lnt_pool *p, uint64_t pba) noexcept nogil:
    """1 when a node's block is not free yet: the last checkpoint still uses it. For assertions."""
    cdef uint64_t i
    for i in range(p.dropped_homes.head, p.dropped_homes.tail):
        if ring_at(&p.dropped_homes, i).ref == pba:
            return 1
    return 0


cdef int alloc_home(lnt_pool *p, lnt_waiter *who, uint64_t *pba) noexcept nogil:
    """One block for a node."""
    cdef int rc = take_for_node(p, who, pba) if p.medium.sparse else take_packed(p, who, pba)
    if rc == 0:
        if LNT_CHECKS:
            lnt_check(not is_held_home(p, pba[0]), "I6: the last checkpoint does not use a home that is chosen")
        lnt_assert(not p.medium.sparse or p.run_busy[pba[0] // L_RUN_BLOCKS] & RB_NODES != 0,
                   "I16: a node's home lies where room below is allocated")
    return rc


cdef int take_packed(lnt_pool *p, lnt_waiter *who, uint64_t *pba) noexcept nogil:
    """Nodes are packed together, away from the runs of data."""
    cdef uint32_t got = 0
    cdef int rc
    if run_usable(p, p.fit_cursor):
        rc = take_anywhere(p, who, 1, pba, &got)
        return rc
    rc = alloc_extent(p, who, 0, 0, 1, 0, pba, &got)
    if rc == 0:
        p.fit_cursor = pba[0] // L_RUN_BLOCKS
        p.fit_block = 0
    return rc
