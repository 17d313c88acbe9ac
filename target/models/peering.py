"""What daemons ask of each other: one model a request, checked as arguments of commands are (docs/protection.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from target.models.forms import Arguments, Form, VolumeName

PROTOCOL = 1
Guid = Annotated[str, Form("a GUID", "a GUID", "^[0-9a-f]{32}$", 32, 32)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Arguments):
    """The first request of a connection. `groups` are the target port groups there."""

    protocol: int
    pool_uuid: Guid
    groups: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Arguments):
    """How volumes stand there: role, lineage, snapshots, what has come in part."""

    volumes: list[Guid]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt(Arguments):
    """A volume there becomes the replica, though nothing of it is common: what it holds stays as a snapshot."""

    volume: Guid
    name: VolumeName
    lineage: list[dict[str, str]]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashes(Arguments):
    """SHA-256 of a snapshot there: of `count` spans of 2 MiB from `first` on, or of the chunks of 64 KiB of these spans."""

    volume: Guid
    snapshot: Guid
    first: Annotated[int, Form(ge=0, le=1 << 40)] = 0
    count: Annotated[int, Form(ge=0, le=4096)] = 0
    spans: list[Annotated[int, Form(ge=0, le=1 << 40)]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver(Arguments):
    """A stream of one snapshot follows the answer, for a volume that is called so where it has no name yet."""

    volume: Guid
    name: VolumeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish(Arguments):
    """What was delivered on this connection appears, at one instant: by volume its snapshot, lineage and settings."""

    snapshots: dict[Guid, Guid]
    lineages: dict[Guid, list[dict[str, str]]]
    settings: dict[Guid, dict[str, Any]]
    complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StandBy(Arguments):
    """The asker is about to be promoted: what was complete there is so no more."""

    volume: Guid


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow(Arguments):
    """The asker was promoted: follow it."""

    volume: Guid
    lineage: list[dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead(Arguments):
    """What was superseded there is kept: the asker gives way to it."""

    volume: Guid


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveWay(Arguments):
    """The asker's contents are kept: go back to the newest snapshot of these, and follow."""

    volume: Guid
    lineage: list[dict[str, str]]
    snapshots: list[Guid] = field(default_factory=list)
    force: bool = False
