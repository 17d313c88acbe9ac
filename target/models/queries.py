"""Parameters in the query of a listing, as models; their words as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, cast

from target.errors import LunetteError
from target.models.checking import check
from target.models.forms import Arguments, Form, ObjectName, Says, SnapshotName, Tag
from target.models.hints import hints, inner
from target.models.pool import ScheduleName
from target.models.repositories import RepositoryName

Q = TypeVar("Q", bound=Arguments)
MAX_DIGITS = 19

Limit = Annotated[int, Form("a limit", "a number, 1 to 10000", ge=1, le=10000)]
Cursor = Annotated[str, Form("a cursor", "a cursor: what the link to the next page says", "^(?:[0-9a-f]{2})+$", 2, 600)]
Switch = Literal["0", "1"]
EventId = Annotated[str, Form("the id of an event", "the id of an event", "^[0-9a-f]{8}-[0-9]{1,15}$", 10, 24)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Arguments):
    """A part of a listing: at most so many rows, behind a cursor. Without a limit all of it."""

    limit: Annotated[Limit | None, Says("At most so many rows; a Link header says where the next ones are.")] = None
    cursor: Annotated[Cursor | None, Says("Where to go on, as that header says.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPage(Page):
    name: Annotated[ObjectName | None, Says("Only this object.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Arguments):
    a: Annotated[ObjectName, Says("What is compared with.")]
    b: Annotated[ObjectName, Says("What is compared.")]
    offset: Annotated[Annotated[int, Form("an offset", "a number, 0 or more", ge=0, le=1 << 62)], Says("Begin here.")] = 0
    limit: Annotated[Annotated[int, Form("a limit", "a number, 1 or more", ge=1, le=1 << 62)] | None,
                     Says("At most so many ranges.")] = None
    header: Annotated[Switch, Says("Whether the first row says who A and B are.")] = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview(Arguments):
    name: Annotated[ScheduleName, Says("Of which schedule.")]
    runs: Annotated[Annotated[int, Form("a number of runs", "a number of runs, 1 to 10000", ge=1, le=10000)],
                    Says("So many runs ahead.")] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsQuery(Arguments):
    after: Annotated[EventId | None, Says("Only what came behind this one. The header Last-Event-ID says the same.")] = None
    limit: Annotated[Limit | None, Says("At most so many: those behind `after`, or the last ones. A stream has no end.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchQuery(Arguments):
    keep_going: Annotated[Switch, Says("1: go on after an error.")] = "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportQuery(Arguments):
    name: Annotated[SnapshotName, Says("Which snapshot.")]
    since: Annotated[SnapshotName | None, Says("An earlier one: where they differ can be asked for.")] = None
    tag: Annotated[Tag, Says("What holds them meanwhile.")] = "export"


Count = Annotated[int, Form("a count", "a number, 0 or more", ge=0, le=1 << 62)]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery(Arguments):
    kind: Annotated[Literal["backup", "verify", "check", "gc"], Says("What is done.")]
    name: Annotated[ObjectName | None, Says("The snapshot that it concerns; none: everything.")] = None
    repository: Annotated[RepositoryName, Says("Where.")]
    unit: Annotated[Literal["bytes", "packs"], Says("What is counted.")] = "bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Arguments):
    """A line about a job that is done outside the daemon: how far it is, or how it ended."""

    done: Annotated[Count, Says("So much is done.")] = 0
    total: Annotated[Count | None, Says("Of so much.")] = None
    moved: Annotated[Count, Says("Bytes that went to or from a repository.")] = 0
    state: Annotated[Literal["running", "done", "failed"], Says("How it stands.")] = "running"
    message: Annotated[Annotated[str, Form("a message", "a message", None, 0, 1000)], Says("Why it failed.")] = ""


def parse_query(model: type[Q], words: Mapping[str, str]) -> Q:
    """The words of a query as a model's instance. LunetteError invalid."""
    found: dict[str, Any] = {}
    for key, text in words.items():
        kind = inner(hints(cast("Any", model)).get(key, str))
        if kind is int:
            if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
                raise LunetteError("invalid", f"{key} must be a number, not {text[:40]!r}")
            found[key] = int(text)
        else:
            found[key] = text
    return check(model, found)
