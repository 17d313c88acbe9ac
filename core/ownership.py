"""Who serves a pool: the record in the medium, and the protocol by which one opener becomes its owner (docs/ownership.md).

Sans-I/O: a protocol is a generator that yields `Read`, `Write` and `Sleep` and is sent what came of each, so a test may stop it
at any step. `run` performs the steps on a `Medium`: a file or block device here, whatever keeps one small record elsewhere.
"""

from __future__ import annotations

import enum
import os
import struct
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar

from core import layout
from core.base.crc32c import crc32c

WRITE_BOUND_S = 0.1         # a claim counts only if it was on the medium so soon after the look that allowed it ...
SETTLE_S = 0.15             # ... so after this long no other claim that was allowed by the same look can still come
RENEW_MAX_S = 5.0           # no owner looks at its record less often
YIELD_S = 7.0               # how long a claim that came too late leaves an owner to put its record back
GONE_S = 1.0                # what a process that is gone had in flight has ended by then
POLL_S = 0.25               # how often a silent owner is looked at
ROUNDS = 8

_FIELDS = layout.OWNER[2:]                          # behind the magic and the checksum: a record's own, by their names
_BODY_AT = _FIELDS[0].offset
_TEXTS = {"host", "client"}
_NUMBERS = {"state": "I", "counter": "Q", "since_us": "Q", "lease_ms": "I", "pid": "I", "started": "Q", "pid_namespace": "Q"}
_BODY = struct.Struct("<" + "".join(_NUMBERS.get(field.name, f"{field.size}s") for field in _FIELDS))


class State(enum.IntEnum):
    """What a record says of its owner (layout.OWNER_STATES)."""

    CLAIMED = layout.OWNER_STATES["claimed"]
    OWNED = layout.OWNER_STATES["owned"]
    GIVEN_UP = layout.OWNER_STATES["given_up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One ownership record (docs/on-disk-format.md). Times are as their names end."""

    state: State
    owner: bytes
    counter: int = 0
    since_us: int = 0
    lease_ms: int = 0
    pid: int = 0
    started: int = 0
    pid_namespace: int = 0
    boot: bytes = bytes(16)
    place: bytes = bytes(24)
    host: str = ""
    client: str = ""            # what a cluster knows the owner by

    @property
    def lease_s(self) -> float:
        return self.lease_ms / 1000

    @property
    def window_s(self) -> float:
        """Longer than the owner may be silent, by any clock that is right to a tenth."""
        return self.lease_s * 1.2 + 0.5

    def pack(self) -> bytes:
        """The record's block, ready to be written."""
        values = {field.name: getattr(self, field.name) for field in _FIELDS}
        values |= {name: values[name].encode()[:63] for name in _TEXTS}
        body = _BODY.pack(*values.values()).ljust(layout.OWNER_BYTES - _BODY_AT, b"\0")
        return (layout.OWNER_MAGIC + crc32c(body).to_bytes(4, "little") + body).ljust(layout.BLOCK_BYTES, b"\0")

    @staticmethod
    def unpack(raw: bytes) -> Record | None:
        """What a block says; None when it is no record (a pool from before, or a torn or rotten one): nobody owns."""
        body = raw[_BODY_AT:layout.OWNER_BYTES]
        if raw[:_BODY_AT] != layout.OWNER_MAGIC + crc32c(body).to_bytes(4, "little"):
            return None
        values = dict(zip((field.name for field in _FIELDS), _BODY.unpack_from(body), strict=True))
        if values["state"] not in set(State):
            return None
        return Record(**values | {"state": State(values["state"])} | {name: _text(values[name]) for name in _TEXTS})

    def describe(self) -> str:
        """The owner for people."""
        if not self.pid:
            return f"a client of the cluster at {self.client}, which is no gateway of this pool"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since_us / 1e6))
        return f"process {self.pid} on {self.host or 'an unnamed machine'}, since {since}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """Who asks. `place` is what it has opened and locked, `places` all names of the same medium that it knows of, itself among
    them; `known` that there are no others on this machine; `local` that no other machine reaches the medium.
    """

    boot: bytes
    pid: int
    started: int
    pid_namespace: int
    host: str
    place: bytes
    places: frozenset[bytes]
    known: bool
    local: bool
    lease_s: float              # how long it may be silent as an owner; 0 on a local medium
    alive: Callable[[int, int], bool]       # (pid, started) in its own pid namespace
    client: str = ""            # what a cluster knows it by

    def claim(self, since_us: int) -> Record:
        return Record(state=State.CLAIMED, owner=os.urandom(16), since_us=since_us, lease_ms=round(self.lease_s * 1000),
                      pid=self.pid, started=self.started, pid_namespace=self.pid_namespace, boot=self.boot, place=self.place,
                      host=self.host, client=self.client)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


class Verdict(enum.Enum):
    """What an opener makes of a record (the table of docs/ownership.md)."""

    FREE = "nobody owns the pool, or its owner has let go of it for certain"
    GONE = "its owner's process is no more; what the kernel still does for it ends soon"
    WATCH = "whether its owner lives is seen by whether its counter moves"
    HELD = "its owner lives"
    UNKNOWN = "its owner gives no sign and cannot be seen from here"


def judge(record: Record | None, me: Opener) -> Verdict:
    """What a record means to an opener that holds the lock of what it opened."""
    if record is None or record.state is State.GIVEN_UP:
        return Verdict.FREE
    if record.boot == me.boot != bytes(16):
        if record.place == me.place:
            return Verdict.FREE         # the owner would still have the lock
        if record.pid_namespace == me.pid_namespace != 0 and not me.alive(record.pid, record.started):
            return Verdict.GONE
        if record.lease_ms:
            return Verdict.WATCH
        if me.known and record.place not in me.places:
            return Verdict.FREE         # a copy of the pool that it owns
        return Verdict.HELD if record.pid_namespace == me.pid_namespace != 0 else Verdict.UNKNOWN
    if record.lease_ms:
        return Verdict.WATCH
    return Verdict.FREE if me.local else Verdict.UNKNOWN    # a machine that has started again, or one that is elsewhere


class OwnedError(Exception):
    """Somebody else owns the pool, or may. `record` is theirs; `verdict` HELD or UNKNOWN."""

    def __init__(self, record: Record, verdict: Verdict) -> None:
        super().__init__(record.describe())
        self.record = record
        self.verdict = verdict


class LostError(Exception):
    """This owner's time is over: it could not renew its record in time, or another's is in its place."""


# -- steps -------------------------------------------------------------------------------------------------------------
class Read(NamedTuple):
    """Answered with the block (`raw`), from the medium itself."""


class Write(NamedTuple):
    """Answered when the block is where every other opener's read finds it."""

    raw: bytes


