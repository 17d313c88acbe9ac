"""The HTTP API: statuses, typed errors, metrics, hostile bodies (target/server/api/server.py)."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from target.models.objects import Snapshot
from target.server.api.batch import Batch
from target.server.caller import DAEMON
from tests.server.conftest import Control
from tests.support.waiting import eventually


async def request(control: Control, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    async with (aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(control.socket))) as session,
                session.request(method, "http://lunette" + path, data=body) as response):
        raw = await response.read()
        return response.status, json.loads(raw) if response.content_type == "application/json" else raw.decode()


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), [
    ("GET", "/v1/nothing", None, 404, "not_found"),
    ("POST", "/v1/commands/nothing", b"{}", 400, "invalid"),
    ("POST", "/v1/commands/create", b"{", 400, "invalid"),
    ("POST", "/v1/commands/create", b"[]", 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": "v"}', 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": "v", "size_bytes": true}', 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": 5, "size_bytes": 4096}', 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": "v", "size_bytes": -4096}', 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": "v", "size_bytes": 4096, "frobnicate": 1}', 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": "v", "size_bytes": 4096, "labels": {"a": {}}}', 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": "v", "size_bytes": 4096, "labels": {"a": 1}}', 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": "v", "size_bytes": "4096"}', 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": "v", "size_bytes": 4096.5}', 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": "v", "size_bytes": 1e999}', 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": "\\ud800", "size_bytes": 4096}', 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": "v\\n", "size_bytes": 4096}', 400, "invalid"),
    ("POST", "/v1/commands/create", b'{"name": "v", "size_bytes": 4096, "checksum": 1}', 400, "invalid"),
    ("POST", "/v1/commands/create", b"[" * 100000, 400, "invalid"),
    ("POST", "/v1/commands/snapshot", b'{"names": ["v@a", "v@b"]}', 404, "not_found"),
    ("GET", "/v1/objects?limit=0", None, 400, "invalid"),
    ("GET", "/v1/objects?nme=v", None, 400, "invalid"),
    ("GET", "/v1/objects?limit=1&limit=2", None, 400, "invalid"),
    ("GET", "/v1/jobs/x", None, 400, "invalid"),
    ("GET", "/v1/jobs/1", None, 404, "not_found"),
    ("GET", "/v1/events?after=x", None, 400, "invalid"),
    ("PUT", "/v1/objects", None, 405, "method"),
    ("POST", "/v1/commands/delete", b'{"names": ["v"]}', 404, "not_found"),
    ("POST", "/v1/commands/delete", b'{"names": [[]]}', 400, "invalid"),
    ("POST", "/v1/commands/delete", b'{"names": []}', 400, "invalid"),
    ("POST", "/v1/commands/snapshot", b'{"names": ["v@"]}', 400, "invalid"),
    ("GET", "/v1/diff?a=v", None, 400, "invalid"),
    ("GET", "/v1/diff?a=v&b=v&offset=-1", None, 400, "invalid"),
    ("GET", "/v1/diff?a=v&b=v&limit=0", None, 400, "invalid"),
    ("GET", "/v1/diff?a=v&b=v&limit=%D9%A3", None, 400, "invalid"),
    ("GET", "/v1/diff?a=v&b=v", None, 404, "not_found"),
    ("GET", "/v1/objects?name=v", None, 404, "not_found"),
    ("POST", "/v1/scrub", b'{"rate_bytes": "x"}', 400, "invalid"),
    ("POST", "/v1/commands/create", b"x" * (2 << 20), 413, "too_large"),
])
async def test_errors_are_typed(control: Control, method: str, path: str, body: bytes | None, status: int, code: str) -> None:
    got, document = await request(control, method, path, body)
    assert (got, document["error"]["code"]) == (status, code)
    assert "\n" not in document["error"]["message"]


async def test_pool_errors_have_their_own_status(control: Control) -> None:
    control.pool.fail["create"] = "no_space"
    status, document = await request(control, "POST", "/v1/commands/create", b'{"name": "v", "size_bytes": 4096}')
    assert (status, document["error"]["code"]) == (409, "no_space")


async def test_metrics_have_pool_and_session_figures(control: Control) -> None:
    await request(control, "POST", "/v1/commands/create", b'{"name": "v", "size_bytes": 4096}')
    status, text = await request(control, "GET", "/metrics")
    assert status == 200
    assert 'lunette_objects{kind="volume"} 1.0' in text
    assert "lunette_sessions 0.0" in text


async def test_independent_batch_lines_overlap_and_dependent_ones_wait(control: Control) -> None:
    await control.daemon.pool.call("create", name="v", size_bytes=1 << 20)
    control.pool.hold = True
    lines = [{"line": i, "command": "snapshot", "args": {"names": [f"v@{i}"]}} for i in range(100)]
    lines.append({"line": 100, "command": "clone", "args": {"source": "v@5", "name": "c"}})
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    running = asyncio.create_task(request(control, "POST", "/v1/batch", body))
    await eventually(lambda: [op for op, _ in control.pool.started].count("snapshot") == 100)
    assert "clone" not in [op for op, _ in control.pool.started]
    control.pool.release()
    _, text = await running
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row.get("line") for row in rows] == [*range(101), None]
    assert rows[-1] == {"done": 101, "failures": 0}


async def test_a_hostile_batch_costs_only_itself(control: Control) -> None:
    rubbish = [b'{"line": 1, "command": "%s", "args": {"names": %s, "name": %s}}\n' % (command, value, value)
               for command in (b"snapshot", b"delete", b"create", b"revert")
               for value in (b"5", b"true", b"{}", b"[[]]", b"null")]
    for body in (b"\xff\xfe\n", b"{}\n", b'{"line": 1, "command": []}\n', b'{"line": 1, "command": "create", "args": 5}\n',
                 *rubbish):
        status, text = await request(control, "POST", "/v1/batch", body)
        assert status == 200
        assert json.loads(text.splitlines()[-1])["failures"] == 1
    assert (await request(control, "GET", "/v1/objects"))[0] == 200


async def test_a_limit_without_an_id_gives_the_last_events_and_behind_one_the_next(control: Control) -> None:
    for number in range(5):
        control.daemon.api.parts.events.publish("told", (), {"number": number})

    async def numbers(query: str) -> list[int]:
        status, rows = await request(control, "GET", f"/v1/events?{query}")
        assert status == 200
        return [row["data"]["number"] for row in rows]

    first = control.daemon.api.parts.events.since(None, DAEMON)[0]["id"]
    assert await numbers("limit=2") == [3, 4]
    assert await numbers(f"limit=2&after={first}") == [1, 2]
    assert await numbers(f"after={first}") == [1, 2, 3, 4]


async def test_one_name_orders_a_batch_as_a_list_does(control: Control) -> None:
    touches = control.daemon.commands.table["snapshot"].touches
    assert touches(Snapshot(names="vol@s")) == touches(Snapshot(names=["vol@s"]))
    assert touches(Snapshot(names="vol@s")).reads == {"vol"}


async def test_what_waits_in_a_batch_does_not_begin_when_its_client_is_gone(control: Control) -> None:
    """The lines under way end, and what they say is taken note of; a failure of theirs is not the event loop's."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    await control.daemon.pool.call("create", name="v", size_bytes=4096)
    lines = [{"line": 0, "command": "create", "args": {"name": "v", "size_bytes": 4096}}]               # exists: told at once
    lines += [{"line": i, "command": "delete", "args": {"names": [f"no{i}"]}} for i in range(1, 5)]
    lines += [{"line": 5, "command": "create", "args": {"name": "later", "size_bytes": 4096}},
              {"line": 6, "command": "clone", "args": {"source": "later", "name": "c"}}]

    async def fed() -> AsyncIterator[bytes]:
        for line in lines:
            yield json.dumps(line).encode()

    async def gone(row: dict[str, Any]) -> None:
        raise ConnectionResetError("the client is gone")

    with pytest.raises(ConnectionResetError):
        await Batch(control.daemon.commands, gone, keep_going=True).run(fed())
    for _ in range(20):
        await asyncio.sleep(0.01)
    gc.collect()
    assert complaints == []
    assert control.daemon.pool.lookup("c") is None


