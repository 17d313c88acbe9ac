"""How long commands took: counted by object and direction in powers of two (core/wire/latency.pyx)."""

import struct
import time
from itertools import pairwise

from core.wire.latency import bucket_of
from core.wire.limit import Limit
from core.wire.reactor import DIRECTIONS, LATENCY_BOUNDS_US, LUNF_SLOW, CommandEvent, LunReleasedEvent
from tests.support.wire import FINAL, READ, WRITE, Rig, rw

SYNC, UNMAP = bytes([0x35]).ljust(10, b"\0"), bytes([0x42]).ljust(10, b"\0")


def counted(r: Rig) -> dict[str, int]:
    """Answered commands on the volume, by direction."""
    return {name: sum(counts) for name, (counts, _) in r.reactor.latencies()[r.volume].items()}


def test_a_bucket_holds_up_to_its_own_bound() -> None:
    assert all(after == 2 * before for before, after in pairwise(LATENCY_BOUNDS_US))
    for bucket, bound in enumerate(LATENCY_BOUNDS_US):
        assert (bucket_of(bound), bucket_of(bound + 1)) == (bucket, bucket + 1)
    assert bucket_of(0) == 0
    assert bucket_of(2**64 - 1) == len(LATENCY_BOUNDS_US)


def test_each_answer_is_counted_once_in_its_direction_whoever_decided_it(r: Rig) -> None:
    w = r.wire()
    assert r.reactor.latencies() == {}                              # nobody uses it: it has no histogram
    for _ in range(3):
        w.command(rw(0x28, 0, 8), flags=FINAL | READ, edtl=4096)
        w.gather()
    w.command(rw(0x2A, 0, 8), bytes(4096), flags=FINAL | WRITE, edtl=4096)
    w.receive()
    w.command(SYNC)
    w.receive()
    w.command(bytes(6))                                             # TEST UNIT READY touches nothing
    w.receive()
    assert counted(r) == {"read": 3, "write": 1, "unmap": 0, "sync": 1}
    r.reactor.set_lun_flags(r.number, 0, LUNF_SLOW)                 # Python decides: a reservation, say
    for cdb, flags, answer, data in ((rw(0x28, 0, 1), READ, bytes(512), b""), (rw(0x2A, 0, 1), WRITE, b"", bytes(512)),
                                     (UNMAP, 0, b"", b"")):
        w.command(cdb, data, flags=FINAL | flags, edtl=512 if flags else 0)
        r.reactor.complete(r.event(CommandEvent).task, 0, data_in=answer)
        w.gather()
    assert counted(r) == {"read": 4, "write": 2, "unmap": 1, "sync": 1}
    (row,) = r.reactor.stats()["objects"]
    assert (row["read_bytes"], row["write_bytes"]) == (3 * 4096 + 512, 4096 + 512)
    r.until(lambda: r.reactor.stats()["objects"][0]["in_flight"] == 0)


def test_a_command_takes_as_long_as_it_waits_for_its_data(r: Rig) -> None:
    """What the target does not get cannot be answered, and that time counts too."""
    w = r.wire(initial_r2t=True, immediate_data=False)
    itt = w.command(rw(0x2A, 0, 1), flags=FINAL | WRITE, edtl=512)
    r2t = w.receive()
    assert r.reactor.stats()["luns"][0]["in_flight"] == 1
    assert w.silent(0.05)
    w.data_out(itt, r2t.ttt, 0, 0, bytes(512), final=True)
    assert w.receive().status == 0
    counts, sum_us = r.reactor.latencies()[r.volume]["write"]
    assert sum(counts) == 1
    assert sum(counts[:bucket_of(40_000)]) == 0
    assert sum_us >= 40_000


def test_an_initiator_sees_what_is_counted_and_the_way_besides(r: Rig) -> None:
    """Where the target is what takes long, its histogram and what an initiator sees are within a bucket or two: here a limit
    that lets nothing through until it is taken away, so all wait at least as long as that lasts, however slow the machine is.
    """
    count, held_s, limit = 8, 0.3, Limit(bytes_per_second=1)
    began_s = time.monotonic()
    w = r.wire()
    r.reactor.set_lun_limits(r.number, 0, volume_limit=limit)
    for _ in range(count):
        w.command(rw(0x28, 0, 8), flags=FINAL | READ, edtl=4096)
    r.until(lambda: r.reactor.stats()["loop"]["delayed"] == count - 1)      # a limit lets the first one through
    time.sleep(held_s)
    limit.change()
    r.reactor.limit_changed(limit)
    for _ in range(count):
        w.gather()
    seen_s = time.monotonic() - began_s
    counts, sum_us = r.reactor.latencies()[r.volume]["read"]
    assert sum(counts) == count
    assert sum(counts[:bucket_of(int(1e6 * held_s))]) <= 1
    assert sum(counts[bucket_of(int(1e6 * seen_s)) + 2:]) == 0
    assert held_s * (count - 1) <= sum_us / 1e6 <= (seen_s + 1) * count


def test_what_a_lun_has_counted_stays_its_objects_until_that_is_deleted(r: Rig) -> None:
    for lun in (0, 1):
        w = r.wire(luns={lun: r.volume})
        w.command(rw(0x28, 0, 1), flags=FINAL | READ, edtl=512, lun=lun)
        w.gather()
        r.reactor.set_lun(r.number, lun, None)
        r.event(LunReleasedEvent)
    assert counted(r)["read"] == 2
    r.reactor.forget_object(r.volume)
    assert r.reactor.latencies() == {}
    assert tuple(DIRECTIONS) == ("read", "write", "unmap", "sync")
    assert struct.calcsize("Q") * len(DIRECTIONS) * (len(LATENCY_BOUNDS_US) + 2) < 1024     # of a LUN that is used
