# NOP-In: silent connections are pinged.
from core.wire.nexus cimport lnt_connection, lnt_reactor
from libc.stdint cimport uint64_t

cdef void keepalive_answered(lnt_reactor *r, lnt_connection *c) noexcept nogil
cdef void keepalive_turn(lnt_reactor *r) noexcept nogil

cdef inline void keepalive_init(lnt_connection *c, uint64_t interval_us, uint64_t timeout_us) noexcept nogil:
    # An interval of 0: it is never pinged.
    c.keepalive.interval_us = interval_us
    c.keepalive.timeout_us = timeout_us
