"""Backups: a snapshot into a repository, whole in itself, new only what differs from one that is there (docs/repositories.md).

Order is what makes it safe: packs, then pages, then the tree, then a look whether all of it is there, then the manifest.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from target.errors import LunetteError
from target.repository.format import (
    BLOCK_BYTES,
    GROUP_BLOCKS,
    GROUP_BYTES,
    PACK_BYTES,
    PACKS,
    PAGES,
    TREES,
    Frame,
    Malformed,
    Manifest,
    Pack,
    Page,
    Tree,
    overlaid,
    path,
)
from target.repository.repository import Lease, Repository, writing
from target.repository.source import Source
from target.repository.telling import Told, untold

if TYPE_CHECKING:
    from core.stream.gathering import Gathered

ROUNDS = 3                  # what was stored and is not there is stored again, so often
FRAMES = 4                  # packed at once
PUTS = 2                    # packs on their way to the store at once
PAGES_AT_ONCE = 8
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
        self._waiting: list[tuple[int, Page]] = []      # groups whose packs may not be stored yet
        self._anew: set[int] = set()                    # groups of which nothing that is there serves

    async def run(self, base: Tree | None, since: str | None, groups: int, *, shrunk: bool) -> Tree:
        """`since`: the base's snapshot, or None where the base is this snapshot's own. The base may be larger: `shrunk`."""
        tree = Tree.empty(groups)
        for group in range(min(groups, len(base.pages)) if base is not None else 0):
            assert base is not None
            tree.set(group, base.pages[group], (Pack(each, base.sizes[each]) for each in base.packs_of[group]))
        self._anew = set(range(groups)) if base is None else {each for each in range(groups) if self._is_unusable(tree, each)}
        if since is not None:
            done = await self._take(tree, base, since, 0, groups)
            if shrunk and groups - 1 not in done | self._anew:
                await self._finish(tree, base, groups - 1, b"", [])     # its last page ends earlier
        for group in self._anew:
            tree.set(group, None)
        for first, behind in _ranges(sorted(self._anew)):
            await self._take(tree, None, None, first, behind)
        await self._packer.finish()
        await self._store_pages(tree)
        assert not self._waiting
        return tree

    def _is_unusable(self, tree: Tree, group: int) -> bool:
        page, unusable = tree.pages[group], self._lease.unusable
        return bool(unusable) and page is not None and (
            path(PAGES, page) in unusable or any(path(PACKS, each) in unusable for each in tree.packs_of[group]))

    async def _take(self, tree: Tree, base: Tree | None, since: str | None, first: int, behind: int) -> set[int]:
        """What the daemon sends of some groups; the groups that it spoke of. With `since` those that come anew are left out."""
        done: set[int] = set()
        parts: list[tuple[bytes, asyncio.Task[Frame]]] = []
        size = self._source.size_bytes
        try:
            async with contextlib.aclosing(
                    self._source.chunks(since, first * GROUP_BYTES, min(size, behind * GROUP_BYTES))) as chunks:
                async for chunk in chunks:
                    if since is not None and chunk.group in self._anew:
                        continue
                    if chunk.data:
                        parts.append((chunk.runs, await self._pack(chunk)))
                    if chunk.cuts is not None:
                        await self._finish(tree, base, chunk.group, chunk.cuts, parts)
                        done.add(chunk.group)
                        parts = []
                        self._progress.told(min((chunk.group + 1) * GROUP_BYTES, size), size, self._progress.new_bytes)
        finally:
            for _, task in parts:
                task.cancel()
        return done

    async def _pack(self, chunk: Gathered) -> asyncio.Task[Frame]:
        """Begin to pack what a chunk holds, when there is room for it."""
        await self._frames.acquire()
        self._progress.read_bytes += len(chunk.data)
        task = asyncio.create_task(self._packer.add(chunk.data))
        task.add_done_callback(lambda _: self._frames.release())
        return task

    async def _finish(self, tree: Tree, base: Tree | None, group: int, cuts: bytes,
                      parts: Sequence[tuple[bytes, asyncio.Task[Frame]]]) -> None:
        """A group's new page: the old runs outside of what changed, new ones for the data there."""
        old = Page([], b"")
        name = tree.pages[group]
        if base is not None and name is not None:
            try:
                old = await asyncio.to_thread(self._repository.page, name, base.sizes)
            except Malformed:
                self._anew.add(group)       # what was sent of it is packed for nothing
        frames = await asyncio.gather(*(task for _, task in parts))
        if group in self._anew and base is not None:
            return
        end = self._source.size_bytes // BLOCK_BYTES - group * GROUP_BLOCKS
        if end < GROUP_BLOCKS:
            cuts += struct.pack("<II", end, GROUP_BLOCKS)
        fresh = [(runs, frame) for (runs, _), frame in zip(parts, frames, strict=True)]
        self._waiting.append((group, overlaid(old, cuts, fresh)))
        await self._store_pages(tree)

    async def _store_pages(self, tree: Tree) -> None:
        """Those whose packs are stored."""
        ready: list[tuple[int, Page]] = []
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            (ready if all(frame.pack.id for frame in each[1].frames) else self._waiting).append(each)
        for at in range(0, len(ready), PAGES_AT_ONCE):
            await asyncio.gather(*(self._store_page(tree, group, page) for group, page in ready[at:at + PAGES_AT_ONCE]))

    async def _store_page(self, tree: Tree, group: int, page: Page) -> None:
        name = await asyncio.to_thread(self._repository.save_page, page, self._lease) if page.runs else None
        tree.set(group, name, page.packs())
        self._progress.pages += 1


