# Data-Out: R2Ts, what arrives, and what is asked for again.
from core.wire.nexus cimport lnt_connection, lnt_reactor, lnt_task
from core.wire.payload cimport payload_for
from libc.stdint cimport uint32_t, uint8_t

cdef void data_out_plan(lnt_reactor *r, lnt_connection *c, lnt_task *t, uint32_t dsl) noexcept nogil
cdef void data_out_solicit(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void send_r2t_again(lnt_reactor *r, lnt_task *t, uint32_t sn) noexcept nogil
cdef void on_data_out(lnt_reactor *r, lnt_connection *c, const uint8_t *h, uint32_t dsl) noexcept nogil
cdef bint data_arrived(lnt_reactor *r, lnt_connection *c, lnt_task *t, const uint8_t *h, bint intact) noexcept nogil

cdef inline void data_out_want(lnt_task *t, uint32_t length) noexcept nogil:
    # How many bytes the command takes of what the initiator has for it.
    t.out.want = length

cdef inline void data_out_receiving(lnt_connection *c, lnt_task *t) noexcept nogil:
    # The payload that follows is the task's.
    t.out.receiving = 1
    payload_for(c, t)

cdef inline void data_out_received(lnt_task *t) noexcept nogil:
    t.out.receiving = 0

cdef inline void data_out_immediate(lnt_task *t, uint32_t length) noexcept nogil:
    # Immediate data of a deferred command proved intact.
    t.out.got = length
