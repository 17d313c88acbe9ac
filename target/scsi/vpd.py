"""Vital product data: who a unit is, where it is reached, what it can do (SPC-4 §7.8, SBC-4 §6.6)."""

from __future__ import annotations

from collections.abc import Callable

from target.scsi import sbc
from target.scsi.cdb import Task
from target.scsi.model import Identity, Limits
from target.scsi.unit import LogicalUnit, threshold_exponent

BINARY, ASCII, UTF8 = 1, 2, 3
ASSOCIATION_UNIT, ASSOCIATION_PORT, ASSOCIATION_DEVICE = 0, 1, 2
T10_VENDOR, NAA, RELATIVE_PORT, PORT_GROUP, NAME_STRING = 1, 3, 4, 5, 8
PROTOCOL_ISCSI = 5
COMPANY_ID = 0x024C4E   # locally administered: the second lowest bit of its first byte is 1


def naa(identity: Identity) -> bytes:
    """NAA 6h: 100 bits of the serial behind a locally administered company identifier (SPC-4 §7.8.6.6.5).

    Initiators build a disk's name from this form before any other; a locally assigned one (3h) comes last.
    """
    return bytes.fromhex(f"6{COMPANY_ID:06x}{identity.serial[:25]}")


def serial_number(identity: Identity) -> bytes:
    return identity.serial.lower().encode()


def vendor(identity: Identity) -> bytes:
    return identity.vendor.encode("ascii", "replace")[:8].ljust(8)


def product(identity: Identity) -> bytes:
    return identity.kind.upper().encode("ascii", "replace")[:16].ljust(16)


def descriptor(code_set: int, kind: int, identifier: bytes, association: int = ASSOCIATION_UNIT) -> bytes:
    """One designation descriptor; port and device ones carry the protocol (SPC-4 §7.8.6.1)."""
    carries_protocol = association != ASSOCIATION_UNIT
    first = (PROTOCOL_ISCSI << 4 if carries_protocol else 0) | code_set
    second = (0x80 if carries_protocol else 0) | association << 4 | kind
    return bytes([first, second, 0, len(identifier)]) + identifier


def padded(name: str) -> bytes:
    """A SCSI name string: UTF-8, NUL-terminated, padded to a multiple of four."""
    raw = name.encode() + b"\0"
    return raw + bytes(-len(raw) % 4)


def unit_designators(identity: Identity) -> list[bytes]:
    """The designation descriptors by which a copy manager may name the unit as well."""
    return [
        descriptor(BINARY, NAA, naa(identity)),
        descriptor(ASCII, T10_VENDOR, vendor(identity) + serial_number(identity)),
    ]


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
        name = padded(target.port_name(port))
        out.append(descriptor(BINARY, RELATIVE_PORT, b"\0\0" + port.relative_id.to_bytes(2, "big"), ASSOCIATION_PORT))
        out.append(descriptor(BINARY, PORT_GROUP, b"\0\0" + port.group.to_bytes(2, "big"), ASSOCIATION_PORT))
        out.append(descriptor(UTF8, NAME_STRING, name, ASSOCIATION_PORT))
    out.append(descriptor(UTF8, NAME_STRING, padded(target.name), ASSOCIATION_DEVICE))
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
        name = descriptor(UTF8, NAME_STRING, padded(task.target.port_name(port)), ASSOCIATION_PORT)
        out += b"\0\0" + port.relative_id.to_bytes(2, "big") + bytes(6) + len(name).to_bytes(2, "big") + name
    return out


def block_limits(task: Task) -> bytes:
    return block_limits_of(task.unit.limits, task.unit)


def block_limits_of(limits: Limits, unit: LogicalUnit) -> bytes:
    """What a command may ask for, in blocks (SBC-4 §6.6.4)."""
    block = unit.block_bytes
    grain = max(limits.grain // block, 1)
    atomic = sbc.atomic_bytes(unit) // block
    out = bytearray(60)
    # out[0] WSNZ is 0: WRITE SAME with a transfer length of 0 reaches to the end
    out[1] = sbc.max_compare_blocks(limits.compare_and_write, block)
    fields: tuple[tuple[int, int, int], ...] = (
        (2, 2, grain), (4, 4, max(limits.transfer // block, 1)), (8, 4, max(limits.optimal_transfer // block, 1)),
        (16, 4, limits.unmap_blocks), (20, 4, limits.unmap_descriptors), (24, 4, grain),
        (28, 4, 0x80000000),                       # UGAVALID, alignment 0
        (32, 8, limits.write_same // block), (40, 4, atomic),
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


def third_party_copy(task: Task) -> bytes:
    """What the copy manager can do; written where the copy commands are (SPC-4 §7.8.17)."""
    from target.scsi.copy_page import build
    return build(task)


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

