# The reactor's lnt_dev: device requests on its io_uring, or inline where that is cheaper.
from core._session cimport lnt_disk
from core._types cimport lnt_io
from core._uring cimport lnt_ring
from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef int disk_open(lnt_disk *d, lnt_ring *ring, int fd, uint32_t file, int inline_io) noexcept nogil
cdef void disk_complete(lnt_disk *d, lnt_io *io, int32_t result) noexcept nogil
cdef bint disk_run_inline(lnt_disk *d, uint64_t now_us) noexcept nogil
cdef void disk_close(lnt_disk *d) noexcept nogil
