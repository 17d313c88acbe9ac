"""A catalog slot as people see it: the object record (docs/on-disk-format.md, "Catalog slot: object")."""

from __future__ import annotations

import os
import time
from typing import Literal, NamedTuple

from core import layout

# Parts of the metadata that belong to no object, by the engine's number for each (core/_scrub.pxd, scrub_phase).
METADATA_PARTS = ("superblock", "checkpoint area", "summary", "count", "checksum", "catalog")

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


def _number(slot: bytes, name: str) -> int:
    field = _FIELDS[name]
    return int.from_bytes(slot[field.offset : field.offset + field.size], "little")


def _text(slot: bytes, name: str) -> bytes:
    start = _FIELDS[name].offset
    return slot[start : start + _number(slot, f"{name}_bytes")]


def object_info(slot: bytes) -> ObjectInfo:
    """The record in a slot of 512 bytes."""
    serial = _FIELDS["serial"].offset
    return ObjectInfo(
        _number(slot, "id"), _KINDS[_number(slot, "kind")], _text(slot, "name").decode(errors="replace"),
        _number(slot, "size_bytes"), _number(slot, "block_bytes"), _number(slot, "mapped_blocks") * layout.BLOCK_BYTES,
        _number(slot, "created_us") / 1e6, _text(slot, "origin").decode(errors="replace"), _number(slot, "origin_id"),
        bool(_number(slot, "flags") & layout.OBJECT_FLAGS["checksum"]), _number(slot, "quota_bytes"),
        _number(slot, "reserve_bytes"), slot[serial : serial + 16].hex(), _text(slot, "props"),
        _number(slot, "physical_exponent"),
    )


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
    for text, value in (("name", name.encode()), ("origin", origin.encode()), ("props", props)):
        field = _FIELDS[text]
        if len(value) > field.size or (text == "name" and not value):
            raise ValueError(f"{text} must have {'1 to ' if text == 'name' else 'at most '}{field.size} bytes")
        raw[field.offset : field.offset + len(value)] = value
        numbers[f"{text}_bytes"] = len(value)
    for number, amount in numbers.items():
        field = _FIELDS[number]
        raw[field.offset : field.offset + field.size] = amount.to_bytes(field.size, "little")
    start = _FIELDS["serial"].offset
    raw[start : start + 16] = bytes.fromhex(serial) if serial else os.urandom(16)
    return bytes(raw)
