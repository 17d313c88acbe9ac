"""Where pools should be: a pure function from what there is to a table pool -> gateway (docs/ceph.md, Who decides)."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

MOVES_A_ROUND = 4           # planned ones, for balance: each is a second or so without service
TOLERANCE = 0.15            # of the mean load: a gateway that has no more than that above it is left alone


@dataclass(frozen=True, slots=True)
class Gateway:
    """A machine that lives. One in `maintenance` gets nothing and gives away what it has; `weight` is its share of the load."""

    name: str
    weight: float = 1.0
    maintenance: bool = False


@dataclass(frozen=True, slots=True)
class Pool:
    """`load` is in any unit, the same for all."""

    name: str
    load: float = 1.0


def place(pools: Mapping[str, Pool], gateways: Mapping[str, Gateway], present: Mapping[str, str],
          moves: int = MOVES_A_ROUND) -> dict[str, str]:
    """The table from the present one. What is served by a gateway that may stays, but for `moves` towards balance.

    Without a gateway that may serve, pools stay where they were. Equal inputs give equal tables.
    """
    able = {name: each for name, each in gateways.items() if not each.maintenance and each.weight > 0}
    if not able:
        return {pool: gateway for pool, gateway in present.items() if pool in pools}
    table = {pool: gateway for pool, gateway in present.items() if pool in pools and gateway in able}
    loads = dict.fromkeys(able, 0.0)
    for pool, gateway in table.items():
        loads[gateway] += pools[pool].load
    homeless = sorted((pool for pool in pools if pool not in table), key=lambda name: (-pools[name].load, name))
    idlest = [(loads[name] / able[name].weight, name) for name in able]
    heapq.heapify(idlest)
    for pool in homeless:
        _, name = idlest[0]
        table[pool] = name
        loads[name] += pools[pool].load
        heapq.heapreplace(idlest, (loads[name] / able[name].weight, name))
    for _ in range(moves):
        if not _better(pools, able, table, loads):
            break
    return table


def _better(pools: Mapping[str, Pool], able: Mapping[str, Gateway], table: dict[str, str], loads: dict[str, float]) -> bool:
    """Move one pool from the busiest gateway to the idlest one, if that is worth it."""
    relative = {name: loads[name] / able[name].weight for name in able}
    mean = sum(loads.values()) / sum(each.weight for each in able.values())
    busiest = max(relative, key=lambda name: (relative[name], name))
    idlest = min(relative, key=lambda name: (relative[name], name))
    gap = relative[busiest] - relative[idlest]
    if relative[busiest] <= mean * (1 + TOLERANCE):
        return False
    fitting = [name for name, gateway in table.items() if gateway == busiest and pools[name].load > 0
               and pools[name].load / able[busiest].weight + pools[name].load / able[idlest].weight < 2 * gap
               and relative[idlest] + pools[name].load / able[idlest].weight < relative[busiest]]
    if not fitting:
        return False
    chosen = max(fitting, key=lambda name: (-abs(gap / 2 - pools[name].load / able[idlest].weight), name))
    table[chosen] = idlest
    loads[busiest] -= pools[chosen].load
    loads[idlest] += pools[chosen].load
    return True
