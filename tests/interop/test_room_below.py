"""A real file system fills up under a sparse pool: an initiator sees a full pool, kill -9 and restart included, and no more."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import DaemonProcess, logged
from tests.support.libiscsi import CHECK_CONDITION, GOOD, Answer, Initiator
from tests.support.waiting import until

PIECE_BLOCKS = 1024                    # 512 KiB
PIECE_BYTES = 512 * PIECE_BLOCKS
REFUSED = (CHECK_CONDITION, 7, 0x2707)  # DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT
IMAGE_BYTES = {"tmpfs": 160 << 20, "ext4": 192 << 20, "xfs": 340 << 20}


@contextlib.contextmanager
def mounted(kind: str, directory: Path) -> Iterator[Path]:
    """A small file system of a kind, on a loop device where it needs one."""
    if os.geteuid():
        pytest.skip("mounting wants root")
    place = directory / "mnt"
    place.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={IMAGE_BYTES[kind]}", "tmpfs", str(place)]
    else:
        image = directory / "image"
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES[kind])
        try:
            subprocess.run([f"mkfs.{kind}", "-q", *(["-m", "0"] if kind == "ext4" else []), str(image)], check=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip(f"mkfs.{kind} is not here")
        command = ["mount", "-o", "loop", str(image), str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"{kind} cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def write(session: Initiator, lun: int, block: int, fill: int) -> Answer:
    while (answer := session.write(lun, block, bytes([fill]) * PIECE_BYTES)).key == 6:
        pass
    return answer


def synchronize(session: Initiator, lun: int) -> Answer:
    while (answer := session.synchronize_cache(lun)).key == 6:               # a threshold that was crossed is told first
        pass
    return answer


def fill_up(session: Initiator, lun: int) -> int:
    """Write until that is refused for want of space; the first block that was not written."""
    block = 0
    while (answer := write(session, lun, block, 1 + block // PIECE_BLOCKS % 200)).status == GOOD:
        block += PIECE_BLOCKS
    assert (answer.status, answer.key, answer.asc) == REFUSED
    return block


def holds(session: Initiator, lun: int, end: int) -> None:
    for block in range(0, end, PIECE_BLOCKS * 7):
        assert session.read(lun, block, 8).data == bytes([1 + block // PIECE_BLOCKS % 200]) * 4096


def resumes(session: Initiator, lun: int) -> None:
    def written() -> bool:
        answer = write(session, lun, 0, 3)
        assert answer.status == GOOD or (answer.status, answer.key, answer.asc) == REFUSED
        return answer.status == GOOD

    until(written, "writes do not go on")


@pytest.mark.needs("libiscsi")
@pytest.mark.parametrize(("kind", "options"), [("tmpfs", ()), ("ext4", ()), ("ext4", ("--direct",)), ("xfs", ())],
                         ids=["tmpfs", "ext4", "ext4-direct", "xfs"])
def test_the_file_system_fills_up(kind: str, options: tuple[str, ...], tmp_path: Path) -> None:
    with mounted(kind, tmp_path) as place:
        daemon = DaemonProcess(place, *options, size="1G")
        daemon.log = tmp_path / "daemon.log"
        try:
            fills_up(daemon.start(), place)
        finally:
            daemon.close()


@pytest.mark.needs("libiscsi")
def test_a_thin_device_fills_up(tmp_path: Path) -> None:
    """A loop device over a sparse file, for want of a thin LV."""
    with mounted("ext4", tmp_path) as place:
        backing = place / "backing"
        with backing.open("wb") as file:
            file.truncate(1 << 30)
        found = subprocess.run(["losetup", "-f", "--show", str(backing)], capture_output=True, text=True, check=False)
        if found.returncode:
            pytest.skip(f"no loop device to be had: {found.stderr.strip()}")
        node = found.stdout.strip()
        try:
            daemon = DaemonProcess(tmp_path, size="1G", pool=node)
            try:
                fills_up(daemon.start(), place, unsure=2)
            finally:
                daemon.close()
        finally:
            subprocess.run(["losetup", "-d", node], check=False)


def fills_up(daemon: DaemonProcess, place: Path, unsure: int = 0) -> None:
    """`unsure`: so many of the last pieces may have been lost below; a loop device says of a part that it is all."""
    for name in ("v", "w"):
        daemon.cli("create", name, "--size", "900M")
    lun = {name: row["lun"] for name, row in daemon.ls().items()}
    with Initiator(daemon.portal, daemon.target) as session:
        session.settle()
        end = fill_up(session, lun["v"]) - unsure * PIECE_BLOCKS
        assert end * 512 > 16 << 20
        assert write(session, lun["v"], 0, 1).status == GOOD                 # blocks of its own
        answer = write(session, lun["w"], 0, 2)
        assert (answer.status, answer.key, answer.asc) == REFUSED
        assert synchronize(session, lun["v"]).status == GOOD
        pool = json.loads(daemon.cli("pool", "info", "--json"))
        assert (pool["failure"], pool["space"], pool["available_bytes"]) == ("", "hard", 0)
        daemon.cli("snapshot", "v@s")
        daemon.cli("rename", "w", "x")
        logged(daemon, "has no room")                                        # the monitor looks every two seconds
    ballast = place / "ballast"                                              # and others take the very last of it
    with contextlib.suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    daemon.restart(signal.SIGKILL)
    with Initiator(daemon.portal, daemon.target) as session:
        session.settle()
        holds(session, lun["v"], end)
        answer = write(session, lun["w"], 0, 2)
        assert (answer.status, answer.key, answer.asc) == REFUSED
        daemon.restart(signal.SIGKILL)
    with Initiator(daemon.portal, daemon.target) as session:
        session.settle()
        holds(session, lun["v"], end)
        daemon.cli("delete", "v@s")
        daemon.cli("delete", "v", "--force")
        resumes(session, lun["w"])
    log = daemon.log.read_text()
    assert "has no room" in log, log[-3000:]
    assert "read-only" not in log, log[-3000:]
    daemon.stop()
    assert "clean" in daemon.check()


@pytest.mark.needs("libiscsi")
def test_a_pool_is_not_made_in_a_full_file_system(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path) as place:
        (place / "ballast").write_bytes(bytes(IMAGE_BYTES["tmpfs"] - (8 << 20)))
        with pytest.raises(AssertionError, match="no room"):
            DaemonProcess(place, size="1G")
        assert not (place / "t.pool").exists()
