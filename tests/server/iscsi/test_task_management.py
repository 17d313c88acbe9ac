"""Task management on a reactor that only records: what is answered, aborted, dropped and told (SAM-5 7, RFC 7143 11.5)."""

from __future__ import annotations

import asyncio

import pytest

from target.iscsi import (
    LogoutReason,
    LogoutRequested,
    SendPdu,
    TaskFunction,
    TaskManagementRequest,
    TaskManagementRequested,
    TaskResponse,
)
from target.scsi.lun import encode
from target.scsi.mode_pages import CONTROL
from target.server.iscsi.dataplane import ClosedEvent
from target.server.iscsi.tasks import MANAGING_MAX
from tests.support.session_rig import Rig
from tests.support.waiting import eventually


@pytest.mark.parametrize(("function", "lun", "aborted", "response"), [
    (TaskFunction.ABORT_TASK, 0, 1, 0), (TaskFunction.ABORT_TASK, 0, 0, 1), (TaskFunction.ABORT_TASK, 9, 1, 2),
    (TaskFunction.ABORT_TASK_SET, 0, 3, 0), (TaskFunction.CLEAR_TASK_SET, 0, 1, 0), (TaskFunction.CLEAR_ACA, 0, 1, 5),
    (TaskFunction.LOGICAL_UNIT_RESET, 0, 1, 0), (TaskFunction.LOGICAL_UNIT_RESET, 5, 1, 2),
    (TaskFunction.TARGET_WARM_RESET, 0, 1, 0), (TaskFunction.TASK_REASSIGN, 0, 1, 4), (77, 0, 1, 5),
    (TaskFunction.QUERY_TASK, 0, 1, 7), (TaskFunction.QUERY_TASK, 0, 0, 0), (TaskFunction.QUERY_TASK_SET, 0, 2, 7),
    (TaskFunction.QUERY_TASK_SET, 3, 2, 2), (TaskFunction.I_T_NEXUS_RESET, 0, 1, 0),
    (TaskFunction.QUERY_ASYNCHRONOUS_EVENT, 0, 0, 7), (TaskFunction.QUERY_ASYNCHRONOUS_EVENT, 3, 0, 2),
])
async def test_task_management_answers(rig: Rig, function: int, lun: int, aborted: int, response: int) -> None:
    await rig.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    session, conn = rig.login()
    rig.login("iqn.2026-01.test:b")
    rig.reactor.aborted = aborted
    request = TaskManagementRequest(function=function, lun=encode(lun).to_bytes(8), initiator_task_tag=5, cmd_sn=9)
    rig.table.perform(session, conn, [TaskManagementRequested(request)])
    await eventually(lambda: bool(rig.reactor.called("send_pdu")))
    dropped = function == TaskFunction.I_T_NEXUS_RESET          # RFC 7144 §6.3
    assert rig.reactor.called("send_pdu") == [("send_pdu", conn, 0x22, response, dropped)]


@pytest.mark.parametrize("function", [TaskFunction.ABORT_TASK, TaskFunction.QUERY_TASK])
async def test_task_management_is_no_task_that_could_be_aborted(rig: Rig, function: int) -> None:
    await rig.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    session, conn = rig.login()
    underway = asyncio.create_task(asyncio.sleep(60))
    session.managing[underway] = 4
    request = TaskManagementRequest(function=function, initiator_task_tag=5, referenced_task_tag=4, cmd_sn=9)
    rig.table.perform(session, conn, [TaskManagementRequested(request)])
    await eventually(lambda: bool(rig.reactor.called("send_pdu")))
    assert rig.reactor.called("send_pdu") == [("send_pdu", conn, 0x22, TaskResponse.FUNCTION_REJECTED, False)]
    underway.cancel()


async def test_functions_that_wait_are_bounded(rig: Rig) -> None:
    session, conn = rig.login()
    rig.reactor.abort = lambda token, **which: None             # type: ignore[method-assign]  # none of them gets on
    for tag in range(MANAGING_MAX + 1):
        request = TaskManagementRequest(function=TaskFunction.TARGET_WARM_RESET, initiator_task_tag=tag, cmd_sn=9)
        rig.table.perform(session, conn, [TaskManagementRequested(request)])
    assert len(session.managing) == MANAGING_MAX
    assert rig.reactor.called("send_pdu") == [("send_pdu", conn, 0x22, TaskResponse.FUNCTION_REJECTED, False)]
    for task in list(session.managing):
        task.cancel()


