"""Restores: a backup into a new volume, which appears whole or not at all; and the same reads without a volume, to verify."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from array import array
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from core.stream import runs as placed
from target.client import Client
from target.errors import LunetteError
from target.repository.format import (
    BLOCK_BYTES,
    GROUP_BLOCKS,
    GROUP_BYTES,
    PAGES,
    RUN,
    Frame,
    Malformed,
    Manifest,
    Page,
    Tree,
    path,
)
from target.repository.repository import Repository
from target.repository.telling import Told, untold

FETCH_BYTES = 8 << 20           # of a pack at once
FETCHES = 4                     # at once
OUT_BYTES = 4 << 20             # of frames at once
Take = Callable[[int, Page, memoryview], Awaitable[None]]


@dataclass(slots=True)
class Progress:
    """`told` is called with bytes of the volume that are passed, of how many, and bytes of data; it may raise."""

    done_bytes: int = 0
    told: Told = untold


@dataclass(frozen=True, slots=True)
class Base:
    """A backup whose snapshot a volume of the pool has."""

    manifest: Manifest
    volume_guid: str


async def restore(repository: Repository, manifest: Manifest, api_path: str, name: str, progress: Progress) -> Any:
    """A backup as a new volume with its snapshot, or as a snapshot of one that has another of its backups' snapshots.

    What the daemon says of it. LunetteError: damaged, no_space, exists, store.
    """
    client = Client(api_path)
    base = await asyncio.to_thread(_base, repository, manifest, client, name)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    receiving = asyncio.create_task(asyncio.to_thread(_receive, client, reading, name, onto=base is not None))
    try:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            await _spread(repository, manifest, base, pipe.fileno(), progress)
    except BrokenPipeError:
        pass                            # the daemon says why
    except BaseException:
        await asyncio.wait([receiving])
        receiving.exception()           # it was told
        raise
    return await receiving


def _base(repository: Repository, manifest: Manifest, client: Client, name: str) -> Base | None:
    """Of the backups whose snapshots the volume has the nearest in time: only what differs from it is restored. None: no volume.

    LunetteError exists: there is a volume of that name, and nothing that it has in common with the repository.
    """
    objects = client.get("/v1/objects")
    volume = next((row for row in objects if row["name"] == name), None)
    if volume is None:
        return None
    there = {row["guid"]: row["name"] for row in objects if row["name"].startswith(f"{name}@")}
    if manifest.guid in there:
        raise LunetteError("exists", f"there is {name} already, and it has that snapshot: {there[manifest.guid]}")
    found = [each for each in repository.manifests() if each.guid in there and each.block_bytes == volume["block_bytes"]]
    if not found:
        raise LunetteError("exists", f"there is {name} already, and the repository has a backup of none of its snapshots")
    return Base(min(found, key=lambda each: abs(each.created_s - manifest.created_s)), volume["guid"])


def _receive(client: Client, reading: int, name: str, *, onto: bool) -> Any:
    try:
        return client.command_with(reading, "restore", {"name": name, "onto": onto})
    finally:
        os.close(reading)


async def _spread(repository: Repository, manifest: Manifest, base: Base | None, writing: int, progress: Progress) -> None:
    """Write a backup, or what differs from another one, as a stream (docs/stream-format.md)."""
    from core.stream.spreading import Spreading

    frames, room = Spreading(secrets.randbits(63)), bytearray(OUT_BYTES)

    def put(data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(writing, rest):]

    def put_group(group: int, page: Page, data: memoryview) -> None:
        frames.group(group * GROUP_BLOCKS, page.runs, data)
        while n := frames.make(room):
            put(memoryview(room)[:n])
        put(frames.plain("mark", offset=min((group + 1) * GROUP_BYTES, manifest.size_bytes)))

    async def take(group: int, page: Page, data: memoryview) -> None:
        await asyncio.to_thread(put_group, group, page, data)

    await asyncio.to_thread(put, frames.plain("begin", span=manifest.size_bytes, payload=_begin(manifest, base)))
    try:
        await read(repository, manifest, take, progress, base.manifest if base else None)
    except LunetteError as error:
        await asyncio.to_thread(put, frames.plain("error", payload=json.dumps(error.as_json()["error"]).encode()))
        raise
    await asyncio.to_thread(put, frames.end(manifest.size_bytes, False))


def _begin(manifest: Manifest, base: Base | None) -> bytes:
    """Who it is: the snapshot keeps its identity, its volume is a new one, or has the base."""
    volume, _, label = manifest.name.partition("@")
    return json.dumps({
        "guid": manifest.guid, "from_guid": base.manifest.guid if base else "",
        "volume_guid": base.volume_guid if base else secrets.token_hex(16), "pool_uuid": "", "volume": volume,
        "label": label, "created_us": int(manifest.created_s * 1e6), "block_bytes": manifest.block_bytes,
        "physical_block_bytes": BLOCK_BYTES, "checksum": manifest.checksum, "labels": {}}).encode()


async def verify(repository: Repository, manifest: Manifest, progress: Progress) -> None:
    """Read a backup as a restore does. LunetteError damaged."""
    async def take(group: int, page: Page, data: memoryview) -> None:
        """They are right: that is all that is asked."""

    await read(repository, manifest, take, progress)


async def read(repository: Repository, manifest: Manifest, take: Take, progress: Progress, base: Manifest | None = None) -> None:
    """All data of a backup, verified, group by group; or what differs from `base`, holes among the runs. LunetteError damaged.

    While one group is taken, the next is read.
    """
    taking: asyncio.Future[None] | None = None
    try:
        tree = await asyncio.to_thread(repository.tree, manifest.tree)
        if len(tree.pages) != manifest.groups:
            raise Malformed("its tree is of another size")
        before = Tree.empty(0) if base is None else await asyncio.to_thread(_tree, repository, base)
        for group in range(manifest.groups):
            progress.told(group * GROUP_BYTES, manifest.size_bytes, progress.done_bytes)
            found = await asyncio.to_thread(_group, repository, manifest, tree, before, group)
            if found is not None:
                read_page = Page(found.frames, placed.with_data(found.runs))
                data = await _read_group(repository, read_page)
                if taking is not None:
                    await taking
                taking = asyncio.ensure_future(take(group, found, data))
                progress.done_bytes += placed.total_blocks(read_page.runs) * BLOCK_BYTES
        if taking is not None:
            await taking
        progress.told(manifest.size_bytes, manifest.size_bytes, progress.done_bytes)
    except Malformed as error:
        raise LunetteError("damaged", f"{manifest.name} in repository {repository.name} is damaged: {error}") from None
    finally:
        if taking is not None:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)


def _tree(repository: Repository, base: Manifest) -> Tree | None:
    """None: it cannot be read, and anything that the base has may differ."""
    try:
        return repository.tree(base.tree)
    except Malformed:
        return None


def _group(repository: Repository, manifest: Manifest, tree: Tree, before: Tree | None, group: int) -> Page | None:
    """What a group holds, or what of it differs from before. None: nothing. Malformed."""
    page = tree.pages[group]
    old = before.pages[group] if before is not None and group < len(before.pages) else None
    if before is not None and page == old:
        return None
    blocks = manifest.size_bytes // BLOCK_BYTES - group * GROUP_BLOCKS
    found = Page([], b"") if page is None else repository.page(page, tree.sizes)
    if placed.end_block(found.runs) > blocks:
        raise Malformed(f"{path(PAGES, page or '')} reaches beyond its end")
    if before is not None and old is None:
        return found
    was = _runs_before(repository, before, old, found.frames)
    return Page(found.frames, placed.changes(was, found.runs, min(blocks, GROUP_BLOCKS)))


def _runs_before(repository: Repository, before: Tree | None, page: str | None, frames: Sequence[Frame]) -> bytes:
    """What a group was, by the numbers of `frames`. Where that cannot be read: all of it something else."""
    known, other = {frame.digest: number for number, frame in enumerate(frames)}, len(frames)
    if before is not None and page is not None:
        with contextlib.suppress(Malformed):
            was = repository.page(page, before.sizes)
            numbers = array("I", (known.get(frame.digest, other) for frame in was.frames))
            return placed.renumbered(was.runs, numbers.tobytes())
    return RUN.pack(0, GROUP_BLOCKS, other, 0)


async def _read_group(repository: Repository, page: Page) -> memoryview:
    """What a group's runs hold, each block in its place. A frame is fetched once, whatever its blocks are spread over."""
    data = memoryview(bytearray(placed.end_block(page.runs) * BLOCK_BYTES))
    sorted_runs, starts = placed.by_frame(page.runs, len(page.frames))
    bounds = array("I", starts)
    runs_of = {id(frame): sorted_runs[bounds[at] * placed.RUN_BYTES:bounds[at + 1] * placed.RUN_BYTES]
               for at, frame in enumerate(page.frames)}
    ordered = sorted(page.needed(), key=lambda frame: (frame.pack.id, frame.offset_bytes))
    slots = asyncio.Semaphore(FETCHES)

    async def fetch(frames: Sequence[Frame]) -> None:
        async with slots:
            await asyncio.to_thread(_fetch, repository, [(each, runs_of[id(each)]) for each in frames], data)

    results = await asyncio.gather(*(fetch(each) for each in _fetches(ordered)), return_exceptions=True)
    for each in results:
        if isinstance(each, BaseException):
            raise each
    return data


