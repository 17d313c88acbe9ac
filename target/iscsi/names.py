"""iSCSI names: the one form they are stored, compared and shown in, and what is one (RFC 7143 §4.2.7; RFC 3722, 3454)."""

import re
import stringprep
import unicodedata

from target.iscsi.keys import MAX_NAME_BYTES
from target.iscsi.text import TextError

_TYPE = re.compile(r"(iqn|eui|naa)\..+", re.DOTALL)

# Laxer than RFC 3722 on purpose: visible ASCII but the comma, which separates values, maps to itself alone and does no harm;
# names with an underscore, and those that QEMU makes of a guest's name, are in wide use.
_ASCII = re.compile(r"[!-+\--~]*")

_PROHIBITED = (
    stringprep.in_table_c11_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
    stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8, stringprep.in_table_c9,
)
_IDEOGRAPHIC_FULL_STOP = "\u3002"  # prohibited by RFC 3722 §6.2 beside the tables: it looks like a dot


def normalize_name(value: str) -> str:
    """The name as it is compared, stored, looked up and logged. TextError, in one line, if it is none.

    The stringprep profile of RFC 3722: fold case and drop what is invisible (tables B.1, B.2), NFKC, then refuse what is
    prohibited, unassigned or written in two directions. Unicode is that of RFC 3454, version 3.2, so that a name has the
    same form on every Python. It is its own normal form: normalizing it again changes nothing.
    """
    name = value.lower() if value.isascii() else _prepared(value)
    if not _TYPE.fullmatch(name):
        raise TextError("an iSCSI name begins with iqn., eui. or naa.")
    for char in name:
        if char.isascii() and not _ASCII.fullmatch(char):
            raise TextError(f"an iSCSI name with the character U+{ord(char):04X}, which is prohibited")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise TextError(f"an iSCSI name of more than {MAX_NAME_BYTES} bytes")
    return name


def same_name(one: str, other: str) -> bool:
    """Whether two texts are one name: equal as they are, or two forms of one iSCSI name."""
    if one == other:
        return True
    try:
        return normalize_name(one) == normalize_name(other)
    except TextError:
        return False


def _folded(char: str) -> str:
    """Table B.2. Python folds by its own Unicode: small letters that came after 3.2 are in no table, their capitals stay."""
    folded = stringprep.map_table_b2(char)
    return char if any(stringprep.in_table_a1(each) for each in folded) else folded


def _prepared(value: str) -> str:
    """Text that is not ASCII, by RFC 3454 §3 to §7. TextError."""
    for char in value:
        if stringprep.in_table_a1(char):
            raise TextError(f"an iSCSI name with the character U+{ord(char):04X}, which Unicode 3.2 does not assign")
    folded = "".join(_folded(char) for char in value if not stringprep.in_table_b1(char))
    name = unicodedata.ucd_3_2_0.normalize("NFKC", folded)
    for char in name:
        if char == _IDEOGRAPHIC_FULL_STOP or any(table(char) for table in _PROHIBITED):
            raise TextError(f"an iSCSI name with the character U+{ord(char):04X}, which is prohibited")
    # RFC 3454 §6: a name that begins with a Latin type designator holds no character written from right to left.
    if any(stringprep.in_table_d1(char) for char in name):
        raise TextError("an iSCSI name that mixes directions of writing")
    return name
