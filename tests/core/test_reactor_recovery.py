"""ErrorRecoveryLevel 1 on the data plane: SNACK, retention, recovery R2T, damaged PDUs, retries (RFC 7143 §7, §11.16)."""

import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.wire.reactor import ClosedEvent, CommandEvent, LunReleasedEvent, PduEvent
from tests.support.wire import FINAL, NONE, READ, WRITE, Pdu, Rig, Wire, rig, rw

DATA, STATUS, DATA_ACK, R_DATA = range(4)
REJECT, R2T, DATA_IN, RESPONSE, NOP_IN = 0x3F, 0x31, 0x25, 0x21, 0x20
UNKNOWN = b"\xc1" + bytes(15)
ACK = 0x40


@pytest.fixture
def r(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path / "pool") as made:
        yield made


def wire(r: Rig, **keys: object) -> Wire:
    w = r.wire(error_recovery_level=1, max_send_data_segment_length=1024, **keys)
    w.exp_stat_sn = 100
    return w


def fill(w: Wire, lba: int, blocks: int) -> bytes:
    """Random blocks on the disk, acknowledged."""
    data = os.urandom(512 * blocks)
    w.command(rw(0x2A, lba, blocks), data, flags=FINAL | WRITE, edtl=len(data))
    pdu = w.receive()
    assert (pdu.opcode, pdu.status) == (RESPONSE, 0)
    w.exp_stat_sn = pdu.stat_sn + 1
    return data


def read(w: Wire, lba: int, blocks: int) -> tuple[list[Pdu], Pdu]:
    """One READ, not acknowledged: its Data-In, and its response."""
    w.command(rw(0x28, lba, blocks), flags=FINAL | READ, edtl=512 * blocks)
    pdus = []
    while True:
        pdu = w.receive()
        if pdu.opcode == RESPONSE:
            assert pdu.data_sn == len(pdus)   # ExpDataSN
            return pdus, pdu
        assert (pdu.opcode, pdu.flags & 1, pdu.data_sn) == (DATA_IN, 0, len(pdus))
        pdus.append(pdu)


def same(a: Pdu, b: Pdu) -> bool:
    """The same PDU but for ExpCmdSN and MaxCmdSN, which are the current ones."""
    return a.bhs[:28] + a.bhs[36:] == b.bhs[:28] + b.bhs[36:] and a.data == b.data


def rejected(w: Wire, reason: int) -> Pdu:
    pdu = w.receive()
    assert (pdu.opcode, pdu.response) == (REJECT, reason), pdu
    return pdu


def alive(w: Wire) -> None:
    w.command(bytes(6))
    assert w.receive().status == 0


def set_segment(r: Rig, w: Wire, length: int) -> None:
    """Another MaxRecvDataSegmentLength, in force when this returns: an answer of Python's follows it in the same queue."""
    w.command(UNKNOWN)
    task = r.event(CommandEvent).task
    r.reactor.set_max_send(r.conn, length)
    r.reactor.complete(task, 0)
    assert w.receive().status == 0


def stats(r: Rig) -> dict[str, int]:
    (one,) = (each for each in r.reactor.stats()["connections"] if each["conn"] == r.conn)
    return one


# -- SNACK -------------------------------------------------------------------------------------------------------------

def test_lost_data_is_sent_again_as_it_was(r: Rig) -> None:
    w = wire(r, max_burst_length=2560, header_digest=True, data_digest=True)
    data = fill(w, 0, 16)
    pdus, response = read(w, 0, 16)
    assert b"".join(pdu.data for pdu in pdus) == data
    assert [len(pdu.data) for pdu in pdus] == [1024, 1024, 512] * 3 + [512]
    for begin, length in ((0, 1), (3, 4), (9, 1), (5, 0), (0, 0), (0, 10)):
        w.snack(DATA, response.itt, NONE, begin, length)
        end = begin + length if length else 10
        for sn in range(begin, end):
            assert same(w.receive(), pdus[sn])
    w.command(rw(0x2A, 0, 16), bytes(8192), flags=FINAL | WRITE, edtl=8192)   # what was read stays what it was
    assert w.receive().status == 0
    w.snack(DATA, response.itt, NONE, 2, 7)
    for sn in range(2, 9):
        assert same(w.receive(), pdus[sn])


