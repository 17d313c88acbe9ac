"""The data plane without memory: each allocation failed in turn costs at most a command or a connection, never a session."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator

import pytest

from core.base import memory
from core.wire.reactor import (
    LUNF_SLOW,
    AbortedEvent,
    ClosedEvent,
    CommandEvent,
    LunReleasedEvent,
    PduEvent,
    SessionClosedEvent,
)
from tests.support.wire import FINAL, READ, UNKNOWN, WRITE, Rig, Wire, rw

BLOCK = 512
BUSY = 0x08
LOGOUT, TEXT, WRONG = 0x46, 0x44, 0x1F
DATA = os.urandom(32 << 10)
LARGE = os.urandom(512 << 10)


def command_ends(w: Wire) -> int:
    """The status of the one command under way, its R2Ts served."""
    while True:
        pdu = w.receive()
        if pdu.opcode == 0x31:
            w.data_out(pdu.itt, pdu.ttt, 0, pdu.offset, LARGE[pdu.offset:pdu.offset + pdu.residual], final=True)
        elif pdu.opcode == 0x21 or (pdu.opcode == 0x25 and pdu.flags & 1):
            return pdu.status


def read(r: Rig, w: Wire) -> int:
    w.command(rw(0x28, 64, len(DATA) // BLOCK), flags=FINAL | READ, edtl=len(DATA))
    return command_ends(w)


def write(r: Rig, w: Wire) -> int:
    w.command(rw(0x2A, 64, len(DATA) // BLOCK), DATA, flags=FINAL | WRITE, edtl=len(DATA))
    return command_ends(w)


def write_large(r: Rig, w: Wire) -> int:
    w.command(rw(0x2A, 4096, len(LARGE) // BLOCK), flags=FINAL | WRITE, edtl=len(LARGE))
    return command_ends(w)


def python_decides(r: Rig, w: Wire) -> int:
    """A command with an AHS, handed to Python, whose answer has data."""
    w.command(UNKNOWN, ahs=struct.pack(">HBB", 5, 9, 0) + bytes(4), flags=FINAL | READ, edtl=4096)
    while not w.silent(0.02) or not (heard := [each for each in r.reactor.events() if isinstance(each, CommandEvent)]):
        if not w.silent(0):
            return command_ends(w)
    r.reactor.complete(heard[0].task, 0, data_in=bytes(4096))
    return command_ends(w)


def python_holds_data(r: Rig, w: Wire) -> int:
    """A READ that Python answers."""
    w.command(rw(0x28, 0, 64), flags=FINAL | READ, edtl=64 * BLOCK, lun=1)
    while not w.silent(0.02) or not (heard := [each for each in r.reactor.events() if isinstance(each, CommandEvent)]):
        if not w.silent(0):
            return command_ends(w)
    r.reactor.complete(heard[0].task, 0, data_in=bytes(64 * BLOCK))
    return command_ends(w)


def ping(r: Rig, w: Wire) -> int:
    w.nop_out(itt=7, data=DATA[:1024])
    assert w.receive().data == DATA[:1024]
    return 0


def late_ping(r: Rig, w: Wire) -> int:
    """A ping that waits for its CmdSN, which the command behind it has."""
    w.send(struct.pack(">BBHIQIIII", 0x00, 0x80, 0, 0, 0, 9, 0xFFFFFFFF, w.cmd_sn + 1, 0).ljust(48, b"\0"), DATA[:64])
    w.command(bytes(6))
    w.cmd_sn += 1
    status = w.receive().status
    assert w.receive().data == DATA[:64]
    return status


def rejected(r: Rig, w: Wire) -> int:
    w.send(bytes([WRONG | 0x40]).ljust(16, b"\0") + struct.pack(">II", 5, 0).ljust(32, b"\0"))
    assert w.receive().opcode == 0x3F
    return 0


def text(r: Rig, w: Wire) -> int:
    """A PDU that Python answers."""
    w.send(struct.pack(">BBHIQIIII", TEXT, 0x80, 0, 0, 0, 3, 0xFFFFFFFF, w.cmd_sn, 0).ljust(48, b"\0"), b"SendTargets=All\0")
    while not w.silent(0.02) or not (heard := [each for each in r.reactor.events() if isinstance(each, PduEvent)]):
        if not w.silent(0):
            w.receive()
            raise AssertionError("nobody had answered it")
    r.reactor.send_pdu(heard[0].conn, struct.pack(">BBHIQI", 0x24, 0x80, 0, 0, 0, 3).ljust(48, b"\0"), b"TargetName=x\0")
    assert w.receive().opcode == 0x24
    return 0


def aborted(r: Rig, w: Wire) -> int:
    w.command(UNKNOWN)
    while not w.silent(0.02) or not [each for each in r.reactor.events() if isinstance(each, CommandEvent)]:
        if not w.silent(0):
            return command_ends(w)
    try:
        r.reactor.abort(77, session=r.number, tell=True)
    except OSError as error:
        return BUSY if error.errno == errno.ENOMEM else -1
    event = r.event(AbortedEvent)
    assert (event.token, event.count, len(event.victims)) == (77, 1, 1)
    return 0


def unmapped(r: Rig, w: Wire) -> int:
    r.reactor.set_lun(r.number, 1, None)
    assert r.event(LunReleasedEvent).lun == 1
    return 0


TALKS: list[Callable[[Rig, Wire], int]] = [
    read, write, write_large, python_decides, python_holds_data, ping, late_ping, rejected, text, aborted, unmapped]


@pytest.fixture(scope="module")
def r(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("short") / "pool")
    yield made
    memory.fail(-1)
    made.close()


def talk(r: Rig, what: Callable[[Rig, Wire], int], after: int, count: int) -> bool:
    """One exchange of a session of its own. False: not so many allocations are made in it."""
    w = r.wire(luns={0: r.volume, 1: r.volume}, immediate_data=True, initial_r2t=False, first_burst_length=64 << 10,
               max_recv_data_segment_length=256 << 10)
    r.reactor.set_lun_flags(r.number, 1, LUNF_SLOW)
    memory.fail(after, count)
    alive = True
    try:
        assert what(r, w) in (0, BUSY)
    except (EOFError, ConnectionError):
        alive = False
    finally:
        met = memory.fail(-1)
    r.seen += r.reactor.events()
    if alive:
        if what is not aborted:
            assert write(r, w) == 0
            assert read(r, w) == 0
    else:
        assert met
        assert r.event(ClosedEvent).conn == r.conn
    memory.fail(0, 100)                    # its end is heard of without any
    r.reactor.remove_session(r.number)
    assert r.event(SessionClosedEvent).session == r.number
    memory.fail(-1)
    w.sock.close()
    r.seen.clear()
    return met > 0


@pytest.mark.parametrize("what", TALKS, ids=lambda what: what.__name__)
def test_each_allocation_failed(r: Rig, what: Callable[[Rig, Wire], int]) -> None:
    for count in (1, 4):
        for after in range(40):
            if not talk(r, what, after, count):
                break
        else:
            raise AssertionError("it never ends")
    assert r.pool.failure() == ""


def test_a_session_that_there_is_no_memory_for(r: Rig) -> None:
    """Login and new LUNs are refused by a clear error, and what had been made goes."""
    refused = 0
    for after in range(6):
        made = []
        memory.fail(after)
        try:
            made.append(r.reactor.add_session(exp_cmd_sn=1))
            r.reactor.set_lun(made[0], 0, r.volume)
            w = r.connect(made[0])
            w.sock.close()
        except OSError as error:
            refused += error.errno == errno.ENOMEM
        finally:
            memory.fail(-1)
        for session in made:
            r.reactor.remove_session(session)
            assert r.event(SessionClosedEvent).session == session
    assert refused >= 3
