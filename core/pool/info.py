"""A catalog slot as people see it: the object record (docs/on-disk-format.md, "Catalog slot: object")."""

from __future__ import annotations

import os
import struct
import time
from typing import Literal, NamedTuple

from core import layout
from core.errors import STATUS_CODES

# Parts of the metadata that belong to no object, by the engine's number for each (core/ops/scrub.pxd, scrub_phase).
METADATA_PARTS = ("superblock", "checkpoint area", "summary", "count", "checksum", "catalog")

MOVES = ("still", "moved", "nowhere")    # what became of a region, by the engine's number for it (lnt_moved)

_FIELDS = {field.name: field for field in layout.OBJECT_SLOT}
_KINDS: dict[int, Literal["volume", "snapshot", "clone"]] = {1: "volume", 2: "snapshot", 3: "clone"}


class ObjectInfo(NamedTuple):
    """One volume, snapshot or clone. Bytes and seconds; `serial` is 32 hex digits, `props` is opaque to the core."""

    id: int
    kind: Literal["volume", "snapshot", "clone"]
    name: str
    size_bytes: int
    block_bytes: int
    mapped_bytes: int
    created_s: float
    origin: str
    origin_id: int
    checksum: bool
    quota_bytes: int
    reserve_bytes: int
    serial: str
    props: bytes
    physical_exponent: int = 0

    @property
    def physical_block_bytes(self) -> int:
        return self.block_bytes << self.physical_exponent


class BadPage(NamedTuple):
    """A page of metadata that could not be read (`code` io_read) or is not what it should be (checksum) when it was needed."""

    block: int
    kind: str                   # layout.PAGE_KINDS
    code: str
    object_id: int              # for whom it was read; 0: for reclaim, or for the pool
    times: int


class Wording(NamedTuple):
    """What a number of the engine means in words; `detail` is what the number beside it is: errno, status, or its unit."""

    text: str
    detail: str = ""


# Why a pool is read-only for good, by the engine's number (core/base/trace.pxd, pool_failure).
FAILURES = (
    Wording(""),
    Wording("a sync of its medium failed", "errno"),
    Wording("its journal could not be written", "errno"),
    Wording("a checkpoint could not be written", "errno"),
    Wording("a reference count would fall below zero: its metadata is damaged", "block"),
    Wording("its summaries promise free blocks that are not there: its metadata is damaged", "block"),
    Wording("more of its metadata is damaged than it can set aside", "block"),
    Wording("its file or device was made shorter while it was served"),
    Wording("a page of metadata that the checkpoint needs cannot be had", "status"),
    Wording("internal error: a change was refused half-way", "block"),
    Wording("internal error: the journal was full", "blocks"),
    Wording("internal error: a checkpoint did not fit its area"),
    Wording("internal error: no blocks for the map's nodes"),
)
# What the engine remembers, by its number (core/base/trace.pxd, trace_event); {a} and {b} are the two numbers beside it.
EVENTS = (
    "",
    "the pool became read-only: {failure}",
    "block {a} has as many references as it may have",
    "the medium takes no space back ({errno})",
    "the medium has no room",
    "the medium has room again",
    "memory was short",
    "a page of metadata at block {a} is bad",
    "another run is kept for nodes, now run {b}",
)
_FAILED, _NO_DISCARD = 1, 3         # those whose numbers are a failure and its detail, and an errno


class TraceEvent(NamedTuple):
    """Something notable that the engine met: how long ago, in words, and how many times in a row."""

    ago_s: float
    text: str
    times: int


def failure_text(reason: int, detail: int) -> str:
    """Why the pool is read-only, in words."""
    failure = FAILURES[reason]
    if failure.detail == "errno":
        return f"{failure.text} ({os.strerror(detail)})"
    if failure.detail == "status":
        return f"{failure.text} ({STATUS_CODES[detail] if detail < len(STATUS_CODES) else detail})"
    return f"{failure.text} ({failure.detail} {detail})" if failure.detail else failure.text


def trace_event_text(event: int, a: int, b: int) -> str:
    return EVENTS[event].format(a=a, b=b, failure=failure_text(a, b) if event == _FAILED else "",
                                errno=os.strerror(a) if event == _NO_DISCARD else "")


_PAGE_KINDS = {number: name for name, number in layout.PAGE_KINDS.items()}


def bad_page(block: int, kind: int, status: int, object_id: int, times: int) -> BadPage:
    """From the engine's numbers for the kind of page and the status."""
    return BadPage(block, _PAGE_KINDS[kind], STATUS_CODES[status], object_id, times)


def _slot_struct(fields: tuple[layout.Field, ...]) -> struct.Struct:
    """The whole slot in one go: a value for each field, in their order."""
    codes, at = ["<"], 0
    for field in fields:
        codes.append(f"{field.offset - at}x" + ({1: "B", 2: "H", 4: "I", 8: "Q"}.get(field.size) or f"{field.size}s"))
        at = field.offset + field.size
    return struct.Struct("".join([*codes, f"{layout.SLOT_BYTES - at}x"]))


_SLOT = _slot_struct(layout.OBJECT_SLOT)
_KEY_SLOT = _slot_struct(layout.KV_SLOT)


