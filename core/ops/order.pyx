"""Which regions the engine puts in order by itself, and how much of the time that may take (docs/operations.md, "Fragmentation").

A region is noted when much of it has been overwritten since it was shared, and when a long read finds it scattered: then those
that lie behind it, too, so that a reader in order finds them moved. Noted regions are moved (core/ops/moving.pyx, which says
whether that is worth it) behind the initiators: while they only read, some at a time, since it is their reads that become
faster; while they write, fewer, with rests. What is noted lives in memory only, and is forgotten where there is no place for it.

In memory a scattered read costs nothing, and nothing is noted. What is moved in a page cache is written back beside later
writers, so there only what is read counts, and nothing is moved while they write. What is found there is read by copies, however
it lies: beside its readers one is moved at a time, with long rests, for the day on which the cache has it no more.

Lives here and nowhere else: `ordering`.
"""
from core.base.hash cimport hash_slot
from core.base.layout cimport L_BLOCK_BYTES, L_RUN_BLOCKS
from core.base.pool cimport op_state
from core.base.regions cimport region_key, region_start
from core.base.schedule cimport op_ready
from core.base.types cimport MOVED, MOVED_NOWHERE, OPF_BACKGROUND, OP_MOVE, OP_ORDERED
from core.base.ordering cimport ORDER_MOVERS, ORDER_NOTED_BITS, ORDER_WANTED, lnt_mover, lnt_noted
from core.objects cimport object_find, object_release
from libc.stdint cimport uint32_t
from libc.stdlib cimport free
from libc.string cimport memset

cdef enum:
    GAP_WORTH = 16384             # a medium whose requests cost less is a page cache
    AGAIN_US = 250000             # a region that was looked at is not noted for its readers again for so long
    SILENT_US = 20000             # initiators that have sent nothing for so long are not there
    AHEAD = 3                     # regions behind one that a long read finds scattered
    BESIDE = 3                    # moved at a time beside initiators that write ...
    REST = 1                      # ... each followed by a rest so many times as long ...
    REST_CACHED = 7               # ... or so many, beside those that read what the page cache has: an eighth of their time ...
    MOVE_US = 20000               # ... as this at most: what takes longer has waited for them


cdef inline uint64_t WAITS() noexcept nogil:
    return <uint64_t>-1               # its turn has not come


cdef inline lnt_noted *noted_of(lnt_pool *p, uint64_t key) noexcept nogil:
    return &p.ordering.noted[hash_slot(key, ORDER_NOTED_BITS)]


cdef inline bint takes(lnt_pool *p, lnt_object *o, uint32_t gap_least) noexcept nogil:
    """There is room to note one more region, and the medium and the object are such that it may be moved."""
    return not (p.ordering.off or p.read_only or p.ordering.count == ORDER_WANTED or o.pub.read_only
                or p.background_device == NULL or p.background_device.gap_bytes < gap_least)


cdef void note(lnt_pool *p, lnt_object *o, uint64_t lba, lnt_noted *noted) noexcept nogil:
    cdef uint32_t at = (p.ordering.first + p.ordering.count) % ORDER_WANTED
    noted.key = region_key(o, lba)
    noted.until_us = WAITS()
    p.ordering.wanted[at].object = o.pub.id
    p.ordering.wanted[at].lba = region_start(lba)
    p.ordering.count += 1
    if p.background_device != p.current_device:
        p.background_device.wake(p.background_device)


cdef void order_overwritten(lnt_pool *p, lnt_object *o, uint64_t lba) noexcept nogil:
    """Much of the region of lba has new places: look at it when there is time."""
    cdef lnt_noted *noted = noted_of(p, region_key(o, lba))
    if takes(p, o, GAP_WORTH) and (noted.key != region_key(o, lba) or noted.until_us != WAITS()):
        note(p, o, lba, noted)


cdef void order_read(lnt_pool *p, lnt_object *o, uint64_t lba) noexcept nogil:
    """A long read has found the region of lba scattered: look at it and at those behind it, unless that was said a moment ago."""
    cdef uint64_t blocks = o.pub.size_bytes // L_BLOCK_BYTES
    cdef lnt_noted *noted
    cdef int _i
    for _i in range(1 + AHEAD):
        noted = noted_of(p, region_key(o, lba))
        if lba < blocks and takes(p, o, 1) and (noted.key != region_key(o, lba) or p.now_us >= noted.until_us):
            note(p, o, lba, noted)
        lba += L_RUN_BLOCKS


cdef void look_around(lnt_pool *p) noexcept nogil:
    """Whether initiators write now, and whether they are served from a page cache."""
    if p.ordering.changes != p.budget.changes:
        p.ordering.changes = p.budget.changes
        p.ordering.writing_us = p.now_us
    if p.ordering.cached != p.budget.cached:
        p.ordering.cached = p.budget.cached
        p.ordering.cached_us = p.now_us


cdef inline bint beside_writers(lnt_pool *p) noexcept nogil:
    return p.ordering.writing_us != 0 and p.now_us < p.ordering.writing_us + SILENT_US


