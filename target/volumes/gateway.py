"""The control plane's one door to the block core: a pool whose operations are awaited (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import functools
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

from core import layout
from core.ceph import is_place, parse_place
from core.device import FileDevice, create_file
from core.errors import PoolError
from core.image import create_image, remove_image
from core.ownership import Record
from core.pool.info import METADATA_PARTS, BadPage, ObjectInfo, TraceEvent
from target.config import format_size, round_up
from target.errors import LunetteError
from target.volumes.owner import Opening, Owned, OwnedDevice, OwnedImage, look, open_device, open_owned, opened

__all__ = [
    "ATOMIC_BYTES", "HIDDEN", "METADATA_PARTS", "POOL_FORMAT", "POOL_GRAIN_BYTES", "AsyncPool", "BadPage", "KeysOf", "ObjectInfo",
    "PoolError", "TraceEvent", "check_pool", "create_pool", "is_place", "open_pool", "pool_error", "pool_of_nothing",
]

ATOMIC_BYTES = layout.ATOMIC_BLOCKS * layout.BLOCK_BYTES   # the longest write_atomic
POOL_FORMAT = layout.FORMAT_VERSION
POOL_GRAIN_BYTES = layout.RUN_BLOCKS * layout.BLOCK_BYTES    # a pool is whole runs
BLANK_PROBE_BYTES = 1 << 20
NOTHING_BYTES = 24 << 20
KeysOf = Callable[[list[int]], dict[str, bytes | None]]  # what is stored beside new objects, in one step, from their ids
HIDDEN = "."  # what names of the daemon's own objects begin with; no name that people give does

_MESSAGES = {
    "no_space": "the pool is full", "read_only": "the pool is read-only after an I/O error",
    "exists": "the name is taken", "not_found": "no such object", "gone": "the object was deleted",
    "busy": "the object is busy", "limit": "a limit of the pool is reached", "invalid": "the request is malformed",
    "io_read": "the pool's medium failed a read", "io_write": "the pool's medium failed a write",
    "checksum": "the data fails its checksum", "closed": "the pool is closing", "protected": "snapshots are read-only",
    "range": "the range lies outside the object", "aborted": "the operation was aborted",
    "no_memory": "there is no memory for it now",
}


def pool_error(code: str, what: str = "") -> LunetteError:
    """A pool's status code as an error for people; `what` says what was tried."""
    text = _MESSAGES.get(code, code)
    return LunetteError(code, f"{what}: {text}" if what else text)


class Follower(Protocol):
    """Who is told what a pool's operations change before they are answered."""

    def concerns(self, op: str, args: dict[str, Any]) -> bool: ...
    def done(self, op: str, args: dict[str, Any], then: Callable[[], None]) -> None: ...


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


