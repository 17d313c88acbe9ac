"""A daemon's control plane on a fake pool: real catalog, commands and API, no reactor and no network."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from target.client import Client
from target.config import ServeConfig
from target.server.api.server import ApiServer
from target.server.daemon import Daemon
from tests.support.fake_pool import FakePool


@dataclass
class Control:
    """The pieces a test looks at, and ways to drive them as a user would."""

    daemon: Daemon
    pool: FakePool
    socket: Path

    async def cli(self, *args: str, stdin: str = "") -> tuple[int, str, str]:
        """Run `lunette ARGS` in its own process: (exit status, stdout, stderr)."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "target", "--api", str(self.socket), *args, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def ok(self, *args: str, stdin: str = "") -> str:
        """Run a command that must succeed; its stdout."""
        status, out, err = await self.cli(*args, stdin=stdin)
        assert (status, err) == (0, ""), err
        return out

    async def ls(self) -> dict[str, dict[str, Any]]:
        """`lunette ls --json` by name."""
        return {row["name"]: row for row in json.loads(await self.ok("ls", "--json"))}

    @property
    def client(self) -> Client:
        return Client(str(self.socket))


async def make_control(tmp_path: Path, pool: FakePool, *, open_access: bool) -> tuple[Control, ApiServer]:
    socket = tmp_path / "api.sock"
    daemon = Daemon(ServeConfig(pool_path=tmp_path / "pool", api_path=socket, open_access=open_access))
    daemon.wire(pool)
    daemon.pool.attach()
    await daemon.api.start()
    return Control(daemon, pool, socket), daemon.api


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    pool = FakePool()
    made, api = await make_control(tmp_path, pool, open_access=True)
    yield made
    await api.stop()
    made.daemon.pool.detach()
    pool.close()


@pytest.fixture
async def closed_control(tmp_path: Path) -> AsyncIterator[Control]:
    """The same without --open."""
    pool = FakePool()
    made, api = await make_control(tmp_path, pool, open_access=False)
    yield made
    await api.stop()
    made.daemon.pool.detach()
    pool.close()
