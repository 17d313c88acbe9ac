# A connection's receive side: bytes in, PDUs taken apart.
from core.wire.nexus cimport lnt_connection, lnt_reactor
from libc.stdint cimport uint32_t, uint8_t

cdef void pdu_complete(lnt_reactor *r, lnt_connection *c, const uint8_t *h) noexcept nogil
cdef void receive_bytes(lnt_reactor *r, lnt_connection *c, const uint8_t *p, uint32_t n) noexcept nogil
cdef void receive_direct(lnt_reactor *r, lnt_connection *c) noexcept nogil
cdef lnt_connection *receive_bulk(lnt_reactor *r) noexcept nogil
