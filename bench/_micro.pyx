# Native loops for the micro-benchmarks: thousands of operations of one part for one call from Python.
# cython: boundscheck=False
from core._blkmap cimport lnt_extent, map_find
from core.base.layout cimport L_BLOCK_BYTES
from core.base.memory cimport mem_aligned
from core.base.native cimport lnt_mono_us
from core.base.object cimport lnt_object
from core.base.pool cimport lnt_pool
from core.base.types cimport IO_READ, IO_WRITE, OP_READ, OP_SYNC, OP_WRITE, lnt_dev, lnt_io, lnt_obj, lnt_op
from core.log.journal cimport frame_close, journal_room
from core.log.records cimport record_map
from core.pool.engine cimport Pool
from core.pool.turn cimport lnt_dev_attach, lnt_dev_detach, lnt_dev_reap, lnt_dev_run, lnt_enter, lnt_leave, lnt_submit
from core.space.allocation cimport alloc_extent
from core.wire.operations cimport FAST_NONE
from core.wire.pdu cimport (
    BHS_AHS_WORDS, BHS_BYTES, BHS_CDB, BHS_CMD_SN, BHS_DATA_LENGTH, BHS_EDTL, BHS_EXP_STAT_SN, BHS_FLAGS, BHS_ITT, BHS_LUN,
    BHS_OPCODE, bhs_data_in, bhs_data_in_status, bhs_numbers, cdb_decode, get_be24, get_be32, lnt_cdb, lun_number,
)
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from posix.types cimport time_t

cdef extern from "base/crc32c.h" nogil:
    uint32_t lnt_crc32c(uint32_t seed, const void *buf, size_t n)
    uint32_t lnt_crc32c_portable(uint32_t seed, const void *buf, size_t n)

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *ts)
    enum:
        CLOCK_MONOTONIC

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)

cdef extern from "<sys/syscall.h>" nogil:
    enum:
        SYS_getppid


cdef inline uint64_t now_ns() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return <uint64_t>ts.tv_sec * 1000000000 + <uint64_t>ts.tv_nsec


cdef inline uint64_t step(uint64_t *state) noexcept nogil:
    cdef uint64_t x = state[0]
    x ^= x << 13
    x ^= x >> 7
    x ^= x << 17
    state[0] = x
    return x


# -- a device in memory: metadata is copied, data of the operations is not (that is the medium's business) ---------------

cdef struct ramdev:
    lnt_dev dev                   # must be first
    uint8_t *store
    uint8_t *data                 # the operations' buffer
    uint64_t data_bytes
    int copying                   # copy the data too, once the engine is left
    int copies
    uint64_t copy_at[64]
    lnt_op *idle                  # operations that may be started
    uint64_t finished
    uint64_t failed


cdef int ram_submit(lnt_dev *dev, lnt_io *io) noexcept nogil:
    cdef ramdev *r = <ramdev *>dev
    io.result = 0
    if io.kind == IO_READ or io.kind == IO_WRITE:
        if <uint8_t *>io.buf < r.data or <uint8_t *>io.buf >= r.data + r.data_bytes:
            if io.kind == IO_READ:
                memcpy(io.buf, r.store + io.offset, io.length)
            else:
                memcpy(r.store + io.offset, io.buf, io.length)
        elif r.copying and r.copies < 64:
            r.copy_at[r.copies] = io.offset | (io.kind == IO_WRITE)
            r.copies += 1
    return 1


cdef void copy_data(ramdev *r) noexcept nogil:
    # What a reactor's device does with the requests put aside: outside of the engine's lock, a block each.
    cdef int i
    for i in range(r.copies):
        if r.copy_at[i] & 1:
            memcpy(r.store + (r.copy_at[i] & ~<uint64_t>1), r.data, L_BLOCK_BYTES)
        else:
            memcpy(r.data, r.store + r.copy_at[i], L_BLOCK_BYTES)
    r.copies = 0


