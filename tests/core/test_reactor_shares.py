"""Hosts take turns where there is more to do than a reactor can: none has a hundred commands done for one of another's."""

from collections.abc import Callable
from pathlib import Path

from tests.support.wire import FINAL, READ, WRITE, Rig, Wire, rig, rw

DEEP = 64
ROUNDS = 300
SYNC = bytes([0x35]).ljust(10, b"\0")


def shared(r: Rig) -> int:
    return r.reactor.stats()["loop"]["shared"]


def reads(w: Wire, count: int) -> None:
    """All at once, so that they come in one turn, however busy the machine is."""
    w.sock.sendall(b"".join(w.pdu(w.command_bhs(rw(0x28, 0, 8), flags=FINAL | READ, edtl=4096)) for _ in range(count)))


def take(w: Wire, count: int) -> None:
    for _ in range(count):
        assert w.receive().status == 0


def beside(deep: Wire, other: Wire, again: Callable[[], bool]) -> None:
    """One of many commands and one of few, until `again` says no."""
    for _ in range(ROUNDS):
        reads(other, 1)
        reads(deep, DEEP)
        take(deep, DEEP)
        take(other, 1)
        if not again():
            return


def test_a_deep_queue_waits_for_its_turn_beside_another_host(tmp_path: Path) -> None:
    with rig(tmp_path / "pool") as r:
        deep, other = r.wire(host=1), r.wire(host=2)
        beside(deep, other, lambda: shared(r) == 0)
        assert shared(r) > 0


def test_sessions_without_a_number_are_hosts_of_their_own(tmp_path: Path) -> None:
    with rig(tmp_path / "pool") as r:
        deep, other = r.wire(), r.wire()
        beside(deep, other, lambda: shared(r) == 0)
        assert shared(r) > 0


def test_a_medium_that_keeps_up_has_no_queue_to_share(tmp_path: Path) -> None:
    """Each has more under way than its part of what many may have in flight, and less than its share of a turn."""
    with rig(tmp_path / "pool", inline_io=True) as r:
        hosts = [r.wire(host=number) for number in range(1, 33)]
        for _ in range(30):
            for w in hosts:
                reads(w, 8)
            for w in hosts:
                take(w, 8)
        assert shared(r) == 0


def test_sessions_of_one_host_wait_for_nobody(tmp_path: Path) -> None:
    with rig(tmp_path / "pool") as r:
        deep, other = r.wire(host=1), r.wire(host=1)
        rounds = iter(range(50))
        beside(deep, other, lambda: next(rounds, None) is not None)
        assert shared(r) == 0


def test_one_alone_waits_for_nobody(tmp_path: Path) -> None:
    with rig(tmp_path / "pool") as r:
        w = r.wire(host=1)
        for _ in range(20):
            reads(w, DEEP)
            take(w, DEEP)
        assert shared(r) == 0


def test_what_waits_is_done_and_its_data_are_right(tmp_path: Path) -> None:
    """Writes of both, that wait for turns, are what is read back; a flush among them is answered, too."""
    with rig(tmp_path / "pool") as r:
        deep, other = r.wire(host=1), r.wire(host=2)
        for turn in range(40):
            blocks = [bytes([turn, number]) * 2048 for number in range(DEEP)]
            for number, data in enumerate(blocks):
                deep.command(rw(0x2A, number * 8, 8), flags=FINAL | WRITE, edtl=4096, data=data)
                if number % 16 == 0:
                    reads(other, 1)
            deep.command(SYNC)
            take(deep, DEEP + 1)
            take(other, DEEP // 16)
            wanted = {deep.command(rw(0x28, number * 8, 8), flags=FINAL | READ, edtl=4096): data
                      for number, data in enumerate(blocks)}
            answers = [deep.receive() for _ in blocks]
            assert {each.itt: each.data for each in answers} == wanted


def test_a_host_that_leaves_while_its_commands_wait_is_forgotten(tmp_path: Path) -> None:
    with rig(tmp_path / "pool") as r:
        other = r.wire(host=2)
        for _ in range(20):
            deep = r.wire(host=1)
            number = r.number
            reads(other, 1)
            reads(deep, DEEP)
            r.reactor.remove_session(number)
            take(other, 1)
        reads(other, 4)
        take(other, 4)