def test_lost_status_is_sent_again_as_it_was(r: Rig) -> None:
    w = wire(r, immediate_data=True)
    fill(w, 0, 1)
    kept = [read(w, 0, 1)[1]]
    w.command(rw(0x28, 1 << 20, 1), flags=FINAL | READ, edtl=512)         # out of range: with sense
    kept.append(w.receive())
    w.nop_out(itt=5, data=b"ping of some bytes")
    kept.append(w.receive())
    w.send(b"\x5c\x80" + bytes(46))
    kept.append(w.receive())
    w.command(UNKNOWN, flags=FINAL | READ, edtl=64)
    r.reactor.complete(r.event(CommandEvent).task, 0, data_in=b"p" * 40)
    data = w.receive()
    kept.append(w.receive())
    assert [pdu.opcode for pdu in kept] == [RESPONSE, RESPONSE, NOP_IN, REJECT, RESPONSE]
    first = kept[0].stat_sn
    assert [pdu.stat_sn for pdu in kept] == [first + i for i in range(5)]
    for begin, length, which in ((first, 1, kept[:1]), (first + 1, 3, kept[1:4]), (first + 2, 0, kept[2:]), (0, 0, kept)):
        w.snack(STATUS, NONE, NONE, begin, length)
        for pdu in which:
            assert same(w.receive(), pdu)
    w.snack(DATA, kept[4].itt, NONE, 0, 1)
    assert same(w.receive(), data)
    assert stats(r)["kept"] == 5
    w.exp_stat_sn = first + 3
    w.nop_out()
    w.snack(STATUS, NONE, NONE, 0, 0)
    for pdu in kept[3:]:
        assert same(w.receive(), pdu)


def test_snacks_for_what_was_never_sent_or_is_acknowledged_are_protocol_errors(r: Rig) -> None:
    w = wire(r)
    fill(w, 0, 8)
    pdus, response = read(w, 0, 8)
    for begin, length in ((4, 1), (4, 0), (0, 5), (3, 2), (NONE, 1), (2, NONE), (0x80000000, 0x80000000)):
        w.snack(DATA, response.itt, NONE, begin, length)
        assert rejected(w, 4).data_sn == 4          # the next DataSN
        w.exp_stat_sn = response.stat_sn            # its reject is not acknowledged, nor is the response
    w.snack(DATA, response.itt + 7, NONE, 0, 0)
    rejected(w, 4)
    w.snack(STATUS, NONE, NONE, 99, 1)
    rejected(w, 4)
    w.snack(STATUS, NONE, NONE, response.stat_sn, 99)
    rejected(w, 4)
    w.snack(STATUS, response.itt, NONE, response.stat_sn, 1)
    rejected(w, 4)
    for kind in (4, 15):
        w.snack(kind, NONE, NONE, 0, 0)
        rejected(w, 4)
    w.snack(DATA, response.itt, NONE, 3, 1)
    assert same(w.receive(), pdus[3])
    w.exp_stat_sn = response.stat_sn + 1            # the response is acknowledged, and its data with it
    w.snack(DATA, response.itt, NONE, 3, 1)
    rejected(w, 4)
    w.snack(STATUS, NONE, NONE, response.stat_sn, 1)
    rejected(w, 4)
    alive(w)


