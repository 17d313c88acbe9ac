"""PERSISTENT RESERVE IN and OUT, RESERVE and RELEASE (SPC-4 §6.15, §6.16, SPC-2 §7.21, §7.29)."""

from __future__ import annotations

from dataclasses import dataclass

from target.scsi import sense
from target.scsi.fields import Field, build
from target.scsi.model import ITNexus, Status
from target.scsi.reservations import transport_id
from target.scsi.reservations.state import ALL_REGISTRANTS, REGISTRANTS, Reservation, Reservations, ReservationType
from target.scsi.sense import ScsiError
from target.scsi.task import Task
from target.scsi.unit_attention import UnitAttention

# PERSISTENT RESERVE IN: what every answer begins with, and one registration in full (SPC-4 §6.15)
LISTED_BYTES, GENERATION, ADDITIONAL_LENGTH = 8, Field(0, 4), Field(4, 4)
KEY_BYTES, KEY = 8, Field(0, 8)
RESERVED_BYTES, RESERVED_TYPE = 16, Field(13)                # READ RESERVATION, from the key on
STATUS_BYTES, ALL_PORTS, HOLDS, HELD_TYPE = 24, Field(12, mask=0x02), Field(12, mask=0x01), Field(13)
STATUS_PORT, STATUS_NAME_BYTES = Field(18, 2), Field(20, 4)
CAPABILITIES_BYTES, CAPABILITIES_LENGTH = 8, Field(0, 2)
CAN_HANDLE, CAN_SPECIFY, CAN_ALL_PORTS, CAN_PERSIST = (Field(2, mask=bit) for bit in (0x10, 0x08, 0x04, 0x01))
TYPES_VALID, PERSISTS, TYPES = Field(3, mask=0x80), Field(3, mask=0x01), Field(4, 2)
ALL_TYPES = 0xEA01           # all six

# PERSISTENT RESERVE OUT: the basic parameter list, and that of REGISTER AND MOVE (SPC-4 §6.16.3, §6.16.4)
HEADER = 24
GIVEN_KEY, ACTION_KEY = Field(0, 8), Field(8, 8)
SPEC_I_PT, ALL_TG_PT, APTPL = Field(20, mask=0x08), Field(20, mask=0x04), Field(20, mask=0x01)
UNREG, MOVE_APTPL = Field(17, mask=0x02), Field(17, mask=0x01)
MOVE_PORT, MOVE_NAME_BYTES = Field(18, 2), Field(20, 4)
TRANSPORT_IDS_LENGTH = Field(0, 4)                           # of a SPEC_I_PT list, behind the header


def conflict() -> ScsiError:
    return ScsiError(Status.RESERVATION_CONFLICT)


# -- PERSISTENT RESERVE IN ---------------------------------------------------------------------------------------------
def _held(task: Task) -> Reservations:
    """The unit's reservations; a conflict while an SPC-2 reservation is in force."""
    held = task.unit.reservations
    if held.legacy_holder is not None:
        raise conflict()
    return held


def _listed(held: Reservations, body: bytes) -> bytes:
    return build(LISTED_BYTES, (GENERATION, held.generation & 0xFFFFFFFF), (ADDITIONAL_LENGTH, len(body))) + body


async def read_keys(task: Task) -> bytes:
    """READ KEYS."""
    held = _held(task)
    return _listed(held, b"".join(build(KEY_BYTES, (KEY, key)) for key in held.keys.values()))


async def read_reservation(task: Task) -> bytes:
    """READ RESERVATION: an all-registrants reservation has no key."""
    held = _held(task)
    if held.reservation is None:
        return _listed(held, b"")
    kind, holder = held.reservation
    key = 0 if kind in ALL_REGISTRANTS else held.keys[holder]
    return _listed(held, build(RESERVED_BYTES, (KEY, key), (RESERVED_TYPE, kind)))


async def report_capabilities(task: Task) -> bytes:
    """REPORT CAPABILITIES: CRH, SIP_C, ATP_C, PTPL_C; all six types."""
    held = _held(task)
    return build(CAPABILITIES_BYTES, (CAPABILITIES_LENGTH, CAPABILITIES_BYTES), (CAN_HANDLE, 1), (CAN_SPECIFY, 1),
                 (CAN_ALL_PORTS, 1), (CAN_PERSIST, 1), (TYPES_VALID, 1), (PERSISTS, held.persistent), (TYPES, ALL_TYPES))


