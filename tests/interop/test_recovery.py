"""ErrorRecoveryLevel 1 through a login: what is negotiated, and what a SNACK brings then (RFC 7143 §7.1.4, §11.16, §13.20)."""

from __future__ import annotations

import pytest

from target.iscsi import LoginStatus
from target.iscsi.pdu import (
    R2T,
    DataIn,
    DataOut,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    Reject,
    ScsiCommand,
    ScsiResponse,
    SnackRequest,
    TaskManagementRequest,
    TaskManagementResponse,
)
from tests.support.daemon import DaemonProcess
from tests.support.session import Connection, read10, write10

DATA, STATUS = 0, 1


def connect(daemon: DaemonProcess, **keys: str) -> tuple[Connection, int, int]:
    """A session past its power-on unit attention, with the next CmdSN and the StatSN it expects."""
    daemon.cli("create", "v", "--size", "64M")
    it = Connection(daemon.port, daemon.target, **keys)
    assert it.login_response.status == LoginStatus.SUCCESS
    for sn in range(1, 9):
        it.send(ScsiCommand(initiator_task_tag=sn, cmd_sn=sn))
        answer = it.receive(ScsiResponse)
        if answer.status == 0:
            break
    assert answer.status == 0
    return it, answer.exp_cmd_sn, answer.stat_sn + 1


@pytest.mark.parametrize(("offered", "agreed"), [("0", "0"), ("1", "1"), ("2", "1")])
def test_the_level_is_negotiated(daemon: DaemonProcess, offered: str, agreed: str) -> None:
    it, sn, _ = connect(daemon, ErrorRecoveryLevel=offered)
    assert f"ErrorRecoveryLevel={agreed}\0".encode() in it.login_response.data
    it.send(TaskManagementRequest(immediate=True, function=8, initiator_task_tag=70, referenced_task_tag=1, cmd_sn=sn))
    assert it.receive(TaskManagementResponse).response == 4  # allegiance reassignment is not supported
    it.send(LogoutRequest(immediate=True, reason=2, cid=0, initiator_task_tag=71, cmd_sn=sn))
    assert it.receive(LogoutResponse).response == 2  # connection recovery is not supported


def test_a_snack_at_level_0_is_rejected(daemon: DaemonProcess) -> None:
    it, sn, stat_sn = connect(daemon)
    it.send(SnackRequest(type=STATUS, begin_run=stat_sn - 1, run_length=1, exp_stat_sn=stat_sn - 1))
    assert it.receive(Reject).reason == 3
    it.send(NopOut(initiator_task_tag=6, cmd_sn=sn))
    assert it.receive(NopIn).initiator_task_tag == 6


def test_data_and_status_are_sent_again_at_level_1(daemon: DaemonProcess) -> None:
    it, sn, stat_sn = connect(daemon, ErrorRecoveryLevel="1", InitialR2T="No", MaxRecvDataSegmentLength="4096")
    it.send(write10(0, bytes(range(256)) * 32, 100, sn, exp_stat_sn=stat_sn))
    assert it.receive(ScsiResponse).status == 0
    stat_sn += 1
    it.send(read10(0, 16, 101, sn + 1, exp_stat_sn=stat_sn))
    first = [it.receive(DataIn), it.receive(DataIn)]
    response = it.receive(ScsiResponse)
    assert (response.status, response.exp_data_sn) == (0, 2)
    it.send(write10(0, bytes(8192), 102, sn + 2, exp_stat_sn=stat_sn))  # what was read stays what it was
    assert it.receive(ScsiResponse).status == 0
    it.send(SnackRequest(type=DATA, initiator_task_tag=101, begin_run=1, run_length=1, exp_stat_sn=stat_sn))
    again = it.receive(DataIn)
    assert (again.data_sn, again.buffer_offset, again.data) == (1, 4096, first[1].data)
    assert again.data == bytes(range(256)) * 16
    it.send(SnackRequest(type=STATUS, begin_run=stat_sn, run_length=1, exp_stat_sn=stat_sn))
    last = it.receive(ScsiResponse)
    assert (last.initiator_task_tag, last.stat_sn, last.status, last.exp_data_sn) == (101, stat_sn, 0, 2)
    it.send(LogoutRequest(immediate=True, reason=0, initiator_task_tag=71, cmd_sn=sn + 3, exp_stat_sn=stat_sn))
    assert it.receive(LogoutResponse).response == 0
    assert it.closed()


def test_format_unit_with_commands_that_wait_for_recovery(daemon: DaemonProcess) -> None:
    """Neither what is kept unacknowledged nor a write whose data were lost holds FORMAT UNIT up; both can still be recovered."""
    keys = {"ErrorRecoveryLevel": "1", "InitialR2T": "Yes", "ImmediateData": "No", "MaxRecvDataSegmentLength": "4096"}
    it, sn, stat_sn = connect(daemon, **keys)
    old, new = b"o" * 8192, b"n" * 8192
    for tag, data in ((100, old), (101, new)):
        it.send(ScsiCommand(write=True, initiator_task_tag=tag, cmd_sn=sn, exp_stat_sn=stat_sn,
                            expected_data_transfer_length=8192, cdb=bytes.fromhex("2a000000000000001000") + bytes(6)))
        sn += 1
        wanted = it.receive(R2T)
        if data is old:
            out = {"initiator_task_tag": tag, "target_transfer_tag": wanted.target_transfer_tag, "exp_stat_sn": stat_sn}
            it.send(DataOut(data=data, **out))
            assert it.receive(ScsiResponse).status == 0
            stat_sn += 1
            it.send(read10(0, 16, 102, sn, exp_stat_sn=stat_sn))
            sn += 1
            kept = [it.receive(DataIn), it.receive(DataIn)]
            assert it.receive(ScsiResponse).status == 0                 # never acknowledged
    lost = {"initiator_task_tag": 101, "target_transfer_tag": wanted.target_transfer_tag, "exp_stat_sn": stat_sn}
    it.send(DataOut(data=new[:4096], final=False, **lost))              # the rest is lost
    it.send(ScsiCommand(initiator_task_tag=103, cmd_sn=sn, exp_stat_sn=stat_sn, cdb=b"\x04" + bytes(15)))
    formatted = it.receive(ScsiResponse)
    assert (formatted.initiator_task_tag, formatted.status) == (103, 0)
    it.send(read10(0, 16, 104, sn + 1, exp_stat_sn=stat_sn))
    assert it.receive(DataIn).data + it.receive(DataIn).data == bytes(8192)
    assert it.receive(ScsiResponse).status == 0
    it.send(SnackRequest(type=DATA, initiator_task_tag=102, begin_run=0, run_length=2, exp_stat_sn=stat_sn))
    assert [it.receive(DataIn).data for _ in kept] == [each.data for each in kept]   # as it was
    it.send(DataOut(data=new[:512], data_sn=2, buffer_offset=7680, **lost))
    wanted = it.receive(R2T)
    assert (wanted.initiator_task_tag, wanted.buffer_offset, wanted.desired_data_transfer_length) == (101, 4096, 4096)
    lost["target_transfer_tag"] = wanted.target_transfer_tag
    it.send(DataOut(data=new[4096:], buffer_offset=4096, **lost))
    written = it.receive(ScsiResponse)
    assert (written.initiator_task_tag, written.status) == (101, 0)     # after the format: its data stay
    it.send(read10(0, 16, 105, sn + 2, exp_stat_sn=stat_sn))
    assert it.receive(DataIn).data + it.receive(DataIn).data == new