def test_data_acknowledged_by_data_ack_cannot_be_asked_for(r: Rig) -> None:
    w = wire(r, max_burst_length=2048)
    fill(w, 0, 12)
    pdus, response = read(w, 0, 12)
    asking = [pdu for pdu in pdus if pdu.flags & ACK]
    assert [pdu.data_sn for pdu in asking] == [1, 3, 5]
    assert all(pdu.flags & FINAL and pdu.ttt != NONE for pdu in asking)
    assert all(pdu.ttt == NONE for pdu in pdus if not pdu.flags & ACK)
    assert not any(pdu.flags & ACK for pdu in read(w, 0, 4)[0])      # not more often than once a burst
    ttt = asking[0].ttt
    for bad in ((NONE, ttt ^ 1, 2, 0), (NONE, ttt, 7, 0), (NONE, ttt, 2, 1), (5, ttt, 2, 0), (NONE, NONE, 2, 0)):
        w.snack(DATA_ACK, *bad)
        rejected(w, 8)
    w.snack(DATA_ACK, NONE, ttt, 2, 0, lun=1)
    rejected(w, 8)
    w.snack(DATA_ACK, NONE, ttt, 2, 0)
    w.snack(DATA, response.itt, NONE, 1, 1)
    rejected(w, 4)
    w.snack(DATA, response.itt, NONE, 0, 0)
    for pdu in pdus[2:]:
        assert same(w.receive(), pdu)
    held = stats(r)["kept_bytes"]
    w.snack(DATA_ACK, NONE, ttt, 6, 0)                # all of it: the buffer is free, the response is not
    w.snack(STATUS, NONE, NONE, response.stat_sn, 1)
    assert same(w.receive(), response)
    assert stats(r)["kept_bytes"] < held


def test_r_data_snack_cuts_anew_and_tags_the_response(r: Rig) -> None:
    w = wire(r, max_burst_length=4096)
    data = fill(w, 0, 20)
    pdus, response = read(w, 0, 20)
    w.snack(DATA_ACK, NONE, pdus[3].ttt, 4, 0)
    set_segment(r, w, 512)
    w.snack(DATA, response.itt, NONE, 5, 1)
    rejected(w, 3)                                    # the length has changed: R-Data is to be used
    for bad in ((response.itt, 0, 0, 0), (response.itt, NONE, 0, 0), (response.itt, 77, 4, 0), (response.itt, 77, 0, 1),
                (response.itt + 9, 77, 0, 0)):
        w.snack(R_DATA, *bad)
        rejected(w, 4)
    for tag in (77, 78):
        w.snack(R_DATA, response.itt, tag, 0, 0)
        again = [w.receive() for _ in range(12)]
        assert [pdu.data_sn for pdu in again] == list(range(4, 16))
        assert [pdu.offset for pdu in again] == [4096 + 512 * i for i in range(12)]
        assert b"".join(pdu.data for pdu in again) == data[4096:]
        last = w.receive()
        assert (last.opcode, last.stat_sn, last.ttt, last.data_sn) == (RESPONSE, response.stat_sn, tag, 16)
    w.snack(DATA, response.itt, NONE, 9, 2)           # the new cut is what a Data SNACK counts in from now on
    assert [same(w.receive(), again[i]) for i in (5, 6)] == [True, True]
    w.snack(STATUS, NONE, NONE, response.stat_sn, 1)
    assert same(w.receive(), last)


def test_a_shorter_segment_holds_at_once_for_what_is_queued(r: Rig) -> None:
    w = r.wire(max_send_data_segment_length=65536)    # at level 0, too
    set_segment(r, w, 512)
    w.command(rw(0x28, 0, 64), flags=FINAL | READ, edtl=32768)
    sizes = []
    while sum(sizes) < 32768:
        sizes.append(len(w.receive().data))
    assert sizes == [512] * 64
    set_segment(r, w, 32768)
    w.command(rw(0x28, 0, 64), flags=FINAL | READ, edtl=32768)
    assert len(w.receive().data) == 32768


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    with rig(tmp_path / "pool", max_transfer_bytes=1 << 20, buffer_bytes=6 << 20) as r:
        w = r.wire(error_recovery_level=1, max_send_data_segment_length=262144)
        w.exp_stat_sn = 100
        first = [read(w, 0, 2048)[1] for _ in range(12)]       # 12 MiB, none acknowledged
        alive(w)                                               # the batch before this answer is accounted for
        now = stats(r)
        assert now["kept"] >= 12
        assert now["kept_bytes"] <= 3 << 19                    # a quarter of the reactor's buffers
        w.snack(DATA, first[0].itt, NONE, 0, 1)
        rejected(w, 3)
        w.snack(DATA, first[11].itt, NONE, 0, 1)
        assert w.receive().opcode == DATA_IN
        for i in range(400):                                   # and so are responses
            w.nop_out(itt=i)
            w.receive()
        assert stats(r)["kept"] <= 257                        # the last one is being sent
        w.snack(STATUS, NONE, NONE, first[3].stat_sn, 1)
        rejected(w, 3)
        w.snack(STATUS, NONE, NONE, 0, 0)
        rejected(w, 3)
        alive(w)


