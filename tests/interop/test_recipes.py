"""The recipes of docs/recipes.md that say they are tried, run as they stand there but for their places."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.waiting import PATIENCE_SECONDS, until

ROOT = Path(__file__).parents[2]
# A boot sector for a PC: it has the BIOS read the second sector of the disk that it came from, prints that on the serial port and
# ends the machine.
CODE = "fc31c08ed88ec0b80102b90200b600bb007ecd13be007eac84c07406baf803eeebf5baf400eef4ebfd"
BOOT = bytes.fromhex(CODE).ljust(510, b"\0") + b"\x55\xaa"


def recipe(title: str, language: str = "sh") -> list[str]:
    """The blocks of a recipe."""
    text = (ROOT / "docs" / "recipes.md").read_text()
    part = re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert part is not None, title
    return re.findall(rf"```{language}\n(.*?)```", part[0], re.DOTALL)


def shell(daemon: DaemonProcess, script: str, directory: Path) -> str:
    """Run a block in a shell that has `lunette`."""
    head = f"set -e\nlunette() {{ '{sys.executable}' -m target \"$@\"; }}\n"
    done = subprocess.run(["bash", "-c", head + script], cwd=directory, capture_output=True, text=True, timeout=280, check=False,
                          env={**os.environ, "LUNETTE_API": str(daemon.api), "PYTHONPATH": str(ROOT)})
    assert done.returncode in (0, 1), done.stderr      # isa-debug-exit makes 1 of the 0 that the boot sector ends with
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.needs("qemu-img", "qemu-io", "qemu-system-x86_64", "jq")
def test_five_clones_of_a_golden_image_boot(daemon: DaemonProcess, tmp_path: Path) -> None:
    (tmp_path / "golden.raw").write_bytes(BOOT + b"golden".ljust(512, b"\0") + bytes((64 << 20) - 1024))
    make, boot = recipe("Five machines from a golden image")
    shell(daemon, make, tmp_path)
    for number in range(2, 6):          # the first one stays as the image is
        with open(tmp_path / "sector", "wb") as file:
            file.write(f"machine {number}".encode().ljust(512, b"\0"))
        write = ["qemu-io", "-f", "raw", "-c", f"write -s {tmp_path}/sector 512 512", "-c", "flush"]
        subprocess.run([*write, daemon.url(f"machine{number}")], check=True, capture_output=True, timeout=60)
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda number: shell(daemon, boot.replace("machine1", f"machine{number}"), tmp_path), range(1, 6)))
    assert said == ["golden", *(f"machine {number}" for number in range(2, 6))]
    assert daemon.ls()["machine1"]["exclusive_bytes"] == 0


@contextlib.contextmanager
def libvirt() -> Iterator[Callable[..., str]]:
    """A libvirtd of a user without rights, with places of its own; what runs virsh with it."""
    with tempfile.TemporaryDirectory(prefix="lunette-libvirt") as name:
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        if nobody:
            os.chown(name, 65534, 65534)
        places = {**os.environ, "HOME": name, "XDG_RUNTIME_DIR": name, "XDG_CONFIG_HOME": name, "XDG_CACHE_HOME": name}

        def virsh(*words: str, document: str = "") -> str:
            (Path(name) / "document").write_text(document)
            done = subprocess.run([*nobody, "virsh", "-c", "storage:///session", *words], env=places, cwd=name,
                                  capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout

        with open(Path(name) / "log", "w+") as log:
            process = subprocess.Popen([*nobody, "libvirtd"], env=places, stdout=log, stderr=log)
            try:
                until(lambda: process.poll() is not None or (Path(name) / "libvirt" / "libvirt-sock").exists())
                assert process.poll() is None, Path(name, "log").read_text()
                yield virsh
            finally:
                process.terminate()
                process.wait(PATIENCE_SECONDS)


@pytest.mark.needs("libvirtd", "virsh", "setpriv")
def test_libvirt_lists_luns_as_volumes(daemon: DaemonProcess) -> None:
    if not list(Path("/usr/lib").glob("*/libvirt/storage-backend/libvirt_storage_backend_iscsi-direct.so")):
        pytest.skip("libvirt has no iscsi-direct here (libvirt-daemon-driver-storage-iscsi-direct)")
    daemon.cli("create", "web", "--size", "32M")
    document = recipe("libvirt, iscsi-direct", "xml")[0].replace("HOST", "127.0.0.1").replace("TARGET", daemon.target)
    with libvirt() as virsh:
        virsh("pool-create", "document", document=document.replace('port="3260"', f'port="{daemon.port}"'))
        assert "unit:0:0:0" in virsh("vol-list", "lunette")
        assert re.search(r"Capacity:\s+32.00 MiB", virsh("vol-info", "unit:0:0:0", "--pool", "lunette"))
        daemon.cli("create", "db", "--size", "16M")
        virsh("pool-refresh", "lunette")
        assert "unit:0:0:1" in virsh("vol-list", "lunette")
        virsh("pool-destroy", "lunette")
