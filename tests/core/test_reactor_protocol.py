"""Sessions on the data plane: numbering, events to Python, keepalive, errors (RFC 7143 §4.2, §7, §11)."""

import contextlib
import os
import random
import socket
import struct
import threading
import time

import pytest

from core.wire.reactor import (
    LUNF_SLOW,
    LUNF_WRITE_SLOW,
    ClosedEvent,
    CommandEvent,
    LunReleasedEvent,
    PduEvent,
    SessionClosedEvent,
)
from tests.support.wire import FINAL, INQUIRY, NONE, READ, UNKNOWN, WRITE, Rig, alive, rw

# -- numbering ---------------------------------------------------------------------------------------------------------

def test_commands_outside_the_window_vanish(r: Rig) -> None:
    w = r.wire(max_cmd_window=16)
    for cmd_sn in (0, 0x80000001, 17, 0xFFFFFFFF):
        w.command(bytes(6), cmd_sn=cmd_sn)
    w.send(struct.pack(">BBHIQIII", 0x00, 0x80, 0, 0, 0, 5, NONE, 17).ljust(48, b"\0"))
    assert w.silent()
    alive(w)


def test_commands_of_two_connections_run_in_their_order(r: Rig) -> None:
    a = r.wire()
    b = r.connect(r.number)
    late = b.command(bytes(6), cmd_sn=3, itt=0x33)
    b.command(rw(0x2A, 0, 1), b"x" * 512, flags=FINAL | WRITE, edtl=512, cmd_sn=2, itt=0x22)
    b.send(struct.pack(">BBHIQIII", 0x00, 0x80, 0, 0, 0, 0x44, NONE, 4).ljust(48, b"\0"), b"early ping")
    assert b.silent()
    a.command(bytes(6), cmd_sn=1, itt=0x11)
    assert a.receive().exp_cmd_sn == 5
    answers = {pdu.itt: pdu.data for pdu in (b.receive() for _ in range(3))}
    assert answers == {0x22: b"", late: b"", 0x44: b"early ping"}


def test_a_duplicate_of_a_command_that_waits_vanishes(r: Rig) -> None:
    w = r.wire()
    early = w.command_bhs(rw(0x2A, 0, 1), flags=FINAL | WRITE, edtl=512, cmd_sn=2, itt=0x22)
    w.send(early, b"a" * 512)
    w.send(early, b"b" * 512)
    w.command(bytes(6), cmd_sn=2, itt=0x23)
    assert w.silent()
    w.command(bytes(6), cmd_sn=1, itt=0x11)
    assert [w.receive().itt for _ in range(2)] == [0x11, 0x22]
    w.send(early, b"b" * 512)                         # and one of a command that is over
    w.cmd_sn = 3
    w.command(rw(0x28, 0, 1), flags=FINAL | READ, edtl=512)
    assert w.gather()[0] == b"a" * 512


def test_immediate_commands_do_not_count(r: Rig) -> None:
    w = r.wire()
    for _ in range(3):
        w.command(bytes(6), immediate=True)
        assert w.receive().exp_cmd_sn == 1
    alive(w)


def test_a_tag_in_use_is_rejected_and_its_owner_unharmed(r: Rig) -> None:
    w = r.wire()
    itt = w.command(UNKNOWN, itt=9)
    event = r.event(CommandEvent)
    w.command(bytes(6), itt=9)
    reject = w.receive()
    assert (reject.opcode, reject.response, reject.data[16:20]) == (0x3F, 7, struct.pack(">I", 9))
    r.reactor.complete(event.task, 0)
    assert w.receive().itt == itt
    alive(w)


def test_the_window_closes_while_python_is_slow(r: Rig) -> None:
    w = r.wire(max_cmd_window=4)
    for _ in range(6):
        w.command(UNKNOWN)
    events = [r.event(CommandEvent) for _ in range(4)]
    assert not [e for e in r.reactor.events() if isinstance(e, CommandEvent)]
    for event in events:
        r.reactor.complete(event.task, 0)
    answers = [w.receive() for _ in range(4)]
    assert answers[-1].max_cmd_sn - answers[-1].exp_cmd_sn + 1 >= 3
    w.cmd_sn = 5
    alive(w)


# -- events and answers ------------------------------------------------------------------------------------------------