class Sleep(NamedTuple):
    seconds: float


class Answer(NamedTuple):
    """What came of a step. Each says which of these it is answered with; the rest is empty."""

    raw: bytes = b""
    addresses: tuple[str, ...] = ()
    granted: bool = False


T = TypeVar("T")
M = TypeVar("M")
Steps = Generator[tuple[Any, ...], Answer, T]
Pause = Callable[[float], object]
Clock = Callable[[], float]


class Medium(Protocol):
    """Where a record is kept. Neither call may be answered from a cache that another opener does not share. OSError."""

    def read_record(self) -> bytes: ...
    def write_record(self, raw: bytes) -> None: ...


def boot_clock() -> float:
    """Seconds by the clock that also counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def run(steps: Steps[T], medium: Medium, sleep: Pause = time.sleep) -> T:
    """Perform a protocol to its end. OSError of the medium, OwnedError, LostError."""
    return run_by(perform, steps, medium, sleep)


def run_by(performer: Callable[[object, M, Pause], Answer], steps: Steps[T], medium: M, sleep: Pause) -> T:
    """As `run`, for protocols with steps of their own."""
    try:
        step = next(steps)
        while True:
            step = steps.send(performer(step, medium, sleep))
    except StopIteration as end:
        result: T = end.value
        return result


def perform(step: object, medium: Medium, sleep: Pause) -> Answer:
    """One step; what it is answered with."""
    if isinstance(step, Read):
        return Answer(raw=medium.read_record())
    if isinstance(step, Write):
        medium.write_record(step.raw)
    elif isinstance(step, Sleep):
        sleep(step.seconds)
    return Answer()


def recorded() -> Steps[Record | None]:
    """Read the record that there is."""
    return Record.unpack((yield Read()).raw)


# -- becoming the owner ------------------------------------------------------------------------------------------------
def acquire(me: Opener, clock: Clock = boot_clock, *, takeover: bool = False) -> Steps[Ownership]:
    """Find that nobody owns the pool, claim it, wait, and see whether the claim stands.

    With `takeover` an owner that cannot be seen from here counts as gone, once it is silent. OwnedError.
    """
    claim = me.claim(time.time_ns() // 1000)
    predecessor = None
    for _ in range(ROUNDS):
        before = yield from _free(me, clock, claim.owner, takeover)
        if before is not None and before.owner != claim.owner:
            predecessor = before
        looked_s = clock()
        found = yield from recorded()
        if not same_sign(found, before):
            continue
        yield Write(claim.pack())
        if clock() - looked_s > WRITE_BOUND_S:
            yield Sleep(YIELD_S)        # it may stand over a record that somebody won meanwhile, who puts it back
            continue
        yield Sleep(SETTLE_S)
        if _owner((yield from recorded())) != claim.owner:
            continue
        return (yield from Ownership(replace(claim, state=State.OWNED), predecessor, clock, looked_s).renew())
    record = yield from recorded()
    raise OwnedError(record or claim, Verdict.HELD)


def _free(me: Opener, clock: Clock, own: bytes, takeover: bool) -> Steps[Record | None]:
    """Wait until nobody owns the pool; the record that says so. OwnedError."""
    record = yield from recorded()
    first, since_s = record, clock()
    while record is not None and record.owner != own:
        verdict = judge(record, me)
        if verdict is Verdict.UNKNOWN and takeover:
            verdict = Verdict.FREE
        if verdict is Verdict.GONE:
            yield Sleep(GONE_S)
        if verdict in (Verdict.FREE, Verdict.GONE):
            break
        if verdict is not Verdict.WATCH or not same_sign(record, first):
            raise OwnedError(record, verdict if verdict is Verdict.UNKNOWN else Verdict.HELD)
        if clock() - since_s > record.window_s:
            if not (takeover or record.boot == me.boot or record.host == me.host):
                raise OwnedError(record, Verdict.UNKNOWN)       # what it had sent may still be on its way: nothing here fences it
            break
        yield Sleep(POLL_S)
        record = yield from recorded()
    return record


def observe(me: Opener, clock: Clock = boot_clock) -> Steps[Record | None]:
    """As the first half of `acquire`, for who only wants to look. OwnedError when somebody owns the pool."""
    return (yield from _free(me, clock, b"", takeover=False))


def _owner(record: Record | None) -> bytes:
    return record.owner if record is not None else b""


def same_sign(record: Record | None, other: Record | None) -> bool:
    """The same owner, which has not moved meanwhile."""
    if record is None or other is None:
        return record is other
    return (record.owner, record.counter, record.state) == (other.owner, other.counter, other.state)


# -- staying the owner -------------------------------------------------------------------------------------------------
class Ownership:
    """A pool that is ours until `deadline_s` of the clock; infinity where the process itself is the proof."""

    def __init__(self, record: Record, predecessor: Record | None, clock: Clock, begun_s: float) -> None:
        """`predecessor` is whom it was taken from, whose last write may come late; the lease counts from `begun_s`."""
        self.record = record
        self.predecessor = predecessor
        self.deadline_s = begun_s + record.lease_s if record.lease_ms else float("inf")
        self._clock = clock

    @property
    def renew_every_s(self) -> float:
        return min(self.record.lease_s / 5, RENEW_MAX_S) if self.record.lease_ms else RENEW_MAX_S

    def valid(self) -> bool:
        return self._clock() < self.deadline_s

    def proven(self, begun_s: float) -> None:
        """Something else than the record has shown that the pool was still ours after `begun_s`. LostError."""
        self._require()
        self.deadline_s = max(self.deadline_s, begun_s + self.record.lease_s)

    def renew(self) -> Steps[Ownership]:
        """Show that this owner lives, or (without a lease) only look whether the record is its own. LostError, which is final."""
        self._require()
        begun_s = self._clock()
        found = yield from recorded()
        ours = found is not None and found.owner == self.record.owner
        if found is not None and not ours and found.state is not State.CLAIMED and found.owner != _owner(self.predecessor):
            raise LostError(f"the pool has another owner: {found.describe()}")
        if self.record.lease_ms or not ours or self.record.counter == 0:
            self._require()
            self.record = replace(self.record, counter=self.record.counter + 1)
            yield Write(self.record.pack())
            self._require()
            if self.record.lease_ms:
                self.proven(begun_s)
        return self

    def release(self) -> Steps[Ownership]:
        """Say that nobody owns the pool any more, if it is still ours to say."""
        if self.valid() and _owner((yield from recorded())) == self.record.owner and self.valid():
            yield Write(replace(self.record, state=State.GIVEN_UP).pack())
        return self

    def _require(self) -> None:
        if not self.valid():
            raise LostError(f"the ownership record was not renewed within {self.record.lease_s:g} s")
