# Turns of the hosts: which reads and writes the engine is given in a turn of the reactor, and has at a time.
from core.base.types cimport lnt_op
from core.wire.nexus cimport lnt_reactor, lnt_session
from core.wire.shares cimport lnt_share
from libc.stdint cimport uint64_t

cdef lnt_share *share_new(uint64_t host) noexcept nogil
cdef void share_join(lnt_reactor *r, lnt_session *s) noexcept nogil
cdef void share_leave(lnt_reactor *r, lnt_session *s) noexcept nogil
cdef bint share_waits(lnt_reactor *r, lnt_session *s, lnt_op *op) noexcept nogil
cdef void share_done(lnt_reactor *r, lnt_session *s, lnt_op *op) noexcept nogil
cdef bint share_due(lnt_reactor *r) noexcept nogil
cdef void share_turn(lnt_reactor *r) noexcept nogil

cdef inline void share_begin(lnt_reactor *r) noexcept nogil:
    # A turn begins: whether the medium has kept up with the one before.
    if r.disk.in_flight > r.disk.syncing + r.disk.discarding:
        r.shares.behind_us = r.now_us

cdef inline void share_submit(lnt_reactor *r, lnt_op *op) noexcept nogil:
    # The engine gets it in this turn.
    if r.submit_tail != NULL:
        r.submit_tail.next = op
    else:
        r.submit_head = op
    r.submit_tail = op
