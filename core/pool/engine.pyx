# cython: language_level=3
"""The pool: objects, map, space and durability behind one class, and the same for native threads (docs/architecture.md)."""
import errno

from core.errors import STATUS_CODES, PoolError
from core.base.mutations import mutation
from core.pool.info import (
    METADATA_PARTS, KeyPart, TraceEvent, bad_pages, failure_text, key_part, key_record, key_slot, masked_serial, object_info,
    object_slot, trace_event_text)

from core.base.damage cimport lnt_bad_page
from core.base.layout cimport (
    L_BLOCK_BYTES, L_FRAME_BLOCKS, L_FRAME_HEADER_BYTES, L_KV_CHUNK_BYTES, L_KV_KEY_BYTES, L_KV_VALUE_BYTES, L_RUN_BLOCKS,
    L_SLOT_BYTES, L_SUMMARY_PAGES,
    L_SUMMARY_START, L_ZONE_BLOCKS, OB_BLOCK_BYTES, OB_FLAGS, OB_ID, OB_KIND, OB_LEVEL, OB_NAME, OB_NAME_BYTES, OB_SIZE_BYTES,
    OF_TAIL, OK_SNAPSHOT, SB_CACHE_TOKEN, SB_FLAGS, SB_IDENTITY, SB_NAME, SB_UUID, SF_CLEAN, SF_DISTRUST, SF_UNSWEPT, SK_KV,
    SK_OBJECT,
)
from core.base.log cimport C_IDLE
from core.base.memory cimport mem_aligned, mem_zeroed
from core.base.mutations cimport M_NO_CLOSE_SYNC
from core.base.native cimport (
    lnt_get_le32, lnt_get_le64, lnt_mono_us, lnt_put_le32, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock,
    pthread_mutex_t, pthread_mutex_unlock,
)
from core.base.object cimport lnt_object, lnt_range
from core.base.operation cimport (
    A_CHECKPOINT, A_CREATE, A_DATA, A_DELETE, A_DERIVE, A_DIFF, A_EXCLUSIVE, A_EXTENTS, A_GROW, A_KV, A_PUBLISH, A_RESIZE,
    A_REVERT, A_SCRUB, A_SET, A_SHARE, A_TRIM, SET_NAME, SET_PHYSICAL, SET_PROPS, SET_QUOTA, SET_RESERVE, lnt_admin, lnt_piece,
    lnt_publication, lnt_row,
)
from core.base.pool cimport TRACE_EVENTS, lnt_op_state, lnt_pool, lnt_trace_entry
from core.base.schedule cimport op_ready
from core.base.trace cimport PF_CUT, pool_fail
from core.base.types cimport (
    IO_ALLOCATE, IO_DISCARD, IO_READ, IO_SYNC, IO_WRITE, OPF_FUA, OPF_NOUNMAP, OP_ADMIN, OP_COMPARE_WRITE, OP_READ, OP_SYNC,
    OP_UNMAP, OP_WRITE, OP_WRITE_ATOMIC, lnt_io, lnt_obj, lnt_op,
)
from core.catalog.loading cimport catalog_load
from core.catalog.slots cimport NO_SLOT, object_number, object_store, slot_alloc, slot_free
from core.log.checkpoint cimport limits_set
from core.log.journal cimport journal_free, journal_init, journal_room
from core.log.opening cimport super_change, super_current, super_load, super_read
from core.log.recovery cimport area_apply, blocks_for_nodes, medium_load, medium_open, pool_format, summaries_load
from core.log.replay cimport journal_replay
from core.log.superblock cimport node_runs_store, super_next
from core.objects cimport object_find
from core.ops.admin cimport admin_submit
from core.ops.scrub cimport SP_MAP
from core.pages.cache cimport cache_free, cache_init
from core.pages.damage cimport damage_free
from core.pool.queue cimport lnt_queue_device, perform_now, queue_submit, queue_wake
from core.pool.turn cimport lnt_dev_reap, lnt_dev_run
from core.space.allocation cimport available_blocks
from core.space.budget cimport budget_hurry
from core.space.dropped cimport pending_count
from core.space.holes cimport punch_flags, punch_free, punch_runs
from core.space.medium cimport nodes_prepare
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int, int)
    int EFD_NONBLOCK
    int EFD_CLOEXEC

cdef extern from "lease.h" nogil:
    void lnt_hang_up()

