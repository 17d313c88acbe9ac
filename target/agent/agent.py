"""One machine's agent: says that it lives, serves what it was given, and (one of them all) gives pools to machines.

Sans-I/O but for its two parts: a `Store` with leases (etcd), and a `Runner` that starts and ends gateways. Neither is trusted for
safety: a gateway that is started fences whoever has the pool, and one that should have ended has a lease of its own.

| key (below the prefix) | value | whose lease |
|---|---|---|
| `gateways/NAME` | weight, maintenance, address | the machine's |
| `leader` | NAME | the machine's |
| `pools/POOL` | place, load, port | none: an administrator's |
| `assigned/NAME/POOL` | when, from whom | none: the leader's |
| `running/POOL` | NAME | the machine's |
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from target.agent.placement import Gateway, Pool, place

log = logging.getLogger("lunette.agent")

TTL_S = 6.0                 # of a machine's lease: so long after its last word its pools are given to others
TICK_S = 1.0
SETTLE_S = 3.0              # a new leader waits so long for others to come back before it gives anything away


class StoreError(Exception):
    """The store does not answer, or the lease is no more."""


class Store(Protocol):
    """A store with leases, as etcd is one. StoreError."""

    def grant(self, ttl_s: float) -> int: ...
    def keep_alive(self, lease: int) -> None: ...
    def read(self, prefix: str) -> dict[str, str]: ...
    def put(self, key: str, value: str, lease: int = 0) -> None: ...
    def create(self, key: str, value: str, lease: int = 0) -> bool:
        """Only if there is no such key."""
        ...
    def delete(self, key: str) -> None: ...
    def replace(self, gone: str, key: str, value: str) -> None:
        """Delete one key and write another at one stroke."""
        ...


class Runner(Protocol):
    """What runs on this machine. No call waits for long; what has come of it is seen by `running`."""

    def running(self) -> set[str]: ...
    def start(self, pool: str, facts: Mapping[str, Any]) -> None: ...
    def stop(self, pool: str, moved_to: str) -> None: ...


class Agent:
    """`tick` is called every second or so, with whatever outcome."""

    def __init__(self, name: str, store: Store, runner: Runner, clock: Callable[[], float], *, address: str = "",
                 weight: float = 1.0) -> None:
        self.name = name
        self.maintenance = False
        self._store, self._runner, self._clock = store, runner, clock
        self._address, self._weight = address, weight
        self._lease = 0
        self._leader_since_s: float | None = None
        self._said = ""
        self._held: set[str] = set()        # pools that the store says this machine runs
        self.moves = 0                      # planned ones that this agent has decided

    def tick(self) -> None:
        """One round. What the store refuses is tried again in the next; gateways go on meanwhile."""
        try:
            self._live()
            self._serve()
            if self._leads():
                self._give()
        except StoreError as error:
            self._leader_since_s = None
            log.warning("%s: %s", self.name, error)

    # -- one machine ---------------------------------------------------------------------------------------------------
    def _live(self) -> None:
        if self._lease:
            try:
                self._store.keep_alive(self._lease)
            except StoreError:
                self._lease, self._said = 0, ""
                self._held.clear()
        if not self._lease:
            self._lease = self._store.grant(TTL_S)
            self._leader_since_s = None
        facts = json.dumps({"weight": self._weight, "maintenance": self.maintenance, "address": self._address}, sort_keys=True)
        if facts != self._said:
            self._store.put(f"gateways/{self.name}", facts, self._lease)
            self._said = facts

    def _serve(self) -> None:
        """Start what was given and nobody else runs; end what was given to others."""
        mine = {key.rsplit("/", 1)[1] for key in self._store.read(f"assigned/{self.name}/")}
        running = self._runner.running()
        for pool in sorted(running - mine):
            self._runner.stop(pool, self._where(pool))
        for pool in sorted(self._held - running - mine):
            self._store.delete(f"running/{pool}")       # it has ended: whom it was given to may begin
            self._held.discard(pool)
        for pool in sorted(mine - running):
            self._begin(pool)
        for pool in sorted(running & mine - self._held):
            self._store.create(f"running/{pool}", self.name, self._lease)   # the lease it stood under is over
            self._held.add(pool)

    def _begin(self, pool: str) -> None:
        holder = self._store.read(f"running/{pool}").get(f"running/{pool}", self.name)
        facts = self._store.read(f"pools/{pool}").get(f"pools/{pool}")
        if holder == self.name and facts is not None:   # else whoever has it gives it up, or its lease ends
            self._store.put(f"running/{pool}", self.name, self._lease)
            self._held.add(pool)
            self._runner.start(pool, json.loads(facts))

    def _where(self, pool: str) -> str:
        """The address of the gateway that a pool was given to; empty when it is nowhere."""
        for key in self._store.read("assigned/"):
            _, name, given = key.split("/", 2)
            if given == pool:
                facts = self._store.read(f"gateways/{name}").get(f"gateways/{name}")
                return str(json.loads(facts).get("address", "")) if facts else ""
        return ""

    # -- the one that decides --------------------------------------------------------------------------------------------
    def _leads(self) -> bool:
        leader = self._store.read("leader").get("leader")
        if leader is None and self._store.create("leader", self.name, self._lease):
            leader = self.name
        if leader != self.name:
            self._leader_since_s = None
            return False
        if self._leader_since_s is None:
            self._leader_since_s = self._clock()
        return self._clock() - self._leader_since_s >= SETTLE_S

    def _give(self) -> None:
        """Write what differs between the table that is and the one that should be."""
        gateways = {key.split("/", 1)[1]: json.loads(value) for key, value in self._store.read("gateways/").items()}
        pools = {key.split("/", 1)[1]: json.loads(value) for key, value in self._store.read("pools/").items()}
        present: dict[str, str] = {}
        for key in self._store.read("assigned/"):
            _, name, pool = key.split("/", 2)
            if pool not in pools or pool in present:
                self._store.delete(key)
            else:
                present[pool] = name
        wanted = place({name: Pool(name, float(facts.get("load", 1.0))) for name, facts in pools.items()},
                       {name: Gateway(name, float(facts["weight"]), bool(facts["maintenance"]))
                        for name, facts in gateways.items()},
                       present)
        for pool, name in sorted(wanted.items()):
            old = present.get(pool, "")
            if old == name:
                continue
            value = json.dumps({"since_s": round(self._clock()), "from": old})
            if old:
                self.moves += old in gateways
                self._store.replace(f"assigned/{old}/{pool}", f"assigned/{name}/{pool}", value)
            else:
                self._store.put(f"assigned/{name}/{pool}", value)
