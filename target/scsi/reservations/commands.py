"""PERSISTENT RESERVE IN and OUT, RESERVE and RELEASE (SPC-4 §6.15, §6.16, SPC-2 §7.21, §7.29)."""

from __future__ import annotations

from dataclasses import dataclass

from target.scsi import sense
from target.scsi.model import ITNexus, Status
from target.scsi.reservations import transport_id
from target.scsi.reservations.state import ALL_REGISTRANTS, REGISTRANTS, Reservation, Reservations, ReservationType
from target.scsi.sense import ScsiError
from target.scsi.task import Task
from target.scsi.unit_attention import UnitAttention

HEADER = 24
SPEC_I_PT, ALL_TG_PT, APTPL = 0x08, 0x04, 0x01
UNREG, MOVE_APTPL = 0x02, 0x01


def conflict() -> ScsiError:
    return ScsiError(Status.RESERVATION_CONFLICT)


# -- PERSISTENT RESERVE IN ---------------------------------------------------------------------------------------------
def _held(task: Task) -> Reservations:
    """The unit's reservations; a conflict while an SPC-2 reservation is in force."""
    held = task.unit.reservations
    if held.legacy_holder is not None:
        raise conflict()
    return held


def _generation(held: Reservations) -> bytes:
    return (held.generation & 0xFFFFFFFF).to_bytes(4, "big")


def _listed(held: Reservations, body: bytes) -> bytes:
    return _generation(held) + len(body).to_bytes(4, "big") + body


async def read_keys(task: Task) -> bytes:
    """READ KEYS."""
    held = _held(task)
    return _listed(held, b"".join(key.to_bytes(8, "big") for key in held.keys.values()))


async def read_reservation(task: Task) -> bytes:
    """READ RESERVATION: an all-registrants reservation has no key."""
    held = _held(task)
    if held.reservation is None:
        return _listed(held, b"")
    kind, holder = held.reservation
    key = 0 if kind in ALL_REGISTRANTS else held.keys[holder]
    return _listed(held, key.to_bytes(8, "big") + bytes(5) + bytes([kind]) + bytes(2))


async def report_capabilities(task: Task) -> bytes:
    """REPORT CAPABILITIES: CRH, SIP_C, ATP_C, PTPL_C; all six types."""
    held = _held(task)
    return b"\x00\x08\x1d" + bytes([0x80 | (1 if held.persistent else 0)]) + b"\xea\x01\x00\x00"


async def read_full_status(task: Task) -> bytes:
    """READ FULL STATUS: every registration with its TransportID."""
    held = _held(task)
    body = b""
    for nexus, key in held.keys.items():
        holds = held.holds(nexus)
        flags = (0x02 if nexus in held.all_ports else 0) | (0x01 if holds else 0)
        kind = int(held.reservation.kind) if holds and held.reservation else 0
        name = transport_id.encode(nexus.initiator_name, nexus.isid)
        body += key.to_bytes(8, "big") + bytes(4) + bytes([flags, kind]) + bytes(4)
        body += nexus.target_port.to_bytes(2, "big") + len(name).to_bytes(4, "big") + name
    return _listed(held, body)


# -- PERSISTENT RESERVE OUT: the parameter list ------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Parameters:
    """What most service actions share."""

    key: int
    action_key: int
    flags: int
    tail: bytes


def _parameters(task: Task, exact: bool) -> Parameters:
    """The basic parameter list; exactly 24 bytes unless TransportIDs may follow."""
    raw = task.parameters()
    if len(raw) < HEADER or (exact and len(raw) != HEADER):
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    return Parameters(int.from_bytes(raw[0:8], "big"), int.from_bytes(raw[8:16], "big"), raw[20], raw[HEADER:])


def _registered(task: Task, held: Reservations, key: int) -> None:
    """RESERVATION CONFLICT unless the nexus is registered with this key."""
    if held.keys.get(task.nexus) != key:
        raise conflict()


def _kind(task: Task) -> ReservationType:
    """Scope and type of the CDB: logical unit scope and one of the six types."""
    if task.cdb[2] >> 4:
        raise sense.invalid_cdb(2, 7)
    try:
        return ReservationType(task.cdb[2] & 0x0F)
    except ValueError:
        raise sense.invalid_cdb(2, 3) from None


def _room(task: Task, held: Reservations, nexuses: set[ITNexus]) -> None:
    if len(held.keys.keys() | nexuses) > task.unit.limits.registrations:
        raise sense.illegal(sense.INSUFFICIENT_REGISTRATION_RESOURCES)


