"""The command table: every operation with its CDB usage data, handler and access rules (SPC-4 §6, SBC-4 §5)."""

from __future__ import annotations

from target.scsi import alua, erase, log, mode, provisioning, sbc, spc
from target.scsi.cdb import (
    CONFIGURE,
    ERASES,
    EXEMPT,
    INSPECT,
    MEDIUM,
    OWN,
    PORTS,
    QUERY,
    READS,
    RESERVE,
    WRITES,
    Access,
    Conflict,
    Direction,
    Ready,
)
from target.scsi.copy import extended_copy, offload
from target.scsi.fields import Field
from target.scsi.reservations import commands as persistent_reserve
from target.scsi.task import Handler, Operation

_IN, _OUT, _NONE = Direction.IN, Direction.OUT, Direction.NONE
_COPIES = Access(Conflict.WRITE, Ready.MEDIUM)
# What SPC-2 annex B and SBC-4 table 14 tell apart by a field: starting (no POWER CONDITION) and allowing removal conflict
# with nothing.
_START_STOP = Access(Conflict.WRITE, Ready.STANDBY, harmless=lambda cdb: cdb[4] & 0xF1 == 0x01)
_PREVENT = Access(Conflict.WRITE, Ready.STANDBY, harmless=lambda cdb: not cdb[4] & 0x03)
# What SPC-2 lets pass beside its own reservations, too.
_CAPACITY = Access(Conflict.NEVER, Ready.MEDIUM, legacy=True, told=True)
_LOG = Access(Conflict.NEVER, legacy=True)
_SET_PORTS = Access(Conflict.WRITE, Ready.ANY)


def _op(name: str, usage: str, handler: Handler, access: Access, clause: str, direction: Direction = _NONE,
        length: tuple[int, int] | None = None, action: int | None = None, timeout_s: int = 30) -> Operation:
    """A row; `usage` is the CDB usage data in hex, blanks for reading only."""
    where = None if length is None else Field(*length)
    return Operation(name, bytes.fromhex(usage), action, handler, access, direction, where, clause,
                     timeout_s=timeout_s)


