# cython: language_level=3
"""Space: reference counts, allocation near a goal, dropped references and their way back (docs/on-disk-format.md, counts)."""
from core._cache cimport (
    M_EARLY_FREE, M_EARLY_PUNCH, M_NO_EPOCH, M_NO_HOME_HOLD, M_NO_PUNCH_HOLD, M_ONE_EPOCH, cache_drop, cache_find,
    cache_get, cache_new, frame_dirty, op_ready)
from core._damage cimport aside_put, aside_retry, damage_held, damage_probe
from core._medium cimport zone_need
from core._ring cimport ring_push
from core._state cimport (
    E_DATA, E_HUGE, E_NODE, E_REF, F_VALID, I_DATA, I_HOME, I_NODE, L_COUNT_MAX, L_COUNT_START,
    L_GROUP_BLOCKS, L_NODE_ENTRIES, L_RUN_BLOCKS, L_SUMMARY_RUNS, L_ZONE_BLOCKS, PK_COUNT, PK_NODE, VID, WAIT,
    RB_COUNTS, RB_NODES, frame, freed_page, item, lnt_pool, next_images, run_is_fixed)
from core._trace cimport PF_ASIDE, PF_COUNTS, PF_SUMMARY, TE_COUNT_LIMIT, pool_fail, trace_add
from core._types cimport ST_CHECKSUM, ST_LIMIT, ST_NO_SPACE, lnt_op
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc

cdef extern from *:
    """
    #define lnt_ctz(v) __builtin_ctzll(v)
    """
    uint32_t ctz "lnt_ctz"(uint64_t) nogil

cdef enum:
    GIVEN_UP_PART = 40            # of the time between two looks what is freed for good waits for its neighbours
    DATA_STEPS = 4                # of a turn's budget: a dropped reference to data, beside its blocks ...
    MARKED_PART = 8
    MARKED_LOOKS = 256            # at runs, for blocks that the medium still keeps
    NODE_STEPS = 128              # ... and one to a node, with what it takes along
    COUNT_LIVE = L_COUNT_MAX // 2     # what a count may reach while the pool is open ...
    COUNT_SHARED = 1 << 16            # ... and by copies by reference


# -- runs --------------------------------------------------------------------------------------------------------------

