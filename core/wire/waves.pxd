# Which reads a device has that ends everything at once, and which wait for those.
from core.base.types cimport lnt_io
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    NO_BOUND = 0xffffffff

cdef struct lnt_waves:
    lnt_io *first                  # reads that wait
    lnt_io *last
    uint32_t waiting
    uint32_t at_device             # reads and writes that the device has
    uint32_t given                 # of the present wave ...
    uint32_t most                  # ... which is so long at most
    uint32_t depth                 # reads and writes under way: the most, lately
    uint32_t bursts                # of ends, that have begun
    uint32_t ended                 # in this turn
    uint32_t burst                 # requests that the device had when the present burst of ends began ...
    uint32_t ending                # ... and those of them that have not ended; 0: it is over
    uint32_t trust                 # how often bursts were whole lately, 0..16
    uint64_t began_us              # when the present burst began ...
    uint64_t over_us               # ... and the one before was over
    uint64_t held                  # reads that had to wait

cdef void waves_open(lnt_waves *w) noexcept nogil
cdef void waves_turn(lnt_waves *w, uint64_t now_us) noexcept nogil
cdef lnt_io *waves_next(lnt_waves *w) noexcept nogil


cdef inline bint waves_give(lnt_waves *w, lnt_io *io, bint may_wait) noexcept nogil:
    """A read or write for the device, which may have it now. False: it waits, and waves_next gives it."""
    if w.at_device == 0:
        w.given = 0
    if may_wait and w.given >= w.most:
        io.next = NULL
        if w.last != NULL:
            w.last.next = io
        else:
            w.first = io
        w.last = io
        w.waiting += 1
        w.held += 1
        return False
    w.at_device += 1
    w.given += 1
    return True


cdef inline void waves_ended(lnt_waves *w) noexcept nogil:
    """The device has ended a read or write."""
    w.at_device -= 1
    w.ended += 1


cdef class Waves:
    cdef lnt_waves waves
    cdef lnt_io requests[64]
    cdef uint32_t made
