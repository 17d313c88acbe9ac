"""Mirrors of groups, and where something stands in the way: rates, a full replica, copies of a pool (docs/protection.md).

Those that take long run where LUNETTE_MIRROR is set (`make mirrors`).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from target.errors import LunetteError
from tests.support.cutter import Cutter
from tests.support.libiscsi import GOOD
from tests.support.pair import Pair, Refused, Side, alike, paused, rounds, until

MIB = 1 << 20
NO_ROOM = (7, 0x2707)           # DATA PROTECT, space allocation failed
long = pytest.mark.skipif(not os.environ.get("LUNETTE_MIRROR"), reason="takes long: make mirrors")
pytestmark = pytest.mark.needs("libiscsi")


@pytest.fixture
def copied(daemons: Pair, pair_place: Path, pair: Pair) -> Iterator[Side]:
    """A copy of A's pool as it is when the test copies it, with its identity; `copy` does that."""
    made = Side(pair_place / "c", "c", "--same-identity", group=1)
    yield made
    made.daemon.close()
    shutil.rmtree(pair_place / "c")


def copy(of: Side, to: Side) -> None:
    of.daemon.stop()
    shutil.copyfile(of.daemon.pool, to.daemon.pool)
    of.daemon.start()
    to.daemon.start()


def cloned(side: Side, *names: str) -> bool:
    """Clones of replicas as of their newest common round; False: it has been let go of meanwhile."""
    rounds = [{each.partition("@")[2] for each in side.ls() if each.startswith(f"{name}@mirror-")} for name in names]
    mark = max(set.intersection(*rounds), default="")
    try:
        for name in names:
            side.client.command("clone", {"source": f"{name}@{mark}", "name": f"{name}.c"})
    except LunetteError:
        for name in names:
            with contextlib.suppress(Refused):
                side.cli("delete", f"{name}.c")
        return False
    return True


def test_a_group_is_of_one_instant(pair: Pair) -> None:
    """Who writes a number to one volume and then to the other finds them equal, or one apart, in each round of the replica."""
    a, b = pair.a, pair.b
    pair.mirrored("one", "two", options=("--group", "g"), rpo="200ms")
    over = threading.Event()

    def count() -> None:
        with a.disk("two") as (_, two):
            pass
        with a.disk("one") as (initiator, one):
            initiator.settle(two)
            number = 0
            while not over.is_set():
                number += 1
                for lun in (one, two):
                    assert initiator.write(lun, 0, number.to_bytes(8, "little") * 512).status == GOOD

    thread = threading.Thread(target=count)
    thread.start()
    try:
        seen = 0
        for _ in range(2):
            rounds(a, "one", 1)
            until(lambda: cloned(b, "one", "two"))
            one, two = (int.from_bytes(b.read(name, 0, 512)[:8], "little") for name in ("one.c", "two.c"))
            assert one - 1 <= two <= one
            assert one >= seen
            seen = one
            b.cli("delete", "--force", "one.c", "two.c")
        assert seen
    finally:
        over.set()
        thread.join()
    a.cli("demote", "one")                              # all of the group
    for name in ("one", "two"):
        assert a.mirror(name)["role"] == "replica"
        b.cli("promote", name)
    rounds(b, "two")
    assert alike(b, a, "one")
    assert alike(b, a, "two")


@long
def test_a_limit_is_held(pair: Pair) -> None:
    a = pair.a
    pair.mirrored("v", options=("--limit", "1M"))
    paused(a, "v")
    a.write("v", 0, random.Random(1).randbytes(3 * MIB))
    sent, began = a.mirror("v")["sent_bytes"], time.monotonic()
    a.cli("mirror", "resume", "v")
    until(lambda: a.mirror("v")["sent_bytes"] >= sent + 3 * MIB)
    assert time.monotonic() - began > 2                 # no slowness makes it less
    rounds(a, "v", 1)
    assert a.mirror("v")["skipped"] > 0


@long
def test_what_happens_to_a_volume_while_it_is_sent(pair: Pair) -> None:
    a, b = pair.a, pair.b
    pair.mirrored("v", size="16M", options=("--limit", "2M"))
    a.cli("snapshot", "v@old")
    for change in ("rename", "resize", "revert"):
        name = next(iter(a.mirrors()))
        paused(a, name)
        a.write(name, 0, random.Random(change).randbytes(4 * MIB))
        a.cli("mirror", "resume", name)
        until(lambda name=name: a.mirror(name)["state"] == "sending")       # type: ignore[misc]
        if change == "rename":
            a.cli("rename", "v", "x")
            b.cli("rename", "v", "y")
        elif change == "resize":
            a.cli("resize", "x", "8M", "--force")
        else:
            a.cli("revert", "x@old", "--force")
        rounds(a, "x")
        assert a.sha256("x") == b.sha256("y"), change
    assert b.mirror("y")["role"] == "replica"


