"""The pump in: frames from a descriptor, verified, as writes and unmaps of an object.

Lives here and nowhere else: how frames become writes. One thread takes them: `open`, `take` and `close` belong to it, and work
without the GIL. It returns for every frame that Python decides about: BEGIN, MARK, END, ERROR. Frames arrive ahead of it
(core/stream/arrivals.pyx), and the writes of all that have arrived are under way at once: in one snapshot no two of them overlap.

An object that has contents of its own is compared: what a whole stream says is read first, and only blocks that differ are
written; what it does not speak of becomes a hole.
"""
from core.base.check cimport lnt_assert
from core.base.memory cimport mem_aligned, mem_new
from core.base.native cimport lnt_get_le16, lnt_mono_us
from core.base.types cimport OP_READ, OP_UNMAP, OP_WRITE, lnt_op
from core.pool.engine cimport Pool
from core.stream.arrivals cimport (
    arrivals_close, arrivals_free, arrivals_look, arrivals_open, arrivals_wait, lnt_arrivals, lnt_arrived,
)
from core.stream.frame cimport (
    FLAG_MORE, KIND_DATA, KIND_HOLE, SE_OK, SE_ORDER, SN_SHA256, ST_BEGIN, ST_END, ST_ERROR, ST_EXTENTS, ST_HOLE, ST_MARK,
    SX_BLOCKS, SX_DELTA, SX_KIND, S_EXTENT_BYTES, S_HEADER_BYTES, S_SPAN_BYTES, lnt_stream_header,
)
from core.stream.pump cimport Pump
from core.stream.worker cimport worker_batch_bytes, worker_rest, worker_run, worker_submit
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memset

import hashlib
import os

from core.stream.frame import StreamError, Taken

cdef enum:
    BLOCK = 4096
    BATCH_BYTES = 4 << 20         # written at once where no initiator is there
    OPS = 2048                    # operations of the frames that are taken together ...
    FRAME_OPS = 2 * 512 + 18      # ... of which one frame may want so many
    READ_BYTES = BATCH_BYTES + (2 << 20)    # what is compared at once: frames until they are a batch, and the last one's span
    CRCS = 16384                  # headers seen before Python adds them up


