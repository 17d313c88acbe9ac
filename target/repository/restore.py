"""Restores: a backup into a new volume, which appears whole or not at all; and the same reads without a volume, to verify."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from target.errors import LunetteError
from target.export.channel import Channel
from target.records import WRITE, WRITE_MOST_BYTES, WRITTEN, Outcome, Step
from target.repository.format import BLOCK_BYTES, GROUP_BLOCKS, GROUP_BYTES, PAGES, Frame, Malformed, Manifest, Run, path
from target.repository.repository import Repository
from target.repository.telling import Told, untold

FETCH_BYTES = 8 << 20           # of a pack at once
FETCHES = 4                     # at once
TAKES = 8                       # records at once
Take = Callable[[int, Sequence[memoryview]], Awaitable[None]]


@dataclass(slots=True)
class Progress:
    """`told` is called with bytes of the volume that are passed, of how many, and bytes of data; it may raise."""

    done_bytes: int = 0
    told: Told = untold


class Sink:
    """A new volume that a daemon keeps hidden until it is published."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._cookies = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._lost = False
        self._task = asyncio.create_task(self._receive(), name="import channel")

    @classmethod
    async def open(cls, api_path: str, name: str, manifest: Manifest) -> Sink:
        """LunetteError: what the daemon says, unreachable."""
        return cls(await Channel.open(api_path, "/v1/import", {
            "name": name, "size_bytes": str(manifest.size_bytes), "block_bytes": str(manifest.block_bytes),
            "checksum": str(int(manifest.checksum))}))

    async def write(self, offset_bytes: int, parts: Sequence[memoryview]) -> None:
        """Neighbouring data, as many bytes as one record may have. LunetteError: no_space, io_write, unreachable."""
        await self._ask(Step.DATA, offset_bytes, parts)

    async def publish(self) -> str:
        """Make it visible; the URL of its LUN, if it has one. LunetteError."""
        return await self._ask(Step.PUBLISH, 0, ())

    async def close(self) -> None:
        """What was not published is gone when this returns."""
        await self._channel.finish(self._task)

    async def _ask(self, step: Step, offset_bytes: int, parts: Sequence[memoryview]) -> str:
        if self._lost:
            raise LunetteError("unreachable", "the daemon is gone")
        cookie = next(self._cookies) & 0xFFFFFFFF
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[cookie] = future
        try:
            self._channel.send(WRITE.pack(step, cookie, offset_bytes, sum(map(len, parts))), *parts)
            await self._channel.drain()
            return await future
        except ConnectionError:
            raise LunetteError("unreachable", "the daemon is gone") from None
        finally:
            self._waiting.pop(cookie, None)
            if future.done() and not future.cancelled():
                future.exception()      # it is known: nobody need be told that nobody asked

    async def _receive(self) -> None:
        try:
            while True:
                cookie, outcome, length = WRITTEN.unpack(await self._channel.take(WRITTEN.size))
                text = (await self._channel.take(length)).decode(errors="replace")
                future = self._waiting.get(cookie)
                if future is not None and not future.done():
                    if outcome == Outcome.OK:
                        future.set_result(text)
                    else:
                        code = "no_space" if outcome == Outcome.NO_SPACE else "io_write"
                        future.set_exception(LunetteError(code, text))
        except (OSError, EOFError, ValueError):
            pass
        finally:
            self._lost = True
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(LunetteError("unreachable", "the daemon is gone"))


async def restore(repository: Repository, manifest: Manifest, api_path: str, name: str, progress: Progress) -> str:
    """A backup as a new volume; the URL of its LUN, if it has one. LunetteError: damaged, no_space, exists, store ..."""
    sink = await Sink.open(api_path, name, manifest)
    try:
        await read(repository, manifest, sink.write, progress)
        return await sink.publish()
    finally:
        await sink.close()


