"""Persistent reservations between two initiators, through restarts and kills (SPC-4 §5.13)."""

from __future__ import annotations

import signal

import pytest

from tests.interop.conftest import Start
from tests.support.daemon import DaemonProcess
from tests.support.libiscsi import GOOD, RESERVATION_CONFLICT, Answer, Initiator

pytestmark = pytest.mark.needs("libiscsi")

ONE, TWO = "iqn.2026-01.test:one", "iqn.2026-01.test:two"
REGISTER, RESERVE, RELEASE, PREEMPT = 0, 1, 2, 4
WRITE_EXCLUSIVE, EXCLUSIVE_ACCESS = 1, 3
KEY_ONE, KEY_TWO = 0x1111, 0x2222


def connect(daemon: DaemonProcess, name: str) -> Initiator:
    made = Initiator(daemon.portal, daemon.target, name)
    made.settle()
    return made


def reserve_out(initiator: Initiator, action: int, *, key: int = 0, new_key: int = 0, kind: int = 0,
                aptpl: bool = False) -> Answer:
    """PERSISTENT RESERVE OUT on LUN 0."""
    parameters = key.to_bytes(8) + new_key.to_bytes(8) + bytes(4) + bytes([aptpl]) + bytes(3)
    return initiator.command(0, bytes([0x5F, action, kind, 0, 0]) + len(parameters).to_bytes(4) + b"\0", write=parameters)


def keys(initiator: Initiator) -> set[int]:
    """PERSISTENT RESERVE IN, READ KEYS."""
    data = initiator.command(0, b"\x5e\0" + bytes(5) + (256).to_bytes(2) + b"\0", read=256).data
    return {int.from_bytes(data[at:at + 8]) for at in range(8, 8 + int.from_bytes(data[4:8]), 8)}


def test_another_nexus_is_kept_out_and_let_in_again(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    with connect(daemon, ONE) as one, connect(daemon, TWO) as two:
        assert two.write(0, 0, b"2" * 512).status == GOOD
        reserve_out(one, REGISTER, new_key=KEY_ONE)
        assert reserve_out(one, RESERVE, key=KEY_ONE, kind=EXCLUSIVE_ACCESS).status == GOOD
        assert two.write(0, 0, b"x" * 512).status == RESERVATION_CONFLICT
        assert two.read(0, 0, 1).status == RESERVATION_CONFLICT
        assert one.write(0, 0, b"1" * 512).status == GOOD
        assert reserve_out(one, RELEASE, key=KEY_ONE, kind=EXCLUSIVE_ACCESS).status == GOOD
        assert two.read(0, 0, 1).data == b"1" * 512
        assert two.write(0, 0, b"2" * 512).status == GOOD


def test_reservations_survive_a_kill_and_a_loss_of_the_session(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    one = connect(daemon, ONE)
    reserve_out(one, REGISTER, new_key=KEY_ONE, aptpl=True)
    assert reserve_out(one, RESERVE, key=KEY_ONE, kind=WRITE_EXCLUSIVE).status == GOOD
    daemon.stop(signal.SIGKILL)
    one.drop()
    daemon.start()
    with connect(daemon, TWO) as two:
        assert keys(two) == {KEY_ONE}
        assert two.read(0, 0, 1).status == GOOD
        assert two.write(0, 0, b"x" * 512).status == RESERVATION_CONFLICT
        reserve_out(two, REGISTER, new_key=KEY_TWO)
        assert reserve_out(two, PREEMPT, key=KEY_TWO, new_key=0, kind=WRITE_EXCLUSIVE).status in (GOOD, 2)
    with connect(daemon, ONE) as again:
        assert again.write(0, 0, b"1" * 512).status == GOOD


@pytest.mark.parametrize("reactors", [2])
def test_reservations_hold_across_reactors(start: Start, reactors: int) -> None:
    daemon = start("--reactors", str(reactors))
    daemon.cli("create", "v", "--size", "64M")
    with connect(daemon, ONE) as one, connect(daemon, TWO) as two:
        reserve_out(one, REGISTER, new_key=KEY_ONE)
        reserve_out(one, RESERVE, key=KEY_ONE, kind=WRITE_EXCLUSIVE)
        for block in range(50):
            assert two.write(0, block, b"x" * 512).status == RESERVATION_CONFLICT
            assert one.write(0, block, bytes([block]) * 512).status == GOOD
            assert two.read(0, block, 1).data == bytes([block]) * 512
        daemon.cli("resize", "v", "128M")
        assert one.settle() == two.settle() == [0x2A09]
        daemon.cli("delete", "v", "--force")
        assert one.test_unit_ready(0).asc == two.test_unit_ready(0).asc == 0x2500
