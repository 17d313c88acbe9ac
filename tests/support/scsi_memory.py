"""A block backend in memory and the little world around it that SCSI tests need."""

from __future__ import annotations

import asyncio
from typing import Any

from target.scsi import (
    BackendError,
    BlockBackend,
    Command,
    Extent,
    Identity,
    IOStatistics,
    ITNexus,
    Limits,
    LogicalUnit,
    Result,
    Space,
    Target,
    TargetPort,
    UnitHooks,
    execute,
)
from target.scsi import lun as lun_number

GRAIN = 4096
TARGET_NAME = "iqn.2026-11.dev.lunette:test"


class MemoryBackend:
    """Bytes in memory, mapped in grains; `fail` makes the next operation of a name raise a code."""

    def __init__(self, size_bytes: int = 1 << 20, block_bytes: int = 512, read_only: bool = False,
                 pool_id: bytes = b"pool", physical_block_bytes: int = 0) -> None:
        self.data = bytearray(size_bytes)
        self.mapped = [False] * -(-size_bytes // GRAIN)
        self.block_bytes = block_bytes
        self.physical_block_bytes = physical_block_bytes or block_bytes
        self.read_only = read_only
        self.pool_id = pool_id
        self.available_bytes = 1 << 40
        self.fail: dict[str, str] = {}
        self.calls: list[tuple[Any, ...]] = []

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def space(self) -> Space:
        return Space(sum(self.mapped) * GRAIN, 0, self.available_bytes)

    def statistics(self) -> IOStatistics:
        return IOStatistics(1, 2, 3, 4, 5, 6)

    def _enter(self, *call: Any) -> None:
        self.calls.append(call)
        name = str(call[0])
        if name in self.fail:
            raise BackendError(self.fail.pop(name))
        if len(call) > 2:
            offset, length = call[1], call[2]
            assert offset % self.block_bytes == 0
            assert length % self.block_bytes == 0
            assert length > 0
            if offset + length > self.size_bytes:
                raise BackendError("range")

    def _write(self, offset: int, data: bytes) -> None:
        if self.read_only:
            raise BackendError("protected")
        self.data[offset:offset + len(data)] = data
        for grain in range(offset // GRAIN, -(-(offset + len(data)) // GRAIN)):
            self.mapped[grain] = True

    async def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        self._enter("read", offset_bytes, length_bytes)
        return bytes(self.data[offset_bytes:offset_bytes + length_bytes])

    async def write(self, offset_bytes: int, data: bytes, fua: bool) -> None:
        self._enter("write", offset_bytes, len(data), fua)
        self._write(offset_bytes, data)

    async def unmap(self, offset_bytes: int, length_bytes: int, fua: bool, keep: bool) -> None:
        self._enter("unmap", offset_bytes, length_bytes, fua, keep)
        if self.read_only:
            raise BackendError("protected")
        self.data[offset_bytes:offset_bytes + length_bytes] = bytes(length_bytes)
        for grain in range(-(-offset_bytes // GRAIN), (offset_bytes + length_bytes) // GRAIN):
            self.mapped[grain] = self.mapped[grain] and keep

    async def unmap_ranges(self, ranges: list[tuple[int, int]], fua: bool) -> None:
        for offset_bytes, length_bytes in ranges:
            await self.unmap(offset_bytes, length_bytes, fua, False)

    async def flush(self) -> None:
        self._enter("flush")

    async def compare_and_write(self, offset_bytes: int, expected: bytes, data: bytes, fua: bool) -> int | None:
        self._enter("compare_and_write", offset_bytes, len(expected), fua)
        now = self.data[offset_bytes:offset_bytes + len(expected)]
        if now != expected:
            return next(index for index, pair in enumerate(zip(now, expected, strict=True)) if pair[0] != pair[1])
        self._write(offset_bytes, data)
        return None

    async def extents(self, offset_bytes: int, length_bytes: int, limit: int) -> list[Extent]:
        self._enter("extents", offset_bytes, length_bytes, limit)
        out: list[Extent] = []
        at, end = offset_bytes, offset_bytes + length_bytes
        while at < end and len(out) < limit:
            mapped, start = self.mapped[at // GRAIN], at
            while at < end and self.mapped[at // GRAIN] == mapped:
                at = min(at // GRAIN * GRAIN + GRAIN, end)
            out.append(Extent(start, at - start, mapped))
        return out

    async def share(self, source: BlockBackend, source_offset_bytes: int, offset_bytes: int, length_bytes: int) -> None:
        self._enter("share", offset_bytes, length_bytes, source, source_offset_bytes)
        assert isinstance(source, MemoryBackend)
        self._write(offset_bytes, bytes(source.data[source_offset_bytes:source_offset_bytes + length_bytes]))


class RecordingHooks(UnitHooks):
    """Remembers what a unit asked of its server."""

    def __init__(self) -> None:
        self.gates: list[tuple[ITNexus, int]] = []
        self.kept: list[bytes] = []
        self.aborted: list[ITNexus] = []

    def gate_changed(self, unit: LogicalUnit, nexus: ITNexus, gate: int) -> None:
        self.gates.append((nexus, gate))

    async def persist(self, unit: LogicalUnit, state: bytes) -> None:
        self.kept.append(state)

    async def abort_tasks(self, unit: LogicalUnit, nexus: ITNexus) -> None:
        self.aborted.append(nexus)


def initiator(number: int = 1, port: int = 1) -> ITNexus:
    return ITNexus(f"iqn.2026-11.test:host{number}", number.to_bytes(6, "big"), port)


class World:
    """A target, some units, and nexuses that are logged in and have heard of the power-on."""

    def __init__(self, *backends: MemoryBackend, nexuses: int = 1, ports: int = 1,
                 limits: Limits | None = None) -> None:
        self.hooks = RecordingHooks()
        self.backends = list(backends) or [MemoryBackend()]
        self.units = [
            LogicalUnit(Identity(f"{index + 1:02x}" * 16), backend, hooks=self.hooks, limits=limits)
            for index, backend in enumerate(self.backends)]
        self.target = Target(TARGET_NAME, [TargetPort(n, n, group=n) for n in range(1, ports + 1)])
        self.nexuses = [initiator(n) for n in range(1, nexuses + 1)]
        for nexus in self.nexuses:
            self.login(nexus)

    @property
    def unit(self) -> LogicalUnit:
        return self.units[0]

    @property
    def backend(self) -> MemoryBackend:
        return self.backends[0]

    def login(self, nexus: ITNexus, quiet: bool = True) -> None:
        self.target.open_nexus(nexus, dict(enumerate(self.units)))
        if quiet:
            self.hush(nexus)

    def hush(self, nexus: ITNexus | None = None) -> None:
        """Take all pending unit attentions of a nexus (None: of all)."""
        for each in [nexus] if nexus else self.nexuses:
            for unit in self.units:
                while unit.attention.take(each):
                    pass

    def run(self, cdb: str | bytes, data: bytes = b"", *, nexus: ITNexus | None = None, lun: int = 0,
            expected: int | None = None) -> Result:
        """Execute a CDB (hex, blanks ignored), padded to 16 bytes as iSCSI carries it."""
        raw = bytes.fromhex(cdb) if isinstance(cdb, str) else cdb
        command = Command(lun_number.encode(lun), raw.ljust(16, b"\0"), data, expected)
        return asyncio.run(execute(self.target, nexus or self.nexuses[0], command))


def sense_of(result: Result) -> tuple[int, int]:
    """(Sense key, additional sense code and qualifier) of a CHECK CONDITION."""
    assert result.status == 2, result
    if result.sense[0] & 0x7F >= 0x72:
        return result.sense[1] & 0x0F, int.from_bytes(result.sense[2:4], "big")
    return result.sense[2] & 0x0F, int.from_bytes(result.sense[12:14], "big")


def field_pointer(result: Result) -> tuple[bool, int, int | None]:
    """(In the CDB, byte, bit) of a fixed-format sense."""
    specific = result.sense[15:18]
    assert specific[0] & 0x80
    bit = specific[0] & 7 if specific[0] & 8 else None
    return bool(specific[0] & 0x40), int.from_bytes(specific[1:3], "big"), bit
