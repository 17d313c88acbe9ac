"""Persistent and SPC-2 reservations: who may do what, who is told, what survives (SPC-4 §5.13, SPC-2 §5.5)."""

from __future__ import annotations

import pytest

from target.scsi import Gate, LogicalUnit, Result
from target.scsi.reservations import transport_id as tid
from tests.support.scsi_memory import World, field_pointer, initiator, sense_of

REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_ABORT, IGNORE, MOVE = range(8)
WE, EA, WERO, EARO, WEAR, EAAR = 1, 3, 5, 6, 7, 8
CONFLICT = 0x18
READ, WRITE, TUR = "28 00 00000000 00 0001 00", "2a 00 00000000 00 0001 00", "00 00 00 00 00 00"
PREEMPTED, RELEASED, REGISTRATIONS_GONE = (6, 0x2A03), (6, 0x2A04), (6, 0x2A05)


def out(world: World, who: int, action: int, key: int = 0, new: int = 0, kind: int = 0, flags: int = 0,
        tail: bytes = b"", length: int | None = None) -> Result:
    data = key.to_bytes(8, "big") + new.to_bytes(8, "big") + bytes(4) + bytes([flags, 0, 0, 0]) + tail
    length = len(data) if length is None else length
    return world.run(f"5f {action:02x} {kind:02x} 0000 {length:08x} 00", data, nexus=world.nexuses[who])


def status_in(world: World, action: int) -> bytes:
    """PERSISTENT RESERVE IN by someone who is told nothing."""
    observer = initiator(50)
    world.login(observer)
    result = world.run(f"5e {action:02x} 0000000000 ffff 00", nexus=observer)
    assert result.status == 0
    assert int.from_bytes(result.data_in[4:8], "big") == len(result.data_in) - 8 or action == 2
    return result.data_in


def keys(world: World) -> list[int]:
    data = status_in(world, 0)
    return [int.from_bytes(data[at:at + 8], "big") for at in range(8, len(data), 8)]


def attention(world: World, who: int) -> tuple[int, int] | None:
    result = world.run(TUR, nexus=world.nexuses[who])
    return sense_of(result) if result.status == 2 else None


def may(world: World, who: int) -> tuple[bool, bool]:
    """(Read, write)."""
    nexus = world.nexuses[who]
    read, write = world.run(READ, nexus=nexus), world.run(WRITE, b"x" * 512, nexus=nexus)
    assert {read.status, write.status} <= {0, CONFLICT}
    return read.status == 0, write.status == 0


def three(kind: int) -> World:
    """Nexus 0 holds a reservation with key 1, nexus 1 is registered with key 2, nexus 2 is not."""
    world = World(nexuses=3)
    assert out(world, 0, REGISTER, new=1).status == 0
    assert out(world, 1, REGISTER, new=2).status == 0
    assert out(world, 0, RESERVE, key=1, kind=kind).status == 0
    return world


@pytest.mark.parametrize(("kind", "registered", "stranger"), [
    (WE, (True, False), (True, False)), (EA, (False, False), (False, False)),
    (WERO, (True, True), (True, False)), (EARO, (True, True), (False, False)),
    (WEAR, (True, True), (True, False)), (EAAR, (True, True), (False, False)),
])
def test_access_by_type(kind: int, registered: tuple[bool, bool], stranger: tuple[bool, bool]) -> None:
    world = three(kind)
    assert may(world, 0) == (True, True)
    assert may(world, 1) == registered
    assert may(world, 2) == stranger
    for who, (read, write) in enumerate([(True, True), registered, stranger]):
        gate = world.unit.gate(world.nexuses[who])
        assert bool(gate & Gate.RESERVED) == (not read)
        assert bool(gate & Gate.RESERVED_WRITES) == (not write)
        assert world.unit.needs_slow_path(world.nexuses[who]) == (not write)
    for text in ("12 00 00 0060 00", "a0 00 00 000000 00000100 00 00", "03 00 0000 12 00", TUR,
                 "25 00 00000000 0000 00 00"):
        assert world.run(text, nexus=world.nexuses[2]).status == 0
    expected = 0 if stranger[0] else CONFLICT
    assert world.run("1a 00 3f 00 ff 00", nexus=world.nexuses[2]).status == expected
    assert out(world, 1, RELEASE, key=2, kind=kind).status == 0
    held = len(status_in(world, 1)) > 8
    assert held == (kind not in (WEAR, EAAR))


