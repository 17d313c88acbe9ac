# What a PDU from the initiator means once its header is here.
from core.wire.nexus cimport lnt_abort, lnt_connection, lnt_reactor, lnt_task
from core.wire.numbering cimport lnt_place
from libc.stdint cimport uint32_t, uint8_t

cdef void abort_missing(lnt_reactor *r, lnt_abort *a) noexcept nogil
cdef void settle_deferred(lnt_reactor *r, lnt_connection *c, lnt_task *t, const uint8_t *h, bint intact) noexcept nogil
cdef bint pdu_refused(lnt_reactor *r, lnt_connection *c, const uint8_t *h, lnt_place place) noexcept nogil
cdef void on_pdu_complete(lnt_reactor *r, lnt_connection *c, const uint8_t *h, bint intact) noexcept nogil
cdef void on_opcode(lnt_reactor *r, lnt_connection *c, const uint8_t *h, uint32_t dsl) noexcept nogil
