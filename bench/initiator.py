"""The bench's own initiator: logs sessions in (RFC 7143 §11.12) and hands them to the native load loop.

fio's libiscsi engine opens one session a LUN and knows no data digests; this one does both, and costs less CPU.
"""

import bisect
import itertools
import random
import re
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bench import _initiator
from core.base.crc32c import crc32c

NAME = "iqn.2026-11.dev.lunette.bench:load"
URL = re.compile(r"iscsi://([^:/]+):(\d+)/([^/]+)/(\d+)")
SECTOR_BYTES = 512
FILL_LIMIT_S = 600.0
OFFERED = {
    "SessionType": "Normal", "InitialR2T": "No", "ImmediateData": "Yes", "MaxBurstLength": "262144",
    "FirstBurstLength": "262144", "MaxRecvDataSegmentLength": "262144", "MaxOutstandingR2T": "1", "MaxConnections": "1",
    "DefaultTime2Wait": "2", "DefaultTime2Retain": "0", "DataPDUInOrder": "Yes", "DataSequenceInOrder": "Yes",
    "ErrorRecoveryLevel": "0",
}
counter = itertools.count(1)


class LoginError(Exception):
    """The target refused a login or broke the protocol in it."""


@dataclass
class Session:
    """A logged-in session: its socket, sequence numbers and what was negotiated."""

    sock: socket.socket
    cmd_sn: int
    max_cmd_sn: int
    stat_sn: int
    keys: dict[str, str]

    @property
    def immediate_bytes(self) -> int:
        """Most immediate data of one command."""
        if self.keys.get("ImmediateData", "Yes") != "Yes":
            return 0
        return min(int(self.keys.get("FirstBurstLength", 65536)), self.max_send_bytes)

    @property
    def max_send_bytes(self) -> int:
        return int(self.keys.get("MaxRecvDataSegmentLength", 8192)) & ~3


def read_exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise LoginError("the target closed the connection during login")
        data += more
    return bytes(data)


