"""Holes for what is free and the medium may still keep: where and in which order (docs/space.md, "Space goes back").

A look every two seconds finds runs with freed blocks that nothing was taken from or added to since the look before; what UNMAP
and deletes have freed is found at once. It goes back, whole neighbouring runs together, then extents of some length, and what is
left extent by extent, as much as initiators can spare (core/space/budget.pyx). Meanwhile nothing is allocated in those runs.
Beside initiators it waits while regions are being moved: one thing at a time is done behind their backs.
"""
from core.base.check cimport LNT_CHECKS, lnt_check
from core.base.entries cimport WAIT
from core.base.layout cimport L_BLOCK_BYTES, L_RUN_BLOCKS, L_SUMMARY_RUNS, SF_UNSWEPT
from core.base.ordering cimport orders_under_way
from core.base.page cimport lnt_page
from core.base.runs cimport run_keep, run_release
from core.base.schedule cimport io_free, io_new
from core.base.space cimport RB_HELD, lnt_freed_page, lnt_holes
from core.base.types cimport IO_DISCARD, ST_MEMORY, lnt_io
from core.space.allocation cimport space_for_data
from core.space.budget cimport budget_allows, budget_beside, budget_blocks, budget_due, budget_hurries, budget_took
from core.space.counts cimport count_at, count_may_be_none
from core.space.marks cimport (
    freed_add, freed_forget, freed_mark, freed_take, marks_close, marks_forget, marks_later, marks_look, marks_of, marks_rest,
    marks_tidy, marks_wanted, run_marks,
)
from core.space.medium cimport medium_keeps
from libc.stdlib cimport free

cdef enum:
    LOOK_RUNS = 8192          # runs looked at in one turn ...
    SCAN_RUNS = 64            # ... as many as reading the marks of one run costs
    LARGE_BLOCKS = 16         # extents of so many blocks go back first


cdef inline int is_quiet(lnt_pool *p, uint64_t run) noexcept nogil:
    return run < p.n_runs and marks_of(p, run) != NULL and marks_of(p, run).age[run % L_SUMMARY_RUNS] == 2


cdef int hold(lnt_pool *p, uint64_t run) noexcept nogil:
    """Keep allocation away from a run, unless space is so short that somebody might miss it. 1 when it is held."""
    cdef uint64_t n = L_RUN_BLOCKS - p.run_used[run]
    if p.run_busy[run] or space_for_data(p) < n + 4 * p.reserve_blocks:
        return 0
    run_keep(p, run, RB_HELD)
    return 1


cdef int hole_begin(lnt_pool *p, uint64_t run) noexcept nogil:
    """Hold this run, and those behind it when all are free. 0: not now."""
    cdef uint32_t n = 1, most = budget_blocks(p) // L_RUN_BLOCKS
    if not hold(p, run):
        return 0
    if p.run_used[run] == 0:
        while n < most and is_quiet(p, run + n) and p.run_used[run + n] == 0 and hold(p, run + n):
            freed_forget(p, run + n)
            n += 1
        freed_forget(p, run)
    p.holes.whole = p.run_used[run] == 0
    p.holes.run = run
    p.holes.runs = n
    p.holes.next = 0
    return 1


cdef void finish(lnt_pool *p) noexcept nogil:
    """The runs may be used. What is still marked in a run waits for its turn."""
    cdef uint64_t run
    if not p.holes.whole:
        marks_close(p, p.holes.run)
    for run in range(p.holes.run, p.holes.run + p.holes.runs):
        run_release(p, run, RB_HELD)
    p.holes.runs = 0


