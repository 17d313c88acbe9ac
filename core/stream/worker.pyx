"""A thread of its own beside the reactors, with a ring and a device: where streams read and write objects.

Lives here and nowhere else: how such a thread takes part in the engine (docs/concurrency.md), and how long it rests while
initiators send commands. Between two runs nothing of it is under way, so that it may sleep for any time.
"""
from core.base.memory cimport mem_zeroed
from core.base.native cimport lnt_mono_us
from core.base.types cimport OPF_BACKGROUND, ST_OK, lnt_dev, lnt_io
from core.pool.turn cimport lnt_dev_attach, lnt_dev_detach, lnt_dev_reap, lnt_dev_run, lnt_enter, lnt_leave, lnt_submit
from core.wire.disk cimport disk_close, disk_complete, disk_image, disk_image_woken, disk_open, disk_run_inline
from core.wire.tags cimport TAG_DEVICE, TAG_IMAGE, TAG_MASK, TAG_WAKE
from core.wire.thread cimport RELEASE, SEQ_CST, lnt_store32, lnt_swap32
from core.wire.uring cimport (
    io_uring_cqe, lnt_cqe, lnt_cqe_seen, lnt_prep_read_fd, lnt_ring_open, lnt_ring_pump, lnt_ring_wait, lnt_uring_load,
)
from libc.stdint cimport int32_t, uintptr_t
from libc.stdlib cimport free

cdef extern from "<errno.h>":
    int ENOMEM
    int ELIBACC
cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int, int)
    int EFD_CLOEXEC
cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void *p, size_t n)
    int close(int fd)
    int usleep(unsigned us)
cdef extern from "lease.h" nogil:
    void lnt_lease_prove(const uint64_t *until_us)

cdef enum:
    RING_ENTRIES = 256
    LOOK_US = 100000              # the longest wait for something that is under way
    SILENT_US = 20000             # initiators that have sent nothing for so long are not there
    REST = 7                      # of eight parts of the time seven are theirs alone
    REST_MAX_US = 200000
    BESIDE_BYTES = 128 << 10      # at once, where initiators wait for the processor meanwhile ...
    BESIDE_WAITING_BYTES = 512 << 10    # ... and where it is the medium that takes its time


cdef void dev_wake(lnt_dev *dev) noexcept nogil:
    # Engine lock held, any thread.
    cdef lnt_worker *w = <lnt_worker *>(<lnt_disk *>dev.owner).reactor
    cdef uint64_t one = 1
    if lnt_swap32(&w.woken, 1, SEQ_CST) == 0:
        write(w.wake_fd, &one, 8)


cdef int worker_open(lnt_worker *w, lnt_pool *pool, const char *library, int fd, void *image,
                     uint64_t object_bytes) noexcept nogil:
    """On the thread itself. 0 or -errno."""
    cdef int rc
    w.pool = pool
    w.seen = pool.budget.requests
    if lnt_uring_load(library) != 0:
        return -ELIBACC
    w.ring = <lnt_ring *>mem_zeroed(sizeof(lnt_ring))
    if w.ring == NULL:
        return -ENOMEM
    rc = lnt_ring_open(w.ring, RING_ENTRIES, 4 * RING_ENTRIES)
    if rc < 0:
        free(w.ring)
        w.ring = NULL
        return rc
    rc = w.ring.api.register_files_sparse(w.ring, 1)
    if rc >= 0 and fd >= 0:
        rc = w.ring.api.register_files_update(w.ring, 0, &fd, 1)
    w.wake_fd = eventfd(0, EFD_CLOEXEC)
    if rc < 0 or w.wake_fd < 0:
        w.ring.api.queue_exit(w.ring)
        free(w.ring)
        w.ring = NULL
        return rc if rc < 0 else -ENOMEM
    disk_open(&w.disk, w.ring, fd, 0, -1)
    w.disk.reactor = w
    w.disk.dev.wake = dev_wake
    lnt_prep_read_fd(w.ring, w.wake_fd, &w.wake_value, 8, TAG_WAKE)
    if image != NULL:
        rc = disk_image(&w.disk, image, object_bytes)
    lnt_enter(pool)
    lnt_dev_attach(pool, &w.disk.dev)
    lnt_leave(pool)
    return 0 if rc >= 0 else rc


cdef void worker_close(lnt_worker *w) noexcept nogil:
    if w.ring == NULL:
        return
    worker_run(w)
    lnt_enter(w.pool)
    lnt_dev_detach(w.pool, &w.disk.dev)
    lnt_leave(w.pool)
    disk_close(&w.disk)
    w.ring.api.queue_exit(w.ring)
    free(w.ring)
    w.ring = NULL
    close(w.wake_fd)


