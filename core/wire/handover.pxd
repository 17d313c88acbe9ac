# Commands and PDUs that Python decides.
from core.wire.nexus cimport lnt_reactor, lnt_request, lnt_task

cdef void command_to_python(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void pdu_to_python(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void echo_nop(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void command_complete(lnt_reactor *r, lnt_task *t, lnt_request *m) noexcept nogil