async def _done(task: Task, held: Reservations, was_persistent: bool, generation: bool = True) -> bytes:
    """After a change: count it, re-judge every nexus, and keep it before GOOD when power loss must not undo it."""
    if generation:
        held.generation += 1
    task.unit.gate_check()
    if held.persistent or was_persistent or held.kept:
        await task.unit.persist()
    return b""


def _tell(task: Task, nexuses: list[ITNexus], condition: UnitAttention) -> None:
    for nexus in nexuses:
        if nexus != task.nexus:
            task.unit.attention.raise_for(nexus, condition)


# -- PERSISTENT RESERVE OUT: service actions ---------------------------------------------------------------------------
async def register(task: Task) -> bytes:
    """REGISTER: the key must be the one the nexus has (0: none)."""
    held, given = _held(task), _parameters(task, exact=False)
    if held.keys.get(task.nexus, 0) != given.key:
        raise conflict()
    return await _register(task, held, given)


async def register_and_ignore(task: Task) -> bytes:
    """REGISTER AND IGNORE EXISTING KEY."""
    held, given = _held(task), _parameters(task, exact=True)
    if given.flags & SPEC_I_PT:
        raise sense.invalid_parameter(20, 3)
    return await _register(task, held, given)


async def _register(task: Task, held: Reservations, given: Parameters) -> bytes:
    was_persistent = held.persistent
    spec_i_pt, all_ports = bool(given.flags & SPEC_I_PT), bool(given.flags & ALL_TG_PT)
    if not spec_i_pt and given.tail:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    if spec_i_pt and task.nexus in held.keys:
        raise sense.invalid_parameter(20, 3)
    also = _specified(task, given.tail) if spec_i_pt else []
    nexuses = {task.nexus, *also}
    if all_ports:
        nexuses = {ITNexus(each.initiator_name, each.isid, port) for each in nexuses for port in task.target.ports}
        nexuses.add(task.nexus)
    if not given.action_key:
        if task.nexus not in held.keys:
            return b""
        gone = nexuses & held.keys.keys() if all_ports else {task.nexus}
        for nexus in gone:
            _tell(task, held.unregister(nexus), UnitAttention.RESERVATIONS_RELEASED)
    else:
        _room(task, held, nexuses)
        if any(nexus in held.keys for nexus in nexuses - {task.nexus}) and spec_i_pt:
            raise conflict()
        for nexus in nexuses:
            held.register(nexus, given.action_key, all_ports)
    held.persistent = bool(given.flags & APTPL)
    return await _done(task, held, was_persistent)


def _specified(task: Task, tail: bytes) -> list[ITNexus]:
    """The nexuses that a SPEC_I_PT list names, on the port the command came through."""
    if len(tail) < 4:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    length = int.from_bytes(tail[0:4], "big")
    if length != len(tail) - 4:
        raise sense.invalid_parameter(HEADER)
    return [nexus for port in _ports(task, tail[4:], HEADER + 4) for nexus in _nexuses(task, port, task.nexus.target_port)]


def _ports(task: Task, raw: bytes, at: int) -> list[transport_id.InitiatorPort]:
    name = task.unit.hooks.initiator_name
    try:
        return [port._replace(name=name(port.name)) for port in transport_id.decode_list(raw)]
    except ValueError:
        raise sense.invalid_parameter(at) from None


def _nexuses(task: Task, port: transport_id.InitiatorPort, target_port: int) -> list[ITNexus]:
    """An initiator port as a nexus; an initiator without ISID as all of its nexuses that are open."""
    if port.isid is not None:
        return [ITNexus(port.name, port.isid, target_port)]
    found = [nexus for nexus in task.target.nexuses()
             if nexus.initiator_name == port.name and nexus.target_port == target_port]
    if not found:
        raise sense.invalid_parameter(HEADER)
    return found


async def reserve(task: Task) -> bytes:
    """RESERVE."""
    held, given, kind = _held(task), _parameters(task, exact=True), _kind(task)
    _registered(task, held, given.key)
    if held.reservation is not None:
        if not held.holds(task.nexus) or held.reservation.kind != kind:
            raise conflict()
        return b""
    held.reservation = Reservation(kind, task.nexus)
    return await _done(task, held, held.persistent, generation=False)


async def release(task: Task) -> bytes:
    """RELEASE: without effect for who does not hold the reservation."""
    held, given, kind = _held(task), _parameters(task, exact=True), task.cdb[2]
    _registered(task, held, given.key)
    if held.reservation is None or not held.holds(task.nexus):
        return b""
    if held.reservation.kind != kind:
        raise sense.illegal(sense.INVALID_RELEASE_OF_PERSISTENT_RESERVATION)
    if held.reservation.kind in REGISTRANTS:
        _tell(task, list(held.keys), UnitAttention.RESERVATIONS_RELEASED)
    held.reservation = None
    return await _done(task, held, held.persistent, generation=False)