cdef class Inflow(Pump):
    cdef lnt_arrivals arrivals
    cdef uint32_t taken               # frames that are not let go of yet
    cdef lnt_arrived *last            # of them
    cdef int fd, cancel
    cdef uint8_t *zeros
    cdef lnt_op *ops
    cdef uint32_t n_ops
    cdef uint64_t batch_bytes         # so much is under way at once; the rest of a frame follows
    cdef uint64_t under_way_bytes
    cdef uint64_t began_us            # when what is under way was begun
    cdef uint32_t *crcs
    cdef uint32_t n_crcs
    cdef readonly uint64_t received_bytes     # as they came
    cdef readonly uint64_t position   # bytes: what is before it was spoken of
    cdef bint comparing
    cdef uint8_t *ours                # what the object has where frames have data, in the order of the operations that read it
    cdef const uint8_t **theirs       # what frames have there, by operation
    cdef uint64_t ours_used
    cdef uint64_t from_offset         # what is before it was received earlier, and is not written again
    cdef object digest

    def __cinit__(self, Pool pool not None, int fd, int cancel):
        self.fd = fd
        self.cancel = cancel
        self.digest = hashlib.sha256()
        self.zeros = <uint8_t *>mem_aligned(S_SPAN_BYTES)
        self.ops = <lnt_op *>mem_new(2 * OPS * sizeof(lnt_op))      # reads, then the writes that follow of them
        self.crcs = <uint32_t *>mem_new(CRCS * sizeof(uint32_t))
        if not (self.zeros and self.ops and self.crcs):
            raise MemoryError
        memset(self.zeros, 0, S_SPAN_BYTES)

    def __dealloc__(self):
        arrivals_close(&self.arrivals)
        free(self.zeros)
        free(self.ours)
        free(self.theirs)
        free(self.ops)
        free(self.crcs)

    # -- on the thread -------------------------------------------------------------------------------------------------
    def open(self):
        cdef int rc
        Pump.open(self)
        with nogil:
            rc = arrivals_open(&self.arrivals, self.fd, self.cancel)
        if rc < 0:
            Pump.close(self)
            raise OSError(-rc, os.strerror(-rc))

    def close(self):
        with nogil:
            arrivals_close(&self.arrivals)
        Pump.close(self)

    def into(self, uint64_t object_id, uint64_t from_offset=0, bint comparing=False):
        """What comes next is of this object; before `from_offset` it has it already. `comparing`: it has contents of its own."""
        self.choose(object_id, "what was received is gone")
        self.from_offset = self.position = from_offset
        self.comparing = comparing
        if comparing and self.ours == NULL:
            self.ours = <uint8_t *>mem_aligned(READ_BYTES)
            self.theirs = <const uint8_t **>mem_new(OPS * sizeof(uint8_t *))
            if self.ours == NULL or self.theirs == NULL:
                raise MemoryError

    def take(self):
        """Take frames until one is Python's to decide about. PoolError (a write failed), OSError."""
        cdef int rc
        cdef lnt_stream_header *h
        while True:
            with nogil:
                rc = self.take_frames()
            self.check("byte {} cannot be written")
            if rc < 0:
                raise OSError(-rc, os.strerror(-rc))
            h = &self.last.h
            crcs, self.n_crcs = (<const char *>self.crcs)[:4 * self.n_crcs], 0
            if rc == SE_OK and h.type == ST_END:
                self.digest.update(crcs[:-4])
                if self.last.raw[SN_SHA256:SN_SHA256 + 32] != self.digest.digest():
                    rc = SE_ORDER
                crcs = crcs[-4:]
            self.digest.update(crcs)
            if rc:
                raise StreamError(rc)
            if decides(h):
                return Taken({ST_BEGIN: "begin", ST_MARK: "mark", ST_END: "end", ST_ERROR: "error"}[h.type], h.offset, h.span,
                             bool(h.flags & FLAG_MORE), (<const char *>self.last.raw)[:h.raw_bytes] if h.raw_bytes else b"")

    # -- frames --------------------------------------------------------------------------------------------------------
    cdef int take_frames(self) noexcept nogil:
        """0: a frame that Python decides about, or the list of checksums is full; -errno; or what is wrong."""
        cdef int rc
        while True:
            arrivals_free(&self.arrivals, self.taken)
            self.taken = 0
            self.last = arrivals_wait(&self.arrivals)
            self.began_us = lnt_mono_us()
            self.batch_bytes = worker_batch_bytes(&self.w, BATCH_BYTES)
            rc = self.take_batch()
            self.run()
            if self.comparing and not self.w.error:
                self.write_differing()
            if rc or self.w.error or decides(&self.last.h) or self.n_crcs == CRCS:
                return rc

    cdef void run(self) noexcept nogil:
        """Until nothing is under way; then initiators have their share of the time."""
        if self.w.busy:
            worker_run(&self.w)
            worker_rest(&self.w, lnt_mono_us() - self.began_us)
        self.under_way_bytes = 0
        self.began_us = lnt_mono_us()

    cdef int take_batch(self) noexcept nogil:
        """Put what has arrived on its way, up to a frame that ends it. What is wrong is told when the rest is taken."""
        cdef lnt_arrived *x = self.last
        cdef uint64_t n = 0
        self.n_ops = 0
        self.ours_used = 0
        while x != NULL and self.n_crcs < CRCS and n < self.batch_bytes and self.n_ops + FRAME_OPS <= OPS:
            if x.rc:
                if self.taken == 0:
                    return x.rc
                return SE_OK
            self.last = x
            self.taken += 1
            self.crcs[self.n_crcs] = x.h.header_crc
            self.n_crcs += 1
            n += x.h.span if self.comparing and x.h.type == ST_EXTENTS else x.h.raw_bytes     # zeros are read, too
            self.received_bytes += S_HEADER_BYTES + x.h.stored_bytes
            self.write(x)
            if decides(&x.h):
                return SE_OK
            x = arrivals_look(&self.arrivals, self.taken)
        return SE_OK

    cdef void write(self, lnt_arrived *x) noexcept nogil:
        cdef uint64_t before = self.position
        if self.comparing and x.h.type in (ST_EXTENTS, ST_HOLE, ST_END) and x.h.offset > before:
            self.put(OP_UNMAP, before, x.h.offset - before, NULL)       # a whole stream leaves holes out
        if x.h.type in (ST_EXTENTS, ST_HOLE):
            self.position = x.h.offset + x.h.span
            if self.position > self.from_offset:
                if x.h.type == ST_EXTENTS:
                    self.write_extents(x)
                else:
                    self.put(OP_UNMAP, x.h.offset, x.h.span, NULL)

    cdef void put(self, uint8_t kind, uint64_t offset, uint64_t length, uint8_t *buf) noexcept nogil:
        cdef lnt_op *op = &self.ops[self.n_ops]
        self.n_ops += 1
        memset(op, 0, sizeof(lnt_op))
        op.kind = kind
        op.obj = self.obj
        op.offset = offset
        op.length = length
        op.buf = buf
        worker_submit(&self.w, op)
        if kind != OP_UNMAP:
            self.under_way_bytes += length
            if self.under_way_bytes >= self.batch_bytes:
                self.run()

    cdef void write_extents(self, lnt_arrived *x) noexcept nogil:
        cdef const uint8_t *entry = x.raw
        cdef uint8_t *data = x.raw + x.h.extents * S_EXTENT_BYTES
        cdef uint64_t at = x.h.offset, length
        cdef uint32_t _entry
        for _entry in range(x.h.extents):
            length = <uint64_t>lnt_get_le16(entry + SX_DELTA) * BLOCK
            if length and self.comparing:
                self.put(OP_UNMAP, at, length, NULL)
            at += length
            length = <uint64_t>lnt_get_le16(entry + SX_BLOCKS) * BLOCK
            if entry[SX_KIND] == KIND_HOLE:
                self.put(OP_UNMAP, at, length, NULL)
            else:
                self.take_data(at, length, data if entry[SX_KIND] == KIND_DATA else self.zeros)
                data += length if entry[SX_KIND] == KIND_DATA else 0
            at += length
            entry += S_EXTENT_BYTES
        if self.comparing and at < x.h.offset + x.h.span:
            self.put(OP_UNMAP, at, x.h.offset + x.h.span - at, NULL)

    cdef void take_data(self, uint64_t at, uint64_t length, uint8_t *data) noexcept nogil:
        """Write it; or read what is there, to write what differs."""
        cdef uint64_t part
        while length:
            part = length if length < self.batch_bytes else self.batch_bytes
            if self.comparing:
                lnt_assert(self.ours_used + part <= READ_BYTES, "frames that are taken together fit the room to compare them")
                self.theirs[self.n_ops] = data
                self.put(OP_READ, at, part, self.ours + self.ours_used)
                self.ours_used += part
            else:
                self.put(OP_WRITE, at, part, data)
            at += part
            data += part
            length -= part

    cdef void write_differing(self) noexcept nogil:
        """The blocks that are not what frames say, neighbours together."""
        cdef uint32_t i, n = self.n_ops
        cdef lnt_op *op
        cdef uint64_t at, run
        for i in range(n):
            op = &self.ops[i]
            at = 0
            while op.kind == OP_READ and at < op.length:
                run = 0
                while at + run < op.length and memcmp(<uint8_t *>op.buf + at + run, self.theirs[i] + at + run, BLOCK):
                    run += BLOCK
                if run:
                    self.put(OP_WRITE, op.offset + at, run, <uint8_t *>self.theirs[i] + at)
                at += run + BLOCK
        self.run()


cdef bint decides(const lnt_stream_header *h) noexcept nogil:
    return h.type in (ST_BEGIN, ST_MARK, ST_END, ST_ERROR)
