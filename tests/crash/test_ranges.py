"""Range locks (docs/concurrency.md): what has a range alone is one step; nobody waits for ever, and nobody for each other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.crash.rig import BLOCK, Config, Rig
from tests.support.serial import Act, ordered

LEAF = 2 << 20
LEAVES = 200
CONFIG = Config(size_bytes=64 << 20, checked=False)


class Scene:
    """Two volumes with a block in each of many leaves; requests are performed when the test says so."""

    def __init__(self) -> None:
        self.pool = Rig(1, CONFIG).pool
        self.codes: dict[int, str] = {}
        self.order: list[int] = []
        self.held: set[int] = set()
        for name in ("v", "s"):
            number = self.pool.call("create", name=name, size_bytes=LEAVES * LEAF)
            for leaf in range(LEAVES):
                self.start("write", object_id=number, offset_bytes=leaf * LEAF, data=name.encode() * BLOCK)
        self.run()
        self.pool.call("flush")

    def start(self, kind: str, **args: Any) -> int:
        token: int = self.pool.start(kind, **args)
        return token

    def compare(self, offset: int, expected: bytes, data: bytes) -> int:
        return self.start("compare_and_write", object_id=1, offset_bytes=offset, expected=expected, data=data)

    def run(self, turns: int = 400) -> None:
        for _ in range(turns):
            self.pool.turn()
            for done in self.pool.reap():
                self.codes[done.token] = done.code
                self.order.append(done.token)
            for io_id, *_ in self.pool.pending_io():
                if io_id not in self.held:
                    self.pool.perform(io_id)

    def hold(self, kind: str) -> None:
        """Turn until the first request of this kind is pending; it stays so."""
        while not self.held:
            self.pool.turn()
            self.held = {io_id for io_id, what, *_ in self.pool.pending_io() if what == kind}

    def read(self, offset: int, length: int = BLOCK) -> bytes:
        found: bytes = self.pool.call("read", object_id=1, offset_bytes=offset, length_bytes=length)
        return found


@pytest.mark.parametrize("kind", ["unmap", "share", "revert", "write", "read", "write_atomic"])
def test_what_comes_later_waits_for_a_comparison(kind: str) -> None:
    scene = Scene()
    (snapshot,) = scene.pool.call("snapshot", pairs=[(1, "v@s")])
    at = (LEAVES - 1) * LEAF
    alone = scene.compare(at, b"v" * BLOCK, b"n" * BLOCK)
    scene.hold("read")
    args: dict[str, Any] = {
        "unmap": {"object_id": 1, "offset_bytes": 0, "length_bytes": LEAVES * LEAF},
        "share": {"dst_id": 1, "dst_offset_bytes": 0, "src_id": 2, "src_offset_bytes": 0, "length_bytes": LEAVES * LEAF},
        "revert": {"volume_id": 1, "snapshot_id": snapshot},
        "write": {"object_id": 1, "offset_bytes": at, "data": b"w" * BLOCK},
        "write_atomic": {"object_id": 1, "offset_bytes": at, "data": b"w" * BLOCK},
        "read": {"object_id": 1, "offset_bytes": at, "length_bytes": BLOCK}}[kind]
    other = scene.start(kind, **args)
    scene.run()
    assert not {alone, other} & set(scene.codes), "the range is taken"
    scene.held.clear()
    scene.run()
    assert scene.codes[alone] == scene.codes[other] == "ok"
    left = {"unmap": b"\0", "share": b"s", "revert": b"v", "read": b"n"}.get(kind, b"w")
    assert scene.read(at) == left * BLOCK


def test_a_comparison_waits_for_what_is_under_way() -> None:
    """An UNMAP has cleared one side of a border of leaves; nobody finds the other side still full."""
    for turns in range(1, 8):
        scene = Scene()
        scene.pool.call("write", object_id=1, offset_bytes=65 * LEAF - BLOCK, data=b"v" * BLOCK)
        other = scene.start("unmap", object_id=1, offset_bytes=0, length_bytes=LEAVES * LEAF)
        for _ in range(turns):
            scene.pool.turn()
        torn = scene.compare(65 * LEAF - BLOCK, bytes(BLOCK) + b"v" * BLOCK, b"n" * 2 * BLOCK)
        scene.run()
        assert scene.codes[other] == "ok"
        assert scene.codes[torn] == "miscompare"
        assert scene.read(65 * LEAF - BLOCK, 2 * BLOCK) == bytes(2 * BLOCK)


@pytest.mark.parametrize("kind", ["unmap", "snapshot", "read", "share"])
def test_a_row_of_comparisons_holds_nobody_up(kind: str) -> None:
    """Each begins before the one before it has ended: who came amid them is served amid them."""
    scene = Scene()
    args: dict[str, Any] = {
        "unmap": {"object_id": 1, "offset_bytes": 0, "length_bytes": LEAVES * LEAF}, "snapshot": {"pairs": [(1, "v@s")]},
        "read": {"object_id": 1, "offset_bytes": 0, "length_bytes": 2 * BLOCK},
        "share": {"dst_id": 1, "dst_offset_bytes": 0, "src_id": 2, "src_offset_bytes": 0, "length_bytes": LEAVES * LEAF}}[kind]
    row = [scene.compare(0, b"v" * BLOCK, b"v" * BLOCK) for _ in range(3)]
    other = scene.start(kind, **args)
    for _ in range(200):
        row.append(scene.compare(0, b"v" * BLOCK, b"v" * BLOCK))
        scene.run(2)
        if other in scene.codes:
            break
    scene.run()
    assert scene.codes[other] == "ok"
    assert scene.order.index(other) < scene.order.index(row[-1]), "it was served behind all of them"
    assert set(row) <= set(scene.codes)


def test_copies_both_ways_beside_comparisons_end() -> None:
    """What needs several ranges takes its places at one instant: no circle of those who wait."""
    scene = Scene()
    ends: list[int] = []
    for round_ in range(12):
        for dst, src in ((1, 2), (2, 1)):
            ends.append(scene.start("share", dst_id=dst, dst_offset_bytes=0, src_id=src, src_offset_bytes=0,
                                    length_bytes=LEAVES * LEAF))
            for number in (1, 2):
                ends.append(scene.start("write_atomic", object_id=number, offset_bytes=round_ * LEAF, data=b"a" * BLOCK))
        ends.append(scene.start("snapshot", pairs=[(1, f"v@{round_}"), (2, f"s@{round_}")]))
        scene.run(round_ % 4)
    scene.run(2000)
    assert [scene.codes.get(token) for token in ends] == ["ok"] * len(ends)


def test_a_place_is_left_when_the_object_goes() -> None:
    scene = Scene()
    alone = scene.compare(0, b"v" * BLOCK, b"n" * BLOCK)
    scene.hold("read")
    late = [scene.start("unmap", object_id=1, offset_bytes=0, length_bytes=LEAVES * LEAF),
            scene.compare(0, b"n" * BLOCK, b"m" * BLOCK),
            scene.start("read", object_id=1, offset_bytes=0, length_bytes=BLOCK)]
    gone = scene.start("delete", object_id=1)
    scene.run()
    assert scene.codes[gone] == "ok"
    scene.held.clear()
    scene.run()
    assert [scene.codes[token] for token in (alone, *late)] == ["gone"] * 4


# -- the judge -------------------------------------------------------------------------------------------------------

def test_the_judge_of_serial_order() -> None:
    """A comparison that saw one side of an unmap behind it and one before it has no place; one behind or before all has."""
    old, gone = {0: 1, 1: 2}, {0: 0, 1: 0}
    unmap = Act(1, 9, writes=gone)

    def compare(*saw: int, start: int = 2, end: int = 5) -> Act:
        return Act(start, end, True, writes={0: 7, 1: 8}, reads=dict(enumerate(saw)))

    assert ordered(old, [unmap, compare(1, 2)], gone)
    assert ordered(old, [unmap, compare(0, 0)], {0: 7, 1: 8})
    assert not ordered(old, [unmap, compare(1, 2)], {0: 7, 1: 8}), "the unmap came behind it"
    assert not ordered(old, [unmap, compare(0, 2)], {0: 7, 1: 0}), "half of the unmap before it"
    assert not ordered(old, [unmap, compare(1, 2)], {0: 0, 1: 8}), "half of it undone"
    assert not ordered(old, [unmap, compare(0, 0, start=-2, end=0)], gone), "it ended before the unmap began"
    refuted = Act(2, 5, True, refuted={0: 1})
    assert ordered(old, [unmap, refuted], gone)
    assert not ordered(old, [refuted], old), "nothing was there but what it expected"
    write = Act(1, 9, writes={0: 5, 1: 6})
    assert ordered(old, [unmap, write], {0: 5, 1: 0}), "neither of them is one step"
    assert not ordered(old, [unmap, Act(1, 9, True, writes={0: 5, 1: 6})], {0: 5, 1: 0}), "one of them is"
    assert ordered({0: 1, 1: 2, 2: 3}, [Act(1, 9, copies={0: 2}), Act(2, 3, writes={2: 4})], {0: 4, 1: 2, 2: 4})


