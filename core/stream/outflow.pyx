"""The pump out: blocks of an object, by the rows of a walk, as frames in a buffer.

Lives here and nowhere else: how rows become frames. One thread makes them: `open`, `make` and `close` belong to it, and work
without the GIL.
"""
from core.base.memory cimport mem_aligned, mem_new
from core.base.native cimport lnt_mono_us, lnt_put_le16
from core.base.types cimport OP_READ, lnt_op
from core.pool.engine cimport Pool
from core.stream.frame cimport (
    KIND_DATA, KIND_HOLE, KIND_ZERO, ST_EXTENTS, ST_HOLE, ST_MARK, SX_BLOCKS, SX_DELTA, SX_KIND, S_EXTENT_BYTES, S_HEADER_BYTES,
    S_MARK_BYTES, S_MARK_US, S_MAX_BODY_BYTES, all_zeros, body_write, lnt_stream_header,
)
from core.stream.framing cimport Framing
from core.stream.packing cimport lnt_packer, packer_free, zstd_there
from core.stream.pump cimport Pump
from core.stream.worker cimport worker_batch_bytes, worker_rest, worker_run, worker_submit
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import os

cdef extern from "stream/descriptor.h" nogil:
    int lnt_give(int fd, int cancel, const void *buf, size_t n)

cdef enum:
    BLOCK = 4096
    SPAN_BLOCKS = 512
    BATCH_BYTES = 4 << 20         # read at once where no initiator is there
    HAND_OVER_BYTES = 16 << 20    # batches that are handed over together, so that Python costs little ...
    HAND_OVER_US = 20000          # ... or what is made in so long
    PLANS = 1024                  # frames made at once
    PIECES = 4096                 # entries in their tables
    HOLE_BLOCKS = 512             # a hole of so many blocks is a frame of its own

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
    uint32_t data_bytes


