"""Arguments of the commands on hosts and on the target as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from target.models.forms import Arguments, Bandwidth, Burst, Form, GroupTag, HostName, Initiator, Rate, Says, Secret
from target.models.objects import BANDWIDTH, BURST

EVENTS = "Tell its sessions of changed LUNs and sizes by SCSI events, also when they are idle."
Address = Annotated[str, Form("an address", "an address: HOST[:PORT][,TAG], with IPv6 in brackets", None, 1, 255)]
ChapName = Annotated[str, Form("a CHAP name", "a CHAP name of 1 to 255 characters", None, 1, 255)]
AccessStateName = Literal["optimized", "non-optimized", "standby", "unavailable", "transitioning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCreate(Arguments):
    """Create a host."""

    name: Annotated[HostName, Says(argument=True)]
    initiators: Annotated[list[Initiator], Says(argument=True, metavar="IQN...")] = field(default_factory=list)
    events: Annotated[bool, Says(EVENTS)] = False
    secret: Annotated[Secret | None, Says("The initiator's CHAP secret.", hidden=True)] = None
    chap_name: Annotated[ChapName | None, Says("The name the initiator proves itself under (its IQN if not given).")] = None
    mutual_name: Annotated[ChapName | None, Says("The name the target proves itself under (lunette if not given).")] = None
    mutual_secret: Annotated[Secret | None, Says("What the target proves itself with.", hidden=True)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChange(Arguments):
    """Change a host's initiators, name or secrets."""

    name: Annotated[HostName, Says(argument=True)]
    add: Annotated[list[Initiator], Says(metavar="IQN")] = field(default_factory=list)
    remove: Annotated[list[Initiator], Says(metavar="IQN")] = field(default_factory=list)
    new_name: Annotated[HostName | None, Says(flag="--rename", metavar="NAME")] = None
    events: Annotated[bool | None, Says(EVENTS, flag="--events/--no-events")] = None
    no_chap: Annotated[bool, Says("Ask for no secret any more.")] = False
    force: Annotated[bool, Says("Even when initiators that are removed are logged in: their sessions are ended.")] = False
    secret: Annotated[Secret | None, Says("The initiator's CHAP secret.", hidden=True)] = None
    chap_name: Annotated[ChapName | None, Says("The name the initiator proves itself under (its IQN if not given).")] = None
    mutual_name: Annotated[ChapName | None, Says("The name the target proves itself under (lunette if not given).")] = None
    mutual_secret: Annotated[Secret | None, Says("What the target proves itself with.", hidden=True)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSet(Arguments):
    """Change what a host may do a second, by all its initiators and on all its LUNs together."""

    name: Annotated[HostName, Says(argument=True)]
    iops: Annotated[Rate | None, Says("At most so many commands a second; 0 for no limit.")] = None
    bandwidth_bytes: Annotated[Bandwidth | None, Says(BANDWIDTH, flag="--bandwidth")] = None
    burst_seconds: Annotated[Burst | None, Says(BURST, flag="--burst")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDelete(Arguments):
    """Delete a host."""

    name: Annotated[HostName, Says(argument=True)]
    force: Annotated[bool, Says("Even when it is logged in: its sessions are ended.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRedirect(Arguments):
    """Send logins to another address (another machine, or another portal of this one), an IPv6 one in brackets.

    Who comes in by the address itself is served, so that one portal can collect what all the others refuse.
    """

    address: Annotated[Address | None, Says("Where to; without it, logins are taken here again.", argument=True,
                                            metavar="[HOST[:PORT][,TAG]]")] = None
    host: Annotated[HostName | None, Says("Only this host's logins; without it, those of every host that has no redirect of its "
                                          "own.")] = None
    permanent: Annotated[bool, Says("Say that the target has moved for good.")] = False
    move: Annotated[bool, Says("Also ask who is logged in to log out, so that they follow.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetGroup(Arguments):
    """Set the access state (ALUA) that all LUNs have through the portals of a group."""

    group: Annotated[GroupTag, Says(argument=True)]
    state: Annotated[AccessStateName, Says(argument=True)]
    force: Annotated[bool, Says("Even when a session has something open that it reaches through no other group.")] = False
