# Which free blocks the medium may still keep, by run, and when somebody looks for them (docs/space.md, "Space goes back").
from core.base.layout cimport L_RUN_BLOCKS, L_SUMMARY_RUNS
from core.base.pool cimport lnt_pool
from core.base.space cimport lnt_freed_page
from libc.stdint cimport uint32_t, uint64_t

cdef void freed_mark(lnt_pool *p, uint64_t pba) noexcept nogil
cdef void freed_clear(lnt_pool *p, uint64_t pba) noexcept nogil
cdef void freed_forget(lnt_pool *p, uint64_t run) noexcept nogil
cdef void freed_give_up(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil
cdef void freed_take(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil
cdef int freed_add(lnt_pool *p, uint64_t pba) noexcept nogil
cdef void marks_rest(lnt_pool *p, uint64_t run) noexcept nogil
cdef void marks_close(lnt_pool *p, uint64_t run) noexcept nogil
cdef int marks_tidy(lnt_pool *p) noexcept nogil
cdef void marks_forget(lnt_pool *p) noexcept nogil
cdef int marks_widen(lnt_pool *p, uint64_t pages) noexcept nogil
cdef void marks_took(lnt_pool *p, uint32_t n) noexcept nogil
cdef bint marks_press(lnt_pool *p) noexcept nogil
cdef bint marks_wanted(lnt_pool *p) noexcept nogil
cdef void marks_later(lnt_pool *p) noexcept nogil

cdef inline lnt_freed_page *marks_of(lnt_pool *p, uint64_t run) noexcept nogil:
    """The page that a run's marks are in; NULL: it has none."""
    return p.marks.pages[run // L_SUMMARY_RUNS]

cdef inline uint64_t *run_marks(lnt_freed_page *g, uint64_t run) noexcept nogil:
    """A bit a block of a run: 8 words."""
    return &g.bits[run % L_SUMMARY_RUNS * 8]

cdef inline bint is_marked(lnt_pool *p, uint64_t pba) noexcept nogil:
    cdef lnt_freed_page *g = marks_of(p, pba // L_RUN_BLOCKS)
    return g != NULL and run_marks(g, pba // L_RUN_BLOCKS)[pba % L_RUN_BLOCKS // 64] >> (pba % 64) & 1

cdef inline int any_marked(lnt_freed_page *g, uint64_t run) noexcept nogil:
    cdef uint64_t *v = run_marks(g, run)
    return (v[0] | v[1] | v[2] | v[3] | v[4] | v[5] | v[6] | v[7]) != 0

cdef inline void marks_delay(lnt_pool *p, uint64_t delay_us) noexcept nogil:
    """How long what is freed comes to rest before it is given back."""
    p.marks.delay_us = delay_us

cdef inline void marks_look(lnt_pool *p, uint64_t due_us) noexcept nogil:
    """When free blocks are looked for; 0: not before another one is marked."""
    p.marks.due_us = due_us

cdef inline void marks_hurry(lnt_pool *p) noexcept nogil:
    if p.marks.due_us:
        p.marks.due_us = p.now_us
