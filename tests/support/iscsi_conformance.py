"""The iSCSI half of docs/protocol-conformance.md, made from the tables that the code runs by.

`python -m tests.support.iscsi_conformance` writes it; tests/iscsi/test_conformance.py holds document, tables and tests together.
"""

from pathlib import Path

from target.iscsi.bhs import FIELDS, WireField
from target.iscsi.chap import ALGORITHMS
from target.iscsi.codes import LoginStatus, Opcode
from target.iscsi.keys import TABLE, KeySpec, Result
from target.iscsi.negotiation import our_values
from target.iscsi.pdu import PDU_TYPES
from target.iscsi.policy import Limits
from target.iscsi.task_management import FUNCTIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol-conformance.md"
BEGIN, END = "<!-- iscsi: begin, generated -->", "<!-- iscsi: end -->"

LOGIN, NEGOTIATION = "iscsi/test_login.py", "iscsi/test_negotiation.py"
CONNECTION, PDU = "iscsi/test_connection.py", "iscsi/test_pdu.py"
RECOVERY = "core/test_reactor_recovery.py"

KEY_TESTS = {
    Result.AUTHENTICATION: f"{LOGIN}::test_mutual_chap",
    Result.DECLARED: f"{LOGIN}::test_open_iscsi_normal_login_without_authentication",
    Result.QUERY: f"{CONNECTION}::test_send_targets_in_discovery",
    Result.OBSOLETE_NO: f"{NEGOTIATION}::test_single_answers",
    Result.OBSOLETE_REJECT: f"{NEGOTIATION}::test_single_answers",
    Result.FIRST_COMMON: f"{NEGOTIATION}::test_single_answers",
}
KEY_TEST = f"{NEGOTIATION}::test_negotiation_commutes_with_the_table"

NOP_TEST = f"{CONNECTION}::test_nop_out_is_echoed_within_the_initiator_s_segment"

# opcode: clause, who deals with it, test
HEADER = """### The basic header segment

Byte 0 holds the opcode in bits 5 to 0, byte 4 TotalAHSLength, bytes 5 to 7 DataSegmentLength. Bit 7 of byte 1 is 1
where no field has it. What no field names is zero when sent, ignored when received. `target/iscsi/bhs.py` is this
table."""

PDUS: dict[Opcode, tuple[str, str]] = {
    Opcode.NOP_OUT: ("native; Python in discovery", NOP_TEST),
    Opcode.SCSI_COMMAND: ("native", f"{PDU}::test_bad_additional_headers"),
    Opcode.TASK_MANAGEMENT_REQUEST: ("Python", f"{CONNECTION}::test_functions_that_the_server_performs"),
    Opcode.LOGIN_REQUEST: ("Python", f"{LOGIN}::test_initiator_error"),
    Opcode.TEXT_REQUEST: ("Python", f"{CONNECTION}::test_text_in_a_normal_session"),
    Opcode.DATA_OUT: ("native", f"{PDU}::test_every_pdu_survives_the_wire_in_any_pieces"),
    Opcode.LOGOUT_REQUEST: ("Python", f"{CONNECTION}::test_logout"),
    Opcode.SNACK_REQUEST: ("native; Reject 03h at ErrorRecoveryLevel 0",
                           f"{RECOVERY}::test_lost_data_is_sent_again_as_it_was"),
    Opcode.NOP_IN: ("native; Python in discovery", f"{CONNECTION}::test_ping_and_its_answer"),
    Opcode.SCSI_RESPONSE: ("native", f"{PDU}::test_every_pdu_survives_the_wire_in_any_pieces"),
    Opcode.TASK_MANAGEMENT_RESPONSE: ("Python", f"{CONNECTION}::test_functions_that_are_answered_at_once"),
    Opcode.LOGIN_RESPONSE: ("Python", f"{LOGIN}::test_open_iscsi_normal_login_without_authentication"),
    Opcode.TEXT_RESPONSE: ("Python", f"{CONNECTION}::test_text_negotiation_over_several_requests"),
    Opcode.DATA_IN: ("native", f"{PDU}::test_known_bytes_of_data_in_with_status"),
    Opcode.LOGOUT_RESPONSE: ("Python", f"{CONNECTION}::test_logout"),
    Opcode.R2T: ("native", f"{PDU}::test_every_pdu_survives_the_wire_in_any_pieces"),
    Opcode.ASYNC_MESSAGE: ("Python", f"{CONNECTION}::test_async_messages"),
    Opcode.REJECT: ("native and Python", f"{CONNECTION}::test_what_is_rejected"),
}  # fmt: skip

