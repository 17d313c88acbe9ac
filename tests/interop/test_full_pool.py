"""A full pool under a real initiator: what fails, what goes on, and that writes resume without a restart (SBC-4 §4.7.3)."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.libiscsi import CHECK_CONDITION, GOOD, Answer, Initiator
from tests.support.waiting import until

PIECE_BLOCKS = 512                     # 256 KiB
DATA_PROTECT, SPACE_ALLOCATION_FAILED, THRESHOLD_REACHED = 7, 0x2707, 0x3807


def write(session: Initiator, block: int, fill: int, told: list[int]) -> Answer:
    """Write a piece; unit attentions on the way go to `told`."""
    while (answer := session.write(0, block, bytes([fill]) * (512 * PIECE_BLOCKS))).key == 6:
        told.append(answer.asc)
    return answer


@pytest.mark.needs("libiscsi")
def test_a_full_pool_refuses_only_what_needs_space(start: Callable[..., DaemonProcess]) -> None:
    daemon = start(size="128M")
    daemon.cli("create", "v", "--size", "512M")
    told: list[int] = []
    with Initiator(daemon.portal, daemon.target) as session:
        session.settle()
        block = 0
        while (answer := write(session, block, 1, told)).status == GOOD:
            block += PIECE_BLOCKS
        refused = (CHECK_CONDITION, DATA_PROTECT, SPACE_ALLOCATION_FAILED)
        assert (answer.status, answer.key, answer.asc) == refused
        assert block > 0
        assert write(session, 0, 2, told).status == GOOD
        assert session.read(0, 0, 1).data == b"\2" * 512
        until(lambda: THRESHOLD_REACHED in told or told.extend(session.settle()))     # the daemon looks at it now and then
        daemon.cli("pool", "grow", "256M")
        assert write(session, block, 3, told).status == GOOD
        assert session.read(0, block, 1).data == b"\3" * 512
    daemon.stop()
    assert "clean" in daemon.check()


def unmap(session: Initiator, block: int, blocks: int, told: list[int]) -> Answer:
    """UNMAP of one range."""
    body = struct.pack(">HHIQII", 22, 16, 0, block, blocks, 0)
    cdb = struct.pack(">BBIBHB", 0x42, 0, 0, 0, len(body), 0)
    while (answer := session.command(0, cdb, write=body)).key == 6:
        told.append(answer.asc)
    return answer


def write_same_unmap(session: Initiator, block: int, blocks: int, told: list[int]) -> Answer:
    cdb = struct.pack(">BBQIBB", 0x93, 0x08, block, blocks, 0, 0)
    while (answer := session.command(0, cdb, write=bytes(512))).key == 6:
        told.append(answer.asc)
    return answer


def resumes(session: Initiator, block: int, fill: int, told: list[int]) -> bool:
    """Writes there succeed once freed space has come back, while the session goes on; whether they are what is read then."""
    def written() -> bool:
        answer = write(session, block, fill, told)
        assert answer.status == GOOD or (answer.key, answer.asc) == (DATA_PROTECT, SPACE_ALLOCATION_FAILED)
        return answer.status == GOOD

    until(written)
    return session.read(0, block, 1).data == bytes([fill]) * 512


def fill_up(session: Initiator, block: int, told: list[int]) -> int:
    """Write until there is no space for a whole piece, nor for a block; where the next piece would go."""
    while write(session, block, 1, told).status == GOOD:
        block += PIECE_BLOCKS
    return block + PIECE_BLOCKS


@pytest.mark.needs("libiscsi")
def test_a_full_pool_frees_space_and_goes_on(start: Callable[..., DaemonProcess]) -> None:
    """Beside a reader that never stops: private blocks, UNMAP, WRITE SAME, a snapshot's delete; no restart, no new login."""
    daemon = start(size="128M")
    daemon.cli("create", "v", "--size", "512M")
    told: list[int] = []
    stop = threading.Event()
    wrong: list[object] = []

    def read_on() -> None:
        with Initiator(daemon.portal, daemon.target, "iqn.2026-01.test:reader") as reader:
            reader.settle()
            while not stop.is_set():
                answer = reader.read(0, 4 * PIECE_BLOCKS, 8)
                if answer.key != 6 and (answer.status, answer.data) != (GOOD, b"\5" * 4096):
                    wrong.append(answer)

    with Initiator(daemon.portal, daemon.target) as session:
        session.settle()
        for i in range(8):
            assert write(session, i * PIECE_BLOCKS, 5, told).status == GOOD
        reading = threading.Thread(target=read_on)
        reading.start()
        try:
            daemon.cli("snapshot", "v@s")
            first = 8 * PIECE_BLOCKS
            end = fill_up(session, first, told)
            answer = write(session, 0, 6, told)                      # the snapshot shares it
            assert (answer.status, answer.key, answer.asc) == (CHECK_CONDITION, DATA_PROTECT, SPACE_ALLOCATION_FAILED)
            assert write(session, first, 7, told).status == GOOD     # nobody else has it
            assert unmap(session, first + PIECE_BLOCKS, PIECE_BLOCKS, told).status == GOOD
            assert resumes(session, end, 8, told)
            end = fill_up(session, end + PIECE_BLOCKS, told)
            assert write_same_unmap(session, first + 2 * PIECE_BLOCKS, PIECE_BLOCKS, told).status == GOOD
            assert resumes(session, end, 9, told)
            end = fill_up(session, end + PIECE_BLOCKS, told)
            assert unmap(session, 0, 2 * PIECE_BLOCKS, told).status == GOOD          # frees nothing: the snapshot has it
            assert write(session, end, 1, told).status != GOOD
            daemon.cli("delete", "v@s")
            assert resumes(session, end, 10, told)
            assert resumes(session, 3 * PIECE_BLOCKS, 11, told)      # shared no more: in place
            assert session.read(0, first, 1).data == b"\7" * 512
            assert session.read(0, first + PIECE_BLOCKS, 1).data == bytes(512)
        finally:
            stop.set()
            reading.join()
        assert not wrong
    daemon.stop()
    assert "clean" in daemon.check()
