# Data-Out: R2Ts, what arrives, and what is asked for again.
from core._session cimport lnt_conn, lnt_reactor, lnt_task
from libc.stdint cimport uint8_t, uint32_t

cdef void solicit(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void send_r2t_again(lnt_reactor *r, lnt_task *t, uint32_t sn) noexcept nogil
cdef void on_data_out(lnt_reactor *r, lnt_conn *c, const uint8_t *h, uint32_t dsl) noexcept nogil
cdef bint data_arrived(lnt_reactor *r, lnt_conn *c, lnt_task *t, const uint8_t *h, bint intact) noexcept nogil
