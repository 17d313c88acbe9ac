"""The SCSI half of docs/protocol-conformance.md, made from the tables that the code runs by.

`python -m tests.support.scsi_conformance` writes it; tests/scsi/test_conformance.py holds document, tables and tests together.
"""

from __future__ import annotations

from pathlib import Path

from target.scsi import log, mode_pages, vpd
from target.scsi.cdb import Conflict, Ready
from target.scsi.dispatch import TABLE
from target.scsi.reservations.state import ReservationType
from target.scsi.task import Operation
from target.scsi.unit_attention import UnitAttention

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol-conformance.md"
BEGIN, END = "<!-- scsi: begin, generated -->", "<!-- scsi: end -->"
BLOCKS, PRIMARY, SPACE = "scsi/test_blocks.py", "scsi/test_primary.py", "scsi/test_provisioning.py"
RESERVE, COPY, OFFLOAD, ALUA = ("scsi/test_reservations.py", "scsi/test_copy.py", "scsi/test_offload.py",
                                "scsi/test_alua.py")
ATTENTION, DISPATCH, ERASE = "scsi/test_unit_attention.py", "scsi/test_dispatch.py", "scsi/test_erase.py"

NATIVE = ("READ (", "WRITE (", "SYNCHRONIZE CACHE", "TEST UNIT READY")

