"""Turns of the hosts: while several are served, each gives the engine so many reads and writes in a turn of the reactor, no more.

A host that keeps a hundred commands under way would otherwise have a hundred done for each one of its neighbour's that keeps one.
What is more than its share waits for the next turn, which begins at once: the reactor never rests while something waits. Flushes,
task management and NOPs are not counted and never wait. Lives here and nowhere else: `lnt_share`, `lnt_shares`, and the list of
ops that the turn submits.
"""
from core.base.memory cimport mem_zeroed
from libc.stdlib cimport free
from libc.stdint cimport uint32_t

cdef enum:
    QUANTUM = 16                      # of a host, in a turn: so many commands ...
    COMMAND_BYTES = 16384             # ... each of which counts once more for so many bytes
    CONTENTION_US = 1000              # after a host's last command others have the reactor for themselves again


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
    return 1 + <uint32_t>(op.length // COMMAND_BYTES)


cdef bint share_waits(lnt_reactor *r, lnt_session *s, lnt_op *op) noexcept nogil:
    # Whether a read or write has to wait for a later turn, which it does here; False: it is for this one.
    cdef lnt_share *share = s.share
    if r.shares.last != share:
        if r.shares.last != NULL:
            r.shares.changed_us = r.now_us
        r.shares.last = share
    if r.now_us - r.shares.changed_us >= CONTENTION_US and r.shares.waiting == 0:
        return False                  # alone
    if share.turn != r.counters.turns:
        share.turn = r.counters.turns
        share.used = 0
    if share.head == NULL and share.used < QUANTUM:
        share.used += cost(op)
        return False
    if share.tail != NULL:
        share.tail.next = op
    else:
        share.head = op
    share.tail = op
    r.shares.waiting += 1
    r.counters.shared += 1
    return True


cdef void share_turn(lnt_reactor *r) noexcept nogil:
    # What waited from earlier turns, each host's share of it; all of it when only one is left.
    cdef lnt_share *share = r.shares.first
    cdef bint alone = r.now_us - r.shares.changed_us >= CONTENTION_US
    cdef lnt_op *op
    while share != NULL and r.shares.waiting:
        share.turn = r.counters.turns
        share.used = 0
        while share.head != NULL and (alone or share.used < QUANTUM):
            op = share.head
            share.head = op.next
            if share.head == NULL:
                share.tail = NULL
            op.next = NULL
            share.used += cost(op)
            r.shares.waiting -= 1
            share_submit(r, op)
        share = share.next
