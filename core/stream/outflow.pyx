"""The pump out: blocks of an object, by the rows of a walk, as frames for a descriptor.

Lives here and nowhere else: how rows become frames. One thread makes them: all but `feed` belongs to it, and works without the
GIL. Another one writes them (core/stream/departures.pyx), blocks from where they were read to.
"""
from core.base.crc32c cimport lnt_crc32c
from core.base.memory cimport mem_aligned, mem_new
from core.base.native cimport lnt_mono_us, lnt_put_le16
from core.base.types cimport OP_READ, iovec, lnt_op
from core.pool.engine cimport Pool
from core.stream.departures cimport (
    DEPARTURE_BYTES, DEPARTURE_HEADS_BYTES, departure_add, departures_close, departures_go, departures_open, departures_room,
    departures_wait, lnt_departure, lnt_departures,
)
from core.stream.frame cimport (
    KIND_DATA, KIND_HOLE, KIND_ZERO, ST_EXTENTS, ST_HOLE, ST_MARK, SX_BLOCKS, SX_DELTA, SX_KIND, S_EXTENT_BYTES,
    S_HEADER_BYTES, S_MARK_BYTES, S_MARK_US, S_MAX_BODY_BYTES, all_zeros, body_write, lnt_stream_header,
)
from core.stream.framing cimport Framing
from core.stream.packing cimport lnt_packer, packer_free, zstd_there
from core.stream.pump cimport Pump
from core.stream.worker cimport worker_batch_bytes, worker_rest, worker_run, worker_submit
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import os

cdef enum:
    BLOCK = 4096
    SPAN_BLOCKS = 512
    LEAST_BYTES = 64 << 10        # read at once where few may be sent
    LIMITED_PARTS = 4             # of a second
    TURN_US = 250000              # Python hears so often how far it is
    PLANS = 1024                  # frames made at once
    PIECES = 4096                 # entries in their tables
    HOLE_BLOCKS = 512             # a hole of so many blocks is a frame of its own
    GO_ON = 0
    USED_UP = 1

cdef struct lnt_row_of_three:     # as walks pack them
    uint64_t start                # blocks
    uint64_t length
    uint64_t value                # 1 data, 2 hole

cdef struct lnt_stream_piece:
    uint64_t block
    uint32_t blocks
    uint8_t kind
    uint8_t *data

cdef struct lnt_plan:             # one EXTENTS or HOLE frame
    uint64_t block
    uint64_t blocks
    uint32_t first                # of its pieces
    uint32_t pieces               # 0: a HOLE


