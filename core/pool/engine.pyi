"""The pool: objects, map, space and durability behind one class (docs/architecture.md)."""

from collections.abc import Callable
from typing import Any, NamedTuple

from core.device import Device
from core.pool.info import BadPage as BadPage
from core.pool.info import ObjectInfo as ObjectInfo
from core.pool.info import TraceEvent as TraceEvent

class Completion(NamedTuple):
    token: int
    code: str               # core.errors.STATUS_CODES
    value: Any              # the operation's result

class TrimStep(NamedTuple):
    cursor: int | None      # where to go on; None: all of the pool was looked at
    found_bytes: int        # free, and the medium may still keep it: it goes back in the background

class ScrubStep(NamedTuple):
    cursor: int | None      # where to go on; None: this part is over
    pages: int              # metadata pages read from the medium
    damaged: list[tuple[int, int, int]]     # of a map: offset and length in bytes behind a page; the page's block

EXIT_LOST: int     # a process's exit status when its pool is no longer its own (core/lease.h)

def hang_up() -> None:
    """Shut every socket of this process, which is about to end and may have to wait for its medium first (core/lease.h)."""

class Pool:
    """An open pool. All state-changing work is *started* and completes later; nothing blocks the caller.

    With a queue device (tools, tests) `call` pumps the device itself. With reactors attached the work runs on
    reactor 0's thread; `completion_fd` becomes readable and `reap` returns what finished.
    """

    name: str
    uuid: bytes                 # what the pool is known by
    identity: bytes             # the same, b"" in a pool that was made before pools had one
    size_bytes: int
    read_only: bool
    completion_fd: int

    @staticmethod
    def create(device: Device, *, name: str, size_bytes: int = 0, journal_blocks: int = 0, area_blocks: int = 0) -> None:
        """Format `device` (it must be zero-sized-or-blank; the caller checks). PoolError: invalid."""
    @staticmethod
    def identify(device: Device, *, identity: bytes, name: str = "") -> None:
        """Give a pool that nobody has open another identity, and so every object another serial, and a name; one atomic change.

        PoolError: foreign, newer, damaged, invalid; OSError.
        """
    @staticmethod
    def superblock(device: Device) -> bytes:
        """The superblock that counts. PoolError: foreign, newer, damaged; OSError."""
    def __init__(self, device: Device, *, cache_bytes: int = 268435456, read_only: bool = False,
                 punch_delay_us: int = 2_000_000, mutations: str = "", clock: Callable[[], int] | None = None,
                 queues: int = 1, gap_bytes: int = 0, cached: bool = False) -> None:
        """Open and recover. PoolError: foreign, newer, damaged, io_read, io_write.

        `punch_delay_us`: time between two looks for what overwriting freed; `mutations`: see tests/crash; `clock`: microseconds,
        instead of the machine's, wherever no time is given; `queues`: 2 for tests of what two reactors do to each other;
        `gap_bytes`: reads of the pool's own device join pieces with so much between them, and what is scattered is put in order;
        `cached`: a page cache has what they ask for.
        """
    def close(self) -> None:
        """Checkpoint and mark clean. Idempotent."""
    def abandon(self) -> None:
        """Drop everything in memory without any I/O, as a crash would."""
    def lease(self, until_us: int | None) -> None:
        """Reactors answer and write nothing from this instant of CLOCK_BOOTTIME on: they end the process (core/lease.h)."""

    # -- starting work ------------------------------------------------------------------------------------------
    def start(self, op: str, **args: Any) -> int:
        """Start an operation, return its token. Operations, arguments and results:

        create(name, size_bytes, block_bytes=512, checksum=False, quota_bytes=0, reserve_bytes=0, props=b"", serial="",
               physical_block_bytes=0 (the logical one)) -> id
        snapshot(pairs=[(source_id, name), ...], keys=None) -> [id, ...]      all at one instant, one journal record; `keys`,
            called with the ids, says what keys change in the same frame
        publish(items=[{staged_id, volume_id, volume_name, snapshot_name, base_id, props, created_us}, ...], keys=None) ->
            [(volume id, snapshot id, whether the volume follows), ...]      staged objects become snapshots (docs/durability.md)
        clone(source_id, name) -> id
        delete(object_id)                                       returns once durable; space comes back in background
        revert(volume_id, snapshot_id, safety_name="", keys=None) -> safety snapshot id or 0     to a snapshot of that very
            volume; `keys`, called with the safety snapshot's id in a list, as of `snapshot`
        resize(object_id, size_bytes)
        rename(object_id, name)
        set(object_id, props=None, quota_bytes=None, reserve_bytes=None, physical_block_bytes=None)
        read(object_id, offset_bytes, length_bytes) -> bytes
        write(object_id, offset_bytes, data, fua=False)
        unmap(object_id, offset_bytes, length_bytes, fua=False, keep=False, further=[(offset_bytes, length_bytes), ...])
              further ranges one after the other; where one is refused those behind it stay as they are
        compare_and_write(object_id, offset_bytes, expected, data, fua=False)   value of miscompare: byte offset
        write_atomic(object_id, offset_bytes, data, fua=False)                  at most layout.ATOMIC_BLOCKS blocks
        share(dst_id, dst_offset_bytes, src_id, src_offset_bytes, length_bytes)  copy by reference; multiples of 4096
              -> bytes shared, with code limit, too: the next block has as many references as copies may give it
        flush()
        extents(object_id, offset_bytes, length_bytes, limit) -> [(offset_bytes, length_bytes, mapped), ...]
        diff(a_id, b_id, offset_bytes, limit) -> [(offset_bytes, length_bytes), ...]
        runs(object_id, offset_bytes, length_bytes, limit, since_id=None) -> bytes
              pairs of <u32 length_bytes, u32 state> without gaps, from the block of offset_bytes on, fewer bytes than asked for
              when there are more than `limit`: 0 data, 3 a hole; against `since_id`: 1 may differ, 0 the same
        exclusive(object_ids=[...]) -> {id: bytes that deleting it would free}, without what is gone or cannot be read
        kv(changes={key: bytes | None}) -> None                atomic, durable when done; None deletes
        scrub(part="" | "superblock" | "checkpoint area" | "summary" | "count" | "checksum" | "catalog",
              object_id=0, previous_id=0, cursor=0, limit=64) -> ScrubStep     without part: the object's map
        trim(cursor=0, limit=256) -> TrimStep                   looks at so many runs of 2 MiB
        checkpoint()
        grow(size_bytes)                                        after the device was enlarged
        """
    def reap(self) -> list[Completion]: ...
    def call(self, op: str, **args: Any) -> Any:
        """start, pump the queue device until done, return the value. PoolError on any other code than ok."""

    # -- queue device: one step at a time (tests decide the order) -----------------------------------------------
    def pending_io(self) -> list[tuple[int, str, int, int]]:
        """(io id, "read" | "write" | "sync" | "discard", offset_bytes, length_bytes) submitted and not completed."""
    def perform(self, io_id: int) -> None:
        """Do that request on the device now and tell the engine; an OSError becomes its negative errno."""
    def turn(self, now_us: int | None = None, queue: int | None = None) -> int:
        """One engine turn (lnt_dev_run + reap), of one queue device or each; returns microseconds to the next, 0: more to do."""
    def woken(self) -> list[int]:
        """Queue devices that want a turn: one was asked for, has more to do, or a request of it was performed."""
    def drain(self) -> None:
        """Turn and perform until nothing is pending and all background work is done."""

    # -- reading state (consistent, never blocks on the disk) ----------------------------------------------------
    def objects(self) -> list[ObjectInfo]: ...
    def names(self) -> dict[str, int]:
        """The id of every object by its name."""
    def provisioned(self, hidden: int) -> tuple[int, int]:
        """How many objects there are, and the bytes of those that are no snapshots, but for names that begin with that byte."""
    def named(self, prefix: str) -> list[ObjectInfo]:
        """Objects whose name begins so."""
    def lookup(self, name: str) -> ObjectInfo | None: ...
    def info(self, object_id: int) -> ObjectInfo | None: ...
    def kv(self) -> dict[str, bytes]: ...
    def damage(self) -> list[BadPage]:
        """Pages of metadata that are known to be bad now: one that is read again later is taken off."""
    def order(self, on: bool) -> None:
        """Whether the engine puts scattered regions in order by itself (docs/operations.md, "Fragmentation")."""
    def hurry(self) -> None:
        """The medium has little room: for ten seconds what is free goes back to it at once, whatever it takes from initiators."""
    def failure(self) -> str:
        """Why the pool is read-only for good, in words; empty: it is not."""
    def trace(self) -> list[TraceEvent]:
        """Notable moments of this opening, oldest first."""
    def fail_cut(self) -> None:
        """The medium was found to be shorter than it was: read-only from here on."""
    def stats(self) -> dict[str, int]:
        """Sizes in bytes, backlog, cache, journal, checkpoints, syncs: all numbers."""