def test_a_lun_is_released_although_its_data_are_kept(r: Rig) -> None:
    w = wire(r)
    fill(w, 0, 2)
    pdus, response = read(w, 0, 2)
    assert r.reactor.set_lun(r.number, 0, None)
    assert r.event(LunReleasedEvent).lun == 0
    w.snack(DATA, response.itt, NONE, 0, 1)
    assert same(w.receive(), pdus[0])


def test_a_tag_may_be_used_again_before_its_last_response_is_acknowledged(r: Rig) -> None:
    w = wire(r)
    fill(w, 0, 2)
    for _ in range(3):
        w.command(rw(0x28, 0, 2), flags=FINAL | READ, edtl=1024, itt=0x77)
        data, response = w.receive(), w.receive()
        assert response.status == 0
        w.snack(DATA, 0x77, NONE, 0, 1)
        assert same(w.receive(), data)


def test_at_level_0_a_snack_is_python_s_to_refuse(r: Rig) -> None:
    w = r.wire()
    w.snack(STATUS, NONE, NONE, 0, 0)
    assert r.event(PduEvent).opcode == 0x10


# -- Data-Out ----------------------------------------------------------------------------------------------------------

def bad_digest(pdu: bytes) -> bytes:
    return pdu[:-1] + bytes([pdu[-1] ^ 1])


def bad_header(pdu: bytes) -> bytes:
    """The same PDU with its header digest damaged."""
    return pdu[:48] + bytes([pdu[48] ^ 1]) + pdu[49:]


def serve(w: Wire, r2t: Pdu, data: bytes, lose: dict[int, str]) -> None:
    """Answer an R2T in segments of 512 bytes; `lose` says which DataSN comes damaged or not at all."""
    count = r2t.residual // 512
    for sn in range(count):
        at = r2t.offset + 512 * sn
        pdu = w.pdu(w.data_out_bhs(r2t.itt, r2t.ttt, sn, at, final=sn == count - 1), data[at : at + 512])
        how = lose.get(sn)
        if how != "gone":
            w.sock.sendall(bad_digest(pdu) if how == "data" else pdu)


def next_answer(w: Wire) -> Pdu:
    """The next PDU that is not a Reject for a data digest error."""
    while (pdu := w.receive()).opcode == REJECT:
        assert pdu.response == 2
    return pdu


@pytest.mark.parametrize("lose", [{0: "data"}, {3: "data"}, {7: "data"}, {2: "gone"}, {1: "gone", 4: "gone"},
                                  {0: "gone", 3: "data", 5: "gone", 7: "data"}])
def test_lost_data_out_is_asked_for_again(r: Rig, lose: dict[int, str]) -> None:
    w = wire(r, immediate_data=False, max_burst_length=4096, header_digest=True, data_digest=True)
    data = os.urandom(8192)
    w.command(rw(0x2A, 0, 16), flags=FINAL | WRITE, edtl=8192)
    first = w.receive()
    assert (first.opcode, first.data_sn, first.offset, first.residual) == (R2T, 0, 0, 4096)
    serve(w, first, data, lose)
    again = next_answer(w)
    assert (again.opcode, again.data_sn, again.offset, again.offset + again.residual) == (R2T, 1, 512 * min(lose), 4096)
    assert again.ttt != first.ttt
    serve(w, first, bytes(8192), {})                  # late answers to the R2T that was replaced go nowhere
    serve(w, again, data, {})
    last = w.receive()
    assert (last.opcode, last.data_sn, last.offset, last.residual) == (R2T, 2, 4096, 4096)
    serve(w, last, data, {})
    done = w.receive()
    assert (done.opcode, done.status, done.data_sn) == (RESPONSE, 0, 3)
    assert b"".join(pdu.data for pdu in read(w, 0, 16)[0]) == data
    assert stats(r)["recovery_r2ts"] == 1