_BLOCKS: list[Operation] = [
    _op("READ (6)", "08 1fffff ff 00", sbc.read, READS, "SBC-4 §5.15", _IN),
    _op("READ (10)", "28 18 ffffffff 3f ffff 00", sbc.read, READS, "SBC-4 §5.16", _IN),
    _op("READ (12)", "a8 18 ffffffff ffffffff 3f 00", sbc.read, READS, "SBC-4 §5.17", _IN),
    _op("READ (16)", "88 18 ffffffffffffffff ffffffff 3f 00", sbc.read, READS, "SBC-4 §5.18", _IN),
    _op("WRITE (6)", "0a 1fffff ff 00", sbc.write, WRITES, "SBC-4 §5.39", _OUT),
    _op("WRITE (10)", "2a 18 ffffffff 3f ffff 00", sbc.write, WRITES, "SBC-4 §5.40", _OUT),
    _op("WRITE (12)", "aa 18 ffffffff ffffffff 3f 00", sbc.write, WRITES, "SBC-4 §5.41", _OUT),
    _op("WRITE (16)", "8a 18 ffffffffffffffff ffffffff 3f 00", sbc.write, WRITES, "SBC-4 §5.42", _OUT),
    _op("WRITE AND VERIFY (10)", "2e 16 ffffffff 3f ffff 00", sbc.write_and_verify, WRITES, "SBC-4 §5.44", _OUT),
    _op("WRITE AND VERIFY (12)", "ae 16 ffffffff ffffffff 3f 00", sbc.write_and_verify, WRITES, "SBC-4 §5.45", _OUT),
    _op("WRITE AND VERIFY (16)", "8e 16 ffffffffffffffff ffffffff 3f 00", sbc.write_and_verify, WRITES,
        "SBC-4 §5.46", _OUT),
    _op("VERIFY (10)", "2f 16 ffffffff 3f ffff 00", sbc.verify, READS, "SBC-4 §5.36", _OUT),
    _op("VERIFY (12)", "af 16 ffffffff ffffffff 3f 00", sbc.verify, READS, "SBC-4 §5.37", _OUT),
    _op("VERIFY (16)", "8f 16 ffffffffffffffff ffffffff 3f 00", sbc.verify, READS, "SBC-4 §5.38", _OUT),
    _op("COMPARE AND WRITE", "89 18 ffffffffffffffff 000000 ff 3f 00", sbc.compare_and_write, WRITES,
        "SBC-4 §5.3", _OUT),
    _op("ORWRITE (16)", "8b 18 ffffffffffffffff ffffffff 3f 00", sbc.or_write, WRITES, "SBC-4 §5.11", _OUT),
    Operation("WRITE ATOMIC (16)", bytes.fromhex("9c18ffffffffffffffff0000ffff3f00"), None, sbc.write_atomic, WRITES,
              Direction.OUT, clause="SBC-4 §5.48", needs=sbc.has_atomic_writes),
    _op("PRE-FETCH (10)", "34 02 ffffffff 3f ffff 00", sbc.prefetch, READS, "SBC-4 §5.13"),
    _op("PRE-FETCH (16)", "90 02 ffffffffffffffff ffffffff 3f 00", sbc.prefetch, READS, "SBC-4 §5.14"),
    _op("SYNCHRONIZE CACHE (10)", "35 06 ffffffff 3f ffff 00", sbc.synchronize_cache, _COPIES, "SBC-4 §5.33",
        timeout_s=60),
    _op("SYNCHRONIZE CACHE (16)", "91 06 ffffffffffffffff ffffffff 3f 00", sbc.synchronize_cache, _COPIES,
        "SBC-4 §5.34", timeout_s=60),
    _op("READ CAPACITY (10)", "25 00 00000000 0000 00 00", sbc.read_capacity_10, _CAPACITY, "SBC-4 §5.20", _IN),
    _op("READ CAPACITY (16)", "9e 00 0000000000000000 ffffffff 00 00", sbc.read_capacity_16, _CAPACITY, "SBC-4 §5.21",
        _IN, (10, 4), action=0x10),
    _op("READ DEFECT DATA (10)", "37 00 1f 00000000 ffff 00", sbc.read_defect_data_10, READS, "SBC-4 §5.22", _IN,
        (7, 2)),
    _op("READ DEFECT DATA (12)", "b7 1f ffffffff ffffffff 00 00", sbc.read_defect_data_12, READS, "SBC-4 §5.23", _IN,
        (6, 4)),
    _op("START STOP UNIT", "1b 01 00 0f f7 00", sbc.start_stop_unit, _START_STOP, "SBC-4 §5.31", timeout_s=60),
    _op("PREVENT ALLOW MEDIUM REMOVAL", "1e 00 0000 03 00", sbc.prevent_allow, _PREVENT, "SBC-4 §5.12"),
    _op("TEST UNIT READY", "00 00 00 00 00 00", sbc.test_unit_ready, MEDIUM, "SPC-4 §6.47"),
]

_ERASE: list[Operation] = [
    _op("FORMAT UNIT", "04 38 00 00 03 00", erase.format_unit, ERASES, "SBC-4 §5.4", _OUT, timeout_s=600),
    _op("SANITIZE, BLOCK ERASE", "48 a0 0000000000 0000 00", erase.block_erase, ERASES, "SBC-4 §5.30", action=0x02,
        timeout_s=600),
    _op("SANITIZE, EXIT FAILURE MODE", "48 a0 0000000000 0000 00", erase.exit_failure_mode, ERASES, "SBC-4 §5.30",
        action=0x1F),
]

_PROVISIONING: list[Operation] = [
    _op("UNMAP", "42 00 00000000 3f ffff 00", provisioning.unmap, WRITES, "SBC-4 §5.35", _OUT, (7, 2), timeout_s=60),
    _op("WRITE SAME (10)", "41 08 ffffffff 3f ffff 00", provisioning.write_same, WRITES, "SBC-4 §5.50", _OUT,
        timeout_s=60),
    _op("WRITE SAME (16)", "93 09 ffffffffffffffff ffffffff 3f 00", provisioning.write_same, WRITES, "SBC-4 §5.51",
        _OUT, timeout_s=60),
    _op("GET LBA STATUS (16)", "9e 00 ffffffffffffffff ffffffff 00 00", provisioning.get_lba_status_16, READS,
        "SBC-4 §5.6", _IN, (10, 4), action=0x12),
    Operation("GET LBA STATUS (32)",
              bytes.fromhex("7f 00 00000000 00 ff 0000 00 00 ffffffffffffffff ffffffff 00000000 ffffffff"), 0x12,
              provisioning.get_lba_status_32, READS, _IN, Field(28, 4), "SBC-4 §5.7", listed=False),
]

