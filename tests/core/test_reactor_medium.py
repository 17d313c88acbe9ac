"""Hosts share a medium that is slower than the reactor: none fills its queue while another has something to do there.

What is in flight is counted at the medium, and who is served in the order in which the medium got it. No clock is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.held_medium import Held, HeldDevice, held
from tests.support.waiting import until
from tests.support.wire import FINAL, READ, WRITE, Rig, Wire, rig, rw

DEEP, OTHER = 1, 2                  # hosts, and what their blocks are full of
MANY = 100                          # commands; a session's window has 128
HALF = (8 << 20) // 512             # where the blocks of OTHER begin
TOGETHER = 64                       # commands of a block that hosts side by side may have in flight, all of them


class Host:
    """An initiator that sends reads of its own half, and another one for each that is answered."""

    def __init__(self, r: Rig, mark: int, *, host: int = 0, blocks: int = 8) -> None:
        self.wire: Wire = r.wire(host=host or mark)
        self.mark, self.blocks, self.sent = mark, blocks, 0

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            lba = (self.mark - 1) * HALF + self.sent * self.blocks % (HALF // 2)
            self.wire.command(rw(0x28, lba, self.blocks), flags=FINAL | READ, edtl=self.blocks * 512)
            self.sent += 1

    def take(self) -> None:
        assert self.wire.gather()[1].status == 0


@pytest.fixture
def r(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path / "pool", device_class=HeldDevice) as made:
        writer = made.wire(host=DEEP)
        for mark in (DEEP, OTHER):
            for lba in range((mark - 1) * HALF, (mark - 1) * HALF + HALF // 2, 128):
                writer.command(rw(0x2A, lba, 128), flags=FINAL | WRITE, edtl=65536, data=bytes([mark]) * 65536)
                assert writer.receive().status == 0
        yield made


@pytest.fixture
def medium(r: Rig) -> Iterator[Held]:
    with held() as medium:
        yield medium


def arrived(r: Rig, count: int) -> None:
    """So many commands are in the reactor's hands."""
    r.until(lambda: r.reactor.stats()["loop"]["tasks"] == count)


def waiting(r: Rig, medium: Held, **counts: int) -> None:
    """Just so much is under way: as much, and in many looks no more."""
    wanted = Counter({DEEP: counts["deep"], OTHER: counts["other"]})
    until(lambda: medium.waiting() == wanted, lambda: f"{medium.waiting()} instead of {wanted}")
    turns = r.reactor.stats()["loop"]["turns"]
    for _ in range(3):
        r.reactor.stats()
    assert medium.waiting() == wanted, f"after {turns} turns"


def served(medium: Held, hosts: dict[int, Host], count: int) -> Counter[int]:
    """The medium ends so many; whose it is takes its answer, and sends another."""
    done: Counter[int] = Counter()
    for _ in range(count):
        under_way = sum(medium.waiting().values())
        who = medium.end_one()
        done[who] += 1
        hosts[who].take()
        hosts[who].send()
        until(lambda before=under_way: sum(medium.waiting().values()) >= before)
    return done


def queued(r: Rig, medium: Held, deep: Host, others: list[Host], *, each: int, count: int = MANY) -> None:
    """The others have some commands in flight each when so many of one host's come."""
    for other in others:
        other.send(each)
    waiting(r, medium, deep=0, other=each * len(others))
    deep.send(count)
    arrived(r, count + each * len(others))


def test_two_that_want_more_than_there_is_are_served_alike(r: Rig, medium: Held) -> None:
    deep, other = Host(r, DEEP), Host(r, OTHER)
    queued(r, medium, deep, [other], each=2)
    waiting(r, medium, deep=TOGETHER // 2, other=2)
    other.send(MANY // 2 - 2)
    arrived(r, MANY + MANY // 2)
    waiting(r, medium, deep=TOGETHER // 2, other=TOGETHER // 2)
    served(medium, {DEEP: deep, OTHER: other}, TOGETHER)          # what came before both had their share
    done = served(medium, {DEEP: deep, OTHER: other}, 4 * TOGETHER)
    assert abs(done[DEEP] - done[OTHER]) <= TOGETHER // 4, done
    waiting(r, medium, deep=TOGETHER // 2, other=TOGETHER // 2)


def test_one_of_few_commands_waits_behind_a_share_of_anothers_not_behind_its_queue(r: Rig, medium: Held) -> None:
    deep, other = Host(r, DEEP), Host(r, OTHER)
    queued(r, medium, deep, [other], each=2)
    done = served(medium, {DEEP: deep, OTHER: other}, 4 * TOGETHER)
    assert done[OTHER] >= 4 * TOGETHER * 2 // (TOGETHER // 2 + 2) - 2, done


def test_bytes_count_so_long_commands_are_fewer(r: Rig, medium: Held) -> None:
    deep, other = Host(r, DEEP, blocks=256), Host(r, OTHER)       # 128 KiB each: 9 of what a block's command counts as 1
    queued(r, medium, deep, [other], each=2, count=20)
    waiting(r, medium, deep=4, other=2)


def test_four_hosts_have_a_quarter_each(r: Rig, medium: Held) -> None:
    deep, others = Host(r, DEEP), [Host(r, OTHER, host=10 + number) for number in range(3)]
    queued(r, medium, deep, others, each=1)
    waiting(r, medium, deep=TOGETHER // 4, other=3)


@pytest.mark.parametrize("hosts", [(1,), (1, 1)], ids=["one session", "two sessions of one host"])
def test_one_host_alone_fills_the_queue_as_it_likes(r: Rig, medium: Held, hosts: tuple[int, ...]) -> None:
    for host in hosts:
        Host(r, DEEP, host=host).send(MANY)
    arrived(r, MANY * len(hosts))
    waiting(r, medium, deep=MANY * len(hosts), other=0)
    assert r.reactor.stats()["loop"]["shared"] == 0


def test_once_the_other_has_gone_the_queue_is_filled_again(r: Rig, medium: Held) -> None:
    deep, other = Host(r, DEEP), Host(r, OTHER)
    queued(r, medium, deep, [other], each=1)
    waiting(r, medium, deep=TOGETHER // 2, other=1)
    assert medium.end_one() == OTHER
    other.take()

    def filled() -> bool:
        served(medium, {DEEP: deep}, 1)
        return medium.waiting()[DEEP] == MANY
    until(filled)


def test_what_waits_while_its_host_leaves_does_not_keep_others_from_the_medium(r: Rig, medium: Held) -> None:
    deep, other = Host(r, DEEP), Host(r, OTHER)
    number = r.number
    deep.send(1)
    waiting(r, medium, deep=1, other=0)
    other.send(MANY)
    arrived(r, MANY + 1)
    r.reactor.remove_session(number)
    while medium.waiting()[OTHER]:
        medium.end_one()
        r.reactor.events()
    for _ in range(2):
        Host(r, DEEP, host=1).send(MANY)
    until(lambda: medium.waiting()[DEEP] >= TOGETHER // 2)
