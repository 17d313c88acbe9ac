"""The engine's turn: what native threads call (docs/architecture.md, "The seams"), and the background work in bounded steps."""
from core.base.dropped cimport ring_count
from core.base.log cimport CHECKPOINT_IDLE, CHECKPOINT_SYNC1, CHECKPOINT_SYNC2, CHECKPOINT_SYNC3
from core.base.memory cimport mem_zeroed
from core.base.mutations cimport M_NO_DISTRUST
from core.base.native cimport pthread_mutex_lock, pthread_mutex_unlock
from core.base.operation cimport lnt_admin, lnt_waiter, waiter_of
from core.base.pool cimport lnt_op_state
from core.base.schedule cimport op_ready
from core.base.trace cimport memory_again
from core.base.types cimport OP_ADMIN, OP_ORDERED
from core.log.checkpoint cimport ckpt_due, ckpt_turn
from core.log.journal cimport background_commit, commit_turn
from core.log.superblock cimport super_distrust
from core.ops.admin cimport admin_run
from core.ops.data cimport data_run
from core.ops.order cimport order_due, order_ended, order_turn
from core.pages.cache cimport cache_trim
from core.pages.damage cimport damage_due
from core.space.allocation cimport space_for_data
from core.space.dropped cimport epochs_turn, homes_wait, reclaim_turn
from core.space.holes cimport punch_due, punch_turn
from core.space.medium cimport medium_turn

cdef enum:
    RUN_OPS = 512                 # ops run in one turn
    RECLAIM_STEPS = 1024          # of reclaim in one turn: blocks, about
    WAITING_PRESS = 20000         # dropped references that wait for a hard commit: with more it is made before its time


cdef extern from "pool/attached.h" nogil:
    void *lnt_attached()
    void lnt_attach(void *)


cdef int turn_init(lnt_pool *p, lnt_dev *dev) noexcept nogil:
    """The first device, which runs the background work until another is attached. 0: there is no memory."""
    p.background_op = <lnt_op *>mem_zeroed(sizeof(lnt_op))
    p.checkpoint_op = <lnt_op *>mem_zeroed(sizeof(lnt_op))
    if p.background_op == NULL or p.checkpoint_op == NULL:
        return 0
    p.background_device = p.devices = p.current_device = dev
    p.background_op.dev = p.checkpoint_op.dev = dev
    return 1


cdef void lnt_enter(lnt_pool *p) noexcept nogil:
    pthread_mutex_lock(&p.lock)
    p.current_device = <lnt_dev *>lnt_attached()


cdef void lnt_leave(lnt_pool *p) noexcept nogil:
    p.current_device = NULL
    pthread_mutex_unlock(&p.lock)


cdef void lnt_dev_attach(lnt_pool *p, lnt_dev *dev) noexcept nogil:
    """The first device attached besides the pool's own queue device runs the background work."""
    dev.ready_head = dev.ready_tail = dev.done_head = dev.done_tail = dev.later = NULL
    dev.next = p.devices
    p.devices = dev
    lnt_attach(dev)
    p.current_device = dev
    if p.background_device == NULL or p.background_device.next == NULL and p.background_device != dev:
        background_adopt(p, dev)


cdef void background_adopt(lnt_pool *p, lnt_dev *dev) noexcept nogil:
    """Background and admin work moves to this device."""
    cdef lnt_dev *old = p.background_device
    cdef lnt_op *op
    p.background_device = dev
    p.background_op.dev = dev
    p.checkpoint_op.dev = dev
    if old != NULL:
        while old.ready_head != NULL:
            op = old.ready_head
            old.ready_head = op.next
            op.dev = dev
            op_ready(p, op)
        old.ready_tail = NULL


cdef void lnt_dev_detach(lnt_pool *p, lnt_dev *dev) noexcept nogil:
    cdef lnt_dev **at = &p.devices
    while at[0] != NULL and at[0] != dev:
        at = &at[0].next
    if at[0] == dev:
        at[0] = dev.next
    if p.background_device == dev:
        background_adopt(p, p.devices)
    lnt_attach(NULL)
    p.current_device = NULL


cdef void lnt_submit(lnt_pool *p, lnt_op *op) noexcept nogil:
    (<lnt_op_state *>op.priv).pool = p
    data_run(p, op)


cdef void op_run(lnt_pool *p, lnt_op *op) noexcept nogil:
    if op == p.background_op:
        p.background_waits = 0
    elif op == p.checkpoint_op:
        p.checkpoint_waits = 0
    elif op.kind == OP_ORDERED:
        order_ended(p, op)
    elif op.kind == OP_ADMIN:
        admin_run(p, <lnt_admin *>op)
    else:
        data_run(p, op)


cdef inline bint frees_press(lnt_pool *p) noexcept nogil:
    """Blocks wait for a hard commit to be free again, and are wanted before its time."""
    cdef uint64_t waiting = ring_count(&p.dropped_waiting)
    return waiting and (space_for_data(p) < p.reserve_blocks or waiting > WAITING_PRESS)


