"""Reads, writes and walks of maps as Python starts them, and what they answer."""
from core.errors import PoolError
from core.pool.info import MOVES

from core.base.layout cimport L_BLOCK_BYTES
from core.base.memory cimport mem_aligned
from core.base.object cimport lnt_object
from core.base.operation cimport ADMIN_DATA, ADMIN_DIFF, ADMIN_EXCLUSIVE, ADMIN_EXTENTS, ADMIN_SHARE, lnt_admin, lnt_row
from core.base.types cimport (
    OPF_FUA, OPF_NOUNMAP, OP_COMPARE_WRITE, OP_MOVE, OP_READ, OP_SYNC, OP_UNMAP, OP_WRITE, OP_WRITE_ATOMIC, lnt_obj,
)
from core.pool.state cimport PoolState
from core.pool.submission cimport Outcome, admin_free, admin_new, admin_on, handle, memory_for, out_of_memory, submit
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy


cdef enum:
    RUNS_MOST = 65536         # of one answer
    RUN_BLOCKS_MOST = 1 << 19   # of one run: 2 GiB
    RUN_CHANGED = 1           # states of runs, as NBD has them: of a comparison ...
    RUN_HOLE = 1              # ... and of what is allocated
    RUN_ZERO = 2


cdef struct lnt_run:          # little-endian, as every machine that Lunette runs on is (docs/export.md)
    uint32_t length_bytes
    uint32_t state


cdef class Read(Outcome):
    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        return (<const char *>a.data)[:a.op.length] if code == "ok" else a.op.result


cdef class Moved(Outcome):
    """MOVES of core/pool/info.py."""
    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        return MOVES[a.op.result] if code == "ok" else None


cdef class Compared(Outcome):
    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        return a.op.result if code == "miscompare" else None


cdef class Shared(Outcome):
    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        return a.op.length - a.sharing.left_blocks * L_BLOCK_BYTES


cdef class Walked(Outcome):
    """Rows of (offset, length, mapped) in bytes; of a comparison without the last."""
    cdef int columns

    def __init__(self, int columns):
        self.columns = columns

    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        return [(a.rows[i].start * L_BLOCK_BYTES, a.rows[i].length * L_BLOCK_BYTES, bool(a.rows[i].value))[:self.columns]
                for i in range(a.n_rows)]


cdef class Runs(Outcome):
    cdef uint64_t first
    cdef uint64_t end

    def __init__(self, uint64_t first, uint64_t end):
        self.first, self.end = first, end

    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        return runs_pack(a, self.first, self.end)


cdef class Changes(Outcome):
    """Rows of three 8-byte numbers as the walk has them, and where it goes on; None: it is over."""
    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        return ((<const char *>a.rows)[:a.n_rows * sizeof(lnt_row)] if a.n_rows else b"",
                a.walk.next_block * L_BLOCK_BYTES if a.walk.next_block < a.walk.end_block else None)


cdef class Sole(Outcome):
    cdef list numbers

    def __init__(self, list numbers):
        self.numbers = numbers

    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        return {number: a.sole.blocks[i] * L_BLOCK_BYTES for i, number in enumerate(self.numbers)
                if a.sole.blocks[i] != ~<uint64_t>0}


cdef bint run_put(lnt_run *runs, uint32_t *n, uint32_t most, uint64_t blocks, uint32_t state) noexcept nogil:
    """Add blocks of one state, in as many runs as they need. False: no room for all of them."""
    cdef uint64_t part
    while blocks:
        if n[0] == most:
            return False
        part = min(blocks, <uint64_t>RUN_BLOCKS_MOST)
        runs[n[0]].length_bytes = <uint32_t>(part * L_BLOCK_BYTES)
        runs[n[0]].state = state
        n[0] += 1
        blocks -= part
    return True


cdef bytes runs_pack(lnt_admin *a, uint64_t first, uint64_t end):
    """What a walk found from block `first` on, without gaps; what ADMIN_DIFF did not look at, up to `end`, is changed."""
    cdef lnt_run *runs = <lnt_run *>memory_for(sizeof(lnt_run) * (a.walk.most_rows or 1))
    cdef uint64_t at = first
    cdef lnt_row *row
    cdef uint32_t n = 0, i
    cdef bint room = True
    for i in range(a.n_rows):
        row = &a.rows[i]
        room = room and run_put(runs, &n, a.walk.most_rows, row.start - at, 0)
        room = room and run_put(runs, &n, a.walk.most_rows, row.length, RUN_CHANGED if a.kind == ADMIN_DIFF else
                                0 if row.value else RUN_HOLE | RUN_ZERO)
        at = row.start + row.length
    if a.kind == ADMIN_DIFF:
        room = room and run_put(runs, &n, a.walk.most_rows, a.walk.next_block - at, 0)
        if a.walk.next_block >= a.walk.end_block and room and end > a.walk.next_block:
            run_put(runs, &n, a.walk.most_rows, end - a.walk.next_block, RUN_CHANGED)
    value = (<const char *>runs)[:n * sizeof(lnt_run)]
    free(runs)
    return value


