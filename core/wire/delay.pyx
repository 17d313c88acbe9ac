"""Commands that wait until the limits of their volume and their host let them begin.

Lives here and nowhere else: `lnt_lun.delay`, `lnt_reactor.delays`, and a task's `admitted` and `delayed...`.

The commands that wait on a LUN, which is one session's, wait in order. The LUN takes from its limits for a quantum of them at
once and then waits until that is due, so LUNs that share a limit take turns by quanta, on whatever reactor they are: a deficit
round robin in time. A command waits before its data are asked for, and before it gets a buffer. What waits is bounded: beyond a
part of the reactor's tasks or buffers the answer is TASK SET FULL (SAM-5 §5.3.1), as a queue of its own that is full would give
it.
"""
from core.wire.latency cimport direction_of
from core.wire.limit cimport lnt_limit_take, lnt_limit_word
from core.wire.nexus cimport ATTRIBUTE_HEAD, ATTRIBUTE_MASK, LIMITS, lnt_delay
from core.wire.numbering cimport numbering_lend, numbering_return
from core.wire.operations cimport DIRECTION_NONE, DIRECTION_SYNC
from core.wire.pdu cimport CMD_READ
from core.wire.queue cimport queue_put, queue_put_first, queue_remove
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    GRAIN_US = 250                # between two looks at what waits, and about what a quantum lasts
    QUANTA_PER_SECOND = 4000
    QUANTUM_BYTES = 65536         # at least

cdef uint64_t FOREVER = <uint64_t>-1


