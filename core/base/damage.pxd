# Pages that could not be had. Written by core/pages/damage.pyx.
from core.base.dropped cimport lnt_dropped_ring
from libc.stdint cimport uint32_t, uint64_t, uint8_t

# Pages that could not be had (core/pages/damage.pyx): whoever needs one fails, everybody else goes on.
cdef struct lnt_bad_page:
    uint64_t block
    uint64_t object           # for whom it was read, 0: for nobody that still is
    uint64_t until_us         # not asked for again before
    uint32_t times
    uint8_t kind
    uint8_t status

cdef struct lnt_damage:
    lnt_bad_page *pages       # 1024 of them, made when there is the first
    uint32_t count
    uint32_t probe            # the next to be tried again
    uint64_t met              # rises by one whenever a page is first found bad
    uint64_t due_us           # when some of `aside` are tried again
    uint8_t mended            # a page was read again: all of `aside` may be tried
    lnt_dropped_ring aside    # dropped references that cannot be taken off the counts
    uint64_t blocks           # ... of so many blocks at least
