"""A snapshot that a daemon holds for an export: the other end of the API's export channel (docs/export.md).

The daemon holds it until `close`, or until this process is gone.
"""

from __future__ import annotations

import asyncio

from target.export.channel import Channel


class Source:
    """A held snapshot. `open` it, `close` it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.hello = channel.hello
        self.ended = asyncio.Event()    # the daemon is gone, or `close` was called
        self._task = asyncio.create_task(self._watch(), name="export channel")

    @classmethod
    async def open(cls, api_path: str, name: str, since: str | None, tag: str) -> Source:
        """Have the daemon hold NAME@LABEL, and what it is compared with. LunetteError: what the daemon says, unreachable."""
        query = {"name": name, "tag": tag, **({"since": since} if since is not None else {})}
        return cls(await Channel.open(api_path, "/v1/export", query))

    async def close(self) -> None:
        """Let go of the snapshot: the daemon has, when this returns."""
        self.ended.set()
        await self._channel.finish(self._task)

    @property
    def size_bytes(self) -> int:
        return int(self.hello["object"]["size_bytes"])

    async def _watch(self) -> None:
        try:
            await self._channel.ended()
        finally:
            self.ended.set()
