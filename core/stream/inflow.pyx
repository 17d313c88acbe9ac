"""The pump in: frames from a descriptor, verified, as writes and unmaps of an object.

Lives here and nowhere else: how frames become writes. One thread takes them: `open`, `take` and `close` belong to it, and work
without the GIL. It returns for every frame that Python decides about: BEGIN, MARK, END, ERROR.
"""
from core.base.memory cimport mem_aligned, mem_new
from core.base.native cimport lnt_get_le16, lnt_mono_us
from core.base.types cimport OP_UNMAP, OP_WRITE, ST_OK, lnt_obj, lnt_op
from core.pool.engine cimport Pool
from core.stream.frame cimport (
    FLAG_MORE, KIND_DATA, KIND_HOLE, SE_OK, SE_ORDER, SE_TRUNCATED, SH_HEADER_CRC, SN_SHA256, ST_BEGIN, ST_END, ST_ERROR,
    ST_EXTENTS, ST_HOLE, ST_MARK, SX_BLOCKS, SX_DELTA, SX_KIND, S_EXTENT_BYTES, S_HEADER_BYTES,
    S_MAX_EXTENTS, S_SPAN_BYTES, body_check, body_unpack, end_check, header_known, header_read, lnt_stream_header,
    lnt_stream_order, order_take, table_check,
)
from core.stream.packing cimport lnt_packer, packer_free
from core.stream.worker cimport lnt_worker, worker_close, worker_open, worker_rest, worker_run, worker_submit
from libc.stdint cimport uint32_t, uint64_t, uint8_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memmove, memset

import hashlib
import os
from typing import NamedTuple

from core.errors import STATUS_CODES, PoolError
from core.stream.frame import StreamError
from core.wire.reactor import uring_library

cdef extern from "stream/descriptor.h" nogil:
    ssize_t lnt_take(int fd, int cancel, int regular, void *buf, size_t n)
    int lnt_is_regular(int fd)

cdef enum:
    BLOCK = 4096
    INPUT_BYTES = 4 << 20
    CRCS = 16384                  # headers seen before Python adds them up


class Taken(NamedTuple):
    type: str
    offset: int
    span: int
    more: bool
    payload: bytes


