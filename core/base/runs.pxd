# The runs of a pool: how much of each is used, who keeps it from being used, and the sums of both (I1).
#
# Lives here: `run_used`, `run_busy`, `summary_dirty`, `n_runs`, `free_runs`, `free_blocks`, `held_blocks`, `nodes_free` and
# `run_cursor`. What is free of a run that somebody keeps counts as free and as held; of one that is kept for nodes it counts as
# theirs, too.
from core.base.check cimport lnt_check
from core.base.layout cimport L_RUN_BLOCKS, L_SUMMARY_PAGES, L_SUMMARY_RUNS, L_SUMMARY_START, L_ZONE_BLOCKS
from core.base.memory cimport mem_widen
from core.base.pool cimport lnt_pool, run_is_fixed
from core.base.space cimport RB_HELD, RB_NODES
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memset

cdef inline uint64_t summary_pages_of(uint64_t total_blocks) noexcept nogil:
    """How many summary pages a pool of so many blocks has."""
    return (total_blocks // L_RUN_BLOCKS + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS

cdef inline uint64_t summary_pages(lnt_pool *p) noexcept nogil:
    """How many it has whose runs count by now."""
    return (p.n_runs + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS

cdef inline uint64_t summary_home(uint64_t page) noexcept nogil:
    """The block of a summary page."""
    return page // L_SUMMARY_PAGES * L_ZONE_BLOCKS + L_SUMMARY_START + page % L_SUMMARY_PAGES

cdef inline void run_changed(lnt_pool *p, uint64_t run, int delta) noexcept nogil:
    """So many blocks more of a run are used, or (below 0) fewer."""
    cdef int before = p.run_used[run]
    lnt_check(before + delta >= 0 and before + delta <= L_RUN_BLOCKS, "I1: a run has as many used blocks as are counted in it")
    p.run_used[run] = <uint16_t>(before + delta)
    p.summary_dirty[run // L_SUMMARY_RUNS] = 1
    p.free_blocks -= delta
    if p.run_busy[run]:           # nothing is taken from it meanwhile, and what becomes free waits as well
        p.held_blocks -= delta
        if p.run_busy[run] & RB_NODES:
            p.nodes_free -= delta
    elif before == 0:
        p.free_runs -= 1
    elif p.run_used[run] == 0:
        p.free_runs += 1
        if run < p.run_cursor:
            p.run_cursor = run        # what was used before is taken first: the medium already has its blocks

cdef inline void run_keep(lnt_pool *p, uint64_t run, uint8_t bits) noexcept nogil:
    """Nothing is taken from a run until all its bits (run_bits) are released."""
    if p.run_busy[run] == 0:
        p.held_blocks += L_RUN_BLOCKS - p.run_used[run]
        p.free_runs -= p.run_used[run] == 0
    if bits & RB_NODES and not p.run_busy[run] & RB_NODES:
        p.nodes_free += L_RUN_BLOCKS - p.run_used[run]
    p.run_busy[run] |= bits

cdef inline void run_release(lnt_pool *p, uint64_t run, uint8_t bits) noexcept nogil:
    """Take bits off a run; without any its free blocks may be used."""
    if p.run_busy[run] & bits:
        if p.run_busy[run] & bits & RB_NODES:
            p.nodes_free -= L_RUN_BLOCKS - p.run_used[run]
        p.run_busy[run] &= ~bits
        if p.run_busy[run] == 0:
            p.held_blocks -= L_RUN_BLOCKS - p.run_used[run]
            p.free_runs += p.run_used[run] == 0

cdef inline void runs_search_from(lnt_pool *p, uint64_t run) noexcept nogil:
    """Where the next free run is looked for: from here on, round the end."""
    p.run_cursor = run if run < p.n_runs else 0

cdef inline int runs_widen(lnt_pool *p, uint64_t pages) noexcept nogil:
    """1 when there is memory for the runs of so many summary pages."""
    return (mem_widen(<void **>&p.run_used, (pages + 1) * L_SUMMARY_RUNS * sizeof(uint16_t))
            and mem_widen(<void **>&p.run_busy, (pages + 1) * L_SUMMARY_RUNS)
            and mem_widen(<void **>&p.summary_dirty, pages + 2))

cdef inline int runs_open(lnt_pool *p) noexcept nogil:
    """A pool is opened: memory for its runs, none of which is counted yet (`run_begin`). 0: there is none."""
    p.n_runs = p.total_blocks // L_RUN_BLOCKS
    if not runs_widen(p, summary_pages(p)):
        return 0
    memset(p.summary_dirty, 0, summary_pages(p) + 2)
    return 1

cdef inline void run_begin(lnt_pool *p, uint64_t run, uint32_t used) noexcept nogil:
    """A run counts from now on, with so many used blocks; a fixed one as used and held."""
    p.run_busy[run] = RB_HELD if run_is_fixed(p, run) else 0
    p.run_used[run] = L_RUN_BLOCKS if p.run_busy[run] else <uint16_t>used
    p.free_blocks += L_RUN_BLOCKS - p.run_used[run]
    p.free_runs += p.run_used[run] == 0

cdef inline void runs_begin(lnt_pool *p, uint64_t n_runs) noexcept nogil:
    """The pool has become larger, and has so many runs from now on: `runs_widen` has made room for them."""
    cdef uint64_t run, first = p.n_runs, page = summary_pages(p)
    p.n_runs = n_runs
    while page < summary_pages(p):
        p.summary_dirty[page] = 1
        page += 1
    for run in range(first, n_runs):
        p.summary_dirty[run // L_SUMMARY_RUNS] = 1
        run_begin(p, run, 0)

cdef inline int summary_take(lnt_pool *p, uint64_t page) noexcept nogil:
    """1 when a checkpoint must write this summary page: it does so now."""
    cdef int dirty = p.summary_dirty[page]
    p.summary_dirty[page] = 0
    return dirty
