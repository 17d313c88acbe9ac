"""The queue device: how a thread that holds the GIL performs I/O on a Python device (docs/architecture.md, "The seams")."""
import errno

from core.base.types cimport IO_ALLOCATE, IO_READ, IO_SYNC, IO_WRITE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

import errno


cdef void scatter(lnt_io *io, const char *data) noexcept nogil:
    """What was read, to where it goes."""
    cdef uint32_t i
    cdef uint64_t at = 0
    if io.vector == NULL:
        memcpy(io.buf, data, io.length)
        return
    for i in range(io.parts):
        memcpy(io.vector[i].iov_base, data + at, io.vector[i].iov_len)
        at += io.vector[i].iov_len


cdef int perform_now(object device, lnt_io *io):
    """Do a request on a Python device. 0 or -errno."""
    cdef bytes data
    try:
        if io.kind == IO_READ:
            data = device.read(io.offset, io.length)
            if len(data) != io.length:
                return -errno.EIO
            scatter(io, <const char *>data)
        elif io.kind == IO_WRITE:
            device.write(io.offset, (<const char *>io.buf)[:io.length])
        elif io.kind == IO_SYNC:
            device.sync()
        elif io.kind == IO_ALLOCATE:
            device.allocate(io.offset, io.length)
        else:
            device.discard(io.offset, io.length)
    except OSError as e:
        return -(e.errno or errno.EIO)
    return 0


cdef int queue_submit(lnt_dev *dev, lnt_io *io) noexcept nogil:
    cdef lnt_queue_device *q = <lnt_queue_device *>dev
    if q.inline_:
        with gil:
            io.result = perform_now(<object>q.device, io)
        return 1
    io.next = NULL
    if q.tail != NULL:
        q.tail.next = io
    else:
        q.head = io
    q.tail = io
    return 0


cdef void queue_wake(lnt_dev *dev) noexcept nogil:
    (<lnt_queue_device *>dev).woken = 1       # for tests that turn several as threads would; else whoever pumps looks by itself
