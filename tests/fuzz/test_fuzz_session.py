"""Invariant: what logged-in peers send, in and out of form, leaves the data plane whole: it answers others, and forgets them.

The real reactor and engine in this process; the control plane is played by the test, which answers, aborts, unmaps and
removes at random. At both ErrorRecoveryLevels, with and without digests. LUNETTE_FUZZ_SECONDS lengthens it (a second by default).
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.wire.reactor import (
    LUNF_DSENSE,
    LUNF_RO,
    LUNF_SLOW,
    LUNF_WRITE_SLOW,
    ClosedEvent,
    CommandEvent,
    PduEvent,
    SessionClosedEvent,
)
from tests.support.places import pool_directory
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.wire import FINAL, NONE, READ, WRITE, Rig, Wire, alive, rig

SECONDS = float(os.environ.get("LUNETTE_FUZZ_SECONDS", "1"))
LEAST_ROUNDS = 12
MAX_TRANSFER = 1 << 20
EDTLS = (0, 1, 511, 512, 4096, 65536, MAX_TRANSFER, MAX_TRANSFER + 1, 8 << 20, NONE)
FLAGS = (0, LUNF_SLOW, LUNF_RO, LUNF_DSENSE, LUNF_WRITE_SLOW, LUNF_SLOW | LUNF_DSENSE)
TEN, SIXTEEN, SIX = (0x28, 0x2A, 0x35, 0x2F, 0x41), (0x88, 0x8A, 0x91, 0x93, 0x9C), (0x08, 0x0A, 0x00, 0x12)
WRITES = frozenset((0x2A, 0x8A, 0x0A, 0x93, 0x41, 0x9C))
REACHED = ("rx_pdus", "tx_pdus", "rejects", "snacks")               # in any run; these in a longer one, too:
REACHED_LATER = ("digest_errors", "resent", "recovery_r2ts")
R2T, DATA_IN, RESPONSE = 0x31, 0x25, 0x21


@dataclass(slots=True)
class Peer:
    """A hostile connection: what it has heard makes what it says next nearly right."""

    rng: random.Random
    wire: Wire
    cmd_sn: int
    exp_cmd_sn: int
    tag: int = 0x100
    heard: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    r2ts: list[tuple[int, ...]] = field(default_factory=list)      # tag, transfer tag, offset, length
    data_ins: dict[int, tuple[int, int]] = field(default_factory=dict)   # tag -> DataSN, transfer tag
    writes: list[tuple[int, int]] = field(default_factory=list)    # tag, bytes sent: more may follow unsolicited
    over: bool = False

    # -- saying --------------------------------------------------------------------------------------------------------
    def _number(self, numbered: bool = True) -> int:
        chance = self.rng.random()
        if chance < 0.04:
            return self.cmd_sn + self.rng.choice((1, 2, 5, -1, -3, 200, 1 << 31)) & NONE
        if self.cmd_sn - self.exp_cmd_sn & NONE > 12 and chance < 0.3:
            self.cmd_sn = self.exp_cmd_sn                          # what is missing is sent (again), or nothing would go on
        now = self.cmd_sn
        self.cmd_sn = (now + numbered) & NONE
        return now

    def _range(self) -> tuple[int, int]:
        near = self.rng.randrange(2048)
        lba = self.rng.choice((0, 7, near, near * 8, 32767, 32768, self.rng.getrandbits(32)))
        return lba, self.rng.choice((0, 1, 1, 8, 8, 64, 256, 2048, 2049, 65535))

    def _cdb(self) -> bytes:
        lba, blocks = self._range()
        bits = self.rng.choice((0, 0, 0, 0x08, 0x18, 0xE0, 0x02))
        kind = self.rng.random()
        if kind < 0.55:
            return struct.pack(">BBIBHB", self.rng.choice(TEN[:2] * 6 + TEN), bits, lba, 0, blocks, 0)
        if kind < 0.8:
            high = self.rng.choice((0, 0, 0, 1 << 63, (1 << 64) - (1 << 32)))
            return struct.pack(">BBQIBB", self.rng.choice(SIXTEEN[:2] * 4 + SIXTEEN), bits, high | lba, blocks, 0, 0)
        if kind < 0.95:
            return struct.pack(">BBHBB", self.rng.choice(SIX), lba >> 16 & 0x1F, lba & 0xFFFF, blocks & 0xFF, 0)
        return self.rng.randbytes(16)

    def _ahs(self) -> bytes:
        chance = self.rng.random()
        if chance < 0.9:
            return b""
        if chance < 0.95:
            return b"\0\5\2\0" + self.rng.randbytes(4)              # expected bidirectional read length
        if chance < 0.98:
            return b"\0\x11\1\0" + self.rng.randbytes(16)           # the rest of a CDB of 32 bytes
        return self.rng.choice((bytes(4), b"\0\0\1\0", b"\xff\xff\1\0", self.rng.randbytes(self.rng.randrange(1, 9) * 4)))

    def command(self) -> None:
        cdb = self._cdb()
        writes = cdb[0] in WRITES if self.rng.random() < 0.97 else self.rng.random() < 0.5
        blocks = int.from_bytes(cdb[7:9] if len(cdb) == 10 else cdb[10:14] if len(cdb) == 16 else cdb[4:5])
        edtl = blocks * 512 if self.rng.random() < 0.9 else self.rng.choice(EDTLS)
        data, final = b"", True
        if writes and edtl:
            if self.rng.random() < 0.7:
                data = bytes(min(edtl, self.rng.choice((512, 4096, 8192, 65536, 3, 600))))
            final = self.rng.random() < 0.8
        elif self.rng.random() < 0.02:
            data = bytes(self.rng.randrange(600))
        self.tag = self.tag + 1 & NONE if self.rng.random() < 0.95 else self.rng.choice((self.tag, 0, NONE, 0x100))
        flags = (FINAL if final else 0) | (WRITE if writes else READ) | self.rng.choice((0, 0, 0, 1, 2, 3, 4, 7))
        if self.rng.random() < 0.03:
            flags ^= self.rng.choice((READ, WRITE, READ | WRITE, FINAL))
        instant = self.rng.random() < 0.04
        bhs = self.wire.command_bhs(cdb, flags=flags, edtl=edtl & NONE, lun=self._lun(), itt=self.tag,
                                    cmd_sn=self._number(not instant), immediate=instant)
        self._say(bhs, data, self._ahs())
        if writes and not final:
            self.writes.append((self.tag, len(data)))

    def _lun(self) -> int:
        return self.rng.choice((0, 0, 0, 0, 1, 1, 2, 3, 0x40FF, 0x8000, 0xFFFF))

    def data_out(self) -> None:
        """The answer to an R2T, or unsolicited data, or what only looks like it."""
        rng = self.rng
        if self.r2ts and rng.random() < 0.9:
            tag, ttt, offset, length = self.r2ts.pop(0)
        elif self.writes:
            (tag, offset), ttt = self.writes.pop(), NONE
            length = rng.choice((512, 4096, 65536 - min(offset, 65536), 1))
        else:
            tag, ttt, offset, length = self.tag, rng.choice((NONE, 0, 1, rng.getrandbits(31))), rng.choice((0, 512)), 512
        piece = rng.choice((length // 8 & -512 or 512, 4096, 65536, 1000, length or 1))
        end = offset + length
        for sn, at in enumerate(range(offset, end, piece)):
            chance = rng.random()
            if sn > 20:
                return
            if chance < 0.03:
                continue                                            # one is lost, and asked for again at ErrorRecoveryLevel 1
            last = at + piece >= end
            wrong = rng.choice((-512, 512, 1 << 31, -1)) if chance > 0.98 else 0
            self._say(self.wire.data_out_bhs(tag, ttt, sn + (chance > 0.97), at + wrong & NONE,
                                             final=last != (rng.random() < 0.01), lun=0 if chance < 0.99 else 1),
                      bytes(min(piece, end - at) + (4 if 0.95 < chance < 0.96 else 0)))

    def snack(self) -> None:
        rng = self.rng
        kind = rng.randrange(5)
        begin, length = rng.choice((0, 0, 1, rng.randrange(40), NONE)), rng.choice((0, 0, 1, 3, rng.randrange(40), NONE))
        tag = rng.choice([*self.data_ins, self.tag, NONE])
        sn, ttt = self.data_ins.get(tag, (0, 0))
        if kind == 1:
            tag, begin = NONE if rng.random() < 0.9 else tag, self.wire.exp_stat_sn + rng.randrange(-2, 4) & NONE
        elif kind == 2:
            tag, begin, length = NONE, sn + rng.randrange(2) & NONE, 0
        elif kind == 3 and rng.random() < 0.9:
            begin = length = 0
            ttt = rng.choice((1, 77, ttt))
        self._say(struct.pack(">BBHIQIIIIIIII", 0x10, 0x80 | kind, 0, 0, self._lun() << 48, tag, ttt, 0, self.wire.exp_stat_sn,
                              0, 0, begin, length))

    def other(self) -> None:
        """NOP-Out, Text, Logout, task management, or an opcode that no initiator sends."""
        rng = self.rng
        opcode = rng.choice((0x00, 0x00, 0x02, 0x04, 0x06, 0x03, 0x1C, 0x3F, 0x21)) if rng.random() < 0.5 else 0x00
        instant = rng.random() < 0.6
        head = struct.pack(">BBHIQIIIII", opcode | instant << 6, 0x80 | rng.randrange(16), 0, 0, self._lun() << 48,
                           rng.choice((NONE, self.tag + 1, self.tag)) & NONE, rng.choice((NONE, 0, self.tag)) & NONE,
                           self._number(not instant), self.wire.exp_stat_sn, self.cmd_sn)
        self._say(head.ljust(48, b"\0"), bytes(rng.choice((0, 0, 5, 512, 70000))) if opcode in (0, 4) else b"")

    def _say(self, bhs: bytes, data: bytes = b"", ahs: bytes = b"") -> None:
        out = bytearray(self.wire.pdu(bhs, data, ahs))
        chance = self.rng.random()
        if chance < 0.01:
            out[self.rng.randrange(len(out))] ^= 1 << self.rng.randrange(8)
        elif chance < 0.03 and data and self.wire.data_digest:
            out[-1] ^= 1
        elif chance < 0.033:
            del out[self.rng.randrange(len(out)):]
        elif chance < 0.035:
            out[4:8] = self.rng.randbytes(4)
        self.unsent += out

    # -- hearing -------------------------------------------------------------------------------------------------------
    def pump(self) -> None:
        """Send what the socket takes in pieces of any size, and read what is there (or, now and then, nothing for a while)."""
        try:
            while self.unsent:
                n = self.wire.sock.send(self.unsent[: self.rng.choice((1, 47, 48, 4096, 1 << 20))])
                del self.unsent[:n]
        except BlockingIOError:
            if len(self.unsent) > 8 << 20:
                self.over = True
        except OSError:
            self.over = True
        if self.rng.random() < 0.2:
            return
        try:
            while data := self.wire.sock.recv(262144):
                self.heard += data
            self.over = True
        except BlockingIOError:
            pass
        except OSError:
            self.over = True
        self._listen()

    def _listen(self) -> None:
        at = 0
        while len(self.heard) - at >= 48:
            length = int.from_bytes(self.heard[at + 5 : at + 8])
            size = 48 + 4 * self.wire.header_digest + (length + -length % 4 + 4 * self.wire.data_digest if length else 0)
            if len(self.heard) - at < size:
                break
            self._hear(bytes(self.heard[at : at + 48]))
            at += size
        del self.heard[:at]

    def _hear(self, bhs: bytes) -> None:
        opcode = bhs[0] & 0x3F
        tag, ttt, stat_sn, self.exp_cmd_sn, _, sn, offset, length = struct.unpack(">8I", bhs[16:48])
        assert opcode in (0x20, RESPONSE, DATA_IN, R2T, 0x3F, 0x22, 0x24, 0x26, 0x32), bhs.hex()
        if opcode == R2T:
            self.r2ts.append((tag, ttt, offset, length))
        elif opcode == DATA_IN:
            if len(self.data_ins) > 50:
                self.data_ins.clear()
            self.data_ins[tag] = (sn, ttt)
            if bhs[1] & 1:
                self.data_ins.pop(tag)
                self.wire.exp_stat_sn = stat_sn + 1 & NONE
        elif self.rng.random() < 0.95 and (opcode != 0x20 or tag != NONE):
            self.wire.exp_stat_sn = stat_sn + 1 & NONE


class Plane:
    """The control plane's part, played badly: slow, forgetful and interfering, but within the reactor's contract."""

    def __init__(self, r: Rig, rng: random.Random) -> None:
        self.r, self.rng = r, rng
        self.held: list[CommandEvent] = []
        self.ended: set[int] = set()
        self.snapshots: list[int] = []
        self.pending: set[int] = set()
        self.made = self.snapping = 0
        self.reached: Counter[str] = Counter()

    def note(self, session: int) -> None:
        """Count what a session has got the data plane to do."""
        for each in self.r.reactor.stats()["connections"]:
            if each["session"] == session:
                self.reached.update({name: each[name] for name in REACHED + REACHED_LATER})

    def answer(self, event: CommandEvent) -> None:
        rng = self.rng
        status = rng.choice((0, 0, 0, 2, 0x18, 0x28))
        data = bytes(rng.choice((0, 8, 36, 512, 70000, min(event.edtl, MAX_TRANSFER)))) if event.flags & READ else b""
        self.r.reactor.complete(event.task, status, rng.randbytes(18) if status == 2 else b"", b"" if status else data,
                                data_out_length=rng.choice((None, 0, len(event.data_out))), response=rng.random() < 0.02)

    def events(self) -> None:
        rng = self.rng
        for event in self.r.reactor.events():
            if isinstance(event, CommandEvent):
                assert len(event.data_out) <= event.edtl
                if rng.random() < 0.8:
                    self.answer(event)
                elif rng.random() < 0.9:
                    self.held.append(event)                     # else it is never answered
            elif isinstance(event, PduEvent):
                bhs = bytes((rng.choice((0x24, 0x26, 0x22, 0x3F, 0x32)), 0x80)) + bytes(14) + event.bhs[16:20] + bytes(28)
                self.r.reactor.send_pdu(event.conn, bhs, rng.randbytes(rng.choice((0, 0, 48, 5000))), close=rng.random() < 0.02)
            elif isinstance(event, SessionClosedEvent):
                self.ended.add(event.session)
            else:
                assert not isinstance(event, ClosedEvent) or event.reason in (
                    "peer", "error", "protocol", "digest", "keepalive", "requested"), event
        while self.held and rng.random() < 0.3:
            self.answer(self.held.pop(rng.randrange(len(self.held))))

    def interfere(self, session: int) -> None:
        """One thing that administrators, other hosts or the protocol code do meanwhile."""
        r, rng = self.r.reactor, self.rng
        match rng.randrange(9):
            case 0 | 1:
                picks: dict[str, Any] = {"session": session, "lun": rng.randrange(4), "itt": rng.randrange(0x100, 0x140),
                                         "object_id": self.r.volume, "conn": self.r.conn, "before_cmd_sn": rng.randrange(64)}
                chosen = {k: v for k, v in picks.items() if rng.random() < 0.4}
                chosen["session"] = session
                r.abort(rng.randrange(1 << 20), **chosen, query=rng.random() < 0.2, tell=rng.random() < 0.3,
                        **({"missing_cmd_sn": rng.randrange(64)} if rng.random() < 0.3 else {}))
            case 2:
                r.abort(rng.randrange(1 << 20), object_id=self.r.volume, device=True)
            case 3:
                r.set_lun_flags(session, rng.randrange(3), rng.choice(FLAGS))
            case 4:
                which = rng.choice([None, self.r.volume, *self.snapshots[-2:]])
                r.set_lun(session, rng.randrange(1, 4), which, rng.choice(FLAGS))
            case 5:
                r.set_max_send(self.r.conn, rng.choice((512, 1024, 8192, 262144)))
            case 6:
                with contextlib.suppress(KeyError):
                    r.session_numbers(session)
                r.stats()
            case _:
                self.engine()

    def engine(self) -> None:
        """Snapshots, clones, deletes, reverts, and writes from the control plane, while initiators write."""
        pool, rng = self.r.pool, self.rng
        for done in pool.reap():
            self.pending.discard(done.token)
            if done.token == self.snapping and done.code == "ok":
                self.snapshots += done.value
        if len(self.pending) > 8:
            return
        self.made += 1
        at, size = rng.randrange(2048) * 4096, rng.choice((512, 4096, 65536))
        if len(self.snapshots) < 3:
            self.snapping = pool.start("snapshot", pairs=[(self.r.volume, f"v@{self.made}")])
            self.pending.add(self.snapping)
            return
        match rng.randrange(7):
            case 0:
                self.pending.add(pool.start("delete", object_id=self.snapshots.pop(0)))
            case 1:
                self.pending.add(pool.start("unmap", object_id=self.r.volume, offset_bytes=at, length_bytes=size))
            case 2:
                self.pending.add(pool.start("write", object_id=self.r.volume, offset_bytes=at, data=bytes(size)))
            case 3:
                self.pending.add(pool.start("share", dst_id=self.r.volume, dst_offset_bytes=at, src_id=self.snapshots[0],
                                            src_offset_bytes=at, length_bytes=65536))
            case 4:
                self.pending.add(pool.start("compare_and_write", object_id=self.r.volume, offset_bytes=at, expected=bytes(512),
                                            data=bytes(512)))
            case 5:
                self.pending.add(pool.start("revert", volume_id=self.r.volume, snapshot_id=self.snapshots[-1]))
            case _:
                self.pending.add(pool.start("flush"))


def peer(r: Rig, rng: random.Random) -> tuple[int, list[Peer]]:
    """A session of one or two hostile connections with keys of any kind."""
    keys = {"initial_r2t": rng.random() < 0.5, "immediate_data": rng.random() < 0.8,
            "first_burst_length": rng.choice((512, 4096, 65536)), "max_burst_length": rng.choice((512, 8192, 65536, 262144)),
            "max_outstanding_r2t": rng.choice((1, 1, 4)), "max_cmd_window": rng.choice((1, 16, 64, 128)),
            "error_recovery_level": rng.randrange(2)}
    keys["first_burst_length"] = min(keys["first_burst_length"], keys["max_burst_length"])
    cmd_sn = rng.choice((1, NONE - 20, (1 << 31) - 20))
    session = r.reactor.add_session(exp_cmd_sn=cmd_sn, **keys)
    flags = rng.choice(FLAGS[:1] * 4 + FLAGS)
    assert all(r.reactor.set_lun(session, lun, r.volume, flags) for lun in (0, 1))
    peers = []
    for _ in range(rng.choice((1, 1, 2))):
        made = r.connect(session, header_digest=rng.random() < 0.3, data_digest=rng.random() < 0.5,
                         max_send_data_segment_length=rng.choice((512, 1024, 8192, 262144)),
                         nop_interval_s=rng.choice((0.0, 0.05)))
        made.exp_stat_sn = 100
        made.sock.setblocking(False)
        peers.append(Peer(rng, made, cmd_sn, cmd_sn))
    return session, peers


def attack(r: Rig, plane: Plane, rng: random.Random) -> int:
    """One session from its login to its end, which may come at any moment; its number."""
    session, peers = peer(r, rng)
    for step in range(rng.randrange(20, 250)):
        each = rng.choice(peers)
        if len(peers) > 1:
            each.cmd_sn = max((one.cmd_sn for one in peers), key=lambda sn: sn - each.cmd_sn + (1 << 31) & NONE)
        due = 25 if each.r2ts or each.writes else 2
        rng.choices((each.command, each.data_out, each.snack, each.other), (55, due, 12, 8))[0]()
        if step % 8 == 0 or rng.random() < 0.1:
            for one in peers:
                one.pump()
            plane.events()
            if rng.random() < 0.5:
                plane.interfere(session)
            if rng.random() < 0.5:
                select.select([one.wire.sock for one in peers], [], [], 0.005)
        if each.over:
            break
    plane.note(session)
    if rng.random() < 0.5:
        r.reactor.remove_session(session)
    for one in peers:
        if rng.random() < 0.5:
            one.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.wire.sock.close()
    r.reactor.remove_session(session)
    return session


def neighbour(r: Rig) -> int:
    """A volume that hostile sessions do not see."""
    r.pool.start("create", name="n", size_bytes=1 << 20)
    while not (found := r.pool.reap()):
        select.select([r.pool.completion_fd], [], [], 1)
    return int(found[0].value)


def forgotten(r: Rig, plane: Plane, sessions: set[int]) -> None:
    """Everything of the sessions is gone: tasks, buffers, connections."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not sessions <= plane.ended:
        assert time.monotonic() < give_up, r.reactor.stats()
        select.select([r.reactor.event_fd], [], [], 0.1)
        plane.events()
    loop = r.reactor.stats()["loop"]
    assert (loop["tasks"], loop["connections"], loop["sessions"]) == (0, 1, 1), loop
    plane.ended -= sessions


