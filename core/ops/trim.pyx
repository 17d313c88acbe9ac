"""Trim: free space whose marks were forgotten is found again, by the counts."""
from core.base.schedule cimport op_again
from core.space.holes cimport trim_mark

cdef enum:
    TRIM_RUNS = 256           # runs that a trim marks in one turn


cdef int trim_run(lnt_pool *p, lnt_admin *a) noexcept nogil:
    """a.a: the first run, a.n: how many to look at (what is left of them). Blocks that are free are added up in a.c."""
    cdef int rc, steps = 0
    if a.a == 0:
        p.holes.trimmed = 0
    while a.a < p.n_runs and a.n:
        rc = trim_mark(p, a.a, &a.c)
        if rc:
            return rc
        p.holes.trimmed += a.a == p.holes.trimmed
        a.a += 1
        a.n -= 1
        steps += 1
        if steps >= TRIM_RUNS and a.n:
            return op_again(p, &a.op)
    a.step = a.a >= p.n_runs
    if p.holes.trimmed >= p.n_runs:
        p.holes.unswept = 0       # from the first to the last: all of it is marked now
    p.holes.due_us = 1            # at once
    return 0
