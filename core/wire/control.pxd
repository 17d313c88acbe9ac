# What Python asks of the reactor's thread.
from core.wire.nexus cimport lnt_reactor

cdef void requests_take(lnt_reactor *r) noexcept nogil
