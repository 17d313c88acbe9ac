"""Trim: free space whose marks were forgotten is found again, by the counts."""
from core.base.operation cimport lnt_trim
from core.base.schedule cimport op_again
from core.space.holes cimport trim_end, trim_step

cdef enum:
    TRIM_RUNS = 256           # runs that a trim marks in one turn


cdef int trim_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    cdef lnt_trim *t = &a.trim
    cdef int rc, steps = 0
    while t.next_run < p.n_runs and t.left_runs:
        rc = trim_step(p, who, t.next_run, &t.found_blocks)
        if rc:
            return rc
        t.next_run += 1
        t.left_runs -= 1
        steps += 1
        if steps >= TRIM_RUNS and t.left_runs:
            return op_again(p, &a.op)
    t.over = t.next_run >= p.n_runs
    trim_end(p)
    return 0
