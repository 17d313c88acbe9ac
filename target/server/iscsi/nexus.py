"""One normal session as the control plane keeps it: the I_T nexus, its connections, its LUNs, its commands (SAM-5 §4.6)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from target.iscsi import FullFeatureConnection, NegotiatedParams, Session
from target.scsi import ITNexus
from target.server.iscsi.dataplane import Reactor
from target.server.iscsi.inventory import Inventory


@dataclass(eq=False, slots=True)
class NexusSession:
    """One normal session. `number` names it on its reactor; `luns` is what it sees; `used` what it has touched."""

    session: Session
    nexus: ITNexus
    params: NegotiatedParams
    peer: str
    reactor: Reactor
    number: int
    started_s: float
    luns: dict[int, int] = field(default_factory=dict)          # LUN -> object id
    used: set[int] = field(default_factory=set)                 # object ids
    inventory: Inventory = field(default_factory=Inventory)
    connections: dict[int, FullFeatureConnection] = field(default_factory=dict)  # reactor's number -> protocol state
    cids: dict[int, int] = field(default_factory=dict)          # reactor's connection number -> CID
    running: dict[int, RunningTask] = field(default_factory=dict)  # reactor's task number ->
    leaving: set[int] = field(default_factory=set)              # CIDs logged out by another connection
    entering: dict[int, NegotiatedParams] = field(default_factory=dict)  # CID -> the login whose connection is still to come
    managing: dict[asyncio.Task[None], int] = field(default_factory=dict)  # task management not answered yet -> its task tag
    events: dict[tuple[int, int], tuple[int, bool]] = field(default_factory=dict)  # (code, LUN) -> LUN, descriptor format
    ended: bool = False


@dataclass(eq=False, slots=True)
class RunningTask:
    """A command that Python executes."""

    task: asyncio.Task[None]
    lun: int
    initiator_task_tag: int
    copies: bool = False    # writes to other units than its own, perhaps
    held: bool = False      # waits for an ended session of its host, has done nothing yet
