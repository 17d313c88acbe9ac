"""A full pool under a real initiator: what fails, what goes on, and that writes resume without a restart (SBC-4 §4.7.3)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.libiscsi import CHECK_CONDITION, GOOD, Answer, Initiator

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
        deadline = time.monotonic() + 15             # the daemon looks at its thresholds now and then
        while THRESHOLD_REACHED not in told and time.monotonic() < deadline:
            told += session.settle()
            time.sleep(0.05)
        assert THRESHOLD_REACHED in told
        daemon.cli("pool", "grow", "256M")
        assert write(session, block, 3, told).status == GOOD
        assert session.read(0, block, 1).data == b"\3" * 512
    daemon.stop()
    assert "clean" in daemon.check()
