# Responses that are kept, and what is sent again (ErrorRecoveryLevel 1).
from core.wire.nexus cimport R2T_KEPT, lnt_connection, lnt_reactor, lnt_send, lnt_task
from libc.stdint cimport uint16_t, uint32_t, uint8_t

cdef lnt_send *send_take(lnt_reactor *r) noexcept nogil
cdef void send_free(lnt_reactor *r, lnt_send *x) noexcept nogil
cdef void kept_drop_data(lnt_reactor *r, lnt_send *x) noexcept nogil
cdef void kept_drop_oldest(lnt_reactor *r, lnt_connection *c) noexcept nogil
cdef void send_let_go(lnt_reactor *r, lnt_send *x) noexcept nogil
cdef void kept_sent(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void kept_add(lnt_reactor *r, lnt_connection *c, lnt_send *x) noexcept nogil
cdef void kept_shed(lnt_reactor *r, lnt_connection *c) noexcept nogil
cdef void kept_acknowledge(lnt_reactor *r, lnt_connection *c, uint32_t exp_stat_sn) noexcept nogil
cdef uint32_t task_total(lnt_task *t) noexcept nogil
cdef bint asks_ack(lnt_task *t) noexcept nogil
cdef uint32_t data_in_count(lnt_task *t) noexcept nogil
cdef uint32_t data_in_at(lnt_task *t, uint32_t sn, uint32_t *length) noexcept nogil
cdef bint kept_pdu(lnt_connection *c, lnt_send *x, uint8_t *h, uint8_t **data, uint32_t *length) noexcept nogil
cdef void kept_segment_changed(lnt_connection *c) noexcept nogil
cdef void kept_acked(lnt_task *t, uint32_t data_sn) noexcept nogil
cdef void kept_recut(lnt_task *t, uint32_t snack_tag) noexcept nogil

cdef inline void send_hold(lnt_send *x) noexcept nogil:
    # It is queued to be sent again.
    x.holds += 1

cdef inline void kept_begin(lnt_task *t) noexcept nogil:
    # Its Data-In will be cut by the segment length of now.
    t.kept.segment = t.connection.max_send

cdef inline void kept_r2t(lnt_task *t, uint32_t r2t_sn, uint32_t offset, uint32_t length) noexcept nogil:
    t.kept.r2ts[r2t_sn % R2T_KEPT].offset = offset
    t.kept.r2ts[r2t_sn % R2T_KEPT].length = length

cdef inline uint16_t kept_recovered(lnt_task *t) noexcept nogil:
    # One more recovery R2T; how many it has had.
    t.kept.recoveries += 1
    return t.kept.recoveries

cdef inline void kept_init(lnt_connection *c, uint32_t stat_sn) noexcept nogil:
    c.kept.exp_stat_sn = stat_sn
