"""Routes that look: listings, the pool, jobs, events, the audit trail, whether the daemon is well."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from target.models.queries import Difference, EventsQuery, ObjectPage, Page, Preview
from target.server.api.parts import Parts
from target.server.api.routes import Answer, Call, Route, next_link, paged, read_cursor
from target.server.command import Json
from target.version import VERSION
from target.volumes.gateway import POOL_FORMAT

if TYPE_CHECKING:
    from target.server.api.metrics import Metrics

NOTE_HEADER = "Lunette-Note"    # beside a list: what a person should know about it
SSE = "text/event-stream"


class Reading:
    """Handlers that change nothing."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._metrics: Metrics | None = None

    def routes(self) -> list[Route]:
        parts, listing = self._parts, self._parts.listing
        return [
            Route("GET", "/v1/objects", "objects", "Volumes, snapshots and clones, by name.", self._objects, "list[Object]",
                  query=ObjectPage),
            Route("GET", "/v1/sessions", "sessions", "Who is logged in, oldest first.",
                  _page(listing.sessions, lambda row: f"{row['started_s']:020.6f}-{row['tsih']:05}"), "list[SessionRow]",
                  whole=True, query=Page),
            Route("GET", "/v1/hosts", "hosts", "Hosts, never their secrets.", _page(listing.hosts, _named), "list[HostRow]",
                  whole=True, query=Page),
            Route("GET", "/v1/stats", "stats", "Counters by object, of the pool and of the data plane.", _value(listing.stats),
                  "Stats"),
            Route("GET", "/v1/schedules", "schedules", "Schedules, by name.", _page(parts.schedules.rows, _named),
                  "list[ScheduleRow]", whole=True, query=Page),
            Route("GET", "/v1/schedules/preview", "schedule_preview", "What the next runs of a schedule would take and delete.",
                  self._preview, "list[Foreseen]", whole=True, query=Preview),
            Route("GET", "/v1/repositories", "repositories", "Where backups are kept, by name.",
                  _page(parts.management.repositories.rows, _named), "list[RepositoryRow]", whole=True, query=Page),
            Route("GET", "/v1/peers", "peers", "Other daemons, by name: what each may.", _page(parts.mirroring.peer_rows, _named),
                  "list[PeerRow]", whole=True, query=Page),
            Route("GET", "/v1/mirrors", "mirrors", "Mirrored volumes, by name: how far behind each replica is.",
                  self._mirrors, "list[MirrorRow]", whole=True, query=Page),
            Route("GET", "/v1/target", "target", "The target: portals, groups, redirects.",
                  _value(parts.management.target.describe_target), "TargetRow", whole=True),
            Route("GET", "/v1/pool", "pool", "The pool: state, space, damage.", _value(listing.pool), "PoolRow", whole=True),
            Route("GET", "/v1/diff", "diff", "Where two objects may differ.", self._diff, "list[DiffRow]", query=Difference),
            Route("GET", "/v1/events", "events", "What happened; as a stream for who accepts text/event-stream.", self._events,
                  "list[EventRow]", query=EventsQuery, media=("application/json", SSE)),
            Route("GET", "/v1/audit", "audit", "Who did what, oldest first.",
                  _page(parts.audit.entries, lambda row: f"{row['id']:016}"), "list[AuditRow]", scope="admin", whole=True,
                  query=Page),
            Route("GET", "/v1/tokens", "tokens", "Tokens, never what they are.", _page(parts.tokens.rows, _named),
                  "list[TokenRow]", scope="admin", whole=True, query=Page),
            Route("GET", "/metrics", "metrics", "For Prometheus.", self._metrics_text, media=("text/plain",)),
            Route("GET", "/v1/version", "version", "What this is.", self._version, "Version"),
            Route("GET", "/healthz", "healthz", "Whether the daemon lives.", self._healthy, "Health", scope=None),
            Route("GET", "/readyz", "readyz", "Whether it serves: 503 when the pool takes no writes, or it stops.", self._ready,
                  "Health", scope=None, statuses=(200, 503)),
        ]

    async def _objects(self, call: Call) -> Any:
        from target.server.api.pieces import send_rows

        query: ObjectPage = call.query
        if query.name is not None:
            call.identity.check_names([query.name])
        rows = self._parts.listing.objects(query.name, after=read_cursor(query), limit=query.limit)
        if query.limit is None:
            return await send_rows(call.request, rows)
        found = [row async for chunk in rows for row in chunk]
        return Answer(found, next_link(call, found[-1]["name"]) if len(found) == query.limit else {})

    async def _preview(self, call: Call) -> Any:
        from target.server.api.pieces import send_rows

        return await send_rows(call.request, self._parts.schedules.preview(call.query.name, call.query.runs))

    async def _mirrors(self, call: Call) -> Any:
        await self._parts.mirroring.look()
        return paged(call, self._parts.mirroring.rows(), _named)

    async def _diff(self, call: Call) -> Any:
        from target.server.api.pieces import send_rows

        query: Difference = call.query
        call.identity.check_names([query.a, query.b])
        find, lineage = self._parts.served.catalog.find, self._parts.management.lineage
        notes = [note for each in (query.a, query.b) if (note := lineage.not_its_own(find(each)))]
        rows = self._parts.differences.rows(query.a, query.b, offset_bytes=query.offset, limit=query.limit,
                                            header=query.header == "1")
        async with contextlib.aclosing(rows) as chunks:
            return await send_rows(call.request, chunks, {NOTE_HEADER: "; ".join(notes)} if notes else {})

    async def _events(self, call: Call) -> Any:
        query: EventsQuery = call.query
        after = query.after or call.request.headers.get("Last-Event-ID") or None
        if SSE not in call.request.headers.get("Accept", ""):
            return self._parts.events.since(after, call.identity, query.limit)
        from target.server.api.pieces import send_events

        events: AsyncIterator[Json | None] = self._parts.events.follow(after, call.identity)
        return await send_events(call.request, events, lambda: self._parts.lasting.still(call.request, call.identity))

    async def _metrics_text(self, call: Call) -> Any:
        from aiohttp import web

        self._metrics = self._metrics or self._parts.metrics()
        await self._parts.mirroring.look()
        text, content_type = await self._metrics.document(call.request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _version(self, call: Call) -> Json:
        return {"version": VERSION, "api": "v1", "pool_format": POOL_FORMAT}

    async def _healthy(self, call: Call) -> Json:
        return {"status": "ok"}

    async def _ready(self, call: Call) -> Any:
        why = self._parts.unready()
        return Answer({"status": "unready", "why": why}, status=503) if why else {"status": "ok"}


def _named(row: Json) -> str:
    name: str = row["name"]
    return name


def _value(read: Callable[[], Any]) -> Callable[[Call], Awaitable[Any]]:
    async def handle(call: Call) -> Any:
        return read()
    return handle


def _page(read: Callable[[], Any], key: Callable[[Json], str]) -> Callable[[Call], Awaitable[Any]]:
    async def handle(call: Call) -> Any:
        return paged(call, read(), key)
    return handle
