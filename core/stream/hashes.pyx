"""Hashes of what objects hold, span by span: how two sides without a common snapshot find where they differ.

Lives here and nowhere else: the library's call, and how digests become rows. One thread makes them, as a pump does.
"""
from core.base.memory cimport mem_aligned
from core.base.native cimport lnt_mono_us
from core.base.types cimport OP_READ, lnt_op
from core.pool.engine cimport Pool
from core.stream.pump cimport Pump
from core.stream.worker cimport worker_rest, worker_run, worker_submit
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memset

cdef extern from "<errno.h>":
    int ELIBACC
cdef extern from "stream/digest.h" nogil:
    ctypedef unsigned char *(*lnt_sha256_fn)(const unsigned char *, size_t, unsigned char *) noexcept nogil
    lnt_sha256_fn lnt_sha256_load()

cdef enum:
    BLOCK = 4096
    DIGEST = 32
    SPAN = 2 << 20
    CHUNK = 64 << 10
    IN_SPAN = SPAN // CHUNK
    DATA = 1
    HOLE = 2

DIGEST_BYTES, SPAN_BYTES, CHUNK_BYTES, CHUNKS = DIGEST, SPAN, CHUNK, IN_SPAN

cdef lnt_sha256_fn sha256 = lnt_sha256_load()
cdef uint8_t[DIGEST] of_zeros          # of a chunk that holds nothing else


cdef void hash_zeros(const unsigned char[::1] zeros) noexcept:
    if sha256 != NULL:
        sha256(&zeros[0], CHUNK, of_zeros)


hash_zeros(bytes(CHUNK))


cdef struct lnt_hash_row:              # as walks pack them
    uint64_t start                     # blocks
    uint64_t length
    uint64_t kind


cdef class Hashes(Pump):
    cdef uint8_t *buf

    def __cinit__(self, Pool pool not None):
        self.buf = <uint8_t *>mem_aligned(SPAN)
        if self.buf == NULL:
            raise MemoryError
        if sha256 == NULL:
            raise OSError(ELIBACC, "the library libcrypto.so.3 is not there")

    def __dealloc__(self):
        free(self.buf)

    # -- on the thread -------------------------------------------------------------------------------------------------
    def begin(self, uint64_t object_id):
        self.choose(object_id, "what was compared was deleted")

    def spans(self, uint64_t first, uint32_t count):
        return self.digests(first, count, SPAN)

    def chunks(self, uint64_t span):
        return self.digests(span, 1, CHUNK)

    cdef bytes digests(self, uint64_t first, uint32_t count, uint32_t unit):
        cdef bytearray made = bytearray(count * (SPAN // unit) * DIGEST)
        cdef unsigned char[::1] out = made
        if count:
            with nogil:
                self.hash_spans(first, count, unit, &out[0])
        self.check("byte {} cannot be read")
        return bytes(made)

    # -- without the GIL -----------------------------------------------------------------------------------------------
    cdef void hash_spans(self, uint64_t first, uint32_t count, uint32_t unit, uint8_t *out) noexcept nogil:
        cdef uint64_t began_us
        cdef uint32_t i, at
        for i in range(count):
            began_us = lnt_mono_us()
            self.read_span((first + i) * SPAN)
            if self.w.error:
                return
            for at in range(SPAN // unit):
                sha256(self.buf + at * unit, unit, out)
                out += DIGEST
            worker_rest(&self.w, lnt_mono_us() - began_us)

    cdef void read_span(self, uint64_t offset) noexcept nogil:
        """Behind the object's end it is zeros."""
        cdef lnt_op op
        cdef uint64_t length = 0
        if offset < self.obj.size_bytes:
            length = self.obj.size_bytes - offset
        if length > SPAN:
            length = SPAN
        memset(self.buf + length, 0, SPAN - length)
        if length == 0:
            return
        memset(&op, 0, sizeof(op))
        op.kind = OP_READ
        op.obj = self.obj
        op.offset = offset
        op.length = length
        op.buf = self.buf
        worker_submit(&self.w, &op)
        worker_run(&self.w)


def differing(bytes ours not None, bytes theirs not None, uint64_t first):
    cdef const char *a = ours
    cdef const char *b = theirs
    cdef Py_ssize_t i, n = min(len(ours), len(theirs)) // DIGEST
    return [first + i for i in range(n) if memcmp(a + i * DIGEST, b + i * DIGEST, DIGEST) != 0]


def rows(uint64_t span, bytes ours not None, bytes theirs not None, uint64_t size_bytes):
    cdef lnt_hash_row[IN_SPAN] made
    cdef uint32_t n = 0, i
    cdef uint64_t start, end_block = size_bytes // BLOCK, kind
    cdef const char *a = ours
    cdef const char *b = theirs
    if len(ours) != IN_SPAN * DIGEST or len(theirs) != IN_SPAN * DIGEST:
        raise ValueError("as many digests as a span has chunks are wanted")
    for i in range(IN_SPAN):
        start = (span * SPAN + i * CHUNK) // BLOCK
        if start >= end_block or memcmp(a + i * DIGEST, b + i * DIGEST, DIGEST) == 0:
            continue
        kind = HOLE if memcmp(a + i * DIGEST, of_zeros, DIGEST) == 0 else DATA
        if n and made[n - 1].kind == kind and made[n - 1].start + made[n - 1].length == start:
            made[n - 1].length += CHUNK // BLOCK
        else:
            made[n].start, made[n].length, made[n].kind = start, CHUNK // BLOCK, kind
            n += 1
        if made[n - 1].start + made[n - 1].length > end_block:
            made[n - 1].length = end_block - made[n - 1].start
    return (<const char *>made)[:n * sizeof(lnt_hash_row)]
