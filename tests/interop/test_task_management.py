"""Task management on the wire: the functions of RFC 7144, and aborting what has not arrived (RFC 7143 §11.5, §11.6.1)."""

from __future__ import annotations

from target.iscsi.codes import TaskFunction, TaskResponse
from target.iscsi.pdu import R2T, DataIn, DataOut, ScsiCommand, ScsiResponse, TaskManagementRequest, TaskManagementResponse
from tests.support.daemon import DaemonProcess
from tests.support.session import Connection, read10

TEST_UNIT_READY = bytes(16)
TASK_ABORTED = 0x40
FIRST = 1  # the CmdSN of a session's first command


def ask(connection: Connection, function: TaskFunction, cmd_sn: int, **fields: int) -> TaskManagementResponse:
    """An immediate request about LUN 0, and its answer."""
    connection.send(TaskManagementRequest(immediate=True, function=function, initiator_task_tag=0x700, cmd_sn=cmd_sn, **fields))
    return connection.receive(TaskManagementResponse)


def unit_ready(connection: Connection, tag: int, cmd_sn: int) -> int:
    connection.send(ScsiCommand(initiator_task_tag=tag, cmd_sn=cmd_sn, cdb=TEST_UNIT_READY))
    response = connection.receive(ScsiResponse)
    assert response.initiator_task_tag == tag
    return response.status


def test_what_rfc_7144_adds(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    connection = Connection(daemon.port, daemon.target, iSCSIProtocolLevel="2", MaxConnections="2")
    assert b"iSCSIProtocolLevel=2\0" in connection.login_response.data
    event = ask(connection, TaskFunction.QUERY_ASYNCHRONOUS_EVENT, FIRST)
    assert (event.response, event.additional_information) == (TaskResponse.FUNCTION_SUCCEEDED, b"\x16\x29\x00")
    assert unit_ready(connection, 1, FIRST) == 2
    event = ask(connection, TaskFunction.QUERY_ASYNCHRONOUS_EVENT, FIRST + 1)
    assert (event.response, event.additional_information) == (TaskResponse.FUNCTION_COMPLETE, bytes(3))
    assert ask(connection, TaskFunction.QUERY_TASK, FIRST + 1, referenced_task_tag=1).response == 0
    assert ask(connection, TaskFunction.QUERY_TASK_SET, FIRST + 1).response == 0
    joined = Connection(daemon.port, daemon.target, tsih=connection.login_response.tsih, cid=1, cmd_sn=FIRST + 1)
    assert ask(connection, TaskFunction.I_T_NEXUS_RESET, FIRST + 1).response == 0
    assert connection.closed()
    assert joined.closed()                                          # all connections of the session are dropped (§6.3)
    connection = Connection(daemon.port, daemon.target, iSCSIProtocolLevel="2")
    event = ask(connection, TaskFunction.QUERY_ASYNCHRONOUS_EVENT, FIRST)
    assert (event.response, event.additional_information) == (TaskResponse.FUNCTION_SUCCEEDED, b"\x16\x29\x00")
    connection.close()


def test_a_reset_by_another_host_ends_commands_with_a_status(daemon: DaemonProcess) -> None:
    """Hosts that set no time limits (QEMU's are such) would wait for the answers for ever."""
    daemon.cli("create", "v", "--size", "64M")
    first, second = (Connection(daemon.port, daemon.target, name=f"iqn.2026-11.test:{name}", InitialR2T="Yes",
                                ImmediateData="No") for name in "ab")
    for each in (first, second):
        assert unit_ready(each, 1, FIRST) == 2
    begun = ScsiCommand(write=True, initiator_task_tag=9, cmd_sn=FIRST + 1, cdb=bytes.fromhex("2a000000000000000800") + bytes(6),
                        expected_data_transfer_length=4096)
    second.send(begun)
    wanted = second.receive(R2T)
    assert ask(first, TaskFunction.LOGICAL_UNIT_RESET, FIRST + 1).response == TaskResponse.FUNCTION_COMPLETE
    ended = second.receive(ScsiResponse)
    assert (ended.initiator_task_tag, ended.status) == (9, TASK_ABORTED)
    second.send(DataOut(initiator_task_tag=9, target_transfer_tag=wanted.target_transfer_tag, data=b"x" * 4096))  # too late
    assert unit_ready(second, 10, FIRST + 2) == 2                   # 29h/03h
    second.send(read10(0, 8, 11, FIRST + 3))
    assert second.receive(DataIn).data == bytes(4096)
    first.close()
    second.close()


def test_below_level_2_they_are_refused(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    connection = Connection(daemon.port, daemon.target)
    for function in (TaskFunction.QUERY_TASK, TaskFunction.QUERY_TASK_SET, TaskFunction.I_T_NEXUS_RESET,
                     TaskFunction.QUERY_ASYNCHRONOUS_EVENT):
        assert ask(connection, function, FIRST).response == TaskResponse.FUNCTION_NOT_SUPPORTED
    connection.close()


def test_aborting_a_command_that_was_lost_on_the_way(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    connection = Connection(daemon.port, daemon.target)
    assert unit_ready(connection, 1, FIRST) == 2
    lost, after = FIRST + 1, FIRST + 2
    connection.send(ScsiCommand(initiator_task_tag=3, cmd_sn=after, cdb=TEST_UNIT_READY))  # waits for the one before it
    connection.send(TaskManagementRequest(immediate=True, function=TaskFunction.ABORT_TASK, initiator_task_tag=0x700,
                                          cmd_sn=after + 1, referenced_task_tag=2, ref_cmd_sn=lost))
    waited = connection.receive(ScsiResponse)
    assert (waited.initiator_task_tag, waited.status) == (3, 0)
    answer = connection.receive(TaskManagementResponse)
    assert (answer.response, answer.exp_cmd_sn) == (TaskResponse.FUNCTION_COMPLETE, after + 1)
    for done in (FIRST, after, after + 1, after + 5000):
        answer = ask(connection, TaskFunction.ABORT_TASK, after + 1, referenced_task_tag=9, ref_cmd_sn=done)
        assert answer.response == TaskResponse.TASK_DOES_NOT_EXIST
    connection.close()
