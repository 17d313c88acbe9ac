"""Commands that send and receive snapshots on a descriptor that the client handed over."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from target.errors import LunetteError
from target.models.streams import BackupRead, NbdServe, Receive, ReceiveAbort, ReceiveStatus, Restore, Send
from target.server.api.descriptors import Descriptors, while_there
from target.server.api.exports import Exports
from target.server.background.receiving import Receiving
from target.server.background.sending import Sending
from target.server.background.transfers import Transfers
from target.server.command import Command, Json, touches
from target.volumes.gateway import AsyncPool
from target.volumes.mirrors import Mirrors


class StreamCommands:
    """Streams, as commands. Each runs for as long as its stream does."""

    def __init__(self, pool: AsyncPool, mirrors: Mirrors, sending: Sending, receiving: Receiving,
                 descriptors: Descriptors, transfers: Transfers, exports: Exports,
                 made: Callable[[int], Awaitable[Json]]) -> None:
        """`made` is told of a volume that was restored; what it says of it is the answer."""
        self._pool = pool
        self._mirrors = mirrors
        self._sending = sending
        self._receiving = receiving
        self._descriptors = descriptors
        self._transfers = transfers
        self._exports = exports
        self._made = made
        self._stopping = False
        self._running: set[asyncio.Task[Json]] = set()

    async def stop(self) -> None:
        """Cut off what runs: receivers keep what they have."""
        self._stopping = True
        for each in self._running:
            each.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def commands(self) -> list[Command]:
        return [
            Command("send", Send, self.send),
            Command("receive", Receive, self.receive, touches=touches(writes=("name",))),
            Command("backup_read", BackupRead, self.backup_read),
            Command("nbd_serve", NbdServe, self.nbd_serve),
            Command("restore", Restore, self.restore, touches=touches(writes=("name",))),
            Command("receive_status", ReceiveStatus, self.status, scope="read", touches=touches(reads=("name",))),
            Command("receive_abort", ReceiveAbort, self.abort, touches=touches(writes=("name",))),
        ]

    async def send(self, args: Send) -> Json:
        if (args.name is None) == (args.resume is None) or (args.resume and (args.since or args.intermediates)):
            raise LunetteError("invalid", "send wants the name of a snapshot, or --resume with a token and nothing else")
        async with self._descriptors.take(args.descriptor) as (fd, client):
            offset = 0
            if args.resume is not None:
                chain, offset = self._sending.rest(args.resume)
            else:
                assert args.name is not None
                chain = self._sending.chain(args.name, args.since, intermediates=args.intermediates)
            with self._transfers.run("send", [each.name for each in reversed(chain) if each is not None]) as transfer:
                return await self._run(client, self._sending.send(chain, offset, fd, compress=args.compress,
                                                                    limit_bytes=args.limit_bytes, told=transfer.told))

    async def receive(self, args: Receive) -> Json:
        volume = self._pool.lookup(args.name)
        if volume is not None:
            self._mirrors.check_change(volume, "received into")
        async with self._descriptors.take(args.descriptor) as (fd, client):
            with self._transfers.run("receive", [args.name]) as transfer:
                return await self._run(client, self._receiving.receive(
                    args.name, fd, transfer.told, resync=args.resync))

    async def backup_read(self, args: BackupRead) -> Json:
        """No job: the backup is one, and says so itself."""
        async with self._descriptors.take(args.descriptor) as (fd, client):
            return await self._run(client, self._sending.send_range(
                args.name, args.since, args.offset_bytes, args.end_bytes, fd, f"repo:{args.repository}"))

    async def nbd_serve(self, args: NbdServe) -> Json:
        """No job: it lasts as long as its client likes."""
        async with self._descriptors.take(args.descriptor) as (fd, client):
            return await self._run(client, self._exports.serve(
                args.name, args.since, fd, structured=args.structured, contexts=[args.allocation, args.changes],
                rest=bytes.fromhex(args.rest)))

    async def restore(self, args: Restore) -> Json:
        there = self._pool.lookup(args.name)
        async with self._descriptors.take(args.descriptor) as (fd, client):
            if there is not None and not args.onto:
                raise LunetteError("exists", f"there is {args.name} already")
            if there is not None:
                self._mirrors.check_change(there, "restored into")
            with self._transfers.run("restore", [args.name]) as transfer:
                found = await self._run(client, self._receiving.receive(args.name, fd, transfer.told, keep=False, follow=False))
            volume = self._pool.lookup(args.name)
            return {**found, **(await self._made(volume.id) if volume is not None and there is None else {})}

    async def _run(self, client: socket.socket, work: Coroutine[Any, Any, Json]) -> Json:
        """As long as the client is there, and the daemon. LunetteError aborted."""
        task = asyncio.ensure_future(while_there(client, work))
        self._running.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self._stopping:
                raise LunetteError("aborted", "the daemon stops") from None
            await asyncio.wait([task])              # it is cancelled, too; what it works on is closed behind it
            raise
        finally:
            self._running.discard(task)
            work.close()                            # where it was cut off before its first step

    async def status(self, args: ReceiveStatus) -> list[Json]:
        return self._receiving.status(args.name)

    async def abort(self, args: ReceiveAbort) -> Any:
        return {"name": args.name, "aborted": await self._receiving.abort(args.name)}
