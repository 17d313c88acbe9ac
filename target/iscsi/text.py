"""Key=value text: its grammar, its value formats and its limits (RFC 7143 §6.1)."""

import base64
import binascii
import re
from collections.abc import Iterable

MAX_TEXT_BYTES = 65536
"""The longest text (over all PDUs that C bits join) that is taken or given."""
MAX_KEY_BYTES = 63
MAX_SIMPLE_VALUE_BYTES = 255
MAX_BINARY_BYTES = 1024
"""The longest binary value any key has: a CHAP challenge (RFC 7143 §12.1.3)."""
MAX_VALUE_BYTES = 8192
"""The longest value of any key, lists included: what one login PDU can hold."""

NONE, REJECT, IRRELEVANT, NOT_UNDERSTOOD = "None", "Reject", "Irrelevant", "NotUnderstood"

# A key begins with a capital letter, says §6.1, and then §13.24 calls one iSCSIProtocolLevel.
_KEY = re.compile(rb"[A-Za-z][A-Za-z0-9.\-+@_]{0,%d}" % (MAX_KEY_BYTES - 1))
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)
_HEX = re.compile(r"0[xX]([0-9a-fA-F]+)", re.ASCII)
_BASE64 = re.compile(r"0[bB]([A-Za-z0-9+/]+={0,2})", re.ASCII)


class TextError(ValueError):
    """Text that breaks the grammar or a limit; the message is one line and never holds the peer's value."""


class TextCollector:
    """Joins the data segments of a text sequence until one without the C bit (RFC 7143 §6.1), within a bound."""

    def __init__(self, limit_bytes: int = MAX_TEXT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._parts = bytearray()

    def __len__(self) -> int:
        return len(self._parts)

    def add(self, data: bytes, continues: bool) -> bytes | None:
        """The whole text once it is there, else None. TextError beyond the bound."""
        if len(self._parts) + len(data) > self._limit_bytes:
            self._parts.clear()
            raise TextError(f"text over {self._limit_bytes} bytes")
        self._parts += data
        if continues:
            return None
        whole = bytes(self._parts)
        self._parts.clear()
        return whole


def parse_pairs(text: bytes) -> dict[str, str]:
    """The pairs of a whole text, in its order. TextError for bad grammar or a key that comes twice."""
    if text and text[-1] != 0:
        raise TextError("last key=value pair is not terminated")
    pairs: dict[str, str] = {}
    for item in text.split(b"\0"):
        if not item:  # padding that some initiators count into the data segment
            continue
        name, equals, value = item.partition(b"=")
        if not equals:
            raise TextError("text without '='")
        if not _KEY.fullmatch(name):
            raise TextError("malformed key name")
        if len(value) > MAX_VALUE_BYTES:
            raise TextError("value too long")
        key = name.decode("ascii")
        if key in pairs:
            raise TextError(f"key {key} twice")
        try:
            decoded = value.decode("utf-8")
        except UnicodeDecodeError:
            raise TextError(f"value of {key} is not UTF-8") from None
        if _CONTROL.search(decoded):
            raise TextError(f"control character in the value of {key}")
        pairs[key] = decoded
    return pairs


def build_pairs(pairs: Iterable[tuple[str, str]]) -> bytes:
    """The text of these pairs; a key may come more than once (TargetAddress)."""
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in pairs)


def parse_boolean(value: str) -> bool:
    """ "Yes" or "No", nothing else."""
    if value not in ("Yes", "No"):
        raise TextError("not a boolean")
    return value == "Yes"


def format_boolean(value: bool) -> str:
    """The inverse of parse_boolean."""
    return "Yes" if value else "No"


def parse_number(value: str) -> int:
    """A regular-numerical-value: decimal, hexadecimal or base64, below 2**64."""
    if _DECIMAL.fullmatch(value):
        number = int(value)
    elif match := _HEX.fullmatch(value):
        if len(match[1]) > 64:
            raise TextError("number too long")
        number = int(match[1], 16)
    elif _BASE64.fullmatch(value):
        number = int.from_bytes(parse_binary(value, 48))
    else:
        raise TextError("not a number")
    if number >= 1 << 64:
        raise TextError("number out of range")
    return number


def parse_binary(value: str, max_bytes: int = MAX_BINARY_BYTES) -> bytes:
    """A binary-value: whole bytes in hexadecimal (0x...) or base64 (0b...), 1 to `max_bytes` of them."""
    if match := _HEX.fullmatch(value):
        if len(match[1]) > 2 * max_bytes:
            raise TextError("binary value too long")
        if len(match[1]) % 2:
            raise TextError("odd number of hexadecimal digits")
        return bytes.fromhex(match[1])
    if match := _BASE64.fullmatch(value):
        if len(match[1]) > 4 * (max_bytes // 3 + 1):
            raise TextError("binary value too long")
        try:
            data = base64.b64decode(match[1], validate=True)
        except binascii.Error:
            raise TextError("malformed base64") from None
        if not 1 <= len(data) <= max_bytes:
            raise TextError("binary value of a wrong length")
        return data
    raise TextError("not a binary value")


def format_binary(data: bytes) -> str:
    """Bytes as a hexadecimal binary-value."""
    return "0x" + data.hex()


def parse_list(value: str) -> tuple[str, ...]:
    """A list-of-values: comma separated, each 1 to 255 bytes."""
    items = tuple(value.split(","))
    if any(not 1 <= len(item.encode()) <= MAX_SIMPLE_VALUE_BYTES for item in items):
        raise TextError("malformed list")
    return items
