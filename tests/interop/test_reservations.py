"""Two initiators fight over one LUN: reservations hold on the native path, across kill -9, with the right attentions."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from tests.interop.conftest import Start
from tests.support.daemon import DaemonProcess
from tests.support.libiscsi import GOOD, Answer, Initiator

pytestmark = pytest.mark.needs("libiscsi")

CONFLICT = 0x18
REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_ABORT = range(6)
WRITE_EXCLUSIVE, EXCLUSIVE_ACCESS, REGISTRANTS_ONLY = 1, 3, 5


def connect(daemon: DaemonProcess, name: str) -> Initiator:
    initiator = Initiator(daemon.portal, daemon.target, f"iqn.2026-01.test:{name}")
    initiator.settle()
    return initiator


def reserve_out(initiator: Initiator, action: int, key: int = 0, new: int = 0, kind: int = 0, flags: int = 0) -> Answer:
    data = key.to_bytes(8, "big") + new.to_bytes(8, "big") + bytes(4) + bytes([flags, 0, 0, 0])
    return initiator.command(0, bytes([0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0]), write=data)


def keys(initiator: Initiator) -> list[int]:
    data = initiator.command(0, bytes([0x5E, 0, 0, 0, 0, 0, 0, 4, 0, 0]), read=1024).data
    return [int.from_bytes(data[at:at + 8], "big") for at in range(8, 8 + int.from_bytes(data[4:8], "big"), 8)]


def held_type(initiator: Initiator) -> int | None:
    data = initiator.command(0, bytes([0x5E, 1, 0, 0, 0, 0, 0, 0, 64, 0]), read=64).data
    return data[21] & 0x0F if data[4:8] != bytes(4) else None


def test_a_write_exclusive_reservation_stops_native_writes_only(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    with connect(daemon, "a") as first, connect(daemon, "b") as second:
        assert second.write(0, 0, b"b" * 512).status == GOOD
        assert reserve_out(first, REGISTER, new=1).status == GOOD
        assert reserve_out(first, RESERVE, key=1, kind=WRITE_EXCLUSIVE).status == GOOD
        assert second.read(0, 0, 1).data == b"b" * 512
        assert second.write(0, 0, b"c" * 512).status == CONFLICT
        assert first.write(0, 0, b"a" * 512).status == GOOD
        assert reserve_out(first, RELEASE, key=1, kind=WRITE_EXCLUSIVE).status == GOOD
        assert second.write(0, 0, b"d" * 512).status == GOOD
        assert first.read(0, 0, 1).data == b"d" * 512


NATIVE = {  # a CDB that the data plane can decide, what comes or goes, and what it does to the medium (SBC-4 table 14)
    "TEST UNIT READY": (bytes(6), b"", 0, "nothing"),
    "READ (10)": (b"\x28" + bytes(7) + b"\1\0", b"", 512, "reads"),
    "READ (16)": (b"\x88" + bytes(12) + b"\1\0\0", b"", 512, "reads"),
    "WRITE (10)": (b"\x2a" + bytes(7) + b"\1\0", bytes(512), 0, "writes"),
    "WRITE (16)": (b"\x8a" + bytes(12) + b"\1\0\0", bytes(512), 0, "writes"),
    "SYNCHRONIZE CACHE (10)": (b"\x35" + bytes(9), b"", 0, "writes"),
    "SYNCHRONIZE CACHE (16)": (b"\x91" + bytes(15), b"", 0, "writes"),
}
FORBIDS = {  # to whom is neither registered nor the holder; to who is registered, by the type of a reservation (SPC-4 §5.13.1)
    1: ({"writes"}, {"writes"}), 3: ({"reads", "writes"}, {"reads", "writes"}), 5: ({"writes"}, set()),
    6: ({"reads", "writes"}, set()), 7: ({"writes"}, set()), 8: ({"reads", "writes"}, set()),
}


def test_what_the_data_plane_decides_meets_every_type_of_reservation(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    with connect(daemon, "holder") as holder, connect(daemon, "registrant") as registrant, connect(daemon, "other") as other:
        for kind, (to_others, to_registrants) in FORBIDS.items():
            assert reserve_out(holder, REGISTER, new=1).status == GOOD
            assert reserve_out(registrant, REGISTER, new=2).status == GOOD
            assert reserve_out(holder, RESERVE, key=1, kind=kind).status == GOOD
            for one, forbidden in ((holder, set()), (registrant, to_registrants), (other, to_others)):
                one.settle()
                for name, (cdb, out, length, does) in NATIVE.items():
                    want = CONFLICT if does in forbidden else GOOD
                    assert one.command(0, cdb, write=out, read=length).status == want, (kind, name)
            assert reserve_out(holder, CLEAR, key=1).status == GOOD
            for one in (holder, registrant):
                one.settle()


def test_nothing_is_written_once_another_nexus_holds_the_lun(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    with connect(daemon, "a") as first, connect(daemon, "b") as second:
        assert reserve_out(first, REGISTER, new=1).status == GOOD
        outcomes: list[int] = []
        stop = threading.Event()

        def hammer() -> None:
            while not stop.is_set():
                outcomes.append(second.write(0, 8, b"b" * 4096).status)

        writer = threading.Thread(target=hammer)
        writer.start()
        try:
            while len(outcomes) < 50:
                time.sleep(0.001)
            assert reserve_out(first, RESERVE, key=1, kind=EXCLUSIVE_ACCESS).status == GOOD
            assert first.write(0, 8, b"a" * 4096).status == GOOD
            seen = len(outcomes)
            while len(outcomes) < seen + 50:
                time.sleep(0.001)
        finally:
            stop.set()
            writer.join()
        assert set(outcomes[:50]) == {GOOD}
        assert outcomes[-1] == CONFLICT
        assert first.read(0, 8, 8).data == b"a" * 4096


def test_reservations_survive_a_kill_when_asked_to(start: Start) -> None:
    daemon = start()
    daemon.cli("create", "v", "--size", "64M")
    first, second = connect(daemon, "a"), connect(daemon, "b")
    assert reserve_out(first, REGISTER, new=0xA, flags=1).status == GOOD
    assert reserve_out(second, REGISTER, new=0xB, flags=1).status == GOOD
    assert reserve_out(first, RESERVE, key=0xA, kind=REGISTRANTS_ONLY).status == GOOD
    daemon.stop(signal.SIGKILL)
    first.drop()
    second.drop()
    daemon.start()
    with connect(daemon, "c") as third:
        assert keys(third) == [0xA, 0xB]
        assert held_type(third) == REGISTRANTS_ONLY
        assert third.write(0, 0, b"c" * 512).status == CONFLICT
        assert third.read(0, 0, 1).status == GOOD
        assert reserve_out(third, REGISTER, new=0xC).status == GOOD       # APTPL off from here on
        assert third.write(0, 0, b"c" * 512).status == GOOD
        assert reserve_out(third, PREEMPT, key=0xC, new=0xA, kind=EXCLUSIVE_ACCESS).status == GOOD
        assert keys(third) == [0xB, 0xC]
    daemon.restart(signal.SIGKILL)
    with connect(daemon, "c") as third:
        assert keys(third) == []
        assert third.write(0, 0, b"d" * 512).status == GOOD


def test_preempt_and_abort_tells_the_one_that_lost(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    with connect(daemon, "a") as first, connect(daemon, "b") as second:
        assert reserve_out(first, REGISTER, new=1).status == GOOD
        assert reserve_out(second, REGISTER, new=2).status == GOOD
        assert reserve_out(first, RESERVE, key=1, kind=WRITE_EXCLUSIVE).status == GOOD
        assert reserve_out(second, PREEMPT_ABORT, key=2, new=1, kind=EXCLUSIVE_ACCESS).status == GOOD
        assert first.settle() == [0x2A05]
        assert first.read(0, 0, 1).status == CONFLICT
        assert second.write(0, 0, b"w" * 512).status == GOOD
        assert reserve_out(second, CLEAR, key=2).status == GOOD
        assert first.read(0, 0, 1).data == b"w" * 512
