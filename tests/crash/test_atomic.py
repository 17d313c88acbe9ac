"""WRITE ATOMIC: after a crash between any two device requests, and to every read meanwhile, all of it is there or nothing."""

from __future__ import annotations

import pytest

from core.errors import PoolError
from tests.crash.rig import BLOCK, SECTOR, Config, Rig, format_disk, open_pool
from tests.support.history import Violation
from tests.support.simdisk import SimDisk

CONFIG = Config(size_bytes=26 << 20, cache_bytes=0, checked=False)
POWER_MODES = ("none", "all", "random", "suffix", "writes")
AT, LENGTH = 5 * BLOCK + 3 * SECTOR, 12 * BLOCK + SECTOR      # both ends are parts of blocks
SPAN = 24 * BLOCK
OLD, NEW, OTHER = b"o", b"n", b"x"
WHERE = {"in a leaf": 0, "across leaves": (2 << 20) - 10 * BLOCK}


@pytest.fixture(scope="module")
def template() -> SimDisk:
    return format_disk(CONFIG)


def scene(disk: SimDisk, base: int, checksum: bool, mutations: str = "") -> Rig:
    """A volume whose blocks lie apart, some shared with a snapshot, some holes, so that the write has many pieces."""
    rig = Rig(1, Config(**{**vars(CONFIG), "mutations": mutations}), disk)
    rig.random.random = lambda: 0.5                      # type: ignore[method-assign]
    rig.random.choice = lambda options: options[0]       # type: ignore[method-assign]
    call = rig.pool.call
    call("create", name="v", size_bytes=4 << 20, checksum=checksum)
    for block in (*range(0, 24, 2), 7, 3, 13):
        call("write", object_id=1, offset_bytes=base + block * BLOCK, data=OLD * BLOCK)
    call("snapshot", pairs=[(1, "v@s")])
    for block in (6, 11, 16):
        call("write", object_id=1, offset_bytes=base + block * BLOCK, data=OLD * BLOCK)
    call("create", name="w", size_bytes=4 << 20)
    for hole in range(5, 19, 3):                         # take the places beside the volume's blocks away
        call("write", object_id=3, offset_bytes=hole * BLOCK, data=OTHER * BLOCK)
    call("flush")
    return rig


def contents(pool: object, base: int) -> bytes:
    return bytes(pool.call("read", object_id=1, offset_bytes=base, length_bytes=SPAN))   # type: ignore[attr-defined]


def crash_everywhere(template: SimDisk, base: int, *, checksum: bool, fua: bool, mutations: str = "") -> set[bool]:
    """Write once; at each device request stop in every way and look. Which of old and new was seen after crashes."""
    rig = scene(template.fork(1), base, checksum, mutations)
    old = contents(rig.pool, base)
    new = old[:AT] + NEW * LENGTH + old[AT + LENGTH:]
    seen: set[bool] = set()
    ended: list[str] = []

    def judge() -> None:
        for i, mode in enumerate((*POWER_MODES, "kill")):
            disk = rig.disk.fork(i)
            disk.process_kill() if mode == "kill" else disk.power_cut(mode)
            pool = open_pool(disk, rig.config)
            found = contents(pool, base)
            pool.abandon()
            if found not in (old, new):
                raise Violation(f"half an atomic write is there after {mode}, at request {rig.disk.operations}")
            if ended and found == old and (fua or mode == "kill"):
                raise Violation(f"an acknowledged atomic write is gone after {mode}")
            seen.add(found == new)

    token = rig.pool.start("write_atomic", object_id=1, offset_bytes=base + AT, data=NEW * LENGTH, fua=fua)
    for _ in range(400):
        pending = rig._watch_syncs()
        if pending:
            judge()
            rig.perform(pending[0][0], pending[0][1])
        rig.now_us += 10
        rig.pool.turn(rig.now_us)
        ended += [done.code for done in rig.pool.reap() if done.token == token]
        if ended and not rig._watch_syncs():
            break
    judge()
    assert ended == ["ok"]
    assert contents(rig.pool, base) == new
    rig.pool.drain()
    rig.pool.close()
    rig.check(rig.disk)
    return seen


@pytest.mark.parametrize("fua", [False, True], ids=["cached", "fua"])
@pytest.mark.parametrize("checksum", [False, True], ids=["plain", "checksum"])
@pytest.mark.parametrize("where", WHERE)
def test_all_or_nothing_after_a_crash(template: SimDisk, where: str, checksum: bool, fua: bool) -> None:
    assert crash_everywhere(template, WHERE[where], checksum=checksum, fua=fua) == {False, True}


def test_records_in_two_frames_would_be_seen(template: SimDisk) -> None:
    with pytest.raises(Violation, match="half an atomic write"):
        crash_everywhere(template, 0, checksum=False, fua=False, mutations="split_atomic")


