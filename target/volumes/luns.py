"""LUN tables in memory: which object is which LUN for which host, and which number is next. The catalog keeps them in the pool.

Numbers below 256 come first, because some initiators know no others; of those, the one that has been free the longest, because an
initiator may still take a number for what it was last. A number that is *held* (a live session saw an object there that is gone,
and has not asked for the list of LUNs since) waits as long as another below 256 is free. HOST_ID 0 is everyone.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from target.errors import LunetteError

EVERYONE = 0
MAX_LUN = 16383  # the flat addressing method's range (SAM-5 §4.7.7.3)
PERIPHERAL_LUNS = 256  # what the peripheral device addressing method can say (SAM-5 §4.7.7.2)


@dataclass(frozen=True, slots=True)
class Connection:
    """An object under a LUN for one host, or for everyone (EVERYONE)."""

    host_id: int
    lun: int
    object_id: int


class _FreeNumbers:
    """The numbers of a range that one host's table does not use, the one that has been free the longest first."""

    def __init__(self, first: int, end: int) -> None:
        self._fresh = first                                  # all from here on were never used, but for `_used`
        self._end = end
        self._used: set[int] = set()
        self._freed: OrderedDict[int, None] = OrderedDict()

    def take(self, lun: int) -> None:
        self._freed.pop(lun, None)
        self._used.add(lun)

    def give_back(self, lun: int) -> None:
        self._used.discard(lun)
        self._freed[lun] = None

    def freed(self) -> Collection[int]:
        """Those that were used before."""
        return self._freed.keys()

    def __iter__(self) -> Iterator[int]:
        while self._fresh < self._end and (self._fresh in self._used or self._fresh in self._freed):
            self._fresh += 1
        for lun in range(self._fresh, self._end):
            if lun not in self._used and lun not in self._freed:
                yield lun
        yield from self._freed


class LunTables:
    """Every host's LUNs."""

    def __init__(self) -> None:
        self._tables: dict[int, dict[int, Connection]] = {EVERYONE: {}}
        self._by_object: dict[int, set[Connection]] = {}
        self._free: dict[int, tuple[_FreeNumbers, _FreeNumbers]] = {}
        self._of_hosts: Counter[int] = Counter()            # number -> how many hosts' own tables use it

    def all(self) -> list[Connection]:
        return [each for host_id in sorted(self._tables) for each in self.of_host(host_id)]

    def of_host(self, host_id: int) -> list[Connection]:
        """One host's connections, by LUN."""
        table = self._tables.get(host_id, {})
        return [table[lun] for lun in sorted(table)]

    def of_object(self, object_id: int) -> list[Connection]:
        """Where an object is connected, everyone first."""
        return sorted(self._by_object.get(object_id, ()), key=lambda each: (each.host_id, each.lun))

    def at(self, host_id: int, lun: int) -> Connection | None:
        return self._tables.get(host_id, {}).get(lun)

    def seen_by(self, host_id: int | None, *, open_access: bool, without: Collection[Connection] = (),
                added: Connection | None = None) -> dict[int, int]:
        """LUN -> object id that a host's (None: no host's) initiators see, or would see. Its own win over everyone's."""
        seen: dict[int, int] = {}
        for each in ([EVERYONE] if open_access else []) + ([] if host_id is None else [host_id]):
            seen.update({lun: one.object_id for lun, one in self._tables.get(each, {}).items() if one not in without})
            if added is not None and added.host_id == each:
                seen[added.lun] = added.object_id
        return seen

    def add(self, connection: Connection) -> None:
        self._tables.setdefault(connection.host_id, {})[connection.lun] = connection
        self._by_object.setdefault(connection.object_id, set()).add(connection)
        self._numbers(connection.host_id, connection.lun).take(connection.lun)
        if connection.host_id != EVERYONE:
            self._of_hosts[connection.lun] += 1

    def drop(self, connection: Connection) -> None:
        """Take a connection away; its number is free from now on."""
        table = self._tables.get(connection.host_id, {})
        if table.get(connection.lun) == connection:
            del table[connection.lun]
            self.freed(connection.host_id, connection.lun)
            if connection.host_id != EVERYONE:
                self._of_hosts[connection.lun] -= 1
        where = self._by_object.get(connection.object_id, set())
        where.discard(connection)
        if not where:
            self._by_object.pop(connection.object_id, None)

    def freed(self, host_id: int, lun: int) -> None:
        """A number has become free later than all that are free now."""
        self._numbers(host_id, lun).give_back(lun)

    def kept_order(self, host_id: int) -> Collection[int]:
        """Numbers below 256 that were used and are free: whose place in the order outlasts a restart."""
        return self._ranges(host_id)[0].freed()

    def forget_host(self, host_id: int) -> None:
        """The host is gone, and its connections went before it."""
        self._tables.pop(host_id, None)
        self._free.pop(host_id, None)

    def next_free(self, host_id: int, held: Callable[[int], bool]) -> int:
        """The number for a new connection. LunetteError limit.

        None that would hide another object: a host's own is not one of everyone's, everyone's is none that a host uses.
        """
        for numbers in self._ranges(host_id):
            longest = None
            for lun in numbers:
                if self._hides(host_id, lun):
                    continue
                if not held(lun):
                    return lun
                longest = lun if longest is None else longest
            if longest is not None:
                return longest
        raise LunetteError("limit", f"all {MAX_LUN + 1} LUNs are taken")

    def _hides(self, host_id: int, lun: int) -> bool:
        return self._of_hosts[lun] > 0 if host_id == EVERYONE else lun in self._tables[EVERYONE]

    def _ranges(self, host_id: int) -> tuple[_FreeNumbers, _FreeNumbers]:
        return self._free.setdefault(host_id, (_FreeNumbers(0, PERIPHERAL_LUNS), _FreeNumbers(PERIPHERAL_LUNS, MAX_LUN + 1)))

    def _numbers(self, host_id: int, lun: int) -> _FreeNumbers:
        return self._ranges(host_id)[lun >= PERIPHERAL_LUNS]
