"""A daemon that nobody talks to: what was written becomes hard, whichever reactor wrote it (docs/durability.md)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest

from target.iscsi.pdu import ScsiResponse
from target.scsi.lun import encode
from tests.support.daemon import DaemonProcess
from tests.support.places import pool_directory
from tests.support.session import Connection, write10

PATIENCE_SECONDS = 15           # it takes one; where the wake-up is lost, the sleep of thirty ends it


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    with pool_directory(tmp_path) as place:
        process = DaemonProcess(place, "--reactors", "2", size="128M")
        try:
            process.start()
            yield process
        finally:
            process.close()


def test_unflushed_writes_become_hard_through_either_reactor(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    lun = encode(daemon.ls()["v"]["lun"]).to_bytes(8)
    sessions = [(Connection(daemon.port, daemon.target, name=f"iqn.2026-11.test:{n}"), count(1)) for n in "ab"]
    assert {row["reactor"] for row in json.loads(daemon.cli("sessions", "--json"))} == {0, 1}
    for turn in range(4):
        session, numbers = sessions[turn % 2]
        before = daemon.stats()["pool"]["syncs"]
        for number in islice(numbers, 4):               # the first tells unit attentions
            session.send(write10(turn << 12, b"x" * 4096, number, number, lun=lun, final=True))
            if session.receive(ScsiResponse).status == 0:
                break
        else:
            pytest.fail("no write was accepted")
        end = time.monotonic() + PATIENCE_SECONDS
        while daemon.stats()["pool"]["syncs"] == before:
            assert time.monotonic() < end, f"write {turn} stays soft"
            time.sleep(0.2)
    for session, _ in sessions:
        session.close()
