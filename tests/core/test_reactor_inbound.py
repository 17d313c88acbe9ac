"""WRITEs whose data stay in the receive buffer until they are written (core/wire/inbound)."""

import os
from pathlib import Path

import pytest

from tests.support.wire import FINAL, READ, WRITE, Rig, Wire, rig, rw, tcp_pair

BLOCK, SIMPLE, ORDERED = 4096, 1, 2


def written(w: Wire, blocks: list[bytes], *, first: int = 0, flags: int = 0) -> bytes:
    """WRITEs of those blocks, one command each, as they go over the wire."""
    return b"".join(w.pdu(w.command_bhs(rw(0x2A, (first + at) * len(data) // 512, len(data) // 512), flags=FINAL | WRITE | flags,
                                        edtl=len(data)), data) for at, data in enumerate(blocks))


def answered(w: Wire, count: int) -> set[int]:
    """The statuses of so many commands."""
    return {w.receive().status for _ in range(count)}


def content(w: Wire, length: int) -> bytes:
    w.command(rw(0x28, 0, length // 512), flags=FINAL | READ, edtl=length)
    return w.gather()[0]


def in_place(r: Rig) -> int:
    return int(r.reactor.stats()["loop"]["in_place_writes"])


@pytest.mark.parametrize(("inline_io", "digests"), [(None, False), (None, True), (False, False), (False, True)])
def test_what_comes_whole_is_written_from_where_it_came(tmp_path: Path, inline_io: bool | None, digests: bool) -> None:
    options = {} if inline_io is None else {"inline_io": inline_io}
    with rig(tmp_path / "pool", **options) as r:
        w = r.wire(header_digest=digests, data_digest=digests, max_cmd_window=512)
        for _ in range(4):                     # first to new blocks, then over them
            blocks = [os.urandom(BLOCK) for _ in range(256)]
            w.sock.sendall(written(w, blocks))
            assert answered(w, 256) == {0}
            assert content(w, 256 * BLOCK) == b"".join(blocks)
        assert 0 < in_place(r) < 1024          # those that lie in two receive buffers are copied
        parts = [os.urandom(512) for _ in range(256)]
        w.sock.sendall(written(w, parts))
        assert answered(w, 256) == {0}
        assert content(w, 256 * 512) == b"".join(parts)
        r.until(lambda: r.reactor.stats()["loop"]["receive_buffers_out"] == 0)


def test_past_the_page_cache_data_are_written_from_aligned_buffers(tmp_path: Path) -> None:
    with rig(tmp_path / "pool", direct=True) as r:
        w = r.wire()
        blocks = [os.urandom(BLOCK) for _ in range(64)]
        w.sock.sendall(written(w, blocks))
        assert answered(w, 64) == {0}
        assert content(w, 64 * BLOCK) == b"".join(blocks)
        assert in_place(r) == 0


def test_damaged_data_are_not_written_and_hold_no_buffer(tmp_path: Path) -> None:
    with rig(tmp_path / "pool") as r:
        w = r.wire(data_digest=True)
        w.sock.sendall(written(w, [bytes(BLOCK)]))
        assert answered(w, 1) == {0}
        for _ in range(200):                   # more often than there are receive buffers
            pdu = bytearray(written(w, [os.urandom(BLOCK)]))
            pdu[1000] ^= 1
            w.sock.sendall(pdu)
            assert w.receive().opcode == 0x3F
            assert w.receive().status == 2
        assert content(w, BLOCK) == bytes(BLOCK)
        r.until(lambda: r.reactor.stats()["loop"]["receive_buffers_out"] == 0)


def test_writes_that_wait_leave_the_receive_buffers_to_others(tmp_path: Path) -> None:
    with rig(tmp_path / "pool") as r:
        w = r.wire(initial_r2t=True)
        waits = w.command(rw(0x2A, 0, 8), flags=FINAL | WRITE | ORDERED, edtl=BLOCK)
        r2t = w.receive()
        assert r2t.opcode == 0x31
        blocks = [os.urandom(BLOCK) for _ in range(100)]
        before = in_place(r)
        w.sock.sendall(written(w, blocks, first=1, flags=SIMPLE))
        other = r.wire()
        theirs = [os.urandom(BLOCK) for _ in range(100)]
        other.sock.sendall(written(other, theirs, first=101))
        assert answered(other, 100) == {0}
        r.until(lambda: r.reactor.stats()["loop"]["tasks"] == 101)
        r.until(lambda: r.reactor.stats()["loop"]["receive_buffers_out"] == 0)
        assert in_place(r) > before
        first = os.urandom(BLOCK)
        w.data_out(waits, r2t.ttt, 0, 0, first, final=True)
        assert answered(w, 101) == {0}
        assert content(other, 201 * BLOCK) == first + b"".join(blocks + theirs)


def test_a_connection_that_ends_gives_back_what_its_writes_hold(tmp_path: Path) -> None:
    with rig(tmp_path / "pool", inline_io=False) as r:
        for _ in range(20):
            w = r.wire()
            w.sock.sendall(written(w, [os.urandom(BLOCK) for _ in range(64)]))
            assert w.receive().status == 0          # the reactor has it, and is amid the others
            w.sock.close()
        r.forgets_all()                             # what came before the end is written first
        r.until(lambda: r.reactor.stats()["loop"]["receive_buffers_out"] == 0)
        w = r.wire()
        blocks = [os.urandom(BLOCK) for _ in range(64)]
        w.sock.sendall(written(w, blocks))
        assert answered(w, 64) == {0}
        assert content(w, 64 * BLOCK) == b"".join(blocks)


def test_what_a_login_left_over_lies_in_no_receive_buffer(tmp_path: Path) -> None:
    with rig(tmp_path / "pool") as r:
        maker = Wire(tcp_pair()[1])
        block = os.urandom(BLOCK)
        w = r.wire(leftover=written(maker, [block]))
        w.cmd_sn, w.itt = maker.cmd_sn, maker.itt
        assert answered(w, 1) == {0}
        assert content(w, BLOCK) == block
        assert in_place(r) == 0
