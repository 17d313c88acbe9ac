"""Answers that are made piece by piece: long lists, batches, events. Each piece is sent before the next one is made."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Any

from aiohttp import web

from target.errors import LunetteError
from target.models.checking import check, json_text, read_json
from target.models.queries import JobQuery, Report
from target.server.api.batch import MAX_LINE_BYTES, Batch
from target.server.api.commands.table import Commands
from target.server.api.exports import Channel
from target.server.background.transfers import Transfer, Transfers

FLUSH_BYTES = 16384
NONE: Mapping[str, str] = MappingProxyType({})


async def send_rows(request: web.Request, chunks: AsyncIterator[list[dict[str, Any]]],
                    headers: Mapping[str, str] = NONE) -> web.StreamResponse:
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


async def send_batch(request: web.Request, commands: Commands, *, keep_going: bool) -> web.StreamResponse:
    """Newline-delimited commands in, newline-delimited results out, both while the other goes on."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    pending: list[bytes] = []
    pending_bytes = 0

    async def emit(row: dict[str, Any]) -> None:
        nonlocal pending_bytes
        raw = json_text(row) + b"\n"
        pending.append(raw)
        pending_bytes += len(raw)
        if pending_bytes >= FLUSH_BYTES or "error" in row:
            await flush()

    async def flush() -> None:
        nonlocal pending_bytes
        if pending:
            data = b"".join(pending)
            pending.clear()
            pending_bytes = 0
            await response.write(data)

    batch = Batch(commands, emit, keep_going=keep_going)
    await batch.run(_lines(request))
    await emit({"done": batch.done, "failures": batch.failures})
    await flush()
    return response


async def send_events(request: web.Request, events: AsyncIterator[dict[str, Any] | None],
                      allowed: Callable[[], bool]) -> web.StreamResponse:
    """Server-sent events, without end: as soon as `allowed` says no, the stream ends."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    await response.write(b": lunette\n\n")
    async for event in events:
        if not allowed():
            break
        text = ": still here\n\n" if event is None else (
            f"id: {event['id']}\nevent: {event['kind']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n")
        await response.write(text.encode())
    return response


async def send_export(request: web.Request, channel: Channel, prove: Callable[[], None]) -> web.StreamResponse:
    """Say who is held, then hold until the other end is closed."""
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    await response.prepare(request)

    prove()
    await response.write(json.dumps(channel.hello(), separators=(",", ":")).encode() + b"\n")
    with contextlib.suppress(ConnectionError):
        await channel.serve(request.content.iter_any())
    return response


async def send_job(request: web.Request, transfers: Transfers, query: JobQuery) -> web.StreamResponse:
    """Reports of work that a command does outside the daemon, one a line: a job until one says how it ended.

    The answer's first line has the job's number; the next one comes when it is over, be it by a cancel.
    """
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)

    async def say(row: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):
            await response.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")

    try:
        with transfers.run(query.kind, [query.name] if query.name else [], of="" if query.name else query.repository,
                           unit=query.unit) as transfer:
            await say({"id": transfer.job.id})
            await _follow(transfer, request)
        await say({"state": "done"})
    except LunetteError as error:
        await say(error.as_json())
    return response


async def _follow(transfer: Transfer, request: web.Request) -> None:
    """Until it is done. LunetteError when it failed."""
    with contextlib.suppress(ConnectionError):
        async for line in _lines(request):
            report = _report(line)
            transfer.told(report.done, report.total, report.moved)
            if report.state == "failed":
                raise LunetteError("aborted", report.message or "it failed")
            if report.state == "done":
                return
    raise LunetteError("aborted", "the command that did it ended")


def _report(line: bytes) -> Report:
    """LunetteError invalid."""
    try:
        document = read_json(line)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise LunetteError("invalid", "a report is a line with a JSON object")
    return check(Report, document)


async def _lines(request: web.Request) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in request.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if request.transport is None:
                raise ConnectionResetError("the connection was cut")
            if line.strip():
                yield line
        if len(rest) > MAX_LINE_BYTES:
            raise LunetteError("too_large", "a batch line is too long")
    if rest.strip():
        yield rest
