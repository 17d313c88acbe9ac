"""iSCSI TransportIDs: initiator ports as parameter lists name them (SPC-4 §7.6.4.6, RFC 7143 §4.4.1)."""

from __future__ import annotations

from typing import NamedTuple

from target.scsi.fields import Field, build

HEADER_BYTES, FORMAT, PROTOCOL, NAME_BYTES = 4, Field(0, mask=0xC0), Field(0, mask=0x0F), Field(2, 2)
PROTOCOL_ISCSI = 5
WITHOUT_ISID, WITH_ISID = 0, 1
SEPARATOR = ",i,0x"
MIN_LENGTH, MAX_NAME = 20, 223


class InitiatorPort(NamedTuple):
    """An iSCSI initiator port, or with isid None every port of that initiator."""

    name: str
    isid: bytes | None


def encode(name: str, isid: bytes) -> bytes:
    """The TransportID of one initiator port."""
    raw = f"{name}{SEPARATOR}{isid.hex()}".encode() + b"\0"
    raw += bytes(max(-len(raw) % 4, MIN_LENGTH - len(raw)))
    return build(HEADER_BYTES, (FORMAT, WITH_ISID), (PROTOCOL, PROTOCOL_ISCSI), (NAME_BYTES, len(raw))) + raw


def decode(raw: bytes) -> tuple[InitiatorPort, int]:
    """The port that a TransportID names and its length in bytes. ValueError when it is malformed."""
    if len(raw) < HEADER_BYTES or PROTOCOL.of(raw) != PROTOCOL_ISCSI:
        raise ValueError("not an iSCSI TransportID")
    length = HEADER_BYTES + NAME_BYTES.of(raw)
    if length > len(raw) or length % 4:
        raise ValueError("a TransportID whose length is wrong")
    text = raw[HEADER_BYTES:length].split(b"\0", 1)[0].decode("utf-8")
    form = FORMAT.of(raw)
    if form == WITHOUT_ISID:
        name, isid = text, None
    elif form == WITH_ISID:
        name, separator, digits = text.partition(SEPARATOR)
        if not separator or not 1 <= len(digits) <= 12:
            raise ValueError("a TransportID without an ISID")
        isid = int(digits, 16).to_bytes(6, "big")
    else:
        raise ValueError("a TransportID of an unknown format")
    if not name or len(name.encode()) > MAX_NAME:
        raise ValueError("a TransportID without a name")
    return InitiatorPort(name, isid), length


def decode_list(raw: bytes) -> list[InitiatorPort]:
    """The TransportIDs that fill `raw`. ValueError."""
    ports = []
    while raw:
        port, length = decode(raw)
        ports.append(port)
        raw = raw[length:]
    return ports