cdef int background_turn(lnt_pool *p) noexcept nogil:
    """A bounded step of checkpoint and reclaim. 1: there is more to do now."""
    cdef lnt_waiter who
    cdef int more = 0
    if p.failed:
        return 0
    medium_turn(p)
    memory_again(p)
    if not p.checkpoint_waits:
        who = waiter_of(p.checkpoint_op)
        more = ckpt_turn(p, &who)
        p.checkpoint_waits = who.queued
    more |= background_commit(p, frees_press(p))
    if not p.background_waits:
        who = waiter_of(p.background_op)
        more |= reclaim_turn(p, &who, RECLAIM_STEPS) == 1
        p.background_waits = who.queued
    more |= order_turn(p)
    more |= punch_turn(p)         # waits for what that began
    return more or p.failed       # a failure just met: those who wait must hear of it


cdef bint background_begins(lnt_pool *p) noexcept nogil:
    """There is a reason for background work that the home device, which may sleep, cannot know of yet."""
    return (p.checkpoint.state == CHECKPOINT_IDLE and ckpt_due(p) or frees_press(p)
            or p.checkpoint.state in (CHECKPOINT_SYNC1, CHECKPOINT_SYNC2, CHECKPOINT_SYNC3)
            and p.journal.sync_done >= p.checkpoint.need_sync
            or p.journal.background_due_us == 0 and (ring_count(&p.dropped_waiting) or p.journal.record_seq > p.journal.hard_seq))


cdef uint64_t background_wait(lnt_pool *p, uint64_t now_us) noexcept nogil:
    """Until background work is due: the first of its deadlines."""
    cdef uint64_t wait = LNT_IDLE
    cdef uint64_t due = punch_due(p)
    if p.checkpoint_wait.wanted and p.checkpoint.state == CHECKPOINT_IDLE and not p.checkpoint_waits:
        return 0            # wanted by what this turn did last, as by reclaim, which goes on behind it
    if p.journal.background_due_us:
        wait = p.journal.background_due_us - now_us if p.journal.background_due_us > now_us else 0
    elif p.journal.seal_due_us:
        wait = p.journal.seal_due_us - now_us if p.journal.seal_due_us > now_us else 0
    elif (p.cache.n_dirty or homes_wait(p)) and p.checkpoint.state == CHECKPOINT_IDLE:
        wait = p.checkpoint.next_due_us - now_us + 1 if p.checkpoint.next_due_us > now_us else 1000
    if due and due < now_us + wait:
        wait = due - now_us if due > now_us else 0
    due = order_due(p)
    if due and due < now_us + wait:
        wait = due - now_us if due > now_us else 0
    due = p.medium.retry_us
    if due and due < now_us + wait:
        wait = due - now_us if due > now_us else 0
    due = p.memory_retry_us
    if due and due < now_us + wait:
        wait = due - now_us if due > now_us else 0
    due = damage_due(p)
    if due and due < now_us + wait and not p.background_waits:
        wait = due - now_us if due > now_us else 0
    return wait


cdef uint64_t lnt_dev_run(lnt_pool *p, lnt_dev *dev, uint64_t now_us) noexcept nogil:
    cdef int budget = RUN_OPS
    cdef int more, rounds = 0, background = 0
    cdef lnt_op *op
    p.now_us = now_us
    p.current_device = dev
    while True:
        while dev.ready_head != NULL and budget > 0:
            op = dev.ready_head
            dev.ready_head = op.next
            if op.next == NULL:
                dev.ready_tail = NULL
            budget -= 1
            op_run(p, op)
        more = commit_turn(p)
        if p.journal.sync_failed and not p.superblock.distrusted and not p.replaying and not p.mutations & M_NO_DISTRUST:
            super_distrust(p)
        more |= epochs_turn(p) != 0
        rounds += 1
        if not more and dev.ready_head == NULL or budget <= 0 or rounds >= 4:
            break
    if dev == p.background_device:
        background = background_turn(p)     # one slice a turn, when all that may ask for it has run
        background |= commit_turn(p)        # what that wants hard begins now: nobody else may come
    elif p.background_device != NULL and background_begins(p):
        p.background_device.wake(p.background_device)
    if p.cache.count > p.cache.limit + p.cache.pinned:
        cache_trim(p)
    while dev.later != NULL:
        op = dev.later
        dev.later = op.next
        op_ready(p, op)
    if dev.ready_head != NULL or more or background:
        return 0
    return background_wait(p, now_us) if dev == p.background_device and not p.failed else LNT_IDLE


cdef int lnt_dev_reap(lnt_pool *p, lnt_dev *dev) noexcept nogil:
    cdef lnt_op *op
    cdef lnt_op *nxt
    cdef int n = 0
    if dev.done_head == NULL:
        return 0
    pthread_mutex_lock(&p.lock)
    op = dev.done_head
    dev.done_head = dev.done_tail = NULL
    pthread_mutex_unlock(&p.lock)
    while op != NULL:
        nxt = op.next
        op.done(op)
        op = nxt
        n += 1
    return n
