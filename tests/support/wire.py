"""A raw iSCSI peer for reactor tests: a pool with one volume, a connection that is already in full-feature phase."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.base.crc32c import crc32c
from core.device import FileDevice, create_file
from core.pool.engine import Pool
from core.wire.reactor import Reactor
from tests.support.waiting import PATIENCE_SECONDS, until

NONE = 0xFFFFFFFF
FINAL, READ, WRITE = 0x80, 0x40, 0x20
INQUIRY = struct.pack(">BBBHB", 0x12, 0, 0, 96, 0)
UNKNOWN = b"\xc1" + bytes(15)      # a CDB that the data plane leaves to Python


class Pdu:
    """One PDU from the target: fields of the BHS by name."""

    def __init__(self, bhs: bytes, data: bytes) -> None:
        self.bhs, self.data = bhs, data
        self.opcode = bhs[0] & 0x3F
        self.flags = bhs[1]
        self.response, self.status = bhs[2], bhs[3]
        self.itt, self.ttt, self.stat_sn, self.exp_cmd_sn, self.max_cmd_sn = struct.unpack(">5I", bhs[16:36])
        self.data_sn, self.offset, self.residual = struct.unpack(">3I", bhs[36:48])
        self.sense = data[2 : 2 + int.from_bytes(data[:2], "big")] if self.opcode == 0x21 else b""

    @property
    def key(self) -> tuple[int, int]:
        """(sense key, ASC << 8 | ASCQ), fixed or descriptor."""
        s = self.sense
        if s[0] & 0x7F in (0x72, 0x73):
            return s[1] & 15, s[2] << 8 | s[3]
        return s[2] & 15, s[12] << 8 | s[13]

    def __repr__(self) -> str:
        return f"<{self.opcode:02x} flags={self.flags:02x} itt={self.itt:x} status={self.status:x} {len(self.data)} bytes>"


class Wire:
    """The initiator's end of a connection, byte for byte."""

    def __init__(self, sock: socket.socket, *, header_digest: bool = False, data_digest: bool = False) -> None:
        self.sock = sock
        self.header_digest, self.data_digest = header_digest, data_digest
        self.cmd_sn, self.itt, self.exp_stat_sn = 1, 0x1000, 0
        sock.settimeout(PATIENCE_SECONDS)

    def pdu(self, bhs: bytes, data: bytes = b"", ahs: bytes = b"") -> bytes:
        bhs = bhs[:4] + bytes([len(ahs) // 4]) + len(data).to_bytes(3, "big") + bhs[8:]
        out = bhs + ahs
        if self.header_digest:
            out += struct.pack("<I", crc32c(out))
        if data:
            padded = data + bytes(-len(data) % 4)
            out += padded
            if self.data_digest:
                out += struct.pack("<I", crc32c(padded))
        return out

    def send(self, bhs: bytes, data: bytes = b"", ahs: bytes = b"") -> None:
        self.sock.sendall(self.pdu(bhs, data, ahs))

    def command_bhs(self, cdb: bytes, *, flags: int = FINAL, edtl: int = 0, lun: int = 0, itt: int | None = None,
                    cmd_sn: int | None = None, immediate: bool = False) -> bytes:
        if itt is None:
            self.itt += 1
            itt = self.itt
        if cmd_sn is None:
            cmd_sn = self.cmd_sn
            self.cmd_sn += not immediate
        return struct.pack(">BBHIQIIII", 0x01 | immediate << 6, flags, 0, 0, lun << 48, itt, edtl, cmd_sn,
                           self.exp_stat_sn) + cdb.ljust(16, b"\0")

    def command(self, cdb: bytes, data: bytes = b"", ahs: bytes = b"", **fields: Any) -> int:
        """Send a SCSI Command with immediate data; the tag."""
        bhs = self.command_bhs(cdb, **fields)
        self.send(bhs, data, ahs)
        return int.from_bytes(bhs[16:20], "big")

    def data_out(self, itt: int, ttt: int, data_sn: int, offset: int, data: bytes, *, final: bool, lun: int = 0) -> None:
        self.send(self.data_out_bhs(itt, ttt, data_sn, offset, final=final, lun=lun), data)

    def data_out_bhs(self, itt: int, ttt: int, data_sn: int, offset: int, *, final: bool, lun: int = 0) -> bytes:
        return struct.pack(">BBHIQIIIIIIII", 0x05, final << 7, 0, 0, lun << 48, itt, ttt, 0, self.exp_stat_sn, 0, data_sn,
                           offset, 0)

    def snack(self, kind: int, itt: int, ttt: int, begin: int, length: int, lun: int = 0) -> None:
        self.send(struct.pack(">BBHIQIIIIIIII", 0x10, 0x80 | kind, 0, 0, lun << 48, itt, ttt, 0, self.exp_stat_sn, 0, 0, begin,
                              length))

    def nop_out(self, itt: int = NONE, ttt: int = NONE, data: bytes = b"") -> None:
        """An immediate NOP-Out, which carries ExpStatSN."""
        self.send(struct.pack(">BBHIQIIII", 0x40, 0x80, 0, 0, 0, itt, ttt, self.cmd_sn, self.exp_stat_sn).ljust(48, b"\0"), data)

    def exactly(self, n: int) -> bytes:
        out = b""
        while len(out) < n:
            piece = self.sock.recv(n - len(out))
            if not piece:
                raise EOFError
            out += piece
        return out

    def receive(self) -> Pdu:
        bhs = self.exactly(48)
        assert bhs[4] == 0
        if self.header_digest:
            assert self.exactly(4) == struct.pack("<I", crc32c(bhs))
        n = int.from_bytes(bhs[5:8], "big")
        data = b""
        if n:
            padded = self.exactly(n + -n % 4)
            if self.data_digest:
                assert self.exactly(4) == struct.pack("<I", crc32c(padded))
            data = padded[:n]
        return Pdu(bhs, data)

    def gather(self) -> tuple[bytes, Pdu]:
        """Data-In until the status of one command: (data, PDU that carries the status)."""
        data = b""
        while True:
            pdu = self.receive()
            if pdu.opcode == 0x25:
                assert pdu.offset == len(data)
                data += pdu.data
                if not pdu.flags & 1:
                    continue
            return data, pdu

    def silent(self, seconds: float = 0.1) -> bool:
        """True when the target sends nothing for a while."""
        return not select.select([self.sock], [], [], seconds)[0]

    def closed(self) -> bool:
        """True when the target closes the connection."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        return True


def rw(opcode: int, lba: int, blocks: int, flags: int = 0) -> bytes:
    """READ or WRITE (10) or (16) by opcode."""
    if opcode in (0x28, 0x2A):
        return struct.pack(">BBIBHB", opcode, flags, lba, 0, blocks, 0)
    return struct.pack(">BBQIBB", opcode, flags, lba, blocks, 0, 0)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """(target's end, initiator's end) of a loopback connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    for each in (ours, theirs):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return theirs, ours


class Rig:
    """A reactor over a pool with one volume, its id in `volume`."""

    def __init__(self, path: Path, *, size_bytes: int = 64 << 20, volume_bytes: int = 16 << 20, direct: bool = False,
                 device_class: type[FileDevice] = FileDevice, **options: Any) -> None:
        if not path.exists():
            create_file(path, size_bytes)
            device = device_class(path, direct=direct)
            Pool.create(device, name="rig")
        else:
            device = device_class(path, direct=direct)
        self.device = device
        self.pool = Pool(device)
        self.volume = self.pool.call("create", name="v", size_bytes=volume_bytes)
        self.reactor = Reactor(self.pool, **options)
        self.reactor.start()
        self.seen: list[Any] = []

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait for what the reactor does after it has answered: a command is put away once its answer is on its way."""
        until(reached, self.reactor.stats)

    def forgets_all(self) -> None:
        """Wait until nothing is left of any connection or command."""
        def left() -> tuple[int, ...]:
            self.reactor.events()
            loop = self.reactor.stats()["loop"]
            return loop["tasks"], loop["buffer_bytes"], loop["connections"]

        self.until(lambda: left() == (0, 0, 0))

    def session(self, *, luns: dict[int, int] | None = None, flags: int = 0, **keys: Any) -> int:
        session = self.reactor.add_session(exp_cmd_sn=1, **keys)
        for lun, object_id in (luns or {0: self.volume}).items():
            assert self.reactor.set_lun(session, lun, object_id, flags)
        return session

    def connect(self, session: int, **keys: Any) -> Wire:
        theirs, ours = tcp_pair()
        self.conn = self.reactor.add_connection(session, theirs.detach(), cid=1, stat_sn=100, **keys)
        return Wire(ours, header_digest=keys.get("header_digest", False), data_digest=keys.get("data_digest", False))

    def wire(self, *, flags: int = 0, **keys: Any) -> Wire:
        per_connection = {k: keys.pop(k) for k in list(keys) if k in (
            "header_digest", "data_digest", "max_send_data_segment_length", "max_recv_data_segment_length",
            "nop_interval_s", "nop_timeout_s", "leftover")}
        self.number = self.session(flags=flags, **keys)
        return self.connect(self.number, **per_connection)

    def event(self, kind: type) -> Any:
        """The next event of that kind; others are kept."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            for i, event in enumerate(self.seen):
                if isinstance(event, kind):
                    return self.seen.pop(i)
            left = deadline - time.monotonic()
            assert left > 0, f"no {kind.__name__}, only {self.seen}"
            select.select([self.reactor.event_fd], [], [], left)
            self.seen += self.reactor.events()

    def close(self) -> None:
        self.reactor.stop()
        self.reactor.events()
        self.pool.close()
        self.device.close()


def alive(w: Wire) -> None:
    """The connection still serves."""
    w.command(bytes(6))
    assert w.receive().status == 0


def tmf(w: Wire, function: int, itt: int, *, lun: int = 0, reference: int = NONE) -> bytes:
    """The header of a task management request (RFC 7143 §11.5)."""
    return struct.pack(">BBHIQIIII", 0x42, 0x80 | function, 0, 0, lun << 48, itt, reference, w.cmd_sn, 0).ljust(48, b"\0")


def figures(r: Rig, *names: str) -> list[int]:
    """So much of each in the loop's own figures."""
    loop = r.reactor.stats()["loop"]
    return [int(loop[name]) for name in names]


@contextlib.contextmanager
def rig(path: Path, **options: Any) -> Iterator[Rig]:
    made = Rig(path, **options)
    try:
        yield made
    finally:
        made.close()
