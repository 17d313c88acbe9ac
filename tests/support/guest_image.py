"""The machine with the kernel's initiator, as files: a kernel and an initramfs, made of Debian's packages, and nothing else.

The packages are those of this machine's release (apt), fetched and unpacked under build/: nothing is installed, no root needed.
Of them the initramfs takes the programs below, the libraries these ask for, and the modules of a virtual machine with iSCSI.
It is made again when what it is made by changes.

`python -m tests.support.guest_image` makes it now (`make clients`).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support import cpio
from tests.support.cpio import Archive

BUILD = Path(__file__).resolve().parents[2] / "build"
RELEASE = Path("/etc/os-release")
INIT = Path(__file__).with_name("guest_init.sh")
PACKAGES = ("linux-image-cloud-amd64", "busybox-static", "kmod", "udev", "dmsetup", "open-iscsi", "multipath-tools", "sg3-utils",
            "e2fsprogs", "util-linux", "fio")
MODULES = ("virtio_pci", "virtio_console", "virtio_net", "virtio_rng", "iscsi_tcp", "sd_mod", "sg", "dm_multipath",
           "dm_service_time", "ext4", "crc32c_generic")
PROGRAMS = ("kmod", "udevadm", "iscsid", "iscsiadm", "multipathd", "multipath", "dmsetup", "sg_persist", "sg_inq", "sg_vpd",
            "sg_luns", "sg_map", "mke2fs", "e2fsck", "mkfs.ext4", "resize2fs", "modprobe", "fstrim", "blkdiscard", "flock",
            "fio")
# Globs under /usr: what the programs read or load besides their libraries.
DATA = ("lib/udev/rules.d/*", "lib/udev/scsi_id", "lib/multipath/*",
        "lib/*-linux-gnu/multipath/*", "lib/*-linux-gnu/libgcc_s.so.1")
PLACES = ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64")


class NoGuest(Exception):
    """Why there is no such machine here."""


@dataclass(frozen=True, slots=True)
class GuestImage:
    """What QEMU boots."""

    kernel: Path
    initramfs: Path


def guest_image() -> GuestImage:
    """The image, made if need be (some 15 s and 100 MB of packages); NoGuest says why it cannot be had."""
    sources = b"".join(each.read_bytes() for each in (Path(__file__), Path(cpio.__file__), INIT, RELEASE) if each.exists())
    key = hashlib.sha256(sources).hexdigest()[:16]
    directory = BUILD / f"guest-{key}"
    if not directory.exists():
        BUILD.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD, ignore_cleanup_errors=True) as place:
            _make(Path(place))
            try:
                (Path(place) / "image").rename(directory)
            except OSError:
                assert directory.exists()  # another run was faster
        for old in set(BUILD.glob("guest-*")) - {directory}:
            shutil.rmtree(old, ignore_errors=True)
    return GuestImage(directory / "vmlinuz", directory / "initramfs")


def _make(place: Path) -> None:
    image, root = place / "image", place / "root"
    image.mkdir()
    _unpack(_download(place / "apt"), root)
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    release = kernel.name.removeprefix("vmlinuz-")
    shutil.copy(kernel, image / "vmlinuz")
    _Tool(root).run("depmod", "-b", root, release)
    with (image / "initramfs").open("wb") as file:
        archive = Archive(file)
        for place in PLACES:
            archive.add_with_parents(Path(Path(place).name), root)
        for path in sorted({*_programs(root), *_modules(root, release)}):
            archive.add_with_parents(path.relative_to(root), root)
        for directory in ("proc", "sys", "dev", "run", "tmp", "mnt", "root", "etc/iscsi", "var/lib/iscsi"):
            archive.directory(Path(directory))
        archive.file(Path("init"), INIT.read_bytes(), 0o755)
        archive.file(Path("etc/modules"), "\n".join(MODULES).encode(), 0o644)
        archive.console()
        archive.end()


def _download(place: Path) -> list[Path]:
    """The packages and all they depend on, as if nothing were installed."""
    (place / "partial").mkdir(parents=True)
    (place / "status").touch()
    command = ["apt-get", "-qq", "-y", "-o", f"Dir::State::status={place}/status", "-o", f"Dir::Cache::archives={place}",
               "-o", "APT::Install-Recommends=0", "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1",
               "--download-only", "install", *PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NoGuest("the guest is made of Debian's packages, and there is no apt-get") from None
    if done.returncode:
        raise NoGuest(f"the guest's packages cannot be had: {done.stderr.strip().splitlines()[-1:]}")
    return sorted(place.glob("*.deb"))


def _unpack(packages: list[Path], root: Path) -> None:
    """Into a tree in which /bin, /sbin and /lib are links into /usr, whether the packages know that or not."""
    for place in PLACES:
        (root / place).mkdir(parents=True)
        (root / Path(place).name).symlink_to(place)
    for package in packages:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as tar:
            subprocess.run(["tar", "-x", "-C", root, "--keep-directory-symlink", "--no-same-owner", "--exclude=./usr/share"],
                           stdin=tar.stdout, check=True)
        if tar.returncode:
            raise NoGuest(f"{package.name} cannot be unpacked")


class _Tool:
    """Runs a program of the tree by the tree's own loader: this machine may be of another release, or have none."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._libraries = sorted({each.parent for glob in ("", "*-linux-gnu/", "*-linux-gnu/*/")
                                  for each in root.glob(f"usr/lib/{glob}lib*.so*")})
        (self._loader,) = root.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*")

    def run(self, name: str, *args: str | Path) -> str:
        """Run kmod by one of its names."""
        return self._load("--argv0", name, self._root / "usr/bin/kmod", *args)

    def libraries(self, program: Path) -> list[Path]:
        """What the loader would load."""
        listed = self._load("--list", program)
        return [Path(each) for each in re.findall(rf"({re.escape(str(self._root))}\S+)", listed)]

    def _load(self, *args: str | Path) -> str:
        path = ":".join(map(str, self._libraries))
        return subprocess.run([self._loader, "--library-path", path, *args], capture_output=True, text=True, check=True).stdout


