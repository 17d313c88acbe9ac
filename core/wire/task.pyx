"""Tasks: how they come, are found by their tag, get a buffer, are aborted and go (SAM-5 §5; RFC 7143 §4.2.2).

Lives here and nowhere else: the reactor's slots of tasks, the queue of those that wait for a buffer, a session's tags, a
connection's list of tasks and what memory they hold. What may stand together in a task: core/wire/nexus.pxd.
"""
from core.base.check cimport lnt_check
from core.base.memory cimport mem_mapped
from core.wire.buffers cimport buffer_bytes, buffer_charge, buffer_give, buffer_take, buffer_uncharge
from core.wire.data_in cimport data_in_free_heap
from core.wire.delay cimport delay_forget
from core.wire.inbound cimport inbound_hold, inbound_let_go
from core.wire.lun cimport lun_unref
from core.wire.handle cimport handle_index, handle_of
from core.wire.nexus cimport CONNECTION_OPEN, ITT_HASH, T_DATA, T_DEVICE, T_FREE, T_PYTHON, T_SEND
from core.wire.numbering cimport numbering_forget, numbering_release
from core.wire.payload cimport payload_forget
from core.wire.queue cimport queue_put, queue_remove, queue_take_all
from core.wire.task_set cimport task_ended
from libc.stdint cimport uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

cdef extern from "<sys/mman.h>":
    int munmap(void *p, size_t n) nogil

cdef enum:
    FAIR_BYTES = 256 << 10          # a connection that holds no buffer gets one up to this size whatever the others hold ...
    FAIR_PART = 2                   # ... and each its even part of this part of the bound, which nobody may take beyond his


cdef bint tasks_init(lnt_reactor *r, uint32_t slots) noexcept nogil:
    # False without memory. The slots are the reactor's until `tasks_drop`; none is touched before a task gets it.
    r.tasks.slots = <lnt_task *>mem_mapped(<size_t>slots * sizeof(lnt_task), 0)
    if r.tasks.slots == NULL:
        return False
    r.tasks.max = slots
    r.tasks.waiting.for_buffers = 1
    return True


cdef void tasks_drop(lnt_reactor *r) noexcept nogil:
    # With the reactor.
    if r.tasks.slots != NULL:
        munmap(r.tasks.slots, <size_t>r.tasks.max * sizeof(lnt_task))


cdef inline lnt_task *slot_take(lnt_reactor *r) noexcept nogil:
    # One that a task has had before it, which memory has already; else a new one. NULL: all are taken.
    cdef lnt_task *t = r.tasks.free
    if t != NULL:
        r.tasks.free = t.next
    elif r.tasks.used < r.tasks.max:
        t = &r.tasks.slots[r.tasks.used]
        t.index = r.tasks.used
        t.generation = 1
        r.tasks.used += 1
    return t


cdef inline uint32_t itt_slot(uint32_t itt) noexcept nogil:
    return (itt ^ itt >> 8 ^ itt >> 16 ^ itt >> 24) & (ITT_HASH - 1)


