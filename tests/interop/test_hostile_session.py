"""Invariant: what one logged-in host sends, valid or not, neither stops the daemon nor reaches another host's session.

LUNETTE_FUZZ_SECONDS lengthens it (a second by default).
"""

from __future__ import annotations

import os
import random
import socket
import time

import pytest

from target.iscsi.pdu import (
    DataIn,
    DataOut,
    NopOut,
    Pdu,
    ScsiCommand,
    ScsiResponse,
    SnackRequest,
    TaskManagementRequest,
    TextRequest,
    encode,
)
from tests.interop.conftest import Start
from tests.support.daemon import DaemonProcess
from tests.support.session import Connection, read10, write10

SECONDS = float(os.environ.get("LUNETTE_FUZZ_SECONDS", "1"))
GOOD, EVIL = "iqn.2026-11.test:good", "iqn.2026-11.test:evil"
OPCODES = bytes.fromhex("0000 12 28 28 2a 2a 35 41 42 5e 5f 83 84 88 89 8a 8f 93 9e a0 a3 1a 5a 03 4d")
WRITES = frozenset(bytes.fromhex("2a 41 42 5f 83 89 8a 93"))
NONE = 0xFFFFFFFF


def command(rng: random.Random, cmd_sn: int) -> ScsiCommand:
    """A SCSI command, mostly in form, with any parameters."""
    opcode = rng.choice(OPCODES)
    rest = rng.choice((bytes(15), rng.randbytes(15), bytes(4) + rng.randbytes(2) + bytes(2) + rng.randbytes(2) + bytes(5)))
    data = rng.randbytes(rng.choice((0, 4, 24, 512, 4096))) if opcode in WRITES or rng.random() < 0.05 else b""
    length = len(data) if data and rng.random() < 0.8 else rng.choice((0, 36, 512, 65536, 1 << 20, NONE))
    return ScsiCommand(
        final=rng.random() < 0.95, read=not data, write=bool(data), attributes=rng.choice((0, 0, 1, 2, 3, 7)),
        lun=rng.choice((bytes(8), bytes(8), b"\0\1" + bytes(6), rng.randbytes(8))), initiator_task_tag=rng.randrange(64),
        expected_data_transfer_length=length, cmd_sn=cmd_sn, cdb=bytes((opcode,)) + rest, data=data,
        immediate=rng.random() < 0.02)  # fmt: skip


def other(rng: random.Random, cmd_sn: int) -> Pdu:
    """A PDU that is no command."""
    tag = rng.randrange(64)
    match rng.randrange(5):
        case 0:
            return TaskManagementRequest(function=rng.randrange(16), initiator_task_tag=tag, cmd_sn=cmd_sn,
                                         referenced_task_tag=rng.randrange(64), ref_cmd_sn=cmd_sn, immediate=rng.random() < 0.5)
        case 1:
            return NopOut(initiator_task_tag=rng.choice((tag, NONE)), cmd_sn=cmd_sn, data=rng.randbytes(rng.randrange(500)))
        case 2:
            return TextRequest(initiator_task_tag=tag, cmd_sn=cmd_sn, data=rng.choice((b"SendTargets=\0", rng.randbytes(99))),
                               final=rng.random() < 0.7, target_transfer_tag=rng.choice((NONE, 1)))
        case 3:
            return SnackRequest(initiator_task_tag=tag, type=rng.randrange(4))
        case _:
            return DataOut(initiator_task_tag=tag, target_transfer_tag=rng.choice((NONE, 0, 1)), data=rng.randbytes(512),
                           buffer_offset=rng.choice((0, 512, NONE - 511)), data_sn=rng.randrange(3))


def attack(daemon: DaemonProcess, rng: random.Random) -> None:
    """One hostile session."""
    try:
        evil = Connection(daemon.port, daemon.target, name=EVIL, isid=rng.choice((b"\x80evil1", rng.randbytes(6))))
        stream, cmd_sn = bytearray(), 1
        for _ in range(rng.randrange(1, 120)):
            pdu = command(rng, cmd_sn) if rng.random() < 0.7 else other(rng, cmd_sn)
            stream += encode(pdu)
            cmd_sn += not getattr(pdu, "immediate", True)
        if rng.random() < 0.3:
            at = rng.randrange(len(stream))
            stream[at : at + 4] = rng.randbytes(4)
        evil.sock.settimeout(0.02)
        evil.sock.sendall(stream)
        while rng.random() < 0.9 and evil.sock.recv(65536):
            pass
        if rng.random() < 0.5:
            evil.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        evil.close()
    except (OSError, EOFError):
        pass  # its connection may end any time: that is the worst that may happen to anyone


@pytest.mark.parametrize("seed", [1])
def test_a_hostile_host_harms_nobody_else(start: Start, seed: int) -> None:
    daemon = start(open_access=False)
    for host, name, volume in (("good", GOOD, "v"), ("evil", EVIL, "h")):
        daemon.cli("host", "create", host, name)
        daemon.cli("create", volume, "--size", "64M")
        daemon.cli("connect", volume, "--host", host, "--lun", "0")
    good = Connection(daemon.port, daemon.target, name=GOOD)
    sn = 1
    for _ in range(8):  # past the unit attentions of a new session
        good.send(ScsiCommand(initiator_task_tag=1, cmd_sn=sn))
        sn += 1
        if good.receive(ScsiResponse).status == 0:
            break
    rng = random.Random(seed)
    rounds, end = 0, time.monotonic() + SECONDS
    while rounds < 20 or time.monotonic() < end:
        block = rng.randbytes(512)
        good.send(write10(rounds % 1000, block, 7, sn))
        assert good.receive(ScsiResponse).status == 0
        attack(daemon, rng)
        good.send(read10(rounds % 1000, 1, 8, sn + 1))
        answer = good.receive(DataIn)
        assert (answer.data, answer.status) == (block, 0)
        sn += 2
        rounds += 1
    assert daemon.alive
    assert "Traceback" not in daemon.log.read_text()
    assert daemon.stop() == 0, daemon.log.read_text()[-4000:]
    assert "clean" in daemon.check()
