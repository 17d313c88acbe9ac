"""What a stream says of a snapshot, by groups of blocks, for who keeps it elsewhere than in a pool (docs/repositories.md).

Lives here and nowhere else: how frames become chunks of data and the runs that say where each block belongs. Frames arrive ahead,
on a thread of their own (core/stream/arrivals.pyx); nothing is done for a single extent with the GIL.
"""
from core.base.memory cimport mem_new
from core.base.native cimport lnt_get_le16
from core.stream.arrivals cimport arrivals_close, arrivals_free, arrivals_open, arrivals_wait, lnt_arrivals, lnt_arrived
from core.stream.frame cimport (
    FLAG_MORE, KIND_DATA, SE_ORDER, SN_SHA256, ST_BEGIN, ST_END, ST_ERROR, ST_EXTENTS, ST_HOLE, SX_BLOCKS, SX_DELTA,
    SX_KIND, S_EXTENT_BYTES,
)
from core.stream.runs cimport lnt_interval, lnt_placed_run
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy

import hashlib
import os
from typing import NamedTuple

from core.stream.frame import StreamError, Taken

cdef enum:
    BLOCK = 4096
    CRCS = 16384                  # headers seen before Python adds them up
    GO_ON = 0                     # why the thread returns to Python: the checksums are to be added up ...
    CHUNK = 1                     # ... a chunk is full, or its group is over
    DECIDES = 2                   # ... a frame that is Python's
    FAILED = 3


class Gathered(NamedTuple):
    group: int
    runs: bytes
    data: bytes
    cuts: bytes | None