async def read_full_status(task: Task) -> bytes:
    """READ FULL STATUS: every registration with its TransportID."""
    held = _held(task)
    body = b""
    for nexus, key in held.keys.items():
        holds = held.holds(nexus)
        kind = int(held.reservation.kind) if holds and held.reservation else 0
        name = transport_id.encode(nexus.initiator_name, nexus.isid)
        body += build(STATUS_BYTES, (KEY, key), (ALL_PORTS, nexus in held.all_ports), (HOLDS, holds), (HELD_TYPE, kind),
                      (STATUS_PORT, nexus.target_port), (STATUS_NAME_BYTES, len(name))) + name
    return _listed(held, body)


# -- PERSISTENT RESERVE OUT: the parameter list ------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Parameters:
    """What most service actions share."""

    key: int
    action_key: int
    spec_i_pt: bool
    all_ports: bool
    persistent: bool
    tail: bytes


def _parameters(task: Task, exact: bool) -> Parameters:
    """The basic parameter list; exactly 24 bytes unless TransportIDs may follow."""
    raw = task.parameters()
    if len(raw) < HEADER or (exact and len(raw) != HEADER):
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    return Parameters(GIVEN_KEY.of(raw), ACTION_KEY.of(raw), bool(SPEC_I_PT.of(raw)), bool(ALL_TG_PT.of(raw)),
                      bool(APTPL.of(raw)), raw[HEADER:])


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
    if given.spec_i_pt:
        raise sense.invalid_field(SPEC_I_PT)
    return await _register(task, held, given)


async def _register(task: Task, held: Reservations, given: Parameters) -> bytes:
    was_persistent = held.persistent
    if not given.spec_i_pt and given.tail:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    if given.spec_i_pt and task.nexus in held.keys:
        raise sense.invalid_field(SPEC_I_PT)
    also = _specified(task, given.tail) if given.spec_i_pt else []
    nexuses = {task.nexus, *also}
    if given.all_ports:
        nexuses = {ITNexus(each.initiator_name, each.isid, port) for each in nexuses for port in task.target.ports}
        nexuses.add(task.nexus)
    if not given.action_key:
        if task.nexus not in held.keys:
            return b""
        gone = nexuses & held.keys.keys() if given.all_ports else {task.nexus}
        for nexus in gone:
            _tell(task, held.unregister(nexus), UnitAttention.RESERVATIONS_RELEASED)
    else:
        _room(task, held, nexuses)
        if any(nexus in held.keys for nexus in nexuses - {task.nexus}) and given.spec_i_pt:
            raise conflict()
        for nexus in nexuses:
            held.register(nexus, given.action_key, given.all_ports)
    held.persistent = given.persistent
    return await _done(task, held, was_persistent)


def _specified(task: Task, tail: bytes) -> list[ITNexus]:
    """The nexuses that a SPEC_I_PT list names, on the port the command came through."""
    names_at = TRANSPORT_IDS_LENGTH.end
    if len(tail) < names_at:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    if TRANSPORT_IDS_LENGTH.of(tail) != len(tail) - names_at:
        raise sense.invalid_field(TRANSPORT_IDS_LENGTH, HEADER)
    ports = _ports(task, tail[names_at:], HEADER + names_at)
    return [nexus for port in ports for nexus in _nexuses(task, port, task.nexus.target_port)]


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
        raise sense.invalid_field(ACTION_KEY)
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
    action_key = ACTION_KEY.of(raw)
    _registered(task, held, GIVEN_KEY.of(raw))
    old = held.reservation
    if old is None or old.kind in ALL_REGISTRANTS or old.holder != task.nexus:
        raise conflict()
    if not action_key:
        raise sense.invalid_field(ACTION_KEY)
    if MOVE_NAME_BYTES.of(raw) != len(raw) - HEADER:
        raise sense.invalid_field(MOVE_NAME_BYTES)
    target_port = MOVE_PORT.of(raw)
    if target_port not in task.target.ports:
        raise sense.invalid_field(MOVE_PORT)
    ports = _ports(task, raw[HEADER:], HEADER)
    nexuses = _nexuses(task, ports[0], target_port) if len(ports) == 1 else []
    if len(nexuses) != 1 or nexuses[0] == task.nexus:
        raise sense.invalid_parameter(HEADER)
    _room(task, held, set(nexuses))
    was_persistent = held.persistent
    held.register(nexuses[0], action_key)
    held.reservation = Reservation(old.kind, nexuses[0])
    if UNREG.of(raw):
        held.unregister(task.nexus)
    held.persistent = bool(MOVE_APTPL.of(raw))
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
