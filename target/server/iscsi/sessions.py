"""Sessions: each I_T nexus bound to a data-plane session, and its LUN table (SAM-5 §4.6, RFC 7143 §4.4)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from target.iscsi import (
    Admission,
    AdmissionKind,
    AsyncEvent,
    Closed,
    Event,
    FullFeatureConnection,
    LoginPolicy,
    LogoutReason,
    LogoutRequested,
    NegotiatedParams,
    RawPdu,
    SegmentLengthDeclared,
    SendPdu,
    Session,
    SessionRegistry,
    TaskManagementRequested,
)
from target.scsi import Gate, ITNexus, LogicalUnit, Status, Target, UnitAttention
from target.scsi.lun import encode
from target.scsi.sense import Sense, SenseKey
from target.server.background.detached import Background
from target.server.disks.units import Units
from target.server.iscsi.aborts import Aborts
from target.server.iscsi.access import Access
from target.server.iscsi.dataplane import AbortedEvent, ClosedEvent, CommandEvent, PduEvent, Reactor, SessionClosedEvent
from target.server.iscsi.draining import WAIT_SECONDS, Draining
from target.server.iscsi.gates import lun_flags
from target.server.iscsi.inventory import Lost
from target.server.iscsi.limits import Limits
from target.server.iscsi.memory import Trimming
from target.server.iscsi.name_watch import NameWatch
from target.server.iscsi.nexus import NexusSession
from target.server.iscsi.slow_commands import Before, SlowCommands

log = logging.getLogger("lunette.sessions")

EVENTS = frozenset({UnitAttention.REPORTED_LUNS_CHANGED, UnitAttention.CAPACITY_CHANGED, UnitAttention.INQUIRY_CHANGED,
                    UnitAttention.MEDIUM_CHANGED, UnitAttention.THRESHOLD_REACHED, UnitAttention.ASYMMETRIC_ACCESS_CHANGED})


class ManagesTasks(Protocol):
    """target/server/iscsi/tasks.py."""

    def requested(self, session: NexusSession, conn: int, event: TaskManagementRequested) -> None: ...


class SessionTable:
    """Every normal session of the daemon, and what its connections' events lead to. One event loop uses it."""

    def __init__(self, target: Target, access: Access, reactors: list[Reactor], registry: SessionRegistry, *,
                 units: Callable[[SessionTable], Units], limits: Callable[[SessionTable], Limits],
                 tasks: Callable[[SessionTable], ManagesTasks], before: Before | None = None) -> None:
        """`units`, `limits` and `tasks` make what leads back here, each of which is the table's then.

        `before` is awaited before Python answers a command; OSError: BUSY.
        """
        self.target = target
        self.access = access
        self.reactors = reactors
        self.registry = registry
        self._lost = Lost()
        self._sessions: dict[tuple[int, int], NexusSession] = {}   # (reactor index, number)
        self._by_nexus: dict[ITNexus, NexusSession] = {}
        self._aborts = Aborts()
        self.background = Background()
        self._empty = asyncio.Event()
        self._names = NameWatch()
        self._trimming = Trimming()
        self.draining = Draining(self._reflag)
        self.limits = limits(self)
        self.units = units(self)
        self.tasks = tasks(self)
        self._slow = SlowCommands(target, self.units, self.draining, self.gate_changed, before)

    def start(self) -> None:
        """Take events from every reactor on the running loop."""
        loop = asyncio.get_running_loop()
        for index, reactor in enumerate(self.reactors):
            loop.add_reader(reactor.event_fd, self._events, index, reactor)

    def stop(self) -> None:
        loop = asyncio.get_running_loop()
        for reactor in self.reactors:
            loop.remove_reader(reactor.event_fd)
        self.draining.stop()
        self._trimming.stop()
        for session in self.sessions():
            for running in session.running.values():
                running.task.cancel()

    def sessions(self) -> list[NexusSession]:
        return list(self._sessions.values())

    @property
    def connections(self) -> int:
        """Connections in full feature phase, of all sessions."""
        return sum(len(each.connections) for each in self._sessions.values())

    async def wait_empty(self, timeout_seconds: float) -> None:
        """Wait until no session is left, but not for longer than that."""
        self._empty.clear()
        if self._sessions:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_seconds)

    # -- coming ------------------------------------------------------------------------------------------------
    def admit(self, params: NegotiatedParams, admission: Admission, peer: str) -> NexusSession:
        """Carry out what a finished login means; the connection itself follows with `serve`, or `abandon`.

        OSError when the data plane has no place for the session: then the login never was.
        """
        try:
            session = self._admitted(params, admission, peer)
        except OSError:
            self.registry.remove_connection(admission.session, params.cid)
            raise
        session.entering[params.cid] = params      # a later login with this CID takes the place of one that has not come yet
        return session

    def _admitted(self, params: NegotiatedParams, admission: Admission, peer: str) -> NexusSession:
        if admission.replaced is not None and isinstance(admission.replaced.handle, NexusSession):
            before = admission.replaced.handle
            self._names.takes_over(before, peer)
            self.end(before, f"reinstated from {peer}", lost=True)
        if admission.kind is AdmissionKind.REINSTATE_CONNECTION and isinstance(admission.session.handle, NexusSession):
            held = admission.session.handle
            held.leaving.discard(params.cid)           # a logout of the old one is not of this one
            for conn in [conn for conn, cid in held.cids.items() if cid == params.cid]:
                held.cids.pop(conn)
                held.reactor.close_connection(conn)
            return held
        if isinstance(admission.session.handle, NexusSession):
            admission.session.handle.leaving.discard(params.cid)
            return admission.session.handle
        made = self._open(params, admission.session, peer)
        self._remember(made)
        return made

    def _remember(self, session: NexusSession) -> None:
        """An initiator that reinstates its session, or comes back, takes the LUNs for what they were in the one it lost."""
        for lun in session.inventory.inherit(self._lost.of(session.nexus.initiator_name), session.luns):
            unit = self.units.known(session.luns[lun])
            if unit is not None:
                self.target.tell_replaced(session.nexus, unit)

    def _open(self, params: NegotiatedParams, session: Session, peer: str) -> NexusSession:
        index = min(range(len(self.reactors)), key=lambda each: sum(key[0] == each for key in self._sessions))
        reactor = self.reactors[index]
        number = reactor.add_session(
            exp_cmd_sn=params.exp_cmd_sn, max_cmd_window=params.command_window, initial_r2t=params.initial_r2t,
            immediate_data=params.immediate_data, first_burst_length=params.first_burst_length,
            max_burst_length=params.max_burst_length, max_outstanding_r2t=params.max_outstanding_r2t, tsih=params.tsih,
            error_recovery_level=params.error_recovery_level, host=self.access.host_number(params.initiator_name))
        nexus = ITNexus(params.initiator_name, params.isid, params.portal_group_tag)
        self._names.enters(params.initiator_name, peer, self.sessions())
        made = NexusSession(session, nexus, params, peer, reactor, number, time.time())
        session.handle = made
        session.numbers = lambda: reactor.session_numbers(number)
        self._sessions[index, number] = made
        self._by_nexus[nexus] = made
        units: dict[int, LogicalUnit] = {}
        for lun, object_id in self.access.lun_map(params.initiator_name).items():
            unit = self._unit(object_id)
            if unit is not None:
                units[lun] = unit
                made.luns[lun] = object_id
        log.info("session of %s from %s begins, LUNs seen: %d", params.initiator_name, peer, len(units))
        self.target.open_nexus(nexus, units, protocol_level=params.protocol_level)
        try:
            for lun, unit in units.items():
                self._set_lun(made, lun, unit)
        except OSError as error:
            self.end(made, f"its LUNs cannot be served: {error.strerror}")
            raise
        return made

    def serve(self, session: NexusSession, policy: LoginPolicy, params: NegotiatedParams, sock: socket.socket,
              leftover: bytes, ping_seconds: float) -> int | None:
        """Give a connection's socket to the data plane; its number there, or None when it is not wanted any more."""
        if session.ended or params.cid in session.leaving or session.entering.get(params.cid) is not params:
            sock.close()
            self.abandon(session, params)
            return None
        fd = sock.detach()
        try:
            conn = session.reactor.add_connection(
                session.number, fd, cid=params.cid, stat_sn=params.stat_sn, leftover=leftover,
                header_digest=params.header_digest, data_digest=params.data_digest,
                max_send_data_segment_length=params.initiator_max_recv_data_segment_length,
                max_recv_data_segment_length=params.target_max_recv_data_segment_length, nop_interval_s=ping_seconds)
        except (KeyError, OSError) as error:
            os.close(fd)
            log.warning("a connection of %s from %s cannot be served: %s", session.nexus.initiator_name, session.peer, error)
            self.abandon(session, params)
            return None
        del session.entering[params.cid]
        session.connections[conn] = FullFeatureConnection(policy, params, session.session)
        session.cids[conn] = params.cid
        return conn

    def abandon(self, session: NexusSession, params: NegotiatedParams) -> None:
        """The connection of a finished login does not come; when a later login has its CID, that one's still may."""
        if session.entering.get(params.cid) is params:
            del session.entering[params.cid]
            if self.registry.remove_connection(session.session, params.cid):
                self.end(session, "its connection closed during login")

    # -- going -------------------------------------------------------------------------------------------------
    def end(self, session: NexusSession, why: str, *, lost: bool = False) -> None:
        """End a session at once, without waiting for its I/O. `lost`: its initiator did not ask for it, and may come back."""
        if session.ended:
            return
        if lost:
            self._lost.remember(session.nexus.initiator_name, session.inventory.expected(session.luns))
        session.ended = True
        log.info("session of %s from %s ended after %d s: %s", session.nexus.initiator_name, session.peer,
                 time.time() - session.started_s, why)
        key = (self.reactors.index(session.reactor), session.number)
        session.reactor.remove_session(session.number)
        self._sessions.pop(key, None)
        self._trimming.due()
        for running in session.running.values():
            if running.held:
                running.task.cancel()
        self.draining.begin(session.nexus.initiator_name, key, [each.task for each in session.running.values()])
        self._reflag(session.nexus.initiator_name)
        if not self._sessions:
            self._empty.set()
        if self._by_nexus.get(session.nexus) is session:
            del self._by_nexus[session.nexus]
            self.target.close_nexus(session.nexus)
        for conn in list(session.connections):
            self._connection_gone(session, conn)

    def _connection_gone(self, session: NexusSession, conn: int, why: str = "the session ended", *, lost: bool = False) -> None:
        if session.connections.pop(conn, None) is None:
            return
        cid = session.cids.pop(conn, None)
        if cid is not None and self.registry.remove_connection(session.session, cid):
            self.end(session, f"its last connection closed: {why}", lost=lost)

    # -- LUN tables --------------------------------------------------------------------------------------------
    def refresh(self) -> None:
        """Bring every session's LUN table up to the catalog; initiators are told 3F/0E."""
        for session in self.sessions():
            if not self.access.allowed(session.nexus.initiator_name):
                self.end(session, "its host may not log in any more")
                continue
            wanted = self.access.lun_map(session.nexus.initiator_name)
            for lun in [lun for lun, object_id in session.luns.items() if wanted.get(lun) != object_id]:
                self._detach(session, lun)
            for lun, object_id in wanted.items():
                if lun not in session.luns:
                    self._attach(session, lun, object_id)

    def withdraw(self, object_id: int) -> None:
        """Take a deleted object out of every session's LUN table."""
        for session in self.sessions():
            for lun in [lun for lun, each in session.luns.items() if each == object_id]:
                self._detach(session, lun)

    def users(self, object_id: int) -> list[NexusSession]:
        """Sessions that have used an object, beyond looking at it, and still see it."""
        return [each for each in self.sessions() if object_id in each.used and object_id in each.luns.values()]

    def losses(self, wanted: Callable[[NexusSession], dict[int, int]]) -> list[tuple[NexusSession, int]]:
        """Sessions, each with an object that they use and would lose or see elsewhere if their LUNs became these."""
        found = []
        for session in self.sessions():
            if session.used:
                after = wanted(session)
                found += [(session, object_id) for lun, object_id in session.luns.items()
                          if object_id in session.used and after.get(lun) != object_id]
        return found

    def holds(self, lun: int, initiators: Collection[str] | None = None) -> bool:
        """Whether one of these (None: anybody) may still take a number for an object that is not there any more."""
        return self._lost.holds(lun, initiators) or any(
            lun in session.inventory.stale for session in self._sessions.values()
            if initiators is None or session.nexus.initiator_name in initiators)

    def _attach(self, session: NexusSession, lun: int, object_id: int) -> None:
        unit = self._unit(object_id)
        if unit is not None:
            session.luns[lun] = object_id
            self.target.attach(session.nexus, lun, unit, replaces=session.inventory.attached(lun, object_id))
            try:
                self._set_lun(session, lun, unit)
            except OSError as error:
                self.end(session, f"LUN {lun} cannot be served: {error.strerror}", lost=True)

    def _set_lun(self, session: NexusSession, lun: int, unit: LogicalUnit) -> None:
        """Give the data plane a LUN of a session. OSError: it has no memory for it."""
        object_id = session.luns[lun]
        session.reactor.set_lun(session.number, lun, object_id, self._flags(session, unit, unit.gate(session.nexus)),
                                **self.limits.of_lun(session.nexus.initiator_name, object_id))

    def _detach(self, session: NexusSession, lun: int) -> None:
        object_id = session.luns.pop(lun)
        session.inventory.detached(lun, object_id)
        if object_id not in session.luns.values():
            session.used.discard(object_id)
        session.reactor.set_lun(session.number, lun, None)
        self.target.detach(session.nexus, lun)

    def _unit(self, object_id: int) -> LogicalUnit | None:
        try:
            return self.units.get(object_id)
        except Exception as error:  # one unreadable unit must not keep a host from all others
            log.error("object %d is not served: %s", object_id, error)
            return None

    def gate_changed(self, object_id: int, nexus: ITNexus, gate: Gate) -> None:
        """The SCSI layer allows or forbids the native path for one nexus."""
        session = self._by_nexus.get(nexus)
        unit = self.units.known(object_id)
        if session is None or unit is None:
            return
        for lun, each in session.luns.items():
            if each == object_id:
                session.reactor.set_lun_flags(session.number, lun, self._flags(session, unit, gate))

    def _flags(self, session: NexusSession, unit: LogicalUnit, gate: Gate) -> int:
        """The flag word of a LUN. Everything comes here while commands of the host's ended sessions are not over, and until
        the object is open: what is in use must be known (`users`)."""
        fenced = self.draining.busy(session.nexus.initiator_name) or self.units.object_id(unit) not in session.used
        return lun_flags(unit, gate, fenced=fenced)

    def _reflag(self, initiator_name: str) -> None:
        for session in self.sessions():
            if session.nexus.initiator_name == initiator_name:
                for lun, object_id in session.luns.items():
                    unit = self.units.known(object_id)
                    if unit is not None:
                        flags = self._flags(session, unit, unit.gate(session.nexus))
                        session.reactor.set_lun_flags(session.number, lun, flags)

    # -- asynchronous events -----------------------------------------------------------------------------------
    def attention_raised(self, unit: LogicalUnit, object_id: int, nexus: ITNexus, code: int) -> None:
        """Tell a host that asked for it about a change without waiting for its next command (RFC 7143 §11.9, event 0)."""
        session = self._by_nexus.get(nexus)
        if session is None or code not in EVENTS or not self.access.wants_events(nexus.initiator_name):
            return
        lun = next((lun for lun, each in session.luns.items() if each == object_id), None)
        if lun is None:
            return
        if not session.events:
            asyncio.get_running_loop().call_soon(self._send_events, session)
        told_once = code == UnitAttention.REPORTED_LUNS_CHANGED  # it is raised for every LUN
        session.events.setdefault((code, -1 if told_once else lun), (lun, unit.mode.descriptor_sense))

    def _send_events(self, session: NexusSession) -> None:
        conn, full = next(iter(session.connections.items()), (0, None))
        for (code, _), (lun, descriptor) in session.events.items():
            if full is not None:
                sense = Sense(SenseKey.UNIT_ATTENTION, code).encode(descriptor)
                self.send(session, conn, full.async_message(AsyncEvent.SCSI_EVENT, lun=encode(lun).to_bytes(8), sense=sense))
        session.events.clear()

    # -- aborting ----------------------------------------------------------------------------------------------
    async def abort(self, which: Iterable[NexusSession] | None = None, *, lun: int | None = None,
                    object_id: int | None = None, itt: int | None = None, before_cmd_sn: int | None = None,
                    exclude: NexusSession | None = None, query: bool = False, missing_cmd_sn: int | None = None,
                    tell: bool = False) -> int:
        """Abort (or count) the matching tasks of the given sessions (None: all); returns how many there were.

        On return none of them will answer or write any more, but with `tell` each was answered TASK ABORTED. Where there were
        none, a command with `missing_cmd_sn` that is still to come counts as received and aborted.
        """
        chosen = self.sessions() if which is None else list(which)
        targets = [each for each in chosen if each is not exclude]
        waits: dict[NexusSession, asyncio.Future[AbortedEvent]] = {}
        for session in targets:
            try:
                waits[session] = self._aborts.ask(
                    session.reactor, session=session.number, lun=lun, itt=itt, object_id=object_id, before_cmd_sn=before_cmd_sn,
                    query=query, missing_cmd_sn=missing_cmd_sn, tell=tell)
            except OSError:               # no memory to ask: its end does what was to be done
                if query:
                    raise
                self.end(session, "there is no memory to abort its commands", lost=True)
        found = await asyncio.gather(*waits.values())
        if not query:
            await self._settle(targets, lun, object_id, itt)
            if which is None or any(session.ended for session in targets):
                await self.draining.wait(timeout_seconds=WAIT_SECONDS)
        for session, event in zip(waits, found, strict=True):
            for conn, tag in event.victims:
                full = session.connections.get(conn)
                if full is not None:
                    self.send(session, conn, full.scsi_status(tag, Status.TASK_ABORTED))
        return sum(event.count for event in found)

    async def _settle(self, targets: list[NexusSession], lun: int | None, object_id: int | None, itt: int | None) -> None:
        """Wait for the matching commands that Python runs: their answers are dropped, their writes end here."""
        me = asyncio.current_task()
        found = [running for session in targets for running in session.running.values()
                 if running.task is not me and (lun is None or running.lun == lun)
                 and (itt is None or running.initiator_task_tag == itt)
                 and (object_id is None or session.luns.get(running.lun) == object_id)]
        for running in found:
            if running.held:
                running.task.cancel()
        if found:
            await asyncio.wait([running.task for running in found], timeout=10)

    async def quiesce(self, object_id: int) -> None:
        """Wait until what the data plane and other commands, of sessions that have ended, too, do with the object is over.

        Copies from other units may be meant for it: all that run are waited for, later ones find it not ready. The object's
        LUNs are flagged slow: what is still to come reaches Python, and is refused or waits there.
        """
        await asyncio.gather(*[self._aborts.ask(reactor, object_id=object_id, device=True) for reactor in self.reactors])
        me = asyncio.current_task()
        found = [running.task for session in self.sessions() for running in session.running.values()
                 if running.task is not me and not running.held
                 and (running.copies or session.luns.get(running.lun) == object_id)]
        if found:
            await asyncio.wait(found, timeout=WAIT_SECONDS)
        await self.draining.wait(timeout_seconds=WAIT_SECONDS)

    def tells(self, object_id: int) -> bool:
        """Whether hosts are told of commands on an object that others abort."""
        unit = self.units.known(object_id)
        return unit is not None and unit.mode.task_aborted_status

    async def abort_for_preempt(self, object_id: int, nexus: ITNexus) -> None:
        """PREEMPT AND ABORT: every task of `nexus` on the object, but not the one that asks."""
        session = self._by_nexus.get(nexus)
        me = asyncio.current_task()
        if session is not None and not any(running.task is me for running in session.running.values()):
            await self.abort([session], object_id=object_id, tell=self.tells(object_id))
        await self.draining.wait(nexus.initiator_name, WAIT_SECONDS)

    # -- events ------------------------------------------------------------------------------------------------
    def _events(self, index: int, reactor: Reactor) -> None:
        for event in reactor.events():
            try:
                self._event(index, event)
            except Exception:
                log.exception("an event of reactor %d failed: %s", index, type(event).__name__)
                if isinstance(event, CommandEvent):
                    reactor.complete(event.task, Status.BUSY)      # nothing has been done for it: never leave it unanswered

    def _event(self, index: int, event: Any) -> None:
        if isinstance(event, SessionClosedEvent):
            self.draining.closed((index, event.session))
            return
        if isinstance(event, AbortedEvent):
            self._aborts.answered(event)
            return
        session = self._sessions.get((index, event.session))
        if session is None:
            return
        if isinstance(event, CommandEvent):
            self._slow.begin(session, event)
        elif isinstance(event, PduEvent):
            full = session.connections.get(event.conn)
            if full is not None:
                self.perform(session, event.conn, full.receive_pdu(RawPdu(event.bhs, b"", event.data)))
        elif isinstance(event, ClosedEvent):
            why = f"{event.reason}, {event.detail}" if event.detail else event.reason
            log.debug("connection of %s from %s closed: %s", session.nexus.initiator_name, session.peer, why)
            alone = len(session.connections) <= 1
            lost = event.reason != "requested"
            self._connection_gone(session, event.conn, why, lost=lost)
            if not alone and lost:
                # Below ErrorRecoveryLevel 2 what a lost connection carried is recovered by a new session (RFC 7143 §7.1.4).
                self.end(session, "one of its connections failed", lost=True)

    def perform(self, session: NexusSession, conn: int, events: Iterable[Event]) -> None:
        """Carry out what the protocol code says about a connection."""
        for event in events:
            if isinstance(event, SendPdu):
                self.send(session, conn, event)
            elif isinstance(event, SegmentLengthDeclared):
                session.reactor.set_max_send(conn, event.length_bytes)
            elif isinstance(event, LogoutRequested):
                self._log_out_others(session, conn, event)
                if session.managing:
                    self.background.spawn(self._log_out_later(session, conn, event, set(session.managing)), "logout")
                else:
                    self.send(session, conn, event.response, close=event.closes)
            elif isinstance(event, TaskManagementRequested):
                self.tasks.requested(session, conn, event)
            elif isinstance(event, Closed):
                log.info("closing a connection of %s: %s", session.nexus.initiator_name, event.reason)
                session.reactor.close_connection(conn)

    async def _log_out_later(self, session: NexusSession, conn: int, logout: LogoutRequested,
                             before: set[asyncio.Task[None]]) -> None:
        """Answer a Logout after the task management functions that came before it are answered."""
        await asyncio.wait(before, timeout=10)
        self.send(session, conn, logout.response, close=logout.closes)

    def _log_out_others(self, session: NexusSession, conn: int, logout: LogoutRequested) -> None:
        """Close the connections beside `conn` that a Logout received on it ends; one still in its login closes in `serve`."""
        whole = logout.reason is LogoutReason.CLOSE_SESSION
        self.drop_others(session, conn, set(session.session.cids) if whole else {logout.cid})

    def drop_others(self, session: NexusSession, conn: int, named: set[int]) -> None:
        """Close the named connections of a session but for `conn`."""
        session.leaving |= named - {session.cids.get(conn)}
        for other, cid in session.cids.items():
            if cid in session.leaving:
                session.reactor.close_connection(other)

    def send(self, session: NexusSession, conn: int, pdu: SendPdu, *, close: bool = False) -> None:
        session.reactor.send_pdu(conn, pdu.bhs, pdu.data, close=close)

    def ask_for_logout(self, within_seconds: int, which: Iterable[NexusSession] | None = None) -> None:
        """Ask initiators (None: all) to log out (RFC 7143 §11.9.1, event 1)."""
        for session in self.sessions() if which is None else which:
            for conn, full in session.connections.items():
                self.send(session, conn, full.async_message(AsyncEvent.LOGOUT_REQUEST, parameters=(0, 0, within_seconds)))
