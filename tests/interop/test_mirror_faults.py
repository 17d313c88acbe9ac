"""Mirrors whose connection is cut, and whose daemons are killed, at each step of a round (docs/protection.md).

A few steps by default; LUNETTE_MIRROR=full kills at each, and has fifty random rounds.
"""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.support.cutter import Cutter
from tests.support.libiscsi import GOOD
from tests.support.pair import Pair, Refused, Side, until
from tests.support.places import pool_directory

MIB = 1 << 20
FULL = os.environ.get("LUNETTE_MIRROR") in ("full", "all")
UP, DOWN = 8, 8         # records of a round in which nothing changed, the handshake's too: a test holds it
pytestmark = pytest.mark.needs("libiscsi")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, Cutter]]:
    """A mirrored volume `v`, and the wire from A to B."""
    with pool_directory(tmp_path_factory.mktemp("mirror-faults")) as place:
        pair = Pair(place).start()
        cutter = Cutter(pair.b.peer_port)
        pair.a.add_peer(pair.b, "send", "receive", port=cutter.port)
        pair.a.cli("create", "v", "--size", "16M")
        pair.a.write("v", 0, random.Random(1).randbytes(4 * MIB))
        pair.a.cli("mirror", "add", "v", "--to", "b", "--rpo", "200ms")
        until(lambda: pair.a.mirror("v")["rounds"] >= 2)
        yield pair, cutter
        cutter.close()
        pair.close()


def settled(a: Side, b: Side) -> None:
    """All that was written has come, and both sides keep the same."""
    before = until(lambda: a.mirrors().get("v"))["rounds"]
    until(lambda: a.mirror("v")["rounds"] >= before + 2, "it does not go on")
    assert a.sha256("v") == b.sha256("v")
    assert not a.mirror("v")["problem"]


def restarted(side: Side) -> Callable[[], None]:
    def kill() -> None:
        side.daemon.stop(signal.SIGKILL)
    return kill