cdef object run_rw(PoolState pool, uint8_t kind, object_id, offset, length, bytes data, uint8_t flags, Outcome outcome):
    cdef lnt_admin *a
    if offset < 0 or length < 0 or offset > 1 << 60 or length > 1 << 60:
        raise PoolError("range", "outside the object")
    if kind == OP_READ and length > 1 << 30:
        raise PoolError("limit", "at most 1 GiB is read at once")
    a = admin_on(pool, ADMIN_DATA, object_id) if kind != OP_SYNC else admin_new(pool, ADMIN_DATA)
    a.op.kind = kind
    a.op.flags = flags
    a.op.offset = offset
    a.op.length = length
    a.op.obj = <lnt_obj *>a.obj
    if data is not None or kind == OP_READ:
        a.data = <uint8_t *>mem_aligned((len(data) if data is not None else length) or 1)
        if a.data == NULL:
            raise out_of_memory()
        if data is not None:
            memcpy(a.data, <const char *>data, len(data))
        a.op.buf = a.data
        if kind == OP_UNMAP:
            a.op.result = len(data) // 16
    return submit(pool, a, outcome)


def start_read(PoolState pool, *, object_id, offset_bytes, length_bytes):
    return run_rw(pool, OP_READ, object_id, offset_bytes, length_bytes, None, 0, Read())


def start_write(PoolState pool, *, object_id, offset_bytes, data, fua=False):
    return run_rw(pool, OP_WRITE, object_id, offset_bytes, len(data), bytes(data), OPF_FUA if fua else 0, Outcome())


def start_unmap(PoolState pool, *, object_id, offset_bytes, length_bytes, fua=False, keep=False, further=()):
    flags = (OPF_FUA if fua else 0) | (OPF_NOUNMAP if keep else 0)
    if not further:
        return run_rw(pool, OP_UNMAP, object_id, offset_bytes, length_bytes, None, flags, Outcome())
    if not length_bytes or any(not 0 <= offset <= 1 << 60 or not 0 < length <= 1 << 60 for offset, length in further):
        raise PoolError("range", "one of several ranges is empty, or outside the object")
    rows = b"".join(offset.to_bytes(8, "little") + length.to_bytes(8, "little") for offset, length in further)
    return run_rw(pool, OP_UNMAP, object_id, offset_bytes, length_bytes, rows, flags, Outcome())


def start_compare_and_write(PoolState pool, *, object_id, offset_bytes, expected, data, fua=False):
    if len(expected) != len(data):
        raise PoolError("invalid", "what is compared and what is written differ in length")
    return run_rw(pool, OP_COMPARE_WRITE, object_id, offset_bytes, len(data), bytes(expected) + bytes(data),
                  OPF_FUA if fua else 0, Compared())


def start_write_atomic(PoolState pool, *, object_id, offset_bytes, data, fua=False):
    return run_rw(pool, OP_WRITE_ATOMIC, object_id, offset_bytes, len(data), bytes(data), OPF_FUA if fua else 0,
                  Outcome())


def start_move(PoolState pool, *, object_id, offset_bytes, length_bytes):
    """Put what lies scattered in (part of) a region into one run, where that is worth its space: MOVES says which it was."""
    return run_rw(pool, OP_MOVE, object_id, offset_bytes, length_bytes, None, 0, Moved())


def start_flush(PoolState pool):
    return run_rw(pool, OP_SYNC, 0, 0, 0, None, 0, Outcome())


