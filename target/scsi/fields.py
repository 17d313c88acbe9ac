"""Numbers at fixed places of CDBs, parameter lists and parameter data: where each lies is said once (SPC-4 §4.2.5, §4.3).

Lives here and nowhere else: how such a number is read and written. A command names its fields beside its handler.
"""

from __future__ import annotations

from typing import NamedTuple


class Field(NamedTuple):
    """A big-endian number of so many bytes; with a mask only those of its bits, counted from the lowest."""

    offset: int
    size: int = 1
    mask: int = 0

    def of(self, raw: bytes) -> int:
        number = int.from_bytes(raw[self.offset:self.offset + self.size], "big")
        return (number & self.mask) // (self.mask & -self.mask) if self.mask else number

    @property
    def end(self) -> int:
        """Behind its last byte."""
        return self.offset + self.size

    @property
    def bit(self) -> int | None:
        """Its highest bit, as a field pointer has it (SPC-4 §4.5.2.4.2); None: it is whole bytes."""
        return self.mask.bit_length() - 1 if self.mask else None


def build(length_bytes: int, *numbers: tuple[Field, int]) -> bytes:
    """So many bytes with these numbers in them; zeros elsewhere. OverflowError when one does not fit."""
    out = bytearray(length_bytes)
    for field, number in numbers:
        shifted = number * (field.mask & -field.mask) if field.mask else number
        kept = int.from_bytes(out[field.offset:field.end], "big") if field.mask else 0
        out[field.offset:field.end] = (kept | shifted).to_bytes(field.size, "big")
    return bytes(out)
