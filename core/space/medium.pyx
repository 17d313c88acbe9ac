"""Room below the pool: a file is sparse, and the file system under it may be full (docs/space.md, "Room below").

Two things must never meet a full file system: fixed pages, and the homes of nodes, since both are written when it is too late to
refuse. So a zone's fixed pages are allocated before the first block of the zone is taken, and nodes live in runs that were
allocated for them as a whole. Data needs no such thing: the write of it fails, and only that one.

A block device may be thin. It is allocated by writing zeros, which only dead blocks can bear: pages of a zone that nobody uses,
and the free blocks of runs. What is in use when a pool first meets such a device is written again as it is, at the open.
"""
import errno

from core import layout
from core.flights import allocate_each

from core.base.entries cimport WAIT
from core.base.layout cimport (
    L_BLOCK_BYTES, L_COUNT_START, L_GROUP_BLOCKS, L_RUN_BLOCKS, L_ZONE_BLOCKS, L_ZONE_META_BLOCKS, SB_NODE_RUNS, SF_AHEAD,
)
from core.base.memory cimport mem_widen, mem_zeroed
from core.base.native cimport lnt_get_le32
from core.base.operation cimport waiter_queue
from core.base.page cimport lnt_page
from core.base.runs cimport run_keep, run_release
from core.base.schedule cimport no_room, ops_ready
from core.base.space cimport NODE_RUNS, RB_HELD, RB_NODES, lnt_medium
from core.base.trace cimport TE_NODE_RUN, TE_NO_DISCARD, TE_ROOM, TE_SHORT, trace_add
from core.base.types cimport IOF_NEW, IO_ALLOCATE, ST_MEMORY, ST_NO_SPACE
from core.space.budget cimport budget_hurry
from core.space.counts cimport count_page
from core.space.marks cimport freed_forget
from libc.errno cimport EINTR, EINVAL, ENOMEM, EOPNOTSUPP
from libc.stdint cimport uint32_t, uint8_t
from libc.string cimport memset

cdef enum:
    RETRY_US = 500000             # a medium without room is not asked again before
    RUN_LEAST = 64                # free blocks of a run that nodes share with data, where no run is wholly free
    ASK_ZONE = 1
    ASK_RUN = 2


cdef int medium_keeps(lnt_pool *p, int32_t result) noexcept nogil:
    """What came of giving blocks back. A failure is harmless: 1, it may be tried again; else it was the last try."""
    if result == 0:
        if p.medium.is_short:
            p.medium.retry_us = 1     # there is room again: it may be asked at once
        return 0
    if no_room(result) or result == -EINTR or result == -ENOMEM:
        return 1
    p.can_discard = 0
    trace_add(p, TE_NO_DISCARD, <uint64_t>-result, 0)
    return 0


cdef void medium_refused(lnt_pool *p, const lnt_io *io) noexcept nogil:
    """A write of data has failed."""
    if no_room(io.result):
        budget_hurry(p)
        if io.flags & IOF_NEW:
            medium_short(p, io.result)


cdef void medium_short(lnt_pool *p, int32_t result) noexcept nogil:
    """The medium had no room: what would allocate is refused for a while, without asking it each time."""
    cdef lnt_medium *m = &p.medium
    if not m.sparse:
        return
    if m.refused_us == 0:
        trace_add(p, TE_SHORT, <uint64_t>-result, 0)
    budget_hurry(p)                   # what is free goes back at once
    m.refused_us = p.now_us
    m.is_short = 1
    m.retry_us = p.now_us + RETRY_US


cdef void medium_room(lnt_pool *p) noexcept nogil:
    """The medium has taken something new again."""
    if p.medium.refused_us:
        trace_add(p, TE_ROOM, 0, 0)
    p.medium.refused_us = p.medium.retry_us = 0
    p.medium.is_short = 0


cdef void ask_ended(lnt_io *io) noexcept nogil:
    cdef lnt_pool *p = <lnt_pool *>io.owner
    cdef lnt_medium *m = &p.medium
    cdef uint8_t what = m.asking
    cdef bint refused = io.result != 0 and not (m.thin and (io.result == -EOPNOTSUPP or io.result == -EINVAL))
    if not refused and what == ASK_RUN and stretch_ask(p):       # who cannot tell has room
        return
    m.asking = 0
    if what == ASK_RUN:
        run_release(p, m.target, RB_HELD)
    if refused:
        medium_short(p, io.result)
    else:
        medium_room(p)
        if what == ASK_ZONE:
            m.zones[m.target] = 1
        else:
            node_run_join(p, m.target)
    ops_ready(p, &m.waiters)


