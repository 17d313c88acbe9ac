# cython: language_level=3
"""Holes for what overwriting has freed: lazily, since most of it is used again soon (docs/durability.md, "Space goes back").

UNMAP and deletes give blocks back before they are free (`release_data` in _alloc). Here a look every two seconds finds runs with
freed blocks that nothing was taken from or added to since the look before; they are given back, whole neighbouring runs at once
and else extent by extent, at a bounded rate, and nobody waits for it. Meanwhile nothing is allocated in them.
"""
from core._admin cimport admin
from core._alloc cimport count_at, space_for_data
from core._cache cimport io_free, io_new, op_again
from core._damage cimport runs_free
from core._state cimport L_BLOCK_BYTES, L_RUN_BLOCKS, L_SUMMARY_RUNS, RB_HELD, WAIT, frame, freed_page, lnt_pool, punch
from core._types cimport IO_DISCARD, ST_LIMIT, lnt_io
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef enum:
    LOOK_RUNS = 8192          # runs looked at in one turn
    RUNS_AT_ONCE = 16         # neighbouring free runs given back by one request: 32 MiB
    IN_FLIGHT = 8             # requests
    PACE_US = 10000           # in so long at most ...
    PACE_REQUESTS = 16        # ... so many requests: 1600 a second
    TRIM_RUNS = 256           # runs that a trim marks in one turn