@pytest.mark.parametrize("seed", [1])
def test_hostile_sessions_leave_the_data_plane_whole(tmp_path: Path, seed: int) -> None:
    options = {"size_bytes": 256 << 20, "max_transfer_bytes": MAX_TRANSFER, "buffer_bytes": 16 << 20, "max_tasks": 512}
    with pool_directory(tmp_path) as place, rig(place / "pool", **options) as r:
        good = r.connect(r.session(luns={0: neighbour(r)}))
        plane = Plane(r, random.Random(seed))
        rounds, end = 0, time.monotonic() + SECONDS
        while rounds < LEAST_ROUNDS or time.monotonic() < end:
            rng = plane.rng = random.Random(f"{seed}/{rounds}")
            block = rng.randbytes(4096)
            good.command(struct.pack(">BBIBHB", 0x2A, 0, 8 * (rounds % 200), 0, 8, 0), block, flags=FINAL | WRITE, edtl=4096)
            try:
                assert good.receive().status == 0
                sessions = {attack(r, plane, rng) for _ in range(rng.randrange(1, 4))}
                forgotten(r, plane, sessions)
                good.command(struct.pack(">BBIBHB", 0x28, 0, 8 * (rounds % 200), 0, 8, 0), flags=FINAL | READ, edtl=4096)
                assert good.gather()[0] == block
                alive(good)
            except Exception as error:
                raise AssertionError(f"seed {seed}, round {rounds}") from error
            plane.held.clear()
            rounds += 1
        expected = REACHED + REACHED_LATER if rounds > 1000 else REACHED
        assert all(plane.reached[name] for name in expected), plane.reached
        plane.engine()