def _programs(root: Path) -> set[Path]:
    """The programs, their data, and the libraries of both."""
    found = {root / "usr/bin/busybox", *(path for glob in DATA for path in (root / "usr").glob(glob)), root / "etc/mke2fs.conf"}
    for name in PROGRAMS:
        places = [place / name for place in (root / "usr/sbin", root / "usr/bin") if os.path.lexists(place / name)]
        if not places:
            raise NoGuest(f"no package brings {name}")
        found.update(places)
    tool = _Tool(root)
    for path in sorted(found):
        if path.is_file() and not path.is_symlink() and path.name != "busybox" and path.read_bytes()[:4] == b"\x7fELF":
            found.update(tool.libraries(path))
    return found | set(root.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*")) | set(root.glob("usr/lib64/*"))


def _modules(root: Path, release: str) -> set[Path]:
    """The modules with those they need, and modprobe's tables."""
    tool = _Tool(root)
    found = set((root / f"usr/lib/modules/{release}").glob("modules.*"))
    for name in MODULES:
        try:
            listed = tool.run("modprobe", "-d", root, "-S", release, "--show-depends", name)
        except subprocess.CalledProcessError:
            continue  # some kernels have it built in, without a name
        for line in re.findall(r"^insmod (\S+)", listed, re.MULTILINE):
            found.add(root / "usr/lib" / line[line.index("/modules/") + 1:])
    return found


def main() -> int:
    try:
        image = guest_image()
    except NoGuest as reason:
        print(f"no guest with the kernel's initiator: {reason}; its tests are skipped", file=sys.stderr)
        return 0
    print(f"{image.initramfs}: {image.initramfs.stat().st_size >> 20} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
