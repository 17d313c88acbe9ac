"""Limits of volumes and hosts on the data plane: held, shared, in turns, in nobody else's way (core/wire/delay.pyx).

One byte a second is a limit under which the first command begins and the next one would in an hour: no test waits for a clock.
"""

import random
from pathlib import Path

import pytest

from core.wire.limit import Limit
from core.wire.reactor import AbortedEvent, CommandEvent, LunReleasedEvent, Reactor
from tests.support.waiting import until
from tests.support.wire import FINAL, NONE, READ, WRITE, Rig, Wire, alive, rig, rw, tcp_pair

SECOND = 10**9
SYNC = bytes([0x35]).ljust(10, b"\0")
TASK_SET_FULL = 0x28


def stopped() -> Limit:
    return Limit(bytes_per_second=1)


def read(w: Wire, **fields: int) -> int:
    return w.command(rw(0x28, 0, 8), flags=FINAL | READ, edtl=4096, **fields)


def delayed(r: Rig) -> int:
    return r.reactor.stats()["loop"]["delayed"]


def settle(r: Rig, count: int) -> None:
    """Until so many commands wait."""
    r.until(lambda: delayed(r) == count)


# -- arithmetic, by a clock of our own -------------------------------------------------------------------------------------

@pytest.mark.parametrize("burst_s", [0.0, 0.1, 10.0])
@pytest.mark.parametrize(("rate", "sizes"), [
    (5000, [1]), (200 << 20, [4096]), (200 << 20, [131072]), (7, [1]), (1000003, [1, 3])])
def test_what_begins_in_any_time_is_the_rate_and_the_burst(rate: int, sizes: list[int], burst_s: float) -> None:
    """Askers that begin what is due and ask for more, with breaks: the sum never leaves the rate by more than a burst and what
    each of them has taken; while all of them ask, it is the rate to within one of them."""
    chance = random.Random(f"{rate}{sizes}{burst_s}")
    limit = Limit(bytes_per_second=rate, burst_s=burst_s)
    now = begin = limit.take_bytes(1, 0)
    asks = [(limit.take_bytes(size, begin), size) for size in chance.choices(sizes, k=4)]
    allowed, slack = 1, max(sizes) * len(asks) + 1
    for step in range(20_000):
        which = min(range(4), key=lambda each: asks[each][0])
        due, size = asks[which]
        now = max(now, due)
        if step % 5000 == 4999:
            now += chance.randrange(30 * SECOND)         # nobody asks for a while
        allowed += size
        assert allowed <= rate * (now - begin) / SECOND + rate * burst_s + slack
        size = chance.choice(sizes)
        asks[which] = (limit.take_bytes(size, now), size)
    now = begin = asks[0][0] + 60 * SECOND
    while limit.take_bytes(sizes[0], now) < now:         # what was saved up
        pass
    taken = sizes[0] * 10_000
    for _ in range(10_000):
        last = limit.take_bytes(sizes[0], now)
    assert (last - now) * rate / SECOND == pytest.approx(taken, rel=0.001)


def test_no_rate_is_no_limit_and_a_new_rate_forgets_the_old_one() -> None:
    limit = Limit(ops_per_second=1)
    assert limit.take_bytes(1 << 40, 5) == 0
    first = limit.take_ops(1_000_000, 0)
    assert limit.take_ops(1, 0) == first + 1_000_000 * SECOND
    limit.change(ops_per_second=10)
    assert limit.rates == (10, 0)
    assert limit.take_ops(1, 0) < first + 60 * SECOND
    with pytest.raises(ValueError, match="burst"):
        limit.change(burst_s=-1.0)


# -- on the data plane -----------------------------------------------------------------------------------------------------

def test_a_limit_holds_reads_and_writes_and_nothing_else(r: Rig) -> None:
    limit = stopped()
    w = r.wire(luns={0: r.volume, 1: r.volume})
    r.reactor.set_lun_limits(r.number, 0, volume_limit=limit)
    first = read(w)
    assert w.gather()[1].itt == first                   # a limit lets something through
    waiting = [read(w), w.command(rw(0x2A, 0, 8), bytes(4096), flags=FINAL | WRITE, edtl=4096), read(w)]
    settle(r, 3)
    for _ in range(20):
        itt = read(w, lun=1)                            # the same volume by another LUN of the session, without a limit
        assert w.gather()[1].itt == itt
    w.nop_out(itt=0x77, data=b"ping")
    assert w.receive().itt == 0x77
    for cdb in (bytes(6), SYNC):
        itt = w.command(cdb)
        assert w.receive().itt == itt
    assert delayed(r) == 3
    r.until(lambda: r.reactor.stats()["luns"][0]["in_flight"] == 3)
    limit.change()
    r.reactor.limit_changed(limit)
    assert sorted(w.gather()[1].itt for _ in waiting) == waiting
    (row,) = (each for each in r.reactor.stats()["luns"] if each["lun"] == 0)
    assert row["delayed"] == 3
    assert row["delayed_us"] > 0
    assert delayed(r) == 0
    alive(w)


