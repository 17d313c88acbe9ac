"""The pumps: what is in one object comes to be in another, whatever the descriptor is like."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.device import FileDevice, create_file
from core.pool.engine import Pool
from core.stream import layout
from core.stream.frame import StreamError
from core.stream.inflow import Inflow
from core.stream.outflow import Outflow
from core.wire.reactor import Reactor
from tests.support.waiting import until

MIB = 1 << 20
BLOCK = 4096
SIZE = 32 * MIB
EXTENTS, MARK = 2, 4                # types of frames


class Served:
    """A pool in memory with a reactor, and operations that are waited for."""

    def __init__(self, path: Path) -> None:
        create_file(path, 256 * MIB)
        self.device = FileDevice(path)
        Pool.create(self.device, name="test", size_bytes=256 * MIB)
        self.pool = Pool(self.device)
        self.reactor = Reactor(self.pool)
        self.reactor.start()

    def call(self, op: str, **args: Any) -> Any:
        token = self.pool.start(op, **args)
        while (done := self.pool.take(token)) is None:
            time.sleep(0.0002)
        assert done.code == "ok", (op, done)
        return done.value

    def rows(self, since_id: int, object_id: int, limit: int = 4096) -> bytes:
        found, at = b"", 0
        while at is not None:
            rows, at = self.call("changes", since_id=since_id, object_id=object_id, offset_bytes=at, limit=limit)
            found += rows
        return found

    def close(self) -> None:
        self.reactor.stop()
        self.pool.abandon()
        self.device.close()


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = Path("/dev/shm") / f"lunette-pumps-{os.getpid()}-{time.monotonic_ns()}"
    made = Served(path)
    try:
        yield made
    finally:
        made.close()
        path.unlink()


def read(served: Served, object_id: int) -> bytes:
    size = served.pool.info(object_id).size_bytes
    return b"".join(served.call("read", object_id=object_id, offset_bytes=at, length_bytes=min(16 * MIB, size - at))
                    for at in range(0, size, 16 * MIB))


def scattered(served: Served, volume: int, seed: int, count: int) -> None:
    """Data, zeros and holes here and there."""
    r = random.Random(seed)
    for _ in range(count):
        offset, length = r.randrange(SIZE // BLOCK) * BLOCK, r.choice((1, 1, 1, 3, 40)) * BLOCK
        length = min(length, SIZE - offset)
        kind = r.random()
        if kind < 0.15:
            served.call("unmap", object_id=volume, offset_bytes=offset, length_bytes=length)
        else:
            served.call("write", object_id=volume, offset_bytes=offset,
                        data=bytes(length) if kind < 0.3 else r.randbytes(BLOCK) * (length // BLOCK))


def send(served: Served, fd: int, cancel: int, since_id: int, object_id: int, *, packing: bool = False) -> threading.Thread:
    """All of a stream, written as it is made."""
    out = Outflow(served.pool, fd, cancel, stream=7, pack="zstd" if packing else "none")
    rows = served.rows(since_id, object_id)
    size = served.pool.info(object_id).size_bytes

    def work() -> None:
        out.open()
        try:
            out.begin(object_id, offset=0, span=size, text=b"{}")
            out.feed(rows)
            while not out.make():
                pass
            out.end(size, False)
            out.flush()
        finally:
            out.close()
            os.close(fd)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def receive(served: Served, fd: int, cancel: int, object_id: int, *, comparing: bool = False) -> list[str]:
    inflow, seen = Inflow(served.pool, fd, cancel), []
    inflow.open()
    try:
        while True:
            taken = inflow.take()
            seen.append(taken.type)
            if taken.type == "begin":
                inflow.into(object_id, 0, comparing)
            if taken.type == "end":
                return seen
    finally:
        inflow.close()


@pytest.mark.parametrize("packing", [False, True])
def test_what_changed_comes_over(served: Served, packing: bool) -> None:
    volume = served.call("create", name="v", size_bytes=SIZE)
    copy = served.call("create", name="copy", size_bytes=SIZE)
    served.call("write", object_id=volume, offset_bytes=8 * MIB, data=random.Random(1).randbytes(9 * MIB))
    scattered(served, volume, 2, 300)
    cancel = os.eventfd(0)
    since = 0
    for round_ in range(2):
        snap = served.call("snapshot", pairs=[(volume, f"v@{round_}")])[0]
        r, w = os.pipe()
        send(served, w, cancel, since, snap, packing=packing)
        seen = receive(served, r, cancel, copy)
        os.close(r)
        assert seen[0] == "begin"
        assert read(served, copy) == read(served, snap)
        assert served.pool.info(copy).mapped_bytes == served.pool.info(snap).mapped_bytes    # holes stay holes
        since = snap
        scattered(served, volume, 10 + round_, 100)
        served.call("unmap", object_id=volume, offset_bytes=18 * MIB, length_bytes=8 * MIB)
    os.close(cancel)


def mappings(path: str) -> int:
    """How often a file is mapped here."""
    return sum(line.rstrip().endswith(path) for line in Path("/proc/self/maps").read_text().splitlines())


def test_threads_have_one_mapping_of_a_pool_in_memory_and_the_last_one_takes_it_along(served: Served) -> None:
    path, cancel = os.readlink(f"/proc/self/fd/{served.device.fileno()}"), os.eventfd(0)
    inflows = [Inflow(served.pool, cancel, cancel) for _ in range(2)]
    assert mappings(path) == 1                          # the reactor's
    for each in inflows:
        each.open()
    assert mappings(path) == 1
    served.reactor.stop()
    inflows[0].close()
    assert mappings(path) == 1                          # the other one reads through it still
    inflows[1].close()
    assert mappings(path) == 0
    os.close(cancel)


def test_streams_do_not_take_each_other_for_initiators(served: Served) -> None:
    volume = served.call("create", name="v", size_bytes=SIZE)
    copy = served.call("create", name="copy", size_bytes=SIZE)
    scattered(served, volume, 3, 50)
    snap = served.call("snapshot", pairs=[(volume, "v@1")])[0]
    r, w, cancel = *os.pipe(), os.eventfd(0)
    before = served.pool.stats()["requests"]
    send(served, w, cancel, 0, snap)
    receive(served, r, cancel, copy)
    assert served.pool.stats()["requests"] == before
    served.call("flush")
    assert served.pool.stats()["requests"] == before + 1
    for fd in (r, cancel):
        os.close(fd)


@contextlib.contextmanager
def busy(served: Served) -> Iterator[None]:
    """Somebody sends commands all the time."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            served.call("flush")
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()


