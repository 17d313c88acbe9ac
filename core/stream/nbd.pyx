"""NBD's READs of a snapshot on a connected socket: taken, read and answered without the GIL (docs/export.md, "Requests").

Lives here and nowhere else: how a READ becomes a reply. What else a client asks, and whatever is wrong, is Python's to answer:
`serve` returns with that request (target/nbd/transmission.py judges it). One thread serves one connection; READs that have come
are under way together, as far as BATCH_BYTES reach, and are answered in order.
"""
from core.base.memory cimport mem_aligned
from core.base.native cimport lnt_mono_us
from core.base.types cimport OP_READ, ST_GONE, ST_OK, lnt_op
from core.pool.engine cimport Pool
from core.stream.pump cimport Pump
from core.stream.worker cimport worker_rest, worker_run, worker_submit
from core.wire.pdu cimport get_be16, get_be32, get_be64, put_be16, put_be32, put_be64
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memmove, memset

import os

cdef extern from "stream/descriptor.h" nogil:
    ssize_t lnt_take(int fd, int cancel, int stop, int regular, void *buf, size_t n)
    int lnt_give(int fd, int cancel, const void *buf, size_t n)
cdef extern from "<errno.h>":
    int EIO

cdef enum:
    BLOCK = 4096
    INPUT_BYTES = 65536           # as much as a handshake may leave
    REQUEST_BYTES = 28            # magic, flags, command, cookie, offset, length
    MAGIC_AT = 0
    FLAGS_AT = 4
    COMMAND_AT = 6
    COOKIE_AT = 8
    OFFSET_AT = 16
    LENGTH_AT = 24
    READ = 0                      # a command
    FUA = 1                       # its flags
    DF = 4
    PIECES = 8                    # under way together ...
    BATCH_BYTES = 2 << 20         # ... of so many bytes at most
    PIECE_BYTES = 1 << 20
    ROOM = BATCH_BYTES + 3 * PIECES * BLOCK     # before each piece a page for its header; what its first and last page hold more
    MOST_BYTES = 32 << 20         # of one READ
    DONE = 1                      # the flag of a reply's last chunk
    DATA_CHUNK = 1
    ERROR_CHUNK = 0x8001
    ERROR_AT_CHUNK = 0x8002
    NBD_EIO = 5
    NBD_ESHUTDOWN = 108

globals().update(PIECES=<int>PIECES, BATCH_BYTES=<int>BATCH_BYTES)     # what docs/export.md says

cdef uint32_t REQUEST_MAGIC = 0x25609513
cdef uint32_t SIMPLE_MAGIC = 0x67446698
cdef uint32_t CHUNK_MAGIC = 0x668E33EF

cdef struct lnt_nbd_read:         # one that is being answered
    uint64_t cookie
    uint64_t offset
    uint32_t length
    uint32_t done                 # of it, that was put into pieces
    uint16_t flags

cdef struct lnt_nbd_piece:
    lnt_nbd_read read             # whose it is, `done` being where the piece begins
    uint32_t length
    uint8_t *at                   # its first byte


