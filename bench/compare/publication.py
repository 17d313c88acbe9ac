"""How long a publish takes beyond the medium's syncs: this process performs the engine's requests, and can time them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.measure import Record
from core.device import FileDevice, create_file
from core.pool.engine import Pool

BLOCK = 4096
TIB = 1 << 40
POOL_BYTES = 2 << 30
EXTENTS, SNAPSHOTS, GROUP = 20_000, 1000, 100
STRIDE = TIB // EXTENTS // BLOCK * BLOCK


def publications(path: Path, repeats: int) -> Iterator[tuple[str, Record]]:
    """(case, what it took): a difference of a replica of 1 TiB that has many extents and snapshots, and of a group at once."""
    create_file(path, POOL_BYTES)
    device = FileDevice(path)
    try:
        Pool.create(device, name="publish", size_bytes=POOL_BYTES)
        pool = Pool(device)
        for case, names in ((f"publish, 1 TiB, {EXTENTS:,} extents, {SNAPSHOTS:,} snapshots", ["wide"]),
                            (f"publish, a group of {GROUP}", [f"v{number}" for number in range(GROUP)])):
            bases = [replica(pool, name, wide=len(names) == 1) for name in names]
            for number in range(repeats):
                staged = [received(pool, name, base, number) for name, (_, base) in zip(names, bases, strict=True)]
                items = [{"staged_id": each, "volume_id": volume, "base_id": base, "snapshot_name": f"{name}@new{number}"}
                         for name, each, (volume, base) in zip(names, staged, bases, strict=True)]
                made, record = timed(pool, "publish", items=items)
                bases = [(volume, snapshot) for volume, snapshot, _ in made]
                yield case, record
        pool.abandon()
    finally:
        device.close()
        path.unlink()


def replica(pool: Any, name: str, *, wide: bool) -> tuple[int, int]:
    """A volume and its newest snapshot."""
    volume = pool.call("create", name=name, size_bytes=TIB)
    for number in range(EXTENTS if wide else 100):
        pool.call("write", object_id=volume, offset_bytes=number * STRIDE, data=bytes([number % 251 + 1]) * BLOCK)
    snapshots: list[int] = []
    for first in range(0, SNAPSHOTS if wide else 1, GROUP):
        snapshots += pool.call("snapshot", pairs=[(volume, f"{name}@{first + each}") for each in range(GROUP if wide else 1)])
    return volume, snapshots[-1]


def received(pool: Any, name: str, base: int, number: int) -> int:
    """What a stream has brought: 1 % of the extents are others, durable."""
    staged: int = pool.call("clone", source_id=base, name=f".{name}.{number}")
    for at in range(0, EXTENTS if name == "wide" else 100, 100):
        pool.call("write", object_id=staged, offset_bytes=at * STRIDE, data=bytes([number + 1]) * BLOCK)
    pool.call("flush")
    return staged


def timed(pool: Any, op: str, **args: Any) -> tuple[Any, Record]:
    """Its value, and milliseconds: in all, and beyond what syncs of the medium took."""
    began, sync_s, syncs = time.perf_counter(), 0.0, 0
    token = pool.start(op, **args)
    while True:
        pool.turn()
        done = pool.take(token)
        if done is not None:
            break
        for number, kind, _, _ in pool.pending_io():
            before = time.perf_counter()
            pool.perform(number)
            if kind == "sync":
                sync_s, syncs = sync_s + time.perf_counter() - before, syncs + 1
    took = time.perf_counter() - began
    if done.code != "ok":
        raise OSError(f"{op}: {done.code}")
    return done.value, {"publish_ms": took * 1e3, "beyond_syncs_ms": (took - sync_s) * 1e3, "medium_syncs": syncs}