cdef void punched(lnt_io *io) noexcept nogil:
    cdef lnt_pool *p = <lnt_pool *>io.owner
    cdef uint64_t block
    p.holes.busy -= 1
    if medium_keeps(p, io.result):
        for block in range(io.offset // L_BLOCK_BYTES, (io.offset + io.length) // L_BLOCK_BYTES):
            freed_mark(p, block)      # not now, says the medium
    if io.result == 0:
        p.holes.blocks += io.length // L_BLOCK_BYTES
        p.holes.requests += 1
    budget_took(p, io.length // L_BLOCK_BYTES, io.took_us if io.took_us else p.now_us - p.holes.began_us)
    io_free(p, io)


cdef int give_back(lnt_pool *p, uint64_t pba, uint64_t n) noexcept nogil:
    """0: there is no memory for the request."""
    cdef lnt_io *io = io_new(p)
    if io == NULL:
        return 0
    if LNT_CHECKS:
        lnt_check(count_may_be_none(p, pba, n), "I15: nobody refers to what goes back to the medium")
    io.kind = IO_DISCARD
    io.offset = pba * L_BLOCK_BYTES
    io.length = n * L_BLOCK_BYTES
    io.owner = p
    io.done = punched
    p.holes.busy += 1
    p.holes.began_us = p.now_us
    if p.current_device.submit(p.current_device, io):
        punched(io)
    return 1


# -- the marks of a run ------------------------------------------------------------------------------------------------


cdef int any_large(lnt_freed_page *g, uint64_t run) noexcept nogil:
    """1 when LARGE_BLOCKS blocks in a row are marked."""
    cdef uint64_t[9] v
    cdef int i, k = 1
    for i in range(8):
        v[i] = run_marks(g, run)[i]
    v[8] = 0
    while k < LARGE_BLOCKS:       # a bit stays where the k blocks from it on are marked
        for i in range(8):
            v[i] &= v[i] >> k | v[i + 1] << (64 - k)
        k *= 2
    return (v[0] | v[1] | v[2] | v[3] | v[4] | v[5] | v[6] | v[7]) != 0


cdef uint32_t extent_next(lnt_pool *p, uint32_t most) noexcept nogil:
    """The next extent to give back of the run at hand, or of it what fits: its length, `next` at its start; 0: none is left."""
    cdef lnt_holes *s = &p.holes
    cdef uint64_t *bits = run_marks(marks_of(p, s.run), s.run)
    cdef uint32_t n = 0
    while s.next < L_RUN_BLOCKS:
        if not bits[s.next // 64] >> (s.next % 64) & 1:
            s.next = s.next + 1 if bits[s.next // 64] >> (s.next % 64) else (s.next // 64 + 1) * 64
            continue
        n = 1
        while n < most and s.next + n < L_RUN_BLOCKS and bits[(s.next + n) // 64] >> ((s.next + n) % 64) & 1:
            n += 1
        if s.small or n >= LARGE_BLOCKS:
            freed_take(p, s.run * L_RUN_BLOCKS + s.next, n)
            return n
        s.left = 1
        s.next += n
    return 0


# -- steps -------------------------------------------------------------------------------------------------------------


cdef int hole_step(lnt_pool *p) noexcept nogil:
    """Go on with what is held, as far as the budget allows. 1 when it is over."""
    cdef lnt_holes *s = &p.holes
    cdef uint32_t n
    while s.next < s.runs * L_RUN_BLOCKS and p.can_discard:
        if not budget_allows(p, s.busy):
            return 0
        n = budget_blocks(p)
        n = min(n, s.runs * L_RUN_BLOCKS - s.next) if s.whole else extent_next(p, n)
        if n == 0 or not give_back(p, s.run * L_RUN_BLOCKS + s.next, n):
            break
        s.next += n
    if s.busy:
        return 0
    finish(p)
    return 1


cdef int look_at(lnt_pool *p, lnt_freed_page *g) noexcept nogil:
    """A run with marks. 1: some of it is being given back."""
    cdef lnt_holes *s = &p.holes
    cdef uint64_t r = s.at % L_SUMMARY_RUNS
    if g.age[r] == 1:
        if s.small:
            return 0
        s.moved = 1
        marks_rest(p, s.at)
        if not budget_hurries(p):
            return 0
    if not s.small and p.run_used[s.at] and not any_large(g, s.at):
        s.left = 1
        return 0
    return hole_begin(p, s.at)


cdef int look(lnt_pool *p) noexcept nogil:
    """Find the next run to give back, a bounded number of runs on. 1: go on at once."""
    cdef lnt_holes *s = &p.holes
    cdef int budget = LOOK_RUNS
    cdef lnt_freed_page *g
    while s.at < p.n_runs:
        g = marks_of(p, s.at)
        if g == NULL:
            s.at = (s.at // L_SUMMARY_RUNS + 1) * L_SUMMARY_RUNS
            continue
        if budget <= 0 or s.small and p.now_us >= s.small_us:
            break
        budget -= 1
        if g.age[s.at % L_SUMMARY_RUNS]:
            budget -= SCAN_RUNS
            if look_at(p, g):
                s.at += s.runs
                s.moved = 1
                return 1
        s.at += 1
    if s.at < p.n_runs and not (s.small and p.now_us >= s.small_us):
        return 1
    return look_next(p)


cdef int look_next(lnt_pool *p) noexcept nogil:
    """A look is over. One for what is large goes before each stretch of one for the rest. 1: the next begins at once."""
    cdef lnt_holes *s = &p.holes
    cdef int left = marks_tidy(p)
    s.small_at = s.at if s.small and s.at < p.n_runs else 0 if s.small else s.small_at
    if left and (s.small and s.small_at or not s.small and s.left):
        s.small = not s.small
        s.at = s.small_at if s.small else 0
        s.small_us = p.now_us + p.marks.delay_us
        s.left = 0
        return 1
    s.small = s.left = 0
    s.at = 0
    marks_look(p, p.now_us + p.marks.delay_us if left and s.moved else 0)     # short of space: the next block that is freed
    s.moved = 0
    return 0


cdef int punch_turn(lnt_pool *p) noexcept nogil:
    """A bounded step. 1: there is more to do now."""
    if p.holes.runs:
        return hole_step(p)
    if p.marks.due_us == 0 or p.now_us < p.marks.due_us:
        return 0
    if not p.can_discard or p.read_only:
        punch_forget(p)
        return 0
    if budget_beside(p) and (marks_wanted(p) or orders_under_way(&p.ordering, p.now_us)):
        marks_later(p)
        return 0
    return look(p)


# -- what the marks have forgotten -------------------------------------------------------------------------------------


cdef int trim_mark(lnt_pool *p, lnt_waiter *who, uint64_t run, uint64_t *found) noexcept nogil:
    """Mark all that is free in a run, as if it had been freed and come to rest. 0, WAIT or ST_MEMORY."""
    cdef uint32_t *c = NULL
    cdef lnt_page *f
    cdef uint32_t i
    cdef int rc = 0
    if p.run_used[run] == L_RUN_BLOCKS or p.run_busy[run] & ~RB_HELD:
        return 0                  # damage keeps everybody away from it
    if p.run_used[run]:
        c = count_at(p, who, run * L_RUN_BLOCKS, &f, &rc)
        if c == NULL:
            return WAIT if rc == WAIT else 0      # where counts cannot be read nothing is known to be free
    for i in range(L_RUN_BLOCKS):
        if c == NULL or c[i] == 0:
            if not freed_add(p, run * L_RUN_BLOCKS + i):
                return ST_MEMORY
            found[0] += 1
    if marks_of(p, run) != NULL:
        marks_rest(p, run)
    return 0


cdef int trim_step(lnt_pool *p, lnt_waiter *who, uint64_t run, uint64_t *found) noexcept nogil:
    """A trim looks at the next run. 0, WAIT or a status."""
    cdef int rc
    if run == 0:
        p.holes.trimmed = 0
    rc = trim_mark(p, who, run, found)
    if rc == 0:
        p.holes.trimmed += run == p.holes.trimmed
    return rc


cdef void trim_end(lnt_pool *p) noexcept nogil:
    """What a trim has found goes back at once."""
    if p.holes.trimmed >= p.n_runs:
        p.holes.unswept = 0       # from the first to the last: all of it is marked now
    marks_look(p, 1)


cdef uint64_t punch_runs(lnt_pool *p) noexcept nogil:
    """Runs in which something is marked, or just given back."""
    cdef uint64_t i, n = p.holes.runs
    for i in range((p.n_runs + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS):
        if p.marks.pages[i] != NULL:
            n += p.marks.pages[i].live
    return n


cdef void holes_load(lnt_pool *p, uint32_t flags) noexcept nogil:
    """What the superblock said of it when the pool was opened."""
    p.holes.unswept = 1 if flags & SF_UNSWEPT else 0


cdef uint32_t punch_flags(lnt_pool *p) noexcept nogil:
    """What the superblock says of it: marks are in memory only, and a crash or a close may come before the sweep."""
    return SF_UNSWEPT if p.can_discard and (p.holes.unswept or punch_runs(p)) else 0


cdef void punch_forget(lnt_pool *p) noexcept nogil:
    marks_forget(p)
    p.holes.at = p.holes.small_at = 0
    p.holes.small = p.holes.left = 0


cdef uint64_t punch_due(lnt_pool *p) noexcept nogil:
    """When `punch_turn` wants to run again; 0: not of its own."""
    if p.holes.runs:
        return budget_due(p, p.holes.busy)
    return p.marks.due_us


cdef void punch_free(lnt_pool *p) noexcept nogil:
    if p.marks.pages != NULL:
        punch_forget(p)
    free(p.marks.pages)
