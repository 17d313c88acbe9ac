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
from target.scsi.model import Limits
from target.scsi.task import Task
from target.scsi.unit import LogicalUnit, threshold_exponent


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
    out = bytearray(60)
    out[1] = 0x07        # HEADSUP, ORDSUP, SIMPSUP
    out[2] = 0x01        # V_SUP: there is a volatile cache
    out[3] = 0x01        # LUICLR
    out[9] = 252         # maximum supported sense data length
    return bytes(out)


def mode_page_policy(task: Task) -> bytes:
    """Every mode page is shared by all nexuses (SPC-4 §7.8.9)."""
    return bytes([0x3F, 0xFF, 0x00, 0x00])


def scsi_ports(task: Task) -> bytes:
    """Every target port with its name (SPC-4 §7.8.11)."""
    out = b""
    for port in task.target.ports.values():
        name = name_string(task.target.port_name(port), ASSOCIATION_PORT)
        out += b"\0\0" + port.relative_id.to_bytes(2, "big") + bytes(6) + len(name).to_bytes(2, "big") + name
    return out


def block_limits(task: Task) -> bytes:
    return block_limits_of(task.unit.limits, task.unit)


def block_limits_of(limits: Limits, unit: LogicalUnit) -> bytes:
    """What a command may ask for, in blocks (SBC-4 §6.6.4)."""
    block = unit.block_bytes
    grain = max(limits.allocation_unit_bytes // block, 1)
    atomic = sbc.atomic_bytes(unit) // block
    out = bytearray(60)
    # out[0] WSNZ is 0: WRITE SAME with a transfer length of 0 reaches to the end
    out[1] = sbc.max_compare_blocks(limits.compare_and_write_bytes, block)
    fields: tuple[tuple[int, int, int], ...] = (
        (2, 2, grain), (4, 4, max(limits.transfer_bytes // block, 1)), (8, 4, max(limits.optimal_transfer_bytes // block, 1)),
        (16, 4, limits.unmap_blocks), (20, 4, limits.unmap_descriptors), (24, 4, grain),
        (28, 4, 0x80000000),                       # UGAVALID, alignment 0
        (32, 8, limits.write_same_bytes // block), (40, 4, atomic),
        (44, 4, grain if atomic else 0), (48, 4, grain if atomic else 0),   # alignment and granularity: allocation units
        (52, 4, 0), (56, 4, 0),                    # no atomic boundary
    )
    for offset, size, value in fields:
        out[offset:offset + size] = value.to_bytes(size, "big")
    return bytes(out)


def block_device_characteristics(task: Task) -> bytes:
    """Not rotating, no form factor; after BLOCK ERASE blocks can be read as they are, WABEREQ 01b (SBC-4 §6.6.2)."""
    out = bytearray(60)
    out[1] = 1
    out[3] = 0x40
    return bytes(out)


def logical_block_provisioning(task: Task) -> bytes:
    """Thin: UNMAP and WRITE SAME deallocate, deallocated reads as zeros, thresholds (SBC-4 §6.6.7)."""
    return bytes([threshold_exponent(task.unit.block_bytes), 0xE4, 0x02, 0x00])


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
