"""Micro-benchmarks of the core's parts: nanoseconds an operation beside what the machine allows.

Operations of the engine run without a reactor on a medium that costs nothing. Nothing here asserts a time.
"""

import time
from collections.abc import Callable
from typing import Any

import pytest

from bench import _micro
from bench.memory import GIB, MIB, MemoryPool, limits
from target.iscsi import framing, pdu

Measure = Callable[..., None]
MakePool = Callable[..., MemoryPool]
COUNT = 200_000


@pytest.mark.parametrize("for_write", [False, True], ids=["read", "write"])
@pytest.mark.parametrize("fill", ["in order", "scattered"])
def test_lookup_hot(measure: Measure, make_pool: MakePool, fill: str, for_write: bool) -> None:
    """A random block of a 512 MiB volume: huge entries, or a leaf for every 2 MiB."""
    memory = make_pool(2 * GIB)
    volume = memory.volume("v", GIB // 2, fill=fill)
    memory.run(volume, "read" if not for_write else "write", COUNT)
    measure(lambda: _micro.lookups(memory.pool, volume, COUNT, for_write=for_write)[0], COUNT, "cached load")


def test_lookup_wide(measure: Measure, make_pool: MakePool) -> None:
    """A random block of a 32 GiB map: more nodes than the processor's caches hold (128 MiB of them)."""
    memory = make_pool(GIB)
    volume = memory.volume("v", 32 * GIB)
    memory.run(volume, "write", 32 * GIB // (2 * MIB), random=False, stride=512)
    measure(lambda: _micro.lookups(memory.pool, volume, COUNT)[0], COUNT, "memory latency")


def test_lookup_cold(measure: Measure, make_pool: MakePool) -> None:
    """A read whose leaf is not in memory: fetched (from memory), checked and unpacked. The node cache holds 1 MiB."""
    memory = make_pool(GIB, cache_bytes=MIB)
    volume = memory.volume("v", 8 * GIB)
    memory.run(volume, "write", 8 * GIB // (2 * MIB), random=False, stride=512)
    memory.pool.call("checkpoint")
    measure(lambda: memory.run(volume, "read", 20_000), 20_000, "checksum and copy of a node",
            _micro.checksums(1000, 4096)[0] / 1000 + limits()["4 KiB copy"])


def test_lookup_fragmented_extent(measure: Measure, make_pool: MakePool) -> None:
    """The extents of 1 MiB where no two blocks are neighbours: ns per extent."""
    memory = make_pool(2 * GIB)
    volume = memory.volume("v", GIB // 2, fill="scattered")
    count = 2000
    _, covered = _micro.lookups(memory.pool, volume, count, most=256)
    measure(lambda: _micro.lookups(memory.pool, volume, count, most=256)[0], covered, "cached load")


@pytest.mark.parametrize("kind", ["read", "write"])
def test_operation(measure: Measure, make_pool: MakePool, kind: str) -> None:
    """A whole 4 KiB operation in the engine, steady state, 32 at once."""
    memory = make_pool(2 * GIB)
    volume = memory.volume("v", GIB // 2, fill="scattered")
    measure(lambda: memory.run(volume, kind, COUNT), COUNT, "4 KiB copy")


@pytest.mark.parametrize("block", [4096, 128 << 10], ids=["4k", "128k"])
def test_insert(measure: Measure, make_pool: MakePool, block: int) -> None:
    """The first write of each block of a thin volume: allocation, map entry, journal record."""
    memory = make_pool(8 * GIB)
    volumes: list[int] = []
    count = GIB // 4 // block
    measure(lambda: memory.run(volumes[-1], "write", count, block_bytes=block, random=False, stride=7919), count,
            "4 KiB copy", prepare=lambda: volumes.append(memory.volume(f"v{len(volumes)}", GIB // 4)))


def test_snapshot_break(measure: Measure, make_pool: MakePool) -> None:
    """The first write of each block after a snapshot: leaf shadowed, block redirected, old one kept."""
    memory = make_pool(8 * GIB)
    volume = memory.volume("v", GIB // 4, fill="in order")
    count = GIB // 4 // 4096
    taken: list[int] = []

    def snapshot() -> None:
        taken.extend(memory.pool.call("snapshot", pairs=[(volume, f"v@{len(taken)}")]))
    measure(lambda: memory.run(volume, "write", count, random=False, stride=7919), count, "4 KiB copy",
            prepare=snapshot)


@pytest.mark.parametrize("blocks", [1, 32])
def test_allocate(measure: Measure, make_pool: MakePool, blocks: int) -> None:
    """An extent of 4 KiB or 128 KiB."""
    memory = make_pool(8 * GIB)
    count = 8000
    measure(lambda: _micro.allocations(memory.pool, count, blocks=blocks), count, "cached load")


def test_journal_append(measure: Measure, make_pool: MakePool) -> None:
    """A record of a 4 KiB write, sealing and writing of its frame included."""
    memory = make_pool(2 * GIB, journal_blocks=65536)
    record_bytes = 40
    measure(lambda: _micro.journal_records(memory.pool, memory.store, 100_000), 100_000, "checksum and copy of a record",
            record_bytes * (limits()["byte copied"] + _micro.checksums(1000, 4096)[0] / 1000 / 4096))


def test_sync(measure: Measure, make_pool: MakePool) -> None:
    """A flush with nothing to make durable, 32 at once."""
    memory = make_pool(GIB)
    volume = memory.volume("v", 64 * MIB, fill="in order")
    measure(lambda: memory.run(volume, "sync", 20_000), 20_000, "system call")


@pytest.mark.parametrize("length", [48, 4096, 128 << 10])
def test_crc32c(measure: Measure, length: int) -> None:
    """A header, a block, a large segment; the limit reads the same bytes at copying speed."""
    count = max(1000, (64 << 20) // length)
    measure(lambda: _micro.checksums(count, length)[0], count, "bytes copied", limits()["byte copied"] * length)


HEADERS = b"".join(pdu.header(pdu.ScsiCommand(
    read=True, attributes=1, initiator_task_tag=n, expected_data_transfer_length=4096, cmd_sn=n,
    cdb=bytes([0x28, 0]) + (n * 8).to_bytes(4) + bytes([0, 0, 8, 0]) + bytes(6))) for n in range(32))
"""A batch of READs as it lies in a receive buffer."""
BHS_BYTES = 48


def test_pdu_parse_native(measure: Measure) -> None:
    """A SCSI Command with its CDB, out of a batch in the cache."""
    measure(lambda: _micro.pdu_parses(HEADERS, COUNT * 10)[0], COUNT * 10, "48 bytes copied",
            limits()["byte copied"] * BHS_BYTES)


def test_pdu_build_native(measure: Measure) -> None:
    """The header of a Data-In with status."""
    measure(lambda: _micro.pdu_builds(COUNT * 10)[0], COUNT * 10, "48 bytes copied", limits()["byte copied"] * BHS_BYTES)


def test_pdu_parse_python(measure: Measure) -> None:
    """The same commands by the control plane's codec: framed out of a stream, then decoded by the table."""
    def body() -> int:
        reader = framing.PduReader(max_data_segment_bytes=8192)
        started = time.perf_counter_ns()
        for _ in range(60):
            reader.feed(HEADERS)
            while (found := reader.next_pdu()) is not None:
                pdu.decode(found)
        return time.perf_counter_ns() - started
    measure(body, 60 * 32, "Python call")


def test_pdu_build_python(measure: Measure) -> None:
    """A Data-In with status by the control plane's codec."""
    def body() -> int:
        started = time.perf_counter_ns()
        for n in range(2000):
            pdu.encode(pdu.DataIn(has_status=True, initiator_task_tag=n, stat_sn=n, exp_cmd_sn=n + 1, max_cmd_sn=n + 128))
        return time.perf_counter_ns() - started
    measure(body, 2000, "Python call")


@pytest.mark.parametrize("limit", ["system call", "memory latency", "4 KiB copy"])
def test_machine(measure: Measure, limit: str) -> None:
    """What everything above is held against."""
    bodies: dict[str, Any] = {
        "system call": lambda: _micro.system_calls(COUNT), "memory latency": lambda: _micro.chases(COUNT, 256 * MIB)[0],
        "4 KiB copy": lambda: _micro.copies(COUNT // 4, 4096, 256 * MIB) * 4}
    measure(bodies[limit], COUNT, limit)