cdef extern from *:
    """
    #define lnt_store64(at, v) __atomic_store_n(at, v, __ATOMIC_RELEASE)
    """
    void lnt_store64(uint64_t *at, uint64_t v) nogil

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int, const void *, size_t)
    ssize_t read(int, void *, size_t)
    int close(int)

IO_NAMES = {IO_READ: "read", IO_WRITE: "write", IO_SYNC: "sync", IO_DISCARD: "discard", IO_ALLOCATE: "allocate"}
MUTATIONS = {"": 0} | {m.name[2:].lower(): int(m) for m in mutation}


def hang_up():
    lnt_hang_up()


# -- completions -------------------------------------------------------------------------------------------------------

cdef struct mailbox:
    pthread_mutex_t lock
    lnt_admin *first                  # newest first
    lnt_admin *taken                  # oldest first, out of the lock's reach: Python's
    int fd


cdef void pool_done(lnt_op *op) noexcept nogil:
    """Any device's thread: hand a finished operation to Python, without the GIL."""
    cdef lnt_admin *a = <lnt_admin *>op
    cdef mailbox *m = <mailbox *>op.owner
    cdef uint64_t one = 1
    pthread_mutex_lock(&m.lock)
    a.next = m.first
    m.first = a
    pthread_mutex_unlock(&m.lock)
    write(m.fd, &one, 8)          # it only wakes the reader, and a full counter wakes it as well


cdef inline size_t super_pad() noexcept nogil:
    """Bytes before a pool's struct that bring its superblock buffer to a page's start, as O_DIRECT wants it."""
    cdef lnt_pool *p = <lnt_pool *>4096  # where a page starts: only the member's offset counts
    return -<size_t>p.checkpoint.super_buf & 4095


cdef lnt_pool *pool_new() noexcept nogil:
    cdef uint8_t *raw = <uint8_t *>mem_aligned(super_pad() + sizeof(lnt_pool))
    if raw == NULL:
        return NULL
    memset(raw, 0, super_pad() + sizeof(lnt_pool))
    return <lnt_pool *>(raw + super_pad())


cdef void spares_free(lnt_pool *p) noexcept nogil:
    """Requests and pieces of writes that were kept for the next ones."""
    cdef lnt_io *io = <lnt_io *>p.io_spare
    cdef lnt_piece *a = p.aext_spare
    while io != NULL:
        p.io_spare = io.next
        free(io)
        io = <lnt_io *>p.io_spare
    while a != NULL:
        p.aext_spare = a.next
        free(a)
        a = p.aext_spare


