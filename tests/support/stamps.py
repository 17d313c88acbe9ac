"""An initiator and stamps that share nothing with the project, nor with libiscsi: the standard library alone (RFC 7143, SBC-4).

Every 512-byte sector that is written names its volume, its place and a number that only rises, sixteen times over.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

SECTOR = 512
MASK = (1 << 64) - 1
TEXT = ("SessionType=Normal", "HeaderDigest=None", "DataDigest=None", "InitialR2T=No", "ImmediateData=Yes",
        "MaxBurstLength=262144", "FirstBurstLength=65536", "MaxRecvDataSegmentLength=262144", "MaxOutstandingR2T=1",
        "MaxConnections=1", "ErrorRecoveryLevel=0", "DefaultTime2Wait=0", "DefaultTime2Retain=0")


class Lost(Exception):
    """The connection broke: whatever was under way may or may not have happened."""


class Reply(NamedTuple):
    """A command's end: SCSI status, sense data, data."""

    status: int
    sense: bytes
    data: bytes

    @property
    def key(self) -> tuple[int, int]:
        """Sense key, ASC and ASCQ of fixed or descriptor sense data."""
        if not self.sense:
            return 0, 0
        if self.sense[0] & 0x7F >= 0x72:
            return self.sense[1] & 15, self.sense[2] << 8 | self.sense[3]
        return self.sense[2] & 15, self.sense[12] << 8 | self.sense[13]

    @property
    def information(self) -> int | None:
        """The INFORMATION field; None when it is not valid."""
        if self.sense[0] & 0x7F >= 0x72:
            at = 8
            while at + 2 <= len(self.sense):
                if self.sense[at] == 0:
                    return int.from_bytes(self.sense[at + 4:at + 12], "big") if self.sense[at + 2] & 0x80 else None
                at += 2 + self.sense[at + 1]
            return None
        return int.from_bytes(self.sense[3:7], "big") if self.sense[0] & 0x80 else None


