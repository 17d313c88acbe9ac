"""Requests in flights: in order for who asked, several at once for the medium, and one by one where it does not say so."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from core.device import FileDevice, create_file
from core.flights import FEW, WINDOW, allocate_each, copy_in_place, each, read_each, write_each
from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice
from tests.support.waiting import PATIENCE_SECONDS


class Slow(MemoryDevice):
    """Notes how many calls are in it at once; those come in pairs only."""

    def __init__(self, size_bytes: int, flights: int = 4) -> None:
        super().__init__(size_bytes)
        self.flights = flights
        self.most = self._now = 0
        self._lock = threading.Condition()

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        self._meet()
        return super().read(offset_bytes, length_bytes)

    def write(self, offset_bytes: int, data: bytes) -> None:
        with self._lock:
            super().write(offset_bytes, data)

    def _meet(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self._lock.notify_all()
            if self.flights > 1:
                self._lock.wait_for(lambda: self.most > 1, timeout=PATIENCE_SECONDS)
            self._now -= 1


def test_results_come_in_order_and_calls_at_once() -> None:
    device = Slow(1 << 26)
    places = [(4096 * i, 4096) for i in range(WINDOW + 100)]
    write_each(device, [(offset, bytes([offset >> 12 & 0xFF]) * 4096) for offset, _ in places])
    assert [raw[0] for raw in read_each(device, places)] == [i & 0xFF for i in range(len(places))]
    assert 1 < device.most <= 4
    copy_in_place(device, places[:100])
    assert device.read(4096 * 7, 4096) == bytes([7]) * 4096


def test_where_the_device_says_nothing_they_are_made_in_order() -> None:
    order: list[int] = []
    assert list(each(object(), order.append, range(100))) == [None] * 100
    assert order == list(range(100))
    alone = Slow(1 << 20, flights=1)
    list(read_each(alone, [(0, 4096)] * (FEW + 1)))
    assert alone.most == 1


def test_the_first_error_is_told_and_room_is_told_for_each() -> None:
    class Failing(Slow):
        def read(self, offset_bytes: int, length_bytes: int) -> bytes:
            if offset_bytes >= 4096 * 50:
                raise OSError(5, f"{offset_bytes}")
            return b""

        def allocate(self, offset_bytes: int, length_bytes: int) -> None:
            if offset_bytes == 4096 * 3:
                raise OSError(28, "full")

    device = Failing(1 << 20)
    with pytest.raises(OSError, match=str(4096 * 50)):
        list(read_each(device, [(4096 * i, 4096) for i in range(100)]))
    errors = allocate_each(device, [(4096 * i, 4096) for i in range(20)])
    assert [i for i, error in enumerate(errors) if error is not None] == [3]


@pytest.mark.parametrize("direct", [False, True])
def test_a_large_pool_is_made_and_opened_in_flights(tmp_path: Path, direct: bool) -> None:
    path = tmp_path / "p"
    create_file(path, 1 << 40)
    asked: list[int] = []

    class Device(FileDevice):
        def will_need(self, offset_bytes: int, length_bytes: int) -> None:
            asked.append(offset_bytes)
            super().will_need(offset_bytes, length_bytes)

    device = Device(path)
    Pool.create(device, name="p")
    device.close()
    device = Device(path, direct=direct and _takes_direct(path))
    pool = Pool(device, cache_bytes=1 << 20)
    assert pool.size_bytes == 1 << 40
    assert len(asked) >= 512                    # two summary pages each 4 GiB
    pool.close()
    device.close()


def _takes_direct(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
    except OSError:
        return False
    return True
