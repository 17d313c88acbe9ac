"""Tasks on the data plane: task attributes and task management (SAM-5 §8, RFC 7143 §11.5)."""

import random

from core.wire.reactor import (
    AbortedEvent,
    CommandEvent,
    PduEvent,
    SessionClosedEvent,
)
from tests.support.wire import FINAL, READ, UNKNOWN, WRITE, Rig, alive, rw, tmf

# -- task attributes ---------------------------------------------------------------------------------------------------

SIMPLE, ORDERED, HEAD_OF_QUEUE = 1, 2, 3


def test_an_ordered_command_waits_for_what_came_before_and_holds_what_comes_after(r: Rig) -> None:
    w = r.wire()

    def command(attribute: int, cdb: bytes = UNKNOWN, flags: int = FINAL, **more: int) -> int:
        return w.command(cdb, flags=flags | attribute, **more)

    before = [command(SIMPLE), command(0)]
    ordered = command(ORDERED)
    after = command(SIMPLE)
    fast = command(SIMPLE, rw(0x28, 0, 1), FINAL | READ, edtl=512)   # the native path waits too
    second = command(ORDERED)
    head = command(HEAD_OF_QUEUE)
    last = command(SIMPLE)
    waiting = {event.itt: event.task for event in (r.event(CommandEvent) for _ in range(3))}
    assert list(waiting) == [*before, head]                          # only who comes first passes
    for itt in waiting:
        assert w.silent(0.02)
        r.reactor.complete(waiting[itt], 0)
        assert w.receive().itt == itt
    event = r.event(CommandEvent)
    assert event.itt == ordered
    assert w.silent(0.05)
    assert not r.seen + r.reactor.events()
    r.reactor.complete(event.task, 0)
    assert w.receive().itt == ordered
    event = r.event(CommandEvent)
    assert event.itt == after
    assert w.gather()[1].itt == fast
    assert not r.seen + r.reactor.events()
    r.reactor.complete(event.task, 0)
    assert w.receive().itt == after
    for itt in (second, last):
        event = r.event(CommandEvent)
        assert event.itt == itt
        r.reactor.complete(event.task, 0)
        assert w.receive().itt == itt
    alive(w)


def test_ordering_is_within_a_lun_and_ends_with_what_is_aborted(r: Rig) -> None:
    w = r.wire(luns={0: r.volume, 4: r.volume})
    simple = w.command(UNKNOWN, flags=FINAL | SIMPLE)
    ordered = w.command(UNKNOWN, flags=FINAL | ORDERED)
    behind = w.command(UNKNOWN, flags=FINAL | SIMPLE)
    elsewhere = w.command(UNKNOWN, flags=FINAL | ORDERED, lun=4)
    events = [r.event(CommandEvent) for _ in range(2)]
    assert [event.itt for event in events] == [simple, elsewhere]
    r.reactor.abort(1, session=r.number, lun=0, itt=ordered)         # while it waits
    assert r.event(AbortedEvent).count == 1
    assert r.event(CommandEvent).itt == behind
    again = w.command(UNKNOWN, flags=FINAL | ORDERED)
    r.reactor.abort(2, session=r.number, lun=0, itt=behind)
    r.reactor.abort(3, session=r.number, lun=0, itt=simple)
    assert {r.event(AbortedEvent).count, r.event(AbortedEvent).count} == {1}
    event = r.event(CommandEvent)
    assert event.itt == again
    held = w.command(bytes(6), flags=FINAL | SIMPLE)
    assert w.silent(0.05)
    r.reactor.abort(4, session=r.number, lun=0, itt=again)           # while it runs
    assert r.event(AbortedEvent).count == 1
    assert w.receive().itt == held
    alive(w)


def test_connections_may_go_while_commands_wait_for_an_ordered_one(r: Rig) -> None:
    rng = random.Random(11)
    for _ in range(30):
        w = r.wire()
        for _ in range(rng.randrange(2, 30)):
            attribute = rng.choice((SIMPLE, SIMPLE, ORDERED, HEAD_OF_QUEUE))
            cdb, flags, edtl = rng.choice(((UNKNOWN, 0, 0), (rw(0x28, 0, 8), READ, 4096), (rw(0x2A, 0, 8), WRITE, 4096)))
            w.command(cdb, flags=FINAL | attribute | flags, edtl=edtl)
        if rng.random() < 0.5:
            r.reactor.set_lun(r.number, 0, None)
        if rng.random() < 0.5:
            r.reactor.abort(9, session=r.number)
        w.sock.close()
        r.reactor.remove_session(r.number)
    for _ in range(30):
        r.event(SessionClosedEvent)
    assert r.reactor.stats()["loop"]["tasks"] == 0
    alive(r.wire())


# -- task management ---------------------------------------------------------------------------------------------------

def test_aborting_what_python_holds(r: Rig) -> None:
    w = r.wire()
    itt = w.command(UNKNOWN)
    event = r.event(CommandEvent)
    w.send(tmf(w, 1, 50, reference=itt))
    assert r.event(PduEvent).opcode == 2
    r.reactor.abort(7, session=r.number, itt=itt, query=True)
    assert r.event(AbortedEvent)[:2] == (7, 1)
    r.reactor.abort(8, session=r.number, lun=0, itt=itt, before_cmd_sn=w.cmd_sn)
    assert r.event(AbortedEvent)[:2] == (8, 1)
    r.reactor.complete(event.task, 0)
    assert w.silent()
    alive(w)


