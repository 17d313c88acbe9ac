"""Metadata pages that cannot be had: noted, not asked for again at once, no hindrance to others (docs/durability.md, Failures).

An op that needs such a page fails. A dropped reference that needs it is set aside: it stays in the pending list, so that its
space stays pending across restarts, and is tried again from time to time. Nothing is allocated where counts or checksums cannot
be read.
"""
from core.base.damage cimport lnt_bad_page
from core.base.dropped cimport ring_count, ring_oldest, ring_push, ring_ready
from core.base.layout cimport (
    L_COUNT_START, L_CSUM_BLOCKS, L_CSUM_START, L_GROUP_BLOCKS, L_RUN_BLOCKS, L_ZONE_BLOCKS, PK_COUNT, PK_CSUM,
)
from core.base.memory cimport mem_zeroed
from core.base.runs cimport run_keep, run_release
from core.base.space cimport RB_COUNTS, RB_CSUMS
from core.base.trace cimport TE_DAMAGE, trace_add
from libc.stdint cimport uint32_t
from libc.stdlib cimport free

cdef enum:
    BAD_PAGES = 1024              # remembered; beyond, the one that was met first is forgotten
    AGAIN_US = 1000000            # a page that failed is not read again before
    RETRY_US = 60000000           # some of what is set aside is tried again so often
    RETRY_ITEMS = 32


# -- runs that nothing is taken from -----------------------------------------------------------------------------------


cdef void runs_of(lnt_pool *p, uint64_t home, uint8_t kind, uint64_t *first, uint64_t *end) noexcept nogil:
    """The runs whose counts (or some of whose checksums) a page holds."""
    cdef uint64_t zone = home // L_ZONE_BLOCKS * L_ZONE_BLOCKS
    cdef uint64_t each = L_GROUP_BLOCKS if kind == PK_COUNT else L_CSUM_BLOCKS
    cdef uint64_t block = zone + (home % L_ZONE_BLOCKS - (L_COUNT_START if kind == PK_COUNT else L_CSUM_START)) * each
    first[0] = block // L_RUN_BLOCKS
    end[0] = (block + each + L_RUN_BLOCKS - 1) // L_RUN_BLOCKS
    if end[0] > (zone + L_ZONE_BLOCKS) // L_RUN_BLOCKS:
        end[0] = (zone + L_ZONE_BLOCKS) // L_RUN_BLOCKS
    if end[0] > p.n_runs:
        end[0] = p.n_runs


cdef uint64_t damage_held(lnt_pool *p) noexcept nogil:
    """Free blocks in runs that nothing is taken from because of damage: more, where several pages are to blame for one."""
    cdef uint64_t first, end, n = 0
    cdef uint32_t i
    for i in range(p.damage.count):
        if p.damage.pages[i].kind == PK_COUNT or p.damage.pages[i].kind == PK_CSUM:
            runs_of(p, p.damage.pages[i].block, p.damage.pages[i].kind, &first, &end)
            while first < end:
                n += L_RUN_BLOCKS - p.run_used[first] if p.run_busy[first] & (RB_COUNTS | RB_CSUMS) else 0
                first += 1
    return n


# -- pages -------------------------------------------------------------------------------------------------------------


cdef lnt_bad_page *known(lnt_pool *p, uint64_t block) noexcept nogil:
    cdef uint32_t i
    for i in range(p.damage.count):
        if p.damage.pages[i].block == block:
            return &p.damage.pages[i]
    return NULL


cdef lnt_bad_page *place(lnt_pool *p) noexcept nogil:
    """Room for one more. NULL: no memory."""
    cdef lnt_bad_page *b
    cdef uint32_t i
    if p.damage.pages == NULL:
        p.damage.pages = <lnt_bad_page *>mem_zeroed(BAD_PAGES * sizeof(lnt_bad_page))
        if p.damage.pages == NULL:
            return NULL
    if p.damage.count < BAD_PAGES:
        p.damage.count += 1
        return &p.damage.pages[p.damage.count - 1]
    b = p.damage.pages
    for i in range(1, BAD_PAGES):
        if p.damage.pages[i].until_us < b.until_us:
            b = &p.damage.pages[i]
    return b


