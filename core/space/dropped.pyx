"""References that were dropped: they come off the counts when nothing can need what they refer to any more (I5, I6).

Lives here and nowhere else: the rings of dropped references and the epochs.
"""
from core.base.check cimport lnt_assert
from core.base.checkpoint_wait cimport checkpoint_want
from core.base.dropped cimport (
    DROPPED_DATA, DROPPED_HOME, DROPPED_NODE, lnt_dropped, lnt_dropped_ring, ring_at, ring_count, ring_newest, ring_oldest,
    ring_push, ring_ready,
)
from core.base.entries cimport E_DATA, E_HUGE, E_NODE, E_REF, VID, WAIT
from core.base.layout cimport L_NODE_ENTRIES, L_RUN_BLOCKS, PK_NODE
from core.base.log cimport CHECKPOINT_IMAGES, CHECKPOINT_SYNC2
from core.base.mutations cimport M_EARLY_FREE, M_EARLY_PUNCH, M_NO_EPOCH, M_NO_HOME_HOLD, M_ONE_EPOCH
from core.base.pool cimport next_images
from core.base.schedule cimport op_ready
from core.base.sparse cimport child_level, reference_of
from core.base.trace cimport PF_ASIDE, memory_short, pool_fail
from core.base.types cimport ST_MEMORY, lnt_op
from core.pages.cache cimport cache_drop, cache_find, cache_get, node_home, node_housed
from core.pages.damage cimport aside_due, aside_put, aside_ready, aside_take, aside_tried, damage_probe
from core.space.counts cimport count_add, count_at, count_touch, node_ref, node_touch
from core.space.homes cimport home_keep, home_spared, homes_count, homes_free, homes_order, homes_round
from core.space.marks cimport freed_give_up, freed_mark
from libc.stdlib cimport free

cdef enum:
    DATA_STEPS = 4                # of a turn's budget: a dropped reference to data, beside its blocks ...
    NODE_STEPS = 128              # ... and one to a node, with what it takes along
    RECOVERY_STEPS = 64           # of one look at what is free, while a pool is opened


cdef void drop_add(lnt_pool *p, uint64_t ref, uint32_t blocks, uint8_t kind, uint8_t level, uint8_t trim) noexcept nogil:
    cdef lnt_dropped it
    cdef lnt_dropped *last
    cdef lnt_page *f
    cdef uint32_t *c
    cdef int rc = 0
    p.stat_pending_blocks += blocks
    if p.mutations & M_EARLY_PUNCH and kind == DROPPED_DATA and blocks == 1:
        c = count_at(p, NULL, ref, &f, &rc)
        if c != NULL and c[0] == 1:
            freed_mark(p, ref)
    if kind == DROPPED_DATA and ring_count(&p.dropped_waiting):
        last = ring_newest(&p.dropped_waiting)
        if (last.kind == DROPPED_DATA and last.ref + last.blocks == ref and last.seq == p.journal.next_seq
                and last.epoch == p.epoch and last.trim == trim and last.blocks + blocks <= L_RUN_BLOCKS):
            last.blocks += blocks
            return
    it.ref = ref
    it.blocks = blocks
    it.kind = kind
    it.level = level
    it.trim = trim
    it.seq = p.journal.next_seq
    it.epoch = p.epoch
    ring_push(&p.dropped_waiting, &it)


cdef void drop_data(lnt_pool *p, uint64_t pba, uint32_t blocks, uint8_t trim) noexcept nogil:
    """An entry stopped referring to these blocks; the counts follow once that is durable and no I/O can touch them."""
    drop_add(p, pba, blocks, DROPPED_DATA, 0, trim)


cdef void drop_node(lnt_pool *p, uint64_t id, uint8_t level, uint8_t trim) noexcept nogil:
    drop_add(p, id, 1, DROPPED_NODE, level, trim)


