# The queue device: how a thread that holds the GIL performs I/O on a Python device (docs/architecture.md, "The seams").
from core.base.types cimport lnt_dev, lnt_io
from libc.stdint cimport uint8_t

cdef struct lnt_queue_device:
    lnt_dev dev                   # must be first
    lnt_io *head
    lnt_io *tail
    void *device                  # Python device: requests finish inline (recovery)
    uint8_t inline_
    uint8_t woken                 # it wants a turn

cdef int perform_now(object device, lnt_io *io)
cdef int queue_submit(lnt_dev *dev, lnt_io *io) noexcept nogil
cdef void queue_wake(lnt_dev *dev) noexcept nogil
