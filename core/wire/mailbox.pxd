# Messages between Python and the reactor's thread.
from core.wire.nexus cimport lnt_event, lnt_reactor, lnt_request
from libc.stdint cimport uint8_t, uint32_t

cdef lnt_event *event_new(uint8_t kind, uint32_t length) noexcept nogil
cdef lnt_event *event_of(lnt_event *e, uint8_t kind, void *object) noexcept nogil
cdef void event_post(lnt_reactor *r, lnt_event *e) noexcept nogil
cdef lnt_request *request_new(lnt_reactor *r, uint8_t kind, uint32_t length) noexcept nogil
cdef void request_free(lnt_reactor *r, lnt_request *m) noexcept nogil
cdef bint requests_spare(lnt_reactor *r) noexcept nogil
cdef void spares_free(lnt_reactor *r) noexcept nogil
cdef void mailbox_wake(lnt_reactor *r) noexcept nogil
cdef void request_post(lnt_reactor *r, lnt_request *m) noexcept nogil
cdef lnt_request *requests_all(lnt_reactor *r) noexcept nogil
cdef lnt_event *events_all(lnt_reactor *r) noexcept nogil
cdef void mailbox_arm(lnt_reactor *r) noexcept nogil
cdef void mailbox_woken(lnt_reactor *r) noexcept nogil