cdef void ram_wake(lnt_dev *dev) noexcept nogil:
    pass


cdef void op_done(lnt_op *op) noexcept nogil:
    cdef ramdev *r = <ramdev *>op.owner
    r.finished += 1
    r.failed += op.status != 0
    op.next = r.idle
    r.idle = op


cdef class Store:
    """Bytes of a pool in memory: a core.device.Device for Python, and the store behind the native loops."""

    cdef uint8_t *bytes
    cdef readonly uint64_t size_bytes
    cdef readonly bytes cache_token

    def __cinit__(self, size_bytes):
        self.size_bytes = size_bytes
        self.cache_token = b""
        self.bytes = <uint8_t *>calloc(1, size_bytes)
        if self.bytes == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.bytes)

    def read(self, uint64_t offset_bytes, uint64_t length_bytes):
        return (<char *>self.bytes)[offset_bytes:offset_bytes + length_bytes]

    def write(self, uint64_t offset_bytes, bytes data):
        if offset_bytes + len(data) > self.size_bytes:
            raise ValueError("outside the store")
        memcpy(self.bytes + offset_bytes, <const char *>data, len(data))

    def discard(self, uint64_t offset_bytes, uint64_t length_bytes):
        pass

    def sync(self):
        pass

    def close(self):
        pass


cdef void run_loop(lnt_pool *p, ramdev *r, lnt_obj *obj, int kind, uint64_t count, uint64_t block_bytes, uint64_t start,
                   uint64_t stride, int random) noexcept nogil:
    cdef uint64_t blocks = obj.size_bytes // block_bytes, started = 0, state = 88172645463325252, at = start
    cdef lnt_op *op
    while r.finished < count:
        lnt_enter(p)
        while r.idle != NULL and started < count:
            op = r.idle
            r.idle = op.next
            memset(op, 0, sizeof(lnt_op))
            op.kind = <uint8_t>kind
            if kind != OP_SYNC:
                op.offset = (step(&state) % blocks if random else at % blocks) * block_bytes
                at += stride
                op.length = block_bytes
                op.buf = r.data
            op.obj = obj
            op.dev = &r.dev
            op.done = op_done
            op.owner = r
            lnt_submit(p, op)
            started += 1
        lnt_dev_run(p, &r.dev, lnt_mono_us())
        lnt_leave(p)
        if r.copies:
            copy_data(r)
        lnt_dev_reap(p, &r.dev)


def operations(Pool pool, Store store, uint64_t object_id, str kind, uint64_t count, *, uint64_t block_bytes=4096,
               int depth=32, bint random=True, uint64_t start=0, uint64_t stride=1, bint copy=False):
    """Nanoseconds that `count` engine operations take with a medium that costs nothing, `depth` at once, no reactor.

    copy: 4 KiB operations whose data is copied, between the store and one buffer.
    """
    cdef int code = {"read": OP_READ, "write": OP_WRITE, "sync": OP_SYNC}[kind]
    cdef ramdev r
    cdef lnt_obj *obj = pool.open_handle(object_id)
    cdef lnt_pool *p = pool.p
    cdef lnt_op *ops
    cdef uint64_t started
    cdef int i
    if obj == NULL:
        raise KeyError(object_id)
    memset(&r, 0, sizeof(r))
    r.dev.submit, r.dev.wake = ram_submit, ram_wake
    r.store, r.copying = store.bytes, copy and block_bytes == L_BLOCK_BYTES
    r.data = <uint8_t *>mem_aligned(block_bytes)
    r.data_bytes = block_bytes
    memset(r.data, 0x5a, block_bytes)
    ops = <lnt_op *>calloc(depth, sizeof(lnt_op))
    for i in range(depth):
        ops[i].next = r.idle
        r.idle = &ops[i]
    with nogil:
        lnt_enter(p)
        lnt_dev_attach(p, &r.dev)
        lnt_leave(p)
        started = now_ns()
        run_loop(p, &r, obj, code, count, block_bytes, start, stride, random)
        started = now_ns() - started
        lnt_enter(p)
        while lnt_dev_run(p, &r.dev, lnt_mono_us()) == 0:
            pass
        lnt_dev_detach(p, &r.dev)
        lnt_leave(p)
    pool.close_handle(obj)
    free(ops)
    free(r.data)
    if r.failed:
        raise OSError(f"{r.failed} of {count} operations failed")
    return started