async def back_up(repository: Repository, source: Source, base: Manifest | None, since: str | None, progress: Progress, *,
                  pool: str = "", pack_bytes: int = PACK_BYTES) -> Manifest:
    """Store a snapshot. `since` is the snapshot of the base, which the daemon has; None: the base is this one's own backup.

    LunetteError: exists, gone, store, and what the daemon says.
    """
    about, itself = source.row, base is not None and since is None
    manifest = Manifest(
        name=about["name"], guid=about["guid"], origin_id=about["origin_id"], pool=pool, size_bytes=source.size_bytes,
        block_bytes=about["block_bytes"], checksum=about["checksum"], created_s=about["created_s"], stored_s=time.time(), tree="",
        new_bytes=0)
    with contextlib.ExitStack() as stack:
        lease = await asyncio.to_thread(stack.enter_context, writing(repository))
        renewing = asyncio.create_task(_renew(lease))
        try:
            tree = await _stored(repository, source, lease, base, since, progress, manifest.groups, pack_bytes)
            name = await asyncio.to_thread(repository.save_tree, tree, lease)
            manifest = replace(manifest, tree=name, new_bytes=progress.new_bytes, stored_s=time.time())
            progress.told(manifest.size_bytes, manifest.size_bytes, progress.new_bytes)
            await asyncio.to_thread(repository.store.settle)
            if missing := await asyncio.to_thread(missing_of, repository, manifest, tree):
                raise LunetteError("store", f"{sorted(missing)[0]} was stored and is not there: back up again")
            await asyncio.to_thread(lease.renew)
            if not await asyncio.to_thread(lambda: repository.save_manifest(manifest, over=itself)):
                raise LunetteError("exists", f"repository {repository.name} has {manifest.name} already: another was first")
            await asyncio.to_thread(repository.store.settle)
            return manifest
        finally:
            renewing.cancel()
            await asyncio.to_thread(stack.close)


async def _stored(repository: Repository, source: Source, lease: Lease, base: Manifest | None, since: str | None,
                  progress: Progress, groups: int, pack_bytes: int) -> Tree:
    """Upload until all that the tree refers to is there."""
    tree: Tree | None = None
    if base is not None:
        try:
            if path(TREES, base.tree) in lease.unusable:
                raise Malformed("it is not to be used")
            tree = await asyncio.to_thread(repository.tree, base.tree)
        except Malformed:
            since = None
    for _ in range(ROUNDS):
        shrunk = base is not None and base.size_bytes > source.size_bytes
        tree = await Upload(repository, source, lease, progress, pack_bytes).run(tree, since, groups, shrunk=shrunk)
        missing = await asyncio.to_thread(missing_of, repository, None, tree)
        if not missing:
            return tree
        for where in missing:
            await asyncio.to_thread(repository.mark_damaged, where, "missing")
        lease.add_damaged(missing)
        since = None                            # the next round mends what this one made
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


def _ranges(numbers: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Numbers in order as first ones and those behind the last."""
    first = behind = -1
    for each in numbers:
        if each != behind:
            if behind > first:
                yield first, behind
            first = each
        behind = each + 1
    if behind > first:
        yield first, behind
