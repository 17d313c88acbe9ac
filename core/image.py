"""A pool's image on a Ceph cluster: the device of tools, of recovery and, by its handle, of reactors; its exclusive lock.

Lives here and nowhere else: what an RBD image does for a pool. Who may own it is decided in `core/fencing.py`, who calls it is
`core/ceph.py`'s client. Its cache is off, so what was written is on the OSDs before the write returns.
"""

from __future__ import annotations

import errno
import os
import time
from typing import Any

from core import layout
from core.ceph import LIBRBD, MANIFEST_OBJECT, Client, Place, Table, checked, explain, parse_place
from core.errors import PoolError
from core.flights import each
from core.ownership import Record

EXCLUSIVE = 0                       # rbd_lock_mode_t
FEATURE_EXCLUSIVE_LOCK = 4          # rbd/features.h; others cost a write of their own where Lunette's map knows already
ORDER = 22                          # objects of 4 MiB: two runs
SECTOR_BYTES = 512
LOCKERS_MAX = 16
CACHE_TOKEN = b"rbd image, written through"
FENCED = frozenset({errno.ESHUTDOWN, errno.EROFS})      # blocked by the cluster; without its lock


class ImageDevice:
    """A `Device` on an image (core/device.py). Nothing may be written before `lock`, and nothing after another one's.

    PoolError: invalid, not_found, io_read.
    """

    is_block = True                     # no limit of file sizes counts
    grows = True                        # when it is asked to
    flights = 32                        # calls at once: each is a round trip
    library = LIBRBD                    # whose calls native threads look up
    cache_token = CACHE_TOKEN           # whatever has completed is seen by everybody

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False, lock: bool = True) -> None:
        """`lock` False: only a look, which says nothing of who owns it."""
        self.place = parse_place(path)
        self.path = str(self.place)
        self.read_only = read_only
        self.locked = lock and not read_only
        self.sparse = not read_only
        self.image: Any = None
        self.client = Client(self.place)
        self._ffi, self._rbd = self.client.ffi, self.client.rbd
        try:
            self._open()
        except BaseException:
            self.client.close()
            raise

    def _open(self) -> None:
        found = self._ffi.new("rbd_image_t *")
        # One that was opened to read would not say who has its lock.
        result = self._rbd.rbd_open(self.client.ioctx, self.place.image.encode(), found, self._ffi.NULL)
        if result == -errno.ENOENT:
            raise PoolError("not_found", f"{self.path} does not exist")
        if result < 0:
            raise PoolError("io_read", f"cannot open {self.path}: {explain(-result)}")
        self.image = found[0]
        try:
            features = self._ffi.new("uint64_t *")
            checked(self._rbd.rbd_get_features(self.image, features), self.path)
            if not features[0] & FEATURE_EXCLUSIVE_LOCK:
                raise PoolError("invalid", f"{self.path} has no exclusive lock: `rbd feature enable` gives it one")
            info = self._ffi.new("rbd_info *")
            checked(self._rbd.rbd_stat(self.image, info, self._ffi.sizeof("rbd_info")), self.path)
            self.object_bytes = int(info.obj_size)
            self.size_bytes = int(info.size)
        except BaseException:
            self._rbd.rbd_close(self.image)
            self.image = None
            raise

    @property
    def image_address(self) -> int:
        """The image as native threads take it."""
        return int(self._ffi.cast("uintptr_t", self.image))

    # -- the device ----------------------------------------------------------------------------------------------------
    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        buffer = self._ffi.new("char[]", length_bytes)
        count = checked(self._rbd.rbd_read(self.image, offset_bytes, length_bytes, buffer), f"read of {self.path}")
        if count != length_bytes:
            raise OSError(errno.EIO, f"read past the end of {self.path} at {offset_bytes}")
        return bytes(self._ffi.buffer(buffer))

    def write(self, offset_bytes: int, data: bytes) -> None:
        assert not self.read_only
        checked(self._rbd.rbd_write(self.image, offset_bytes, len(data), self._ffi.from_buffer(data)), f"write to {self.path}")

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        assert not self.read_only
        checked(self._rbd.rbd_discard(self.image, offset_bytes, length_bytes), f"discard of {self.path}")

    def sync(self) -> None:
        checked(self._rbd.rbd_flush(self.image), f"flush of {self.path}")

    def allocate(self, offset_bytes: int, length_bytes: int) -> None:
        """Make the image's objects as long as the range needs, for which a full cluster has no room. What they hold stays.

        Each one's last sector of the range is written again as it is, at one stroke: a full cluster takes writes within objects.
        """
        end = offset_bytes + length_bytes
        first, last = offset_bytes // self.object_bytes, (end - 1) // self.object_bytes
        ends = [min(end, (number + 1) * self.object_bytes) for number in range(first, last + 1)]
        for _ in each(self, self._touch, ends):
            pass

    def _touch(self, end_bytes: int) -> None:
        """Write the sector before it again."""
        data = self._ffi.from_buffer(self.read(end_bytes - SECTOR_BYTES, SECTOR_BYTES))
        mismatch = self._ffi.new("uint64_t *")
        result = self._rbd.rbd_compare_and_write(self.image, end_bytes - SECTOR_BYTES, SECTOR_BYTES, data, data, mismatch, 0)
        if result != -errno.EILSEQ:             # somebody has written there meanwhile: so much the better
            checked(result, f"room in {self.path}")

    def room_bytes(self) -> int | None:
        return None                             # the cluster's to know

    def missing_bytes(self) -> int:
        return 0

    def lost_name(self) -> str:
        return ""

    def refresh(self) -> int:
        """Look at the size again; returns it in bytes."""
        found = self._ffi.new("uint64_t *")
        checked(self._rbd.rbd_get_size(self.image, found), self.path)
        self.size_bytes = int(found[0])
        return self.size_bytes

    def enlarge(self, size_bytes: int) -> None:
        """Make the image at least `size_bytes` large."""
        if size_bytes > self.refresh():
            checked(self._rbd.rbd_resize(self.image, size_bytes), f"growing {self.path}")
            self.refresh()

    def close(self) -> None:
        if self.image is not None:
            self._rbd.rbd_close(self.image)
            self.image = None
            self.client.close()

    # -- its lock ------------------------------------------------------------------------------------------------------
    def lockers(self) -> list[str]:
        """The addresses of those that hold the lock: one, or nobody."""
        mode, count = self._ffi.new("int *"), self._ffi.new("size_t *", LOCKERS_MAX)
        owners = self._ffi.new("char *[]", LOCKERS_MAX)
        result = self._rbd.rbd_lock_get_owners(self.image, mode, owners, count)
        if result == -errno.ENOENT:
            return []
        checked(result, f"the lock of {self.path}")
        try:
            return [self._ffi.string(owners[i]).decode() for i in range(count[0])]
        finally:
            self._rbd.rbd_lock_get_owners_cleanup(owners, count[0])

    def lock(self) -> bool:
        """Take the lock; False: somebody else has it, or had it a moment ago."""
        result = self._rbd.rbd_lock_acquire(self.image, EXCLUSIVE)
        if result in (-errno.EROFS, -errno.EBUSY, -errno.EAGAIN):       # EAGAIN: it changed hands while librbd looked
            return False
        checked(result, f"the lock of {self.path}")
        return True

    def break_lock(self, address: str) -> bool:
        """Take the lock from the client at an address, which must be blocked; False: it has it no more."""
        result = self._rbd.rbd_lock_break(self.image, EXCLUSIVE, address.encode())
        if result in (-errno.ENOENT, -errno.EBUSY, -errno.EAGAIN):
            return False
        checked(result, f"the lock of {self.path}")
        return True


