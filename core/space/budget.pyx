"""How much discards may take from the initiators (docs/space.md, "Space goes back").

A hole in a file is punched under the lock that each write of the file needs, so what matters is the share of the time in which
a discard is under way. While initiators send commands one discard is, and then none for REST times as long as it took. When
they are silent a few follow each other without a rest, and where room is short all go at once. A discard is never larger than
what takes a moment, by what the last ones took.
"""
from core.base.layout cimport L_RUN_BLOCKS
from core.space.marks cimport marks_hurry

cdef enum:
    REST = 9                  # of ten parts of the time nine are the initiators' alone: in memory their reactor punches
    REST_MAX_US = 200000      # one discard that was slow for reasons of its own does not stop the others for long
    SILENT_US = 20000         # initiators that have sent nothing for so long are not there
    MOMENT_US = 500           # what one discard should take at most beside them, as each of their writes may wait for it ...
    CALM_US = 5000            # ... and when nobody is there
    BLOCKS_MAX = 8192         # 32 MiB in one discard at most ...
    BLOCKS_MIN = 16           # ... and 64 KiB at least, however long that takes
    IN_FLIGHT_CALM = 2
    IN_FLIGHT_HURRY = 8
    HURRY_US = 10000000       # so long after the medium had no room, or somebody said so


cdef inline bint hurried(lnt_pool *p) noexcept nogil:
    return p.now_us < p.budget.hurry_us


cdef inline bint contended(lnt_pool *p) noexcept nogil:
    return p.budget.active_us != 0 and p.now_us < p.budget.active_us + SILENT_US


cdef void budget_hurry(lnt_pool *p) noexcept nogil:
    """The medium has no room, or little: what is free goes back at once."""
    p.budget.hurry_us = p.now_us + HURRY_US
    marks_hurry(p)


cdef bint budget_hurries(lnt_pool *p) noexcept nogil:
    return hurried(p)


cdef inline void look_around(lnt_pool *p) noexcept nogil:
    """Whether initiators send commands now."""
    if p.budget.seen != p.budget.requests:
        p.budget.seen = p.budget.requests
        p.budget.active_us = p.now_us


cdef bint budget_beside(lnt_pool *p) noexcept nogil:
    """Discards are made beside initiators now, and nobody is in need of them."""
    look_around(p)
    return contended(p) and not hurried(p)


cdef void budget_took(lnt_pool *p, uint64_t blocks, uint64_t took_us) noexcept nogil:
    """A discard of so many blocks is over. The next are as large as fits the moment, and what it took is to be rested."""
    cdef uint64_t most = MOMENT_US if contended(p) else CALM_US
    if took_us > most:
        if blocks <= p.budget.blocks and blocks > BLOCKS_MIN:
            p.budget.blocks = <uint32_t>blocks // 2
    elif took_us * 2 < most and blocks == p.budget.blocks and blocks < BLOCKS_MAX:
        p.budget.blocks *= 2
    p.budget.owed_us += took_us


cdef uint32_t budget_blocks(lnt_pool *p) noexcept nogil:
    """Blocks that one discard may cover."""
    if p.budget.blocks == 0:
        p.budget.blocks = L_RUN_BLOCKS
    return p.budget.blocks


cdef bint budget_allows(lnt_pool *p, uint32_t in_flight) noexcept nogil:
    """A discard may begin now, beside so many."""
    cdef uint64_t rest
    look_around(p)
    if p.budget.owed_us:
        rest = p.budget.owed_us * REST
        p.budget.owed_us = 0
        p.budget.rest_us = p.now_us + (rest if rest < REST_MAX_US else REST_MAX_US)
    if hurried(p):
        return in_flight < IN_FLIGHT_HURRY
    if contended(p):
        return in_flight == 0 and p.now_us >= p.budget.rest_us
    return in_flight < IN_FLIGHT_CALM


cdef uint64_t budget_due(lnt_pool *p, uint32_t in_flight) noexcept nogil:
    """When the next discard may begin, if no other ends before; 0: none may."""
    if hurried(p) or not contended(p):
        return p.now_us if in_flight < IN_FLIGHT_CALM else 0
    if in_flight:
        return 0
    return p.budget.rest_us if p.budget.rest_us < p.budget.active_us + SILENT_US else p.budget.active_us + SILENT_US