class AsyncPool:
    """An open pool on the event loop. `call` may be used from the loop's thread only, any number at once."""

    def __init__(self, pool: Any, room: Callable[[], int | None] = lambda: None) -> None:
        """`room`: bytes that the file system below could still give to the pool's file; None where there is none."""
        self.pool = pool
        self._room = room
        self._waiting: dict[int, tuple[asyncio.Future[Any], tuple[str, dict[str, Any]] | None]] = {}
        self.follower: Follower | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        """Begin to reap completions on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.pool.completion_fd, self._reap)

    def detach(self) -> None:
        """Stop reaping; everything still waiting fails with `closed`."""
        if self._loop is not None:
            self._loop.remove_reader(self.pool.completion_fd)
            self._loop = None
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(PoolError("closed", "the pool is closing"))
        self._waiting.clear()

    def start(self, op: str, **args: Any) -> asyncio.Future[Any]:
        """Start an operation now (operations start in call order); await the future for its value or PoolError."""
        if self._loop is None:
            raise PoolError("closed", "the pool is closing")
        token = self.pool.start(op, **args)
        future: asyncio.Future[Any] = self._loop.create_future()
        followed = self.follower is not None and self.follower.concerns(op, args)
        self._waiting[token] = future, (op, args) if followed else None
        return future

    async def call(self, op: str, **args: Any) -> Any:
        """Start an operation and wait for its value. PoolError with the status code on any other end than ok."""
        return await self.start(op, **args)

    def objects(self) -> list[ObjectInfo]:
        """All objects that people made."""
        return [each for each in cast("list[ObjectInfo]", self.pool.objects()) if not each.name.startswith(HIDDEN)]

    def names(self) -> dict[str, int]:
        """The ids of all objects that people made, by name."""
        return {name: number for name, number in self.pool.names().items() if not name.startswith(HIDDEN)}

    def provisioned(self) -> tuple[int, int]:
        """How many objects people made, and the bytes that those which can be written promise."""
        return cast("tuple[int, int]", self.pool.provisioned(ord(HIDDEN)))

    def snapshots_of(self, volume_id: int) -> list[ObjectInfo]:
        """A volume's own snapshots: they are named after it."""
        volume = self.info(volume_id)
        found = [] if volume is None else cast("list[ObjectInfo | None]", self.pool.named(f"{volume.name}@"))
        return [each for each in found if each is not None and each.kind == "snapshot" and each.origin_id == volume_id]

    def hidden(self) -> list[ObjectInfo]:
        """The objects that the daemon keeps for itself."""
        return cast("list[ObjectInfo]", self.pool.named(HIDDEN))

    def lookup(self, name: str) -> ObjectInfo | None:
        return None if name.startswith(HIDDEN) else cast("ObjectInfo | None", self.pool.lookup(name))

    def info(self, object_id: int) -> ObjectInfo | None:
        return cast("ObjectInfo | None", self.pool.info(object_id))

    def kv(self) -> dict[str, bytes]:
        return cast("dict[str, bytes]", self.pool.kv())

    def damage(self) -> list[BadPage]:
        """Pages of metadata that are known to be bad now, by block."""
        return cast("list[BadPage]", self.pool.damage())

    def failure(self) -> str:
        """Why the pool is read-only for good; empty: it is not."""
        return cast("str", self.pool.failure())

    def trace(self) -> list[TraceEvent]:
        """Notable moments that the engine has met, oldest first."""
        return cast("list[TraceEvent]", self.pool.trace())

    def fail_cut(self) -> None:
        """The pool's file was made shorter while it was served: nothing may be written to it any more."""
        self.pool.fail_cut()

    def stats(self) -> dict[str, int]:
        """The engine's numbers; `used_bytes` is always among them, and `available_bytes` counts the room below, too."""
        numbers = cast("dict[str, int]", self.pool.stats())
        free = numbers.get("free_bytes", 0)
        numbers = {"used_bytes": self.pool.size_bytes - free, "available_bytes": free, **numbers}
        room = 0 if numbers.get("medium_short") else self._room()      # whatever it says, it has refused more: a quota, say
        if room is not None:
            numbers["medium_free_bytes"] = room
            numbers["available_bytes"] = min(numbers["available_bytes"], room)
        return numbers

    def use_percent(self) -> float:
        """How full the pool is: what is used of that and what may still be, in the pool and below it."""
        numbers = self.stats()
        used = numbers["used_bytes"]
        size_bytes = int(self.pool.size_bytes)
        most = min(size_bytes, used + numbers.get("medium_free_bytes", size_bytes))
        return 100 * used / max(1, most)

    def _reap(self) -> None:
        for token, code, value in self.pool.reap():
            future, change = self._waiting.pop(token, (None, None))
            if future is None:
                continue
            if code == "ok" and change is not None and self.follower is not None:
                self.follower.done(*change, functools.partial(_settle, future, value))
            elif code == "ok":
                _settle(future, value)
            elif not future.done():
                native = value if isinstance(value, int) else 0
                future.set_exception(PoolError(code, _MESSAGES.get(code, code), native))


def open_pool(path: str | os.PathLike[str], *, cache_bytes: int, direct: bool = False,
              opening: Opening | None = None) -> tuple[Any, OwnedDevice | OwnedImage]:
    """Open a pool whose medium this process owns (docs/ownership.md). LunetteError with the format's or device's code.

    `opening` has begun to own it before; the device is given up by its `close`.
    """
    from core.pool.engine import Pool

    device = open_owned(path, direct=direct) if opening is None else opening.device()
    try:
        _allow_file_size(device)
        pool = Pool(device, cache_bytes=cache_bytes)
        device.attach(pool)
        return pool, device
    except PoolError as error:
        device.close()
        raise LunetteError(error.code, f"{os.fspath(path)}: {error}") from None
    except BaseException:
        device.close()
        raise


