# cython: language_level=3
"""The pool: objects, map, space and durability behind one class, and the same for native threads (docs/architecture.md)."""
from core.base.mutations import mutation
from core.errors import PoolError, STATUS_CODES
from core.pool.info import failure_text, key_part, object_info
from core.pool.submission import Completion
from core.pool import data_operations, keys, object_operations, publication, upkeep

from core.base.layout cimport (
    L_BLOCK_BYTES, OB_NAME, OB_NAME_BYTES, SB_CACHE_TOKEN, SB_FLAGS, SB_IDENTITY, SB_NAME, SB_UUID, SF_CLEAN, SF_DISTRUST,
    SF_UNSWEPT,
)
from core.base.log cimport CHECKPOINT_IDLE
from core.base.memory cimport mem_aligned
from core.base.mutations cimport M_NO_CLOSE_SYNC
from core.base.native cimport lnt_get_le32, lnt_put_le32, pthread_mutex_lock, pthread_mutex_unlock
from core.base.object cimport lnt_object
from core.base.pool cimport ZEROS_BYTES, lnt_pool
from core.base.trace cimport PF_CUT, pool_fail
from core.catalog.loading cimport catalog_load
from core.log.checkpoint cimport ckpt_recovers, ckpt_settled, limits_set
from core.log.creation cimport pool_create
from core.log.journal cimport journal_init
from core.log.opening cimport super_change, super_current, super_load, super_read
from core.log.recovery cimport area_apply, blocks_for_nodes, summaries_load
from core.log.replay cimport journal_replay
from core.log.superblock cimport node_runs_store, super_next
from core.objects cimport objects_init
from core.ops.order cimport order_switch
from core.ops.reading cimport GAP_BYTES_MOST
from core.pages.cache cimport cache_init
from core.pool.figures cimport damage_rows, objects_walk, pool_figures, trace_rows
from core.pool.keys cimport kv_begin, kv_finish, unbegin
from core.pool.object_operations cimport shrinks_resume
from core.pool.queue cimport queue_submit, queue_wake
from core.pool.state cimport PoolState, mailbox
from core.pool.submission cimport Outcome, Untold, admin_free
from core.pool.turn cimport turn_clock, turn_init
from core.space.budget cimport budget_hurry
from core.space.dropped cimport epochs_begin
from core.space.holes cimport holes_load, punch_flags
from core.space.marks cimport marks_delay
from core.space.medium cimport medium_flags, medium_load, medium_open, nodes_prepare, zones_seen
from libc.stdint cimport uint32_t, uint8_t
from libc.string cimport memcpy, memset

cdef extern from "lease.h" nogil:
    void lnt_hang_up()
    int LNT_EXIT_LOST

cdef extern from *:
    """
    #define lnt_store64(at, v) __atomic_store_n(at, v, __ATOMIC_RELEASE)
    """
    void lnt_store64(uint64_t *at, uint64_t v) nogil

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int, void *, size_t)


MUTATIONS = {"": 0} | {m.name[2:].lower(): int(m) for m in mutation}
WITH_VALUE = ("ok", "miscompare", "checksum", "io_read", "limit")
STARTERS = {name[6:]: value for module in (data_operations, keys, object_operations, publication, upkeep)
            for name, value in vars(module).items() if name.startswith("start_")}


EXIT_LOST = LNT_EXIT_LOST


def hang_up():
    lnt_hang_up()


