"""Several connections a session: one command order over all, answers where the command came (RFC 7143 §4.2.2, §4.4.1)."""

from __future__ import annotations

import select

import pytest

from target.iscsi import LoginStatus
from target.iscsi.pdu import DataIn, LogoutRequest, LogoutResponse, NopIn, NopOut, ScsiCommand, ScsiResponse
from tests.support.daemon import DaemonProcess
from tests.support.session import Connection, read10, write10


@pytest.fixture
def pair(daemon: DaemonProcess) -> tuple[DaemonProcess, Connection, Connection]:
    """A daemon with a volume, and a session of two connections past its power-on unit attention."""
    daemon.cli("create", "v", "--size", "64M")
    first = Connection(daemon.port, daemon.target, MaxConnections="4")
    assert first.login_response.status == LoginStatus.SUCCESS
    assert b"MaxConnections=4\0" in first.login_response.data
    for tag in range(8):
        first.send(ScsiCommand(initiator_task_tag=tag, cmd_sn=1 + tag))
        answer = first.receive(ScsiResponse)
        if answer.status == 0:
            break
    assert answer.status == 0
    second = join(daemon, first, 1, answer.exp_cmd_sn)
    assert second.login_response.status == LoginStatus.SUCCESS
    assert second.login_response.exp_cmd_sn == answer.exp_cmd_sn
    return daemon, first, second


def join(daemon: DaemonProcess, first: Connection, cid: int, cmd_sn: int) -> Connection:
    return Connection(daemon.port, daemon.target, tsih=first.login_response.tsih, cid=cid, cmd_sn=cmd_sn)


def test_commands_run_in_order_over_both_connections(pair: tuple[DaemonProcess, Connection, Connection]) -> None:
    _, first, second = pair
    sn = second.login_response.exp_cmd_sn
    for turn in range(20):
        early, late = (first, second) if turn % 2 else (second, first)
        early.send(read10(7, 1, 1001, sn + 1))  # ahead of the write that comes by the other connection
        assert not select.select([early.sock], [], [], 0.02)[0]
        late.send(write10(7, bytes((turn + 1,)) * 512, 1000, sn))
        written = late.receive(ScsiResponse)
        assert (written.status, written.initiator_task_tag) == (0, 1000)
        read = early.receive(DataIn)
        assert (read.initiator_task_tag, read.status, len(read.data)) == (1001, 0, 512)
        assert read.exp_cmd_sn == sn + 2
        sn += 2


def test_a_connection_leaves_by_logout_and_may_come_again(pair: tuple[DaemonProcess, Connection, Connection]) -> None:
    daemon, first, second = pair
    sn = second.login_response.exp_cmd_sn
    second.send(LogoutRequest(reason=1, cid=1, immediate=True, cmd_sn=sn, initiator_task_tag=5))
    assert second.receive(LogoutResponse).response == 0
    assert second.closed()
    first.send(NopOut(initiator_task_tag=6, cmd_sn=sn))
    assert first.receive(NopIn).initiator_task_tag == 6
    again = join(daemon, first, 1, sn + 1)
    assert again.login_response.status == LoginStatus.SUCCESS
    first.send(LogoutRequest(reason=1, cid=1, immediate=True, cmd_sn=sn + 1, initiator_task_tag=7))  # by the other one
    assert first.receive(LogoutResponse).response == 0
    assert again.closed()
    first.send(NopOut(initiator_task_tag=8, cmd_sn=sn + 1))
    assert first.receive(NopIn).initiator_task_tag == 8


def test_a_logout_of_the_session_closes_all(pair: tuple[DaemonProcess, Connection, Connection]) -> None:
    daemon, first, second = pair
    first.send(LogoutRequest(reason=0, immediate=True, cmd_sn=second.login_response.exp_cmd_sn))
    assert first.receive(LogoutResponse).response == 0
    assert first.closed()
    assert second.closed()
    assert join(daemon, first, 1, 1).login_response.status == LoginStatus.SESSION_DOES_NOT_EXIST


def test_a_failed_connection_ends_the_session_at_error_recovery_level_0(
    pair: tuple[DaemonProcess, Connection, Connection],
) -> None:
    daemon, first, second = pair
    second.close()
    assert first.closed()
    assert join(daemon, first, 1, 1).login_response.status == LoginStatus.SESSION_DOES_NOT_EXIST


def test_connection_limits_and_reinstatement(pair: tuple[DaemonProcess, Connection, Connection]) -> None:
    daemon, first, second = pair
    sn = second.login_response.exp_cmd_sn
    others = [join(daemon, first, cid, sn) for cid in (2, 3)]
    assert [each.login_response.status for each in others] == [0, 0]
    assert join(daemon, first, 4, sn).login_response.status == LoginStatus.TOO_MANY_CONNECTIONS
    again = join(daemon, first, 1, sn)  # the same CID: the old connection is logged out by this login
    assert again.login_response.status == LoginStatus.SUCCESS
    assert second.closed()
    again.send(read10(0, 1, 9, sn))
    assert again.receive(DataIn).initiator_task_tag == 9
    first.send(NopOut(initiator_task_tag=6, cmd_sn=sn + 1))
    assert first.receive(NopIn).initiator_task_tag == 6
