"""Demote, promote, resolve and resync, killed and cut at each of their steps, on either side: done again, nothing is lost.

A few steps by default; LUNETTE_MIRROR=all has each, on each side.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Callable, Iterator

import pytest

from target.errors import LunetteError
from tests.support.cutter import Cutter
from tests.support.libiscsi import GOOD
from tests.support.pair import Pair, Refused, Side, paused, rounds, until
from tests.support.places import pool_directory

ALL = os.environ.get("LUNETTE_MIRROR") == "all"
STEPS = [("up", number) for number in range(3, 9)] + [("down", number) for number in range(2, 8)]    # the first shake hands
FAULTS = ("cut", "a", "b")          # the connection, or a side is killed
Case = tuple[str, int, str]
pytestmark = pytest.mark.needs("libiscsi")


def cases(seed: int, count: int) -> list[Case]:
    every = [(way, number, fault) for (way, number), fault in itertools.product(STEPS, FAULTS)]
    return every if ALL else random.Random(seed).sample(every, count)


class Wired:
    """Two sides whose connections are cut where a test says."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.to_b, self.to_a = Cutter(pair.b.peer_port), Cutter(pair.a.peer_port)
        self.introduce()

    def introduce(self) -> None:
        pair = self.pair
        pair.a.add_peer(pair.b, "send", "receive", port=self.to_b.port)
        pair.b.add_peer(pair.a, "send", "receive", port=self.to_a.port)

    def close(self) -> None:
        self.to_a.close()
        self.to_b.close()

    def disturbed(self, case: Case, side: Side, *words: str) -> None:
        """A command whose connection meets a fault at that record, if it has so many."""
        way, number, fault = case
        cutter = self.to_b if side is self.pair.a else self.to_a

        def act() -> None:
            if fault != "cut":
                getattr(self.pair, fault).daemon.close_process()

        cutter.plan(way, number, act)
        try:
            side.cli(*words)
        except Refused:
            pass                        # what came of it is seen below
        cutter.forget()
        for each in (self.pair.a, self.pair.b):
            if not each.daemon.alive:
                each.daemon.start()


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    with pool_directory(tmp_path_factory.mktemp("mirror-steps")) as place:
        pair = Pair(place).start()
        made = Wired(pair)
        yield made
        made.close()
        pair.close()


@pytest.fixture
def pair(wired: Wired) -> Iterator[Pair]:
    yield wired.pair
    wired.pair.clear()


def has_role(side: Side, role: str) -> bool:
    return bool(side.mirrors().get("v", {}).get("role") == role)


def repeated(side: Side, done: Callable[[], bool], *words: str) -> None:
    """The command again, until what it is for has come to be."""
    said = ""

    def again() -> bool:
        nonlocal said
        if not done():
            try:
                side.cli(*words)
            except Refused as refusal:
                said = str(refusal)
        return done()

    until(again, lambda: f"{' '.join(words)} does not come to an end: {said}")


def test_a_failover_that_is_disturbed_loses_nothing(pair: Pair, wired: Wired) -> None:
    pair.mirrored("v")
    primary, replica = pair.a, pair.b
    for turn, (one, other) in enumerate(itertools.pairwise([*cases(1, 3), ("up", 99, "cut")])):
        stamp = random.Random(turn).randbytes(4096)
        primary.write("v", 4096 * (turn % 8), stamp)
        wired.disturbed(one, primary, "demote", "v")
        repeated(primary, lambda: has_role(primary, "replica"), "demote", "v")                      # noqa: B023
        wired.disturbed(other, replica, "promote", "v")
        assert not (has_role(primary, "primary") and has_role(replica, "primary"))
        repeated(replica, lambda: has_role(replica, "primary"), "promote", "v")                     # noqa: B023
        assert replica.read("v", 4096 * (turn % 8), 4096) == stamp, (one, other)
        replica.write("v", 1 << 20, stamp)
        rounds(replica, "v", 1)
        until(lambda: not replica.mirror("v")["problem"])       # noqa: B023
        rounds(replica, "v", 1)
        assert primary.sha256("v") == replica.sha256("v"), (one, other)
        primary, replica = replica, primary


