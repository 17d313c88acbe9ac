"""What a route of the API is: a row from which come its handler, its checks and its part of /openapi.json."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from target.models.forms import Arguments
from target.models.queries import Page
from target.server.caller import Identity
from target.server.command import Json, Scope

if TYPE_CHECKING:
    from aiohttp import web

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoArguments(Arguments):
    """Of a route that takes none."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request, checked: who asks, the query and the body as instances of their models, the parts of the path."""

    request: web.Request
    identity: Identity
    query: Any
    body: Any
    path: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON value with headers of its own, or with another status than 200."""

    value: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. `answer` names a type of `target/models/answers.py`, such as list[Object].

    `scope` None: anybody may ask. `whole`: not for tokens with a prefix. `handle` returns a JSON value, an Answer, or a stream.
    """

    method: str
    path: str
    name: str
    summary: str
    handle: Callable[[Call], Awaitable[Any]]
    answer: str = "Any"
    scope: Scope | None = "read"
    whole: bool = False
    query: type[Arguments] | None = None
    body: type[Arguments] | None = None
    lines: bool = False                     # the body is newline-delimited JSON, read as it comes
    media: Sequence[str] = ("application/json",)
    statuses: Sequence[int] = (200,)


def paged(call: Call, rows: Iterable[T], key: Callable[[T], str]) -> Answer:
    """The part of a listing that a query asks for. `key` orders the rows, which come in its order."""
    query: Page = call.query
    after = read_cursor(query)
    found = [row for row in rows if not after or key(row) > after]
    if query.limit is None or len(found) <= query.limit:
        return Answer(found)
    part = found[:query.limit]
    return Answer(part, next_link(call, key(part[-1])))


def read_cursor(query: Page) -> str:
    """The key behind which a page begins; empty: at the start."""
    return bytes.fromhex(query.cursor).decode(errors="replace") if query.cursor else ""


def next_link(call: Call, key: str) -> Json:
    """The header that says where the next page is (RFC 8288)."""
    return {"Link": f'<{call.request.path}?limit={call.query.limit}&cursor={key.encode().hex()}>; rel="next"'}
