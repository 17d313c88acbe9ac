"""What the owner of a pool tells the gateways that wait for it: the form of it, and how it is read (docs/ceph.md, Standby).

A table of the cluster, one an image. `!` says whose it is, how often it has changed, and by which portals the pool is served;
`kv/KEY` are entries of the pool's store, `object/ID` what SCSI says of an object, `waiting/GROUP` a gateway that waits; for
`asked/` and `answered/` see `relaying.py`. Nothing in it is ever older than what the owner has answered (`telling.py`). What
another than the present owner has told is worth nothing, so it is held against the ownership record each time that it is read.
"""

from __future__ import annotations

import contextlib
import errno
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

from core.image import ImageDevice, ImageMedium, manifest_of
from core.ownership import Record, State, boot_clock, same_sign
from core.pool.info import ObjectInfo
from target.errors import LunetteError
from target.volumes.gateway import AsyncPool, PoolError

HEAD = "!"                                  # before all other keys
KV, OBJECT, WAITING = "kv/", "object/", "waiting/"
# Entries of the pool's store that decide who sees which object, and as what.
TOLD_KINDS = ("host/", "connection/", "redirect/", "unit/", "group/", "mirror/")
FACTS = ("kind", "size_bytes", "block_bytes", "serial", "physical_exponent")    # of an object
GONE_SECONDS = 10.0                         # a gateway that waits has said nothing new for this long
CLOSE_SECONDS = 10.0                        # for calls that are under way to end
READS_MAX = 20                              # of a table that changes all the while


class Table(Protocol):
    """core.ceph.Table. Calls wait. OSError."""

    def apply(self, changes: Mapping[str, bytes | None]) -> None: ...
    def get(self, key: str) -> bytes | None: ...
    def under(self, prefix: str) -> dict[str, bytes]: ...
    def all(self) -> dict[str, bytes]: ...
    def remove(self) -> None: ...


def facts_of(info: ObjectInfo) -> bytes:
    return json.dumps({name: getattr(info, name) for name in FACTS}).encode()


def object_of(object_id: int, facts: bytes) -> ObjectInfo:
    """An object as a gateway knows it that waits. Of what is not told it says nothing. ValueError, KeyError."""
    document = json.loads(facts)
    known = {name: document[name] for name in FACTS}
    return ObjectInfo(id=object_id, name=f"object-{object_id}", mapped_bytes=0, created_s=0.0, origin="", origin_id=0,
                      checksum=False, quota_bytes=0, reserve_bytes=0, props=b"", **known)


def waiting_note(gateway: str, portals: list[str], beat: int) -> bytes:
    """What a gateway that waits says of itself, again and again with another `beat`."""
    return json.dumps({"gateway": gateway, "portals": portals, "beat": beat}).encode()


@dataclass(frozen=True, slots=True)
class Waiter:
    """A gateway that waits, or did."""

    gateway: str
    portals: list[str]
    alive: bool


class Waiters:
    """Which gateways wait, by their groups: one that says nothing new for a while is not there any more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[int, tuple[bytes, float]] = {}     # group -> what it said last, since when

    def look(self, entries: Mapping[str, bytes]) -> dict[int, Waiter]:
        """By group; `entries` is all of a table."""
        found: dict[int, Waiter] = {}
        for key, value in entries.items():
            if key.startswith(WAITING):
                group, note = int(key.removeprefix(WAITING)), json.loads(value)
                if self._seen.get(group, (b"", 0.0))[0] != value:
                    self._seen[group] = value, self._clock()
                alive = self._clock() - self._seen[group][1] < GONE_SECONDS
                found[group] = Waiter(str(note["gateway"]), list(note["portals"]), alive)
        return found


class NotToldError(Exception):
    """Nothing is known for certain of the pool at this moment; why."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One state of a table, as its owner has told it."""

    raw_head: bytes
    entries: dict[str, bytes] = field(repr=False)

    @property
    def head(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.raw_head)
        return document

    @property
    def groups(self) -> dict[int, list[str]]:
        """The owner's portals, by their groups."""
        return {int(group): list(portals) for group, portals in self.head["groups"].items()}


