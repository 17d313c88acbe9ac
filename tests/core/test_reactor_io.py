"""The data plane's commands and transfers, byte for byte (RFC 7143 §11; SBC-4 §5)."""

import os
import select
import struct
from pathlib import Path

import pytest

from core.device import FileDevice
from core.errors import PoolError
from core.pool.engine import Pool
from core.wire.reactor import LUNF_DSENSE, LUNF_RO, CommandEvent
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.support.wire import FINAL, NONE, READ, WRITE, Rig, Wire, rig, rw

BLOCK = 512


def write(w: Wire, lba: int, data: bytes, opcode: int = 0x2A) -> None:
    w.command(rw(opcode, lba, len(data) // BLOCK), data, flags=FINAL | WRITE, edtl=len(data))
    assert w.receive().status == 0


def read(w: Wire, lba: int, blocks: int, opcode: int = 0x28) -> bytes:
    w.command(rw(opcode, lba, blocks), flags=FINAL | READ, edtl=blocks * BLOCK)
    data, pdu = w.gather()
    assert pdu.status == 0
    return data


def answer_r2ts(w: Wire, data: bytes, max_burst: int, segment: int = 8192) -> tuple[int, object]:
    """Serve R2Ts from data until the response: (how many R2Ts, response)."""
    seen = 0
    while True:
        pdu = w.receive()
        if pdu.opcode != 0x31:
            return seen, pdu
        offset, length = pdu.offset, pdu.residual
        assert pdu.data_sn == seen
        assert 0 < length <= max_burst
        seen += 1
        for i, at in enumerate(range(offset, offset + length, segment)):
            end = min(at + segment, offset + length)
            w.data_out(pdu.itt, pdu.ttt, i, at, data[at:end], final=end == offset + length)


@pytest.mark.parametrize("direct", [False, True])
def test_what_is_written_is_read(tmp_path: Path, direct: bool) -> None:
    with rig(tmp_path / "pool", direct=direct) as r:
        w = r.wire()
        data = os.urandom(8192)
        write(w, 8, data)
        for opcode in (0x28, 0x88):
            assert read(w, 8, 16, opcode) == data
            assert read(w, 9, 3, opcode) == data[512:2048]
        write(w, 3, data[:512])
        assert read(w, 0, 32) == bytes(1536) + data[:512] + bytes(2048) + data + bytes(4096)


def operate(r: Rig, name: str) -> None:
    """One operation of the pool, run by the reactor."""
    token = r.pool.start(name)
    done = []
    while not done:
        assert select.select([r.pool.completion_fd], [], [], PATIENCE_SECONDS)[0]
        done = [each for each in r.pool.reap() if each.token == token]
    assert done[0].code == "ok"


def reopened(path: Path) -> FileDevice:
    """The pool's file again; the kernel may hold a stopped reactor's ring, and its lock on the file, a moment longer."""
    def opened() -> FileDevice | None:
        try:
            return FileDevice(path, direct=True)
        except PoolError as error:
            if error.code != "locked":
                raise
            return None

    return until(opened)  # type: ignore[return-value]


def test_a_pool_past_the_page_cache_checkpoints_and_comes_back(tmp_path: Path) -> None:
    """O_DIRECT wants every buffer aligned, the superblock's too: an unaligned one failed the pool at its first checkpoint."""
    with rig(tmp_path / "pool", direct=True) as r:
        w = r.wire()
        data = os.urandom(8192)
        write(w, 8, data)
        for _ in range(2):
            operate(r, "checkpoint")
        write(w, 64, data)
        operate(r, "flush")
        stats = r.pool.stats()
        assert (stats["failed"], stats["checkpoints"]) == (0, 2)
    device = reopened(tmp_path / "pool")
    pool = Pool(device, cache_bytes=1 << 20)
    assert [pool.call("read", object_id=1, offset_bytes=at, length_bytes=8192) for at in (4096, 32768)] == [data, data]
    pool.call("checkpoint")
    assert not pool.stats()["failed"]
    pool.close()
    device.close()


def test_every_read_and_write_opcode_is_fast(r: Rig) -> None:
    w = r.wire()
    data = os.urandom(2048)
    cdbs = {0x0A: struct.pack(">BBHBB", 0x0A, 0, 4, 4, 0), 0x2A: rw(0x2A, 4, 4),
            0xAA: struct.pack(">BBIIBB", 0xAA, 0, 4, 4, 0, 0), 0x8A: rw(0x8A, 4, 4, 8)}
    for opcode, cdb in cdbs.items():
        data = os.urandom(2048)
        w.command(cdb, data, flags=FINAL | WRITE, edtl=2048)
        assert w.receive().status == 0
        w.command(bytes([opcode & ~2]) + cdb[1:], flags=FINAL | READ, edtl=2048)
        assert w.gather()[0] == data
    w.command(b"\x35" + bytes(9))
    assert w.receive().status == 0
    w.command(b"\x91" + bytes(15))
    assert w.receive().status == 0
    w.command(bytes(6))
    assert w.receive().status == 0
    lun = r.reactor.stats()["luns"][0]
    assert (lun["fast_reads"], lun["fast_writes"], lun["fast_other"], lun["slow"]) == (4, 4, 3, 0)
    assert (lun["read_bytes"], lun["write_bytes"]) == (8192, 8192)


@pytest.mark.parametrize("keys", [
    {"initial_r2t": True, "immediate_data": False},
    {"initial_r2t": True, "immediate_data": True, "first_burst_length": 4096},
    {"initial_r2t": False, "immediate_data": True, "first_burst_length": 20480},
    {"initial_r2t": False, "immediate_data": False, "first_burst_length": 16384},
    {"initial_r2t": True, "immediate_data": False, "max_outstanding_r2t": 4},
])
@pytest.mark.parametrize("length", [512, 24576, 200704])
def test_write_data_comes_in_every_negotiated_way(r: Rig, keys: dict, length: int) -> None:
    w = r.wire(max_burst_length=32768, **keys)
    data = os.urandom(length)
    first = min(keys.get("first_burst_length", 65536), length)
    immediate = data[: min(first, 8192)] if keys["immediate_data"] else b""
    unsolicited = not keys["initial_r2t"] and len(immediate) < first
    itt = w.command(rw(0x2A, 64, length // BLOCK), immediate, flags=WRITE | (0 if unsolicited else FINAL), edtl=length)
    sent = len(immediate)
    if unsolicited:
        w.data_out(itt, NONE, 0, sent, data[sent:first], final=True)
        sent = first
    r2ts, response = answer_r2ts(w, data, 32768)
    assert r2ts == -(-(length - sent) // 32768)
    assert response.status == 0
    assert response.itt == itt
    assert read(w, 64, length // BLOCK) == data


@pytest.mark.parametrize(("header", "payload"), [(True, False), (False, True), (True, True)])
def test_digests_both_ways(r: Rig, header: bool, payload: bool) -> None:
    w = r.wire(header_digest=header, data_digest=payload, max_burst_length=65536, initial_r2t=True)
    data = os.urandom(131072)
    w.command(rw(0x2A, 0, 256), data[:4096], flags=FINAL | WRITE, edtl=len(data))
    assert answer_r2ts(w, data, 65536)[1].status == 0
    assert read(w, 0, 256) == data
    bhs = struct.pack(">BBHIQII", 0x40, 0x80, 0, 0, 0, 77, NONE).ljust(48, b"\0")
    w.send(bhs, b"ping!")
    assert w.receive().data == b"ping!"


def test_data_in_respects_the_negotiated_lengths(r: Rig) -> None:
    w = r.wire(max_burst_length=16384, max_send_data_segment_length=5000)
    data = os.urandom(65536)
    for at in range(0, 65536, 32768):
        write(w, at // BLOCK, data[at : at + 32768])
    itt = w.command(rw(0x28, 0, 128), flags=FINAL | READ, edtl=65536)
    got, sn = b"", 0
    while len(got) < 65536:
        pdu = w.receive()
        assert (pdu.opcode, pdu.itt, pdu.data_sn, pdu.offset) == (0x25, itt, sn, len(got))
        assert len(pdu.data) <= 5000
        got += pdu.data
        sn += 1
        assert bool(pdu.flags & 0x80) == (len(got) % 16384 == 0)
        assert bool(pdu.flags & 1) == (len(got) == 65536)
        assert not pdu.flags & 0x40
    assert got == data


@pytest.mark.parametrize("piece", [1, 7, 48, 1000])
def test_a_stream_in_pieces_of_any_size(r: Rig, piece: int) -> None:
    w = r.wire(header_digest=True, data_digest=True)
    data = os.urandom(3072)
    for cdb, payload, flags in ((rw(0x2A, 5, 6), data, WRITE), (rw(0x28, 5, 6), b"", READ)):
        out = w.pdu(w.command_bhs(cdb, flags=FINAL | flags, edtl=3072), payload) + w.pdu(w.command_bhs(bytes(6)))
        for at in range(0, len(out), piece):
            w.sock.sendall(out[at : at + piece])
        answers = {}
        for _ in range(2):
            got, pdu = w.gather()
            answers[pdu.itt] = got, pdu.status
        assert answers == {w.itt - 1: (data if flags == READ else b"", 0), w.itt: (b"", 0)}


def test_leftover_bytes_of_the_login_are_the_first_pdus(r: Rig) -> None:
    maker = Wire.__new__(Wire)
    maker.header_digest = maker.data_digest = False
    maker.cmd_sn, maker.itt, maker.exp_stat_sn = 1, 7, 0
    two = maker.pdu(maker.command_bhs(bytes(6))) + maker.pdu(maker.command_bhs(bytes(6)))
    w = r.wire(leftover=two[:70])
    assert w.receive().itt == 8
    w.sock.sendall(two[70:])
    assert w.receive().itt == 9


def test_stat_sn_rises_by_one_and_the_window_stays_open(r: Rig) -> None:
    w = r.wire(max_cmd_window=8)
    for i in range(50):
        w.command(rw(0x28, i, 1), flags=FINAL | READ, edtl=512)
        _, pdu = w.gather()
        assert pdu.stat_sn == 100 + i
        assert pdu.exp_cmd_sn == w.cmd_sn
        assert 0 < pdu.max_cmd_sn - pdu.exp_cmd_sn + 1 <= 8


@pytest.mark.parametrize(("blocks", "edtl", "moved", "flags", "residual"), [
    (4, 2048, 2048, 0, 0), (4, 4096, 2048, 2, 2048), (4, 1024, 1024, 4, 1024), (4, 1000, 1000, 4, 1048),
    (0, 512, 0, 2, 512), (0, 0, 0, 0, 0), (4, 0, 0, 4, 2048),
])
def test_read_residuals(r: Rig, blocks: int, edtl: int, moved: int, flags: int, residual: int) -> None:
    w = r.wire()
    data = os.urandom(4096)
    write(w, 0, data)
    w.command(rw(0x28, 0, blocks), flags=FINAL | READ, edtl=edtl)
    got, pdu = w.gather()
    assert (got, pdu.status, pdu.flags & 6, pdu.residual) == (data[:moved], 0, flags, residual)


@pytest.mark.parametrize(("blocks", "edtl", "written", "flags", "residual"), [
    (4, 4096, 4, 2, 2048), (4, 1024, 2, 4, 1024), (4, 700, 0, 4, 1348), (0, 512, 0, 2, 512), (2, 0, 0, 4, 1024),
])
def test_write_residuals(r: Rig, blocks: int, edtl: int, written: int, flags: int, residual: int) -> None:
    w = r.wire(initial_r2t=False)
    old, new = os.urandom(4096), os.urandom(4096)
    write(w, 0, old)
    w.command(rw(0x2A, 0, blocks), new[:edtl], flags=FINAL | WRITE, edtl=edtl)
    pdu = w.receive()
    if edtl % 512:                      # a part of a block cannot be written: nothing is
        assert (pdu.status, pdu.key) == (2, (5, 0x0E03))
    else:
        assert pdu.status == 0
    assert (pdu.flags & 6, pdu.residual) == (flags, residual)
    assert read(w, 0, 8) == new[: written * 512] + old[written * 512 :]


@pytest.mark.parametrize("dsense", [0, LUNF_DSENSE])
def test_out_of_range_is_refused_with_the_lba(r: Rig, dsense: int) -> None:
    w = r.wire(flags=dsense, initial_r2t=True)
    last = r.pool.info(r.volume).size_bytes // BLOCK
    for opcode, lba, blocks in ((0x28, last, 1), (0x88, last - 1, 2), (0x88, 2**64 - 1, 1), (0x28, last + 1, 0)):
        w.command(rw(opcode, lba, blocks), flags=FINAL | READ, edtl=512 * blocks)
        pdu = w.receive()
        assert (pdu.status, pdu.key) == (2, (5, 0x2100))
        assert pdu.flags & 6 == (2 if blocks else 0)
        assert (pdu.sense[0] & 0x7F) == (0x72 if dsense else 0x70)
        if dsense:
            assert int.from_bytes(pdu.sense[12:20], "big") in (lba, last)
    w.command(rw(0x28, last, 0), flags=FINAL | READ, edtl=0)
    assert w.receive().status == 0
    w.command(rw(0x2A, last, 64), bytes(1024), flags=FINAL | WRITE, edtl=32768)
    assert w.receive().key == (5, 0x2100)


def test_a_read_only_lun_refuses_writes_itself(r: Rig) -> None:
    w = r.wire(flags=LUNF_RO)
    w.command(rw(0x2A, 0, 1), bytes(512), flags=FINAL | WRITE, edtl=512)
    assert w.receive().key == (7, 0x2700)
    snapshot = r.pool.start("snapshot", pairs=[(r.volume, "v@a")])
    assert snapshot
    assert read(w, 0, 1) == bytes(512)
    assert r.reactor.stats()["luns"][0]["slow"] == 0


def test_big_transfers_both_ways(r: Rig) -> None:
    w = r.wire(max_burst_length=1 << 20, max_send_data_segment_length=1 << 18, initial_r2t=True, immediate_data=False)
    data = os.urandom(8 << 20)
    w.command(rw(0x2A, 0, len(data) // BLOCK), flags=FINAL | WRITE, edtl=len(data))
    r2ts, response = answer_r2ts(w, data, 1 << 20, 1 << 18)
    assert (r2ts, response.status) == (8, 0)
    w.command(rw(0x28, 0, len(data) // BLOCK), flags=FINAL | READ, edtl=len(data))
    assert w.gather()[0] == data
    w.command(rw(0x28, 0, len(data) // BLOCK + 1), flags=FINAL | READ, edtl=len(data) + 512)
    assert r.event(CommandEvent).edtl == len(data) + 512


@pytest.mark.parametrize("buffer_bytes", [1 << 20, 8 << 20])      # without a huge page for them, and with one
def test_many_commands_at_once_with_few_buffers(tmp_path: Path, buffer_bytes: int) -> None:
    with rig(tmp_path / "pool", buffer_bytes=buffer_bytes, max_transfer_bytes=1 << 18) as r:
        w = r.wire(max_burst_length=65536, initial_r2t=True, immediate_data=True, max_cmd_window=64)
        data = os.urandom(1 << 18)
        tags = {w.command(rw(0x2A, i * 512, 512), data[:8192], flags=FINAL | WRITE, edtl=len(data)): i for i in range(32)}
        while tags:
            pdu = w.receive()
            if pdu.opcode == 0x31:
                piece = data[pdu.offset : pdu.offset + pdu.residual]
                w.data_out(pdu.itt, pdu.ttt, 0, pdu.offset, piece, final=True)
            else:
                assert pdu.status == 0
                tags.pop(pdu.itt)
        for i in range(32):
            w.command(rw(0x28, i * 512, 512), flags=FINAL | READ, edtl=len(data))
        for _ in range(32):
            assert w.gather()[0] == data
        assert r.reactor.stats()["loop"]["buffer_bytes"] <= buffer_bytes


def test_a_slow_reader_gets_everything(r: Rig) -> None:
    w = r.wire()
    data = os.urandom(1 << 20)
    for i in range(0, 16):
        write(w, i * 128, data[i * 65536 : (i + 1) * 65536])
    for _ in range(24):
        w.command(rw(0x28, 0, 2048), flags=FINAL | READ, edtl=1 << 20)
    for _ in range(24):
        assert w.gather()[0] == data
    assert r.reactor.stats()["loop"]["async_sends"] > 0


def test_4096_byte_blocks(r: Rig) -> None:
    big = r.pool.start("create", name="big", size_bytes=1 << 20, block_bytes=4096)
    assert big
    done = None
    while done is None:
        select.select([r.pool.completion_fd], [], [], 10)
        done = next((each for each in r.pool.reap() if each.token == big), None)
    w = r.connect(r.session(luns={3: done.value}))
    data = os.urandom(8192)
    w.command(rw(0x2A, 1, 2), data, flags=FINAL | WRITE, edtl=8192, lun=3)
    assert w.receive().status == 0
    w.command(rw(0x28, 0, 4), flags=FINAL | READ, edtl=16384, lun=3)
    assert w.gather()[0] == bytes(4096) + data + bytes(4096)
    w.command(rw(0x28, 255, 2), flags=FINAL | READ, edtl=8192, lun=3)
    assert w.receive().key == (5, 0x2100)


@pytest.mark.parametrize(("behind", "gathers"), [(0, False), (7, False), (8, True), (1000, True), (-1, False), (1 << 31, False)])
def test_commands_gather_only_while_their_initiator_is_behind(r: Rig, behind: int, gathers: bool) -> None:
    w = r.wire()
    stat_sn = 100                                    # what the rig's connections begin with

    def commands(count: int, behind: int) -> int:
        nonlocal stat_sn
        for _ in range(count):
            bhs = w.command_bhs(bytes(6))
            w.send(bhs[:28] + struct.pack(">I", (stat_sn - behind) % (1 << 32)) + bhs[32:])
            stat_sn = w.receive().stat_sn + 1
        return int(r.reactor.stats()["loop"]["gathers"])

    before = commands(1, 0)
    if gathers:      # a command that is there already when the turn ends spares the pause: with time, one comes later than that
        assert any(commands(20, behind) > before for _ in range(100))
    else:
        assert commands(20, behind) == before