def _fetch(repository: Repository, wanted: Sequence[tuple[Frame, bytes]], data: memoryview) -> None:
    """Frames that stand one behind the other, verified, and what they hold put where their runs say. Malformed."""
    first, last = wanted[0][0], wanted[-1][0]
    stored = repository.load(first.pack.id, first.offset_bytes, last.offset_bytes + last.stored_bytes - first.offset_bytes)
    for frame, runs in wanted:
        at = frame.offset_bytes - first.offset_bytes
        raw = repository.unpack_frame(frame, stored[at:at + frame.stored_bytes])
        if len(raw) != frame.blocks * BLOCK_BYTES:
            raise Malformed("a frame has another length than its page says")
        placed.place(runs, raw, data)


def _fetches(frames: Sequence[Frame]) -> Iterable[list[Frame]]:
    """Frames that stand one behind the other in a pack, FETCH_BYTES at most."""
    found: list[Frame] = []
    for frame in frames:
        if found and (frame.pack.id != found[-1].pack.id
                      or frame.offset_bytes != found[-1].offset_bytes + found[-1].stored_bytes
                      or frame.offset_bytes + frame.stored_bytes - found[0].offset_bytes > FETCH_BYTES):
            yield found
            found = []
        found.append(frame)
    if found:
        yield found
