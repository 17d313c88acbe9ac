"""Turns of the hosts: while several are served, each gives the engine so many reads and writes in a turn of the reactor, no more,
and has so many in flight.

A host that keeps a hundred commands under way would otherwise have a hundred done for each one of its neighbour's that keeps one.
Turns share the reactor; what is in flight shares a medium that is slower than it, whose queue serves in the order of arrival:
one that had requests of a turn before within the last 10 ms.
What is more than a host's share waits for a later turn. That begins at once, unless all who wait have their share in flight: then
with what ends. Flushes, task management and NOPs are not counted and never wait. Lives here and nowhere else: `lnt_share`,
`lnt_shares`, and the list of ops that the turn submits.
"""
from core.base.memory cimport mem_zeroed
from libc.stdlib cimport free
from libc.stdint cimport uint32_t

cdef enum:
    QUANTUM = 16                      # of a host, in a turn: so many commands ...
    COMMAND_BYTES = 16384             # ... each of which counts once more for so many bytes, ...
    COST_MAX = 16                     # ... up to this: two of any length are in flight beside one other host
    IN_FLIGHT = 64                    # of all hosts that have any, shared evenly ...
    IN_FLIGHT_LEAST = 4               # ... as long as each has this
    CONTENTION_US = 10000             # after a host's last command others have reactor and medium for themselves again


cdef lnt_share *share_new(uint64_t host) noexcept nogil:
    # One for a session that comes; NULL: there is no memory. Sessions of one host (0: of none) have one together once they join.
    cdef lnt_share *share = <lnt_share *>mem_zeroed(sizeof(lnt_share))
    if share != NULL:
        share.host = host
    return share


cdef void share_join(lnt_reactor *r, lnt_session *s) noexcept nogil:
    # Its session is the reactor's now: the share that its host has already, or its own.
    cdef lnt_share *share = r.shares.first
    while share != NULL and (share.host == 0 or share.host != s.share.host):
        share = share.next
    if share != NULL:
        free(s.share)
        s.share = share
    else:
        s.share.next = r.shares.first
        r.shares.first = s.share
    s.share.sessions += 1


cdef void share_leave(lnt_reactor *r, lnt_session *s) noexcept nogil:
    # A session that has no command any more ends. So nothing of it waits.
    cdef lnt_share **at = &r.shares.first
    s.share.sessions -= 1
    if s.share.sessions == 0:
        while at[0] != s.share:
            at = &at[0].next
        at[0] = s.share.next
        if r.shares.last == s.share:
            r.shares.last = NULL
        free(s.share)
    s.share = NULL


cdef inline uint32_t cost(lnt_op *op) noexcept nogil:
    cdef uint64_t n = 1 + (op.length // COMMAND_BYTES)
    return <uint32_t>n if n < COST_MAX else COST_MAX


cdef inline bint alone(lnt_reactor *r, lnt_share *share) noexcept nogil:
    return r.shares.busy <= (share.in_flight != 0) and r.now_us - r.shares.changed_us >= CONTENTION_US


cdef inline bint has_room(lnt_reactor *r, lnt_share *share) noexcept nogil:
    # Beside others: whether it has less in flight than its part of what all may have. A medium that ends everything within the
    # turn that began it has no queue to share: there only the turns are.
    cdef uint32_t most = IN_FLIGHT // (r.shares.busy + (share.in_flight == 0))
    if r.now_us - r.shares.behind_us >= CONTENTION_US:
        return True
    return share.in_flight < (most if most > IN_FLIGHT_LEAST else IN_FLIGHT_LEAST)


cdef inline void starts(lnt_reactor *r, lnt_share *share, lnt_op *op) noexcept nogil:
    r.shares.busy += share.in_flight == 0
    share.in_flight += cost(op)


cdef bint share_waits(lnt_reactor *r, lnt_session *s, lnt_op *op) noexcept nogil:
    # Whether a read or write has to wait for a later turn, which it does here; False: it is for this one.
    cdef lnt_share *share = s.share
    if r.shares.last != share:
        if r.shares.last != NULL:
            r.shares.changed_us = r.now_us
        r.shares.last = share
    if r.shares.waiting == 0 and alone(r, share):
        starts(r, share, op)
        return False
    if share.turn != r.counters.turns:
        share.turn = r.counters.turns
        share.used = 0
    if share.head == NULL and share.used < QUANTUM and has_room(r, share):
        share.used += cost(op)
        starts(r, share, op)
        return False
    if share.tail != NULL:
        share.tail.next = op
    else:
        share.head = op
    share.tail = op
    r.shares.waiting += 1
    r.counters.shared += 1
    return True


cdef void share_done(lnt_reactor *r, lnt_session *s, lnt_op *op) noexcept nogil:
    # The engine has ended a read or write, whoever still wants it.
    cdef lnt_share *share = s.share
    if r.shares.busy > 1:
        r.shares.changed_us = r.now_us
    share.in_flight -= cost(op)
    r.shares.busy -= share.in_flight == 0


cdef bint share_due(lnt_reactor *r) noexcept nogil:
    # Whether a turn would submit anything that waits. What ends brings a turn by itself.
    cdef lnt_share *share = r.shares.first if r.shares.waiting else NULL
    while share != NULL and (share.head == NULL or not has_room(r, share)):
        share = share.next
    return share != NULL


cdef void share_turn(lnt_reactor *r) noexcept nogil:
    # What waited from earlier turns, each host's share of it; all of it of one that has nobody beside it any more.
    cdef lnt_share *share = r.shares.first
    cdef bint all_of_it
    cdef lnt_op *op
    while share != NULL and r.shares.waiting:
        share.turn = r.counters.turns
        share.used = 0
        all_of_it = alone(r, share)
        while share.head != NULL and (all_of_it or share.used < QUANTUM and has_room(r, share)):
            op = share.head
            share.head = op.next
            if share.head == NULL:
                share.tail = NULL
            op.next = NULL
            share.used += cost(op)
            starts(r, share, op)
            r.shares.waiting -= 1
            share_submit(r, op)
        share = share.next
