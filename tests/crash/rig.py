"""The crash rig: one pool on one simulated disk, an oracle beside it, and a seed that decides what happens next."""

from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from core.errors import PoolError
from tests.support.history import FOREVER, MUTATING, ObjectModel, Op, Version, Violation, candidates
from tests.support.oracle import Oracle
from tests.support.simdisk import SimDisk
from tests.support.watched_disk import WatchedDisk

SECTOR, BLOCK = 512, 4096
IDLE = 0x7FFFFFFF
LEFTOVERS = b"left by someone else. ".ljust(32, b"!") * 128      # what the disk holds where nothing was written


@dataclass(frozen=True)
class Config:
    """How a rig is built and what its seeded life looks like."""

    size_bytes: int = 32 << 20
    cache_bytes: int = 8 << 20
    volume_bytes: int = 3 << 20
    hot_bytes: int = 64 << 10           # most writes fall into this much of a volume, so that they meet
    mutations: str = ""
    max_inflight: int = 5
    max_objects: int = 12
    faults: bool = False                # the disk fails now and then
    checked: bool = True                # run `check` after every crash
    filler_bytes: int = 0               # written first, to leave little room
    aligned: float = 0.6                # how many writes of a block or more are whole blocks
    checksums: float = 0.3              # how many volumes keep checksums, so that nothing is written in place
    parts: float = 0.0                  # how many writes are parts of a block beyond what is usual
    fua: float = 0.15                   # how many writes are FUA
    power: float = 0.65                 # how many crashes are power cuts, and not kills
    tear: float = 0.3                   # how many of the requests that a crash catches are torn
    stuck: float = 0.06                 # how many requests take very long
    slow: str = ""                      # which ones do: "data" (writes of it), "read", ...; "": any
    settle: float = 0.08                # how many steps wait for all that is under way
    journal_blocks: int = 0             # 0: the pool's own choice
    area_blocks: int = 0
    punch_delay_us: int = 300           # when freed blocks go back to the medium: lives are short
    sizes: tuple[int, ...] = ()         # of volumes: a few of the rig's own when empty
    queues: int = 1                     # 2: as with two reactors, turned one at a time, and only when something wakes them
    device: bool = False                # it is a block device that may be thin
    thin_pages: int = 0                 # the medium now and then has room for so many pages more, and no others
    gap_bytes: int = 0                  # reads join pieces with so much between them, and the engine puts regions in order
    sparse: bool = False                # it is a file, whose blocks can be allocated ahead: no lack of room may fail it


def open_pool(disk: SimDisk, config: Config, clock: Callable[[], int] | None = None) -> Any:
    from core.pool.engine import Pool
    disk.serving = False
    pool = Pool(disk, cache_bytes=config.cache_bytes, punch_delay_us=config.punch_delay_us, mutations=config.mutations,
                clock=clock, queues=config.queues, gap_bytes=config.gap_bytes)
    disk.serving = True
    if isinstance(disk, WatchedDisk):
        disk.judge()
    return pool


def format_disk(config: Config, seed: int = 0) -> SimDisk:
    from core.pool.engine import Pool
    disk = WatchedDisk(config.size_bytes, seed, fill=LEFTOVERS, sparse=config.sparse, thin=config.device)
    Pool.create(disk, name="crash", journal_blocks=config.journal_blocks, area_blocks=config.area_blocks)
    return disk


