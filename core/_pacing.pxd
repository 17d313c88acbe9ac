# cython: language_level=3
from core._session cimport lnt_reactor

cdef void pacing_start() noexcept nogil
cdef void pacing_wait(lnt_reactor *r) noexcept nogil
