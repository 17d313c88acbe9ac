"""A pool that becomes larger: memory for its new runs, and what they are.

Growth is a journal record like any other change; replay makes it once more.
"""
from core.base.layout cimport L_RUN_BLOCKS
from core.base.runs cimport runs_begin, runs_widen, summary_pages_of
from core.base.types cimport ST_MEMORY
from core.log.checkpoint cimport limits_set
from core.space.marks cimport marks_widen
from core.space.medium cimport zones_widen


cdef int pool_resize(lnt_pool *p, uint64_t total_blocks) noexcept nogil:
    """Take blocks behind the end into use. 0, or ST_MEMORY: there is no memory to count them."""
    cdef uint64_t runs = total_blocks // L_RUN_BLOCKS
    cdef uint64_t pages = summary_pages_of(total_blocks)
    if not (runs_widen(p, pages) and marks_widen(p, pages) and zones_widen(p, total_blocks)):
        return ST_MEMORY
    p.total_blocks = total_blocks
    runs_begin(p, runs)
    limits_set(p)
    return 0
