"""The pool's own queue devices: how tools and tests drive the engine (docs/architecture.md, "The seams")."""
from core.base.dropped cimport ring_count
from core.base.memory cimport mem_zeroed
from core.base.native cimport pthread_mutex_lock, pthread_mutex_unlock
from core.base.pool cimport lnt_pool
from core.base.types cimport IO_ALLOCATE, IO_DISCARD, IO_READ, IO_SYNC, IO_WRITE, lnt_io
from core.log.journal cimport background_due
from core.ops.reading cimport GAP_BYTES_MOST
from core.pool.queue cimport perform_now, queue_submit, queue_wake
from core.pool.turn cimport LNT_IDLE, dev_link, lnt_dev_reap, lnt_dev_run


IO_NAMES = {IO_READ: "read", IO_WRITE: "write", IO_SYNC: "sync", IO_DISCARD: "discard", IO_ALLOCATE: "allocate"}


cdef class DrivenPool(PoolState):
    """The pool's own queue devices, for tools and tests: one step at a time, or as long as there is something to do."""

    cdef int side_attach(self) except -1:
        """A second queue device: every other operation on data runs there, as with two reactors."""
        self.side = <lnt_queue_device *>mem_zeroed(sizeof(lnt_queue_device))
        if self.side == NULL:
            raise MemoryError
        self.side.dev.submit = queue_submit
        self.side.dev.wake = queue_wake
        dev_link(self.p, &self.side.dev)
        return 0

    cdef int medium_set(self, uint32_t gap_bytes, bint cached) except -1:
        """Reads of these devices join pieces with so much between them, and a page cache has what the last of them reads."""
        self.q.dev.gap_bytes = min(gap_bytes, <uint32_t>GAP_BYTES_MOST)
        if self.side != NULL:
            self.side.dev.gap_bytes = self.q.dev.gap_bytes
        (self.side if self.side != NULL else self.q).dev.cached = cached
        return 0

    cdef int collect(self) except -1:
        """Move new requests of the queue devices into the table that tests see."""
        self.collect_from(self.q)
        if self.side != NULL:
            self.collect_from(self.side)
        return 0

    cdef int collect_from(self, lnt_queue_device *q) except -1:
        cdef lnt_io *io
        while q.head != NULL:
            io = q.head
            q.head = io.next
            if q.head == NULL:
                q.tail = NULL
            self.ios[self.next_token] = (<size_t>io, <size_t>q)
            self.next_token += 1
        return 0

    def pending_io(self):
        cdef lnt_io *io
        self.open_pool()
        self.collect()
        out = []
        for key, (at, _) in self.ios.items():
            io = <lnt_io *><size_t>at
            out.append((key, IO_NAMES[io.kind], io.offset, io.length))
        return out

    def perform(self, io_id):
        cdef lnt_pool *p = self.open_pool()
        at, queue = self.ios.pop(io_id)
        cdef lnt_io *io = <lnt_io *><size_t>at
        cdef lnt_queue_device *q = <lnt_queue_device *><size_t>queue
        io.result = perform_now(self.device, io)
        pthread_mutex_lock(&p.lock)
        p.current_device = &q.dev
        io.done(io)
        p.current_device = NULL
        pthread_mutex_unlock(&p.lock)
        q.woken = 1

    cdef uint64_t turn_queue(self, lnt_queue_device *q, uint64_t now_us) except? 77:
        cdef lnt_pool *p = self.open_pool()
        cdef uint64_t wait
        q.woken = 0
        pthread_mutex_lock(&p.lock)
        wait = lnt_dev_run(p, &q.dev, now_us)
        p.current_device = NULL
        pthread_mutex_unlock(&p.lock)
        lnt_dev_reap(p, &q.dev)
        q.woken |= wait == 0
        return wait

    def turn(self, now_us=None, queue=None):
        cdef uint64_t now = self.clock_us() if now_us is None else now_us
        cdef uint64_t wait = LNT_IDLE
        self.open_pool()
        if self.side != NULL and queue in (None, 1):
            wait = self.turn_queue(self.side, now)
        if queue in (None, 0):
            wait = min(wait, self.turn_queue(self.q, now))
        return wait

    def woken(self):
        self.open_pool()
        return [i for i, woken in enumerate((self.q.woken, self.side != NULL and self.side.woken)) if woken]

    cdef uint64_t pump(self) except? 77:
        """One turn, then every request there is, in order."""
        wait = self.turn()
        self.collect()
        if self.ios:
            for key in list(self.ios):
                self.perform(key)
            return 0
        return wait

    def drain(self):
        cdef lnt_pool *p = self.open_pool()
        while self.pump() == 0 or (not p.failed and (
                ring_count(&p.dropped_waiting) or ring_count(&p.dropped_ready) or p.checkpoint.state)):
            if p.failed and not self.ios:
                break
            if ring_count(&p.dropped_waiting):
                background_due(p)

    cdef int idle(self) except -1:
        """Let requests in flight finish."""
        while self.q.head != NULL or self.side != NULL and self.side.head != NULL:
            self.pump()
        return 0