# -- parts ----------------------------------------------------------------------------------------------------------------

def lookups(Pool pool, uint64_t object_id, uint64_t count, *, bint random=True, bint for_write=False, uint64_t most=1):
    """Nanoseconds of `count` map lookups; every node must be in memory. Also how many blocks the answers covered."""
    cdef lnt_obj *obj = pool.open_handle(object_id)
    cdef lnt_object *o = <lnt_object *>obj
    cdef lnt_pool *p = pool.p
    cdef uint64_t blocks, _i, lba = 0, started, covered = 0, state = 88172645463325252
    cdef lnt_extent x
    cdef int rc = 0
    if obj == NULL:
        raise KeyError(object_id)
    blocks = obj.size_bytes // L_BLOCK_BYTES
    with nogil:
        lnt_enter(p)
        started = now_ns()
        for _i in range(count):
            lba = step(&state) % blocks if random else (lba + 1) % blocks
            rc |= map_find(p, NULL, o, lba, most if most < blocks - lba else blocks - lba, for_write, &x)
            covered += x.n
        started = now_ns() - started
        lnt_leave(p)
    pool.close_handle(obj)
    if rc:
        raise LookupError("a node was not in memory")
    return started, covered


def allocations(Pool pool, uint64_t count, *, uint32_t blocks=1):
    """Nanoseconds of `count` allocations of `blocks` blocks, next to each other where possible. The pool must be abandoned."""
    cdef lnt_pool *p = pool.p
    cdef uint64_t i, started, pba = 0, goal = 0
    cdef uint32_t got = 0
    cdef int rc = 0
    with nogil:
        lnt_enter(p)
        started = now_ns()
        for i in range(count):
            rc |= alloc_extent(p, NULL, goal, <uint32_t>(i * blocks & 511), blocks, 0, &pba, &got)
            goal = pba + got
        started = now_ns() - started
        lnt_leave(p)
    if rc:
        raise OSError("an allocation failed")
    return started


def journal_records(Pool pool, Store store, uint64_t count):
    """Nanoseconds of `count` map records appended to the journal, frames sealed and written. The pool must be abandoned."""
    cdef ramdev r
    cdef lnt_pool *p = pool.p
    cdef uint64_t i, started
    cdef int full = 0
    memset(&r, 0, sizeof(r))
    r.dev.submit, r.dev.wake, r.store = ram_submit, ram_wake, store.bytes
    with nogil:
        lnt_enter(p)
        lnt_dev_attach(p, &r.dev)
        started = now_ns()
        for i in range(count):
            if i & 1023 == 0 and journal_room(p) < 64:
                full = 1
                break
            record_map(p, 1, i, i + 1000, 1, NULL)
        frame_close(p, 0)
        started = now_ns() - started
        lnt_dev_detach(p, &r.dev)
        lnt_leave(p)
    if full:
        raise OSError("the journal is too small for so many records")
    return started


def checksums(uint64_t count, uint64_t length, *, bint portable=False):
    """Nanoseconds of `count` CRC32C sums over `length` bytes that lie in the cache."""
    cdef uint8_t *data = <uint8_t *>malloc(length)
    cdef uint64_t _i, started
    cdef uint32_t crc = 0
    memset(data, 0x5a, length)
    with nogil:
        started = now_ns()
        for _i in range(count):
            crc = lnt_crc32c_portable(crc, data, length) if portable else lnt_crc32c(crc, data, length)
        started = now_ns() - started
    free(data)
    return started, crc