cdef class Outflow(Pump):
    cdef lnt_packer packer
    cdef uint8_t *scratch
    cdef uint8_t *body
    cdef lnt_op *ops
    cdef lnt_plan *plans
    cdef lnt_stream_piece *pieces
    cdef uint32_t n_plans, n_pieces
    cdef uint64_t scratch_used
    cdef bytes rows
    cdef uint64_t row, rows_count
    cdef lnt_row_of_three now         # what is left of the row under way
    cdef readonly Framing frames
    cdef readonly uint64_t position   # bytes: all before it was said
    cdef uint64_t marked_bytes, marked_us
    cdef public bint packing

    def __cinit__(self, Pool pool not None, *, uint64_t stream):
        self.frames = Framing(stream)
        self.scratch = <uint8_t *>mem_aligned(BATCH_BYTES)
        self.body = <uint8_t *>mem_aligned(S_MAX_BODY_BYTES)
        self.ops = <lnt_op *>mem_new(PIECES * sizeof(lnt_op))
        self.plans = <lnt_plan *>mem_new(PLANS * sizeof(lnt_plan))
        self.pieces = <lnt_stream_piece *>mem_new(PIECES * sizeof(lnt_stream_piece))
        if not (self.scratch and self.body and self.ops and self.plans and self.pieces):
            raise MemoryError

    def __dealloc__(self):
        packer_free(&self.packer)
        free(self.scratch)
        free(self.body)
        free(self.ops)
        free(self.plans)
        free(self.pieces)

    # -- on the thread -------------------------------------------------------------------------------------------------
    def begin(self, uint64_t object_id, *, uint64_t offset, uint64_t span, bytes text):
        """The BEGIN frame; what follows is of that object, from `offset` on."""
        self.choose(object_id, "the snapshot was deleted")
        self.position = offset
        self.marked_bytes, self.marked_us = 0, lnt_mono_us()
        self.rows, self.row, self.rows_count = b"", 0, 0
        self.now.length = 0
        return self.plain("begin", offset=offset, span=span, payload=text)

    def feed(self, bytes rows):
        """Rows of a walk, 24 bytes each. What was fed before must have been made."""
        self.rows, self.row, self.rows_count = rows, 0, len(rows) // sizeof(lnt_row_of_three)

    def plain(self, str type, **fields):
        """A frame without extents; it counts."""
        return self.frames.plain(type, **fields)

    def mark(self, uint64_t position):
        """A MARK: all before `position` was said."""
        self.position = max(self.position, position)
        self.marked_bytes, self.marked_us = self.frames.data_bytes, lnt_mono_us()
        return self.plain("mark", offset=self.position)

    @property
    def mark_due(self):
        return lnt_mono_us() - self.marked_us >= S_MARK_US

    def end(self, uint64_t size_bytes, bint more):
        self.position = size_bytes
        return self.frames.end(size_bytes, more)

    def make(self, unsigned char[::1] out not None):
        """Fill `out`, of at least BATCH_BYTES and a quarter, with frames; how many bytes. 0: more rows are wanted."""
        cdef uint64_t room = out.shape[0]
        cdef uint8_t *to = &out[0]
        cdef const char *raw = self.rows
        cdef uint64_t n
        with nogil:
            n = 0 if self.w.error else self.make_batches(<const lnt_row_of_three *>raw, to, room)
        if n == 0:                # what was made before an error is numbered, and goes out before it is told
            self.check("the snapshot cannot be read at byte {}")
        self.frames.add_up()
        return n

    # -- frames --------------------------------------------------------------------------------------------------------
    cdef uint64_t make_batches(self, const lnt_row_of_three *rows, uint8_t *to, uint64_t room) noexcept nogil:
        """Batches, until together they are worth a hand-over."""
        cdef uint64_t until_us = lnt_mono_us() + HAND_OVER_US, n = 0, more
        while True:
            more = self.make_batch(rows, to + n, room - n)
            n += more
            if more == 0 or n >= HAND_OVER_BYTES or self.frames.full(PLANS + 1) or lnt_mono_us() >= until_us:
                return n

    cdef uint64_t make_batch(self, const lnt_row_of_three *rows, uint8_t *to, uint64_t room) noexcept nogil:
        cdef uint64_t began_us = lnt_mono_us(), n = 0
        cdef uint32_t i
        self.plan(rows, room, worker_batch_bytes(&self.w, BATCH_BYTES))
        if self.n_plans == 0:
            return 0
        self.read_pieces()
        if self.w.error:
            return 0
        for i in range(self.n_plans):
            n += self.write_plan(&self.plans[i], to + n)
        if self.frames.data_bytes - self.marked_bytes + BATCH_BYTES >= S_MARK_BYTES or (
                lnt_mono_us() - self.marked_us >= S_MARK_US):
            n += self.write_mark(to + n)
        worker_rest(&self.w, lnt_mono_us() - began_us)
        return n

    cdef void plan(self, const lnt_row_of_three *rows, uint64_t room, uint64_t most_bytes) noexcept nogil:
        """Cut rows into frames until one of the bounds is reached."""
        cdef uint64_t part, left, used = 3 * S_HEADER_BYTES
        cdef lnt_plan *x = NULL
        cdef lnt_stream_piece *piece
        self.n_plans = self.n_pieces = 0
        self.scratch_used = 0
        while self.n_pieces < PIECES - 1:
            if self.now.length == 0:
                if self.row == self.rows_count:
                    return
                self.now = rows[self.row]
                self.row += 1
            if self.now.value == KIND_HOLE and self.now.length >= HOLE_BLOCKS:
                if self.n_plans == PLANS or used + S_HEADER_BYTES > room:
                    return
                x = &self.plans[self.n_plans]
                self.n_plans += 1
                x.block, x.blocks, x.pieces, x.first, x.data_bytes = self.now.start, self.now.length, 0, self.n_pieces, 0
                x = NULL
                used += S_HEADER_BYTES
                self.now.length = 0
                continue
            left = SPAN_BLOCKS - self.now.start % SPAN_BLOCKS
            part = self.now.length if self.now.length < left else left
            if self.now.value == KIND_DATA and self.scratch_used + part * BLOCK > most_bytes:
                part = (most_bytes - self.scratch_used) // BLOCK
            if part == 0 or used + S_HEADER_BYTES + S_EXTENT_BYTES * (SPAN_BLOCKS + 1) + part * BLOCK > room:
                return
            if x == NULL or x.block // SPAN_BLOCKS != self.now.start // SPAN_BLOCKS:
                if self.n_plans == PLANS:
                    return
                x = &self.plans[self.n_plans]
                self.n_plans += 1
                x.block, x.first, x.pieces, x.data_bytes = self.now.start, self.n_pieces, 0, 0
                used += S_HEADER_BYTES
            piece = &self.pieces[self.n_pieces]
            self.n_pieces += 1
            piece.block, piece.blocks, piece.kind = self.now.start, <uint32_t>part, <uint8_t>self.now.value
            piece.data = self.scratch + self.scratch_used
            x.pieces += 1
            x.blocks = self.now.start + part - x.block
            if piece.kind == KIND_DATA:
                x.data_bytes += <uint32_t>(part * BLOCK)
                self.scratch_used += part * BLOCK
            # zero blocks may cut it into as many entries as it has blocks
            used += part * S_EXTENT_BYTES + (part * BLOCK if piece.kind == KIND_DATA else 0)
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

    cdef uint64_t seal(self, lnt_stream_header *h, uint8_t *to) noexcept nogil:
        self.position = h.offset + h.span
        return self.frames.seal(h, to)

    cdef uint64_t write_mark(self, uint8_t *to) noexcept nogil:
        cdef lnt_stream_header h
        self.frames.header(&h, ST_MARK, self.position, 0)
        self.marked_bytes = self.frames.data_bytes
        self.marked_us = lnt_mono_us()
        return self.seal(&h, to)

    cdef uint64_t write_plan(self, lnt_plan *x, uint8_t *to) noexcept nogil:
        """One frame. Its body is put together where it goes, or beside it when it is to be packed."""
        cdef lnt_stream_header h
        cdef uint8_t *body = self.body if self.packing and x.data_bytes else to + S_HEADER_BYTES
        self.frames.header(&h, ST_EXTENTS if x.pieces else ST_HOLE, x.block * BLOCK, x.blocks * BLOCK)
        if x.pieces == 0:
            self.frames.hole_bytes += h.span
            return self.seal(&h, to)
        h.extents = self.table(x, body)
        h.raw_bytes = h.extents * S_EXTENT_BYTES + self.payload(x, body + h.extents * S_EXTENT_BYTES)
        body_write(&self.packer, &h, to + S_HEADER_BYTES, body, body == self.body)
        return self.seal(&h, to)

    cdef uint32_t table(self, lnt_plan *x, uint8_t *to) noexcept nogil:
        """Its entries, data cut where blocks are all zeros. How many."""
        cdef uint32_t i, at, run, n = 0
        cdef uint64_t block = x.block
        cdef lnt_stream_piece *piece
        cdef bint zero
        for i in range(x.first, x.first + x.pieces):
            piece = &self.pieces[i]
            at = 0
            while at < piece.blocks:
                run = piece.blocks - at
                if piece.kind == KIND_DATA:
                    zero = all_zeros(piece.data + at * BLOCK)
                    run = 1
                    while at + run < piece.blocks and all_zeros(piece.data + (at + run) * BLOCK) == zero:
                        run += 1
                memset(to, 0, S_EXTENT_BYTES)
                lnt_put_le16(to + SX_DELTA, <uint16_t>(piece.block + at - block))
                lnt_put_le16(to + SX_BLOCKS, <uint16_t>run)
                to[SX_KIND] = piece.kind if piece.kind == KIND_HOLE else KIND_ZERO if zero else KIND_DATA
                if to[SX_KIND] == KIND_HOLE:
                    self.frames.hole_bytes += <uint64_t>run * BLOCK
                elif to[SX_KIND] == KIND_ZERO:
                    self.frames.zero_bytes += <uint64_t>run * BLOCK
                block = piece.block + at + run
                at += run
                to += S_EXTENT_BYTES
                n += 1
        return n

    cdef uint32_t payload(self, lnt_plan *x, uint8_t *to) noexcept nogil:
        """The data entries' blocks, in order. How many bytes."""
        cdef uint32_t i, at, run, n = 0
        cdef lnt_stream_piece *piece
        for i in range(x.first, x.first + x.pieces):
            piece = &self.pieces[i]
            at = 0
            while piece.kind == KIND_DATA and at < piece.blocks:
                run = 0
                while at + run < piece.blocks and not all_zeros(piece.data + (at + run) * BLOCK):
                    run += 1
                memcpy(to + n, piece.data + at * BLOCK, run * BLOCK)
                n += run * BLOCK
                at += run + 1
        self.frames.data_bytes += n
        return n


def write_all(int fd, int cancel, const unsigned char[::1] data not None):
    """Write all of it, waiting as long as it takes, or until `cancel` becomes readable. OSError."""
    cdef int rc = 0
    cdef size_t n = data.shape[0]
    if n:
        with nogil:
            rc = lnt_give(fd, cancel, &data[0], n)
    if rc < 0:
        raise OSError(-rc, os.strerror(-rc))


def zstd_available():
    return zstd_there()