@pytest.mark.parametrize("order", [1, -1], ids=["oldest first", "newest first"])
def test_no_read_and_no_write_meets_half_of_it(template: SimDisk, order: int) -> None:
    """Reads and writes begin before it, with it, and while it is under way; requests are performed one by one."""
    rig = scene(template.fork(2), 0, False)
    old = contents(rig.pool, 0)
    tokens: dict[int, str] = {}
    reads: list[bytes] = []

    def start(kind: str, **args: object) -> None:
        tokens[rig.pool.start(kind, object_id=1, **args)] = kind

    def reap() -> None:
        for done in rig.pool.reap():
            if tokens.pop(done.token) == "read":
                assert done.code == "ok"
                reads.append(done.value)

    start("read", offset_bytes=0, length_bytes=SPAN)
    start("write", offset_bytes=8 * BLOCK, data=OTHER * (4 * BLOCK))
    start("write_atomic", offset_bytes=AT, data=NEW * LENGTH)
    for turn in range(2000):
        if turn % 3 == 0 and len(reads) + len(tokens) < 40:
            start("read", offset_bytes=0, length_bytes=SPAN)
        pending = rig._watch_syncs()[::order]
        if pending:
            rig.perform(pending[0][0], pending[0][1])
        if turn % 2:
            rig.now_us += 10
            rig.pool.turn(rig.now_us)
            reap()
        if not tokens and len(reads) >= 38:
            break
    assert not tokens
    new = NEW * LENGTH
    middles = [found[AT:AT + LENGTH] for found in reads]
    assert all(middle == new or NEW not in middle for middle in middles), "a read met half of the atomic write"
    assert new in middles
    assert any(middle != new for middle in middles)
    assert contents(rig.pool, 0) == old[:AT] + new + old[AT + LENGTH:]


@pytest.mark.parametrize("kind", ["write", "unmap", "compare_and_write"])
def test_the_other_sectors_of_its_first_and_last_block_are_not_lost(template: SimDisk, kind: str) -> None:
    """Both ends are merged into new blocks while others write, at any moment, to the rest of the old ones."""
    for moment in range(24):
        rig = scene(template.fork(moment), 0, False)
        call, start = rig.pool.call, rig.pool.start
        for block in (5, 17):
            call("write", object_id=1, offset_bytes=block * BLOCK, data=OLD * BLOCK)
        ends = (5 * BLOCK, 18 * BLOCK - SECTOR)
        args = {"write": {"data": OTHER * SECTOR}, "unmap": {"length_bytes": SECTOR},
                "compare_and_write": {"data": OTHER * SECTOR, "expected": OLD * SECTOR}}[kind]
        tokens = set()
        for step in range(400):
            if step == 8:
                tokens.add(start("write_atomic", object_id=1, offset_bytes=AT, data=NEW * LENGTH))
            if step == moment:
                tokens |= {start(kind, object_id=1, offset_bytes=at, **args) for at in ends}
            pending = rig._watch_syncs()
            if pending:
                rig.perform(*pending[(0, -1)[moment % 2]][:2])
            if step % 3 == 0:
                rig.now_us += 10
                rig.pool.turn(rig.now_us)
            for done in rig.pool.reap():
                assert done.code == "ok"
                tokens.discard(done.token)
        assert not tokens
        wanted = bytes(SECTOR) if kind == "unmap" else OTHER * SECTOR
        for at in ends:
            assert call("read", object_id=1, offset_bytes=at, length_bytes=SECTOR) == wanted, (moment, at)
        assert call("read", object_id=1, offset_bytes=AT, length_bytes=LENGTH) == NEW * LENGTH
        rig.pool.abandon()


def test_it_fails_without_effect(template: SimDisk) -> None:
    """Too long, out of range, on a snapshot, in a full pool, or when one of its data writes fails."""
    rig = scene(template.fork(3), 0, False)
    call, old = rig.pool.call, contents(rig.pool, 0)
    for args, code in (({"data": bytes((1 << 20) + 512)}, "invalid"), ({"offset_bytes": (4 << 20) - 512}, "range"),
                       ({"object_id": 2}, "protected"), ({"offset_bytes": 7}, "invalid")):
        with pytest.raises(PoolError) as refused:
            call("write_atomic", **{"object_id": 1, "offset_bytes": 0, "data": NEW * 8192, **args})
        assert refused.value.code == code
    rig.disk.fail("write", 1)
    with pytest.raises(PoolError) as failed:
        call("write_atomic", object_id=1, offset_bytes=AT, data=NEW * LENGTH)
    assert failed.value.code == "io_write"
    assert contents(rig.pool, 0) == old
    rig.disk.heal()

    def fill() -> None:
        for at in range(0, 24 << 20, 1 << 20):
            call("create", name=f"fill{at}", size_bytes=1 << 20)
            call("write_atomic", object_id=max(i.id for i in rig.pool.objects()), offset_bytes=0, data=OTHER * (1 << 20))

    with pytest.raises(PoolError) as full:
        fill()
    assert full.value.code == "no_space"
    with pytest.raises(PoolError):
        call("write_atomic", object_id=1, offset_bytes=0, data=NEW * (1 << 20))
    assert contents(rig.pool, 0) == old
    rig.pool.drain()
    rig.pool.close()
    rig.check(rig.disk)
