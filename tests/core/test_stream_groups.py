"""Groups of blocks as streams: what is spread is gathered again, whatever the pieces; what is no stream ends it."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import threading

import pytest

from core.stream import runs as placed
from core.stream.frame import StreamError, Taken, encode
from core.stream.gathering import Gathered, Gathering
from core.stream.spreading import Spreading

BLOCK = 4096
GROUP = 2048                    # blocks, of four spans
SIZE = 5 * GROUP * BLOCK


def made(source: random.Random) -> tuple[bytes, dict[int, bytes]]:
    """A stream of groups 0, 1 and 3 of 5, and its blocks."""
    frames, room = Spreading(7), bytearray(3 << 20)
    stream, blocks = frames.plain("begin", span=SIZE, payload=b"{}"), {}
    for group in (0, 1, 3):
        runs, at = b"", source.randrange(3)
        while at < GROUP:
            count = min(source.choice((1, 1, 2, 700)), GROUP - at)
            runs += struct.pack("<IIII", at, count, 0, 0)
            at += count + source.choice((0, 1, 5, 300))
        data = source.randbytes(placed.end_block(runs) * BLOCK)
        frames.group(group * GROUP, runs, data)
        while n := frames.make(room):
            stream += room[:n]
        for first, count, _, _ in struct.iter_unpack("<IIII", runs):
            for block in range(first, first + count):
                blocks[group * GROUP + block] = data[block * BLOCK:(block + 1) * BLOCK]
        stream += frames.plain("mark", offset=(group + 1) * GROUP * BLOCK)
    return stream + frames.end(SIZE, False), blocks


class Fed:
    """A Gathering of these bytes, which come by a pipe."""

    def __init__(self, stream: bytes, chunk_blocks: int) -> None:
        self._reading, self._writing = os.pipe()
        self._cancel = os.eventfd(0)
        self.gathering = Gathering(self._reading, self._cancel, group_blocks=GROUP, chunk_blocks=chunk_blocks)
        self._thread = threading.Thread(target=self._feed, args=[stream])

    def _feed(self, stream: bytes) -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._writing, "wb", buffering=0) as file:
            file.write(stream)

    def __enter__(self) -> Gathering:
        self.gathering.open()
        self._thread.start()
        return self.gathering

    def __exit__(self, *_: object) -> None:
        self.gathering.close()
        os.close(self._reading)
        self._thread.join()
        os.close(self._cancel)


def to_the_end(gathering: Gathering) -> None:
    while not isinstance(taken := gathering.take(), Taken) or taken.type != "end":
        pass


@pytest.mark.parametrize("chunk_blocks", [1, 7, 512])
def test_what_is_spread_is_gathered_again_by_groups(chunk_blocks: int) -> None:
    stream, blocks = made(random.Random(chunk_blocks))
    found: dict[int, bytes] = {}
    over: dict[int, bytes] = {}
    with Fed(stream, chunk_blocks) as gathering:
        assert isinstance(begin := gathering.take(), Taken)
        assert (begin.type, begin.span, begin.payload) == ("begin", SIZE, b"{}")
        while isinstance(taken := gathering.take(), Gathered):
            assert taken.group not in over
            assert len(taken.data) <= chunk_blocks * BLOCK
            for first, count, frame, at in struct.iter_unpack("<IIII", taken.runs):
                assert frame == 0
                for block in range(count):
                    assert taken.group * GROUP + first + block not in found
                    found[taken.group * GROUP + first + block] = taken.data[(at + block) * BLOCK:(at + block + 1) * BLOCK]
            if taken.cuts is not None:
                over[taken.group] = taken.cuts
        assert taken.type == "end"
    assert found == blocks
    assert list(over) == [0, 1, 3]
    assert {group * GROUP + block for group, cuts in over.items() for first, behind in struct.iter_unpack("<II", cuts)
            for block in range(first, behind)} == blocks.keys()


def test_holes_and_zeros_are_cuts_without_data_and_a_long_hole_is_one_of_each_group() -> None:
    frames = Spreading(9)
    stream = frames.plain("begin", span=SIZE, payload=b"{}")
    table = [(1, 2, "hole"), (0, 3, "zero"), (1, 1, "data")]
    stream += frames.plain("extents", offset=0, span=8 * BLOCK, extents=table, payload=b"x" * BLOCK)
    stream += frames.plain("hole", offset=16 * BLOCK, span=(2 * GROUP + 16) * BLOCK)
    frames.plain("keepalive")       # it is not sent: the stream is broken behind
    with Fed(stream + frames.plain("mark", offset=SIZE), 512) as gathering:
        gathering.take()
        taken = [gathering.take() for _ in range(2)]
        assert [(each.group, each.data, each.cuts) for each in taken if isinstance(each, Gathered)] == [
            (0, b"x" * BLOCK, struct.pack("<IIIIII", 1, 6, 7, 8, 16, GROUP)), (1, b"", struct.pack("<II", 0, GROUP))]
        with pytest.raises(StreamError):
            to_the_end(gathering)


@pytest.mark.parametrize("cut", [0, 3, 70, 5000, -1, -70])
def test_a_stream_that_is_cut_or_changed_has_no_end(cut: int) -> None:
    stream, _ = made(random.Random(3))
    with Fed(stream[:cut], 512) as gathering, pytest.raises(StreamError, match="ends before its end"):
        to_the_end(gathering)
    hurt = bytearray(stream)
    hurt[cut] ^= 1
    with Fed(bytes(hurt), 512) as gathering, pytest.raises(StreamError):
        to_the_end(gathering)


def test_an_error_and_a_wait_that_is_cut_short_are_told() -> None:
    error = encode("error", stream=3, sequence=0, payload=b'{"code":"io_read"}')
    with Fed(error, 512) as gathering:
        assert isinstance(taken := gathering.take(), Taken)
        assert (taken.type, taken.payload) == ("error", b'{"code":"io_read"}')
    reading, writing = os.pipe()
    cancel = os.eventfd(0)
    gathering = Gathering(reading, cancel, group_blocks=GROUP, chunk_blocks=512)
    gathering.open()
    os.eventfd_write(cancel, 1)
    with pytest.raises(OSError, match="ancel"):
        gathering.take()
    gathering.close()
    for each in (reading, writing, cancel):
        os.close(each)