class ObjectSlot(NamedTuple):
    """The fields of layout.OBJECT_SLOT as they stand in the slot, in their order."""

    slot_kind: int
    kind: int
    flags: int
    level: int
    block_bytes: int
    id: int
    size_bytes: int
    root: int
    mapped_blocks: int
    created_us: int
    origin_id: int
    quota_bytes: int
    reserve_bytes: int
    serial: bytes
    name_bytes: int
    origin_bytes: int
    props_bytes: int
    physical_exponent: int
    name: bytes
    origin: bytes
    props: bytes


_CHECKSUM = layout.OBJECT_FLAGS["checksum"]


def masked_serial(serial: str, mask: int) -> str:
    """The serial of an object from its slot's, and the other way round: 32 hex digits."""
    return f"{int(serial, 16) ^ mask:032x}" if mask and serial else serial


def object_info(slot: bytes, serial_mask: int = 0) -> ObjectInfo:
    """The record in a slot of 512 bytes."""
    raw = ObjectSlot._make(_SLOT.unpack(slot))
    name = raw.name[:raw.name_bytes].decode(errors="replace")
    origin = raw.origin[:raw.origin_bytes].decode(errors="replace")
    if raw.name_bytes > layout.NAME_BYTES:
        name = (raw.name + raw.origin)[:raw.name_bytes].decode(errors="replace")
        origin = name.partition("@")[0]
    return ObjectInfo(                      # by place: this runs for every object of a start
        raw.id, _KINDS[raw.kind], name, raw.size_bytes, raw.block_bytes, raw.mapped_blocks * layout.BLOCK_BYTES,
        raw.created_us / 1e6, origin, raw.origin_id, bool(raw.flags & _CHECKSUM), raw.quota_bytes, raw.reserve_bytes,
        masked_serial(raw.serial.hex(), serial_mask), raw.props[:raw.props_bytes], raw.physical_exponent)


def _cut(origin: str) -> bytes:
    """What the slot keeps of a name that is shown only when whatever had it is gone."""
    raw = origin.encode()
    return raw if len(raw) <= layout.NAME_BYTES else raw[:layout.NAME_BYTES - 3].decode(errors="ignore").encode() + b"..."


def object_slot(
    object_id: int, kind: str, name: str, *, size_bytes: int = 0, block_bytes: int = 512, origin: str = "", origin_id: int = 0,
    checksum: bool = False, quota_bytes: int = 0, reserve_bytes: int = 0, serial: str = "", props: bytes = b"",
    created_us: int = 0, physical_exponent: int = 0,
) -> bytes:
    """The slot of a new object (root and level are the engine's). ValueError when a text is too long."""
    raw = bytearray(layout.SLOT_BYTES)
    numbers = {
        "slot_kind": layout.SLOT_KINDS["object"], "kind": layout.OBJECT_KINDS[kind], "flags": int(checksum), "level": 1,
        "block_bytes": block_bytes, "id": object_id, "size_bytes": size_bytes, "origin_id": origin_id,
        "created_us": created_us or time.time_ns() // 1000, "quota_bytes": quota_bytes, "reserve_bytes": reserve_bytes,
        "physical_exponent": physical_exponent,
    }
    for text, value, most in (("name", name.encode(), layout.LONG_NAME_BYTES if kind == "snapshot" else layout.NAME_BYTES),
                              ("origin", b"" if len(name.encode()) > layout.NAME_BYTES else _cut(origin), layout.NAME_BYTES),
                              ("props", props, layout.PROPS_BYTES)):
        if len(value) > most or (text == "name" and not value):
            raise ValueError(f"{text} must have {'1 to ' if text == 'name' else 'at most '}{most} bytes")
        raw[_FIELDS[text].offset : _FIELDS[text].offset + len(value)] = value
        numbers[f"{text}_bytes"] = len(value)
    for number, amount in numbers.items():
        field = _FIELDS[number]
        raw[field.offset : field.offset + field.size] = amount.to_bytes(field.size, "little")
    start = _FIELDS["serial"].offset
    raw[start : start + 16] = bytes.fromhex(serial) if serial else os.urandom(16)
    return bytes(raw)


class KeyPart(NamedTuple):
    """One slot of a key: part `part` of the `parts` that its value is cut into."""

    key: bytes
    part: int
    parts: int
    chunk: bytes


def key_slot(part: KeyPart) -> bytes:
    return _KEY_SLOT.pack(layout.SLOT_KINDS["kv"], len(part.key), part.part, part.parts, len(part.chunk), part.key, part.chunk)


def key_part(slot: bytes) -> KeyPart:
    _, key_bytes, part, parts, chunk_bytes, key, chunk = _KEY_SLOT.unpack(slot)
    return KeyPart(key[:key_bytes], part, parts, chunk[:chunk_bytes])


def key_record(key: bytes, value: bytes | None) -> bytes:
    """The journal's record of a change of one key; None: the key goes (docs/on-disk-format.md, "Journal frame")."""
    offsets = {name: offset for offset, _, name in layout.RECORDS["kv"]}
    start = offsets["value_bytes"] + 4
    raw = bytearray((start + len(key) + len(value or b"") + 7) // 8 * 8)
    header = {field.name: field.offset for field in layout.RECORD_HEADER}
    raw[header["type"]] = layout.RECORD_TYPES["kv"]
    struct.pack_into("<I", raw, header["length"], len(raw))
    struct.pack_into("<I", raw, offsets["key_bytes"], len(key))
    struct.pack_into("<I", raw, offsets["value_bytes"], layout.KV_GOES if value is None else len(value))
    raw[start : start + len(key) + len(value or b"")] = key + (value or b"")
    return bytes(raw)