cdef inline bint beside_cached(lnt_pool *p) noexcept nogil:
    """Initiators read what the page cache has: that gains little by a move, and waits for its copies."""
    return p.ordering.cached_us != 0 and p.now_us < p.ordering.cached_us + SILENT_US


cdef inline uint64_t silent_us(lnt_pool *p) noexcept nogil:
    """From when on it costs nobody anything, if they send nothing more."""
    cdef uint64_t last = p.ordering.cached_us if beside_cached(p) else p.ordering.writing_us
    return last + SILENT_US if last else 0


cdef inline uint32_t most_now(lnt_pool *p) noexcept nogil:
    """How many regions may be moved at a time."""
    if beside_writers(p):
        return BESIDE if p.background_device.gap_bytes >= GAP_WORTH else 0
    return 1 if beside_cached(p) else ORDER_MOVERS


cdef inline bint may_begin(lnt_pool *p) noexcept nogil:
    return p.ordering.busy < most_now(p) and (p.now_us >= p.ordering.rest_us or p.now_us >= silent_us(p))


cdef lnt_mover *free_mover(lnt_pool *p) noexcept nogil:
    cdef int i
    for i in range(ORDER_MOVERS):
        if p.ordering.movers[i].move.obj == NULL:
            return &p.ordering.movers[i]
    return NULL


cdef void begin(lnt_pool *p, lnt_object *o, uint64_t lba) noexcept nogil:
    cdef lnt_mover *m = free_mover(p)
    memset(m, 0, sizeof(lnt_mover))
    m.ended.kind = OP_ORDERED
    m.ended.owner = m
    m.ended.dev = m.move.dev = p.background_device
    m.move.kind = OP_MOVE
    m.move.flags = OPF_BACKGROUND
    m.move.obj = &o.pub
    m.move.offset = lba * L_BLOCK_BYTES
    m.move.length = min(o.pub.size_bytes // L_BLOCK_BYTES - lba, <uint64_t>L_RUN_BLOCKS) * L_BLOCK_BYTES
    m.move.owner = &m.ended
    op_state(&m.move).internal = 1        # its end is told to `ended`
    op_state(&m.move).pool = p
    m.began_us = p.now_us
    o.pub.handles += 1
    p.ordering.busy += 1
    op_ready(p, &m.move)


cdef int order_turn(lnt_pool *p) noexcept nogil:
    """Begin the moves that may begin. 1: one did."""
    cdef lnt_object *o
    cdef lnt_noted *noted
    cdef uint64_t lba
    cdef int began = 0
    look_around(p)
    while p.ordering.count and may_begin(p):
        o = object_find(p, p.ordering.wanted[p.ordering.first].object)
        lba = p.ordering.wanted[p.ordering.first].lba
        p.ordering.first = (p.ordering.first + 1) % ORDER_WANTED
        p.ordering.count -= 1
        if o == NULL:                 # deleted since
            continue
        noted = noted_of(p, region_key(o, lba))
        if noted.key == region_key(o, lba):
            noted.until_us = p.now_us + AGAIN_US
        if lba < o.pub.size_bytes // L_BLOCK_BYTES:         # else it was shrunk since, and the move would be refused
            begin(p, o, lba)
            began = 1
    return began


cdef uint64_t order_due(lnt_pool *p) noexcept nogil:
    """When the next may begin, if none ends before; 0: none waits."""
    if p.ordering.count == 0 or p.ordering.busy == ORDER_MOVERS:
        return 0
    if p.ordering.busy < most_now(p):
        return max(min(silent_us(p), p.ordering.rest_us), <uint64_t>1)
    return 0 if p.ordering.busy else silent_us(p)


cdef void order_ended(lnt_pool *p, lnt_op *op) noexcept nogil:
    """A move is over: those whom it costs something are left their part of the time."""
    cdef lnt_mover *m = <lnt_mover *>op.owner
    cdef uint64_t took_us = min(p.now_us - m.began_us, <uint64_t>MOVE_US)
    p.ordering.regions += m.move.status == 0 and m.move.result == MOVED
    p.ordering.nowhere += m.move.status == 0 and m.move.result == MOVED_NOWHERE
    object_release(p, <lnt_object *>m.move.obj)
    p.ordering.busy -= 1
    look_around(p)
    if m.move.status == 0 and m.move.result == MOVED and p.now_us < silent_us(p):
        p.ordering.rest_us = p.now_us + (REST_CACHED if beside_cached(p) else REST) * took_us
    m.move.obj = NULL


cdef void order_switch(lnt_pool *p, bint on) noexcept nogil:
    """Off: nothing is noted any more, and what was is forgotten. What is under way ends."""
    p.ordering.off = not on
    if not on:
        p.ordering.count = 0
        memset(p.ordering.noted, 0, sizeof(p.ordering.noted))


cdef void order_free(lnt_pool *p) noexcept nogil:
    """The pool is gone: what moves had in memory goes, too."""
    cdef int i
    for i in range(ORDER_MOVERS):
        if p.ordering.movers[i].move.obj != NULL:
            free(op_state(&p.ordering.movers[i].move).bounce)
            free(op_state(&p.ordering.movers[i].move).sub)
