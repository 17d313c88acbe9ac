"""Gateways of a pool on a real cluster: one waits and takes over, a planned move, who is listed where."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from target.client import Client
from tests.ceph.conftest import Images
from tests.support.daemon import DaemonProcess, Refused
from tests.support.stamps import Lost, Session, stamped
from tests.support.waiting import until


def standby(daemon: DaemonProcess) -> subprocess.Popen[str]:
    """Start it, and return when it waits."""
    before = daemon.log.stat().st_size if daemon.log.exists() else 0
    with daemon.log.open("a") as log:           # no pipe, which it would fill if nobody read on
        process = subprocess.Popen([sys.executable, "-m", "target", "serve", str(daemon.pool), "--api", str(daemon.api),
                                    "--listen", daemon.portal, *daemon.options, "--standby"],
                                   stdout=subprocess.PIPE, stderr=log, text=True)
    while b"waiting:" not in daemon.log.read_bytes()[before:]:
        assert process.poll() is None
        time.sleep(0.05)
    daemon.process = process
    return process


def listed(images: Images, daemon: DaemonProcess) -> dict[str, list[str]]:
    """State -> portals of the pools that this test has made."""
    rows = json.loads(daemon.cli("gateway", "ls", f"rbd:lun@{images.cluster.conf}", "--json"))
    image = str(daemon.pool).split("/")[1].split("@")[0]
    return {row["state"]: row["portals"] for row in rows if row["image"].split("/")[-1] == image}


def test_a_planned_move_there_and_back(images: Images) -> None:
    first = images.gateway().start()
    second = images.another(first)
    waiting = standby(second)
    first.cli("create", "v", "--size", "16M")
    statuses: list[int] = []
    stop = threading.Event()

    def load() -> None:
        """Writes and reads back, and logs in again wherever the pool is."""
        session, number = None, 0
        while not stop.is_set():
            try:
                for portal in (first.portal, second.portal):
                    with suppress(Lost):
                        session = session or Session(portal, first.target, "iqn.2026-01.test:one")
                if session is None:
                    continue
                number += 1
                lba = number % 1024 * 8
                statuses.append(session.write(0, lba, stamped(1, lba, 8, number)).status)
                assert session.read(0, lba, 8).data == stamped(1, lba, 8, number)
            except Lost:
                session = None

    def goes_on() -> None:
        before = len(statuses)
        until(lambda: len(statuses) >= before + 20 or not writer.is_alive())
        assert writer.is_alive()

    writer = threading.Thread(target=load)
    writer.start()
    try:
        assert listed(images, first) == {"active": first.portal}
        assert "serving there" in first.cli("gateway", "move", second.portal, "--then", str(second.api))
        assert listed(images, first) == {"active": second.portal}
        goes_on()
        assert "serving there" in second.cli("gateway", "move", first.portal, "--then", str(first.api))
        goes_on()
    finally:
        stop.set()
        writer.join()
    assert set(statuses) == {0}
    assert waiting.poll() is None
    assert first.stop() == 0
    assert "clean" in first.check()
    assert not images.cluster.ceph("osd", "blocklist", "ls") or listed(images, first) == {"given up": first.portal}


def test_told_while_the_owner_lives_and_swept_by_hand(images: Images) -> None:
    """The decider is wrong: nothing is lost but the gateway that served."""
    first = images.gateway("--lease", "4").start()
    first.cli("create", "v", "--size", "16M")
    session = Session(first.portal, first.target, "iqn.2026-01.test:one")
    assert session.write(0, 0, stamped(1, 0, 8, 1)).status == 0
    second = images.another(first)
    standby(second)
    assert second.cli("gateway", "takeover") == "serving\n"
    assert first.process is not None
    assert first.process.wait(60) == 75
    assert Session(second.portal, first.target, "iqn.2026-01.test:one").read(0, 0, 8).data == stamped(1, 0, 8, 1)
    place = f"rbd:lun@{images.cluster.conf}"
    rows = json.loads(second.cli("gateway", "ls", place, "--json"))
    fenced = next(row["client"] for row in rows if row["pid"] == first.process.pid and row["state"] == "fenced")
    assert fenced in images.cluster.blocked()
    second.cli("gateway", "sweep", place, fenced)
    assert fenced not in images.cluster.blocked()
    with pytest.raises(Refused, match="no gateway of"):
        second.cli("gateway", "sweep", place, fenced)
    second.stop()


def test_told_by_a_signal_when_the_owner_was_killed(images: Images) -> None:
    first = images.gateway("--lease", "4").start()
    first.cli("create", "v", "--size", "16M")
    second = images.another(first)
    waiting = standby(second)
    first.stop(signal.SIGKILL)
    os.kill(waiting.pid, signal.SIGUSR1)
    assert waiting.stdout is not None
    assert second.portal in waiting.stdout.readline()
    assert Client(str(second.api)).get("/v1/pool")["failed"] == 0
    second.stop()
    assert "clean" in second.check()