cdef lnt_task *task_new(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # NULL when all slots are taken. Everything but index, generation and the op's private words is zero.
    cdef lnt_task *t = slot_take(r)
    cdef uint32_t index, generation
    if t == NULL:
        return NULL
    index = t.index
    generation = t.generation
    memset(<uint8_t *>t + sizeof(t.op), 0, <size_t>(<uint8_t *>&t.sense[0] - <uint8_t *>t) - sizeof(t.op))
    t.index = index
    t.generation = generation
    t.state = T_DATA
    t.session = c.session
    t.connection = c
    t.arrived_us = r.now_us
    t.send.task = t
    if c.recovery:
        memset(&t.kept, 0, sizeof(t.kept))
    t.connection_next = c.tasks
    if c.tasks != NULL:
        c.tasks.connection_prev = t
    c.tasks = t
    c.task_count += 1
    c.session.task_count += 1
    r.tasks.live += 1
    return t


cdef lnt_task *task_by_itt(lnt_session *s, uint32_t itt) noexcept nogil:
    cdef lnt_task *t = s.by_itt[itt_slot(itt)]
    while t != NULL and t.itt != itt:
        t = t.itt_next
    return t


cdef void task_hash(lnt_task *t) noexcept nogil:
    cdef uint32_t k = itt_slot(t.itt)
    t.itt_next = t.session.by_itt[k]
    t.session.by_itt[k] = t
    t.hashed = 1


cdef void task_answered(lnt_task *t) noexcept nogil:
    # Its last PDU is built: the tag may be used again and its place in the window is free.
    cdef lnt_task **at
    if t.hashed:
        at = &t.session.by_itt[itt_slot(t.itt)]
        while at[0] != t:
            at = &at[0].itt_next
        at[0] = t.itt_next
        t.hashed = 0
    numbering_release(t)


# -- buffers ----------------------------------------------------------------------------------------------------------

cdef void unlink_waiting(lnt_reactor *r, lnt_task *t) noexcept nogil:
    if t.waiting:
        queue_remove(&r.tasks.waiting, t)
        t.waiting = 0


cdef void task_wait(lnt_reactor *r, lnt_task *t) noexcept nogil:
    if not t.waiting:
        t.waiting = 1
        queue_put(&r.tasks.waiting, t)


cdef inline void holds(lnt_reactor *r, lnt_connection *c, uint64_t more, uint64_t less) noexcept nogil:
    # The tasks of a connection hold so much more data, and so much less.
    r.tasks.holders -= c.buffered != 0
    c.buffered += more
    c.buffered -= less
    r.tasks.holders += c.buffered != 0


cdef void task_drop_buffer(lnt_reactor *r, lnt_task *t) noexcept nogil:
    if t.lying:
        inbound_let_go(&r.inbound, t.buffer)
        t.lying = 0
    elif t.buffer != NULL:
        holds(r, t.connection, 0, buffer_bytes(t.buffer_class))
        buffer_give(&r.buffers, t.buffer, t.buffer_class)
    t.buffer = NULL


cdef inline bint within(lnt_reactor *r, lnt_connection *c, uint64_t length) noexcept nogil:
    # Whether the connection's bound lets one of its tasks hold so much more.
    return c.buffered == c.kept.buffered or c.buffered + length <= r.buffers.connection_limit


cdef inline bint fair(lnt_reactor *r, lnt_connection *c, uint64_t length) noexcept nogil:
    # Whether the reactor's bound does not matter: what others hold, and do not take, must not be what a connection waits for.
    return (c.buffered == c.kept.buffered and length <= FAIR_BYTES
            or c.buffered + length <= r.buffers.limit // FAIR_PART // (r.tasks.holders + (c.buffered == 0)))


cdef inline bint spare(lnt_reactor *r, lnt_connection *c, uint64_t length) noexcept nogil:
    # Whether so much more may be held by whoever comes: beside others not what is kept for everybody's part.
    cdef bint alone = r.tasks.holders == (c.buffered != 0)
    return r.buffers.used + r.buffers.charged + length <= r.buffers.limit - (0 if alone else r.buffers.limit // FAIR_PART)


cdef bint task_buffer(lnt_reactor *r, lnt_task *t, uint64_t length, bint overdraft) noexcept nogil:
    # Gives the task a buffer, within the connection's and the reactor's bound unless overdraft.
    cdef lnt_connection *c = t.connection
    if not overdraft and not within(r, c, length):
        return False
    overdraft = overdraft or fair(r, c, length)
    if not overdraft and not spare(r, c, length):
        return False
    t.buffer = buffer_take(&r.buffers, length, &t.buffer_class, overdraft)
    if t.buffer == NULL:
        return False
    holds(r, c, buffer_bytes(t.buffer_class), 0)
    return True


cdef bint task_lies(lnt_reactor *r, lnt_task *t, const uint8_t *at) noexcept nogil:
    # The task's data stay in the receive buffer where they came. False: too many do already.
    if not inbound_hold(&r.inbound, at):
        return False
    t.buffer = <uint8_t *>at
    t.lying = 1
    return True


cdef bint task_copies(lnt_reactor *r, lnt_task *t, const uint8_t *at, uint32_t length) noexcept nogil:
    # The task's data are copied to a buffer of its own. They have come: no bound holds that up.
    if not task_buffer(r, t, length, False) and not task_buffer(r, t, length, True):
        return False
    memcpy(t.buffer, at, length)
    return True


cdef bint task_grow_buffer(lnt_reactor *r, lnt_task *t, uint32_t length) noexcept nogil:
    # Makes the task's buffer hold `length` bytes, keeping what arrived in a smaller one.
    cdef uint8_t *old = t.buffer
    cdef uint8_t old_class = t.buffer_class
    cdef uint32_t have
    if old != NULL and buffer_bytes(old_class) >= length:
        return True
    if not task_buffer(r, t, length, False):
        t.buffer = old
        t.buffer_class = old_class
        return False
    if old != NULL:
        have = t.out.got if t.out.got < buffer_bytes(old_class) else <uint32_t>buffer_bytes(old_class)
        memcpy(t.buffer, old, have)
        holds(r, t.connection, 0, buffer_bytes(old_class))
        buffer_give(&r.buffers, old, old_class)
    return True


cdef bint task_charge(lnt_reactor *r, lnt_task *t, uint32_t length, bint overdraft) noexcept nogil:
    # What Python will hold for the task, or has answered, counts within the same bounds as buffers. It takes the place of what
    # the task was charged before.
    cdef lnt_connection *c = t.connection
    cdef uint32_t more = length - t.charged if length > t.charged else 0
    if more and not overdraft and not within(r, c, more):
        return False
    overdraft = overdraft or fair(r, c, more)
    if more and not overdraft and not spare(r, c, more) or not buffer_charge(&r.buffers, more, overdraft):
        return False
    if length < t.charged:
        buffer_uncharge(&r.buffers, t.charged - length)
    holds(r, c, length, t.charged)
    t.charged = length
    return True


cdef uint64_t task_held(lnt_task *t) noexcept nogil:
    # Bytes of data that the task holds.
    return t.charged + (t.out.want if t.lying else buffer_bytes(t.buffer_class) if t.buffer != NULL else 0)


cdef void task_drop_data(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # Nothing of its data is needed any more, wherever they lie.
    task_drop_buffer(r, t)
    if t.data_in.heap != NULL:
        data_in_free_heap(t)
    if t.charged:
        task_charge(r, t, 0, True)


# -- the end ----------------------------------------------------------------------------------------------------------

cdef void task_leave_lun(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef lnt_lun *lun = t.lun
    t.lun = NULL
    if lun != NULL:
        lun_unref(r, lun)


cdef void task_free(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef lnt_connection *c = t.connection
    delay_forget(r, t)
    task_answered(t)
    task_ended(r, t)
    numbering_forget(t)
    if t.waiting:
        unlink_waiting(r, t)
    payload_forget(c, t)
    task_drop_data(r, t)
    task_leave_lun(r, t)
    if t.ahs != NULL:
        free(t.ahs)
    if t.connection_prev != NULL:
        t.connection_prev.connection_next = t.connection_next
    else:
        c.tasks = t.connection_next
    if t.connection_next != NULL:
        t.connection_next.connection_prev = t.connection_prev
    c.task_count -= 1
    t.session.task_count -= 1
    r.tasks.live -= 1
    if t.aborted or r.aborts != NULL:
        r.abort_check = 1
    if c.state != CONNECTION_OPEN:
        r.reap = 1
    t.state = T_FREE
    t.generation += 1
    t.next = r.tasks.free
    r.tasks.free = t


cdef void task_abort(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # No response will follow. What is in the engine is waited for; what is being answered is past aborting.
    if t.state == T_SEND or t.state == T_FREE:
        return
    t.aborted = 1
    if t.early:
        if not t.out.receiving:                 # it keeps its place in the numbering until its turn comes
            task_drop_buffer(r, t)
    elif t.state != T_DEVICE:
        task_free(r, t)


# -- what may stand together ---------------------------------------------------------------------------------------------

cdef void task_check(lnt_task *t) noexcept nogil:
    # The table in core/wire/nexus.pxd. Nothing where the core is built without its checks.
    lnt_check(not (t.early and (t.ordered or t.state != T_DATA)), "early tasks wait for their turn")
    lnt_check(not t.deferred or t.early, "a deferred task keeps its place")
    lnt_check(not (t.enabled and t.dormant), "a task is enabled or dormant")
    lnt_check(not (t.enabled or t.dormant) or (t.ordered and t.lun != NULL), "a task set holds tasks whose turn has come")
    lnt_check(not t.waiting or t.state == T_DATA, "only a task without its data waits for a buffer")
    lnt_check(not t.delayed or (t.state == T_DATA and t.enabled and not t.waiting), "only what could begin is delayed")
    lnt_check(t.state != T_DEVICE or (t.enabled and not t.out.receiving), "what is in the engine is enabled and complete")
    lnt_check(t.state != T_PYTHON or not t.aborted, "a task that Python has is not aborted but freed")
    lnt_check(not t.lying or (t.state == T_DATA or t.state == T_DEVICE), "data lie in a receive buffer until they are written")
    lnt_check(t.state != T_SEND or not (t.enabled or t.dormant or t.waiting), "what is answered has left its task set")


# -- for others ---------------------------------------------------------------------------------------------------------

cdef lnt_task *task_of(lnt_reactor *r, uint64_t handle) noexcept nogil:
    # The task that Python knows by this number; NULL when it is gone.
    cdef uint64_t index = handle_index(handle)
    cdef lnt_task *t
    if index >= r.tasks.used:
        return NULL
    t = &r.tasks.slots[index]
    return t if handle_of(t.index, t.generation) == handle else NULL


cdef lnt_task *task_waiters(lnt_reactor *r) noexcept nogil:
    # Takes all that wait for a buffer off their queue, linked by `wait_next`: they are tried once each.
    cdef lnt_task *first = queue_take_all(&r.tasks.waiting)
    cdef lnt_task *t = first
    while t != NULL:
        t.waiting = 0
        t = t.wait_next
    return first