def test_a_demotion_of_which_nobody_knows_how_it_ended(pair: Pair, wired: Wired) -> None:
    """B may have all, and may have been promoted: A is not, unless B says so or somebody takes it upon himself."""
    pair.mirrored("v")
    a, b = pair.a, pair.b
    wired.to_b.plan("up", 5, b.daemon.close_process)
    with pytest.raises(Refused, match="stays read-only"):
        a.cli("demote", "v")
    assert a.write("v", 0, bytes(4096)).status != GOOD
    with pytest.raises(Refused, match="may have been promoted meanwhile"):
        a.cli("promote", "v")
    b.daemon.start()
    a.cli("promote", "v")
    assert a.write("v", 0, b"a" * 4096).status == GOOD
    assert not b.mirror("v")["complete"]
    rounds(a, "v")
    assert a.sha256("v") == b.sha256("v")


def test_of_two_sides_that_are_promoted_at_once_one_is_at_most(pair: Pair) -> None:
    pair.mirrored("v")
    a, b = pair.a, pair.b
    a.cli("demote", "v")
    said: list[str] = []

    def promote(side: Side) -> None:
        try:
            side.client.command("promote", {"name": "v"})
        except LunetteError as error:
            said.append(error.code)

    threads = [threading.Thread(target=promote, args=(side,)) for side in (a, b)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    primaries = [side for side in (a, b) if has_role(side, "primary")]
    assert len(primaries) == 2 - len(said) <= 1
    assert set(said) == {"busy"}


def diverged(wired: Wired, turn: int) -> None:
    """Both sides are primary, and have written what the other has not."""
    a, b = wired.pair.a, wired.pair.b
    rounds(a, "v", 1)
    paused(a, "v")
    b.add_peer(a, "send", "receive", port=1)            # nobody is there
    b.cli("promote", "v", "--force")
    wired.introduce()
    a.write("v", 4096, b"a%d" % turn * 2048)
    b.write("v", 8192, b"b%d" % turn * 2048)


@pytest.mark.parametrize("keep", ["here", "there"])
def test_a_resolution_that_is_disturbed_keeps_both_contents(pair: Pair, wired: Wired, keep: str) -> None:
    pair.mirrored("v")
    a, b = pair.a, pair.b
    winner, loser = (a, b) if keep == "here" else (b, a)
    for turn, case in enumerate(cases(2 + (keep == "here"), 1)):
        turn %= 10
        diverged(wired, turn)
        expected = {side.name: side.sha256("v") for side in (a, b)}
        wired.disturbed(case, a, "mirror", "resolve", "v", "--keep", keep, "--force")
        repeated(a, lambda: has_role(loser, "replica"), "mirror", "resolve", "v", "--keep", keep, "--force")
        winner.cli("mirror", "resume", "v")
        rounds(winner, "v", 1)
        kept = [name for name in loser.ls() if name.startswith("v@diverged-")]
        assert expected[loser.name] in {loser.sha256(name) for name in kept}, case
        assert winner.sha256("v") == expected[winner.name], case
        rounds(winner, "v", 1)
        assert loser.sha256("v") == expected[winner.name], case
        loser.cli("delete", "--force", *kept)
        if winner is b:
            b.cli("demote", "v")
            a.cli("promote", "v")
            a.cli("mirror", "resume", "v")


def test_a_resync_that_is_disturbed_comes_to_an_end(pair: Pair, wired: Wired) -> None:
    a, b = pair.a, pair.b
    for turn, (way, number, fault) in enumerate(cases(4, 1)):
        for side in (a, b):
            side.cli("create", "v", "--size", "8M")
            side.write("v", 0, b"same" * (1 << 18))
        b.write("v", 4 << 20, b"b" * 4096)
        a.write("v", 2 << 20, bytes([turn + 1]) * 4096)
        before = b.sha256("v")

        def act(fault: str = fault) -> None:
            if fault != "cut":
                getattr(pair, fault).daemon.close_process()

        def settle() -> None:
            for side in (a, b):
                if not side.daemon.alive:
                    side.daemon.start()

        until(lambda: not b.daemon.stats()["sessions"])
        a.cli("mirror", "add", "v", "--to", "b", "--rpo", "300ms", "--resync")
        wired.to_b.plan(way, number + 2, act)
        wired.to_b.done.wait(3)
        wired.to_b.forget()
        settle()
        until(lambda: a.mirror("v")["rounds"], f"no round after {way} {number} {fault}: {a.mirror('v')['problem']}")
        assert a.sha256("v") == b.sha256("v")
        kept = [name for name in b.ls() if name.startswith("v@before-resync-")]
        assert before in {b.sha256(name) for name in kept}
        pair.clear()
