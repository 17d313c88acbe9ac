"""Logical unit numbers: 8-byte fields to numbers and back (SAM-5 §4.7).

libiscsi, and so QEMU, writes a number above 255 as it is into the first two bytes. By SAM that is the peripheral method with a
bus identifier, which no LUN here has: it is understood as the number that it is meant to be.
"""

from __future__ import annotations

WLUN_REPORT_LUNS = 0xC101_0000_0000_0000
MAX_LUN = 16383


def encode(number: int) -> int:
    """The 8-byte field, as an integer: peripheral device addressing below 256, flat space addressing above."""
    if not 0 <= number <= MAX_LUN:
        raise ValueError(f"LUN {number} is not in 0..{MAX_LUN}")
    return number << 48 if number < 256 else (0x4000 | number) << 48


def decode(field: int) -> int | None:
    """The number in a LUN field, or None when it names nothing a single-level target can have."""
    top, rest = field >> 48, field & 0xFFFF_FFFF_FFFF
    if rest:
        return None
    method, number = top >> 14, top & 0x3FFF
    return number if method in (0, 1) else None
