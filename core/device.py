"""The device seam seen from Python: read, write, discard, sync, size. Five methods are all a medium needs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
import struct
import time
from pathlib import Path
from typing import Any, Protocol

from core.errors import PoolError
from core.units import format_size

# linux/fs.h
BLKDISCARD = 0x1277
BLKGETSIZE64 = 0x80081272
BLKGETDISKSEQ = 0x80081280
# linux/falloc.h
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
# linux/fiemap.h
FS_IOC_FIEMAP = 0xC020660B
FIEMAP_EXTENTS = 64         # asked for at once
# linux/stat.h: struct statx is 256 bytes, stx_mask at 0, stx_mnt_id at 144
AT_EMPTY_PATH = 0x1000
STATX_MNT_ID_UNIQUE = 0x4000
STATX_BYTES, STATX_MNT_ID_OFFSET = 256, 144
STATFS_BYTES = 256          # struct statfs has 120 on 64-bit machines, and f_type is a native long at 0

DIRECT_ALIGN_BYTES = 4096
DIRECT_FLIGHTS = 16
PIECE_BYTES = 1 << 20
LOCK_WAIT_SECONDS = 2.0     # for the kernel to finish what a process that was killed had in flight
_LIBC: tuple[Any, Any] | None = None


class Device(Protocol):
    """What a pool lives on. Offsets and lengths are bytes, multiples of 512. A failure raises OSError.

    `write` is durable only after a later `sync` returns; `discard` leaves zeros or the old bytes.
    `cache_token` names the life of the page cache above the medium (boot and mount), and of the medium's own where the page
    cache is bypassed: equal tokens mean that writes which were completed but not synced are still visible. Empty: they never are.
    """

    size_bytes: int
    cache_token: bytes
    # One that is `sparse` has no room of its own for what was never written; its `allocate(offset_bytes, length_bytes)` has it
    # found now, so that no later write there fails for want of it, or raises OSError ENOSPC. One that is `thin`, too, keeps what
    # such a range holds only while nobody writes there; reactors have zeros written instead (core/space/medium.pyx).
    # core/flights.py says what it may have besides.

    def read(self, offset_bytes: int, length_bytes: int) -> bytes: ...
    def write(self, offset_bytes: int, data: bytes) -> None: ...
    def discard(self, offset_bytes: int, length_bytes: int) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...


class FileDevice:
    """A pool's file or block device, opened for one process alone (flock; O_EXCL too for block devices).

    `direct` bypasses the page cache. `lock` may be turned off for read-only looks at something that is in use.
    PoolError: not_found, locked, invalid (not a file or block device), io_read (cannot be opened).
    """

    def __init__(self, path: str | os.PathLike[str], *, direct: bool = False, read_only: bool = False,
                 lock: bool = True) -> None:
        self.path = os.fspath(path)
        self.direct = direct
        self.read_only = read_only
        self.locked = lock
        self._where = os.path.abspath(self.path)
        self._fd = _open(self.path, direct=direct, read_only=read_only, lock=lock)
        try:
            if lock:
                _lock(self._fd, self.path)
            info = os.fstat(self._fd)
            self.is_block = stat.S_ISBLK(info.st_mode)
            if not self.is_block and not stat.S_ISREG(info.st_mode):
                raise PoolError("invalid", f"{self.path} is neither a file nor a block device")
            self.grows = not self.is_block
            self.size_bytes = self._size()
            self.sparse = not read_only
            self.thin = self.is_block
            self.cache_token = self._cache_token(info)
        except BaseException:
            os.close(self._fd)
            raise

    def fileno(self) -> int:
        return self._fd

    def missing_bytes(self) -> int:
        """How much shorter the file or device is now than it was when it was opened: somebody has cut it, or taken it away."""
        try:
            return max(0, self.size_bytes - self._size())
        except OSError:
            return self.size_bytes

    def lost_name(self) -> str:
        """ "deleted": the file has no name any more, and ends with who has it open. "moved": `path` names something else now."""
        info = os.fstat(self._fd)
        if info.st_nlink == 0:
            return "deleted"
        if self.is_block:
            return ""                   # nodes of a device come and go; which one it is does not change
        try:
            return "" if os.path.samestat(os.stat(self._where), info) else "moved"
        except OSError:
            return "moved"

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        if self.direct:
            return self._read_direct(offset_bytes, length_bytes)
        parts: list[bytes] = []
        while length_bytes:
            part = os.pread(self._fd, length_bytes, offset_bytes)
            if not part:
                raise OSError(errno.EIO, f"read past the end of {self.path}, at {format_size(offset_bytes)}")
            parts.append(part)
            offset_bytes += len(part)
            length_bytes -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def flights(self) -> int:
        """How many calls at once are worth their threads."""
        return DIRECT_FLIGHTS if self.direct else 1

    def will_need(self, offset_bytes: int, length_bytes: int) -> None:
        """What is read soon: the kernel may begin."""
        if not self.direct:
            os.posix_fadvise(self._fd, offset_bytes, length_bytes, os.POSIX_FADV_WILLNEED)

    def write(self, offset_bytes: int, data: bytes) -> None:
        if self.direct:
            self._write_direct(offset_bytes, data)
            return
        view = memoryview(data)
        while view:
            count = os.pwrite(self._fd, view, offset_bytes)
            view = view[count:]
            offset_bytes += count

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        """Give the range back to whatever lies below: a hole in a file, a discard on a block device."""
        if self.is_block:
            fcntl.ioctl(self._fd, BLKDISCARD, struct.pack("=QQ", offset_bytes, length_bytes))
            return
        ffi, libc = _libc()
        flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        if libc.fallocate(self._fd, flags, offset_bytes, length_bytes) != 0:
            raise OSError(ffi.errno, f"{os.strerror(ffi.errno)}: punch a hole in {self.path}")

    def allocate(self, offset_bytes: int, length_bytes: int) -> None:
        """Have the file system set blocks aside for a range of the file; what it holds stays. OSError.

        A block device that may be thin is written again as it is: nobody else may write there meanwhile.
        """
        if self.is_block:
            for at in range(offset_bytes, offset_bytes + length_bytes, PIECE_BYTES):
                self.write(at, self.read(at, min(PIECE_BYTES, offset_bytes + length_bytes - at)))
            return
        ffi, libc = _libc()
        while libc.fallocate(self._fd, FALLOC_FL_KEEP_SIZE, offset_bytes, length_bytes) != 0:
            number = ffi.errno
            if number == errno.EINTR:
                continue
            if number in (errno.ENOSPC, errno.EDQUOT) and self._is_allocated(offset_bytes, length_bytes):
                return                  # XFS wants room for all of it, though nothing is missing
            raise OSError(number, os.strerror(number))

    def room_bytes(self) -> int | None:
        """What the file system could still give to the file; None for a block device."""
        if self.is_block:
            return None
        info = os.fstatvfs(self._fd)
        return (info.f_bfree if os.geteuid() == 0 else info.f_bavail) * info.f_frsize

    def _is_allocated(self, offset_bytes: int, length_bytes: int) -> bool:
        """Whether every byte of the range has a block of the file system, written to or not (FIEMAP)."""
        at, end = offset_bytes, offset_bytes + length_bytes
        while at < end:
            request = bytearray(struct.pack("=QQIIII", at, end - at, 0, 0, FIEMAP_EXTENTS, 0) + bytes(56 * FIEMAP_EXTENTS))
            try:
                fcntl.ioctl(self._fd, FS_IOC_FIEMAP, request)
            except OSError:
                return False
            (count,) = struct.unpack_from("=I", request, 20)
            for i in range(count):
                start, _, length = struct.unpack_from("=QQQ", request, 32 + 56 * i)
                if start > at:
                    return False
                at = max(at, start + length)
            if not count:
                return False
        return True

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def refresh(self) -> int:
        """Look at the size again (the medium may have been enlarged); returns it in bytes."""
        self.size_bytes = self._size()
        return self.size_bytes

    def enlarge(self, size_bytes: int) -> None:
        """Make a file at least `size_bytes` long, sparse. A block device must already be. PoolError: invalid."""
        if self.is_block:
            if self.refresh() < size_bytes:
                raise PoolError("invalid", f"{self.path} is {format_size(self.size_bytes)}, smaller than asked for")
            return
        if size_bytes > self.refresh():
            os.ftruncate(self._fd, size_bytes)
            os.fsync(self._fd)
        self.refresh()

    def close(self) -> None:
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)    # rings let go of the file some time after they are closed
            os.close(self._fd)
            self._fd = -1

    def _size(self) -> int:
        if not self.is_block:
            return os.fstat(self._fd).st_size
        (size_bytes,) = struct.unpack("=Q", fcntl.ioctl(self._fd, BLKGETSIZE64, bytes(8)))
        return int(size_bytes)

    def _cache_token(self, info: os.stat_result) -> bytes:
        try:
            boot = bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
            if self.is_block:
                (life,) = struct.unpack("=Q", fcntl.ioctl(self._fd, BLKGETDISKSEQ, bytes(8)))
                return boot + struct.pack("<QQ", info.st_rdev, life)
        except (OSError, ValueError):
            return b""
        mount = _unique_mount_id(self._fd)
        return b"" if mount is None else boot + struct.pack("<QQQ", info.st_dev, info.st_ino, mount)

    def _read_direct(self, offset_bytes: int, length_bytes: int) -> bytes:
        start = offset_bytes & -DIRECT_ALIGN_BYTES
        end = -(-(offset_bytes + length_bytes) // DIRECT_ALIGN_BYTES) * DIRECT_ALIGN_BYTES
        if end == start:
            return b""
        with mmap.mmap(-1, end - start) as buffer:
            done = 0
            while done < end - start and start + done < offset_bytes + length_bytes:
                with memoryview(buffer) as whole, whole[done:] as rest:
                    count = os.preadv(self._fd, [rest], start + done)
                if count <= 0:
                    raise OSError(errno.EIO, f"read past the end of {self.path}, at {format_size(start + done)}")
                done += count
            return buffer[offset_bytes - start:offset_bytes - start + length_bytes]

    def _write_direct(self, offset_bytes: int, data: bytes) -> None:
        start = offset_bytes & -DIRECT_ALIGN_BYTES
        end = -(-(offset_bytes + len(data)) // DIRECT_ALIGN_BYTES) * DIRECT_ALIGN_BYTES
        if end == start:
            return
        with mmap.mmap(-1, end - start) as buffer:
            if start != offset_bytes or end != offset_bytes + len(data):
                buffer[:] = self._read_direct(start, end - start)
            buffer[offset_bytes - start:offset_bytes - start + len(data)] = bytes(data)
            done = 0
            while done < end - start:
                with memoryview(buffer) as whole, whole[done:] as rest:
                    done += os.pwritev(self._fd, [rest], start + done)


def create_file(path: str | os.PathLike[str], size_bytes: int) -> None:
    """Make a new sparse file of `size_bytes` for a pool; never touches one that exists. PoolError: exists, io_write."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise PoolError("exists", f"{os.fspath(path)} already exists") from None
    except OSError as error:
        raise PoolError("io_write", f"cannot create {os.fspath(path)}: {error.strerror}") from None
    try:
        os.ftruncate(fd, size_bytes)
        _give_away(fd, path)
        os.fsync(fd)
        _sync_directory(path)         # its name, too
    except OSError as error:
        os.unlink(path)
        raise PoolError("io_write", f"cannot create {os.fspath(path)}: {error.strerror}") from None
    finally:
        os.close(fd)


