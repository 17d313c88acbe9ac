# A connection's send side: queue, PDU generation, gathered sends.
from core._session cimport lnt_conn, lnt_reactor, lnt_task, lnt_tx
from libc.stdint cimport int32_t, uint8_t, uint32_t

cdef void tx_task(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void tx_pdu(lnt_reactor *r, lnt_conn *c, const uint8_t *bhs, uint8_t *data, uint32_t length, void *heap,
                 bint close) noexcept nogil
cdef void tx_reject(lnt_reactor *r, lnt_conn *c, uint8_t reason, const uint8_t *bhs) noexcept nogil
cdef void tx_reject_at(lnt_reactor *r, lnt_conn *c, uint8_t reason, const uint8_t *bhs, uint32_t data_sn) noexcept nogil
cdef void tx_again(lnt_reactor *r, lnt_conn *c, lnt_tx *of, uint32_t sn, uint32_t sn_end, bint status) noexcept nogil
cdef void tx_acknowledge(lnt_reactor *r, lnt_conn *c, uint32_t exp_stat_sn) noexcept nogil
cdef uint32_t task_total(lnt_task *t) noexcept nogil
cdef uint32_t data_in_count(lnt_task *t) noexcept nogil
cdef uint32_t data_in_at(lnt_task *t, uint32_t sn, uint32_t *length) noexcept nogil
cdef uint32_t ack_tag(lnt_task *t) noexcept nogil
cdef void tx_flush(lnt_reactor *r, lnt_conn *c) noexcept nogil
cdef void tx_completed(lnt_reactor *r, lnt_conn *c, int32_t result) noexcept nogil
