"""Numbers at fixed places: masks, neighbours in one byte, what does not fit (SPC-4 §4.2.5)."""

import pytest

from target.scsi import sense
from target.scsi.fields import Field, build

HIGH, MIDDLE, WIDE = Field(1, mask=0xC0), Field(1, mask=0x18), Field(2, 4, 0x7FFFFFFF)


def test_what_was_built_is_read_again() -> None:
    raw = build(8, (HIGH, 2), (MIDDLE, 3), (WIDE, 0x12345678), (Field(6, 2), 9))
    assert raw == bytes.fromhex("00 98 12345678 0009")
    assert (HIGH.of(raw), MIDDLE.of(raw), WIDE.of(raw), Field(6, 2).of(raw)) == (2, 3, 0x12345678, 9)


def test_a_mask_hides_its_neighbours() -> None:
    assert HIGH.of(b"\0\x7f") == 1
    assert MIDDLE.of(b"\0\xe7") == 0


def test_a_number_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(OverflowError):
        build(4, (Field(0), 256))


def test_a_field_pointer_names_the_highest_bit() -> None:
    assert sense.invalid_field(MIDDLE, 20).sense == sense.invalid_parameter(21, 4).sense
    assert sense.invalid_field(Field(8, 8)).sense == sense.invalid_parameter(8).sense
