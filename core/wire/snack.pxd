# Recovery within a command and within a connection: SNACK.
from core.wire.nexus cimport lnt_connection, lnt_reactor, lnt_task
from libc.stdint cimport uint32_t, uint8_t

cdef lnt_task *named(lnt_connection *c, uint32_t itt) noexcept nogil
cdef bint run_within(uint32_t begin, uint32_t length, uint32_t first, uint32_t after, uint32_t *end) noexcept nogil
cdef void snack_request(lnt_reactor *r, lnt_connection *c, const uint8_t *h) noexcept nogil