def pdu_parses(bytes headers, uint64_t count):
    """Nanoseconds to read `count` SCSI Commands of a batch of headers: what the receive side takes out of each."""
    cdef const uint8_t *h = <const uint8_t *><const char *>headers
    cdef const uint8_t *at
    cdef uint64_t i, n = len(headers) // BHS_BYTES, started, total = 0
    cdef lnt_cdb cdb
    if n == 0:
        raise ValueError("no header")
    with nogil:
        started = now_ns()
        for i in range(count):
            at = h + i % n * BHS_BYTES
            cdb_decode(at + BHS_CDB, &cdb)
            total += (at[BHS_OPCODE] ^ at[BHS_FLAGS]) + get_be24(at + BHS_DATA_LENGTH) + at[BHS_AHS_WORDS]
            total += <uint64_t>lun_number(at + BHS_LUN) + get_be32(at + BHS_ITT) + get_be32(at + BHS_EDTL)
            total += get_be32(at + BHS_CMD_SN) + get_be32(at + BHS_EXP_STAT_SN)
            total += cdb.lba + cdb.blocks + (cdb.kind != FAST_NONE)
        started = now_ns() - started
    return started, total


def pdu_builds(uint64_t count):
    """Nanoseconds to build `count` Data-In headers with status and sequence numbers, into a ring of 64."""
    cdef uint8_t ring[64 * BHS_BYTES]
    cdef uint8_t *h
    cdef uint64_t i, started
    with nogil:
        started = now_ns()
        for i in range(count):
            h = ring + (i & 63) * BHS_BYTES
            bhs_data_in(h, <uint32_t>i, 0, 0, 4096, True)
            bhs_data_in_status(h, 0, 0)
            bhs_numbers(h, <uint32_t>i, <uint32_t>i + 1, <uint32_t>i + 128)
        started = now_ns() - started
    return started, ring[63 * 48 + 5]


# -- what the machine allows ------------------------------------------------------------------------------------------------

def system_calls(uint64_t count):
    """Nanoseconds of `count` empty system calls."""
    cdef uint64_t _i, started
    with nogil:
        started = now_ns()
        for _i in range(count):
            syscall(SYS_getppid)
        started = now_ns() - started
    return started


def copies(uint64_t count, uint64_t length, uint64_t area_bytes, *, bint random=True):
    """Nanoseconds of `count` copies of `length` bytes between random (or successive) places of two areas."""
    cdef uint8_t *a = <uint8_t *>malloc(area_bytes)
    cdef uint8_t *b = <uint8_t *>malloc(area_bytes)
    cdef uint64_t i, started, state = 88172645463325252, slots = area_bytes // length, at
    memset(a, 1, area_bytes)
    memset(b, 2, area_bytes)
    with nogil:
        started = now_ns()
        for i in range(count):
            at = step(&state) % slots if random else i % slots
            memcpy(a + at * length, b + (step(&state) % slots if random else at) * length, length)
        started = now_ns() - started
    free(a)
    free(b)
    return started


def chases(uint64_t count, uint64_t area_bytes):
    """Nanoseconds of `count` loads, each from the place the last one named: memory latency of an area of that size."""
    cdef uint64_t lines = area_bytes // 64, i, j, at, started, state = 88172645463325252
    if not 2 <= lines <= 1 << 28:
        raise ValueError("an area of 128 bytes to 16 GiB")
    cdef uint64_t *order = <uint64_t *>malloc(lines * 8)
    cdef uint64_t *area = <uint64_t *>malloc(lines * 64)
    for i in range(lines):
        order[i] = i
    for i in range(lines - 1, 0, -1):
        j = step(&state) % (i + 1)
        order[i], order[j] = order[j], order[i]
    for i in range(lines):
        area[order[i] * 8] = order[(i + 1) % lines]
    at = order[0]
    with nogil:
        started = now_ns()
        for _i in range(count):
            at = area[at * 8]
        started = now_ns() - started
    free(order)
    free(area)
    return started, at