def test_an_inquiry_goes_to_python_and_back(r: Rig) -> None:
    w = r.wire()
    itt = w.command(INQUIRY, flags=FINAL | READ, edtl=96)
    event = r.event(CommandEvent)
    assert (event.session, event.conn, event.lun, event.itt, event.edtl) == (r.number, r.conn, 0, itt, 96)
    assert event.cdb == INQUIRY.ljust(16, b"\0")
    r.reactor.complete(event.task, 0, data_in=b"i" * 36)
    data, pdu = w.gather()
    assert (data, pdu.status, pdu.flags & 6, pdu.residual) == (b"i" * 36, 0, 2, 60)
    r.reactor.complete(event.task, 0, data_in=b"again")
    r.reactor.complete(12345 << 24 | 1, 0)
    alive(w)


def test_sense_and_overflow_from_python(r: Rig) -> None:
    w = r.wire()
    w.command(UNKNOWN, flags=FINAL | READ, edtl=8, lun=5)
    event = r.event(CommandEvent)
    assert event.lun == 5
    r.reactor.complete(event.task, 2, bytes.fromhex("700005000000000a00000000200000000000"))
    pdu = w.receive()
    assert (pdu.status, pdu.key, pdu.flags & 6, pdu.residual) == (2, (5, 0x2000), 2, 8)
    w.command(UNKNOWN, flags=FINAL | READ, edtl=8)
    r.reactor.complete(r.event(CommandEvent).task, 0, data_in=bytearray(b"twelve bytes"))
    data, pdu = w.gather()
    assert (data, pdu.flags & 6, pdu.residual) == (b"twelve b", 4, 4)


def test_data_out_is_gathered_for_python(r: Rig) -> None:
    w = r.wire(initial_r2t=True, immediate_data=True, max_burst_length=1024)
    data = os.urandom(3000)
    itt = w.command(b"\x5f" + bytes(9), data[:1000], flags=FINAL | WRITE, edtl=3000)
    for i in range(2):
        pdu = w.receive()
        assert (pdu.opcode, pdu.itt, pdu.data_sn) == (0x31, itt, i)
        w.data_out(itt, pdu.ttt, 0, pdu.offset, data[pdu.offset : pdu.offset + pdu.residual], final=True)
    event = r.event(CommandEvent)
    assert event.data_out == data
    r.reactor.complete(event.task, 0, data_out_length=24)
    pdu = w.receive()
    assert (pdu.flags & 6, pdu.residual) == (2, 2976)


def test_an_endless_declared_length_allocates_nothing(r: Rig) -> None:
    w = r.wire(initial_r2t=True, max_burst_length=65536)
    w.command(UNKNOWN, flags=FINAL | WRITE, edtl=0xFFFFFFFF)
    pdu = w.receive()
    assert (pdu.opcode, pdu.residual) == (0x31, 65536)
    assert r.reactor.stats()["loop"]["buffer_bytes"] <= 16 << 20
    w.command(rw(0x28, 0, 1), flags=FINAL | READ, edtl=0xFFFFFFFF)
    data, pdu = w.gather()
    assert (len(data), pdu.flags & 6, pdu.residual) == (512, 2, 0xFFFFFFFF - 512)


def test_flags_send_commands_to_python_at_once(r: Rig) -> None:
    w = r.wire()
    alive(w)
    r.reactor.set_lun_flags(r.number, 0, LUNF_SLOW)
    assert r.reactor.lun_flags(r.number, 0) == LUNF_SLOW
    w.command(rw(0x28, 0, 1), flags=FINAL | READ, edtl=512)
    r.reactor.complete(r.event(CommandEvent).task, 8)
    assert w.receive().status == 8
    r.reactor.set_lun_flags(r.number, 0, LUNF_WRITE_SLOW)
    w.command(rw(0x2A, 0, 1), b"w" * 512, flags=FINAL | WRITE, edtl=512)
    event = r.event(CommandEvent)
    assert event.data_out == b"w" * 512
    r.reactor.complete(event.task, 0x18)
    assert w.receive().status == 0x18
    w.command(rw(0x35, 0, 0), flags=FINAL)           # who may not write may not flush either
    r.reactor.complete(r.event(CommandEvent).task, 0x18)
    assert w.receive().status == 0x18
    alive(w)


def test_unmapped_luns_and_odd_addresses_go_to_python(r: Rig) -> None:
    w = r.wire()
    for field, lun in ((7 << 48, 7), (0x4123 << 48, 0x123), (0x8001 << 48, -1), (1, -1), (0x0101 << 48, 0x101)):
        bhs = w.command_bhs(rw(0x28, 0, 1), flags=FINAL | READ, edtl=512)
        w.send(bhs[:8] + struct.pack(">Q", field) + bhs[16:])
        event = r.event(CommandEvent)
        assert event.lun == lun
        r.reactor.complete(event.task, 2, bytes(18))
        assert w.receive().status == 2


