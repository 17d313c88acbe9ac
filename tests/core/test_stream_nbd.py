"""NBD's READs by the native thread: any byte, any length, many at once; what it does not answer it gives back."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading

import pytest

from core.stream.nbd import Transmission
from tests.core.test_stream_pumps import MIB, SIZE, Served, served

__all__ = ["served"]
REQUEST = struct.Struct(">IHHQQI")
CHUNK = struct.Struct(">IHHQI")
DF = 4


def read(cookie: int, offset: int, length: int, flags: int = 0) -> bytes:
    return REQUEST.pack(0x25609513, flags, 0, cookie, offset, length)


class Client:
    """One connection, and the thread that serves it; `returned` is what that gave back."""

    def __init__(self, served: Served, object_id: int, *, structured: bool, rest: bytes = b"") -> None:
        self.sock, self._there = socket.socketpair()
        self.sock.settimeout(30)
        self._there.setblocking(False)
        self._cancel = os.eventfd(0)
        self._transmission = Transmission(served.pool, self._there.fileno(), self._cancel, structured=structured, rest=rest)
        self.returned: list[bytes] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, args=[object_id])
        self._thread.start()

    def _serve(self, object_id: int) -> None:
        self._transmission.open()
        try:
            self._transmission.begin(object_id)
            while request := self._transmission.serve():
                self.returned.append(request)
                if request[6:8] == b"\0\1":
                    self._transmission.skip(int.from_bytes(request[24:28], "big"))
                self._transmission.give(b"<" + request[8:16] + b">")
        except OSError as error:
            self.error = error
        finally:
            self._transmission.close()
            self._there.close()

    def take(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self.sock.recv(length - len(data))
            assert part, "the connection ended"
            data += part
        return data

    def reply(self) -> tuple[int, dict[int, bytes], list[int]]:
        """A structured reply: cookie, data by offset, errors."""
        data, errors = {}, []
        while True:
            magic, flags, kind, cookie, length = CHUNK.unpack(self.take(CHUNK.size))
            assert magic == 0x668E33EF
            body = self.take(length)
            if kind == 1:
                data[int.from_bytes(body[:8], "big")] = body[8:]
            else:
                assert kind in (0x8001, 0x8002)
                errors.append(int.from_bytes(body[:4], "big"))
            if flags & 1:
                return cookie, data, errors

    def close(self) -> None:
        self.sock.close()
        self._thread.join(30)
        os.eventfd_write(self._cancel, 1)
        self._thread.join()
        os.close(self._cancel)


@pytest.fixture
def volume(served: Served) -> tuple[int, bytes]:
    """A snapshot's id, and what it holds."""
    source = random.Random(8)
    object_id = served.call("create", name="v", size_bytes=SIZE)
    data = bytearray(SIZE)
    for _ in range(60):
        at, length = source.randrange(SIZE // 4096 - 300) * 4096, source.choice((1, 2, 300)) * 4096
        data[at:at + length] = source.randbytes(length)
        served.call("write", object_id=object_id, offset_bytes=at, data=bytes(data[at:at + length]))
    (snapshot,) = served.call("snapshot", pairs=[(object_id, "v@s")])
    return snapshot, bytes(data)


def test_many_reads_at_once_of_any_length_are_answered_in_order(served: Served, volume: tuple[int, bytes]) -> None:
    snapshot, data = volume
    source = random.Random(9)
    wanted = [(source.randrange(SIZE - 1), source.choice((1, 511, 4096, 70_000, 3 * MIB)), source.choice((0, 0, DF)))
              for _ in range(60)] + [(0, SIZE, 0), (0, SIZE, DF), (SIZE - 1, 1, 0)]
    wanted = [(offset, min(length, SIZE - offset), flags) for offset, length, flags in wanted]
    requests = b"".join(read(number, *each) for number, each in enumerate(wanted))
    client = Client(served, snapshot, structured=True, rest=requests[:300])
    sending = threading.Thread(target=client.sock.sendall, args=[requests[300:]])
    sending.start()
    for number, (offset, length, flags) in enumerate(wanted):
        cookie, pieces, errors = client.reply()
        assert (cookie, errors) == (number, [])
        assert len(pieces) == 1 or not flags & DF
        assert b"".join(pieces[at] for at in sorted(pieces)) == data[offset:offset + length]
        assert min(pieces) == offset
    sending.join()
    client.close()
    assert (client.returned, client.error) == ([], None)


def test_what_is_no_plain_read_comes_back_in_its_place(served: Served, volume: tuple[int, bytes]) -> None:
    snapshot, data = volume
    client = Client(served, snapshot, structured=False)
    others = [REQUEST.pack(0x25609513, 0, 7, 2, 0, 4096), read(3, SIZE - 1, 2), read(4, 0, 0), read(5, 0, 33 * MIB),
              read(6, 0, 1, DF), read(7, 1 << 63, 1 << 31), REQUEST.pack(1, 0, 0, 8, 0, 1)]
    write = REQUEST.pack(0x25609513, 0, 1, 9, 0, 200_000)
    for each in [*others, write + bytes(200_000)]:
        client.sock.sendall(read(1, 5, 10) + each + read(1, 7, 3))
        assert client.take(16) == struct.pack(">IIQ", 0x67446698, 0, 1)
        assert client.take(10) == data[5:15]
        assert client.take(10) == b"<" + each[8:16] + b">"
        assert client.take(19)[16:] == data[7:10]
    client.sock.sendall(read(1, 0, 4096)[:20])      # and leaves in the midst of a request
    client.close()
    assert client.returned == [*others, write]


@pytest.mark.parametrize("structured", [False, True])
def test_a_snapshot_that_goes_ends_in_errors_and_not_in_other_data(
        served: Served, volume: tuple[int, bytes], structured: bool) -> None:
    snapshot, data = volume
    client = Client(served, snapshot, structured=structured)
    client.sock.sendall(read(1, 0, 4096))
    if structured:
        assert client.reply() == (1, {0: data[:4096]}, [])
    else:
        assert client.take(16 + 4096)[16:] == data[:4096]
    served.call("delete", object_id=snapshot)
    for cookie, length, flags in ((2, 4096, 0), (3, 20 * MIB, DF if structured else 0), (4, 3 * MIB, 0)):
        client.sock.sendall(read(cookie, 0, length, flags))
        if structured:
            found = client.reply()
            assert (found[0], found[1]) == (cookie, {})
            assert set(found[2]) == {108}
        else:
            assert client.take(16) == struct.pack(">IIQ", 0x67446698, 108, cookie)
    client.close()
    assert client.error is None


def test_a_wait_for_a_client_ends_when_it_is_cut_off(served: Served, volume: tuple[int, bytes]) -> None:
    snapshot, _ = volume
    client = Client(served, snapshot, structured=True)
    client.sock.sendall(b"".join(read(number, 0, 20 * MIB) for number in range(20)))      # whose answers it does not read
    os.eventfd_write(client._cancel, 1)
    client._thread.join(30)
    assert not client._thread.is_alive()
    assert isinstance(client.error, OSError)
    client.close()
