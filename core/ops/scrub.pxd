# Metadata pages read again from the medium, one at a time, and verified (docs/on-disk-format.md, page header).
from core.base.operation cimport lnt_admin, lnt_waiter
from core.base.pool cimport lnt_pool

cdef enum scrub_phase:         # what a scrub without an object looks at, in this order
    SP_SUPER = 0
    SP_AREA = 1
    SP_SUMMARY = 2
    SP_COUNT = 3
    SP_CSUM = 4
    SP_CATALOG = 5
    SP_END = 6
    SP_MAP = 7                 # with an object

cdef int scrub_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil
