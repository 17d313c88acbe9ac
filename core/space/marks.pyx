"""Which free blocks the medium may still keep, by run, and when somebody looks for them (docs/space.md, "Space goes back").

Lives here and nowhere else: the marks of freed blocks (I15). They are in memory only, and made when a block is freed.
"""
from core.base.memory cimport mem_widen, mem_zeroed
from core.base.runs cimport summary_pages
from core.base.space cimport RB_NODES
from libc.stdlib cimport free
from libc.string cimport memset

cdef extern from *:
    """
    #define lnt_popcount(v) __builtin_popcountll(v)
    """
    uint32_t popcount "lnt_popcount"(uint64_t) nogil

cdef enum:
    GIVEN_UP_PART = 40            # of the time between two looks what is freed for good waits for its neighbours
    MARKED_PART = 8
    SECOND_US = 1000000
    BUSY_BLOCKS = 4096            # small overwrites that take so many in a second (16 MiB) are a load that goes on ...
    AHEAD_SECONDS = 10            # ... for so long, as far as anybody knows


cdef lnt_freed_page *page_for(lnt_pool *p, uint64_t run) noexcept nogil:
    """The page of a run's marks, made where there is none. NULL: there is no memory."""
    if marks_of(p, run) == NULL:
        p.marks.pages[run // L_SUMMARY_RUNS] = <lnt_freed_page *>mem_zeroed(sizeof(lnt_freed_page))
    return marks_of(p, run)


cdef inline void bit_set(lnt_pool *p, lnt_freed_page *g, uint64_t pba) noexcept nogil:
    cdef uint64_t *v = &run_marks(g, pba // L_RUN_BLOCKS)[pba % L_RUN_BLOCKS // 64]
    p.marks.blocks += not v[0] >> (pba % 64) & 1
    v[0] |= <uint64_t>1 << (pba % 64)


cdef inline void bit_clear(lnt_pool *p, lnt_freed_page *g, uint64_t pba) noexcept nogil:
    cdef uint64_t *v = &run_marks(g, pba // L_RUN_BLOCKS)[pba % L_RUN_BLOCKS // 64]
    p.marks.blocks -= v[0] >> (pba % 64) & 1
    v[0] &= ~(<uint64_t>1 << (pba % 64))


cdef void freed_mark(lnt_pool *p, uint64_t pba) noexcept nogil:
    """A block became free that the medium still keeps. Runs for nodes stay allocated below: nothing goes back there (I16).

    What becomes free while a pool is opened is not marked: until a checkpoint is durable the one before it may need that back.
    """
    cdef uint64_t run = pba // L_RUN_BLOCKS
    cdef lnt_freed_page *g
    if p.run_busy[run] & RB_NODES or p.replaying or marks_of(p, run) == NULL and not p.can_discard:
        return
    g = page_for(p, run)
    if g == NULL:
        return                    # it stays with the medium until it is used again
    g.live += g.age[run % L_SUMMARY_RUNS] == 0
    g.age[run % L_SUMMARY_RUNS] = 1
    bit_set(p, g, pba)
    if p.marks.due_us == 0:
        p.marks.due_us = p.now_us + p.marks.delay_us


cdef void freed_clear(lnt_pool *p, uint64_t pba) noexcept nogil:
    """A block is used again."""
    cdef uint64_t run = pba // L_RUN_BLOCKS
    cdef lnt_freed_page *g = marks_of(p, run)
    if g != NULL and g.age[run % L_SUMMARY_RUNS]:
        bit_clear(p, g, pba)
        g.age[run % L_SUMMARY_RUNS] = 1
        marks_close(p, run)


cdef void freed_forget(lnt_pool *p, uint64_t run) noexcept nogil:
    """No block of this run is to be given back any more."""
    cdef lnt_freed_page *g = marks_of(p, run)
    cdef int i
    if g == NULL:
        return
    for i in range(8):
        p.marks.blocks -= popcount(run_marks(g, run)[i])
    memset(run_marks(g, run), 0, 64)
    marks_close(p, run)


cdef void freed_give_up(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil:
    """What is marked in these runs need not come to rest first: UNMAP and deletes free what nobody wants again soon."""
    cdef uint64_t run
    for run in range(pba // L_RUN_BLOCKS, (pba + n - 1) // L_RUN_BLOCKS + 1):
        if marks_of(p, run) != NULL and marks_of(p, run).age[run % L_SUMMARY_RUNS]:
            marks_rest(p, run)
    if p.marks.due_us > p.now_us + p.marks.delay_us // GIVEN_UP_PART:
        p.marks.due_us = p.now_us + p.marks.delay_us // GIVEN_UP_PART


cdef void freed_take(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil:
    """Marked blocks of one run are being given back."""
    cdef lnt_freed_page *g = marks_of(p, pba // L_RUN_BLOCKS)
    cdef uint64_t block
    for block in range(pba, pba + n):
        bit_clear(p, g, block)


cdef int freed_add(lnt_pool *p, uint64_t pba) noexcept nogil:
    """A free block was found that may have been forgotten. 0: there is no memory to mark it."""
    cdef lnt_freed_page *g = page_for(p, pba // L_RUN_BLOCKS)
    if g == NULL:
        return 0
    bit_set(p, g, pba)
    return 1


cdef void marks_rest(lnt_pool *p, uint64_t run) noexcept nogil:
    """What is marked in a run has come to rest: it may be given back."""
    cdef lnt_freed_page *g = marks_of(p, run)
    g.live += g.age[run % L_SUMMARY_RUNS] == 0
    g.age[run % L_SUMMARY_RUNS] = 2


cdef void marks_close(lnt_pool *p, uint64_t run) noexcept nogil:
    """A run in which nothing is marked any more is not looked at."""
    cdef lnt_freed_page *g = marks_of(p, run)
    if g != NULL and g.age[run % L_SUMMARY_RUNS] and not any_marked(g, run):
        g.age[run % L_SUMMARY_RUNS] = 0
        g.live -= 1


cdef int marks_tidy(lnt_pool *p) noexcept nogil:
    """Free what no freed block is noted in. 1 when something is left to look for."""
    cdef uint64_t i
    cdef int left = 0
    for i in range(summary_pages(p)):
        if p.marks.pages[i] != NULL and p.marks.pages[i].live == 0:
            free(p.marks.pages[i])
            p.marks.pages[i] = NULL
        left |= p.marks.pages[i] != NULL
    return left


cdef void marks_forget(lnt_pool *p) noexcept nogil:
    cdef uint64_t i
    for i in range(summary_pages(p)):
        free(p.marks.pages[i])
        p.marks.pages[i] = NULL
    p.marks.due_us = p.marks.blocks = 0


cdef int marks_widen(lnt_pool *p, uint64_t pages) noexcept nogil:
    """1 when there is memory for the marks of so many summary pages."""
    cdef uint64_t i
    if not mem_widen(<void **>&p.marks.pages, (pages + 1) * sizeof(lnt_freed_page *)):
        return 0
    for i in range(summary_pages(p), pages):
        p.marks.pages[i] = NULL
    return 1


# -- what writers will take again --------------------------------------------------------------------------------------


cdef void marks_took(lnt_pool *p, uint32_t n) noexcept nogil:
    """A small overwrite has taken so many blocks, marked or not."""
    if p.now_us >= p.marks.taken_us + SECOND_US:
        p.marks.taken_before = rate(p)
        p.marks.taken = 0
        p.marks.taken_us = p.now_us
    p.marks.taken += n


cdef uint64_t rate(lnt_pool *p) noexcept nogil:
    """Blocks that small overwrites have taken in a second; 0 where they are no load, or are over."""
    cdef uint64_t n = p.marks.taken
    if p.now_us >= p.marks.taken_us + 2 * SECOND_US:
        return 0
    if p.now_us < p.marks.taken_us + SECOND_US and p.marks.taken_before > n:
        n = p.marks.taken_before
    return n if n >= BUSY_BLOCKS else 0


cdef uint64_t marks_left(lnt_pool *p) noexcept nogil:
    """How many marked blocks small overwrites leave where they are.

    On a medium that reads what lies scattered as fast as what does not, none while they are a load.
    """
    return 0 if p.current_device.gap_bytes == 0 and rate(p) else (p.total_blocks - p.free_blocks) // MARKED_PART


cdef bint marks_press(lnt_pool *p) noexcept nogil:
    """So much is free and still with the medium that small overwrites should take that."""
    return p.marks.blocks > marks_left(p)


cdef bint marks_wanted(lnt_pool *p) noexcept nogil:
    """Small overwrites take what is marked, and will have taken all of it in a few seconds: holes there would be for nothing."""
    return marks_press(p) and p.marks.blocks - marks_left(p) <= rate(p) * AHEAD_SECONDS


cdef void marks_later(lnt_pool *p) noexcept nogil:
    """Look again in a moment."""
    p.marks.due_us = p.now_us + p.marks.delay_us // GIVEN_UP_PART
