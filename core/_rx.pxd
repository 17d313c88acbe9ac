# A connection's receive side: bytes in, PDUs taken apart and dispatched.
from core._session cimport lnt_abort, lnt_conn, lnt_reactor
from libc.stdint cimport uint8_t, uint32_t

cdef void rx_bytes(lnt_reactor *r, lnt_conn *c, const uint8_t *p, uint32_t n) noexcept nogil
cdef void abort_missing(lnt_reactor *r, lnt_abort *a) noexcept nogil
cdef void rx_direct(lnt_reactor *r, lnt_conn *c) noexcept nogil