def test_lost_unsolicited_data_out_is_solicited(r: Rig) -> None:
    w = wire(r, initial_r2t=False, immediate_data=True, first_burst_length=4096, data_digest=True)
    data = os.urandom(8192)
    itt = w.command(rw(0x2A, 0, 16), data[:512], flags=WRITE, edtl=8192)
    for sn in range(7):
        at = 512 * (sn + 1)
        pdu = w.pdu(w.data_out_bhs(itt, NONE, sn, at, final=sn == 6), data[at : at + 512])
        w.sock.sendall(bad_digest(pdu) if sn == 2 else pdu)
    r2t = next_answer(w)
    assert (r2t.opcode, r2t.data_sn, r2t.offset, r2t.residual) == (R2T, 0, 1536, 8192 - 1536)
    serve(w, r2t, data, {})
    assert w.receive().status == 0
    assert b"".join(pdu.data for pdu in read(w, 0, 16)[0]) == data


def test_damage_without_end_ends_the_command(r: Rig) -> None:
    w = wire(r, immediate_data=False, data_digest=True)
    w.command(rw(0x2A, 0, 1), flags=FINAL | WRITE, edtl=512)
    for _ in range(100):
        pdu = next_answer(w)
        if pdu.opcode != R2T:
            break
        serve(w, pdu, bytes(512), {0: "data"})
    assert (pdu.opcode, pdu.status, pdu.key) == (RESPONSE, 2, (0xB, 0x4705))
    alive(w)


def test_a_lost_r2t_is_sent_again_when_asked_for(r: Rig) -> None:
    w = wire(r, immediate_data=False, max_burst_length=512)
    itt = w.command(rw(0x2A, 0, 2), flags=FINAL | WRITE, edtl=1024)
    first = w.receive()
    for begin, length in ((0, 0), (0, 1)):
        w.snack(DATA, itt, NONE, begin, length)
        assert same(w.receive(), first)
    w.snack(DATA, itt, NONE, 1, 1)
    assert rejected(w, 4).data_sn == 1
    serve(w, first, bytes(1024), {})
    second = w.receive()
    assert (second.data_sn, second.offset) == (1, 512)
    w.snack(DATA, itt, NONE, 1, 1)
    again = w.receive()
    assert again.bhs[:24] + again.bhs[36:] == second.bhs[:24] + second.bhs[36:]
    serve(w, second, bytes(1024), {})
    assert w.receive().status == 0


# -- damaged and repeated commands -------------------------------------------------------------------------------------

def test_a_command_with_damaged_immediate_data_was_never_received(r: Rig) -> None:
    w = wire(r, immediate_data=True, data_digest=True)
    data = os.urandom(512)
    good = w.pdu(w.command_bhs(rw(0x2A, 0, 1), flags=FINAL | WRITE, edtl=512), data)
    w.sock.sendall(bad_digest(good))
    assert rejected(w, 2).exp_cmd_sn == 1
    w.command(bytes(6))                                               # waits for the gap before it
    assert w.silent()
    w.sock.sendall(good)                                              # the retry: same CmdSN, same tag
    assert [w.receive().status for _ in range(2)] == [0, 0]
    pdus, response = read(w, 0, 1)
    assert (pdus[0].data, response.exp_cmd_sn) == (data, 4)


def test_damaged_text_and_early_commands_were_never_received(r: Rig) -> None:
    w = wire(r, immediate_data=True, data_digest=True)
    early = w.pdu(w.command_bhs(rw(0x2A, 0, 1), flags=FINAL | WRITE, edtl=512, cmd_sn=2), b"e" * 512)
    text = w.pdu(struct.pack(">BBHIQIIII", 0x04, 0x80, 0, 0, 0, 21, NONE, 1, 100).ljust(48, b"\0"), b"SendTargets=\0")
    for pdu in (early, text):
        w.sock.sendall(bad_digest(pdu))
        assert rejected(w, 2).exp_cmd_sn == 1
    w.sock.sendall(early + early + text)                              # a retry in vain is ignored
    assert r.event(PduEvent).data == b"SendTargets=\0"
    assert w.receive().status == 0
    w.sock.sendall(early)
    w.cmd_sn = 3
    alive(w)