cdef class Pool(DrivenPool):
    @staticmethod
    def create(device, *, str name, size_bytes=0, journal_blocks=0, area_blocks=0):
        pool_create(device, name, size_bytes, journal_blocks, area_blocks)

    @staticmethod
    def identify(device, *, bytes identity, str name=""):
        values = {"identity": identity, "name": name.encode().ljust(64, b"\0")} if name else {"identity": identity}
        if len(identity) != 16 or len(name.encode()) > 63:
            raise PoolError("invalid", "an identity has 16 bytes, a name at most 63")
        super_change(device, values)

    @staticmethod
    def superblock(device):
        return super_current(device)

    def __init__(self, device, *, cache_bytes=268435456, read_only=False, punch_delay_us=2000000, mutations="", clock=None,
                 queues=1, gap_bytes=0, cached=False):
        self.device, self.clock = device, clock
        self.read_only = read_only
        self.ios = {}
        if mutations not in MUTATIONS:
            raise PoolError("invalid", f"no mutation is called {mutations}")
        try:
            PoolState.__init__(self)
            self.p.mutations = MUTATIONS[mutations]
            marks_delay(self.p, punch_delay_us)
            self.recover(cache_bytes)
            if queues == 2:
                self.side_attach()
            self.medium_set(gap_bytes, cached)
        except OSError as e:
            self.abandon()
            raise PoolError("io_read", f"pool cannot be read: {e.strerror or e}") from e
        except BaseException:
            self.abandon()
            raise

    cdef int prepare(self, uint64_t cache_bytes, uint32_t flags) except -1:
        """Memory for everything a pool needs before its first page."""
        cdef lnt_pool *p = self.p
        cdef uint64_t limit = cache_bytes // L_BLOCK_BYTES
        cache_init(p, limit if limit > 256 else 256)
        medium_open(p, self.device, flags)
        if not journal_init(p):
            raise MemoryError
        limits_set(p)
        p.zeros = <uint8_t *>mem_aligned(ZEROS_BYTES)
        p.scratch = <uint8_t *>mem_aligned(GAP_BYTES_MOST)
        if p.zeros == NULL or p.scratch == NULL or not (objects_init(p) and turn_init(p, &self.q.dev)):
            raise MemoryError
        memset(p.zeros, 0, ZEROS_BYTES)
        epochs_begin(p)
        self.q.dev.submit = queue_submit
        self.q.dev.wake = queue_wake
        self.q.device = <void *>self.device
        self.q.inline_ = 1
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
        self.prepare(cache_bytes, lnt_get_le32(<const uint8_t *>raw + SB_FLAGS))
        turn_clock(p, self.clock_us())    # what is met on the way is met now
        memcpy(p.checkpoint.live_buf, <const char *>raw, L_BLOCK_BYTES)
        self.name = raw[SB_NAME:SB_NAME + 64].rstrip(b"\0").decode(errors="replace")
        self.identity = raw[SB_IDENTITY:SB_IDENTITY + 16].strip(b"\0") and raw[SB_IDENTITY:SB_IDENTITY + 16]
        self.uuid = self.identity or raw[SB_UUID:SB_UUID + 16]
        self.serial_mask = int.from_bytes(self.uuid) ^ int.from_bytes(raw[SB_UUID:SB_UUID + 16])
        token = bytes(self.device.cache_token)[:64].ljust(64, b"\0")
        flags = lnt_get_le32(<const uint8_t *>raw + SB_FLAGS)
        trusted = token.strip(b"\0") and raw[SB_CACHE_TOKEN:SB_CACHE_TOKEN + 64] == token and not flags & SF_DISTRUST
        memcpy(p.cache_token, <const char *>token, 64)
        holes_load(p, flags)
        p.replaying = 1
        if flags & SF_CLEAN:
            summaries_load(p, self.device, raw)
            area_apply(p, self.device, raw)
            medium_load(p, self.device, raw)
            catalog_load(p, slots)
            self.keys_load(slots)
            journal_replay(p, self.device, raw, 0, changes)   # nothing to replay: sets the ring up
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
            zones_seen(p)
        self.names_load()
        turn_clock(p, self.clock_us())
        ckpt_settled(p)
        if not flags & SF_CLEAN:
            blocks_for_nodes(p)
        for key, value in changes:
            self.kv_apply(key, value)
        p.current_device = &self.q.dev           # a turn has ended
        if changes:
            blocks_for_nodes(p)
        p.replaying = 0
        if not flags & SF_CLEAN:
            ckpt_recovers(p)
            nodes_prepare(p, NULL)
            if p.medium.sparse and p.nodes_free < p.nodes_without_home:
                raise PoolError("no_space", f"the file system has no room for {p.nodes_without_home - p.nodes_free} blocks that "
                                            "recovery must write: make some, nothing is lost")
            self.call("checkpoint")
        self.q.inline_ = 0
        p.read_only = 1 if self.read_only else 0
        p.current_device = NULL
        if not self.read_only:
            shrinks_resume(self)
        return 0

    cdef int reopen(self, bytes raw) except -1:
        """A clean pool is marked open: same checkpoint, new life of the page cache above it."""
        cdef uint8_t *b = self.p.checkpoint.super_buf
        memcpy(b, <const char *>raw, L_BLOCK_BYTES)
        lnt_put_le32(b + SB_FLAGS, lnt_get_le32(b + SB_FLAGS) & SF_UNSWEPT | medium_flags(self.p))
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
        for i in range(self.p.objects_mask + 1):
            o = self.p.objects_by_id[i]
            while o != NULL:
                name = (<const char *>o.slot_image + OB_NAME)[:o.slot_image[OB_NAME_BYTES]].decode(errors="replace")
                if name in self.ids:
                    raise PoolError("damaged", f"pool is damaged: two objects are called {name}")
                self.ids[name] = o.pub.id
                o = o.hash_next
        return 0

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
        """Replay of a change of one key: the slots follow, without a record. It is over on return."""
        cdef uint64_t token = self.next_token
        self.next_token += 1
        kv_begin(self, token, {key.decode(): value}, b"")
        done = None
        while done is None:
            self.pump()
            done = self.take(token)
        if done.code == "no_memory":
            raise MemoryError
        if done.code != "ok":
            raise PoolError("damaged", f"pool is damaged: the catalog does not take a change from the journal ({done.code})")
        return 0

    def abandon(self):
        self.release()

    def lease(self, until_us):
        """Native threads end the process when this instant of CLOCK_BOOTTIME has passed; None: there is no lease."""
        if self.p != NULL:
            lnt_store64(&self.p.lease_us, 0 if until_us is None else until_us)

    def close(self):
        """Finish what is under way, checkpoint, mark the pool clean."""
        cdef lnt_pool *p = self.p
        if p == NULL:
            return
        try:
            if not p.failed and not p.read_only:
                order_switch(p, False)
                while (p.admin_runs or p.ordering.busy) and not p.failed:
                    self.pump()   # a change that is under way, a resumed shrink too, would leave the journal in use
                self.call("flush")
                self.call("checkpoint")
                while p.checkpoint.state != CHECKPOINT_IDLE and not p.failed:
                    self.pump()
                self.idle()
                if not p.failed and p.journal.closed_seq == p.checkpoint.cut_seq:
                    lnt_put_le32(p.checkpoint.super_buf + SB_FLAGS, SF_CLEAN | punch_flags(p) | medium_flags(p))
                    self.super_write()
        except OSError as e:
            raise PoolError("io_write", f"pool cannot be closed cleanly: {e.strerror or e}") from e
        finally:
            self.release()

    # -- starting and finishing ----------------------------------------------------------------------------------------
    def start(self, str op, **args):
        self.open_pool()
        if op not in STARTERS:
            raise PoolError("invalid", f"there is no operation {op}")
        claimed = set(self.claimed)
        try:
            return STARTERS[op](self, **args)
        except PoolError as e:
            if e.code == "no_memory":     # nothing has begun
                self.claimed &= claimed
                unbegin(self)
            raise

    def call(self, str op, **args):
        if self.open_pool().background_device != &self.q.dev:
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
            done = self.finished(a)
            if done is not None:
                return done

    cdef object finished(self, lnt_admin *a):
        """The Completion of a finished operation, None when nobody is told; frees it."""
        cdef Outcome outcome = self.ops.pop(a.token)
        cdef str code = STATUS_CODES[a.op.status]
        value, token = None, a.token
        if token in self.keys_outcomes:
            kv_finish(self, self.keys_outcomes.pop(token), code == "ok")
        try:
            value = outcome.value(self, a, code)
        except PoolError as e:
            code = e.code                 # there was no memory for the answer
        admin_free(self, a)
        if isinstance(outcome, Untold):
            return None
        return Completion(token, code, value if code in WITH_VALUE else None)

    def take(self, token):
        """The completion of one operation; completions of others that arrived are kept for `reap`."""
        while True:
            for i, done in enumerate(self.early):
                if done.token == token:
                    return self.early.pop(i)
            done = self.pop()
            if done is None:
                return None
            self.early.append(done)

    def reap(self):
        cdef uint64_t count
        read(self.completion_fd, &count, 8)
        done = self.pop()
        while done is not None:
            self.early.append(done)
            done = self.pop()
        out, self.early = self.early, []
        return out

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
        return damage_rows(self.open_pool())

    def hurry(self):
        cdef lnt_pool *p = self.open_pool()
        pthread_mutex_lock(&p.lock)
        budget_hurry(p)
        p.background_device.wake(p.background_device)
        pthread_mutex_unlock(&p.lock)

    def order(self, bint on):
        cdef lnt_pool *p = self.open_pool()
        pthread_mutex_lock(&p.lock)
        order_switch(p, on)
        pthread_mutex_unlock(&p.lock)

    def stats(self):
        return pool_figures(self.open_pool())

    def failure(self):
        cdef lnt_pool *p = self.open_pool()
        return failure_text(p.failed, p.fail_detail) if p.failed else ""

    def trace(self):
        return trace_rows(self.open_pool(), self.clock_us())

    def fail_cut(self):
        cdef lnt_pool *p = self.open_pool()
        pthread_mutex_lock(&p.lock)
        pool_fail(p, PF_CUT, 0)
        if p.background_device != NULL:
            p.background_device.wake(p.background_device)       # those who wait must hear of it
        pthread_mutex_unlock(&p.lock)
