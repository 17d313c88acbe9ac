"""Memory of a reactor: tasks cost it when they come; what Python holds for commands counts within the bounds of buffers."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.wire.reactor import LUNF_SLOW, CommandEvent, Reactor
from tests.support.waiting import until
from tests.support.wire import FINAL, READ, UNKNOWN, WRITE, Rig, Wire, rig, rw

BLOCK = 512
READ_BYTES = 256 << 10
BUFFER_BYTES = 4 << 20
MOST = BUFFER_BYTES // READ_BYTES      # reads that Python holds at once


def own_bytes() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) << 10


def test_tasks_that_nobody_sends_cost_no_memory(tmp_path: Path) -> None:
    with rig(tmp_path / "pool") as r:
        before = own_bytes()
        more = [Reactor(r.pool, max_tasks=16384) for _ in range(4)]
        assert own_bytes() - before < len(more) * 16384 * 256      # a task takes a kilobyte


def held_bytes(r: Rig) -> int:
    loop = r.reactor.stats()["loop"]
    return int(loop["python_bytes"] + loop["buffer_bytes"])


def read(w: Wire, *, edtl: int = READ_BYTES) -> int:
    return w.command(rw(0x28, 0, READ_BYTES // BLOCK), flags=FINAL | READ, edtl=edtl)


def asked(r: Rig, w: Wire, most: int) -> list[CommandEvent]:
    """The commands that Python was given, once all that was sent has been looked at."""
    w.nop_out(itt=7)
    assert w.receive().itt == 7
    found = [r.event(CommandEvent) for _ in range(most)]
    assert not [each for each in r.reactor.events() if isinstance(each, CommandEvent)]
    return found


@pytest.mark.parametrize("level", [0, 1])
def test_reads_wait_before_python_is_asked(tmp_path: Path, level: int) -> None:
    with rig(tmp_path / "pool", buffer_bytes=BUFFER_BYTES, max_transfer_bytes=1 << 20) as r:
        w = r.wire(flags=LUNF_SLOW, error_recovery_level=level)
        for _ in range(3 * MOST):
            read(w)
        events = asked(r, w, MOST)
        assert held_bytes(r) == BUFFER_BYTES
        for done in range(3 * MOST):
            event = events.pop(0) if events else r.event(CommandEvent)
            r.reactor.complete(event.task, 0, data_in=bytes([done]) * READ_BYTES)
            data, pdu = w.gather()
            assert (data, pdu.status) == (bytes([done]) * READ_BYTES, 0)
            assert held_bytes(r) <= BUFFER_BYTES
            w.exp_stat_sn = pdu.stat_sn + 1
        w.nop_out(itt=8)
        assert w.receive().itt == 8
        assert held_bytes(r) == 0


def test_others_are_asked_while_one_takes_no_answers(tmp_path: Path) -> None:
    with rig(tmp_path / "pool", buffer_bytes=BUFFER_BYTES, max_transfer_bytes=1 << 20) as r:
        deaf = r.wire(flags=LUNF_SLOW)
        for _ in range(2 * MOST):
            read(deaf)
        asked(r, deaf, MOST)
        other = r.wire(flags=LUNF_SLOW)
        for _ in range(3):
            read(other)
            event = r.event(CommandEvent)
            assert event.conn == r.conn
            r.reactor.complete(event.task, 0, data_in=b"o" * READ_BYTES)
            assert other.gather()[0] == b"o" * READ_BYTES


def test_reads_do_not_wait_for_what_others_do_not_take(tmp_path: Path) -> None:
    """Sessions that read no answers hold all buffers that there may be; another one's long reads have their part all the same."""
    long = 1 << 20
    with rig(tmp_path / "pool", buffer_bytes=16 << 20, max_transfer_bytes=long) as r:
        mute = [r.wire() for _ in range(5)]
        for _ in range(16):
            for w in mute:
                w.command(rw(0x28, 0, long // BLOCK), flags=FINAL | READ, edtl=long)
        until(lambda: held_bytes(r) >= 8 << 20)
        other = r.wire()
        for _ in range(8):
            other.command(rw(0x28, 0, long // BLOCK), flags=FINAL | READ, edtl=long)
            data, pdu = other.gather()
            assert (len(data), pdu.status) == (long, 0)
            # The bound, and the half that is kept for everybody's part: the first may have had all of it before others came. A
            # connection's own bound, a quarter as a rule, is no less than 32 MiB and so none here.
            assert held_bytes(r) <= 24 << 20


def test_reads_that_waited_do_not_need_python_once_their_lun_is_fast(tmp_path: Path) -> None:
    with rig(tmp_path / "pool", buffer_bytes=BUFFER_BYTES, max_transfer_bytes=1 << 20) as r:
        w = r.wire(flags=LUNF_SLOW)
        for _ in range(2 * MOST):
            read(w)
        events = asked(r, w, MOST)
        r.reactor.set_lun_flags(r.number, 0, 0)
        for event in events:
            r.reactor.complete(event.task, 0, data_in=b"p" * READ_BYTES)
        found = [w.gather()[0][:1] for _ in range(2 * MOST)]
        assert sorted(found) == [b"\0"] * MOST + [b"p"] * MOST
        assert not [each for each in r.reactor.events() if isinstance(each, CommandEvent)]


def test_a_read_counts_whole_while_python_has_it_and_then_what_is_sent_of_it(tmp_path: Path) -> None:
    with rig(tmp_path / "pool", buffer_bytes=BUFFER_BYTES, max_transfer_bytes=1 << 20) as r:
        w = r.wire(flags=LUNF_SLOW)
        for _ in range(MOST + 1):
            read(w, edtl=BLOCK)
        for event in asked(r, w, MOST):
            r.reactor.complete(event.task, 0, data_in=b"d" * READ_BYTES)
        for _ in range(MOST):
            data, pdu = w.gather()
            assert (data, pdu.flags & 6, pdu.residual) == (b"d" * BLOCK, 4, READ_BYTES - BLOCK)
        assert r.event(CommandEvent)
        assert held_bytes(r) == READ_BYTES


def test_data_out_counts_while_python_has_it(tmp_path: Path) -> None:
    with rig(tmp_path / "pool", buffer_bytes=BUFFER_BYTES, max_transfer_bytes=1 << 20) as r:
        w = r.wire(flags=LUNF_SLOW, immediate_data=True)
        w.command(UNKNOWN, b"w" * 8000, flags=FINAL | WRITE, edtl=8000)
        event = r.event(CommandEvent)
        assert held_bytes(r) == 8000
        r.reactor.complete(event.task, 0)
        assert w.receive().status == 0
        w.nop_out(itt=9)
        assert w.receive().itt == 9
        assert held_bytes(r) == 0
