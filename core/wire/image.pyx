"""A pool's image on a Ceph cluster, as a reactor reads and writes it: librbd's asynchronous calls, whose ends come to its ring.

librbd ends a request on a thread of its own. That thread puts the request on a stack without a lock, and writes to an eventfd
which the ring reads when the stack was empty: one eventfd a reactor. Lives here and nowhere else: `lnt_image`.
"""
from core.base.memory cimport mem_new
from core.base.types cimport IO_ALLOCATE, IO_DISCARD, IO_READ, IO_SYNC, IO_WRITE
from core.wire.thread cimport ACQUIRE, SEQ_CST, lnt_add32, lnt_load32, lnt_sub32
from libc.errno cimport EIO, ENOMEM, errno
from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.stdlib cimport free

cdef extern from "<errno.h>" nogil:
    int EILSEQ
    int EROFS
    int ESHUTDOWN
cdef extern from "base/native.h" nogil:
    uint64_t lnt_mono_us()
cdef extern from "lease.h" nogil:
    void lnt_fenced()
cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int, int)
    int EFD_CLOEXEC
cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void *p, size_t n)
    int close(int fd)
    int usleep(unsigned us)
cdef extern from *:
    """
    #define lnt_push(head, seen, item) __atomic_compare_exchange_n(head, seen, item, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)
    #define lnt_take_all(head) __atomic_exchange_n(head, 0, __ATOMIC_SEQ_CST)
    """
    bint lnt_push(lnt_io **head, lnt_io **seen, lnt_io *item) nogil
    lnt_io *lnt_take_all(lnt_io **head) nogil
cdef extern from "wire/librbd.h" nogil:
    ctypedef void (*lnt_rbd_callback)(void *completion, void *arg) noexcept nogil
    struct lnt_rbd_api:
        int (*aio_create_completion)(void *arg, lnt_rbd_callback done, void **completion) noexcept nogil
        ssize_t (*aio_get_return_value)(void *completion) noexcept nogil
        void (*aio_release)(void *completion) noexcept nogil
        int (*aio_read)(void *image, uint64_t at, size_t length, char *buf, void *completion) noexcept nogil
        int (*aio_write)(void *image, uint64_t at, size_t length, const char *buf, void *completion) noexcept nogil
        int (*aio_discard)(void *image, uint64_t at, uint64_t length, void *completion) noexcept nogil
        int (*aio_flush)(void *image, void *completion) noexcept nogil
        int (*aio_compare_and_write)(void *image, uint64_t at, size_t length, const char *compare, const char *buf,
                                     void *completion, uint64_t *mismatch, int flags) noexcept nogil
    lnt_rbd_api lnt_rbd
    int lnt_rbd_load(const char *library)

cdef enum:
    SECTOR_BYTES = 512

cdef struct lnt_sector:               # of a range that is being allocated: as it was read, to be written again
    lnt_io *io
    lnt_image *image
    uint64_t mismatch
    uint8_t written                   # or being read
    char data[SECTOR_BYTES]


cdef int image_load(const char *library) noexcept nogil:
    return lnt_rbd_load(library)


cdef int image_open(lnt_image *m, void *handle, uint64_t object_bytes) noexcept nogil:
    m.handle = handle
    m.object_bytes = object_bytes
    m.wake_fd = eventfd(0, EFD_CLOEXEC)
    return -errno if m.wake_fd < 0 else 0


cdef void image_close(lnt_image *m) noexcept nogil:
    # Every request has finished, but a thread of librbd may not have returned from telling so.
    if m.handle == NULL:
        return
    while lnt_load32(&m.pending, ACQUIRE):
        usleep(100)
    close(m.wake_fd)
    m.handle = NULL


cdef void finish(lnt_image *m, lnt_io *io, int32_t result) noexcept nogil:
    # Any thread. The last thing it touches of the image is `pending`.
    cdef lnt_io *seen = NULL
    cdef uint64_t one = 1
    if result == -ESHUTDOWN or result == -EROFS:
        lnt_fenced()                  # another gateway has the pool: no initiator may take that for an error of its disk
    if io.kind == IO_DISCARD:
        io.took_us = lnt_mono_us() - io.took_us
    io.result = result
    io.next = NULL
    while not lnt_push(&m.done, &seen, io):
        io.next = seen
    if seen == NULL:
        write(m.wake_fd, &one, 8)
    lnt_sub32(&m.pending, 1, SEQ_CST)


cdef void completed(void *completion, void *arg) noexcept nogil:
    cdef lnt_io *io = <lnt_io *>arg
    cdef lnt_image *m = <lnt_image *>io.next
    cdef ssize_t result = lnt_rbd.aio_get_return_value(completion)
    lnt_rbd.aio_release(completion)
    if io.kind == IO_READ and result >= 0:
        result = 0 if <uint64_t>result == io.length else -EIO
    finish(m, io, <int32_t>result if result < 0 else 0)


