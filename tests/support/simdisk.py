"""A simulated medium for the block core: what a disk may do to writes that nobody synced, from a seed (core/device.py).

Two images: `view` is what reads return now, `durable` what a power cut cannot take away. Between them lies the list of
writes and discards that were performed and not yet covered by a sync.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

PAGE_BYTES = 4096
SECTOR_BYTES = 512
ZERO_PAGE = bytes(PAGE_BYTES)
ALLOCATED = bytes(PAGE_BYTES)             # a page of zeros that takes space

POWER_CUT_MODES = ("random", "none", "all", "writes", "prefix", "suffix", "sparse", "most")


@dataclass(slots=True)
class Unsynced:
    """A write (`data`) or a discard (`data` None) that no sync has covered."""

    number: int
    offset_bytes: int
    length_bytes: int
    data: bytes | None


@dataclass(slots=True)
class Fault:
    """Fail the `after`-th operation of `kind` from now (0: the next), and every later one when `forever`.

    `within` limits it to operations that touch [start, end) bytes. A failing write may have reached the medium in part.
    """

    kind: str
    after: int = 0
    forever: bool = False
    error: int = errno.EIO
    within: tuple[int, int] | None = None
    hits: int = 0


@dataclass(slots=True)
class Trace:
    """What the disk was asked, newest last: (operation number, kind, offset, length, outcome)."""

    lines: list[tuple[int, str, int, int, str]] = field(default_factory=list)

    def tail(self, count: int = 40) -> str:
        return "\n".join(f"  #{n} {kind} {offset // PAGE_BYTES}+{length // PAGE_BYTES or length} {what}"
                         for n, kind, offset, length, what in self.lines[-count:])


class SimDisk:
    """A `core.device.Device` in memory. `size_bytes` may be raised; nothing is stored for pages never written.

    Those hold `fill`: what a used disk holds is what somebody left there, and must never be seen. `capacity_bytes`
    bounds the pages that may be stored (a thin backing): beyond it, writes raise ENOSPC.
    """

    def __init__(self, size_bytes: int, seed: int = 0, *, capacity_bytes: int = 0, life: int = 1,
                 fill: bytes = ZERO_PAGE, sparse: bool = False, thin: bool = False) -> None:
        self.sparse = sparse or thin
        self.thin = thin
        self.serving = False                  # set by the harness when the pool is open: a thin one is allocated by writing zeros
        self.size_bytes = size_bytes
        self.fill = fill
        self.capacity_bytes = capacity_bytes
        self.random = random.Random(seed)
        self.life = life
        self.view: dict[int, bytes] = {}
        self.durable: dict[int, bytes] = {}
        self.unsynced: list[Unsynced] = []
        self.faults: list[Fault] = []
        self.writes = 0                       # writes and discards performed so far: the clock that syncs refer to
        self.operations = 0
        self.cut_at = -1                      # the operation during which everything stops; -1: never
        self.dead = False
        self.closed = False
        self.sync_upto: int | None = None     # set by the harness: what the next sync covers; None: everything
        self.tear_next = False                # the next write lands in part (cut or killed while it was in flight)
        self.sync_failures = 0
        self.trace = Trace()

    @property
    def cache_token(self) -> bytes:
        return b"simulated life %d" % self.life

    # -- Device ------------------------------------------------------------------------------------------------------

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        self._begin("read", offset_bytes, length_bytes)
        first, last = offset_bytes // PAGE_BYTES, (offset_bytes + length_bytes - 1) // PAGE_BYTES
        data = b"".join([self.view.get(page, self.fill) for page in range(first, last + 1)])
        start = offset_bytes - first * PAGE_BYTES
        return data[start:start + length_bytes] if len(data) != length_bytes else data

    def write(self, offset_bytes: int, data: bytes) -> None:
        data = bytes(data)
        torn = self._begin("write", offset_bytes, len(data), data)
        if self.capacity_bytes and self._overflows(offset_bytes, len(data)):
            raise OSError(errno.ENOSPC, "simulated: no space on the medium")
        self._accept(offset_bytes, len(data), data, torn=torn)

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        self._begin("discard", offset_bytes, length_bytes)
        if self.random.random() < 0.2:
            return                            # a medium may ignore a discard
        self._accept(offset_bytes, length_bytes, None)

    def allocate(self, offset_bytes: int, length_bytes: int) -> None:
        """Pages that were never written, or were discarded, take space from here on. A power cut takes nothing of that back."""
        self._begin("allocate", offset_bytes, length_bytes)
        if self.capacity_bytes and self._overflows(offset_bytes, length_bytes):
            raise OSError(errno.ENOSPC, "simulated: no space on the medium")
        if self.thin and self.serving:
            self._accept(offset_bytes, length_bytes, bytes(length_bytes))
            return
        for page in range(offset_bytes // PAGE_BYTES, (offset_bytes + length_bytes) // PAGE_BYTES):
            for image in (self.view, self.durable):
                if image.get(page, ZERO_PAGE) is ZERO_PAGE:
                    image[page] = ALLOCATED if self.fill is ZERO_PAGE or page in image else self.fill

    def sync(self) -> None:
        upto, self.sync_upto = self.sync_upto, None
        self._begin("sync", 0, 0)
        rest = []
        for item in self.unsynced:
            if upto is None or item.number <= upto:
                self._apply(self.durable, item.offset_bytes, item.length_bytes, item.data)
            else:
                rest.append(item)
        self.unsynced = rest

    def close(self) -> None:
        self.closed = True

    # -- what may go wrong -----------------------------------------------------------------------------------------

    def fail(self, kind: str, after: int = 0, *, forever: bool = False, error: int = errno.EIO,
             within: tuple[int, int] | None = None) -> Fault:
        """Plan a failure of a "read", "write", "sync", "discard" or "any" operation."""
        fault = Fault(kind, after, forever, error, within)
        self.faults.append(fault)
        return fault

    def heal(self) -> None:
        """Forget planned failures and cuts."""
        self.faults.clear()
        self.cut_at = -1

    def cut_after(self, operations: int) -> None:
        """Let `operations` more operations happen; the one after them is interrupted and then nothing answers."""
        self.cut_at = self.operations + operations

    def power_cut(self, mode: str = "") -> None:
        """Lose what was not synced, by `mode` (drawn from the seed when empty), and begin a new life."""
        mode = mode or self.random.choice(POWER_CUT_MODES)
        for item in self._survivors(mode):
            self._apply(self.durable, item.offset_bytes, item.length_bytes, item.data)
        self.view = dict(self.durable)
        self.unsynced = []
        self.life += 1
        self._power_on()

    def process_kill(self) -> None:
        """The process died, the machine did not: everything performed stays, synced or not."""
        self._power_on()

    def fork(self, seed: int | None = None) -> SimDisk:
        """An independent copy as it stands."""
        other = type(self)(self.size_bytes, 0, capacity_bytes=self.capacity_bytes, life=self.life, fill=self.fill,
                           sparse=self.sparse, thin=self.thin)
        if seed is None:
            other.random.setstate(self.random.getstate())
        else:
            other.random.seed(seed)
        other.view = dict(self.view)
        other.durable = dict(self.durable)
        other.unsynced = list(self.unsynced)
        other.writes = self.writes
        other.operations = self.operations
        return other

    def flip(self, offset_bytes: int, bit: int) -> None:
        """Turn one bit of the byte at `offset_bytes` over, on the medium and in what is read."""
        page, at = divmod(offset_bytes, PAGE_BYTES)
        for image in (self.view, self.durable):
            data = bytearray(image.get(page, self.fill))
            data[at] ^= 1 << bit
            image[page] = bytes(data)
        for i, item in enumerate(self.unsynced):
            at = offset_bytes - item.offset_bytes
            if item.data is not None and 0 <= at < item.length_bytes:
                data = bytearray(item.data)
                data[at] ^= 1 << bit
                self.unsynced[i] = Unsynced(item.number, item.offset_bytes, item.length_bytes, bytes(data))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _power_on(self) -> None:
        self.dead = False
        self.cut_at = -1
        self.faults.clear()
        self.sync_upto = None
        self.tear_next = False

    def _begin(self, kind: str, offset_bytes: int, length_bytes: int, data: bytes | None = None) -> bool:
        """Count an operation; raise when it is to fail. Returns whether a write is to be torn."""
        if offset_bytes % SECTOR_BYTES or length_bytes % SECTOR_BYTES or offset_bytes < 0:
            raise AssertionError(f"unaligned {kind} at {offset_bytes}+{length_bytes}")
        if offset_bytes + length_bytes > self.size_bytes:
            raise OSError(errno.EINVAL, f"simulated: {kind} beyond the end ({offset_bytes}+{length_bytes})")
        if self.dead:
            raise OSError(errno.EIO, "simulated: the power is off")
        self.operations += 1
        torn, self.tear_next = self.tear_next and kind == "write", False
        if 0 <= self.cut_at < self.operations:
            self.dead = True
            if data is not None:
                self._accept(offset_bytes, length_bytes, data, torn=True)
            self._note(kind, offset_bytes, length_bytes, "cut")
            raise OSError(errno.EIO, "simulated: the power went off")
        for fault in self.faults:
            if self._strikes(fault, kind, offset_bytes, length_bytes):
                self._note(kind, offset_bytes, length_bytes, "failed")
                if kind == "sync":
                    self.sync_failures += 1
                    self._drop_dirty()
                elif data is not None and fault.error != errno.ENOSPC:
                    self._accept(offset_bytes, length_bytes, data, torn=True)
                raise OSError(fault.error, f"simulated: failed {kind}")
        self._note(kind, offset_bytes, length_bytes, "torn" if torn else "")
        return torn

    def _note(self, kind: str, offset_bytes: int, length_bytes: int, outcome: str) -> None:
        self.trace.lines.append((self.operations, kind, offset_bytes, length_bytes, outcome))
        if len(self.trace.lines) > 4000:
            del self.trace.lines[:2000]

    def _strikes(self, fault: Fault, kind: str, offset_bytes: int, length_bytes: int) -> bool:
        if fault.kind not in (kind, "any"):
            return False
        if fault.within and not (offset_bytes < fault.within[1] and fault.within[0] < offset_bytes + length_bytes):
            return False
        if fault.after > 0:
            fault.after -= 1
            return False
        if fault.hits and not fault.forever:
            return False
        fault.hits += 1
        return True

    def _overflows(self, offset_bytes: int, length_bytes: int) -> bool:
        first, last = offset_bytes // PAGE_BYTES, (offset_bytes + length_bytes - 1) // PAGE_BYTES
        new = sum(1 for page in range(first, last + 1) if self.view.get(page, ZERO_PAGE) is ZERO_PAGE)
        return new > 0 and (self.stored() + new) * PAGE_BYTES > self.capacity_bytes

    def stored(self) -> int:
        """Pages that take space: written, and not discarded since."""
        return sum(page is not ZERO_PAGE for page in self.view.values())

    def _accept(self, offset_bytes: int, length_bytes: int, data: bytes | None, *, torn: bool = False) -> None:
        self.writes += 1
        item = Unsynced(self.writes, offset_bytes, length_bytes, data)
        parts = list(self._some_sectors(item, self.random.choice((0.2, 0.5, 0.9)))) if torn else [item]
        for part in parts:
            self._apply(self.view, part.offset_bytes, part.length_bytes, part.data)
        self.unsynced.extend(parts)

    def _drop_dirty(self) -> None:
        """A failed sync: dirty pages are marked clean. Reads still see them, no later sync will write them."""
        for item in self._survivors("random"):
            self._apply(self.durable, item.offset_bytes, item.length_bytes, item.data)
        self.unsynced = []

    def _survivors(self, mode: str) -> Iterable[Unsynced]:
        items = self.unsynced
        if mode == "none" or not items:
            return []
        if mode == "all":
            return items
        if mode == "writes":
            return [item for item in items if self.random.random() < 0.5]
        if mode in ("prefix", "suffix"):
            cut = self.random.randrange(len(items))
            whole = items[:cut] if mode == "prefix" else items[cut + 1:]
            torn = list(self._some_sectors(items[cut], 0.5))
            return [*whole, *torn] if mode == "prefix" else [*torn, *whole]
        chance = {"random": 0.5, "sparse": 0.1, "most": 0.9}[mode]
        return [part for item in items for part in self._some_sectors(item, chance)]

    def _some_sectors(self, item: Unsynced, chance: float) -> Iterable[Unsynced]:
        """The sectors of a write that survive, merged into runs; of a discard, whole pages."""
        grain = SECTOR_BYTES if item.data is not None else PAGE_BYTES
        start = -1
        for at in range(0, item.length_bytes + grain, grain):
            keep = at < item.length_bytes and self.random.random() < chance
            if keep and start < 0:
                start = at
            elif not keep and start >= 0:
                end = min(at, item.length_bytes)
                data = None if item.data is None else item.data[start:end]
                yield Unsynced(item.number, item.offset_bytes + start, end - start, data)
                start = -1

    def _apply(self, image: dict[int, bytes], offset_bytes: int, length_bytes: int, data: bytes | None) -> None:
        """Put a write or a discard into an image."""
        at = 0
        while at < length_bytes:
            page, inside = divmod(offset_bytes + at, PAGE_BYTES)
            count = min(PAGE_BYTES - inside, length_bytes - at)
            if count == PAGE_BYTES:
                if data is None:
                    image[page] = ZERO_PAGE
                else:
                    image[page] = data[at:at + PAGE_BYTES]
            else:
                old = image.get(page, self.fill)
                new = bytes(count) if data is None else data[at:at + count]
                image[page] = old[:inside] + new + old[inside + count:]
            at += count
