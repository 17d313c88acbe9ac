"""HTTP: routes become an aiohttp application, each request checked (who, what, in which form) before its handler sees it.

Imported by the first visitor of the API (listener.py).
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import web

from target.errors import LunetteError
from target.models.checking import check, read_json
from target.models.queries import parse_query
from target.page import asset
from target.server.api.authentication import identify
from target.server.api.parts import Parts
from target.server.api.routes import Answer, Call, NoArguments, Route
from target.server.caller import CALLER, DAEMON, Identity

log = logging.getLogger("lunette.api")

MAX_BODY_BYTES = 1 << 20
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PAGE_HEADERS = {    # nothing from elsewhere, in no other's frame, and no guesses
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
                               "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache"}
CODES = {401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method", 413: "too_large"}


def make_application(parts: Parts, routes: Iterable[Route], prove: Callable[[], None]) -> web.Application:
    """`prove` is called before anything is answered: it returns only if the pool is still ours."""
    all_routes = list(routes)
    described: dict[str, Any] = {}

    @web.middleware
    async def proven(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        prove()             # after the work, as the reactors do: what was looked up may be old by now
        return response

    async def openapi(_: web.Request) -> web.Response:
        if not described:
            from target.server.api.openapi import document

            described.update(document(all_routes))
        return _json(described)

    async def unknown(request: web.Request) -> web.Response:
        parts.management.table.find(request.match_info["command"])
        raise web.HTTPNotFound

    application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_typed_errors, proven])
    for route in all_routes:
        application.router.add_route(route.method, route.path, _handler(route, parts))
    application.router.add_post("/v1/commands/{command}", unknown)
    application.router.add_get("/", page, allow_head=False)
    application.router.add_get("/page/{name}", page, allow_head=False)
    application.router.add_get("/openapi.json", openapi, allow_head=False)
    return application


async def page(request: web.Request) -> web.Response:
    """A file of the page, for anybody: what it shows it has to ask for."""
    found = asset(request.match_info.get("name", "index.html"))
    if found is None:
        raise web.HTTPNotFound
    return web.Response(body=found[0], content_type=found[1], charset="utf-8", headers=PAGE_HEADERS)


def _handler(route: Route, parts: Parts) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        identity = _admitted(route, request, parts)
        CALLER.set(identity)
        query = parse_query(route.query or NoArguments, _single(request))
        body = None if route.lines or route.body is None else check(route.body, await _body(request))
        with parts.lasting.lasts(request, identity) if route.lines else contextlib.nullcontext():
            answer = await route.handle(Call(request, identity, query, body, request.match_info))
        if isinstance(answer, web.StreamResponse):
            return answer
        return _json(answer) if not isinstance(answer, Answer) else _json(answer.value, answer.status, answer.headers)
    return handle


def _admitted(route: Route, request: web.Request, parts: Parts) -> Identity:
    """Who asks, if that one may. LunetteError unauthenticated, forbidden."""
    if route.scope is None:
        return DAEMON
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    try:
        identity = identify(transport, request.headers, parts.tokens)
    except LunetteError as error:
        more = parts.refusals.more(str(request.remote))
        if more is not None:
            log.warning("%s %s from %s is refused: %s%s", request.method, request.path, request.remote, error, more)
        raise
    for told in parts.known:
        told(request.protocol)
    identity.check_scope(route.scope)
    if route.whole:
        identity.check_whole()
    return identity


def _single(request: web.Request) -> dict[str, str]:
    """The words of the query, each once."""
    words = dict(request.query)
    if len(words) != len(request.query):
        raise LunetteError("invalid", "a parameter stands in the query more than once")
    return words


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    try:
        value = read_json(raw) if raw else {}
    except (ValueError, RecursionError):
        raise LunetteError("invalid", "the body is not JSON") from None
    if not isinstance(value, dict):
        raise LunetteError("invalid", "the body must be a JSON object")
    return value


def _json(value: Any, status: int = 200, headers: Any = None) -> web.Response:
    return web.Response(body=json.dumps(value, separators=(",", ":")).encode(), content_type="application/json", status=status,
                        headers=headers)


@web.middleware
async def _typed_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except LunetteError as error:
        headers = {"WWW-Authenticate": 'Bearer realm="lunette"'} if error.code == "unauthenticated" else None
        return _json(error.as_json(), error.http_status, headers)
    except web.HTTPException as error:
        code = CODES.get(error.status, "invalid")
        failed = LunetteError(code, error.reason or code)
        return _json(failed.as_json(), error.status, {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None)
    except ConnectionError:  # the client is gone, and so is whom the answer was for
        return web.Response(status=400)
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        return _json(LunetteError("internal", f"{type(error).__name__}: {error}").as_json(), 500)