def test_each_step_cut(site: tuple[Pair, Cutter]) -> None:
    pair, cutter = site
    source = random.Random(2)
    steps = [("up", number) for number in range(1, UP + 1)] + [("down", number) for number in range(1, DOWN + 1)]
    for step in steps:
        cutter.plan(*step)
        pair.a.write("v", source.randrange(15 * MIB // 4096) * 4096, source.randbytes(65536))
        assert cutter.done.wait(60), f"a round has no record {step}"
        rounds = pair.a.mirror("v")["rounds"]
        until(lambda: pair.a.mirror("v")["rounds"] > rounds, "it does not go on")       # noqa: B023
    settled(pair.a, pair.b)
    for side in (pair.a, pair.b):       # nothing piles up: two that are common, and one that may be on its way
        marked = [name for name in side.ls() if "@mirror-" in name]
        assert 2 <= len(marked) <= 4, marked


@pytest.mark.parametrize("who", ["a", "b"])
def test_each_step_killed(site: tuple[Pair, Cutter], who: str) -> None:
    pair, cutter = site
    side = getattr(pair, who)
    source = random.Random(3)
    steps = [("up", number) for number in range(3, UP + 1)] + [("down", number) for number in range(3, DOWN + 1)]
    for step in steps if FULL else source.sample(steps, 2):
        pair.a.write("v", source.randrange(15 * MIB // 4096) * 4096, source.randbytes(65536))
        cutter.plan(*step, restarted(side))
        assert cutter.done.wait(60), f"a round has no record {step}"
        side.daemon.start()
        settled(pair.a, pair.b)


@pytest.mark.skipif(not FULL, reason="waits for a time: LUNETTE_MIRROR=full")
def test_a_side_that_is_stopped_is_told_of_and_comes_back(site: tuple[Pair, Cutter]) -> None:
    """Its kernel acknowledges all, and it says nothing."""
    a, b = site[0].a, site[0].b
    b.freeze()
    assert a.write("v", 0, b"beside" * 2048).status == GOOD         # who writes here does not wait for who is there
    until(lambda: a.mirror("v")["state"] == "failed")
    assert re.search("does not answer|timed out", a.mirror("v")["problem"])
    until(lambda: a.mirror("v")["late"])
    b.resume()
    settled(a, b)
    a.freeze()
    until(lambda: b.mirror("v")["late"])
    with pytest.raises(Refused) as refused:
        b.cli("mirror", "ls")
    assert refused.value.status == 1
    a.resume()
    settled(a, b)


@pytest.mark.skipif(not FULL, reason="waits for times: LUNETTE_MIRROR=full")
@pytest.mark.parametrize("step", [("up", 1), ("up", 4), ("down", 5), ("down", 7)])
def test_packets_that_are_lost_from_a_step_on(site: tuple[Pair, Cutter], step: tuple[str, int]) -> None:
    pair, cutter = site
    cutter.plan(*step, silent=True)
    pair.a.write("v", 0, random.Random(5).randbytes(65536))
    assert cutter.done.wait(60), f"a round has no record {step}"
    until(lambda: pair.a.mirror("v")["problem"])
    settled(pair.a, pair.b)


def test_a_broken_round_goes_on_where_it_was(site: tuple[Pair, Cutter]) -> None:
    pair, cutter = site
    a, b = pair.a, pair.b
    a.cli("create", "large", "--size", "256M")
    for at in range(0, 200 * MIB, 4 * MIB):
        a.write("large", at, random.Random(at).randbytes(4 * MIB))
    cutter.plan("up", 150 * MIB // 16384)
    a.cli("mirror", "add", "large", "--to", "b", "--rpo", "2s")
    assert cutter.done.wait(60)
    until(lambda: a.mirror("large")["rounds"], "it does not go on")
    assert a.mirror("large")["sent_bytes"] < 140 * MIB      # only what had not come
    assert a.sha256("large") == b.sha256("large")
    a.cli("mirror", "rm", "large")


def test_random_rounds(site: tuple[Pair, Cutter]) -> None:
    """Writes, unmaps, sizes, reverts, names, cuts, failovers; after each both sides read the same."""
    pair, cutter = site
    source = random.Random(4)
    primary, replica = pair.a, pair.b
    primary.cli("create", "r", "--size", "16M")
    primary.cli("mirror", "add", "r", "--to", "b", "--rpo", "300ms")
    until(lambda: "r" in replica.ls())
    for number in range(50 if FULL else 5):
        with primary.disk("r") as (initiator, lun):
            blocks, _ = initiator.capacity(lun)
            for _ in range(source.randrange(1, 30)):
                length = 8 * source.randrange(1, 256)
                initiator.write(lun, source.randrange(0, blocks - length, 8), source.randbytes(512 * length))
            for _ in range(source.randrange(3)):        # WRITE SAME (16) with UNMAP
                at = source.randrange(0, blocks - 4096, 8)
                initiator.command(lun, b"\x93\x08" + at.to_bytes(8) + (2048).to_bytes(4) + bytes(2), write=bytes(512))
            initiator.synchronize_cache(lun)
        action = source.choice(["none", "resize", "revert", "cut", "fail over"]) if number else "fail over"
        if action == "resize":
            primary.cli("resize", "r", f"{source.randrange(8, 24)}M", "--force")
        elif action == "revert":
            primary.cli("snapshot", f"r@{number}")
            primary.write("r", 0, source.randbytes(65536))
            primary.cli("revert", f"r@{number}")
        elif action == "cut" and primary is pair.a:
            cutter.plan(source.choice(["up", "down"]), source.randrange(3, 8))
        elif action == "fail over":
            primary.cli("demote", "r")
            replica.cli("promote", "r")
            primary, replica = replica, primary
        before = primary.mirror("r")["rounds"]
        until(lambda: primary.mirror("r")["rounds"] >= before + 2)      # noqa: B023
        assert primary.sha256("r") == replica.sha256("r"), (number, action)
    for side in (pair.a, pair.b):
        side.cli("mirror", "rm", "r")