class Session:
    """One connection, one command at a time."""

    def __init__(self, portal: str, target: str, name: str, isid: int = 1) -> None:
        host, port = portal.rsplit(":", 1)
        try:
            self.socket = socket.create_connection((host, int(port)), timeout=60)
        except OSError as error:
            raise Lost(str(error)) from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tag = 0
        self.cmd_sn = 1
        self.stat_sn = 0
        text = "".join(f"{pair}\0" for pair in (f"InitiatorName={name}", f"TargetName={target}", *TEXT)).encode()
        head = struct.pack(">BBBBB3s6sHIHHII", 0x43, 0x87, 0, 0, 0, len(text).to_bytes(3, "big"),
                           b"\x80\0\0\0" + isid.to_bytes(2, "big"), 0, 0, 0, 0, self.cmd_sn, 0)
        self._send(head.ljust(48, b"\0"), text)
        bhs, _ = self._receive()
        if bhs[0] & 63 != 0x23 or bhs[36]:
            raise Lost(f"login refused: {bhs[36:38].hex()}")

    def _send(self, bhs: bytes, data: bytes) -> None:
        try:
            self.socket.sendall(bhs + data + bytes(-len(data) % 4))
        except OSError as error:
            raise Lost(str(error)) from error

    def _exactly(self, count: int) -> bytes:
        parts = b""
        while len(parts) < count:
            try:
                piece = self.socket.recv(count - len(parts))
            except OSError as error:
                raise Lost(str(error)) from error
            if not piece:
                raise Lost("closed")
            parts += piece
        return parts

    def _receive(self) -> tuple[bytes, bytes]:
        bhs = self._exactly(48)
        length = int.from_bytes(bhs[5:8], "big")
        data = self._exactly(bhs[4] * 4 + length + -length % 4)[bhs[4] * 4:][:length]
        if bhs[0] & 63 != 0x31 and (bhs[0] & 63 != 0x25 or bhs[1] & 1):        # what carries a status
            self.stat_sn = (int.from_bytes(bhs[24:28], "big") + 1) & 0xFFFFFFFF
        return bhs, data

    def command(self, lun: int, cdb: bytes, *, out: bytes = b"", want: int = 0) -> Reply:
        """Send a CDB with at most 64 KiB of data, all of it immediate, and wait for its end."""
        self.tag += 1
        flags = 0x80 | (0x20 if out else 0x40 if want else 0) | 1
        head = struct.pack(">BBHB3sQIIII", 1, flags, 0, 0, len(out).to_bytes(3, "big"), lun << 48, self.tag, len(out) or want,
                           self.cmd_sn, self.stat_sn)
        self.cmd_sn = (self.cmd_sn + 1) & 0xFFFFFFFF
        self._send(head + cdb.ljust(16, b"\0"), out)
        data = bytearray(want)
        while True:
            bhs, payload = self._receive()
            opcode, tag = bhs[0] & 63, int.from_bytes(bhs[16:20], "big")
            if opcode == 0x25 and tag == self.tag:
                at = int.from_bytes(bhs[40:44], "big")
                data[at:at + len(payload)] = payload
                if bhs[1] & 1:
                    return Reply(bhs[3], b"", bytes(data))
            elif opcode == 0x21 and tag == self.tag:
                return Reply(bhs[3], payload[2:] if bhs[3] else b"", bytes(data))
            elif opcode == 0x20 and bhs[20:24] != b"\xff\xff\xff\xff":          # a ping
                pong = struct.pack(">BB6x8sI4sII", 0x40, 0x80, bhs[8:16], 0xFFFFFFFF, bhs[20:24], self.cmd_sn, self.stat_sn)
                self._send(pong.ljust(48, b"\0"), b"")
            elif opcode in (0x3F, 0x26, 0x23):
                raise Lost(f"unexpected PDU {bhs.hex()}")

    def settled(self, lun: int, cdb: bytes, *, out: bytes = b"", want: int = 0) -> Reply:
        """A command again and again while unit attentions are in its way."""
        for _ in range(20):
            reply = self.command(lun, cdb, out=out, want=want)
            if reply.status != 2 or reply.key[0] != 6:
                break
        return reply

    def write(self, lun: int, lba: int, data: bytes, *, fua: bool = False) -> Reply:
        return self.settled(lun, struct.pack(">BBQIBB", 0x8A, 8 if fua else 0, lba, len(data) // SECTOR, 0, 0), out=data)

    def read(self, lun: int, lba: int, sectors: int) -> Reply:
        return self.settled(lun, struct.pack(">BBQIBB", 0x88, 0, lba, sectors, 0, 0), want=sectors * SECTOR)

    def flush(self, lun: int) -> Reply:
        return self.settled(lun, b"\x35" + bytes(9))

    def unmap(self, lun: int, lba: int, sectors: int) -> Reply:
        descriptor = struct.pack(">HHIQII", 22, 16, 0, lba, sectors, 0)
        return self.settled(lun, struct.pack(">BBIBHB", 0x42, 0, 0, 0, len(descriptor), 0), out=descriptor)

    def close(self) -> None:
        self.socket.close()


def stamp(volume: int, lba: int, number: int) -> bytes:
    return struct.pack("<QQQQ", volume, lba, number, (number * 0x9E3779B97F4A7C15 + volume * 31 ^ lba) & MASK) * 16


def stamped(volume: int, lba: int, sectors: int, number: int) -> bytes:
    return b"".join(stamp(volume, lba + i, number) for i in range(sectors))


def read_stamps(data: bytes, first: int) -> list[tuple[int, int]]:
    """(volume, number) of each sector, (0, 0) for zeros. AssertionError for anything that nobody ever wrote there."""
    found = []
    for at in range(0, len(data), SECTOR):
        volume, _, number, mix = struct.unpack_from("<QQQQ", data, at)
        if not (volume or number or mix):
            assert data.count(0, at, at + SECTOR) == SECTOR, f"sector {first + at // SECTOR} is torn"
        else:
            good = data[at:at + SECTOR] == stamp(volume, first + at // SECTOR, number)
            assert good, f"sector {first + at // SECTOR} holds garbage: {data[at:at + 32].hex()}"
        found.append((volume, number))
    return found
