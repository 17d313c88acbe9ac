"""The served schema, walked by schemathesis: what it allows is taken, what it forbids is refused, answers are as it says.

A short walk by default; LUNETTE_SCHEMA=full walks in all phases (`make schema`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import aiohttp
import msgspec
import pytest

from target.models.answers import Error
from target.server.api.openapi import answer_type, document
from target.server.api.reading import Reading
from target.server.api.running import Running
from tests.server.api.test_secure import Secure, certificates, secure  # noqa: F401
from tests.server.conftest import Control

FULL = os.environ.get("LUNETTE_SCHEMA") == "full"
PHASES = ["--phases", "examples,coverage,fuzzing,stateful", "-n", "40"] if FULL else ["--phases", "fuzzing", "-n", "2"]
TOKEN = "that-schemathesis-walks-with"      # and would not guess, to delete it

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed (make clients)")


@pytest.mark.parametrize("scope", [None, "admin"])
async def test_the_schema_is_what_is_served(secure: Secure, scope: str | None, tmp_path: Path) -> None:  # noqa: F811
    await secure.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    await secure.daemon.commands.run("snapshot", {"names": ["v@s"]})
    header = "X-Nothing: 1" if scope is None else f"Authorization: Bearer {await secure.token(TOKEN, scope)}"
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "schemathesis"), "run", f"https://127.0.0.1:{secure.daemon.api.tcp_port}/openapi.json",
        "--tls-verify", "false", "-H", header, *PHASES, "--seed", "1", "--generation-database", "none", "--request-timeout", "60",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, "NO_COLOR": "1"})
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-5000:]


def test_every_answer_has_a_type_and_every_route_a_place(control: Control) -> None:
    parts = control.daemon.api.parts
    routes = [*Reading(parts).routes(), *Running(parts).routes()]
    made = document(routes)
    assert {(route.method.lower(), route.path) for route in routes} == {
        (method, path) for path, methods in made["paths"].items() for method in methods}
    assert len({route.name for route in routes}) == len(routes)
    assert made["components"]["schemas"]["Create"]["properties"]["size_bytes"]["maximum"] == 1 << 56


async def test_answers_are_of_the_types_that_the_schema_names(control: Control) -> None:
    """Each listing of a control plane in use, against its type; no field that the type has is missing."""
    await control.ok("batch", stdin="create v --size 1M\nsnapshot v@s\nclone v@s c\nhost create h iqn.2026-01.test:h\n"
                     "schedule create s --select '*' --cron '0 * * * *' --keep last=1\ntoken create t --scope read\nhold v@s x\n")
    parts = control.daemon.api.parts
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(control.socket))) as session:
        for route in Reading(parts).routes():
            if route.path in ("/metrics", "/v1/diff", "/v1/schedules/preview"):
                continue
            async with session.get("http://lunette" + route.path) as response:
                text = await response.text()
                assert response.status == 200, text
                msgspec.json.decode(text, type=answer_type(route.answer))
        async with session.get("http://lunette/v1/none") as response:
            msgspec.json.decode(await response.text(), type=Error)
