"""Debian's initiators against the daemon: libiscsi's tools, QEMU, fio."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.daemon import DaemonProcess

FIO = os.environ.get("FIO", "fio")


def run(*args: str | Path, timeout: float = 120) -> str:
    """Run a tool that must succeed; its output."""
    result = subprocess.run([str(each) for each in args], capture_output=True, text=True, timeout=timeout, check=False)
    assert result.returncode == 0, f"{' '.join(map(str, args))}: {result.stdout}{result.stderr}"
    return result.stdout + result.stderr


@pytest.mark.needs("iscsi-ls", "iscsi-inq", "iscsi-readcapacity16")
def test_the_tools_of_libiscsi(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "1G")
    listed = run("iscsi-ls", "-s", f"iscsi://{daemon.portal}")
    assert daemon.target in listed
    assert re.search(r"Lun:0\s+Type:DIRECT_ACCESS", listed)
    assert "LUNETTE" in run("iscsi-inq", daemon.url("v"))
    assert "2097151" in run("iscsi-readcapacity16", daemon.url("v"))


def _image(path: Path, size_bytes: int) -> Path:
    """A disk image with data in some places, holes in others."""
    source = random.Random(7)
    with path.open("wb") as file:
        for _ in range(24):
            file.seek(source.randrange(size_bytes // 65536) * 65536)
            file.write(source.randbytes(source.randrange(1, 200) * 512))
        file.truncate(size_bytes)
    return path


@pytest.mark.needs("qemu-img", "qemu-io")
def test_qemu_writes_a_volume_and_its_snapshot_and_clones_stand_alone(daemon: DaemonProcess, tmp_path: Path) -> None:
    before = _image(tmp_path / "before.raw", 256 << 20)
    daemon.cli("create", "v", "--size", "256M")
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", before, daemon.url("v"))
    daemon.cli("snapshot", "v@s")
    daemon.cli("connect", "v@s")
    daemon.cli("clone", "v@s", "c")
    daemon.cli("clone", "v", "w")
    run("qemu-io", "-f", "raw", "-c", "write -P 0x5a 4k 8M", "-c", "flush", daemon.url("c"))
    run("qemu-io", "-f", "raw", "-c", "write -P 0x77 100M 3M", "-c", "write -P 0x11 513k 1k", "-c", "flush", daemon.url("v"))
    for name in ("v@s", "w"):
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", before, daemon.url(name))
    assert "verification failed" not in run("qemu-io", "-f", "raw", "-c", "read -P 0x5a 4k 8M", daemon.url("c"))
    daemon.restart()
    daemon.cli("delete", "v")
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", before, daemon.url("v@s"))
    daemon.cli("delete", "v@s")
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", before, daemon.url("w"))
    daemon.cli("delete", "w", "c")
    daemon.stop()
    assert "clean" in daemon.check()


@pytest.mark.needs("qemu-img")
def test_a_snapshot_taken_while_qemu_writes_is_one_instant(daemon: DaemonProcess, tmp_path: Path) -> None:
    image = _image(tmp_path / "image.raw", 256 << 20)
    daemon.cli("create", "v", "--size", "256M")
    url = daemon.url("v")
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(run, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, url)
        daemon.cli("batch", stdin="".join(f"snapshot v@{i}\n" for i in range(20)))
        writing.result()
    daemon.cli("snapshot", "v@end")
    for name in ("v@0", "v@19", "v@end"):
        daemon.cli("connect", name)
    out = tmp_path / "out.raw"
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", daemon.url("v@0"), out)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", out, daemon.url("v@0"))
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, daemon.url("v@end"))


def _has_libiscsi_engine() -> bool:
    if shutil.which(FIO) is None:
        return False
    return "libiscsi" in subprocess.run([FIO, "--enghelp"], capture_output=True, text=True, check=False).stdout


@pytest.mark.skipif(not _has_libiscsi_engine(), reason="this fio has no libiscsi engine ($FIO may name one that has)")
def test_fio_verifies_what_it_wrote(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "256M")
    run(FIO, "--name=v", "--ioengine=libiscsi", "--filename=" + daemon.url("v").replace(":", r"\:"),
        "--rw=randwrite", "--bsrange=4k-64k", "--iodepth=16", "--size=64m", "--verify=crc32c", "--verify_fatal=1", "--thread")