# SPC-4 table 65 and SBC-4 table 14, for who is not registered: A allowed by all types, R while anyone may read, else a conflict.
BY_RESERVATION = [
    ("A", "00 00 00 00 00 00"), ("A", "12 00 00 0060 00"), ("A", "03 00 0000 12 00"), ("A", "a0 00 00 000000 00000100 00 00"),
    ("A", "25 00 00000000 0000 00 00"), ("A", "9e 10 0000000000000000 00000020 00 00"), ("A", "4d 00 40 00 00 0000 0100 00"),
    ("A", "a3 05 00000000 00000100 00 00"), ("A", "a3 0a 00000000 00000100 00 00"), ("A", "a3 0f 00000000 00000100 00 00"),
    ("A", "1b 00 00 00 01 00"), ("A", "1b 01 00 00 01 00"), ("A", "1e 00 0000 00 00"), ("A", "5e 00 0000000000 0100 00"),
    ("R", "1a 00 3f 00 ff 00"), ("R", "5a 00 3f 00 000000 00ff 00"), ("R", "a3 0c 00 00 0000 00000100 00 00"),
    ("R", "a3 0d 00 000000 00000100 00 00"), ("R", "1c 01 00 0100 00"), ("R", "28 00 00000000 00 0001 00"),
    ("R", "2f 00 00000000 00 0001 00"), ("R", "34 00 00000000 00 0001 00"), ("R", "9e 12 0000000000000000 00000100 00 00"),
    ("R", "37 00 00 00000000 0100 00"),
    ("C", "1b 00 00 00 00 00"), ("C", "1b 00 00 00 11 00"), ("C", "1b 00 00 00 30 00"), ("C", "1e 00 0000 01 00"),
    ("C", "2a 00 00000000 00 0001 00"), ("C", "35 00 00000000 00 0000 00"), ("C", "42 00 00000000 00 0000 00"),
    ("C", "41 00 00000000 00 0001 00"), ("C", "89 00 0000000000000000 000000 01 00 00"), ("C", "04 00 00 00 00 00"),
    ("C", "48 82 0000000000 0000 00"), ("C", "15 10 0000 00 00"), ("C", "55 10 0000000000 0000 00"), ("C", "1d 04 00 0000 00"),
    ("C", "a4 06 00000000 00000000 00 00"), ("C", "a4 0a 00000000 00000000 00 00"),
    ("C", "83 00 0000000000000000 00000000 00 00"), ("C", "2e 00 00000000 00 0001 00"),
]


@pytest.mark.parametrize("kind", [WE, EA, WERO, EARO, WEAR, EAAR])
@pytest.mark.parametrize(("verdict", "cdb"), BY_RESERVATION)
def test_what_a_stranger_may_beside_each_type(kind: int, verdict: str, cdb: str) -> None:
    world = three(kind)
    allowed = verdict == "A" or (verdict == "R" and kind in (WE, WERO, WEAR))
    opcode = bytes.fromhex(cdb.replace(" ", ""))[0]
    data = b"x" * 512 if opcode in (0x2A, 0x2E, 0x41) else b"x" * 1024 if opcode == 0x89 else b""
    assert (world.run(cdb, data, nexus=world.nexuses[2]).status == CONFLICT) != allowed
    assert world.run(cdb, data, nexus=world.nexuses[0]).status != CONFLICT


def test_the_server_hears_of_every_gate_that_changes() -> None:
    world = World(nexuses=2)
    out(world, 0, REGISTER, new=1)
    world.hooks.gates.clear()
    out(world, 0, RESERVE, key=1, kind=EA)
    assert world.hooks.gates == [(world.nexuses[1], Gate.RESERVED | Gate.RESERVED_WRITES)]
    out(world, 0, RELEASE, key=1, kind=EA)
    assert world.hooks.gates[-1] == (world.nexuses[1], Gate.OPEN)


def test_registration_keys() -> None:
    world = World(nexuses=2)
    assert out(world, 0, REGISTER, key=5, new=1).status == CONFLICT
    assert out(world, 0, REGISTER, new=0).status == 0
    assert keys(world) == []
    assert out(world, 0, REGISTER, new=1).status == 0
    assert out(world, 0, REGISTER, key=9, new=2).status == CONFLICT
    assert out(world, 0, REGISTER, key=1, new=2).status == 0
    assert out(world, 1, IGNORE, key=77, new=3).status == 0
    assert keys(world) == [2, 3]
    assert int.from_bytes(status_in(world, 0)[:4], "big") == 3
    assert out(world, 1, IGNORE, new=0).status == 0
    assert keys(world) == [2]
    for action in (RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_ABORT, MOVE):
        assert out(world, 1, action, key=3, new=4, kind=WE).status == CONFLICT
        assert out(world, 0, action, key=3, new=4, kind=WE).status == CONFLICT