cdef void op_over(lnt_op *op) noexcept nogil:
    cdef lnt_worker *w = <lnt_worker *>op.owner
    w.busy -= 1
    if op.status != ST_OK and w.error == ST_OK:
        w.error = op.status
        w.error_offset = op.offset


cdef void worker_submit(lnt_worker *w, lnt_op *op) noexcept nogil:
    """Have an op run at the next `worker_run`: kind, object, offset, length and buffer are set."""
    op.dev = &w.disk.dev
    op.flags |= OPF_BACKGROUND
    op.done = op_over
    op.owner = w
    op.next = NULL
    if w.submit_tail != NULL:
        w.submit_tail.next = op
    else:
        w.submit_head = op
    w.submit_tail = op
    w.busy += 1


cdef void completions(lnt_worker *w) noexcept nogil:
    cdef io_uring_cqe *cqe = lnt_cqe(w.ring)
    cdef uint64_t tag
    cdef int32_t result
    while cqe != NULL:
        tag = cqe.user_data
        result = cqe.res
        lnt_cqe_seen(w.ring)
        if tag & TAG_MASK == TAG_DEVICE:
            disk_complete(&w.disk, <lnt_io *><uintptr_t>(tag & ~<uint64_t>TAG_MASK), result)
        elif tag == TAG_IMAGE:
            disk_image_woken(&w.disk)
        elif tag == TAG_WAKE:
            lnt_store32(&w.woken, 0, RELEASE)
            lnt_prep_read_fd(w.ring, w.wake_fd, &w.wake_value, 8, TAG_WAKE)
        cqe = lnt_cqe(w.ring)


cdef uint64_t turn(lnt_worker *w) noexcept nogil:
    """As a reactor's: what finished, what is new, what the engine plans. When it wants to run again, microseconds."""
    cdef lnt_io *io
    cdef lnt_io *following
    cdef lnt_op *op = w.submit_head
    cdef lnt_op *next_op
    cdef uint64_t wait, now_us = lnt_mono_us()
    completions(w)
    io = w.disk.done_head
    w.disk.done_head = w.disk.done_tail = NULL
    w.submit_head = w.submit_tail = NULL
    lnt_enter(w.pool)
    while io != NULL:
        following = io.next
        io.next = NULL
        io.done(io)
        io = following
    while op != NULL:
        next_op = op.next
        op.next = NULL
        lnt_submit(w.pool, op)
        op = next_op
    wait = lnt_dev_run(w.pool, &w.disk.dev, now_us)
    lnt_leave(w.pool)
    lnt_lease_prove(&w.pool.lease_us)
    disk_run_inline(&w.disk, now_us)
    lnt_dev_reap(w.pool, &w.disk.dev)
    return wait


cdef void worker_run(lnt_worker *w) noexcept nogil:
    """Until all that was submitted is over, and nothing else is under way on this device: others' commits may be."""
    cdef uint64_t wait
    w.waited = False
    while True:
        wait = turn(w)
        if w.disk.done_head != NULL or w.submit_head != NULL:
            continue
        if w.busy == 0 and w.disk.in_flight == 0:
            return
        if wait == 0:
            lnt_ring_pump(w.ring)
        else:
            w.waited = True
            lnt_ring_wait(w.ring, 1, wait if wait < LOOK_US else LOOK_US)


cdef bint worker_beside(lnt_worker *w) noexcept nogil:
    """Whether initiators send commands now."""
    cdef uint64_t requests = w.pool.budget.requests
    cdef uint64_t now_us = lnt_mono_us()
    if requests != w.seen:
        w.seen = requests
        w.active_us = now_us
    return w.active_us != 0 and now_us < w.active_us + SILENT_US


cdef uint64_t worker_batch_bytes(lnt_worker *w, uint64_t most_bytes) noexcept nogil:
    """How much may be read or written at once; `most_bytes` where no initiator is there. Commands wait for one batch."""
    if not worker_beside(w):
        return most_bytes
    return BESIDE_WAITING_BYTES if w.waited else BESIDE_BYTES


cdef void worker_rest(lnt_worker *w, uint64_t took_us) noexcept nogil:
    """Leave initiators their share of the time, after work that took so long."""
    cdef uint64_t rest_us = took_us * REST
    if worker_beside(w):
        usleep(<unsigned>(rest_us if rest_us < REST_MAX_US else REST_MAX_US))
