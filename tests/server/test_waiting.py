"""A gateway that waits: told by a command or a signal; a pool that is given up in good order, and where its logins are sent."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.ownership import Record, State
from target.client import Client
from target.iscsi.pdu import LoginRequest, LoginResponse
from target.iscsi.text import build_pairs
from target.volumes.gateway import create_pool
from target.volumes.watching import Watching
from tests.support.daemon import DaemonProcess
from tests.support.session import Connection
from tests.support.stamps import Session
from tests.support.waiting import PATIENCE_SECONDS


class Login(Connection):
    """One that is not over after its first answer."""

    def __init__(self, port: int, **pairs: str) -> None:
        import socket

        from target.iscsi.framing import PduReader

        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.reader = PduReader(max_data_segment_bytes=1 << 20)
        self.send(LoginRequest(transit=True, current_stage=1, next_stage=3, isid=b"\x80MCS\0\1", cmd_sn=1,
                               data=build_pairs({"InitiatorName": "iqn.2026-11.test:a", **pairs}.items())))
        self.login_response = self.receive(LoginResponse)


def test_a_pool_is_given_up_and_taken_back(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path, size="64M").start()
    process = daemon.process
    assert process is not None
    try:
        daemon.cli("create", "v", "--size", "1M")
        session = Session(daemon.portal, daemon.target, "iqn.2026-01.test:a")
        assert session.write(0, 0, b"x" * 512).status == 0
        session.close()
        assert "logins are sent to 127.0.0.1:9" in daemon.cli("gateway", "move", "127.0.0.1:9")
        assert Client(str(daemon.api)).get("/v1/gateway")["moved_to"] == "127.0.0.1:9"
        answer = Login(daemon.port, TargetName=daemon.target).login_response
        assert (int(answer.status), answer.data.rstrip(b"\0")) == (0x0101, b"TargetAddress=127.0.0.1:9")
        assert int(Login(daemon.port, TargetName="iqn.2026-11.test:none").login_response.status) == 0x0203
        assert int(Login(daemon.port, SessionType="Discovery").login_response.status) == 0
        assert "clean" in daemon.check()
        process.send_signal(signal.SIGUSR1)
        assert process.stdout is not None
        assert daemon.portal in process.stdout.readline()
        session = Session(daemon.portal, daemon.target, "iqn.2026-01.test:a")
        assert session.read(0, 0, 1).data == b"x" * 512
        daemon.cli("gateway", "move", "127.0.0.1:9")
        assert daemon.cli("gateway", "takeover") == "serving\n"
        daemon.cli("gateway", "move", "127.0.0.1:9")
        assert daemon.stop() == 0
    finally:
        daemon.close()


@pytest.mark.parametrize("decision", [0, 1])
def test_a_decider_is_asked_once_when_the_owner_is_gone(tmp_path: Path, decision: int) -> None:
    daemon = DaemonProcess(tmp_path, size="64M")
    asked = tmp_path / "asked"
    daemon.options = [*daemon.options, "--standby", "--decider", f"echo . >> {asked}; exit {decision}"]
    process = subprocess.Popen([sys.executable, "-m", "target", "serve", str(daemon.pool), "--api", str(daemon.api), "--listen",
                                daemon.portal, *daemon.options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = ""
        while f"decider ends with status {decision}" not in said:
            said = process.stderr.readline()
            assert said
            if "waiting:" in said:          # somebody serves the pool and ends
                other = DaemonProcess.__new__(DaemonProcess)
                other.__dict__.update(daemon.__dict__, options=["--open"], api=tmp_path / "o.sock", listen=("127.0.0.1:0",),
                                      process=None)
                other.start().stop()
        if decision == 0:
            assert process.stdout is not None
            assert daemon.portal in process.stdout.readline()
        assert asked.read_text() == ".\n"
    finally:
        process.terminate()
        process.communicate()
        daemon.close()


def test_when_a_lease_has_ended(tmp_path: Path) -> None:
    """By the record alone: once for each time that it stands still for longer than the lease, or says that it was given up."""
    path = tmp_path / "t.pool"
    create_pool(path, name="t", size_bytes=64 << 20)
    now = [0.0]
    watching = Watching(path, clock=lambda: now[0])
    assert not watching.ended()                 # nobody ever owned it

    def write(state: State, counter: int) -> None:
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(Record(state=state, owner=b"o" * 16, counter=counter, lease_ms=10_000).pack())

    for counter in range(3):
        write(State.OWNED, counter)
        now[0] += 12
        assert not watching.ended()
    now[0] += 13
    assert watching.ended()
    assert not watching.ended()
    now[0] += 11
    assert watching.ended()                     # and nobody has come
    write(State.OWNED, 9)
    assert not watching.ended()
    write(State.GIVEN_UP, 9)
    assert watching.ended()
    assert not watching.ended()
