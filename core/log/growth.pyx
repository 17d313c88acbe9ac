"""A pool that becomes larger: memory for its new runs, and what they are.

Growth is a journal record like any other change; replay makes it once more.
"""
from core.base.layout cimport L_RUN_BLOCKS, L_SUMMARY_RUNS, L_ZONE_BLOCKS
from core.base.memory cimport mem_widen
from core.base.pool cimport run_is_fixed
from core.base.space cimport lnt_freed_page
from core.base.types cimport ST_MEMORY
from core.log.checkpoint cimport limits_set
from libc.stdint cimport uint16_t


cdef int pool_resize(lnt_pool *p, uint64_t total_blocks) noexcept nogil:
    """Take blocks behind the end into use. 0, or ST_MEMORY: there is no memory to count them."""
    cdef uint64_t runs = total_blocks // L_RUN_BLOCKS
    cdef uint64_t pages = (runs + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS
    cdef uint64_t old_pages = (p.n_runs + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS
    cdef uint64_t r, old = p.n_runs
    if not (mem_widen(<void **>&p.run_used, (pages + 1) * L_SUMMARY_RUNS * sizeof(uint16_t))
            and mem_widen(<void **>&p.medium.zones, total_blocks // L_ZONE_BLOCKS + 2)
            and mem_widen(<void **>&p.run_busy, (pages + 1) * L_SUMMARY_RUNS)
            and mem_widen(<void **>&p.summary_dirty, pages + 2)
            and mem_widen(<void **>&p.holes.pages, (pages + 1) * sizeof(lnt_freed_page *))):
        return ST_MEMORY
    for r in range((p.total_blocks + L_ZONE_BLOCKS - 1) // L_ZONE_BLOCKS, total_blocks // L_ZONE_BLOCKS + 2):
        p.medium.zones[r] = not p.medium.sparse
    p.total_blocks = total_blocks
    p.n_runs = runs
    for r in range(old_pages, pages):
        p.summary_dirty[r] = 1
        p.holes.pages[r] = NULL
    for r in range(old, runs):
        p.summary_dirty[r // L_SUMMARY_RUNS] = 1
        p.run_busy[r] = run_is_fixed(p, r)
        p.run_used[r] = L_RUN_BLOCKS if p.run_busy[r] else 0
        if not p.run_busy[r]:
            p.free_blocks += L_RUN_BLOCKS
            p.free_runs += 1
    limits_set(p)
    return 0