def test_aborting_a_write_that_waits_for_data(r: Rig) -> None:
    w = r.wire(immediate_data=False)
    itt = w.command(rw(0x2A, 0, 2), flags=FINAL | WRITE, edtl=1024)
    ttt = w.receive().ttt
    w.data_out(itt, ttt, 0, 0, b"a" * 512, final=False)
    w.command(bytes(6), immediate=True, cmd_sn=w.cmd_sn)
    assert w.receive().status == 0                                                 # so the half of its data has been seen
    r.reactor.abort(1, session=r.number, lun=0)
    assert r.event(AbortedEvent).count == 1
    w.data_out(itt, ttt, 1, 512, b"a" * 512, final=True)
    w.command(rw(0x28, 0, 2), flags=FINAL | READ, edtl=1024)
    assert w.gather()[0] == bytes(1024)


def test_an_abort_reaches_only_what_it_names(r: Rig) -> None:
    w = r.wire()
    other = r.wire()
    session = r.number
    mine = [w.command(UNKNOWN, lun=lun) for lun in (0, 0, 4)]
    other.command(UNKNOWN)
    events = [r.event(CommandEvent) for _ in range(4)]
    r.reactor.abort(1, lun=0, exclude_session=session)
    assert r.event(AbortedEvent).count == 2
    r.reactor.abort(2, object_id=r.volume)
    assert r.event(AbortedEvent).count == 1
    for event in events:
        r.reactor.complete(event.task, 0)
    assert w.receive().itt == mine[2]
    assert other.silent()


def test_an_abort_can_list_what_it_ended(r: Rig) -> None:
    w = r.wire()
    number, conn = r.number, r.conn
    first, second = w.command(UNKNOWN), w.command(rw(0x2A, 0, 8), flags=FINAL | WRITE, edtl=4096)
    event = r.event(CommandEvent)
    assert w.receive().opcode == 0x31                                # and its data never comes
    r.reactor.abort(1, session=number, lun=0, itt=first)
    assert r.event(AbortedEvent) == (1, 1, ())
    r.reactor.complete(event.task, 0)
    r.reactor.abort(2, object_id=r.volume, tell=True)
    assert r.event(AbortedEvent) == (2, 1, ((conn, second),))
    r.reactor.abort(3, object_id=r.volume, tell=True)
    assert r.event(AbortedEvent) == (3, 0, ())
    alive(w)


def test_an_aborted_command_that_has_not_come_counts_as_received(r: Rig) -> None:
    w = r.wire()
    w.command(UNKNOWN, cmd_sn=3, itt=0x33)
    w.command(bytes(6), immediate=True, cmd_sn=1)
    w.receive()                                                                    # so the one before has been seen
    r.reactor.abort(1, session=r.number, lun=0, itt=0x22, missing_cmd_sn=2)
    r.reactor.abort(2, session=r.number, lun=0, itt=0x44, missing_cmd_sn=3)       # another command has that number
    r.reactor.abort(3, session=r.number, lun=0, itt=0x44, missing_cmd_sn=0)       # outside the window
    r.reactor.abort(4, session=r.number, lun=0, itt=0x44, missing_cmd_sn=50000)
    assert {r.event(AbortedEvent)[:2] for _ in range(4)} == {(1, 1), (2, 0), (3, 0), (4, 0)}
    w.command(UNKNOWN, cmd_sn=1, itt=0x11)
    events = [r.event(CommandEvent) for _ in range(2)]
    assert [event.itt for event in events] == [0x11, 0x33]
    w.command(UNKNOWN, cmd_sn=2, itt=0x22)
    r.reactor.abort(5, session=r.number, lun=0, itt=0x55, missing_cmd_sn=4)       # fills the hole at once
    assert r.event(AbortedEvent)[:2] == (5, 1)
    w.command(UNKNOWN, cmd_sn=5, itt=0x66)
    events.append(r.event(CommandEvent))
    for event in events:
        r.reactor.complete(event.task, 0)
    assert [w.receive().itt for _ in range(3)] == [0x11, 0x33, 0x66]


def test_commands_that_arrive_late_are_plugged(r: Rig) -> None:
    a = r.wire()
    b = r.connect(r.number)
    a.command(UNKNOWN, cmd_sn=2, itt=0x22)
    a.command(bytes(6), immediate=True, cmd_sn=1)
    a.receive()                                                                    # so the one before has been seen
    r.reactor.abort(1, session=r.number, lun=0, before_cmd_sn=4)
    assert r.event(AbortedEvent).count == 1
    b.command(UNKNOWN, cmd_sn=1, itt=0x11)
    b.command(UNKNOWN, cmd_sn=3, itt=0x13)
    b.command(UNKNOWN, cmd_sn=4, itt=0x14)
    assert r.event(CommandEvent).itt == 0x14
    assert not [e for e in r.reactor.events() if isinstance(e, CommandEvent)]


def test_waiting_for_the_engine_aborts_nothing(r: Rig) -> None:
    """What Python has, or what waits for its data, is not in the engine; what is there ends before the event comes."""
    w = r.wire(luns={0: r.volume})
    w.command(UNKNOWN, flags=FINAL | SIMPLE)
    event = r.event(CommandEvent)
    r.reactor.abort(1, object_id=r.volume, device=True)
    assert r.event(AbortedEvent).count == 0
    writes = [w.command(rw(0x2A, 128 * i, 8), b"w" * 4096, flags=FINAL | SIMPLE | WRITE, edtl=4096) for i in range(16)]
    answers = []
    for token in range(2, 40):
        r.reactor.abort(token, object_id=r.volume, device=True)
        done = r.event(AbortedEvent)
        assert (done.token, done.count <= 16) == (token, True)
    while len(answers) < 16:
        answers.append(w.receive().itt)
    assert sorted(answers) == sorted(writes)
    r.reactor.complete(event.task, 0)
    assert w.receive().itt == event.itt
    alive(w)
