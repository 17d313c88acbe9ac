"""Unit attentions: order, what clears them, which commands pass, and that the server hears of it (SAM-5 §5.14)."""

from __future__ import annotations

import pytest

from target.scsi import Gate, UnitAttention
from tests.support.scsi_memory import MemoryBackend, World, initiator, sense_of

TUR = "00 00 00 0000 00"


def pending(world: World, who: int = 0, lun: int = 0) -> list[int]:
    """Every condition in the order in which it is told."""
    out = []
    while (result := world.run(TUR, nexus=world.nexuses[who], lun=lun)).status == 2:
        key, asc = sense_of(result)
        assert key == 6
        out.append(asc)
    return out


def test_a_new_nexus_is_told_power_on_once() -> None:
    world = World()
    new = initiator(7)
    world.login(new, quiet=False)
    world.nexuses.append(new)
    assert pending(world, 1) == [0x2900]
    assert pending(world, 1) == []
    world.login(new, quiet=False)
    assert pending(world, 1) == [0x2900]


@pytest.mark.parametrize("text", ["12 00 00 0060 00", "a0 00 00 000000 00000100 00 00"])
def test_inquiry_and_report_luns_pass_and_clear_nothing(text: str) -> None:
    world = World()
    world.unit.capacity_changed()
    assert world.run(text).status == 0
    assert pending(world) == [0x2A09]


def test_request_sense_tells_and_clears() -> None:
    world = World()
    world.unit.inquiry_changed()
    data = world.run("03 00 0000 12 00").data_in
    assert (data[2], data[12:14]) == (6, b"\x3f\x03")
    assert world.run("03 01 0000 ff 00").data_in[:4] == b"\x72\0\0\0"
    assert pending(world) == []


def test_events_and_their_codes() -> None:
    world = World(nexuses=2)
    unit = world.unit
    for event, code in ((unit.capacity_changed, 0x2A09), (unit.medium_changed, 0x2800), (unit.inquiry_changed, 0x3F03),
                        (unit.threshold_reached, 0x3807), (unit.reset, 0x2903), (world.target.reset, 0x2902)):
        event()
        event()
        assert pending(world, 0) == [code]
        assert pending(world, 1) == [code]


def test_resets_come_first_and_cover_what_they_imply() -> None:
    world = World()
    world.unit.medium_changed()
    world.unit.threshold_reached()
    world.unit.raise_attention(UnitAttention.COMMANDS_CLEARED)
    assert world.unit.attention.peek(world.nexuses[0]) == (
        UnitAttention.MEDIUM_CHANGED, UnitAttention.THRESHOLD_REACHED, UnitAttention.COMMANDS_CLEARED)
    world.unit.capacity_changed()
    world.unit.reset()
    world.unit.raise_attention(UnitAttention.NEXUS_LOSS)
    assert pending(world) == [0x2903, 0x3807]


def test_an_unknown_operation_does_not_eat_a_condition() -> None:
    world = World()
    world.unit.capacity_changed()
    assert sense_of(world.run("c1 00 00 0000 00")) == (5, 0x2000)
    assert pending(world) == [0x2A09]


def test_lun_list_changes_are_told_until_the_list_is_read() -> None:
    world = World(MemoryBackend(), MemoryBackend(), MemoryBackend())
    nexus = world.nexuses[0]
    world.target.detach(nexus, 2)
    assert pending(world, lun=0) == [0x3F0E]
    world.run("a0 00 00 000000 00000100 00 00")
    assert pending(world, lun=1) == []
    world.target.attach(nexus, 9, world.units[2])
    assert pending(world, lun=1) == [0x3F0E]
    assert pending(world, lun=9) == [0x2900]
    assert pending(world, lun=0) == [0x3F0E]


def test_the_gate_follows() -> None:
    world = World(nexuses=2)
    first, second = world.nexuses
    world.hooks.gates.clear()
    world.unit.capacity_changed()
    assert sorted(world.hooks.gates, key=str) == sorted([(first, Gate.ATTENTION), (second, Gate.ATTENTION)], key=str)
    assert world.unit.needs_slow_path(first, write=False)
    pending(world, 0)
    assert world.hooks.gates[-1] == (first, Gate.OPEN)
    assert not world.unit.needs_slow_path(first)
    assert world.unit.gate(second) == Gate.ATTENTION


def test_a_closed_nexus_keeps_nothing() -> None:
    world = World(nexuses=2)
    world.target.close_nexus(world.nexuses[1])
    world.unit.capacity_changed()
    world.login(world.nexuses[1], quiet=False)
    assert pending(world, 1) == [0x2900]


def test_gates_of_snapshots_and_modes() -> None:
    world = World(MemoryBackend(read_only=True))
    assert world.unit.gate(world.nexuses[0]) == Gate.WRITE_PROTECTED
    world = World()
    page = bytes([0x0A, 10, 0x06, 0x10, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0])
    assert world.run("15 10 00 00 10 00", bytes(4) + page).status == 0
    assert world.run("15 10 00 00 18 00", bytes(4) + bytes([8, 18]) + bytes(18)).status == 0
    assert world.unit.gate(world.nexuses[0]) == Gate.DESCRIPTOR | Gate.WRITE_THROUGH
    assert not world.unit.needs_slow_path(world.nexuses[0], write=False)
    assert world.unit.needs_slow_path(world.nexuses[0])


def test_a_number_that_meant_another_unit_says_so_before_anything_else() -> None:
    world = World(MemoryBackend(), MemoryBackend())
    nexus = world.nexuses[0]
    world.target.detach(nexus, 0)
    world.target.attach(nexus, 0, world.unit, replaces=True)
    assert pending(world) == [0x3F0E, 0x3F03]
    assert pending(world, lun=1) == [0x3F0E]
    world.target.detach(nexus, 0)
    world.target.attach(nexus, 0, world.unit)
    assert pending(world) == [0x2900]
