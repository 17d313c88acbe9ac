"""Arguments of the commands on peers and mirrors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from target.models.forms import Arguments, Bytes, Form, Says, VolumeName

PeerName = Annotated[str, Form("a peer's name", "a peer's name: letters, digits and . _ - only, at most 48",
                               "^[A-Za-z0-9][A-Za-z0-9._-]*$", 1, 48)]
Address = Annotated[str, Form("an address", "an address: HOST:PORT, with IPv6 in brackets",
                              r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$", 3, 255)]
Certificate = Annotated[str, Form("a certificate", "a certificate in PEM", None, 1, 16384)]
Allowed = Annotated[str, Form("a right", "a right: send or receive, or one with volumes, as send:db*,web", None, 1, 1024)]
GroupName = Annotated[str, Form("a group", "a group's name: letters, digits and . _ - only, at most 48",
                                "^[A-Za-z0-9][A-Za-z0-9._-]*$", 1, 48)]
Seconds = Annotated[float, Form("a time", "a time of 200ms to 30d", ge=0.2, le=30 * 86400)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCertificate(Arguments):
    """Print the certificate by which peers know this pool; it is made when it is first asked for."""

    new: Annotated[bool, Says("Make another one. Peers that know the old one are refused until they get it.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAdd(Arguments):
    """Let another daemon in, or change what it may: it is known by its certificate alone."""

    name: Annotated[PeerName, Says(argument=True)]
    address: Annotated[Address, Says("Where it listens for peers.", metavar="HOST:PORT")]
    certificate: Annotated[Certificate, Says(hidden=True)]
    allow: Annotated[list[Allowed], Says("What it may: send (its volumes come here), receive (ours go there), with volumes: "
                                         "send:db*,web.", metavar="RIGHT[:VOLUMES]")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRemove(Arguments):
    """Forget a peer."""

    name: Annotated[PeerName, Says(argument=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorAdd(Arguments):
    """Keep volumes on a peer, never further behind than twice the RPO."""

    names: Annotated[list[VolumeName], Says(argument=True, metavar="VOLUME...")]
    to: Annotated[PeerName, Says("Where to.", metavar="PEER")]
    rpo_seconds: Annotated[Seconds, Says("From one snapshot to the next.", flag="--rpo", metavar="TIME")]
    limit_bytes: Annotated[Bytes, Says("At most so many bytes a second.", flag="--limit", metavar="RATE")] = 0
    group: Annotated[GroupName | None, Says("Volumes of a group are taken at one instant.")] = None
    resync: Annotated[bool, Says("The peer has a volume of that name, or one without a common snapshot: what differs is found by "
                                 "hashes; what it holds there stays as a snapshot.")] = False
    standby: Annotated[bool, Says("There it shows itself as the same disk, in ALUA standby.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorRemove(Arguments):
    """Mirror volumes no more. What is on the peer stays there; mirror rm there makes it a volume like others."""

    names: Annotated[list[VolumeName], Says(argument=True, metavar="VOLUME...")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorPause(Arguments):
    """Begin no round any more."""

    names: Annotated[list[VolumeName], Says(argument=True, metavar="VOLUME...")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorResume(Arguments):
    """Go on with rounds."""

    names: Annotated[list[VolumeName], Says(argument=True, metavar="VOLUME...")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorResolve(Arguments):
    """End a divergence: one side keeps its contents. Those of the other stay as a snapshot there."""

    name: Annotated[VolumeName, Says(argument=True)]
    keep: Annotated[Literal["here", "there"], Says("Whose contents are kept.")]
    force: Annotated[bool, Says("Though initiators use the side that gives way.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote(Arguments):
    """Make a replica the primary: initiators may write to it."""

    name: Annotated[VolumeName, Says(argument=True)]
    force: Annotated[bool, Says("The last that was published, when the primary cannot be demoted any more.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Demote(Arguments):
    """Make a primary a replica: the last of it is sent, and the peer may be promoted without loss."""

    name: Annotated[VolumeName, Says(argument=True)]