def test_an_immediate_command_with_damaged_data_leaves_no_trace(r: Rig) -> None:
    w = wire(r, immediate_data=True, data_digest=True)
    pdu = w.pdu(w.command_bhs(rw(0x2A, 0, 1), flags=FINAL | WRITE, edtl=512, immediate=True), b"i" * 512)
    w.sock.sendall(bad_digest(pdu))
    rejected(w, 2)
    assert w.silent()
    w.sock.sendall(pdu)
    assert w.receive().status == 0


@pytest.mark.parametrize("level", [0, 1])
def test_a_damaged_header_ends_the_connection_at_any_level(r: Rig, level: int) -> None:
    w = r.wire(error_recovery_level=level, immediate_data=True, header_digest=True)
    w.sock.sendall(bad_header(w.pdu(w.command_bhs(rw(0x2A, 0, 2), flags=FINAL | WRITE, edtl=1024), bytes(1024))))
    assert w.closed()
    assert r.event(ClosedEvent).reason == "digest"


# -- lives -------------------------------------------------------------------------------------------------------------

def test_python_and_native_answers_of_a_closing_connection_are_freed(r: Rig) -> None:
    for turn in range(20):
        w = wire(r, max_burst_length=2048)
        fill(w, 0, 4)
        _, response = read(w, 0, 4)
        for i in range(turn):
            w.nop_out(itt=i, data=bytes(100))
            w.snack(DATA, response.itt, NONE, 0, 0)
            w.snack(STATUS, NONE, NONE, 0, 0)
        w.command(UNKNOWN)
        if turn % 2:
            r.reactor.close_connection(r.conn)
        w.sock.close()
        r.reactor.remove_session(r.number)
    r.forgets_all()


@pytest.mark.parametrize("seed", range(4))
def test_any_snack_costs_at_most_its_connection(r: Rig, seed: int) -> None:
    rng = random.Random(seed)
    good = wire(r)
    data = fill(good, 100, 4)
    for _ in range(25):
        w = wire(r, max_burst_length=2048, immediate_data=True, data_digest=rng.random() < 0.5)
        tags, ttts = [NONE, 0], [NONE, 0]
        w.sock.settimeout(0.02)
        for _ in range(rng.randrange(60)):
            kind = rng.random()
            try:
                if kind < 0.3:
                    blocks = rng.randrange(1, 40)
                    cdb = rng.choice((rw(0x28, 0, blocks), rw(0x2A, 0, blocks), UNKNOWN))
                    flags = FINAL | (READ if cdb[0] == 0x28 else WRITE if cdb[0] == 0x2A else 0)
                    tags.append(w.command(cdb, flags=flags, edtl=512 * blocks))
                elif kind < 0.8:
                    w.exp_stat_sn = rng.choice((100, 100, 100 + rng.randrange(60), rng.randrange(1 << 32)))
                    w.snack(rng.randrange(5), rng.choice(tags), rng.choice((*ttts, rng.randrange(1 << 32))),
                            rng.choice((0, 1, 5, 100, rng.randrange(1 << 32))), rng.choice((0, 1, 2, 9, NONE)))
                elif kind < 0.9:
                    w.data_out(rng.choice(tags), rng.choice(ttts), rng.randrange(3), rng.choice((0, 512)), bytes(512),
                               final=rng.random() < 0.5)
                elif kind < 0.93:
                    r.reactor.set_max_send(r.conn, rng.choice((512, 1024, 5000)))
                else:
                    pdu = w.receive()
                    if pdu.ttt != NONE:
                        ttts.append(pdu.ttt)
            except (OSError, EOFError):
                pass
        for event in r.reactor.events():
            if isinstance(event, CommandEvent):
                r.reactor.complete(event.task, 0, data_in=bytes(rng.randrange(6000)))
        w.sock.close()
        r.reactor.remove_session(r.number)
        assert b"".join(pdu.data for pdu in read(good, 100, 4)[0]) == data
