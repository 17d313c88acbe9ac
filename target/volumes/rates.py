"""What a volume or a host may do a second: commands, bytes, a burst. Kept in the pool's key store.

Keys, values JSON: `rates/object/OBJECT_ID` and `rates/host/HOST_ID`, with the fields of Rates. Both are ids that are never used
again; entries of what is gone are left aside.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from target.errors import LunetteError
from target.volumes.gateway import AsyncPool, PoolError, pool_error

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
        for key, raw in pool.kv().items():
            if key.startswith("rates/"):
                self._load(key, raw, host_ids)

    def of(self, kind: str, number: int) -> Rates | None:
        """None: no limit."""
        return self._rates.get((kind, number))

    async def save(self, kind: str, number: int, rates: Rates) -> None:
        """Keep them; rates that limit nothing are none. LunetteError."""
        changes = rates_entry(kind, number, rates)
        try:
            await self._pool.call("kv", changes=changes)
        except PoolError as error:
            raise pool_error(error.code, "keep the limits") from None
        self.adopt(changes)

    def adopt(self, changes: Mapping[str, bytes | None]) -> None:
        """Take over what of these changes of the store concerns rates."""
        for key, raw in changes.items():
            kind, _, rest = key.partition("/")
            if kind == "rates" and raw is not None:
                which, _, number = rest.partition("/")
                self._load(key, raw, {int(number)} if which == HOST else ())
            elif kind == "rates":
                which, _, number = rest.partition("/")
                self._rates.pop((which, int(number)), None)

    def _load(self, key: str, raw: bytes, host_ids: Collection[int]) -> None:
        try:
            _, kind, number = key.split("/")
            value = json.loads(raw)
            rates = Rates(int(value["iops"]), int(value["bandwidth_bytes"]), float(value["burst_seconds"]))
            there = self._pool.info(int(number)) is not None if kind == OBJECT else int(number) in host_ids
            if there and kind in (OBJECT, HOST):
                self._rates[kind, int(number)] = rates
        except (ValueError, KeyError, TypeError) as error:
            raise LunetteError("damaged", f"the entry {key!r} cannot be read: {error}") from None