@pytest.mark.parametrize("function", [TaskFunction.TARGET_COLD_RESET, TaskFunction.I_T_NEXUS_RESET])
async def test_resets_that_drop_connections_drop_all_of_the_session(rig: Rig, function: int) -> None:
    session, conn = rig.login()
    session.connections[77], session.cids[77] = session.connections[conn], 3
    session.session.cids.add(3)
    rig.table.perform(session, conn, [TaskManagementRequested(TaskManagementRequest(function=function, initiator_task_tag=5))])
    await eventually(lambda: bool(rig.reactor.called("close_connection")))
    assert rig.reactor.called("send_pdu") == [("send_pdu", conn, 0x22, 0, True)]
    assert rig.reactor.called("close_connection") == [("close_connection", 77)]
    assert session.leaving == {3}                                # one that is still in its login is closed when it is done


@pytest.mark.parametrize("function", [TaskFunction.CLEAR_TASK_SET, TaskFunction.LOGICAL_UNIT_RESET,
                                      TaskFunction.TARGET_WARM_RESET])
@pytest.mark.parametrize("tas", [True, False])
async def test_others_are_told_of_what_was_aborted_when_tas_is_set(rig: Rig, function: int, tas: bool) -> None:
    await rig.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    session, conn = rig.login()
    _, theirs = rig.login("iqn.2026-01.test:b")
    unit = rig.daemon.units.get(next(iter(session.luns.values())))
    assert unit is not None
    assert unit.mode.task_aborted_status
    if not tas:
        unit.mode.change({CONTROL: unit.mode.values(CONTROL, 0)[:3] + bytes(7)}, save=True)
    rig.reactor.victims = ((theirs, 0x77), (999, 0x78))
    request = TaskManagementRequest(function=function, initiator_task_tag=5, cmd_sn=9)
    rig.table.perform(session, conn, [TaskManagementRequested(request)])
    await eventually(lambda: any(call[2] == 0x22 for call in rig.reactor.called("send_pdu")))
    told = [("send_pdu", theirs, 0x21, 0, False)] if tas else []
    assert rig.reactor.called("send_pdu") == [*told, ("send_pdu", conn, 0x22, 0, False)]


async def test_a_cold_reset_drops_every_session_that_shares_a_unit_its_own_after_the_answer(rig: Rig) -> None:
    await rig.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    session, conn = rig.login()
    other, _ = rig.login("iqn.2026-01.test:b")
    stranger, _ = rig.login("iqn.2026-01.test:c")
    stranger.luns.clear()
    request = TaskManagementRequest(function=TaskFunction.TARGET_COLD_RESET, initiator_task_tag=5)
    rig.table.perform(session, conn, [TaskManagementRequested(request)])
    await eventually(lambda: bool(rig.reactor.called("send_pdu")))
    assert rig.reactor.called("send_pdu") == [("send_pdu", conn, 0x22, 0, True)]
    assert rig.table.sessions() == [session, stranger]
    assert rig.reactor.called("remove_session") == [("remove_session", other.number)]
    rig.reactor.post(ClosedEvent(session.number, conn, "requested", ""))
    await eventually(lambda: len(rig.table.sessions()) == 1)
    assert rig.table.sessions() == [stranger]


async def test_a_logout_is_answered_when_the_reset_it_waits_for_ends_first(rig: Rig) -> None:
    session, conn = rig.login()
    session.managing[asyncio.create_task(asyncio.sleep(0))] = 9
    response = SendPdu(bytes([0x26]) + bytes(47), b"")
    rig.table.perform(session, conn, [LogoutRequested(LogoutReason.CLOSE_SESSION, 0, response, True)])
    session.managing.clear()
    await eventually(lambda: bool(rig.reactor.called("send_pdu")))
    assert rig.reactor.called("send_pdu") == [("send_pdu", conn, 0x26, 0, True)]
