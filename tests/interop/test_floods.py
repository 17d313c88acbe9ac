"""Invariant: floods (logins, text, pings, unfed transfers, torn-down sessions) and poison leave memory bounded, others served."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from target.iscsi.pdu import (
    R2T,
    DataIn,
    DataOut,
    LoginRequest,
    LogoutRequest,
    NopOut,
    ScsiCommand,
    ScsiResponse,
    TaskManagementRequest,
    TextRequest,
    encode,
)
from target.iscsi.text import build_pairs
from tests.support.daemon import DaemonProcess
from tests.support.session import Connection, read10, write10
from tests.support.waiting import PATIENCE_SECONDS, until

GROWTH_BYTES = 96 << 20  # of the daemon's memory, in any of these floods
BUFFER_BYTES = 256 << 20  # what data may take besides, of each reactor
NONE = 0xFFFFFFFF


def rss_bytes(daemon: DaemonProcess, which: str = "VmRSS") -> int:
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(which)))


class Witness:
    """Another host's session: it writes and reads now and then, and the daemon's memory is looked at."""

    def __init__(self, daemon: DaemonProcess) -> None:
        daemon.cli("create", "v", "--size", "64M")
        self.daemon = daemon
        self.connection = Connection(daemon.port, daemon.target, name="iqn.2026-11.test:witness")
        self.cmd_sn, self.round = 1, 0
        for _ in range(8):
            self.connection.send(ScsiCommand(initiator_task_tag=1, cmd_sn=self.cmd_sn))
            self.cmd_sn += 1
            if self.connection.receive(ScsiResponse).status == 0:
                break
        self.check()
        self.before = rss_bytes(daemon)

    def check(self) -> None:
        block = self.round.to_bytes(4, "big") * 128
        self.connection.send(write10(100 + self.round % 8, block, 7, self.cmd_sn))
        assert self.connection.receive(ScsiResponse).status == 0
        self.connection.send(read10(100 + self.round % 8, 1, 8, self.cmd_sn + 1))
        assert self.connection.receive(DataIn).data == block
        self.cmd_sn += 2
        self.round += 1

    def end(self) -> None:
        self.check()
        assert rss_bytes(self.daemon) - self.before < GROWTH_BYTES
        assert self.daemon.alive
        assert "Traceback" not in self.daemon.log.read_text()


@pytest.fixture
def witness(daemon: DaemonProcess) -> Witness:
    return Witness(daemon)


def flood(connection: Connection, data: bytes, times: int) -> None:
    """Send as much of it as the target takes within a moment for each piece."""
    connection.sock.settimeout(0.3)
    with contextlib.suppress(OSError):
        for _ in range(times):
            connection.sock.sendall(data)


def enemy(daemon: DaemonProcess, number: int = 0, **keys: str) -> Connection:
    return Connection(daemon.port, daemon.target, name="iqn.2026-11.test:enemy", isid=b"\x80" + number.to_bytes(5, "big"),
                      **keys)


def test_two_thousand_half_open_logins(witness: Witness) -> None:
    first = encode(LoginRequest(transit=False, current_stage=1, next_stage=3, isid=b"\x80FLOOD",
                                data=build_pairs({"InitiatorName": "iqn.2026-11.test:flood"}.items())))
    held: list[socket.socket] = []
    for number in range(2000):
        sock = socket.create_connection(("127.0.0.1", witness.daemon.port), timeout=PATIENCE_SECONDS)
        with contextlib.suppress(OSError):
            sock.sendall(first[:random.Random(number).randrange(len(first) + 1)])
        held.append(sock)
        if len(held) > 400:
            held.pop(0).close()
        if number % 200 == 0:
            witness.check()
    for sock in held:
        sock.close()
    witness.end()


def test_text_that_never_ends(witness: Witness) -> None:
    more = encode(TextRequest(final=False, continues=True, initiator_task_tag=5, cmd_sn=1, immediate=True,
                              data=b"X-com.example.key=" + b"x" * 8000))
    for number in range(4):
        each = enemy(witness.daemon, number)
        flood(each, more, 2000)
        witness.check()
        each.close()
    witness.end()


def test_pings_whose_answers_nobody_reads(witness: Witness) -> None:
    ping = encode(NopOut(initiator_task_tag=9, cmd_sn=1, immediate=True, data=b"p" * 8192))
    each = enemy(witness.daemon)
    flood(each, ping, 4000)
    witness.check()
    each.close()
    witness.end()


def test_answers_that_nobody_reads_cost_nothing_once_their_sessions_are_gone(witness: Witness) -> None:
    deaf = [enemy(witness.daemon, number) for number in range(16)]
    for each in deaf:
        each.sock.settimeout(1)
        with contextlib.suppress(OSError):
            for number in range(100):
                each.send(read10(number, 512, number, 1 + number))
    witness.check()
    for each in deaf:
        each.close()
    until(lambda: rss_bytes(witness.daemon) - witness.before <= GROWTH_BYTES // 2)
    witness.end()


@pytest.mark.parametrize("level", ["0", "1"])
def test_what_python_answers_and_nobody_reads_stays_within_the_buffers(witness: Witness, level: str) -> None:
    deaf = [enemy(witness.daemon, number, ErrorRecoveryLevel=level) for number in range(16)]
    for each in deaf:                      # all of it lies behind the session's first command, which is Python's to answer
        each.sock.settimeout(1)
        reads = b"".join(encode(read10(number, 2048, number, 1 + number)) for number in range(48))
        with contextlib.suppress(OSError):
            each.sock.sendall(reads)
    for _ in range(5):
        witness.check()
        time.sleep(0.2)
    assert rss_bytes(witness.daemon, "VmHWM") - witness.before < BUFFER_BYTES + GROWTH_BYTES
    for each in deaf:
        each.close()
    witness.check()


def test_immediate_commands_and_functions_without_number(witness: Witness) -> None:
    inquiries = b"".join(encode(ScsiCommand(
        read=True, initiator_task_tag=tag, cmd_sn=1, immediate=True, cdb=bytes.fromhex("12000000ff00") + bytes(10),
        expected_data_transfer_length=255)) for tag in range(500))
    reset = TaskManagementRequest(function=2, initiator_task_tag=1 << 20, cmd_sn=1, immediate=True, referenced_task_tag=NONE)
    for number in range(3):
        each = enemy(witness.daemon, number)
        flood(each, inquiries, 20)
        flood(each, encode(reset), 500)
        witness.check()
        each.close()
    witness.end()


def test_transfers_that_are_begun_and_never_fed(witness: Witness) -> None:
    held = []
    for number in range(24):
        each = enemy(witness.daemon, number)
        cdb = bytes.fromhex("8a00 0000000000000000 00004000 0000".replace(" ", ""))  # 8 MiB, none of it sent
        flood(each, b"".join(encode(ScsiCommand(write=True, final=True, initiator_task_tag=tag, cmd_sn=tag + 1, cdb=cdb,
                                                expected_data_transfer_length=8 << 20)) for tag in range(128)), 1)
        held.append(each)
        witness.check()
    assert rss_bytes(witness.daemon) - witness.before < GROWTH_BYTES
    for each in held:
        each.close()
    witness.end()


def test_sessions_torn_down_while_they_work(witness: Witness) -> None:
    rng = random.Random(5)
    for number in range(150):
        each = enemy(witness.daemon, number % 5)  # now and then while the one before is still closing
        stream = bytearray()
        for tag in range(40):
            lba = rng.randrange(0, 64, 8)
            stream += encode(write10(lba, bytes(4096), tag, tag + 1) if tag % 2 else read10(lba, 64, tag, tag + 1))
        flood(each, bytes(stream[:rng.randrange(len(stream))]), 1)
        if rng.random() < 0.7:
            each.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        each.close()
        if number % 15 == 0:
            witness.check()
    witness.end()


# -- hostile input at a stage of a connection's life, on several connections at once ---------------------------------------
ENEMY = "iqn.2026-11.test:enemy"


def login_request(text: dict[str, str], number: int, *, transit: bool = False) -> bytes:
    return encode(LoginRequest(transit=transit, current_stage=0, next_stage=1 if transit else 0,
                               isid=b"\x80" + number.to_bytes(5, "big"), data=build_pairs(text.items())))


def before_the_response(daemon: DaemonProcess, number: int) -> socket.socket:
    """A login that has got its CHAP challenge."""
    sock = socket.create_connection(("127.0.0.1", daemon.port), timeout=PATIENCE_SECONDS)
    names = {"InitiatorName": ENEMY, "TargetName": daemon.target, "AuthMethod": "CHAP,None"}
    for text in (names, {"CHAP_A": "7,5"}):
        sock.sendall(login_request(text, number))
        sock.recv(4096)
    return sock


def in_a_burst(daemon: DaemonProcess, number: int) -> socket.socket:
    """A session whose WRITE of 1 MiB has been sent an R2T, and half of its data."""
    connection = Connection(daemon.port, daemon.target, name="iqn.2026-11.test:other", isid=b"\x80" + number.to_bytes(5, "big"),
                            MaxBurstLength="65536", InitialR2T="Yes", ImmediateData="No")
    connection.send(ScsiCommand(initiator_task_tag=1, cmd_sn=1))
    connection.receive(ScsiResponse)                # the unit attention of a new session
    connection.send(ScsiCommand(write=True, initiator_task_tag=2, cmd_sn=2, expected_data_transfer_length=1 << 20,
                                cdb=bytes.fromhex("2a000000040000080000") + bytes(6)))
    wanted = connection.receive(R2T)
    connection.send(DataOut(initiator_task_tag=2, target_transfer_tag=wanted.target_transfer_tag, data=bytes(32768), final=False))
    return connection.sock


def while_logging_out(daemon: DaemonProcess, number: int) -> socket.socket:
    """A session with commands under way that has sent a logout, and perhaps not got its answer."""
    connection = Connection(daemon.port, daemon.target, name="iqn.2026-11.test:other", isid=b"\x81" + number.to_bytes(5, "big"))
    connection.sock.sendall(b"".join(encode(each) for each in (
        read10(0, 64, 1, 1), read10(0, 64, 2, 2), write10(8, bytes(4096), 3, 3),
        TaskManagementRequest(immediate=True, function=2, initiator_task_tag=4, cmd_sn=4),
        LogoutRequest(immediate=True, reason=number % 3, initiator_task_tag=5, cmd_sn=4))))
    return connection.sock


def poison(rng: random.Random) -> bytes:
    """Something that has no business at that stage, or none at all."""
    pdu = encode(rng.choice((
        LoginRequest(transit=True, current_stage=1, next_stage=3, isid=rng.randbytes(6), data=b"CHAP_N=x\0CHAP_R=0x00\0"),
        LoginRequest(transit=True, current_stage=0, next_stage=3, data=b"CHAP_R=" + b"0x" + b"41" * 3000 + b"\0"),
        TextRequest(initiator_task_tag=9, cmd_sn=3, data=b"SendTargets=All\0"),
        NopOut(initiator_task_tag=9, cmd_sn=3, data=b"p" * 4000),
        DataOut(initiator_task_tag=2, target_transfer_tag=rng.getrandbits(32), data=bytes(4096)),
        DataOut(initiator_task_tag=2, target_transfer_tag=0, buffer_offset=rng.choice((0, 65536, NONE - 4095)), data=bytes(4096),
                data_sn=rng.randrange(3)),
        ScsiCommand(write=True, initiator_task_tag=2, cmd_sn=3, expected_data_transfer_length=NONE, cdb=b"\x2a" + bytes(15)),
        LogoutRequest(immediate=True, reason=rng.randrange(128), initiator_task_tag=5, cmd_sn=3),
        TaskManagementRequest(immediate=True, function=rng.choice((0, 1, 2, 8, 9, 10, 99)),   # none that others may notice
                              initiator_task_tag=7, cmd_sn=3))))
    match rng.randrange(4):
        case 0:
            return pdu
        case 1:
            return pdu[: rng.randrange(1, len(pdu))]
        case 2:
            at = rng.randrange(48)
            return pdu[:at] + rng.randbytes(4) + pdu[at + 4 :] + pdu
        case _:
            return rng.randbytes(rng.choice((1, 47, 48, 500, 9000)))


@pytest.mark.parametrize("reach", [before_the_response, in_a_burst, while_logging_out])
def test_poison_at_a_stage(witness: Witness, tmp_path: Path, reach: Callable[[DaemonProcess, int], socket.socket]) -> None:
    secret = tmp_path / "secret"
    secret.write_text("twelve bytes or more")
    witness.daemon.cli("host", "create", "enemy", ENEMY, "--secret-file", str(secret), "--chap-name", "enemy")
    rng = random.Random(11)
    for _ in range(12):
        held = [reach(witness.daemon, number) for number in range(4)]
        for sock in held * 3:
            with contextlib.suppress(OSError):
                sock.sendall(poison(rng))
        witness.check()
        for sock in held:
            sock.close()
    logins = witness.daemon.log.read_text().count(f"{ENEMY} logged in")
    assert logins == 0, "someone got in without the secret"
    witness.end()