_PRIMARY: list[Operation] = [
    _op("INQUIRY", "12 01 ff ffff 00", spc.inquiry, EXEMPT, "SPC-4 §6.6", _IN, (3, 2)),
    _op("REQUEST SENSE", "03 01 0000 ff 00", spc.request_sense, EXEMPT, "SPC-4 §6.39", _IN, (4, 1)),
    _op("REPORT LUNS", "a0 00 ff 000000 ffffffff 00 00", spc.report_luns, EXEMPT, "SPC-4 §6.33", _IN, (6, 4)),
    _op("MODE SENSE (6)", "1a 08 ff ff ff 00", mode.mode_sense_6, INSPECT, "SPC-4 §6.11", _IN, (4, 1)),
    _op("MODE SENSE (10)", "5a 18 ff ff 000000 ffff 00", mode.mode_sense_10, INSPECT, "SPC-4 §6.12", _IN, (7, 2)),
    _op("MODE SELECT (6)", "15 11 0000 ff 00", mode.mode_select_6, CONFIGURE, "SPC-4 §6.9", _OUT, (4, 1)),
    _op("MODE SELECT (10)", "55 11 0000000000 ffff 00", mode.mode_select_10, CONFIGURE, "SPC-4 §6.10", _OUT, (7, 2)),
    _op("LOG SENSE", "4d 01 ff ff 00 ffff ffff 00", log.log_sense, _LOG, "SPC-4 §6.8", _IN, (7, 2)),
    _op("SEND DIAGNOSTIC", "1d f7 00 ffff 00", spc.send_diagnostic, CONFIGURE, "SPC-4 §6.42", _OUT, (3, 2)),
    _op("RECEIVE DIAGNOSTIC RESULTS", "1c 01 ff ffff 00", spc.receive_diagnostic_results, INSPECT, "SPC-4 §6.26", _IN,
        (3, 2)),
    _op("REPORT IDENTIFYING INFORMATION", "a3 00 00000000 ffffffff fe 00", spc.report_identifying_information, QUERY,
        "SPC-4 §6.32", _IN, (6, 4), action=0x05),
    _op("REPORT TARGET PORT GROUPS", "a3 e0 00000000 ffffffff 00 00", alua.report_target_port_groups, PORTS,
        "SPC-4 §6.37", _IN, (6, 4), action=0x0A),
    _op("REPORT SUPPORTED OPERATION CODES", "a3 00 87 ff ffff ffffffff 00 00", spc.report_supported_operation_codes,
        INSPECT, "SPC-4 §6.35", _IN, (6, 4), action=0x0C),
    _op("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", "a3 00 80 000000 ffffffff 00 00", spc.report_supported_tmf,
        INSPECT, "SPC-4 §6.36", _IN, (6, 4), action=0x0D),
    _op("REPORT TIMESTAMP", "a3 00 00000000 ffffffff 00 00", spc.report_timestamp, QUERY, "SPC-4 §6.38", _IN, (6, 4),
        action=0x0F),
    _op("SET IDENTIFYING INFORMATION", "a4 00 00000000 ffffffff fe 00", spc.set_identifying_information, CONFIGURE,
        "SPC-4 §6.43", _OUT, (6, 4), action=0x06),
    _op("SET TARGET PORT GROUPS", "a4 00 00000000 ffffffff 00 00", alua.set_target_port_groups, _SET_PORTS, "SPC-4 §6.45",
        _OUT, (6, 4), action=0x0A),
]


def _reserve_in(action: int, name: str, handler: Handler) -> Operation:
    return _op(f"PERSISTENT RESERVE IN, {name}", "5e 00 0000000000 ffff 00", handler, RESERVE, "SPC-4 §6.15", _IN, (7, 2),
               action=action)


def _reserve_out(action: int, name: str, handler: Handler) -> Operation:
    return _op(f"PERSISTENT RESERVE OUT, {name}", "5f 00 ff 0000 ffffffff 00", handler, RESERVE,
               "SPC-4 §6.16", _OUT, (5, 4), action=action)


