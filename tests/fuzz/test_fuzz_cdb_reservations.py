"""Any sequence of reservation commands keeps the state whole: holders are registered, gates say what access is."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from target.scsi import Gate, LogicalUnit, Status
from target.scsi.reservations import transport_id as tid
from target.scsi.reservations.state import ALL_REGISTRANTS, REGISTRANTS
from tests.support.scsi_memory import World, sense_of

EXAMPLES = int(os.environ.get("LUNETTE_FUZZ_EXAMPLES", "300"))
NEXUSES = 3
MOVE = 7
STEP = st.tuples(
    st.integers(0, 9),                               # service action; 8 and 9: RESERVE (6), RELEASE (6)
    st.integers(0, NEXUSES - 1), st.integers(0, 3), st.integers(0, 3), st.sampled_from([1, 3, 5, 6, 7, 8, 0, 2]),
    st.sampled_from([0, 0, 1, 4, 5, 8]), st.integers(0, NEXUSES - 1), st.integers(0, 19))


def cdb_and_list(world: World, step: tuple[int, ...]) -> tuple[str, bytes]:
    action, _, key, new, kind, flags, other, _ = step
    if action > MOVE:
        return ("16" if action == 8 else "17") + " 00 000000 00", b""
    victim = world.nexuses[other]
    name = tid.encode(victim.initiator_name, victim.isid)
    data = key.to_bytes(8, "big") + new.to_bytes(8, "big")
    if action == MOVE:
        data += bytes([0, flags & 3, 0, 1]) + len(name).to_bytes(4, "big") + name
    else:
        tail = len(name).to_bytes(4, "big") + name if flags & 8 else b""
        data += bytes(4) + bytes([flags, 0, 0, 0]) + tail
    return f"5f {action:02x} {kind:02x} 0000 {len(data):08x} 00", data


def check(world: World) -> None:
    held = world.unit.reservations
    if held.reservation is not None:
        assert held.reservation.holder in held.keys
    assert held.all_ports <= held.keys.keys()
    assert 0 not in held.keys.values()
    assert held.legacy_holder is None or not held.keys or held.legacy_holder in world.nexuses
    for nexus in world.nexuses:
        gate = world.unit.gate(nexus)
        assert bool(gate & Gate.RESERVED) == (not held.may_read(nexus))
        assert bool(gate & Gate.RESERVED_WRITES) == (not held.may_write(nexus))
        if held.reservation is not None and held.legacy_holder is None:
            kind = held.reservation.kind
            entitled = nexus == held.reservation.holder or (kind in REGISTRANTS and nexus in held.keys)
            assert held.may_write(nexus) == entitled
            assert held.holds(nexus) == (nexus in held.keys if kind in ALL_REGISTRANTS
                                         else nexus == held.reservation.holder)
    if held.persistent:
        again = LogicalUnit(world.unit.identity, world.backend, state=world.unit.state())
        assert again.state() == world.unit.state()
        assert again.reservations.keys == held.keys
        assert again.reservations.reservation == held.reservation


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEP, min_size=1, max_size=40))
def test_any_sequence_of_reservation_commands(steps: list[tuple[int, ...]]) -> None:
    world = World(nexuses=NEXUSES)
    generation = 0
    for step in steps:
        text, data = cdb_and_list(world, step)
        result = world.run(text, data, nexus=world.nexuses[step[1]])
        Status(result.status)
        if result.status == Status.CHECK_CONDITION:
            assert sense_of(result)[0] in (5, 6)
        held = world.unit.reservations
        assert generation <= held.generation <= generation + 1
        generation = held.generation
        check(world)
        if step[7] == 0:
            world.login(world.nexuses[step[1]])
        last = dict(world.hooks.gates)
        assert all(last[nexus] == world.unit.gate(nexus) for nexus in world.nexuses if nexus in last)
