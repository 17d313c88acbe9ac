"""What a snapshot, a clone and a received volume have from their source: every field of the catalog's slot is decided here.

A new field of `OBJECT_SLOT` fails the first test until somebody has said whether it is inherited, and the others until it is.
"""

from __future__ import annotations

import pytest

from core import layout
from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice

MIB = 1 << 20
FIELDS = {field.name: field for field in layout.OBJECT_SLOT}
INHERITED = {"size_bytes", "block_bytes", "flags", "physical_exponent"}
# An object's own: given when it is made, or what its map is and does. A map is shared by its root, not by this field.
OWN = {"slot_kind", "kind", "level", "id", "root", "mapped_blocks", "created_us", "origin_id", "serial", "name_bytes",
       "origin_bytes", "name", "origin"}
# Promises and settings of one object, which nobody makes for another unasked.
NOT_INHERITED = {"quota_bytes", "reserve_bytes", "props_bytes", "props"}
# Nothing in these is what an object gets that is made without being told: with either, a field that is forgotten shows.
SOURCES = [
    {"size_bytes": 3 * MIB, "block_bytes": 512, "physical_block_bytes": 4096, "checksum": True},
    {"size_bytes": 5 * MIB, "block_bytes": 4096, "physical_block_bytes": 4096},
]
PLAIN = {"size_bytes": 0, "block_bytes": 512, "flags": 0, "physical_exponent": 0}


def slots(device: MemoryDevice) -> dict[str, dict[str, int | bytes]]:
    """Name of an object -> the fields of its slot, as the last checkpoint left them on the medium."""
    found: dict[str, dict[str, int | bytes]] = {}
    for raw in device.pages.values():
        if raw[:4] != layout.PAGE_MAGIC.to_bytes(4, "little"):
            continue
        for at in range(layout.PAGE_HEADER_BYTES, layout.BLOCK_BYTES - layout.SLOT_BYTES + 1, layout.SLOT_BYTES):
            slot = raw[at:at + layout.SLOT_BYTES]
            values: dict[str, int | bytes] = {
                name: slot[field.offset:field.offset + field.size] if field.size > 8
                else int.from_bytes(slot[field.offset:field.offset + field.size], "little") for name, field in FIELDS.items()}
            name = values["name"]
            if values["slot_kind"] == layout.SLOT_KINDS["object"] and isinstance(name, bytes) and name.isascii():
                found[name.rstrip(b"\0").decode()] = values
    return found


def test_every_field_is_decided() -> None:
    assert FIELDS.keys() == INHERITED | OWN | NOT_INHERITED
    assert all(any(value != PLAIN[name] for value in told(name)) for name in INHERITED)


def told(name: str) -> list[int]:
    made = []
    for source in SOURCES:
        device = MemoryDevice(32 * MIB)
        Pool.create(device, name="test", journal_blocks=512, area_blocks=1024)
        pool = Pool(device)
        pool.call("create", name="v", **source)
        pool.close()
        value = slots(device)["v"][name]
        assert isinstance(value, int)
        made.append(value)
    return made


@pytest.mark.parametrize("source", SOURCES, ids=["512", "4096"])
def test_what_is_derived_inherits(source: dict[str, int]) -> None:
    device = MemoryDevice(64 * MIB)
    Pool.create(device, name="test", journal_blocks=512, area_blocks=1024)
    pool = Pool(device)
    promised = {"quota_bytes": 8 * MIB, "reserve_bytes": MIB, "props": b"of the source"}
    number = pool.call("create", name="source", **source, **promised)
    snapshot = pool.call("snapshot", pairs=[(number, "source@one")])[0]
    pool.call("clone", source_id=number, name="of-volume")
    pool.call("clone", source_id=snapshot, name="of-snapshot")
    staged = pool.call("create", name="staged", **source)
    pool.call("publish", items=[{"staged_id": staged, "volume_id": 0, "volume_name": "received", "base_id": 0,
                                 "snapshot_name": "received@one"}])
    pool.close()
    found = slots(device)
    for name in INHERITED:
        for made in ("source@one", "of-volume", "of-snapshot", "received", "received@one"):
            assert found[made][name] == found["source"][name], (made, name)
    for name in NOT_INHERITED:
        assert found["source"][name]
        for made in ("source@one", "of-volume", "of-snapshot"):
            assert not found[made][name] or found[made][name] == bytes(FIELDS[name].size), (made, name)