cdef class Transmission(Pump):
    cdef int fd, cancel
    cdef bint structured
    cdef uint8_t *input
    cdef uint32_t first, last     # what of the input is not taken yet
    cdef uint8_t *room
    cdef lnt_op[8] ops
    cdef lnt_nbd_piece[8] pieces
    cdef uint32_t n_pieces
    cdef bint lost                # the READ under way was answered by an error: nothing more of it is sent
    cdef lnt_nbd_read now         # with done < length: the one that is not whole in pieces yet

    def __cinit__(self, Pool pool not None, int fd, int cancel, *, bint structured, bytes rest):
        self.fd, self.cancel, self.structured = fd, cancel, structured
        self.input = <uint8_t *>mem_aligned(INPUT_BYTES)
        self.room = <uint8_t *>mem_aligned(ROOM)
        if self.input == NULL or self.room == NULL:
            raise MemoryError
        if len(rest) > INPUT_BYTES:
            raise ValueError("a handshake leaves less")
        memcpy(self.input, <const char *>rest, len(rest))
        self.last = len(rest)
        memset(&self.now, 0, sizeof(self.now))

    def __dealloc__(self):
        free(self.input)
        free(self.room)

    # -- on the thread -------------------------------------------------------------------------------------------------
    def begin(self, uint64_t object_id):
        self.choose(object_id, "the snapshot was deleted")

    def serve(self):
        """Answer READs until another request comes: its bytes, or none when the client has left."""
        cdef int rc
        with nogil:
            rc = self.answer_reads()
            if rc == 0:
                rc = self.have(REQUEST_BYTES)
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))
        if rc == 0:
            return b""
        found = (<const char *>self.input)[self.first:self.first + REQUEST_BYTES]
        self.first += REQUEST_BYTES
        return found

    def skip(self, uint32_t n):
        """Throw away a payload."""
        cdef uint32_t part
        cdef int rc = 1
        while n and rc > 0:
            part = min(self.last - self.first, n)
            self.first += part
            n -= part
            if n:
                with nogil:
                    rc = self.have(1)
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))

    def give(self, const unsigned char[::1] data not None):
        cdef int rc
        with nogil:
            rc = lnt_give(self.fd, self.cancel, &data[0], data.shape[0])
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))

    # -- without the GIL -----------------------------------------------------------------------------------------------
    cdef int have(self, uint32_t n) noexcept nogil:
        """Read until n bytes lie in the input. 1; 0: the client has left; -errno."""
        cdef ssize_t got
        if self.first + n > INPUT_BYTES or self.first == self.last:
            memmove(self.input, self.input + self.first, self.last - self.first)
            self.last -= self.first
            self.first = 0
        while self.last - self.first < n:
            got = lnt_take(self.fd, self.cancel, -1, 0, self.input + self.last, INPUT_BYTES - self.last)
            if got <= 0:
                return <int>got
            self.last += <uint32_t>got
        return 1

    cdef bint is_read(self) noexcept nogil:
        """Whether a READ stands next that can be done as it is."""
        cdef const uint8_t *at = self.input + self.first
        cdef uint64_t offset, size = self.obj.size_bytes
        cdef uint32_t length
        if get_be32(at + MAGIC_AT) != REQUEST_MAGIC or get_be16(at + COMMAND_AT) != READ:
            return False
        if get_be16(at + FLAGS_AT) & ~(FUA | (DF if self.structured else 0)):
            return False
        offset, length = get_be64(at + OFFSET_AT), get_be32(at + LENGTH_AT)
        return 0 < length <= MOST_BYTES and offset <= size and length <= size - offset

    cdef int answer_reads(self) noexcept nogil:
        """0: something else stands next, or nothing comes; -errno."""
        cdef uint64_t began_us
        cdef int rc
        while True:
            rc = self.have(REQUEST_BYTES)
            if rc <= 0 or not self.is_read():
                return rc if rc < 0 else 0
            while True:
                began_us = lnt_mono_us()
                self.gather()
                if self.n_pieces == 0:
                    break
                worker_run(&self.w)
                rc = self.answer()
                if rc < 0:
                    return rc
                worker_rest(&self.w, lnt_mono_us() - began_us)

    cdef void gather(self) noexcept nogil:
        """Pieces of the READ under way and of those that have come behind it, put on their way."""
        cdef uint64_t start, end, used = 0
        cdef lnt_nbd_piece *x
        cdef lnt_op *op
        self.n_pieces = 0
        while self.n_pieces < PIECES:
            if self.now.done == self.now.length:
                if self.last - self.first < REQUEST_BYTES or not self.is_read():
                    return
                self.next_read()
            x = &self.pieces[self.n_pieces]
            x.read = self.now
            x.length = self.now.length - self.now.done
            if x.length > PIECE_BYTES:
                x.length = PIECE_BYTES
            start = (self.now.offset + self.now.done) // BLOCK * BLOCK
            end = (self.now.offset + self.now.done + x.length + BLOCK - 1) // BLOCK * BLOCK
            if self.n_pieces and used + BLOCK + end - start > ROOM:
                return
            op = &self.ops[self.n_pieces]
            memset(op, 0, sizeof(lnt_op))
            op.kind = OP_READ
            op.obj = self.obj
            op.offset, op.length = start, end - start
            op.buf = self.room + used + BLOCK
            x.at = self.room + used + BLOCK + (self.now.offset + self.now.done - start)
            used += BLOCK + end - start
            worker_submit(&self.w, op)
            self.n_pieces += 1
            self.now.done += x.length

    cdef void next_read(self) noexcept nogil:
        cdef const uint8_t *at = self.input + self.first
        self.now.flags = get_be16(at + FLAGS_AT)
        self.now.cookie = get_be64(at + COOKIE_AT)
        self.now.offset = get_be64(at + OFFSET_AT)
        self.now.length = get_be32(at + LENGTH_AT)
        self.now.done = 0
        self.first += REQUEST_BYTES

    cdef int answer(self) noexcept nogil:
        """Send what was read, in order. 0 or -errno; -EIO: a reply was begun and cannot be ended."""
        cdef uint32_t i, error
        cdef int rc = 0
        self.w.error = ST_OK            # each piece has its own
        for i in range(self.n_pieces):
            self.lost = self.lost and self.pieces[i].read.done != 0
            if rc == 0 and not self.lost:
                error = 0
                if self.ops[i].status != ST_OK:
                    error = NBD_ESHUTDOWN if self.ops[i].status == ST_GONE else NBD_EIO
                rc = self.answer_piece(&self.pieces[i], error)
        if self.lost:
            self.now.done = self.now.length
        return rc

    cdef int answer_piece(self, lnt_nbd_piece *x, uint32_t error) noexcept nogil:
        cdef uint8_t[64] made
        cdef uint32_t n = 0
        cdef bint whole = not self.structured or x.read.flags & DF      # one header for all of the READ
        cdef bint last = x.read.done + x.length == x.read.length
        if error:
            if whole and x.read.done:
                return -EIO
            n = self.error_header(made, x, error, whole, last)
            rc = lnt_give(self.fd, self.cancel, made, n)
            self.lost = whole
            return rc
        if not whole or x.read.done == 0:
            n = self.data_header(made, x, whole, last)
            memcpy(x.at - n, made, n)
        return lnt_give(self.fd, self.cancel, x.at - n, n + x.length)

    cdef uint32_t data_header(self, uint8_t *to, lnt_nbd_piece *x, bint whole, bint last) noexcept nogil:
        cdef uint32_t length = x.read.length if whole else x.length
        if not self.structured:
            put_be32(to, SIMPLE_MAGIC)
            put_be32(to + 4, 0)
            put_be64(to + 8, x.read.cookie)
            return 16
        put_chunk(to, DONE if whole or last else 0, DATA_CHUNK, x.read.cookie, 8 + length)
        put_be64(to + 20, x.read.offset + x.read.done)
        return 28

    cdef uint32_t error_header(self, uint8_t *to, lnt_nbd_piece *x, uint32_t error, bint whole, bint last) noexcept nogil:
        if not self.structured:
            put_be32(to, SIMPLE_MAGIC)
            put_be32(to + 4, error)
            put_be64(to + 8, x.read.cookie)
            return 16
        put_chunk(to, DONE if whole or last else 0, ERROR_CHUNK if whole else ERROR_AT_CHUNK, x.read.cookie, 6 if whole else 14)
        put_be32(to + 20, error)
        put_be16(to + 24, 0)
        if whole:
            return 26
        put_be64(to + 26, x.read.offset + x.read.done)
        return 34


cdef void put_chunk(uint8_t *to, uint16_t flags, uint16_t kind, uint64_t cookie, uint32_t length) noexcept nogil:
    put_be32(to, CHUNK_MAGIC)
    put_be16(to + 4, flags)
    put_be16(to + 6, kind)
    put_be64(to + 8, cookie)
    put_be32(to + 16, length)