def login(address: tuple[str, int], target: str, *, digests: str = "") -> Session:
    """Log in without authentication. `digests`: "", "header", "data" or "header+data", which must be granted."""
    sock = socket.create_connection(address, timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    number = next(counter)
    wanted = {f"{side.title()}Digest": "CRC32C" if side in digests.split("+") else "None" for side in ("header", "data")}
    keys = {"InitiatorName": f"{NAME}{number}", "TargetName": target} | OFFERED | wanted
    isid = b"\x80" + number.to_bytes(5, "big")
    found: dict[str, str] = {}
    flags, exp_stat_sn = 0x87, 0        # operational stage, transit to full feature
    for _ in range(8):
        text = b"".join(f"{k}={v}\0".encode() for k, v in keys.items())
        bhs = struct.pack(">BBBBI6sHIHHII16x", 0x43, flags, 0, 0, len(text), isid, 0, 1, 0, 0, 1, exp_stat_sn)
        sock.sendall(bhs + text + bytes(-len(text) % 4))
        answer = read_exactly(sock, 48)
        length = int.from_bytes(answer[5:8], "big")
        data = read_exactly(sock, length + -length % 4)[:length]
        if answer[0] != 0x23 or answer[36]:
            sock.close()
            raise LoginError(f"login refused with status {answer[36]:02x}{answer[37]:02x}h")
        found |= dict(pair.split("=", 1) for pair in data.decode().split("\0") if "=" in pair)
        stat_sn, exp_cmd_sn, max_cmd_sn = struct.unpack(">III", answer[24:36])
        exp_stat_sn = stat_sn + 1
        if answer[1] & 0x83 == 0x83:
            break
        keys = {}
    else:
        raise LoginError("login does not end")
    if any(found.get(key, "None") != value for key, value in wanted.items()):
        raise LoginError(f"digests {digests or 'none'} not granted")
    sock.settimeout(None)
    return Session(sock, exp_cmd_sn, max_cmd_sn, exp_stat_sn, found)


def lun_field(lun: int) -> bytes:
    """The 8-byte LUN of a single-level address: peripheral below 256, flat above (SAM-5 §4.7)."""
    return (bytes([0, lun]) if lun < 256 else (0x4000 | lun).to_bytes(2, "big")) + bytes(6)


def make_ready(session: Session, lun: bytes, digests: str) -> None:
    """TEST UNIT READY until the LUN has no unit attention left; raises LoginError when it stays unready."""
    status = 0
    for _ in range(8):
        bhs = struct.pack(">BB6x8sIIII16x", 0x01, 0x81, lun, 0, 0, session.cmd_sn, session.stat_sn)
        session.sock.sendall(bhs + (crc32c(bhs).to_bytes(4, "little") if "header" in digests else b""))
        session.cmd_sn += 1
        while True:
            answer = read_exactly(session.sock, 48)
            length = int.from_bytes(answer[5:8], "big")
            read_exactly(session.sock, (4 if "header" in digests else 0) + length + -length % 4
                         + (4 if length and "data" in digests else 0))
            if answer[0] == 0x21:
                break
        stat_sn, _, session.max_cmd_sn = struct.unpack(">III", answer[24:36])
        session.stat_sn, status = stat_sn + 1, answer[3]
        if status == 0:
            return
    raise LoginError(f"the LUN stays unready: status {status:02x}h")


def split(url: str) -> tuple[tuple[str, int], str, int]:
    """((address, port), target name, LUN) of an iscsi:// URL."""
    found = URL.fullmatch(url)
    if not found:
        raise ValueError(f"not an iscsi:// URL with an address, a port, a name and a LUN: {url}")
    return (found[1], int(found[2])), found[3], int(found[4])


def idle(urls: list[str], count: int) -> list[Session]:
    """Log in `count` sessions that do nothing more than look at the first LUN."""
    address, target, lun = split(urls[0])
    sessions = [login(address, target) for _ in range(count)]
    for session in sessions:
        make_ready(session, lun_field(lun), "")
    return sessions


def unmap(url: str, blocks: Iterable[int], *, blocks_each: int) -> None:
    """UNMAP single 4 KiB blocks by their numbers, so many in one command, one command after the other (SBC-4 §5.35)."""
    address, target, lun = split(url)
    session = login(address, target)
    field = lun_field(lun)
    make_ready(session, field, "")
    for some in batches(blocks, blocks_each):
        listed = b"".join(struct.pack(">QI4x", block * 8, 8) for block in some)
        data = struct.pack(">HH4x", len(listed) + 6, len(listed)) + listed
        cdb = struct.pack(">B6xHB6x", 0x42, len(data), 0)
        bhs = struct.pack(">BB2xI8sIIII16s", 0x01, 0xA1, len(data), field, session.cmd_sn, len(data), session.cmd_sn,
                          session.stat_sn, cdb)
        session.sock.sendall(bhs + data + bytes(-len(data) % 4))
        session.cmd_sn += 1
        answer = read_exactly(session.sock, 48)
        length = int.from_bytes(answer[5:8], "big")
        read_exactly(session.sock, length + -length % 4)
        if answer[0] != 0x21 or answer[3]:
            raise LoginError(f"UNMAP refused: opcode {answer[0]:02x}h, status {answer[3]:02x}h")
        session.stat_sn = int.from_bytes(answer[24:28], "big") + 1
    session.sock.close()


def batches(numbers: Iterable[int], count: int) -> Iterator[tuple[int, ...]]:
    """So many at a time."""
    them = iter(numbers)
    while some := tuple(itertools.islice(them, count)):
        yield some


def fill(url: str, size_mib: int) -> None:
    """Write a LUN once, in order."""
    run([[url]], FILL_LIMIT_S, write_percent=100, block_bytes=256 << 10, depth=4, size_mib=size_mib, sequential=True,
        most=size_mib * 4)


def percentile(cells: list[int], share: float) -> float:
    """Latency in microseconds below which `share` of the counted commands ended."""
    sums = list(itertools.accumulate(cells))
    return _initiator.cell_us(bisect.bisect_left(sums, share * sums[-1])) if sums[-1] else float("nan")


class Load:
    """One session per list of LUN URLs (all of one target and of equal number), logged in and ready to be driven."""

    def __init__(self, urls: list[list[str]], *, digests: str = "") -> None:
        self.digests = digests
        self.luns = len(urls[0])
        self.sessions: list[Session] = []
        self.fields = b""
        try:
            for group in urls:
                parts = [split(url) for url in group]
                self.sessions.append(login(*parts[0][:2], digests=digests))
                for _, _, lun in parts:
                    make_ready(self.sessions[-1], lun_field(lun), digests)
                    self.fields += lun_field(lun)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for session in self.sessions:
            session.sock.close()

    def drive(self, seconds: float, *, write_percent: int, block_bytes: int, depth: int, size_mib: int,
              sequential: bool = False, threads: int = 1, most: int = 0, discard: bool = False) -> dict[str, Any]:
        """Keep `depth` commands in flight on every session for `seconds`, each on a LUN of the session's at random.

        most: end after so many commands on each session. discard: READs whose data the kernel throws away unread, for
        an initiator that costs next to nothing; no percentiles then. Returns ios, iops, mib_s, percentiles and
        per-session IOPS, as `fio.digest` does.
        """
        def part(mine: slice) -> tuple[list[tuple[int, int, int]], list[int]]:
            chosen = self.sessions[mine]
            done, cells, now = _initiator.drive(
                [(s.sock.fileno(), s.cmd_sn, s.max_cmd_sn, s.stat_sn) for s in chosen], depth=depth,
                write_percent=write_percent, random=not sequential, block_bytes=block_bytes, sector_bytes=SECTOR_BYTES,
                sectors=(size_mib << 20) // SECTOR_BYTES, luns=self.luns,
                lun_fields=self.fields[mine.start * self.luns * 8:mine.stop * self.luns * 8],
                immediate_bytes=min(block_bytes, chosen[0].immediate_bytes), max_send_bytes=chosen[0].max_send_bytes,
                header_digest="header" in self.digests, data_digest="data" in self.digests, seconds=seconds,
                seed=random.getrandbits(62), most=most, discard=discard)
            for session, (_, *numbers) in zip(chosen, now, strict=True):
                session.cmd_sn, session.max_cmd_sn, session.stat_sn = numbers
            return done, cells

        started = time.monotonic()
        bounds = [len(self.sessions) * i // threads for i in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(part, [slice(a, b) for a, b in itertools.pairwise(bounds)]))
        elapsed = time.monotonic() - started if most else seconds
        per_session = [entry for done, _ in parts for entry in done]
        cells = [sum(column) for column in zip(*(cells for _, cells in parts), strict=True)]
        broken = [entry for entry in per_session if entry[1] or entry[2]]
        if broken:
            why = {0: "SCSI errors", 1: "connection closed", 2: "protocol error", 3: "digest error"}[broken[0][2]]
            raise LoginError(f"{len(broken)} of {len(per_session)} sessions failed: {why}")
        ops = sum(entry[0] for entry in per_session)
        latency = {} if discard else {"p50_us": percentile(cells, 0.5), "p99_us": percentile(cells, 0.99),
                                      "p999_us": percentile(cells, 0.999)}
        return {"ios": ops, "iops": ops / elapsed, "mib_s": ops * block_bytes / elapsed / (1 << 20), **latency,
                "job_iops": [round(entry[0] / elapsed) for entry in per_session]}


def run(urls: list[list[str]], seconds: float, *, digests: str = "", **load: Any) -> dict[str, Any]:
    """Log in, drive (see Load.drive), leave."""
    with Load(urls, digests=digests) as sessions:
        return sessions.drive(seconds, **load)
