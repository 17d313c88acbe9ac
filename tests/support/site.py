"""A pool in memory with what sends and receives its snapshots, in this process: streams are bytes."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.device import FileDevice, create_file
from core.pool.engine import Pool
from core.wire.reactor import Reactor
from target.errors import LunetteError
from target.server.background.receiving import Receiving
from target.server.background.sending import Sending
from target.volumes.catalog import Catalog
from target.volumes.gateway import AsyncPool, ObjectInfo
from target.volumes.holds import StoredHolds
from target.volumes.replicas import Replicas

MIB = 1 << 20
BLOCK = 4096


class Site:
    """Open it and close it on a running loop."""

    def __init__(self, path: Path, *, size_bytes: int = 128 * MIB, make: bool = True) -> None:
        self.path = path
        self.now_s = time.time()
        if make:
            create_file(path, size_bytes)
            device = FileDevice(path)
            Pool.create(device, name=path.name, size_bytes=size_bytes)
            device.close()

    def open(self) -> Site:
        self.device = FileDevice(self.path)
        self.native = Pool(self.device)
        self.reactor = Reactor(self.native)
        self.reactor.start()
        self.pool = AsyncPool(self.native)
        self.pool.attach()
        self.replicas = Replicas(self.pool)
        self.holds = StoredHolds(self.pool)
        self.sending = Sending(self.pool, Catalog(self.pool), self.replicas, self.holds)
        self.receiving = Receiving(self.pool, self.replicas, published=lambda infos: None, followed=lambda number: None,
                                   now=lambda: self.now_s)
        return self

    def close(self, *, clean: bool = True) -> None:
        """Not clean: as after a kill."""
        self.pool.detach()
        self.reactor.stop()
        if clean:
            self.native.close()
        else:
            self.native.abandon()
        self.device.close()

    def copy(self, path: Path) -> Site:
        """The pool's file as it is now, in another place: the same identity, twice."""
        shutil.copyfile(self.path, path)
        return Site(path, make=False)

    # -- objects -------------------------------------------------------------------------------------------------
    def info(self, name: str) -> ObjectInfo:
        found = self.pool.lookup(name)
        assert found is not None, name
        return found

    def names(self) -> set[str]:
        return {each.name for each in self.pool.objects()}

    async def create(self, name: str, size_bytes: int = 16 * MIB, **more: Any) -> None:
        await self.pool.call("create", name=name, size_bytes=size_bytes, **more)

    async def write(self, name: str, offset_bytes: int, data: bytes) -> None:
        await self.pool.call("write", object_id=self.info(name).id, offset_bytes=offset_bytes, data=data)

    async def scatter(self, name: str, seed: int, count: int = 30) -> None:
        """Data, zeros and holes here and there."""
        r, info = random.Random(seed), self.info(name)
        for _ in range(count):
            length = r.choice((1, 1, 2, 9)) * BLOCK
            offset = r.randrange((info.size_bytes - length) // BLOCK) * BLOCK
            if r.random() < 0.2:
                await self.pool.call("unmap", object_id=info.id, offset_bytes=offset, length_bytes=length)
            else:
                await self.write(name, offset, bytes(length) if r.random() < 0.1 else r.randbytes(length))

    async def snapshot(self, name: str) -> None:
        await self.pool.call("snapshot", pairs=[(self.info(name.partition("@")[0]).id, name)])

    async def delete(self, name: str) -> None:
        info = self.info(name)
        self.holds.check_delete(info)
        await self.pool.call("delete", object_id=info.id)
        await self.replicas.forget_object(info.id)

    async def read(self, name: str) -> bytes:
        info = self.info(name)
        return b"".join([await self.pool.call("read", object_id=info.id, offset_bytes=at,
                                              length_bytes=min(4 * MIB, info.size_bytes - at))
                         for at in range(0, info.size_bytes, 4 * MIB)])

    # -- streams -------------------------------------------------------------------------------------------------
    async def send(self, name: str, since: str | None = None, *, intermediates: bool = False, resume: str | None = None,
                   compress: str = "none", limit_bytes: int = 0) -> bytes:
        """LunetteError, with `stream` as far as it came."""
        offset, fd = 0, os.memfd_create("stream")
        try:
            if resume is not None:
                chain, offset = self.sending.rest(resume)
            else:
                chain = self.sending.chain(name, since, intermediates=intermediates)
            try:
                await self.sending.send(chain, offset, fd, compress=compress, limit_bytes=limit_bytes)
            except LunetteError as error:
                error.stream = contents(fd)         # type: ignore[attr-defined]
                raise
            return contents(fd)
        finally:
            os.close(fd)

    async def receive(self, name: str, stream: bytes, **options: Any) -> dict[str, Any]:
        """LunetteError."""
        fd = os.memfd_create("stream")
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(stream)
            os.lseek(fd, 0, os.SEEK_SET)
            return await self.receiving.receive(name, fd, **options)
        finally:
            os.close(fd)

    async def refused(self, name: str, stream: bytes, **options: Any) -> LunetteError:
        """The error that receiving it ends with."""
        try:
            done = await self.receive(name, stream, **options)
        except LunetteError as error:
            return error
        raise AssertionError(f"it was received: {done}")


def contents(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def frames(stream: bytes) -> list[bytes]:
    """A stream cut at its frames."""
    found, at = [], 0
    while at < len(stream):
        length = 64 + int.from_bytes(stream[at + 48:at + 52], "little")
        found.append(stream[at:at + length])
        at += length
    return found


Change = Callable[[Site], Any]