# The first prefix that fits names the test.
COMMAND_TESTS: tuple[tuple[str, str], ...] = (
    ("READ CAPACITY", f"{BLOCKS}::test_capacity"),
    ("READ DEFECT DATA", f"{BLOCKS}::test_defect_lists_are_empty"),
    ("READ (", f"{BLOCKS}::test_what_is_written_is_read"),
    ("WRITE (", f"{BLOCKS}::test_what_is_written_is_read"),
    ("WRITE AND VERIFY", f"{BLOCKS}::test_write_and_verify_is_durable"),
    ("VERIFY", f"{BLOCKS}::test_verify_compares"),
    ("COMPARE AND WRITE", f"{BLOCKS}::test_compare_and_write"),
    ("ORWRITE", f"{BLOCKS}::test_orwrite_survives_a_write_in_between"),
    ("WRITE ATOMIC", f"{BLOCKS}::test_write_atomic_exists_only_where_the_backend_promises_it"),
    ("PRE-FETCH", f"{BLOCKS}::test_the_end_of_the_medium"),
    ("SYNCHRONIZE CACHE", f"{BLOCKS}::test_synchronize_cache_flushes_and_stop_forbids_the_medium"),
    ("START STOP UNIT", f"{BLOCKS}::test_synchronize_cache_flushes_and_stop_forbids_the_medium"),
    ("PREVENT ALLOW", f"{BLOCKS}::test_synchronize_cache_flushes_and_stop_forbids_the_medium"),
    ("FORMAT UNIT", f"{ERASE}::test_format_deallocates_everything"),
    ("SANITIZE, BLOCK ERASE", f"{ERASE}::test_block_erase_deallocates_and_is_remembered_until_it_has_ended"),
    ("SANITIZE, EXIT", f"{ERASE}::test_a_sanitize_that_failed_closes_the_medium"),
    ("TEST UNIT READY", f"{ATTENTION}::test_a_new_nexus_is_told_power_on_once"),
    ("UNMAP", f"{SPACE}::test_unmap_frees_and_reads_as_zeros"),
    ("WRITE SAME", f"{SPACE}::test_write_same_deallocates_zeros"),
    ("GET LBA STATUS (16)", f"{SPACE}::test_lba_status"),
    ("GET LBA STATUS (32)", f"{SPACE}::test_lba_status_32"),
    ("INQUIRY", f"{PRIMARY}::test_standard_inquiry"),
    ("REQUEST SENSE", f"{ATTENTION}::test_request_sense_tells_and_clears"),
    ("REPORT LUNS", f"{PRIMARY}::test_report_luns_lists_what_this_nexus_reaches_and_no_more"),
    ("MODE SENSE", f"{PRIMARY}::test_all_pages_at_once_are_each_page_alone"),
    ("MODE SELECT", f"{PRIMARY}::test_only_changeable_bits_change"),
    ("LOG SENSE", f"{PRIMARY}::test_log_pages"),
    ("SEND DIAGNOSTIC", f"{PRIMARY}::test_diagnostics"),
    ("RECEIVE DIAGNOSTIC", f"{PRIMARY}::test_diagnostics"),
    ("REPORT IDENTIFYING", f"{PRIMARY}::test_identifying_information_and_timestamp"),
    ("SET IDENTIFYING", f"{PRIMARY}::test_identifying_information_and_timestamp"),
    ("REPORT TIMESTAMP", f"{PRIMARY}::test_identifying_information_and_timestamp"),
    ("REPORT TARGET PORT GROUPS", f"{ALUA}::test_report"),
    ("SET TARGET PORT GROUPS", f"{ALUA}::test_explicit_standby_is_for_one_unit_and_told_to_the_others"),
    ("REPORT SUPPORTED OPERATION", f"{DISPATCH}::test_one_command_is_reported_with_its_usage"),
    ("REPORT SUPPORTED TASK", f"{DISPATCH}::test_task_management_functions_are_reported"),
    ("PERSISTENT RESERVE IN, REPORT CAPABILITIES", f"{RESERVE}::test_list_lengths"),
    ("PERSISTENT RESERVE IN, READ FULL STATUS", f"{RESERVE}::test_spec_i_pt_and_all_tg_pt"),
    ("PERSISTENT RESERVE IN", f"{RESERVE}::test_registration_keys"),
    ("PERSISTENT RESERVE OUT, REGISTER AND MOVE", f"{RESERVE}::test_register_and_move"),
    ("PERSISTENT RESERVE OUT, REGISTER", f"{RESERVE}::test_registration_keys"),
    ("PERSISTENT RESERVE OUT, RE", f"{RESERVE}::test_reserve_again_and_release"),
    ("PERSISTENT RESERVE OUT, CLEAR", f"{RESERVE}::test_clear"),
    ("PERSISTENT RESERVE OUT, PREEMPT AND ABORT", f"{RESERVE}::test_preempt_of_a_registrant_leaves_the_reservation"),
    ("PERSISTENT RESERVE OUT, PREEMPT", f"{RESERVE}::test_preempt_takes_the_reservation"),
    ("RESERVE (", f"{RESERVE}::test_nexus_loss_keeps_persistent_and_ends_legacy_reservations"),
    ("RELEASE (", f"{RESERVE}::test_nexus_loss_keeps_persistent_and_ends_legacy_reservations"),
    ("EXTENDED COPY (LID1)", f"{COPY}::test_copies_between_units_share_blocks"),
    ("EXTENDED COPY (LID4)", f"{COPY}::test_lid4"),
    ("COPY OPERATION ABORT", "fuzz/test_fuzz_cdb.py::test_any_sequence_of_commands"),
    ("RECEIVE COPY OPERATING", f"{COPY}::test_operating_parameters_and_page"),
    ("RECEIVE COPY FAILURE", f"{COPY}::test_segments_that_cannot_be_done"),
    ("RECEIVE COPY STATUS (LID4)", f"{COPY}::test_lid4"),
    ("RECEIVE COPY", f"{COPY}::test_results_belong_to_their_nexus_and_are_bounded"),
    ("POPULATE TOKEN", f"{OFFLOAD}::test_a_token_copies_by_reference"),
    ("WRITE USING TOKEN", f"{OFFLOAD}::test_a_token_copies_by_reference"),
    ("RECEIVE ROD TOKEN", f"{OFFLOAD}::test_a_token_copies_by_reference"),
)

