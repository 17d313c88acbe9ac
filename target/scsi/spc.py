"""Primary commands that are about the unit itself: who, which LUNs, what is wrong, what is supported (SPC-4 §6)."""

from __future__ import annotations

from dataclasses import replace

from target.scsi import designators, sense, vpd
from target.scsi import lun as lun_number
from target.scsi.sense import Sense, SenseKey
from target.scsi.task import Operation, Task
from target.scsi.unit_attention import UnitAttention

NO_UNIT = 0x7F             # peripheral qualifier 011b, device type 1Fh
WELL_KNOWN = 0x1E
IDENTIFYING_BYTES = 256
# SAM-5, iSCSI at protocol level 0, SPC-4, SBC-3; no version claimed (SPC-4 §6.6.2, annex E)
SAM, ISCSI, SPC, SBC = 0x00A0, 0x0960, 0x0460, 0x04C0
SUPPORT_NONE, SUPPORT_STANDARD = 1, 3


# -- INQUIRY -----------------------------------------------------------------------------------------------------------
async def inquiry(task: Task) -> bytes:
    """INQUIRY, standard data and vital product data."""
    page_code = task.cdb[2]
    if not task.bit(1, 0):
        if page_code:
            raise sense.invalid_cdb(2)
        return standard_inquiry(task)
    page = vpd.PAGES.get(page_code)
    if page is None or not page.shown(task.unit):
        raise sense.invalid_cdb(2)
    body = page.build(task)
    return bytes([_peripheral(task), page_code]) + len(body).to_bytes(2, "big") + body


def _peripheral(task: Task) -> int:
    return WELL_KNOWN if task.unit.well_known else NO_UNIT if task.unit.absent else 0x00


def standard_inquiry(task: Task) -> bytes:
    """96 bytes (SPC-4 §6.6.2)."""
    identity = task.unit.identity
    out = bytearray(96)
    out[0] = _peripheral(task)
    out[2] = 0x06                     # SPC-4
    out[3] = 0x12                     # HISUP, response data format 2
    out[4] = len(out) - 5
    out[5] = 0x38                     # TPGS 11b (implicit and explicit), 3PC
    out[6] = 0x10 if len(task.target.ports) > 1 else 0   # MULTIP
    out[7] = 0x02                     # CMDQUE
    out[8:16] = designators.vendor(identity)
    out[16:32] = designators.product(identity)
    out[32:36] = identity.revision.encode("ascii", "replace")[:4].ljust(4)
    transport = ISCSI + task.target.protocol_level(task.nexus)      # RFC 7144 §4.2
    for index, code in enumerate((SAM, transport, SPC, SBC)):
        out[58 + 2 * index:60 + 2 * index] = code.to_bytes(2, "big")
    return bytes(out)


# -- REPORT LUNS, REQUEST SENSE ----------------------------------------------------------------------------------------
async def report_luns(task: Task) -> bytes:
    """REPORT LUNS: only the LUNs that this nexus may reach, and no well known ones but when asked for them."""
    select = task.cdb[2]
    if select not in (0x00, 0x01, 0x02):
        raise sense.invalid_cdb(2)
    if task.number(6, 4) < 16:
        raise sense.invalid_cdb(6)
    fields = [] if select == 0x01 else [lun_number.encode(lun) for lun in sorted(task.target.luns(task.nexus))]
    if select != 0x00:
        fields.append(lun_number.WLUN_REPORT_LUNS)
    body = b"".join(lun.to_bytes(8, "big") for lun in fields)
    for unit in task.target.luns(task.nexus).values():
        unit.attention.clear(task.nexus, UnitAttention.REPORTED_LUNS_CHANGED)
    return len(body).to_bytes(4, "big") + bytes(4) + body


async def request_sense(task: Task) -> bytes:
    """REQUEST SENSE: a pending unit attention, or why the unit is not ready, as data (SPC-4 §6.39)."""
    descriptor = task.bit(1, 0)
    if task.unit.absent and not task.unit.well_known:
        return Sense(SenseKey.ILLEGAL_REQUEST, sense.LOGICAL_UNIT_NOT_SUPPORTED).encode(descriptor)
    attention = task.unit.attention.take(task.nexus)
    if attention is None and task.unit.deferred is not None:
        attention, task.unit.deferred = replace(task.unit.deferred, deferred=True), None
    if attention is None:
        attention = task.unit.erasure_sense()
    if attention is None and task.unit.stopped:
        attention = Sense(SenseKey.NOT_READY, sense.INITIALIZING_COMMAND_REQUIRED)
    return (attention or Sense(SenseKey.NO_SENSE, sense.NO_ADDITIONAL_SENSE)).encode(descriptor)


