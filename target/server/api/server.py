"""The management API: HTTP on a Unix socket that only its owner may open, JSON both ways (docs/operations.md)."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from target.config import find_api_socket
from target.errors import LunetteError
from target.server.api.batch import MAX_LINE_BYTES, Batch
from target.server.api.commands.management import Management
from target.server.api.differences import Differences
from target.server.api.exports import Exports
from target.server.api.http import web
from target.server.api.listing import Listing
from target.server.api.served import Served
from target.server.background.pool_work import PoolWork
from target.server.background.schedules import Schedules
from target.server.background.scrub import Scrub
from target.server.background.trim import Trim
from target.sockets import listen_unix, remove

if TYPE_CHECKING:
    from target.server.api.metrics import Metrics

log = logging.getLogger("lunette.api")

MAX_BODY_BYTES = 1 << 20
NOTE_HEADER = "Lunette-Note"    # beside a list: what a person should know about it
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiServer:
    """Serves one daemon's API until stopped."""

    def __init__(self, api_path: Path | None, served: Served, management: Management, listing: Listing,
                 schedules: Schedules, metrics: Callable[[], Metrics], prove: Callable[[], None]) -> None:
        """`prove` is called before anything is answered: it returns only if the pool is still ours. `metrics` makes them."""
        self._api_path = api_path
        self._catalog = served.catalog
        self._commands = management.table
        self._management = management
        self._listing = listing
        self._prove = prove
        self._schedules = schedules
        self._differences = Differences(served.pool, served.catalog, served.holds)
        self._make_metrics = metrics
        self._exports = Exports(served.pool, served.catalog, served.stored_holds)
        self._metrics: Metrics | None = None
        self._scrub = Scrub(served.pool)
        self._trim = Trim(served.pool)
        self._runner: web.AppRunner | None = None
        self._path = ""

    async def start(self) -> None:
        """Listen. LunetteError in_use or invalid when the socket cannot be had."""
        self._path = str(self._api_path or find_api_socket(None, serving=True))
        sock = listen_unix(self._path, others="another daemon answers", remedy="--api chooses another place")
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_typed_errors, self._proven])
        app.add_routes([
            web.get("/v1/objects", self._objects), web.get("/v1/sessions", self._value(self._listing.sessions)),
            web.get("/v1/hosts", self._value(self._listing.hosts)), web.get("/v1/stats", self._value(self._listing.stats)),
            web.get("/v1/schedules", self._value(self._schedules.rows)), web.get("/v1/schedules/preview", self._preview),
            web.get("/v1/target", self._value(self._management.target.describe_target)),
            web.get("/v1/pool", self._value(self._listing.pool)), web.get("/v1/diff", self._diff),
            *self._worker("/v1/scrub", self._scrub), *self._worker("/v1/trim", self._trim),
            web.post("/v1/commands/{command}", self._command), web.post("/v1/export", self._export),
            web.post("/v1/batch", self._batch), web.get("/metrics", self._metrics_text),
        ])
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()
        self._trim.resume()

    async def stop(self) -> None:
        await self._scrub.stop()
        await self._trim.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            remove(self._path)

    @web.middleware
    async def _proven(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        self._prove()        # after the work, as the reactors do: what was looked up may be old by now
        return response

    def _value(self, read: Callable[[], Any]) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            return _json(read())
        return handler

    async def _objects(self, request: web.Request) -> web.StreamResponse:
        return await _rows(request, self._listing.objects(request.query.get("name")))

    async def _preview(self, request: web.Request) -> web.StreamResponse:
        runs = _number(request, "runs", 1)
        return await _rows(request, self._schedules.preview(request.query.get("name", ""), 1 if runs is None else runs))

    async def _command(self, request: web.Request) -> web.Response:
        return _json(await self._commands.run(request.match_info["command"], await _body(request)))

    async def _metrics_text(self, request: web.Request) -> web.Response:
        self._metrics = self._metrics or self._make_metrics()
        text, content_type = await self._metrics.document(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _diff(self, request: web.Request) -> web.StreamResponse:
        try:
            a, b = request.query["a"], request.query["b"]
        except KeyError:
            raise LunetteError("invalid", "diff needs a and b") from None
        offset_bytes, limit = _number(request, "offset") or 0, _number(request, "limit", 1)
        notes = [note for each in (a, b) if (note := self._management.lineage.not_its_own(self._catalog.find(each)))]
        rows = self._differences.rows(a, b, offset_bytes=offset_bytes, limit=limit, header=request.query.get("header") != "0")
        async with contextlib.aclosing(rows) as chunks:
            return await _rows(request, chunks, {NOTE_HEADER: "; ".join(notes)} if notes else {})

    async def _export(self, request: web.Request) -> web.StreamResponse:
        """Requests of a reader in, answers out, both while the other goes on; the snapshot is held meanwhile."""
        query = request.query
        if "name" not in query:
            raise LunetteError("invalid", "export needs a name")
        with self._exports.open(query["name"], query.get("since"), query.get("tag", "export")) as channel:
            response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
            await response.prepare(request)

            async def write(data: bytes) -> None:
                self._prove()       # before each answer: what was read may be old by now
                await response.write(data)

            await write(json.dumps(channel.hello(), separators=(",", ":")).encode() + b"\n")
            with contextlib.suppress(ConnectionError):
                await channel.serve(request.content.iter_any(), write)
            return response

    def _worker(self, path: str, worker: PoolWork) -> list[web.RouteDef]:
        """Work on the whole pool in the background: POST starts it, GET tells how it stands, DELETE stops it."""
        async def start(request: web.Request) -> web.Response:
            rate = (await _body(request)).get("rate_bytes", 0)
            if isinstance(rate, bool) or not isinstance(rate, int) or rate < 0:
                raise LunetteError("invalid", "rate_bytes must be a number of bytes a second")
            worker.start(rate)
            return _json(worker.status())

        async def stop(_: web.Request) -> web.Response:
            await worker.stop()
            return _json(worker.status())

        return [web.get(path, self._value(worker.status)), web.post(path, start), web.delete(path, stop)]

    async def _batch(self, request: web.Request) -> web.StreamResponse:
        """Newline-delimited commands in, newline-delimited results out, both while the other goes on."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        pending: list[bytes] = []
        pending_bytes = 0

        async def emit(row: dict[str, Any]) -> None:
            nonlocal pending_bytes
            raw = json.dumps(row, separators=(",", ":")).encode() + b"\n"
            pending.append(raw)
            pending_bytes += len(raw)
            if pending_bytes >= 16384 or "error" in row:
                await flush()

        async def flush() -> None:
            nonlocal pending_bytes
            if pending:
                data = b"".join(pending)
                pending.clear()
                pending_bytes = 0
                await response.write(data)

        batch = Batch(self._commands, emit, keep_going=request.query.get("keep_going") == "1")
        await batch.run(_lines(request))
        await emit({"done": batch.done, "failures": batch.failures})
        await flush()
        return response


async def _rows(request: web.Request, chunks: AsyncIterator[list[dict[str, Any]]],
                headers: Mapping[str, str] = MappingProxyType({})) -> web.StreamResponse:
    """A list that is made piece by piece, sent while it is made. When it breaks off, its last row is the error."""
    rows = await anext(chunks, None)  # an error before anything is sent is an HTTP error
    response = web.StreamResponse(headers={"Content-Type": "application/json", **headers})
    await response.prepare(request)
    lead = b"["
    while rows is not None:
        if rows:
            await response.write(lead + json.dumps(rows, separators=(",", ":"))[1:-1].encode())
            lead = b",\n"
        try:
            rows = await anext(chunks, None)
        except LunetteError as error:
            rows = None
            await response.write(lead + json.dumps(error.as_json(), separators=(",", ":")).encode())
            lead = b",\n"
    await response.write(b"[]\n" if lead == b"[" else b"]\n")
    return response


def _number(request: web.Request, name: str, least: int = 0) -> int | None:
    """A number of the query; None without it. LunetteError invalid."""
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) >= least):
        raise LunetteError("invalid", f"{name} must be a number, {least} or more")
    return int(text)


async def _lines(request: web.Request) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in request.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > MAX_LINE_BYTES:
            raise LunetteError("too_large", "a batch line is too long")
    if rest.strip():
        yield rest


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    try:
        document = json.loads(raw) if raw else {}
    except ValueError:
        raise LunetteError("invalid", "the body is not JSON") from None
    if not isinstance(document, dict):
        raise LunetteError("invalid", "the body must be a JSON object")
    return document


def _json(value: Any) -> web.Response:
    return web.Response(body=json.dumps(value, separators=(",", ":")).encode(), content_type="application/json")


@web.middleware
async def _typed_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except LunetteError as error:
        return web.Response(status=error.http_status, text=json.dumps(error.as_json()), content_type="application/json")
    except web.HTTPException as error:
        code = {404: "not_found", 413: "too_large"}.get(error.status, "invalid")
        failed = LunetteError(code, error.reason or code)
        return web.Response(status=error.status, text=json.dumps(failed.as_json()), content_type="application/json")
    except ConnectionError:  # the client is gone, and so is whom the answer was for
        return web.Response(status=400)
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        failed = LunetteError("internal", f"{type(error).__name__}: {error}")
        return web.Response(status=500, text=json.dumps(failed.as_json()), content_type="application/json")
