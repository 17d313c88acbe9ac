"""Backups: a snapshot into a repository, whole in itself, new only what differs from one that is there (docs/repositories.md).

Order is what makes it safe: packs, then pages, then the tree, then a look whether all of it is there, then the manifest.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from target.errors import LunetteError
from target.export.source import ReadError, Source
from target.records import READ_MOST_BYTES, RUNS_MOST, Kind, State
from target.repository.format import (
    BLOCK_BYTES,
    FRAME_BLOCKS,
    GROUP_BLOCKS,
    GROUP_BYTES,
    PACK_BYTES,
    PACKS,
    PAGES,
    TREES,
    Frame,
    Interval,
    Malformed,
    Manifest,
    Pack,
    Run,
    Tree,
    merged,
    path,
    without,
)
from target.repository.repository import Lease, Repository, writing
from target.repository.telling import Told, untold

ROUNDS = 3                  # what was stored and is not there is stored again, so often
FRAMES = 4                  # read and packed at once
PUTS = 2                    # packs on their way to the store at once
NEAR_BLOCKS = 16            # changed blocks no further apart are read together
WINDOW_BLOCKS = READ_MOST_BYTES // BLOCK_BYTES
RENEW_SECONDS = 60.0


@dataclass(slots=True)
class Progress:
    """What a backup has done so far. `told` is called with bytes of the volume passed, of how many, and new bytes."""

    told: Told = untold
    read_bytes: int = 0
    new_bytes: int = 0
    packs: int = 0
    pages: int = 0

    def as_json(self) -> dict[str, int]:
        return {"read_bytes": self.read_bytes, "new_bytes": self.new_bytes, "packs": self.packs, "pages": self.pages}


class Packer:
    """Frames into packs, packs into the store."""

    def __init__(self, repository: Repository, lease: Lease, progress: Progress, pack_bytes: int) -> None:
        self._repository = repository
        self._lease = lease
        self._progress = progress
        self._pack_bytes = pack_bytes
        self._pack, self._parts = Pack(), list[bytes]()
        self._puts = asyncio.Semaphore(PUTS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, raw: bytes) -> Frame:
        """Keep what a frame holds. Its pack's id comes when the pack is closed. LunetteError store."""
        stored, digest = await asyncio.to_thread(self._seal, raw)
        frame = Frame(self._pack, self._pack.size_bytes, len(stored), len(raw) // BLOCK_BYTES, digest)
        self._parts.append(stored)
        self._pack.size_bytes += len(stored)
        if self._pack.size_bytes >= self._pack_bytes:
            await self._close()
        return frame

    async def finish(self) -> None:
        """Every pack is stored when this returns."""
        if self._parts:
            await self._close()
        await asyncio.gather(*self._tasks)

    def _seal(self, raw: bytes) -> tuple[bytes, bytes]:
        from core.stream.frame import StreamError, encode

        blocks = len(raw) // BLOCK_BYTES
        values: dict[str, Any] = {"stream": 0, "sequence": 0, "span": len(raw), "extents": [(0, blocks, "data")], "payload": raw}
        try:
            frame = encode("extents", **values, compress=True)
        except StreamError:                     # the system has no zstd
            frame = encode("extents", **values)
        return self._repository.sealer.seal(PACKS, frame), self._repository.sealer.digest(raw)

    async def _close(self) -> None:
        pack, data = self._pack, b"".join(self._parts)
        self._pack, self._parts = Pack(), []
        await self._puts.acquire()
        task = asyncio.create_task(self._put(pack, data))
        self._tasks.add(task)

    async def _put(self, pack: Pack, data: bytes) -> None:
        try:
            pack.id, pack.size_bytes = await asyncio.to_thread(self._repository.save_pack, data, self._lease)
            self._progress.packs += 1
            self._progress.new_bytes += pack.size_bytes
        finally:
            self._puts.release()


class Upload:
    """One snapshot's blocks on their way into a repository: the tree that `base` becomes by them."""

    def __init__(self, repository: Repository, source: Source, lease: Lease, progress: Progress, pack_bytes: int) -> None:
        self._repository = repository
        self._source = source
        self._lease = lease
        self._progress = progress
        self._packer = Packer(repository, lease, progress, pack_bytes)
        self._frames = asyncio.Semaphore(FRAMES)
        self._waiting: list[tuple[int, list[Run]]] = []     # groups whose packs may not be stored yet

    async def run(self, base: Tree | None, changed: AsyncIterator[tuple[int, list[Interval]]], groups: int, *,
                  shrunk: bool) -> Tree:
        """`changed`: groups in order, each with the intervals of its blocks that differ from the base, which may be larger."""
        tree = Tree.empty(groups)
        for group in range(min(groups, len(base.pages)) if base is not None else 0):
            assert base is not None
            tree.set(group, base.pages[group], (Pack(each, base.sizes[each]) for each in base.packs_of[group]))
        done: set[int] = set()
        async for group, cuts in changed:
            await self._group(tree, base, group, cuts)
            done.add(group)
            self._progress.told(min((group + 1) * GROUP_BYTES, self._source.size_bytes), self._source.size_bytes,
                                self._progress.new_bytes)
            await self._store_pages(tree)
        for group in range(groups):
            if group not in done and self._is_unusable(tree, group):
                await self._group(tree, base, group, [])
        if shrunk and groups - 1 not in done:
            await self._group(tree, base, groups - 1, [])     # its last page ends earlier
        await self._packer.finish()
        await self._store_pages(tree)
        assert not self._waiting
        return tree

    def _is_unusable(self, tree: Tree, group: int) -> bool:
        page, unusable = tree.pages[group], self._lease.unusable
        return bool(unusable) and page is not None and (
            path(PAGES, page) in unusable or any(path(PACKS, each) in unusable for each in tree.packs_of[group]))

    async def _group(self, tree: Tree, base: Tree | None, group: int, cuts: Sequence[Interval]) -> None:
        """A group's new runs: the old ones outside of what changed and of what is damaged, new ones for the data there."""
        end = min(GROUP_BLOCKS, self._source.size_bytes // BLOCK_BYTES - group * GROUP_BLOCKS)
        old: list[Run] = []
        page = tree.pages[group]
        if base is not None and page is not None:
            try:
                if path(PAGES, page) in self._lease.unusable:
                    raise Malformed("it is not to be used")
                old = await asyncio.to_thread(self._repository.page, page, base.sizes)
            except Malformed:
                cuts = [(0, end)]
        lost = [(run.block, run.block + run.blocks) for run in old if path(PACKS, run.frame.pack.id) in self._lease.unusable]
        cuts = _union([*cuts, *lost])
        kept = list(without(old, [*cuts, (end, GROUP_BLOCKS)] if end < GROUP_BLOCKS else cuts))
        batches = list(_batches(await self._data(group, cuts)))
        frames = await asyncio.gather(*(self._frame(group, batch) for batch in batches))
        fresh = []
        for batch, frame in zip(batches, frames, strict=True):
            first = 0
            for start, stop in batch:
                fresh.append(Run(start, stop - start, frame, first))
                first += stop - start
        self._waiting.append((group, merged(kept, fresh)))

    async def _data(self, group: int, cuts: Sequence[Interval]) -> list[Interval]:
        """The parts of these intervals that are mapped."""
        if not cuts:
            return []
        mapped: list[Interval] = []
        at, stop = cuts[0][0], cuts[-1][1]
        while at < stop:
            raw = await self._source.runs(Kind.ALLOCATION, (group * GROUP_BLOCKS + at) * BLOCK_BYTES,
                                          (stop - at) * BLOCK_BYTES, RUNS_MOST)
            for length, state in struct.iter_unpack("<II", raw):
                following = min(stop, at + length // BLOCK_BYTES)
                if not state & State.HOLE:
                    mapped.append((at, following))
                at = following
        return list(_common(cuts, mapped))

    async def _frame(self, group: int, batch: Sequence[Interval]) -> Frame:
        async with self._frames:
            parts = []
            for window in _windows(batch):
                start = window[0][0]
                _, data = await self._source.read((group * GROUP_BLOCKS + start) * BLOCK_BYTES,
                                                  (window[-1][1] - start) * BLOCK_BYTES)
                self._progress.read_bytes += len(data)
                parts += [data[(low - start) * BLOCK_BYTES:(high - start) * BLOCK_BYTES] for low, high in window]
            return await self._packer.add(b"".join(parts))

    async def _store_pages(self, tree: Tree) -> None:
        """Those whose packs are stored."""
        ready: list[tuple[int, list[Run]]] = []
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            (ready if all(run.frame.pack.id for run in each[1]) else self._waiting).append(each)
        for at in range(0, len(ready), PUTS * 4):
            await asyncio.gather(*(self._store_page(tree, group, runs) for group, runs in ready[at:at + PUTS * 4]))

    async def _store_page(self, tree: Tree, group: int, runs: list[Run]) -> None:
        name = await asyncio.to_thread(self._repository.save_page, runs, self._lease) if runs else None
        tree.set(group, name, (run.frame.pack for run in runs))
        self._progress.pages += 1


async def back_up(repository: Repository, source: Source, base: Manifest | None, progress: Progress, *,
                  pool: str = "", itself: bool = False, pack_bytes: int = PACK_BYTES) -> Manifest:
    """Store a snapshot. The source was opened `since` the base's snapshot; `itself`: the base is this snapshot's own backup.

    LunetteError: exists, gone, store, and what the daemon says.
    """
    about = source.hello["object"]
    manifest = Manifest(
        name=about["name"], guid=about["guid"], origin_id=about["origin_id"], pool=pool, size_bytes=source.size_bytes,
        block_bytes=about["block_bytes"], checksum=about["checksum"], created_s=about["created_s"], stored_s=time.time(), tree="",
        new_bytes=0)
    with contextlib.ExitStack() as stack:
        lease = await asyncio.to_thread(stack.enter_context, writing(repository))
        renewing = asyncio.create_task(_renew(lease))
        try:
            tree = await _stored(repository, source, lease, base, progress, manifest.groups, itself=itself, pack_bytes=pack_bytes)
            name = await asyncio.to_thread(repository.save_tree, tree, lease)
            manifest = replace(manifest, tree=name, new_bytes=progress.new_bytes, stored_s=time.time())
            await asyncio.to_thread(repository.store.settle)
            if missing := await asyncio.to_thread(missing_of, repository, manifest, tree):
                raise LunetteError("store", f"{sorted(missing)[0]} was stored and is not there: back up again")
            await asyncio.to_thread(lease.renew)
            if not await asyncio.to_thread(lambda: repository.save_manifest(manifest, over=itself)):
                raise LunetteError("exists", f"repository {repository.name} has {manifest.name} already: another was first")
            await asyncio.to_thread(repository.store.settle)
            return manifest
        except ReadError as error:
            raise LunetteError("io_read", f"{manifest.name} cannot be read: {error}") from None
        finally:
            renewing.cancel()
            await asyncio.to_thread(stack.close)


async def _stored(repository: Repository, source: Source, lease: Lease, base: Manifest | None, progress: Progress, groups: int, *,
                  itself: bool, pack_bytes: int) -> Tree:
    """Upload until all that the tree refers to is there."""
    tree: Tree | None = None
    since = base is not None
    if base is not None:
        try:
            if path(TREES, base.tree) in lease.unusable:
                raise Malformed("it is not to be used")
            tree = await asyncio.to_thread(repository.tree, base.tree)
        except Malformed:
            since = itself = False
    for _ in range(ROUNDS):
        changed = _nothing() if itself else _changes(source, since=since)
        shrunk = base is not None and base.size_bytes > source.size_bytes
        tree = await Upload(repository, source, lease, progress, pack_bytes).run(tree, changed, groups, shrunk=shrunk)
        missing = await asyncio.to_thread(missing_of, repository, None, tree)
        if not missing:
            return tree
        for where in missing:
            await asyncio.to_thread(repository.mark_damaged, where, "missing")
        lease.add_damaged(missing)
        itself = True                           # the next round mends what this one made
    raise LunetteError("store", f"repository {repository.name} loses what it is given: {sorted(missing)[0]}")


def missing_of(repository: Repository, manifest: Manifest | None, tree: Tree) -> set[str]:
    """What a tree refers to and the store does not list, or in another size."""
    listed = {**repository.store.list(PACKS), **repository.store.list(PAGES)}
    wanted: dict[str, int | None] = {path(PACKS, each): tree.sizes[each] for packs in tree.packs_of for each in packs}
    wanted.update({path(PAGES, each): None for each in tree.pages if each is not None})
    if manifest is not None:
        where = path(TREES, manifest.tree)
        wanted[where] = None
        listed.update(repository.store.list(TREES))
    return {where for where, size in wanted.items() if where not in listed or size not in (None, listed[where].size_bytes)}


async def _renew(lease: Lease) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        with contextlib.suppress(LunetteError):     # the end looks again
            await asyncio.to_thread(lease.renew)


async def _nothing() -> AsyncIterator[tuple[int, list[Interval]]]:
    none: tuple[tuple[int, list[Interval]], ...] = ()
    for each in none:
        yield each


async def _changes(source: Source, *, since: bool) -> AsyncIterator[tuple[int, list[Interval]]]:
    """Groups with what changed in them; without a base that is what is mapped."""
    kind = Kind.CHANGES if since else Kind.ALLOCATION
    group, cuts, at = 0, list[Interval](), 0
    while at < source.size_bytes:
        raw = await source.runs(kind, at, source.size_bytes - at, RUNS_MOST)
        for length, state in struct.iter_unpack("<II", raw):
            start, stop = at // BLOCK_BYTES, (at + length) // BLOCK_BYTES
            at += length
            if (state != 0) is not since:
                continue
            while start < stop:
                here = start // GROUP_BLOCKS
                if here != group:
                    if cuts:
                        yield group, cuts
                    group, cuts = here, []
                low = start - here * GROUP_BLOCKS
                high = min(stop - here * GROUP_BLOCKS, GROUP_BLOCKS)
                cuts.append((low, high))
                start = here * GROUP_BLOCKS + high
    if cuts:
        yield group, cuts


def _union(intervals: Iterable[Interval]) -> list[Interval]:
    found: list[Interval] = []
    for start, stop in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        else:
            found.append((start, stop))
    return found


def _common(some: Sequence[Interval], others: Sequence[Interval]) -> Iterable[Interval]:
    """What is in both; each in order, without overlaps."""
    at = 0
    for start, stop in some:
        while at < len(others) and others[at][1] <= start:
            at += 1
        here = at
        while here < len(others) and others[here][0] < stop:
            yield max(start, others[here][0]), min(stop, others[here][1])
            here += 1


def _batches(intervals: Iterable[Interval]) -> Iterable[list[Interval]]:
    """Intervals cut and gathered so that each batch has at most FRAME_BLOCKS blocks."""
    batch: list[Interval] = []
    room = FRAME_BLOCKS
    for begin, stop in intervals:
        start = begin
        while start < stop:
            end = min(stop, start + room)
            batch.append((start, end))
            room -= end - start
            start = end
            if not room:
                yield batch
                batch, room = [], FRAME_BLOCKS
    if batch:
        yield batch


def _windows(batch: Sequence[Interval]) -> Iterable[list[Interval]]:
    """Intervals that are read together."""
    window: list[Interval] = []
    for each in batch:
        if window and (each[0] - window[-1][1] > NEAR_BLOCKS or each[1] - window[0][0] > WINDOW_BLOCKS):
            yield window
            window = []
        window.append(each)
    if window:
        yield window