VPD_PAGES: dict[int, tuple[str, str]] = {
    0x00: ("SPC-4 §7.8.13", f"{PRIMARY}::test_every_listed_page_exists_and_no_other"),
    0x80: ("SPC-4 §7.8.15", f"{PRIMARY}::test_device_identification"),
    0x83: ("SPC-4 §7.8.6", f"{PRIMARY}::test_device_identification"),
    0x86: ("SPC-4 §7.8.7", f"{PRIMARY}::test_every_listed_page_exists_and_no_other"),
    0x87: ("SPC-4 §7.8.9", f"{PRIMARY}::test_every_listed_page_exists_and_no_other"),
    0x88: ("SPC-4 §7.8.11", f"{PRIMARY}::test_every_listed_page_exists_and_no_other"),
    0x8F: ("SPC-4 §7.8.17", f"{COPY}::test_operating_parameters_and_page"),
    0xB0: ("SBC-4 §6.6.4", f"{PRIMARY}::test_block_limits_state_what_is_enforced"),
    0xB1: ("SBC-4 §6.6.2", f"{PRIMARY}::test_every_listed_page_exists_and_no_other"),
    0xB2: ("SBC-4 §6.6.7", f"{PRIMARY}::test_block_limits_state_what_is_enforced"),
}
MODE_TEST = f"{PRIMARY}::test_only_changeable_bits_change"
LOG_TEST = f"{PRIMARY}::test_log_pages"
TYPE_TEST = f"{RESERVE}::test_access_by_type"

ATTENTIONS: dict[UnitAttention, tuple[str, str]] = {
    UnitAttention.POWER_ON: ("a session logs in, or a LUN is mapped", "test_a_new_nexus_is_told_power_on_once"),
    UnitAttention.TARGET_RESET: ("target reset", "test_events_and_their_codes"),
    UnitAttention.BUS_DEVICE_RESET: ("logical unit reset", "test_events_and_their_codes"),
    UnitAttention.NEXUS_LOSS: ("the nexus's tasks were ended", "test_resets_come_first_and_cover_what_they_imply"),
    UnitAttention.MEDIUM_CHANGED: ("revert", "test_events_and_their_codes"),
    UnitAttention.MODE_PARAMETERS_CHANGED: ("MODE SELECT of another nexus", "test_write_protection_shows_and_can_be_set"),
    UnitAttention.RESERVATIONS_PREEMPTED: ("CLEAR", "test_clear"),
    UnitAttention.RESERVATIONS_RELEASED: ("RELEASE, unregistering, a change of type", "test_reserve_again_and_release"),
    UnitAttention.REGISTRATIONS_PREEMPTED: ("PREEMPT", "test_preempt_takes_the_reservation"),
    UnitAttention.ASYMMETRIC_ACCESS_CHANGED: ("a port group changed its state",
                                              "test_an_implicit_change_wins_over_explicit_ones"),
    UnitAttention.CAPACITY_CHANGED: ("resize", "test_events_and_their_codes"),
    UnitAttention.COMMANDS_CLEARED: ("CLEAR TASK SET of another nexus",
                                     "test_resets_come_first_and_cover_what_they_imply"),
    UnitAttention.THRESHOLD_REACHED: ("the pool's free space fell to the soft threshold",
                                      "test_threshold_attention_once_until_space_is_back"),
    UnitAttention.INQUIRY_CHANGED: ("INQUIRY data changed; after 3Fh/0Eh, a LUN means another unit than this nexus saw there",
                                    "test_a_number_that_meant_another_unit_says_so_before_anything_else"),
    UnitAttention.REPORTED_LUNS_CHANGED: ("a LUN appeared or disappeared",
                                          "test_lun_list_changes_are_told_until_the_list_is_read"),
}
ATTENTION_FILES = {
    "test_write_protection_shows_and_can_be_set": PRIMARY, "test_clear": RESERVE,
    "test_reserve_again_and_release": RESERVE, "test_preempt_takes_the_reservation": RESERVE,
    "test_an_implicit_change_wins_over_explicit_ones": ALUA,
    "test_threshold_attention_once_until_space_is_back": SPACE,
}