def test_extended_cdbs_and_their_lies(r: Rig) -> None:
    w = r.wire()
    ahs = struct.pack(">HBB", 17, 1, 0) + bytes(range(16))
    w.command(b"\x7f" + bytes(15), ahs=ahs)
    event = r.event(CommandEvent)
    assert event.cdb == b"\x7f" + bytes(15) + bytes(range(16))
    r.reactor.complete(event.task, 0)
    assert w.receive().status == 0
    for bad in (bytes(4), struct.pack(">HBB", 0, 1, 0), struct.pack(">HBB", 999, 1, 0),
                struct.pack(">HBBI", 5, 1, 0, 0) + bytes(4)):
        w.command(b"\x7f" + bytes(15), ahs=bad)
        pdu = w.receive()
        assert (pdu.opcode, pdu.response) == (0x3F, 9)
    alive(w)


def test_text_logout_and_answers_in_order(r: Rig) -> None:
    w = r.wire()
    text = struct.pack(">BBHIQIII", 0x04, 0x80, 0, 0, 0, 21, NONE, w.cmd_sn).ljust(48, b"\0")
    w.cmd_sn += 1
    w.send(text, b"SendTargets=All\0")
    event = r.event(PduEvent)
    assert (event.opcode, event.data, event.session, event.conn) == (4, b"SendTargets=All\0", r.number, r.conn)
    r.reactor.send_pdu(r.conn, b"\x24\x80" + bytes(14) + struct.pack(">II", 21, NONE) + bytes(24), b"TargetName=x\0")
    pdu = w.receive()
    assert (pdu.opcode, pdu.data, pdu.stat_sn, pdu.exp_cmd_sn) == (0x24, b"TargetName=x\0", 100, 2)
    r.reactor.send_pdu(r.conn, b"\x26\x80" + bytes(14) + struct.pack(">I", 22) + bytes(28), close=True)
    assert w.receive().stat_sn == 101
    assert w.closed()
    closed = r.event(ClosedEvent)
    assert (closed.session, closed.conn, closed.reason) == (r.number, r.conn, "requested")


def test_nop_out_is_echoed_natively(r: Rig) -> None:
    w = r.wire(max_send_data_segment_length=512)
    for immediate in (0x40, 0):
        w.send(struct.pack(">BBHIQIII", immediate, 0x80, 0, 0, 3 << 48, 77, NONE, w.cmd_sn).ljust(48, b"\0"), b"p" * 600)
        w.cmd_sn += not immediate
        pdu = w.receive()
        assert (pdu.opcode, pdu.itt, pdu.ttt, pdu.data, pdu.bhs[8:16]) == (0x20, 77, NONE, b"p" * 512, b"\0\3" + bytes(6))
        assert pdu.exp_cmd_sn == w.cmd_sn
    assert not r.reactor.events()


# -- Data-Out that is wrong --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("data_sns", [(0, 0), (1, 0), (27, 28), (0xFFFFFFFF, 0)])
def test_wrong_data_sn_ends_the_command_only(r: Rig, data_sns: tuple[int, int]) -> None:
    w = r.wire(immediate_data=False)
    itt = w.command(rw(0x2A, 0, 2), flags=FINAL | WRITE, edtl=1024)
    r2t = w.receive()
    for i, sn in enumerate(data_sns):
        w.data_out(itt, r2t.ttt, sn, 512 * i, b"d" * 512, final=i == 1)
    pdu = w.receive()
    assert (pdu.itt, pdu.status, pdu.key) == (itt, 2, (0xB, 0x0C0D))
    w.command(rw(0x28, 0, 2), flags=FINAL | READ, edtl=1024)
    assert w.gather()[0] == bytes(1024)


@pytest.mark.parametrize(("offset", "length"), [(512, 512), (0, 2048), (0, 512), (0xFFFFFE00, 512)])
def test_wrong_offsets_and_amounts_end_the_command_only(r: Rig, offset: int, length: int) -> None:
    w = r.wire(immediate_data=False)
    itt = w.command(rw(0x2A, 0, 2), flags=FINAL | WRITE, edtl=1024)
    r2t = w.receive()
    w.data_out(itt, r2t.ttt, 0, offset, bytes(length), final=True)
    assert w.receive().key == (0xB, 0x0C0D)
    alive(w)


def test_unasked_for_data_ends_the_command_only(r: Rig) -> None:
    w = r.wire(immediate_data=False)
    w.command(rw(0x2A, 0, 1), bytes(512), flags=FINAL | WRITE, edtl=512)
    assert w.receive().key == (0xB, 0x0C0C)
    w = r.wire(immediate_data=True, first_burst_length=1024)
    w.command(rw(0x2A, 0, 8), bytes(4096), flags=FINAL | WRITE, edtl=4096)
    assert w.receive().key == (0xB, 0x0C0D)
    w.command(rw(0x28, 0, 1), bytes(512), flags=FINAL | READ, edtl=512)
    assert w.receive().status == 2
    alive(w)