cdef void damage_met(lnt_pool *p, lnt_page *f, lnt_op *op) noexcept nogil:
    """The page of `f` could not be read, or is not what it should be; `op` asked for it, or is the first who waits."""
    cdef lnt_bad_page *b = known(p, f.id)
    cdef uint64_t run = 0, end = 0
    if b == NULL:
        b = place(p)
        if b != NULL:
            b.block = f.id
            b.object = 0
            b.times = 0
            p.damage.met += 1
            trace_add(p, TE_DAMAGE, f.id, f.kind)
    if b != NULL:
        b.kind = f.kind
        b.status = f.error
        b.times += 1
        b.until_us = p.now_us + AGAIN_US
        if op == p.background_op:
            b.object = 0              # met by reclaim: nobody has it any more
        elif op != NULL and op.obj != NULL:
            b.object = op.obj.id
    if f.kind == PK_COUNT or f.kind == PK_CSUM:
        runs_of(p, f.id, f.kind, &run, &end)
        while run < end:
            run_keep(p, run, RB_COUNTS if f.kind == PK_COUNT else RB_CSUMS)
            run += 1
    if p.damage.due_us == 0:
        p.damage.due_us = p.now_us + RETRY_US


cdef void damage_over(lnt_pool *p, uint64_t block, uint8_t kind) noexcept nogil:
    """A page was read and is sound: if it was not before, those who need it may go on."""
    cdef lnt_bad_page *b = known(p, block)
    cdef uint64_t run = 0, end = 0
    if b != NULL:
        p.damage.count -= 1
        b[0] = p.damage.pages[p.damage.count]
        p.damage.mended = 1
    if kind == PK_COUNT or kind == PK_CSUM:
        runs_of(p, block, kind, &run, &end)
        while run < end:
            run_release(p, run, RB_COUNTS if kind == PK_COUNT else RB_CSUMS)
            run += 1


cdef int damage_recent(lnt_pool *p, uint64_t block) noexcept nogil:
    """The status with which a page failed a moment ago; 0: ask the medium."""
    cdef lnt_bad_page *b = known(p, block)
    return b.status if b != NULL and p.now_us < b.until_us else 0


cdef uint64_t damage_probe(lnt_pool *p) noexcept nogil:
    """A block whose counts are to be asked for once more: those of one damaged page after the other. 0: none."""
    cdef uint32_t _i
    cdef uint64_t first = 0, end = 0
    for _i in range(p.damage.count):
        p.damage.probe = (p.damage.probe + 1) % p.damage.count
        if p.damage.pages[p.damage.probe].kind == PK_COUNT:
            runs_of(p, p.damage.pages[p.damage.probe].block, PK_COUNT, &first, &end)
            return first * L_RUN_BLOCKS
    return 0


cdef void damage_free(lnt_pool *p) noexcept nogil:
    free(p.damage.pages)
    free(p.damage.aside.items)
    p.damage.pages = NULL
    p.damage.aside.items = NULL


# -- dropped references that wait for one ------------------------------------------------------------------------------


cdef int aside_ready(lnt_pool *p) noexcept nogil:
    """1: there is memory for one more."""
    return ring_ready(&p.damage.aside, 1)


cdef int aside_put(lnt_pool *p, lnt_dropped *it) noexcept nogil:
    """Set an item aside; the caller takes it off its ring. 0: the pending list of a checkpoint has no room."""
    if ring_count(&p.damage.aside) >= <uint64_t>p.checkpoint.area_blocks * 4:
        return 0
    p.damage.blocks += it.blocks
    ring_push(&p.damage.aside, it)
    if p.damage.due_us == 0:
        p.damage.due_us = p.now_us + RETRY_US
    return 1


cdef bint aside_due(lnt_pool *p, uint64_t *n) noexcept nogil:
    """True when it is time to try n of what was set aside again: some of it, or all once a page was mended."""
    n[0] = ring_count(&p.damage.aside)
    if p.damage.mended:
        p.damage.mended = 0
        return True
    if p.damage.due_us == 0 or p.now_us < p.damage.due_us:
        return False
    n[0] = min(n[0], <uint64_t>RETRY_ITEMS)
    return True


cdef lnt_dropped *aside_take(lnt_pool *p) noexcept nogil:
    """The oldest of what was set aside, which it no longer is; valid until the next is."""
    cdef lnt_dropped *it = ring_oldest(&p.damage.aside)
    p.damage.blocks -= it.blocks
    p.damage.aside.head += 1
    return it


cdef void aside_tried(lnt_pool *p) noexcept nogil:
    """Those that were to be tried are ready: when the next will be."""
    p.damage.due_us = p.now_us + RETRY_US if p.damage.count or ring_count(&p.damage.aside) else 0


cdef uint64_t damage_due(lnt_pool *p) noexcept nogil:
    """When `aside_due` wants to be asked; 0: not of its own."""
    return 1 if p.damage.mended else p.damage.due_us