async def test_a_client_that_goes_away_is_no_error(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    line = b'{"line": 1, "command": "create", "args": {"name": "v", "size_bytes": 4096}}\n'
    head = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(line), line)
    _, writer = await asyncio.open_unix_connection(str(control.socket))
    writer.write(head)
    await writer.drain()
    for _ in range(100):
        if (await request(control, "GET", "/v1/objects?name=v"))[0] == 200:
            break
    writer.close()
    await writer.wait_closed()
    for _ in range(5):
        await request(control, "GET", "/v1/objects")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_long_listing_is_whole_and_in_order(control: Control) -> None:
    names = sorted(f"v{number}" for number in range(600))       # more than one piece, and more than are always accounted
    lines = b"".join(b'{"line": 1, "command": "create", "args": {"name": "%s", "size_bytes": 4096}}\n' % name.encode()
                     for name in names)
    await request(control, "POST", "/v1/batch", lines)
    for _ in range(2):
        status, rows = await request(control, "GET", "/v1/objects")
        assert status == 200
        assert [row["name"] for row in rows] == names
        assert all(row["exclusive_bytes"] == 0 for row in rows)
    assert (await request(control, "GET", "/v1/objects?name=v7"))[1][0]["name"] == "v7"
    assert (await request(control, "GET", "/v1/objects?name=w"))[0] == 404


def test_the_api_is_imported_without_certificates_and_leaves_others_whole() -> None:
    code = ("import asyncio, ssl; read = []; ssl.SSLContext.load_default_certs = lambda *_: read.append(1); "
            "import target.server.api.server, target.server.api.metrics; assert not read; "
            "import sys; assert sys.modules['ssl'] is ssl; import urllib.request; urllib.request.HTTPSHandler")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
