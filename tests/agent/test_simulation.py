"""The agents' own code on a simulated store and clock: small worlds in which all dies, and 200 gateways with 5,000 pools."""

from __future__ import annotations

import json
import os
import random
import statistics
from collections.abc import Mapping
from typing import Any

import pytest

from target.agent.agent import TICK_S, TTL_S, Agent, StoreError
from target.agent.placement import TOLERANCE, Gateway, Pool, place

LEASE_S = 10.0              # of a pool's owner: what a takeover from one that may live waits for
START_S, STOP_S = 2.0, 1.0


class Store:
    """Keys with leases, as etcd keeps them."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.keys: dict[str, tuple[str, int]] = {}
        self.leases: dict[int, tuple[float, float]] = {}
        self.by_prefix: dict[str, set[str]] = {}
        self._next = 0

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        ended = {lease for lease, (_, until_s) in self.leases.items() if until_s < self.now_s}
        if ended:
            for lease in ended:
                del self.leases[lease]
            for key in [key for key, (_, lease) in self.keys.items() if lease in ended]:
                self.drop(key)

    def set(self, key: str, value: str, lease: int) -> None:
        if lease and lease not in self.leases:
            raise StoreError("no such lease")
        self.keys[key] = value, lease
        self.by_prefix.setdefault(key.rsplit("/", 1)[0] + "/", set()).add(key)

    def drop(self, key: str) -> None:
        if self.keys.pop(key, None) is not None:
            self.by_prefix[key.rsplit("/", 1)[0] + "/"].discard(key)

    def grant(self, ttl_s: float) -> int:
        self._next += 1
        self.leases[self._next] = ttl_s, self.now_s + ttl_s
        return self._next


class Door:
    """The store as one machine reaches it, or does not."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.cut = False

    def _pass(self) -> None:
        if self.cut:
            raise StoreError("the store does not answer")

    def grant(self, ttl_s: float) -> int:
        self._pass()
        return self.store.grant(ttl_s)

    def keep_alive(self, lease: int) -> None:
        self._pass()
        if lease not in self.store.leases:
            raise StoreError("no such lease")
        ttl_s, _ = self.store.leases[lease]
        self.store.leases[lease] = ttl_s, self.store.now_s + ttl_s

    def read(self, prefix: str) -> dict[str, str]:
        self._pass()
        if prefix in self.store.keys:
            return {prefix: self.store.keys[prefix][0]}
        if prefix == "assigned/":
            return {key: self.store.keys[key][0] for name, keys in self.store.by_prefix.items() if name.startswith(prefix)
                    for key in keys}
        return {key: self.store.keys[key][0] for key in self.store.by_prefix.get(prefix, ())}

    def put(self, key: str, value: str, lease: int = 0) -> None:
        self._pass()
        self.store.set(key, value, lease)

    def create(self, key: str, value: str, lease: int = 0) -> bool:
        self._pass()
        if key in self.store.keys:
            return False
        self.store.set(key, value, lease)
        return True

    def delete(self, key: str) -> None:
        self._pass()
        self.store.drop(key)

    def replace(self, gone: str, key: str, value: str) -> None:
        self._pass()
        self.store.drop(gone)
        self.store.set(key, value, 0)


class World:
    """Machines, their agents, and who serves which pool: one that is started fences whoever did, as gateways do."""

    def __init__(self, gateways: int, pools: int, seed: int) -> None:
        self.dice = random.Random(seed)
        self.store = Store()
        self.machines = {f"g{number:03}": Machine(self, f"g{number:03}") for number in range(gateways)}
        self.loads = {f"p{number:04}": self.dice.choice((1.0, 1.0, 1.0, 2.0, 5.0)) for number in range(pools)}
        for name, load in self.loads.items():
            self.store.set(f"pools/{name}", json.dumps({"place": f"rbd:lun/{name}", "load": load}), 0)
        self.owner: dict[str, tuple[str, float]] = {}       # pool -> machine, serving from then on
        self.away_s = dict.fromkeys(self.loads, 0.0)
        self.longest_s = 0.0
        self._gone_s: dict[str, float] = {}

    def run(self, seconds: float, count: bool = True) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.store.advance(TICK_S)
            for machine in self.machines.values():
                machine.tick()
            if count:
                self._count()

    def _count(self) -> None:
        for pool in self.loads:
            name, from_s = self.owner.get(pool, ("", 0.0))
            if name and from_s <= self.store.now_s and pool in self.machines[name].gateways and self.machines[name].alive:
                self._gone_s.pop(pool, None)
            else:
                self.away_s[pool] += TICK_S
                self._gone_s[pool] = self._gone_s.get(pool, 0.0) + TICK_S
                self.longest_s = max(self.longest_s, self._gone_s[pool])

    def spread(self) -> float:
        """The load of the busiest machine, to the mean of those that may serve."""
        able = {name for name, machine in self.machines.items() if machine.alive and not machine.agent.maintenance}
        loads = dict.fromkeys(able, 0.0)
        for pool, (name, _) in self.owner.items():
            if name in able:
                loads[name] += self.loads[pool]
        return max(loads.values()) / statistics.mean(loads.values())

    @property
    def served(self) -> int:
        return sum(name != "" and self.machines[name].alive and pool in self.machines[name].gateways
                   for pool, (name, _) in self.owner.items())


