# How a reactor waits between turns.
from core.wire.nexus cimport lnt_connection, lnt_reactor
from libc.stdint cimport uint32_t

cdef extern from "wire/neighbour.h" nogil:
    int lnt_is_neighbour(int fd)
    int lnt_sent_from_here(int fd)

cdef enum:
    LONE_MEAN = 48                    # PDUs a turn, in sixteenths, below which commands come one by one ...
    ALONE_MEAN = 24                   # ... and below which there is but one most of the time: both sides take turns anyway
    HERE_COMMANDS = 256               # after one from this core that many from another, until its sender is taken to stay there

cdef void pacing_start() noexcept nogil
cdef void pacing_wait(lnt_reactor *r) noexcept nogil

cdef inline void pacing_heard(lnt_reactor *r, lnt_connection *c, uint32_t exp_stat_sn) noexcept nogil:
    # A command came: how many answers its initiator has not taken yet, and whether it was sent from this very core.
    if not c.neighbour or r.pacing.pdu_mean >= ALONE_MEAN:
        r.pacing.here = 0
    elif lnt_sent_from_here(c.fd):
        r.pacing.here = HERE_COMMANDS
    elif r.pacing.here:
        r.pacing.here -= 1
    if c.stat_sn - exp_stat_sn < r.pacing.behind:
        r.pacing.behind = c.stat_sn - exp_stat_sn
