"""Offloaded copies through the daemon: a token is a point in time, its hidden snapshot goes with it (SBC-4 §4.28)."""

from __future__ import annotations

import signal

import pytest

from tests.interop.conftest import Start
from tests.support.daemon import DaemonProcess
from tests.support.libiscsi import GOOD, Answer, Initiator
from tests.support.waiting import until

pytestmark = pytest.mark.needs("libiscsi")

UNKNOWN = 0x2304
BLOCKS = 4096  # 2 MiB


def connect(daemon: DaemonProcess) -> Initiator:
    initiator = Initiator(daemon.portal, daemon.target, "iqn.2026-01.test:odx")
    for lun in (0, 1):
        initiator.settle(lun)
    return initiator


def ranges(lba: int, blocks: int) -> bytes:
    return lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(4)


def populate(initiator: Initiator, lun: int, lba: int, blocks: int, timeout_s: int = 0) -> bytes:
    data = b"\0\x1e\0\0" + timeout_s.to_bytes(4, "big") + bytes(6) + b"\0\x10" + ranges(lba, blocks)
    cdb = b"\x83\x10" + bytes(4) + b"\0\0\0\7" + len(data).to_bytes(4, "big") + bytes(2)
    assert initiator.command(lun, cdb, write=data).status == GOOD
    cdb = b"\x84\x07\0\0\0\7" + bytes(4) + b"\0\0\4\0" + bytes(2)
    return initiator.command(lun, cdb, read=1024).data[-512:]


def write_using(initiator: Initiator, lun: int, token: bytes, lba: int, blocks: int, drop: bool = False) -> Answer:
    data = (534 + 16).to_bytes(2, "big") + bytes([2 if drop else 0]) + bytes(13) + token + bytes(6) + b"\0\x10"
    data += ranges(lba, blocks)
    cdb = b"\x83\x11" + bytes(4) + b"\0\0\0\7" + len(data).to_bytes(4, "big") + bytes(2)
    return initiator.command(lun, cdb, write=data)


def hidden(daemon: DaemonProcess) -> int:
    """What the pool holds beyond what is listed, once it is stopped: `pool check` counts every object."""
    text = daemon.check()
    return int(text.split("objects ")[1].split(",")[0]) - 2


def test_a_token_is_what_the_source_was(daemon: DaemonProcess) -> None:
    for name in ("a", "b"):
        daemon.cli("create", name, "--size", "64M")
    with connect(daemon) as host:
        assert host.write(0, 0, b"1" * (BLOCKS * 256)).status == GOOD
        token = populate(host, 0, 0, BLOCKS)
        assert int.from_bytes(token[:4], "big") == 0x00800000  # point in time
        assert set(daemon.ls()) == {"a", "b"}
        assert host.write(0, 0, b"2" * 65536).status == GOOD
        assert write_using(host, 1, token, BLOCKS, BLOCKS).status == GOOD
        assert host.read(1, BLOCKS, 128).data == b"1" * 65536
        assert host.read(1, BLOCKS + BLOCKS // 2, 8).data == bytes(4096)
        assert host.read(0, 0, 128).data == b"2" * 65536
        assert write_using(host, 1, token, 0, 8, drop=True).status == GOOD
        assert write_using(host, 1, token, 0, 8).asc == UNKNOWN
    daemon.stop()
    assert hidden(daemon) == 0


def test_tokens_end_with_the_daemon_and_leave_nothing(start: Start) -> None:
    daemon = start()
    for name in ("a", "b"):
        daemon.cli("create", name, "--size", "64M")
    with connect(daemon) as host:
        assert host.write(0, 0, b"1" * 65536).status == GOOD
        tokens = [populate(host, 0, 0, 128) for _ in range(70)]
        assert write_using(host, 1, tokens[0], 0, 8).asc == UNKNOWN  # 64 for one nexus
        assert write_using(host, 1, tokens[-1], 0, 8).status == GOOD
    daemon.restart(signal.SIGKILL)
    with connect(daemon) as host:
        assert write_using(host, 1, tokens[-1], 0, 8).asc == UNKNOWN
        assert host.read(0, 0, 8).data == b"1" * 4096
        token = populate(host, 0, 0, 128, timeout_s=1)
        assert int.from_bytes(token[:4], "big") == 0x00800000
    until(lambda: daemon.stats()["pool"]["objects"] == 2)    # past its end, and the daemon's next look
    daemon.stop()
    assert hidden(daemon) == 0


def test_copies_need_not_fall_on_the_pool_s_blocks(daemon: DaemonProcess) -> None:
    for name in ("a", "b"):
        daemon.cli("create", name, "--size", "64M")
    data = b"".join(number.to_bytes(2, "big") * 256 for number in range(256))
    with connect(daemon) as host:
        for lba, blocks, at in ((0, 256, 1), (5, 100, 8192), (3, 200, 11), (8, 16, 16), (9, 2, 1), (7, 1, 4096)):
            assert host.write(0, 0, data).status == GOOD
            assert host.write(1, at, b"." * 512 * blocks).status == GOOD
            edges = host.read(1, at - 1, 1).data, host.read(1, at + blocks, 1).data
            token = populate(host, 0, lba, blocks)
            assert write_using(host, 1, token, at, blocks, drop=True).status == GOOD, (lba, blocks, at)
            assert host.read(1, at, blocks).data == data[lba * 512:(lba + blocks) * 512]
            assert (host.read(1, at - 1, 1).data, host.read(1, at + blocks, 1).data) == edges
