"""Vital product data pages: who a unit is, where it is reached, what it can do (SPC-4 §7.8, SBC-4 §6.6)."""

from __future__ import annotations

from collections.abc import Callable

from target.scsi import sbc
from target.scsi.copy.page import third_party_copy
from target.scsi.designators import (
    ASSOCIATION_DEVICE,
    ASSOCIATION_PORT,
    BINARY,
    PORT_GROUP,
    RELATIVE_PORT,
    descriptor,
    name_string,
    serial_number,
    unit_designators,
)
from target.scsi.fields import Field, build
from target.scsi.model import Limits
from target.scsi.task import Task
from target.scsi.unit import LogicalUnit, threshold_exponent

# -- where the numbers lie, from behind a page's header of 4 bytes on ---------------------------------------------------
BODY_BYTES = 60

# Extended INQUIRY Data (SPC-4 table 596)
HEADSUP, ORDSUP, SIMPSUP = Field(1, mask=0x04), Field(1, mask=0x02), Field(1, mask=0x01)
V_SUP, LUICLR = Field(2, mask=0x01), Field(3, mask=0x01)     # there is a volatile cache
SENSE_BYTES_MAX = Field(9)

# SCSI Ports: one port (SPC-4 table 621)
PORT_HEADER_BYTES, RELATIVE_ID, PORT_NAMES_BYTES = 12, Field(2, 2), Field(10, 2)

# Block Limits (SBC-4 table 221)
WSNZ, MAX_COMPARE_BLOCKS, TRANSFER_GRAIN_BLOCKS = Field(0, mask=0x01), Field(1), Field(2, 2)
MAX_TRANSFER_BLOCKS, OPTIMAL_TRANSFER_BLOCKS = Field(4, 4), Field(8, 4)
MAX_UNMAP_BLOCKS, MAX_UNMAP_DESCRIPTORS, UNMAP_GRAIN_BLOCKS = Field(16, 4), Field(20, 4), Field(24, 4)
UGAVALID, UNMAP_ALIGNMENT = Field(28, 4, 0x80000000), Field(28, 4, 0x7FFFFFFF)
MAX_WRITE_SAME_BLOCKS, MAX_ATOMIC_BLOCKS = Field(32, 8), Field(40, 4)
ATOMIC_ALIGNMENT, ATOMIC_GRAIN_BLOCKS = Field(44, 4), Field(48, 4)
MAX_ATOMIC_BOUNDED_BLOCKS, MAX_ATOMIC_BOUNDARY_BLOCKS = Field(52, 4), Field(56, 4)

# Block Device Characteristics (SBC-4 table 216)
ROTATION_RATE, WABEREQ, NOT_ROTATING = Field(0, 2), Field(3, mask=0xC0), 1

# Logical Block Provisioning (SBC-4 table 226)
PROVISIONING_BYTES, THRESHOLD_EXPONENT = 4, Field(0)
LBPU, LBPWS, LBPWS10, LBPRZ = Field(1, mask=0x80), Field(1, mask=0x40), Field(1, mask=0x20), Field(1, mask=0x1C)
PROVISIONING_TYPE, THIN = Field(2, mask=0x07), 2


# -- the pages ---------------------------------------------------------------------------------------------------------
def supported_pages(task: Task) -> bytes:
    return bytes(code for code, page in sorted(PAGES.items()) if page.shown(task.unit))


def unit_serial_number(task: Task) -> bytes:
    return serial_number(task.unit.identity)


def device_identification(task: Task) -> bytes:
    target, identity = task.target, task.unit.identity
    out = [] if task.unit.absent else unit_designators(identity)
    port = target.ports.get(task.nexus.target_port)
    if port is not None:
        out.append(descriptor(BINARY, RELATIVE_PORT, b"\0\0" + port.relative_id.to_bytes(2, "big"), ASSOCIATION_PORT))
        out.append(descriptor(BINARY, PORT_GROUP, b"\0\0" + port.group.to_bytes(2, "big"), ASSOCIATION_PORT))
        out.append(name_string(target.port_name(port), ASSOCIATION_PORT))
    out += [name_string(name, ASSOCIATION_DEVICE) for name in target.device_names()]
    return b"".join(out)


def extended_inquiry(task: Task) -> bytes:
    """No protection, all task attributes' ordering but ACA, LU reset clears UA of others only (SPC-4 §7.8.7)."""
    return build(BODY_BYTES, (HEADSUP, 1), (ORDSUP, 1), (SIMPSUP, 1), (V_SUP, 1), (LUICLR, 1), (SENSE_BYTES_MAX, 252))