class Machine:
    """A machine, as its agent's runner and as what happens to it."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.gateways: dict[str, float] = {}        # pool -> ends then, if it was told to
        self.alive = True
        self.door = Door(world.store)
        self.agent = Agent(name, self.door, self, lambda: world.store.now_s, address=f"10.0.0.1:{name}")

    def tick(self) -> None:
        if not self.alive:
            return
        now_s = self.world.store.now_s
        self.gateways = {pool: ends_s for pool, ends_s in self.gateways.items()
                         if ends_s > now_s and self.world.owner[pool][0] == self.name}      # who is fenced ends by itself
        self.agent.tick()

    def fail(self) -> None:
        self.alive = False
        self.gateways.clear()

    def come_back(self) -> None:
        self.alive = True
        self.agent = Agent(self.name, self.door, self, lambda: self.world.store.now_s, address=self.agent._address)

    def running(self) -> set[str]:
        return set(self.gateways)

    def start(self, pool: str, facts: Mapping[str, Any]) -> None:
        before, _ = self.world.owner.get(pool, ("", 0.0))
        given_up = not before or (self.world.machines[before].alive and pool not in self.world.machines[before].gateways)
        wait_s = START_S if given_up else START_S + 1.1 * LEASE_S
        self.world.owner[pool] = self.name, self.world.store.now_s + wait_s
        self.gateways[pool] = float("inf")

    def stop(self, pool: str, moved_to: str) -> None:
        self.gateways[pool] = min(self.gateways[pool], self.world.store.now_s + STOP_S)


def test_everything_dies_in_small_worlds() -> None:
    """Machines fail, come back, are cut off from the store, are maintained; then all is served again, and balanced."""
    for seed in range(12):
        world = World(5, 40, seed)
        world.run(20, count=False)
        for _ in range(25):
            machine = world.machines[world.dice.choice(sorted(world.machines))]
            what = world.dice.random()
            if what < 0.3 and machine.alive:
                machine.fail()
            elif what < 0.5 and not machine.alive:
                machine.come_back()
            elif what < 0.7:
                machine.door.cut = not machine.door.cut
            elif what < 0.9:
                machine.agent.maintenance = not machine.agent.maintenance
            world.run(world.dice.choice((1, 3, 10, 30)), count=False)
        for machine in world.machines.values():
            machine.door.cut = False
            machine.agent.maintenance = False
            if not machine.alive:
                machine.come_back()
        world.run(120, count=False)
        assert world.served == 40, seed
        assert world.spread() < 1 + TOLERANCE + 5 / 12, seed        # a pool of 5 is a good part of a machine's share


def test_who_is_maintained_gives_all_away_in_good_order() -> None:
    world = World(4, 40, 1)
    world.run(30, count=False)
    world.machines["g000"].agent.maintenance = True
    world.run(40)
    assert world.machines["g000"].running() == set()
    assert world.served == 40
    assert world.longest_s <= STOP_S + START_S + 3 * TICK_S        # nobody's lease was waited for


def test_placement_keeps_what_is_well() -> None:
    pools = {str(number): Pool(str(number)) for number in range(12)}
    gateways = {name: Gateway(name) for name in "abc"}
    table = place(pools, gateways, {})
    assert sorted(list(table.values()).count(name) for name in "abc") == [4, 4, 4]
    assert place(pools, gateways, table) == table
    gone = place(pools, {name: gateways[name] for name in "ab"}, table)
    assert {pool: name for pool, name in gone.items() if table[pool] != "c"} == {
        pool: name for pool, name in table.items() if name != "c"}
    assert place(pools, {}, table) == table
    assert place(pools, {"a": Gateway("a", maintenance=True)}, table) == table
    heavier = place(pools, {"a": Gateway("a", 2.0), "b": Gateway("b", 1.0)}, {})
    assert list(heavier.values()).count("a") == 8


@pytest.mark.skipif(not os.environ.get("LUNETTE_AGENTS"), reason="takes minutes: LUNETTE_AGENTS=1")
def test_two_hundred_gateways_and_five_thousand_pools() -> None:
    """What docs/ceph.md says of scale."""
    world = World(200, 5000, 7)
    world.run(40, count=False)
    assert world.served == 5000
    print(f"placed: the busiest has {world.spread():.2f} of the mean")
    moves = sum(machine.agent.moves for machine in world.machines.values())
    began_s = world.store.now_s
    failures = 0
    for _ in range(12):
        victim = world.machines[world.dice.choice(sorted(world.machines))]
        if victim.alive:
            victim.fail()
            failures += 1
        world.run(20)
        if not victim.alive and world.dice.random() < 0.7:
            victim.come_back()
    world.run(60)
    assert world.served == 5000
    hours = (world.store.now_s - began_s) / 3600
    moved = sum(machine.agent.moves for machine in world.machines.values()) - moves
    print(f"{failures} failures in {hours * 60:.0f} minutes: the longest without service {world.longest_s:.0f} s, "
          f"{sum(world.away_s.values()) / failures / 25:.1f} s a pool of the machine that failed, {moved} planned moves, "
          f"the busiest then has {world.spread():.2f} of the mean")
    assert world.longest_s <= TTL_S + LEASE_S * 1.1 + START_S + 6
