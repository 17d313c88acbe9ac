"""What a pool's file or device is to this machine: its names, who else may reach it, an uncached way to its ownership record.

Ownership itself is decided in `core/ownership.py`; this answers its questions for files and block devices (docs/ownership.md).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import stat
import struct
import uuid
from pathlib import Path
from typing import Any

from core import layout
from core.device import BLKGETDISKSEQ, FileDevice, file_system
from core.ownership import Opener

# linux/loop.h: struct loop_info64 is 232 bytes and begins with lo_device, lo_inode, lo_rdevice
LOOP_GET_STATUS64 = 0x4C05
LOOP_INFO_BYTES = 232
LOOP_MAJOR = 7
FILE, DEVICE, IMAGE = 1, 2, 3
# linux/magic.h: file systems that one machine alone reads and writes. All others count as shared: the safe mistake.
LOCAL_FILE_SYSTEMS = frozenset({
    0xEF53,                     # ext2, ext3, ext4
    0x58465342,                 # xfs
    0x9123683E,                 # btrfs
    0xCA451A4E,                 # bcachefs
    0x2FC12FC1,                 # zfs
    0xF2F52010,                 # f2fs
    0x01021994, 0x858458F6,     # tmpfs, ramfs
})
OVERLAY = 0x794C7630            # one machine's, but its files have other names below: known by none


class FileMedium:
    """The ownership record of a file or block device, read and written past the page cache.

    What else is open on the same bytes has a page cache of its own: a loop device over a file, or another machine.
    """

    def __init__(self, device: FileDevice) -> None:
        flags = (os.O_RDONLY if device.read_only else os.O_RDWR) | os.O_CLOEXEC
        path = f"/proc/self/fd/{device.fileno()}" if os.path.isdir("/proc/self/fd") else device.path
        try:
            self._fd = os.open(path, flags | os.O_DIRECT)
            self._direct = True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._fd = os.open(path, flags)         # a file system that knows no other way
            self._direct = False
        self._buffer = mmap.mmap(-1, layout.BLOCK_BYTES)

    def read_record(self) -> bytes:
        if not self._direct:
            os.posix_fadvise(self._fd, layout.OWNER_BLOCK * layout.BLOCK_BYTES, layout.BLOCK_BYTES, os.POSIX_FADV_DONTNEED)
        count = os.preadv(self._fd, [self._buffer], layout.OWNER_BLOCK * layout.BLOCK_BYTES)
        return self._buffer[:count].ljust(layout.BLOCK_BYTES, b"\0")

    def write_record(self, raw: bytes) -> None:
        self._buffer[:] = raw
        if os.pwritev(self._fd, [self._buffer], layout.OWNER_BLOCK * layout.BLOCK_BYTES) != len(raw):
            raise OSError(errno.EIO, "the ownership record was not written whole")
        if not self._direct:
            os.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._buffer.close()


def is_shared(fd: int) -> bool:
    """May another machine reach an open file? Then what is written must not linger in this one's page cache."""
    return file_system(fd) not in LOCAL_FILE_SYSTEMS | {OVERLAY}


def opener(device: FileDevice, lease_s: float) -> Opener:
    """This process as one that wants `device`. `lease_s` counts where a lease is needed.

    Only who has locked what it opened knows that an owner of the same place is gone.
    """
    info = os.fstat(device.fileno())
    place = _place(device.fileno(), info)
    places, known, local = {place}, True, file_system(device.fileno()) in LOCAL_FILE_SYSTEMS
    if device.is_block:
        backing = _backing(device.fileno(), info)
        known, local = backing is not None, False
        places |= {backing} if backing else set()
    else:
        known = local
    return _process(place if device.locked else bytes(len(place)), frozenset(places), known, local, 0.0 if local else lease_s)


def image_opener(address: str, lease_s: float) -> Opener:
    """This process as one that wants an image of a cluster, which knows it by `address`."""
    place = struct.pack("<QQQ", IMAGE, 0, 0)
    return _process(place, frozenset({place}), known=True, local=False, lease_s=lease_s, client=address)


def _process(place: bytes, places: frozenset[bytes], known: bool, local: bool, lease_s: float, client: str = "") -> Opener:
    return Opener(
        boot=_boot(), pid=os.getpid(), started=started(os.getpid()), pid_namespace=_pid_namespace(), host=socket.gethostname(),
        place=place, places=places, known=known, local=local, lease_s=lease_s, alive=is_alive, client=client)


def started(pid: int) -> int:
    """When a process began, in clock ticks since the boot; 0 when there is none (proc(5), field 22 of stat)."""
    return int(_stat(pid)[19]) if _stat(pid) else 0


def is_alive(pid: int, began: int) -> bool:
    """Does the process that began then still run? One that is dead but for its last threads does."""
    fields = _stat(pid)
    if not fields or int(fields[19]) != began:
        return False
    try:
        return fields[0] not in ("Z", "X") or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _place(fd: int, info: os.stat_result) -> bytes:
    if stat.S_ISBLK(info.st_mode):
        try:
            (sequence,) = struct.unpack("=Q", fcntl.ioctl(fd, BLKGETDISKSEQ, bytes(8)))
        except OSError:
            sequence = 0
        return struct.pack("<QQQ", DEVICE, info.st_rdev, sequence)
    return struct.pack("<QQQ", FILE, info.st_dev, info.st_ino)


def _backing(fd: int, info: os.stat_result) -> bytes | None:
    """The place of the file below a loop device; None when there is none, or what lies below it cannot be known."""
    if os.major(info.st_rdev) != LOOP_MAJOR:
        return None
    try:
        status: Any = fcntl.ioctl(fd, LOOP_GET_STATUS64, bytes(LOOP_INFO_BYTES))
    except OSError:
        return None
    device, inode, below = struct.unpack_from("=QQQ", status)
    return None if below or not _is_local_device(device) else struct.pack("<QQQ", FILE, device, inode)


def _is_local_device(device: int) -> bool:
    """Is a file system with this device number one that this machine alone uses?"""
    try:
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            major, minor = fields[2].split(":")
            if os.makedev(int(major), int(minor)) == device:
                fd = os.open(fields[4].encode().decode("unicode_escape"), os.O_PATH | os.O_CLOEXEC)
                try:
                    return file_system(fd) in LOCAL_FILE_SYSTEMS
                finally:
                    os.close(fd)
    except (OSError, ValueError):
        pass
    return False


def _boot() -> bytes:
    try:
        return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip()).bytes
    except (OSError, ValueError):
        return bytes(16)


def _pid_namespace() -> int:
    """In whose numbers and by whose clock processes are told here; 0 when that cannot be known."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino | os.stat("/proc/self/ns/time").st_ino << 32
    except OSError:
        return 0