class Rig:
    """Drives a pool step by step. Every violation carries the seed and what was done."""

    def __init__(self, seed: int, config: Config | None = None, disk: SimDisk | None = None) -> None:
        self.seed = seed
        self.config = config or Config()
        self.random = random.Random(seed)
        self.disk = disk or format_disk(self.config, seed)
        self.oracle = Oracle()
        self.tokens: dict[int, Op] = {}
        self.awaited: dict[Op, tuple[int, int]] = {}        # when it began: the newest frame with records, and `written`
        self.written = 0                                    # requests performed when no write was under way last
        self.covers: dict[int, int] = {}                    # request -> what had been performed when it was submitted
        self.stuck: dict[int, int] = {}                     # request -> the step from which it may be performed
        self.shared: set[int] = set()                       # objects that may have blocks in common with others
        self.held: set[int] = set()                         # requests that stay pending until a test lets them go
        self.steps = 0
        self.log: list[str] = []
        self.names = itertools.count(1)
        self.now_us = 1_000_000
        self.tolerated: set[str] = {"no_space"}
        self.faulty = False                                 # a failure of the disk is planned or has happened
        self.crashes = 0
        self.home_due_us = 0                                # when the first queue wants a turn, though nobody wakes it
        self.sync_failures = self.disk.sync_failures
        self.on_step: Callable[[], None] | None = None      # called before each device request that is performed
        self.pool: Any = open_pool(self.disk, self.config, self.clock)

    def clock(self) -> int:
        """What the engine takes for the time where the rig does not turn it: each look takes a moment."""
        self.now_us += 10
        return self.now_us

    # -- one step ----------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        self.log.append(text)

    def story(self, count: int = 60) -> str:
        return (f"seed {self.seed}, {self.config}\n" + "\n".join("  " + line for line in self.log[-count:])
                + "\ndisk:\n" + self.disk.trace.tail())

    def start(self, kind: str, **args: Any) -> Op:
        """Start an operation on the pool and in the oracle."""
        if not any(other.kind in MUTATING for other in self.oracle.inflight):
            self.written = self.disk.writes
        op = self.oracle.begin(kind, **args)
        self.note(f"{op.start}: start {kind} {_brief(args)}")
        if isinstance(self.disk, WatchedDisk) and (op.fua or kind in ("flush", "snapshot", "clone")):
            self.awaited[op] = self.disk.recorded, 0 if op.fua else self.written
        self.tokens[self.pool.start(kind, **args)] = op
        if kind in ("snapshot", "clone", "revert", "share"):
            self.shared.update(args[key] for key in ("source_id", "volume_id", "src_id", "dst_id") if key in args)
            self.shared.update(source for source, _ in args.get("pairs", ()))
        self.shared.update(op.publication.get(key, 0) for key in ("volume_id", "staged_id"))
        self._watch_syncs()
        return op

    def refused(self) -> None:
        """The operation that was to be started last was refused at once."""
        self.oracle.inflight.pop()

    def _watch_syncs(self) -> list[tuple[int, str, int, int]]:
        """A sync covers what was performed when it was submitted, however late it is performed itself."""
        pending: list[tuple[int, str, int, int]] = self.pool.pending_io()
        for io_id, kind, _, _ in pending:
            if kind in ("sync", "write") and io_id not in self.covers:
                self.covers[io_id] = self.disk.writes
        return pending

    def perform(self, io_id: int, kind: str) -> None:
        if self.on_step:
            self.on_step()
        if kind == "sync":
            self.disk.sync_upto = self.covers.pop(io_id)
        elif isinstance(self.disk, WatchedDisk):
            self.disk.submitted = self.covers.pop(io_id, None)
        self.pool.perform(io_id)
        if isinstance(self.disk, WatchedDisk):
            self.disk.judge()

    def turn(self) -> int:
        """Microseconds until the engine wants its next turn."""
        self.now_us += self.random.choice((1, 10, 100))
        queue = self.random.choice(self.pool.woken() or [0]) if self.config.queues > 1 else 0
        wait = self.pool.turn(self.now_us, queue)
        if queue == 0:
            self.home_due_us = self.now_us + wait
        if self.reap() or (self.config.queues > 1 and self.pool.woken()):
            return 0                                # what is over may have begun something else
        return min(max(self.home_due_us - self.now_us, 0), IDLE)

    def reap(self) -> int:
        """Hear of what is over; how many."""
        finished = self.pool.reap()
        for done in finished:
            op = self.tokens.pop(done.token)
            self.note(f"{self.oracle.clock + 1}: {op.kind}@{op.start} -> {done.code}"
                      + ("" if op.kind == "read" else f" {done.value}"))
            if done.code not in ("ok", "miscompare") and done.code not in self.tolerated | self._excuses(op):
                raise Violation(f"{op.kind} {_brief(op.args)} failed: {done.code} {done.value}")
            op.code, op.value = done.code, done.value
            awaited = self.awaited.pop(op, (0, 0))
            if isinstance(self.disk, WatchedDisk) and done.code == "ok":
                self.disk.judge_answer(*awaited, str(op))
                if op.fua and "data" in op.args:
                    self.judge_stable(op)
            elif done.code == "no_space" and not self.faulty:
                self._judge_refusal(op)
            self.oracle.finish(op, done.code, done.value)
            if done.code == "ok" and not self.faulty:
                self._look_at(op)
        return len(finished)

    def _look_at(self, op: Op) -> None:
        """What a new snapshot holds where most is written, as soon as it is answered: it never changes."""
        made = {"snapshot": op.value, "publish": [op.value[0][1]] if op.kind == "publish" else [],
                "revert": [op.value] if op.args.get("safety_name") else []}
        if op.kind in made:
            for object_id in made[op.kind]:
                length = min(self.size_of(self.oracle.objects[object_id]), max(self.config.hot_bytes, 64 << 10))
                self.start("read", object_id=object_id, offset_bytes=0, length_bytes=length)

    def judge_stable(self, op: Op) -> None:
        """FUA: each block that nobody else has written to since is on stable storage, and the way to it."""
        sectors = self.oracle.objects[op.args["object_id"]].sectors if op.args["object_id"] in self.oracle.objects else {}
        for first, _, sector in self._blocks_of(op):
            block = first // (BLOCK // SECTOR)
            all_of_it = (v for lba in range(block * 8, block * 8 + 8) for v in sectors.get(lba, ()))
            if isinstance(self.disk, WatchedDisk) and all(v.op is op or v.op.end < op.start for v in all_of_it):
                self.disk.judge_stable(op.args["object_id"], block, sector, str(op))

    def _judge_refusal(self, op: Op) -> None:
        """A full pool takes reads, deletes, UNMAP, and writes to blocks that are their object's alone."""
        if op.kind in ("read", "delete", "flush", "checkpoint"):
            raise Violation(f"{op.kind} failed: no space")
        model = self.oracle.objects.get(op.args.get("object_id", 0))
        if op.kind not in ("write", "compare_and_write", "unmap") or model is None:
            return
        if model.kind != "volume" or model.checksum or model.id in self.shared:
            return
        taken = op.kind == "unmap" and not op.args.get("keep")
        if taken or ("data" in op.args and all(self._mapped_before(op, history) for _, history, _ in self._blocks_of(op))):
            raise Violation(f"{op.kind} {_brief(op.args)} to blocks of its own failed: no space")

    def _mapped_before(self, op: Op, history: list[Version]) -> bool:
        known = candidates([v for v in history if v.op is not op], lambda other: other.ok and other.end < op.start)
        return bool(known) and all(v.value and v.op.ok and v.op.end < op.start for v in known)

    def _blocks_of(self, op: Op) -> Iterator[tuple[int, list[Version], bytes]]:
        """For each block of a write: its first sector that is written, what is known of that, and what was written."""
        model = self.oracle.objects.get(op.args["object_id"])
        first, data = op.args["offset_bytes"] // SECTOR, op.args.get("data", b"")
        at = first
        while model is not None and at < first + len(data) // SECTOR:
            yield at, model.sectors.get(at, []), data[(at - first) * SECTOR:(at - first + 1) * SECTOR]
            at = (at // (BLOCK // SECTOR) + 1) * (BLOCK // SECTOR)

    def _excuses(self, op: Op) -> set[str]:
        """Codes that concurrent administrative work explains."""
        ids = {op.args.get(key) for key in ("object_id", "source_id", "volume_id", "snapshot_id", "src_id", "dst_id")}
        ids |= {source for source, _ in op.args.get("pairs", ())}
        found: set[str] = set()
        for other in [*self.oracle.inflight, *self._recent(op)]:
            if other is op or not ids & {other.changed_id, other.publication.get("staged_id")}:
                continue
            found |= {"delete": {"gone", "not_found", "busy", "aborted"}, "resize": {"range", "busy"},
                      "publish": {"gone", "not_found", "range", "busy", "aborted"},
                      "revert": {"range", "busy"}}.get(other.kind, set())
        return found

    def _recent(self, op: Op) -> list[Op]:
        return [other for other in self.history if other.end > op.start]

    @property
    def history(self) -> list[Op]:
        """Operations that removed or reshaped objects, of this life."""
        found = []
        for model in [*self.oracle.objects.values(), *self.oracle.grave.values()]:
            found += [v.op for v in model.size] + ([model.deleting] if model.deleting else [])
        return found

    def step(self) -> bool:
        """Perform one pending request, out of order, or give the engine a turn. False: nothing is left to do."""
        pending = [item for item in self._watch_syncs() if item[0] not in self.held]
        if pending and self.random.random() < 0.7:
            io_id, kind, _, _ = self.random.choice(self._unstuck(pending))
            self.perform(io_id, kind)
            self._watch_syncs()
            return True
        wait = self.turn()
        if any(item[0] not in self.held for item in self._watch_syncs()) or wait == 0:
            return True
        if "no_memory" in self.tolerated and wait < IDLE:
            self.now_us += wait                         # what had no memory tries again by the clock
            return True
        if self.tokens and not self.held:
            raise Violation(f"the engine waits {wait} us, though nobody will wake it: {[o.kind for o in self.tokens.values()]}")
        if wait < IDLE:
            self.now_us += wait
            return True
        return False

    def _unstuck(self, pending: list[tuple[int, str, int, int]]) -> list[tuple[int, str, int, int]]:
        """Some requests take very long: leave them out while there are others."""
        for io_id, kind, offset, _ in pending:
            if io_id not in self.stuck:
                slow = self.random.random() < self.config.stuck and self.config.slow in ("", kind, self._what(kind, offset))
                self.stuck[io_id] = self.steps + (self.random.randrange(20, 300) if slow else 0)
        self.steps += 1
        return [item for item in pending if self.stuck[item[0]] <= self.steps] or pending

    def _what(self, kind: str, offset_bytes: int) -> str:
        """ "data" when it is a write of data, or of a page at home; else its kind."""
        sure = self.disk.durable_superblock() if kind == "write" and isinstance(self.disk, WatchedDisk) else None
        return "data" if sure and offset_bytes // BLOCK >= sure.area.stop else kind

    def settle(self, op: Op | None = None) -> None:
        """Go on until `op`, or everything started, has completed."""
        def done() -> bool:
            return op not in self.oracle.inflight if op else not self.tokens

        for _ in range(20_000):
            if done():
                return
            if not self.step() and not done():
                kinds = [o.kind for o in self.tokens.values()]
                raise Violation(f"the engine is idle, not finished: {kinds}")
        raise Violation(f"the engine never finishes: {[o.kind for o in self.tokens.values()]}")

    def do(self, kind: str, **args: Any) -> Op:
        op = self.start(kind, **args)
        self.settle(op)
        return op

    # -- crashes -----------------------------------------------------------------------------------------------------

    def crash(self, *, power: bool, mode: str = "", survive_sync: bool = False) -> None:
        """Stop here: some of what is in flight reaches the medium, whole or torn, and nobody is told.

        After a failed sync the power goes, too, unless survive_sync: what was written in place before it is nowhere to be found
        (docs/durability.md, "Failures"), and no oracle could tell.
        """
        self.crashes += 1
        if self.faulty:
            self.faulty, self.tolerated = False, {"no_space"}
        pending = self._watch_syncs()
        self.random.shuffle(pending)
        count = self.random.randrange(len(pending) + 1)
        for io_id, kind, _, _ in pending[:count]:
            self.disk.tear_next = kind == "write" and self.random.random() < self.config.tear
            self.perform(io_id, kind)
        power = power or (self.disk.sync_failures > self.sync_failures and not survive_sync)
        self.note(f"-- {'power cut' if power else 'process kill'} {mode} ({count} of {len(pending)} requests done)")
        self.pool.abandon()
        self.pool = None
        self._lost(power=power, mode=mode)

    def _lost(self, *, power: bool, mode: str = "") -> None:
        self.tokens.clear()
        self.covers.clear()
        self.awaited.clear()
        self.oracle.crash(power=power)
        if self.disk.sync_failures > self.sync_failures:
            self.sync_failures, self.oracle.sync_failed = self.disk.sync_failures, True
        if power:
            self.disk.power_cut(mode)
        else:
            self.disk.process_kill()

    def reopen(self, *, interruptions: int = 0) -> None:
        """Recover, after so many recoveries that are cut short; verify everything; check the pool."""
        if self.disk.capacity_bytes:
            self._reopen_thin()
        for _ in range(interruptions):
            after = self.random.choice((self.random.randrange(8), self.random.randrange(60)))
            self.disk.cut_after(after)
            try:
                pool = open_pool(self.disk, self.config, self.clock)
            except PoolError as error:
                if not self.disk.dead:
                    raise Violation(f"recovery failed: {error}") from error
                power = self.random.random() < 0.7
                self.note(f"-- recovery interrupted after {after} operations ({'power' if power else 'kill'})")
                self._lost(power=power)
            else:
                pool.abandon()
                self.note("-- recovery finished and died")
                self._lost(power=self.random.random() < 0.7)
        if self.config.checked:
            self.check(self.disk)
        try:
            self.pool = open_pool(self.disk, self.config, self.clock)
        except PoolError as error:
            raise Violation(f"recovery failed: {error}") from error
        self.note("-- opened")
        self.verify()

    def _reopen_thin(self) -> None:
        """A medium that is still short may refuse the recovery, and nothing is lost by that."""
        try:
            open_pool(self.disk, self.config, self.clock).abandon()
        except PoolError as error:
            if error.code not in ("io_write", "no_space") and "no space" not in str(error):
                raise Violation(f"recovery failed: {error}") from error
            self.note(f"-- recovery refused: {error}")
        self._lost(power=self.random.random() < 0.7 or self.disk.sync_failures > self.sync_failures)
        self.disk.capacity_bytes = 0

    def after_close(self, *, power: bool) -> None:
        """The pool was closed: a close is a flush of everything, whatever happens next."""
        self.oracle.flushed = self.oracle.tick()
        self.pool = None
        self._lost(power=power)
        self.reopen()

    def check(self, disk: SimDisk) -> None:
        from core.check import check
        writes, operations = disk.writes, disk.operations
        report = check(disk)
        if disk.writes != writes:
            raise Violation("check wrote to the device")
        disk.operations = operations
        if not report.ok:
            raise Violation("check: " + "; ".join(report.errors[:5]))

    def verify(self) -> None:
        """Everything the pool holds is allowed. Nothing may be in flight."""
        if self.tokens or (self.oracle.limbo and not self.oracle.crashed):
            raise ValueError("verify needs a quiet pool")
        if self.oracle.reconcile(self.pool):
            self.do("flush")         # an operation nobody acknowledged has happened: make it last
        self._compare_maps()

    def _compare_maps(self) -> None:
        """`diff` finds every block in which two objects differ. (What a write put there twice may be reported and the same.)"""
        r = random.Random(self.steps)                # of its own, so that a life goes on as without it
        pairs = [(a, b) for a in self.oracle.objects.values() for b in self.oracle.objects.values() if a is not b]
        for a, b in r.sample(pairs, min(len(pairs), 4)):
            found: set[int] = set()
            at, size = 0, max(a.current_size(), b.current_size())
            while at < size:
                step = self.pool.call("diff", a_id=a.id, b_id=b.id, offset_bytes=at, limit=(limit := r.choice((1, 7, 1000))))
                for offset, length in step:
                    found.update(range(offset // BLOCK, (offset + length) // BLOCK))
                at = step[-1][0] + step[-1][1] if len(step) == limit else size
            for block in {lba // 8 for model in (a, b) for lba in model.sectors}:
                was, is_ = ([self.oracle.current(model, lba) for lba in range(block * 8, block * 8 + 8)] for model in (a, b))
                if was != is_ and block not in found:
                    raise Violation(f"diff of {a.label()} and {b.label()} leaves block {block} out: {was} and {is_}")

    def crash_cycle(self) -> None:
        """A crash of either kind, recovery, verification."""
        self.crash(power=self.random.random() < self.config.power)
        self.reopen(interruptions=self.random.choice((0, 0, 0, 1, 1, 2, 3)))

    def inject(self) -> None:
        """Let the disk fail soon, once or for ever; until the next crash operations may be refused."""
        r = self.random
        kind = r.choice(("read", "write", "write", "sync", "sync", "any"))
        error = errno.ENOSPC if kind == "write" and r.random() < 0.3 else errno.EIO
        self.disk.fail(kind, r.randrange(10), forever=r.random() < 0.4, error=error)
        self.faulty, self.tolerated = True, {"no_space", "io_read", "io_write", "read_only", "aborted"}
        self.note(f"-- the disk will fail: {self.disk.faults[-1]}")

    # -- what may be done --------------------------------------------------------------------------------------------

    def volumes(self) -> list[ObjectModel]:
        return [m for m in self.oracle.objects.values() if m.kind != "snapshot" and not m.deleting]

    def snapshots(self) -> list[ObjectModel]:
        return [m for m in self.oracle.objects.values() if m.kind == "snapshot" and not m.deleting]

    def new_name(self) -> str:
        return f"n{next(self.names)}"

    def size_of(self, model: ObjectModel) -> int:
        """Bytes that exist whatever becomes of a resize in flight."""
        return min(int(v.value) for v in candidates(model.size, lambda op: op.ok))

    def busy(self, model: ObjectModel) -> bool:
        return any(model.id in (op.changed_id, op.args.get("source_id"), op.publication.get("staged_id"),
                                op.publication.get("base_id"))
                   or any(model.id == source for source, _ in op.args.get("pairs", ()))
                   for op in self.oracle.inflight if op.kind not in MUTATING | {"read", "flush"})

    def place(self, model: ObjectModel, longest: int = 24 << 10) -> tuple[int, int]:
        """(offset, length) of a write: mostly small and in the hot part, in logical blocks."""
        size, grain, r = self.size_of(model), model.block_bytes, self.random
        base = far(r, size, self.config.hot_bytes) if self.config.sizes else 0
        size -= base
        area = min(size, self.config.hot_bytes) if r.random() < 0.85 else size
        length = r.choice((grain, BLOCK, BLOCK, 2 * BLOCK, r.randrange(1, longest // SECTOR) * SECTOR))
        if self.config.parts and r.random() < self.config.parts:
            length = grain * r.choice((1, 1, 2, 3))
        elif r.random() < 0.03:
            length = min(size, 600 << 10)
        length = max(grain, min(length, area) // grain * grain)
        offset = r.randrange(0, area - length + 1) // grain * grain
        if r.random() < self.config.aligned and length >= BLOCK:
            offset, length = offset // BLOCK * BLOCK, length // BLOCK * BLOCK
        return base + offset, length

    def quiet(self, *models: ObjectModel) -> bool:
        return all(self.oracle.settled(m, 0, FOREVER) for m in models)


def far(r: random.Random, size_bytes: int, hot_bytes: int) -> int:
    """Where the hot part begins this time: at the start, amid a border of nodes of any level, at the end."""
    borders = [step * count - hot_bytes // 2 for step in (2 << 20, 1 << 30, 512 << 30) for count in (1, 1, 3)]
    places = [0, *(at for at in borders if at + hot_bytes <= size_bytes), max(size_bytes - hot_bytes, 0)]
    return r.choice(places) // BLOCK * BLOCK


def _brief(args: dict[str, Any]) -> str:
    return " ".join(f"{k}={'<' + str(len(v)) + '>' if isinstance(v, bytes) else v}" for k, v in args.items())
