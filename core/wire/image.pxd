# The reactor's second performer: requests of a pool on a Ceph image (core/wire/image.pyx).
from core.base.types cimport lnt_io
from libc.stdint cimport uint64_t, uint32_t

cdef struct lnt_image:
    void *handle                   # librbd's; NULL: the pool is a file or a block device
    uint64_t object_bytes
    lnt_io *done                   # atomic: finished on librbd's threads, newest first
    int wake_fd                    # written to when `done` was empty
    uint64_t wake_value
    uint32_t pending               # atomic: requests that librbd's threads may still touch this struct for

cdef int image_load(const char *library) noexcept nogil
cdef int image_open(lnt_image *m, void *handle, uint64_t object_bytes) noexcept nogil
cdef void image_close(lnt_image *m) noexcept nogil
cdef void image_submit(lnt_image *m, lnt_io *io) noexcept nogil
cdef lnt_io *image_finished(lnt_image *m) noexcept nogil
