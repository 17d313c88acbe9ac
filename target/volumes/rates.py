"""What a volume or a host may do a second: commands, bytes, a burst. Kept in the pool's key store.

Keys, values JSON: `rates/object/OBJECT_ID` and `rates/host/HOST_ID`, with the fields of Rates. Both are ids that are never used
again; entries of what is gone are left aside.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from target.volumes.entries import Entries, Kind
from target.volumes.gateway import AsyncPool

BURST_SECONDS = 0.1         # unless somebody says otherwise
OBJECT, HOST = "object", "host"


@dataclass(frozen=True, slots=True)
class Rates:
    """Commands and bytes a second, 0: any; what was not used in so many seconds may be used later."""

    iops: int = 0
    bandwidth_bytes: int = 0
    burst_seconds: float = BURST_SECONDS

    @property
    def limited(self) -> bool:
        return bool(self.iops or self.bandwidth_bytes)


def rates_entry(kind: str, number: int, rates: Rates) -> dict[str, bytes | None]:
    """How rates are kept; those that limit nothing are none."""
    value = json.dumps(asdict(rates), separators=(",", ":")).encode() if rates.limited else None
    return {f"rates/{kind}/{number}": value}


class RateStore:
    """The rates of one pool's objects and hosts. Changes are durable when a coroutine returns."""

    def __init__(self, pool: AsyncPool, host_ids: Collection[int]) -> None:
        self._pool = pool
        self._rates: dict[tuple[str, int], Rates] = {}
        self._entries = Entries(pool, "limits", {"rates": Kind(self._load, self._drop)})
        self._entries.load()
        for kind, number in [each for each in self._rates if each[0] == HOST and each[1] not in host_ids]:
            del self._rates[kind, number]

    def of(self, kind: str, number: int) -> Rates | None:
        """None: no limit."""
        return self._rates.get((kind, number))

    async def save(self, kind: str, number: int, rates: Rates) -> None:
        """Keep them; rates that limit nothing are none. LunetteError."""
        changes = rates_entry(kind, number, rates)
        await self._entries.store(changes)
        self.adopt(changes)

    def adopt(self, changes: Mapping[str, bytes | None]) -> None:
        """Take over what of these changes of the store concerns rates."""
        self._entries.adopt(changes)

    def _load(self, rest: str, value: Any) -> None:
        kind, number = _whose(rest)
        rates = Rates(int(value["iops"]), int(value["bandwidth_bytes"]), float(value["burst_seconds"]))
        if kind == HOST or (kind == OBJECT and self._pool.info(number) is not None):
            self._rates[kind, number] = rates

    def _drop(self, rest: str) -> None:
        self._rates.pop(_whose(rest), None)


def _whose(rest: str) -> tuple[str, int]:
    kind, number = rest.split("/")
    return kind, int(number)
