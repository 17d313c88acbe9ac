"""A daemon's control plane on the real engine, in process, and repositories whose stores do as a test wants."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.device import FileDevice, create_file
from core.pool.engine import Pool
from core.wire.reactor import Reactor
from target.config import ServeConfig
from target.repository.format import Manifest
from target.repository.jobs import Done, back_up_volume
from target.repository.repository import Repository
from target.repository.restore import Progress, restore
from target.repository.sealing import make_key_file
from target.repository.store import Stat, Store
from target.server.daemon import Daemon

MIB = 1 << 20
SIZE = 8 * MIB


class FaultyStore(Store):
    """A directory that a test watches and spoils: `before` may raise or wait, `lose` says which puts are only acknowledged."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.puts: list[str] = []
        self.gets: list[str] = []
        self.before: Callable[[str, str], None] = lambda op, path: None
        self.lose: Callable[[str], bool] = lambda path: False

    def put(self, path: str, data: bytes, *, new: bool = False) -> bool:
        self.before("put", path)
        self.puts.append(path)
        return True if self.lose(path) else super().put(path, data, new=new)

    def get(self, path: str) -> bytes | None:
        self.before("get", path)
        self.gets.append(path)
        return super().get(path)

    def get_range(self, path: str, offset_bytes: int, length_bytes: int) -> bytes | None:
        self.before("get", path)
        return super().get_range(path, offset_bytes, length_bytes)

    def list(self, prefix: str) -> dict[str, Stat]:
        self.before("list", prefix)
        return super().list(prefix)

    def file(self, path: str) -> Path:
        return Path(self.url) / path


class Gate:
    """Holds an operation of a store until it is opened."""

    def __init__(self, op: str, prefix: str) -> None:
        self._op, self._prefix = op, prefix
        self.reached, self._open = threading.Event(), threading.Event()

    def __call__(self, op: str, path: str) -> None:
        if op == self._op and path.startswith(self._prefix):
            self.reached.set()
            assert self._open.wait(30)

    def open(self) -> None:
        self._open.set()


@dataclass
class Lab:
    """Volumes of one pool, driven by the test; `contents` is what each snapshot must hold."""

    place: Path
    api: str
    directory: Path
    contents: dict[str, bytes] = field(default_factory=dict)

    async def start(self) -> None:
        """A daemon on the pool, its commands and nothing else."""
        self.device = FileDevice(self.place)
        self.pool = Pool(self.device)
        self.reactor = Reactor(self.pool)
        self.reactor.start()
        self.daemon = Daemon(ServeConfig(pool_path=self.place, api_path=Path(self.api), open_access=True))
        self.daemon.wire(self.pool)
        self.daemon.pool.attach()
        await self.daemon.frozen.start()
        await self.daemon.api.start()
        self.daemon.descriptors.start(self.api)

    async def kill(self) -> None:
        """Cut off whoever asks for something; the pool is as after a kill -9."""
        self.daemon.descriptors.stop()
        await self.daemon.streams.stop()
        await self.daemon.api.stop()
        await self.daemon.frozen.stop()
        self.daemon.pool.detach()
        self.reactor.stop()
        self.pool.abandon()
        self.device.close()

    async def call(self, op: str, **args: Any) -> Any:
        return await self.daemon.pool.call(op, **args)

    def id(self, name: str) -> int:
        info = self.daemon.pool.lookup(name)
        assert info is not None, name
        return info.id

    async def create(self, name: str, size: int = SIZE) -> None:
        await self.daemon.commands.run("create", {"name": name, "size_bytes": size})

    async def read(self, name: str) -> bytes:
        info = self.daemon.pool.lookup(name)
        assert info is not None, name
        data: bytes = await self.call("read", object_id=info.id, offset_bytes=0, length_bytes=info.size_bytes)
        return data

    async def scribble(self, name: str, source: random.Random, times: int = 6) -> None:
        """Write and unmap here and there."""
        blocks = len(await self.read(name)) // 4096
        for _ in range(times):
            at, count = source.randrange(blocks), source.choice((1, 1, 3, 100))
            count = min(count, blocks - at)
            if source.random() < 0.7:
                await self.call("write", object_id=self.id(name), offset_bytes=at * 4096, data=source.randbytes(count * 4096))
            else:
                await self.call("unmap", object_id=self.id(name), offset_bytes=at * 4096, length_bytes=count * 4096)

    async def snapshot(self, name: str) -> None:
        await self.daemon.commands.run("snapshot", {"names": [name]})
        self.contents[name] = await self.read(name)

    async def delete(self, name: str) -> None:
        await self.daemon.commands.run("delete", {"names": [name]})

    async def back_up(self, repository: Repository, name: str, **options: Any) -> Done:
        objects = [row async for rows in self.daemon.listing.objects() for row in rows]
        return await back_up_volume(repository, self.api, objects, "lab", name, **options)

    async def restored(self, repository: Repository, manifest: Manifest, name: str = "again") -> bytes:
        """What a restore gives; the volume is gone then."""
        await restore(repository, manifest, self.api, name, Progress())
        data = await self.read(name)
        info = self.daemon.pool.lookup(name)
        assert info is not None
        assert info.mapped_bytes <= sum(1 for at in range(0, len(data), 4096) if any(data[at:at + 4096])) * 4096 + 64 * 4096
        label = manifest.name.partition("@")[2]
        assert await self.read(f"{name}@{label}") == data
        await self.daemon.commands.run("delete", {"names": [f"{name}@{label}", name]})
        return data

    async def check_all(self, repository: Repository) -> None:
        """Every backup restores to what its snapshot held."""
        for manifest in repository.manifests():
            assert await self.restored(repository, manifest) == self.contents[manifest.name], manifest.name

    def repository(self, name: str = "r", *, encrypted: bool = False) -> Repository:
        """A new one, in a directory whose store is a FaultyStore."""
        key = None
        if encrypted:
            key = str(self.directory / f"{name}.key")
            make_key_file(key)
        return Repository.open(FaultyStore(str(self.directory / name), make=True), name, key, make=True)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    place = Path(f"/dev/shm/lunette-lab-{os.getpid()}-{secrets.token_hex(4)}")
    create_file(place, 256 * MIB)
    device = FileDevice(place)
    Pool.create(device, name="lab", size_bytes=256 * MIB, journal_blocks=512, area_blocks=1024)
    device.close()
    made = Lab(place, str(tmp_path / "api.sock"), tmp_path)
    await made.start()
    yield made
    await made.kill()
    await asyncio.to_thread(place.unlink)


@pytest.fixture
def source() -> random.Random:
    return random.Random(17)


def store_of(repository: Repository) -> FaultyStore:
    assert isinstance(repository.store, FaultyStore)
    return repository.store