def _give_away(fd: int, path: str | os.PathLike[str]) -> None:
    """What root makes in another user's directory is that user's, whose daemon is to open it."""
    directory = os.stat(os.path.dirname(os.path.abspath(path)))
    if os.geteuid() == 0 and directory.st_uid:
        with contextlib.suppress(PermissionError):      # a root that may not, as on NFS
            os.fchown(fd, directory.st_uid, directory.st_gid)


def _sync_directory(path: str | os.PathLike[str]) -> None:
    fd = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open(path: str, *, direct: bool, read_only: bool, lock: bool) -> int:
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NONBLOCK
    if direct:
        flags |= os.O_DIRECT
    try:
        if lock and stat.S_ISBLK(os.stat(path).st_mode):
            flags |= os.O_EXCL  # refuses what is mounted or claimed by another driver
        return os.open(path, flags)
    except FileNotFoundError:
        raise PoolError("not_found", f"{path} does not exist") from None
    except PermissionError as error:
        with contextlib.suppress(OSError, KeyError):
            raise PoolError("io_read", f"cannot open {path}: {error.strerror}; it is the user {Path(path).owner()}'s") from None
        raise PoolError("io_read", f"cannot open {path}: {error.strerror}") from None
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise PoolError("locked", f"{path} is in use by another process or mounted") from None
        raise PoolError("io_read", f"cannot open {path}: {error.strerror}") from None