cdef class Outflow(Pump):
    cdef lnt_departures leaving
    cdef int fd, cancel
    cdef uint64_t limit_bytes
    cdef lnt_packer packer
    cdef uint8_t *body                # one that is to be packed
    cdef lnt_op *ops
    cdef lnt_plan *plans
    cdef lnt_stream_piece *pieces
    cdef uint32_t n_plans, n_pieces
    cdef bytes rows
    cdef uint64_t row, rows_count
    cdef lnt_row_of_three now         # what is left of the row under way
    cdef readonly Framing frames
    cdef readonly uint64_t position   # bytes: all before it was said
    cdef readonly uint64_t sent_bytes     # of the stream, written or about to be
    cdef uint64_t marked_bytes, marked_us
    cdef bint packing, by_need

    def __cinit__(self, Pool pool not None, int fd, int cancel, *, uint64_t stream, str pack="none", uint64_t limit_bytes=0):
        self.fd, self.cancel, self.limit_bytes = fd, cancel, limit_bytes
        self.packing, self.by_need = pack == "zstd", pack == "auto" and zstd_there()
        self.frames = Framing(stream)
        self.body = <uint8_t *>mem_aligned(S_MAX_BODY_BYTES)
        self.ops = <lnt_op *>mem_new(PIECES * sizeof(lnt_op))
        self.plans = <lnt_plan *>mem_new(PLANS * sizeof(lnt_plan))
        self.pieces = <lnt_stream_piece *>mem_new(PIECES * sizeof(lnt_stream_piece))
        if not (self.body and self.ops and self.plans and self.pieces):
            raise MemoryError

    def __dealloc__(self):
        departures_close(&self.leaving)
        packer_free(&self.packer)
        free(self.body)
        free(self.ops)
        free(self.plans)
        free(self.pieces)

    # -- on the thread -------------------------------------------------------------------------------------------------
    def open(self):
        cdef int rc
        Pump.open(self)
        with nogil:
            rc = departures_open(&self.leaving, self.fd, self.cancel, self.limit_bytes)
        if rc < 0:
            self.close()
            raise OSError(-rc, os.strerror(-rc))

    def close(self):
        with nogil:
            departures_close(&self.leaving)
        Pump.close(self)

    def begin(self, uint64_t object_id, *, uint64_t offset, uint64_t span, bytes text):
        """A BEGIN; what follows is of that object, from `offset` on."""
        self.choose(object_id, "the snapshot was deleted")
        self.position = offset
        self.marked_bytes, self.marked_us = 0, lnt_mono_us()
        self.rows, self.row, self.rows_count = b"", 0, 0
        self.now.length = 0
        self.plain("begin", offset=offset, span=span, payload=text)

    def feed(self, bytes rows):
        """Rows of a walk, 24 bytes each. What was fed before must have been said."""
        self.rows, self.row, self.rows_count = rows, 0, len(rows) // sizeof(lnt_row_of_three)

    def plain(self, str type, **fields):
        """A frame without extents; it counts."""
        self.put(self.frames.plain(type, **fields))

    def mark(self, uint64_t position):
        """A MARK: all before `position` was said."""
        self.position = max(self.position, position)
        self.marked_bytes, self.marked_us = self.frames.data_bytes, lnt_mono_us()
        self.plain("mark", offset=self.position)

    def end(self, uint64_t size_bytes, bint more):
        self.position = size_bytes
        self.put(self.frames.end(size_bytes, more))

    def make(self):
        """Say what rows speak of, for a while. Whether they are used up. PoolError: it cannot be read; OSError: written."""
        cdef const char *raw = self.rows
        cdef int rc
        with nogil:
            rc = self.make_batches(<const lnt_row_of_three *>raw)
        self.frames.add_up()
        self.sent_bytes = self.leaving.length
        self.check("the snapshot cannot be read at byte {}")
        self.failed(rc if rc < 0 else 0)
        return rc == USED_UP

    def flush(self):
        """Until all that was said is written. OSError."""
        cdef int rc
        with nogil:
            rc = departures_wait(&self.leaving)
        self.failed(rc)

    cdef int failed(self, int rc) except -1:
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))
        return 0

    cdef int put(self, bytes frame) except -1:
        cdef lnt_departure *b
        cdef const char *raw = frame
        cdef uint64_t n = len(frame)
        if n > DEPARTURE_HEADS_BYTES:
            raise ValueError("a frame is too long")
        with nogil:
            b = departures_room(&self.leaving)
        if b == NULL:
            return self.failed(self.leaving.rc)
        memcpy(b.heads, raw, n)
        departure_add(b, b.heads, n)
        departures_go(&self.leaving)
        self.sent_bytes = self.leaving.length
        return 0

    # -- frames --------------------------------------------------------------------------------------------------------
    cdef int make_batches(self, const lnt_row_of_three *rows) noexcept nogil:
        """Batches, for a while: GO_ON, USED_UP, or -errno. After an error of the pool's nothing more is said."""
        cdef uint64_t until_us = lnt_mono_us() + TURN_US
        cdef lnt_departure *b
        while True:
            b = departures_room(&self.leaving)
            if b == NULL:
                return self.leaving.rc
            if self.by_need:
                self.packing = self.leaving.waited      # the other end is the slower one
            self.make_batch(rows, b)
            if b.n_parts == 0:
                return USED_UP
            departures_go(&self.leaving)
            if self.frames.full(PLANS + 1) or lnt_mono_us() >= until_us:
                return GO_ON

    cdef void make_batch(self, const lnt_row_of_three *rows, lnt_departure *b) noexcept nogil:
        cdef uint64_t began_us = lnt_mono_us(), most_bytes = DEPARTURE_BYTES
        cdef uint32_t i
        if self.limit_bytes and self.limit_bytes // LIMITED_PARTS < most_bytes:
            most_bytes = max(self.limit_bytes // LIMITED_PARTS, <uint64_t>LEAST_BYTES)
        self.plan(rows, b.data, worker_batch_bytes(&self.w, most_bytes))
        if self.n_plans == 0:
            return
        self.read_pieces()
        if self.w.error:
            return
        for i in range(self.n_plans):
            self.write_plan(&self.plans[i], b)
        if self.frames.data_bytes - self.marked_bytes + DEPARTURE_BYTES >= S_MARK_BYTES or (
                lnt_mono_us() - self.marked_us >= S_MARK_US):
            self.write_mark(b)
        worker_rest(&self.w, lnt_mono_us() - began_us)

    cdef void plan(self, const lnt_row_of_three *rows, uint8_t *data, uint64_t most_bytes) noexcept nogil:
        """Cut rows into frames until one of the bounds is reached; their blocks will lie at `data`."""
        cdef uint64_t part, left, used = 0
        cdef lnt_plan *x = NULL
        cdef lnt_stream_piece *piece
        self.n_plans = self.n_pieces = 0
        while self.n_pieces < PIECES - 1:
            if self.now.length == 0:
                if self.row == self.rows_count:
                    return
                self.now = rows[self.row]
                self.row += 1
            if self.now.value == KIND_HOLE and self.now.length >= HOLE_BLOCKS:
                if self.n_plans == PLANS:
                    return
                x = &self.plans[self.n_plans]
                self.n_plans += 1
                x.block, x.blocks, x.pieces, x.first = self.now.start, self.now.length, 0, self.n_pieces
                x = NULL
                self.now.length = 0
                continue
            left = SPAN_BLOCKS - self.now.start % SPAN_BLOCKS
            part = self.now.length if self.now.length < left else left
            if self.now.value == KIND_DATA and used + part * BLOCK > most_bytes:
                part = (most_bytes - used) // BLOCK
            if part == 0:
                return
            if x == NULL or x.block // SPAN_BLOCKS != self.now.start // SPAN_BLOCKS:
                if self.n_plans == PLANS:
                    return
                x = &self.plans[self.n_plans]
                self.n_plans += 1
                x.block, x.first, x.pieces = self.now.start, self.n_pieces, 0
            piece = &self.pieces[self.n_pieces]
            self.n_pieces += 1
            piece.block, piece.blocks, piece.kind = self.now.start, <uint32_t>part, <uint8_t>self.now.value
            piece.data = data + used
            x.pieces += 1
            x.blocks = self.now.start + part - x.block
            if piece.kind == KIND_DATA:
                used += part * BLOCK
            self.now.start += part
            self.now.length -= part

    cdef void read_pieces(self) noexcept nogil:
        cdef uint32_t i
        cdef lnt_op *op
        for i in range(self.n_pieces):
            if self.pieces[i].kind != KIND_DATA:
                continue
            op = &self.ops[i]
            memset(op, 0, sizeof(lnt_op))
            op.kind = OP_READ
            op.obj = self.obj
            op.offset = self.pieces[i].block * BLOCK
            op.length = <uint64_t>self.pieces[i].blocks * BLOCK
            op.buf = self.pieces[i].data
            worker_submit(&self.w, op)
        if self.w.busy:
            worker_run(&self.w)

    cdef void write_mark(self, lnt_departure *b) noexcept nogil:
        cdef lnt_stream_header h
        self.frames.header(&h, ST_MARK, self.position, 0)
        self.marked_bytes = self.frames.data_bytes
        self.marked_us = lnt_mono_us()
        self.seal(&h, b, head_of(b))

    cdef void seal(self, lnt_stream_header *h, lnt_departure *b, iovec *head) noexcept nogil:
        """The header is known now; what follows of it in memory is stored there."""
        self.position = h.offset + h.span
        self.frames.seal(h, <uint8_t *>head.iov_base)
        b.heads_used += head.iov_len

    cdef void write_plan(self, lnt_plan *x, lnt_departure *b) noexcept nogil:
        """One frame: header and table in one part, then its blocks, unless they are packed."""
        cdef lnt_stream_header h
        cdef iovec *head = head_of(b)
        cdef uint8_t *table = <uint8_t *>head.iov_base + S_HEADER_BYTES
        cdef uint32_t first = b.n_parts, i, data_bytes = 0
        self.frames.header(&h, ST_EXTENTS if x.pieces else ST_HOLE, x.block * BLOCK, x.blocks * BLOCK)
        if x.pieces == 0:
            self.frames.hole_bytes += h.span
            self.seal(&h, b, head)
            return
        h.extents = self.lay_out(x, b, table)
        for i in range(first, b.n_parts):
            data_bytes += <uint32_t>b.parts[i].iov_len
        self.frames.data_bytes += data_bytes
        h.raw_bytes = h.extents * S_EXTENT_BYTES + data_bytes
        if self.packing and data_bytes:
            self.gather(b, first, table, h.extents * S_EXTENT_BYTES)
            head.iov_len += body_write(&self.packer, &h, table, self.body, True)
        else:
            h.stored_bytes = h.raw_bytes
            h.body_crc = lnt_crc32c(0, table, h.extents * S_EXTENT_BYTES)
            for i in range(first, b.n_parts):
                h.body_crc = lnt_crc32c(h.body_crc, b.parts[i].iov_base, b.parts[i].iov_len)
            head.iov_len += h.extents * S_EXTENT_BYTES
        self.seal(&h, b, head)

    cdef void gather(self, lnt_departure *b, uint32_t first, const uint8_t *table, uint32_t table_bytes) noexcept nogil:
        """A body in one piece: table and parts, which are let go of."""
        cdef uint8_t *to = self.body
        cdef uint32_t i
        memcpy(to, table, table_bytes)
        to += table_bytes
        for i in range(first, b.n_parts):
            memcpy(to, b.parts[i].iov_base, b.parts[i].iov_len)
            to += b.parts[i].iov_len
        b.n_parts = first

    cdef uint32_t lay_out(self, lnt_plan *x, lnt_departure *b, uint8_t *to) noexcept nogil:
        """Its entries, data cut where blocks are all zeros; what is data becomes parts of the batch. How many entries."""
        cdef uint32_t i, at, run, n = 0
        cdef uint64_t block = x.block
        cdef lnt_stream_piece *piece
        cdef uint8_t kind
        for i in range(x.first, x.first + x.pieces):
            piece = &self.pieces[i]
            at = 0
            while at < piece.blocks:
                kind, run = piece.kind, piece.blocks - at
                if kind == KIND_DATA:
                    kind = run_of(piece.data + at * BLOCK, &run)
                memset(to, 0, S_EXTENT_BYTES)
                lnt_put_le16(to + SX_DELTA, <uint16_t>(piece.block + at - block))
                lnt_put_le16(to + SX_BLOCKS, <uint16_t>run)
                to[SX_KIND] = kind
                if kind == KIND_DATA:
                    departure_add(b, piece.data + at * BLOCK, <uint64_t>run * BLOCK)
                elif kind == KIND_HOLE:
                    self.frames.hole_bytes += <uint64_t>run * BLOCK
                else:
                    self.frames.zero_bytes += <uint64_t>run * BLOCK
                block = piece.block + at + run
                at += run
                to += S_EXTENT_BYTES
                n += 1
        return n


cdef iovec *head_of(lnt_departure *b) noexcept nogil:
    """The part of a header, which comes next."""
    cdef iovec *head = &b.parts[b.n_parts]
    head.iov_base = b.heads + b.heads_used
    head.iov_len = S_HEADER_BYTES
    b.n_parts += 1
    return head


cdef uint8_t run_of(const uint8_t *data, uint32_t *blocks) noexcept nogil:
    """Whether it begins with blocks of zeros, KIND_ZERO, or others, KIND_DATA; `blocks` becomes how many."""
    cdef bint zero = all_zeros(data)
    cdef uint32_t n = 1
    while n < blocks[0] and all_zeros(data + n * BLOCK) == zero:
        n += 1
    blocks[0] = n
    return KIND_ZERO if zero else KIND_DATA


def zstd_available():
    return zstd_there()