class ImageMedium:
    """The ownership record of an image, its lock, and the blocklist of its cluster: a `FencingMedium` (core/fencing.py)."""

    def __init__(self, device: ImageDevice) -> None:
        self._device = device
        self.lockers, self.lock, self.break_lock = device.lockers, device.lock, device.break_lock

    def read_record(self) -> bytes:
        return self._device.read(layout.OWNER_BLOCK * layout.BLOCK_BYTES, layout.BLOCK_BYTES)

    def write_record(self, raw: bytes) -> None:
        self._device.write(layout.OWNER_BLOCK * layout.BLOCK_BYTES, raw[:SECTOR_BYTES])

    def block(self, address: str, record: Record | None) -> None:
        if record is not None:
            self._device.client.fenced.put(address, {
                "host": record.host, "pid": record.pid, "started": record.started, "boot": record.boot.hex(),
                "pid_namespace": record.pid_namespace, "image": self._device.path, "blocked_s": round(time.time())})
        self._device.client.block(address)

    def close(self) -> None:
        """It has nothing of its own."""


def manifest_of(device: ImageDevice) -> Table:
    """The table in which the image's owner tells the gateways that wait (docs/ceph.md)."""
    return Table(device.client, f"{MANIFEST_OBJECT}{device.place.image}".encode())


def create_image(place: Place, size_bytes: int) -> None:
    """Make an image for a pool. PoolError: exists, io_write, and those of the client."""
    client = Client(place)
    try:
        order = client.ffi.new("int *", ORDER)
        result = client.rbd.rbd_create2(client.ioctx, place.image.encode(), size_bytes, FEATURE_EXCLUSIVE_LOCK, order)
        if result == -errno.EEXIST:
            raise PoolError("exists", f"{place} already exists")
        if result < 0:
            raise PoolError("io_write", f"cannot create {place}: {explain(-result)}")
    finally:
        client.close()


def remove_image(place: Place) -> None:
    """Remove an image that was just made, and on which nothing could be."""
    client = Client(place)
    try:
        checked(client.rbd.rbd_remove(client.ioctx, place.image.encode()), f"removing {place}")
    finally:
        client.close()
