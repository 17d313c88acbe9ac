"""Pools that older code made open for ever: read, changed, checked (tests/fixtures/pools/README.md)."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from core.check import check
from core.device import FileDevice
from core.pool.engine import Pool

FIXTURES = sorted((Path(__file__).parents[1] / "fixtures" / "pools").glob("*.pool.xz"))
PATCH_BYTES = 65536


def patch(letter: str) -> bytes:
    return b"".join(b"%07d %c\n" % (number, ord(letter)) for number in range(6554))[:PATCH_BYTES]


def test_there_are_some() -> None:
    assert FIXTURES


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.name)
def test_a_pool_of_older_code_opens_and_is_whole(fixture: Path, tmp_path: Path) -> None:
    path = tmp_path / "pool"
    path.write_bytes(lzma.decompress(fixture.read_bytes()))
    device = FileDevice(path)
    pool = Pool(device)
    contents = {("v", 0): "v", ("v", 4 << 20): "b", ("v@s", 0): "a", ("v@s", 4 << 20): "b", ("c", 0): "a", ("c", 4 << 20): "c",
                ("summed", 0): "s"}
    for (name, offset), letter in contents.items():
        found = pool.lookup(name)
        assert found is not None
        data = pool.call("read", object_id=found.id, offset_bytes=offset, length_bytes=PATCH_BYTES)
        assert data == patch(letter), (name, offset)
    assert sorted(pool.names()) == ["c", "summed", "v", "v@s"]
    volume, summed = pool.lookup("v"), pool.lookup("summed")
    assert volume is not None
    assert summed is not None
    assert (summed.checksum, summed.quota_bytes) == (True, 1 << 20)
    assert set(pool.kv()) == {"host/1", "connection/1/3"}
    pool.call("write", object_id=volume.id, offset_bytes=4096, data=patch("n"))
    pool.call("snapshot", pairs=[(volume.id, "v@new")])
    pool.call("delete", object_id=pool.names()["v@s"])
    pool.close()
    device.close()
    read_only = FileDevice(path, read_only=True)
    report = check(read_only, data=True)
    read_only.close()
    assert (report.ok, report.errors) == (True, [])
