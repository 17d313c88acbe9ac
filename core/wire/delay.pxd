# Commands that wait for limits: a test where there is none, a queue a LUN where there is.
from core.wire.nexus cimport lnt_limit, lnt_lun, lnt_reactor, lnt_task
from libc.stdint cimport uint64_t

cdef enum lnt_wait:
    DELAY_NOT = 0                 # it begins
    DELAY_WAITS = 1               # it is in its LUN's queue
    DELAY_FULL = 2                # too much waits already

cdef lnt_wait delay_holds(lnt_reactor *r, lnt_task *t, uint64_t held_bytes) noexcept nogil
cdef void delay_forget(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef lnt_task *delay_next(lnt_reactor *r, lnt_lun *lun) noexcept nogil
cdef void delay_settled(lnt_reactor *r) noexcept nogil
cdef void delay_limits(lnt_reactor *r, lnt_lun *lun, lnt_limit *volume, lnt_limit *host) noexcept nogil
cdef void delay_changed(lnt_reactor *r, lnt_limit *limit) noexcept nogil
cdef void delay_init(lnt_lun *lun, lnt_limit *volume, lnt_limit *host) noexcept nogil

cdef inline void delay_begin(lnt_reactor *r) noexcept nogil:
    # Of a thread that begins: nothing waits.
    r.delays.wake_us = <uint64_t>-1

cdef inline bint delay_active(lnt_lun *lun) noexcept nogil:
    return lun != NULL and lun.delay.active