cdef class Gathering:
    cdef lnt_arrivals arrivals
    cdef int fd, cancel, rc
    cdef lnt_arrived *frame           # under way
    cdef uint32_t entry               # of its table, the next
    cdef const uint8_t *payload
    cdef uint64_t block, left         # of the extent under way
    cdef bint is_data
    cdef uint64_t group, group_blocks
    cdef uint32_t chunk_blocks, blocks, n_runs, n_cuts
    cdef uint8_t *data
    cdef lnt_placed_run *runs
    cdef lnt_interval *cuts
    cdef uint32_t *crcs
    cdef uint32_t n_crcs
    cdef object digest

    def __cinit__(self, int fd, int cancel, *, uint32_t group_blocks, uint32_t chunk_blocks):
        self.fd, self.cancel = fd, cancel
        self.group_blocks, self.chunk_blocks = group_blocks, chunk_blocks
        self.digest = hashlib.sha256()
        self.data = <uint8_t *>mem_new(<uint64_t>chunk_blocks * BLOCK)
        self.runs = <lnt_placed_run *>mem_new(chunk_blocks * sizeof(lnt_placed_run))
        self.cuts = <lnt_interval *>mem_new((group_blocks // 2 + 1) * sizeof(lnt_interval))
        self.crcs = <uint32_t *>mem_new(CRCS * sizeof(uint32_t))
        if not (self.data and self.runs and self.cuts and self.crcs):
            raise MemoryError

    def __dealloc__(self):
        arrivals_close(&self.arrivals)
        free(self.data)
        free(self.runs)
        free(self.cuts)
        free(self.crcs)

    def open(self):
        cdef int rc
        with nogil:
            rc = arrivals_open(&self.arrivals, self.fd, self.cancel)
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))

    def close(self):
        with nogil:
            arrivals_close(&self.arrivals)

    def take(self):
        """The next chunk, or a frame that is to be decided about."""
        cdef int why
        while True:
            with nogil:
                why = self.gather()
            if why == CHUNK:
                return self.chunk()
            if why == FAILED:
                if self.rc < 0:
                    raise OSError(-self.rc, os.strerror(-self.rc))
                raise StreamError(self.rc)
            self.add_up(why == DECIDES)
            if why == DECIDES:
                return self.taken()

    cdef int add_up(self, bint last) except -1:
        """What headers have come, the last of them perhaps an END, which says what all before it must be."""
        crcs, self.n_crcs = (<const char *>self.crcs)[:4 * self.n_crcs], 0
        if last and self.frame.h.type == ST_END:
            self.digest.update(crcs[:-4])
            if self.frame.raw[SN_SHA256:SN_SHA256 + 32] != self.digest.digest():
                raise StreamError(SE_ORDER)
            crcs = crcs[-4:]
        self.digest.update(crcs)
        return 0

    cdef object taken(self):
        h = &self.frame.h
        made = Taken({ST_BEGIN: "begin", ST_END: "end", ST_ERROR: "error"}[h.type], h.offset, h.span, bool(h.flags & FLAG_MORE),
                     (<const char *>self.frame.raw)[:h.raw_bytes] if h.raw_bytes else b"")
        self.let_go()
        return made

    cdef object chunk(self):
        """What was gathered. Its group is over when the extent under way lies in another, or there is none."""
        cdef bint over = self.left == 0 or self.block // self.group_blocks != self.group
        made = Gathered(self.group, (<const char *>self.runs)[:self.n_runs * sizeof(lnt_placed_run)],
                        (<const char *>self.data)[:<uint64_t>self.blocks * BLOCK],
                        (<const char *>self.cuts)[:self.n_cuts * sizeof(lnt_interval)] if over else None)
        self.n_runs = self.blocks = 0
        if over:
            self.n_cuts = 0
        return made

    # -- without the GIL -----------------------------------------------------------------------------------------------
    cdef int gather(self) noexcept nogil:
        """Take extents until a chunk is full, a group is over, or a frame is Python's."""
        while True:
            while self.left:
                if not self.put():
                    return CHUNK
            if self.frame != NULL and self.next_extent():
                continue
            if self.n_crcs == CRCS:
                return GO_ON
            self.let_go()
            self.frame = arrivals_wait(&self.arrivals)
            self.rc = self.frame.rc
            if self.rc:
                self.frame = NULL
                return FAILED
            if self.frame.h.type in (ST_BEGIN, ST_END, ST_ERROR) and self.n_cuts:
                self.frame = NULL               # it is waited for again, and comes at once
                return CHUNK
            self.crcs[self.n_crcs] = self.frame.h.header_crc
            self.n_crcs += 1
            if self.frame.h.type in (ST_BEGIN, ST_END, ST_ERROR):
                return DECIDES
            self.begin_frame()

    cdef void let_go(self) noexcept nogil:
        if self.frame != NULL:
            arrivals_free(&self.arrivals, 1)
            self.frame = NULL

    cdef void begin_frame(self) noexcept nogil:
        self.entry = 0
        self.block = self.frame.h.offset // BLOCK
        if self.frame.h.type == ST_HOLE:
            self.left = self.frame.h.span // BLOCK
            self.is_data = False
        elif self.frame.h.type == ST_EXTENTS:
            self.payload = self.frame.raw + self.frame.h.extents * S_EXTENT_BYTES

    cdef bint next_extent(self) noexcept nogil:
        cdef const uint8_t *entry
        if self.frame.h.type != ST_EXTENTS or self.entry == self.frame.h.extents:
            return False
        entry = self.frame.raw + self.entry * S_EXTENT_BYTES
        self.block += lnt_get_le16(entry + SX_DELTA)
        self.left = lnt_get_le16(entry + SX_BLOCKS)
        self.is_data = entry[SX_KIND] == KIND_DATA      # blocks of zeros read as a hole does, and cost nothing so
        self.entry += 1
        return True

    cdef bint put(self) noexcept nogil:
        """Take of the extent what belongs to this group and has room. False: a chunk is to be taken first."""
        cdef uint64_t group = self.block // self.group_blocks
        cdef uint32_t at = <uint32_t>(self.block % self.group_blocks), part
        if group != self.group:
            if self.n_cuts:
                return False
            self.group = group
        part = <uint32_t>(self.left if self.left < self.group_blocks - at else self.group_blocks - at)
        if self.is_data:
            if self.blocks == self.chunk_blocks:
                return False
            if part > self.chunk_blocks - self.blocks:
                part = self.chunk_blocks - self.blocks
            memcpy(self.data + <uint64_t>self.blocks * BLOCK, self.payload, <uint64_t>part * BLOCK)
            self.add_run(at, part)
            self.payload += <uint64_t>part * BLOCK
            self.blocks += part
        self.add_cut(at, part)
        self.block += part
        self.left -= part
        return True

    cdef void add_run(self, uint32_t at, uint32_t part) noexcept nogil:
        cdef lnt_placed_run *run = &self.runs[self.n_runs - 1] if self.n_runs else NULL
        if run != NULL and run.block + run.blocks == at:
            run.blocks += part
            return
        run = &self.runs[self.n_runs]
        self.n_runs += 1
        run.block, run.blocks, run.frame, run.first = at, part, 0, self.blocks

    cdef void add_cut(self, uint32_t at, uint32_t part) noexcept nogil:
        if self.n_cuts and self.cuts[self.n_cuts - 1].behind == at:
            self.cuts[self.n_cuts - 1].behind += part
            return
        self.cuts[self.n_cuts].first, self.cuts[self.n_cuts].behind = at, at + part
        self.n_cuts += 1
