"""The store of keys: changes that overlap, one of them refused, and what the catalog then holds."""

from __future__ import annotations

import pytest

from tests.crash.rig import Config, Rig, open_pool

CONFIG = Config(size_bytes=26 << 20, cache_bytes=0, checked=False)
LONG, LONGER, SHORT = b"a" * 1500, b"b" * 2500, b"c" * 10


def nearly_full() -> Rig:
    """A pool with keys and room for a few blocks."""
    rig = Rig(1, CONFIG)
    rig.do("create", name="v", size_bytes=1 << 30)
    rig.do("kv", changes={"key": LONG, "other": b"o"})
    at = 0
    for size in (1 << 20, 4096):
        while rig.do("write", object_id=1, offset_bytes=at, data=rig.oracle.make_data(1, at, size)).ok:
            at += size
    return rig


@pytest.mark.parametrize("second", [LONGER, SHORT, None], ids=["longer", "shorter", "gone"])
@pytest.mark.parametrize("first", [LONGER, SHORT, None], ids=["longer", "shorter", "gone"])
def test_a_change_behind_a_refused_one(first: bytes | None, second: bytes | None) -> None:
    """The first of two changes of a key is refused: its pages of the catalog find no room. The second takes its place wholly."""
    rig = nearly_full()
    early = rig.start("kv", changes={"key": first, **{f"another{n}": b"x" * 1100 for n in range(150)}})
    late = rig.start("kv", changes={"key": second})
    third = rig.start("kv", changes={"other": b"p"})
    rig.settle()
    assert not early.ok
    assert third.ok
    if not late.ok:
        late = rig.do("kv", changes={"key": second})
    assert late.ok
    wanted = {"other": b"p"} | ({} if second is None else {"key": second})
    assert rig.pool.kv() == wanted
    for n in range(8):                # slots that were given back are used again
        rig.do("kv", changes={f"new{n}": bytes([n]) * 900})
    rig.pool.close()
    rig.check(rig.disk)
    pool = open_pool(rig.disk, CONFIG)
    assert pool.kv() == wanted | {f"new{n}": bytes([n]) * 900 for n in range(8)}
    pool.abandon()


def test_changes_of_one_key_keep_their_order() -> None:
    """Ten changes at once, of one key and of others: each waits for the one before it, and the last one holds."""
    rig = Rig(2, CONFIG)
    for n in range(10):
        rig.start("kv", changes={"key": bytes([n]) * (n * 333 % 1700), f"key{n % 3}": bytes([n])})
    rig.settle()
    wanted = {"key": bytes([9]) * (9 * 333 % 1700), "key0": b"\x09", "key1": b"\x07", "key2": b"\x08"}
    assert rig.pool.kv() == wanted
    rig.crash(power=True, mode="none")
    rig.reopen()
    assert rig.pool.kv() == wanted
    rig.pool.close()
    rig.check(rig.disk)