cdef void zone_ask(lnt_pool *p, uint64_t zone) noexcept nogil:
    """Have a zone's fixed pages allocated below."""
    cdef uint64_t first = L_COUNT_START if p.medium.thin else 0       # before: written when the pool was made or grown
    p.medium.asking = ASK_ZONE
    p.medium.target = zone
    ask(p, zone * L_ZONE_BLOCKS + first, L_ZONE_META_BLOCKS - first)


cdef int run_wants(lnt_pool *p, lnt_waiter *who, uint64_t run) noexcept nogil:
    """Which blocks of a run are to be allocated: all, but of a thin device only the free ones can. 0, WAIT, or why not."""
    cdef lnt_medium *m = &p.medium
    cdef lnt_page *f
    cdef uint32_t k
    cdef int rc = 0
    memset(m.wanted, 0xff, sizeof(m.wanted))
    m.next = 0
    if not m.thin or p.run_used[run] == 0:
        return 0
    f = count_page(p, who, run * L_RUN_BLOCKS, &rc)
    if f == NULL:
        return rc
    for k in range(L_RUN_BLOCKS):
        if (<uint32_t *>f.data)[run * L_RUN_BLOCKS % L_GROUP_BLOCKS + k]:
            m.wanted[k // 64] &= ~(<uint64_t>1 << k % 64)
    return 0


cdef inline bint is_wanted(lnt_medium *m, uint32_t k) noexcept nogil:
    return m.wanted[k // 64] >> k % 64 & 1


cdef int run_ask(lnt_pool *p, lnt_waiter *who, uint64_t run) noexcept nogil:
    """Have a run allocated below. 0, WAIT, or why its counts cannot be had."""
    cdef int rc = run_wants(p, who, run)
    if rc == 0:
        p.medium.asking = ASK_RUN
        p.medium.target = run
        run_keep(p, run, RB_HELD)
        stretch_ask(p)
    return rc


cdef int stretch_ask(lnt_pool *p) noexcept nogil:
    """Ask for the next stretch of a run. 0: there is none."""
    cdef lnt_medium *m = &p.medium
    cdef uint32_t first
    while m.next < L_RUN_BLOCKS and not is_wanted(m, m.next):
        m.next += 1
    first = m.next
    while m.next < L_RUN_BLOCKS and is_wanted(m, m.next):
        m.next += 1
    if first == m.next:
        return 0
    ask(p, m.target * L_RUN_BLOCKS + first, m.next - first)
    return 1


cdef void ask(lnt_pool *p, uint64_t block, uint64_t blocks) noexcept nogil:
    cdef lnt_medium *m = &p.medium
    m.io.kind = IO_ALLOCATE
    m.io.offset = block * L_BLOCK_BYTES
    m.io.length = blocks * L_BLOCK_BYTES
    m.io.owner = p
    m.io.done = ask_ended
    if p.current_device.submit(p.current_device, &m.io):
        ask_ended(&m.io)


cdef void zones_seen(lnt_pool *p) noexcept nogil:
    """A device that may be thin: zones in use are never asked for, since that would write zeros over what counts in them."""
    cdef uint64_t run
    if p.medium.thin:
        p.medium.zones[0] = 1
        for run in range(p.n_runs):
            if p.run_used[run] and not p.run_busy[run]:
                p.medium.zones[run * L_RUN_BLOCKS // L_ZONE_BLOCKS] = 1


cdef uint32_t medium_flags(lnt_pool *p) noexcept nogil:
    """What the superblock says of it."""
    return SF_AHEAD if p.medium.ahead else 0


cdef int medium_wait(lnt_pool *p, lnt_waiter *who) noexcept nogil:
    """The op that runs now runs again when the medium has answered."""
    waiter_queue(who, &p.medium.waiters)
    return WAIT


cdef int zone_need(lnt_pool *p, lnt_waiter *who, uint64_t zone) noexcept nogil:
    """Before the first block of a zone is taken: 0 when its fixed pages are allocated, else WAIT or ST_NO_SPACE."""
    if p.medium.zones[zone]:
        return 0
    if not p.medium.asking and not p.medium.is_short:
        zone_ask(p, zone)
    if p.medium.zones[zone]:
        return 0
    return medium_wait(p, who) if p.medium.asking else ST_NO_SPACE


# -- runs for nodes ----------------------------------------------------------------------------------------------------


cdef void node_run_join(lnt_pool *p, uint64_t run) noexcept nogil:
    """From here on only nodes are put into this run, which is allocated below as a whole."""
    if p.medium.n_runs == NODE_RUNS or p.run_busy[run]:
        return
    p.medium.runs[p.medium.n_runs] = <uint32_t>run
    p.medium.n_runs += 1
    run_keep(p, run, RB_NODES)
    freed_forget(p, run)
    trace_add(p, TE_NODE_RUN, 0, run)   # one event however many: it repeats as a pool fills


cdef void nodes_tidy(lnt_pool *p) noexcept nogil:
    """Runs that nodes have filled are runs like others again."""
    cdef uint32_t i = 0
    while i < p.medium.n_runs:
        if p.run_used[p.medium.runs[i]] == L_RUN_BLOCKS:
            run_release(p, p.medium.runs[i], RB_NODES)
            p.medium.n_runs -= 1
            p.medium.runs[i] = p.medium.runs[p.medium.n_runs]
        else:
            i += 1


cdef uint64_t with_room(lnt_pool *p, uint32_t used_most, int ready) noexcept nogil:
    """The next run that nobody keeps and of which at most so many blocks are used. NO_RUN: there is none."""
    cdef uint64_t i, run
    for i in range(p.n_runs):
        run = (p.medium.cursor + i) % p.n_runs
        if (p.run_used[run] <= used_most and not p.run_busy[run]
                and (p.medium.zones[run * L_RUN_BLOCKS // L_ZONE_BLOCKS] or not ready)):
            p.medium.cursor = run
            return run
    return NO_RUN


cdef uint64_t node_run_candidate(lnt_pool *p) noexcept nogil:
    """A run for nodes, wholly free where there is one. NO_RUN: none, or what is free is promised to somebody."""
    cdef uint64_t run
    if (p.medium.n_runs == NODE_RUNS or p.free_blocks < p.held_blocks + p.reserved_unused
            or p.free_blocks - p.held_blocks - p.reserved_unused < L_RUN_BLOCKS and p.reserved_unused):
        return NO_RUN
    run = with_room(p, 0, 1)
    if run == NO_RUN:
        run = with_room(p, 0, 0)
    if run == NO_RUN:
        run = with_room(p, L_RUN_BLOCKS - RUN_LEAST, 1)
    return run if run != NO_RUN else with_room(p, L_RUN_BLOCKS - 1, 1)


cdef int nodes_prepare(lnt_pool *p, lnt_waiter *who) noexcept nogil:
    """Before a checkpoint chooses homes: have as many blocks for nodes as it needs and the time until the next will need.

    0 when there are, or no more can be had; WAIT, ST_MEMORY.
    """
    cdef lnt_medium *m = &p.medium
    cdef uint64_t run
    cdef int rc
    if not m.sparse:
        return 0
    while p.nodes_free < p.nodes_without_home + m.goal and not m.is_short:
        if m.asking:
            return medium_wait(p, who)
        run = node_run_candidate(p)
        if run == NO_RUN:
            break
        if m.zones[run * L_RUN_BLOCKS // L_ZONE_BLOCKS]:
            rc = run_ask(p, who, run)
            if rc:
                return rc if rc == WAIT or rc == ST_MEMORY else 0
        else:
            zone_ask(p, run * L_RUN_BLOCKS // L_ZONE_BLOCKS)
        if m.asking:
            return medium_wait(p, who)
    return 0


cdef void medium_turn(lnt_pool *p) noexcept nogil:
    """When a medium that was short may be asked again: by what is missing, or else by the next write that allocates."""
    cdef lnt_medium *m = &p.medium
    cdef uint64_t run
    if m.retry_us == 0 or p.now_us < m.retry_us or m.asking:
        return
    m.retry_us = 0
    m.is_short = 0
    if p.nodes_free < p.nodes_without_home + m.goal:
        run = node_run_candidate(p)
        if run != NO_RUN and m.zones[run * L_RUN_BLOCKS // L_ZONE_BLOCKS] and not (m.thin and p.run_used[run]):
            run_ask(p, NULL, run)     # no counts are wanted for it: nobody need wait


cdef void medium_later(lnt_pool *p, uint64_t after_us) noexcept nogil:
    """Something is missing that no write will ask for: the medium is asked again so long after, at the latest."""
    if p.medium.retry_us == 0:
        p.medium.retry_us = p.now_us + after_us


cdef void medium_goal(lnt_pool *p, uint64_t blocks) noexcept nogil:
    """So many free blocks shall be allocated below for nodes, beyond what those without a home need."""
    p.medium.goal = blocks


cdef int zones_widen(lnt_pool *p, uint64_t total_blocks) noexcept nogil:
    """1 when there is memory for the zones of a pool that has become so large."""
    cdef uint64_t zone
    if not mem_widen(<void **>&p.medium.zones, total_blocks // L_ZONE_BLOCKS + 2):
        return 0
    for zone in range((p.total_blocks + L_ZONE_BLOCKS - 1) // L_ZONE_BLOCKS, total_blocks // L_ZONE_BLOCKS + 2):
        p.medium.zones[zone] = not p.medium.sparse
    return 1


# -- a pool is opened: the device finishes everything inline -------------------------------------------------------------


cdef int allocate_now(lnt_pool *p, object device, uint64_t block, uint64_t blocks) except -1:
    """1 when the blocks are allocated below, 0: there is no room."""
    return allocated(p, allocate_each(device, [(block * L_BLOCK_BYTES, blocks * L_BLOCK_BYTES)])[0])


cdef int allocated(lnt_pool *p, object error) except -1:
    """What an error, or none, says of room: as `allocate_now`. A medium that cannot tell is not asked again."""
    if error is None:
        return 1
    if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
        p.medium.sparse = 0
        return 1
    medium_short(p, -error.errno)
    return 0


cdef uint64_t fixed_from(object device) except? 0:
    """The first block that is allocated ahead. Of a device that may be thin, those below were written before: the owner renews
    its record while the pool is opened, and nothing older may be written over that.
    """
    return layout.OWNER_BLOCK + 1 if getattr(device, "thin", False) else 0


cdef int medium_open(lnt_pool *p, object device, uint32_t flags) except -1:
    """Have what every pool needs allocated: superblocks, the first zone's fixed pages, journal, both area halves.

    `flags`: the superblock's, which say it of a block device.
    """
    cdef uint64_t zones = (p.total_blocks + L_ZONE_BLOCKS - 1) // L_ZONE_BLOCKS
    p.medium.zones = <uint8_t *>mem_zeroed(zones + 1)
    if p.medium.zones == NULL:
        raise MemoryError
    p.can_discard = 1                 # until it refuses
    p.medium.sparse = 1 if getattr(device, "sparse", False) else 0
    p.medium.thin = 1 if getattr(device, "thin", False) else 0
    p.medium.ahead = 1 if p.medium.thin and flags & SF_AHEAD else 0
    cdef uint64_t first = fixed_from(device)
    if p.medium.sparse:
        p.medium.zones[0] = p.medium.ahead or allocate_now(
            p, device, first, p.checkpoint.area_start + 2 * <uint64_t>p.checkpoint.area_blocks - first)
    if not p.medium.sparse:
        memset(p.medium.zones, 1, zones + 1)
    return 0


cdef int medium_load(lnt_pool *p, object device, bytes super_raw) except -1:
    """The same for the fixed pages of zones in use, and for the runs that nodes are put in."""
    cdef const uint8_t *sb = super_raw
    cdef uint64_t zone, run, runs = L_ZONE_BLOCKS // L_RUN_BLOCKS
    cdef uint32_t i
    if not p.medium.sparse:
        return 0
    cdef list used = []
    for zone in range(1, (p.total_blocks + L_ZONE_BLOCKS - 1) // L_ZONE_BLOCKS):
        for run in range(zone * runs, min((zone + 1) * runs, p.n_runs)):
            if p.run_used[run] and not p.run_busy[run]:
                used.append(zone)
                break
    cdef int ahead = p.medium.zones[0]
    places = [] if p.medium.ahead else [(zone * L_ZONE_BLOCKS * L_BLOCK_BYTES, L_ZONE_META_BLOCKS * L_BLOCK_BYTES)
                                        for zone in used]
    for zone in used:
        p.medium.zones[zone] = 1
    for zone, error in zip(used, allocate_each(device, places), strict=False):
        p.medium.zones[zone] = allocated(p, error)
        ahead &= p.medium.zones[zone]
    for i in range(NODE_RUNS):
        run = lnt_get_le32(sb + SB_NODE_RUNS + 4 * i)
        if (0 < run < p.n_runs and not p.run_busy[run] and p.run_used[run] < L_RUN_BLOCKS
                and p.medium.zones[run // runs]
                and (p.medium.ahead or allocate_now(p, device, run * L_RUN_BLOCKS, L_RUN_BLOCKS))):
            node_run_join(p, run)
    if p.medium.thin:
        p.medium.ahead = ahead
        zones_seen(p)
    return 0