cdef void drop_unused(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil:
    """Give back new blocks that did not enter the map. Their place in the ring is kept since they were taken (`drops_ready`)."""
    cdef lnt_dropped it
    it.ref = pba
    it.blocks = n
    it.kind = DROPPED_DATA
    it.level = 0
    it.trim = 0
    it.seq = it.epoch = 0
    ring_push(&p.dropped_ready, &it)


cdef int epochs_turn(lnt_pool *p) noexcept nogil:
    """Advance the epoch as far as I/O in flight allows, while anything waits for it. 1 when something may go on."""
    cdef lnt_op *op
    cdef lnt_op *nxt
    cdef int moved = 0
    while (ring_count(&p.dropped_waiting) or p.grace != NULL) and p.inflight[(p.epoch + 1) & 1] == 0:
        if (p.grace == NULL and ring_newest(&p.dropped_waiting).epoch + 2 <= p.epoch):
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


cdef int item_is_ripe(lnt_pool *p, lnt_dropped *it) noexcept nogil:
    if p.replaying:
        return 1                  # no I/O is under way, and only the area is written before the checkpoint that ends recovery
    if it.seq > p.journal.hard_seq and not p.mutations & M_EARLY_FREE:
        return 0
    return it.epoch + (1 if p.mutations & M_ONE_EPOCH else 2) <= p.epoch or p.mutations & M_NO_EPOCH


cdef uint64_t pending_count(lnt_pool *p) noexcept nogil:
    """Items whose references are not yet off the counts."""
    return (ring_count(&p.dropped_waiting) + ring_count(&p.dropped_homes) + homes_count(p)
            + ring_count(&p.dropped_ready) + ring_count(&p.damage.aside))


cdef void homes_release(lnt_pool *p) noexcept nogil:
    """A checkpoint became durable: blocks of nodes that only the one before it used are free."""
    cdef lnt_dropped *it
    homes_round(p)
    while ring_count(&p.dropped_homes):
        it = ring_oldest(&p.dropped_homes)
        if it.epoch >= p.checkpoint.generation:
            break
        it.kind = DROPPED_DATA
        if not home_keep(p, it):
            ring_push(&p.dropped_ready, it)
        p.dropped_homes.head += 1
    homes_order(p)


cdef int homes_wait(lnt_pool *p) noexcept nogil:
    """1 when homes that nodes have left would be free, or free for all, after another checkpoint."""
    return ring_count(&p.dropped_homes) != 0 or homes_count(p) != 0


cdef int homes_ready(lnt_pool *p) noexcept nogil:
    """1 when there is memory for what `homes_release` makes ready."""
    return ring_ready(&p.dropped_ready, ring_count(&p.dropped_homes))


cdef void nodes_to_homes(lnt_pool *p, lnt_dropped_ring *r) noexcept nogil:
    cdef uint64_t i
    for i in range(r.head, r.tail):
        if ring_at(r, i).kind == DROPPED_NODE:
            ring_at(r, i).ref = node_home(p, ring_at(r, i).ref)


cdef void drops_to_homes(lnt_pool *p) noexcept nogil:
    """All nodes have homes now: what was dropped refers to those."""
    nodes_to_homes(p, &p.dropped_waiting)
    nodes_to_homes(p, &p.dropped_ready)


cdef void drops_free(lnt_pool *p) noexcept nogil:
    """The pool is closed."""
    free(p.dropped_waiting.items)
    free(p.dropped_homes.items)
    free(p.dropped_ready.items)
    homes_free(p)


cdef int home_give_up(lnt_pool *p) noexcept nogil:
    """While a pool is opened: the oldest of the blocks that wait for a checkpoint is free at once. 0: none is left; ST_MEMORY."""
    lnt_assert(p.replaying, "I6: only recovery uses the home of a node before a checkpoint without the node is durable")
    if ring_count(&p.dropped_homes) == 0:
        return 0
    if not ring_ready(&p.dropped_ready, 1):
        return ST_MEMORY
    ring_oldest(&p.dropped_homes).kind = DROPPED_DATA
    ring_push(&p.dropped_ready, ring_oldest(&p.dropped_homes))
    p.dropped_homes.head += 1
    return 1


cdef int drop_load(lnt_pool *p, lnt_dropped *it) noexcept nogil:
    """An item of the checkpoint's pending list: nothing can need what it refers to. 0, or ST_MEMORY."""
    if not ring_ready(&p.dropped_ready, 1):
        return ST_MEMORY
    ring_push(&p.dropped_ready, it)
    return 0


cdef int aside_retry(lnt_pool *p) noexcept nogil:
    """When it is time, some of what was set aside because of damage is ready again. 1: it was time."""
    cdef uint64_t _i, n = 0
    if not aside_due(p, &n):
        return 0
    if not ring_ready(&p.dropped_ready, n):
        n = 0
    for _i in range(n):
        ring_push(&p.dropped_ready, aside_take(p))
    aside_tried(p)
    return 1


cdef int release_data(lnt_pool *p, lnt_waiter *who, lnt_dropped *it) noexcept nogil:
    """Take one reference off each block. With trim nobody is expected to want the freed ones soon."""
    cdef uint64_t ref = it.ref, free_before = p.free_blocks
    cdef uint32_t n = it.blocks
    cdef uint8_t trim = it.trim
    cdef int rc = count_touch(p, who, ref, n)
    if rc:
        return rc
    p.dropped_ready.tail -= 1              # `it` is the top of the stack: gone from here on
    rc = count_add(p, ref, n, -1)
    p.stat_reclaimed += p.free_blocks - free_before
    if trim and p.free_blocks != free_before:
        freed_give_up(p, ref, n)
    return rc


cdef int release_node(lnt_pool *p, lnt_waiter *who, lnt_dropped *it) noexcept nogil:
    """Take one reference off a node; the last one takes what it refers to along."""
    cdef int rc = node_touch(p, who, it.ref)
    cdef lnt_page *f
    cdef lnt_page *cf
    cdef uint32_t *c
    cdef uint64_t id = it.ref, e, start
    cdef uint8_t trim = it.trim
    cdef uint8_t level = it.level
    cdef int i, k
    cdef lnt_dropped sub
    if rc:
        return rc
    if not id & VID():
        c = count_at(p, who, id, &cf, &rc)
        if c[0] > 1:
            p.dropped_ready.tail -= 1
            return node_ref(p, id, -1)
        f = cache_get(p, who, id, PK_NODE, level, &rc)
        if f == NULL:
            return rc
    else:
        f = cache_find(p, id)
        if f.references > 1:
            p.dropped_ready.tail -= 1
            f.references -= 1
            return 0
    p.dropped_ready.tail -= 1
    sub.seq = sub.epoch = 0
    i = 0
    while i < L_NODE_ENTRIES:
        e = reference_of(f, i)
        k = 1
        sub.level = 0
        if e & E_NODE():
            sub.level = child_level(e, level) if level else 0
            sub.kind = DROPPED_NODE
            sub.blocks = 1
        elif e & E_HUGE():
            sub.kind = DROPPED_DATA
            sub.blocks = L_RUN_BLOCKS
        elif e & E_DATA():
            start = e & E_REF()
            while (i + k < L_NODE_ENTRIES and reference_of(f, i + k) & E_DATA()
                   and reference_of(f, i + k) & E_REF() == start + k):
                k += 1
            sub.kind = DROPPED_DATA
            sub.blocks = k
        else:
            i += 1
            continue
        sub.ref = e & E_REF()
        sub.trim = trim
        ring_push(&p.dropped_ready, &sub)
        i += k
    node_gone(p, f)
    return 0


cdef void node_gone(lnt_pool *p, lnt_page *f) noexcept nogil:
    """A node without references leaves the cache; its block waits for the checkpoint that no longer uses it."""
    if not f.id & VID():
        home_left(p, f)
    elif f.home:                  # chosen, but no checkpoint knows it
        drop_unused(p, f.home, 1)
    else:
        node_housed(p)
    cache_drop(p, f)


cdef void home_left(lnt_pool *p, lnt_page *f) noexcept nogil:
    """A node leaves its block, which waits for the checkpoint that no longer uses it."""
    cdef lnt_dropped it
    it.ref = f.id
    it.blocks = 1
    it.level = f.level
    it.trim = 0
    it.seq = 0
    it.kind = DROPPED_HOME
    it.epoch = p.checkpoint.generation + (1 if CHECKPOINT_IMAGES <= p.checkpoint.state <= CHECKPOINT_SYNC2 else 0)
    if p.mutations & M_NO_HOME_HOLD:
        it.kind = DROPPED_DATA
        ring_push(&p.dropped_ready, &it)
    else:
        ring_push(&p.dropped_homes, &it)


cdef int take_ripe(lnt_pool *p) noexcept nogil:
    """The oldest of what waits for its frame and for epochs is ready, if it is ripe. 0: nothing is."""
    cdef lnt_dropped *it
    if ring_count(&p.dropped_waiting) == 0:
        return 0
    it = ring_oldest(&p.dropped_waiting)
    if not item_is_ripe(p, it):
        return 0
    ring_push(&p.dropped_ready, it)
    p.dropped_waiting.head += 1
    p.stat_pending_blocks -= it.blocks
    return 1


cdef int reclaim_turn(lnt_pool *p, lnt_waiter *who, int budget) noexcept nogil:
    """Work off ripe items, within a budget of steps. 1: more to do now; 0: nothing ripe; WAIT: a page is on its way."""
    cdef lnt_dropped *it
    cdef lnt_dropped spared
    cdef uint64_t block
    cdef int rc
    if aside_retry(p):
        block = damage_probe(p)
        if block and count_touch(p, who, block, 1) == WAIT:
            return WAIT
    while budget > 0:
        if not (ring_ready(&p.dropped_ready, 2 * L_NODE_ENTRIES) and ring_ready(&p.dropped_homes, 1)
                and aside_ready(p)):
            memory_short(p)
            return 0
        if ring_count(&p.dropped_ready) == 0:
            if home_spared(p, &spared):
                ring_push(&p.dropped_ready, &spared)
            elif not take_ripe(p):
                return 0
        it = ring_newest(&p.dropped_ready)
        if next_images(p) >= p.cache.dirty_limit or (
                it.kind == DROPPED_NODE
                and ring_count(&p.dropped_homes) + homes_count(p) >= <uint64_t>p.checkpoint.area_blocks * 4):
            checkpoint_want(p)                # the next checkpoint would not hold what this makes dirty, or what waits for it
            return 0
        budget -= NODE_STEPS if it.kind == DROPPED_NODE else DATA_STEPS + <int>it.blocks
        rc = release_node(p, who, it) if it.kind == DROPPED_NODE else release_data(p, who, it)
        if rc == WAIT:
            return WAIT
        if rc == ST_MEMORY:
            memory_short(p)
            return 0
        if rc and not p.failed:
            if not aside_put(p, it):
                pool_fail(p, PF_ASIDE, it.ref)    # more damage than the pending list holds
                return 0
            p.dropped_ready.tail -= 1
        if p.failed:
            return 0
    return 1


cdef void reclaim_until(lnt_pool *p, uint64_t free_blocks) noexcept nogil:
    """While a pool is opened: take what was dropped off the counts until so many blocks are free or nothing is left."""
    lnt_assert(p.replaying, "I5: only recovery takes references off the counts before their frames are hard")
    while p.free_blocks < free_blocks:
        if reclaim_turn(p, NULL, RECOVERY_STEPS) != 1:
            break