# -- REPORT SUPPORTED OPERATION CODES, TASK MANAGEMENT FUNCTIONS -------------------------------------------------------
def timeouts(operation: Operation) -> bytes:
    """Command timeouts descriptor: nothing is nominal, the recommendation is the table's (SPC-4 §6.35.4)."""
    return b"\x00\x0a\x00\x00" + bytes(4) + operation.timeout_s.to_bytes(4, "big")


def _has(task: Task, operation: Operation) -> bool:
    return operation.needs is None or operation.needs(task.unit)


async def report_supported_operation_codes(task: Task) -> bytes:
    """REPORT SUPPORTED OPERATION CODES: all, or one with its CDB usage data."""
    with_timeouts, option = task.bit(2, 7), task.cdb[2] & 7
    if option == 0:
        return _all_commands(task, with_timeouts)
    if option > 3:
        raise sense.invalid_cdb(2, 2)
    opcode, action = task.cdb[3], task.number(4, 2)
    actions = task.table.actions(opcode)
    has_actions = bool(actions) and None not in actions
    if (option == 1 and has_actions) or (option == 2 and actions and not has_actions):
        raise sense.invalid_cdb(2, 2)
    operation = actions.get(action if has_actions else None)
    if option == 3 and not has_actions and action:
        operation = None
    if operation is None or not _has(task, operation):
        return bytes([0, SUPPORT_NONE, 0, 0])
    usage = bytearray(operation.usage)
    where = operation.service_action_field
    if where is not None:
        assert operation.service_action is not None
        kept = usage[where.offset] & 0xE0 if where.size == 1 else 0
        usage[where.offset:where.offset + where.size] = operation.service_action.to_bytes(where.size, "big")
        usage[where.offset] |= kept
    head = bytes([0, SUPPORT_STANDARD | (0x80 if with_timeouts else 0)]) + len(usage).to_bytes(2, "big")
    return head + bytes(usage) + (timeouts(operation) if with_timeouts else b"")


def _all_commands(task: Task, with_timeouts: bool) -> bytes:
    body = b""
    for operation in task.table.operations:
        if not _has(task, operation) or not operation.listed:
            continue
        flags = (0x01 if operation.service_action is not None else 0) | (0x02 if with_timeouts else 0)
        body += bytes([operation.opcode, 0]) + (operation.service_action or 0).to_bytes(2, "big")
        body += bytes([0, flags]) + len(operation.usage).to_bytes(2, "big")
        body += timeouts(operation) if with_timeouts else b""
    return len(body).to_bytes(4, "big") + body


async def report_supported_tmf(task: Task) -> bytes:
    """REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS: all but CLEAR ACA and WAKEUP; no timeouts are stated."""
    functions = bytes([0xDE, 0x07, 0x00])   # ATS ATSS CTSS LURS QTS TRS; QAES QTSS ITNRS
    return functions + (b"\x0c" + bytes(12) if task.bit(2, 7) else b"\0")


# -- identifying information, timestamp, diagnostics -------------------------------------------------------------------
async def report_identifying_information(task: Task) -> bytes:
    """REPORT IDENTIFYING INFORMATION: peripheral device information (type 0), or which types there are."""
    kind = task.cdb[10] >> 1
    if kind == 0:
        text = task.unit.identifying_information
        return bytes(2) + len(text).to_bytes(2, "big") + text
    if kind == 0x7F:
        return b"\x00\x00\x00\x04" + bytes([0, 0]) + IDENTIFYING_BYTES.to_bytes(2, "big")
    raise sense.invalid_cdb(10, 7)


async def set_identifying_information(task: Task) -> bytes:
    """SET IDENTIFYING INFORMATION: kept with the unit, other nexuses are told."""
    if task.cdb[10] >> 1:
        raise sense.invalid_cdb(10, 7)
    if task.number(6, 4) > IDENTIFYING_BYTES:
        raise sense.invalid_cdb(6)
    task.unit.identifying_information = task.parameters()
    await task.unit.persist()
    return b""


async def report_timestamp(task: Task) -> bytes:
    """REPORT TIMESTAMP: the server's clock, which an initiator cannot set (origin 010b is not claimed)."""
    return b"\x00\x0a\x00\x00" + task.unit.hooks.timestamp_ms().to_bytes(6, "big") + b"\x00\x00"


async def send_diagnostic(task: Task) -> bytes:
    """SEND DIAGNOSTIC: the default self-test, which reads the first block."""
    if task.cdb[1] >> 5:
        raise sense.invalid_cdb(1, 7)
    if task.number(3, 2):
        raise sense.invalid_cdb(3)
    if task.bit(1, 2):
        await task.unit.backend.read(0, task.unit.block_bytes)
    return b""


async def receive_diagnostic_results(task: Task) -> bytes:
    """RECEIVE DIAGNOSTIC RESULTS: the list of supported pages, which holds itself."""
    if task.bit(1, 0) and task.cdb[2]:
        raise sense.invalid_cdb(2)
    return b"\x00\x00\x00\x01\x00"


