"""The reactor's thread: completions in, engine turn, gathered sends out, one wait (docs/architecture.md, "The seams").

Lives here and nowhere else: the order of a turn, the thread's beginning and end, the ring and its receive buffers.
"""
from core.base.memory cimport mem_zeroed
from core.base.types cimport lnt_dev, lnt_io, lnt_op
from core.pool.turn cimport LNT_IDLE, lnt_dev_attach, lnt_dev_detach, lnt_dev_reap, lnt_dev_run, lnt_enter, lnt_leave, lnt_submit
from core.wire.abort cimport aborts_check
from core.wire.buffers cimport buffers_free_all, buffers_idle
from core.wire.command cimport delayed_step, dormant_step, waiting_step
from core.wire.connection cimport connection_arm, connection_close, connection_disarmed
from core.wire.control cimport requests_take
from core.wire.delay cimport delay_begin
from core.wire.disk cimport (
    disk_close, disk_complete, disk_give, disk_image, disk_image_woken, disk_open, disk_run_inline, lnt_disk,
)
from core.wire.inbound cimport inbound_arrived, inbound_close, inbound_let_go, inbound_open
from core.wire.keepalive cimport keepalive_turn
from core.wire.lifecycle cimport connections_reap, sessions_reap
from core.wire.lone cimport lone_synced
from core.wire.mailbox cimport mailbox_arm, mailbox_wake, mailbox_woken
from core.wire.nexus cimport (
    CLOSE_ERROR, CLOSE_PEER, CONNECTIONS_MAX, CONNECTION_OPEN, lnt_connection,
)
from core.wire.pacing cimport pacing_start, pacing_wait
from core.wire.receive cimport receive_bulk, receive_bytes, receive_direct
from core.wire.send cimport send_completed, send_dirty, send_flush
from core.wire.share cimport share_begin, share_turn
from core.wire.tags cimport TAG_DEVICE, TAG_IMAGE, TAG_MASK, TAG_RECV, TAG_SEND, TAG_WAKE
from core.wire.thread cimport ACQUIRE, RELEASE, lnt_load32, lnt_store32, pthread_t
from core.wire.uring cimport (
    IORING_CQE_BUFFER_SHIFT, IORING_CQE_F_BUFFER, IORING_CQE_F_MORE, io_uring_cqe, lnt_cq_overflowed, lnt_cqe,
    lnt_cqe_seen, lnt_ring, lnt_ring_open, lnt_ring_pump, lnt_ring_start, lnt_ring_submit, lnt_ring_wait,
    lnt_uring_load,
)
from libc.errno cimport ECONNRESET, ENOBUFS, ENOMEM
from libc.stdint cimport int32_t, uint32_t, uint64_t, uint8_t, uintptr_t
from libc.stdlib cimport free

cdef extern from "<errno.h>":
    int ECANCELED
cdef extern from "base/native.h" nogil:
    uint64_t lnt_mono_us()