def test_two_sides_with_one_port_group_cannot_stand_by(pair: Pair, copied: Side) -> None:
    a, b = pair.a, pair.b
    copied.daemon.start()                               # its groups are those of A
    copied.cli("create", "s", "--size", "4M")
    copied.cli("peer", "add", "a", "--address", f"127.0.0.1:{a.peer_port}", "--certificate", str(a.certificate()), "--allow",
               "send", "--allow", "receive")
    a.add_peer(copied, "send", "receive")
    try:
        with pytest.raises(Refused, match="both sides have portal group 1"):
            copied.cli("mirror", "add", "s", "--to", "a", "--rpo", "1s", "--standby")
        copied.cli("mirror", "add", "s", "--to", "a", "--rpo", "300ms")
        rounds(copied, "s", 1)
        copied.cli("mirror", "rm", "s")
        a.cli("mirror", "rm", "s")
    finally:
        a.cli("peer", "rm", "c")
    assert "s" not in b.ls()


@long
def test_a_full_replica_goes_on_when_there_is_room(pair: Pair) -> None:
    a, b = pair.a, pair.b
    pair.mirrored("v", size="64M")
    until(lambda: not sum(b.daemon.stats()["pool"][each] for each in ("pending_bytes", "unswept_bytes")))    # of earlier tests
    free = b.daemon.stats()["pool"]["available_bytes"]
    b.cli("create", "hog", "--size", "2G", "--reserve", str((free - 8 * MIB) // 4096 * 4096))
    source = random.Random(2)
    for at in range(0, 32, 4):
        a.write("v", at * MIB, source.randbytes(4 * MIB))
    until(lambda: "the pool is full" in str(a.mirror("v")["problem"]))
    assert a.mirror("v")["state"] == "failed"
    assert a.write("v", 0, b"on" * 2048).status == GOOD
    b.cli("delete", "hog", "--force")
    until(lambda: not a.mirror("v")["problem"])
    rounds(a, "v")
    assert alike(a, b, "v")


@long
def test_a_full_primary_goes_on_when_there_is_room(pair: Pair) -> None:
    """Writes are refused, rounds come when they can, and what the replica has stays of one instant."""
    a, b = pair.a, pair.b
    pair.mirrored("v", size="64M")
    until(lambda: not sum(a.daemon.stats()["pool"][each] for each in ("pending_bytes", "unswept_bytes")))    # of earlier tests
    a.write("v", 0, random.Random(3).randbytes(4 * MIB))
    rounds(a, "v", 2)
    free = a.daemon.stats()["pool"]["available_bytes"]
    a.cli("create", "hog", "--size", "2G", "--reserve", str((free - 4 * MIB) // 4096 * 4096))
    source = random.Random(4)
    answers = [a.write("v", at * MIB, source.randbytes(4 * MIB)) for at in range(8, 48, 4)]
    assert any((each.key, each.asc) == NO_ROOM for each in answers)
    assert b.mirror("v")["role"] == "replica"
    a.cli("delete", "hog", "--force")
    until(lambda: a.write("v", 60 * MIB, b"on" * 2048).status == GOOD)
    rounds(a, "v")
    until(lambda: not a.mirror("v")["problem"])
    assert alike(a, b, "v")


@long
def test_a_quota_of_either_side_bounds_initiators_and_no_round(pair: Pair) -> None:
    """What the primary holds its replica gets, whatever its quota; a primary of more than its quota writes no more."""
    a, b = pair.a, pair.b
    pair.mirrored("v", size="16M")
    b.cli("set", "v", "--quota", "1M")
    a.write("v", 0, random.Random(5).randbytes(4 * MIB))
    rounds(a, "v")
    until(lambda: not a.mirror("v")["problem"])
    assert alike(a, b, "v")
    a.cli("demote", "v")
    b.cli("promote", "v")
    answer = b.write("v", 8 * MIB, b"n" * MIB)
    assert (answer.key, answer.asc) == NO_ROOM
    rounds(b, "v")
    assert alike(b, a, "v")
    b.cli("set", "v", "--quota", "0")
    assert b.write("v", 8 * MIB, b"n" * MIB).status == GOOD
    rounds(b, "v")
    assert alike(b, a, "v")


@contextlib.contextmanager
def read_only(side: Side) -> Iterator[None]:
    """Its pool's file is cut while it is served, so that it is read-only for good; afterwards it is whole and starts again."""
    path = Path(side.daemon.pool)
    size_bytes = path.stat().st_size
    os.truncate(path, size_bytes - 4096)                # nothing lies there
    until(lambda: side.daemon.stats()["pool"]["failure"])
    try:
        yield
    finally:
        side.daemon.stop()
        os.truncate(path, size_bytes)
        side.daemon.start()


@long
def test_a_replica_whose_pool_is_read_only_is_told_of_and_follows_when_it_is_back(pair: Pair) -> None:
    a, b = pair.a, pair.b
    pair.mirrored("v")
    before = b.sha256("v")
    with read_only(b):
        a.write("v", 0, b"more" * 1024)
        until(lambda: "read-only" in str(a.mirror("v")["problem"]))
        assert a.write("v", 4096, b"on" * 2048).status == GOOD      # the primary is not held up
        assert b.sha256("v") == before                              # of the last round, and not half of the next
    rounds(a, "v")
    until(lambda: not a.mirror("v")["problem"])
    assert alike(a, b, "v")


def test_a_primary_whose_pool_is_read_only_is_taken_over_from(pair: Pair) -> None:
    """It says so; its replica has the last round and is promoted by force; what comes back gives way without loss."""
    a, b = pair.a, pair.b
    pair.mirrored("v")
    a.write("v", 0, b"kept" * 1024)
    rounds(a, "v")
    with read_only(a):
        assert a.write("v", 4096, b"lost" * 1024).status != GOOD
        until(lambda: "read-only" in str(a.mirror("v")["problem"]))
        with pytest.raises(Refused):
            a.cli("demote", "v")
        with pytest.raises(Refused, match="its pool is read-only after a failure: --force promotes it"):
            b.cli("promote", "v")
        b.cli("promote", "v", "--force")
        assert b.read("v", 0, 4096) == b"kept" * 1024
        assert b.write("v", 8192, b"here" * 1024).status == GOOD
    until(lambda: a.mirror("v")["role"] == "replica" or a.mirror("v")["state"] == "diverged")
    if a.mirror("v")["role"] != "replica":
        b.cli("mirror", "resolve", "v", "--keep", "here", "--force")
    rounds(b, "v")
    assert a.sha256("v") == b.sha256("v")
    assert a.read("v", 8192, 4096) == b"here" * 1024


@long
def test_a_copied_pool_is_no_peer_and_no_second_primary(pair: Pair, copied: Side) -> None:
    a, b, c = pair.a, pair.b, copied
    pair.mirrored("v")
    paused(a, "v")
    copy(a, c)                                          # who it is, its peers and its mirror are copied, too
    with pytest.raises(Refused, match="own certificate"):
        c.cli("peer", "add", "itself", "--address", f"127.0.0.1:{a.peer_port}", "--certificate", str(a.certificate()),
              "--allow", "send")
    a.write("v", 0, b"a" * 4096)
    a.cli("mirror", "resume", "v")
    rounds(a, "v")
    digest = a.sha256("v")
    c.write("v", 0, b"c" * 4096)
    c.cli("mirror", "resume", "v")
    until(lambda: c.mirror("v")["state"] == "diverged")
    assert "copy of the pool" in c.mirror("v")["problem"]
    paused(a, "v")
    assert b.sha256("v") == digest
    with pytest.raises(Refused, match="no snapshot in common"):
        c.cli("mirror", "resolve", "v", "--keep", "here")
    c.cli("mirror", "rm", "v")                          # if that is what is wanted
    c.cli("mirror", "add", "v", "--to", "b", "--rpo", "300ms", "--resync")
    rounds(c, "v")
    assert b.read("v", 0, 4096) == b"c" * 4096
    a.cli("mirror", "resume", "v")
    until(lambda: a.mirror("v")["state"] == "diverged")


def test_a_connection_that_fell_silent_does_not_stand_in_the_way(pair: Pair) -> None:
    """A dies, B does not hear of it, and A comes back: B is still receiving on the old connection."""
    a, b = pair.a, pair.b
    cutter = Cutter(b.peer_port)
    try:
        a.add_peer(b, "send", "receive", port=cutter.port)
        pair.mirrored("v", size="64M")
        paused(a, "v")
        for at in range(0, 24, 4):
            a.write("v", at * MIB, random.Random(at).randbytes(4 * MIB))
        cutter.plan("up", 400, lambda: a.daemon.close_process(), silent=True)      # in the middle of a stream
        with contextlib.suppress(Refused):
            a.cli("mirror", "resume", "v")
        assert cutter.done.wait(60)
        a.daemon.start()
        rounds(a, "v", 1)
        assert alike(a, b, "v")
    finally:
        cutter.close()
        a.resume()
        pair.introduce()
