# Trim: free space whose marks were forgotten is found again, by the counts.
from core.base.operation cimport lnt_admin, lnt_waiter
from core.base.pool cimport lnt_pool

cdef int trim_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil
