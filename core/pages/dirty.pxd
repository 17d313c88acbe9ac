# Arrays of dirty pages: walked, and put in the order of their ids.
from core.base.native cimport lnt_soon_written
from core.base.page cimport lnt_dirty, lnt_dirty_array, lnt_page
from libc.stdint cimport uint64_t

cdef enum:
    AHEAD = 16                    # pages asked for ahead of their turn

cdef void dirty_sort(lnt_dirty *these, lnt_dirty *others, uint64_t n, uint64_t ids) noexcept nogil


cdef inline lnt_page *dirty_next(const lnt_dirty_array *a, uint64_t i) noexcept nogil:
    """The page at place `i`, and one behind it is asked for: from page to page each would be a wait for memory."""
    if i + AHEAD < a.count:
        lnt_soon_written(a.items[i + AHEAD].f)
    return a.items[i].f