def test_data_for_nothing_is_rejected(r: Rig) -> None:
    w = r.wire(immediate_data=False)
    itt = w.command(rw(0x2A, 0, 1), flags=FINAL | WRITE, edtl=512)
    ttt = w.receive().ttt
    for bad_itt, bad_ttt in ((itt, NONE), (itt + 1, NONE), (itt + 1, ttt), (itt, 0x7FFFFFFF), (itt, ttt ^ 1 << 15),
                             (itt, 0x80000000), (itt, ttt + 100), (itt, ttt + 100 & 0x3FFFFF)):     # slots that no task has had
        w.data_out(bad_itt, bad_ttt, 0, 0, bytes(512), final=True)
        pdu = w.receive()
        assert (pdu.opcode, pdu.response) == (0x3F, 9)
    w.data_out(itt, ttt, 0, 0, b"q" * 512, final=True)
    assert w.receive().status == 0


def test_a_data_digest_error_ends_the_command_a_header_digest_error_the_connection(r: Rig) -> None:
    w = r.wire(header_digest=True, data_digest=True, immediate_data=True)
    good = w.pdu(w.command_bhs(rw(0x2A, 0, 1), flags=FINAL | WRITE, edtl=512), b"g" * 512)
    w.sock.sendall(good[:-1] + bytes([good[-1] ^ 1]))
    reject = w.receive()
    assert (reject.opcode, reject.response, reject.data) == (0x3F, 2, good[:48])
    assert w.receive().key == (0xB, 0x4705)
    alive(w)
    bad = w.pdu(w.command_bhs(bytes(6)))
    w.sock.sendall(bad[:-1] + bytes([bad[-1] ^ 1]))
    assert w.closed()
    assert r.event(ClosedEvent).reason == "digest"


def test_who_does_not_read_is_not_read_from_until_it_does(r: Rig) -> None:
    w = r.wire()
    w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    count, data = 40000, bytes(1024)
    pings = [struct.pack(">BBHIQIIII", 0x40, 0x80, 0, 0, 0, tag, NONE, 1, 0).ljust(48, b"\0") for tag in range(count)]
    flood = b"".join(w.pdu(ping, data) for ping in pings)
    sender = threading.Thread(target=lambda: w.sock.sendall(flood))
    sender.start()
    r.until(lambda: r.reactor.stats()["loop"]["pauses"])
    sender.join(0.5)
    assert sender.is_alive(), "the target takes everything"
    for tag in range(count):
        answer = w.receive()
        assert (answer.opcode, answer.itt, len(answer.data)) == (0x20, tag, 1024)
    sender.join()
    alive(w)


# -- lives -------------------------------------------------------------------------------------------------------------

def test_keepalive_pings_and_gives_up(r: Rig) -> None:
    w = r.wire(nop_interval_s=0.1, nop_timeout_s=60)    # who has long to answer is asked again as soon as it has
    for _ in range(3):
        ping = w.receive()
        assert (ping.opcode, ping.itt, ping.stat_sn) == (0x20, NONE, 100)
        w.send(struct.pack(">BBHIQIII", 0x40, 0x80, 0, 0, 0, NONE, ping.ttt, w.cmd_sn).ljust(48, b"\0"))
    deaf = r.wire(nop_interval_s=0.1, nop_timeout_s=0.2)
    assert deaf.receive().opcode == 0x20
    assert deaf.closed()
    assert r.event(ClosedEvent).reason == "keepalive"


def test_luns_come_and_go(r: Rig) -> None:
    w = r.wire()
    assert not r.reactor.set_lun(r.number, 1, 99999)
    assert not r.reactor.set_lun(r.number + 1, 1, r.volume)
    assert r.reactor.set_lun(r.number, 1, r.volume)
    w.command(bytes(6), lun=1)
    assert w.receive().status == 0
    assert r.reactor.set_lun(r.number, 1, None)
    assert r.event(LunReleasedEvent) == (r.number, 1, r.volume)
    w.command(bytes(6), lun=1)
    assert r.event(CommandEvent).lun == 1
    r.reactor.remove_session(r.number)
    assert w.closed()
    assert r.event(SessionClosedEvent).session == r.number
    assert not r.reactor.stats()["luns"]
    assert r.reactor.stats()["objects"][0]["fast_other"] == 1


