"""Arguments of the commands that send and receive snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from target.models.forms import Arguments, Bytes, Form, Says, SnapshotName, VolumeName
from target.models.repositories import RepositoryName

Token = Annotated[str, Form("a token", "a token of lunette receive NAME --status", "^[A-Za-z0-9_-]+$", 1, 1024)]
Descriptor = Annotated[str, Form("a descriptor", "a descriptor that was handed over", "^[0-9a-f]+$", 1, 64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Arguments):
    """Write a snapshot to standard output, whole or as what changed since another one (--from)."""

    name: Annotated[SnapshotName | None, Says(hidden=True)] = None
    since: Annotated[SnapshotName | None, Says("What the receiver has already.", flag="--from", metavar="NAME@LABEL")] = None
    intermediates: Annotated[bool, Says("Also each snapshot between the two, one after the other.")] = False
    compress: Annotated[Literal["auto", "zstd", "none"], Says("auto: where the other end is slower than packing.")] = "auto"
    limit_bytes: Annotated[Bytes, Says("At most so many bytes a second.", flag="--limit", metavar="RATE")] = 0
    resume: Annotated[Token | None, Says("The rest of what a receiver has in part.", metavar="TOKEN")] = None
    descriptor: Annotated[Descriptor, Says(hidden=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRead(Arguments):
    """Write what a backup wants of a snapshot to a descriptor: a stream of a range, whole or as what differs."""

    name: SnapshotName
    since: SnapshotName | None = None
    offset_bytes: Bytes = 0
    end_bytes: Bytes
    repository: Annotated[RepositoryName, Says("It is held for that one meanwhile.")]
    descriptor: Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore(Arguments):
    """Make a new volume of a stream: one snapshot of it, whole. It appears when all has come, or not at all."""

    name: VolumeName
    descriptor: Descriptor
    onto: Annotated[bool, Says("The volume is there, and has the snapshot that the stream is told from.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NbdServe(Arguments):
    """Serve a connection of NBD, whose handshake is over, until its client leaves."""

    name: SnapshotName
    since: Annotated[SnapshotName | None, Says("What the second metadata context compares it with.")] = None
    structured: Annotated[bool, Says("The client wants structured replies.")] = False
    allocation: Annotated[bool, Says("It chose base:allocation ...")] = False
    changes: Annotated[bool, Says("... and the dirty bitmap.")] = False
    rest: Annotated[Annotated[str, Form("bytes", "bytes as hexadecimal digits", "^([0-9a-f]{2})*$", 0, 131072)],
                    Says("What came behind the handshake.")] = ""
    descriptor: Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive(Arguments):
    """Take snapshots of the volume NAME from standard input. Each appears when it is whole, or not at all."""

    name: Annotated[VolumeName, Says(argument=True)]
    resync: Annotated[bool, Says("NAME exists and has no snapshot of the sender's: of a whole stream only what differs is "
                                 "written; what it holds stays as a snapshot.")] = False
    descriptor: Annotated[Descriptor, Says(hidden=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveStatus(Arguments):
    """What has come in part."""

    name: VolumeName


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveAbort(Arguments):
    """Let go of what has come in part."""

    name: VolumeName