def test_reserve_again_and_release() -> None:
    world = three(WE)
    assert out(world, 0, RESERVE, key=1, kind=WE).status == 0
    assert out(world, 0, RESERVE, key=1, kind=EA).status == CONFLICT
    assert out(world, 1, RESERVE, key=2, kind=WE).status == CONFLICT
    assert sense_of(out(world, 0, RELEASE, key=1, kind=EA)) == (5, 0x2604)
    assert sense_of(out(world, 0, RESERVE, key=1, kind=2)) == (5, 0x2400)
    assert sense_of(out(world, 0, RESERVE, key=1, kind=0x10 | WE)) == (5, 0x2400)
    assert out(world, 0, RELEASE, key=1, kind=WE).status == 0
    assert attention(world, 1) is None
    for kind in (WERO, EARO, WEAR, EAAR):
        world = three(kind)
        assert out(world, 0, RELEASE, key=1, kind=kind).status == 0
        assert attention(world, 1) == RELEASED
        assert attention(world, 2) is None


def test_unregistering_the_holder_releases() -> None:
    for kind, told in ((WE, None), (EARO, RELEASED)):
        world = three(kind)
        assert out(world, 0, REGISTER, key=1).status == 0
        assert len(status_in(world, 1)) == 8
        assert attention(world, 1) == told
    world = three(EAAR)
    assert out(world, 0, REGISTER, key=1).status == 0
    assert len(status_in(world, 1)) == 24
    assert out(world, 1, REGISTER, key=2).status == 0
    assert len(status_in(world, 1)) == 8


def test_clear() -> None:
    world = three(EA)
    assert out(world, 1, CLEAR, key=2).status == 0
    assert keys(world) == []
    assert attention(world, 0) == PREEMPTED
    assert attention(world, 2) is None
    assert may(world, 2) == (True, True)


def test_preempt_takes_the_reservation() -> None:
    world = three(EA)
    assert out(world, 1, PREEMPT, key=2, new=1, kind=WERO).status == 0
    assert keys(world) == [2]
    assert status_in(world, 1)[8:].hex() == "0000000000000002" "00000000" "00" "05" "0000"
    assert attention(world, 0) == REGISTRATIONS_GONE
    assert out(world, 1, PREEMPT, key=2, new=99, kind=WE).status == CONFLICT
    assert sense_of(out(world, 1, PREEMPT, key=2, new=0, kind=WE)) == (5, 0x2600)
    assert world.hooks.aborted == []


def test_preempt_of_a_registrant_leaves_the_reservation() -> None:
    world = three(EARO)
    assert out(world, 0, PREEMPT_ABORT, key=1, new=2, kind=WE).status == 0
    assert keys(world) == [1]
    assert status_in(world, 1)[21] == EARO
    assert attention(world, 1) == REGISTRATIONS_GONE
    assert world.hooks.aborted == [world.nexuses[1]]


def test_preempt_with_key_zero_takes_an_all_registrants_reservation() -> None:
    world = three(WEAR)
    assert out(world, 1, PREEMPT, key=2, new=0, kind=EA).status == 0
    assert keys(world) == [2]
    assert status_in(world, 1)[8:16] == (2).to_bytes(8, "big")
    world = three(WEAR)
    assert status_in(world, 1)[8:16] == bytes(8)
    assert out(world, 1, PREEMPT, key=2, new=1, kind=EA).status == 0
    assert status_in(world, 1)[21] == WEAR


def test_a_change_of_type_is_told_to_who_stays() -> None:
    world = three(EA)
    out(world, 2, REGISTER, new=3)
    assert out(world, 1, PREEMPT, key=2, new=1, kind=WE).status == 0
    assert attention(world, 0) == REGISTRATIONS_GONE
    assert attention(world, 2) == RELEASED


def test_register_and_move() -> None:
    world = three(EA)
    name = tid.encode(world.nexuses[2].initiator_name, world.nexuses[2].isid)

    def move(raw_port: int, raw_tid: bytes, new: int = 3, unreg: int = 0, key: int = 1) -> Result:
        data = key.to_bytes(8, "big") + new.to_bytes(8, "big") + bytes([0, unreg]) + raw_port.to_bytes(2, "big")
        data += len(raw_tid).to_bytes(4, "big") + raw_tid
        return world.run(f"5f 07 00 0000 {len(data):08x} 00", data)

    assert sense_of(move(2, name)) == (5, 0x2600)
    assert sense_of(move(1, name, new=0)) == (5, 0x2600)
    assert sense_of(move(1, name[:-4])) == (5, 0x2600)
    assert sense_of(move(1, tid.encode(world.nexuses[0].initiator_name, world.nexuses[0].isid))) == (5, 0x2600)
    assert out(world, 1, MOVE, key=2, new=3).status == CONFLICT
    assert move(1, name, unreg=2).status == 0
    assert keys(world) == [2, 3]
    assert may(world, 2) == (True, True)
    assert may(world, 0) == (False, False)


