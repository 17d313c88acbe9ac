"""Commands that Python executes: when one may begin, what it marks as used, how its end is told to the data plane (SAM-5 §5).

Lives here and nowhere else: a session's `running`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from target.iscsi import RawPdu
from target.scsi import Command, Gate, ITNexus, Result, Status, Target, TaskAttribute, execute
from target.scsi.sense import INTERNAL_FAILURE
from target.server.disks.units import Units
from target.server.iscsi.dataplane import CommandEvent
from target.server.iscsi.draining import Draining
from target.server.iscsi.inventory import REPORT_LUNS
from target.server.iscsi.nexus import NexusSession, RunningTask

log = logging.getLogger("lunette.sessions")

INQUIRY, REQUEST_SENSE, TEST_UNIT_READY, THIRD_PARTY_COPY = 0x12, 0x03, 0x00, 0x83
LOOKS_ONLY = frozenset({INQUIRY, REPORT_LUNS, REQUEST_SENSE})  # commands of a scan: they do not open a LUN
ATTRIBUTE, WRITE = 0x07, 0x20      # of the flags of a SCSI Command PDU (RFC 7143 §11.3.1)
Before = Callable[[], Awaitable[None]]


class SlowCommands:
    """The commands of all sessions that the data plane has handed over. Each is answered once, whatever happens."""

    def __init__(self, target: Target, units: Units, draining: Draining, gate_changed: Callable[[int, ITNexus, Gate], None],
                 before: Before | None = None) -> None:
        """`before` is awaited before a command is executed; OSError: BUSY."""
        self._target = target
        self._units = units
        self._draining = draining
        self._gate_changed = gate_changed
        self._before = before

    def begin(self, session: NexusSession, event: CommandEvent) -> None:
        if event.lun in session.luns:
            session.inventory.known.add(event.lun)
            if event.cdb[0] not in LOOKS_ONLY:
                self._opens(session, session.luns[event.lun])
        task = asyncio.create_task(self._run(session, event))
        session.running[event.task] = RunningTask(task, event.lun, event.itt, event.cdb[0] == THIRD_PARTY_COPY)

    def _opens(self, session: NexusSession, object_id: int) -> None:
        """A session uses an object from now on."""
        unit = self._units.known(object_id)
        if object_id in session.used or unit is None:
            return
        session.used.add(object_id)
        self._gate_changed(object_id, session.nexus, unit.gate(session.nexus))

    async def _may_begin(self, session: NexusSession, event: CommandEvent) -> bool:
        """Wait until commands of the host's ended sessions are over; False when this one's own session ended meanwhile."""
        name = session.nexus.initiator_name
        if event.cdb[0] in LOOKS_ONLY or event.cdb[0] == TEST_UNIT_READY:
            return not session.ended
        running = session.running[event.task]
        running.held = True
        try:
            while self._draining.busy(name) and not session.ended:
                await self._draining.wait(name)
        except asyncio.CancelledError:
            return False
        running.held = False
        return not session.ended

    async def _run(self, session: NexusSession, event: CommandEvent) -> None:
        if not await self._may_begin(session, event):
            session.running.pop(event.task, None)
            return
        try:
            result = await self._execute(session, event)
        finally:
            session.running.pop(event.task, None)
        if event.cdb[0] == REPORT_LUNS:
            session.inventory.reported(event.cdb, result, session.luns)
        counted = result.status == Status.GOOD or result.transfer_bytes > 0
        written = result.transfer_bytes if event.flags & WRITE and counted else None
        session.reactor.complete(event.task, result.status, result.sense, result.data_in, data_out_length=written)

    async def _execute(self, session: NexusSession, event: CommandEvent) -> Result:
        attribute = event.flags & ATTRIBUTE
        command = Command(RawPdu(event.bhs, b"", b"").lun, event.cdb, event.data_out, event.edtl,
                          TaskAttribute(attribute) if attribute <= max(TaskAttribute) else TaskAttribute.SIMPLE)
        try:
            if self._before is not None:
                await self._before()
            return await execute(self._target, session.nexus, command)
        except OSError:
            return Result(Status.BUSY)
        except Exception:
            log.exception("command %02xh of %s failed", event.cdb[0], session.nexus.initiator_name)
            return Result(Status.CHECK_CONDITION, INTERNAL_FAILURE.encode())