_RESERVATIONS: list[Operation] = [
    _reserve_in(0x00, "READ KEYS", persistent_reserve.read_keys),
    _reserve_in(0x01, "READ RESERVATION", persistent_reserve.read_reservation),
    _reserve_in(0x02, "REPORT CAPABILITIES", persistent_reserve.report_capabilities),
    _reserve_in(0x03, "READ FULL STATUS", persistent_reserve.read_full_status),
    _reserve_out(0x00, "REGISTER", persistent_reserve.register),
    _reserve_out(0x01, "RESERVE", persistent_reserve.reserve),
    _reserve_out(0x02, "RELEASE", persistent_reserve.release),
    _reserve_out(0x03, "CLEAR", persistent_reserve.clear),
    _reserve_out(0x04, "PREEMPT", persistent_reserve.preempt),
    _reserve_out(0x05, "PREEMPT AND ABORT", persistent_reserve.preempt_and_abort),
    _reserve_out(0x06, "REGISTER AND IGNORE EXISTING KEY", persistent_reserve.register_and_ignore),
    _reserve_out(0x07, "REGISTER AND MOVE", persistent_reserve.register_and_move),
    _op("RESERVE (6)", "16 00 000000 00", persistent_reserve.reserve_legacy, OWN, "SPC-2 §7.21"),
    _op("RELEASE (6)", "17 00 000000 00", persistent_reserve.release_legacy, OWN, "SPC-2 §7.16"),
    _op("RESERVE (10)", "56 00 0000000000 0000 00", persistent_reserve.reserve_legacy, OWN, "SPC-2 §7.22"),
    _op("RELEASE (10)", "57 00 0000000000 0000 00", persistent_reserve.release_legacy, OWN, "SPC-2 §7.17"),
]

_COPY: list[Operation] = [
    _op("EXTENDED COPY (LID1)", "83 00 0000000000000000 ffffffff 00 00", extended_copy.extended_copy_lid1, _COPIES,
        "SPC-4 §6.4", _OUT, (10, 4), action=0x00, timeout_s=120),
    _op("EXTENDED COPY (LID4)", "83 00 0000000000000000 ffffffff 00 00", extended_copy.extended_copy_lid4, _COPIES,
        "SPC-4 §6.5", _OUT, (10, 4), action=0x01, timeout_s=120),
    _op("COPY OPERATION ABORT", "83 00 ffffffff 0000000000000000 00 00", extended_copy.copy_operation_abort, QUERY,
        "SPC-4 §6.3", action=0x1C),
    _op("RECEIVE COPY STATUS (LID1)", "84 00 ff 00000000000000 ffffffff 00 00", extended_copy.copy_status_lid1, QUERY,
        "SPC-4 §6.23", _IN, (10, 4), action=0x00),
    _op("RECEIVE COPY DATA (LID1)", "84 00 ff 00000000000000 ffffffff 00 00", extended_copy.receive_copy_data, QUERY,
        "SPC-4 §6.19", _IN, (10, 4), action=0x01),
    _op("RECEIVE COPY OPERATING PARAMETERS", "84 00 0000000000000000 ffffffff 00 00", extended_copy.operating_parameters, QUERY,
        "SPC-4 §6.22", _IN, (10, 4), action=0x03),
    _op("RECEIVE COPY FAILURE DETAILS (LID1)", "84 00 ff 00000000000000 ffffffff 00 00", extended_copy.failed_segment_details,
        QUERY, "SPC-4 §6.21", _IN, (10, 4), action=0x04),
    _op("RECEIVE COPY STATUS (LID4)", "84 00 ffffffff 00000000 ffffffff 00 00", extended_copy.copy_status_lid4, QUERY,
        "SPC-4 §6.24", _IN, (10, 4), action=0x05),
]

_OFFLOAD: list[Operation] = [
    _op("POPULATE TOKEN", "83 00 00000000 ffffffff ffffffff 3f 00", offload.populate_token, READS, "SBC-4 §5.12", _OUT,
        (10, 4), action=0x10),
    _op("WRITE USING TOKEN", "83 00 00000000 ffffffff ffffffff 3f 00", offload.write_using_token, WRITES,
        "SBC-4 §5.53", _OUT, (10, 4), action=0x11, timeout_s=120),
    _op("RECEIVE ROD TOKEN INFORMATION", "84 00 ffffffff 00000000 ffffffff 00 00",
        offload.receive_rod_token_information, QUERY, "SPC-4 §6.27", _IN, (10, 4), action=0x07),
]

OPERATIONS: tuple[Operation, ...] = (*_BLOCKS, *_ERASE, *_PROVISIONING, *_PRIMARY, *_RESERVATIONS, *_COPY, *_OFFLOAD)