cdef uint64_t transfer_bytes(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # What the command counts as. Its CDB says less than its initiator expects, or its initiator asks for less.
    cdef uint64_t n = t.out.want
    if t.flags & CMD_READ:
        n = t.edtl if t.edtl < t.expected or not t.expected else t.expected
    return n if n < r.max_transfer else r.max_transfer


# -- the queue of a LUN --------------------------------------------------------------------------------------------------

cdef void delay_push(lnt_reactor *r, lnt_delay *d, lnt_task *t, uint64_t held_bytes) noexcept nogil:
    if t.flags & ATTRIBUTE_MASK == ATTRIBUTE_HEAD:
        queue_put_first(&d.queue, t)
    else:
        queue_put(&d.queue, t)
    d.count += 1
    d.bytes += transfer_bytes(r, t)
    t.delayed = 1
    t.delayed_us = r.now_us
    r.delays.count += 1
    t.delayed_held = held_bytes
    r.delays.held_bytes += held_bytes
    numbering_lend(t)


cdef void remove(lnt_reactor *r, lnt_delay *d, lnt_task *t) noexcept nogil:
    queue_remove(&d.queue, t)
    d.count -= 1
    d.bytes -= transfer_bytes(r, t)
    t.delayed = 0
    r.delays.count -= 1
    r.delays.held_bytes -= t.delayed_held
    numbering_return(t)
    if d.queue.head == NULL:
        d.granted_ops = 0
        d.granted_bytes = 0
        unlist(d)


cdef void enlist(lnt_reactor *r, lnt_lun *lun) noexcept nogil:
    cdef uint64_t wake_us = (lun.delay.due_ns + 999) // 1000
    if not lun.delay.listed:
        lun.delay.listed = 1
        lun.delay.next = r.delays.first
        lun.delay.at = &r.delays.first
        if r.delays.first != NULL:
            r.delays.first.delay.at = &lun.delay.next
        r.delays.first = lun
    if wake_us < r.delays.run_us + GRAIN_US:
        wake_us = r.delays.run_us + GRAIN_US
    if wake_us < r.delays.wake_us:
        r.delays.wake_us = wake_us


cdef void unlist(lnt_delay *d) noexcept nogil:
    if d.listed:
        d.listed = 0
        d.at[0] = d.next
        if d.next != NULL:
            d.next.delay.at = d.at


# -- taking from limits --------------------------------------------------------------------------------------------------

cdef uint64_t quantum(lnt_delay *d, bint ops) noexcept nogil:
    # What is taken at once at most: what the slower limit lets through in a grain.
    cdef uint64_t least = FOREVER
    cdef uint64_t rate, n
    cdef uint32_t i
    for i in range(LIMITS):
        if d.limits[i] == NULL:
            continue
        rate = lnt_limit_word(&d.limits[i].ops_per_second if ops else &d.limits[i].bytes_per_second)
        if rate:
            n = rate // QUANTA_PER_SECOND
            if n < (1 if ops else QUANTUM_BYTES):
                n = 1 if ops else QUANTUM_BYTES
            if n < least:
                least = n
    return least


cdef void limits_take(lnt_delay *d, bint ops, uint64_t amount, uint64_t now_ns) noexcept nogil:
    # From all limits; due when the last of them says so.
    cdef lnt_limit *limit
    cdef uint64_t due_ns
    cdef uint32_t i
    for i in range(LIMITS):
        limit = d.limits[i]
        if limit == NULL:
            continue
        if ops:
            due_ns = lnt_limit_take(&limit.next_op_ns, lnt_limit_word(&limit.ops_per_second), lnt_limit_word(&limit.burst_ns),
                                    amount, now_ns)
        else:
            due_ns = lnt_limit_take(&limit.next_byte_ns, lnt_limit_word(&limit.bytes_per_second),
                                    lnt_limit_word(&limit.burst_ns), amount, now_ns)
        if due_ns > d.due_ns:
            d.due_ns = due_ns


cdef bint granted(lnt_delay *d, uint64_t bytes_wanted, uint64_t now_ns) noexcept nogil:
    # Whether the first command may begin; takes for it, and for those behind it, quantum by quantum.
    cdef uint64_t n, most
    while not d.active or d.due_ns <= now_ns:
        if not d.active:
            return True
        if d.granted_ops == 0:
            most = quantum(d, True)
            n = d.count if d.count < most else most
            limits_take(d, True, n, now_ns)
            d.granted_ops = n
        elif d.granted_bytes < bytes_wanted:
            most = quantum(d, False)
            n = d.bytes - d.granted_bytes
            if n > most:
                n = most
            limits_take(d, False, n, now_ns)
            d.granted_bytes += n
        else:
            return True
    return False


cdef lnt_task *delay_next(lnt_reactor *r, lnt_lun *lun) noexcept nogil:
    # The next command of the LUN that may begin now, out of its queue; NULL: there is none.
    cdef lnt_delay *d = &lun.delay
    cdef lnt_task *t = d.queue.head
    cdef uint64_t n
    if t == NULL:
        return NULL
    n = transfer_bytes(r, t)
    if not granted(d, n, r.now_us * 1000):
        return NULL
    if d.active:
        d.granted_ops -= 1
        d.granted_bytes -= n
    t.admitted = 1
    remove(r, d, t)
    if r.now_us > t.delayed_us:
        lun.counters.delayed += 1
        lun.counters.delayed_us += r.now_us - t.delayed_us
    return t


# -- for others ----------------------------------------------------------------------------------------------------------

cdef lnt_wait delay_holds(lnt_reactor *r, lnt_task *t, uint64_t held_bytes) noexcept nogil:
    # Whether a command that could begin, and holds so much data, has to wait. What does not touch the medium, a flush, and what
    # fails never has.
    cdef uint8_t direction = direction_of(t)
    if t.admitted or t.answer.status or direction == DIRECTION_NONE or direction == DIRECTION_SYNC:
        return DELAY_NOT
    if r.delays.count >= r.tasks.max // 2 or r.delays.held_bytes + held_bytes > r.buffers.limit // 4:
        return DELAY_FULL
    delay_push(r, &t.lun.delay, t, held_bytes)
    if t.lun.delay.queue.head == t and t.lun.delay.count == 1 and delay_next(r, t.lun) == t:
        return DELAY_NOT
    enlist(r, t.lun)
    return DELAY_WAITS


cdef void delay_forget(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # It goes without having begun.
    if t.delayed:
        remove(r, &t.lun.delay, t)


cdef void delay_settled(lnt_reactor *r) noexcept nogil:
    # All LUNs were looked at: when they are next.
    cdef lnt_lun *lun = r.delays.first
    r.delays.run_us = r.now_us
    r.delays.wake_us = FOREVER
    while lun != NULL:
        enlist(r, lun)
        lun = lun.delay.next


cdef void delay_init(lnt_lun *lun, lnt_limit *volume, lnt_limit *host) noexcept nogil:
    # Of a LUN that no thread knows yet.
    lun.delay.limits[0] = volume
    lun.delay.limits[1] = host
    lun.delay.active = volume != NULL or host != NULL


cdef void again(lnt_reactor *r, lnt_lun *lun) noexcept nogil:
    # Other limits, or other rates: what was taken is void.
    lun.delay.granted_ops = 0
    lun.delay.granted_bytes = 0
    lun.delay.due_ns = 0
    if lun.delay.listed:
        r.delays.wake_us = 0


cdef void delay_limits(lnt_reactor *r, lnt_lun *lun, lnt_limit *volume, lnt_limit *host) noexcept nogil:
    # Other limits from now on, or none: then all that waits begins.
    delay_init(lun, volume, host)
    again(r, lun)


cdef void delay_changed(lnt_reactor *r, lnt_limit *limit) noexcept nogil:
    # A limit has other rates.
    cdef lnt_lun *lun = r.delays.first
    while lun != NULL:
        if lun.delay.limits[0] == limit or lun.delay.limits[1] == limit:
            again(r, lun)
        lun = lun.delay.next