cdef extern from "lease.h" nogil:
    void lnt_lease_prove(const uint64_t *until_us)

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <pthread.h>
    #include <sched.h>
    #include <signal.h>
    #include <stdlib.h>
    #include <sys/mman.h>
    #include <unistd.h>
    static void lnt_thread_setup(int cpu)
    {
        sigset_t blocked;               /* signals are the interpreter's, except those this thread causes itself */
        sigfillset(&blocked);
        sigdelset(&blocked, SIGBUS);
        sigdelset(&blocked, SIGSEGV);
        sigdelset(&blocked, SIGILL);
        sigdelset(&blocked, SIGFPE);
        sigdelset(&blocked, SIGABRT);
        pthread_sigmask(SIG_BLOCK, &blocked, 0);
        pthread_setname_np(pthread_self(), "lunette-data");
        if (cpu >= 0) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET(cpu, &set);
            pthread_setaffinity_np(pthread_self(), sizeof set, &set);
        }
    }
    static int lnt_thread_create(pthread_t *t, void *(*f)(void *), void *arg) { return pthread_create(t, 0, f, arg); }
    static void lnt_thread_join(pthread_t t) { pthread_join(t, 0); }
    static int lnt_thread_is(pthread_t t) { return pthread_equal(t, pthread_self()); }
    """
    void lnt_thread_setup(int cpu) nogil
    int lnt_thread_create(pthread_t *t, void *(*f)(void *) noexcept nogil, void *arg) nogil
    void lnt_thread_join(pthread_t t) nogil
    int lnt_thread_is(pthread_t t) nogil
    int usleep(unsigned us) nogil
    int close(int fd) nogil
    ssize_t write(int fd, const void *p, size_t n) nogil

cdef enum:
    SQ_ENTRIES = 1024
    CQ_ENTRIES = 16384
    AT_ONCE = 4                       # requests submitted together, while the device takes those before
    ENGINE_US = 200                   # engine turns that go on longer let the connections have a look
    IDLE_US = 3000000                 # memory for buffers that nobody took in so long goes back to the system
    DRAIN_US = 5000000                # how long stop lets the engine finish background work

cdef uint64_t FOREVER = <uint64_t>-1


cdef int loop_load(const char *library) noexcept nogil:
    return lnt_uring_load(library)


# -- waking the thread -----------------------------------------------------------------------------------------------

cdef void dev_wake(lnt_dev *dev) noexcept nogil:
    # Engine lock held, any thread.
    cdef lnt_reactor *r = <lnt_reactor *>(<lnt_disk *>dev.owner).reactor
    lnt_store32(&r.engine_due, 1, RELEASE)
    if not lnt_thread_is(r.thread):
        mailbox_wake(r)


# -- connections in the ring -----------------------------------------------------------------------------------------

cdef void on_recv(lnt_reactor *r, lnt_connection *c, int32_t result, uint32_t flags) noexcept nogil:
    cdef uint8_t *p
    if flags & IORING_CQE_F_BUFFER:
        r.disk.lone.heard = 1
        p = inbound_arrived(&r.inbound, flags >> IORING_CQE_BUFFER_SHIFT)
        if result > 0 and c.state == CONNECTION_OPEN:
            receive_bytes(r, c, p, <uint32_t>result)
        inbound_let_go(&r.inbound, p)
    if flags & IORING_CQE_F_MORE:
        return
    connection_disarmed(r, c)
    if c.state != CONNECTION_OPEN:
        return
    if result > 0 or result == -ENOBUFS or result == -ECANCELED:
        if result == -ENOBUFS:
            r.counters.starved += 1
        if not c.paused:
            connection_arm(r, c)
    elif result == 0 or result == -ECONNRESET:
        connection_close(r, c, CLOSE_PEER, "closed by the peer")
    else:
        connection_close(r, c, CLOSE_ERROR, "receive failed")


# -- a turn ----------------------------------------------------------------------------------------------------------

cdef void completions(lnt_reactor *r) noexcept nogil:
    cdef io_uring_cqe *cqe = lnt_cqe(r.ring)
    cdef uint64_t tag
    cdef int32_t result
    cdef uint32_t flags
    while cqe != NULL:
        tag = cqe.user_data
        result = cqe.res
        flags = cqe.flags
        lnt_cqe_seen(r.ring)
        r.counters.cqes += 1
        if tag & TAG_MASK == TAG_DEVICE:
            disk_complete(&r.disk, <lnt_io *><uintptr_t>(tag & ~<uint64_t>TAG_MASK), result)
        elif tag & TAG_MASK == TAG_RECV:
            on_recv(r, <lnt_connection *><uintptr_t>(tag & ~<uint64_t>TAG_MASK), result, flags)
        elif tag & TAG_MASK == TAG_SEND:
            send_completed(r, <lnt_connection *><uintptr_t>(tag & ~<uint64_t>TAG_MASK), result)
        elif tag == TAG_IMAGE:
            disk_image_woken(&r.disk)
        elif tag == TAG_WAKE:
            r.disk.lone.heard = 1
            mailbox_woken(r)
            mailbox_arm(r)
            requests_take(r)
        cqe = lnt_cqe(r.ring)


cdef void direct_receives(lnt_reactor *r) noexcept nogil:
    # Every completion is processed, so what the socket holds comes next in the stream.
    cdef lnt_connection *c = receive_bulk(r)
    while c != NULL:
        if not lnt_cq_overflowed(r.ring):
            receive_direct(r, c)
        c = receive_bulk(r)


cdef inline bint engine_wanted(lnt_reactor *r) noexcept nogil:
    return (r.disk.done_head != NULL or r.submit_head != NULL or lnt_load32(&r.engine_due, ACQUIRE)
            or r.now_us >= r.engine_us)


cdef inline void tell(lnt_io *io) noexcept nogil:
    # Under the engine's lock: these requests have finished.
    cdef lnt_io *following
    while io != NULL:
        following = io.next
        io.next = NULL
        io.done(io)
        io = following


cdef void engine_turn(lnt_reactor *r) noexcept nogil:
    # Under the engine's lock: tell it what finished, give it what is new, let it plan.
    cdef lnt_io *io = r.disk.done_head
    cdef lnt_op *op = r.submit_head
    cdef lnt_op *op_following
    cdef uint64_t wait
    r.disk.done_head = NULL
    r.disk.done_tail = NULL
    r.submit_head = NULL
    r.submit_tail = NULL
    lnt_store32(&r.engine_due, 0, RELEASE)
    r.disk.lone.only = r.tasks.live <= 1
    lnt_enter(r.pool)
    tell(io)
    while op != NULL:
        op_following = op.next
        op.next = NULL
        lnt_submit(r.pool, op)
        op = op_following
    wait = lnt_dev_run(r.pool, &r.disk.dev, r.now_us)
    lnt_leave(r.pool)
    r.engine_us = FOREVER if wait >= LNT_IDLE else r.now_us + wait


cdef void own_sync_over(lnt_reactor *r) noexcept nogil:
    # This thread waited for the medium itself: whoever came meanwhile waited, too.
    lnt_lease_prove(r.lease_us)
    lnt_ring_pump(r.ring)
    lone_synced(&r.disk.lone, lnt_mono_us(), lnt_cqe(r.ring) != NULL)


cdef void engine(lnt_reactor *r) noexcept nogil:
    # Engine turns until nothing more finishes inline. Bounded in number and time: a checkpoint on an inline device is work that
    # never waits.
    cdef int rounds = 0
    while engine_wanted(r) and rounds < 64 and (rounds < 2 or lnt_mono_us() - r.now_us < ENGINE_US):
        rounds += 1
        engine_turn(r)
        lnt_lease_prove(r.lease_us)
        disk_run_inline(&r.disk, r.now_us)
        if r.disk.lone.here:
            own_sync_over(r)
        lnt_dev_reap(r.pool, &r.disk.dev)
        if r.disk.done_head == NULL and r.submit_head == NULL:
            break


cdef void send_all(lnt_reactor *r) noexcept nogil:
    # Sending makes nothing dirty again: what a connection has to send goes out until its queue is empty or its socket full.
    # After the work, before the words: a process that was stopped in the midst of a turn must not say what it knew then.
    cdef lnt_connection *c
    lnt_lease_prove(r.lease_us)
    r.answer_us = lnt_mono_us()
    c = send_dirty(r)
    while c != NULL:
        if c.state == CONNECTION_OPEN:
            send_flush(r, c)
        c = send_dirty(r)


cdef void turn(lnt_reactor *r) noexcept nogil:
    cdef int _round
    r.counters.turns += 1
    r.now_us = lnt_mono_us()
    share_begin(r)
    if r.shares.waiting:
        share_turn(r)
    completions(r)
    if disk_give(&r.disk, r.now_us):
        lnt_lease_prove(r.lease_us)
        r.counters.starts += lnt_ring_start(r.ring, AT_ONCE)    # before anything else: the device has nothing to do
    if r.bulk != NULL:
        direct_receives(r)
    if r.now_us >= r.delays.wake_us:
        delayed_step(r)
    for _round in range(16):
        if r.settle != NULL:
            dormant_step(r)
        engine(r)
        if r.now_us >= r.keepalive_us:
            keepalive_turn(r)
        if r.buffers.grown and r.idle_us == FOREVER:
            r.idle_us = r.now_us
        if r.now_us >= r.idle_us:
            r.idle_us = r.now_us + IDLE_US if buffers_idle(&r.buffers) else FOREVER
        if r.disk.in_flight:
            lnt_lease_prove(r.lease_us)
            r.counters.starts += lnt_ring_start(r.ring, AT_ONCE)   # the device has the first few already, ...
        if r.dirty != NULL and r.disk.in_flight:
            lnt_ring_submit(r.ring)         # ... and all of them while answers are sent
        if r.dirty != NULL:
            send_all(r)
        if r.tasks.waiting.head == NULL and r.settle == NULL:
            break
        waiting_step(r)
        if r.submit_head == NULL and r.dirty == NULL and r.settle == NULL:
            break
    if r.reap:
        connections_reap(r)
    if r.abort_check:
        aborts_check(r)


# -- the thread ------------------------------------------------------------------------------------------------------

cdef int set_up(lnt_reactor *r) noexcept nogil:
    cdef int rc = 0
    r.ring = <lnt_ring *>mem_zeroed(sizeof(lnt_ring))
    if r.ring == NULL:
        return -ENOMEM
    rc = lnt_ring_open(r.ring, SQ_ENTRIES, CQ_ENTRIES)
    if rc < 0:
        free(r.ring)
        r.ring = NULL
        return rc
    r.ring.api.register_ring_fd(r.ring)
    rc = r.ring.api.register_files_sparse(r.ring, CONNECTIONS_MAX + 1)
    if rc < 0:
        return rc
    rc = r.ring.api.register_files_update(r.ring, 0, &r.fd, 1)
    if rc < 0:
        return rc
    rc = inbound_open(&r.inbound, r.ring)
    if rc < 0:
        return rc
    disk_open(&r.disk, r.ring, r.fd, 0, r.inline_io)
    r.disk.reactor = r
    r.disk.dev.wake = dev_wake
    if r.image != NULL:
        rc = disk_image(&r.disk, r.image, r.object_bytes)
        if rc < 0:
            return rc
    mailbox_arm(r)
    return 0


cdef void tear_down(lnt_reactor *r) noexcept nogil:
    disk_close(&r.disk)
    if r.ring != NULL:
        inbound_close(&r.inbound)
        r.ring.api.queue_exit(r.ring)
        free(r.ring)
        r.ring = NULL
    buffers_free_all(&r.buffers)


cdef void engine_drain(lnt_reactor *r) noexcept nogil:
    # After the last connection: lets the engine finish what runs, waits for device requests and leaves the pool.
    cdef uint64_t give_up = lnt_mono_us() + DRAIN_US
    cdef lnt_io *io
    while r.now_us < give_up:
        turn(r)
        lnt_lease_prove(r.lease_us)
        if r.engine_us > r.now_us and not r.disk.in_flight and not lnt_load32(&r.engine_due, ACQUIRE):
            break
        if r.engine_us > r.now_us:
            lnt_ring_wait(r.ring, 1, 10000)
        else:
            lnt_ring_pump(r.ring)
    while True:
        completions(r)
        disk_give(&r.disk, lnt_mono_us())
        io = r.disk.done_head
        r.disk.done_head = NULL
        r.disk.done_tail = NULL
        lnt_enter(r.pool)
        tell(io)
        lnt_leave(r.pool)
        lnt_lease_prove(r.lease_us)
        disk_run_inline(&r.disk, r.now_us)
        if r.disk.in_flight == 0 and r.disk.done_head == NULL:
            break
        if r.disk.done_head == NULL:
            lnt_ring_wait(r.ring, 1, 100000)
    lnt_enter(r.pool)
    lnt_dev_detach(r.pool, &r.disk.dev)
    lnt_leave(r.pool)
    lnt_dev_reap(r.pool, &r.disk.dev)


cdef void *thread_main(void *arg) noexcept nogil:
    cdef lnt_reactor *r = <lnt_reactor *>arg
    cdef int rc
    lnt_thread_setup(r.cpu)
    pacing_start()
    rc = set_up(r)
    if rc < 0:
        tear_down(r)
        lnt_store32(<uint32_t *>&r.started, <uint32_t>rc, RELEASE)
        return NULL
    r.now_us = lnt_mono_us()
    r.keepalive_us = FOREVER
    r.idle_us = FOREVER
    delay_begin(r)
    lnt_enter(r.pool)
    lnt_dev_attach(r.pool, &r.disk.dev)
    lnt_leave(r.pool)
    lnt_store32(<uint32_t *>&r.started, 1, RELEASE)
    while not r.stopping or r.connections != NULL:
        turn(r)
        if r.stopping and r.connections == NULL:
            break
        pacing_wait(r)
    engine_drain(r)
    sessions_reap(r)
    tear_down(r)
    return NULL


cdef int loop_start(lnt_reactor *r) noexcept nogil:
    # 0 once the thread runs, or -errno.
    cdef int32_t state
    cdef int rc = lnt_thread_create(&r.thread, thread_main, r)
    if rc:
        return -rc
    while True:
        state = <int32_t>lnt_load32(<uint32_t *>&r.started, ACQUIRE)
        if state:
            break
        usleep(100)
    if state < 0:
        lnt_thread_join(r.thread)
        r.started = 0
        return state
    return 0


cdef void loop_join(lnt_reactor *r) noexcept nogil:
    lnt_thread_join(r.thread)
    r.started = 0
