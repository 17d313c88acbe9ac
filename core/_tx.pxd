# A connection's send side: queue, PDU generation, gathered sends.
from core._session cimport lnt_conn, lnt_reactor, lnt_task
from libc.stdint cimport int32_t, uint8_t, uint32_t

cdef void tx_task(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void tx_pdu(lnt_reactor *r, lnt_conn *c, const uint8_t *bhs, uint8_t *data, uint32_t length, void *heap,
                 bint close) noexcept nogil
cdef void tx_reject(lnt_reactor *r, lnt_conn *c, uint8_t reason, const uint8_t *bhs) noexcept nogil
cdef void tx_flush(lnt_reactor *r, lnt_conn *c) noexcept nogil
cdef void tx_completed(lnt_reactor *r, lnt_conn *c, int32_t result) noexcept nogil