async def read(repository: Repository, manifest: Manifest, take: Take, progress: Progress) -> None:
    """All data of a backup, verified, in any order. While one group is taken, the next is read. LunetteError damaged."""
    taking: asyncio.Future[None] | None = None
    try:
        tree = await asyncio.to_thread(repository.tree, manifest.tree)
        if len(tree.pages) != manifest.groups:
            raise Malformed("its tree is of another size")
        for group, page in enumerate(tree.pages):
            progress.told(group * GROUP_BYTES, manifest.size_bytes, progress.done_bytes)
            if page is not None:
                runs = await asyncio.to_thread(repository.page, page, tree.sizes)
                if runs[-1].block + runs[-1].blocks > manifest.size_bytes // BLOCK_BYTES - group * GROUP_BLOCKS:
                    raise Malformed(f"{path(PAGES, page)} reaches beyond its end")
                data = await _read_group(repository, runs)
                if taking is not None:
                    await taking
                taking = asyncio.ensure_future(_take_group(group, runs, data, take, progress))
        if taking is not None:
            await taking
    except Malformed as error:
        raise LunetteError("damaged", f"{manifest.name} in repository {repository.name} is damaged: {error}") from None
    finally:
        if taking is not None:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)


async def _read_group(repository: Repository, runs: Sequence[Run]) -> memoryview:
    """What a group's runs hold, each block in its place. A frame is fetched once, whatever its blocks are spread over."""
    data = memoryview(bytearray((runs[-1].block + runs[-1].blocks) * BLOCK_BYTES))
    of_frame: dict[Frame, list[Run]] = {}
    for run in runs:
        of_frame.setdefault(run.frame, []).append(run)
    ordered = sorted(of_frame, key=lambda frame: (frame.pack.id, frame.offset_bytes))
    slots = asyncio.Semaphore(FETCHES)

    async def fetch(frames: Sequence[Frame]) -> None:
        async with slots:
            await asyncio.to_thread(_fetch, repository, frames, of_frame, data)

    results = await asyncio.gather(*(fetch(each) for each in _fetches(ordered)), return_exceptions=True)
    for each in results:
        if isinstance(each, BaseException):
            raise each
    return data


def _fetch(repository: Repository, frames: Sequence[Frame], of_frame: dict[Frame, list[Run]], data: memoryview) -> None:
    """Frames that stand one behind the other, verified, and what they hold put where it belongs. Malformed."""
    start = frames[0].offset_bytes
    stored = repository.load(frames[0].pack.id, start, frames[-1].offset_bytes + frames[-1].stored_bytes - start)
    for frame in frames:
        at = frame.offset_bytes - start
        raw = repository.unpack_frame(frame, stored[at:at + frame.stored_bytes])
        if len(raw) != frame.blocks * BLOCK_BYTES:
            raise Malformed("a frame has another length than its page says")
        for run in of_frame[frame]:
            first, length = run.first * BLOCK_BYTES, run.blocks * BLOCK_BYTES
            data[run.block * BLOCK_BYTES:run.block * BLOCK_BYTES + length] = raw[first:first + length]


async def _take_group(group: int, runs: Sequence[Run], data: memoryview, take: Take, progress: Progress) -> None:
    """Give what is mapped, neighbours together."""
    slots = asyncio.Semaphore(TAKES)

    async def give(start: int, stop: int) -> None:
        try:
            await take(group * GROUP_BLOCKS * BLOCK_BYTES + start, [data[start:stop]])
            progress.done_bytes += stop - start
        finally:
            slots.release()

    try:
        async with asyncio.TaskGroup() as giving:
            for start, stop in _pieces(runs):
                await slots.acquire()
                giving.create_task(give(start, stop))
    except BaseExceptionGroup as group:         # the others were cancelled because of the first
        raise group.exceptions[0] from None


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


def _pieces(runs: Sequence[Run]) -> Iterator[tuple[int, int]]:
    """Bytes of a group that are mapped, first and behind the last, in pieces that one record may have."""
    start = end = runs[0].block
    for run in [*runs, None]:
        if run is not None and run.block == end:
            end += run.blocks
            continue
        for at in range(start * BLOCK_BYTES, end * BLOCK_BYTES, WRITE_MOST_BYTES):
            yield at, min(at + WRITE_MOST_BYTES, end * BLOCK_BYTES)
        if run is not None:
            start, end = run.block, run.block + run.blocks