CHOICES = """\
## SCSI (SAM-5, SPC-4, SBC-4)

Stated limits and choices:

- Every operation is one row of one table; REPORT SUPPORTED OPERATION CODES answers from it, and a bit that is 0 in a
  row's CDB usage data is refused with 24h/00h and a field pointer. That is how RDPROTECT, WRPROTECT, VRPROTECT, NACA
  and ANCHOR are refused. GET LBA STATUS (32) is answered when asked for by name, and left out of the list of all
  commands: common initiators cannot read a CDB of more than 16 bytes there.
- **LUN fields**: peripheral device addressing below 256, flat space addressing above. A number above 255 as it is in
  the first two bytes, which SAM-5 calls a bus identifier, is understood, too: libiscsi writes it so. Others name
  nothing (25h/00h).
- **Task attributes**: an ORDERED command waits for every older command of its nexus on its LUN and holds every
  younger one, HEAD OF QUEUE passes both; commands of different nexuses are not ordered among each other. Within that,
  SIMPLE commands run at once and in any order (QAM 1h). Test: `core/test_reactor_protocol.py`.
- **WRITE ATOMIC** takes up to 1 MiB of whole allocation units (4 KiB), no atomic boundary; all of it or nothing is
  there after a power loss and for every command meanwhile (docs/durability.md).
- **WRITE SAME with UNMAP** deallocates whatever the block holds, as initiators expect; SBC-4 would have a block that
  is not zeros written. Without UNMAP the block is written; zeros are written as zeros and keep their allocation.
- **COMPARE AND WRITE** is atomic up to its stated length, against the native path too. **ORWRITE** is built on it.
- **EXTENDED COPY and ODX** reach only units that the nexus sees. Within a pool they share blocks in the map. A token
  is a point in time: it holds a hidden snapshot of its source until it expires, is dropped, or the daemon ends;
  "access upon reference" is there for who asks. 64 tokens for one nexus, 256 in all; beyond, the oldest of who has
  most goes. Copies run in the foreground.
- **FORMAT UNIT** and **SANITIZE** deallocate the unit. Snapshots and clones are other units and keep their blocks;
  freed blocks of the pool are not overwritten. What was let in before them ends first, copies asked of other units
  and commands of ended sessions included, so nothing of it is left behind; later copies find the unit not ready.
  SANITIZE revokes the unit's tokens. With IMMED they run in the background, and progress is told. A SANITIZE that a
  crash cut short is a failed one. No OVERWRITE (it would not pass over thin, redirected blocks) and no CRYPTOGRAPHIC
  ERASE.
- **ALUA**: a portal group is a target port and a target port group. SET TARGET PORT GROUPS changes the states of one
  logical unit; a change by the administrator (`interop/test_port_groups.py`) covers all of them.
- **START STOP UNIT** stops and starts; starting conflicts with no reservation of either kind, nor does allowing medium
  removal (SPC-2 annex B, SBC-4 table 14); LOEJ and power conditions are refused, PREVENT is refused: the disk is fixed.
- **Block sizes**: a LUN of 512-byte blocks reports eight logical blocks per physical block, or one when its volume
  was made so (decision 7); that 4 KiB is what it likes is said by the transfer length granularity, the unmap
  granularity and its alignment.
- **TAS** is 1 unless MODE SELECT clears it: what another nexus aborts (LOGICAL UNIT RESET, target resets, CLEAR TASK
  SET, PREEMPT AND ABORT) ends with TASK ABORTED once it can write no more; with 0 it ends without a status.
  `interop/test_shared_disk.py`.
- **FUA and WCE**: FUA writes, and every write while WCE is 0, are durable when answered. WRITE AND VERIFY always is.
- Sense is fixed format, descriptor format with D_SENSE. SPC-2 reservations and persistent ones exclude each other.
- Not built: protection information, ACA, REPLACE LOST RESERVATION.
"""


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    return "\n".join([_row(*head), "|" + "---|" * len(head), *(_row(*row) for row in rows)])


