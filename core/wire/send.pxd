# A connection's send side: queue, PDU generation, gathered sends.
from core.wire.nexus cimport lnt_connection, lnt_reactor, lnt_send, lnt_task
from libc.stdint cimport int32_t, uint32_t, uint8_t

cdef void send_task(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void send_pdu(lnt_reactor *r, lnt_connection *c, const uint8_t *bhs, uint8_t *data, uint32_t length, void *heap,
                   bint close) noexcept nogil
cdef void send_again(lnt_reactor *r, lnt_connection *c, lnt_send *of, uint32_t sn, uint32_t sn_end, bint status) noexcept nogil
cdef void send_reject(lnt_reactor *r, lnt_connection *c, uint8_t reason, const uint8_t *bhs) noexcept nogil
cdef void send_reject_at(lnt_reactor *r, lnt_connection *c, uint8_t reason, const uint8_t *bhs, uint32_t data_sn) noexcept nogil
cdef void send_flush(lnt_reactor *r, lnt_connection *c) noexcept nogil
cdef void send_completed(lnt_reactor *r, lnt_connection *c, int32_t result) noexcept nogil
cdef void send_teardown(lnt_reactor *r, lnt_connection *c) noexcept nogil
cdef void segment_changed(lnt_connection *c, uint32_t max_send) noexcept nogil
cdef lnt_connection *send_dirty(lnt_reactor *r) noexcept nogil