def test_what_python_decides_waits_too(r: Rig) -> None:
    """Else a host that reserves a volume would be rid of its limit."""
    w = r.wire(flags=1)
    r.reactor.set_lun_limits(r.number, 0, host_limit=stopped())
    read(w)
    r.reactor.complete(r.event(CommandEvent).task, 0, data_in=bytes(4096))
    w.gather()
    read(w)
    settle(r, 1)
    assert not r.seen + r.reactor.events()
    inquiry = w.command(bytes([0x12, 0, 0, 0, 96, 0]), flags=FINAL | READ, edtl=96)
    assert r.event(CommandEvent).itt == inquiry
    r.reactor.set_lun_limits(r.number, 0)
    assert r.event(CommandEvent).cdb[0] == 0x28


def test_a_limit_is_one_for_all_sessions_and_reactors(tmp_path: Path) -> None:
    limit = stopped()
    with rig(tmp_path / "pool") as r:
        other = Reactor(r.pool)
        other.start()
        try:
            wires = [r.connect(r.session(luns={0: r.volume})) for _ in range(2)]
            for session in list(r.reactor.stats()["luns"]):
                r.reactor.set_lun_limits(session["session"], 0, volume_limit=limit)
            number = other.add_session(exp_cmd_sn=1)
            assert other.set_lun(number, 0, r.volume, volume_limit=limit)
            theirs, ours = tcp_pair()
            other.add_connection(number, theirs.detach(), cid=1, stat_sn=100)
            wires.append(Wire(ours))
            for w in wires:
                read(w)
            until(lambda: delayed(r) + other.stats()["loop"]["delayed"] == 2)
            limit.change()
            for reactor in (r.reactor, other):
                reactor.limit_changed(limit)
            for w in wires:
                assert w.gather()[1].status == 0
        finally:
            other.stop()
            other.events()


def test_both_limits_hold(r: Rig) -> None:
    w = r.wire()
    r.reactor.set_lun_limits(r.number, 0, volume_limit=Limit(ops_per_second=1_000_000), host_limit=stopped())
    read(w)
    w.gather()
    waiting = read(w)
    settle(r, 1)
    r.reactor.set_lun_limits(r.number, 0, volume_limit=Limit(ops_per_second=1_000_000))
    assert w.gather()[1].itt == waiting


def test_who_shares_a_limit_takes_turns_whatever_they_have_queued(r: Rig) -> None:
    """One has 32 commands waiting, one 8, which came behind them: they are answered in turn as long as both have some."""
    limit = stopped()
    w = r.wire(luns={0: r.volume, 1: r.volume}, max_cmd_window=256)
    for lun in (0, 1):
        r.reactor.set_lun_limits(r.number, lun, volume_limit=limit)
    read(w)
    w.gather()
    for _ in range(32):
        read(w, lun=0)
    few = {read(w, lun=1) for _ in range(8)}
    settle(r, 40)
    limit.change(ops_per_second=2000, burst_s=0.0)
    r.reactor.limit_changed(limit)
    answers = [w.gather()[1].itt for _ in range(40)]
    assert sum(itt in few for itt in answers[:16]) >= 7, answers


def test_large_commands_and_small_ones_share_bytes(r: Rig) -> None:
    """One has 128 KiB commands waiting, one of 4 KiB behind them: they are answered by bytes in turn, not by commands."""
    limit = stopped()
    w = r.wire(luns={0: r.volume, 1: r.volume}, max_cmd_window=256)
    for lun in (0, 1):
        r.reactor.set_lun_limits(r.number, lun, volume_limit=limit)
    read(w)
    w.gather()
    large = {w.command(rw(0x28, 0, 256), flags=FINAL | READ, edtl=131072) for _ in range(8)}
    for _ in range(128):
        read(w, lun=1)
    settle(r, 136)
    limit.change(bytes_per_second=8 << 20, burst_s=0.0)
    r.reactor.limit_changed(limit)
    answers = [w.gather()[1].itt in large for _ in range(136)]
    with_64 = [number for number, is_large in enumerate(answers) if not is_large][63]
    assert sum(answers[:with_64]) <= 4, answers         # two, of as many bytes as 64 small ones; by commands it were eight
    assert sum(answers[:with_64 + 64]) >= 1, answers