cdef class Pool:
    @staticmethod
    def create(device, *, str name, size_bytes=0, journal_blocks=0, area_blocks=0):
        pool_format(device, name, size_bytes, journal_blocks, area_blocks)

    @staticmethod
    def identify(device, *, bytes identity, str name=""):
        values = {"identity": identity, "name": name.encode().ljust(64, b"\0")} if name else {"identity": identity}
        if len(identity) != 16 or len(name.encode()) > 63:
            raise PoolError("invalid", "an identity has 16 bytes, a name at most 63")
        super_change(device, values)

    @staticmethod
    def superblock(device):
        return super_current(device)

    def __cinit__(self, *args, **kwargs):
        self.completion_fd = -1
        self.next_token = 1

    def __init__(self, device, *, cache_bytes=268435456, read_only=False, punch_delay_us=2000000, mutations="", clock=None,
                 queues=1):
        self.device, self.clock = device, clock
        self.read_only = read_only
        self.unsubmitted = 0
        self.ops, self.ids, self.keys, self.claimed, self.ios = {}, {}, {}, set(), {}
        self.keys_outcomes, self.keys_changing, self.keys_waiting = {}, set(), []
        if mutations not in MUTATIONS:
            raise PoolError("invalid", f"no mutation is called {mutations}")
        self.p = pool_new()
        self.q = <lnt_queue_device *>mem_zeroed(sizeof(lnt_queue_device))
        self.mail = <mailbox *>mem_zeroed(sizeof(mailbox))
        if self.p == NULL or self.q == NULL or self.mail == NULL:
            raise MemoryError
        pthread_mutex_init(&self.p.lock, NULL)
        pthread_mutex_init(&self.mail.lock, NULL)
        self.p.mutations = MUTATIONS[mutations]
        self.p.marks.delay_us = punch_delay_us
        try:
            self.mail.fd = self.completion_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
            if self.completion_fd < 0:
                raise OSError(errno.EMFILE, "no descriptor is left to wake the control plane with (ulimit -n)")
            self.recover(cache_bytes)
            if queues == 2:
                self.side_attach()
        except OSError as e:
            self.abandon()
            raise PoolError("io_read", f"pool cannot be read: {e.strerror or e}") from e
        except BaseException:
            self.abandon()
            raise

    cdef int prepare(self, uint64_t cache_bytes) except -1:
        """Memory for everything a pool needs before its first page."""
        cdef lnt_pool *p = self.p
        cdef uint64_t limit = cache_bytes // L_BLOCK_BYTES
        cache_init(p, limit if limit > 256 else 256)
        medium_open(p, self.device)
        if not journal_init(p):
            raise MemoryError
        limits_set(p)
        p.ohash = <lnt_object **>mem_zeroed(1024 * sizeof(lnt_object *))
        p.omask = 1023
        p.zeros = <uint8_t *>mem_aligned(1048576)
        p.background = <lnt_op *>mem_zeroed(sizeof(lnt_op))
        p.ck_op = <lnt_op *>mem_zeroed(sizeof(lnt_op))
        if p.ohash == NULL or p.zeros == NULL or p.background == NULL or p.ck_op == NULL:
            raise MemoryError
        memset(p.zeros, 0, 1048576)
        p.can_discard = 1
        p.epoch = 2
        self.q.dev.submit = queue_submit
        self.q.dev.wake = queue_wake
        self.q.device = <void *>self.device
        self.q.inline_ = 1
        p.home = p.devs = p.cur = &self.q.dev
        p.background.dev = p.ck_op.dev = p.home
        return 0

    cdef int recover(self, uint64_t cache_bytes) except -1:
        """Superblock, area, catalog, journal; then a checkpoint, unless the pool was closed cleanly."""
        cdef lnt_pool *p = self.p
        cdef bytes raw, token
        cdef list slots = [], changes = []
        raw = super_read(p, self.device)
        super_load(p, raw)
        if p.total_blocks * L_BLOCK_BYTES > self.device.size_bytes:
            raise PoolError("damaged", "pool is damaged: its file or device is shorter than the pool")
        self.prepare(cache_bytes)
        memcpy(p.checkpoint.live_buf, <const char *>raw, L_BLOCK_BYTES)
        self.name = raw[SB_NAME:SB_NAME + 64].rstrip(b"\0").decode(errors="replace")
        self.identity = raw[SB_IDENTITY:SB_IDENTITY + 16].strip(b"\0") and raw[SB_IDENTITY:SB_IDENTITY + 16]
        self.uuid = self.identity or raw[SB_UUID:SB_UUID + 16]
        self.serial_mask = int.from_bytes(self.uuid) ^ int.from_bytes(raw[SB_UUID:SB_UUID + 16])
        token = bytes(self.device.cache_token)[:64].ljust(64, b"\0")
        flags = lnt_get_le32(<const uint8_t *>raw + SB_FLAGS)
        trusted = token.strip(b"\0") and raw[SB_CACHE_TOKEN:SB_CACHE_TOKEN + 64] == token and not flags & SF_DISTRUST
        memcpy(p.cache_token, <const char *>token, 64)
        p.holes.unswept = 1 if flags & SF_UNSWEPT else 0
        p.replaying = 1
        if flags & SF_CLEAN:
            summaries_load(p, self.device, raw)
            area_apply(p, self.device, raw)
            medium_load(p, self.device, raw)
            catalog_load(p, slots)
            self.keys_load(slots)
            journal_replay(p, self.device, raw, 0, changes)   # nothing to replay: sets the ring up
            p.journal.record_seq = 0
            nodes_prepare(p, NULL)
            self.reopen(raw)
        else:
            area_apply(p, self.device, raw)
            summaries_load(p, self.device, raw)
            medium_load(p, self.device, raw)
            catalog_load(p, slots)
            self.keys_load(slots)
            journal_replay(p, self.device, raw, 1 if trusted else 0, changes)
            if p.failed:
                raise PoolError("damaged", "pool is damaged: the journal does not fit the map")
        self.names_load()
        p.now_us = clock_us(self)
        p.checkpoint.next_due_us = p.now_us + 30000000
        if not flags & SF_CLEAN:
            blocks_for_nodes(p)
        for key, value in changes:
            self.kv_apply(key, value)
        p.cur = &self.q.dev           # a turn has ended
        if changes:
            blocks_for_nodes(p)
        p.replaying = 0
        if not flags & SF_CLEAN:
            nodes_prepare(p, NULL)
            if p.medium.sparse and p.nodes_free < p.unhomed:
                raise PoolError("no_space", f"the file system has no room for {p.unhomed - p.nodes_free} blocks that "
                                            "recovery must write: make some, nothing is lost")
            self.call("checkpoint")
        self.q.inline_ = 0
        p.read_only = 1 if self.read_only else 0
        p.cur = NULL
        if not self.read_only:
            shrinks_resume(self)
        return 0

    cdef int reopen(self, bytes raw) except -1:
        """A clean pool is marked open: same checkpoint, new life of the page cache above it."""
        cdef uint8_t *b = self.p.checkpoint.super_buf
        memcpy(b, <const char *>raw, L_BLOCK_BYTES)
        lnt_put_le32(b + SB_FLAGS, lnt_get_le32(b + SB_FLAGS) & SF_UNSWEPT)
        memcpy(b + SB_CACHE_TOKEN, self.p.cache_token, 64)
        node_runs_store(self.p, b)
        self.device.sync()            # whoever closed it may have been killed before the second copy's sync
        self.super_write()
        memcpy(self.p.checkpoint.live_buf, b, L_BLOCK_BYTES)
        return 0

    cdef int super_write(self) except -1:
        """Both copies of the superblock in p.checkpoint.super_buf, one after the other."""
        super_next(self.p, self.p.checkpoint.super_buf)
        for slot in range(2):
            self.device.write(slot * L_BLOCK_BYTES, (<const char *>self.p.checkpoint.super_buf)[:L_BLOCK_BYTES])
            if not self.p.mutations & M_NO_CLOSE_SYNC:
                self.device.sync()
        return 0

    cdef int names_load(self) except -1:
        cdef uint64_t i
        cdef lnt_object *o
        for i in range(self.p.omask + 1):
            o = self.p.ohash[i]
            while o != NULL:
                name = (<const char *>o.desc + OB_NAME)[:o.desc[OB_NAME_BYTES]].decode(errors="replace")
                if name in self.ids:
                    raise PoolError("damaged", f"pool is damaged: two objects are called {name}")
                self.ids[name] = o.pub.id
                o = o.hnext
        return 0

    def __dealloc__(self):
        self.release()

    cdef void release(self):
        """Free native memory; the pool is gone for good."""
        cdef lnt_pool *p = self.p
        cdef uint64_t i
        cdef lnt_object *o
        cdef lnt_object *onext
        if p != NULL:
            if p.cache.hash != NULL:
                cache_free(p)
            journal_free(p)
            if p.ohash != NULL:
                for i in range(p.omask + 1):
                    o = p.ohash[i]
                    while o != NULL:
                        onext = o.hnext
                        free(o)
                        o = onext
            free(p.ohash)
            free(p.run_used)
            free(p.run_busy)
            free(p.medium.zones)
            free(p.summary_dirty)
            punch_free(p)
            damage_free(p)
            free(p.slot_kind)
            free(p.odirty_marks)
            free(p.zeros)
            spares_free(p)
            free(p.fifo.v)
            free(p.homes.v)
            free(p.work.v)
            free(p.background)
            free(p.ck_op)
            free(p.checkpoint.order)
            free(p.cache.frozen)
            free(p.checkpoint.homes)
            free(p.checkpoint.buf)
            free(p.checkpoint.dir)
            free(p.checkpoint.pend)
            pthread_mutex_destroy(&p.lock)
            free(<uint8_t *>p - super_pad())
            self.p = NULL
        if self.q != NULL:
            free(self.q)
            self.q = NULL
        free(self.side)
        self.side = NULL
        free(self.mail)
        self.mail = NULL
        if self.completion_fd >= 0:
            close(self.completion_fd)
            self.completion_fd = -1

    def abandon(self):
        self.release()

    def lease(self, until_us):
        """Native threads end the process when this instant of CLOCK_BOOTTIME has passed; None: there is no lease."""
        if self.p != NULL:
            lnt_store64(&self.p.lease_us, 0 if until_us is None else until_us)

    cdef lnt_pool *open_pool(self) except NULL:
        if self.p == NULL:
            raise PoolError("closed", "the pool is closed")
        return self.p

    def close(self):
        """Finish what is under way, checkpoint, mark the pool clean."""
        cdef lnt_pool *p = self.p
        if p == NULL:
            return
        try:
            if not p.failed and not p.read_only:
                while p.admin_runs and not p.failed:
                    self.pump()   # a change that is under way, a resumed shrink too, would leave the journal in use
                self.call("flush")
                self.call("checkpoint")
                while p.checkpoint.state != C_IDLE and not p.failed:
                    self.pump()
                self.idle()
                if not p.failed and p.journal.closed_seq == p.checkpoint.cut_seq:
                    lnt_put_le32(p.checkpoint.super_buf + SB_FLAGS, SF_CLEAN | punch_flags(p))
                    self.super_write()
        except OSError as e:
            raise PoolError("io_write", f"pool cannot be closed cleanly: {e.strerror or e}") from e
        finally:
            self.release()

    cdef int idle(self) except -1:
        """Let requests in flight finish."""
        while self.q.head != NULL or self.side != NULL and self.side.head != NULL:
            self.pump()
        return 0

    # -- the queue -----------------------------------------------------------------------------------------------------
    cdef int side_attach(self) except -1:
        """A second queue device: every other operation on data runs there, as with two reactors."""
        self.side = <lnt_queue_device *>mem_zeroed(sizeof(lnt_queue_device))
        if self.side == NULL:
            raise MemoryError
        self.side.dev.submit = queue_submit
        self.side.dev.wake = queue_wake
        self.side.dev.next = self.p.devs
        self.p.devs = &self.side.dev
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
        p.cur = &q.dev
        io.done(io)
        p.cur = NULL
        pthread_mutex_unlock(&p.lock)
        q.woken = 1

    cdef uint64_t turn_queue(self, lnt_queue_device *q, uint64_t now_us) except? 77:
        cdef lnt_pool *p = self.open_pool()
        cdef uint64_t wait
        q.woken = 0
        pthread_mutex_lock(&p.lock)
        wait = lnt_dev_run(p, &q.dev, now_us)
        p.cur = NULL
        pthread_mutex_unlock(&p.lock)
        lnt_dev_reap(p, &q.dev)
        q.woken |= wait == 0
        return wait

    def turn(self, now_us=None, queue=None):
        cdef uint64_t now = clock_us(self) if now_us is None else now_us
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
                p.fifo.head != p.fifo.tail or p.work.head != p.work.tail or p.checkpoint.state)):
            if p.failed and not self.ios:
                break
            p.journal.bg_due_us = 1 if p.fifo.head != p.fifo.tail else p.journal.bg_due_us

    def call(self, str op, **args):
        if self.open_pool().home != &self.q.dev:
            raise PoolError("invalid", "the pool is driven by reactors: start and reap")
        token = self.start(op, **args)
        stuck = 0
        while token in self.ops:
            wait = self.pump()
            done = self.take(token)
            if done is not None:
                if done.code != "ok":
                    raise PoolError(done.code, f"{op} failed: {done.code.replace('_', ' ')}", done.value or 0)
                return done.value
            stuck = stuck + 1 if wait else 0
            assert stuck < 1000, f"{op} waits for something that never comes"

    # -- starting and finishing ----------------------------------------------------------------------------------------
    cdef object pop(self):
        """The oldest finished operation as a Completion, or None. The pool's own are not told of."""
        cdef mailbox *m = self.mail
        cdef lnt_admin *a
        cdef lnt_admin *after
        while True:
            if m.taken == NULL:
                pthread_mutex_lock(&m.lock)
                a = m.first
                m.first = NULL
                pthread_mutex_unlock(&m.lock)
                while a != NULL:
                    after = a.next
                    a.next = m.taken
                    m.taken = a
                    a = after
            a = m.taken
            if a == NULL:
                return None
            m.taken = a.next
            done = finish(self, a)
            if done is not None:
                return done

    def take(self, token):
        """The completion of one operation; completions of others that arrived are kept for `reap`."""
        early = self.ops.setdefault("early", [])
        while True:
            for i, done in enumerate(early):
                if done.token == token:
                    return early.pop(i)
            done = self.pop()
            if done is None:
                return None
            early.append(done)

    def reap(self):
        cdef uint64_t count
        read(self.completion_fd, &count, 8)
        out = self.ops.pop("early", [])
        while True:
            done = self.pop()
            if done is None:
                return out + self.ops.pop("early", [])
            out.append(done)

    def start(self, str op, **args):
        self.open_pool()
        return start_operation(self, op, args)

    cdef lnt_obj *open_handle(self, uint64_t object_id):
        cdef lnt_object *o
        pthread_mutex_lock(&self.p.lock)
        o = object_find(self.p, object_id)
        if o != NULL:
            o.pub.handles += 1
        pthread_mutex_unlock(&self.p.lock)
        return <lnt_obj *>o

    cdef void close_handle(self, lnt_obj *obj):
        if self.p == NULL:
            return
        pthread_mutex_lock(&self.p.lock)
        obj.handles -= 1
        if obj.gone and obj.handles == 0 and not (<lnt_object *>obj).dirty:
            free(obj)             # a dirty one is freed by the next checkpoint
        pthread_mutex_unlock(&self.p.lock)

    # -- keys ----------------------------------------------------------------------------------------------------------
    cdef int keys_load(self, list slots) except -1:
        parts = {}
        for slot, raw in slots:
            found = key_part(raw)
            parts.setdefault(found.key.decode(), {})[found.part] = (slot, found.parts, found.chunk)
        for key, found in parts.items():
            count = found[min(found)][1]
            if sorted(found) != list(range(count)):
                raise PoolError("damaged", f"pool is damaged: parts of the key {key} are missing")
            self.keys[key] = (b"".join(found[i][2] for i in range(count)), [found[i][0] for i in range(count)])
        return 0

    cdef int kv_apply(self, bytes key, object value) except -1:
        """Replay of a change of one key: the slots follow, without a record."""
        kv_replay(self, {key.decode(): value})
        return 0

    # -- reading state -------------------------------------------------------------------------------------------------
    @property
    def size_bytes(self):
        return self.open_pool().total_blocks * L_BLOCK_BYTES

    def kv(self):
        return {key: value for key, (value, slots) in self.keys.items()}

    def objects(self):
        raw = []
        objects_walk(self.open_pool(), raw, 0, NULL, NULL)
        return sorted([object_info(slot, self.serial_mask) for slot in raw])

    def info(self, uint64_t object_id):
        cdef lnt_pool *p = self.open_pool()
        cdef lnt_object *o
        cdef uint8_t[512] slot
        pthread_mutex_lock(&p.lock)
        o = object_find(p, object_id)
        if o != NULL:
            object_store(p, o, slot)
        pthread_mutex_unlock(&p.lock)
        return object_info((<const char *>slot)[:L_SLOT_BYTES], self.serial_mask) if o != NULL else None

    def names(self):
        return dict(self.ids)

    def provisioned(self, uint8_t hidden):
        cdef uint64_t count = 0, size_bytes = 0
        objects_walk(self.open_pool(), None, hidden, &count, &size_bytes)
        return count, size_bytes

    def named(self, str prefix):
        return [self.info(number) for name, number in self.ids.items() if name.startswith(prefix)]

    def lookup(self, str name):
        return self.info(self.ids[name]) if name in self.ids else None

    def damage(self):
        return bad_pages(damage_rows(self.open_pool()))

    def hurry(self):
        cdef lnt_pool *p = self.open_pool()
        pthread_mutex_lock(&p.lock)
        budget_hurry(p)
        p.home.wake(p.home)
        pthread_mutex_unlock(&p.lock)

    def stats(self):
        return numbers(self.open_pool())

    def failure(self):
        cdef lnt_pool *p = self.open_pool()
        return failure_text(p.failed, p.fail_detail) if p.failed else ""

    def trace(self):
        return trace_rows(self.open_pool())

    def fail_cut(self):
        cdef lnt_pool *p = self.open_pool()
        pthread_mutex_lock(&p.lock)
        pool_fail(p, PF_CUT, 0)
        if p.home != NULL:
            p.home.wake(p.home)       # those who wait must hear of it
        pthread_mutex_unlock(&p.lock)


include "figures.pxi"
include "keys.pxi"
include "upkeep.pxi"
include "operations.pxi"
