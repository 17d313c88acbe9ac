"""Publication: staged objects become snapshots, their volumes follow, keys say so: all of it or nothing, whenever it stops."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from core.check import check
from core.errors import PoolError
from core.pool.engine import Pool
from tests.crash.rig import Config, format_disk, open_pool
from tests.support.simdisk import SimDisk

CONFIG = Config(size_bytes=26 << 20, cache_bytes=0, checked=False)
MODES = ("none", "all", "random", "suffix", "writes", "kill")
SIZE = 64 << 10
BLOCK = 4096


def block(number: int) -> bytes:
    return bytes([number]) * BLOCK


def scene(mutations: str = "") -> tuple[SimDisk, Pool, dict[str, int]]:
    """Two replicas with a snapshot each, and what was received for both and for one that is not there yet."""
    disk = format_disk(CONFIG)
    pool = Pool(disk, cache_bytes=0, mutations=mutations)
    ids: dict[str, int] = {}
    for number, name in enumerate(("a", "b"), 1):
        ids[name] = pool.call("create", name=name, size_bytes=SIZE)
        pool.call("write", object_id=ids[name], offset_bytes=0, data=block(number))
        ids[f"{name}@1"] = pool.call("snapshot", pairs=[(ids[name], f"{name}@1")])[0]
        ids[f".{name}"] = pool.call("clone", source_id=ids[f"{name}@1"], name=f".{name}")
        pool.call("resize", object_id=ids[f".{name}"], size_bytes=2 * SIZE)
        pool.call("write", object_id=ids[f".{name}"], offset_bytes=BLOCK, data=block(10 + number))
    ids[".c"] = pool.call("create", name=".c", size_bytes=SIZE)
    pool.call("write", object_id=ids[".c"], offset_bytes=0, data=block(3))
    pool.call("kv", changes={"receive": b"all three", "other": b"o" * 900})
    return disk, pool, ids


def publication(ids: dict[str, int]) -> dict[str, Any]:
    items = [{"staged_id": ids[f".{name}"], "volume_id": ids[name], "base_id": ids[f"{name}@1"], "snapshot_name": f"{name}@2",
              "props": b"labels", "created_us": 1_000_000} for name in ("a", "b")]
    items.append({"staged_id": ids[".c"], "volume_id": 0, "volume_name": "c", "base_id": 0, "snapshot_name": "c@2"})
    return {"items": items, "keys": lambda made: {"receive": None, **{f"replica/{each}": b"guid" * 200 for each in made}}}


def state(pool: Pool) -> dict[str, Any]:
    """Everything that can be seen: sizes and contents by name, and the keys."""
    found: dict[str, Any] = {info.name: (info.kind, info.size_bytes, pool.call(
        "read", object_id=info.id, offset_bytes=0, length_bytes=min(info.size_bytes, 2 * BLOCK))) for info in pool.objects()}
    return {**found, **{f"key {key}": value for key, value in pool.kv().items()}}


def crashes(mutations: str = "", op: str = "publish",
            args: Callable[[dict[str, int]], dict[str, Any]] = publication) -> set[str]:
    """Stop an operation before and after each of its requests, in every way; what is found is the state before or after."""
    disk, pool, ids = scene(mutations)
    before = state(pool)
    token = pool.start(op, **args(ids))
    copies = []
    for turn in itertools.count():
        for mode in MODES:
            copy = disk.fork(turn * 10 + MODES.index(mode))
            copy.process_kill() if mode == "kill" else copy.power_cut(mode)
            copies.append(copy)
        pool.turn()
        done = pool.take(token)
        if done is not None:
            assert done.code == "ok", done
            break
        for request in pool.pending_io():
            pool.perform(request[0])
            break
    after = state(pool)
    pool.abandon()
    found = set()
    for copy in copies:
        again = open_pool(copy, CONFIG)
        seen = state(again)
        assert seen in (before, after), f"neither: {sorted(seen)}"
        found.add("before" if seen == before else "after")
        again.close()
        assert check(copy).ok
    return found


def test_all_of_it_or_nothing_wherever_it_stops() -> None:
    assert crashes() == {"before", "after"}


def going_back(ids: dict[str, int]) -> dict[str, Any]:
    return {"volume_id": ids["a"], "snapshot_id": ids["a@1"], "safety_name": "a@held",
            "keys": lambda made: {"receive": None, **{f"kept/{each}": b"role" * 200 for each in made}}}


def test_a_revert_its_safety_snapshot_and_its_keys_are_one_frame() -> None:
    assert crashes(op="revert", args=going_back) == {"before", "after"}
    _, pool, ids = scene()
    with pytest.raises(PoolError, match="at most 200,000 bytes"):
        pool.call("revert", **{**going_back(ids), "keys": lambda made: {f"k{i}": bytes(6000) for i in range(40)}})
    made = pool.call("revert", **going_back(ids))       # its name is free still
    assert f"kept/{made}" in pool.kv()
    assert "receive" not in pool.kv()


def test_two_frames_would_show_half() -> None:
    with pytest.raises(AssertionError, match="neither"):
        crashes("split_publish")


def test_what_it_makes() -> None:
    _, pool, ids = scene()
    made = pool.call("publish", **publication(ids))
    assert [follows for _, _, follows in made] == [True, True, True]
    assert {info.name for info in pool.objects()} == {"a", "a@1", "a@2", "b", "b@1", "b@2", "c", "c@2"}
    volume, snapshot = pool.info(made[0][0]), pool.info(made[0][1])
    assert (snapshot.kind, snapshot.origin_id, snapshot.size_bytes, snapshot.props) == ("snapshot", ids["a"], 2 * SIZE, b"labels")
    assert snapshot.created_s == 1.0
    assert volume.size_bytes == 2 * SIZE
    assert pool.call("read", object_id=volume.id, offset_bytes=0, length_bytes=2 * BLOCK) == block(1) + block(11)
    assert pool.call("diff", a_id=volume.id, b_id=snapshot.id) == []
    assert pool.call("diff", a_id=ids["a@1"], b_id=snapshot.id) == [(BLOCK, BLOCK)]
    assert pool.info(made[2][0]).kind == "volume"
    assert sorted(pool.kv()) == ["other", *sorted(f"replica/{each}" for row in made for each in row[:2]
                                                  if row is made[2] or each == row[1])]


@pytest.mark.parametrize("mutation", ["", "blind_publish"])
def test_a_volume_that_was_written_to_does_not_follow(mutation: str) -> None:
    _, pool, ids = scene(mutation)
    pool.call("write", object_id=ids["a"], offset_bytes=3 * BLOCK, data=block(77))
    args = publication(ids)
    made = pool.call("publish", items=args["items"][:2], keys=args["keys"])
    seen = pool.call("read", object_id=ids["a"], offset_bytes=0, length_bytes=4 * BLOCK)
    kept = [follows for _, _, follows in made] == [False, True] and seen == block(1) + 2 * bytes(BLOCK) + block(77)
    assert kept == (not mutation)
    assert pool.call("read", object_id=made[0][1], offset_bytes=0, length_bytes=2 * BLOCK) == block(1) + block(11)


def test_what_is_refused_leaves_nothing_behind() -> None:
    _, pool, ids = scene()
    before = state(pool)
    args = publication(ids)
    for change, code in (({"snapshot_name": "a@1"}, "exists"), ({"snapshot_name": "b@2"}, "exists"),
                         ({"staged_id": 999}, "not_found"), ({"volume_id": 999}, "not_found"),
                         ({"staged_id": ids[".b"]}, "invalid"), ({"volume_id": ids["a@1"]}, "invalid")):
        with pytest.raises(PoolError) as error:
            pool.call("publish", **{**args, "items": [{**args["items"][0], **change}, args["items"][1]]})
        assert error.value.code == code
    with pytest.raises(PoolError, match="at most 200,000 bytes"):
        pool.call("publish", items=args["items"], keys=lambda made: {f"k{i}": bytes(6000) for i in range(40)})
    with pytest.raises(PoolError, match="at one instant"):
        pool.call("snapshot", pairs=[(ids["a"], f"a@n{i}") for i in range(120)],
                  keys=lambda made: {f"k{i}": bytes(6000) for i in range(33)})
    assert state(pool) == before
    pool.call("publish", **args)      # all names are free still


def test_a_snapshot_and_its_keys_are_one_frame() -> None:
    disk, pool, ids = scene()
    made = pool.call("snapshot", pairs=[(ids["a"], "a@x"), (ids["b"], "b@x")],
                     keys=lambda made: {f"mark/{each}": b"s" for each in made})
    assert {f"mark/{each}" for each in made} <= pool.kv().keys()
    pool.abandon()
    disk.power_cut("none")
    again = open_pool(disk, CONFIG)
    assert {f"mark/{each}" for each in made} <= again.kv().keys()
    with pytest.raises(PoolError, match="exists"):
        again.call("snapshot", pairs=[(ids["a"], "a@x")], keys=lambda made: {f"mark/{each}": b"s" for each in made})
    again.call("snapshot", pairs=[(ids["a"], "a@y")], keys=lambda made: {f"mark/{each}": b"s" for each in made})
    again.abandon()