def test_spec_i_pt_and_all_tg_pt() -> None:
    world = World(nexuses=2, ports=2)
    other = world.nexuses[1]
    name = tid.encode(other.initiator_name, other.isid)
    assert out(world, 0, REGISTER, new=7, flags=0x0C, tail=len(name).to_bytes(4, "big") + name).status == 0
    assert len(keys(world)) == 4
    full = status_in(world, 3)
    assert full[8 + 12] == 0x02
    assert full[8 + 18:8 + 20] in (b"\0\x01", b"\0\x02")
    assert sense_of(out(world, 0, REGISTER, key=7, new=8, flags=0x08, tail=bytes(4))) == (5, 0x2600)
    fresh = World(nexuses=1)
    for tail in (b"", b"\0", b"\0\0\0\xff", b"\0\0\0\x04\x05\x00\xff\xff", b"\0\0\0\x04\x06\x00\x00\x00"):
        assert sense_of(out(fresh, 0, REGISTER, new=7, flags=0x08, tail=tail))[0] == 5
        assert keys(fresh) == []
    bare = b"\x05\x00\x00\x18" + b"iqn.2026-11.test:host9\0\0"
    assert sense_of(out(fresh, 0, REGISTER, new=7, flags=0x08, tail=b"\0\0\0\x1c" + bare)) == (5, 0x2600)