def start_share(PoolState pool, *, dst_id, dst_offset_bytes, src_id, src_offset_bytes, length_bytes):
    cdef lnt_admin *a
    dst, src = pool.info(dst_id), pool.info(src_id)
    if dst is None or src is None:
        raise PoolError("not_found", "there is no such source or destination")
    if dst.kind == "snapshot":
        raise PoolError("protected", "a snapshot cannot be written")
    if (dst_offset_bytes | src_offset_bytes | length_bytes) % L_BLOCK_BYTES or dst.checksum != src.checksum:
        raise PoolError("invalid", "blocks are shared at multiples of 4096 bytes, between objects that agree on checksums")
    if dst_offset_bytes + length_bytes > dst.size_bytes or src_offset_bytes + length_bytes > src.size_bytes:
        raise PoolError("range", "outside the object")
    if dst_id == src_id and abs(dst_offset_bytes - src_offset_bytes) < length_bytes:
        raise PoolError("invalid", "source and destination overlap")
    a = admin_on(pool, ADMIN_SHARE, dst_id, src_id)
    a.sharing.block = dst_offset_bytes // L_BLOCK_BYTES
    a.sharing.source_block = src_offset_bytes // L_BLOCK_BYTES
    a.sharing.left_blocks = length_bytes // L_BLOCK_BYTES
    a.op.length = length_bytes
    return submit(pool, a, Shared())


def start_extents(PoolState pool, *, object_id, offset_bytes, length_bytes, limit):
    cdef uint64_t first = offset_bytes // L_BLOCK_BYTES, end = (offset_bytes + length_bytes + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES
    cdef uint32_t most = limit
    cdef lnt_admin *a = admin_on(pool, ADMIN_EXTENTS, object_id)
    a.walk.next_block = first
    a.walk.end_block = min(end, a.obj.pub.size_bytes // L_BLOCK_BYTES)
    a.walk.most_rows = most
    return submit(pool, a, Walked(3))


def start_diff(PoolState pool, *, a_id, b_id, offset_bytes=0, limit=1000):
    cdef uint64_t first = offset_bytes // L_BLOCK_BYTES
    cdef uint32_t most = limit
    cdef lnt_admin *a = admin_on(pool, ADMIN_DIFF, a_id, b_id)
    a.walk.next_block = first
    a.walk.end_block = max(a.obj.pub.size_bytes, a.other.pub.size_bytes) // L_BLOCK_BYTES
    a.walk.most_rows = most
    return submit(pool, a, Walked(2))


def start_changes(PoolState pool, *, since_id, object_id, offset_bytes, limit, end_bytes=None):
    """What an object has that another, or nothing (0), has not: blocks and whether they are data (1) or a hole (2)."""
    cdef uint64_t first = offset_bytes // L_BLOCK_BYTES
    cdef uint32_t most = limit
    cdef lnt_admin *a = admin_on(pool, ADMIN_DIFF, since_id, object_id) if since_id else admin_new(pool, ADMIN_DIFF)
    if not since_id:
        a.other = as_other(pool, a, object_id)
    a.walk.next_block = first
    a.walk.end_block = a.other.pub.size_bytes // L_BLOCK_BYTES
    if end_bytes is not None:
        a.walk.end_block = min(a.walk.end_block, <uint64_t>(end_bytes // L_BLOCK_BYTES))
    a.walk.most_rows = most
    a.walk.contents = 1
    return submit(pool, a, Changes())


cdef lnt_object *as_other(PoolState pool, lnt_admin *a, object_id) except NULL:
    try:
        return handle(pool, object_id)
    except PoolError:
        admin_free(pool, a)
        raise


def start_runs(PoolState pool, *, object_id, offset_bytes, length_bytes, limit, since_id=None):
    cdef lnt_admin *a = admin_on(pool, ADMIN_EXTENTS if since_id is None else ADMIN_DIFF, object_id, since_id)
    first = offset_bytes // L_BLOCK_BYTES
    end = min((offset_bytes + length_bytes + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES, a.obj.pub.size_bytes // L_BLOCK_BYTES)
    a.walk.next_block = first
    a.walk.end_block = end
    if since_id is not None:
        a.walk.end_block = min(end, a.other.pub.size_bytes // L_BLOCK_BYTES)    # behind its end everything is new
    a.walk.most_rows = min(limit, RUNS_MOST)
    return submit(pool, a, Runs(first, end))


def start_exclusive(PoolState pool, *, list object_ids):
    cdef lnt_admin *a = admin_new(pool, ADMIN_EXCLUSIVE)
    cdef lnt_obj *o
    numbers = []
    a.sources = <lnt_object **>memory_for((len(object_ids) + 1) * sizeof(lnt_object *))
    a.sole.blocks = <uint64_t *>memory_for((len(object_ids) + 1) * sizeof(uint64_t))
    for number in object_ids:
        o = pool.open_handle(number)
        if o != NULL:
            a.sources[a.n_sources] = <lnt_object *>o
            a.n_sources += 1
            numbers.append(number)
    return submit(pool, a, Sole(numbers))
