"""Where every field of a basic header segment lies: the one table of offsets, sizes and bits (RFC 7143 §11.2 to §11.19).

A field lies at the same place in every PDU that has it, so the table names each once. The few that do not have a second
row, under the PDU's name. Which PDU has which fields is said by its class in `pdu`; reading and writing go by both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Kind: TypeAlias = type[bool] | type[int] | type[bytes]


@dataclass(frozen=True, slots=True)
class WireField:
    """`size` bytes from `offset`, of which `mask` (after the big-endian read) counts; `kind` is what they are read as.

    `shift` is how far the masked value lies above bit 0; `is_bytes` fields are taken as the bytes that they are.
    """

    name: str
    offset: int
    size: int
    mask: int
    kind: Kind
    shift: int
    is_bytes: bool


ALL = -1
_TABLE: tuple[tuple[str, int, int, int, Kind], ...] = (
    # name, or PDU.name                 offset  size  mask  kind
    ("immediate",                            0,    1, 0x40, bool),
    ("final",                                1,    1, 0x80, bool),
    ("transit",                              1,    1, 0x80, bool),
    ("continues",                            1,    1, 0x40, bool),
    ("acknowledge",                          1,    1, 0x40, bool),
    ("read",                                 1,    1, 0x40, bool),
    ("write",                                1,    1, 0x20, bool),
    ("bidirectional_overflow",               1,    1, 0x10, bool),
    ("bidirectional_underflow",              1,    1, 0x08, bool),
    ("overflow",                             1,    1, 0x04, bool),
    ("underflow",                            1,    1, 0x02, bool),
    ("has_status",                           1,    1, 0x01, bool),
    ("current_stage",                        1,    1, 0x0C, int),
    ("next_stage",                           1,    1, 0x03, int),
    ("attributes",                           1,    1, 0x07, int),
    ("function",                             1,    1, 0x7F, int),
    ("type",                                 1,    1, 0x0F, int),
    ("LogoutRequest.reason",                 1,    1, 0x7F, int),
    ("reason",                               2,    1, ALL,  int),
    ("response",                             2,    1, ALL,  int),
    ("priority",                             2,    1, 0x0F, int),
    ("version_max",                          2,    1, ALL,  int),
    ("version_min",                          3,    1, ALL,  int),
    ("version_active",                       3,    1, ALL,  int),
    ("status",                               3,    1, ALL,  int),
    ("lun",                                  8,    8, ALL,  bytes),
    ("isid",                                 8,    6, ALL,  bytes),
    ("additional_information",               8,    3, ALL,  bytes),
    ("status_qualifier",                     8,    2, ALL,  int),
    ("tsih",                                14,    2, ALL,  int),
    ("initiator_task_tag",                  16,    4, ALL,  int),
    ("target_transfer_tag",                 20,    4, ALL,  int),
    ("referenced_task_tag",                 20,    4, ALL,  int),
    ("snack_tag",                           20,    4, ALL,  int),
    ("expected_data_transfer_length",       20,    4, ALL,  int),
    ("cid",                                 20,    2, ALL,  int),
    ("cmd_sn",                              24,    4, ALL,  int),
    ("stat_sn",                             24,    4, ALL,  int),
    ("exp_stat_sn",                         28,    4, ALL,  int),
    ("exp_cmd_sn",                          28,    4, ALL,  int),
    ("ref_cmd_sn",                          32,    4, ALL,  int),
    ("max_cmd_sn",                          32,    4, ALL,  int),
    ("cdb",                                 32,   16, ALL,  bytes),
    ("data_sn",                             36,    4, ALL,  int),
    ("exp_data_sn",                         36,    4, ALL,  int),
    ("r2t_sn",                              36,    4, ALL,  int),
    ("LoginResponse.status",                36,    2, ALL,  int),
    ("async_event",                         36,    1, ALL,  int),
    ("async_vcode",                         37,    1, ALL,  int),
    ("parameter1",                          38,    2, ALL,  int),
    ("parameter2",                          40,    2, ALL,  int),
    ("parameter3",                          42,    2, ALL,  int),
    ("time2wait",                           40,    2, ALL,  int),
    ("time2retain",                         42,    2, ALL,  int),
    ("begin_run",                           40,    4, ALL,  int),
    ("buffer_offset",                       40,    4, ALL,  int),
    ("bidirectional_read_residual_count",   40,    4, ALL,  int),
    ("run_length",                          44,    4, ALL,  int),
    ("residual_count",                      44,    4, ALL,  int),
    ("desired_data_transfer_length",        44,    4, ALL,  int),
)  # fmt: skip


def _row(name: str, offset: int, size: int, mask: int, kind: Kind) -> WireField:
    mask &= (1 << 8 * size) - 1
    return WireField(name.rpartition(".")[2], offset, size, mask, kind, (mask & -mask).bit_length() - 1, kind is bytes)


FIELDS: dict[str, WireField] = {row[0]: _row(*row) for row in _TABLE}


def fields_of(pdu: str, names: tuple[str, ...]) -> tuple[WireField, ...]:
    """The rows of the PDU named `pdu` for its fields `names`; its own row of a name comes before the common one."""
    return tuple(FIELDS.get(f"{pdu}.{name}") or FIELDS[name] for name in names)