def sent(served: Served, path: Path, cancel: int, object_id: int) -> bytes:
    send(served, os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), cancel, 0, object_id).join()
    return path.read_bytes()


def headers(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Type, span and place of each frame."""
    at = 0
    while at < len(stream):
        yield stream[at + 6], int.from_bytes(stream[at + 32:at + 40], "little"), at
        at += 64 + int.from_bytes(stream[at + 48:at + 52], "little")


def shortest(stream: bytes) -> int:
    return min(span for kind, span, _ in headers(stream) if kind == EXTENTS)


def test_beside_initiators_little_is_under_way_at_once_and_all_of_it_comes_over(served: Served, tmp_path: Path) -> None:
    volume = served.call("create", name="v", size_bytes=SIZE)
    for at in range(0, SIZE, 8 * MIB):
        served.call("write", object_id=volume, offset_bytes=at, data=random.Random(at).randbytes(8 * MIB))
    snap = served.call("snapshot", pairs=[(volume, "v@1")])[0]
    cancel = os.eventfd(0)
    alone = sent(served, tmp_path / "s", cancel, snap)
    assert shortest(alone) == 2 * MIB
    for comparing in (False, True):
        copy = served.call("create", name=f"copy{comparing}", size_bytes=SIZE)
        served.call("write", object_id=copy, offset_bytes=4 * MIB, data=b"other" * MIB if comparing else b"")
        with busy(served):
            until(lambda: shortest(sent(served, tmp_path / "s", cancel, snap)) <= MIB // 2)     # it has noticed them
            fd = os.open(tmp_path / "s", os.O_RDONLY)
            assert receive(served, fd, cancel, copy, comparing=comparing)[-1] == "end"
            os.close(fd)
        assert read(served, copy) == read(served, snap)
    os.close(cancel)


def test_a_whole_stream_leaves_nothing_of_what_was_there(served: Served, tmp_path: Path) -> None:
    """What it does not speak of becomes a hole: between its extents, between spans, behind the last one."""
    volume = served.call("create", name="v", size_bytes=SIZE)
    copy = served.call("create", name="copy", size_bytes=SIZE)
    for at, length in ((4 * MIB, 3 * MIB), (12 * MIB + 3 * BLOCK, BLOCK), (12 * MIB + 9 * BLOCK, 2 * BLOCK), (20 * MIB, BLOCK)):
        served.call("write", object_id=volume, offset_bytes=at, data=b"v" * length)
    for at in range(0, SIZE, 8 * MIB):
        served.call("write", object_id=copy, offset_bytes=at, data=b"o" * (8 * MIB))
    snap = served.call("snapshot", pairs=[(volume, "v@1")])[0]
    cancel = os.eventfd(0)
    sent(served, tmp_path / "s", cancel, snap)
    fd = os.open(tmp_path / "s", os.O_RDONLY)
    assert receive(served, fd, cancel, copy, comparing=True)[-1] == "end"
    os.close(fd)
    os.close(cancel)
    assert read(served, copy) == read(served, snap)
    assert served.pool.info(copy).mapped_bytes == served.pool.info(snap).mapped_bytes


def test_zeros_without_end_are_compared_within_bounded_memory(served: Served, tmp_path: Path) -> None:
    """They take no room in a stream, and as much as data where they are read to be compared."""
    volume = served.call("create", name="v", size_bytes=SIZE)
    copy = served.call("create", name="copy", size_bytes=SIZE)
    for at in range(0, SIZE, 8 * MIB):
        served.call("write", object_id=volume, offset_bytes=at, data=bytes(8 * MIB))
        served.call("write", object_id=copy, offset_bytes=at, data=b"o" * (8 * MIB))
    snap = served.call("snapshot", pairs=[(volume, "v@1")])[0]
    cancel = os.eventfd(0)
    assert len(sent(served, tmp_path / "s", cancel, snap)) < MIB
    fd = os.open(tmp_path / "s", os.O_RDONLY)
    assert receive(served, fd, cancel, copy, comparing=True)[-1] == "end"
    os.close(fd)
    os.close(cancel)
    assert read(served, copy) == bytes(SIZE)


def test_what_a_resume_sends_again_is_bounded_by_marks(served: Served, tmp_path: Path) -> None:
    size = 160 * MIB
    volume = served.call("create", name="v", size_bytes=size)
    for at in range(0, size, 8 * MIB):
        served.call("write", object_id=volume, offset_bytes=at, data=random.Random(at).randbytes(BLOCK) * (8 * MIB // BLOCK))
    snap = served.call("snapshot", pairs=[(volume, "v@1")])[0]
    cancel = os.eventfd(0)
    stream = sent(served, tmp_path / "s", cancel, snap)
    os.close(cancel)
    places = [0, *(at for kind, _, at in headers(stream) if kind == MARK), len(stream)]
    assert len(places) >= 4
    assert max(after - before for before, after in itertools.pairwise(places)) <= layout.MARK_BYTES


def test_a_wait_for_either_end_is_cut_short(served: Served) -> None:
    volume = served.call("create", name="v", size_bytes=SIZE)
    served.call("write", object_id=volume, offset_bytes=0, data=b"full" * MIB)      # more than a pipe holds
    cancel = os.eventfd(0)
    r, w = os.pipe()
    out = Outflow(served.pool, w, cancel, stream=7)
    out.open()
    out.begin(volume, offset=0, span=SIZE, text=b"{}")
    out.feed(served.rows(0, volume))
    assert out.make()
    threading.Timer(0.05, lambda: os.eventfd_write(cancel, 1)).start()
    with pytest.raises(OSError, match="ancel"):
        out.flush()
    with pytest.raises(OSError, match="ancel"):
        out.plain("keepalive")
    out.close()
    for fd in (r, w):
        os.close(fd)
    r, w = os.pipe()
    with pytest.raises(OSError, match="ancel"):
        receive(served, r, cancel, 0)
    for fd in (r, w, cancel):
        os.close(fd)


def test_a_stream_that_ends_early_or_is_damaged_is_told(served: Served, tmp_path: Path) -> None:
    volume = served.call("create", name="v", size_bytes=SIZE)
    copy = served.call("create", name="copy", size_bytes=SIZE)
    scattered(served, volume, 5, 60)
    snap = served.call("snapshot", pairs=[(volume, "v@1")])[0]
    cancel = os.eventfd(0)
    path = tmp_path / "stream"
    send(served, os.open(path, os.O_CREAT | os.O_WRONLY), cancel, 0, snap).join()
    whole = path.read_bytes()
    broken = tmp_path / "broken"
    for change, code in ((whole[:-1], "truncated"), (whole[:len(whole) // 2], "truncated"), (b"", "truncated"),
                         (whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], "body")):
        broken.write_bytes(change)
        fd = os.open(broken, os.O_RDONLY)
        with pytest.raises(StreamError) as error:
            receive(served, fd, cancel, copy)
        os.close(fd)
        assert error.value.code == code
    fd = os.open(path, os.O_RDONLY)
    assert receive(served, fd, cancel, copy)[-1] == "end"
    os.close(fd)
    os.close(cancel)
    assert read(served, copy) == read(served, snap)
