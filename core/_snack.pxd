# Recovery within a command and within a connection: SNACK.
from core._session cimport lnt_conn, lnt_reactor
from libc.stdint cimport uint8_t, uint32_t

cdef void snack(lnt_reactor *r, lnt_conn *c, const uint8_t *h) noexcept nogil
cdef void segment_changed(lnt_conn *c, uint32_t max_send) noexcept nogil
