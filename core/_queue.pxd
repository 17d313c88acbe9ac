# The queue device of tools and tests: requests that Python performs, one by one or at once.
from core._types cimport lnt_dev, lnt_io
from libc.stdint cimport uint8_t

cdef struct qdev:
    lnt_dev dev                   # must be first
    lnt_io *head
    lnt_io *tail
    void *device                  # Python device: requests finish inline (recovery)
    uint8_t inline_
    uint8_t woken                 # it wants a turn

cdef int perform_now(object device, lnt_io *io)
cdef int queue_submit(lnt_dev *dev, lnt_io *io) noexcept nogil
cdef void queue_wake(lnt_dev *dev) noexcept nogil