cdef void freed_mark(lnt_pool *p, uint64_t pba) noexcept nogil:
    """A block became free that the medium still keeps."""
    cdef uint64_t run = pba // L_RUN_BLOCKS
    cdef freed_page *g = p.punch.pages[run // L_SUMMARY_RUNS]
    if g == NULL:
        if not p.can_discard:
            return
        g = <freed_page *>calloc(1, sizeof(freed_page))
        if g == NULL:
            return                # it stays with the medium until it is used again
        p.punch.pages[run // L_SUMMARY_RUNS] = g
    run %= L_SUMMARY_RUNS
    g.live += g.age[run] == 0
    g.age[run] = 1
    p.punch.marked += not g.bits[run * 8 + pba % L_RUN_BLOCKS // 64] >> (pba % 64) & 1
    g.bits[run * 8 + pba % L_RUN_BLOCKS // 64] |= <uint64_t>1 << (pba % 64)
    if p.punch.due_us == 0:
        p.punch.due_us = p.now_us + p.punch.delay_us


cdef void freed_give_up(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil:
    """What is marked in these runs need not come to rest first: UNMAP and deletes free what nobody wants again soon."""
    cdef uint64_t run
    cdef freed_page *g
    for run in range(pba // L_RUN_BLOCKS, (pba + n - 1) // L_RUN_BLOCKS + 1):
        g = p.punch.pages[run // L_SUMMARY_RUNS]
        if g != NULL and g.age[run % L_SUMMARY_RUNS]:
            g.age[run % L_SUMMARY_RUNS] = 2
    if p.punch.due_us > p.now_us + p.punch.delay_us // GIVEN_UP_PART:
        p.punch.due_us = p.now_us + p.punch.delay_us // GIVEN_UP_PART


cdef inline bint is_marked(lnt_pool *p, uint64_t pba) noexcept nogil:
    cdef freed_page *g = p.punch.pages[pba // L_RUN_BLOCKS // L_SUMMARY_RUNS]
    return g != NULL and g.bits[pba // L_RUN_BLOCKS % L_SUMMARY_RUNS * 8 + pba % L_RUN_BLOCKS // 64] >> (pba % 64) & 1


cdef bint marks_press(lnt_pool *p) noexcept nogil:
    """More is free and still with the medium than a part of what is in use: small writes should take that."""
    return p.punch.marked > (p.total_blocks - p.free_blocks) // MARKED_PART


cdef void freed_clear(lnt_pool *p, uint64_t pba) noexcept nogil:
    """A block is used again."""
    cdef uint64_t run = pba // L_RUN_BLOCKS
    cdef freed_page *g = p.punch.pages[run // L_SUMMARY_RUNS]
    cdef uint64_t *v
    run %= L_SUMMARY_RUNS
    if g != NULL and g.age[run]:
        v = &g.bits[run * 8]
        p.punch.marked -= v[pba % L_RUN_BLOCKS // 64] >> (pba % 64) & 1
        v[pba % L_RUN_BLOCKS // 64] &= ~(<uint64_t>1 << (pba % 64))
        g.age[run] = (v[0] | v[1] | v[2] | v[3] | v[4] | v[5] | v[6] | v[7]) != 0
        g.live -= g.age[run] == 0


cdef inline void run_delta(lnt_pool *p, uint64_t pba, int delta) noexcept nogil:
    cdef uint64_t run = pba // L_RUN_BLOCKS
    cdef uint32_t before = p.run_used[run]
    p.run_used[run] = <uint32_t>(before + delta)
    p.summary_dirty[run // L_SUMMARY_RUNS] = 1
    p.free_blocks -= delta
    if delta < 0:
        freed_mark(p, pba)
    elif p.punch.pages[run // L_SUMMARY_RUNS] != NULL:
        freed_clear(p, pba)
    if p.run_busy[run]:           # nothing is taken from it meanwhile, and what becomes free waits as well
        p.punch.held -= delta
        if p.run_busy[run] & RB_NODES:
            p.medium.nodes_free -= delta
    elif before == 0:
        p.free_runs -= 1
    elif p.run_used[run] == 0:
        p.free_runs += 1
        if run < p.run_cursor:
            p.run_cursor = run        # what was used before is taken first: the medium already has its blocks


# -- counts ------------------------------------------------------------------------------------------------------------

cdef frame *count_page(lnt_pool *p, uint64_t pba, int *rc) noexcept nogil:
    cdef uint64_t group = pba // L_GROUP_BLOCKS
    cdef uint64_t home = (pba // L_ZONE_BLOCKS) * L_ZONE_BLOCKS + L_COUNT_START + group % 1024
    cdef uint64_t run = group * 2
    cdef frame *f
    if pba >= p.total_blocks or run_is_fixed(p, pba // L_RUN_BLOCKS):
        rc[0] = ST_CHECKSUM
        return NULL
    f = cache_find(p, home)
    if f != NULL and f.state == F_VALID:
        f.used = 1
        return f
    if f == NULL and (run_is_fixed(p, run) or p.run_used[run] == 0) and (
            run_is_fixed(p, run + 1) or p.run_used[run + 1] == 0):
        f = cache_new(p, home, PK_COUNT, 0)   # nothing is counted there: what the medium holds does not matter
        if f == NULL:
            rc[0] = ST_LIMIT
        return f
    return cache_get(p, home, PK_COUNT, 0, rc)


cdef uint32_t *count_at(lnt_pool *p, uint64_t pba, frame **f, int *rc) noexcept nogil:
    f[0] = count_page(p, pba, rc)
    if f[0] == NULL:
        return NULL
    return <uint32_t *>f[0].data + pba % L_GROUP_BLOCKS


cdef int count_touch(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil:
    """0 when the counts of all the blocks are in memory, else WAIT or a status. Starts all the reads it needs."""
    cdef int rc, worst = 0
    cdef uint64_t at = pba, end = pba + n
    while at < end:
        rc = 0
        if count_page(p, at, &rc) == NULL and (rc == WAIT or worst == 0):
            worst = rc                # an op that is queued on a page must not end before it arrives
        at = (at // L_GROUP_BLOCKS + 1) * L_GROUP_BLOCKS
    return worst


cdef int count_add(lnt_pool *p, uint64_t pba, uint32_t n, int32_t delta) noexcept nogil:
    """Add to the counts of blocks that were touched: all or none. ST_LIMIT: one is at its limit; ST_CHECKSUM: damage."""
    cdef uint32_t i
    cdef uint32_t *c
    cdef uint32_t was
    cdef frame *f = NULL
    cdef int rc = 0
    cdef uint64_t b
    for i in range(n):
        b = pba + i
        if i == 0 or b % L_GROUP_BLOCKS == 0:
            f = count_page(p, b, &rc)
            if f == NULL:
                return rc             # before anything has changed: callers touch ranges first
            frame_dirty(p, f)
        c = <uint32_t *>f.data + b % L_GROUP_BLOCKS
        was = c[0]
        if <int64_t>was + delta < 0:
            pool_fail(p, PF_COUNTS, b)
            return ST_CHECKSUM
        if delta > 0 and was + delta > COUNT_LIVE and over_limit(p, was + delta):
            if i:
                count_add(p, pba, i, -delta)
            trace_add(p, TE_COUNT_LIMIT, b, was)
            return ST_LIMIT
        c[0] = <uint32_t>(<int64_t>was + delta)
        if was == 0 and delta > 0:
            run_delta(p, b, 1)
        elif was != 0 and c[0] == 0:
            run_delta(p, b, -1)
    return 0


cdef inline int over_limit(lnt_pool *p, uint32_t count) noexcept nogil:
    """1 when a count may not become so high. Replay may go further: there dropped references are still counted that were off."""
    if p.replaying:
        p.counts_high = 1
        return count > L_COUNT_MAX
    return count > COUNT_LIVE


cdef int shares_room(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil:
    """0 when more entries may refer to each of these touched blocks because of copies by reference, else ST_LIMIT or a status.

    That limit is low, so that copies of nodes, which snapshots call for, have the rest: whoever copies makes a second copy.
    """
    cdef uint32_t i
    cdef int rc = 0
    cdef frame *f = NULL
    if p.replaying:
        return 0
    for i in range(n):
        if i == 0 or (pba + i) % L_GROUP_BLOCKS == 0:
            f = count_page(p, pba + i, &rc)
            if f == NULL:
                return rc
        if (<uint32_t *>f.data)[(pba + i) % L_GROUP_BLOCKS] >= COUNT_SHARED:
            return ST_LIMIT
    return 0


cdef int count_is_one(lnt_pool *p, uint64_t pba, uint32_t n, int *rc) noexcept nogil:
    """1 when every block of the range has exactly one reference."""
    cdef uint32_t i
    cdef frame *f = NULL
    for i in range(n):
        if i == 0 or (pba + i) % L_GROUP_BLOCKS == 0:
            f = count_page(p, pba + i, rc)
            if f == NULL:
                return 0
        if (<uint32_t *>f.data)[(pba + i) % L_GROUP_BLOCKS] != 1:
            return 0
    return 1


cdef int node_touch(lnt_pool *p, uint64_t id) noexcept nogil:
    if id & VID():
        return 0
    return count_touch(p, id, 1)


cdef int node_room(lnt_pool *p, uint64_t id, uint32_t more) noexcept nogil:
    """0 when so many more may refer to a node whose count was touched, else ST_LIMIT or a status."""
    cdef frame *f
    cdef uint32_t *c
    cdef uint32_t refs
    cdef int rc = 0
    if id & VID():
        refs = cache_find(p, id).refs
    else:
        c = count_at(p, id, &f, &rc)
        if c == NULL:
            return rc
        refs = c[0]
    return ST_LIMIT if refs + more > COUNT_LIVE and over_limit(p, refs + more) else 0


cdef int node_ref(lnt_pool *p, uint64_t id, int32_t delta) noexcept nogil:
    """Add to the references of a node whose count was touched."""
    cdef frame *f = cache_find(p, id)
    cdef int rc
    if id & VID():
        f.refs = <uint32_t>(<int64_t>f.refs + delta)
        return 0
    rc = count_add(p, id, 1, delta)
    if rc == 0 and f != NULL and f.refs != 0:
        f.refs = <uint32_t>(<int64_t>f.refs + delta)
    return rc


# -- allocation --------------------------------------------------------------------------------------------------------

cdef uint64_t space_for_nodes(lnt_pool *p) noexcept nogil:
    """Blocks that nodes may still take: the one count of what is free and neither promised to a node nor out of reach."""
    cdef uint64_t kept = p.unhomed + p.punch.held
    if p.medium.sparse:
        return p.medium.nodes_free - p.unhomed if p.medium.nodes_free > p.unhomed else 0
    return p.free_blocks - kept if p.free_blocks > kept else 0


cdef uint64_t space_for_data(lnt_pool *p) noexcept nogil:
    """Blocks that writes of data may still take (before per-object reservations)."""
    return space_beyond(p, p.reserve_blocks)


cdef uint64_t space_beyond(lnt_pool *p, uint64_t reserve) noexcept nogil:
    """Blocks that data may take where so many are kept for nodes: of a sparse medium those in the runs for nodes count first."""
    cdef uint64_t space = space_for_nodes(p)
    if p.medium.sparse:
        if space < reserve // 2:
            return 0
        reserve -= space if space < reserve else reserve
        space = p.free_blocks - p.punch.held if p.free_blocks > p.punch.held else 0
    return space - reserve if space > reserve else 0


cdef uint64_t available_blocks(lnt_pool *p) noexcept nogil:
    """The same with what is being given back to the medium, but for runs that damage keeps away."""
    cdef uint64_t away = damage_held(p) + p.medium.nodes_free
    return space_for_data(p) + (p.punch.held - away if p.punch.held > away else 0)


cdef int take_at(lnt_pool *p, uint64_t pba, uint32_t want, uint32_t *got) noexcept nogil:
    """Claim free blocks from pba on, within its group. got is 0 when the first is taken."""
    cdef int rc = 0
    cdef frame *f
    cdef uint32_t *c
    cdef uint32_t n = 0
    cdef uint64_t room = L_RUN_BLOCKS - pba % L_RUN_BLOCKS
    got[0] = 0
    f = count_page(p, pba, &rc)
    if f == NULL:
        return rc
    c = <uint32_t *>f.data + pba % L_GROUP_BLOCKS
    if want > room:
        want = <uint32_t>room
    while n < want and c[n] == 0:
        n += 1
    if n:
        rc = count_add(p, pba, n, 1)
        if rc:
            return rc
    got[0] = n
    return 0


cdef inline uint64_t zone_of(uint64_t run) noexcept nogil:
    return run * L_RUN_BLOCKS // L_ZONE_BLOCKS


cdef inline int run_usable(lnt_pool *p, uint64_t run) noexcept nogil:
    return run < p.n_runs and p.run_used[run] < L_RUN_BLOCKS and p.medium.zones[zone_of(run)] and (
        not p.run_busy[run] or p.mutations & M_NO_PUNCH_HOLD)


cdef int take_anywhere(lnt_pool *p, uint32_t want, uint64_t *pba, uint32_t *got) noexcept nogil:
    """Free blocks of the next run that has any: the first ones behind those taken last."""
    cdef uint64_t i, run, b
    cdef uint32_t j, k
    cdef int rc = 0
    cdef frame *f
    for i in range(p.n_runs):
        run = p.fit_cursor + i
        if run >= p.n_runs:
            run -= p.n_runs
        if not run_usable(p, run):
            continue
        b = run * L_RUN_BLOCKS
        f = count_page(p, b, &rc)
        if rc > 0:
            rc = 0                    # its counts cannot be read: nothing is taken from here any more
            continue
        if f == NULL:
            return rc
        if p.fit_cursor != run:
            p.fit_block = 0
        p.fit_cursor = run
        for j in range(L_RUN_BLOCKS):
            k = (p.fit_block + j) & (L_RUN_BLOCKS - 1)
            if (<uint32_t *>f.data)[b % L_GROUP_BLOCKS + k] == 0:
                pba[0] = b + k
                p.fit_block = k
                return take_at(p, b + k, want, got)
        pool_fail(p, PF_SUMMARY, b)
        return ST_CHECKSUM            # the summary promised a free block
    return ST_NO_SPACE


cdef int take_marked(lnt_pool *p, uint32_t want, uint64_t *pba, uint32_t *got) noexcept nogil:
    """Free blocks of the next run with some that were freed and not given back: the medium need not find room for them.

    got is 0 where there are none, or looking would take too long.
    """
    cdef uint64_t run, bits
    cdef uint32_t k
    cdef freed_page *g
    cdef int rc, looks = 0
    got[0] = 0
    while looks < MARKED_LOOKS:
        run = p.marked_cursor
        g = p.punch.pages[run // L_SUMMARY_RUNS] if run < p.n_runs else NULL
        looks += 1
        if g == NULL or g.live == 0:
            run = (run // L_SUMMARY_RUNS + 1) * L_SUMMARY_RUNS
            p.marked_cursor = run if run < p.n_runs else 0
            continue
        if g.age[run % L_SUMMARY_RUNS] and run_usable(p, run):
            for k in range(8):
                bits = g.bits[run % L_SUMMARY_RUNS * 8 + k]
                if bits:
                    pba[0] = run * L_RUN_BLOCKS + k * 64 + ctz(bits)
                    rc = take_at(p, pba[0], want, got)
                    if rc == WAIT or got[0] or rc and p.failed:
                        return rc
                    break
        p.marked_cursor = run + 1 if run + 1 < p.n_runs else 0
    return 0


cdef int alloc_extent(lnt_pool *p, uint64_t goal, uint32_t offset, uint32_t want, bint thrifty, uint64_t *pba,
                      uint32_t *got) noexcept nogil:
    """Claim up to `want` contiguous blocks (count 1): at `goal`, else at `offset` of a free run, else anywhere.

    A region of a LUN so gets a run of the pool of its own while there are free ones, which lets huge entries form; the
    unused rest of such a run is anyone's when no free run is left, what was used before first; or (thrifty) always, unless
    the goal was used before, too. 0, WAIT, ST_NO_SPACE or a damage status.
    """
    cdef uint64_t _i, run
    cdef int rc
    got[0] = 0
    if thrifty and not (goal and goal < p.total_blocks and is_marked(p, goal)):
        rc = take_marked(p, want, pba, got)
        if rc == WAIT or got[0] or rc and p.failed:
            return rc
    if goal and goal < p.total_blocks and run_usable(p, goal // L_RUN_BLOCKS):
        rc = take_at(p, goal, want, got)
        if rc == WAIT or got[0] or rc and p.failed:
            pba[0] = goal
            return rc
    if p.free_runs:
        for _i in range(p.n_runs):
            run = p.run_cursor
            if p.run_used[run] == 0 and not p.medium.zones[zone_of(run)] and zone_need(p, zone_of(run)) == WAIT:
                return WAIT
            if p.run_used[run] == 0 and run_usable(p, run):
                pba[0] = run * L_RUN_BLOCKS + offset
                rc = take_at(p, pba[0], want, got)
                if rc == WAIT or got[0] or rc and p.failed:
                    return rc
            p.run_cursor = run + 1 if run + 1 < p.n_runs else 0
    rc = take_marked(p, want, pba, got)
    if rc == WAIT or got[0] or rc and p.failed:
        return rc
    return take_anywhere(p, want, pba, got)


cdef int take_for_node(lnt_pool *p, uint64_t *pba) noexcept nogil:
    """The first free block of the runs that are for nodes alone."""
    cdef uint32_t i, k
    cdef uint64_t b
    cdef int rc = 0
    cdef frame *f
    for i in range(p.medium.n_runs):
        b = <uint64_t>p.medium.runs[i] * L_RUN_BLOCKS
        if p.run_used[p.medium.runs[i]] == L_RUN_BLOCKS or p.run_busy[p.medium.runs[i]] & RB_COUNTS:
            continue
        f = count_page(p, b, &rc)
        if f == NULL:
            if rc == WAIT:
                return WAIT
            continue
        for k in range(L_RUN_BLOCKS):
            if (<uint32_t *>f.data)[b % L_GROUP_BLOCKS + k] == 0:
                pba[0] = b + k
                return count_add(p, b + k, 1, 1)
    return ST_NO_SPACE


cdef int alloc_home(lnt_pool *p, uint64_t *pba) noexcept nogil:
    """One block for a node. Nodes are packed together, away from the runs of data."""
    cdef uint32_t got = 0
    cdef int rc
    if p.medium.sparse:
        return take_for_node(p, pba)
    if run_usable(p, p.fit_cursor):
        rc = take_anywhere(p, 1, pba, &got)
        return rc
    rc = alloc_extent(p, 0, 0, 1, 0, pba, &got)
    if rc == 0:
        p.fit_cursor = pba[0] // L_RUN_BLOCKS
        p.fit_block = 0
    return rc


# -- dropped references ------------------------------------------------------------------------------------------------

cdef void drop(lnt_pool *p, uint64_t ref, uint32_t n, uint8_t kind, uint8_t trim) noexcept nogil:
    cdef item it
    cdef item *last
    cdef frame *f
    cdef uint32_t *c
    cdef int rc = 0
    p.stat_pending_blocks += n & 0xff if kind == I_NODE else n
    if p.mutations & M_EARLY_PUNCH and kind == I_DATA and n == 1:
        c = count_at(p, ref, &f, &rc)
        if c != NULL and c[0] == 1:
            freed_mark(p, ref)
    if kind == I_DATA and p.fifo.tail != p.fifo.head:
        last = &p.fifo.v[(p.fifo.tail - 1) & (p.fifo.cap - 1)]
        if (last.kind == I_DATA and last.ref + last.n == ref and last.seq == p.j.next_seq and last.epoch == p.epoch
                and last.trim == trim and last.n + n <= L_RUN_BLOCKS):
            last.n += n
            return
    it.ref = ref
    it.n = n
    it.kind = kind
    it.trim = trim
    it.seq = p.j.next_seq
    it.epoch = p.epoch
    ring_push(&p.fifo, &it)


cdef void drop_data(lnt_pool *p, uint64_t pba, uint32_t n, uint8_t trim) noexcept nogil:
    """An entry stopped referring to these blocks; the counts follow once that is durable and no I/O can touch them."""
    drop(p, pba, n, I_DATA, trim)


cdef void drop_node(lnt_pool *p, uint64_t id, uint8_t level, uint8_t trim) noexcept nogil:
    drop(p, id, 1 | <uint32_t>level << 8, I_NODE, trim)


cdef int epochs_turn(lnt_pool *p) noexcept nogil:
    """Advance the epoch as far as I/O in flight allows, while anything waits for it. 1 when something may go on."""
    cdef lnt_op *op
    cdef lnt_op *nxt
    cdef int moved = 0
    while (p.fifo.head != p.fifo.tail or p.grace != NULL) and p.inflight[(p.epoch + 1) & 1] == 0:
        if (p.grace == NULL and p.fifo.v[(p.fifo.tail - 1) & (p.fifo.cap - 1)].epoch + 2 <= p.epoch):
            break
        p.epoch += 1
        moved += 1
        op = p.grace
        p.grace = NULL
        while op != NULL:         # each checks its own target when it runs again
            nxt = op.next
            op_ready(p, op)
            op = nxt
        if moved >= 4:
            break
    return moved


cdef int item_is_ripe(lnt_pool *p, item *it) noexcept nogil:
    if it.seq > p.j.hard_seq and not p.mutations & M_EARLY_FREE:
        return 0
    return it.epoch + (1 if p.mutations & M_ONE_EPOCH else 2) <= p.epoch or p.mutations & M_NO_EPOCH


cdef uint64_t pending_count(lnt_pool *p) noexcept nogil:
    """Items whose references are not yet off the counts."""
    return ((p.fifo.tail - p.fifo.head) + (p.homes.tail - p.homes.head) + (p.work.tail - p.work.head)
            + (p.damage.aside.tail - p.damage.aside.head))


cdef void homes_release(lnt_pool *p) noexcept nogil:
    """A checkpoint became durable: blocks of nodes that only the one before it used are free."""
    cdef item *it
    while p.homes.head != p.homes.tail:
        it = &p.homes.v[p.homes.head & (p.homes.cap - 1)]
        if it.epoch >= p.ck.gen:
            break
        it.kind = I_DATA
        ring_push(&p.work, it)
        p.homes.head += 1


cdef int release_data(lnt_pool *p, item *it) noexcept nogil:
    """Take one reference off each block. With trim nobody is expected to want the freed ones soon."""
    cdef uint64_t ref = it.ref, free_before = p.free_blocks
    cdef uint32_t n = it.n
    cdef uint8_t trim = it.trim
    cdef int rc = count_touch(p, ref, n)
    if rc:
        return rc
    p.work.tail -= 1              # `it` is the top of the stack: gone from here on
    rc = count_add(p, ref, n, -1)
    p.stat_reclaimed += p.free_blocks - free_before
    if trim and p.free_blocks != free_before:
        freed_give_up(p, ref, n)
    return rc


cdef int release_node(lnt_pool *p, item *it) noexcept nogil:
    """Take one reference off a node; the last one takes what it refers to along."""
    cdef int rc = node_touch(p, it.ref)
    cdef frame *f
    cdef frame *cf
    cdef uint32_t *c
    cdef uint64_t id = it.ref, e, start
    cdef uint8_t trim = it.trim
    cdef uint8_t level = it.n >> 8
    cdef int i, k
    cdef item sub
    if rc:
        return rc
    if not id & VID():
        c = count_at(p, id, &cf, &rc)
        if c[0] > 1:
            p.work.tail -= 1
            return node_ref(p, id, -1)
        f = cache_get(p, id, PK_NODE, level, &rc)
        if f == NULL:
            return rc
    else:
        f = cache_find(p, id)
        if f.refs > 1:
            p.work.tail -= 1
            f.refs -= 1
            return 0
    p.work.tail -= 1
    sub.seq = sub.epoch = 0
    i = 0
    while i < L_NODE_ENTRIES:
        e = (<uint64_t *>f.data)[i]
        k = 1
        if e & E_NODE():
            sub.kind = I_NODE
            sub.n = 1 | <uint32_t>(level - 1) << 8
        elif e & E_HUGE():
            sub.kind = I_DATA
            sub.n = L_RUN_BLOCKS
        elif e & E_DATA():
            start = e & E_REF()
            while (i + k < L_NODE_ENTRIES and (<uint64_t *>f.data)[i + k] & E_DATA()
                   and (<uint64_t *>f.data)[i + k] & E_REF() == start + k):
                k += 1
            sub.kind = I_DATA
            sub.n = k
        else:
            i += 1
            continue
        sub.ref = e & E_REF()
        sub.trim = trim
        ring_push(&p.work, &sub)
        i += k
    node_gone(p, f)
    return 0


cdef void node_gone(lnt_pool *p, frame *f) noexcept nogil:
    """A node without references leaves the cache; its block waits for the checkpoint that no longer uses it."""
    cdef item it
    it.n = 1
    it.trim = 0
    it.seq = 0
    if f.id & VID():
        if f.home:                # chosen, but no checkpoint knows it
            it.ref = f.home
            it.kind = I_DATA
            it.epoch = 0
            ring_push(&p.work, &it)
        else:
            p.unhomed -= 1
    else:
        it.ref = f.id
        it.kind = I_HOME
        it.epoch = p.ck.gen + (1 if p.ck.state else 0)
        if p.mutations & M_NO_HOME_HOLD:
            it.kind = I_DATA
            ring_push(&p.work, &it)
        else:
            ring_push(&p.homes, &it)
    cache_drop(p, f)


cdef int reclaim_turn(lnt_pool *p, int budget) noexcept nogil:
    """Work off ripe items, within a budget of steps. 1: more to do now; 0: nothing ripe; WAIT: a page is on its way."""
    cdef item *it
    cdef uint64_t block
    cdef int rc
    if aside_retry(p):
        block = damage_probe(p)
        if block and count_touch(p, block, 1) == WAIT:
            return WAIT
    while budget > 0:
        if p.work.head == p.work.tail:
            if p.fifo.head == p.fifo.tail:
                return 0
            it = &p.fifo.v[p.fifo.head & (p.fifo.cap - 1)]
            if not item_is_ripe(p, it):
                return 0
            ring_push(&p.work, it)
            p.fifo.head += 1
            p.stat_pending_blocks -= it.n & 0xff if it.kind == I_NODE else it.n
        it = &p.work.v[(p.work.tail - 1) & (p.work.cap - 1)]
        if next_images(p) >= p.cache.dirty_limit or (
                it.kind == I_NODE and p.homes.tail - p.homes.head >= <uint64_t>p.ck.area_blocks * 4):
            p.ck.wanted = 1           # the next checkpoint would not hold what this makes dirty, or what waits for it
            return 0
        budget -= NODE_STEPS if it.kind == I_NODE else DATA_STEPS + <int>it.n
        rc = release_node(p, it) if it.kind == I_NODE else release_data(p, it)
        if rc == WAIT:
            return WAIT
        if rc and not p.failed and not aside_put(p):
            pool_fail(p, PF_ASIDE, it.ref)    # more damage than the pending list holds
        if p.failed:
            return 0
    return 1
