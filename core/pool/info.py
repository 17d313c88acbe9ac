"""A catalog slot as people see it: the object record (docs/on-disk-format.md, "Catalog slot: object")."""

from __future__ import annotations

import operator
import os
import struct
import time
from collections.abc import Iterable
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


# Why a pool is read-only for good, by the engine's number (core/base/trace.pxd, pool_failure), and what its detail is.
FAILURES = (
    ("", ""),
    ("a sync of its medium failed", "errno"), ("its journal could not be written", "errno"),
    ("a checkpoint could not be written", "errno"), ("a reference count would fall below zero: its metadata is damaged", "block"),
    ("its summaries promise free blocks that are not there: its metadata is damaged", "block"),
    ("more of its metadata is damaged than it can set aside", "block"),
    ("its file or device was made shorter while it was served", ""),
    ("a page of metadata that the checkpoint needs cannot be had", "status"),
    ("internal error: a change was refused half-way", "block"), ("internal error: the journal was full", "blocks"),
    ("internal error: a checkpoint did not fit its area", ""), ("internal error: no blocks for the map's nodes", ""),
)
# What the engine remembers, by its number (core/base/trace.pxd, trace_event): text, and what the two numbers are.
EVENTS = (
    ("", ""), ("the pool became read-only: {failure}", ""), ("block {a} has as many references as it may have", ""),
    ("the medium takes no space back ({errno})", ""), ("the medium has no room", ""), ("the medium has room again", ""),
    ("memory was short", ""), ("a page of metadata at block {a} is bad", ""), ("another run is kept for nodes, now run {b}", ""),
)


class TraceEvent(NamedTuple):
    """Something notable that the engine met: how long ago, in words, and how many times in a row."""

    ago_s: float
    text: str
    times: int


def failure_text(reason: int, detail: int) -> str:
    """Why the pool is read-only, in words."""
    text, unit = FAILURES[reason]
    if unit == "errno":
        return f"{text} ({os.strerror(detail)})"
    if unit == "status":
        return f"{text} ({STATUS_CODES[detail] if detail < len(STATUS_CODES) else detail})"
    return f"{text} ({unit} {detail})" if unit else text


def trace_event_text(event: int, a: int, b: int) -> str:
    failure = failure_text(a, b) if event == 1 else ""
    return EVENTS[event][0].format(a=a, b=b, failure=failure, errno=os.strerror(a) if event == 3 else "")


_PAGE_KINDS = {number: name for name, number in layout.PAGE_KINDS.items()}


def bad_pages(rows: Iterable[tuple[int, int, int, int, int]]) -> list[BadPage]:
    """What the engine knows of them, by block."""
    return sorted(BadPage(block, _PAGE_KINDS[kind], STATUS_CODES[status], object_id, times)
                  for block, kind, status, object_id, times in rows)


def _slot_struct(fields: tuple[layout.Field, ...]) -> struct.Struct:
    """The whole slot in one go: a value for each field, in their order."""
    codes, at = ["<"], 0
    for field in fields:
        codes.append(f"{field.offset - at}x" + ({1: "B", 2: "H", 4: "I", 8: "Q"}.get(field.size) or f"{field.size}s"))
        at = field.offset + field.size
    return struct.Struct("".join([*codes, f"{layout.SLOT_BYTES - at}x"]))


_SLOT = _slot_struct(layout.OBJECT_SLOT)
_KEY_SLOT = _slot_struct(layout.KV_SLOT)
_VALUES = operator.itemgetter(*(list(_FIELDS).index(name) for name in (
    "id", "kind", "size_bytes", "block_bytes", "mapped_blocks", "created_us", "origin_id", "flags", "quota_bytes",
    "reserve_bytes", "serial", "physical_exponent", "name", "name_bytes", "origin", "origin_bytes", "props", "props_bytes")))
_CHECKSUM = layout.OBJECT_FLAGS["checksum"]


def masked_serial(serial: str, mask: int) -> str:
    """The serial of an object from its slot's, and the other way round: 32 hex digits."""
    return f"{int(serial, 16) ^ mask:032x}" if mask and serial else serial


def object_info(slot: bytes, serial_mask: int = 0) -> ObjectInfo:
    """The record in a slot of 512 bytes."""
    (number, kind, size, block, mapped, created_us, origin_id, flags, quota, reserve, serial, exponent, name, name_bytes,
     origin, origin_bytes, props, props_bytes) = _VALUES(_SLOT.unpack(slot))
    text, source = name[:name_bytes].decode(errors="replace"), origin[:origin_bytes].decode(errors="replace")
    if name_bytes > layout.NAME_BYTES:
        text = (name + origin)[:name_bytes].decode(errors="replace")
        source = text.partition("@")[0]
    return ObjectInfo(
        number, _KINDS[kind], text, size, block, mapped * layout.BLOCK_BYTES, created_us / 1e6, source, origin_id,
        bool(flags & _CHECKSUM), quota, reserve,
        masked_serial(serial.hex(), serial_mask), props[:props_bytes], exponent)


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