cdef inline freed_page *page_of(lnt_pool *p, uint64_t run) noexcept nogil:
    return p.punch.pages[run // L_SUMMARY_RUNS]


cdef inline int is_quiet(lnt_pool *p, uint64_t run) noexcept nogil:
    return run < p.n_runs and page_of(p, run) != NULL and page_of(p, run).age[run % L_SUMMARY_RUNS] == 2


cdef void forget(lnt_pool *p, uint64_t run) noexcept nogil:
    """No block of this run is to be given back any more."""
    cdef freed_page *g = page_of(p, run)
    cdef uint64_t r = run % L_SUMMARY_RUNS
    if g.age[r]:
        g.age[r] = 0
        g.live -= 1
    memset(&g.bits[r * 8], 0, 64)


cdef int hold(lnt_pool *p, uint64_t run) noexcept nogil:
    """Keep allocation away from a run, unless space is so short that somebody might miss it. 1 when it is held."""
    cdef uint64_t n = L_RUN_BLOCKS - p.run_used[run]
    if p.run_busy[run] or space_for_data(p) < n + 4 * p.reserve_blocks:
        return 0
    p.run_busy[run] = RB_HELD
    p.punch.held += n
    p.free_runs -= p.run_used[run] == 0
    return 1


cdef int begin(lnt_pool *p, uint64_t run) noexcept nogil:
    """Hold this run, and those behind it when all are free. 0: not now."""
    cdef uint32_t n = 1
    if not hold(p, run):
        return 0
    if p.run_used[run] == 0:
        while n < RUNS_AT_ONCE and is_quiet(p, run + n) and p.run_used[run + n] == 0 and hold(p, run + n):
            forget(p, run + n)
            n += 1
        forget(p, run)
    elif page_of(p, run).age[run % L_SUMMARY_RUNS]:
        page_of(p, run).age[run % L_SUMMARY_RUNS] = 0     # what becomes free from here on is for another look
        page_of(p, run).live -= 1
    p.punch.whole = p.run_used[run] == 0
    p.punch.run = run
    p.punch.runs = n
    p.punch.next = 0
    return 1


cdef void finish(lnt_pool *p) noexcept nogil:
    """All of it is back: the runs may be used."""
    cdef uint64_t run
    for run in range(p.punch.run, p.punch.run + p.punch.runs):
        runs_free(p, run, RB_HELD)
    p.punch.runs = 0


cdef void punched(lnt_io *io) noexcept nogil:
    cdef lnt_pool *p = <lnt_pool *>io.owner
    p.punch.busy -= 1
    if io.result != 0:
        p.can_discard = 0         # harmless: the medium keeps what it has
    else:
        p.punch.blocks += io.length // L_BLOCK_BYTES
    io_free(p, io)


cdef void give_back(lnt_pool *p, uint64_t pba, uint64_t n) noexcept nogil:
    cdef lnt_io *io = io_new(p)
    io.kind = IO_DISCARD
    io.offset = pba * L_BLOCK_BYTES
    io.length = n * L_BLOCK_BYTES
    io.owner = p
    io.done = punched
    p.punch.busy += 1
    p.punch.sent += 1
    if p.cur.submit(p.cur, io):
        punched(io)


cdef uint32_t extent_next(lnt_pool *p) noexcept nogil:
    """The next extent of freed blocks in the run at hand: its length, with `next` at its start; 0 when there is none."""
    cdef punch *s = &p.punch
    cdef uint64_t *bits = &page_of(p, s.run).bits[s.run % L_SUMMARY_RUNS * 8]
    cdef uint32_t n = 0
    while s.next < L_RUN_BLOCKS and not bits[s.next // 64] >> (s.next % 64) & 1:
        s.next = s.next + 1 if bits[s.next // 64] >> (s.next % 64) else (s.next // 64 + 1) * 64
    while s.next + n < L_RUN_BLOCKS and bits[(s.next + n) // 64] >> ((s.next + n) % 64) & 1:
        bits[(s.next + n) // 64] &= ~(<uint64_t>1 << ((s.next + n) % 64))
        n += 1
    return n


cdef int step(lnt_pool *p) noexcept nogil:
    """Go on with what is held, as far as the pace allows. 1 when it is over."""
    cdef punch *s = &p.punch
    cdef uint32_t n
    if p.now_us >= s.pace_us + PACE_US:
        s.pace_us = p.now_us
        s.sent = 0
    while s.next < s.runs * L_RUN_BLOCKS and p.can_discard:
        if s.busy >= IN_FLIGHT or s.sent >= PACE_REQUESTS:
            return 0
        n = s.runs * L_RUN_BLOCKS if s.whole else extent_next(p)
        if n:
            give_back(p, s.run * L_RUN_BLOCKS + s.next, n)
            s.next += n
    if s.busy:
        return 0
    finish(p)
    return 1


cdef int look(lnt_pool *p) noexcept nogil:
    """Find the next run to give back, a bounded number of runs on. 1: go on at once."""
    cdef punch *s = &p.punch
    cdef uint64_t stop = s.at + LOOK_RUNS
    cdef freed_page *g
    while s.at < p.n_runs:
        g = page_of(p, s.at)
        if g == NULL:
            s.at = (s.at // L_SUMMARY_RUNS + 1) * L_SUMMARY_RUNS
            continue
        if s.at >= stop:
            return 1
        if g.age[s.at % L_SUMMARY_RUNS] == 1:
            g.age[s.at % L_SUMMARY_RUNS] = 2
            s.moved = 1
        elif g.age[s.at % L_SUMMARY_RUNS] and begin(p, s.at):
            s.at += s.runs
            s.moved = 1
            return 1
        s.at += 1
    s.at = 0
    s.due_us = p.now_us + s.delay_us if pages_tidy(p) and s.moved else 0     # short of space: the next block that is freed
    s.moved = 0
    return 0


cdef int pages_tidy(lnt_pool *p) noexcept nogil:
    """Free what no freed block is noted in. 1 when something is left to look for."""
    cdef uint64_t i
    cdef int left = 0
    for i in range((p.n_runs + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS):
        if p.punch.pages[i] != NULL and p.punch.pages[i].live == 0:
            free(p.punch.pages[i])
            p.punch.pages[i] = NULL
        left |= p.punch.pages[i] != NULL
    return left


cdef int punch_turn(lnt_pool *p) noexcept nogil:
    """A bounded step. 1: there is more to do now."""
    if p.punch.runs:
        return step(p)
    if p.punch.due_us == 0 or p.now_us < p.punch.due_us:
        return 0
    if not p.can_discard or p.read_only:
        punch_forget(p)
        return 0
    return look(p)


# -- what the marks have forgotten -------------------------------------------------------------------------------------

cdef int trim_mark(lnt_pool *p, uint64_t run, uint64_t *found) noexcept nogil:
    """Mark all that is free in a run, as if it had been freed and come to rest. 0, WAIT or ST_LIMIT."""
    cdef freed_page *g = page_of(p, run)
    cdef uint64_t r = run % L_SUMMARY_RUNS
    cdef uint32_t *c = NULL
    cdef frame *f
    cdef uint32_t i
    cdef int rc = 0
    if p.run_used[run] == L_RUN_BLOCKS or p.run_busy[run] & ~RB_HELD:
        return 0                  # damage keeps everybody away from it
    if p.run_used[run]:
        c = count_at(p, run * L_RUN_BLOCKS, &f, &rc)
        if c == NULL:
            return WAIT if rc == WAIT else 0      # where counts cannot be read nothing is known to be free
    if g == NULL:
        g = p.punch.pages[run // L_SUMMARY_RUNS] = <freed_page *>calloc(1, sizeof(freed_page))
        if g == NULL:
            return ST_LIMIT
    for i in range(L_RUN_BLOCKS):
        if c == NULL or c[i] == 0:
            g.bits[r * 8 + i // 64] |= <uint64_t>1 << (i % 64)
            found[0] += 1
    g.live += g.age[r] == 0
    g.age[r] = 2
    return 0


cdef int trim_run(lnt_pool *p, admin *a) noexcept nogil:
    """a.a: the first run, a.n: how many to look at (what is left of them). Blocks that are free are added up in a.c."""
    cdef int rc, steps = 0
    while a.a < p.n_runs and a.n:
        rc = trim_mark(p, a.a, &a.c)
        if rc:
            return rc
        a.a += 1
        a.n -= 1
        steps += 1
        if steps >= TRIM_RUNS and a.n:
            return op_again(p, &a.op)
    a.step = a.a >= p.n_runs
    p.punch.due_us = 1            # at once
    return 0


cdef uint64_t punch_runs(lnt_pool *p) noexcept nogil:
    """Runs in which something is marked, or just given back."""
    cdef uint64_t i, n = p.punch.runs
    for i in range((p.n_runs + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS):
        if p.punch.pages[i] != NULL:
            n += p.punch.pages[i].live
    return n


cdef void punch_forget(lnt_pool *p) noexcept nogil:
    cdef uint64_t i
    for i in range((p.n_runs + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS):
        free(p.punch.pages[i])
        p.punch.pages[i] = NULL
    p.punch.due_us = 0
    p.punch.at = 0


cdef uint64_t punch_due(lnt_pool *p) noexcept nogil:
    """When `punch_turn` wants to run again; 0: not of its own."""
    if p.punch.runs:
        return p.punch.pace_us + PACE_US if p.punch.busy < IN_FLIGHT and p.punch.sent >= PACE_REQUESTS else 0
    return p.punch.due_us


cdef void punch_free(lnt_pool *p) noexcept nogil:
    if p.punch.pages != NULL:
        punch_forget(p)
    free(p.punch.pages)
    p.punch.pages = NULL