async def clear(task: Task) -> bytes:
    """CLEAR: no registration and no reservation remain."""
    held, given = _held(task), _parameters(task, exact=True)
    _registered(task, held, given.key)
    _tell(task, held.clear(), UnitAttention.RESERVATIONS_PREEMPTED)
    return await _done(task, held, held.persistent)


async def preempt(task: Task) -> bytes:
    """PREEMPT."""
    held = _held(task)
    _preempt(task, held)
    return await _done(task, held, held.persistent)


async def preempt_and_abort(task: Task) -> bytes:
    """PREEMPT AND ABORT: the tasks of who was preempted are gone before the command ends."""
    held = _held(task)
    removed = _preempt(task, held)
    result = await _done(task, held, held.persistent)
    for nexus in removed:
        await task.unit.hooks.abort_tasks(task.unit, nexus)
    return result


def _preempt(task: Task, held: Reservations) -> list[ITNexus]:
    """Remove registrations by key, take the reservation if its holder is among them; who was removed."""
    given = _parameters(task, exact=True)
    _registered(task, held, given.key)
    old = held.reservation
    victim = given.action_key
    shared = old is not None and old.kind in ALL_REGISTRANTS
    if not victim and not shared:
        raise sense.invalid_parameter(8)
    takes_over = (shared and not victim) or (old is not None and not shared and held.keys[old.holder] == victim)
    others = [nexus for nexus in held.keys if nexus != task.nexus]
    removed = [nexus for nexus in others if not victim or held.keys[nexus] == victim]
    if takes_over:
        kind = _kind(task)
        held.remove(removed)
        held.reservation = Reservation(kind, task.nexus)
        if old is not None and old.kind != kind:
            _tell(task, list(held.keys), UnitAttention.RESERVATIONS_RELEASED)
    elif not removed and held.keys[task.nexus] != victim:
        raise conflict()
    else:
        held.remove(removed)
        if shared and old is not None and old.holder in removed:
            held.reservation = Reservation(old.kind, task.nexus)
    _tell(task, removed, UnitAttention.REGISTRATIONS_PREEMPTED)
    return removed


async def register_and_move(task: Task) -> bytes:
    """REGISTER AND MOVE: give the reservation to another nexus, which is registered for it (SPC-4 §5.13.8)."""
    held, raw = _held(task), task.parameters()
    if len(raw) < HEADER:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    key, action_key = int.from_bytes(raw[0:8], "big"), int.from_bytes(raw[8:16], "big")
    _registered(task, held, key)
    old = held.reservation
    if old is None or old.kind in ALL_REGISTRANTS or old.holder != task.nexus:
        raise conflict()
    if not action_key:
        raise sense.invalid_parameter(8)
    if int.from_bytes(raw[20:24], "big") != len(raw) - HEADER:
        raise sense.invalid_parameter(20)
    target_port = int.from_bytes(raw[18:20], "big")
    if target_port not in task.target.ports:
        raise sense.invalid_parameter(18)
    ports = _ports(task, raw[HEADER:], HEADER)
    nexuses = _nexuses(task, ports[0], target_port) if len(ports) == 1 else []
    if len(nexuses) != 1 or nexuses[0] == task.nexus:
        raise sense.invalid_parameter(HEADER)
    _room(task, held, set(nexuses))
    was_persistent = held.persistent
    held.register(nexuses[0], action_key)
    held.reservation = Reservation(old.kind, nexuses[0])
    if raw[17] & UNREG:
        held.unregister(task.nexus)
    held.persistent = bool(raw[17] & MOVE_APTPL)
    return await _done(task, held, was_persistent)


# -- RESERVE and RELEASE of SPC-2 --------------------------------------------------------------------------------------
async def reserve_legacy(task: Task) -> bytes:
    """RESERVE (6), (10). With registrations it changes nothing: it succeeds for who may access (SPC-4 §5.13.3)."""
    held = task.unit.reservations
    if held.keys:
        if held.reservation is None or task.nexus not in held.keys or not held.may_write(task.nexus):
            raise conflict()
        return b""
    if held.legacy_holder not in (None, task.nexus):
        raise conflict()
    held.legacy_holder = task.nexus
    task.unit.gate_check()
    return b""


async def release_legacy(task: Task) -> bytes:
    """RELEASE (6), (10): without effect for who holds nothing."""
    if task.unit.reservations.release_legacy(task.nexus):
        task.unit.gate_check()
    return b""