def _lock(fd: int, path: str) -> None:
    """Take the lock. A process that was killed keeps it until the kernel has finished what it had in flight: wait for that."""
    give_up = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise PoolError("locked", f"{path} is open in another process") from None
            time.sleep(LOCK_WAIT_SECONDS / 50)
        else:
            return


def _unique_mount_id(fd: int) -> int | None:
    """The mount's id, never reused in this boot (Linux 6.8); None where the kernel cannot tell."""
    ffi, libc = _libc()
    buffer = ffi.new("unsigned char[]", STATX_BYTES)
    if libc.statx(fd, b"", AT_EMPTY_PATH, STATX_MNT_ID_UNIQUE, buffer) != 0:
        return None
    raw = bytes(ffi.buffer(buffer))
    (mask,) = struct.unpack_from("=I", raw, 0)
    if not mask & STATX_MNT_ID_UNIQUE:
        return None
    (mount,) = struct.unpack_from("=Q", raw, STATX_MNT_ID_OFFSET)
    return int(mount)


def file_system(fd: int) -> int:
    """The type of the file system that holds an open file, as linux/magic.h numbers them; 0 when it cannot be told."""
    ffi, libc = _libc()
    buffer = ffi.new("unsigned char[]", STATFS_BYTES)
    if libc.fstatfs(fd, buffer) != 0:
        return 0
    (kind,) = struct.unpack_from("@l", bytes(ffi.buffer(buffer)), 0)
    return int(kind) & 0xFFFFFFFF


def _libc() -> tuple[Any, Any]:
    global _LIBC
    if _LIBC is None:
        from cffi import FFI

        ffi = FFI()
        ffi.cdef("int fallocate(int fd, int mode, int64_t offset, int64_t length);"
                 "int statx(int dirfd, const char *path, int flags, unsigned int mask, unsigned char *buffer);"
                 "int fstatfs(int fd, unsigned char *buffer);")
        _LIBC = ffi, ffi.dlopen(None)
    return _LIBC