cdef int image_start(lnt_image *m, lnt_io *io, void *completion) noexcept nogil:
    if io.kind == IO_READ:
        return lnt_rbd.aio_read(m.handle, io.offset, io.length, <char *>io.buf, completion)
    if io.kind == IO_WRITE:
        return lnt_rbd.aio_write(m.handle, io.offset, io.length, <const char *>io.buf, completion)
    if io.kind == IO_SYNC:
        return lnt_rbd.aio_flush(m.handle, completion)
    return lnt_rbd.aio_discard(m.handle, io.offset, io.length, completion)


cdef void image_submit(lnt_image *m, lnt_io *io) noexcept nogil:
    # The image's own thread, without the engine's lock.
    cdef void *completion = NULL
    cdef int rc
    lnt_add32(&m.pending, 1, SEQ_CST)
    io.next = <lnt_io *>m
    if io.kind == IO_ALLOCATE:
        allocate(m, io)
        return
    if io.kind == IO_DISCARD:
        io.took_us = lnt_mono_us()
    rc = lnt_rbd.aio_create_completion(io, completed, &completion)
    if rc == 0:
        rc = image_start(m, io, completion)
        if rc < 0:
            lnt_rbd.aio_release(completion)
    if rc < 0:
        finish(m, io, rc)


cdef lnt_io *image_finished(lnt_image *m) noexcept nogil:
    # What has finished since the last time, oldest first, linked by `next`.
    cdef lnt_io *io = lnt_take_all(&m.done)
    cdef lnt_io *oldest = NULL
    cdef lnt_io *following
    while io != NULL:
        following = io.next
        io.next = oldest
        oldest = io
        io = following
    return oldest


# -- room ------------------------------------------------------------------------------------------------------------
# A cluster that is full refuses what makes an object longer, and takes the rest. So a range has room when its objects are as
# long as it needs: the last sector of the range in each is read and written again as it is, at one stroke (core/image.py).

cdef void allocate(lnt_image *m, lnt_io *io) noexcept nogil:
    cdef lnt_sector *s = <lnt_sector *>mem_new(sizeof(lnt_sector))
    if s == NULL:
        finish(m, io, -ENOMEM)
        return
    s.io = io
    s.image = m
    sector_read(s)


cdef uint64_t part_end(lnt_sector *s) noexcept nogil:
    cdef uint64_t here = s.io.offset + s.io.done_bytes
    return min(s.io.offset + s.io.length, (here // s.image.object_bytes + 1) * s.image.object_bytes)


cdef void sector_read(lnt_sector *s) noexcept nogil:
    cdef void *completion = NULL
    cdef int rc = lnt_rbd.aio_create_completion(s, sector_done, &completion)
    s.written = 0
    if rc == 0:
        rc = lnt_rbd.aio_read(s.image.handle, part_end(s) - SECTOR_BYTES, SECTOR_BYTES, s.data, completion)
        if rc < 0:
            lnt_rbd.aio_release(completion)
    if rc < 0:
        sectors_end(s, rc)


cdef void sector_write(lnt_sector *s) noexcept nogil:
    cdef void *completion = NULL
    cdef int rc = lnt_rbd.aio_create_completion(s, sector_done, &completion)
    s.written = 1
    if rc == 0:
        rc = lnt_rbd.aio_compare_and_write(s.image.handle, part_end(s) - SECTOR_BYTES, SECTOR_BYTES, s.data, s.data, completion,
                                           &s.mismatch, 0)
        if rc < 0:
            lnt_rbd.aio_release(completion)
    if rc < 0:
        sectors_end(s, rc)


cdef void sector_done(void *completion, void *arg) noexcept nogil:
    cdef lnt_sector *s = <lnt_sector *>arg
    cdef ssize_t result = lnt_rbd.aio_get_return_value(completion)
    lnt_rbd.aio_release(completion)
    if s.written and result == -EILSEQ:
        result = 0                    # somebody has written there meanwhile: so much the better
    if result < 0:
        sectors_end(s, <int>result)
    elif not s.written:
        sector_write(s)
    else:
        s.io.done_bytes = part_end(s) - s.io.offset
        if s.io.done_bytes < s.io.length:
            sector_read(s)
        else:
            sectors_end(s, 0)


cdef void sectors_end(lnt_sector *s, int result) noexcept nogil:
    cdef lnt_io *io = s.io
    cdef lnt_image *m = s.image
    free(s)
    finish(m, io, result)
