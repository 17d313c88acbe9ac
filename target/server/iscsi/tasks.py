"""Task management functions on the session table, one table row each (RFC 7143 §11.5, §4.2.3; SAM-5 §7)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from target.iscsi import TaskFunction, TaskManagementRequest, TaskManagementRequested, TaskResponse, missing_cmd_sn
from target.scsi import UnitAttention
from target.scsi.lun import decode
from target.server.iscsi.nexus import NexusSession
from target.server.iscsi.sessions import SessionTable

log = logging.getLogger("lunette.tasks")
COMPLETE = TaskResponse.FUNCTION_COMPLETE
MANAGING_MAX = 64           # functions of a session that are not answered yet
DROPPING = (TaskFunction.TARGET_COLD_RESET, TaskFunction.I_T_NEXUS_RESET)   # all connections of the session, once answered
Answer = TaskResponse | tuple[TaskResponse, bytes]  # with Additional Response Information


class TaskManagement:
    """Performs what `TaskManagementRequested` asks and answers it. All effects are over when the answer goes out."""

    def __init__(self, table: SessionTable) -> None:
        self.table = table
        self._functions: dict[int, Callable[[NexusSession, TaskManagementRequest], Awaitable[Answer]]] = {
            TaskFunction.ABORT_TASK: self._abort_task,
            TaskFunction.ABORT_TASK_SET: self._abort_task_set,
            TaskFunction.CLEAR_TASK_SET: self._clear_task_set,
            TaskFunction.LOGICAL_UNIT_RESET: self._logical_unit_reset,
            TaskFunction.TARGET_WARM_RESET: self._target_reset,
            TaskFunction.TARGET_COLD_RESET: self._target_reset,
            TaskFunction.TASK_REASSIGN: self._task_reassign,
            TaskFunction.QUERY_TASK: self._query_task,
            TaskFunction.QUERY_TASK_SET: self._query_task_set,
            TaskFunction.I_T_NEXUS_RESET: self._nexus_reset,
            TaskFunction.QUERY_ASYNCHRONOUS_EVENT: self._query_asynchronous_event,
        }

    def requested(self, session: NexusSession, conn: int, event: TaskManagementRequested) -> None:
        """Begin one function; its answer follows by itself. Immediate requests know no window: too many are rejected."""
        if len(session.managing) >= MANAGING_MAX:
            full = session.connections[conn]
            self.table.send(session, conn, full.task_management_response(event.request, TaskResponse.FUNCTION_REJECTED))
            return
        task = self.table.background.spawn(self._run(session, conn, event.request), "task management")
        session.managing[task] = event.request.initiator_task_tag
        task.add_done_callback(lambda done: session.managing.pop(done, None))

    async def _run(self, session: NexusSession, conn: int, request: TaskManagementRequest) -> None:
        function = self._functions.get(request.function)
        try:
            answer = TaskResponse.FUNCTION_NOT_SUPPORTED if function is None else await function(session, request)
        except Exception:
            log.exception("task management function %d failed", request.function)
            answer = TaskResponse.FUNCTION_REJECTED
        response, additional = answer if isinstance(answer, tuple) else (answer, bytes(3))
        full = session.connections.get(conn)
        if full is None:
            return
        drops = request.function in DROPPING and response is COMPLETE
        self.table.send(session, conn, full.task_management_response(request, response, additional), close=drops)
        if not drops:
            return
        self.table.drop_others(session, conn, set(session.session.cids))
        if request.function == TaskFunction.TARGET_COLD_RESET:
            for one in self.table.sessions():
                if one is not session and not self._reachable(session).isdisjoint(one.luns.values()):
                    self.table.end(one, "target cold reset")

    def _lun(self, session: NexusSession, request: TaskManagementRequest) -> int | None:
        lun = decode(int.from_bytes(request.lun))
        return lun if lun in session.luns else None

    async def _abort_task(self, session: NexusSession, request: TaskManagementRequest) -> TaskResponse:
        lun = self._lun(session, request)
        if lun is None:
            return TaskResponse.LUN_DOES_NOT_EXIST
        if request.referenced_task_tag in session.managing.values():
            return TaskResponse.FUNCTION_REJECTED       # task management is no task (RFC 7143 §11.5.1, RFC 7144 §6.3)
        count = await self.table.abort([session], lun=lun, itt=request.referenced_task_tag,
                                       missing_cmd_sn=missing_cmd_sn(request))
        return COMPLETE if count else TaskResponse.TASK_DOES_NOT_EXIST

    async def _abort_task_set(self, session: NexusSession, request: TaskManagementRequest) -> TaskResponse:
        lun = self._lun(session, request)
        if lun is None:
            return TaskResponse.LUN_DOES_NOT_EXIST
        await self.table.abort([session], lun=lun, before_cmd_sn=request.cmd_sn)
        return COMPLETE

    async def _clear_task_set(self, session: NexusSession, request: TaskManagementRequest) -> TaskResponse:
        lun = self._lun(session, request)
        if lun is None:
            return TaskResponse.LUN_DOES_NOT_EXIST
        object_id = session.luns[lun]
        await self.table.abort([session], lun=lun, before_cmd_sn=request.cmd_sn)
        for other in self.table.sessions():
            if other is not session and object_id in other.luns.values():
                told = self.table.tells(object_id)
                cleared = await self.table.abort([other], object_id=object_id, tell=told)
                unit = self.table.units.known(object_id)
                if cleared and unit is not None and not told:
                    unit.attention.raise_for(other.nexus, UnitAttention.COMMANDS_CLEARED)
        return COMPLETE

    async def _logical_unit_reset(self, session: NexusSession, request: TaskManagementRequest) -> TaskResponse:
        lun = self._lun(session, request)
        if lun is None:
            return TaskResponse.LUN_DOES_NOT_EXIST
        object_id = session.luns[lun]
        await self.table.abort([session], lun=lun, before_cmd_sn=request.cmd_sn)
        await self.table.abort(object_id=object_id, exclude=session, tell=self.table.tells(object_id))
        unit = self.table.units.known(object_id)
        if unit is not None:
            unit.reset()
        return COMPLETE

    def _reachable(self, session: NexusSession) -> set[int]:
        """The objects a host may reset: access controls bound a target reset too, or one host could stop all others."""
        return set(session.luns.values())

    async def _target_reset(self, session: NexusSession, request: TaskManagementRequest) -> TaskResponse:
        await self.table.abort([session], before_cmd_sn=request.cmd_sn)
        for object_id in self._reachable(session):
            await self.table.abort(object_id=object_id, exclude=session, tell=self.table.tells(object_id))
            unit = self.table.units.known(object_id)
            if unit is not None:
                unit.reset(UnitAttention.TARGET_RESET)
        return COMPLETE

    async def _task_reassign(self, session: NexusSession, request: TaskManagementRequest) -> TaskResponse:
        return TaskResponse.ALLEGIANCE_REASSIGNMENT_NOT_SUPPORTED

    async def _query_task(self, session: NexusSession, request: TaskManagementRequest) -> TaskResponse:
        lun = self._lun(session, request)
        if lun is None:
            return TaskResponse.LUN_DOES_NOT_EXIST
        if request.referenced_task_tag in session.managing.values():
            return TaskResponse.FUNCTION_REJECTED
        found = await self.table.abort([session], lun=lun, itt=request.referenced_task_tag, query=True)
        return TaskResponse.FUNCTION_SUCCEEDED if found else COMPLETE

    async def _query_task_set(self, session: NexusSession, request: TaskManagementRequest) -> TaskResponse:
        lun = self._lun(session, request)
        if lun is None:
            return TaskResponse.LUN_DOES_NOT_EXIST
        found = await self.table.abort([session], lun=lun, query=True)
        return TaskResponse.FUNCTION_SUCCEEDED if found else COMPLETE

    async def _query_asynchronous_event(self, session: NexusSession, request: TaskManagementRequest) -> Answer:
        lun = self._lun(session, request)
        if lun is None:
            return TaskResponse.LUN_DOES_NOT_EXIST
        unit = self.table.units.known(session.luns[lun])
        pending = None if unit is None else unit.attention.describe(session.nexus)
        return COMPLETE if pending is None else (TaskResponse.FUNCTION_SUCCEEDED, pending)

    async def _nexus_reset(self, session: NexusSession, request: TaskManagementRequest) -> TaskResponse:
        await self.table.abort([session], before_cmd_sn=request.cmd_sn)
        for object_id in set(session.luns.values()):
            unit = self.table.units.known(object_id)
            if unit is not None:
                unit.nexus_closed(session.nexus)
                unit.nexus_opened(session.nexus, UnitAttention.NEXUS_LOSS)
        return COMPLETE