STATUSES: dict[LoginStatus, tuple[str, str]] = {
    LoginStatus.SUCCESS: ("login goes on, or is complete", "test_open_iscsi_normal_login_without_authentication"),
    LoginStatus.TARGET_MOVED_TEMPORARILY: ("the gatekeeper redirects, with TargetAddress", "test_moved"),
    LoginStatus.TARGET_MOVED_PERMANENTLY: ("the gatekeeper redirects for good", "test_moved"),
    LoginStatus.INITIATOR_ERROR: ("broken format, order, stage or limit", "test_initiator_error"),
    LoginStatus.AUTHENTICATION_FAILURE: ("CHAP failed, or was evaded", "test_authentication_cannot_be_skipped"),
    LoginStatus.AUTHORIZATION_FAILURE: ("this initiator may not use this target", "test_the_gatekeeper_decides"),
    LoginStatus.NOT_FOUND: ("no such target", "test_target_not_found"),
    LoginStatus.TARGET_REMOVED: ("the gatekeeper says so", "test_the_gatekeeper_decides"),
    LoginStatus.UNSUPPORTED_VERSION: ("Version-min above 0", "test_unsupported_version"),
    LoginStatus.TOO_MANY_CONNECTIONS: ("MaxConnections of the session reached", "test_too_many_connections"),
    LoginStatus.MISSING_PARAMETER: ("no InitiatorName, or no TargetName", "test_missing_parameter"),
    LoginStatus.CANNOT_INCLUDE_IN_SESSION: (
        "second connection of a discovery session",
        "test_a_discovery_session_takes_no_second_connection",
    ),
    LoginStatus.SESSION_TYPE_NOT_SUPPORTED: ("SessionType unknown", "test_session_type_not_supported"),
    LoginStatus.SESSION_DOES_NOT_EXIST: ("TSIH of no session of this nexus", "test_session_does_not_exist"),
    LoginStatus.INVALID_DURING_LOGIN: ("another PDU after the first login request", "test_other_pdu_during_login"),
    LoginStatus.TARGET_ERROR: ("the gatekeeper says so", "test_the_gatekeeper_decides"),
    LoginStatus.SERVICE_UNAVAILABLE: ("the gatekeeper says so", "test_the_gatekeeper_decides"),
    LoginStatus.OUT_OF_RESOURCES: ("session caps, in all and for one initiator", "test_out_of_resources"),
}

NOTES = """\
Stated limits and choices:

- **ErrorRecoveryLevel** is 0 or 1, as the initiator asks; 2 is negotiated down to 1, and a discovery session has 0.
  Level 1: all types of SNACK, responses and read data kept within bounds until they are acknowledged, recovery R2Ts,
  and requests with a damaged data segment that were never received. At level 0 a SNACK is rejected (03h) and damaged
  data end their command (47h/05h). A header digest error closes the connection at any level. Logout for recovery is
  answered "recovery not supported", TASK REASSIGN "allegiance reassignment not supported". Decision 6; tests:
  `core/test_reactor_recovery.py`, `core/test_reactor_lossy.py`, `interop/test_recovery.py`.
- **MaxConnections** is at most 4. Commands of a session are taken in CmdSN order over all of its connections and
  answered on the one they came by; the failure of one ends the session (no ErrorRecoveryLevel 2), a Logout of one
  does not. A login with the TSIH and CID of a live connection reinstates that connection. Tests:
  `interop/test_multiple_connections.py`.
- **Session reinstatement** (same initiator name, ISID and portal group, TSIH 0) takes effect when the new login is
  complete and authenticated, not before, and waits for none of the old session's I/O. What the old session left in
  the engine is waited for by the host's next commands, by resets and by PREEMPT AND ABORT, so that no write lands
  late (`iscsi/test_sessions.py`).
- **iSCSIProtocolLevel** is 2; below it (an initiator that does not ask gets 1) the functions that RFC 7144 adds are
  refused. The level shows in the version descriptor of standard INQUIRY data. I_T NEXUS RESET drops all connections
  of its session.
- **ABORT TASK** for a command that has not come, but whose RefCmdSN is in the window and older than the request,
  counts that CmdSN as received (§11.6.1). Tests: `interop/test_task_management.py`.
- **Task management of task management** (ABORT TASK, QUERY TASK that name such a request) is answered "function
  rejected".
- **Discovery sessions** are not reinstated by ISID: several may be open at once, as initiators do in practice.
- **MaxRecvDataSegmentLength** may be declared anew in the full feature phase, longer or shorter; it holds for all
  that is built after the negotiation ends, Data-In already queued included. Test: `interop/test_segment_length.py`.
- **SendTargets=All in a normal session** is answered with the session's own target, as if nothing had been asked for
  by name. Appendix C keeps "All" for discovery sessions; libiscsi's suite asks for it, and nothing is told that
  "SendTargets=" would not tell. A value that is no name, and a key that misspells SendTargets, get Reject 04h; every
  other unknown key is answered NotUnderstood (§6.2).
- IFMarker and OFMarker are answered No (allowed by §13.25), IFMarkInt and OFMarkInt Reject, private keys NotUnderstood.
- A declaration (InitiatorName, TargetName, SessionType, InitiatorAlias) may be repeated with the same value in a
  later stage: some initiators do it. Anything else said twice in a login is an initiator error.
- **Asynchronous SCSI events** (AsyncEvent 0) go to hosts that are set to get them, for unit attentions that arise
  outside of commands: changed LUNs, capacity, INQUIRY data, medium, thin threshold, access state. The unit attention
  stays pending. Test: `interop/test_session.py`.
- **A peer that does not read its answers** is not read from once 512 of them or 1 MiB wait, until half is gone;
  keepalive ends the connection when it takes nothing at all. Test: `core/test_reactor_protocol.py`.
- **iSCSI names** have the normal form of RFC 3722 (fold case, drop what is invisible, NFKC of Unicode 3.2), made in
  one place (`target/iscsi/names.py`): creation, logins, discovery, reservations and logs know no other. What has none
  (a character that is prohibited or not assigned, mixed directions) gets status 0200h. Laxer than RFC 3722: visible
  ASCII other than the comma is kept, as names with an underscore are in wide use. A CHAP_N that is an iSCSI name is
  compared as one. Tests: `iscsi/test_names.py`, `interop/test_portals.py`.
- Bounds: 8 KiB a login PDU, 64 KiB a text, 63 bytes a key, 255 bytes a value (223 a name, 1024 decoded bytes CHAP_C and
  CHAP_R), 64 PDUs, 256 KiB and 15 s a login.
"""


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _ours(spec: KeySpec) -> str:
    ours = our_values(Limits())
    if spec.name == "MaxRecvDataSegmentLength":
        return str(Limits().max_recv_data_segment_length)
    return _value(ours[spec.name]) if spec.name in ours else ""


