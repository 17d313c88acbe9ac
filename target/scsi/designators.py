"""Names of units, ports and devices as SCSI spells them: serial number, NAA, designation descriptors (SPC-4 §7.8.6)."""

from __future__ import annotations

from target.scsi.model import Identity

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


def name_string(name: str, association: int) -> bytes:
    """A SCSI name string designator (SPC-4 §7.8.6.11)."""
    return descriptor(UTF8, NAME_STRING, padded(name), association)


def unit_designators(identity: Identity) -> list[bytes]:
    """The designation descriptors by which a copy manager may name the unit as well."""
    return [
        descriptor(BINARY, NAA, naa(identity)),
        descriptor(ASCII, T10_VENDOR, vendor(identity) + serial_number(identity)),
    ]