def test_what_waits_is_aborted_at_once(r: Rig) -> None:
    w = r.wire(luns={0: r.volume, 1: r.volume})
    r.reactor.set_lun_limits(r.number, 0, volume_limit=stopped())
    read(w)
    w.gather()
    tasks = [read(w) for _ in range(5)]
    settle(r, 5)
    r.reactor.abort(7, session=r.number, lun=0, itt=tasks[2])
    assert (r.event(AbortedEvent).count, delayed(r)) == (1, 4)
    r.reactor.abort(8, session=r.number, lun=0, tell=True)
    event = r.event(AbortedEvent)
    assert sorted(itt for _, itt in event.victims) == sorted(tasks[:2] + tasks[3:])
    assert r.reactor.stats()["loop"]["tasks"] == 0
    assert w.silent(0.02)
    read(w)
    settle(r, 1)
    r.reactor.set_lun(r.number, 0, None)                # a LUN that goes does not wait for its limit
    assert w.gather()[1].status == 0
    r.event(LunReleasedEvent)
    read(w, lun=1)
    w.gather()
    alive_on_one = w.command(bytes(6), lun=1)
    assert w.receive().itt == alive_on_one


def test_a_session_ends_while_its_commands_wait(r: Rig) -> None:
    w = r.wire()
    r.reactor.set_lun_limits(r.number, 0, volume_limit=stopped())
    for _ in range(10):
        read(w)
    w.gather()
    settle(r, 9)
    r.reactor.remove_session(r.number)
    assert w.closed()
    settle(r, 0)
    assert r.reactor.stats()["loop"]["tasks"] == 0


def test_commands_that_wait_leave_the_window_to_others_but_not_without_end(r: Rig) -> None:
    w = r.wire(luns={0: r.volume, 1: r.volume}, max_cmd_window=8)
    r.reactor.set_lun_limits(r.number, 0, volume_limit=stopped())
    read(w)
    w.gather()
    for _ in range(8):                                  # a window
        read(w)
    told = w.receive()
    assert (told.opcode, told.itt, told.ttt) == (0x20, NONE, NONE), "its initiator would take it for full"
    assert told.max_cmd_sn - told.exp_cmd_sn + 1 == 8
    itt = read(w, lun=1)
    answer = w.gather()[1]
    assert answer.itt == itt
    assert answer.max_cmd_sn - answer.exp_cmd_sn + 1 == 8
    for _ in range(8):
        read(w)
    settle(r, 16)
    w.nop_out(itt=0x77)
    answer = w.receive()
    assert answer.itt == 0x77
    assert answer.max_cmd_sn - answer.exp_cmd_sn + 1 == 0, "two windows' worth wait: nothing more may come"
    r.reactor.set_lun_limits(r.number, 0)
    for _ in range(16):
        last = w.gather()[1]
    assert last.max_cmd_sn - last.exp_cmd_sn + 1 == 8


def test_what_waits_holds_no_more_than_has_come_and_not_all_buffers(tmp_path: Path) -> None:
    """A write waits before its data are asked for; of immediate data, a quarter of the buffers, then TASK SET FULL."""
    with rig(tmp_path / "pool", buffer_bytes=32 << 20) as r:
        w = r.wire(initial_r2t=True, first_burst_length=65536, max_cmd_window=256)
        r.reactor.set_lun_limits(r.number, 0, volume_limit=stopped())
        read(w)
        w.gather()
        w.command(rw(0x2A, 0, 2048), flags=FINAL | WRITE, edtl=1 << 20)
        settle(r, 1)
        assert w.silent(0.02), "no R2T for what waits"
        assert r.reactor.stats()["loop"]["buffer_bytes"] == 0
        for _ in range(200):
            w.command(rw(0x2A, 0, 256), bytes(65536), flags=FINAL | WRITE, edtl=131072)
        assert w.receive().status == TASK_SET_FULL
        assert [w.receive().status for _ in range(71)] == [TASK_SET_FULL] * 71
        settle(r, 1 + 128)
        loop = r.reactor.stats()["loop"]
        assert loop["delayed_bytes"] == 8 << 20
        assert loop["buffer_bytes"] == 8 << 20
        neighbour = r.wire()
        read(neighbour)
        assert neighbour.gather()[1].status == 0