def _range(spec: KeySpec) -> str:
    if spec.choices:
        return ", ".join(spec.choices)
    return f"{spec.minimum} to {spec.maximum}" if spec.maximum else ""


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _bits(field: WireField) -> str:
    """The bits of a field that shares its byte with others, the highest first."""
    high, low = field.mask.bit_length() - 1, field.shift
    return "" if field.mask == (1 << 8 * field.size) - 1 else str(low) if high == low else f"{high} to {low}"


def _test(reference: str) -> str:
    return f"`{reference}`"


def render() -> str:
    """The generated sections, markers included."""
    keys = _table(
        ("Key", "Type", "Default", "Range", "Result", "Ours", "Use", "Scope", "Sender", "Clause", "Test"),
        [
            (
                spec.name, spec.type.value, spec.default, _range(spec), spec.result.value, _ours(spec), spec.use.value,
                spec.scope.value, spec.sender.value, spec.clause, _test(KEY_TESTS.get(spec.result, KEY_TEST)),
            )
            for spec in TABLE
        ],
    )  # fmt: skip
    pdus = _table(
        ("Opcode", "PDU", "RFC 7143", "Where", "Test"),
        [(f"{op:02X}h", cls.__name__, cls.clause.removeprefix("RFC 7143 "), PDUS[op][0], _test(PDUS[op][1]))
         for op, cls in PDU_TYPES.items()],
    )
    header = _table(
        ("Bytes", "Bits", "Field", "PDUs"),
        [
            (str(f.offset) if f.size == 1 else f"{f.offset} to {f.offset + f.size - 1}", _bits(f), f.name, ", ".join(users))
            for f in FIELDS.values() if (users := [cls.__name__ for cls in PDU_TYPES.values() if f in cls.wire])
        ],
    )  # fmt: skip
    statuses = _table(
        ("Status", "Name", "When", "Test"),
        [(f"{s:04X}h", s.name, STATUSES[s][0], _test(f"{LOGIN}::{STATUSES[s][1]}")) for s in LoginStatus],
    )
    functions = _table(
        ("Function", "Name", "iSCSIProtocolLevel", "Clause"),
        [(str(int(f)), f.name, str(max(1, spec.protocol_level)), spec.clause) for f, spec in FUNCTIONS.items()],
    )
    algorithms = _table(
        ("CHAP_A", "Hash", "Test"),
        [(str(n), name, _test(f"{LOGIN}::test_one_way_chap")) for n, (name, _) in ALGORITHMS.items()],
    )
    parts = [
        BEGIN, "## iSCSI (RFC 7143, RFC 7144)", NOTES.rstrip(), "### Text keys", keys, "### PDUs", pdus, HEADER, header,
        "### Login status", statuses, "### Task management functions", functions, "### CHAP algorithms", algorithms, END,
    ]  # fmt: skip
    return "\n\n".join(parts)


def references() -> set[str]:
    """Every test that the document cites, as path::function below tests/."""
    logins = {f"{LOGIN}::{test}" for _, test in STATUSES.values()} | {f"{LOGIN}::test_one_way_chap"}
    return {*KEY_TESTS.values(), KEY_TEST, *(test for _, test in PDUS.values())} | logins


def write() -> None:
    """Put the generated sections into the document, leaving everything else alone."""
    text = DOCUMENT.read_text() if DOCUMENT.exists() else HEAD
    if BEGIN in text:
        start, rest = text.split(BEGIN, 1)
        text = start + render() + rest.split(END, 1)[1]
    else:
        text = text.rstrip() + "\n\n" + render() + "\n"
    DOCUMENT.write_text(text)


HEAD = """\
# Protocol conformance

What Lunette implements of its standards, where each piece is said and which test holds it. The tables are made from the tables
that the code runs by; tests fail when they differ. "Native" is the data plane (`core/wire`), "Python" the control plane.
"""

if __name__ == "__main__":
    write()