cdef class Inflow:
    cdef lnt_worker w
    cdef lnt_packer packer
    cdef lnt_stream_order order
    cdef lnt_stream_header h
    cdef Pool pool
    cdef lnt_obj *obj
    cdef int fd, cancel, regular
    cdef uint8_t *input
    cdef uint64_t first, last         # what of it is not taken yet
    cdef uint8_t *room                # a body, unpacked: its payload begins on a page
    cdef uint8_t *raw
    cdef uint8_t *zeros
    cdef lnt_op *ops
    cdef uint32_t *crcs
    cdef uint32_t n_crcs
    cdef readonly uint64_t received_bytes     # as they came
    cdef uint64_t from_offset         # what is before it was received earlier, and is not written again
    cdef object digest
    cdef bytes sha256                 # of all frames before the one under way

    def __cinit__(self, Pool pool not None, int fd, int cancel):
        self.pool = pool
        self.fd = fd
        self.cancel = cancel
        self.regular = lnt_is_regular(fd)
        self.w.wake_fd = -1
        self.digest = hashlib.sha256()
        self.input = <uint8_t *>mem_aligned(INPUT_BYTES)
        self.room = <uint8_t *>mem_aligned(S_SPAN_BYTES + 2 * BLOCK)
        self.zeros = <uint8_t *>mem_aligned(S_SPAN_BYTES)
        self.ops = <lnt_op *>mem_new(S_MAX_EXTENTS * sizeof(lnt_op))
        self.crcs = <uint32_t *>mem_new(CRCS * sizeof(uint32_t))
        if not (self.input and self.room and self.zeros and self.ops and self.crcs):
            raise MemoryError
        memset(self.zeros, 0, S_SPAN_BYTES)

    def __dealloc__(self):
        packer_free(&self.packer)
        free(self.input)
        free(self.room)
        free(self.zeros)
        free(self.ops)
        free(self.crcs)

    # -- on the thread -------------------------------------------------------------------------------------------------
    def open(self):
        cdef int rc
        cdef bytes library = uring_library()
        cdef const char *path = library
        address = getattr(self.pool.device, "image_address", 0)
        cdef int fd = -1 if address else self.pool.device.fileno()
        cdef void *image = <void *><uintptr_t>address
        cdef uint64_t object_bytes = self.pool.device.object_bytes if address else 0
        with nogil:
            rc = worker_open(&self.w, self.pool.p, path, fd, image, object_bytes)
        if rc < 0:
            raise OSError(-rc, f"io_uring is not usable: {os.strerror(-rc)}")

    def close(self):
        self.let_go()
        with nogil:
            worker_close(&self.w)

    cdef int let_go(self) except -1:
        if self.obj != NULL:
            self.pool.close_handle(self.obj)
            self.obj = NULL
        return 0

    def into(self, uint64_t object_id, uint64_t from_offset=0):
        """What comes next is of this object; before `from_offset` it has it already."""
        self.let_go()
        self.obj = self.pool.open_handle(object_id)
        self.from_offset = from_offset
        if self.obj == NULL:
            raise PoolError("gone", "what was received is gone")

    def take(self):
        """Take frames until one is Python's to decide about. PoolError (a write failed), OSError."""
        cdef int rc
        while True:
            with nogil:
                rc = self.take_frames()
            if self.w.error:
                status, self.w.error = self.w.error, ST_OK
                raise PoolError(STATUS_CODES[status], f"byte {self.w.error_offset} cannot be written")
            if rc < 0:
                raise OSError(-rc, os.strerror(-rc))
            crcs, self.n_crcs = (<const char *>self.crcs)[:4 * self.n_crcs], 0
            if rc == SE_OK and self.h.type == ST_END:
                self.digest.update(crcs[:-4])
                if self.raw[SN_SHA256:SN_SHA256 + 32] != self.digest.digest():
                    rc = SE_ORDER
                crcs = crcs[-4:]
            self.digest.update(crcs)
            if rc:
                raise StreamError(rc)
            if self.decides():
                return Taken({ST_BEGIN: "begin", ST_MARK: "mark", ST_END: "end", ST_ERROR: "error"}[self.h.type], self.h.offset,
                             self.h.span, bool(self.h.flags & FLAG_MORE), (<const char *>self.raw)[:self.h.raw_bytes])

    cdef bint decides(self) noexcept nogil:
        return self.h.type in (ST_BEGIN, ST_MARK, ST_END, ST_ERROR)

    # -- frames --------------------------------------------------------------------------------------------------------
    cdef int take_frames(self) noexcept nogil:
        """0: a frame that Python decides about, or the list of checksums is full; -errno; or what is wrong."""
        cdef int rc
        cdef uint64_t began_us
        while True:
            rc = self.have(S_HEADER_BYTES)
            if rc:
                return rc
            rc = header_read(self.input + self.first, &self.h)
            if rc:
                return rc
            rc = self.have(S_HEADER_BYTES + self.h.stored_bytes)
            if rc:
                return rc
            began_us = lnt_mono_us()
            rc = self.take_frame(self.input + self.first)
            self.first += S_HEADER_BYTES + self.h.stored_bytes
            self.received_bytes += S_HEADER_BYTES + self.h.stored_bytes
            if rc or self.w.error or self.decides() or self.n_crcs == CRCS:
                return rc
            if self.h.type in (ST_EXTENTS, ST_HOLE):
                worker_rest(&self.w, lnt_mono_us() - began_us)

    cdef int have(self, uint64_t n) noexcept nogil:
        """Read until n bytes lie in the input."""
        cdef ssize_t got
        if self.first == self.last:
            self.first = self.last = 0
        if self.first + n > INPUT_BYTES:
            memmove(self.input, self.input + self.first, self.last - self.first)
            self.last -= self.first
            self.first = 0
        while self.last - self.first < n:
            got = lnt_take(self.fd, self.cancel, self.regular, self.input + self.last, INPUT_BYTES - self.last)
            if got < 0:
                return <int>got
            if got == 0:
                return SE_TRUNCATED
            self.last += <uint64_t>got
        return 0

    cdef int take_frame(self, const uint8_t *raw) noexcept nogil:
        cdef const uint8_t *stored = raw + S_HEADER_BYTES
        cdef uint32_t table = self.h.extents * S_EXTENT_BYTES
        cdef int rc = body_check(&self.h, stored)
        if rc == SE_OK:
            rc = order_take(&self.order, &self.h)
        if rc:
            return rc
        memcpy(&self.crcs[self.n_crcs], raw + SH_HEADER_CRC, 4)
        self.n_crcs += 1
        if not header_known(&self.h):
            return SE_OK
        self.raw = self.room + BLOCK - table      # a full table is one page
        rc = body_unpack(&self.packer, &self.h, stored, self.raw)
        if rc == SE_OK and self.h.type == ST_EXTENTS:
            rc = table_check(&self.order, &self.h, self.raw)
        if rc == SE_OK and self.h.type == ST_END:
            rc = end_check(&self.order, self.raw)
        if rc == SE_OK and self.h.offset + self.h.span > self.from_offset:
            if self.h.type == ST_EXTENTS:
                self.write_extents(self.raw, self.raw + table)
            elif self.h.type == ST_HOLE:
                self.put(&self.ops[0], OP_UNMAP, self.h.offset, self.h.span, NULL)
            if self.w.busy:
                worker_run(&self.w)
        return rc

    cdef void put(self, lnt_op *op, uint8_t kind, uint64_t offset, uint64_t length, uint8_t *buf) noexcept nogil:
        memset(op, 0, sizeof(lnt_op))
        op.kind = kind
        op.obj = self.obj
        op.offset = offset
        op.length = length
        op.buf = buf
        worker_submit(&self.w, op)

    cdef void write_extents(self, const uint8_t *entry, uint8_t *data) noexcept nogil:
        cdef uint64_t at = self.h.offset, length
        cdef uint32_t i
        for i in range(self.h.extents):
            at += <uint64_t>lnt_get_le16(entry + SX_DELTA) * BLOCK
            length = <uint64_t>lnt_get_le16(entry + SX_BLOCKS) * BLOCK
            if entry[SX_KIND] == KIND_DATA:
                self.put(&self.ops[i], OP_WRITE, at, length, data)
                data += length
            elif entry[SX_KIND] == KIND_HOLE:
                self.put(&self.ops[i], OP_UNMAP, at, length, NULL)
            else:
                self.put(&self.ops[i], OP_WRITE, at, length, self.zeros)
            at += length
            entry += S_EXTENT_BYTES
