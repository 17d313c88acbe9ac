"""What both pumps are: a thread's part in the engine, and the object that it reads or writes.

Lives here and nowhere else: how a pump joins the engine and leaves it. `open` and `close` belong to its thread.
"""
from core.base.types cimport ST_OK
from core.stream.worker cimport worker_close, worker_open
from libc.stdint cimport uintptr_t

import os

from core.errors import STATUS_CODES, PoolError
from core.wire.liburing import uring_library


cdef class Pump:
    def __cinit__(self, Pool pool not None, *_args, **_options):
        self.pool = pool
        self.w.wake_fd = -1

    def open(self):
        cdef int rc
        cdef bytes library = uring_library()
        cdef const char *path = library
        address = getattr(self.pool.device, "image_address", 0)
        cdef int fd = -1 if address else self.pool.device.fileno()
        cdef void *image = <void *><uintptr_t>address
        cdef uint64_t object_bytes = self.pool.device.object_bytes if address else 0
        with nogil:
            rc = worker_open(&self.w, self.pool.p, path, fd, image, object_bytes)
        if rc < 0:
            raise OSError(-rc, f"io_uring is not usable: {os.strerror(-rc)}")

    def close(self):
        self.let_go()
        with nogil:
            worker_close(&self.w)

    cdef int choose(self, uint64_t object_id, str gone) except -1:
        """From here on it is that object. PoolError gone."""
        self.let_go()
        self.obj = self.pool.open_handle(object_id)
        if self.obj == NULL:
            raise PoolError("gone", gone)
        return 0

    cdef int let_go(self) except -1:
        if self.obj != NULL:
            self.pool.close_handle(self.obj)
            self.obj = NULL
        return 0

    cdef int check(self, str what) except -1:
        """PoolError: the first operation that failed since the last look; `what` has a place for its byte."""
        if self.w.error != ST_OK:
            status, self.w.error = self.w.error, ST_OK
            raise PoolError(STATUS_CODES[status], what.format(self.w.error_offset))
        return 0
