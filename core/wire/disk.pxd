# The reactor's lnt_dev: device requests on its io_uring, inline where that is cheaper, or by librbd.
from core.base.types cimport lnt_dev, lnt_io
from core.wire.image cimport lnt_image
from core.wire.lone cimport lnt_lone
from core.wire.throttle cimport lnt_throttle
from core.wire.uring cimport lnt_ring
from core.wire.waves cimport lnt_waves
from core.wire.window cimport lnt_windows
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef struct lnt_disk:              # lnt_dev over the ring
    lnt_dev dev
    lnt_ring *ring
    void *reactor                  # whose thread this is
    uint32_t file                  # registered index
    int fd
    uint8_t inline_io              # memory-backed files: plain system calls
    uint8_t page_cache             # buffered files: writes go to it at once, and so do reads of what it holds
    uint8_t small_folios           # new parts of the file are written in small pieces (docs/performance.md)
    uint8_t copies                 # what is written is copied at once, or by the kernel: it may lie anywhere in memory
    uint8_t device                 # a block device: what is to be allocated is written with zeros
    uint8_t loops                  # on a loop device: a thread of the kernel does what is asked, and wants a core
    lnt_image image                # pools on Ceph: there is no file
    lnt_io *inline_head            # to be performed without the engine's lock
    lnt_io *inline_tail
    lnt_io *done_head              # completed, the engine is to be told
    lnt_io *done_tail
    uint8_t *map                   # memory-backed files: all of it
    uint64_t map_bytes
    lnt_throttle throttle
    lnt_lone lone
    uint8_t own_syncs              # this thread may perform them
    lnt_windows windows            # buffered files of some file systems: what is read without a system call
    lnt_waves waves                # past the page cache: who has to wait for others to end
    uint32_t in_flight
    uint32_t discarding            # discards on the ring: inline writes wait for their holes
    uint32_t syncing               # syncs on the ring, done by threads of the kernel that want a core
    uint64_t reads
    uint64_t writes
    uint64_t syncs
    uint64_t read_bytes
    uint64_t write_bytes

cdef int disk_open(lnt_disk *d, lnt_ring *ring, int fd, uint32_t file, int inline_io) noexcept nogil
cdef void disk_complete(lnt_disk *d, lnt_io *io, int32_t result) noexcept nogil
cdef bint disk_give(lnt_disk *d, uint64_t now_us) noexcept nogil
cdef int disk_image(lnt_disk *d, void *image, uint64_t object_bytes) noexcept nogil
cdef void disk_image_woken(lnt_disk *d) noexcept nogil
cdef bint disk_run_inline(lnt_disk *d, uint64_t now_us) noexcept nogil
cdef void disk_close(lnt_disk *d) noexcept nogil