def test_names_in_parameter_lists_and_old_states_are_brought_to_the_form_of_logins(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(nexuses=2)
    monkeypatch.setattr(type(world.hooks), "initiator_name", lambda self, name: name.lower(), raising=False)
    other = world.nexuses[1]
    name = tid.encode(other.initiator_name.upper(), other.isid)
    assert out(world, 0, REGISTER, new=7, flags=0x09, tail=len(name).to_bytes(4, "big") + name).status == 0
    assert out(world, 1, RESERVE, key=7, kind=WE).status == 0
    old = world.unit.state().replace(other.initiator_name.encode(), other.initiator_name.upper().encode())
    loaded = LogicalUnit(world.unit.identity, world.backend, hooks=world.hooks, state=old)
    assert loaded.reservations.holds(other)


def test_list_lengths() -> None:
    world = World()
    assert sense_of(out(world, 0, REGISTER, new=1, length=23)) == (5, 0x1A00)
    assert sense_of(out(world, 0, REGISTER, new=1, tail=bytes(4))) == (5, 0x1A00)
    assert sense_of(out(world, 0, REGISTER, new=1, length=0xFFFFFFFF)) == (5, 0x2400)
    assert sense_of(out(world, 0, IGNORE, new=1, tail=bytes(4))) == (5, 0x1A00)
    assert keys(world) == []
    assert len(world.run("5e 00 0000000000 0008 00").data_in) == 8
    assert status_in(world, 2) == b"\x00\x08\x1d\x80\xea\x01\x00\x00"


def test_registrations_are_bounded() -> None:
    from target.scsi import Limits

    world = World(nexuses=3, limits=Limits(registrations=2))
    assert [out(world, who, REGISTER, new=1).status for who in range(3)] == [0, 0, 2]


def test_aptpl_survives_a_restart() -> None:
    world = three(WERO)
    assert world.hooks.kept == []
    assert out(world, 0, REGISTER, key=1, new=11, flags=1).status == 0
    assert status_in(world, 2)[3] == 0x81
    state = world.hooks.kept[-1]
    again = World(nexuses=3)
    again.units[0] = LogicalUnit(again.unit.identity, again.backend, hooks=again.hooks, state=state)
    for nexus in again.nexuses:
        again.login(nexus)
    assert keys(again) == [11, 2]
    assert may(again, 1) == (True, True)
    assert may(again, 2) == (True, False)
    assert out(again, 0, RELEASE, key=11, kind=WERO).status == 0
    assert again.unit.state() == again.hooks.kept[-1] != state
    assert out(world, 0, REGISTER, key=11, new=1, flags=0).status == 0
    assert b'"reservations":{}' in world.hooks.kept[-1]


def test_where_another_process_may_follow_all_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without APTPL; and what a process that only ever follows itself finds of that counts for nothing."""
    monkeypatch.setattr("tests.support.scsi_memory.UnitHooks.keeps_reservations", True)
    world = three(WE)
    assert status_in(world, 2)[3] == 0x80
    state = world.hooks.kept[-1]
    for kept in (True, False):
        monkeypatch.setattr("tests.support.scsi_memory.UnitHooks.keeps_reservations", kept)
        again = World(nexuses=3)
        again.units[0] = LogicalUnit(again.unit.identity, again.backend, hooks=again.hooks, state=state)
        for nexus in again.nexuses:
            again.login(nexus)
        assert keys(again) == ([1, 2] if kept else [])
        assert may(again, 2) == (True, not kept)
        assert status_in(again, 2)[3] == 0x80
    assert out(world, 0, CLEAR, key=1).status == 0
    assert b'"reservations":{}' in world.hooks.kept[-1]


def test_nexus_loss_keeps_persistent_and_ends_legacy_reservations() -> None:
    world = three(EA)
    world.target.close_nexus(world.nexuses[0])
    assert may(world, 1) == (False, False)
    world.login(world.nexuses[0])
    assert may(world, 0) == (True, True)
    world = World(nexuses=2)
    assert world.run("16 00 000000 00").status == 0
    assert world.run("16 00 000000 00", nexus=world.nexuses[1]).status == CONFLICT
    for text in (READ, WRITE, TUR, "5e 00 0000000000 00ff 00"):
        assert world.run(text, b"x" * 512, nexus=world.nexuses[1]).status == CONFLICT
    assert world.run("12 00 00 0060 00", nexus=world.nexuses[1]).status == 0
    assert world.run("17 00 000000 00", nexus=world.nexuses[1]).status == 0
    assert world.run(READ, nexus=world.nexuses[1]).status == CONFLICT
    assert world.unit.gate(world.nexuses[1]) & Gate.RESERVED
    world.target.close_nexus(world.nexuses[0])
    assert may(world, 1) == (True, True)
    world.login(world.nexuses[0])
    world.run("56 00 0000000000 0000 00")
    world.unit.reset()
    world.hush()
    assert may(world, 1) == (True, True)


# SPC-2 table 9 and its annex B: what another nexus may beside RESERVE, and what only looks like it.
@pytest.mark.parametrize(("allowed", "cdb"), [
    (True, "12 00 00 0060 00"), (True, "03 00 0000 12 00"), (True, "a0 00 00 000000 00000100 00 00"),
    (True, "25 00 00000000 0000 00 00"), (True, "9e 10 0000000000000000 00000020 00 00"),
    (True, "4d 00 40 00 00 0000 0100 00"), (True, "17 00 000000 00"), (True, "1b 00 00 00 01 00"), (True, "1e 00 0000 00 00"),
    (False, "1b 00 00 00 00 00"), (False, "1b 00 00 00 11 00"), (False, "1e 00 0000 01 00"), (False, TUR),
    (False, "1a 00 3f 00 ff 00"), (False, "5e 00 0000000000 0100 00"), (False, "28 00 00000000 00 0001 00"),
])
def test_what_a_stranger_may_beside_a_legacy_reservation(allowed: bool, cdb: str) -> None:
    world = World(nexuses=2)
    assert world.run("16 00 000000 00").status == 0
    assert (world.run(cdb, nexus=world.nexuses[1]).status != CONFLICT) == allowed
    assert world.run(READ, nexus=world.nexuses[1]).status == CONFLICT


def test_legacy_beside_persistent_reservations() -> None:
    world = three(WERO)
    assert world.run("16 00 000000 00", nexus=world.nexuses[1]).status == 0
    assert world.run("16 00 000000 00", nexus=world.nexuses[2]).status == CONFLICT
    assert world.unit.reservations.legacy_holder is None
    assert sense_of(world.run("16 10 000000 00")) == (5, 0x2400)


def test_transport_ids() -> None:
    nexus = initiator(3)
    raw = tid.encode(nexus.initiator_name, nexus.isid)
    assert len(raw) % 4 == 0
    assert tid.decode(raw) == ((nexus.initiator_name, nexus.isid), len(raw))
    assert tid.decode_list(raw * 3) == [(nexus.initiator_name, nexus.isid)] * 3
    for broken in (raw[:3], raw[:-1], b"\x85" + raw[1:], b"\x45\0\0\x04iqn\0", b"\x45\0\0\x08a,i,0xzz"):
        with pytest.raises(ValueError):  # noqa: PT011
            tid.decode(broken)
    assert field_pointer(out(World(), 0, REGISTER, new=1, flags=0x08, tail=bytes(8)))[1] == 24
