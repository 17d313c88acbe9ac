"""Two hosts share one disk as cluster file systems do: locks by COMPARE AND WRITE, resets and fencing in the middle of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.libiscsi import GOOD, Answer, Initiator

pytestmark = pytest.mark.needs("libiscsi")

LOCK, DATA = 0, 64      # blocks
BLOCK = 512
ROUNDS = 40             # each host raises the counter so often at least
TASK_ABORTED = 0x40
MISCOMPARE, UNIT_ATTENTION = 0xE, 6
LOGICAL_UNIT_RESET = 5


def connect(daemon: DaemonProcess, name: str, isid: int = 1) -> Initiator:
    initiator = Initiator(daemon.portal, daemon.target, f"iqn.2026-01.test:{name}", isid=isid)
    initiator.settle()
    return initiator


def compare_and_write(initiator: Initiator, block: int, old: bytes, new: bytes) -> Answer:
    cdb = bytes([0x89, 0]) + block.to_bytes(8) + bytes(3) + bytes([len(old) // BLOCK, 0, 0])
    return initiator.command(0, cdb, write=old + new)


def number(value: int) -> bytes:
    return value.to_bytes(8).ljust(BLOCK, b"\0")


def told(answer: Answer) -> Answer:
    """The answer: GOOD, a miscompare, a unit attention (the command was not performed) or TASK ABORTED (it may have been)."""
    assert answer.status in (GOOD, TASK_ABORTED) or answer.key in (MISCOMPARE, UNIT_ATTENTION), answer
    return answer


def read(initiator: Initiator, block: int) -> int:
    """The number in a block, read until no reset comes in between."""
    while (answer := told(initiator.read(0, block, 1))).status != GOOD:
        pass
    return int.from_bytes(answer.data[:8])


def write(initiator: Initiator, block: int, value: int) -> None:
    while told(initiator.write(0, block, number(value))).status != GOOD:
        pass


class Host(threading.Thread):
    """Takes the lock on disk, adds one to the counter with plain reads and writes, gives the lock back; again and again."""

    def __init__(self, daemon: DaemonProcess, owner: int, enough: Callable[[], bool]) -> None:
        super().__init__()
        self.enough = enough
        self.rounds = 0
        self.owner = owner
        self.initiator = connect(daemon, f"host{owner}")
        self.misses, self.interruptions = 0, 0
        self.failure: BaseException | None = None

    def swap(self, old: int, new: int) -> bool:
        """COMPARE AND WRITE of the lock; False when another holds it."""
        while True:
            answer = told(compare_and_write(self.initiator, LOCK, number(old), number(new)))
            if answer.status == GOOD or answer.key == MISCOMPARE:
                return answer.status == GOOD
            self.interruptions += 1
            if answer.status == TASK_ABORTED and (found := read(self.initiator, LOCK)) != old:
                return old == self.owner or found == new    # what was mine is given back; or it became mine, or another's

    def run(self) -> None:
        try:
            while not self.enough():
                while not self.swap(0, self.owner):
                    self.misses += 1
                write(self.initiator, DATA, read(self.initiator, DATA) + 1)
                assert self.swap(self.owner, 0), "someone took a lock that was held"
                self.rounds += 1
        except BaseException as failure:
            self.failure = failure


def test_a_lock_on_disk_excludes_in_spite_of_resets(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    hosts: list[Host] = []

    def enough() -> bool:
        """Each has had its rounds, and they have been in each other's way, and resets in that of each."""
        return any(host.failure for host in hosts) or (
            all(host.rounds >= ROUNDS and host.interruptions for host in hosts) and any(host.misses for host in hosts))

    hosts += [Host(daemon, owner, enough) for owner in (1, 2, 3)]
    with connect(daemon, "resetter") as resetter:
        for host in hosts:
            host.start()
        while any(host.is_alive() for host in hosts):
            assert resetter.task_management(0, LOGICAL_UNIT_RESET) == 0
            time.sleep(0.01)
    for host in hosts:
        host.join()
        assert host.failure is None
    with connect(daemon, "reader") as reader:
        assert int.from_bytes(reader.read(0, DATA, 1).data[:8]) == sum(host.rounds for host in hosts)
        assert reader.read(0, LOCK, 1).data == bytes(BLOCK)
    for host in hosts:
        host.initiator.drop()