def test_a_second_login_request_closes(r: Rig) -> None:
    w = r.wire()
    w.send(b"\x43\x87" + bytes(46))
    assert w.closed()
    assert r.event(ClosedEvent).reason == "protocol"


def test_too_long_a_data_segment_closes(r: Rig) -> None:
    w = r.wire(max_recv_data_segment_length=8192)
    bhs = w.command_bhs(rw(0x2A, 0, 17), flags=FINAL | WRITE, edtl=8704)
    w.sock.sendall(bhs[:5] + (8193).to_bytes(3, "big") + bhs[8:])
    assert w.closed()
    assert r.event(ClosedEvent).reason == "protocol"


def test_unknown_opcodes_are_rejected(r: Rig) -> None:
    w = r.wire()
    for opcode in (0x07, 0x1C, 0x25, 0x3F):
        w.send(bytes([opcode | 0x40, 0x80]) + bytes(46), b"some data")
        pdu = w.receive()
        assert (pdu.opcode, pdu.response) == (0x3F, 5)
    alive(w)


def test_a_peer_that_never_reads_costs_only_itself(r: Rig) -> None:
    w, good = r.wire(), r.wire()
    ping = w.pdu(struct.pack(">BBHIQII", 0x40, 0x80, 0, 0, 0, 7, NONE).ljust(48, b"\0"), bytes(8192))
    w.sock.settimeout(2)
    sent: list[int] = []
    with contextlib.suppress(OSError):
        for _ in range(20000):
            sent.append(w.sock.send(ping))
    assert len(sent) < 20000
    alive(good)


def test_closing_at_any_moment_leaves_nothing_behind(r: Rig) -> None:
    rng = random.Random(5)
    data = bytes(65536)
    for _ in range(40):
        w = r.wire(initial_r2t=rng.random() < 0.5, immediate_data=rng.random() < 0.5, max_burst_length=16384)
        stream = b""
        for _ in range(rng.randrange(1, 40)):
            lba = rng.randrange(20000)
            cdb = rng.choice((rw(0x28, lba, 64), rw(0x2A, lba, 128), UNKNOWN, b"\x35" + bytes(9)))
            bhs = w.command_bhs(cdb, flags=FINAL | rng.choice((READ, WRITE, 0)), edtl=65536)
            stream += w.pdu(bhs, data[: rng.choice((0, 512, 8192))])
        w.sock.sendall(stream[: rng.randrange(len(stream))])
        if rng.random() < 0.3:
            time.sleep(rng.random() * 0.01)
        if rng.random() < 0.5:
            r.reactor.close_connection(r.conn)
        w.sock.close()
        r.reactor.remove_session(r.number)
    for _ in range(40):
        r.event(SessionClosedEvent)
    r.seen.clear()
    r.forgets_all()
    alive(r.wire())


@pytest.mark.parametrize("seed", range(6))
def test_noise_costs_at_most_its_connection(r: Rig, seed: int) -> None:
    rng = random.Random(seed)
    good = r.wire()
    for _ in range(60):
        w = r.wire(header_digest=False, max_recv_data_segment_length=8192)
        stream = b""
        for _ in range(rng.randrange(1, 12)):
            cdb = rw(rng.choice((0x28, 0x2A, 0x88, 0x8A)), rng.randrange(1 << 16), rng.randrange(300))
            bhs = bytearray(w.command_bhs(cdb, flags=rng.randrange(256), edtl=rng.choice((0, 512, 65536, 0xFFFFFFFF)),
                                          cmd_sn=rng.randrange(8)))
            bhs[0] = rng.choice((0x01, 0x05, 0x00, 0x40, 0x42, 0x02, 0x04, 0x06, 0x10, 0x41, rng.randrange(64)))
            for _ in range(rng.randrange(4)):
                bhs[rng.randrange(8, 48)] = rng.randrange(256)
            ahs = rng.randbytes(4 * rng.choice((0, 0, 0, 1, 5, 255)))
            stream += w.pdu(bytes(bhs), rng.randbytes(rng.choice((0, 0, 48, 512, 4096))), ahs)
        cut = rng.choice((len(stream), rng.randrange(len(stream) + 1)))
        with contextlib.suppress(OSError):
            w.sock.sendall(stream[:cut] + (rng.randbytes(100) if rng.random() < 0.3 else b""))
        for event in r.reactor.events():
            if isinstance(event, CommandEvent) and rng.random() < 0.7:
                r.reactor.complete(event.task, rng.choice((0, 2, 8)), bytes(18), bytes(rng.randrange(600)))
        w.sock.close()
        alive(good)
        r.reactor.remove_session(r.number)