def command_test(operation: Operation) -> str:
    """The test that holds a command; AssertionError when nobody named one."""
    for prefix, test in COMMAND_TESTS:
        if operation.name.startswith(prefix):
            return test
    raise AssertionError(f"no test is named for {operation.name}")


def _command(operation: Operation) -> tuple[object, ...]:
    action = "" if operation.service_action is None else f"{operation.service_action:02X}h"
    conflict = {Conflict.NEVER: "allowed", Conflict.READ: "as a read", Conflict.WRITE: "as a write",
                Conflict.OWN: "own rules"}[operation.access.conflict]
    if operation.access.harmless is not None:
        conflict += "; its harmless form allowed"
    ready = {Ready.ANY: "always", Ready.STANDBY: "standby", Ready.MEDIUM: "medium",
             Ready.ERASE: "medium"}[operation.access.ready]
    status = "native; Python when gated" if operation.name.startswith(NATIVE) else "Python"
    if operation.needs is not None:
        status += ", where the medium can"
    return (f"{operation.opcode:02X}h", action, operation.name, status, conflict, ready, operation.clause,
            f"`{command_test(operation)}`")


def attention_test(condition: UnitAttention) -> str:
    name = ATTENTIONS[condition][1]
    return f"{ATTENTION_FILES.get(name, ATTENTION)}::{name}"


def render() -> str:
    """The whole section, markers included."""
    parts = [
        BEGIN, CHOICES.rstrip(),
        "### Commands",
        _table(("Code", "Action", "Command", "Status", "Reserved by another", "Needs", "Clause", "Test"),
               [_command(operation) for operation in TABLE.operations]),
        "### Vital product data",
        _table(("Page", "Name", "Clause", "Test"),
               [(f"{code:02X}h", page.name, VPD_PAGES[code][0], f"`{VPD_PAGES[code][1]}`")
                for code, page in sorted(vpd.PAGES.items())]),
        "### Mode pages",
        _table(("Page", "Name", "Changeable", "Clause", "Test"),
               [(f"{key.code:02X}h/{key.subcode:02X}h", page.name, "yes" if any(page.changeable) else "no", page.clause,
                 f"`{MODE_TEST}`") for key, page in sorted(mode_pages.PAGES.items())]),
        "### Log pages",
        _table(("Page", "Name", "Clause", "Test"),
               [("00h", "Supported Log Pages (and Subpages)", "SPC-4 §7.3.16", f"`{LOG_TEST}`"),
                *((f"{code:02X}h", page.name, page.clause, f"`{LOG_TEST}`") for code, page in sorted(log.PAGES.items()))]),
        "### Persistent reservation types",
        _table(("Type", "Name", "Clause", "Test"),
               [(f"{kind:X}h", kind.name.replace("_", " ").capitalize(), "SPC-4 §6.15.3.4", f"`{TYPE_TEST}`")
                for kind in ReservationType]),
        "### Unit attentions",
        _table(("Code", "Raised by", "Clause", "Test"),
               [(f"{condition >> 8:02X}h/{condition & 0xFF:02X}h", ATTENTIONS[condition][0], "SAM-5 §5.14",
                 f"`{attention_test(condition)}`") for condition in sorted(ATTENTIONS)]),
        END,
    ]
    return "\n\n".join(parts)


def references() -> set[str]:
    """Every test that the document cites, as path::function below tests/."""
    commands = {command_test(operation) for operation in TABLE.operations}
    pages = {test for _, test in VPD_PAGES.values()}
    return {*commands, *pages, MODE_TEST, LOG_TEST, TYPE_TEST, *(attention_test(each) for each in ATTENTIONS)}


def write() -> None:
    """Put the generated section into the document, leaving everything else alone."""
    text = DOCUMENT.read_text()
    if BEGIN in text:
        start, rest = text.split(BEGIN, 1)
        text = start + render() + rest.split(END, 1)[1]
    else:
        text = text.rstrip() + "\n\n" + render() + "\n"
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    write()
