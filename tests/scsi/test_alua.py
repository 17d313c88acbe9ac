"""Target port groups: states per group and unit, who sets them, what they forbid (SPC-4 §5.11)."""

from __future__ import annotations

from target.scsi import AccessState, Gate
from tests.support.scsi_memory import MemoryBackend, World, field_pointer, initiator, sense_of

# INQUIRY and its page 83h, REPORT LUNS, READ CAPACITY in both forms, MODE SENSE, supported operation codes
TOLD = ("12 00 00 0060 00", "12 01 83 00ff 00", "a0 00 00 000000 00001000 00 00", "25 00 00000000 0000 00 00",
        "9e 10 0000000000000000 00000020 00 00", "1a 08 3f 00 ff 00", "a3 0c 00 00 0000 00001000 00 00")
REPORT, READ, TUR = "a3 0a 00000000 0000ffff 00 00", "28 00 00000000 00 0001 00", "00 00 00 0000 00"


def set_groups(world: World, *states: tuple[int, int], **more: object) -> object:
    data = bytes(4) + b"".join(bytes([state, 0]) + group.to_bytes(2, "big") for group, state in states)
    return world.run(f"a4 0a 00000000 {len(data):08x} 00 00", data, **more)  # type: ignore[arg-type]


def states(world: World, lun: int = 0) -> dict[int, int]:
    data = world.run(REPORT, lun=lun).data_in
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    return {int.from_bytes(data[at + 2:at + 4], "big"): data[at] & 0x0F for at in range(4, len(data), 12)}


def two_ports() -> World:
    world = World(MemoryBackend(), MemoryBackend(), ports=2)
    world.nexuses.append(initiator(1, port=2))
    world.login(world.nexuses[1])
    return world


def test_report() -> None:
    world = two_ports()
    data = world.run(REPORT).data_in
    assert data[4:16] == b"\x00\x8f\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01"
    assert states(world) == {1: 0, 2: 0}
    extended = world.run(REPORT.replace("a3 0a", "a3 2a")).data_in
    assert extended[4:8] == b"\x10\0\0\0"
    assert extended[8:] == data[4:]
    assert sense_of(world.run(REPORT.replace("a3 0a", "a3 4a"))) == (5, 0x2400)


def test_explicit_standby_is_for_one_unit_and_told_to_the_others() -> None:
    world = two_ports()
    assert set_groups(world, (2, 2)).status == 0  # type: ignore[attr-defined]
    assert states(world) == {1: 0, 2: 2}
    assert states(world, lun=1) == {1: 0, 2: 0}
    other = world.nexuses[1]
    assert world.unit.gate(other) == Gate.ATTENTION | Gate.NOT_READY
    assert sense_of(world.run(TUR, nexus=other)) == (6, 0x2A06)
    assert sense_of(world.run(READ, nexus=other)) == (2, 0x040B)
    assert sense_of(world.run(TUR, nexus=other)) == (2, 0x040B)
    assert world.run("12 00 00 0060 00", nexus=other).status == 0
    assert world.run("1a 00 3f 00 ff 00", nexus=other).status == 0
    assert world.run(READ, nexus=other, lun=1).status == 0
    assert world.run(READ).status == 0
    assert set_groups(world, (2, 3)).status == 0  # type: ignore[attr-defined]
    assert sense_of(world.run("1a 00 3f 00 ff 00", nexus=other)) == (6, 0x2A06)
    assert sense_of(world.run("1a 00 3f 00 ff 00", nexus=other)) == (2, 0x040C)
    assert set_groups(world, (2, 0), nexus=other).status == 0  # type: ignore[attr-defined]
    assert world.run(READ, nexus=other).status == 0


def test_an_implicit_change_wins_over_explicit_ones() -> None:
    world = two_ports()
    set_groups(world, (1, 1))
    world.hush()
    world.target.set_group_state(1, AccessState.STANDBY)
    assert sense_of(world.run(READ)) == (6, 0x2A06)
    assert sense_of(world.run(READ)) == (2, 0x040B)
    assert states(world) == {1: 2, 2: 0}


def test_lists_that_are_wrong_change_nothing() -> None:
    world = two_ports()
    for change, pointer in (((9, 0), 10), ((2, 5), 8)):
        result = set_groups(world, (1, 1), change)
        assert (sense_of(result), field_pointer(result)[1]) == ((5, 0x2600), pointer)  # type: ignore[arg-type]
    assert sense_of(world.run("a4 0a 00000000 00000006 00 00", bytes(6))) == (5, 0x1A00)
    assert world.run("a4 0a 00000000 00000000 00 00").status == 0
    assert states(world) == {1: 0, 2: 0}


def test_groups_of_other_gateways_are_reported_and_no_initiator_sets_them() -> None:
    world = World(MemoryBackend())
    world.run(TUR)
    world.target.set_elsewhere({2: AccessState.STANDBY, 1: AccessState.UNAVAILABLE})     # 1 is this one's own
    assert sense_of(world.run(TUR)) == (6, 0x2A06)
    assert states(world) == {1: 0, 2: 2}
    assert world.run("12 01 88 00ff 00").data_in[4:].count(b",t,0x0002") == 1            # SCSI ports
    assert sense_of(set_groups(world, (2, 0))) == (5, 0x2600)  # type: ignore[arg-type]
    assert set_groups(world, (2, 2), (1, 1)).status == 0  # type: ignore[attr-defined]
    world.target.set_elsewhere({})
    assert sense_of(world.run(TUR)) == (6, 0x2A06)
    assert states(world) == {1: 1}
    world.target.set_elsewhere({})
    assert world.run(TUR).status == 0


def test_a_passive_target_answers_what_it_was_told_and_no_more() -> None:
    world = World(MemoryBackend())
    told = [world.run(cdb).data_in for cdb in TOLD]
    world.target.passive = True
    world.target.set_group_state(1, AccessState.STANDBY)
    assert sense_of(world.run(TUR)) == (6, 0x2A06)
    assert [world.run(cdb).data_in for cdb in TOLD] == told
    for cdb in (TUR, READ, "5e 00 0000000000 0400 00", "5f 00 00 0000 00000018 00", "4d 00 40 00 00 0000 ffff 00",
                "a4 0a 00000000 00000000 00 00", "16 00 000000 00", "15 10 0000 00 00", "a4 06 00000000 00000000 00 00"):
        assert sense_of(world.run(cdb)) == (2, 0x040B), cdb
    world.target.set_group_state(1, AccessState.TRANSITIONING)
    assert sense_of(world.run(TUR)) == (6, 0x2A06)
    assert sense_of(world.run(READ)) == (2, 0x040A)
