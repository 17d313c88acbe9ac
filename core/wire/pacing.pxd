# How a reactor waits between turns.
from core.wire.nexus cimport lnt_connection, lnt_reactor
from libc.stdint cimport uint32_t

cdef enum:
    LONE_MEAN = 48                    # PDUs a turn, in sixteenths, below which commands come one by one

cdef void pacing_start() noexcept nogil
cdef void pacing_wait(lnt_reactor *r) noexcept nogil

cdef inline void pacing_heard(lnt_reactor *r, lnt_connection *c, uint32_t exp_stat_sn) noexcept nogil:
    # A command came: how many answers its initiator has not taken yet.
    if c.stat_sn - exp_stat_sn < r.pacing.behind:
        r.pacing.behind = c.stat_sn - exp_stat_sn
