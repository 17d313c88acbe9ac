"""Limits as an administrator sets them and an independent initiator meets them: live, and still there after a restart."""

from __future__ import annotations

import threading

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.libiscsi import GOOD, Initiator
from tests.support.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.needs("libiscsi")


def delayed(daemon: DaemonProcess) -> int:
    return sum(each["delayed"] for each in daemon.stats()["reactors"])


def test_a_limit_makes_wait_survives_a_restart_and_ends_at_once(daemon: DaemonProcess) -> None:
    """A byte a second: the first read passes, the next one would in an hour."""
    for name in ("slow", "free"):
        daemon.cli("create", name, "--size", "64M")
    slow, free = (daemon.ls()[name]["lun"] for name in ("slow", "free"))
    daemon.cli("set", "slow", "--bandwidth", "1")
    daemon.restart()
    assert daemon.ls()["slow"]["bandwidth_bytes"] == 1
    with Initiator(daemon.portal, daemon.target) as initiator, Initiator(daemon.portal, daemon.target,
                                                                        name="iqn.2026-01.test:other") as other:
        initiator.settle(slow)
        other.settle(free)
        assert initiator.read(slow, 0, 8).status == GOOD
        found: list[int] = []
        waits = threading.Thread(target=lambda: found.append(initiator.read(slow, 8, 8).status))
        waits.start()
        until(lambda: delayed(daemon) == 1)
        for block in range(0, 80, 8):
            assert other.read(free, block, 8).status == GOOD
        assert found == []
        daemon.cli("set", "slow", "--bandwidth", "0")
        waits.join(PATIENCE_SECONDS)
        assert found == [GOOD]
    row = next(each for each in daemon.stats()["luns"] if each["name"] == "slow")
    assert row["delayed"] == 1