def pool_of_nothing(cache_bytes: int) -> tuple[Any, FileDevice]:
    """An empty pool in memory, for a data plane that is given no LUN; a few MiB. Abandon it, then close the device."""
    from core.pool.engine import Pool

    fd = os.memfd_create("lunette-nothing", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, NOTHING_BYTES)
        device = FileDevice(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    try:
        Pool.create(device, name="nothing", size_bytes=NOTHING_BYTES, journal_blocks=64, area_blocks=128)
        return Pool(device, cache_bytes=cache_bytes), device
    except BaseException:
        device.close()
        raise


def _allow_file_size(device: OwnedDevice | OwnedImage) -> None:
    """Writes behind the process's limit of file sizes would fail, in the midst of the pool. PoolError: limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if device.is_block or soft == resource.RLIM_INFINITY or soft >= device.size_bytes:
        return
    if hard != resource.RLIM_INFINITY and hard < device.size_bytes:
        raise PoolError("limit", f"it has {format_size(device.size_bytes)}, but this process may write files of "
                                 f"{format_size(hard)} only: raise the limit (ulimit -f, LimitFSIZE)")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def create_pool(path: str | os.PathLike[str], *, name: str, size_bytes: int | None) -> int:
    """Format a new file or image (of `size_bytes`, sparse) or a blank block device or image; returns its size in bytes.

    What is new is whole runs. Nothing that holds anything is ever overwritten. LunetteError: exists, invalid, io_write, locked.
    """
    from core.pool.engine import Pool

    undo: Callable[[], None] | None = None
    try:
        if size_bytes is not None:
            undo = _make(path, round_up(size_bytes, POOL_GRAIN_BYTES))
        elif not is_place(path) and not Path(path).exists():
            raise LunetteError("invalid", f"{path} does not exist: --size says how large to make it")
        if undo is not None and size_bytes is not None:
            size_bytes = round_up(size_bytes, POOL_GRAIN_BYTES)
        device = FileDevice(path) if undo is not None and not is_place(path) else open_owned(path, own=False)
        try:
            if isinstance(device, Owned):
                _require_blank(device, path, size_bytes)
                device.own()
            size = device.size_bytes if size_bytes is None else size_bytes
            Pool.create(device, name=name, size_bytes=size)
            device.sync()
        finally:
            device.close()
        return size
    except BaseException as error:
        if undo is not None:
            undo()
        if isinstance(error, OSError):
            raise LunetteError("io_write", f"cannot write {path}: {error.strerror or error}") from None
        if isinstance(error, PoolError):
            raise LunetteError(error.code, str(error)) from None
        raise


def usual_name(path: str | os.PathLike[str]) -> str:
    """What a pool is called whose name nobody chose. LunetteError: invalid."""
    try:
        return (parse_place(path).image if is_place(path) else Path(path).stem).lower()
    except PoolError as error:
        raise LunetteError(error.code, str(error)) from None


def _make(path: str | os.PathLike[str], size_bytes: int) -> Callable[[], None] | None:
    """Make a file or an image if there is none; how to undo that. PoolError."""
    if is_place(path):
        place = parse_place(path)
        try:
            create_image(place, size_bytes)
        except PoolError as error:
            if error.code == "exists":
                return None
            raise
        return lambda: remove_image(place)
    if Path(path).exists():
        return None
    create_file(path, size_bytes)
    return lambda: Path(path).unlink(missing_ok=True)


def check_pool(path: str | os.PathLike[str], *, data: bool = False) -> tuple[bool, list[str], str]:
    """Verify a pool that nobody uses: (clean, errors, one-line summary). LunetteError: locked, not_found, foreign ...

    With `data` also the data of volumes that keep checksums.
    """
    from core.check import check

    device = opened(lambda: open_device(path, read_only=True), path)
    try:
        owner = look(device)
        report = check(device, data=data)
    except PoolError as error:
        raise LunetteError(error.code, str(error)) from None
    finally:
        device.close()
    summary = ", ".join([*(f"{key.replace('_', ' ')} {value}" for key, value in report.counts.items()), *report.notes,
                         *([owner] if owner else [])])
    return report.ok, list(report.errors), summary


def _require_blank(device: OwnedDevice | OwnedImage, path: str | os.PathLike[str], size_bytes: int | None) -> None:
    if size_bytes is not None and size_bytes > device.size_bytes:
        if device.size_bytes:
            raise LunetteError("invalid", f"{path} has {format_size(device.size_bytes)}, less than asked for")
        device.enlarge(size_bytes)
    probe = min(BLANK_PROBE_BYTES, device.size_bytes) & -512
    ends = {0, (device.size_bytes - probe) & -4096}
    blocks = {offset: device.read(offset, probe) for offset in ends if probe}
    begin = blocks.get(0, b"")
    at = layout.OWNER_BLOCK * layout.BLOCK_BYTES
    if Record.unpack(begin[at:at + layout.BLOCK_BYTES]) is not None:    # of one who wanted to make a pool here
        blocks[0] = begin[:at] + begin[at + layout.BLOCK_BYTES:]
    if any(each.strip(b"\0") for each in blocks.values()):
        raise LunetteError("exists", f"{path} is not blank and is never overwritten; zero its start if it may go")