def mode_page_policy(task: Task) -> bytes:
    """Every mode page is shared by all nexuses (SPC-4 §7.8.9)."""
    return bytes([0x3F, 0xFF, 0x00, 0x00])


def scsi_ports(task: Task) -> bytes:
    """Every target port with its name (SPC-4 §7.8.11)."""
    out = b""
    for port in task.target.ports.values():
        name = name_string(task.target.port_name(port), ASSOCIATION_PORT)
        out += build(PORT_HEADER_BYTES, (RELATIVE_ID, port.relative_id), (PORT_NAMES_BYTES, len(name))) + name
    return out


def block_limits(task: Task) -> bytes:
    return block_limits_of(task.unit.limits, task.unit)


def block_limits_of(limits: Limits, unit: LogicalUnit) -> bytes:
    """What a command may ask for, in blocks (SBC-4 §6.6.4)."""
    block = unit.block_bytes
    grain = max(limits.allocation_unit_bytes // block, 1)
    atomic = sbc.atomic_bytes(unit) // block
    return build(
        BODY_BYTES,
        (WSNZ, 0),                                 # WRITE SAME with a transfer length of 0 reaches to the end
        (MAX_COMPARE_BLOCKS, sbc.max_compare_blocks(limits.compare_and_write_bytes, block)),
        (TRANSFER_GRAIN_BLOCKS, grain),
        (MAX_TRANSFER_BLOCKS, max(limits.transfer_bytes // block, 1)),
        (OPTIMAL_TRANSFER_BLOCKS, max(limits.optimal_transfer_bytes // block, 1)),
        (MAX_UNMAP_BLOCKS, limits.unmap_blocks),
        (MAX_UNMAP_DESCRIPTORS, limits.unmap_descriptors),
        (UNMAP_GRAIN_BLOCKS, grain),
        (UGAVALID, 1),
        (UNMAP_ALIGNMENT, 0),
        (MAX_WRITE_SAME_BLOCKS, limits.write_same_bytes // block),
        (MAX_ATOMIC_BLOCKS, atomic),
        (ATOMIC_ALIGNMENT, grain if atomic else 0),
        (ATOMIC_GRAIN_BLOCKS, grain if atomic else 0),
        (MAX_ATOMIC_BOUNDED_BLOCKS, 0),            # no boundary that a write must not cross
        (MAX_ATOMIC_BOUNDARY_BLOCKS, 0),
    )


def block_device_characteristics(task: Task) -> bytes:
    """Not rotating, no form factor; after BLOCK ERASE blocks can be read as they are, WABEREQ 01b (SBC-4 §6.6.2)."""
    return build(BODY_BYTES, (ROTATION_RATE, NOT_ROTATING), (WABEREQ, 1))


def logical_block_provisioning(task: Task) -> bytes:
    """Thin: UNMAP and WRITE SAME deallocate, deallocated reads as zeros, thresholds (SBC-4 §6.6.7)."""
    return build(PROVISIONING_BYTES, (THRESHOLD_EXPONENT, threshold_exponent(task.unit.block_bytes)), (LBPU, 1), (LBPWS, 1),
                 (LBPWS10, 1), (LBPRZ, 1), (PROVISIONING_TYPE, THIN))


class Page:
    """A page: what builds its body, and for which units it exists."""

    def __init__(self, name: str, build: Callable[[Task], bytes], medium: bool = False) -> None:
        self.name = name
        self.build = build
        self.medium = medium

    def shown(self, unit: LogicalUnit) -> bool:
        return not (self.medium and unit.absent)


PAGES: dict[int, Page] = {
    0x00: Page("Supported VPD Pages", supported_pages),
    0x80: Page("Unit Serial Number", unit_serial_number, medium=True),
    0x83: Page("Device Identification", device_identification),
    0x86: Page("Extended INQUIRY Data", extended_inquiry),
    0x87: Page("Mode Page Policy", mode_page_policy),
    0x88: Page("SCSI Ports", scsi_ports),
    0x8F: Page("Third-party Copy", third_party_copy, medium=True),
    0xB0: Page("Block Limits", block_limits, medium=True),
    0xB1: Page("Block Device Characteristics", block_device_characteristics, medium=True),
    0xB2: Page("Logical Block Provisioning", logical_block_provisioning, medium=True),
}
