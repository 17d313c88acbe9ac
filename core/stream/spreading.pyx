"""A stream of what runs say: blocks that lie in memory as EXTENTS frames in a buffer, for who has no pool to read them from.

Lives here and nowhere else: how runs of a group (core/stream/runs.pyx) become frames. One thread makes them.
"""
from core.base.native cimport lnt_put_le16
from core.stream.frame cimport (
    KIND_DATA, KIND_HOLE, ST_EXTENTS, SX_BLOCKS, SX_DELTA, SX_KIND, S_EXTENT_BYTES, S_HEADER_BYTES, body_write,
    lnt_stream_header,
)
from core.stream.framing cimport Framing
from core.stream.runs cimport FRAME_NONE, lnt_placed_run
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset

cdef enum:
    BLOCK = 4096
    SPAN_BLOCKS = 512


cdef class Spreading(Framing):
    cdef bytes runs
    cdef const unsigned char[::1] data
    cdef uint64_t group_block         # where the group begins in its object
    cdef uint32_t run, into, count    # the run under way, how much of it was said
    cdef uint32_t[512] starts         # of the frame under way: blocks of the group
    cdef uint32_t[512] lengths
    cdef uint8_t[512] kinds

    def group(self, uint64_t group_block, bytes runs not None, const unsigned char[::1] data not None):
        """What follows: runs, in order, of the blocks in `data`, which begin at `group_block`, a multiple of 512, or of holes."""
        cdef const char *raw = runs
        cdef const lnt_placed_run *run = <const lnt_placed_run *>raw
        cdef uint32_t i
        self.count = <uint32_t>(len(runs) // sizeof(lnt_placed_run))
        if group_block % SPAN_BLOCKS:
            raise ValueError("a group begins within a span")
        for i in range(self.count):
            if run[i].frame != FRAME_NONE and (<uint64_t>run[i].block + run[i].blocks) * BLOCK > <uint64_t>data.shape[0]:
                raise ValueError("runs reach beyond their data")
        self.runs, self.data = runs, data
        self.group_block = group_block
        self.run = self.into = 0

    def make(self, unsigned char[::1] out not None):
        """Fill `out`, which has room for a frame, with frames: how many bytes. 0: the group is over."""
        cdef const char *raw = self.runs
        cdef const uint8_t *data = &self.data[0] if self.data.shape[0] else NULL
        cdef uint64_t room = out.shape[0], n = 0, part
        with nogil:
            while not self.full():
                part = self.frame(<const lnt_placed_run *>raw, data, &out[0] + n, room - n)
                if part == 0:
                    break
                n += part
        self.add_up()
        return n

    cdef uint64_t frame(self, const lnt_placed_run *runs, const uint8_t *data, uint8_t *to, uint64_t room) noexcept nogil:
        """The next span's. How many bytes; 0: there is no room, or no more to say."""
        cdef uint32_t run = self.run, into = self.into, extents = 0, blocks = 0
        cdef uint64_t block, span_end = 0, part
        cdef uint8_t kind
        while run < self.count:
            block = runs[run].block + into
            if span_end == 0:
                span_end = (block // SPAN_BLOCKS + 1) * SPAN_BLOCKS
            elif block >= span_end:
                break
            part = runs[run].blocks - into
            if part > span_end - block:
                part = span_end - block
            kind = KIND_HOLE if runs[run].frame == FRAME_NONE else KIND_DATA
            if extents and self.starts[extents - 1] + self.lengths[extents - 1] == block and self.kinds[extents - 1] == kind:
                self.lengths[extents - 1] += <uint32_t>part
            else:
                self.starts[extents], self.lengths[extents], self.kinds[extents] = <uint32_t>block, <uint32_t>part, kind
                extents += 1
            blocks += <uint32_t>part if kind == KIND_DATA else 0
            into += <uint32_t>part
            if into == runs[run].blocks:
                run += 1
                into = 0
        if extents == 0 or S_HEADER_BYTES + extents * S_EXTENT_BYTES + <uint64_t>blocks * BLOCK > room:
            return 0
        self.run, self.into = run, into
        return self.write(extents, blocks, data, to)

    cdef uint64_t write(self, uint32_t extents, uint32_t blocks, const uint8_t *data, uint8_t *to) noexcept nogil:
        cdef lnt_stream_header h
        cdef uint8_t *entry = to + S_HEADER_BYTES
        cdef uint8_t *payload = entry + extents * S_EXTENT_BYTES
        cdef uint32_t i, at = self.starts[0], last = extents - 1
        cdef uint64_t length
        self.header(&h, ST_EXTENTS, (self.group_block + at) * BLOCK,
                    <uint64_t>(self.starts[last] + self.lengths[last] - at) * BLOCK)
        memset(entry, 0, extents * S_EXTENT_BYTES)
        for i in range(extents):
            lnt_put_le16(entry + SX_DELTA, <uint16_t>(self.starts[i] - at))
            lnt_put_le16(entry + SX_BLOCKS, <uint16_t>self.lengths[i])
            entry[SX_KIND] = self.kinds[i]
            length = <uint64_t>self.lengths[i] * BLOCK
            if self.kinds[i] == KIND_DATA:
                memcpy(payload, data + <uint64_t>self.starts[i] * BLOCK, length)
                payload += length
            else:
                self.hole_bytes += length
            at = self.starts[i] + self.lengths[i]
            entry += S_EXTENT_BYTES
        h.extents = extents
        h.raw_bytes = <uint32_t>(extents * S_EXTENT_BYTES + blocks * BLOCK)
        body_write(NULL, &h, to + S_HEADER_BYTES, to + S_HEADER_BYTES, False)
        self.data_bytes += <uint64_t>blocks * BLOCK
        return self.seal(&h, to)
