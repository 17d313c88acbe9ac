"""A snapshot as a daemon sends it to a backup: its stream on a pipe, in chunks (docs/repositories.md).

The daemon's native pump reads and sends, `core.stream.gathering` takes; what passes through Python are chunks of up to 2 MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from target.client import Client
from target.errors import LunetteError
from target.repository.format import FRAME_BLOCKS, GROUP_BLOCKS

if TYPE_CHECKING:
    from core.stream.gathering import Gathered


@dataclass(frozen=True, slots=True)
class Source:
    """One snapshot of a daemon's, as its listing has it."""

    api_path: str
    row: dict[str, Any]
    repository: str             # for which it is held while it is read

    @property
    def name(self) -> str:
        return str(self.row["name"])

    @property
    def size_bytes(self) -> int:
        return int(self.row["size_bytes"])

    async def chunks(self, since: str | None, first_byte: int, end_byte: int) -> AsyncGenerator[Gathered]:
        """What differs from another snapshot, or all that is mapped, of a range, in order.

        LunetteError: what the daemon says; io_read, when it cannot be read.
        """
        from core.stream.gathering import Gathered

        wanted = {"name": self.name, "since": since, "offset_bytes": first_byte, "end_bytes": end_byte,
                  "repository": self.repository}
        async with _Stream(self.api_path, {key: value for key, value in wanted.items() if value is not None}) as stream:
            while isinstance(taken := await stream.take(), Gathered) or taken.type == "begin":
                if isinstance(taken, Gathered):
                    yield taken
            if taken.type == "error":
                raise _told(self.name, taken.payload)
            await stream.over()


class _Stream:
    """The pipe between the two, and the command that fills it."""

    def __init__(self, api_path: str, wanted: dict[str, Any]) -> None:
        from core.stream.gathering import Gathering

        self._client, self._wanted = Client(api_path), wanted
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC)
        self._cancel = os.eventfd(0, os.EFD_CLOEXEC)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="lunette-backup")
        self._gathering = Gathering(self._reading, self._cancel, group_blocks=GROUP_BLOCKS, chunk_blocks=FRAME_BLOCKS)
        self._command: asyncio.Future[None] | None = None

    async def __aenter__(self) -> _Stream:
        self._gathering.open()
        self._command = self._on_thread(self._ask)
        return self

    async def __aexit__(self, *_: object) -> None:
        os.eventfd_write(self._cancel, 1)
        await asyncio.shield(self._on_thread(self._gathering.close))
        os.close(self._reading)             # the daemon's pump sees it, and its command ends
        assert self._command is not None
        with contextlib.suppress(LunetteError):
            await asyncio.shield(self._command)
        self._threads.shutdown()
        os.close(self._cancel)

    async def take(self) -> Any:
        """The next chunk, or a frame that is to be decided about. LunetteError."""
        from core.stream.frame import StreamError

        try:
            return await asyncio.shield(self._on_thread(self._gathering.take))
        except (StreamError, OSError) as error:
            await self.over()               # why the daemon gave up counts
            raise LunetteError("aborted", f"what the daemon sends breaks off: {error}") from None

    async def over(self) -> None:
        """The command has ended. LunetteError: what it says."""
        assert self._command is not None
        await asyncio.shield(self._command)

    def _ask(self) -> None:
        try:
            self._client.command_with(self._writing, "backup_read", self._wanted)
        except BaseException:
            os.eventfd_write(self._cancel, 1)
            raise
        finally:
            os.close(self._writing)

    def _on_thread(self, work: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work)


def _told(name: str, payload: bytes) -> LunetteError:
    try:
        why = str(json.loads(payload)["message"])[:500]
    except (ValueError, KeyError, TypeError):
        why = "it does not say why"
    return LunetteError("io_read", f"{name} cannot be read: {why}")
