"""Task management requests checked and answered (RFC 7143 §11.5, §11.6; RFC 7144 §6); performing them is the server's."""

from dataclasses import dataclass

from target.iscsi.codes import TaskFunction, TaskResponse
from target.iscsi.pdu import TaskManagementRequest, TaskManagementResponse

PROTOCOL_LEVEL_SAM5 = 2


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """What one function takes: whether it names a task, a LUN, and the least iSCSIProtocolLevel it needs."""

    names_task: bool
    names_lun: bool
    protocol_level: int
    clause: str


FUNCTIONS: dict[TaskFunction, FunctionSpec] = {
    TaskFunction.ABORT_TASK: FunctionSpec(True, True, 0, "RFC 7143 §11.5.1"),
    TaskFunction.ABORT_TASK_SET: FunctionSpec(False, True, 0, "RFC 7143 §11.5.1"),
    TaskFunction.CLEAR_ACA: FunctionSpec(False, True, 0, "RFC 7143 §11.5.1"),
    TaskFunction.CLEAR_TASK_SET: FunctionSpec(False, True, 0, "RFC 7143 §11.5.1"),
    TaskFunction.LOGICAL_UNIT_RESET: FunctionSpec(False, True, 0, "RFC 7143 §11.5.1"),
    TaskFunction.TARGET_WARM_RESET: FunctionSpec(False, False, 0, "RFC 7143 §11.5.1"),
    TaskFunction.TARGET_COLD_RESET: FunctionSpec(False, False, 0, "RFC 7143 §11.5.1"),
    TaskFunction.TASK_REASSIGN: FunctionSpec(True, True, 0, "RFC 7143 §11.5.1"),
    TaskFunction.QUERY_TASK: FunctionSpec(True, True, PROTOCOL_LEVEL_SAM5, "RFC 7144 §6.3"),
    TaskFunction.QUERY_TASK_SET: FunctionSpec(False, True, PROTOCOL_LEVEL_SAM5, "RFC 7144 §6.3"),
    TaskFunction.I_T_NEXUS_RESET: FunctionSpec(False, False, PROTOCOL_LEVEL_SAM5, "RFC 7144 §6.3"),
    TaskFunction.QUERY_ASYNCHRONOUS_EVENT: FunctionSpec(False, True, PROTOCOL_LEVEL_SAM5, "RFC 7144 §6.3"),
}


def refuse(request: TaskManagementRequest, protocol_level: int, error_recovery_level: int) -> TaskResponse | None:
    """The response to a function that needs no performing because it cannot be, or None when it is to be performed."""
    try:
        spec = FUNCTIONS[TaskFunction(request.function)]
    except ValueError:
        return TaskResponse.FUNCTION_NOT_SUPPORTED
    if spec.protocol_level > protocol_level:
        return TaskResponse.FUNCTION_NOT_SUPPORTED
    if request.function == TaskFunction.TASK_REASSIGN and error_recovery_level < 2:
        return TaskResponse.ALLEGIANCE_REASSIGNMENT_NOT_SUPPORTED
    return None


def missing_cmd_sn(request: TaskManagementRequest) -> int | None:
    """The CmdSN an ABORT TASK names, if older than the request itself: should it still be missing, it counts as received.

    The caller checks that it lies in the command window (RFC 7143 §11.6.1).
    """
    older = (request.cmd_sn - request.ref_cmd_sn) & 0xFFFFFFFF
    return request.ref_cmd_sn if 0 < older < 1 << 31 else None


def build_response(
    request: TaskManagementRequest, response: TaskResponse, additional: bytes = bytes(3)
) -> TaskManagementResponse:
    """The PDU that answers `request`."""
    return TaskManagementResponse(
        response=response, additional_information=additional, initiator_task_tag=request.initiator_task_tag
    )