class Reading:
    """A pool's manifest, read by who does not own the pool. Its calls wait for the cluster, on any thread: a `Table` as well."""

    def __init__(self, path: str, clock: Callable[[], float] = boot_clock) -> None:
        self._path = path
        self._clock = clock
        self._device: ImageDevice | None = None
        self._medium: Any = None
        self._table: Any = None
        self._last: Manifest | None = None
        self._record: Record | None = None
        self._since_s = clock()
        self._idle = threading.Condition()
        self._calls = 0                     # that are under way
        self._closed = False

    def attach(self, table: Table, medium: Any) -> None:
        """Read from these."""
        self._table, self._medium = table, medium

    def read(self) -> Manifest:
        """What was true at some moment after this call began. NotToldError."""
        try:
            with self._called():
                self._open()
                return self._told()
        except (OSError, PoolError) as error:
            raise NotToldError(str(error)) from None

    def _told(self) -> Manifest:
        head = self._table.get(HEAD)
        self._look(Record.unpack(self._medium.read_record()))
        if head is None or self._record is None or json.loads(head)["owner"] != self._record.owner.hex():
            raise NotToldError("nobody has told of the pool, or another owner has come since")
        if self._last is None or self._last.raw_head != head:
            self._last = self._read_all()
        return self._last

    def all(self) -> dict[str, bytes]:
        """All of the table, for what gateways that wait say there. OSError."""
        with self._called():
            found: dict[str, bytes] = self._table.all()
            return found

    def get(self, key: str) -> bytes | None:
        with self._called():
            value: bytes | None = self._table.get(key)
            return value

    def apply(self, changes: Mapping[str, bytes | None]) -> None:
        """OSError."""
        with self._called():
            self._table.apply(changes)

    @contextlib.contextmanager
    def _called(self) -> Iterator[None]:
        """A call of the cluster, which must be over before its client is closed. OSError: it is closed."""
        with self._idle:
            if self._closed:
                raise OSError(errno.ESHUTDOWN, "this gateway looks at the pool no more")
            self._calls += 1
        try:
            yield
        finally:
            with self._idle:
                self._calls -= 1
                self._idle.notify_all()

    @property
    def owner(self) -> str:
        """Its id, as `!` says it; empty: there is none."""
        return _owner(self._record)

    @property
    def owner_lives(self) -> bool:
        """By whether its counter moves."""
        record = self._record
        return (record is not None and record.state is State.OWNED and
                (not record.lease_ms or self._clock() - self._since_s < record.window_s))

    def close(self) -> None:
        """When the calls of other threads are over. Those of a cluster that does not answer keep its client."""
        with self._idle:
            self._closed = True
            over = self._idle.wait_for(lambda: not self._calls, CLOSE_SECONDS)
        if self._device is not None and over:
            self._device.close()
            self._device = None

    def _open(self) -> None:
        if self._table is None:
            self._device = ImageDevice(self._path, read_only=True, lock=False)
            self.attach(manifest_of(self._device), ImageMedium(self._device))

    def _look(self, record: Record | None) -> None:
        if not same_sign(record, self._record):
            self._record, self._since_s = record, self._clock()

    def _read_all(self) -> Manifest:
        """Its pages are read one by one: nothing may have changed meanwhile."""
        for _ in range(READS_MAX):
            entries = self._table.all()
            head = self._table.get(HEAD)
            if head is not None and entries.get(HEAD) == head and json.loads(head)["owner"] == _owner(self._record):
                return Manifest(head, entries)
        raise NotToldError("what is told of the pool changes too fast to be read")


def _owner(record: Record | None) -> str:
    return record.owner.hex() if record is not None else ""


class ToldPool(AsyncPool):
    """A pool of which only a manifest is known: what a catalog and logical units ask of one. Nothing can be done with it."""

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(uuid=bytes(16), size_bytes=0))
        self.head: dict[str, Any] = {}
        self._kv: dict[str, bytes] = {}
        self._objects: dict[int, ObjectInfo] = {}

    def take(self, manifest: Manifest) -> None:
        """LunetteError: it cannot be read."""
        try:
            self.head = manifest.head
            self.pool = SimpleNamespace(uuid=bytes.fromhex(self.head["pool"]), size_bytes=0)
            self._kv = {key.removeprefix(KV): value for key, value in manifest.entries.items() if key.startswith(KV)}
            self._objects = {number: object_of(number, value) for number, value in (
                (int(key.removeprefix(OBJECT)), value) for key, value in manifest.entries.items() if key.startswith(OBJECT))}
        except (ValueError, KeyError, TypeError) as error:
            raise LunetteError("damaged", f"what is told of the pool cannot be read: {error!r}") from None

    def kv(self) -> dict[str, bytes]:
        return dict(self._kv)

    def info(self, object_id: int) -> ObjectInfo | None:
        return self._objects.get(object_id)

    def lookup(self, name: str) -> ObjectInfo | None:
        return None

    def start(self, op: str, **args: Any) -> Any:
        raise PoolError("closed", "another gateway serves the pool")

    def stats(self) -> dict[str, int]:
        return {"used_bytes": 0, "available_bytes": 0, "free_bytes": 0}
